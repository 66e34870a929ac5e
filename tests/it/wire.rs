//! Every row of the answers table that exists so far, over a real socket.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    routing::{any, get as on_get},
};
use portcullis::{
    ResourceServer,
    ident::{LoginName, UserId},
    jwt::{Algorithm, ClaimsPolicy, NoClaims, Verified},
    principal::Principal,
    rejection::Rejection,
    store::{MemoryStore, PasswordHash, StoreError, StoreFuture, UserRecord, UserStore, active_user},
};

use crate::support::{AUDIENCE, Authority, ISSUER, Log, Reply, Server, get, get_with, now, send, serve};

/// `/me` needs scope `me`, `/me/items` scope `items` as well, `/user` a live user; `/open` lets strangers in, and
/// `/naked` and `/unlayered` lack what they need.
async fn server(authority: &Authority, users: Arc<dyn UserStore>) -> Server {
    let policy = ClaimsPolicy::builder(ISSUER, AUDIENCE).require_claim("tier", ["gold", "silver"]).build().unwrap();
    let api = ResourceServer::new(policy, authority.keys()).realm("test").unwrap();
    let items = Router::new().route("/me/items", any(|| async { "items" })).layer(api.require(["items"]).unwrap());
    let me = Router::new().route("/me", any(|| async { "me" })).merge(items).layer(api.require(["me"]).unwrap());
    let other = on_get(|_: Verified<OtherClaims>| async { "never" });
    let user = Router::new().route("/user", on_get(user)).with_state(users).route("/other", other);
    let open = Router::new().route("/open", on_get(open)).layer(api.authenticate_optional());
    let both = Router::new()
        .route("/open/me", on_get(|_: Verified<NoClaims>| async { "me" }))
        .route("/open/scoped", on_get(|| async { "me" }).layer(api.require(["me"]).unwrap()))
        .layer(api.authenticate_optional());
    let naked = Router::new()
        .route("/naked", any(|| async { "never" }).layer(api.require(["me"]).unwrap()))
        .route("/unlayered", on_get(|_: Principal| async { "never" }))
        .route("/unlayered/optional", on_get(|_: Option<Principal>| async { "never" }));
    serve(me.merge(user).layer(api.authenticate()).merge(open).merge(both).merge(naked)).await
}

#[derive(serde::Deserialize)]
struct OtherClaims {}

async fn user(State(users): State<Arc<dyn UserStore>>, caller: Principal) -> Result<String, Rejection> {
    active_user(&*users, ISSUER, &caller).await.map(|user| user.login.as_str().to_owned())
}

async fn open(caller: Option<Principal>) -> String {
    caller.map_or_else(|| "stranger".to_owned(), |caller| caller.subject().to_owned())
}

async fn with_memory(authority: &Authority) -> Server {
    server(authority, Arc::new(MemoryStore::new())).await
}

fn gold(authority: &Authority, scope: &str) -> String {
    authority.token_with(|claims| {
        claims["scope"] = scope.into();
        claims["tier"] = "gold".into();
    })
}

fn problem(reply: &Reply, status: u16, error: Option<&str>) {
    assert_eq!(reply.status, status, "{reply:?}");
    assert_eq!(reply.header("content-type"), Some("application/problem+json"));
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    let body = reply.json();
    assert_eq!(body["status"], status);
    assert_eq!(body["error"].as_str(), error);
}

#[tokio::test]
async fn req_001_req_003_good_tokens_pass() {
    let authority = Authority::new(Algorithm::EdDsa);
    let server = with_memory(&authority).await;
    let token = gold(&authority, "items me");
    for scheme in ["Bearer", "bearer", "BEARER", "BeArEr  "] {
        let header = format!("authorization: {scheme} {token}");
        let reply = get(server.address, "/me/items", &[header.as_bytes()]).await;
        assert_eq!((reply.status, reply.text().as_str()), (200, "items"), "{scheme}");
    }
}

#[tokio::test]
async fn req_009_req_010_req_012_req_013_no_credential_is_401_without_error() {
    let server = with_memory(&Authority::new(Algorithm::EdDsa)).await;
    for headers in [&[][..], &[&b"authorization: Basic YTpi"[..]], &[b"authorization: Digest a=b"], &[b"cookie: a=b"]] {
        let reply = get(server.address, "/me", headers).await;
        problem(&reply, 401, None);
        assert_eq!(reply.header("www-authenticate"), Some("Bearer realm=\"test\""), "{headers:?}");
    }
}

