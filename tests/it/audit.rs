//! What is told to sinks: of every decision, to the request that it is about, and never in a request's way.

use std::{
    convert::Infallible,
    future::{Future, pending, ready},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use allocation_counter::measure;
use futures::{FutureExt as _, future::BoxFuture};
use http::{HeaderValue, Request, Response};
use portcullis::{
    AuthorizationServer,
    audit::{AuditLayer, AuditSink, AuditTrail, Event, Kind, SinkError},
    authz::{AuthorizeLayer, Decision, Question, RequireScopesLayer, ServicePolicy},
    client_ip::ClientIp,
    jwt::{Algorithm, SigningKey},
    testing::EventLog,
};
use tower::{Layer as _, Service, ServiceBuilder, service_fn};

use crate::support::Authority;

async fn empty(_: Request<()>) -> Result<Response<()>, Infallible> {
    Ok(Response::new(()))
}

fn request(authorization: Option<&str>) -> Request<()> {
    // As servers have it: part of a buffer that is shared.
    let uri = bytes::Bytes::from("/items?access=secret-in-query".to_owned());
    let mut request = Request::get(http::Uri::from_maybe_shared(uri.clone()).unwrap()).body(()).unwrap();
    if let Some(text) = authorization {
        let field = HeaderValue::from_maybe_shared(bytes::Bytes::from(text.to_owned())).unwrap();
        request.headers_mut().insert("authorization", field);
    }
    request
}

#[tokio::test]
async fn req_194_missing_bad_denied_and_admitted_are_told_apart_with_who_what_where_and_when() {
    let authority = Authority::new(Algorithm::EdDsa);
    let log = EventLog::new();
    let trail = AuditTrail::builder().sink(log.clone()).admitted_one_in(1).start().unwrap();
    let mut stack = ServiceBuilder::new()
        .layer(AuditLayer::new(trail.clone()))
        .layer(authority.api().authenticate())
        .layer(RequireScopesLayer::all_of(["items"]).unwrap())
        .service(service_fn(empty));
    let (good, poor) = (authority.token("items"), authority.token("me"));
    let mut forged = good.clone();
    forged.replace_range(good.len() - 8.., "AAAAAAAA");
    let bearer = |token: &str| request(Some(&format!("Bearer {token}")));
    let mut named = bearer(&good);
    named.headers_mut().insert("x-request-id", "req-7".parse().unwrap());
    named.extensions_mut().insert(ClientIp([192, 0, 2, 7].into()));
    let mut liar = request(None);
    liar.headers_mut().insert("x-request-id", "a b\u{7f}".parse().unwrap_or(HeaderValue::from_static("a b")));
    let before = std::time::SystemTime::now();
    for request in [request(None), bearer(&forged), bearer(&poor), named, liar] {
        stack.call(request).await.unwrap();
    }
    let events = log.events(&trail).await;
    let told: Vec<_> = events
        .iter()
        .map(|event| (event.kind, event.reason, event.status, event.who.subject.as_deref(), event.scope.as_deref()))
        .collect();
    assert_eq!(
        told,
        [
            (Kind::CredentialMissing, Some("no_credential"), Some(401), None, None),
            (Kind::CredentialInvalid, Some("bad_signature"), Some(401), None, None),
            (Kind::AuthorizationDenied, Some("insufficient_scope"), Some(403), Some("user:7"), Some("items")),
            (Kind::RequestAdmitted, None, Some(200), Some("user:7"), None),
            (Kind::CredentialMissing, Some("no_credential"), Some(401), None, None),
        ]
    );
    for event in &events {
        let request = event.request.as_ref().unwrap();
        assert_eq!((&*request.method, &*request.path), ("GET", "/items"), "without the query");
        assert!(event.time >= before);
    }
    let [_, _, _, admitted, liar] = &events[..] else { panic!("{events:?}") };
    assert_eq!(&*admitted.request.as_ref().unwrap().id, "req-7");
    assert_eq!(admitted.request.as_ref().unwrap().client_ip, Some([192, 0, 2, 7].into()));
    assert!(admitted.who.token_id.is_some() && admitted.who.issuer.is_some());
    assert_eq!(liar.request.as_ref().unwrap().id.len(), 32, "an id that is none is replaced");
}

/// Allocations of one call; making the request is not counted.
fn allocations<S>(service: &mut S, token: &str) -> u64
where
    S: Service<Request<()>, Error = Infallible>,
{
    let request = request(Some(&format!("Bearer {token}")));
    measure(|| assert!(service.call(request).now_or_never().unwrap().is_ok())).count_total
}

#[tokio::test]
async fn a_request_that_is_not_sampled_costs_no_allocation_more() {
    let authority = Authority::new(Algorithm::EdDsa);
    let (api, token) = (authority.api(), authority.token("items"));
    let inside = || {
        let stack = ServiceBuilder::new().layer(api.authenticate());
        stack.layer(RequireScopesLayer::all_of(["items"]).unwrap()).service(service_fn(empty))
    };
    let trail = AuditTrail::builder().sink(EventLog::new()).admitted_one_in(0).start().unwrap();
    let (mut bare, mut audited) = (inside(), AuditLayer::new(trail).layer(inside()));
    for _ in 0..2 {
        allocations(&mut bare, &token);
        allocations(&mut audited, &token);
    }
    assert_eq!(allocations(&mut bare, &token), allocations(&mut audited, &token));
    let all = AuditTrail::builder().sink(EventLog::new()).admitted_one_in(1).start().unwrap();
    let mut sampled = AuditLayer::new(all).layer(inside());
    allocations(&mut sampled, &token);
    assert!(allocations(&mut sampled, &token) > allocations(&mut bare, &token), "the measure can see one");
}

/// Whatever the rhythm of the requests; and where each passes two layers, both see as many.
#[tokio::test]
async fn one_in_so_many_is_told() {
    const REQUESTS: usize = 10_000;
    let authority = Authority::new(Algorithm::EdDsa);
    let logs = [EventLog::new(), EventLog::new(), EventLog::new()];
    let trails =
        logs.each_ref().map(|log| AuditTrail::builder().sink(log.clone()).admitted_one_in(10).start().unwrap());
    let gate = || ServiceBuilder::new().layer(authority.api().authenticate()).service(service_fn(empty));
    let mut outside = AuditLayer::new(trails[0].clone()).layer(gate());
    let mut nested = AuditLayer::new(trails[1].clone()).layer(AuditLayer::new(trails[2].clone()).layer(gate()));
    let token = authority.token("items");
    for _ in 0..REQUESTS {
        let request = || request(Some(&format!("Bearer {token}")));
        outside.call(request()).await.unwrap();
        nested.call(request()).await.unwrap();
    }
    for (name, log, trail) in [("alone", 0, 0), ("inside", 2, 2)] {
        let told = logs[log].kinds(&trails[trail]).await;
        assert!(told.iter().all(|kind| *kind == Kind::RequestAdmitted));
        // Six times what chance makes of it.
        assert!((820..=1180).contains(&told.len()), "{name}: {}", told.len());
    }
}

/// A caller who is known is not let in yet while a policy is asked; who hangs up on that never was.
#[tokio::test]
async fn who_goes_away_while_a_gate_asks_was_not_let_through() {
    let authority = Authority::new(Algorithm::EdDsa);
    let log = EventLog::new();
    let trail = AuditTrail::builder().sink(log.clone()).admitted_one_in(1).start().unwrap();
    let answer = Arc::new(AtomicBool::new(false));
    let decided = Arc::clone(&answer);
    let policy = ServicePolicy::new(service_fn(move |_: Question| {
        let decided = decided.load(Ordering::SeqCst);
        async move { if decided { Ok::<_, Infallible>(Decision::Allow) } else { pending().await } }
    }));
    let mut stack = ServiceBuilder::new()
        .layer(AuditLayer::new(trail.clone()))
        .layer(authority.api().authenticate())
        .layer(AuthorizeLayer::new(policy))
        .service(service_fn(empty));
    let token = authority.token("items");
    let mut call = || stack.call(request(Some(&format!("Bearer {token}"))));
    assert!(call().now_or_never().is_none(), "it is being asked");
    assert_eq!(log.kinds(&trail).await, []);
    answer.store(true, Ordering::SeqCst);
    call().await.unwrap();
    assert_eq!(log.kinds(&trail).await, [Kind::RequestAdmitted]);
}

/// Answers in place of what takes longer than one look, and holds on to that until it is dropped itself.
#[derive(Clone)]
struct Impatient<S>(S);

impl<S, R> Service<R> for Impatient<S>
where
    S: Service<R, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<()>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, task: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
        self.0.poll_ready(task)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let mut inner = Box::pin(self.0.call(request));
        let mut late = Response::new(());
        *late.status_mut() = http::StatusCode::REQUEST_TIMEOUT;
        let mut late = Some(late);
        // A future that ends and is not dropped by that, as those of tower and tower-http are.
        futures::future::poll_fn(move |task| {
            assert!(inner.as_mut().poll(task).is_pending(), "a login takes longer than one look");
            std::task::Poll::Ready(Ok(late.take().unwrap()))
        })
        .boxed()
    }
}

