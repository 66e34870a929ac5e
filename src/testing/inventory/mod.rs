//! Every route, and who may call it: shown by a test, and not by an audit.
//!
//! [`inventory()`] calls each operation of an OpenAPI document over the router, in process: without a token, with one whose
//! signature is wrong, with one that lacks each of the scopes, and with exactly what the document asks for. What the document says
//! is open must be on a list of what may be, and what the router has beside it is found as far as axum lets one see.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), portcullis::config::ConfigErrors> {
//! use axum::{Router, routing::get};
//! use portcullis::testing::{TestAuthority, inventory};
//! use utoipa::openapi::{path::{HttpMethod, Operation, OperationBuilder}, security::SecurityRequirement, OpenApi, Paths};
//!
//! let authority = TestAuthority::new();
//! let api = authority.api();
//! let items = Router::new().route("/items/{id}", get(|| async { "item" })).layer(api.require(["items"])?);
//! let app = items.layer(api.authenticate()).route("/health", get(|| async { "well" }));
//!
//! let mut paths = Paths::new();
//! let needs_items = OperationBuilder::new().security(SecurityRequirement::new("login", ["items"])).build();
//! paths.add_path_operation("/items/{id}", vec![HttpMethod::Get], needs_items);
//! paths.add_path_operation("/health", vec![HttpMethod::Get], Operation::new());
//! let document = OpenApi::new(Default::default(), paths);
//!
//! let inventory = inventory(app, &document).authority(&authority).open(["GET /health"]).path_value("id", "7").run().await;
//! println!("{inventory}");
//! inventory.assert_complete();
//! # Ok(())
//! # }
//! ```
//!
//! Handlers run, with an empty body, by every method that there is: give the router stores of their own. What is not seen: a route
//! at `/a` beside a service that is nested at `/a/`, routes
//! inside a service that is nested as a whole, below a tail, or in a fallback of the program's own (these must be on a list,
//! each by what it answers to a path that is made up), what depends on the body, on the host or on other headers, methods that
//! OpenAPI does not have, and methods of a known path that the document does not have and that are closed to all of its scopes:
//! behind a layer they look like methods that are not there.

mod beside;
mod check;
mod document;
mod paths;
mod probe;
mod report;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    future::Future,
    mem,
};

use axum::{Router, body::Body};
use futures::FutureExt as _;
use http::{Method, Request, StatusCode};
use utoipa::openapi::OpenApi;

use self::{
    beside::Presence,
    check::Ways,
    document::{Alternative, Document, Operation, Security},
    paths::Paths,
    probe::{MakeToken, Prepare, Probe, Routes, Target, Tokens},
};
pub use self::{
    check::{Answer, Asked},
    report::{Finding, Gap, Inventory, Row, Verdict},
};
use super::TestAuthority;

/// How many combinations of scopes are tried of one operation.
const MOST_WAYS: usize = 64;
/// What stands for a parameter where what the document has for it leads elsewhere: of each common form.
const OTHER_VALUES: [&str; 5] =
    ["2", "1000000007", "11111111-1111-4111-8111-111111111111", "2001-02-03", "no-such-value"];

/// Compares what `document` says of each operation with what `router` does; the [module docs](self) have an example.
pub fn inventory(router: Router, document: &OpenApi) -> InventoryBuilder {
    InventoryBuilder {
        router,
        // A document that cannot be written has no operations, so that nothing of the router is known to it.
        document: serde_json::to_value(document).map(|document| document::read(&document)).unwrap_or_default(),
        tokens: None,
        prepare: None,
        open: Vec::new(),
        undocumented: Vec::new(),
        own_rules: Vec::new(),
        untried: BTreeSet::new(),
        values: BTreeMap::new(),
    }
}

/// What an [`inventory()`] needs to know.
#[must_use]
pub struct InventoryBuilder {
    router: Router,
    document: Document,
    tokens: Option<MakeToken>,
    prepare: Option<Prepare>,
    open: Vec<Listed>,
    undocumented: Vec<Listed>,
    own_rules: Vec<Listed>,
    untried: BTreeSet<String>,
    values: BTreeMap<String, String>,
}

/// `GET /path` of a list.
struct Listed {
    text: String,
    name: Option<(Method, String)>,
    seen: bool,
}

fn list<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> impl Iterator<Item = Listed> {
    names.into_iter().map(|name| {
        let text = name.as_ref().trim().to_owned();
        let parts =
            text.split_once(' ').and_then(|(method, path)| Some((method.parse().ok()?, paths::shape(path.trim()))));
        Listed { name: parts, text, seen: false }
    })
}

/// Whether the operation is on this list; it is not looked for in vain then.
fn find(list: &mut [Listed], method: &Method, path: &str) -> bool {
    let name = (method.clone(), paths::shape(path));
    let found = list.iter_mut().find(|listed| listed.name.as_ref() == Some(&name));
    found.map(|listed| listed.seen = true).is_some()
}

