//! Sessions in cookies, over a real socket, with a client that keeps cookies as a browser does.

use std::{
    collections::{BTreeMap, HashSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use axum::{Router, routing::get as route};
use portcullis::{
    AuthorizationServer, AuthorizationServerBuilder,
    browser::{ACCESS_COOKIE, CSRF_COOKIE, CsrfGuard, REFRESH_COOKIE},
    client::{Client, GrantType, HashedSecret, random_secret},
    clock::{ManualClock, UnixSeconds},
    config::ConfigError,
    endpoint::SessionCookies,
    ident::{LoginName, UserId},
    jwt::{Algorithm, SigningKey},
    login::DEVICE_COOKIE,
    secret::Secret,
    session::SessionPolicy,
    store::{MemoryStore, SessionStore, UserRecord, UserStore},
};
use serde_json::{Value, json};

use crate::{
    login::{PASSWORD, claims, form, hasher, refused, users, well_formed},
    sessions::{Flaky, Mood},
    support::{Reply, Server, get_with, now, post_token, send, serve},
};

const GRACE: Duration = Duration::from_secs(10);
const FORM: &[u8] = b"content-type: application/x-www-form-urlencoded";
/// As a browser says of a page of the same origin.
const SAME: &[u8] = b"sec-fetch-site: same-origin";
const OURS: [&str; 3] = [REFRESH_COOKIE, CSRF_COOKIE, ACCESS_COOKIE];

struct World {
    server: Server,
    users: Arc<MemoryStore>,
    store: Arc<Flaky>,
    clock: Arc<ManualClock>,
}

fn cookies() -> SessionCookies {
    SessionCookies::new(CsrfGuard::builder().build().unwrap())
}

fn builder(issuer: &str) -> AuthorizationServerBuilder {
    AuthorizationServer::builder(issuer, "orders", SigningKey::generate(Algorithm::EdDsa).unwrap())
}

async fn world() -> World {
    world_with(cookies(), "https://id.example", |builder| builder).await
}

async fn world_with(
    cookies: SessionCookies,
    issuer: &str,
    with: impl FnOnce(AuthorizationServerBuilder) -> AuthorizationServerBuilder,
) -> World {
    let users = users().await;
    let store = Flaky::new(&users);
    let clock = Arc::new(ManualClock::at(UnixSeconds::new(now())));
    let handle = builder(issuer)
        .first_party_login(Arc::clone(&users) as _, hasher())
        .sessions(Arc::clone(&store) as _, SessionPolicy::default().grace(GRACE))
        .session_cookies(cookies)
        .clock(Arc::clone(&clock) as _);
    let handle = with(handle).build().unwrap();
    let api = handle.resource_server();
    let me = Router::new().route("/me", route(|| async { "me" })).layer(api.authenticate());
    World { server: serve(me.merge(handle.routes())).await, users, store, clock }
}

impl World {
    fn browser(&self) -> Browser {
        Browser { address: self.server.address, jar: BTreeMap::new() }
    }

    async fn signed_in(&self) -> (Browser, Reply) {
        let mut browser = self.browser();
        let reply = browser.sign_in("alice", PASSWORD, "").await;
        assert_eq!(reply.status, 200, "{reply:?}");
        (browser, reply)
    }

    async fn opens(&self, token: &str) -> bool {
        let reply = get_with(self.server.address, "/me", token).await;
        assert!(matches!(reply.status, 200 | 401), "{reply:?}");
        reply.status == 200
    }

    async fn sessions_of(&self, user: &str) -> usize {
        self.users.sessions(&format!("user:id-{user}"), UnixSeconds::new(now())).await.unwrap().len()
    }
}

/// A client that keeps cookies.
#[derive(Clone)]
struct Browser {
    address: SocketAddr,
    jar: BTreeMap<String, String>,
}

impl Browser {
    async fn send(&mut self, line: &str, headers: &[&[u8]], body: &str) -> Reply {
        let jar = self.jar.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ");
        let jar = format!("cookie: {jar}");
        let mut all = vec![SAME];
        if !self.jar.is_empty() {
            all.push(jar.as_bytes());
        }
        all.extend_from_slice(headers);
        let reply = send(self.address, line, &all, body.as_bytes()).await;
        private(&reply);
        for (name, (value, attributes)) in set(&reply) {
            if attributes.contains("Max-Age=0;") {
                self.jar.remove(&name);
            } else {
                self.jar.insert(name, value);
            }
        }
        reply
    }

    async fn sign_in(&mut self, user: &str, password: &str, more: &str) -> Reply {
        let form = form(user, password, more).replace("grant_type=password&", "");
        self.send("POST /session", &[FORM], &form).await
    }

    async fn refresh(&mut self) -> Reply {
        self.send("POST /session/refresh", &[], "").await
    }

    async fn sign_out(&mut self) -> Reply {
        self.send("DELETE /session", &[], "").await
    }

    fn token(&self) -> String {
        self.jar.get(REFRESH_COOKIE).unwrap_or_else(|| panic!("{:?}", self.jar)).clone()
    }

    fn ours(&self) -> usize {
        OURS.iter().filter(|name| self.jar.contains_key(**name)).count()
    }
}

/// What every answer must be, whoever has made it.
fn private(reply: &Reply) {
    assert_eq!(reply.header("cache-control"), Some("no-store"), "{reply:?}");
    assert_eq!(reply.header("pragma"), Some("no-cache"), "{reply:?}");
    assert_eq!(reply.header("vary"), Some("Cookie"), "{reply:?}");
}

/// The cookies that an answer sets: by name, the value and the rest.
fn set(reply: &Reply) -> BTreeMap<String, (String, String)> {
    let fields = reply.headers.iter().filter(|(name, _)| name == "set-cookie");
    let cookies = fields.map(|(_, field)| {
        let (pair, attributes) = field.split_once("; ").unwrap();
        let (name, value) = pair.split_once('=').unwrap();
        (name.to_owned(), (value.to_owned(), attributes.to_owned()))
    });
    let cookies: Vec<_> = cookies.collect();
    let by_name: BTreeMap<_, _> = cookies.iter().cloned().collect();
    assert_eq!(by_name.len(), cookies.len(), "a cookie is set twice: {cookies:?}");
    by_name
}

fn cleared(reply: &Reply) -> bool {
    let set = set(reply);
    let cleared = OURS.map(|name| {
        set.get(name).is_some_and(|(value, attributes)| {
            value.is_empty()
                && attributes.contains("Path=/; Max-Age=0; Secure;")
                && attributes.ends_with("SameSite=Strict")
        })
    });
    assert!(cleared == [true; 3] || OURS.iter().all(|name| !set.contains_key(*name)), "{set:?}");
    cleared[0]
}

fn access(reply: &Reply) -> String {
    reply.json()["access_token"].as_str().unwrap_or_else(|| panic!("{reply:?}")).to_owned()
}

fn members(reply: &Reply) -> Vec<String> {
    reply.json().as_object().unwrap().keys().cloned().collect()
}

/// Whatever is long enough to be a secret in a body.
fn secrets(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) if text.len() >= 16 => found.push(text.clone()),
        Value::Array(values) => values.iter().for_each(|value| secrets(value, found)),
        Value::Object(members) => members.values().for_each(|value| secrets(value, found)),
        _ => {}
    }
}

