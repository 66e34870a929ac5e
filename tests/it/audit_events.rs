//! Every decision over a socket is told once: of its kind, with its reason, who, which request, and the status of the answer.

mod late;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, routing::get as route};
use futures::future::join_all;
use portcullis::{
    AuthorizationServer, AuthorizationServerBuilder,
    audit::{AuditLayer, AuditTrail, Event, Kind},
    authz::{AuthorizeLayer, Decision, Question, ServicePolicy},
    browser::CsrfGuard,
    client::{Client, GrantType, HashedSecret, random_secret},
    client_ip::TrustedProxies,
    clock::{ManualClock, UnixSeconds},
    endpoint::{Registration, SessionCookies},
    ident::{LoginName, UserId},
    jwt::{Algorithm, SigningKey},
    login::{Lockout, LoginLimiter, LoginLimiterBuilder, Quota},
    password::PasswordHasher,
    rejection::AnswerStyle,
    session::SessionPolicy,
    store::{MemoryStore, PasswordHash, StoreError, StoreFuture, UserRecord, UserStore},
    testing::{EventLog, TestAuthority},
    transport::RequireHttpsLayer,
};
use tower::service_fn;

use crate::{
    login::{PASSWORD, form, hasher, users},
    sessions::{Flaky, Mood},
    support::{Reply, Server, now, send, serve},
};

const FORM: &str = "content-type: application/x-www-form-urlencoded";
const NEW: &str = "a cat walks over the keyboard";
/// For which pages may ask twice.
const GRACE: Duration = Duration::from_secs(10);

/// Users that can be made to be away.
pub struct Users {
    inner: Arc<dyn UserStore>,
    down: AtomicBool,
    /// Changes are made, and nobody is told.
    mute: AtomicBool,
}

impl Users {
    pub fn new(inner: Arc<dyn UserStore>) -> Arc<Self> {
        Arc::new(Self { inner, down: AtomicBool::new(false), mute: AtomicBool::new(false) })
    }

    pub fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    pub fn set_mute(&self, mute: bool) {
        self.mute.store(mute, Ordering::SeqCst);
    }

    fn or_mute<'a, T: Send + 'a>(&'a self, change: StoreFuture<'a, T>) -> StoreFuture<'a, T> {
        let (mute, change) = (self.mute.load(Ordering::SeqCst), self.or_down(change));
        Box::pin(async move {
            let changed = change.await;
            if mute { Err(StoreError::unavailable("no answer in time")) } else { changed }
        })
    }

    fn or_down<'a, T: Send + 'a>(&'a self, call: StoreFuture<'a, T>) -> StoreFuture<'a, T> {
        let down = self.down.load(Ordering::SeqCst);
        Box::pin(async move { if down { Err(StoreError::unavailable("pulled the plug")) } else { call.await } })
    }
}

impl UserStore for Users {
    fn find_by_login<'a>(&'a self, login: &'a LoginName) -> StoreFuture<'a, Option<UserRecord>> {
        self.or_down(self.inner.find_by_login(login))
    }
    fn find_by_id<'a>(&'a self, id: &'a UserId) -> StoreFuture<'a, Option<UserRecord>> {
        self.or_down(self.inner.find_by_id(id))
    }
    fn insert(&self, user: UserRecord) -> StoreFuture<'_, ()> {
        self.or_mute(self.inner.insert(user))
    }
    fn replace_hash<'a>(&'a self, id: &'a UserId, hash: PasswordHash) -> StoreFuture<'a, bool> {
        self.or_mute(self.inner.replace_hash(id, hash))
    }
    fn swap_hash<'a>(&'a self, id: &'a UserId, from: &'a PasswordHash, to: PasswordHash) -> StoreFuture<'a, bool> {
        self.or_mute(self.inner.swap_hash(id, from, to))
    }
    fn set_disabled<'a>(&'a self, id: &'a UserId, disabled: bool) -> StoreFuture<'a, bool> {
        self.or_mute(self.inner.set_disabled(id, disabled))
    }
}

struct World {
    server: Server,
    handle: AuthorizationServer,
    sessions: Arc<Flaky>,
    users: Arc<Users>,
    clock: Arc<ManualClock>,
    keys: TestAuthority,
    log: EventLog,
    trail: AuditTrail,
    secret: String,
    asked: AtomicUsize,
    told: AtomicUsize,
}

