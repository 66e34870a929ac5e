//! Policies around a mock and around handlers: what was decided, what the client is told, whether anybody was asked.

mod users;

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{Router, extract::Path, routing::get};
use http::{Request, Response};
use portcullis::{
    authz::{
        Access, AuthorizeLayer, Claim, CurrentUser, CurrentUsers, Decision, Denial, DenyUndecidedLayer, IssuedBy,
        Policy, Public, Question, RequireScopesLayer, Scopes, ServicePolicy, SignedIn, StepUp, all, any,
        async_policy_fn, not, policy_fn,
    },
    clock::{ManualClock, UnixSeconds},
    jwt::{Algorithm, JwtVerifyLayer},
    principal::{Identity, Principal, ScopeName, Scoped},
    rejection::{Answers, Rejection},
    store::MemoryStore,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn};

use self::users::user;
use crate::support::{Authority, ISSUER, Log, get_with, serve};

const NOW: u64 = 1_800_000_000;

/// A caller whose credential says whatever it is to say.
struct Says(Value);

impl Identity for Says {
    fn issuer(&self) -> &str {
        self.0["iss"].as_str().unwrap_or(ISSUER)
    }
    fn subject(&self) -> &str {
        self.0["sub"].as_str().unwrap_or("user:7")
    }
    fn client_id(&self) -> Option<&str> {
        None
    }
    fn scope(&self) -> &str {
        self.0["scope"].as_str().unwrap_or_default()
    }
    fn session_id(&self) -> Option<&str> {
        None
    }
    fn token_id(&self) -> Option<&str> {
        None
    }
    fn auth_time(&self) -> Option<UnixSeconds> {
        self.0["auth_time"].as_u64().map(UnixSeconds::new)
    }
    fn claim(&self, name: &str) -> Option<Value> {
        self.0.get(name).cloned()
    }
}

fn request_of(claims: Value) -> Request<()> {
    let mut request = Request::new(());
    let caller = Principal::new(Arc::new(Says(claims)));
    request.extensions_mut().insert(caller.answered(Answers::for_realm("test").unwrap()));
    request
}

/// What a layer makes of a request: status, challenge, the reason; and whether the inner service was called.
async fn answer<L>(layer: &L, request: Request<()>) -> (u16, String, Option<Rejection>, bool)
where
    L: Layer<tower::util::BoxCloneService<Request<()>, Response<()>, Infallible>>,
    L::Service: Service<Request<()>, Error = Infallible>,
    <L::Service as Service<Request<()>>>::Response: Parts,
{
    let called = Arc::new(AtomicBool::new(false));
    let note = called.clone();
    let inner = service_fn(move |_: Request<()>| {
        note.store(true, SeqCst);
        async { Ok(Response::new(())) }
    });
    let response = layer.layer(tower::util::BoxCloneService::new(inner)).oneshot(request).await.unwrap();
    let (status, challenge, rejection) = response.parts();
    (status, challenge, rejection, called.load(SeqCst))
}

trait Parts {
    fn parts(&self) -> (u16, String, Option<Rejection>);
}

impl<B> Parts for Response<B> {
    fn parts(&self) -> (u16, String, Option<Rejection>) {
        let challenge = self.headers().get("www-authenticate").map_or("", |field| field.to_str().unwrap());
        (self.status().as_u16(), challenge.to_owned(), self.extensions().get().copied())
    }
}

fn scopes(names: &str) -> Scopes {
    Scopes::all_of(names.split(' ')).unwrap()
}

fn later(decision: Decision) -> impl Policy {
    async_policy_fn(move |_: &Access<'_>| {
        let decision = decision.clone();
        async move {
            tokio::task::yield_now().await;
            decision
        }
    })
}