/// No secret is both in a cookie and in the body.
fn apart(reply: &Reply) {
    let (mut in_body, in_cookies) = (Vec::new(), set(reply));
    secrets(&reply.json(), &mut in_body);
    for (cookie, (value, _)) in in_cookies.iter().filter(|(_, (value, _))| value.len() >= 16) {
        assert!(!reply.text().contains(value), "{cookie} is in the body");
        for part in value.split('.').filter(|part| part.len() >= 16) {
            assert!(in_body.iter().all(|secret| !secret.contains(part)), "{cookie} is in the body in part");
        }
        assert!(in_body.iter().all(|secret| !value.contains(secret)), "the body is in {cookie}");
    }
}

#[tokio::test]
async fn req_020_req_154_req_155_secrets_are_in_cookies_for_this_host_and_in_no_body() {
    let hidden = |seconds: &str| format!("Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Strict");
    for in_cookie in [false, true] {
        let cookies = if in_cookie { cookies().access_in_cookie() } else { cookies() };
        let world = world_with(cookies, "https://id.example", |builder| builder).await;
        let (mut browser, login) = world.signed_in().await;
        let (mut last, fourteen_days) = (String::new(), 14 * 24 * 3600);
        for (at, reply) in [login, browser.refresh().await, browser.refresh().await].into_iter().enumerate() {
            assert_eq!(reply.status, 200, "{reply:?}");
            well_formed(&reply);
            apart(&reply);
            let set = set(&reply);
            let (refresh, attributes) = &set[REFRESH_COOKIE];
            let seconds = attributes.split(&['=', ';'][..]).nth(3).unwrap();
            assert_eq!(*attributes, hidden(seconds));
            // What the session lasts unused, but for as much as a sixteenth.
            assert!((fourteen_days * 15 / 16..=fourteen_days).contains(&seconds.parse().unwrap()), "{seconds}");
            assert!(refresh.len() == 64 && *refresh != last);
            last.clone_from(refresh);
            let (_, attributes) = &set[CSRF_COOKIE];
            assert_eq!(*attributes, format!("Path=/; Max-Age={seconds}; Secure; SameSite=Strict"));
            let device = set.keys().find(|name| name.starts_with(DEVICE_COOKIE));
            assert_eq!(device.is_some(), at == 0, "the device's is set by a login");
            assert_eq!(set.len(), 2 + usize::from(at == 0) + usize::from(in_cookie));
            if in_cookie {
                assert_eq!(members(&reply), ["expires_in", "scope"]);
                let (token, attributes) = &set[ACCESS_COOKIE];
                assert_eq!(*attributes, hidden("600"));
                assert!(world.opens(token).await);
            } else {
                assert_eq!(members(&reply), ["access_token", "expires_in", "scope", "token_type"]);
                assert_eq!(reply.json()["token_type"], "Bearer");
                assert!(world.opens(&access(&reply)).await);
            }
            assert_eq!((&reply.json()["expires_in"], &reply.json()["scope"]), (&json!(600), &json!("me items")));
        }
    }
}