impl InventoryBuilder {
    /// Takes tokens from here: given scopes with single spaces between them, or none, a good token with just these.
    ///
    /// A new one is asked for where an old one may have been called back. That does not help after a route that signs a user out
    /// everywhere: it calls back all tokens up to the second in which it was asked, and so those that are made at once after it.
    /// Date them ahead by less than the leeway (`iat` of now and 20 seconds), or give each a user of its own.
    pub fn tokens<F, R>(self, make: F) -> Self
    where
        F: Fn(String) -> R + Send + Sync + 'static,
        R: Future<Output = String> + Send + 'static,
    {
        Self { tokens: Some(Box::new(move |scopes| make(scopes).boxed())), ..self }
    }

    /// Takes tokens from this authority.
    pub fn authority(self, authority: &TestAuthority) -> Self {
        let authority = authority.clone();
        self.tokens(move |scopes| std::future::ready(authority.token(&scopes)))
    }

    /// Names what may be open, as `GET /health`. All of it must be there and be open; what is not in the document may be here, too.
    ///
    /// A fallback of the program's own is `GET /{*rest}`, or `GET /api/{*rest}` if it is nested below `/api`: it must be here
    /// whatever it answers, for it may know paths that nobody made up, and in [`undocumented`](Self::undocumented) if it refuses.
    /// So must a service that is nested there, and a route with a tail that the document does not have, by each method.
    pub fn open<S: AsRef<str>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.open.extend(list(names));
        self
    }

    /// Names what the document need not know, though it is closed. All of it must be there and refuse who has no token.
    pub fn undocumented<S: AsRef<str>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.undocumented.extend(list(names));
        self
    }

    /// Names security schemes of the document that are no bearer tokens, such as a client's own password, and are tested
    /// elsewhere. What needs them alone must still answer who has nothing with 400, 401 or 403; an empty body may be what is
    /// wrong there, so that the first of these proves little.
    pub fn untried<S: Into<String>>(mut self, schemes: impl IntoIterator<Item = S>) -> Self {
        self.untried.extend(schemes.into_iter().map(Into::into));
        self
    }

    /// Names what refuses by a rule of the handler's own even who has the scopes, as `GET /orders/{id}` if another one owns the
    /// order: with 403, and no [`Rejection`](crate::rejection::Rejection) in the response's extensions. All of it must be there and
    /// refuse so. That a scope is missing must then be said by a layer, since such a 403 does not tell.
    pub fn refuses_itself<S: AsRef<str>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.own_rules.extend(list(names));
        self
    }

    /// Sets a value for the parameter of this name in all paths. Unless set it is the example of the document, or `1`, or
    /// something else where that leads to another route, as `me` does where there are `/users/{id}` and `/users/me`.
    pub fn path_value(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.values.insert(name.into(), value.into());
        self
    }

    /// Changes every request before it is made: for layers that need a header, or an address of the client in the extensions.
    pub fn prepare(self, prepare: impl Fn(&mut Request<Body>) + Send + Sync + 'static) -> Self {
        Self { prepare: Some(Box::new(prepare)), ..self }
    }

    /// Makes the requests. Needs a Tokio runtime with its timer enabled.
    pub async fn run(self) -> Inventory {
        let Self { router, document, tokens, prepare, open, undocumented, own_rules, untried, values } = self;
        let Document { operations, unread } = document;
        let routes = paths::read(&format!("{router:?}"));
        let Some(make) = tokens else {
            let gaps = vec![Gap { method: None, path: String::new(), finding: Finding::NoTokens }];
            return Inventory { rows: Vec::new(), gaps, requests: 0 };
        };
        let alternatives = operations.iter().filter_map(|operation| match &operation.security {
            Security::Closed(alternatives) => Some(alternatives),
            Security::Open | Security::Unreadable => None,
        });
        let all = alternatives.flatten().flat_map(|alternative| alternative.scopes.iter().cloned()).collect();
        let unread =
            unread.into_iter().map(|(path, name)| Gap { method: None, path, finding: Finding::MemberUnread(name) });
        let mut walk = Walk {
            probe: Probe::new(router, prepare),
            tokens: Tokens::new(make),
            routes: Routes::new(routes.as_ref().map_or(&[], |paths| &paths.routes)),
            paths: routes.as_ref().map_or_else(|_| Vec::new(), |paths| paths.routes.clone()),
            // Where it is not known, there may be one.
            has_own_fallback: routes.as_ref().map_or(true, |paths| paths.fallbacks.iter().any(String::is_empty)),
            options: None,
            all,
            open,
            undocumented,
            own_rules,
            untried,
            values,
            found: Inventory { rows: Vec::new(), gaps: unread.collect(), requests: 0 },
        };
        walk.documented(&operations, routes.as_ref().ok()).await;
        walk.beside(&operations, routes).await;
        walk.end()
    }
}