#[tokio::test]
async fn a_login_that_a_layer_in_between_gave_up_is_told_of_its_request() {
    let key = SigningKey::generate(Algorithm::EdDsa).unwrap();
    let handle = AuthorizationServer::builder("https://id.example", "orders", key)
        .first_party_login(crate::login::users().await, crate::login::hasher())
        .build()
        .unwrap();
    let log = EventLog::new();
    let trail = AuditTrail::builder().sink(log.clone()).start().unwrap();
    let mut stack = AuditLayer::new(trail.clone()).layer(Impatient(handle.token_endpoint()));
    let form = crate::login::form("alice", "a guess", "");
    let request = Request::post("/token")
        .header("x-request-id", "req-9")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(http_body_util::Full::<bytes::Bytes>::from(form));
    let mut request = request.unwrap();
    request.extensions_mut().insert(ClientIp([192, 0, 2, 9].into()));
    let mut call = stack.call(request);
    let answer = (&mut call).await.unwrap();
    assert_eq!(answer.status(), 408);
    drop(call);
    let events = log.events(&trail).await;
    let [failed] = &events[..] else { panic!("{events:#?}") };
    assert_eq!((failed.kind, failed.reason), (Kind::LoginFailed, Some("client went away")));
    let facts = failed.request.as_ref().expect("whose it is");
    assert_eq!((&*facts.id, facts.client_ip, failed.status), ("req-9", Some([192, 0, 2, 9].into()), Some(408)));
}