/// As at `/token`, in the same words.
#[tokio::test]
async fn req_034_a_login_that_fails_has_the_bytes_of_the_token_endpoint() {
    let world = world().await;
    for (user, password, more) in [
        ("alice", "wrong", ""),
        ("nobody", PASSWORD, ""),
        ("mallory", PASSWORD, ""),
        ("alice", "", ""),
        ("alice", PASSWORD, "&scope=admin"),
        ("alice", PASSWORD, "&scope=a++b"),
        ("alice", PASSWORD, "&resource=https://other.example"),
        ("alice", PASSWORD, "&scope=me&scope=me"),
    ] {
        let there = post_token(world.server.address, &form(user, password, more)).await;
        let here = world.browser().sign_in(user, password, more).await;
        assert_eq!((here.status, &here.body), (there.status, &there.body), "{user} {password} {more}");
        well_formed(&here);
        assert!(!OURS.iter().any(|name| set(&here).contains_key(*name)), "{here:?}");
    }
    let named = world.browser().sign_in("alice", PASSWORD, "&grant_type=password&scope=me").await;
    assert_eq!((named.status, &named.json()["scope"]), (200, &json!("me")));
    let other = world.browser().sign_in("alice", PASSWORD, "&grant_type=refresh_token").await;
    refused(&other, 400, "unsupported_grant_type");
    let json = r#"{"username":"alice","password":"x"}"#;
    for content_type in [&b"content-type: application/json"[..], b"content-type: text/plain"] {
        refused(&world.browser().send("POST /session", &[content_type], json).await, 400, "invalid_request");
        refused(&world.browser().send("POST /session/refresh", &[content_type], json).await, 400, "invalid_request");
    }
}

#[tokio::test]
async fn a_refresh_turns_the_cookie_and_a_stolen_one_ends_the_session_and_clears_the_cookies() {
    let world = world().await;
    let (mut browser, login) = world.signed_in().await;
    let (mut thief, csrf) = (browser.clone(), browser.jar[CSRF_COOKIE].clone());
    let narrow = browser.send("POST /session/refresh", &[FORM], "scope=me&x=1").await;
    assert_eq!((narrow.status, &narrow.json()["scope"]), (200, &json!("me")));
    assert_eq!(claims(&narrow).1["sid"], claims(&login).1["sid"]);
    assert!(browser.jar.contains_key(CSRF_COOKIE) && !csrf.is_empty());
    world.clock.advance(GRACE / 2);
    let again = thief.refresh().await;
    assert_eq!((again.status, thief.token()), (200, browser.token()), "within the grace, the same");
    assert_eq!(again.json()["scope"], "me items", "a narrower token has not narrowed the session");

    thief.jar.insert(REFRESH_COOKIE.to_owned(), set(&login)[REFRESH_COOKIE].0.clone());
    world.clock.advance(GRACE * 2);
    let replayed = thief.refresh().await;
    refused(&replayed, 400, "invalid_grant");
    assert!(cleared(&replayed) && thief.ours() == 0);
    assert!(!world.opens(&access(&narrow)).await && !world.opens(&access(&login)).await);
    let late = browser.refresh().await;
    refused(&late, 400, "invalid_grant");
    assert!(cleared(&late) && browser.ours() == 0);
}