impl fmt::Debug for InventoryBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InventoryBuilder").field("operations", &self.document.operations.len()).finish_non_exhaustive()
    }
}

/// An inventory as it is made.
struct Walk {
    probe: Probe,
    tokens: Tokens,
    /// Tells which of `paths` is asked.
    routes: Routes,
    /// Of the router.
    paths: Vec<String>,
    has_own_fallback: bool,
    /// What `OPTIONS` is answered where there is no route, once that was asked.
    options: Option<Answer>,
    /// Every scope of the document.
    all: BTreeSet<String>,
    open: Vec<Listed>,
    undocumented: Vec<Listed>,
    own_rules: Vec<Listed>,
    untried: BTreeSet<String>,
    values: BTreeMap<String, String>,
    found: Inventory,
}

impl Walk {
    fn gap(&mut self, method: Option<&Method>, path: &str, finding: Finding) {
        self.found.gaps.push(Gap { method: method.cloned(), path: path.to_owned(), finding });
    }

    /// Adds a row, and its gaps.
    fn row(&mut self, method: &Method, path: &str, requirement: String, verdict: Verdict, findings: Vec<Finding>) {
        let verdict = if findings.is_empty() { verdict } else { Verdict::Gap };
        self.found.rows.push(Row { method: method.clone(), path: path.to_owned(), requirement, verdict });
        for finding in findings {
            self.gap(Some(method), path, finding);
        }
    }

    /// Looks at every operation of the document.
    async fn documented(&mut self, operations: &[Operation], routes: Option<&Paths>) {
        for operation in operations {
            let Operation { method, path, security, .. } = operation;
            let listed = find(&mut self.open, method, path);
            let own_rule = find(&mut self.own_rules, method, path);
            let is_there = routes.is_none_or(|routes| routes.routes.iter().any(|route| paths::is_of(path, route)));
            let target = if is_there { self.target(operation).await } else { Err(Finding::NotThere) };
            let (requirement, verdict, mut findings) = match (security, &target) {
                (_, Err(finding)) => (String::new(), Verdict::Gap, vec![finding.clone()]),
                (Security::Unreadable, _) => (String::new(), Verdict::Gap, vec![Finding::SecurityUnreadable]),
                (Security::Open, Ok(target)) => {
                    let answer = self.probe.ask(target, None).await;
                    let mut findings: Vec<Finding> = check::anybody(&answer).err().into_iter().collect();
                    findings.extend((!listed).then_some(Finding::OpenNotListed));
                    findings.extend(own_rule.then_some(Finding::ListedNotRefusing));
                    ("open".to_owned(), Verdict::Open, findings)
                }
                (Security::Closed(ways), Ok(target)) => {
                    let findings = self.closed(target, ways, own_rule).await;
                    (requirement(ways), if own_rule { Verdict::OwnRule } else { Verdict::Closed }, findings)
                }
            };
            if listed && is_there && !matches!(security, Security::Open) {
                findings.push(Finding::ListedNotOpen);
            }
            let of_get: Vec<_> = findings.iter().map(mem::discriminant).collect();
            self.row(method, path, requirement, verdict, findings);
            let head_follows = *method == Method::GET && !has(operations, &Method::HEAD, path);
            if let (Security::Closed(ways), Ok(target), true) = (security, &target, head_follows) {
                // What is wrong with `GET` alike is told of it already.
                let mut findings = self.head(target, ways, own_rule).await;
                findings.retain(|finding| !of_get.contains(&mem::discriminant(finding)));
                for finding in findings {
                    self.gap(Some(&Method::HEAD), path, finding);
                }
            }
        }
    }

    /// `HEAD` that follows from `GET` must be as closed, if it is there.
    async fn head(&mut self, get: &Target, ways: &[Alternative], own_rule: bool) -> Vec<Finding> {
        let target = Target { method: Method::HEAD, ..get.clone() };
        match self.presence(&target).await {
            Presence::Absent => Vec::new(),
            _ => self.closed(&target, ways, own_rule).await,
        }
    }

    async fn target(&mut self, operation: &Operation) -> Result<Target, Finding> {
        let uri = self.aim(&operation.path, &operation.values).await?;
        Ok(Target { method: operation.method.clone(), uri, content_type: operation.content_type.clone() })
    }

