//! `POST /token`, over a real socket, with real hashes.

use std::{sync::Arc, time::Instant};

use axum::Router;
use portcullis::{
    AuthorizationServer,
    clock::{ManualClock, UnixSeconds},
    config::ConfigError,
    ident::{LoginName, UserId},
    jwt::{Algorithm, SigningKey},
    login::{Lockout, LoginLimiter, Quota},
    password::PasswordHasher,
    secret::Secret,
    store::{MemoryStore, PasswordHash, UserRecord, UserStore},
};
use serde_json::{Value, json};
use std::time::Duration;

use crate::{
    support::{Log, Reply, Server, get, get_with, now, post_token, send, serve},
    wire::down,
};

pub const PASSWORD: &str = "correct horse battery staple & more";

struct Login {
    server: Server,
    users: Arc<MemoryStore>,
}

/// One that nobody is turned away by where the machine is busy with other tests.
pub fn hasher() -> PasswordHasher {
    PasswordHasher::builder().wait(Duration::from_secs(30)).build().unwrap()
}

/// `alice` may have `me items`, `bob` nothing; `mallory` is disabled, and `broken` has a hash that nobody can read.
pub async fn users() -> Arc<MemoryStore> {
    let users = Arc::new(MemoryStore::new());
    let hash = hasher().hash(Secret::from(PASSWORD)).await.unwrap();
    for (name, scopes, hash, disabled) in [
        ("alice", "me items", hash.clone(), false),
        ("bob", "", hash.clone(), false),
        ("mallory", "me", hash, true),
        ("broken", "me", PasswordHash::from_phc("$argon2id$v=19$m=4194304,t=1,p=1$AAAAAAAAAAA$AAAA"), false),
    ] {
        let user = UserRecord {
            id: UserId::parse(&format!("id-{name}")).unwrap(),
            login: LoginName::parse(name).unwrap(),
            password: hash,
            scopes: scopes.parse().unwrap(),
            disabled,
        };
        users.insert(user).await.unwrap();
    }
    users
}

pub async fn start(users: Arc<dyn UserStore>, hasher: PasswordHasher) -> Server {
    let key = SigningKey::generate(Algorithm::EdDsa).unwrap();
    // As many failures as these tests need.
    let limits =
        LoginLimiter::builder().per_address(Quota::per_minute(10_000)).per_account(Lockout::default().free(100));
    let server = AuthorizationServer::builder("https://id.example", "orders", key)
        .first_party_login(users, hasher)
        .login_limits(limits.build().unwrap());
    let server = server.build().unwrap();
    let api = server.resource_server();
    let me = Router::new().route("/me", axum::routing::get(|| async { "me" })).layer(api.authenticate());
    serve(me.merge(server.routes())).await
}

async fn login() -> Login {
    let users = users().await;
    Login { server: start(Arc::clone(&users) as _, hasher()).await, users }
}

pub fn form(username: &str, password: &str, more: &str) -> String {
    let encode = |text| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC);
    format!("grant_type=password&username={}&password={}{more}", encode(username), encode(password))
}

pub fn refused(reply: &Reply, status: u16, error: &str) {
    assert_eq!((reply.status, reply.json()["error"].as_str()), (status, Some(error)), "{reply:?}");
    well_formed(reply);
}

/// What every answer of the endpoint must be: req 32, 33, 37.
pub fn well_formed(reply: &Reply) {
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert_eq!(reply.header("pragma"), Some("no-cache"));
    let body = reply.json();
    let description = body["error_description"].as_str().unwrap_or_default();
    assert!(description.bytes().all(|b| matches!(b, 0x20..=0x21 | 0x23..=0x5b | 0x5d..=0x7e)), "{description}");
}

pub fn claims(reply: &Reply) -> (Value, Value) {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let body = reply.json();
    let token = body["access_token"].as_str().unwrap();
    let mut parts = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap());
    let mut json = || serde_json::from_slice(&parts.next().unwrap()).unwrap();
    (json(), json())
}