/// To wake a thread for each sample would cost more than all else that is done for requests that are let through.
#[tokio::test(start_paused = true)]
async fn samples_wait_for_others_for_a_second_and_whatever_else_is_told_for_no_longer_than_before() {
    let authority = Authority::new(Algorithm::EdDsa);
    let sink = Sink::default();
    let trail = AuditTrail::builder().sink(sink.clone()).admitted_one_in(1).start().unwrap();
    let stack = ServiceBuilder::new().layer(AuditLayer::new(trail)).layer(authority.api().authenticate());
    let (mut stack, token) = (stack.service(service_fn(empty)), authority.token("items"));
    let mut call = async |token: Option<&str>| {
        let token = token.map(|token| format!("Bearer {token}"));
        stack.call(request(token.as_deref())).await.unwrap();
    };
    let wait = async |milliseconds| tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    call(Some(&token)).await;
    wait(900).await;
    call(Some(&token)).await;
    assert!(sink.written().is_empty());
    wait(150).await;
    assert_eq!((sink.written().len(), sink.0.calls.load(Ordering::SeqCst)), (2, 1), "a second after the first");

    call(Some(&token)).await;
    wait(500).await;
    call(None).await;
    wait(40).await;
    call(None).await;
    assert_eq!(sink.written().len(), 2);
    wait(15).await;
    let kinds: Vec<_> = sink.written()[2..].iter().map(|event| event.kind).collect();
    assert_eq!(
        kinds,
        [Kind::RequestAdmitted, Kind::CredentialMissing, Kind::CredentialMissing],
        "50 ms after the refusal"
    );
}

/// Does what the test says.
#[derive(Clone, Default)]
struct Sink(Arc<State>);

#[derive(Default)]
struct State {
    stuck: AtomicBool,
    failing: Mutex<Option<SinkError>>,
    panics: AtomicBool,
    calls: AtomicUsize,
    written: Mutex<Vec<Arc<Event>>>,
}

impl Sink {
    fn written(&self) -> Vec<Arc<Event>> {
        self.0.written.lock().unwrap().clone()
    }
}

impl AuditSink for Sink {
    fn name(&self) -> &'static str {
        "test"
    }

    fn write<'a>(&'a self, events: &'a [Arc<Event>]) -> BoxFuture<'a, Result<(), SinkError>> {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        if self.0.stuck.load(Ordering::SeqCst) {
            return pending().boxed();
        }
        assert!(!self.0.panics.swap(false, Ordering::SeqCst), "as it was told");
        if let Some(error) = self.0.failing.lock().unwrap().clone() {
            return ready(Err(error)).boxed();
        }
        self.0.written.lock().unwrap().extend_from_slice(events);
        ready(Ok(())).boxed()
    }
}

