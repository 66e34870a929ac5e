//! What does not answer is named, in time, and to everybody alike; and what answers again is seen to.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use axum::Router;
use futures::FutureExt as _;
use portcullis::{
    AuthorizationServer, ResourceServer,
    ident::{LoginName, UserId},
    jwt::{Algorithm, ClaimsPolicy, KeySet, RemoteJwks, SigningKey},
    revocation::RevocationList,
    session::SessionPolicy,
    store::{MemoryStore, PasswordHash, StoreError, StoreFuture, UserRecord, UserStore},
};

use crate::{
    login::hasher,
    programs::start,
    stores::Folder,
    support::{Authority, ISSUER, get, serve},
};

/// Users that answer, or not, as they are told.
#[derive(Clone, Default)]
struct Users(Arc<AtomicU8>);

const UP: u8 = 0;
const FAILS: u8 = 1;
const HANGS: u8 = 2;

impl Users {
    fn answer<T: Send + 'static>(&self, answer: T) -> StoreFuture<'_, T> {
        match self.0.load(Ordering::SeqCst) {
            UP => async { Ok(answer) }.boxed(),
            FAILS => async { Err(StoreError::unavailable("postgres://app:hunter2@10.0.0.7/app refused")) }.boxed(),
            _ => pending().boxed(),
        }
    }
}

impl UserStore for Users {
    fn find_by_login<'a>(&'a self, _: &'a LoginName) -> StoreFuture<'a, Option<UserRecord>> {
        self.answer(None)
    }
    fn find_by_id<'a>(&'a self, _: &'a UserId) -> StoreFuture<'a, Option<UserRecord>> {
        self.answer(None)
    }
    fn insert(&self, _: UserRecord) -> StoreFuture<'_, ()> {
        self.answer(())
    }
    fn replace_hash<'a>(&'a self, _: &'a UserId, _: PasswordHash) -> StoreFuture<'a, bool> {
        self.answer(false)
    }
    fn swap_hash<'a>(&'a self, _: &'a UserId, _: &'a PasswordHash, _: PasswordHash) -> StoreFuture<'a, bool> {
        self.answer(false)
    }
    fn set_disabled<'a>(&'a self, _: &'a UserId, _: bool) -> StoreFuture<'a, bool> {
        self.answer(false)
    }
}