#[tokio::test]
async fn req_027_req_030_req_094_req_096_a_login_gives_an_access_token() {
    let Login { server, .. } = login().await;
    let reply = post_token(server.address, &form("Alice", PASSWORD, "")).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    well_formed(&reply);
    let body = reply.json();
    assert_eq!(
        (&body["token_type"], &body["expires_in"], &body["scope"]),
        (&json!("Bearer"), &json!(600), &json!("me items"))
    );
    assert!(body["device_token"].is_string());
    assert_eq!(body.as_object().unwrap().len(), 5, "req 43: no other member of our own");
    let (header, claims) = claims(&reply);
    assert_eq!((&header["typ"], &header["alg"]), (&json!("at+jwt"), &json!("EdDSA")));
    assert!(header["kid"].is_string());
    let expected = json!({
        "iss": "https://id.example", "aud": "orders", "sub": "user:id-alice", "client_id": "first-party",
        "iat": claims["iat"], "exp": claims["iat"].as_u64().unwrap() + 600, "auth_time": claims["iat"],
        "jti": claims["jti"], "scope": "me items",
    });
    assert_eq!(claims, expected);
    assert!(claims["iat"].as_u64().unwrap().abs_diff(now()) < 5 && claims["jti"].as_str().unwrap().len() == 22);
    let me = get_with(server.address, "/me", body["access_token"].as_str().unwrap()).await;
    assert_eq!(me.text(), "me");
    let again = post_token(server.address, &form("alice", PASSWORD, "")).await;
    assert_ne!(self::claims(&again).1["jti"], claims["jti"]);
}

#[tokio::test]
async fn req_031_req_036_req_039_granted_scope() {
    let Login { server, .. } = login().await;
    for (user, scope, granted) in [
        ("alice", "", Ok("me items")),
        ("alice", "&scope=", Ok("me items")),
        ("alice", "&scope=me", Ok("me")),
        ("alice", "&scope=items+me+admin", Ok("items me")),
        ("alice", "&scope=admin", Err("invalid_scope")),
        ("alice", "&scope=ME", Err("invalid_scope")),
        ("alice", "&scope=me++items", Err("invalid_scope")),
        ("alice", "&scope=me%09items", Err("invalid_scope")),
        ("alice", "&scope=%22", Err("invalid_scope")),
        ("bob", "", Ok("")),
        ("bob", "&scope=me", Err("invalid_scope")),
    ] {
        let reply = post_token(server.address, &form(user, PASSWORD, scope)).await;
        match granted {
            Ok(granted) => {
                assert_eq!(reply.json()["scope"], granted, "{user} {scope}");
                let claim = claims(&reply).1["scope"].as_str().map(str::to_owned);
                assert_eq!(claim, Some(granted.to_owned()).filter(|scope| !scope.is_empty()), "req 99");
            }
            Err(error) => refused(&reply, 400, error),
        }
    }
}

#[tokio::test]
async fn req_034_every_failed_login_has_the_same_bytes() {
    let Login { server, .. } = login().await;
    let mut replies = Vec::new();
    for (user, password) in [
        ("alice", "wrong"),
        ("alice", "correct horse battery staple & mor"),
        ("nobody", PASSWORD),
        ("mallory", PASSWORD),
        ("mallory", "wrong"),
        ("broken", PASSWORD),
        ("alice", &"x".repeat(1025)),
        ("a\0b", PASSWORD),
        (&"x".repeat(300), PASSWORD),
        ("' OR 1=1 --", PASSWORD),
        ("alice\u{200b}", PASSWORD),
    ] {
        let reply = post_token(server.address, &form(user, password, "")).await;
        refused(&reply, 400, "invalid_grant");
        assert_eq!(reply.header("www-authenticate"), None);
        let mut reply = reply.without_date();
        // Of the address alone: what it has left.
        reply.headers.retain(|(name, _)| name != "ratelimit");
        replies.push(reply);
    }
    assert!(replies.windows(2).all(|pair| pair[0] == pair[1]), "{replies:#?}");
}

