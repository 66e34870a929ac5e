//! `POST /register` and `POST /password`, over a real socket, with real hashes.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{Router, routing::get as route};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::{FutureExt as _, future::join_all};
use portcullis::{
    AuthorizationServer, AuthorizationServerBuilder,
    client::{Client, GrantType, HashedSecret, random_secret},
    config::{ConfigError, ConfigErrors},
    endpoint::Registration,
    ident::{LoginName, UserId},
    jwt::{Algorithm, SigningKey},
    login::{Lockout, LoginLimiter, Quota},
    password::{Argon2Params, PasswordHasher, PasswordPolicy, PasswordRefusal},
    session::SessionPolicy,
    store::{MemoryStore, PasswordHash, SqliteStore, StoreFuture, UserRecord, UserStore},
};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, TestRunner},
};
use serde_json::json;
use tokio::{io::AsyncWriteExt, net::TcpStream};
use unicode_normalization::UnicodeNormalization as _;

use crate::{
    login::{PASSWORD, form, hasher, refused, users, well_formed},
    stores::Folder,
    support::{Authority, Log, Reply, Server, get_with, post, post_token, send, serve},
    wire::down,
};

const NEW: &str = "a cat walks over the keyboard";

struct World {
    server: Server,
    handle: AuthorizationServer,
}

fn builder(users: Arc<dyn UserStore>, hasher: PasswordHasher) -> AuthorizationServerBuilder {
    let key = SigningKey::generate(Algorithm::EdDsa).unwrap();
    let builder = AuthorizationServer::builder("https://id.example", "orders", key).first_party_login(users, hasher);
    // As many of everything as these tests need.
    let limits = LoginLimiter::builder()
        .per_address(Quota::per_minute(10_000))
        .per_account(Lockout::default().free(100))
        .registrations(Quota::per_minute(10_000));
    builder.sessions(Arc::new(MemoryStore::new()), SessionPolicy::default()).login_limits(limits.build().unwrap())
}

async fn start(builder: AuthorizationServerBuilder) -> World {
    let handle = builder.build().unwrap();
    let api = handle.resource_server();
    let me = Router::new().route("/me", route(|| async { "me" })).layer(api.authenticate());
    World { server: serve(me.merge(handle.routes())).await, handle }
}

async fn open(users: Arc<dyn UserStore>) -> World {
    start(builder(users, hasher()).registration(Registration::new().scopes(["me"]))).await
}

fn encoded(pairs: &[(&str, &str)]) -> String {
    let encode = |text| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
    pairs.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect::<Vec<_>>().join("&")
}

impl World {
    async fn register(&self, name: &str, password: &str) -> Reply {
        let reply =
            post(self.server.address, "/register", &encoded(&[("username", name), ("password", password)])).await;
        well_formed(&reply);
        reply
    }

    async fn sign_in(&self, name: &str, password: &str) -> Reply {
        post_token(self.server.address, &form(name, password, "")).await
    }

    async fn signs_in(&self, name: &str, password: &str) -> bool {
        let reply = self.sign_in(name, password).await;
        assert!(matches!(reply.status, 200 | 400), "{reply:?}");
        reply.status == 200
    }

    async fn change(&self, token: &str, current: &str, new: &str) -> Reply {
        let body = encoded(&[("current_password", current), ("new_password", new)]);
        self.post_with(token, &body).await
    }

    async fn post_with(&self, token: &str, body: &str) -> Reply {
        let headers = [b"content-type: application/x-www-form-urlencoded".as_slice(), &bearer(token)];
        send(self.server.address, "POST /password", &headers, body.as_bytes()).await
    }

    async fn refreshes(&self, reply: &Reply) -> bool {
        let token = reply.json()["refresh_token"].as_str().unwrap().to_owned();
        post(self.server.address, "/token/refresh", &format!("refresh_token={token}")).await.status == 200
    }
}

fn bearer(token: &str) -> Vec<u8> {
    format!("authorization: Bearer {token}").into_bytes()
}

fn access(reply: &Reply) -> String {
    reply.json()["access_token"].as_str().unwrap_or_else(|| panic!("{reply:?}")).to_owned()
}