#[tokio::test]
async fn req_016_req_129_policies_and_what_clients_are_told() {
    let industry = || Claim::one_of("industry", ["C17", "C24"]).unwrap();
    let fresh = || StepUp::within(Duration::from_secs(300));
    let unknown = || policy_fn(|_: &Access<'_>| Decision::Undecided("directory"));
    let scope_a = "error=\"insufficient_scope\", error_description=\"the access token does not carry the scope that is \
                   needed\", scope=\"a\"";
    let step_up = "error=\"insufficient_user_authentication\", error_description=\"a newer or stronger authentication is \
                   needed\", max_age=\"300\"";
    let acr = "error=\"insufficient_user_authentication\", error_description=\"a newer or stronger authentication is \
               needed\", acr_values=\"phr\", max_age=\"300\"";
    let gone = "error=\"invalid_token\", error_description=\"the access token is expired, revoked, malformed or not valid \
                here\"";
    type Row = (Box<dyn Policy>, Value, u16, String);
    let row = |policy: Box<dyn Policy>, claims, status, more: &str| -> Row {
        let plain = "Bearer realm=\"test\"";
        let challenge = match (status, more) {
            (200 | 503, _) => String::new(),
            (_, "") => plain.to_owned(),
            (_, more) => format!("{plain}, {more}"),
        };
        (policy, claims, status, challenge)
    };
    let rows = vec![
        row(Box::new(SignedIn), json!({}), 200, ""),
        row(Box::new(scopes("a")), json!({"scope": "b a"}), 200, ""),
        row(Box::new(scopes("a")), json!({"scope": "aa A"}), 403, scope_a),
        row(Box::new(industry()), json!({"industry": "C24"}), 200, ""),
        row(Box::new(industry()), json!({"industry": ["A01", "C24"]}), 200, ""),
        row(Box::new(industry()), json!({"industry": "c24"}), 403, ""),
        row(Box::new(industry()), json!({"industry": "C24 "}), 403, ""),
        row(Box::new(industry()), json!({"industry": ["A01"]}), 403, ""),
        row(Box::new(industry()), json!({"industry": []}), 403, ""),
        row(Box::new(industry()), json!({"industry": [["C24"]]}), 403, ""),
        row(Box::new(industry()), json!({"industry": {"C24": "C24"}}), 403, ""),
        row(Box::new(industry()), json!({"industry": null}), 403, ""),
        row(Box::new(industry()), json!({}), 403, ""),
        row(Box::new(Claim::none_of("status", ["suspended"]).unwrap()), json!({"status": "active"}), 200, ""),
        row(Box::new(Claim::none_of("status", ["suspended"]).unwrap()), json!({"status": "suspended"}), 403, ""),
        row(Box::new(Claim::none_of("status", ["suspended"]).unwrap()), json!({"status": ["a", "suspended"]}), 403, ""),
        row(Box::new(Claim::none_of("status", ["suspended"]).unwrap()), json!({}), 403, ""),
        row(Box::new(Claim::one_of("path", [json!(["a", "b"])]).unwrap()), json!({"path": ["a", "b"]}), 200, ""),
        row(Box::new(Claim::one_of("path", [json!(["a", "b"])]).unwrap()), json!({"path": ["a"]}), 403, ""),
        row(Box::new(IssuedBy::new(ISSUER)), json!({}), 200, ""),
        row(Box::new(IssuedBy::new(ISSUER)), json!({"iss": "https://id.example/"}), 403, ""),
        row(Box::new(Claim::one_of("tier", [1, 2]).unwrap()), json!({"tier": 2}), 200, ""),
        row(Box::new(Claim::one_of("tier", [1, 2]).unwrap()), json!({"tier": "2"}), 403, ""),
        row(Box::new(Claim::one_of("staff", [true]).unwrap()), json!({"staff": true}), 200, ""),
        row(Box::new(Claim::one_of("staff", [true]).unwrap()), json!({"staff": "true"}), 403, ""),
        row(Box::new(fresh()), json!({"auth_time": NOW - 300}), 200, ""),
        row(Box::new(fresh()), json!({"auth_time": NOW - 301}), 401, step_up),
        row(Box::new(fresh()), json!({}), 401, step_up),
        row(Box::new(fresh().acr(["phr"]).unwrap()), json!({"auth_time": NOW, "acr": "phr"}), 200, ""),
        row(Box::new(fresh().acr(["phr"]).unwrap()), json!({"auth_time": NOW, "acr": ["phr"]}), 401, acr),
        row(Box::new(unknown()), json!({}), 503, ""),
        row(Box::new(later(Decision::Allow)), json!({}), 200, ""),
        row(Box::new(later(Decision::Deny(Denial::Forbidden))), json!({}), 403, ""),
        row(Box::new(later(Decision::Undecided("x"))), json!({}), 503, ""),
        // Both: what no other token would change comes first.
        row(Box::new(all((scopes("a"), industry()))), json!({"scope": "a"}), 403, ""),
        row(Box::new(all((industry(), scopes("a")))), json!({"industry": "C17"}), 403, scope_a),
        row(Box::new(all((fresh(), scopes("a")))), json!({}), 403, scope_a),
        row(Box::new(all((fresh(), scopes("a")))), json!({"scope": "a"}), 401, step_up),
        row(Box::new(all((unknown(), scopes("a")))), json!({}), 403, scope_a),
        row(Box::new(all((unknown(), scopes("a")))), json!({"scope": "a"}), 503, ""),
        row(Box::new(all((later(Decision::Allow), scopes("a")))), json!({"scope": "a"}), 200, ""),
        row(Box::new(all((later(Decision::Undecided("x")), later(Decision::from(false))))), json!({}), 403, ""),
        row(Box::new(all([scopes("a"), scopes("b")])), json!({"scope": "a b"}), 200, ""),
        row(Box::new(any((scopes("a"), industry()))), json!({"industry": "C17"}), 200, ""),
        row(Box::new(any((scopes("a"), industry()))), json!({}), 403, scope_a),
        row(Box::new(any((unknown(), scopes("a")))), json!({"scope": "a"}), 200, ""),
        row(Box::new(any((unknown(), scopes("a")))), json!({}), 503, ""),
        row(Box::new(any((later(Decision::Undecided("x")), later(Decision::Allow)))), json!({}), 200, ""),
        row(Box::new(any((later(Decision::Undecided("x")), later(Decision::from(false))))), json!({}), 503, ""),
        // What is not known is not known to be otherwise either.
        row(Box::new(not(industry())), json!({"industry": "A01"}), 200, ""),
        row(Box::new(not(industry())), json!({"industry": "C17"}), 403, ""),
        row(Box::new(not(industry())), json!({}), 200, ""),
        row(Box::new(not(later(Decision::Deny(Denial::UserInactive)))), json!({}), 401, gone),
        row(Box::new(not(any((later(Decision::Deny(Denial::UserInactive)), industry())))), json!({}), 401, gone),
        row(Box::new(not(unknown())), json!({}), 503, ""),
        row(Box::new(not(later(Decision::Undecided("x")))), json!({}), 503, ""),
        row(Box::new(not(later(Decision::from(false)))), json!({}), 200, ""),
        row(Box::new(not(not(scopes("a")))), json!({"scope": "a"}), 200, ""),
        row(Box::new(not(not(scopes("a")))), json!({}), 403, ""),
        row(Box::new(any((all((scopes("a"), fresh())), scopes("root")))), json!({"scope": "root"}), 200, ""),
    ];
    for (at, (policy, claims, status, challenge)) in rows.into_iter().enumerate() {
        let layer = AuthorizeLayer::new(policy).clock(Arc::new(ManualClock::at(UnixSeconds::new(NOW))));
        let (answered, told, rejection, called) = answer(&layer, request_of(claims.clone())).await;
        assert_eq!((answered, told), (status, challenge), "row {at}: {claims}");
        assert_eq!((rejection.is_none(), called), (status == 200, status == 200), "row {at}: {claims}");
    }
}

/// Asks `of` and counts how often.
fn asked(of: Decision) -> (impl Policy, Arc<AtomicUsize>) {
    let times = Arc::new(AtomicUsize::new(0));
    let count = times.clone();
    let policy = async_policy_fn(move |_: &Access<'_>| {
        let (count, of) = (count.clone(), of.clone());
        async move {
            count.fetch_add(1, SeqCst);
            of
        }
    });
    (policy, times)
}

