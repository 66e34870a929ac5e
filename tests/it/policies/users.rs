//! Users as the store has them now: kept, read again, forgotten.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{Router, routing::get};
use http::Request;
use portcullis::{
    AuthorizationServer,
    authz::{CurrentUser, CurrentUsers, Scopes},
    clock::{ManualClock, UnixSeconds},
    ident::{LoginName, UserId},
    jwt::{Algorithm, SigningKey},
    password::PasswordHasher,
    rejection::Rejection,
    store::{MemoryStore, PasswordHash, StoreError, StoreFuture, UserRecord, UserStore},
};
use serde_json::json;
use tokio::sync::Semaphore;

use super::{NOW, answer, request_of};
use crate::support::{ISSUER, get_with, serve};

/// Users of a store that answers as it is told, and counts how often it is asked.
struct Asked {
    users: MemoryStore,
    reads: AtomicUsize,
    down: AtomicBool,
    /// Reads that may end.
    gate: Semaphore,
}

impl Asked {
    fn new(gate: usize) -> Arc<Self> {
        let (users, reads, down) = (MemoryStore::new(), AtomicUsize::new(0), AtomicBool::new(false));
        Arc::new(Self { users, reads, down, gate: Semaphore::new(gate) })
    }
}

impl UserStore for Asked {
    fn find_by_login<'a>(&'a self, login: &'a LoginName) -> StoreFuture<'a, Option<UserRecord>> {
        self.users.find_by_login(login)
    }
    fn find_by_id<'a>(&'a self, id: &'a UserId) -> StoreFuture<'a, Option<UserRecord>> {
        Box::pin(async move {
            // What is read is from before, however late it arrives.
            let user = self.users.find_by_id(id).await;
            self.reads.fetch_add(1, SeqCst);
            self.gate.acquire().await.unwrap().forget();
            if self.down.load(SeqCst) { Err(StoreError::unavailable("pulled the plug")) } else { user }
        })
    }
    fn insert(&self, user: UserRecord) -> StoreFuture<'_, ()> {
        self.users.insert(user)
    }
    fn replace_hash<'a>(&'a self, id: &'a UserId, hash: PasswordHash) -> StoreFuture<'a, bool> {
        self.users.replace_hash(id, hash)
    }
    fn swap_hash<'a>(&'a self, id: &'a UserId, from: &'a PasswordHash, to: PasswordHash) -> StoreFuture<'a, bool> {
        self.users.swap_hash(id, from, to)
    }
    fn set_disabled<'a>(&'a self, id: &'a UserId, disabled: bool) -> StoreFuture<'a, bool> {
        self.users.set_disabled(id, disabled)
    }
}

pub async fn user(users: &dyn UserStore, name: &str) -> UserId {
    let id = UserId::random().unwrap();
    let (login, scopes) = (LoginName::parse(name).unwrap(), "me".parse().unwrap());
    let password = PasswordHash::from_phc("$argon2id$");
    users.insert(UserRecord { id: id.clone(), login, password, scopes, disabled: false }).await.unwrap();
    id
}

