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
//! Handlers run, with an empty body, by every method that there is: give the router stores of their own. What is not seen: routes
//! inside a service that is nested as a whole (its path is found, and must be on a list), what depends on the body, on the host or
//! on other headers, methods that OpenAPI does not have, and methods of a known path that the document does not have and that are
//! closed to all of its scopes: behind a layer they look like methods that are not there.

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

pub use self::{
    check::{Answer, Asked},
    report::{Finding, Gap, Inventory, Row, Verdict},
};
use self::{
    document::{Alternative, METHODS, Operation, Security},
    paths::Paths,
    probe::{MakeToken, Prepare, Probe, Target, Tokens},
};
use super::TestAuthority;

/// How many combinations of scopes are tried of one operation.
const MOST_WAYS: usize = 64;

/// Compares what `document` says of each operation with what `router` does; the [module docs](self) have an example.
pub fn inventory(router: Router, document: &OpenApi) -> InventoryBuilder {
    InventoryBuilder {
        router,
        // A document that cannot be written has no operations, so that nothing of the router is known to it.
        operations: serde_json::to_value(document).map(|document| document::read(&document)).unwrap_or_default(),
        tokens: None,
        prepare: None,
        open: Vec::new(),
        undocumented: Vec::new(),
        untried: BTreeSet::new(),
        values: BTreeMap::new(),
    }
}

/// What an [`inventory()`] needs to know.
#[must_use]
pub struct InventoryBuilder {
    router: Router,
    operations: Vec<Operation>,
    tokens: Option<MakeToken>,
    prepare: Option<Prepare>,
    open: Vec<Listed>,
    undocumented: Vec<Listed>,
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
    /// elsewhere. What needs them must still refuse who has nothing.
    pub fn untried<S: Into<String>>(mut self, schemes: impl IntoIterator<Item = S>) -> Self {
        self.untried.extend(schemes.into_iter().map(Into::into));
        self
    }

    /// Sets a value for the parameter of this name in all paths. Unless set it is the example of the document, or `1`.
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
        let Self { router, operations, tokens, prepare, open, undocumented, untried, values } = self;
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
        let found = Inventory { rows: Vec::new(), gaps: Vec::new(), requests: 0 };
        let probe = Probe::new(router, prepare);
        let mut walk = Walk { probe, tokens: Tokens::new(make), all, open, undocumented, untried, values, found };
        walk.documented(&operations, routes.as_ref().ok()).await;
        walk.beside(&operations, routes).await;
        walk.end()
    }
}

impl fmt::Debug for InventoryBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InventoryBuilder").field("operations", &self.operations.len()).finish_non_exhaustive()
    }
}

/// An inventory as it is made.
struct Walk {
    probe: Probe,
    tokens: Tokens,
    /// Every scope of the document.
    all: BTreeSet<String>,
    open: Vec<Listed>,
    undocumented: Vec<Listed>,
    untried: BTreeSet<String>,
    values: BTreeMap<String, String>,
    found: Inventory,
}