fn codes(reply: &Reply) -> Vec<String> {
    assert_eq!((reply.status, &reply.json()["error"]), (400, &json!("invalid_request")), "{reply:?}");
    well_formed(reply);
    let code = |reason: &serde_json::Value| reason["code"].as_str().unwrap().to_owned();
    reply.json()["reasons"].as_array().unwrap_or_else(|| panic!("{reply:?}")).iter().map(code).collect()
}

#[tokio::test]
async fn req_182_a_stranger_registers_signs_in_and_chooses_another_password() {
    let log = Log::default();
    let _guard = log.capture();
    let world = open(Arc::new(MemoryStore::new())).await;
    let registered = world.register("Ｃarol", PASSWORD).await;
    assert_eq!(registered.status, 201, "{registered:?}");
    let user = registered.json();
    assert_eq!(user, json!({"id": user["id"], "username": "carol", "scopes": ["me"], "disabled": false}));
    let phone = world.sign_in("carol", PASSWORD).await;
    assert_eq!(phone.json()["scope"], "me");
    let laptop = world.sign_in("carol", PASSWORD).await;

    let changed = world.change(&access(&laptop), PASSWORD, NEW).await;
    assert_eq!((changed.status, changed.body.len(), changed.header("cache-control")), (204, 0, Some("no-store")));
    assert!(!world.signs_in("carol", PASSWORD).await && world.signs_in("carol", NEW).await);
    assert!(!world.refreshes(&phone).await && world.refreshes(&laptop).await);
    for (token, status) in [(&phone, 401), (&laptop, 200)] {
        assert_eq!(get_with(world.server.address, "/me", &access(token)).await.status, status);
    }
    let text = log.text();
    for kind in ["user_registered", "password_changed", "sessions_ended"] {
        assert_eq!(text.matches(&format!("kind=\"{kind}\"")).count(), 1, "{kind}: {text}");
    }
    for private in ["carol", PASSWORD, NEW] {
        assert!(!text.to_lowercase().contains(private), "{private}: {text}");
    }
}

#[tokio::test]
async fn req_182_a_password_is_changed_by_whoever_knows_it_alone() {
    let log = Log::default();
    let _guard = log.capture();
    let world = open(users().await).await;
    let (login, other) = (world.sign_in("alice", PASSWORD).await, world.sign_in("alice", PASSWORD).await);
    let token = access(&login);
    for wrong in ["wrong", "Correct horse battery staple & more", &"x".repeat(2000), "a\0b"] {
        refused(&world.change(&token, wrong, NEW).await, 400, "invalid_grant");
    }
    assert_eq!(log.text().matches("password_change_refused").count(), 4);
    assert_eq!(codes(&world.change(&token, PASSWORD, PASSWORD).await), ["password_same_as_before"]);
    // The new one is looked at first: the answer is the same, whether or not the current one is right.
    for new in ["short", "alice alice alice", "passwordpassword", "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"] {
        let [right, wrong] = [world.change(&token, PASSWORD, new).await, world.change(&token, "wrong", new).await];
        assert!(!codes(&right).is_empty());
        assert_eq!(right.without_date(), wrong.without_date(), "{new:?}");
    }
    assert!(world.signs_in("alice", PASSWORD).await && world.refreshes(&other).await, "nothing has changed");
    assert_eq!(world.change(&token, PASSWORD, NEW).await.status, 204);
    assert!(!world.refreshes(&other).await && world.signs_in("alice", NEW).await);
    let text = log.text();
    assert!(!text.contains(NEW) && !text.contains(PASSWORD) && !text.contains("battery"), "{text}");
}