fn limits() -> LoginLimiterBuilder {
    let many = Quota::per_minute(10_000);
    LoginLimiter::builder().per_address(many).registrations(many).per_account(Lockout::default().free(3))
}

async fn world(
    hasher: PasswordHasher,
    limits: LoginLimiterBuilder,
    with: impl FnOnce(AuthorizationServerBuilder) -> AuthorizationServerBuilder,
) -> World {
    let secret = random_secret().unwrap();
    let client = |id: &str| {
        let client = Client::confidential(id, HashedSecret::of(&secret).unwrap());
        client.grant(GrantType::ClientCredentials).scopes(["items"])
    };
    let memory = Arc::new(MemoryStore::new());
    let (sessions, users) = (Flaky::new(&memory), Users::new(users().await));
    let clock = Arc::new(ManualClock::at(UnixSeconds::new(now())));
    let builder =
        AuthorizationServer::builder("https://id.example", "orders", SigningKey::generate(Algorithm::EdDsa).unwrap());
    let builder = builder
        .first_party_login(Arc::clone(&users) as _, hasher)
        .login_limits(limits.build().unwrap())
        .sessions(Arc::clone(&sessions) as _, SessionPolicy::default().grace(GRACE))
        .clock(Arc::clone(&clock) as _)
        .session_cookies(SessionCookies::new(CsrfGuard::builder().build().unwrap()))
        .registration(Registration::new().scopes(["me"]))
        .client(client("one"))
        .client(client("two"));
    let handle = with(builder).build().unwrap();
    let api = handle.resource_server();
    let at = |path: &str| Router::new().route(path, route(|| async { "in" }));
    let broken = ServicePolicy::new(service_fn(async |_: Question| Err::<Decision, _>("pulled the plug")));
    let keys = TestAuthority::new();
    let app = Router::new()
        .merge(at("/me"))
        .merge(at("/items").layer(api.require(["items"]).unwrap()))
        .merge(at("/current").layer(handle.current_user().unwrap()))
        .merge(at("/policy").layer(AuthorizeLayer::new(broken)))
        .layer(api.authenticate())
        .merge(at("/elsewhere").layer(keys.api().authenticate()))
        .merge(at("/tls").layer(RequireHttpsLayer::new(TrustedProxies::none())))
        .merge(handle.routes());
    let log = EventLog::new();
    let trail = AuditTrail::builder().sink(log.clone()).admitted_one_in(0).start().unwrap();
    let server = serve(app.layer(AuditLayer::new(trail.clone()))).await;
    let (asked, told) = (AtomicUsize::new(0), AtomicUsize::new(0));
    World { server, handle, sessions, users, clock, keys, log, trail, secret: secret.expose().clone(), asked, told }
}

/// A kind, a reason, and whose.
type Told<'a> = (Kind, Option<&'a str>, Option<&'a str>);

impl World {
    /// Sends a request, and collects what is told of it.
    async fn ask(&self, line: &str, headers: &[&str], body: &str) -> (Reply, Vec<Arc<Event>>) {
        let id = format!("r-{}", self.asked.fetch_add(1, Ordering::SeqCst));
        let named = format!("x-request-id: {id}");
        let mut fields: Vec<&[u8]> = headers.iter().map(|field| field.as_bytes()).collect();
        fields.push(named.as_bytes());
        if !body.is_empty() && !headers.iter().any(|field| field.starts_with("content-type")) {
            fields.push(FORM.as_bytes());
        }
        let reply = send(self.server.address, line, &fields, body.as_bytes()).await;
        let all = self.log.events(&self.trail).await;
        let is_own = |event: &&Arc<Event>| event.request.as_ref().is_some_and(|request| *request.id == *id);
        let own: Vec<_> = all.iter().filter(is_own).cloned().collect();
        self.told.fetch_add(own.len(), Ordering::SeqCst);
        (reply, own)
    }

