//! Asking a router in process, and where the tokens for that come from.

use std::{
    collections::{BTreeSet, HashMap},
    panic::AssertUnwindSafe,
    time::Duration,
};

use axum::{Extension, Router, body::Body};
use futures::{FutureExt as _, future::BoxFuture};
use http::{
    HeaderValue, Method, Request, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use tower_service::Service as _;

use super::check::{Answer, Asked};

/// How long a route may take.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) type Prepare = Box<dyn Fn(&mut Request<Body>) + Send + Sync>;

/// Makes a token of the scopes that it is given.
pub(super) type MakeToken = Box<dyn Fn(String) -> BoxFuture<'static, String> + Send + Sync>;

/// Makes each token once, unless it is called back.
pub(super) struct Tokens {
    make: MakeToken,
    made: HashMap<BTreeSet<String>, String>,
}

impl Tokens {
    pub(super) fn new(make: MakeToken) -> Self {
        Self { make, made: HashMap::new() }
    }

    /// The token of these scopes, and whether it was made just now.
    pub(super) async fn with(&mut self, scopes: &BTreeSet<String>) -> (String, bool) {
        if let Some(token) = self.made.get(scopes) {
            return (token.clone(), false);
        }
        let text = scopes.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
        let token = (self.make)(text).await;
        self.made.insert(scopes.clone(), token.clone());
        (token, true)
    }

    /// Makes it anew when it is asked for next.
    pub(super) fn forget(&mut self, scopes: &BTreeSet<String>) {
        self.made.remove(scopes);
    }

    /// One with these scopes whose signature is wrong: of whatever a token is, the first character behind the last dot.
    ///
    /// Made of a new one each time: one that was called back is refused whatever its signature.
    pub(super) async fn forged(&mut self, scopes: &BTreeSet<String>) -> String {
        self.forget(scopes);
        let (token, _) = self.with(scopes).await;
        let (signed, signature) = token.rsplit_once('.').map_or(("", &*token), |(signed, rest)| (signed, rest));
        let mut characters = signature.chars();
        let first = if characters.next() == Some('A') { 'B' } else { 'A' };
        let dot = if signed.is_empty() { "" } else { "." };
        format!("{signed}{dot}{first}{}", characters.as_str())
    }
}

/// Tells which route of a router answers a path, without asking it: axum itself decides, over routes that only say their names.
pub(super) struct Routes(Router);

/// The name of a route.
#[derive(Clone)]
struct Name(String);

impl Routes {
    pub(super) fn new(paths: &[String]) -> Self {
        let router = paths.iter().fold(Router::new().without_v07_checks(), |router, path| {
            let name = Name(path.clone());
            router.route(path, axum::routing::any(move || std::future::ready(Extension(name.clone()))))
        });
        Self(router.with_state(()))
    }

    /// The route that answers this path, if there is one.
    pub(super) async fn answers(&mut self, uri: &str) -> Option<String> {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = uri.parse().ok()?;
        let Ok(mut response) = self.0.call(request).await;
        response.extensions_mut().remove::<Name>().map(|Name(path)| path)
    }
}

/// Asks, and counts.
pub(super) struct Probe {
    router: Router,
    prepare: Option<Prepare>,
    pub(super) requests: u64,
}

/// What to ask for.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) method: Method,
    pub(super) uri: String,
    pub(super) content_type: Option<String>,
}

impl Probe {
    pub(super) fn new(router: Router, prepare: Option<Prepare>) -> Self {
        // Handlers are put into their layers here, and not at each request.
        Self { router: router.with_state(()), prepare, requests: 0 }
    }

    pub(super) async fn ask(&mut self, target: &Target, token: Option<&str>) -> Answer {
        self.requests += 1;
        let mut request = Request::new(Body::empty());
        *request.method_mut() = target.method.clone();
        // A path that is no path is asked for as `/`, and found not to be there.
        *request.uri_mut() = target.uri.parse().unwrap_or_else(|_| Uri::from_static("/"));
        let content_type = target.content_type.as_deref().and_then(|text| HeaderValue::from_str(text).ok());
        if let Some(content_type) = content_type {
            request.headers_mut().insert(CONTENT_TYPE, content_type);
        }
        let credential = token.and_then(|token| HeaderValue::from_str(&format!("Bearer {token}")).ok());
        if let Some(credential) = credential {
            request.headers_mut().insert(AUTHORIZATION, credential);
        }
        if let Some(prepare) = &self.prepare {
            prepare(&mut request);
        }
        // A router is always ready.
        let answer = AssertUnwindSafe(self.router.call(request)).catch_unwind();
        match tokio::time::timeout(PATIENCE, answer).await {
            Err(_) => Answer::Nothing,
            Ok(Err(_)) => Answer::Panic,
            Ok(Ok(Ok(response))) => Answer::Reply {
                status: response.status(),
                challenge: Asked::of(response.headers()),
                rejection: response.extensions().get().copied(),
            },
        }
    }
}