    /// The path with values in place of its parameters: what the test says, else what the document does, else something made up.
    /// Only a value of the test's may not give way where another route answers.
    async fn aim(&mut self, path: &str, of_document: &BTreeMap<String, String>) -> Result<String, Finding> {
        let mut elsewhere = None;
        for made_up in [None].into_iter().chain(OTHER_VALUES.map(Some)) {
            let of_document = |name: &str| made_up.or_else(|| of_document.get(name).map(String::as_str));
            let target =
                document::fill(path, |name| self.values.get(name).map(String::as_str).or_else(|| of_document(name)));
            match self.routes.answers(&target).await {
                Some(route) if !paths::stands_for(path, &route, &self.paths) => {
                    elsewhere.get_or_insert(Finding::LeadsElsewhere { target, route });
                }
                // Without a route it is asked, and found not to be there.
                _ => return Ok(target),
            }
        }
        Err(elsewhere.unwrap_or(Finding::NotThere))
    }

    /// The path with values in place of its parameters, whichever route it is then.
    fn fill(&self, path: &str) -> String {
        document::fill(path, |name| self.values.get(name).map(String::as_str))
    }

    /// Asks for an operation that one of `ways` opens, and nothing else does; with `own_rule` its handler then refuses.
    async fn closed(&mut self, target: &Target, ways: &[Alternative], own_rule: bool) -> Vec<Finding> {
        let mut findings = Vec::new();
        let others: BTreeSet<&String> = ways.iter().flat_map(|way| &way.others).collect();
        for scheme in others.iter().filter(|scheme| !self.untried.contains(**scheme)) {
            findings.push(Finding::SchemeUntried((*scheme).clone()));
        }
        // By whichever scheme: the same scopes are the same way in.
        let by_token: BTreeSet<&BTreeSet<String>> =
            ways.iter().filter(|way| way.others.is_empty()).map(|way| &way.scopes).collect();
        let by_token: Vec<&BTreeSet<String>> = by_token.into_iter().collect();
        let closed_by = match (by_token.is_empty(), others.is_empty()) {
            (_, true) => Ways::Tokens,
            (false, false) => Ways::Mixed,
            (true, false) => Ways::Others,
        };
        let answer = self.probe.ask(target, None).await;
        if let Err(finding) = check::stranger(&answer, closed_by) {
            // Whoever comes in without a token comes in with one.
            findings.push(finding);
            return findings;
        }
        let forged = self.tokens.forged(&self.all).await;
        let answer = self.probe.ask(target, Some(&forged)).await;
        findings.extend(check::forged(&answer, closed_by).err());
        let Some(left_out) = check::left_out(&by_token, MOST_WAYS) else {
            findings.push(Finding::TooManyWays);
            return findings;
        };
        for scopes in left_out {
            let others = self.all.difference(&scopes).cloned().collect();
            let answer = self.ask_with(target, &others).await;
            findings.extend(check::lacking(&scopes, &answer, own_rule).err());
        }
        let mut refused = false;
        for scopes in by_token {
            let answer = self.ask_with(target, scopes).await;
            if own_rule && check::by_own_rule(&answer) {
                refused = true;
            } else {
                findings.extend(check::granted(scopes, &answer).err());
            }
        }
        if own_rule && !refused && findings.is_empty() {
            findings.push(Finding::ListedNotRefusing);
        }
        findings
    }

    /// Asks with a token of just these scopes. One that was made before may have been called back since, by a route that signs out
    /// whoever calls it: then with a new one.
    async fn ask_with(&mut self, target: &Target, scopes: &BTreeSet<String>) -> Answer {
        loop {
            let (token, is_new) = self.tokens.with(scopes).await;
            let answer = self.probe.ask(target, Some(&token)).await;
            if is_new || answer.status() != StatusCode::UNAUTHORIZED {
                return answer;
            }
            self.tokens.forget(scopes);
        }
    }

    fn end(mut self) -> Inventory {
        let left = |list: &[Listed]| {
            list.iter().filter(|listed| !listed.seen).map(|listed| listed.text.clone()).collect::<Vec<_>>()
        };
        for name in [left(&self.open), left(&self.undocumented), left(&self.own_rules)].concat() {
            self.gap(None, &name, Finding::ListedNotThere);
        }
        self.found.requests = self.probe.requests;
        self.found
    }
}

fn has(operations: &[Operation], method: &Method, path: &str) -> bool {
    let shape = paths::shape(path);
    operations.iter().any(|operation| operation.method == *method && paths::shape(&operation.path) == shape)
}

/// What is needed, for people to read.
fn requirement(ways: &[Alternative]) -> String {
    let way = |way: &Alternative| {
        let names: Vec<&str> = way.scopes.iter().chain(&way.others).map(String::as_str).collect();
        if names.is_empty() { "signed in".to_owned() } else { names.join(" ") }
    };
    // By whichever scheme.
    let mut told: Vec<String> = ways.iter().map(way).collect();
    let mut seen = BTreeSet::new();
    told.retain(|way| seen.insert(way.clone()));
    told.join(" | ")
}