    /// Sends a request whose answer has this status, and of which this is told, each time with the request and the status.
    async fn tells(&self, line: &str, headers: &[&str], body: &str, status: u16, told: &[Told<'_>]) -> Reply {
        let (reply, events) = self.ask(line, headers, body).await;
        assert_eq!(reply.status, status, "{line}: {reply:?}");
        let found: Vec<Told<'_>> =
            events.iter().map(|event| (event.kind, event.reason, event.who.subject.as_deref())).collect();
        assert_eq!(found, told, "{line} {body}");
        for event in &events {
            let request = event.request.as_ref().unwrap();
            let path = line.split_once(' ').unwrap().1;
            assert_eq!(format!("{} {}", request.method, request.path), line.split('?').next().unwrap(), "{path}");
            assert_eq!(request.client_ip, Some([127, 0, 0, 1].into()), "{line}");
            assert_eq!(event.status, Some(status), "{line}: {event:?}");
        }
        reply
    }

    async fn login(&self, name: &str, password: &str, more: &str, status: u16, told: &[Told<'_>]) -> Reply {
        self.tells("POST /token", &[], &form(name, password, more), status, told).await
    }

    /// Nothing was told that no request of this world is named in.
    async fn tells_no_more(&self) {
        let all = self.log.events(&self.trail).await;
        assert_eq!(all.len(), self.told.load(Ordering::SeqCst), "{all:#?}");
    }
}

const ALICE: Option<&str> = Some("user:id-alice");

fn field(reply: &Reply, name: &str) -> String {
    reply.json()[name].as_str().unwrap().to_owned()
}

fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}")
}

#[tokio::test]
async fn req_191_req_194_every_decision_about_a_request_is_told_once() {
    let world = world(hasher(), limits(), |builder| builder).await;
    let items =
        field(&world.login("alice", PASSWORD, "", 200, &[(Kind::LoginSucceeded, None, ALICE)]).await, "access_token");
    let me = world.login("alice", PASSWORD, "&scope=me", 200, &[(Kind::LoginSucceeded, None, ALICE)]).await;
    let me = bearer(&field(&me, "access_token"));
    let (items, bad, none) = (bearer(&items), bearer("a.b.c"), Vec::new());
    let grpc = "content-type: application/grpc";
    let missing = (Kind::CredentialMissing, Some("no_credential"), None);
    for (line, headers, status, told) in [
        ("GET /me", none.clone(), 401, vec![missing]),
        ("GET /me", vec!["authorization: Basic YTpi"], 401, vec![(missing.0, Some("other_scheme"), None)]),
        ("GET /me", vec![&bad], 401, vec![(Kind::CredentialInvalid, Some("malformed_token"), None)]),
        (
            "GET /me",
            vec!["authorization: Bearer a b"],
            400,
            vec![(Kind::CredentialInvalid, Some("malformed_credential"), None)],
        ),
        (
            "GET /me?access_token=x",
            vec![&items],
            400,
            vec![(Kind::CredentialInvalid, Some("repeated_credential"), None)],
        ),
        ("GET /me?of=x", vec![&items], 200, vec![]),
        ("GET /items", vec![&me], 403, vec![(Kind::AuthorizationDenied, Some("insufficient_scope"), ALICE)]),
        ("GET /items", vec![&items], 200, vec![]),
        ("GET /tls", none.clone(), 403, vec![(Kind::RequestUnsafe, Some("plaintext"), None)]),
        ("GET /policy", vec![&items], 503, vec![(Kind::InfrastructureFailed, Some("policy_undecided"), ALICE)]),
        (
            "POST /session",
            vec!["sec-fetch-site: cross-site"],
            403,
            vec![(Kind::RequestUnsafe, Some("cross_site"), None)],
        ),
    ] {
        world.tells(line, &headers, "", status, &told).await;
    }
    // gRPC is 200 whatever it is; what is told is what it would have been.
    let (reply, events) = world.ask("POST /me", &[grpc], "").await;
    let told: Vec<_> = events.iter().map(|event| (event.kind, event.reason, event.status)).collect();
    assert_eq!((reply.status, told), (200, vec![(missing.0, missing.1, Some(401))]));
    world.tells_no_more().await;
}

