//! The queue between those who decide and those who write it down, attacked; and requests that nobody waits for.
#![expect(clippy::print_stdout, reason = "figures, for whoever runs them")]

use std::{
    collections::HashSet,
    convert::Infallible,
    env, fs,
    future::pending,
    net::SocketAddr,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Router, body::Body, extract::ConnectInfo};
use futures::{FutureExt as _, future::BoxFuture};
use http::{Request, Response};
use portcullis::{
    AuthorizationServer,
    audit::{AuditLayer, AuditSink, AuditTrail, Event, InstalledAlready, Kind, SinkError},
    jwt::{Algorithm, SigningKey},
    session::SessionPolicy,
    store::{MemoryStore, SessionStore},
    testing::EventLog,
};
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    runtime::{Builder, Runtime},
    time::sleep,
};
use tower::{Layer as _, Service, ServiceBuilder, ServiceExt as _, service_fn};

use crate::{
    audit::refusing,
    login::{PASSWORD, form, hasher, users},
    support::{Authority, Server, get_with, post, post_token, serve},
};

/// Takes its time for each batch, and counts.
#[derive(Clone, Default)]
struct Slow {
    pause: Duration,
    written: Arc<AtomicUsize>,
    /// What it was told that it has missed.
    missed: Arc<AtomicUsize>,
}

impl AuditSink for Slow {
    fn name(&self) -> &'static str {
        "slow"
    }

    fn write<'a>(&'a self, events: &'a [Arc<Event>]) -> BoxFuture<'a, Result<(), SinkError>> {
        async move {
            sleep(self.pause).await;
            for event in events {
                match event.kind {
                    Kind::EventsDropped => {
                        self.missed.fetch_add(usize::try_from(event.count.unwrap()).unwrap(), Ordering::SeqCst);
                    }
                    _ => drop(self.written.fetch_add(1, Ordering::SeqCst)),
                }
            }
            Ok(())
        }
        .boxed()
    }
}

/// Whether this is a process with one test in it, for what belongs to a process; else that is started, and must end well.
fn alone(test: &str) -> bool {
    const ALONE: &str = "PORTCULLIS_TEST_ALONE";
    if env::var_os(ALONE).is_some_and(|name| name == test) {
        return true;
    }
    let mut process = Command::new(env::current_exe().unwrap());
    process.args(["--exact", &format!("audit_queue::{test}"), "--nocapture"]).env(ALONE, test).stdin(Stdio::null());
    let output = process.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    println!("{said}");
    false
}

fn request(path: &str) -> Request<()> {
    Request::get(path).body(()).unwrap()
}

/// Kilobytes that this process has in memory.
fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.trim().parse().ok())
}

/// Half, and 99 of 100, take less.
fn times(mut each: Vec<Duration>) -> (Duration, Duration) {
    each.sort_unstable();
    (each[each.len() / 2], each[each.len() * 99 / 100])
}

/// A hundred thousand refusals in one burst, to a sink that takes 250 ms for 256 of them.
#[test]
fn a_burst_of_refusals_is_answered_at_once_and_what_is_lost_is_counted() {
    const BURST: usize = 100_000;
    if !alone("a_burst_of_refusals_is_answered_at_once_and_what_is_lost_is_counted") {
        return;
    }
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let sink = Slow { pause: Duration::from_millis(250), ..Slow::default() };
    let (quiet, loud) = {
        let _guard = runtime.enter();
        (AuditTrail::builder().start().unwrap(), AuditTrail::builder().sink(sink.clone()).start().unwrap())
    };
    let (mut without, mut with) = (refusing(&quiet), refusing(&loud));
    let time = |stack: &mut dyn FnMut()| {
        let begun = Instant::now();
        stack();
        begun.elapsed()
    };
    let mut measured = [Vec::new(), Vec::new()];
    let before = resident();
    // In turns, so that whatever else this machine does slows both.
    for _ in 0..BURST {
        measured[0].push(time(&mut || drop(without.call(request("/items")).now_or_never().unwrap())));
        measured[1].push(time(&mut || drop(with.call(request("/items")).now_or_never().unwrap())));
    }
    let grown = resident().zip(before).map(|(after, before)| after.saturating_sub(before));
    let lost = usize::try_from(loud.dropped().next().unwrap().1).unwrap();
    assert!(lost > BURST / 2, "{lost}: the sink is too slow for this");
    assert!(runtime.block_on(loud.flush(Duration::from_secs(60))));
    assert_eq!(usize::try_from(loud.dropped().next().unwrap().1).unwrap(), lost);
    assert_eq!(sink.written.load(Ordering::SeqCst) + lost, BURST, "each is written or counted");
    assert_eq!(sink.missed.load(Ordering::SeqCst), lost, "and the sink knows how many");
    let [(half_without, most_without), (half, most)] = measured.map(times);
    println!("p50 {half_without:?} -> {half:?}, p99 {most_without:?} -> {most:?}, lost {lost}, grown {grown:?} kB");
    // Not optimised, and two cores that others use as well: a wait would take 250 ms.
    assert!(most < most_without * 4 + Duration::from_micros(100), "{most_without:?} {most:?}");
    // 8,192 events, and 4 MB of figures.
    assert!(grown.is_none_or(|kilobytes| kilobytes < 24 << 10), "{grown:?} kB");
}