#[tokio::test]
async fn req_007_req_008_tokens_elsewhere_are_no_credential() {
    let authority = Authority::new(Algorithm::EdDsa);
    let server = with_memory(&authority).await;
    let good = gold(&authority, "me");
    let form: &[&[u8]] = &[b"content-type: application/x-www-form-urlencoded"];
    let cookie = format!("cookie: access_token={good}");
    for reply in [
        get(server.address, &format!("/me?access_token={good}"), &[]).await,
        send(server.address, "POST /me", form, format!("access_token={good}").as_bytes()).await,
        get(server.address, "/me", &[cookie.as_bytes()]).await,
    ] {
        problem(&reply, 401, None);
        assert_eq!(reply.header("www-authenticate"), Some("Bearer realm=\"test\""));
    }
}

#[tokio::test]
async fn req_004_req_005_req_006_req_014_malformed_or_repeated_credential_is_400() {
    let authority = Authority::new(Algorithm::EdDsa);
    let server = with_memory(&authority).await;
    let good = format!("authorization: Bearer {}", gold(&authority, "me"));
    let basic = b"authorization: Basic YTpi";
    let rows: &[(&str, &[&[u8]])] = &[
        ("/me", &[b"authorization: Bearer"]),
        ("/me", &[b"authorization:"]),
        ("/me", &[b"authorization: Bearer a b"]),
        ("/me", &[b"authorization: Bearer\ta"]),
        ("/me", &[b"authorization: ,Bearer a"]),
        ("/me", &[b"authorization: Bearer a,"]),
        ("/me", &[b"authorization: Bearer \xc3\xa9"]),
        ("/me", &[b"authorization: Bearer a\x80"]),
        ("/me", &[good.as_bytes(), good.as_bytes()]),
        ("/me", &[basic, good.as_bytes()]),
        ("/me?access_token=x", &[good.as_bytes()]),
        ("/open", &[b"authorization: Bearer"]),
    ];
    for (path, headers) in rows {
        let reply = get(server.address, path, headers).await;
        problem(&reply, 400, Some("invalid_request"));
        let challenge = reply.header("www-authenticate").unwrap();
        assert!(challenge.starts_with("Bearer realm=\"test\", error=\"invalid_request\""), "{headers:?}: {challenge}");
    }
}

#[tokio::test]
async fn req_015_req_101_req_136_bad_tokens_are_401_invalid_token_with_one_text() {
    let authority = Authority::new(Algorithm::EdDsa);
    let server = with_memory(&authority).await;
    let with = |name: &str, value: serde_json::Value| {
        authority.token_with(|claims| {
            claims["tier"] = "gold".into();
            claims[name] = value;
        })
    };
    let good = gold(&authority, "me");
    let tokens = [
        with("exp", (now() - 31).into()),
        with("nbf", (now() + 600).into()),
        with("iat", (now() + 600).into()),
        with("aud", "other".into()),
        with("iss", "https://other.example".into()),
        with("sub", "".into()),
        with("jti", serde_json::Value::Null),
        authority.token("me"), // lacks the claim `tier`
        Authority::new(Algorithm::EdDsa).token("me"),
        Authority::new(Algorithm::Hs256).token("me"),
        good[..good.len() - 1].to_owned(),
        format!("{good}="),
        "abc".to_owned(),
        "a".repeat(9000),
    ];
    let mut replies = Vec::new();
    for token in &tokens {
        let reply = get_with(server.address, "/me", token).await;
        problem(&reply, 401, Some("invalid_token"));
        let challenge = reply.header("www-authenticate").unwrap();
        assert!(challenge.starts_with("Bearer realm=\"test\", error=\"invalid_token\""), "{challenge}");
        replies.push(reply.without_date());
    }
    assert!(replies.windows(2).all(|pair| pair[0] == pair[1]), "no answer tells which check failed");
    assert_eq!(get_with(server.address, "/open", &tokens[0]).await.status, 401, "nor does optional mode let it pass");
}