#[tokio::test]
async fn req_191_req_194_every_login_and_every_grant_is_told_once() {
    use Kind::{ClientRefused, LoginFailed, LoginLocked, LoginSucceeded, RequestMalformed, TokenIssued};

    let world = world(hasher(), limits(), |builder| builder).await;
    for (name, password, more, reason, subject) in [
        ("alice", "wrong", "", "wrong password", ALICE),
        ("nobody", PASSWORD, "", "unknown user", None),
        ("mallory", PASSWORD, "", "user disabled", Some("user:id-mallory")),
        ("broken", PASSWORD, "", "stored password hash cannot be read", Some("user:id-broken")),
        ("alice", PASSWORD, "&scope=admin", "scope not granted", ALICE),
    ] {
        world.login(name, password, more, 400, &[(LoginFailed, Some(reason), subject)]).await;
    }
    world.login("alice", PASSWORD, "", 200, &[(LoginSucceeded, None, ALICE)]).await;
    for _ in 0..3 {
        world.login("bob", "wrong", "", 400, &[(LoginFailed, Some("wrong password"), Some("user:id-bob"))]).await;
    }
    world.login("bob", "wrong", "", 429, &[(LoginLocked, Some("account_locked"), None)]).await;

    let by = |client: &str, secret: &str| format!("&client_id={client}&client_secret={secret}");
    let service = format!("grant_type=client_credentials{}", by("one", &world.secret));
    let unknown = format!("grant_type=client_credentials{}", by("three", &world.secret));
    let wrong = format!("grant_type=client_credentials{}", by("one", "x"));
    let greedy = format!("{service}&scope=admin");
    let elsewhere = format!("{service}&resource=https://elsewhere.example");
    let foreign = format!("grant_type=password&username=a&password=b{}", by("one", &world.secret));
    for (line, body, status, told) in [
        ("GET /token", "", 405, (RequestMalformed, Some("method not supported"), None)),
        ("POST /token", "grant_type=password&username=a", 400, (RequestMalformed, None, None)),
        ("POST /token", "grant_type=x", 400, (RequestMalformed, Some("grant type not supported"), None)),
        ("POST /token", "grant_type=x&grant_type=y", 400, (RequestMalformed, Some("a parameter is repeated"), None)),
        ("POST /token", &service, 200, (TokenIssued, None, None)),
        ("POST /token", &unknown, 401, (ClientRefused, Some("unknown client"), None)),
        ("POST /token", &wrong, 401, (ClientRefused, Some("wrong secret"), None)),
        ("POST /token", &greedy, 400, (ClientRefused, Some("scope not granted"), None)),
        ("POST /token", &foreign, 400, (ClientRefused, Some("grant type not for this client"), None)),
        ("POST /token", &elsewhere, 400, (ClientRefused, Some("resource unknown or not to be had"), None)),
    ] {
        let (reply, events) = world.ask(line, &[], body).await;
        assert_eq!(reply.status, status, "{body}: {reply:?}");
        let [event] = &events[..] else { panic!("{line} {body}: {events:#?}") };
        assert_eq!((event.kind, event.status, event.who.subject.as_deref()), (told.0, Some(status), told.2), "{body}");
        assert!(told.1.is_none() || event.reason == told.1, "{body}: {event:?}");
        // Who is known, says so: all but one that there is not.
        let of_client = matches!(event.kind, TokenIssued | ClientRefused) && told.1 != Some("unknown client");
        assert_eq!(event.who.client_id.as_deref(), of_client.then_some("one"), "{body}");
    }
    world.users.set_down(true);
    world.login("alice", PASSWORD, "", 503, &[(Kind::InfrastructureFailed, Some("user store"), None)]).await;
    world.users.set_down(false);
    world.sessions.set(Mood::Down);
    world.login("alice", PASSWORD, "", 503, &[(Kind::InfrastructureFailed, Some("session store"), None)]).await;
    world.sessions.set(Mood::Well);
    world.tells_no_more().await;
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one table: each act and what is told of it")]
async fn req_191_req_194_every_act_on_sessions_tokens_and_accounts_is_told_once() {
    use Kind::{
        AuthorizationDenied, ClientRefused, PasswordChangeRefused, PasswordChanged, RefreshRefused, RefreshReused,
        RegistrationRefused, RequestMalformed, SessionRefreshed, SessionsEnded, TokensRevoked, UserRegistered,
    };

    let world = world(hasher(), limits(), |builder| builder).await;
    let signed_in = [(Kind::LoginSucceeded, None, ALICE)];
    let login = async || world.login("alice", PASSWORD, "", 200, &signed_in).await;
    let refresh = |token: &str, more: &str| format!("grant_type=refresh_token&refresh_token={token}{more}");
    let (first, other) = (login().await, login().await);
    let spent = field(&first, "refresh_token");
    let turned = world.tells("POST /token", &[], &refresh(&spent, ""), 200, &[(SessionRefreshed, None, ALICE)]).await;
    let again = (SessionRefreshed, Some("again within the grace"), ALICE);
    world.tells("POST /token", &[], &refresh(&spent, ""), 200, &[again]).await;
    world.clock.advance(GRACE);
    for (body, told) in [
        (refresh(&field(&turned, "refresh_token"), "&scope=admin"), (RefreshRefused, Some("scope not granted"), ALICE)),
        (refresh("x", ""), (RefreshRefused, Some("not a refresh token"), None)),
        (refresh(&spent, ""), (RefreshReused, None, ALICE)),
        (refresh(&spent, ""), (RefreshRefused, Some("no such session"), None)),
    ] {
        world.tells("POST /token", &[], &body, 400, &[told]).await;
    }
    let by = |client: &str| format!("&client_id={client}&client_secret={}", world.secret);
    let service = world.ask("POST /token", &[], &format!("grant_type=client_credentials{}", by("one"))).await.0;
    let service = field(&service, "access_token");
    let access = field(&other, "access_token");
    for (line, body, status, told) in [
        ("POST /introspect", format!("token={service}{}", by("one")), 200, vec![]),
        ("POST /introspect", format!("token=x{}", by("one")), 200, vec![]),
        (
            "POST /introspect",
            format!("token={}{}", field(&other, "refresh_token"), by("two")),
            200,
            vec![(ClientRefused, Some("asks about a token of another client"), None)],
        ),
        (
            "POST /introspect",
            format!("token={service}"),
            401,
            vec![(ClientRefused, Some("a public client asks about a token"), None)],
        ),
        (
            "POST /introspect",
            format!("token={service}{}", by("two")),
            200,
            vec![(ClientRefused, Some("asks about a token of another client"), None)],
        ),
        (
            "POST /revoke",
            format!("token={service}{}", by("two")),
            400,
            vec![(ClientRefused, Some("token of another client"), None)],
        ),
        (
            "POST /revoke",
            "token=x&token=y".to_owned(),
            400,
            vec![(RequestMalformed, Some("a parameter is repeated"), None)],
        ),
        ("POST /revoke", format!("token={service}{}", by("one")), 200, vec![(TokensRevoked, None, Some("client:one"))]),
    ] {
        world.tells(line, &[], &body, status, &told).await;
    }
    let (own, theirs) = (bearer(&access), bearer(&service));
    // A client has neither sessions nor a password; which one has tried is told.
    let again = world.ask("POST /token", &[], &format!("grant_type=client_credentials{}", by("one"))).await.0;
    let client = bearer(&field(&again, "access_token"));
    for line in ["GET /sessions", "POST /password"] {
        let (reply, events) = world.ask(line, &[&client], "a=b").await;
        let [event] = &events[..] else { panic!("{line}: {events:#?}") };
        let who = (event.who.subject.as_deref(), event.who.client_id.as_deref());
        assert_eq!((reply.status, event.kind, who), (403, AuthorizationDenied, (Some("client:one"), Some("one"))));
        assert!(event.who.token_id.is_some(), "{event:?}");
    }
    let unknown = format!("DELETE /sessions/{}", "A".repeat(22));
    for (line, headers, status, told) in [
        ("GET /sessions", vec![], 401, vec![(Kind::CredentialMissing, Some("no_credential"), None)]),
        ("GET /sessions", vec![&*own], 200, vec![]),
        ("GET /sessions", vec![&theirs], 401, vec![(Kind::CredentialInvalid, Some("revoked"), None)]),
        (&unknown, vec![&own], 404, vec![(AuthorizationDenied, Some("no such session"), ALICE)]),
        (
            "DELETE /sessions?x",
            vec![&own],
            400,
            vec![(RequestMalformed, Some("the query is not `except=current`"), None)],
        ),
        ("POST /sessions", vec![&own], 405, vec![(RequestMalformed, Some("method not supported"), None)]),
        ("POST /logout", vec![&own], 204, vec![(SessionsEnded, Some("signed out"), ALICE)]),
        ("POST /logout", vec![&own], 401, vec![(Kind::CredentialInvalid, Some("revoked"), None)]),
    ] {
        world.tells(line, &headers, "", status, &told).await;
    }
    let own = bearer(&field(&login().await, "access_token"));
    let change = |current: &str, new: &str| {
        form("", current, "").replace("grant_type=password&username=&password", "current_password")
            + &form("", new, "").replace("grant_type=password&username=&password", "&new_password")
    };
    for (line, headers, body, status, told) in [
        ("POST /register", vec![], form("carol", PASSWORD, ""), 201, vec![(UserRegistered, None)]),
        ("POST /register", vec![], form("carol", PASSWORD, ""), 409, vec![(RegistrationRefused, Some("name taken"))]),
        (
            "POST /register",
            vec![],
            form("dave", "short", ""),
            400,
            vec![(RegistrationRefused, Some("name or password"))],
        ),
        ("POST /password", vec![], change(PASSWORD, NEW), 401, vec![(Kind::CredentialMissing, Some("no_credential"))]),
        (
            "POST /password",
            vec![&*own],
            change("wrong", NEW),
            400,
            vec![(PasswordChangeRefused, Some("wrong password"))],
        ),
        (
            "POST /password",
            vec![&own],
            change(PASSWORD, "short"),
            400,
            vec![(PasswordChangeRefused, Some("new password"))],
        ),
        (
            "POST /password",
            vec![&own],
            change(PASSWORD, NEW),
            204,
            vec![(PasswordChanged, Some("user")), (SessionsEnded, Some("password changed"))],
        ),
    ] {
        let (reply, events) = world.ask(line, &headers, &body).await;
        assert_eq!(reply.status, status, "{line}: {reply:?}");
        let found: Vec<_> = events.iter().map(|event| (event.kind, event.reason)).collect();
        assert_eq!(found, told, "{line}");
        assert!(events.iter().all(|event| event.status == Some(status)), "{events:?}");
    }
    world.tells_no_more().await;
}

#[tokio::test]
async fn req_191_pages_are_told_as_programs_are() {
    let world = world(hasher(), limits(), |builder| builder).await;
    let same = "sec-fetch-site: same-origin";
    let signed_in = [(Kind::LoginSucceeded, None, ALICE)];
    let reply = world.tells("POST /session", &[same], &form("alice", PASSWORD, ""), 200, &signed_in).await;
    let jar = |reply: &Reply| {
        let set = reply.headers.iter().filter(|(name, _)| name == "set-cookie");
        let pairs: BTreeMap<_, _> = set.filter_map(|(_, value)| value.split(';').next()?.split_once('=')).collect();
        format!(
            "cookie: {}",
            pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
        )
    };
    let cookies = jar(&reply);
    let failed = [(Kind::LoginFailed, Some("wrong password"), ALICE)];
    world.tells("POST /session", &[same], &form("alice", "wrong", ""), 400, &failed).await;
    let refreshed = [(Kind::SessionRefreshed, None, ALICE)];
    let reply = world.tells("POST /session/refresh", &[same, &cookies], "", 200, &refreshed).await;
    let newer = jar(&reply);
    // A page asks when it is loaded, whoever looks at it: no decision about anybody.
    world.tells("POST /session/refresh", &[same], "", 400, &[]).await;
    let ended = [(Kind::SessionsEnded, Some("signed out"), ALICE)];
    world.tells("DELETE /session", &[same, &newer], "", 204, &ended).await;
    world.tells_no_more().await;
}

/// What is done to its end elsewhere is done for the same request, whether or not that has a name of its own.
#[tokio::test]
async fn req_194_all_that_a_request_brings_about_has_one_request_id() {
    let world = world(hasher(), limits(), |builder| builder).await;
    let signed_in = async |cookie: &str| {
        let fields = [FORM.as_bytes(), b"sec-fetch-site: same-origin", cookie.as_bytes()];
        let reply = send(world.server.address, "POST /session", &fields, form("alice", PASSWORD, "").as_bytes()).await;
        assert_eq!(reply.status, 200);
        reply
    };
    let first = signed_in("accept: */*").await;
    let refresh = first.headers.iter().find(|(name, value)| name == "set-cookie" && value.contains("refresh")).unwrap();
    let before = world.log.events(&world.trail).await.len();
    signed_in(&format!("cookie: {}", refresh.1.split(';').next().unwrap())).await;
    let told: Vec<_> = world.log.events(&world.trail).await.split_off(before);
    let kinds: Vec<_> = told.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [Kind::SessionsEnded, Kind::LoginSucceeded], "the session before, and the new one");
    let ids: Vec<_> = told.iter().map(|event| &event.request.as_ref().unwrap().id).collect();
    assert_eq!(ids[0], ids[1]);
}

