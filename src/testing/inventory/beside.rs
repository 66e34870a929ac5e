//! What the router has beside the document: methods, paths, and what answers where there is no route.

use std::collections::{BTreeMap, BTreeSet};

use http::{Method, StatusCode};

use super::{
    Listed, Walk, check,
    check::Answer,
    document::{METHODS, Operation},
    find, has, paths,
    paths::Paths,
    probe::Target,
    report::{Finding, Verdict},
};

/// A path that nobody has.
const MADE_UP: &str = "/no/such/route/as/far/as/an/inventory/of/routes/can/tell";
/// What is listed for what answers where there is no route.
const ANYWHERE: &str = "/{*rest}";

/// Whether a method is there, as far as can be seen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Presence {
    Absent,
    /// It refuses every token that there is, or there is no such method behind a layer.
    Hidden,
    Closed,
    Open,
    /// Something was reached, and does not answer.
    Silent,
}

impl Walk {
    /// Looks for what the document does not know.
    pub(super) async fn beside(&mut self, operations: &[Operation], routes: Result<Paths, &'static str>) {
        let mut shapes = BTreeSet::new();
        for operation in operations.iter().filter(|operation| shapes.insert(paths::shape(&operation.path))) {
            let is_there = |routes: &Paths| routes.routes.iter().any(|route| paths::is_of(&operation.path, route));
            if routes.as_ref().is_ok_and(|routes| !is_there(routes)) {
                continue;
            }
            // Where it cannot be asked, that was told of the operation.
            let Ok(of_path) = self.target(operation).await else { continue };
            for (_, method) in METHODS {
                let follows = method == Method::HEAD && has(operations, &Method::GET, &operation.path);
                if follows || has(operations, &method, &operation.path) {
                    continue;
                }
                let target = Target { method, ..of_path.clone() };
                match self.presence(&target).await {
                    Presence::Absent | Presence::Hidden => {}
                    there => self.unknown(&target, &operation.path, there).await,
                }
            }
        }
        let routes = match routes {
            Ok(routes) => routes,
            Err(reason) => {
                self.gap(None, "", Finding::PathsUnreadable(reason));
                Paths::default()
            }
        };
        let documented: Vec<&str> = operations.iter().map(|operation| &*operation.path).collect();
        for route in routes.routes.iter().filter(|route| !paths::is_known(route, &documented)) {
            self.unknown_path(route).await;
        }
        for prefix in &routes.fallbacks {
            self.own_fallback(prefix).await;
        }
        if !routes.fallbacks.iter().any(String::is_empty) {
            self.default_fallback().await;
        }
    }

    /// A path below `prefix` that no route answers, if there is one.
    async fn no_route(&mut self, prefix: &str) -> Option<String> {
        for tail in [MADE_UP, if prefix.is_empty() { "/" } else { "" }] {
            let uri = self.fill(&format!("{prefix}{tail}"));
            if self.routes.answers(&uri).await.is_none() {
                return Some(uri);
            }
        }
        None
    }

    /// What has no route must be answered with 404, or refused: layers are around that, too.
    async fn default_fallback(&mut self) {
        let Some(uri) = self.no_route("").await else { return };
        let answer = self.probe.ask(&Target { method: Method::GET, uri, content_type: None }, None).await;
        if !is_nothing(&answer) {
            self.fallback(&Method::GET, ANYWHERE, answer);
        }
    }

    /// A fallback of the program's own must be on a list whatever it answers to a path that is made up: it may know others. Methods
    /// that it answers as it does `GET`, or not at all, need no name of their own.
    async fn own_fallback(&mut self, prefix: &str) {
        let Some(uri) = self.no_route(prefix).await else { return };
        let path = format!("{prefix}{ANYWHERE}");
        let mut of_get = None;
        for (_, method) in METHODS {
            let target = Target { method: method.clone(), uri: uri.clone(), content_type: None };
            let answer = self.probe.ask(&target, None).await;
            let of_get = of_get.get_or_insert(answer);
            if method == Method::GET || (!is_nothing(&answer) && answer != *of_get) {
                self.fallback(&method, &path, answer);
            }
        }
    }

