//! Sessions and their refresh tokens: what every store promises, and what the endpoint answers.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis::{
    AuthorizationServer,
    clock::{Clock, ManualClock, UnixSeconds},
    ident::{SessionId, UserId},
    jwt::{Algorithm, SigningKey},
    session::{SealedToken, SessionPolicy, SessionRecord, Standing, TokenDigest},
    store::{
        CalledBack, Cursor, MemoryStore, NewSession, PasswordHash, Revocation, RevocationStore, Revocations, Rotated,
        Rotation, SessionStore, SqliteStore, StoreError, StoreFuture, UserStore,
    },
    testing::stores as suite,
};

use crate::{
    login::{PASSWORD, claims, form, hasher, refused, users, well_formed},
    stores::Folder,
    support::{Log, Reply, Server, get_with, now, post, post_token, send, serve},
};

const NOW: u64 = 1_800_000_000;

fn at(seconds: u64) -> UnixSeconds {
    UnixSeconds::new(NOW + seconds)
}

fn digest(n: u64) -> TokenDigest {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    TokenDigest::from_bytes(bytes)
}

fn session(subject: &str) -> NewSession {
    let session = SessionRecord {
        id: SessionId::random().unwrap(),
        subject: subject.to_owned(),
        client_id: "c".to_owned(),
        scope: "me items".parse().unwrap(),
        audience: vec!["orders".to_owned(), "https://tool.example".to_owned()],
        label: "Firefox \"on\" Linux é".to_owned(),
        network: "192.0.2.0/24".to_owned(),
        auth_time: at(0),
        last_used: at(0),
        expires_at: at(10_000),
    };
    NewSession { session, digest: digest(0), ends_at: at(1000) }
}

/// Turns token `n` into `n + 1`, or whatever comes of it.
fn turn(id: SessionId, n: u64, grace: u64, seconds: u64) -> Rotation {
    Rotation {
        id,
        presented: digest(n),
        successor: digest(n + 1),
        sealed: SealedToken::from_bytes(vec![7; 48]),
        grace: Duration::from_secs(grace),
        ends_at: at(seconds + 1000),
        called_back_until: at(seconds + 3900),
        now: at(seconds),
    }
}