/// What a program changes is told, in the name of the request for which it does so.
#[tokio::test]
async fn req_191_users_that_a_program_changes_and_keys_that_take_turns_are_told() {
    use http::{Request, Response};
    use portcullis::{jwt::KeyRing, store::Store};
    use tower::{Layer as _, Service as _};

    let world = world(hasher(), limits(), |builder| builder).await;
    for _ in 0..4 {
        world.ask("POST /token", &[], &form("bob", "wrong", "")).await;
    }
    let store = Store::connect("memory:").await.unwrap();
    let secret = "7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26".into();
    let keys = KeyRing::stored(store.keys().unwrap(), Algorithm::EdDsa, secret).open().await.unwrap();
    let before = world.log.events(&world.trail).await.len();
    let handle = world.handle.clone();
    let acts = service_fn(move |_: Request<()>| {
        let (handle, keys) = (handle.clone(), keys.clone());
        async move {
            let alice = UserId::parse("id-alice").unwrap();
            assert!(
                handle.set_disabled(&alice, true).await.unwrap() && handle.set_disabled(&alice, false).await.unwrap()
            );
            let bob = LoginName::parse("bob").unwrap();
            assert!(handle.unlock(&bob).await.unwrap() && !handle.unlock(&bob).await.unwrap());
            keys.replace(UnixSeconds::new(now())).await.unwrap();
            Ok::<_, std::convert::Infallible>(Response::new(()))
        }
    });
    AuditLayer::new(world.trail.clone()).layer(acts).call(Request::get("/admin").body(()).unwrap()).await.unwrap();
    let told: Vec<_> = world.log.events(&world.trail).await.split_off(before);
    let of = |event: &Arc<Event>| (event.kind, event.reason.or(event.what).unwrap_or_default().to_owned());
    let named = |of_request: bool| -> Vec<_> {
        told.iter().filter(|event| event.request.is_some() == of_request).map(of).collect()
    };
    let changed = |change: &str| (Kind::UserChanged, change.to_owned());
    let ended = (Kind::SessionsEnded, "user disabled".to_owned());
    assert_eq!(named(true), [changed("disabled"), ended, changed("enabled"), changed("unlocked")]);
    // Of no request, though one has brought it about.
    assert_eq!(named(false), [(Kind::KeysFetched, "key store".to_owned())]);
    assert!(!format!("{told:?}").contains("bob"), "login names are not told");
}

