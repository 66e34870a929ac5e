//! Spans around decisions: below the request's own, whatever else goes on at the same time, and with what was decided.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Body, routing::get as route};
use http::Request;
use portcullis::{
    AuthorizationServer,
    authz::{AuthorizeLayer, async_policy_fn},
    client_ip::ClientIp,
    jwt::{Algorithm, SigningKey},
    session::SessionPolicy,
    store::MemoryStore,
};
use tower::ServiceExt as _;
use tracing::{
    Instrument as _, Span, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt as _},
    registry::LookupSpan,
};

use crate::login::{PASSWORD, form, hasher, users};

/// One span: its name, the names above it, and its fields.
#[derive(Clone, Debug, Default)]
struct Seen {
    name: &'static str,
    above: Vec<String>,
    fields: BTreeMap<&'static str, String>,
}

/// Keeps every span of ours, and of the test's.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<BTreeMap<u64, Seen>>>);

struct Fields<'a>(&'a mut Seen);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.fields.insert(field.name(), format!("{value:?}").trim_matches('"').to_owned());
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let above = context.span_scope(id).into_iter().flatten().skip(1);
        let mut seen = Seen { name: attributes.metadata().name(), ..Seen::default() };
        seen.above = above
            .map(|span| {
                let spans = self.0.lock().unwrap();
                let which = spans.get(&span.id().into_u64()).and_then(|seen| seen.fields.get("which").cloned());
                format!("{}{}", span.name(), which.unwrap_or_default())
            })
            .collect();
        attributes.record(&mut Fields(&mut seen));
        let metadata = attributes.metadata();
        if metadata.target() == "portcullis" || metadata.name() == "request" {
            self.0.lock().unwrap().insert(id.into_u64(), seen);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        if let Some(seen) = self.0.lock().unwrap().get_mut(&id.into_u64()) {
            values.record(&mut Fields(seen));
        }
    }
}

impl Spans {
    fn named(&self, name: &str) -> Vec<Seen> {
        self.0.lock().unwrap().values().filter(|seen| seen.name == name).cloned().collect()
    }
}

#[tokio::test]
async fn spans_are_below_their_own_request_and_say_what_was_decided() {
    let spans = Spans::default();
    // With one dispatcher alone, whoever comes first to a place says whether anybody listens there.
    let _others = [0, 1].map(|_| tracing::Dispatch::new(tracing_subscriber::registry().with(Spans::default())));
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(spans.clone()));
    let key = SigningKey::generate(Algorithm::EdDsa).unwrap();
    let handle = AuthorizationServer::builder("https://id.example", "api", key)
        .first_party_login(users().await, hasher())
        .sessions(Arc::new(MemoryStore::new()), SessionPolicy::default())
        .build()
        .unwrap();
    let api = handle.resource_server();
    let slow = async_policy_fn(|access| {
        let pass = access.uri().path() == "/slow";
        async move {
            tokio::task::yield_now().await;
            pass
        }
    });
    let at = |path: &str| Router::new().route(path, route(|| async { "in" }));
    let app = at("/slow").merge(at("/no")).layer(AuthorizeLayer::new(slow)).merge(at("/me")).layer(api.authenticate());
    let app = app.merge(handle.routes());
    let ask = |which: &'static str, line: &str, token: Option<&str>, body: String| {
        let (method, path) = line.split_once(' ').unwrap();
        let request = Request::builder().method(method).uri(path);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let request = token
            .into_iter()
            .fold(request, |request, token| request.header("authorization", format!("Bearer {token}")));
        let mut request = request.body(Body::from(body)).unwrap();
        request.extensions_mut().insert(ClientIp([192, 0, 2, 1].into()));
        let span = tracing::info_span!("request", which);
        let answer = app.clone().oneshot(request);
        async move { (answer.instrument(span).await.unwrap(), Span::current().is_none()) }
    };
    let good = form("alice", PASSWORD, "");
    let wrong = form("alice", "wrong", "");
    // At once, on one thread: their passwords are checked elsewhere meanwhile.
    let (one, two) = tokio::join!(ask("one", "POST /token", None, good), ask("two", "POST /token", None, wrong));
    assert_eq!((one.0.status(), two.0.status()), (http::StatusCode::OK, http::StatusCode::BAD_REQUEST));
    assert!(one.1 && two.1, "nobody is in a span any more");
    let body = axum::body::to_bytes(one.0.into_body(), 10_000).await.unwrap();
    let token = serde_json::from_slice::<serde_json::Value>(&body).unwrap();
    let (access, refresh) = (token["access_token"].as_str().unwrap(), token["refresh_token"].as_str().unwrap());
    let (slow, no, bad, again) = tokio::join!(
        ask("slow", "GET /slow", Some(access), String::new()),
        ask("no", "GET /no", Some(access), String::new()),
        ask("bad", "GET /me", Some("a.b.c"), String::new()),
        ask("again", "POST /token/refresh", None, format!("refresh_token={refresh}")),
    );
    let statuses = [slow.0.status(), no.0.status(), bad.0.status(), again.0.status()].map(|status| status.as_u16());
    assert_eq!(statuses, [200, 403, 401, 200]);

    let of = |name: &str, which: &str| {
        let root = format!("request{which}");
        let own = |seen: &Seen| seen.above.last() == Some(&root);
        // The first of all waits until the revocations were read, and is checked again.
        let waits = |seen: &Seen| seen.fields.get("outcome").is_some_and(|outcome| outcome == "waiting");
        let found: Vec<_> = spans.named(name).into_iter().filter(|seen| own(seen) && !waits(seen)).collect();
        assert!(!found.is_empty(), "no {name} below {root}: {:#?}", spans.0.lock().unwrap());
        found
    };
    let said = |seen: &Seen, field: &str| seen.fields.get(field).cloned().unwrap_or_default();
    for (name, which, outcome, reason, subject) in [
        ("issue_token", "one", "ok", "", "user:id-alice"),
        ("issue_token", "two", "refused", "invalid_grant", ""),
        ("check_password", "one", "ok", "", "user:id-alice"),
        ("check_password", "two", "refused", "wrong password", ""),
        ("count_attempt", "one", "ok", "", ""),
        ("store", "one", "ok", "", ""),
        ("verify_token", "slow", "ok", "", "user:id-alice"),
        ("authorize", "slow", "ok", "", "user:id-alice"),
        ("authorize", "no", "refused", "policy_denied", "user:id-alice"),
        ("verify_token", "bad", "refused", "malformed_token", ""),
        ("issue_token", "again", "ok", "", "user:id-alice"),
    ] {
        for seen in of(name, which) {
            assert_eq!((&*said(&seen, "outcome"), &*said(&seen, "reason")), (outcome, reason), "{name} {which}");
            assert_eq!(said(&seen, "subject"), subject, "{name} {which}");
        }
    }
    assert_eq!(of("check_password", "one")[0].above, ["issue_token", "requestone"]);
    let caches: Vec<_> = [of("verify_token", "slow"), of("verify_token", "no")].concat();
    let mut caches: Vec<_> = caches.iter().map(|seen| said(seen, "cache")).collect();
    caches.sort();
    assert_eq!(caches, ["hit", "miss"]);
    let all = format!("{:?}", spans.0.lock().unwrap());
    for secret in [PASSWORD, access, refresh, "\"alice\""] {
        assert!(!all.contains(secret), "{secret}: {all}");
    }
    let roots = spans.0.lock().unwrap().values().filter(|seen| seen.above.is_empty() && seen.name != "request").count();
    assert_eq!(roots, 0, "{all}");
}