#[tokio::test]
async fn req_034_a_cookie_that_is_dead_or_missing_is_refused_in_the_same_bytes_and_cleared() {
    let world = world().await;
    let (browser, _) = world.signed_in().await;
    let good = browser.token();
    let there = post_token(world.server.address, "grant_type=refresh_token&refresh_token=x").await;
    let known = format!("{}{}", &good[..22], "A".repeat(42));
    for bad in [None, Some(""), Some("x"), Some("\"\""), Some(&known), Some(&"A".repeat(64)), Some(&"A".repeat(6000))] {
        let mut other = world.browser();
        other.jar.extend(bad.map(|bad| (REFRESH_COOKIE.to_owned(), bad.to_owned())));
        let reply = other.refresh().await;
        assert_eq!((reply.status, &reply.body), (there.status, &there.body), "{bad:?}");
        well_formed(&reply);
        assert!(cleared(&reply), "{bad:?}: {reply:?}");
        let out = other.sign_out().await;
        assert_eq!((out.status, cleared(&out)), (204, true), "{bad:?}: {out:?}");
    }
    let odd: Vec<u8> = [b"cookie: ", REFRESH_COOKIE.as_bytes(), b"=\xff\xfe\x80; =; ;;\xc3"].concat();
    for (line, status) in [("POST /session/refresh", 400), ("DELETE /session", 204)] {
        assert_eq!(send(world.server.address, line, &[SAME, &odd], b"").await.status, status);
    }
    assert_eq!(browser.clone().refresh().await.status, 200, "none of it has cost the session");
}

/// Several tabs that wake up together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn req_057_tabs_that_refresh_at_once_get_the_same_cookie() {
    let world = world().await;
    let (browser, _) = world.signed_in().await;
    let tabs = (0..20).map(|_| {
        let mut tab = browser.clone();
        tokio::spawn(async move { (tab.refresh().await, tab.token()) })
    });
    let mut successors = HashSet::new();
    for tab in tabs.collect::<Vec<_>>() {
        let (reply, token) = tab.await.unwrap();
        assert_eq!(reply.status, 200, "{reply:?}");
        assert!(world.opens(&access(&reply)).await);
        successors.insert(token);
    }
    assert_eq!(successors.len(), 1);
    assert!(!successors.contains(&browser.token()));
}

#[tokio::test]
async fn req_181_signing_out_ends_the_session_and_every_token_that_it_was_given() {
    let world = world().await;
    let (mut browser, login) = world.signed_in().await;
    let (other, elsewhere) = world.signed_in().await;
    let (old, refreshed) = (browser.clone(), browser.refresh().await);
    let out = browser.sign_out().await;
    assert_eq!((out.status, out.text(), cleared(&out)), (204, String::new(), true), "{out:?}");
    assert_eq!(browser.ours(), 0);
    for ended in [access(&login), access(&refreshed)] {
        assert!(!world.opens(&ended).await);
    }
    refused(&old.clone().refresh().await, 400, "invalid_grant");
    assert_eq!(browser.sign_out().await.status, 204, "nobody is signed in");
    assert_eq!(old.clone().sign_out().await.status, 204, "nor here any more");
    assert!(world.opens(&access(&elsewhere)).await && world.sessions_of("alice").await == 1);
    // A token that was turned names its session as well: the answer with its successor may have been lost.
    let mut turned = other.clone();
    assert_eq!(other.clone().refresh().await.status, 200);
    assert_eq!(turned.sign_out().await.status, 204);
    assert_eq!(world.sessions_of("alice").await, 0);

    // An access token in a cookie ends its session, too, should it be all that is left.
    let world = world_with(cookies().access_in_cookie(), "https://id.example", |builder| builder).await;
    let (mut browser, _) = world.signed_in().await;
    let token = browser.jar[ACCESS_COOKIE].clone();
    browser.jar.retain(|name, _| name == ACCESS_COOKIE);
    assert!(world.opens(&token).await);
    assert_eq!(browser.sign_out().await.status, 204);
    assert!(!world.opens(&token).await && world.sessions_of("alice").await == 0);
    browser.jar.insert(ACCESS_COOKIE.to_owned(), format!("{token}A"));
    assert_eq!(browser.sign_out().await.status, 204);
}