#[tokio::test]
async fn req_181_a_current_user_is_read_again_and_at_once_where_they_were_changed() {
    let store = Asked::new(Semaphore::MAX_PERMITS);
    let alice = user(&*store, "alice").await;
    let clock = Arc::new(ManualClock::at(UnixSeconds::new(NOW)));
    let key = SigningKey::generate(Algorithm::EdDsa).unwrap();
    let server = AuthorizationServer::builder(ISSUER, "orders", key)
        .first_party_login(store.clone(), PasswordHasher::builder().build().unwrap())
        .clock(clock.clone())
        .build()
        .unwrap();
    let layer = server.current_user().unwrap();
    let ask = async |sub: &str| answer(&layer, request_of(json!({"sub": sub, "iss": ISSUER}))).await;
    let inactive = |answer: (u16, String, Option<Rejection>, bool)| {
        assert_eq!((answer.0, answer.2, answer.3), (401, Some(Rejection::UserInactive), false));
        assert!(answer.1.contains("error=\"invalid_token\""), "{}", answer.1);
    };
    let reads = || store.reads.load(SeqCst);
    assert_eq!(ask(&alice.subject()).await.0, 200);
    assert_eq!(ask(&alice.subject()).await.0, 200);
    assert_eq!(reads(), 1);

    // Disabled behind the server's back: seen when they are read again.
    store.users.set_disabled(&alice, true).await.unwrap();
    assert_eq!(ask(&alice.subject()).await.0, 200);
    clock.advance(Duration::from_secs(5));
    inactive(ask(&alice.subject()).await);
    inactive(ask(&alice.subject()).await);
    assert_eq!(reads(), 2, "that somebody is disabled is kept as well");

    // By the server: at once, both ways.
    server.set_disabled(&alice, false).await.unwrap();
    assert_eq!(ask(&alice.subject()).await.0, 200);
    server.set_disabled(&alice, true).await.unwrap();
    inactive(ask(&alice.subject()).await);
    server.set_disabled(&alice, false).await.unwrap();

    // Whom the store does not have, and whom another issuer calls by the same name.
    assert_eq!(ask("user:AAAAAAAAAAAAAAAAAAAAAA").await.2, Some(Rejection::UserGone));
    // A good token of somebody who is no user here: another one would not help.
    for claims in [json!({"sub": "service:7"}), json!({"sub": alice.subject(), "iss": "https://partner.example"})] {
        let (status, challenge, rejection, called) = answer(&layer, request_of(claims)).await;
        assert_eq!((status, challenge.as_str(), called), (403, "Bearer realm=\"test\"", false));
        assert_eq!(rejection, Some(Rejection::PolicyDenied));
    }

    // An outage is none of the caller's doing, and is not kept.
    assert_eq!(ask(&alice.subject()).await.0, 200);
    store.down.store(true, SeqCst);
    assert_eq!(ask(&alice.subject()).await.0, 200, "kept");
    clock.advance(Duration::from_secs(5));
    let (status, challenge, rejection, called) = ask(&alice.subject()).await;
    assert_eq!((status, challenge.as_str(), called), (503, "", false));
    assert_eq!(rejection, Some(Rejection::StoreUnavailable));
    store.down.store(false, SeqCst);
    assert_eq!(ask(&alice.subject()).await.0, 200);

    // Kept for another time, forgotten together.
    let shorter = server.current_users().unwrap().kept_for(Duration::from_secs(1)).unwrap();
    let before = reads();
    assert_eq!(answer(&shorter.layer(), request_of(json!({"sub": alice.subject()}))).await.0, 200);
    assert_eq!(reads(), before, "read for the other layer");
    server.current_users().unwrap().forget(&alice);
    assert_eq!(answer(&shorter.layer(), request_of(json!({"sub": alice.subject()}))).await.0, 200);
    assert_eq!(reads(), before + 1);
    clock.advance(Duration::from_secs(1));
    assert_eq!(answer(&shorter.layer(), request_of(json!({"sub": alice.subject()}))).await.0, 200);
    assert_eq!(reads(), before + 2);

    let none = CurrentUsers::new(store.clone(), ISSUER).kept_for(Duration::ZERO).unwrap().layer();
    let before = reads();
    for _ in 0..3 {
        assert_eq!(answer(&none, request_of(json!({"sub": alice.subject()}))).await.0, 200);
    }
    assert_eq!(reads() - before, 3);
    assert!(CurrentUsers::new(store, ISSUER).kept_for(Duration::from_secs(61)).is_err());
    let stranger = answer(&layer, Request::new(())).await;
    assert_eq!((stranger.0, stranger.3), (500, false));
}

