//! Limits on logins: the layer on mocks, the endpoint over sockets, and attacks on both.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Json, Router, body::Body, extract::Extension, response::IntoResponse, routing::post};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use portcullis::{
    AuthorizationServer,
    client_ip::{ClientIp, ClientIpLayer, TrustedProxies},
    clock::{Clock, ManualClock, UnixSeconds},
    endpoint::Registration,
    gate::GateBody,
    ident::{LoginName, UserId},
    jwt::{Algorithm, SigningKey},
    login::{
        AccountField, DEVICE_COOKIE, Lockout, LoginAttempt, LoginLimiter, LoginLimiterBuilder, LoginOutcome,
        LoginRateLimitLayer, Quota, UnreadableAccount, WhenDown, Who,
    },
    session::SessionPolicy,
    store::{
        Attempt, AttemptStore, MemoryAttempts, MemoryStore, PasswordHash, Reserved, Settled, StoreError, StoreFuture,
        UserRecord, UserStore,
    },
};
use serde_json::{Value, json};
use tower::{Layer, Service, ServiceExt, service_fn, util::BoxCloneService};

use crate::support::{Log, Reply, Server, send, serve};

const PASSWORD: &str = "correct horse battery staple";
const START: u64 = 1_700_000_000;
const DAY: u64 = 24 * 3600;

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(UnixSeconds::new(START)))
}

fn limiter(clock: &Arc<ManualClock>, with: impl FnOnce(LoginLimiterBuilder) -> LoginLimiterBuilder) -> LoginLimiter {
    with(LoginLimiter::builder().clock(clock.clone())).build().unwrap()
}

/// A route where people sign in.
type Login = BoxCloneService<Request<Full<Bytes>>, Response<GateBody<Full<Bytes>>>, Infallible>;

/// A login handler of somebody else's that knows one password, says so by its status, and counts its calls.
#[derive(Clone, Default)]
struct Foreign {
    calls: Arc<AtomicUsize>,
    bodies: Arc<Mutex<Vec<Bytes>>>,
}

impl Foreign {
    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    fn within(&self, limiter: LoginLimiter, field: AccountField) -> Login {
        let foreign = self.clone();
        let handler = service_fn(move |request: Request<GateBody<Full<Bytes>>>| {
            let foreign = foreign.clone();
            async move {
                foreign.calls.fetch_add(1, Ordering::SeqCst);
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let right = body.windows(5).any(|window| window == b"right");
                let down = body.windows(4).any(|window| window == b"down");
                foreign.bodies.lock().unwrap().push(body);
                let status = match (down, right) {
                    (true, _) => 503,
                    (false, true) => 200,
                    (false, false) => 401,
                };
                Ok::<_, Infallible>(Response::builder().status(status).body(Full::new(Bytes::new())).unwrap())
            }
        });
        Login::new(LoginRateLimitLayer::new(limiter, field).layer(handler))
    }
}

fn from(address: impl Into<IpAddr>, body: &str) -> Request<Full<Bytes>> {
    let mut request = Request::post("/login")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from(body.to_owned())))
        .unwrap();
    request.extensions_mut().insert(SocketAddr::new(address.into(), 4711));
    request
}

fn v4(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0b00_0000 + number)
}

async fn status<S>(service: &S, request: Request<Full<Bytes>>) -> u16
where
    S: Service<Request<Full<Bytes>>, Response = Response<GateBody<Full<Bytes>>>, Error = Infallible> + Clone,
{
    service.clone().oneshot(request).await.unwrap().status().as_u16()
}