#[tokio::test]
async fn req_011_req_016_req_017_req_018_missing_scope_is_403_and_names_all_that_is_needed() {
    let authority = Authority::new(Algorithm::EdDsa);
    let server = with_memory(&authority).await;
    for (path, granted, needed) in [
        ("/me", "items", "me"),
        ("/me/items", "items", "me"),
        ("/me/items", "me", "items me"),
        ("/me/items", "me ITEMS item items2", "items me"),
        ("/me/items", "", "me"),
    ] {
        let reply = get_with(server.address, path, &gold(&authority, granted)).await;
        problem(&reply, 403, Some("insufficient_scope"));
        let challenge = reply.header("www-authenticate").unwrap();
        assert!(challenge.starts_with("Bearer realm=\"test\", error=\"insufficient_scope\""), "{challenge}");
        assert!(challenge.ends_with(&format!(", scope=\"{needed}\"")), "{path} {granted}: {challenge}");
        for attribute in ["realm=", "scope=", "error=", "error_description="] {
            assert_eq!(challenge.matches(&format!(" {attribute}")).count(), 1, "{attribute} in {challenge}");
        }
        let quoted: String = challenge.split('"').skip(1).step_by(2).collect();
        assert!(quoted.bytes().all(|b| matches!(b, 0x20..=0x21 | 0x23..=0x5b | 0x5d..=0x7e)), "req 17: {challenge}");
    }
}

#[tokio::test]
async fn a_claim_outside_the_allowed_set_is_403_without_error() {
    let authority = Authority::new(Algorithm::EdDsa);
    let server = with_memory(&authority).await;
    let token = authority.token_with(|claims| {
        claims["scope"] = "me".into();
        claims["tier"] = "lead".into();
    });
    let reply = get_with(server.address, "/me", &token).await;
    problem(&reply, 403, None);
    assert_eq!(reply.header("www-authenticate"), Some("Bearer realm=\"test\""));
}

#[tokio::test]
async fn disabled_and_vanished_users_are_401_invalid_token() {
    let authority = Authority::new(Algorithm::EdDsa);
    let users = Arc::new(MemoryStore::new());
    let server = server(&authority, Arc::clone(&users) as _).await;
    let id = UserId::parse("7").unwrap();
    let token = gold(&authority, "");
    let vanished = get_with(server.address, "/user", &token).await;
    let record = UserRecord {
        id: id.clone(),
        login: LoginName::parse("alice").unwrap(),
        password: PasswordHash::from_phc(""),
        scopes: "me".parse().unwrap(),
        disabled: false,
    };
    users.insert(record).await.unwrap();
    assert_eq!(get_with(server.address, "/user", &token).await.text(), "alice");
    users.set_disabled(&id, true).await.unwrap();
    for reply in [vanished, get_with(server.address, "/user", &token).await] {
        problem(&reply, 401, Some("invalid_token"));
        assert!(reply.header("www-authenticate").unwrap().contains("error=\"invalid_token\""));
    }
}

/// A store that is down.
struct Down;

impl UserStore for Down {
    fn find_by_login<'a>(&'a self, _: &'a LoginName) -> StoreFuture<'a, Option<UserRecord>> {
        Box::pin(async { Err(StoreError::unavailable("down")) })
    }
    fn find_by_id<'a>(&'a self, _: &'a UserId) -> StoreFuture<'a, Option<UserRecord>> {
        Box::pin(async { Err(StoreError::unavailable("down")) })
    }
    fn insert(&self, _: UserRecord) -> StoreFuture<'_, ()> {
        Box::pin(async { Err(StoreError::unavailable("down")) })
    }
    fn replace_hash<'a>(&'a self, _: &'a UserId, _: PasswordHash) -> StoreFuture<'a, bool> {
        Box::pin(async { Err(StoreError::unavailable("down")) })
    }
    fn swap_hash<'a>(&'a self, _: &'a UserId, _: &'a PasswordHash, _: PasswordHash) -> StoreFuture<'a, bool> {
        Box::pin(async { Err(StoreError::unavailable("down")) })
    }
    fn set_disabled<'a>(&'a self, _: &'a UserId, _: bool) -> StoreFuture<'a, bool> {
        Box::pin(async { Err(StoreError::unavailable("down")) })
    }
}

pub fn down() -> Arc<dyn UserStore> {
    Arc::new(Down)
}

#[tokio::test]
async fn req_137_req_193_a_store_that_is_down_is_503_and_never_401() {
    let authority = Authority::new(Algorithm::EdDsa);
    let server = server(&authority, down()).await;
    let reply = get_with(server.address, "/user", &gold(&authority, "")).await;
    problem(&reply, 503, None);
    assert_eq!(reply.header("retry-after"), Some("5"));
    assert_eq!(reply.header("www-authenticate"), None);
}

#[tokio::test]
async fn a_missing_layer_is_500_and_no_handler_runs() {
    let authority = Authority::new(Algorithm::EdDsa);
    let server = with_memory(&authority).await;
    for path in ["/naked", "/unlayered", "/unlayered/optional"] {
        for reply in
            [get(server.address, path, &[]).await, get_with(server.address, path, &gold(&authority, "me")).await]
        {
            problem(&reply, 500, None);
            assert_eq!(reply.header("www-authenticate"), None);
        }
    }
}