#[tokio::test]
async fn req_165_refusals_say_all_that_is_wrong() {
    let policy = PasswordPolicy::builder().service_name("Acme").build().unwrap();
    let users = users().await;
    let registration = Registration::new();
    let world = start(builder(users, hasher()).registration(registration).password_policy(policy)).await;
    let reply = world.register(&"x".repeat(257), "acme1").await;
    assert_eq!(reply.status, 400);
    assert_eq!(
        reply.text(),
        concat!(
            r#"{"error":"invalid_request","error_description":"the name or the password cannot be used","reasons":["#,
            r#"{"code":"username_too_long","message":"login name is longer than 256 bytes"},"#,
            r#"{"code":"password_too_short","least":15,"given":5,"message":"the password has 5 characters; 15 are the least"},"#,
            r#"{"code":"password_context","message":"the password is a name that belongs to you or to this service, with little else"}]}"#,
        )
    );
    let reply = world.register("Alice", PASSWORD).await;
    assert_eq!(reply.status, 409);
    assert_eq!(
        reply.text(),
        concat!(
            r#"{"error":"invalid_request","error_description":"the name cannot be used","#,
            r#""reasons":[{"code":"username_taken","message":"this name is taken"}]}"#,
        )
    );
    let carol = LoginName::parse("carol").unwrap();
    let refusals = world.handle.check_password(&carol, &"carol at acme".into()).await.unwrap_err();
    let expected = [PasswordRefusal::TooShort { least: 15, given: 13 }, PasswordRefusal::Context];
    assert_eq!(refusals.iter().collect::<Vec<_>>(), expected);
    assert_eq!(world.handle.check_password(&carol, &NEW.into()).await, Ok(()));
    assert_eq!(world.handle.password_policy().least(), 15);
}

#[tokio::test]
async fn req_170_whatever_a_registration_is_made_of_it_is_refused_or_a_user() {
    let world = open(users().await).await;
    let long = "x".repeat(1025);
    for (name, password, expected) in [
        ("a\0", PASSWORD, "username_control"),
        ("a\nb", PASSWORD, "username_control"),
        ("carol", "nul \0 in the middle", "password_nul"),
        ("carol", &long, "password_too_long"),
        ("carol", "carolcarolcarol", "password_context"),
        ("carol@acme.example", "acme example carol", "password_context"),
    ] {
        assert!(codes(&world.register(name, password).await).contains(&expected.to_owned()), "{name:?} {password:?}");
    }
    let good = encoded(&[("username", "carol"), ("password", PASSWORD)]);
    let huge = format!("{good}&x={}", "x".repeat(16 * 1024));
    for (body, description) in [
        ("", "a required parameter is missing"),
        ("username=carol", "a required parameter is missing"),
        ("username=&password=x", "a required parameter is missing"),
        ("password=x", "a required parameter is missing"),
        (&format!("{good}&username=dave"), "a parameter is repeated"),
        (&format!("{good}&%70assword=x"), "a parameter is repeated"),
        (&format!("{good}%ED%A0%80"), "the body is not UTF-8"),
        (&format!("{good}%FF"), "the body is not UTF-8"),
        (&huge, "the body is incomplete or too long"),
    ] {
        let reply = post(world.server.address, "/register", body).await;
        refused(&reply, 400, "invalid_request");
        assert_eq!(reply.json()["error_description"], description);
    }
    let json = br#"{"username":"carol","password":"correct horse battery staple"}"#;
    let reply = send(world.server.address, "POST /register", &[b"content-type: application/json"], json).await;
    refused(&reply, 400, "invalid_request");
    for method in ["GET", "PUT", "DELETE", "PATCH"] {
        let reply = send(world.server.address, &format!("{method} /register"), &[], b"").await;
        assert_eq!((reply.status, reply.header("allow")), (405, Some("POST")));
    }
    assert!(!world.signs_in("carol", PASSWORD).await, "nobody has come of all that");
    let greedy = format!("{good}&scope=admin&scopes=admin&id=id-alice&disabled=false&grant_type=password");
    let reply = post(world.server.address, "/register", &greedy).await;
    assert_eq!((reply.status, &reply.json()["scopes"]), (201, &json!(["me"])), "{reply:?}");
    assert_ne!(reply.json()["id"], "id-alice");
}

#[tokio::test]
async fn registration_is_closed_unless_it_is_opened() {
    let closed = start(builder(users().await, hasher())).await;
    let reply = post(closed.server.address, "/register", &encoded(&[("username", "carol"), ("password", NEW)])).await;
    assert_eq!(reply.status, 404);
    assert!(closed.handle.register_endpoint().is_none() && closed.handle.password_endpoint().is_some());
    let key = || SigningKey::generate(Algorithm::EdDsa).unwrap();
    let without = AuthorizationServer::builder("https://id.example", "orders", key());
    assert!(without.build().unwrap().password_endpoint().is_none());
    let without = AuthorizationServer::builder("https://id.example", "orders", key()).registration(Registration::new());
    assert_eq!(without.build().unwrap_err(), ConfigErrors::from(ConfigError::RegistrationWithoutLogin));
    let bad = builder(users().await, hasher()).registration(Registration::new().scopes(["me", "a b", "\""]));
    assert_eq!(bad.build().unwrap_err().iter().count(), 2);
}