fn field_of(response: &Response<impl Sized>, name: &str) -> String {
    response.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

#[tokio::test]
async fn req_028_req_138_req_175_req_176_an_address_has_so_many_and_is_told_when_there_are_more() {
    let (clock, foreign) = (clock(), Foreign::default());
    let login =
        foreign.within(limiter(&clock, |b| b.per_address(Quota::per_minute(3))), AccountField::form("username"));
    let ask = |body: String| login.clone().oneshot(from(v4(1), &body));
    for left in [2, 1, 0] {
        let response = ask(format!("username=u{left}&password=x")).await.unwrap();
        assert_eq!(response.status(), 401);
        assert_eq!(field_of(&response, "ratelimit-policy"), "\"address\";q=3;w=60");
        assert_eq!(field_of(&response, "ratelimit"), format!("\"address\";r={left};t=20"));
    }
    let response = ask("username=u&password=right".to_owned()).await.unwrap();
    assert_eq!(response.status(), 429);
    for (name, value) in [
        ("retry-after", "20"),
        ("cache-control", "no-store"),
        ("ratelimit-policy", "\"address\";q=3;w=60"),
        ("ratelimit", "\"address\";r=0;t=20"),
        ("content-type", "application/problem+json"),
        ("www-authenticate", ""),
        ("set-cookie", ""),
    ] {
        assert_eq!(field_of(&response, name), value, "{name}");
    }
    let body: Value = serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!(
        body,
        json!({
            "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
            "title": "Too Many Requests", "status": 429, "violated-policies": ["address"],
        })
    );
    assert_eq!(foreign.calls(), 3, "the handler has not seen it");
    clock.advance(Duration::from_secs(20));
    let response = ask("username=u&password=right".to_owned()).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(field_of(&response, "ratelimit"), "\"address\";r=1;t=20", "a success gives back what it took");
}

#[tokio::test]
async fn what_did_not_fail_is_given_back_and_what_was_dropped_is_not() {
    let (clock, foreign) = (clock(), Foreign::default());
    let login =
        foreign.within(limiter(&clock, |b| b.per_address(Quota::per_minute(2))), AccountField::form("username"));
    for _ in 0..10 {
        assert_eq!(status(&login, from(v4(1), "username=u&password=right")).await, 200);
        assert_eq!(status(&login, from(v4(1), "username=u&password=down")).await, 503);
    }
    let never = service_fn(|_: Request<GateBody<Full<Bytes>>>| {
        std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>()
    });
    let limit = limiter(&clock, |b| b);
    let hangs = LoginRateLimitLayer::new(limit.clone(), AccountField::form("username")).layer(never);
    for _ in 0..5 {
        let asked = hangs.clone().oneshot(from(v4(1), "username=u"));
        assert!(tokio::time::timeout(Duration::from_millis(20), asked).await.is_err());
    }
    let login = foreign.within(limit, AccountField::form("username"));
    assert_eq!(status(&login, from(v4(2), "username=u&password=right")).await, 429, "five have hung up on their guess");
}

#[tokio::test]
async fn bodies_are_handed_on_as_they_came_and_preflights_are_not_counted() {
    let (clock, foreign) = (clock(), Foreign::default());
    let limit = limiter(&clock, |b| b.per_address(Quota::per_minute(1)));
    let login = foreign.within(limit, AccountField::form("username"));
    let body = "password=%zz%00right&&username=a+b%C3%A9&=";
    assert_eq!(status(&login, from(v4(1), body)).await, 200);
    assert_eq!(foreign.bodies.lock().unwrap().as_slice(), [Bytes::from_static(body.as_bytes())]);
    for _ in 0..5 {
        let mut preflight = from(v4(1), "username=u&password=right");
        *preflight.method_mut() = Method::OPTIONS;
        preflight.headers_mut().insert("origin", "https://app.example".parse().unwrap());
        preflight.headers_mut().insert("access-control-request-method", "POST".parse().unwrap());
        assert_eq!(status(&login, preflight).await, 401, "the handler's own answer, to a request without a body");
    }
    assert_eq!(status(&login, from(v4(1), "username=a&password=x")).await, 401);
    assert_eq!(status(&login, from(v4(1), "username=a&password=x")).await, 429);
}

#[tokio::test]
async fn an_account_that_cannot_be_read_in_one_way_reaches_no_handler() {
    let (clock, foreign) = (clock(), Foreign::default());
    let login = foreign.within(limiter(&clock, |b| b), AccountField::form_or_json("username"));
    for (kind, body) in [
        ("application/x-www-form-urlencoded", "username=a&username=b".to_owned()),
        ("application/json", r#"{"username":"a","username":"b"}"#.to_owned()),
        ("application/json", r#"{"username":["a"]}"#.to_owned()),
        ("text/plain", "username=a".to_owned()),
        ("multipart/form-data; boundary=x", "--x".to_owned()),
        ("application/x-www-form-urlencoded", "username=".to_owned() + &"a".repeat(17_000)),
    ] {
        let mut request = from(v4(1), &body);
        request.headers_mut().insert("content-type", kind.parse().unwrap());
        assert_eq!(status(&login, request).await, 400, "{kind} {body:.40}");
    }
    assert_eq!(foreign.calls(), 0);
    let mut nowhere = from(v4(1), "username=a&password=right");
    nowhere.extensions_mut().clear();
    assert_eq!(status(&login, nowhere).await, 500, "without an address nobody could be limited");
    assert_eq!(foreign.calls(), 0);
    // What names none where the handler may find one elsewhere, as in a query or in a body that is no preflight's.
    for (method, body) in [(Method::POST, "password=x"), (Method::GET, ""), (Method::OPTIONS, "password=right")] {
        let mut request = from(v4(1), body);
        *request.method_mut() = method;
        assert_eq!(status(&login, request).await, 400, "{body}");
    }
    assert_eq!(foreign.calls(), 0);
    // Unless it is said that it may: then it is an attempt of its address.
    let optional = foreign.within(limiter(&clock, |b| b), AccountField::form("username").optional());
    assert_eq!(status(&optional, from(v4(1), "password=x")).await, 401);
}

#[tokio::test]
async fn req_188_grpc_is_told_resource_exhausted_and_its_messages_are_read_by_the_program() {
    let (clock, calls) = (clock(), Arc::new(AtomicUsize::new(0)));
    // As tonic does it: 200, and what went wrong in the head.
    let handler = {
        let calls = Arc::clone(&calls);
        service_fn(move |_: Request<GateBody<Full<Bytes>>>| {
            calls.fetch_add(1, Ordering::SeqCst);
            let answer = Response::builder().header("content-type", "application/grpc").header("grpc-status", "16");
            async move { Ok::<_, Infallible>(answer.body(Full::new(Bytes::new())).unwrap()) }
        })
    };
    // A message with one field: its length, and the name.
    let field = AccountField::read_by(|_, body| {
        let (length, name) = body.get(5..).and_then(<[u8]>::split_first).ok_or(UnreadableAccount)?;
        let name = name.get(..usize::from(*length)).ok_or(UnreadableAccount)?;
        String::from_utf8(name.to_vec()).map(Some).map_err(|_| UnreadableAccount)
    });
    let limit = limiter(&clock, |b| b.per_account(Lockout::default().free(1)));
    let login = LoginRateLimitLayer::new(limit, field).layer(handler);
    let ask = |body: &'static [u8]| {
        let mut request = from(v4(1), "");
        *request.body_mut() = Full::new(Bytes::from_static(body));
        request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        login.clone().oneshot(request)
    };
    let failed = ask(b"\0\0\0\0\x06\x05alice").await.unwrap();
    assert_eq!(field_of(&failed, "grpc-status"), "16", "the handler's own");
    assert_eq!(field_of(&failed, "set-cookie"), "", "200 is no success here");
    for (body, status) in [(b"\0\0\0\0\x06\x05alice".as_slice(), "8"), (b"\0\0\0\0\x06\x09alice", "3")] {
        let refused = ask(body).await.unwrap();
        assert_eq!((refused.status().as_u16(), field_of(&refused, "grpc-status")), (200, status.to_owned()));
        assert_eq!(field_of(&refused, "content-type"), "application/grpc");
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn req_179_an_account_is_one_however_it_is_spelled_and_whoever_asks() {
    let (clock, foreign) = (clock(), Foreign::default());
    let login = foreign.within(limiter(&clock, |b| b.per_account(Lockout::default().free(4))), AccountField::form("u"));
    for (at, name) in ["alice", "ALICE", "%EF%BC%A1lice", "Al%69ce"].into_iter().enumerate() {
        assert_eq!(status(&login, from(v4(u32::try_from(at).unwrap()), &format!("u={name}&p=x"))).await, 401, "{name}");
    }
    assert_eq!(status(&login, from(v4(99), "u=alice&p=x")).await, 429);
    assert_eq!(status(&login, from(v4(99), "u=bob&p=x")).await, 401);
}

#[tokio::test]
async fn req_178_ipv6_counts_by_network_and_forwarded_addresses_only_from_trusted_proxies() {
    let (clock, foreign) = (clock(), Foreign::default());
    let limit = limiter(&clock, |b| b.per_address(Quota::per_minute(5)));
    let login = foreign.within(limit, AccountField::form("u"));
    let network = |host: u64, number: u128| Ipv6Addr::from((0x2001_0db8_0000_0000 + u128::from(host)) << 64 | number);
    let mut granted = 0;
    for number in 0..1000 {
        granted += usize::from(status(&login, from(network(1, number), &format!("u=u{number}"))).await == 401);
    }
    assert_eq!(granted, 5, "a thousand addresses of one /64");
    assert_eq!(status(&login, from(network(2, 1), "u=x")).await, 401);
    // A proxy that is trusted, and the same words from one that is not.
    let proxies = TrustedProxies::parse(["192.0.2.1"]).unwrap();
    let behind = ClientIpLayer::new(proxies).layer(login);
    let forwarded = |peer: &str, client: &str, number: usize| {
        let mut request = from(peer.parse::<IpAddr>().unwrap(), &format!("u=w{number}{client}"));
        request.headers_mut().insert("x-forwarded-for", client.parse().unwrap());
        request
    };
    let mut passed = [0; 2];
    for number in 0..50 {
        for (peer, passed) in ["192.0.2.1", "203.0.113.1"].into_iter().zip(&mut passed) {
            let client = format!("198.51.100.{number}");
            *passed += usize::from(status(&behind, forwarded(peer, &client, number)).await == 401);
        }
    }
    assert_eq!(passed, [50, 5], "by the client's address, and by that of who only says so");
}

#[tokio::test]
async fn handlers_find_the_attempt_and_say_how_it_ended() {
    async fn sign_in(Extension(attempt): Extension<LoginAttempt>, Json(body): Json<Value>) -> impl IntoResponse {
        let right = body["password"] == "right";
        let outcome = if right { LoginOutcome::Succeeded } else { LoginOutcome::Failed };
        let token = attempt.device_token().filter(|_| right).map(|token| token.expose().clone());
        // A handler that answers 200 in any case, as some do.
        (Extension(outcome), Json(json!({ "known": attempt.is_known_device(), "device_token": token })))
    }

    let clock = clock();
    let limit = limiter(&clock, |b| b.per_account(Lockout::default().free(2)));
    let limit = LoginRateLimitLayer::new(limit, AccountField::json("email")).without_cookie();
    let app: Router = Router::new().route("/login", post(sign_in)).layer(limit);
    let ask = async |body: Value| {
        let mut request = Request::post("/login").header("content-type", "application/json");
        request.extensions_mut().unwrap().insert(axum::extract::ConnectInfo(SocketAddr::from((v4(1), 1))));
        let request = request.body(Body::from(body.to_string())).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        assert!(!response.headers().contains_key("set-cookie"));
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice::<Value>(&body).unwrap_or_default())
    };
    let (_, signed_in) = ask(json!({ "email": "a@example.com", "password": "right" })).await;
    let token = signed_in["device_token"].as_str().unwrap();
    for expected in [200, 200, 429] {
        assert_eq!(ask(json!({ "email": "a@example.com", "password": "x" })).await.0, expected);
    }
    let (status, own) = ask(json!({ "email": "A@example.com", "password": "right", "device_token": token })).await;
    assert_eq!((status, &own["known"]), (200, &json!(true)), "whoever has signed in here before gets in");
    for (why, body) in [
        ("of another account", json!({ "email": "b@example.com", "password": "right", "device_token": token })),
        ("changed", json!({ "email": "b@example.com", "password": "right", "device_token": format!("{token}x") })),
    ] {
        assert_eq!(ask(body).await.1["known"], json!(false), "{why}");
    }
}

/// A store that does what it is told to: counts, hangs, or fails.
#[derive(Default)]
struct Moody {
    inner: MemoryAttempts,
    mood: Mutex<&'static str>,
    asked: AtomicUsize,
}

impl Moody {
    async fn obey<T>(&self, call: StoreFuture<'_, T>) -> Result<T, StoreError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mood = *self.mood.lock().unwrap();
        match mood {
            "hang" => std::future::pending().await,
            "fail" => Err(StoreError::unavailable("down")),
            "full" => Err(StoreError::Full),
            _ => call.await,
        }
    }
}

impl AttemptStore for Moody {
    fn reserve(&self, attempt: Attempt, now: UnixSeconds) -> StoreFuture<'_, Reserved> {
        Box::pin(self.obey(self.inner.reserve(attempt, now)))
    }

    fn settle(&self, attempt: Attempt, settled: Settled, now: UnixSeconds) -> StoreFuture<'_, ()> {
        Box::pin(self.obey(self.inner.settle(attempt, settled, now)))
    }

    fn forget(&self, key: portcullis::login::AttemptKey) -> StoreFuture<'_, bool> {
        Box::pin(self.obey(self.inner.forget(key)))
    }
}