#[tokio::test]
async fn nobody_is_asked_about_what_is_settled() {
    for (scope, first, calls) in [("", Decision::Allow, 0), ("a", Decision::Allow, 1), ("a", Decision::from(false), 1)]
    {
        let ((one, _), (two, times)) = (asked(first.clone()), asked(Decision::Allow));
        let _ = answer(&AuthorizeLayer::new(all((one, two, scopes("a")))), request_of(json!({"scope": scope}))).await;
        let second = usize::from(calls == 1 && first == Decision::Allow);
        assert_eq!(times.load(SeqCst), second, "all, {scope:?} {first:?}");
    }
    let (asks, times) = asked(Decision::Allow);
    assert_eq!(answer(&AuthorizeLayer::new(any((asks, scopes("a")))), request_of(json!({"scope": "a"}))).await.0, 200);
    assert_eq!(times.load(SeqCst), 0, "any");
}

/// A decision point that says beforehand that it will not answer.
#[derive(Clone)]
struct NeverReady;

impl Service<Question> for NeverReady {
    type Response = Decision;
    type Error = BoxError;
    type Future = std::future::Ready<Result<Decision, BoxError>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), BoxError>> {
        std::task::Poll::Ready(Err("not today".into()))
    }

    fn call(&mut self, _: Question) -> Self::Future {
        std::future::ready(Ok(Decision::Allow))
    }
}