async fn each_store(name: &str, mut test: impl AsyncFnMut(Arc<dyn SessionStore>)) {
    test(Arc::new(MemoryStore::new())).await;
    let folder = Folder::new(name);
    test(Arc::new(SqliteStore::open(folder.file("a.db")).unwrap())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn req_046_req_048_stores_keep_sessions() {
    each_store("sessions", suite::sessions).await;
}

/// Outside the grace, one of many turns the token and another one ends the session. Inside, one turns it, and all others get
/// the same. There is never a second branch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn req_045_req_057_of_many_at_once_one_turns_a_token() {
    each_store("race", async |store| suite::race(store, 1000, 64).await).await;
}

#[tokio::test]
async fn sessions_in_a_file_outlive_the_program() {
    let folder = Folder::new("sessions-reopened");
    let new = session("user:1");
    let id = new.session.id;
    let store = SqliteStore::open(folder.file("a.db")).unwrap();
    store.create(new).await.unwrap();
    assert_eq!(store.rotate(turn(id, 0, 10, 1)).await.unwrap(), Rotated::Turned);
    drop(store);
    let store = SqliteStore::open(folder.file("a.db")).unwrap();
    assert!(matches!(store.rotate(turn(id, 0, 10, 2)).await.unwrap(), Rotated::Again(_)));
    assert_eq!(store.rotate(turn(id, 1, 10, 3)).await.unwrap(), Rotated::Turned);
    assert_eq!(store.rotate(turn(id, 0, 10, 3)).await.unwrap(), Rotated::Reused);
}

struct World {
    server: Server,
    users: Arc<MemoryStore>,
    clock: Arc<ManualClock>,
}

async fn world(policy: SessionPolicy) -> World {
    let users = users().await;
    let clock = Arc::new(ManualClock::at(UnixSeconds::new(now())));
    let server = start(Arc::clone(&users) as _, Arc::clone(&users) as _, Arc::clone(&clock) as _, policy).await;
    World { server, users, clock }
}

async fn start(
    users: Arc<dyn UserStore>,
    sessions: Arc<dyn SessionStore>,
    clock: Arc<dyn Clock>,
    policy: SessionPolicy,
) -> Server {
    start_for("orders", users, sessions, clock, policy).await
}

async fn start_for(
    audience: &str,
    users: Arc<dyn UserStore>,
    sessions: Arc<dyn SessionStore>,
    clock: Arc<dyn Clock>,
    policy: SessionPolicy,
) -> Server {
    let key = SigningKey::generate(Algorithm::EdDsa).unwrap();
    let server = AuthorizationServer::builder("https://id.example", audience, key)
        .first_party_login(users, hasher())
        .sessions(sessions, policy)
        .clock(clock)
        .build();
    serve(server.unwrap().routes()).await
}

/// The refresh token of a login.
async fn sign_in(server: &Server, more: &str) -> Reply {
    let reply = post_token(server.address, &form("alice", PASSWORD, more)).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply
}

fn token(reply: &Reply) -> String {
    reply.json()["refresh_token"].as_str().unwrap_or_else(|| panic!("{reply:?}")).to_owned()
}

async fn refresh(server: &Server, token: &str, more: &str) -> Reply {
    let reply = post_token(server.address, &format!("grant_type=refresh_token&refresh_token={token}{more}")).await;
    well_formed(&reply);
    reply
}

#[tokio::test]
async fn req_040_req_042_req_100_a_refresh_turns_the_token_and_keeps_the_session() {
    let World { server, clock, .. } = world(SessionPolicy::default()).await;
    let login = sign_in(&server, "").await;
    let (_, first) = claims(&login);
    clock.advance(Duration::from_secs(300));
    let narrow = refresh(&server, &token(&login), "&scope=me").await;
    assert_eq!((narrow.status, narrow.json()["scope"].as_str()), (200, Some("me")));
    let (_, second) = claims(&narrow);
    for same in ["sid", "sub", "auth_time", "client_id", "aud", "iss"] {
        assert_eq!(first[same], second[same], "{same}");
    }
    assert_eq!(second["iat"].as_u64().unwrap(), first["iat"].as_u64().unwrap() + 300);
    assert_ne!(first["jti"], second["jti"]);
    assert_ne!(token(&narrow), token(&login));
    // A narrower access token does not make the session narrower.
    let wide = post(server.address, "/token/refresh", &format!("refresh_token={}", token(&narrow))).await;
    assert_eq!((wide.status, wide.json()["scope"].as_str()), (200, Some("me items")), "{wide:?}");
    // Nor does asking for more cost the token.
    refused(&refresh(&server, &token(&wide), "&scope=me+admin").await, 400, "invalid_scope");
    assert_eq!(refresh(&server, &token(&wide), "").await.status, 200);
    let other = post(server.address, "/token/refresh", "grant_type=password&refresh_token=x").await;
    refused(&other, 400, "unsupported_grant_type");
    refused(&post(server.address, "/token/refresh", "").await, 400, "invalid_request");
}

#[tokio::test]
async fn req_046_an_old_token_ends_its_session_and_no_other() {
    let log = Log::default();
    let _guard = log.capture();
    let World { server, .. } = world(SessionPolicy::default()).await;
    let (stolen, other) = (token(&sign_in(&server, "").await), token(&sign_in(&server, "").await));
    let second = token(&refresh(&server, &stolen, "").await);
    let third = token(&refresh(&server, &second, "").await);
    refused(&refresh(&server, &stolen, "").await, 400, "invalid_grant");
    for ended in [&third, &second, &stolen] {
        refused(&refresh(&server, ended, "").await, 400, "invalid_grant");
    }
    assert_eq!(refresh(&server, &other, "").await.status, 200);
    let text = log.text();
    assert_eq!(text.matches("refresh_reused").count(), 1, "{text}");
    for secret in [stolen, second, third, other] {
        assert!(!text.contains(&secret[30..]), "{text}");
    }
}

#[tokio::test]
async fn req_055_req_057_within_the_grace_a_client_that_asks_twice_gets_the_same() {
    let World { server, clock, .. } = world(SessionPolicy::default().grace(Duration::from_secs(10))).await;
    let first = token(&sign_in(&server, "").await);
    let second = token(&refresh(&server, &first, "").await);
    for _ in 0..3 {
        clock.advance(Duration::from_secs(3));
        let again = refresh(&server, &first, "").await;
        assert_eq!((again.status, token(&again)), (200, second.clone()), "never a second branch");
    }
    let third = token(&refresh(&server, &second, "").await);
    // The grace is of the one before the current one alone.
    refused(&refresh(&server, &first, "").await, 400, "invalid_grant");
    refused(&refresh(&server, &third, "").await, 400, "invalid_grant");
}

#[tokio::test]
async fn req_048_sessions_end_when_they_are_not_used_and_when_they_are_old() {
    let (minute, policy) = (Duration::from_secs(60), SessionPolicy::default());
    let World { server, clock, .. } = world(policy.idle(10 * minute).absolute(30 * minute)).await;
    let unused = token(&sign_in(&server, "").await);
    let mut used = token(&sign_in(&server, "").await);
    for round in 0..3 {
        clock.advance(9 * minute);
        used = token(&refresh(&server, &used, "").await);
        assert!(!used.is_empty(), "{round}");
    }
    refused(&refresh(&server, &unused, "").await, 400, "invalid_grant");
    clock.advance(4 * minute);
    refused(&refresh(&server, &used, "").await, 400, "invalid_grant");
}

#[tokio::test]
async fn req_034_whatever_is_wrong_with_a_refresh_token_the_bytes_are_the_same() {
    let World { server, users, .. } = world(SessionPolicy::default()).await;
    let reply = sign_in(&server, "").await;
    let good = token(&reply);
    let mut guess = good.clone().into_bytes();
    *guess.last_mut().unwrap() ^= 1;
    let guess = String::from_utf8(guess).unwrap();
    let unknown = format!("{}{}", "A".repeat(22), &good[22..]);
    let access = reply.json()["access_token"].as_str().unwrap().to_owned();
    let long = "A".repeat(10_000);
    let mut answers = Vec::new();
    for bad in ["x", "%00", "%FF", "%F0%9F%94%92", &good[1..], &format!("{good}A"), &guess, &unknown, &access, &long] {
        let reply = refresh(&server, bad, "").await;
        if bad == "%FF" {
            refused(&reply, 400, "invalid_request");
            continue;
        }
        refused(&reply, 400, "invalid_grant");
        answers.push(reply.body);
    }
    let id = portcullis::ident::UserId::parse("id-alice").unwrap();
    assert!(users.set_disabled(&id, true).await.unwrap());
    let disabled = refresh(&server, &good, "").await;
    answers.push(disabled.body);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    // None of it has cost the session.
    assert!(users.set_disabled(&id, false).await.unwrap());
    assert_eq!(refresh(&server, &good, "").await.status, 200);
}

/// Two servers with one store: a session is good for the audience that it was begun for.
#[tokio::test]
async fn req_047_a_session_is_bound_to_its_audience() {
    let World { server, users, clock } = world(SessionPolicy::default()).await;
    let billing = start_for("billing", Arc::clone(&users) as _, users, clock, SessionPolicy::default()).await;
    let good = token(&sign_in(&server, "").await);
    refused(&refresh(&billing, &good, "").await, 400, "invalid_grant");
    assert_eq!(refresh(&server, &good, "").await.status, 200, "nor has that cost it");
}

/// A store that can be made to fail.
pub struct Flaky(Arc<MemoryStore>, Mutex<Mood>, AtomicUsize);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mood {
    Well,
    Down,
    Full,
    /// Two seconds for each call.
    Slow,
    /// The same for turns alone, after they were done.
    SlowToTell,
    /// The password is another by the time that a session is there.
    Meddling,
    /// No session can be ended.
    CannotEnd,
    /// Half a second for each call, after it was done.
    Late,
    /// Changes are made, and nobody is told.
    Mute,
    /// No change is made.
    Stuck,
}

impl Flaky {
    pub fn new(store: &Arc<MemoryStore>) -> Arc<Self> {
        Arc::new(Self(Arc::clone(store), Mutex::new(Mood::Well), AtomicUsize::new(0)))
    }

    pub fn set(&self, mood: Mood) {
        *self.1.lock().unwrap() = mood;
    }

    fn or_down<'a, T: Send + 'a>(&'a self, call: StoreFuture<'a, T>) -> StoreFuture<'a, T> {
        let mood = *self.1.lock().unwrap();
        self.2.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            match mood {
                Mood::Well | Mood::SlowToTell | Mood::Meddling | Mood::CannotEnd | Mood::Mute | Mood::Stuck => {
                    call.await
                }
                Mood::Late => {
                    let done = call.await;
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    done
                }
                Mood::Down => Err(StoreError::unavailable("pulled the plug")),
                Mood::Full => Err(StoreError::Full),
                Mood::Slow => {
                    tokio::time::sleep(Duration::from_secs(2)).await;
                    call.await
                }
            }
        })
    }

    fn or_mute<'a, T: Send + 'a>(&'a self, change: StoreFuture<'a, T>) -> StoreFuture<'a, T> {
        let mood = *self.1.lock().unwrap();
        let change = self.or_down(change);
        Box::pin(async move {
            if mood == Mood::Stuck {
                return Err(StoreError::unavailable("cannot write"));
            }
            let changed = change.await;
            if mood == Mood::Mute { Err(StoreError::unavailable("no answer in time")) } else { changed }
        })
    }
}