#[tokio::test]
async fn req_022_req_023_req_024_req_025_req_026_req_029_req_036_malformed_requests() {
    let Login { server, .. } = login().await;
    let good = form("alice", PASSWORD, "");
    let long = format!("{good}&x={}", "y".repeat(16 * 1024));
    for (body, error) in [
        ("", "invalid_request"),
        ("username=alice&password=x", "invalid_request"),
        ("grant_type=&username=alice&password=x", "invalid_request"),
        ("grant_type=password&password=x", "invalid_request"),
        ("grant_type=password&username=alice", "invalid_request"),
        ("grant_type=password&username=&password=x", "invalid_request"),
        ("grant_type=password&username=alice&password=", "invalid_request"),
        ("grant_type=password&username=alice&password=x&password=y", "invalid_request"),
        ("grant_type=password&grant_type=password&username=alice&password=x", "invalid_request"),
        ("grant_type=password&username=%ff&password=x", "invalid_request"),
        ("grant_type=Password&username=alice&password=x", "unsupported_grant_type"),
        ("grant_type=refresh_token&refresh_token=x", "unsupported_grant_type"),
        ("grant_type=client_credentials", "unsupported_grant_type"),
        ("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange", "unsupported_grant_type"),
        (long.as_str(), "invalid_request"),
    ] {
        refused(&post_token(server.address, body).await, 400, error);
    }
    // Unknown parameters are ignored (req 25).
    assert_eq!(post_token(server.address, &form("alice", PASSWORD, "&x=1&scopes=admin")).await.status, 200);
    for headers in [
        &[&b"content-type: application/json"[..]][..],
        &[b"content-type: multipart/form-data; boundary=x"],
        &[b"content-type: text/plain"],
        &[],
        &[b"content-type: application/x-www-form-urlencoded", b"content-type: application/json"],
    ] {
        refused(&send(server.address, "POST /token", headers, good.as_bytes()).await, 400, "invalid_request");
    }
    let both: &[&[u8]] = &[b"content-type: application/x-www-form-urlencoded", b"authorization: Basic YTpi"];
    let body = form("alice", PASSWORD, "&client_secret=b");
    refused(&send(server.address, "POST /token", both, body.as_bytes()).await, 400, "invalid_request");
    for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"] {
        let reply = send(server.address, &format!("{method} /token"), &[], b"").await;
        refused(&reply, 405, "invalid_request");
        assert_eq!(reply.header("allow"), Some("POST"));
    }
    // Parameters belong in the body, never in the address.
    let query = format!("POST /token?{good}");
    let form_type: &[&[u8]] = &[b"content-type: application/x-www-form-urlencoded"];
    refused(&send(server.address, &query, form_type, b"x=1").await, 400, "invalid_request");
}

#[tokio::test]
async fn req_044_without_first_party_login_there_is_no_password_grant() {
    let key = SigningKey::generate(Algorithm::EdDsa).unwrap();
    let server = AuthorizationServer::builder("https://id.example", "orders", key).build().unwrap();
    let server = serve(server.routes()).await;
    let reply = post_token(server.address, &form("alice", PASSWORD, "")).await;
    refused(&reply, 400, "unsupported_grant_type");
}

#[tokio::test]
async fn a_client_that_names_itself_is_still_the_first_party() {
    let Login { server, .. } = login().await;
    let basic: &[&[u8]] = &[b"content-type: application/x-www-form-urlencoded", b"authorization: Basic YTpi"];
    let named = form("alice", PASSWORD, "&client_id=somebody");
    for reply in [
        post_token(server.address, &named).await,
        send(server.address, "POST /token", basic, form("alice", PASSWORD, "").as_bytes()).await,
    ] {
        assert_eq!(claims(&reply).1["client_id"], "first-party");
    }
}