#[tokio::test(start_paused = true)]
async fn req_193_while_a_store_is_down_nobody_guesses_for_free_and_it_is_not_asked_for_each() {
    let (clock, foreign, store) = (clock(), Foreign::default(), Arc::new(Moody::default()));
    let shared = |b: LoginLimiterBuilder| b.store(store.clone()).per_address(Quota::per_minute(3));
    let login = foreign.within(limiter(&clock, shared), AccountField::form("u").optional());
    let here =
        foreign.within(limiter(&clock, |b| shared(b).accounts_when_down(WhenDown::CountHere)), AccountField::form("u"));
    let none = foreign.within(
        limiter(&clock, |b| shared(b).addresses_when_down(WhenDown::Refuse)),
        AccountField::form("u").optional(),
    );
    assert_eq!(status(&login, from(v4(1), "u=a&p=right")).await, 200);
    for (at, mood) in (10..).zip(["fail", "hang", "full"]) {
        *store.mood.lock().unwrap() = mood;
        let before = (foreign.calls(), store.asked.load(Ordering::SeqCst));
        let began = tokio::time::Instant::now();
        for n in 0..10 {
            let told = status(&login, from(v4(at + 1000 * (n / 3)), "u=a&p=right")).await;
            assert_eq!(told, 503, "{mood}: an account's failures are not known");
            assert_eq!(status(&none, from(v4(at), "p=right")).await, 503, "{mood}");
        }
        assert_eq!(foreign.calls(), before.0, "{mood}: no password was looked at");
        assert!(store.asked.load(Ordering::SeqCst) - before.1 <= 2, "{mood}: by each limiter once");
        assert!(began.elapsed() < Duration::from_secs(2), "{mood}: {:?}", began.elapsed());
        // Without an account the address alone is counted, here.
        let (mut told, at) = (Vec::new(), at + 500);
        for _ in 0..4 {
            told.push(status(&login, from(v4(at), "p=x")).await);
        }
        assert_eq!(told, [401, 401, 401, 429], "{mood}");
        assert_eq!(status(&login, from(v4(at), "u=a&p=x")).await, 429, "{mood}: a flood is told so");
        // And if it is wanted so, accounts are, too.
        for n in 0..5 {
            assert_eq!(status(&here, from(v4(100 * at + n), &format!("u={mood}&p=x"))).await, 401);
        }
        assert_eq!(status(&here, from(v4(100 * at + 9), &format!("u={mood}&p=right"))).await, 429, "{mood}");
        *store.mood.lock().unwrap() = "";
        clock.advance(Duration::from_secs(3));
        for login in [&login, &here, &none] {
            assert_eq!(status(login, from(v4(1), "u=b&p=right")).await, 200, "{mood}: it is back");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn req_193_a_store_that_comes_and_goes_fills_no_log() {
    const ROUNDS: usize = 500;
    let (clock, foreign, store, log) = (clock(), Foreign::default(), Arc::new(Moody::default()), Log::default());
    let login = foreign.within(limiter(&clock, |b| b.store(store.clone())), AccountField::form("u"));
    let (_guard, begun) = (log.capture(), std::time::Instant::now());
    for _ in 0..ROUNDS {
        for (mood, told) in [("fail", 503), ("", 200)] {
            *store.mood.lock().unwrap() = mood;
            clock.advance(Duration::from_secs(3));
            assert_eq!(status(&login, from(v4(1), "u=a&p=right")).await, told);
        }
    }
    let (text, seconds) = (log.text(), usize::try_from(begun.elapsed().as_secs()).unwrap() + 2);
    for (news, level) in [("outage begun", "ERROR"), ("outage over", "INFO")] {
        let lines: Vec<&str> = text.lines().filter(|line| line.contains(news)).collect();
        let loud = lines.iter().filter(|line| line.contains(level)).count();
        assert_eq!(lines.len(), ROUNDS, "{news}: who listens at debug hears each");
        assert!((1..=10 * seconds).contains(&loud), "{news}: {loud} in {seconds} s");
        assert!(10 * seconds < ROUNDS, "this machine is too slow to tell: {seconds} s");
    }
}

/// A server with the users alice, who can sign in, and dora, who is disabled.
async fn authority(
    clock: &Arc<ManualClock>,
    with: impl FnOnce(LoginLimiterBuilder) -> LoginLimiterBuilder,
) -> AuthorizationServer {
    let store = Arc::new(MemoryStore::new());
    let hasher = crate::login::hasher();
    let password = hasher.hash(PASSWORD.into()).await.unwrap();
    for (name, disabled) in [("alice", false), ("dora", true)] {
        add(&store, name, password.clone(), disabled).await;
    }
    let key = SigningKey::generate(Algorithm::EdDsa).unwrap();
    AuthorizationServer::builder("https://id.example", "orders", key)
        .first_party_login(store.clone(), hasher)
        .registration(Registration::new())
        .sessions(store, SessionPolicy::default())
        .login_limits(limiter(clock, with))
        .build()
        .unwrap()
}

async fn add(store: &MemoryStore, name: &str, password: PasswordHash, disabled: bool) {
    let (id, login) = (UserId::parse(&format!("id-{name}")).unwrap(), LoginName::parse(name).unwrap());
    store.insert(UserRecord { id, login, password, scopes: "me".parse().unwrap(), disabled }).await.unwrap();
}

async fn token(server: &Server, body: &str, headers: &[&[u8]]) -> Reply {
    let form: &[u8] = b"content-type: application/x-www-form-urlencoded";
    send(server.address, "POST /token", &[&[form], headers].concat(), body.as_bytes()).await
}

fn login(name: &str, password: &str) -> String {
    format!("grant_type=password&username={name}&password={}", password.replace(' ', "+"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn req_028_req_173_two_hundred_guesses_at_once_are_five() {
    let clock = clock();
    let server = authority(&clock, |b| b.per_address(Quota::per_minute(1000))).await;
    let app = serve(server.routes()).await;
    let guesses = (0..200).map(|n| {
        let (address, body) = (app.address, login("alice", &format!("guess {n}")));
        let form: &[u8] = b"content-type: application/x-www-form-urlencoded";
        tokio::spawn(async move { send(address, "POST /token", &[form], body.as_bytes()).await.status })
    });
    let guesses: Vec<_> = guesses.collect();
    let mut told = std::collections::BTreeMap::new();
    for guess in guesses {
        *told.entry(guess.await.unwrap()).or_insert(0) += 1;
    }
    assert_eq!(told.into_iter().collect::<Vec<_>>(), [(400, 5), (429, 195)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn req_034_req_174_req_177_whether_there_is_an_account_shows_in_no_answer() {
    let clock = clock();
    let server = authority(&clock, |b| b.per_account(Lockout::default().free(2))).await;
    let app = serve(server.routes()).await;
    let mut answers = Vec::new();
    for name in ["alice", "dora", "nobody"] {
        let mut own = Vec::new();
        for _ in 0..4 {
            own.push(token(&app, &login(name, "wrong"), &[]).await.without_date());
            own.last_mut().unwrap().headers.retain(|(name, _)| name != "ratelimit");
        }
        answers.push(own);
    }
    assert_eq!(answers[0].iter().map(|reply| reply.status).collect::<Vec<_>>(), [400, 400, 429, 429]);
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);
    assert_eq!(answers[0][2].header("retry-after"), Some("30"));
    assert_eq!(answers[0][2].header("ratelimit-policy"), Some("\"account\";q=2;w=86400"));
    assert_eq!(answers[0][0].header("ratelimit-policy"), Some("\"address\";q=30;w=60"), "nothing of the account");
    // The right password does not help a stranger before the wait is over, and does then.
    assert_eq!(token(&app, &login("alice", PASSWORD), &[]).await.status, 429);
    clock.advance(Duration::from_secs(30));
    assert_eq!(token(&app, &login("alice", PASSWORD), &[]).await.status, 200);
    assert_eq!(token(&app, &login("alice", "wrong"), &[]).await.status, 400, "and has cleared what was before");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn req_173_an_owner_on_a_known_device_gets_in_whatever_strangers_do() {
    let clock = clock();
    let server = authority(&clock, |b| b.per_address(Quota::per_minute(10))).await;
    let app = serve(server.routes()).await;
    let first = token(&app, &login("alice", PASSWORD), &[]).await;
    let body = format!("{}&device_token={}", login("alice", PASSWORD), first.json()["device_token"].as_str().unwrap());
    let set = first.header("set-cookie").unwrap().to_owned();
    assert!(set.ends_with("; Path=/; Max-Age=31536000; Secure; HttpOnly; SameSite=Strict"), "{set}");
    let cookie = set.split(';').next().unwrap();
    assert!(cookie.starts_with(DEVICE_COOKIE) && !first.text().contains(&cookie[DEVICE_COOKIE.len() + 9..]));
    let cookie = format!("cookie: a=b; {cookie}");
    // Strangers lock the account, and the address that the owner shares with them.
    while token(&app, &login("alice", "guess"), &[]).await.status == 400 {}
    for n in 0..20 {
        token(&app, &login(&format!("user{n}"), "guess"), &[]).await;
    }
    assert_eq!(token(&app, &login("alice", PASSWORD), &[]).await.status, 429);
    for _ in 0..20 {
        assert_eq!(token(&app, &body, &[]).await.status, 200);
        assert_eq!(token(&app, &login("alice", PASSWORD), &[cookie.as_bytes()]).await.status, 200);
    }
    // Of its own, too, it has no more than anybody.
    let mut told = Vec::new();
    for _ in 0..7 {
        told.push(token(&app, &login("alice", "guess"), &[cookie.as_bytes()]).await.status);
    }
    assert_eq!(told, [400, 400, 400, 400, 400, 429, 429]);
    assert_eq!(token(&app, &login("alice", PASSWORD), &[]).await.status, 429, "strangers are as they were");
    // An administrator lets strangers in again.
    assert!(server.unlock(&LoginName::parse("Alice").unwrap()).await.unwrap());
    clock.advance(Duration::from_secs(60));
    assert_eq!(token(&app, &login("alice", PASSWORD), &[]).await.status, 200);
    assert!(!server.unlock(&LoginName::parse("nobody").unwrap()).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_login_is_not_counted_nor_does_it_clear_anything() {
    let clock = clock();
    let server = authority(&clock, |b| b.per_address(Quota::per_minute(100))).await;
    let app = serve(server.routes()).await;
    let first = token(&app, &login("alice", PASSWORD), &[]).await.json();
    let refresh = format!("grant_type=refresh_token&refresh_token={}", first["refresh_token"].as_str().unwrap());
    for _ in 0..4 {
        assert_eq!(token(&app, &login("alice", "guess"), &[]).await.status, 400);
    }
    // With the account's name, but of another grant: none of them is a success of it.
    let next = token(&app, &format!("{refresh}&username=alice"), &[]).await;
    assert_eq!((next.status, next.json().get("device_token")), (200, None));
    for body in ["grant_type=password&username=alice", "grant_type=x&username=alice&password=x", "username=alice"] {
        assert_eq!(token(&app, body, &[]).await.status, 400, "{body}");
    }
    assert_eq!(token(&app, &format!("{}&scope=%22", login("alice", "x")), &[]).await.status, 400);
    assert_eq!(token(&app, &login("alice", "guess"), &[]).await.status, 400, "the fifth");
    assert_eq!(token(&app, &login("alice", "guess"), &[]).await.status, 429);
    // A right password that is granted nothing is no guess, and none the less right.
    clock.advance(Duration::from_secs(30));
    let denied = token(&app, &format!("{}&scope=admin", login("alice", PASSWORD)), &[]).await;
    assert_eq!(denied.json()["error"], "invalid_scope");
    for _ in 0..5 {
        assert_eq!(token(&app, &login("alice", "guess"), &[]).await.status, 400);
    }
    // Refusals of bodies are the endpoint's own.
    let long = "username=".to_owned() + &"a".repeat(17_000);
    assert_eq!(token(&app, &long, &[]).await.json()["error"], "invalid_request");
    assert_eq!(token(&app, "username=a&username=b", &[]).await.json()["error"], "invalid_request");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_asks_for_ten_accounts_an_hour() {
    let clock = clock();
    let server = authority(&clock, |b| b).await;
    let app = serve(server.routes()).await;
    let register = async |name: &str, password: &str| {
        let form: &[u8] = b"content-type: application/x-www-form-urlencoded";
        let body = format!("username={name}&password={password}");
        send(app.address, "POST /register", &[form], body.as_bytes()).await
    };
    for _ in 0..20 {
        assert_eq!(register("new", "short").await.status, 400, "what cannot be is no request for an account");
    }
    for n in 0..10 {
        // Whether a name is taken is what is asked for, too.
        let (name, expected) = if n % 2 == 0 { (format!("user{n}"), 201) } else { ("alice".to_owned(), 409) };
        assert_eq!(register(&name, "solder+lantern+oboe+kite").await.status, expected, "{n}");
    }
    let refused = register("more", "solder+lantern+oboe+kite").await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("retry-after"), Some("360"));
    assert_eq!(refused.header("ratelimit-policy"), Some("\"registration\";q=10;w=3600"));
    assert_eq!(refused.header("ratelimit"), Some("\"registration\";r=0;t=360"));
    assert_eq!(token(&app, &login("alice", PASSWORD), &[]).await.status, 200, "signing in is another thing");
    clock.advance(Duration::from_secs(360));
    assert_eq!(register("more", "solder+lantern+oboe+kite").await.status, 201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn req_182_whoever_has_stolen_a_token_cannot_guess_the_password_with_it() {
    let clock = clock();
    let server = authority(&clock, |b| b).await;
    let app = serve(server.routes()).await;
    let session =
        async || token(&app, &login("alice", PASSWORD), &[]).await.json()["access_token"].as_str().unwrap().to_owned();
    let (stolen, own) = (session().await, session().await);
    let change = async |token: &str, current: &str| {
        let form: &[u8] = b"content-type: application/x-www-form-urlencoded";
        let authorization = format!("authorization: Bearer {token}");
        let current = current.replace(' ', "+");
        let body = format!("current_password={current}&new_password=solder+lantern+oboe+kite");
        send(app.address, "POST /password", &[form, authorization.as_bytes()], body.as_bytes()).await
    };
    for _ in 0..5 {
        assert_eq!(change(&stolen, "guess").await.status, 400);
    }
    let refused = change(&stolen, PASSWORD).await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("30")));
    assert_eq!(refused.header("ratelimit-policy"), Some("\"account\";q=5;w=86400"));
    assert_eq!(token(&app, &login("alice", PASSWORD), &[]).await.status, 200, "nobody else is kept out");
    assert_eq!(change(&own, PASSWORD).await.status, 204);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_an_administrator_gives_is_not_locked() {
    let clock = clock();
    let server = authority(&clock, |b| b).await;
    let app = serve(server.routes()).await;
    while token(&app, &login("alice", "guess"), &[]).await.status == 400 {}
    let alice = UserId::parse("id-alice").unwrap();
    assert!(server.set_password(&alice, "given by an administrator".into(), None).await.unwrap());
    assert_eq!(token(&app, &login("alice", "given by an administrator"), &[]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_lock_answers_like_a_wrong_password_and_limits_all_the_same() {
    let clock = clock();
    let limits = |b: LoginLimiterBuilder| b.per_account(Lockout::default().free(1)).per_address(Quota::per_minute(4));
    let server = authority(&clock, |b| limits(b).silent()).await;
    let app = serve(server.routes()).await;
    let access = token(&app, &login("alice", PASSWORD), &[]).await.json()["access_token"].as_str().unwrap().to_owned();
    let wrong = token(&app, &login("alice", "guess"), &[]).await.without_date();
    let locked = token(&app, &login("alice", PASSWORD), &[]).await.without_date();
    assert_eq!((wrong.status, wrong.header("ratelimit")), (400, Some("\"address\";r=3;t=15")));
    assert_eq!(locked.header("ratelimit"), Some("\"address\";r=2;t=15"), "it counts for the address");
    let without = |mut reply: Reply| {
        reply.headers.retain(|(name, _)| name != "ratelimit");
        reply
    };
    assert_eq!(without(wrong), without(locked), "in every byte");
    let mut told = Vec::new();
    for _ in 0..4 {
        told.push(token(&app, &login("alice", PASSWORD), &[]).await.status);
    }
    assert_eq!(told, [400, 400, 429, 429], "hashes are not to be had for nothing");
    clock.advance(Duration::from_secs(60));
    assert_eq!(token(&app, &login("alice", PASSWORD), &[]).await.status, 200);
    // Where nobody could burn a hash instead, a lock is told.
    let form: &[u8] = b"content-type: application/x-www-form-urlencoded";
    let authorization = format!("authorization: Bearer {access}");
    let mut told = Vec::new();
    for current in ["guess", &PASSWORD.replace(' ', "+")] {
        let body = format!("current_password={current}&new_password=solder+lantern+oboe+kite");
        told.push(send(app.address, "POST /password", &[form, authorization.as_bytes()], body.as_bytes()).await.status);
    }
    assert_eq!(told, [400, 429]);
    let foreign = Foreign::default();
    let login = foreign.within(limiter(&clock, |b| limits(b).silent()), AccountField::form("u"));
    assert_eq!(status(&login, from(v4(1), "u=a&p=x")).await, 401);
    assert_eq!(status(&login, from(v4(1), "u=a&p=right")).await, 429);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_a_name_like_anothers_clears_no_failures_and_is_known_nowhere_else() {
    let clock = clock();
    let server = authority(&clock, |b| b.per_address(Quota::per_minute(100))).await;
    let app = serve(server.routes()).await;
    let form: &[u8] = b"content-type: application/x-www-form-urlencoded";
    let register = "username=alice+&password=solder+lantern+oboe+kite";
    assert_eq!(send(app.address, "POST /register", &[form], register.as_bytes()).await.status, 201);
    for _ in 0..4 {
        assert_eq!(token(&app, &login("alice", "guess"), &[]).await.status, 400);
    }
    let other = token(&app, &login("alice+", "solder lantern oboe kite"), &[]).await;
    assert_eq!(other.status, 200, "another user");
    let device = other.json()["device_token"].as_str().unwrap().to_owned();
    let guess = format!("{}&device_token={device}", login("alice", "guess"));
    assert_eq!([token(&app, &guess, &[]).await.status, token(&app, &guess, &[]).await.status], [400, 429], "the fifth");
    // At somebody else's route such a name is not taken for either.
    let foreign = Foreign::default();
    let limited = foreign.within(limiter(&clock, |b| b), AccountField::form("u"));
    assert_eq!(status(&limited, from(v4(1), "u=alice+&p=right")).await, 400);
}

#[tokio::test]
async fn two_people_who_share_a_browser_are_both_known_in_it() {
    let clock = clock();
    let foreign = Foreign::default();
    let login = foreign.within(limiter(&clock, |b| b.per_account(Lockout::default().free(1))), AccountField::form("u"));
    let mut cookies = Vec::new();
    for name in ["alice", "bob"] {
        let signed_in = login.clone().oneshot(from(v4(1), &format!("u={name}&p=right"))).await.unwrap();
        cookies.push(field_of(&signed_in, "set-cookie").split(';').next().unwrap().to_owned());
        assert_eq!(status(&login, from(v4(2), &format!("u={name}&p=x"))).await, 401, "a stranger");
    }
    assert_ne!(cookies[0].split('=').next(), cookies[1].split('=').next(), "neither replaces the other");
    for name in ["alice", "bob"] {
        let mut request = from(v4(1), &format!("u={name}&p=right"));
        request.headers_mut().insert("cookie", cookies.join("; ").parse().unwrap());
        assert_eq!(status(&login, request).await, 200, "{name}");
        assert_eq!(status(&login, from(v4(1), &format!("u={name}&p=right"))).await, 429, "{name}, without it");
    }
}

#[tokio::test]
async fn an_attempt_is_settled_once_and_users_of_two_realms_are_two() {
    let clock = clock();
    let store = Arc::new(MemoryAttempts::new());
    let of = |realm: &str| {
        let with = |b: LoginLimiterBuilder| b.store(store.clone()).per_account(Lockout::default().free(3)).realm(realm);
        limiter(&clock, with)
    };
    let (staff, guests) = (of("staff"), of("guests"));
    let who = Who { address: Some(ClientIp(v4(1).into())), account: Some("root"), ..Who::default() };
    for _ in 0..2 {
        staff.begin(who).await.unwrap();
    }
    let third = staff.begin(who).await.unwrap();
    for _ in 0..5 {
        third.clone().settle(LoginOutcome::NotTried).await;
    }
    // Somebody of the same name signs in elsewhere.
    guests.begin(who).await.unwrap().settle(LoginOutcome::Succeeded).await;
    assert!(staff.begin(who).await.is_ok(), "one came back");
    assert!(staff.begin(who).await.is_err(), "and no more");
}

/// What attackers with many addresses, many names or a network of IPv6 get in a day, and whether owners get in.
#[expect(clippy::print_stdout, reason = "the table is what the test is for")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn req_171_req_173_simulated_attacks_stay_within_their_bounds() {
    let row = |attack: &str, tried: usize, guesses: usize, bound: usize, owner: (usize, usize)| {
        println!("| {attack} | {tried} | {guesses} | {bound} | {} of {} |", owner.0, owner.1);
        assert!(guesses <= bound, "{attack}: {guesses} guesses");
        assert_eq!(owner.0, owner.1, "{attack}: the owner gets in");
    };
    println!("| attack | tried in a day | let through | bound | owner signs in |\n|---|---|---|---|---|");

    // Ten thousand addresses, one account: a try every ten seconds from each in turn, all day.
    let clock = clock();
    let limit = limiter(&clock, |b| b);
    let device = known(&limit, "victim").await;
    let (mut tried, mut through, mut owner) = (0, 0, (0, 0));
    for second in 0..DAY {
        if second % 10 == 0 {
            for address in 0..4 {
                tried += 1;
                let address = v4(u32::try_from((second * 4 + address) % 10_000).unwrap());
                through += usize::from(guess(&limit, address.into(), "victim").await);
            }
        }
        if second % 600 == 0 {
            owner = (owner.0 + usize::from(sign_in(&limit, v4(77_777).into(), "victim", &device).await), owner.1 + 1);
        }
        clock.advance(Duration::from_secs(1));
    }
    row("10,000 addresses on one account", tried, through, 100, owner);

    // One address, ten thousand accounts: as fast as it can, for a day.
    let clock = self::clock();
    let limit = limiter(&clock, |b| b);
    let (mut tried, mut owner) = (0, (0, 0));
    let mut through = vec![0_usize; 10_000];
    let device = known(&limit, "user7").await;
    for second in 0..DAY {
        for _ in 0..2 {
            let account = tried % 10_000;
            tried += 1;
            through[account] += usize::from(guess(&limit, v4(1).into(), &format!("user{account}")).await);
        }
        if second % 600 == 0 {
            // At the very same address.
            owner = (owner.0 + usize::from(sign_in(&limit, v4(1).into(), "user7", &device).await), owner.1 + 1);
        }
        clock.advance(Duration::from_secs(1));
    }
    row("one address on 10,000 accounts, in all", tried, through.iter().sum(), 30 + 30 * 24 * 60, owner);
    row("the same, on the account that got most", tried, *through.iter().max().unwrap(), 100, owner);

    // A network of IPv6, each try from a new address in it.
    let clock = self::clock();
    let limit = limiter(&clock, |b| b);
    let (mut tried, mut through, mut owner) = (0, 0, (0, 0));
    let device = known(&limit, "user7").await;
    for second in 0..DAY {
        for _ in 0..2 {
            tried += 1;
            let address = Ipv6Addr::from(0x2001_0db8_0000_0001_u128 << 64 | tried as u128);
            through += usize::from(guess(&limit, address.into(), &format!("user{tried}")).await);
        }
        if second % 600 == 0 {
            let address = Ipv6Addr::from(0x2001_0db8_0000_0001_u128 << 64 | 7);
            owner = (owner.0 + usize::from(sign_in(&limit, address.into(), "user7", &device).await), owner.1 + 1);
        }
        clock.advance(Duration::from_secs(1));
    }
    row("addresses of one /64, a new name each", tried, through, 30 + 30 * 24 * 60, owner);
}

/// The token of a device where the account's owner has signed in.
async fn known(limiter: &LoginLimiter, account: &str) -> String {
    let who = Who { address: Some(ClientIp(v4(99_999).into())), account: Some(account), ..Who::default() };
    let attempt = limiter.begin(who).await.unwrap();
    attempt.settle(LoginOutcome::Succeeded).await;
    attempt.device_token().unwrap().expose().clone()
}

/// Whether a guess is let through to the hasher.
async fn guess(limiter: &LoginLimiter, address: IpAddr, account: &str) -> bool {
    let who = Who { address: Some(ClientIp(address)), account: Some(account), ..Who::default() };
    limiter.begin(who).await.is_ok()
}

async fn sign_in(limiter: &LoginLimiter, address: IpAddr, account: &str, device: &str) -> bool {
    let who =
        Who { address: Some(ClientIp(address)), account: Some(account), device_token: Some(device), headers: None };
    match limiter.begin(who).await {
        Ok(attempt) => {
            attempt.settle(LoginOutcome::Succeeded).await;
            true
        }
        Err(_) => false,
    }
}

#[tokio::test]
async fn req_178_forged_headers_of_any_shape_change_nothing_over_a_socket() {
    let clock = clock();
    let server = authority(&clock, |b| b.per_address(Quota::per_minute(4))).await;
    let app = serve(server.routes().layer(ClientIpLayer::new(TrustedProxies::parse(["192.0.2.0/24"]).unwrap()))).await;
    let long = format!("x-forwarded-for: {}", "1.2.3.4, ".repeat(1800));
    let forged: [&[u8]; 9] = [
        b"x-forwarded-for: 198.51.100.1",
        b"x-forwarded-for: 198.51.100.2:8080",
        b"x-forwarded-for: [2001:db8::1]:80",
        b"x-forwarded-for: unknown",
        b"forwarded: for=\"[2001:db8::2]:80\"",
        b"forwarded: for=_x, for=198.51.100.3",
        b"x-forwarded-for: \xff\xfe",
        b"x-real-ip: 198.51.100.4",
        long.as_bytes(),
    ];
    let mut told = Vec::new();
    for (n, header) in forged.into_iter().enumerate() {
        told.push(token(&app, &login(&format!("u{n}"), "x"), &[header, b"x-forwarded-for: 203.0.113.7"]).await.status);
    }
    assert_eq!(told, [400, 400, 400, 400, 429, 429, 429, 429, 429]);
    assert_eq!(clock.now().get(), START);
}

#[test]
fn mistakes_of_a_configuration_are_told_all_at_once() {
    let errors = LoginLimiter::builder()
        .per_address(Quota::per_minute(0))
        .overall(Quota::new(1, Duration::ZERO))
        .per_account(Lockout::default().free(0))
        .ipv6_prefix(0)
        .capacity(1)
        .secret("password".into())
        .build()
        .unwrap_err();
    assert_eq!(errors.iter().count(), 6, "{errors}");
    let without = LoginLimiter::builder().danger_without_addresses().build().unwrap();
    assert!(format!("{without:?}").contains("address: None"));
    assert_eq!(
        StatusCode::TOO_MANY_REQUESTS,
        portcullis::rejection::Rejection::TooManyAttempts { limit: portcullis::login::Limit::Account, seconds: 1 }
            .status()
    );
}