/// Asks until this is the answer: a look counts for a second, and a store that has failed is left alone for one or two.
async fn until(address: std::net::SocketAddr, status: u16, body: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let reply = get(address, "/ready", &[]).await;
        if (reply.status, &*reply.text()) == (status, body) {
            assert_eq!(reply.header("cache-control"), Some("no-store"));
            return;
        }
        assert!(Instant::now() < deadline, "{reply:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

const READY: &str = r#"{"status":"ready"}"#;

#[tokio::test]
async fn a_store_that_fails_hangs_and_recovers_over_the_wire() {
    let (users, sessions) = (Users::default(), Arc::new(MemoryStore::new()));
    let key = SigningKey::generate(Algorithm::EdDsa).unwrap();
    let server = AuthorizationServer::builder(ISSUER, "api", key)
        .first_party_login(Arc::new(users.clone()), hasher())
        .sessions(sessions, SessionPolicy::default())
        .build()
        .unwrap();
    let names: Vec<_> = server.readiness().look().await.checks().collect();
    let all = ["signing_keys", "users", "sessions", "revocations"];
    assert_eq!(names, all.map(|name| (name, true)));
    let app = serve(Router::new().merge(server.readiness().routes())).await;
    until(app.address, 200, READY).await;
    for state in [FAILS, HANGS] {
        users.0.store(state, Ordering::SeqCst);
        until(app.address, 503, r#"{"status":"unavailable","failing":["users"]}"#).await;
        let began = Instant::now();
        let replies: Vec<_> = futures::future::join_all((0..50).map(|_| get(app.address, "/ready", &[]))).await;
        assert!(replies.iter().all(|reply| reply.status == 503 && reply.header("retry-after") == Some("1")));
        assert!(began.elapsed() < Duration::from_secs(5), "they wait for one look, not for one after the other");
        assert_eq!(get(app.address, "/health", &[]).await.text(), r#"{"status":"ok"}"#);
        users.0.store(UP, Ordering::SeqCst);
        until(app.address, 200, READY).await;
    }
}

#[tokio::test]
async fn an_api_alone_is_ready_when_the_keys_of_its_issuers_are_there() {
    let authority = Authority::new(Algorithm::EdDsa);
    assert_eq!(authority.api().readiness().look().await.checks().count(), 0, "nothing that could be missing");
    // Nobody listens there, from the start.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let keys = RemoteJwks::builder(format!("http://{address}/jwks.json")).start().unwrap();
    let policy = || ClaimsPolicy::builder("https://partner.example", "orders").build().unwrap();
    let own = KeySet::new([authority.0.verifying_key()]).unwrap();
    let api = ResourceServer::new(ClaimsPolicy::builder(ISSUER, "orders").build().unwrap(), own);
    let api = api.trust(policy(), keys).unwrap();
    let list = RevocationList::new(Arc::new(MemoryStore::new()));
    let api = api.revocations(ISSUER, list).unwrap();
    let readiness = api.readiness();
    assert_eq!(readiness.look().await.failing().collect::<Vec<_>>(), ["issuer_keys"]);
    let app = serve(Router::new().merge(readiness.routes())).await;
    until(app.address, 503, r#"{"status":"unavailable","failing":["issuer_keys"]}"#).await;
    // Its issuer comes up late.
    let jwks = portcullis::AuthorizationServer::builder("https://partner.example", "orders", authority.0);
    let jwks = Router::new().route_service("/jwks.json", jwks.build().unwrap().jwks_endpoint());
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let issuer = tokio::spawn(async move { axum::serve(listener, jwks).await.unwrap() });
    until(app.address, 200, READY).await;
    // While it is down again, its last good keys are there.
    issuer.abort();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    until(app.address, 200, READY).await;
}

#[tokio::test]
async fn auth_server_says_how_it_is_and_the_figures_are_for_this_machine() {
    let folder = Folder::new("watched");
    let program = start("auth_server", &folder, &[("STORE", &format!("sqlite:{}", folder.file("a.db").display()))]);
    let health = get(program.address, "/health", &[]).await;
    assert_eq!((health.status, &*health.text()), (200, r#"{"status":"ok"}"#));
    until(program.address, 200, READY).await;
    let figures = get(program.address, "/metrics", &[]).await;
    assert_eq!(figures.status, 200);
    assert!(figures.text().contains("portcullis_ready{check=\"users\"} 1"), "{}", figures.text());
    for proxied in [
        &b"x-forwarded-for: 203.0.113.9"[..],
        b"x-forwarded-proto: https",
        b"cf-connecting-ip: 203.0.113.9",
        b"forwarded: for=203.0.113.9",
        b"via: 1.1 proxy",
        b"origin: null",
    ] {
        assert_eq!(get(program.address, "/metrics", &[proxied]).await.status, 404);
    }
    for variable in [("TRUSTED_PROXIES", "127.0.0.1"), ("METRICS_LISTEN", "off"), ("METRICS_LISTEN", "127.0.0.1:0")] {
        let program = start("auth_server", &folder, &[variable]);
        assert_eq!(get(program.address, "/metrics", &[]).await.status, 404, "{variable:?}");
        assert_eq!(get(program.address, "/health", &[]).await.status, 200);
    }
}

/// Which peer sees them, whatever the request says of itself.
#[tokio::test]
async fn figures_are_shown_to_loopback_peers_alone() {
    use axum::{body::Body, extract::ConnectInfo, http::Request};
    use tower::ServiceExt as _;

    use crate::auth_server_watch::{Scrapers, figures, recorder};

    const OWN: &str = "localhost:8080";
    for (scrapers, peer, host, status) in [
        (Scrapers::ThisMachine, "127.0.0.1:50000", OWN, 200),
        (Scrapers::ThisMachine, "[::1]:50000", OWN, 200),
        (Scrapers::ThisMachine, "[::ffff:127.0.0.1]:50000", OWN, 200),
        (Scrapers::ThisMachine, "192.0.2.7:50000", OWN, 404),
        (Scrapers::ThisMachine, "10.0.0.7:50000", OWN, 404),
        (Scrapers::ThisMachine, "[fe80::1]:50000", OWN, 404),
        (Scrapers::ThisMachine, "127.0.0.1:50000", "127.0.0.1:8080", 200),
        (Scrapers::ThisMachine, "127.0.0.1:50000", "[::1]:8080", 200),
        // A page whose name was made to lead here: a browser says nothing of its origin then.
        (Scrapers::ThisMachine, "127.0.0.1:50000", "rebound.example:8080", 404),
        (Scrapers::ThisMachine, "127.0.0.1:50000", "127.0.0.1.rebound.example", 404),
        (Scrapers::ThisMachine, "127.0.0.1:50000", "localhost@rebound.example", 404),
        (Scrapers::ThisMachine, "127.0.0.1:50000", "", 404),
        (Scrapers::All, "192.0.2.7:50000", "metrics.example", 200),
        (Scrapers::Nobody, "127.0.0.1:50000", OWN, 404),
    ] {
        let mut request = Request::get("/metrics").header("host", host).body(Body::empty()).unwrap();
        request.extensions_mut().insert(ConnectInfo::<std::net::SocketAddr>(peer.parse().unwrap()));
        let answer = figures(recorder().unwrap().handle(), scrapers).oneshot(request).await.unwrap();
        assert_eq!(answer.status(), status, "{scrapers:?} {peer} {host}");
    }
}

/// A database that is killed makes a machine unready, and is no reason to restart it.
#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_is_killed_is_named_and_the_process_is_alive() {
    use portcullis::{jwt::KeyRing, store::Store};

    let Some(mut postgres) = crate::servers::postgres().await else { return };
    let store = Store::connect(&postgres.url).await.unwrap();
    let secret = "7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26".into();
    let keys = KeyRing::stored(store.keys().unwrap(), Algorithm::EdDsa, secret).open().await.unwrap();
    let server = AuthorizationServer::builder(ISSUER, "api", keys)
        .first_party_login(store.users().unwrap(), hasher())
        .sessions(store.sessions(), SessionPolicy::default())
        .build()
        .unwrap();
    let app = serve(Router::new().merge(server.readiness().routes())).await;
    until(app.address, 200, READY).await;
    postgres.stop();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let reply = get(app.address, "/ready", &[]).await;
        // What was called back is known for some seconds more.
        let all = reply.text().contains(r#""failing":["revocations","sessions","users"]"#);
        if reply.status == 503 && all {
            break;
        }
        assert!(Instant::now() < deadline, "{reply:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(get(app.address, "/health", &[]).await.status, 200);
    postgres.start().await;
    until(app.address, 200, READY).await;
}