#[tokio::test]
async fn req_090_the_published_set_has_the_public_key_alone() {
    let Login { server, .. } = login().await;
    let reply = get(server.address, "/.well-known/jwks.json", &[]).await;
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/jwk-set+json")));
    assert_eq!(reply.header("cache-control"), Some("public, max-age=300"));
    let keys = reply.json();
    let members: Vec<&str> = keys["keys"][0].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["alg", "crv", "kid", "kty", "use", "x"]);
    let issued = post_token(server.address, &form("alice", PASSWORD, "")).await;
    assert_eq!(claims(&issued).0["kid"], keys["keys"][0]["kid"]);
    assert_eq!(send(server.address, "POST /.well-known/jwks.json", &[], b"").await.status, 405);
    for algorithm in [Algorithm::Hs256, Algorithm::Rs256, Algorithm::Ps512, Algorithm::Es256, Algorithm::Es384] {
        let key = SigningKey::generate(algorithm).unwrap();
        let server = AuthorizationServer::builder("i", "a", key).build().unwrap();
        let server = serve(server.routes()).await;
        let text = get(server.address, "/.well-known/jwks.json", &[]).await.text();
        for private in ["\"d\"", "\"p\"", "\"q\"", "\"dp\"", "\"dq\"", "\"qi\"", "\"k\"", "\"oth\""] {
            assert!(!text.contains(private), "{algorithm}: {text}");
        }
        assert_eq!(text == r#"{"keys":[]}"#, algorithm == Algorithm::Hs256, "a shared secret is never published");
    }
}