#[tokio::test]
async fn req_191_req_193_what_is_down_is_told_once_for_a_request_and_lets_nobody_in() {
    let world = world(hasher(), limits(), |builder| builder).await;
    let signed_in = [(Kind::LoginSucceeded, None, ALICE)];
    let own = bearer(&field(&world.login("alice", PASSWORD, "", 200, &signed_in).await, "access_token"));
    let failed = |reason| [(Kind::InfrastructureFailed, Some(reason), ALICE)];
    world.users.set_down(true);
    world.tells("GET /current", &[&own], "", 503, &failed("store_unavailable")).await;
    let last = world.log.events(&world.trail).await.pop().unwrap();
    assert_eq!((last.what, last.detail.as_deref()), (Some("user store"), Some("store unavailable: pulled the plug")));
    world.users.set_down(false);
    world.tells("GET /current", &[&own], "", 200, &[]).await;
    world.handle.set_disabled(&UserId::parse("id-alice").unwrap(), true).await.unwrap();
    world.tells("GET /current", &[&own], "", 401, &[(Kind::CredentialInvalid, Some("revoked"), None)]).await;
    world.sessions.set(Mood::Down);
    let down = [(Kind::InfrastructureFailed, Some("session store"), None)];
    let body = format!("grant_type=refresh_token&refresh_token={}", field(&world_login(&world).await, "refresh_token"));
    world.sessions.set(Mood::Down);
    world.tells("POST /token", &[], &body, 503, &down).await;
    world.sessions.set(Mood::Well);
    let foreign = bearer(&world.keys.token("me"));
    world.tells("GET /elsewhere", &[&foreign], "", 200, &[]).await;
    world.keys.begin_outage();
    let keys = [(Kind::InfrastructureFailed, Some("keys_unavailable"), None)];
    world.tells("GET /elsewhere", &[&foreign], "", 503, &keys).await;
    world.tells_no_more().await;
}