    fn fallback(&mut self, method: &Method, path: &str, answer: Answer) {
        let (open, closed) = (find(&mut self.open, method, path), find(&mut self.undocumented, method, path));
        let refuses = answer.turns_away() || answer.refuses();
        let findings = match (refuses, open, closed) {
            _ if answer == Answer::Nothing => vec![Finding::NoAnswer],
            (true, false, true) | (false, true, false) => Vec::new(),
            (true, true, _) => vec![Finding::ListedNotOpen],
            _ if is_nothing(&answer) => vec![Finding::FallbackNotListed(answer)],
            _ => vec![Finding::FallbackOpen(answer)],
        };
        let (requirement, verdict) =
            if refuses { ("no route", Verdict::Closed) } else { ("open, no route", Verdict::Open) };
        self.row(method, path, requirement.to_owned(), verdict, findings);
    }

    /// A path of the router that the document does not have.
    async fn unknown_path(&mut self, path: &str) {
        let uri = match self.aim(path, &BTreeMap::new()).await {
            Ok(uri) => uri,
            Err(finding) => return self.gap(None, path, finding),
        };
        let mut seen = false;
        let mut get = Presence::Absent;
        let mut hidden = Vec::new();
        for (_, method) in METHODS {
            let target = Target { method: method.clone(), uri: uri.clone(), content_type: None };
            let there = self.presence(&target).await;
            // `HEAD` follows from `GET`, unless it is open where that is not.
            let follows =
                method == Method::HEAD && get != Presence::Absent && (there != Presence::Open || get == there);
            if there == Presence::Hidden {
                hidden.push(method);
                continue;
            }
            if follows || there == Presence::Absent {
                continue;
            }
            seen = true;
            if method == Method::GET {
                get = there;
            }
            self.unknown(&target, path, there).await;
        }
        if !seen && hidden.is_empty() {
            // Of a method that OpenAPI does not have: it may still be listed.
            hidden = METHODS.into_iter().map(|(_, method)| method).collect();
        }
        // Closed to every token that there is, or not there: which, nobody can tell.
        hidden.retain(|method| find(&mut self.undocumented, method, path));
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
            _ if there == Presence::Silent => vec![Finding::NoAnswer],
            (true, true, false) | (false, false, true) => Vec::new(),
            (false, true, _) => vec![Finding::ListedNotOpen],
            (open, _, _) => vec![Finding::Undocumented { open }],
        };
        if findings.is_empty() && !open {
            let forged = self.tokens.forged(&self.all).await;
            findings.extend(check::forged(&self.probe.ask(target, Some(&forged)).await, check::Ways::Mixed).err());
        }
        self.row(method, path, requirement, if open { Verdict::Open } else { Verdict::Closed }, findings);
    }

    pub(super) async fn presence(&mut self, target: &Target) -> Presence {
        let stranger = self.probe.ask(target, None).await;
        if stranger.is_no_method() {
            return Presence::Absent;
        }
        if stranger == Answer::Nothing {
            return Presence::Silent;
        }
        if !stranger.turns_away() {
            let by_a_layer = target.method == Method::OPTIONS && self.answers_everywhere(&stranger).await;
            return if by_a_layer { Presence::Absent } else { Presence::Open };
        }
        let all = self.all.clone();
        let answer = self.ask_with(target, &all).await;
        match () {
            () if answer.is_no_method() => Presence::Absent,
            () if answer == Answer::Nothing => Presence::Silent,
            () if answer.turns_away() => Presence::Hidden,
            () => Presence::Closed,
        }
    }

    /// Whether `OPTIONS` is answered just so where there is no route: then by a layer, such as one for CORS, and no route sees it.
    ///
    /// A fallback of the program's own could answer like a route by chance, so where there is one `OPTIONS` must be on its list.
    async fn answers_everywhere(&mut self, answer: &Answer) -> bool {
        let listed = |listed: &Listed| {
            listed
                .name
                .as_ref()
                .is_some_and(|(method, path)| *method == Method::OPTIONS && *path == paths::shape(ANYWHERE))
        };
        if self.has_own_fallback && !self.open.iter().any(listed) {
            return false;
        }
        let Some(uri) = self.no_route("").await else { return false };
        let target = Target { method: Method::OPTIONS, uri, content_type: None };
        if self.options.is_none() {
            self.options = Some(self.probe.ask(&target, None).await);
        }
        self.options.is_some_and(|elsewhere| elsewhere == *answer && !is_nothing(&elsewhere))
    }
}

/// Whether it says that there is nothing, or refuses.
fn is_nothing(answer: &Answer) -> bool {
    answer.status() == StatusCode::NOT_FOUND || answer.refuses() || answer.is_no_method()
}