/// Whether a method is there, as far as can be seen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Presence {
    Absent,
    /// It refuses every token that there is, or there is no such method behind a layer.
    Hidden,
    Closed,
    Open,
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
            let is_there = routes.is_none_or(|routes| routes.routes.iter().any(|route| paths::is_of(path, route)));
            let target = self.target(operation);
            let (requirement, verdict, mut findings) = match security {
                _ if !is_there => (String::new(), Verdict::Gap, vec![Finding::NotThere]),
                Security::Unreadable => (String::new(), Verdict::Gap, vec![Finding::SecurityUnreadable]),
                Security::Open => {
                    let answer = self.probe.ask(&target, None).await;
                    let mut findings: Vec<Finding> = check::anybody(&answer).err().into_iter().collect();
                    findings.extend((!listed).then_some(Finding::OpenNotListed));
                    ("open".to_owned(), Verdict::Open, findings)
                }
                Security::Closed(ways) => {
                    let findings = self.closed(&target, ways).await;
                    (requirement(ways), Verdict::Closed, findings)
                }
            };
            if listed && is_there && !matches!(security, Security::Open) {
                findings.push(Finding::ListedNotOpen);
            }
            let of_get: Vec<_> = findings.iter().map(mem::discriminant).collect();
            self.row(method, path, requirement, verdict, findings);
            let head_follows = *method == Method::GET && !has(operations, &Method::HEAD, path);
            if let (Security::Closed(ways), true) = (security, is_there && head_follows) {
                // What is wrong with `GET` alike is told of it already.
                let mut findings = self.head(&target, ways).await;
                findings.retain(|finding| !of_get.contains(&mem::discriminant(finding)));
                for finding in findings {
                    self.gap(Some(&Method::HEAD), path, finding);
                }
            }
        }
    }

    /// `HEAD` that follows from `GET` must be as closed, if it is there.
    async fn head(&mut self, get: &Target, ways: &[Alternative]) -> Vec<Finding> {
        let target = Target { method: Method::HEAD, ..get.clone() };
        match self.presence(&target).await {
            Presence::Absent => Vec::new(),
            Presence::Hidden | Presence::Closed | Presence::Open => self.closed(&target, ways).await,
        }
    }

    fn target(&self, operation: &Operation) -> Target {
        let (method, uri) = (operation.method.clone(), operation.target(&self.values));
        Target { method, uri, content_type: operation.content_type.clone() }
    }

    /// Asks for an operation that one of `ways` opens, and nothing else does.
    async fn closed(&mut self, target: &Target, ways: &[Alternative]) -> Vec<Finding> {
        let mut findings = Vec::new();
        let others: BTreeSet<&String> = ways.iter().flat_map(|way| &way.others).collect();
        for scheme in others.iter().filter(|scheme| !self.untried.contains(**scheme)) {
            findings.push(Finding::SchemeUntried((*scheme).clone()));
        }
        let answer = self.probe.ask(target, None).await;
        if let Err(finding) = check::stranger(&answer, !others.is_empty()) {
            // Whoever comes in without a token comes in with one.
            findings.push(finding);
            return findings;
        }
        let forged = self.tokens.forged(&self.all).await;
        let answer = self.probe.ask(target, Some(&forged)).await;
        findings.extend(check::forged(&answer, !others.is_empty()).err());
        let by_token: Vec<&BTreeSet<String>> =
            ways.iter().filter(|way| way.others.is_empty()).map(|way| &way.scopes).collect();
        let Some(left_out) = check::left_out(&by_token, MOST_WAYS) else {
            findings.push(Finding::TooManyWays);
            return findings;
        };
        for scopes in left_out {
            let others = self.all.difference(&scopes).cloned().collect();
            let answer = self.ask_with(target, &others).await;
            findings.extend(check::lacking(&scopes, &answer).err());
        }
        for scopes in by_token {
            let answer = self.ask_with(target, scopes).await;
            findings.extend(check::granted(scopes, &answer).err());
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

    /// Looks for what the document does not know.
    async fn beside(&mut self, operations: &[Operation], routes: Result<Paths, &'static str>) {
        let mut shapes = BTreeSet::new();
        for operation in operations.iter().filter(|operation| shapes.insert(paths::shape(&operation.path))) {
            let is_there = |routes: &Paths| routes.routes.iter().any(|route| paths::is_of(&operation.path, route));
            if routes.as_ref().is_ok_and(|routes| !is_there(routes)) {
                continue;
            }
            for (_, method) in METHODS {
                let follows = method == Method::HEAD && has(operations, &Method::GET, &operation.path);
                if follows || has(operations, &method, &operation.path) {
                    continue;
                }
                let target = Target { method, ..self.target(operation) };
                match self.presence(&target).await {
                    Presence::Absent | Presence::Hidden => {}
                    there => self.unknown(&target, &operation.path, there).await,
                }
            }
        }
        let made_up = "/no/such/route/as/far/as/an/inventory/of/routes/can/tell";
        let routes = match routes {
            Ok(routes) => routes,
            Err(reason) => {
                self.gap(None, "", Finding::PathsUnreadable(reason));
                Paths::default()
            }
        };
        for route in &routes.routes {
            if !operations.iter().any(|operation| paths::is_of(&operation.path, route)) {
                self.unknown_path(route).await;
            }
        }
        let below = routes
            .fallbacks
            .iter()
            .filter_map(|path| path.split_once("{*"))
            .map(|(prefix, _)| prefix.trim_end_matches('/'));
        for prefix in below.chain([""]).map(str::to_owned).collect::<BTreeSet<_>>() {
            let uri = document::fill(&format!("{prefix}{made_up}"), |name| self.values.get(name).map(String::as_str));
            self.fallback(&format!("{prefix}/{{*rest}}"), uri).await;
        }
    }

    /// What has no route must be answered with 404, or refused.
    async fn fallback(&mut self, path: &str, uri: String) {
        let answer = self.probe.ask(&Target { method: Method::GET, uri, content_type: None }, None).await;
        let is_nothing = answer.status() == StatusCode::NOT_FOUND || answer.refuses() || answer.is_no_method();
        if !is_nothing {
            let listed = find(&mut self.open, &Method::GET, path);
            let findings = if listed { Vec::new() } else { vec![Finding::FallbackOpen(answer)] };
            self.row(&Method::GET, path, "open, no route".to_owned(), Verdict::Open, findings);
        }
    }

    /// A path of the router that the document does not have.
    async fn unknown_path(&mut self, path: &str) {
        let uri = document::fill(path, |name| self.values.get(name).map(String::as_str));
        let mut seen = false;
        let mut get = Presence::Absent;
        for (_, method) in METHODS {
            let target = Target { method: method.clone(), uri: uri.clone(), content_type: None };
            let there = self.presence(&target).await;
            // `HEAD` follows from `GET`, unless it is open where that is not.
            let follows =
                method == Method::HEAD && get != Presence::Absent && (there != Presence::Open || get == there);
            if follows || matches!(there, Presence::Absent | Presence::Hidden) {
                continue;
            }
            seen = true;
            if method == Method::GET {
                get = there;
            }
            self.unknown(&target, path, there).await;
        }
        // Closed to every token that there is, or of a method that OpenAPI does not have: it may still be listed.
        let hidden: Vec<Method> = METHODS
            .into_iter()
            .map(|(_, method)| method)
            .filter(|method| !seen && find(&mut self.undocumented, method, path))
            .collect();
        for method in &hidden {
            self.row(method, path, "not in the document".to_owned(), Verdict::Closed, Vec::new());
        }
        if !seen && hidden.is_empty() {
            self.gap(None, path, Finding::Undocumented { open: false });
        }
    }

    /// A method that is there, and not in the document.
    async fn unknown(&mut self, target: &Target, path: &str, there: Presence) {
        let method = &target.method;
        let (may_be_open, known) = (find(&mut self.open, method, path), find(&mut self.undocumented, method, path));
        let (requirement, open) = ("not in the document".to_owned(), there == Presence::Open);
        let mut findings = match (open, may_be_open, known) {
            (true, true, false) | (false, false, true) => Vec::new(),
            (false, true, _) => vec![Finding::ListedNotOpen],
            (open, _, _) => vec![Finding::Undocumented { open }],
        };
        if findings.is_empty() && !open {
            let forged = self.tokens.forged(&self.all).await;
            findings.extend(check::forged(&self.probe.ask(target, Some(&forged)).await, true).err());
        }
        self.row(method, path, requirement, if open { Verdict::Open } else { Verdict::Closed }, findings);
    }

    async fn presence(&mut self, target: &Target) -> Presence {
        let stranger = self.probe.ask(target, None).await;
        if stranger.is_no_method() {
            return Presence::Absent;
        }
        if !stranger.turns_away() {
            return Presence::Open;
        }
        let all = self.all.clone();
        let answer = self.ask_with(target, &all).await;
        match () {
            () if answer.is_no_method() => Presence::Absent,
            () if answer.turns_away() => Presence::Hidden,
            () => Presence::Closed,
        }
    }

    fn end(mut self) -> Inventory {
        let left = |list: &[Listed]| {
            list.iter().filter(|listed| !listed.seen).map(|listed| listed.text.clone()).collect::<Vec<_>>()
        };
        for name in [left(&self.open), left(&self.undocumented)].concat() {
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