#[tokio::test]
async fn req_137_a_store_that_is_down_is_503() {
    let server = start(down(), hasher()).await;
    let reply = post_token(server.address, &form("alice", PASSWORD, "")).await;
    refused(&reply, 503, "temporarily_unavailable");
    assert_eq!(reply.header("retry-after"), Some("5"));
    assert_eq!(reply.header("www-authenticate"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_logins_is_shed_with_503() {
    let users = users().await;
    let hasher = PasswordHasher::builder().concurrency(1).queue(1).build().unwrap();
    let server = start(users, hasher).await;
    let address = server.address;
    let calls: Vec<_> =
        (0..16).map(|_| tokio::spawn(async move { post_token(address, &form("alice", PASSWORD, "")).await })).collect();
    let mut statuses = Vec::new();
    for call in calls {
        let reply = call.await.unwrap();
        if reply.status == 503 {
            refused(&reply, 503, "temporarily_unavailable");
            assert_eq!(reply.header("retry-after"), Some("1"));
        }
        statuses.push(reply.status);
    }
    assert!(statuses.contains(&200) && statuses.contains(&503), "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 200 | 503)), "{statuses:?}");
    assert_eq!(post_token(address, &form("alice", PASSWORD, "")).await.status, 200, "and all is well again");
}

/// Not a proof (one needs statistics), but a defence that is missing altogether shows.
#[tokio::test]
async fn req_034_unknown_users_cost_a_hash() {
    let Login { server, users } = login().await;
    drop(users);
    let mut fastest = [f64::MAX; 5];
    let logins =
        [("alice", "wrong"), ("nobody", "wrong"), ("mallory", "wrong"), ("mallory", PASSWORD), ("broken", "wrong")];
    let spread = |fastest: &[f64]| {
        let (least, most) = fastest.iter().fold((f64::MAX, 0_f64), |(least, most), &t| (least.min(t), most.max(t)));
        most / least
    };
    // The fastest of as many rounds as a busy machine needs; a login that skips the hash takes a tenth.
    let mut rounds = 0;
    while rounds < 7 || (spread(&fastest) > 2.0 && rounds < 50) {
        rounds += 1;
        for (at, (user, password)) in logins.into_iter().enumerate() {
            let begin = Instant::now();
            refused(&post_token(server.address, &form(user, password, "")).await, 400, "invalid_grant");
            fastest[at] = fastest[at].min(begin.elapsed().as_secs_f64());
        }
    }
    assert!(spread(&fastest) <= 2.0, "{fastest:?}");
}

#[tokio::test]
async fn req_191_req_192_req_194_events_tell_what_happened_and_no_secret() {
    let log = Log::default();
    let _guard = log.capture();
    let Login { server, users } = login().await;
    let issued = post_token(server.address, &form("alice", PASSWORD, "")).await;
    let token = issued.json()["access_token"].as_str().unwrap().to_owned();
    post_token(server.address, &form("alice", "Wr0ng-Passw0rd", "")).await;
    post_token(server.address, &form("hunter2-typed-as-name", "x", "")).await;
    post_token(server.address, &form("alice", PASSWORD, "&scope=admin")).await;
    post_token(server.address, &form("broken", PASSWORD, "")).await;
    post_token(server.address, &form("alice", "Wr0ng-Passw0rd", "&password=hunter2")).await;
    get(server.address, "/token", &[]).await;
    get_with(server.address, "/me", &format!("{token}AAAA")).await;
    get(server.address, "/me", &[]).await;
    let text = log.text();
    for kind in ["login_succeeded", "login_failed", "credential_invalid", "credential_missing", "request_malformed"] {
        assert!(text.contains(&format!("kind=\"{kind}\"")), "{kind} in {text}");
    }
    assert!(
        text.contains("subject=\"user:id-alice\"") && text.contains("wrong password") && text.contains("unknown user")
    );
    for reason in
        ["scope not granted", "stored password hash cannot be read", "a parameter is repeated", "method not supported"]
    {
        assert!(text.contains(reason), "{reason} in {text}");
    }
    let hash = users.find_by_login(&LoginName::parse("alice").unwrap()).await.unwrap().unwrap().password;
    let signature = token.rsplit('.').next().unwrap();
    for secret in [PASSWORD, "correct", "Wr0ng-Passw0rd", "hunter2", &token, signature, hash.expose()] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[tokio::test]
async fn lifetimes_follow_the_clock_and_have_bounds() {
    let clock = Arc::new(ManualClock::at(UnixSeconds::new(1_000_000)));
    let build = |lifetime| {
        let key = SigningKey::generate(Algorithm::Es256).unwrap();
        AuthorizationServer::builder("https://id.example", "orders", key).access_token_lifetime(lifetime)
    };
    let server = build(Duration::from_secs(60)).clock(Arc::clone(&clock) as _);
    let server = server.first_party_login(users().await, hasher()).build().unwrap();
    let api = server.resource_server();
    let me = Router::new().route("/me", axum::routing::get(|| async { "me" })).layer(api.authenticate());
    let running = serve(me.merge(server.routes())).await;
    let issued = post_token(running.address, &form("alice", PASSWORD, "")).await;
    assert_eq!(issued.json()["expires_in"], 60);
    let token = issued.json()["access_token"].as_str().unwrap().to_owned();
    for (seconds, status) in [(0, 200), (89, 200), (1, 401)] {
        clock.advance(Duration::from_secs(seconds));
        assert_eq!(get_with(running.address, "/me", &token).await.status, status, "{seconds}: leeway is 30 s");
    }
    for (lifetime, good) in [(0, false), (1, true), (3600, true), (3601, false)] {
        assert_eq!(build(Duration::from_secs(lifetime)).build().is_ok(), good, "{lifetime}");
    }
    let day = Duration::from_secs(24 * 3600);
    assert!(build(day).danger_access_token_lifetime(day).build().is_ok());
    let key = SigningKey::generate(Algorithm::EdDsa).unwrap();
    let errors = AuthorizationServer::builder("", "\n", key)
        .access_token_lifetime(day)
        .default_scope(["me", "two scopes", ""])
        .build()
        .unwrap_err();
    assert_eq!(errors.iter().count(), 5, "{errors}");
    assert!(errors.iter().any(|error| *error == ConfigError::Scope("two scopes".to_owned())));
}