/// Nobody can have somebody else sign in to a session that they know.
#[tokio::test]
async fn req_160_each_login_has_a_session_of_its_own_and_ends_the_one_before() {
    let world = world().await;
    let (mut browser, first) = world.signed_in().await;
    let (mut ids, mut before) = (HashSet::from([claims(&first).1["sid"].to_string()]), first);
    for user in ["alice", "bob", "alice"] {
        let old = browser.clone();
        refused(&browser.sign_in(user, "wrong", "").await, 400, "invalid_grant");
        assert!(world.opens(&access(&before)).await, "a login that fails ends nothing");
        let login = browser.sign_in(user, PASSWORD, "").await;
        assert_eq!(login.status, 200, "{login:?}");
        assert!(ids.insert(claims(&login).1["sid"].to_string()), "another identifier");
        assert_ne!(browser.token()[..21], old.token()[..21]);
        assert!(!world.opens(&access(&before)).await, "whoever's it was");
        refused(&old.clone().refresh().await, 400, "invalid_grant");
        assert_eq!(world.sessions_of(user).await, 1);
        before = login;
    }
    // Who knows the name of a session alone cannot end it.
    let mut guess = world.browser();
    guess.jar.insert(REFRESH_COOKIE.to_owned(), format!("{}{}", &browser.token()[..22], "A".repeat(42)));
    assert_eq!(guess.sign_in("bob", PASSWORD, "").await.status, 200);
    assert!(world.opens(&access(&before)).await);
}

#[tokio::test]
async fn req_159_one_credential_in_a_request() {
    let world = world().await;
    let (mut browser, login) = world.signed_in().await;
    let bearer = format!("authorization: Bearer {}", access(&login));
    let form = form("alice", PASSWORD, "");
    let twice = format!("cookie: {REFRESH_COOKIE}={}", browser.token());
    let twice = [&[FORM, twice.as_bytes()][..], &[FORM, twice.as_bytes(), b"accept: */*"][..]];
    for (line, body) in [("POST /session", form.as_str()), ("POST /session/refresh", ""), ("DELETE /session", "")] {
        for field in [bearer.as_bytes(), b"authorization: Basic YTpi", b"authorization: "] {
            for mut who in [browser.clone(), world.browser()] {
                let reply = who.send(line, &[FORM, field], body).await;
                refused(&reply, 400, "invalid_request");
                assert!(set(&reply).is_empty());
            }
        }
        for headers in twice {
            let reply = browser.clone().send(line, headers, body).await;
            refused(&reply, 400, "invalid_request");
            assert!(!cleared(&reply));
        }
    }
    let both = format!("refresh_token={}", browser.token());
    for mut who in [browser.clone(), world.browser()] {
        refused(&who.send("POST /session/refresh", &[FORM], &both).await, 400, "invalid_request");
    }
    assert!(world.opens(&access(&login)).await, "none of it has cost the session");
    assert_eq!(browser.refresh().await.status, 200);
}

#[tokio::test]
async fn req_028_logins_of_pages_and_of_clients_share_their_limits() {
    for pages in [0, 3, 5] {
        let world = world().await;
        for at in 0..5 {
            let wrong = form("alice", "wrong", "");
            let reply = if at < pages {
                world.browser().send("POST /session", &[FORM], &wrong).await
            } else {
                post_token(world.server.address, &wrong).await
            };
            assert_eq!(reply.status, 400, "{pages} {at}: {reply:?}");
        }
        let page = world.browser().sign_in("alice", PASSWORD, "").await;
        assert_eq!((page.status, page.header("retry-after").is_some()), (429, true), "{page:?}");
        assert!(set(&page).is_empty());
        assert_eq!(post_token(world.server.address, &form("alice", PASSWORD, "")).await.status, 429);
        assert_eq!(world.browser().sign_in("bob", PASSWORD, "").await.status, 200);
        // Whoever is signed in stays so, whatever name they send along.
        let mut bob = world.browser();
        assert_eq!(bob.sign_in("bob", PASSWORD, "").await.status, 200);
        assert_eq!(bob.send("POST /session/refresh", &[FORM], "username=alice").await.status, 200);
    }
}