impl SessionStore for Flaky {
    fn create(&self, session: NewSession) -> StoreFuture<'_, ()> {
        let meddles = *self.1.lock().unwrap() == Mood::Meddling;
        let call = self.or_down(self.0.create(session));
        Box::pin(async move {
            if meddles {
                let (alice, other) = (UserId::parse("id-alice").unwrap(), PasswordHash::from_phc("another"));
                assert!(self.0.replace_hash(&alice, other).await?);
            }
            call.await
        })
    }
    fn find(&self, id: SessionId, now: UnixSeconds) -> StoreFuture<'_, Option<SessionRecord>> {
        self.or_down(self.0.find(id, now))
    }
    fn look(
        &self,
        id: SessionId,
        token: TokenDigest,
        now: UnixSeconds,
    ) -> StoreFuture<'_, Option<(SessionRecord, Standing)>> {
        self.or_down(self.0.look(id, token, now))
    }
    fn rotate(&self, rotation: Rotation) -> StoreFuture<'_, Rotated> {
        let slow = *self.1.lock().unwrap() == Mood::SlowToTell;
        let call = self.or_mute(self.0.rotate(rotation));
        Box::pin(async move {
            let told = call.await;
            tokio::time::sleep(Duration::from_secs(if slow { 2 } else { 0 })).await;
            told
        })
    }
    fn revoke(&self, id: SessionId, tokens: CalledBack) -> StoreFuture<'_, bool> {
        if *self.1.lock().unwrap() == Mood::CannotEnd {
            return Box::pin(async { Err(StoreError::unavailable("cannot end")) });
        }
        self.or_mute(self.0.revoke(id, tokens))
    }
    fn revoke_all<'a>(
        &'a self,
        subject: &'a str,
        except: Option<SessionId>,
        tokens: CalledBack,
    ) -> StoreFuture<'a, Vec<SessionId>> {
        self.or_down(self.0.revoke_all(subject, except, tokens))
    }
    fn sessions<'a>(&'a self, subject: &'a str, now: UnixSeconds) -> StoreFuture<'a, Vec<SessionRecord>> {
        self.or_down(self.0.sessions(subject, now))
    }
}