#[test]
fn what_is_queued_when_the_runtime_ends_is_counted_and_nobody_waits_for_it() {
    let apart = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let sink = Slow { pause: Duration::from_secs(3600), ..Slow::default() };
    let trail = {
        let _guard = apart.enter();
        AuditTrail::builder().sink(sink.clone()).sink(EventLog::new()).start().unwrap()
    };
    let mut stack = refusing(&trail);
    for _ in 0..300 {
        let _ = stack.call(request("/")).now_or_never().unwrap();
    }
    let own = Builder::new_current_thread().enable_all().build().unwrap();
    assert!(!own.block_on(trail.flush(Duration::from_millis(200))), "it waits, from another runtime, and not for long");
    apart.shutdown_timeout(Duration::from_secs(10));
    assert_eq!(trail.dropped().collect::<Vec<_>>(), [("slow", 300), ("event_log", 0)], "in hand and in the queue");
    let begun = Instant::now();
    assert!(!own.block_on(trail.flush(Duration::from_secs(60))));
    assert!(begun.elapsed() < Duration::from_secs(5), "there is nothing to wait for");
    assert!(stack.call(request("/")).now_or_never().is_some(), "requests go on");
    assert_eq!(trail.dropped().collect::<Vec<_>>(), [("slow", 301), ("event_log", 1)]);
    assert_eq!(sink.written.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn after_the_last_handle_is_gone_what_is_queued_is_written() {
    let sink = Slow { pause: Duration::from_millis(1), ..Slow::default() };
    let trail = AuditTrail::builder().sink(sink.clone()).queue(100).start().unwrap();
    let mut stack = refusing(&trail);
    for _ in 0..150 {
        let _ = stack.call(request("/")).now_or_never().unwrap();
    }
    drop((trail, stack));
    let all = || (sink.written.load(Ordering::SeqCst), sink.missed.load(Ordering::SeqCst));
    let deadline = Instant::now() + Duration::from_secs(10);
    // A quarter of the room is not for refusals.
    while all() != (75, 75) {
        assert!(Instant::now() < deadline, "{:?}", all());
        sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn requests_of_several_runtimes_are_told_to_one_trail() {
    let runtimes: Vec<Runtime> =
        (0..3).map(|_| Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()).collect();
    let log = EventLog::new();
    let trail = {
        let _guard = runtimes[0].enter();
        AuditTrail::builder().sink(log.clone()).start().unwrap()
    };
    let works: Vec<_> = (0..)
        .zip(&runtimes)
        .map(|(at, runtime)| {
            let mut stack = refusing(&trail);
            runtime.spawn(async move {
                for n in 0..100 {
                    let _ = stack.call(request(&format!("/{at}/{n}"))).now_or_never().unwrap();
                }
            })
        })
        .collect();
    let events = runtimes[1].block_on(async {
        for work in works {
            work.await.unwrap();
        }
        log.events(&trail).await
    });
    let paths: HashSet<_> = events.iter().map(|event| event.request.as_ref().unwrap().path.clone()).collect();
    assert_eq!((events.len(), paths.len()), (300, 300));
}

#[test]
fn of_two_trails_the_first_is_installed() {
    if !alone("of_two_trails_the_first_is_installed") {
        return;
    }
    let (log, other) = (EventLog::new(), EventLog::new());
    Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let trail = AuditTrail::builder().sink(log.clone()).start().unwrap();
        let second = AuditTrail::builder().sink(other.clone()).start().unwrap();
        trail.install().unwrap();
        for again in [&trail, &second] {
            assert_eq!(again.install(), Err(InstalledAlready));
        }
        let mut bare = Authority::new(Algorithm::EdDsa).api().authenticate().layer(service_fn(empty));
        bare.call(request("/bare")).await.unwrap();
        drop(refusing(&second).call(request("/own")).now_or_never().unwrap());
        let told = log.events(&trail).await;
        let refusals = told.iter().filter(|event| event.kind == Kind::CredentialMissing).count();
        assert_eq!(refusals, 1, "a request's own trail has the other");
        assert!(told.iter().any(|event| event.kind == Kind::ConfigurationLoaded), "which belongs to no request");
        assert!(told.iter().all(|event| event.request.is_none()));
        assert_eq!(other.kinds(&second).await, [Kind::CredentialMissing]);
    });
}

async fn empty(_: Request<()>) -> Result<Response<()>, Infallible> {
    Ok(Response::new(()))
}

/// A server with sessions whose every event is kept.
struct Told {
    app: Router,
    server: Server,
    trail: AuditTrail,
    log: EventLog,
    /// Requests that have come to a handler that takes its time.
    begun: Arc<AtomicUsize>,
}

impl Told {
    async fn start() -> Self {
        let log = EventLog::new();
        let trail = AuditTrail::builder().sink(log.clone()).admitted_one_in(1).start().unwrap();
        let key = SigningKey::generate(Algorithm::EdDsa).unwrap();
        let sessions: Arc<dyn SessionStore> = Arc::new(MemoryStore::new());
        let server = AuthorizationServer::builder("https://id.example", "orders", key)
            .first_party_login(users().await, hasher())
            .sessions(sessions, SessionPolicy::default())
            .build()
            .unwrap();
        let api = server.resource_server();
        let begun = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&begun);
        let slow = axum::routing::get(move || {
            counting.fetch_add(1, Ordering::SeqCst);
            pending::<()>()
        });
        let app = Router::new().route("/slow", slow).layer(api.authenticate()).merge(server.routes());
        let app = app.layer(AuditLayer::new(trail.clone()));
        Self { server: serve(app.clone()).await, app, trail, log, begun }
    }

    /// A request with this id, from an address as the server would know it.
    fn request(line: &str, id: &str, (name, value): (&str, &str), body: &str) -> Request<Body> {
        let (method, path) = line.split_once(' ').unwrap();
        let request = Request::builder().method(method).uri(path).header("x-request-id", id).header(name, value);
        let request = request.extension(ConnectInfo(SocketAddr::from(([192, 0, 2, 7], 1))));
        request.body(Body::from(body.to_owned())).unwrap()
    }

    /// As a server does whose client goes away: the request is begun, and dropped while it waits for something. On a runtime with
    /// one thread, where what it waits for cannot be done meanwhile.
    fn begin_and_drop(&self, request: Request<Body>) {
        let mut answer = Box::pin(self.app.clone().oneshot(request));
        if let Some(answer) = answer.as_mut().now_or_never() {
            panic!("it waits for nothing: {answer:?}");
        }
    }

    /// The events of the request with this id, once one is of this kind.
    async fn of(&self, id: &str, kind: Kind) -> Vec<Arc<Event>> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let mut events = self.log.events(&self.trail).await;
            events.retain(|event| event.request.as_ref().is_some_and(|request| &*request.id == id));
            if events.iter().any(|event| event.kind == kind) || Instant::now() > deadline {
                return events;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// The events of a request that was not waited for, with its facts.
fn told_of(events: &[Arc<Event>], kind: Kind) -> &Event {
    let event = events.iter().find(|event| event.kind == kind).unwrap_or_else(|| panic!("{events:?}"));
    assert!(event.request.as_ref().unwrap().client_ip.is_some());
    event
}

#[tokio::test]
async fn req_191_what_a_client_does_not_wait_for_is_told_with_its_request() {
    let told = Told::start().await;
    let address = told.server.address;
    let alice = Some("user:id-alice");

    // A guess is given up while it is hashed, or waits for that.
    let guess = Told::request("POST /token", "guess", FORM, &form("alice", "a wrong one", ""));
    told.begin_and_drop(guess);
    let events = told.of("guess", Kind::LoginFailed).await;
    assert_eq!(told_of(&events, Kind::LoginFailed).reason, Some("client went away"));
    assert_eq!(events.len(), 1, "{events:?}");

    let login = post_token(address, &form("alice", PASSWORD, "")).await.json();
    let text = |name: &str| login[name].as_str().unwrap().to_owned();

    // Let through, and gone before there is an answer: over a socket, and told without a status.
    let mut stream = TcpStream::connect(address).await.unwrap();
    let (token, line) = (text("access_token"), "GET /slow HTTP/1.1\r\nhost: localhost\r\nx-request-id: slow\r\n");
    stream.write_all(format!("{line}authorization: Bearer {token}\r\n\r\n").as_bytes()).await.unwrap();
    while told.begun.load(Ordering::SeqCst) == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    drop(stream);
    let events = told.of("slow", Kind::RequestAdmitted).await;
    let admitted = told_of(&events, Kind::RequestAdmitted);
    assert_eq!((admitted.status, admitted.who.subject.as_deref()), (None, alice));

    // A thief's replay ends the session, whether or not they wait.
    let turned = format!("refresh_token={}", text("refresh_token"));
    let next = post(address, "/token/refresh", &turned).await.json();
    told.begin_and_drop(Told::request("POST /token/refresh", "replay", FORM, &turned));
    let events = told.of("replay", Kind::RefreshReused).await;
    assert_eq!(told_of(&events, Kind::RefreshReused).who.subject.as_deref(), alice);
    let next = format!("refresh_token={}", next["refresh_token"].as_str().unwrap());
    assert_eq!(post(address, "/token/refresh", &next).await.status, 400);

    // So is a turn that nobody waits for.
    let login = post_token(address, &form("alice", PASSWORD, "")).await.json();
    let body = format!("refresh_token={}", login["refresh_token"].as_str().unwrap());
    told.begin_and_drop(Told::request("POST /token/refresh", "turn", FORM, &body));
    let events = told.of("turn", Kind::SessionRefreshed).await;
    assert_eq!(told_of(&events, Kind::SessionRefreshed).who.subject.as_deref(), alice);

    // A logout is done to its end.
    let login = post_token(address, &form("alice", PASSWORD, "")).await.json();
    let token = login["access_token"].as_str().unwrap();
    let bearer = format!("Bearer {token}");
    told.begin_and_drop(Told::request("POST /logout", "logout", ("authorization", &bearer), ""));
    let events = told.of("logout", Kind::SessionsEnded).await;
    assert_eq!(told_of(&events, Kind::SessionsEnded).who.subject.as_deref(), alice);
    assert_eq!(get_with(address, "/sessions", token).await.status, 401);
}

#[tokio::test]
async fn what_is_told_as_a_request_is_dropped_is_told_of_it() {
    struct Refuses<S: Service<Request<()>>>(S);
    impl<S: Service<Request<()>>> Drop for Refuses<S> {
        fn drop(&mut self) {
            drop(self.0.call(request("/inner")).now_or_never());
        }
    }
    let log = EventLog::new();
    let trail = AuditTrail::builder().sink(log.clone()).start().unwrap();
    let api = Authority::new(Algorithm::EdDsa).api();
    let inner = service_fn(move |_: Request<()>| {
        let guard = Refuses(api.authenticate().layer(service_fn(empty)));
        async move {
            std::future::pending::<()>().await;
            drop(guard);
            Ok::<_, Infallible>(Response::new(()))
        }
    });
    let mut stack = ServiceBuilder::new().layer(AuditLayer::new(trail.clone())).service(inner);
    drop(stack.call(request("/outer")));
    let mut waiting = Box::pin(stack.call(request("/outer")));
    assert!(waiting.as_mut().now_or_never().is_none());
    drop(waiting);
    let told = log.events(&trail).await;
    let paths: Vec<_> = told.iter().map(|event| &*event.request.as_ref().unwrap().path).collect();
    assert_eq!(paths, ["/outer", "/outer"]);
}