#[tokio::test]
async fn req_137_while_the_store_is_down_the_cookies_stay() {
    let world = world().await;
    let (mut browser, login) = world.signed_in().await;
    for mood in [Mood::Down, Mood::Full] {
        let before = browser.jar.clone();
        world.store.set(mood);
        let replies = [
            ("refresh", browser.refresh().await),
            ("sign out", browser.sign_out().await),
            ("login", browser.sign_in("alice", PASSWORD, "").await),
        ];
        for (what, reply) in replies {
            refused(&reply, 503, "temporarily_unavailable");
            assert!(reply.header("retry-after").is_some(), "{mood:?} {what}");
            assert!(!OURS.iter().any(|name| set(&reply).contains_key(*name)), "{mood:?} {what}: {reply:?}");
        }
        assert_eq!(OURS.map(|name| browser.jar.get(name)), OURS.map(|name| before.get(name)));
        world.store.set(Mood::Well);
        assert_eq!(browser.refresh().await.status, 200, "{mood:?}");
    }
    assert!(world.opens(&access(&login)).await);
    assert_eq!(browser.sign_out().await.status, 204);
    assert!(!world.opens(&access(&login)).await);
}

/// The former session cannot be ended: then nobody is signed in anew.
#[tokio::test]
async fn req_160_a_login_that_cannot_end_the_session_before_is_none() {
    let world = world().await;
    let (mut browser, login) = world.signed_in().await;
    world.store.set(Mood::CannotEnd);
    let before = browser.token();
    refused(&browser.sign_in("bob", PASSWORD, "").await, 503, "temporarily_unavailable");
    assert_eq!(browser.token(), before);
    assert!(world.opens(&access(&login)).await);
    world.store.set(Mood::Well);
    assert_eq!(browser.sign_in("bob", PASSWORD, "").await.status, 200);
    assert!(!world.opens(&access(&login)).await);
}

#[tokio::test]
async fn req_155_an_access_token_that_fits_no_cookie_is_not_issued() {
    let scopes = (0..170).map(|n| format!("a-scope-of-some-length-{n:03}")).collect::<Vec<_>>();
    let user = async |users: &MemoryStore| {
        let user = UserRecord {
            id: UserId::parse("id-many").unwrap(),
            login: LoginName::parse("many").unwrap(),
            password: hasher().hash(Secret::from(PASSWORD)).await.unwrap(),
            scopes: scopes[..150].join(" ").parse().unwrap(),
            disabled: false,
        };
        users.insert(user).await.unwrap();
    };
    let world = world_with(cookies().access_in_cookie(), "https://id.example", |builder| builder).await;
    user(&world.users).await;
    let reply = world.browser().sign_in("many", PASSWORD, "").await;
    refused(&reply, 400, "invalid_scope");
    assert!(!OURS.iter().any(|name| set(&reply).contains_key(*name)), "{reply:?}");
    assert_eq!(world.sessions_of("many").await, 0, "nothing was begun");
    let mut browser = world.browser();
    let few = browser.sign_in("many", PASSWORD, &format!("&scope={}", scopes[0])).await;
    assert_eq!((few.status, browser.ours()), (200, 3), "{few:?}");
    let world = self::world().await;
    user(&world.users).await;
    let mut browser = world.browser();
    let in_body = browser.sign_in("many", PASSWORD, "").await;
    assert!(in_body.status == 200 && access(&in_body).len() > 4096 && browser.refresh().await.status == 200);
}