pub fn refusing(trail: &AuditTrail) -> impl Service<Request<()>, Error = Infallible, Future: Future> + use<> {
    let api = Authority::new(Algorithm::EdDsa).api();
    ServiceBuilder::new().layer(AuditLayer::new(trail.clone())).layer(api.authenticate()).service(service_fn(empty))
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_hangs_holds_nobody_up_and_is_told_what_it_missed() {
    let (hung, healthy) = (Sink::default(), EventLog::new());
    hung.0.stuck.store(true, Ordering::SeqCst);
    let trail = AuditTrail::builder().sink(hung.clone()).sink(healthy.clone()).queue(100).start().unwrap();
    let mut stack = refusing(&trail);
    // The worker takes what there is, hands it over when no more comes, and never comes back with it.
    stack.call(request(None)).now_or_never().unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(60)).await;
    for round in 0..5 {
        for _ in 0..60 {
            assert!(stack.call(request(None)).now_or_never().is_some(), "{round}: nobody waits");
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let lost: Vec<_> = trail.dropped().collect();
    assert_eq!(
        lost,
        [("test", 225), ("event_log", 0)],
        "300 told, room for 100, a quarter of which is not for refusals"
    );
    assert!(!trail.flush(Duration::from_secs(1)).await);
    hung.0.stuck.store(false, Ordering::SeqCst);
    assert!(trail.flush(Duration::from_secs(60)).await);
    let written = hung.written();
    let dropped: Vec<_> = written.iter().filter(|event| event.kind == Kind::EventsDropped).collect();
    assert_eq!((written.len(), dropped.len(), dropped[0].count), (77, 1, Some(225)));
    assert_eq!(written.iter().map(|event| event.id).collect::<std::collections::HashSet<_>>().len(), 77);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_fails_gets_its_events_again_and_one_that_refuses_or_panics_does_not() {
    let sink = Sink::default();
    let trail = AuditTrail::builder().sink(sink.clone()).start().unwrap();
    let mut stack = refusing(&trail);
    *sink.0.failing.lock().unwrap() = Some(SinkError::unavailable("disk full"));
    stack.call(request(None)).await.unwrap();
    assert!(!trail.flush(Duration::from_secs(60)).await);
    let calls = sink.0.calls.load(Ordering::SeqCst);
    assert!((10..30).contains(&calls), "{calls} calls in a minute");
    *sink.0.failing.lock().unwrap() = None;
    assert!(trail.flush(Duration::from_secs(10)).await);
    assert_eq!(sink.written().len(), 1);

    *sink.0.failing.lock().unwrap() = Some(SinkError::refused("too odd"));
    stack.call(request(None)).await.unwrap();
    assert!(trail.flush(Duration::from_secs(1)).await);
    *sink.0.failing.lock().unwrap() = None;
    sink.0.panics.store(true, Ordering::SeqCst);
    stack.call(request(None)).await.unwrap();
    assert!(trail.flush(Duration::from_secs(1)).await);
    assert_eq!(trail.dropped().collect::<Vec<_>>(), [("test", 2)]);
    stack.call(request(None)).await.unwrap();
    assert!(trail.flush(Duration::from_secs(1)).await);
    let kinds: Vec<_> = sink.written().iter().map(|event| (event.kind, event.count)).collect();
    let missing = (Kind::CredentialMissing, None);
    assert_eq!(kinds, [missing, missing, (Kind::EventsDropped, Some(2))]);
}

#[tokio::test]
async fn requests_of_one_thread_are_not_taken_for_each_other() {
    // Two requests are under way at once, each waiting within what decides; a third is outside of any trail.
    let log = EventLog::new();
    let trail = AuditTrail::builder().sink(log.clone()).start().unwrap();
    let api = Authority::new(Algorithm::EdDsa).api();
    let slow = tower::layer::layer_fn(|inner: _| {
        let inner = Mutex::new(inner);
        service_fn(move |request: Request<()>| {
            let answer = Service::call(&mut *inner.lock().unwrap(), request);
            async move {
                tokio::task::yield_now().await;
                let answer: Result<Response<_>, Infallible> = answer.await;
                tokio::task::yield_now().await;
                answer
            }
        })
    });
    let stack = ServiceBuilder::new().layer(AuditLayer::new(trail.clone())).layer(slow).layer(api.authenticate());
    let mut audited = stack.service(service_fn(empty));
    let mut other = api.authenticate().layer(service_fn(empty));
    let mut path = |path: &str| {
        let mut request = request(None);
        *request.uri_mut() = path.parse().unwrap();
        audited.call(request)
    };
    let (one, two) = (path("/one"), path("/two"));
    let (one, two, three) = tokio::join!(one, two, other.call(request(None)));
    assert!(one.is_ok() && two.is_ok() && three.is_ok());
    let events = log.events(&trail).await;
    let mut paths: Vec<&str> = events.iter().map(|event| &*event.request.as_ref().unwrap().path).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["/one", "/two"]);
}