impl RevocationStore for Flaky {
    fn revoke_tokens(&self, revocations: Vec<Revocation>, now: UnixSeconds) -> StoreFuture<'_, ()> {
        self.or_down(self.0.revoke_tokens(revocations, now))
    }
    fn revocations(&self, cursor: Cursor, now: UnixSeconds) -> StoreFuture<'_, Revocations> {
        self.or_down(self.0.revocations(cursor, now))
    }
}

#[tokio::test]
async fn req_034_whatever_is_sent_as_refresh_token_costs_one_look_up_at_the_most() {
    let users = users().await;
    let clock = Arc::new(ManualClock::at(UnixSeconds::new(now())));
    let store = Flaky::new(&users);
    let server = start(users, Arc::clone(&store) as _, clock, SessionPolicy::default()).await;
    let good = token(&sign_in(&server, "").await);
    let mut answers = std::collections::HashSet::new();
    for n in 0..500_u32 {
        // Of every length and kind; and what looks like a token: of no session, and of one with a made-up secret.
        let random: Vec<u8> = (0..48).map(|at| (n.wrapping_mul(2_654_435_761).rotate_left(at) & 0xff) as u8).collect();
        let text = URL_SAFE_NO_PAD.encode(&random);
        let bytes = random.iter().map(|byte| format!("%{:02x}", byte & 0x7f)).collect::<Vec<_>>().concat();
        let length = usize::try_from(n).unwrap() % 66 + 1;
        let known = format!("{}{}", &good[..21], &text[21..]);
        for bad in [text.repeat(2)[..length].to_owned(), text.clone(), bytes, known] {
            let before = store.2.load(Ordering::SeqCst);
            let reply = refresh(&server, &bad, "").await;
            assert!(store.2.load(Ordering::SeqCst) <= before + 1, "{bad}");
            refused(&reply, 400, "invalid_grant");
            answers.insert(reply.body);
        }
    }
    assert_eq!(answers.len(), 1);
    assert_eq!(refresh(&server, &good, "").await.status, 200);
}