/// Before anything is counted, read or ended.
#[tokio::test]
async fn another_site_is_refused_before_its_guesses_count() {
    let world = world().await;
    let (browser, login) = world.signed_in().await;
    let cookie = format!("cookie: {REFRESH_COOKIE}={}", browser.token());
    let cross: &[u8] = b"sec-fetch-site: cross-site";
    let (wrong, right) = (form("alice", "wrong", ""), form("alice", PASSWORD, ""));
    for body in [&wrong, &right] {
        for _ in 0..40 {
            let reply = send(world.server.address, "POST /session", &[FORM, cross], body.as_bytes()).await;
            assert_eq!((reply.status, set(&reply).len(), reply.header("ratelimit")), (403, 0, None), "{reply:?}");
            private(&reply);
        }
    }
    // It does not wait for the body.
    for line in ["POST /session", "POST /session/refresh", "DELETE /session"] {
        let headers = [FORM, cross, cookie.as_bytes(), b"content-length: 10000"];
        let reply = send(world.server.address, line, &headers, b"").await;
        assert_eq!((reply.status, set(&reply).len()), (403, 0), "{line}: {reply:?}");
        private(&reply);
    }
    assert!(world.opens(&access(&login)).await);
    assert_eq!(browser.clone().refresh().await.status, 200);
    assert_eq!(world.browser().sign_in("alice", PASSWORD, "").await.status, 200, "none of that was counted");
}

#[tokio::test]
async fn a_page_is_a_public_client() {
    let secret = random_secret().unwrap();
    let confidential = Client::confidential("backend", HashedSecret::of(&secret).unwrap()).grant(GrantType::Password);
    let world = world_with(cookies(), "https://id.example", |builder| {
        builder
            .client(Client::public("app").grant(GrantType::Password).scopes(["me"]))
            .client(Client::public("other").grant(GrantType::Password))
            .client(Client::public("viewer"))
            .client(confidential)
    })
    .await;
    let secret = percent_encoding::utf8_percent_encode(secret.expose(), percent_encoding::NON_ALPHANUMERIC);
    for (more, error) in [
        (String::new(), "invalid_client"),
        ("&client_id=backend".to_owned(), "invalid_client"),
        (format!("&client_id=backend&client_secret={secret}"), "invalid_client"),
        ("&client_id=app&client_secret=x".to_owned(), "invalid_client"),
        ("&client_id=nobody".to_owned(), "invalid_client"),
        ("&client_id=viewer".to_owned(), "unauthorized_client"),
    ] {
        let reply = world.browser().sign_in("alice", PASSWORD, &more).await;
        refused(&reply, 400, error);
        assert_eq!(reply.header("www-authenticate"), None, "a browser would ask the user");
    }
    let mut browser = world.browser();
    let reply = browser.sign_in("alice", PASSWORD, "&client_id=app").await;
    assert_eq!((reply.status, &reply.json()["scope"]), (200, &json!("me")));
    // Another client's session goes on, and so its cookies stay.
    let reply = browser.send("POST /session/refresh", &[FORM], "client_id=other").await;
    refused(&reply, 400, "invalid_grant");
    assert!(!cleared(&reply), "{reply:?}");
    let reply = browser.send("POST /session/refresh", &[FORM], "client_id=app").await;
    assert_eq!((reply.status, &claims(&reply).1["client_id"]), (200, &json!("app")));
}

#[tokio::test]
async fn the_endpoints_are_below_the_issuer_and_there_if_they_are_asked_for() {
    let world = world_with(cookies(), "https://id.example/auth", |builder| builder).await;
    let mut browser = world.browser();
    let form = form("alice", PASSWORD, "");
    assert_eq!(browser.send("POST /auth/session", &[FORM], &form).await.status, 200);
    assert_eq!(browser.send("POST /auth/session/refresh", &[], "").await.status, 200);
    for (path, allow, methods) in [
        ("/auth/session", "POST, DELETE", ["GET", "HEAD", "PUT", "PATCH", "OPTIONS", "BREW"]),
        ("/auth/session/refresh", "POST", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "BREW"]),
    ] {
        for method in methods {
            let reply = browser.send(&format!("{method} {path}"), &[], "").await;
            assert_eq!((reply.status, reply.header("allow")), (405, Some(allow)), "{method} {path}");
        }
    }
    assert_eq!(browser.send("DELETE /auth/session", &[], "").await.status, 204);
    let without = builder("https://id.example").first_party_login(users().await, hasher()).build().unwrap();
    assert!(without.session_endpoint().is_none());
    let without = serve(without.routes()).await;
    assert_eq!(send(without.address, "POST /session", &[FORM, SAME], form.as_bytes()).await.status, 404);
}

