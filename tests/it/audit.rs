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
    audit::{AuditLayer, AuditSink, AuditTrail, Event, Kind, SinkError},
    authz::RequireScopesLayer,
    client_ip::ClientIp,
    jwt::Algorithm,
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

#[tokio::test]
async fn one_in_so_many_is_told() {
    let authority = Authority::new(Algorithm::EdDsa);
    let log = EventLog::new();
    let trail = AuditTrail::builder().sink(log.clone()).admitted_one_in(10).start().unwrap();
    let stack = ServiceBuilder::new().layer(AuditLayer::new(trail.clone())).layer(authority.api().authenticate());
    let (mut stack, token) = (stack.service(service_fn(empty)), authority.token("items"));
    for _ in 0..100 {
        stack.call(request(Some(&format!("Bearer {token}")))).await.unwrap();
    }
    assert_eq!(log.kinds(&trail).await, [Kind::RequestAdmitted; 10]);
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