#[tokio::test]
async fn claims_of_another_type_are_500_and_no_handler_runs() {
    let log = Log::default();
    let _guard = log.capture();
    let authority = Authority::new(Algorithm::EdDsa);
    let server = with_memory(&authority).await;
    problem(&get_with(server.address, "/other", &gold(&authority, "me")).await, 500, None);
    assert!(log.text().contains("see `ResourceServer::claims`"), "{}", log.text());
}

#[tokio::test]
async fn optional_mode_knows_strangers() {
    let authority = Authority::new(Algorithm::EdDsa);
    let server = with_memory(&authority).await;
    assert_eq!(get(server.address, "/open", &[]).await.text(), "stranger");
    assert_eq!(get_with(server.address, "/open", &gold(&authority, "")).await.text(), "user:7");
    for path in ["/open/me", "/open/scoped"] {
        let reply = get(server.address, path, &[]).await;
        problem(&reply, 401, None);
        assert_eq!(reply.header("www-authenticate"), Some("Bearer realm=\"test\""), "{path}");
        assert_eq!(get_with(server.address, path, &gold(&authority, "me")).await.text(), "me");
    }
}

#[tokio::test]
async fn req_187_req_188_req_189_req_190_grpc_gets_trailers_only() {
    let authority = Authority::new(Algorithm::EdDsa);
    let server = with_memory(&authority).await;
    let bearer = |token: &str| format!("authorization: Bearer {token}");
    let lead = authority.token_with(|claims| claims["tier"] = "lead".into());
    let rows = [
        ("/me", String::new(), "16", Some("Bearer realm=\"test\"")),
        ("/me", "authorization: Bearer".to_owned(), "16", Some("Bearer realm=\"test\", error=\"invalid_request\"")),
        ("/me", bearer("abc"), "16", Some("Bearer realm=\"test\", error=\"invalid_token\"")),
        ("/me", bearer(&gold(&authority, "")), "7", Some("Bearer realm=\"test\", error=\"insufficient_scope\"")),
        ("/me", bearer(&lead), "7", Some("Bearer realm=\"test\"")),
        ("/naked", bearer(&gold(&authority, "me")), "13", None),
    ];
    for (path, authorization, code, challenge) in rows {
        for content_type in ["application/grpc", "application/grpc+proto", "Application/GRPC; x=y"] {
            let reply = grpc(&server, path, content_type, &authorization).await;
            assert_eq!(reply.header("content-type"), Some("application/grpc"), "{reply:?}");
            assert_eq!(reply.header("grpc-status"), Some(code), "{path} {authorization}");
            assert_eq!(reply.header("cache-control"), Some("no-store"), "a cache would take it for a success");
            assert!(reply.header("grpc-message").is_some_and(|message| !message.contains("abc")));
            assert!(reply.body.is_empty());
            let given = reply.header("www-authenticate");
            assert_eq!(given.map(|g| g.starts_with(challenge.unwrap_or("x"))), challenge.map(|_| true), "{given:?}");
        }
        for (content_type, answer_type) in [
            ("application/grpc-web+proto", "application/grpc-web+proto"),
            ("application/grpc-web", "application/grpc-web+proto"),
            ("application/grpc-web-text", "application/grpc-web-text+proto"),
        ] {
            let reply = grpc(&server, path, content_type, &authorization).await;
            assert_eq!(reply.header("content-type"), Some(answer_type));
            let frame = if answer_type.contains("text") { decode_base64(&reply.text()) } else { reply.body.clone() };
            let length = u32::from_be_bytes(frame[1..5].try_into().unwrap()) as usize;
            assert_eq!((frame[0], length), (0x80, frame.len() - 5), "a trailer frame");
            let trailers = String::from_utf8(frame[5..].to_vec()).unwrap();
            assert!(trailers.starts_with(&format!("grpc-status:{code}\r\ngrpc-message:")), "{trailers}");
            assert_eq!(reply.header("www-authenticate").is_some(), challenge.is_some());
        }
    }
}

async fn grpc(server: &Server, path: &str, content_type: &str, authorization: &str) -> Reply {
    let content_type = format!("content-type: {content_type}");
    let mut headers = vec![content_type.as_bytes()];
    if !authorization.is_empty() {
        headers.push(authorization.as_bytes());
    }
    let reply = send(server.address, &format!("POST {path}"), &headers, b"\0\0\0\0\0").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply
}

fn decode_base64(text: &str) -> Vec<u8> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    STANDARD.decode(text).unwrap()
}