#[tokio::test]
async fn cookies_need_sessions_users_and_a_grace() {
    let store = users().await;
    let errors = builder("https://id.example").session_cookies(cookies()).build().unwrap_err();
    let expected = [ConfigError::CookiesWithoutLogin, ConfigError::CookiesWithoutSessions];
    assert!(errors.iter().eq(&expected), "{errors}");
    for (grace, good) in [(0, false), (999, false), (1000, true), (60_000, true)] {
        let grace = Duration::from_millis(grace);
        let built = builder("https://id.example")
            .first_party_login(Arc::clone(&store) as _, hasher())
            .sessions(Arc::clone(&store) as _, SessionPolicy::default().grace(grace))
            .session_cookies(cookies())
            .build();
        let errors = built.err().map(|errors| errors.iter().cloned().collect::<Vec<_>>());
        assert_eq!(errors, (!good).then(|| vec![ConfigError::CookiesWithoutGrace(grace)]), "{grace:?}");
    }
}

/// Where access tokens are in cookies, the endpoints of the signed-in take them there, and behind the guard; elsewhere they do not.
#[tokio::test]
async fn req_157_pages_without_a_token_see_and_end_their_sessions_and_other_sites_do_not() {
    let world = world_with(cookies().access_in_cookie(), "https://id.example", |builder| builder).await;
    let (mut browser, _) = world.signed_in().await;
    let listed = browser.send("GET /sessions", &[], "").await;
    assert_eq!((listed.status, listed.json()["sessions"].as_array().unwrap().len()), (200, 1), "{listed:?}");
    assert_eq!(listed.json()["sessions"][0]["current"], true);
    let jar = browser.jar.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ");
    let cookie = format!("cookie: {jar}");
    let token = format!("authorization: Bearer {}", browser.jar[ACCESS_COOKIE]);
    for (line, headers, status) in [
        ("DELETE /sessions", &[cookie.as_bytes(), b"sec-fetch-site: cross-site"][..], 403),
        (
            "DELETE /sessions",
            &[cookie.as_bytes(), b"sec-fetch-site: same-site", b"origin: https://evil.id.example"],
            403,
        ),
        ("POST /logout", &[cookie.as_bytes(), b"origin: null"], 403),
        ("POST /logout", &[cookie.as_bytes()], 403),
        ("POST /password", &[cookie.as_bytes(), b"sec-fetch-site: cross-site", FORM], 403),
        ("GET /sessions", &[cookie.as_bytes(), token.as_bytes()], 400),
        ("GET /sessions", &[token.as_bytes()], 200),
        ("GET /sessions", &[], 401),
        ("GET /sessions", &[cookie.as_bytes(), b"sec-fetch-site: cross-site"], 200),
    ] {
        let reply = send(world.server.address, line, headers, b"").await;
        assert_eq!(reply.status, status, "{line} {headers:?}: {reply:?}");
    }
    assert_eq!(world.sessions_of("alice").await, 1);
    // A token of one session beside the cookies of another: those are left.
    let (other, _) = world.signed_in().await;
    let token = format!("authorization: Bearer {}", other.jar[ACCESS_COOKIE]);
    let refresh = format!("cookie: {REFRESH_COOKIE}={}", browser.jar[REFRESH_COOKIE]);
    let reply = send(world.server.address, "POST /logout", &[token.as_bytes(), refresh.as_bytes()], b"").await;
    assert!(reply.status == 204 && !cleared(&reply), "{reply:?}");
    let out = browser.send("POST /logout", &[], "").await;
    assert!(
        out.status == 204 && cleared(&out) && browser.jar.keys().all(|name| !OURS.contains(&name.as_str())),
        "{out:?}"
    );
    assert_eq!(world.sessions_of("alice").await, 0);
    assert_eq!(send(world.server.address, "GET /sessions", &[SAME, cookie.as_bytes()], b"").await.status, 401);

    let world = self::world().await;
    let (_, reply) = world.signed_in().await;
    let cookie = format!("cookie: {ACCESS_COOKIE}={}", access(&reply));
    assert_eq!(send(world.server.address, "GET /sessions", &[SAME, cookie.as_bytes()], b"").await.status, 401);
}