#[tokio::test(start_paused = true)]
async fn req_193_a_policy_that_does_not_answer_lets_nobody_in() {
    let never = async_policy_fn(|_: &Access<'_>| std::future::pending::<Decision>());
    let started = tokio::time::Instant::now();
    let (status, challenge, rejection, called) = answer(&AuthorizeLayer::new(never), request_of(json!({}))).await;
    assert_eq!((status, challenge.as_str(), called), (503, "", false));
    assert_eq!(rejection, Some(Rejection::PolicyUndecided("no answer in time")));
    assert!((1.4..1.7).contains(&started.elapsed().as_secs_f64()), "{:?}", started.elapsed());
    let layer = AuthorizeLayer::new(async_policy_fn(|_: &Access<'_>| std::future::pending::<Decision>()));
    let started = tokio::time::Instant::now();
    assert_eq!(answer(&layer.patience(Duration::from_millis(20)), request_of(json!({}))).await.0, 503);
    assert!(started.elapsed() < Duration::from_millis(50));

    // A service behind: its errors, those of its readiness too, are nobody's permission, and are told.
    let log = Log::default();
    let _guard = log.capture();
    let fails = service_fn(|_: Question| async { Err::<Decision, BoxError>("directory on fire".into()) });
    assert_eq!(answer(&AuthorizeLayer::new(ServicePolicy::new(fails)), request_of(json!({}))).await.0, 503);
    assert!(log.text().contains("directory on fire"), "{}", log.text());
    let unready = tower::util::BoxCloneSyncService::new(NeverReady);
    assert_eq!(answer(&AuthorizeLayer::new(ServicePolicy::new(unready)), request_of(json!({}))).await.0, 503);
    assert!(log.text().contains("not today"), "{}", log.text());
    let seven =
        service_fn(|q: Question| async move { Ok::<_, BoxError>(Decision::from(q.caller.subject() == "user:7")) });
    let layer = AuthorizeLayer::new(ServicePolicy::new(seven));
    assert_eq!(answer(&layer, request_of(json!({}))).await.0, 200);
    assert_eq!(answer(&layer, request_of(json!({"sub": "user:8"}))).await.0, 403);
}

#[tokio::test]
async fn a_client_that_hangs_up_takes_its_question_along() {
    struct Dropped(Arc<AtomicBool>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.store(true, SeqCst);
        }
    }
    let dropped = Arc::new(AtomicBool::new(false));
    let note = dropped.clone();
    let policy = async_policy_fn(move |_: &Access<'_>| {
        let held = Dropped(note.clone());
        async move {
            std::future::pending::<()>().await;
            drop(held);
            true
        }
    });
    let layer = AuthorizeLayer::new(policy);
    let waits = answer(&layer, request_of(json!({})));
    assert!(tokio::time::timeout(Duration::from_millis(20), waits).await.is_err());
    assert!(dropped.load(SeqCst));
}

/// A service that can take one request at a time and says so must be asked again after a wait.
#[tokio::test]
async fn readiness_is_asked_for_again_after_a_wait() {
    let busy = Arc::new(Mutex::new(()));
    let most = Arc::new(AtomicUsize::new(0));
    let (running, seen) = (Arc::new(AtomicUsize::new(0)), most.clone());
    let inner = service_fn(move |_: Request<()>| {
        let (running, seen, busy) = (running.clone(), seen.clone(), busy.clone());
        async move {
            seen.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
            tokio::time::sleep(Duration::from_millis(2)).await;
            running.fetch_sub(1, SeqCst);
            drop(busy);
            Ok::<_, Infallible>(Response::new(()))
        }
    });
    let limited = tower::limit::ConcurrencyLimit::new(inner, 1);
    let service = AuthorizeLayer::new(later(Decision::Allow)).layer(limited);
    let calls = (0..20).map(|_| service.clone().oneshot(request_of(json!({}))));
    for response in futures::future::join_all(calls).await {
        assert_eq!(response.unwrap().status(), 200);
    }
    // And where it is kept: what was reserved for the request is not waited for by it.
    let mut service = service;
    for _ in 0..3 {
        let response = service.ready().await.unwrap().call(request_of(json!({})));
        let response = tokio::time::timeout(Duration::from_secs(10), response).await.expect("no deadlock");
        assert_eq!(response.unwrap().status(), 200);
    }
    assert_eq!(most.load(SeqCst), 1);
}

/// Whoever a layer further in finds, or does not find, takes the place of whoever was found before.
#[tokio::test]
async fn the_innermost_verifier_says_who_is_calling() {
    let (pages, reports) = (Authority::new(Algorithm::EdDsa), Authority::new(Algorithm::Es256));
    let store = Arc::new(MemoryStore::new());
    let alice = user(&*store, "alice").await;
    let outer = || {
        // As another kind of credential would: nothing of it is in the header.
        let found = json!({"sub": alice.subject(), "scope": "reports:read"});
        tower::util::MapRequestLayer::new(move |mut request: Request<()>| {
            request.extensions_mut().insert(Principal::new(Arc::new(Says(found.clone()))));
            request
        })
    };
    let users = CurrentUsers::new(store, ISSUER).layer();
    let require = || RequireScopesLayer::all_of(["reports:read"]).unwrap();
    let nested = ServiceBuilder::new()
        .layer(outer())
        .layer(users.clone())
        .layer(reports.api().authenticate_optional())
        .layer(require())
        .into_inner();
    assert_eq!(answer(&nested, Request::new(())).await.0, 401, "the header is what counts here, and there is none");
    let with = |token: String| Request::builder().header("authorization", format!("Bearer {token}")).body(()).unwrap();
    assert_eq!(answer(&nested, with(pages.token("reports:read"))).await.0, 401);
    assert_eq!(answer(&nested, with(reports.token("reports:read"))).await.0, 200);

    // The user of the one is not the user of the other.
    let seen = service_fn(|request: Request<()>| async move {
        let user = request.extensions().get::<CurrentUser>().map(|user| user.username.clone());
        Ok::<_, Infallible>(Response::new(user))
    });
    let stack = ServiceBuilder::new().layer(outer()).layer(users).layer(reports.api().authenticate_optional());
    let service = stack.service(seen);
    for request in [Request::new(()), with(reports.token(""))] {
        let response = service.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(format!("{:?}", response.into_body()).contains("None"), "alice is not calling");
    }

    // Open further out does not make open what somebody asks about further in.
    let public = ServiceBuilder::new().layer(Public).layer(reports.api().authenticate()).layer(DenyUndecidedLayer);
    assert_eq!(answer(&public.into_inner(), with(reports.token(""))).await.2, Some(Rejection::NoDecision));
    let inside = ServiceBuilder::new().layer(reports.api().authenticate_optional()).layer(Public);
    let inside = inside.layer(DenyUndecidedLayer).into_inner();
    assert_eq!(answer(&inside, Request::new(())).await.0, 200);
    assert_eq!(answer(&inside, with(reports.token(""))).await.0, 200);
}

/// Whom a proxy asks whether a request may pass goes by the status, which a client could make 200.
#[tokio::test]
async fn for_forward_auth_a_refusal_is_a_status_whatever_the_request_calls_itself() {
    let authority = Authority::new(Algorithm::EdDsa);
    let api = |without: bool| {
        let api = authority.api();
        if without { api.without_grpc().realm("gate").unwrap() } else { api.realm("gate").unwrap() }
    };
    for (without, content_type, status) in [
        (false, "application/json", 401),
        (false, "application/grpc", 200),
        (true, "application/grpc", 401),
        (true, "application/grpc-web-text+proto", 401),
    ] {
        let layer = api(without).protect(Scopes::all_of(["me"]).unwrap());
        let request = Request::builder().header("content-type", content_type).body(()).unwrap();
        assert_eq!(answer(&layer, request).await.0, status, "{without} {content_type}");
        let token = format!("Bearer {}", authority.token(""));
        let request = Request::builder().header("content-type", content_type).header("authorization", token).body(());
        let expected = if status == 401 { 403 } else { 200 };
        assert_eq!(answer(&layer, request.unwrap()).await.0, expected, "{without} {content_type}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// What a token was found to meet is remembered with it: the verdict is the same each time, whatever was asked before.
    #[test]
    fn req_016_remembered_or_not_the_verdict_is_that_of_the_sets(
        granted in proptest::collection::btree_set("[a-d]", 0..4),
        demands in proptest::collection::vec((proptest::collection::btree_set("[a-d]", 1..4), proptest::bool::ANY), 1..12),
        order in proptest::collection::vec(0_usize..64, 1..60),
    ) {
        let authority = Authority::new(Algorithm::Hs256);
        let text = granted.iter().cloned().collect::<Vec<_>>().join(" ");
        let token = authority.token(&text);
        let verifier = authority.verifier();
        let now = UnixSeconds::new(crate::support::now());
        let policies: Vec<Scopes> = demands
            .iter()
            .map(|(names, every)| if *every { Scopes::all_of(names) } else { Scopes::any_of(names) }.unwrap())
            .collect();
        for index in order {
            let at = index % demands.len();
            let mut request = Request::new(());
            request.extensions_mut().insert(verifier.verify_at(token.as_bytes(), now).unwrap().principal());
            let access = Access::of(&request, now).unwrap();
            let portcullis::authz::Outcome::Now(decision) = policies[at].decide(&access) else { panic!("scopes ask nobody") };
            let (names, every) = &demands[at];
            let met = if *every { names.is_subset(&granted) } else { !names.is_disjoint(&granted) };
            prop_assert_eq!(decision == Decision::Allow, met, "{:?} of {:?}", names, granted);
        }
    }
}

/// Whether there is such a thing shows nowhere: it is not looked for.
#[tokio::test]
async fn an_industry_that_is_not_the_callers_has_the_same_bytes_as_none() {
    let looked = Arc::new(AtomicUsize::new(0));
    let count = looked.clone();
    let handler = move |Path(code): Path<String>| {
        count.fetch_add(1, SeqCst);
        async move { if code == "C17" { Ok("paper") } else { Err(http::StatusCode::NOT_FOUND) } }
    };
    let authority = Authority::new(Algorithm::EdDsa);
    let policy = all((Scopes::all_of(["industries"]).unwrap(), Claim::one_of("industry", ["C17"]).unwrap()));
    let app = Router::new().route("/industries/{code}", get(handler)).layer(authority.api().protect(policy));
    let server = serve(app).await;
    let token = |industry: &str| {
        authority.token_with(|claims| {
            claims["scope"] = "industries".into();
            claims["industry"] = industry.into();
        })
    };
    let theirs = token("A01");
    let there = get_with(server.address, "/industries/C17", &theirs).await.without_date();
    let nowhere = get_with(server.address, "/industries/Z99", &theirs).await.without_date();
    assert_eq!((there.status, &there), (403, &nowhere));
    assert_eq!(there.header("www-authenticate"), Some("Bearer realm=\"api\""));
    assert_eq!(looked.load(SeqCst), 0);
    let own = token("C17");
    assert_eq!(get_with(server.address, "/industries/C17", &own).await.status, 200);
    assert_eq!(get_with(server.address, "/industries/Z99", &own).await.status, 404);
}

#[tokio::test]
async fn single_layers_in_a_wrong_order_say_what_is_missing() {
    let authority = Authority::new(Algorithm::EdDsa);
    let log = Log::default();
    let _guard = log.capture();
    let request = || {
        let bearer = format!("Bearer {}", authority.token("me"));
        Request::builder().header("authorization", bearer).body(()).unwrap()
    };
    let users = CurrentUsers::new(Arc::new(MemoryStore::new()), ISSUER).layer();
    let missing = |name| Some(Rejection::LayerMissing(name));
    let told = |answer: (u16, String, Option<Rejection>, bool)| {
        assert_eq!((answer.0, answer.1.as_str(), answer.3), (500, "", false));
        answer.2
    };
    let scopes = RequireScopesLayer::all_of(["me"]).unwrap();
    assert_eq!(told(answer(&scopes, request()).await), missing("JwtVerifyLayer"));
    assert_eq!(told(answer(&users, request()).await), missing("JwtVerifyLayer"));
    let verify = JwtVerifyLayer::new(authority.verifier());
    assert_eq!(told(answer(&verify, request()).await), missing("BearerExtractLayer"));
    let inverted = ServiceBuilder::new().layer(scopes.clone()).layer(authority.api().authenticate()).into_inner();
    assert_eq!(told(answer(&inverted, request()).await), missing("JwtVerifyLayer"));

    // Nobody has decided: neither about a stranger, nor about somebody who is known.
    assert_eq!(told(answer(&DenyUndecidedLayer, request()).await), Some(Rejection::NoDecision));
    let known = ServiceBuilder::new().layer(authority.api().authenticate()).layer(DenyUndecidedLayer).into_inner();
    assert_eq!(told(answer(&known, request()).await), Some(Rejection::NoDecision));
    let open =
        ServiceBuilder::new().layer(authority.api().authenticate_optional()).layer(DenyUndecidedLayer).into_inner();
    assert_eq!(told(answer(&open, Request::new(())).await), Some(Rejection::NoDecision));
    for name in ["JwtVerifyLayer is missing", "BearerExtractLayer is missing", "no layer has decided"] {
        assert!(log.text().contains(name), "{name}: {}", log.text());
    }

    let decided = ServiceBuilder::new().layer(authority.api().protect(SignedIn)).layer(DenyUndecidedLayer).into_inner();
    assert_eq!(answer(&decided, request()).await.0, 200);
    assert_eq!(answer(&decided, Request::new(())).await.0, 401);
    let demanding = ServiceBuilder::new().layer(authority.api().authenticate()).layer(scopes).layer(DenyUndecidedLayer);
    assert_eq!(answer(&demanding.into_inner(), request()).await.0, 200);
    let public = ServiceBuilder::new().layer(Public).layer(DenyUndecidedLayer).into_inner();
    assert_eq!(answer(&public, Request::new(())).await.0, 200);
}

struct Items;
impl ScopeName for Items {
    const SCOPE: &'static str = "items";
}

#[tokio::test]
async fn req_016_extractors_demand_a_scope_and_find_the_user() {
    let store = Arc::new(MemoryStore::new());
    let alice = user(&*store, "alice").await;
    let authority = Authority::new(Algorithm::EdDsa);
    let api = authority.api().realm("shop").unwrap();
    let users = CurrentUsers::new(store, ISSUER).layer();
    let items = |caller: Scoped<Items>| async move { caller.subject().to_owned() };
    let name = |user: CurrentUser| async move { user.username.clone() };
    let app = Router::new()
        .route("/items", get(items).layer(RequireScopesLayer::all_of(["me"]).unwrap()))
        .route("/name", get(name).layer(users))
        .route("/nameless", get(name))
        .layer(api.authenticate())
        .route("/bare", get(items))
        .merge(Router::new().route("/open", get(items)).layer(api.authenticate_optional()));
    let server = serve(app).await;
    let token = |scope: &str| {
        authority.token_with(|claims| {
            claims["scope"] = scope.into();
            claims["sub"] = alice.subject().into();
        })
    };
    for (path, scope, status, more) in [
        ("/items", "me items", 200, None),
        ("/items", "me", 403, Some("scope=\"items me\"")),
        ("/items", "items", 403, Some("scope=\"me\"")),
        ("/bare", "me items", 500, None),
        ("/open", "me items", 200, None),
        ("/open", "me", 403, Some("scope=\"items\"")),
        ("/name", "", 200, None),
        ("/nameless", "", 500, None),
    ] {
        let reply = get_with(server.address, path, &token(scope)).await;
        assert_eq!(reply.status, status, "{path} {scope}");
        let challenge = reply.header("www-authenticate");
        assert_eq!(challenge.is_some(), more.is_some(), "{path} {scope}: {challenge:?}");
        if let Some(more) = more {
            assert!(challenge.unwrap().starts_with("Bearer realm=\"shop\""), "{challenge:?}");
            assert!(challenge.unwrap().ends_with(more), "{path} {scope}: {challenge:?}");
        }
    }
    assert_eq!(get_with(server.address, "/name", &token("")).await.text(), "alice");
    let stranger = crate::support::get(server.address, "/open", &[]).await;
    assert_eq!((stranger.status, stranger.header("www-authenticate")), (401, Some("Bearer realm=\"shop\"")));
}