#[tokio::test]
async fn req_181_whoever_is_being_read_while_they_are_disabled_is_refused() {
    let store = Asked::new(0);
    let alice = user(&*store, "alice").await;
    let key = SigningKey::generate(Algorithm::EdDsa).unwrap();
    let server = AuthorizationServer::builder(ISSUER, "orders", key)
        .first_party_login(store.clone(), PasswordHasher::builder().build().unwrap())
        .build()
        .unwrap();
    let layer = server.current_user().unwrap();
    let ask = || {
        let (layer, request) = (layer.clone(), request_of(json!({"sub": alice.subject()})));
        tokio::spawn(async move { answer(&layer, request).await })
    };
    // Many at once cost one read.
    let many: Vec<_> = (0..500).map(|_| ask()).collect();
    while store.reads.load(SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(store.reads.load(SeqCst), 1);
    server.set_disabled(&alice, true).await.unwrap();
    store.gate.add_permits(500);
    for asked in many {
        let (status, _, rejection, called) = asked.await.unwrap();
        assert_eq!((status, rejection, called), (401, Some(Rejection::UserInactive), false));
    }
    assert_eq!(store.reads.load(SeqCst), 2, "once more, for all of them");
}

#[tokio::test]
async fn req_181_the_stack_of_a_server_knows_its_users_and_one_realm() {
    let store = Arc::new(MemoryStore::new());
    let alice = user(&*store, "alice").await;
    let pem = include_bytes!("../../keys/ed25519.pem");
    let [key, signer] = [(); 2].map(|()| SigningKey::from_pem(Algorithm::EdDsa, pem).unwrap());
    let server = AuthorizationServer::builder(ISSUER, "orders", key)
        .first_party_login(store, PasswordHasher::builder().build().unwrap())
        .build()
        .unwrap();
    let name = |user: CurrentUser| async move { user.username.clone() };
    let shop = server.resource_server().realm("shop").unwrap();
    let app =
        Router::new().route("/name", get(name)).layer(server.protect(Scopes::all_of(["me"]).unwrap()).unwrap()).merge(
            Router::new().route("/shop", get(name)).layer(server.current_user().unwrap()).layer(shop.authenticate()),
        );
    let serving = serve(app).await;
    let token = |subject: &str, scope: &str| {
        let now = crate::support::now();
        let claims = json!({
            "iss": ISSUER, "aud": "orders", "sub": subject, "client_id": "app", "jti": "t", "iat": now, "exp": now + 600,
            "scope": scope,
        });
        signer.sign(&claims).unwrap()
    };
    let ask = async |path: &str, token: &str| {
        let reply = get_with(serving.address, path, token).await;
        (reply.status, reply.header("www-authenticate").unwrap_or_default().to_owned())
    };
    assert_eq!(ask("/name", &token(&alice.subject(), "me")).await.0, 200);
    let (status, challenge) = ask("/name", &token(&alice.subject(), "")).await;
    assert!(status == 403 && challenge.contains("scope=\"me\""), "{challenge}");
    assert_eq!(ask("/name", &token("app", "me")).await, (403, "Bearer realm=\"api\"".to_owned()));
    server.set_disabled(&alice, true).await.unwrap();
    assert_eq!(ask("/name", &token(&alice.subject(), "me")).await.0, 401);
    let (status, challenge) = ask("/shop", &token(&alice.subject(), "me")).await;
    assert!(status == 401 && challenge.starts_with("Bearer realm=\"shop\", error=\"invalid_token\""), "{challenge}");
}

#[tokio::test]
async fn req_181_nobody_joins_a_read_that_is_older_than_what_is_kept() {
    let store = Asked::new(0);
    let alice = user(&*store, "alice").await;
    let clock = Arc::new(ManualClock::at(UnixSeconds::new(NOW)));
    let layer = CurrentUsers::new(store.clone(), ISSUER).clock(clock.clone()).layer();
    let ask = || {
        let (layer, request) = (layer.clone(), request_of(json!({"sub": alice.subject()})));
        tokio::spawn(async move { answer(&layer, request).await.0 })
    };
    let reads = async |expected: usize| {
        while store.reads.load(SeqCst) < expected {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(store.reads.load(SeqCst), expected);
    };
    let mut asked = vec![ask()];
    reads(1).await;
    clock.advance(Duration::from_secs(4));
    asked.push(ask());
    reads(1).await;
    // Another machine has disabled them meanwhile.
    store.users.set_disabled(&alice, true).await.unwrap();
    clock.advance(Duration::from_secs(1));
    asked.push(ask());
    reads(2).await;
    store.gate.add_permits(2);
    let mut statuses = Vec::new();
    for asked in asked {
        statuses.push(asked.await.unwrap());
    }
    assert_eq!(statuses, [200, 200, 401]);
}