#[tokio::test]
async fn names_that_are_there_can_be_hidden() {
    let folder = Folder::new("hidden-names");
    let store = Arc::new(SqliteStore::open(folder.file("a.db")).unwrap());
    let hidden = Registration::new().scopes(["me"]).hide_existing_names();
    // A hash that takes as long as the wait that hides the rest: without one, a taken name would be answered in half the time.
    let heavy = Argon2Params::new(128 * 1024, 3, 1).unwrap();
    let hasher = PasswordHasher::builder().params(heavy).concurrency(1).wait(Duration::from_secs(30)).build().unwrap();
    let world = start(builder(Arc::clone(&store) as _, hasher).registration(hidden)).await;
    assert_eq!(world.register("alice", PASSWORD).await.status, 202);
    let mallory = world.register("mallory", PASSWORD).await.without_date();
    let id = store.find_by_login(&LoginName::parse("mallory").unwrap()).await.unwrap().unwrap().id;
    assert!(store.set_disabled(&id, true).await.unwrap());
    assert_eq!((mallory.status, mallory.text().as_str()), (202, r#"{"status":"accepted"}"#));
    let mut fastest = [f64::MAX; 3];
    let spread = |fastest: &[f64]| {
        let (least, most) = fastest.iter().fold((f64::MAX, 0_f64), |(least, most), &t| (least.min(t), most.max(t)));
        most / least
    };
    let mut round = 0;
    // The fastest of as many rounds as a busy machine needs.
    while round < 4 || (spread(&fastest) > 1.2 && round < 20) {
        for (name, fastest) in [&format!("carol{round}"), "alice", "mallory"].into_iter().zip(&mut fastest) {
            let begin = Instant::now();
            let reply = world.register(name, NEW).await;
            *fastest = fastest.min(begin.elapsed().as_secs_f64());
            assert_eq!(reply.without_date(), mallory, "{name}");
        }
        round += 1;
    }
    assert!(fastest.iter().all(|&time| time >= 0.25) && spread(&fastest) <= 1.2, "{fastest:?}");
    assert!(world.signs_in("carol0", NEW).await && world.signs_in("carol3", NEW).await);
    assert!(world.signs_in("alice", PASSWORD).await && !world.signs_in("alice", NEW).await, "nobody is overwritten");
    // What is wrong with a password is told all the same: it says nothing about the name.
    assert_eq!(codes(&world.register("alice", "short").await), ["password_too_short"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_want_one_name_at_once_one_gets_it() {
    let folder = Folder::new("one-name");
    let sqlite = SqliteStore::open(folder.file("a.db")).unwrap();
    let stores: [Arc<dyn UserStore>; 2] = [Arc::new(MemoryStore::new()), Arc::new(sqlite)];
    for store in stores {
        let world = open(store).await;
        let password = |n: usize| format!("the password of number {n}");
        let replies = join_all((0..16).map(|n| {
            let (world, password) = (&world, password(n));
            async move { world.register(["Carol", "carol", "ＣＡＲＯＬ"][n % 3], &password).await.status }
        }))
        .await;
        let winners: Vec<usize> = (0..16).filter(|&n| replies[n] == 201).collect();
        assert!(winners.len() == 1 && replies.iter().filter(|&&status| status == 409).count() == 15, "{replies:?}");
        for n in [winners[0], (winners[0] + 1) % 16, (winners[0] + 7) % 16] {
            assert_eq!(world.signs_in("carol", &password(n)).await, n == winners[0]);
        }
    }
}

#[tokio::test]
async fn the_password_endpoint_answers_to_a_users_own_token_alone() {
    let secret = random_secret().unwrap();
    let service = Client::confidential("reports", HashedSecret::of(&secret).unwrap());
    let service = service.grant(GrantType::ClientCredentials).scopes(["me"]);
    let users = users().await;
    let app = Client::public("app").grant(GrantType::Password);
    let world = start(builder(Arc::clone(&users) as _, hasher()).client(app).client(service)).await;
    let body = encoded(&[("current_password", PASSWORD), ("new_password", NEW)]);
    let none = post(world.server.address, "/password", &body).await;
    assert_eq!((none.status, none.header("www-authenticate")), (401, Some("Bearer realm=\"api\"")));
    for foreign in [Authority::new(Algorithm::EdDsa).token("me"), "x".to_owned(), String::new()] {
        assert!(matches!(world.post_with(&foreign, &body).await.status, 400 | 401), "{foreign}");
    }
    let basic = format!("authorization: Basic {}", STANDARD.encode(format!("reports:{}", secret.expose())));
    let headers = [b"content-type: application/x-www-form-urlencoded".as_slice(), basic.as_bytes()];
    let service = send(world.server.address, "POST /token", &headers, b"grant_type=client_credentials").await;
    assert_eq!(world.post_with(&access(&service), &body).await.status, 403, "a client has no password");

    let login = post_token(world.server.address, &form("alice", PASSWORD, "&client_id=app")).await;
    let token = access(&login);
    for (body, description) in [
        ("", "a required parameter is missing"),
        ("current_password=x&new_password=", "a required parameter is missing"),
        (&format!("{body}&new_password=x"), "a parameter is repeated"),
        (&format!("{body}%ED%BF%BF"), "the body is not UTF-8"),
    ] {
        let reply = world.post_with(&token, body).await;
        refused(&reply, 400, "invalid_request");
        assert_eq!(reply.json()["error_description"], description);
    }
    let (json, bearer) = (br#"{"current_password":"x","new_password":"y"}"#, bearer(&token));
    let headers = [b"content-type: application/json".as_slice(), &bearer];
    refused(&send(world.server.address, "POST /password", &headers, json).await, 400, "invalid_request");
    for method in ["GET", "PUT", "DELETE"] {
        let reply = send(world.server.address, &format!("{method} /password"), &[&bearer], b"").await;
        assert_eq!((reply.status, reply.header("allow")), (405, Some("POST")));
    }
    // The token is good still, the user is not.
    let id = UserId::parse("id-alice").unwrap();
    assert!(users.set_disabled(&id, true).await.unwrap());
    let reply = world.post_with(&token, &body).await;
    assert!(reply.status == 401 && reply.header("www-authenticate").unwrap().contains("invalid_token"), "{reply:?}");
    assert!(users.set_disabled(&id, false).await.unwrap());
    assert_eq!(world.post_with(&token, &body).await.status, 204);
}

#[tokio::test]
async fn req_137_a_store_or_a_hasher_that_cannot_answer_is_503() {
    let world = open(down()).await;
    let reply = world.register("carol", PASSWORD).await;
    refused(&reply, 503, "temporarily_unavailable");
    assert!(reply.header("retry-after").is_some());
    let busy = PasswordHasher::builder().concurrency(1).queue(0).wait(Duration::ZERO).build().unwrap();
    let world = start(builder(users().await, busy.clone()).registration(Registration::new())).await;
    let token = access(&world.sign_in("alice", PASSWORD).await);
    let (mut registered, mut changed, mut round) = (0, 0, 0);
    // As long as somebody else's password is being hashed.
    while registered == 0 || changed == 0 {
        round += 1;
        assert!(round < 100, "{registered} {changed}: an overload is told");
        let other = tokio::spawn({
            let busy = busy.clone();
            async move { join_all((0..50).map(|_| busy.hash("x".into()))).await.len() }
        });
        tokio::time::sleep(Duration::from_millis(1)).await;
        for (reply, count) in [
            (world.register(&format!("carol{round}"), PASSWORD).await, &mut registered),
            (world.change(&token, "wrong", NEW).await, &mut changed),
        ] {
            if reply.status == 503 {
                assert_eq!(reply.header("retry-after"), Some("1"));
                *count += 1;
            }
        }
        other.await.unwrap();
    }
    // The thread that has just answered is free a moment later.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(world.signs_in("alice", PASSWORD).await);
}

#[tokio::test]
async fn a_change_is_done_to_its_end_even_if_nobody_waits_for_it() {
    let log = Log::default();
    let _guard = log.capture();
    let hasher = PasswordHasher::builder().concurrency(1).wait(Duration::from_secs(30)).build().unwrap();
    let world = start(builder(users().await, hasher.clone())).await;
    let (login, other) = (world.sign_in("alice", PASSWORD).await, world.sign_in("alice", PASSWORD).await);
    let hang_up = async |current: &str| {
        // Others are before them in the queue, so that they have gone before it is their turn.
        let before = (0..5).map(|_| {
            tokio::spawn({
                let hasher = hasher.clone();
                async move { hasher.hash("x".into()).await }
            })
        });
        let before: Vec<_> = before.collect();
        tokio::task::yield_now().await;
        let body = encoded(&[("current_password", current), ("new_password", NEW)]);
        let head = format!(
            "POST /password HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n\
             content-type: application/x-www-form-urlencoded\r\n\r\n",
            access(&login),
            body.len(),
        );
        let mut stream = TcpStream::connect(world.server.address).await.unwrap();
        stream.write_all((head + &body).as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
        drop(stream);
        for one in before {
            one.await.unwrap().unwrap();
        }
    };
    let told = async |kind: &str| {
        let begin = Instant::now();
        while !log.text().contains(kind) {
            assert!(begin.elapsed() < Duration::from_secs(20), "{kind} is never told");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    hang_up("a guess").await;
    told("password_change_refused").await;
    hang_up(PASSWORD).await;
    told("sessions_ended").await;
    assert!(world.signs_in("alice", NEW).await && !world.refreshes(&other).await);
}

/// Users of whom one is given another password right after they were looked up for a login.
struct Meanwhile {
    users: Arc<MemoryStore>,
    hash: Mutex<Option<PasswordHash>>,
}

impl UserStore for Meanwhile {
    fn find_by_login<'a>(&'a self, login: &'a LoginName) -> StoreFuture<'a, Option<UserRecord>> {
        let find = async move {
            let found = self.users.find_by_login(login).await?;
            let hash = self.hash.lock().unwrap().take();
            if let (Some(user), Some(hash)) = (&found, hash) {
                self.users.replace_hash(&user.id, hash).await?;
            }
            Ok(found)
        };
        find.boxed()
    }

    fn find_by_id<'a>(&'a self, id: &'a UserId) -> StoreFuture<'a, Option<UserRecord>> {
        self.users.find_by_id(id)
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

#[tokio::test]
async fn whoever_knows_the_old_password_does_not_undo_an_administrators_new_one() {
    let store = Arc::new(Meanwhile { users: users().await, hash: Mutex::default() });
    let world = start(builder(Arc::clone(&store) as _, hasher())).await;
    let token = access(&world.sign_in("alice", PASSWORD).await);
    let theirs = "what the administrator chose";
    *store.hash.lock().unwrap() = Some(hasher().hash(theirs.into()).await.unwrap());
    refused(&world.change(&token, PASSWORD, NEW).await, 400, "invalid_grant");
    assert!(world.signs_in("alice", theirs).await && !world.signs_in("alice", NEW).await);
}

/// Whatever the policy lets pass opens the door again, typed on whatever keyboard.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn req_163_req_164_any_password_that_is_accepted_signs_in_in_any_normal_form() {
    let world = open(Arc::new(MemoryStore::new())).await;
    // Letters that have several spellings, among all others.
    let accents = "[éÅçñöşạ\u{ac00}-\u{ac20}\u{212b}\u{2126}\u{300}-\u{308}\u{1e69}\u{fb01}\u{2adc}a-c]{12,24}";
    let texts = proptest::prop_oneof![
        proptest::string::string_regex(accents).unwrap(),
        proptest::collection::vec(proptest::char::any(), 12..40).prop_map(String::from_iter),
    ];
    let mut runner = TestRunner::new(Config::default());
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..40 {
        let text = texts.new_tree(&mut runner).unwrap().current();
        let name = format!("user {round}");
        let reply = world.register(&name, &text).await;
        if reply.status != 201 {
            assert!(!codes(&reply).is_empty(), "{text:?}");
            refused += 1;
            continue;
        }
        accepted += 1;
        for form in [text.nfc().collect::<String>(), text.nfd().collect(), text.clone()] {
            assert!(world.signs_in(&name, &form).await, "{form:?} for {text:?}");
        }
    }
    assert!(accepted > 10, "{accepted} accepted, {refused} refused");
}