/// Somebody else's session, for as long as the stores answer.
async fn world_login(world: &World) -> Reply {
    world.sessions.set(Mood::Well);
    world.handle.set_disabled(&UserId::parse("id-alice").unwrap(), false).await.unwrap();
    world.login("alice", PASSWORD, "", 200, &[(Kind::LoginSucceeded, None, ALICE)]).await
}

#[tokio::test]
async fn req_191_a_login_that_is_locked_silently_or_limited_or_shed_is_told_as_that() {
    let silent = world(hasher(), limits().silent(), |builder| builder).await;
    for _ in 0..3 {
        silent.login("alice", "wrong", "", 400, &[(Kind::LoginFailed, Some("wrong password"), ALICE)]).await;
    }
    // The client is told what it is told of a wrong password.
    silent.login("alice", PASSWORD, "", 400, &[(Kind::LoginLocked, Some("locked_silently"), ALICE)]).await;
    silent.tells_no_more().await;

    let limited = world(hasher(), limits().per_address(Quota::per_minute(1)), |builder| builder).await;
    limited.login("alice", "wrong", "", 400, &[(Kind::LoginFailed, Some("wrong password"), ALICE)]).await;
    limited.login("bob", PASSWORD, "", 429, &[(Kind::LoginLimited, Some("too_many_of_address"), None)]).await;
    limited.tells_no_more().await;

    let newcomers = world(hasher(), limits().registrations(Quota::per_minute(1)), |builder| builder).await;
    let register = format!("username=carol&password={}", NEW.replace(' ', "+"));
    newcomers.ask("POST /register", &[], &register).await;
    let refused = [(Kind::RegistrationRefused, Some("too_many_registrations"), None)];
    newcomers.tells("POST /register", &[], &register, 429, &refused).await;
    newcomers.tells_no_more().await;

    let one = PasswordHasher::builder().concurrency(1).queue(1).build().unwrap();
    let busy = world(one, limits().per_account(Lockout::default().free(100)), |builder| builder).await;
    let form = form("alice", "wrong", "");
    let replies = join_all((0..12).map(|_| busy.ask("POST /token", &[], &form))).await;
    let count = |status| replies.iter().filter(|(reply, _)| reply.status == status).count();
    assert!(count(503) > 0 && count(400) > 0 && count(503) + count(400) == 12, "{replies:?}");
    let told = busy.log.events(&busy.trail).await;
    for (status, kind) in [(503, Kind::LoginShed), (400, Kind::LoginFailed)] {
        let of = told.iter().filter(|event| event.kind == kind && event.status == Some(status)).count();
        assert_eq!(of, count(status), "{kind}");
    }
    assert_eq!(told.len(), 12, "{told:#?}");
}

#[tokio::test]
async fn req_191_in_the_style_of_the_tutorial_the_status_told_is_the_one_answered() {
    let world = world(hasher(), limits(), |builder| builder.answer_style(AnswerStyle::FastApi)).await;
    let reply = world.login("alice", PASSWORD, "&scope=me", 200, &[(Kind::LoginSucceeded, None, ALICE)]).await;
    world.login("alice", "wrong", "", 401, &[(Kind::LoginFailed, Some("wrong password"), ALICE)]).await;
    let missing = [(Kind::RequestMalformed, Some("a required parameter is missing"), None)];
    world.tells("POST /token", &[], "username=alice", 422, &missing).await;
    let own = bearer(&field(&reply, "access_token"));
    let denied = [(Kind::AuthorizationDenied, Some("insufficient_scope"), ALICE)];
    world.tells("GET /items", &[&own], "", 401, &denied).await;
    world.tells("GET /items", &[], "", 401, &[(Kind::CredentialMissing, Some("no_credential"), None)]).await;
    world.tells_no_more().await;
}