/// Whoever changes the password ends all sessions; one that begins just after that sees the change and is ended as well.
#[tokio::test]
async fn a_login_that_is_under_way_does_not_outlive_another_password() {
    let users = users().await;
    let clock = Arc::new(ManualClock::at(UnixSeconds::new(now())));
    let store = Flaky::new(&users);
    let server = start(Arc::clone(&users) as _, Arc::clone(&store) as _, clock, SessionPolicy::default()).await;
    store.set(Mood::Meddling);
    refused(&post_token(server.address, &form("alice", PASSWORD, "")).await, 400, "invalid_grant");
    let left = users.sessions("user:id-alice", UnixSeconds::new(now())).await.unwrap();
    assert!(left.is_empty(), "{left:?}");
}

/// The password is another one by then, so that whoever asks again is told that theirs is wrong: nobody else would end them.
#[tokio::test]
async fn sessions_end_after_a_change_of_password_even_if_the_store_failed_in_between() {
    let users = users().await;
    let clock = Arc::new(ManualClock::at(UnixSeconds::new(now())));
    let store = Flaky::new(&users);
    let server = start(Arc::clone(&users) as _, Arc::clone(&store) as _, clock, SessionPolicy::default()).await;
    let (own, thief) = (sign_in(&server, "").await, sign_in(&server, "").await);
    let authorization = format!("authorization: Bearer {}", own.json()["access_token"].as_str().unwrap());
    let headers = [b"content-type: application/x-www-form-urlencoded".as_slice(), authorization.as_bytes()];
    let current = percent_encoding::utf8_percent_encode(PASSWORD, percent_encoding::NON_ALPHANUMERIC);
    let body = format!("current_password={current}&new_password=solder+lantern+oboe+kite");
    // Once, so that what is called back is known for a while.
    assert_eq!(get_with(server.address, "/sessions", own.json()["access_token"].as_str().unwrap()).await.status, 200);
    store.set(Mood::Down);
    refused(&send(server.address, "POST /password", &headers, body.as_bytes()).await, 503, "temporarily_unavailable");
    let sessions = async || users.sessions("user:id-alice", UnixSeconds::new(now())).await.unwrap().len();
    assert_eq!(sessions().await, 2, "nothing could be ended");
    store.set(Mood::Well);
    for _ in 0..200 {
        if sessions().await == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    refused(&refresh(&server, &token(&thief), "").await, 400, "invalid_grant");
    assert_eq!(refresh(&server, &token(&own), "").await.status, 200, "their own goes on");
    refused(&post_token(server.address, &form("alice", PASSWORD, "")).await, 400, "invalid_grant");
}

/// A thief who hangs up before the answer is seen all the same.
#[tokio::test]
async fn a_replay_is_seen_even_if_nobody_waits_for_the_answer() {
    let log = Log::default();
    let _guard = log.capture();
    let World { server, users, .. } = world(SessionPolicy::default()).await;
    let first = token(&sign_in(&server, "").await);
    let second = refresh(&server, &first, "").await;
    let form = format!("grant_type=refresh_token&refresh_token={first}");
    let head = "content-type: application/x-www-form-urlencoded\r\nhost: localhost";
    let request = format!("POST /token HTTP/1.1\r\n{head}\r\ncontent-length: {}\r\n\r\n{form}", form.len());
    let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
    drop(stream);
    for _ in 0..100 {
        if log.text().contains("refresh_reused") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(log.text().contains("refresh_reused"), "{}", log.text());
    refused(&refresh(&server, &token(&second), "").await, 400, "invalid_grant");
    assert!(users.sessions("user:id-alice", UnixSeconds::new(now())).await.unwrap().is_empty());
}

/// Down, full or slow: 503 with `Retry-After`, soon, and nothing of what was asked for is done; then all is well again.
#[tokio::test]
async fn req_137_a_session_store_that_is_down_is_503_and_signs_nobody_out() {
    let users = users().await;
    let clock = Arc::new(ManualClock::at(UnixSeconds::new(now())));
    let store = Flaky::new(&users);
    let server = start(users, Arc::clone(&store) as _, Arc::clone(&clock) as _, SessionPolicy::default()).await;
    let mut login = sign_in(&server, "").await;
    for mood in [Mood::Down, Mood::Full, Mood::Slow] {
        // The copy of what is called back is fresh, so that the sessions' own answers are seen.
        assert_eq!(get_with(server.address, "/sessions", &access(&login)).await.status, 200);
        store.set(mood);
        let (good, access) = (token(&login), access(&login));
        let call = async |line: &str| {
            send(server.address, line, &[format!("authorization: Bearer {access}").as_bytes()], b"").await
        };
        let begun = std::time::Instant::now();
        let replies = [
            ("refresh", refresh(&server, &good, "").await),
            ("login", post_token(server.address, &form("alice", PASSWORD, "")).await),
            ("revoke", post(server.address, "/revoke", &format!("token={good}")).await),
            ("list", call("GET /sessions").await),
            ("log out", call("POST /logout").await),
            ("end all", call("DELETE /sessions").await),
        ];
        assert!(begun.elapsed() < Duration::from_secs(12), "{mood:?}: {:?}", begun.elapsed());
        for (what, reply) in replies {
            assert_eq!(reply.status, 503, "{mood:?} {what}: {reply:?}");
            assert!(reply.header("retry-after").is_some(), "{mood:?} {what}");
            assert!(reply.header("www-authenticate").is_none(), "{mood:?} {what}");
        }
        // Later no token passes, because it cannot be told whether it was called back; and none is called bad.
        clock.advance(Duration::from_secs(30));
        let reply = get_with(server.address, "/sessions", &access).await;
        assert_eq!((reply.status, reply.header("retry-after")), (503, Some("5")), "{mood:?}: {reply:?}");
        store.set(Mood::Well);
        clock.advance(Duration::from_secs(5));
        let listed = get_with(server.address, "/sessions", &access).await;
        assert_eq!(listed.status, 200, "{mood:?}: what could not be ended has not been: {listed:?}");
        let again = refresh(&server, &good, "").await;
        assert_eq!(again.status, 200, "{mood:?}: nor has the token been turned for nobody");
        login = again;
    }
    // A turn that has been done is told, however late: "try again" would make a thief of the client.
    store.set(Mood::SlowToTell);
    login = refresh(&server, &token(&login), "").await;
    store.set(Mood::Well);
    login = refresh(&server, &token(&login), "").await;
    let authorization = format!("authorization: Bearer {}", access(&login));
    assert_eq!(send(server.address, "POST /logout", &[authorization.as_bytes()], b"").await.status, 204);
    refused(&refresh(&server, &token(&login), "").await, 400, "invalid_grant");
}

fn access(reply: &Reply) -> String {
    reply.json()["access_token"].as_str().unwrap_or_else(|| panic!("{reply:?}")).to_owned()
}
