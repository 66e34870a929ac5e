//! The style of FastAPI's security tutorial, against what its chapters about the simple login, about JWTs and about scopes answer,
//! over a real socket.

use std::sync::Arc;

use axum::{
    Router,
    routing::{get as on_get, post as on_post},
};
use portcullis::{
    AuthorizationServer, AuthorizationServerBuilder,
    authz::{AuthorizeLayer, CurrentUser, DenyUndecidedLayer, Scopes, SignedIn, policy_fn},
    axum::Refused,
    browser::{CsrfGuard, CsrfLayer},
    ident::UserId,
    jwt::{Algorithm, SigningKey},
    login::{LoginLimiter, Quota},
    principal::{Principal, ScopeName, Scoped},
    rejection::{AnswerStyle, Rejection},
    session::SessionPolicy,
    store::MemoryStore,
};
use serde_json::{Value, json};

use crate::{
    login::{PASSWORD, form, hasher, users},
    programs,
    stores::Folder,
    support::{Log, Reply, Server, get, get_with, now, post, post_token, send, serve},
    wire::down,
};

const KEY: &[u8] = include_bytes!("../keys/ed25519.pem");
const ISSUER: &str = "https://id.example";

fn key() -> SigningKey {
    SigningKey::from_pem(Algorithm::EdDsa, KEY).unwrap()
}

/// A token of the server's, changed.
fn token(change: impl FnOnce(&mut Value)) -> String {
    let mut claims = json!({
        "iss": ISSUER, "aud": "api", "sub": "user:id-alice", "client_id": "first-party", "jti": "t-1", "iat": now(),
        "exp": now() + 600, "scope": "me items",
    });
    change(&mut claims);
    key().sign(&claims).unwrap()
}

fn with_scope(scope: &str) -> String {
    token(|claims| claims["scope"] = scope.into())
}

struct Export;

impl ScopeName for Export {
    const SCOPE: &'static str = "export";
}

async fn me(user: CurrentUser) -> String {
    user.username.clone()
}

async fn handler(caller: Principal) -> Result<String, Refused> {
    Err(caller.refused(Rejection::UserInactive))
}

/// The tutorial's routes, with what it has them demand, and some that it has not.
fn routes(server: &AuthorizationServer) -> Router {
    let api = server.resource_server();
    let protected = |path: &str, scopes: &[&str]| {
        Router::new().route(path, on_get(me)).layer(server.protect(Scopes::all_of(scopes).unwrap()).unwrap())
    };
    let nested = Router::new().route("/nested", on_get(|| async {})).layer(api.require(["items"]).unwrap());
    let inner = Router::new()
        .route("/export", on_get(|_: Scoped<Export>| async {}))
        .route("/own", on_get(|| async {}).layer(AuthorizeLayer::new(policy_fn(|_| false))))
        .route("/handler", on_get(handler))
        .merge(nested)
        .layer(api.require(["me"]).unwrap())
        .route("/undecided", on_get(|| async {}).layer(DenyUndecidedLayer))
        .layer(api.authenticate());
    let open = Router::new().route("/optional", on_get(|_: Principal| async {})).layer(api.authenticate_optional());
    let guard = CsrfLayer::new(CsrfGuard::builder().build().unwrap()).answers(api.answers().clone());
    protected("/users/me", &["me"])
        .merge(protected("/users/me/items", &["items", "me"]))
        .merge(Router::new().route("/status", on_get(|| async {})).layer(server.protect(SignedIn).unwrap()))
        .merge(inner)
        .merge(open)
        .merge(Router::new().route("/page", on_post(|| async {})).layer(guard))
        .merge(server.routes())
}

fn builder() -> AuthorizationServerBuilder {
    AuthorizationServer::builder(ISSUER, "api", key()).answer_style(AnswerStyle::FastApi)
}

struct Tutorial {
    server: AuthorizationServer,
    wire: Server,
}

impl Tutorial {
    async fn new() -> Self {
        let builder = builder().first_party_login(users().await, hasher()).danger_without_login_limits();
        let sessions = builder.sessions(Arc::new(MemoryStore::new()), SessionPolicy::default());
        let server = sessions.build().unwrap();
        Self { wire: serve(routes(&server)).await, server }
    }
}

/// Status, challenge, body: and the rest of what every answer must have.
fn said(reply: &Reply) -> (u16, Option<&str>, String) {
    assert_eq!(reply.header("content-type"), Some("application/json"), "{reply:?}");
    assert_eq!(reply.header("cache-control"), Some("no-store"), "{reply:?}");
    (reply.status, reply.header("www-authenticate"), reply.text())
}

/// Status, challenge, and the words of the body.
type Said<'a> = (u16, Option<&'a str>, &'a str);

fn detail(text: &str) -> String {
    format!(r#"{{"detail":"{text}"}}"#)
}

#[tokio::test]
async fn tokens_and_scopes_as_in_the_tutorial() {
    let tutorial = Tutorial::new().await;
    let at = tutorial.wire.address;
    let bearer = |token: &str| format!("authorization: Bearer {token}");
    let expired = token(|claims| claims["exp"] = (now() - 3600).into());
    let foreign = SigningKey::generate(Algorithm::EdDsa).unwrap();
    let foreign =
        foreign.sign(&json!({ "iss": ISSUER, "aud": "api", "sub": "user:id-alice", "exp": now() + 60 })).unwrap();
    let nobody = token(|claims| claims["sub"] = "user:id-nobody".into());
    const NONE: Said<'static> = (401, Some("Bearer"), "Not authenticated");
    const BAD: &str = "Could not validate credentials";
    const FEW: &str = "Not enough permissions";
    let (me, both) = ("Bearer scope=\"me\"", "Bearer scope=\"items me\"");
    let rows: Vec<(&str, Option<String>, Said<'_>)> = vec![
        // "OAuth2 scopes": tests/test_tutorial/test_security/test_tutorial005.py has these.
        ("/users/me", None, NONE),
        ("/users/me/items", None, NONE),
        ("/status", None, NONE),
        ("/users/me", Some("authorization: Notexistent testtoken".to_owned()), NONE),
        ("/users/me", Some(bearer("nonexistent")), (401, Some(me), BAD)),
        ("/users/me/items", Some(bearer("nonexistent")), (401, Some(both), BAD)),
        ("/status", Some(bearer("nonexistent")), (401, Some("Bearer"), BAD)),
        ("/users/me", Some(bearer(&with_scope(""))), (401, Some(me), FEW)),
        ("/users/me/items", Some(bearer(&with_scope(""))), (401, Some(both), FEW)),
        ("/users/me/items", Some(bearer(&with_scope("me"))), (401, Some(both), FEW)),
        ("/users/me/items", Some(bearer(&with_scope("items"))), (401, Some(both), FEW)),
        // "OAuth2 with JWT": expired, of another key, and what the tutorial's scheme takes for a token.
        ("/users/me", Some(bearer(&expired)), (401, Some(me), BAD)),
        ("/status", Some(bearer(&foreign)), (401, Some("Bearer"), BAD)),
        ("/status", Some("authorization: Bearer".to_owned()), (401, Some("Bearer"), BAD)),
        ("/status", Some("authorization: Bearer a b".to_owned()), (401, Some("Bearer"), BAD)),
        // "OAuth2 with JWT": `if user is None: raise credentials_exception`.
        ("/users/me", Some(bearer(&nobody)), (401, Some("Bearer scope=\"me\""), "Could not validate credentials")),
        // Layers further in, extractors and handlers follow.
        ("/nested", Some(bearer(&with_scope("me"))), (401, Some(both), FEW)),
        ("/nested", Some(bearer("nonexistent")), (401, Some("Bearer"), BAD)),
        ("/export", Some(bearer(&with_scope("me"))), (401, Some("Bearer scope=\"export me\""), FEW)),
        ("/own", Some(bearer(&with_scope("me"))), (403, None, "Forbidden")),
        ("/handler", Some(bearer(&with_scope("me"))), (400, None, "Inactive user")),
        ("/undecided", Some(bearer(&with_scope("me"))), (500, None, "Internal Server Error")),
        ("/optional", None, NONE),
    ];
    for (path, field, (status, challenge, words)) in rows {
        let fields: Vec<&[u8]> = field.iter().map(String::as_bytes).collect();
        let reply = get(at, path, &fields).await;
        assert_eq!(said(&reply), (status, challenge, detail(words)), "{path} {field:?}");
    }
    let twice = get(at, "/status", &[b"authorization: Bearer a", b"authorization: Bearer b"]).await;
    assert_eq!(said(&twice), (401, Some("Bearer"), detail(BAD)));
    let foreign = send(at, "POST /page", &[b"sec-fetch-site: cross-site", b"origin: https://evil.example"], b"").await;
    assert_eq!(said(&foreign), (403, None, detail("Forbidden")));
    for path in ["/users/me", "/users/me/items"] {
        let reply = get_with(at, path, &with_scope("me items")).await;
        assert_eq!((reply.status, reply.text().as_str()), (200, "alice"), "{path}");
    }
}

#[tokio::test]
async fn the_realm_and_the_metadata_do_not_bring_the_other_style_back() {
    let server = builder().build().unwrap();
    let api = server.resource_server().realm("orders").unwrap();
    let api = api.describe("https://api.example/orders", [ISSUER], ["me"]).unwrap();
    for api in [api.clone(), api.realm("other").unwrap()] {
        let wire = serve(Router::new().route("/x", on_get(|| async {})).layer(api.authenticate())).await;
        let reply = get(wire.address, "/x", &[]).await;
        assert_eq!(said(&reply), (401, Some("Bearer"), detail("Not authenticated")));
    }
}

#[tokio::test]
async fn logins_as_in_the_tutorial() {
    let tutorial = Tutorial::new().await;
    let at = tutorial.wire.address;
    let encoded = percent_encoding::utf8_percent_encode(PASSWORD, percent_encoding::NON_ALPHANUMERIC).to_string();
    for grant in ["grant_type=password&", "grant_type=&", ""] {
        // The last is what Swagger's page sends, with all of its empty fields.
        let reply =
            post_token(at, &format!("{grant}username=alice&password={encoded}&scope=&client_id=&client_secret=")).await;
        let body = reply.json();
        assert_eq!((reply.status, &body["token_type"], &body["scope"]), (200, &json!("Bearer"), &json!("me items")));
        let reply = get_with(at, "/users/me", body["access_token"].as_str().unwrap()).await;
        assert_eq!((reply.status, reply.text().as_str()), (200, "alice"));
    }
    // Whatever the reason, the same bytes.
    let mut replies = Vec::new();
    for (name, password) in [
        ("alice", "wrong"),
        ("nobody", PASSWORD),
        ("mallory", PASSWORD),
        ("mallory", "wrong"),
        ("broken", PASSWORD),
        (&*"x".repeat(300), PASSWORD),
    ] {
        replies.push(post_token(at, &form(name, password, "")).await.without_date());
    }
    assert_eq!(said(&replies[0]), (401, Some("Bearer"), detail("Incorrect username or password")));
    assert_eq!(replies[0].header("pragma"), Some("no-cache"));
    for reply in &replies {
        assert_eq!(reply, &replies[0]);
    }
    let field = |name| json!({ "type": "missing", "loc": ["body", name], "msg": "Field required", "input": null });
    for (body, missing) in [
        ("", vec!["username", "password"]),
        ("grant_type=password", vec!["username", "password"]),
        ("username=s3cret-name", vec!["password"]),
        ("username=s3cret-name&password=", vec!["password"]),
        ("password=s3cret&grant_type=password", vec!["username"]),
    ] {
        let reply = post_token(at, body).await;
        let (status, challenge, text) = said(&reply);
        assert_eq!((status, challenge), (422, None), "{body}");
        assert_eq!(reply.json(), json!({ "detail": missing.into_iter().map(field).collect::<Vec<_>>() }), "{body}");
        assert!(!text.contains("s3cret"), "{text}");
    }
    let reply = get(at, "/token", &[]).await;
    assert_eq!(said(&reply), (405, None, detail("Method Not Allowed")));
    assert_eq!(reply.header("allow"), Some("POST"));
}

/// What has no case in the tutorial speaks as its RFC has it.
#[tokio::test]
async fn the_rest_of_the_endpoints_keep_their_rfcs() {
    let tutorial = Tutorial::new().await;
    let at = tutorial.wire.address;
    for (path, form, status, error) in [
        ("/token", form("alice", PASSWORD, "&scope=admin"), 400, "invalid_scope"),
        ("/token", form("alice", PASSWORD, "&scope=me%20%20items"), 400, "invalid_scope"),
        ("/token", form("alice", PASSWORD, "&username=bob"), 400, "invalid_request"),
        ("/token", "grant_type=magic&username=a&password=b".to_owned(), 400, "unsupported_grant_type"),
        ("/token", "grant_type=refresh_token&refresh_token=x".to_owned(), 400, "invalid_grant"),
        ("/token", "grant_type=refresh_token".to_owned(), 400, "invalid_request"),
        ("/token/refresh", "refresh_token=x".to_owned(), 400, "invalid_grant"),
        ("/revoke", String::new(), 400, "invalid_request"),
        ("/introspect", "token=x".to_owned(), 401, "invalid_client"),
    ] {
        let reply = post(at, path, &form).await;
        assert_eq!((reply.status, reply.json()["error"].as_str()), (status, Some(error)), "{path} {form} {reply:?}");
    }
    // Who may not ask is told as everywhere.
    let reply = get(at, "/sessions", &[]).await;
    assert_eq!(said(&reply), (401, Some("Bearer"), detail("Not authenticated")));
}

#[tokio::test]
async fn a_user_who_was_disabled_meanwhile_is_inactive() {
    let tutorial = Tutorial::new().await;
    let at = tutorial.wire.address;
    let reply = post_token(at, &form("alice", PASSWORD, "")).await;
    let access = reply.json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(get_with(at, "/users/me", &access).await.status, 200);
    tutorial.server.set_disabled(&UserId::parse("id-alice").unwrap(), true).await.unwrap();
    // The session's own token is called back; one that is not finds the user.
    let reply = get_with(at, "/users/me", &access).await;
    assert_eq!(said(&reply).2, detail("Could not validate credentials"));
    let later = token(|claims| claims["iat"] = (now() + 20).into());
    let reply = get_with(at, "/users/me", &later).await;
    assert_eq!(said(&reply), (400, None, detail("Inactive user")));
}

#[tokio::test]
async fn outages_and_limits_keep_their_status_and_headers() {
    let store_down = builder().first_party_login(down(), hasher()).danger_without_login_limits().build().unwrap();
    let wire = serve(routes(&store_down)).await;
    let reply = post_token(wire.address, &form("alice", PASSWORD, "")).await;
    assert_eq!(said(&reply), (503, None, detail("Service Unavailable")));
    assert_eq!(reply.header("retry-after"), Some("5"));
    let reply = get_with(wire.address, "/users/me", &with_scope("me")).await;
    assert_eq!(said(&reply), (503, None, detail("Service Unavailable")));
    assert_eq!(reply.header("retry-after"), Some("5"));

    let limits = LoginLimiter::builder().per_address(Quota::per_minute(2)).build().unwrap();
    let server = builder().first_party_login(users().await, hasher()).login_limits(limits).build().unwrap();
    let wire = serve(routes(&server)).await;
    for left in [1, 0] {
        let reply = post_token(wire.address, &form("alice", "wrong", "")).await;
        assert_eq!(said(&reply), (401, Some("Bearer"), detail("Incorrect username or password")));
        assert!(reply.header("ratelimit").unwrap().contains(&format!("r={left};")), "{reply:?}");
    }
    // Without `grant_type` it is a login all the same, and counts.
    let reply = post_token(wire.address, "username=alice&password=wrong").await;
    assert_eq!(said(&reply), (429, None, detail("Too Many Requests")));
    assert!(reply.header("retry-after").is_some() && reply.header("ratelimit-policy").is_some(), "{reply:?}");
}

/// gRPC, and what is told of it all, are as in the other style.
#[tokio::test]
async fn grpc_and_audit_events_are_as_ever() {
    let ask = async |style: AnswerStyle| {
        let log = Log::default();
        let guard = log.capture();
        let server = builder().answer_style(style).first_party_login(users().await, hasher());
        let server = server.danger_without_login_limits().build().unwrap();
        let wire = serve(routes(&server)).await;
        let mut replies = Vec::new();
        for token in ["nonexistent".to_owned(), with_scope("")] {
            let field = format!("authorization: Bearer {token}");
            let grpc: [&[u8]; 2] = [field.as_bytes(), b"content-type: application/grpc"];
            replies.push(get(wire.address, "/users/me", &grpc).await.without_date());
            get(wire.address, "/users/me", &grpc[..1]).await;
        }
        post_token(wire.address, &form("alice", "wrong", "")).await;
        drop(guard);
        let told = log.text();
        let words = |line: &str| line.split_once("portcullis").map(|(_, rest)| rest.to_owned());
        let events: Vec<String> = told.lines().filter(|line| line.contains("kind=")).filter_map(words).collect();
        (replies, events)
    };
    let (ever, style) = (ask(AnswerStyle::Standard).await, ask(AnswerStyle::FastApi).await);
    assert_eq!(ever.0, style.0);
    let others: Vec<_> = ever.1.iter().zip(&style.1).filter(|(ever, style)| ever != style).collect();
    let [(standard, fastapi)] = &others[..] else { panic!("{others:?}") };
    assert_eq!(standard.replace("status=403", "status=401"), **fastapi, "the one over plain HTTP, in its own status");
    assert!(ever.1.len() >= 5, "{:?}", ever.1);
    assert!(ever.0[1].header("www-authenticate").unwrap().contains("insufficient_scope"), "{:?}", ever.0);
}

#[tokio::test]
async fn auth_server_in_the_style_of_the_tutorial() {
    const USERS: &str = r#"[{"username": "johndoe", "password": "a long enough one", "scopes": ["me", "items"]},
        {"username": "alice", "password": "another that is long", "scopes": ["me"], "disabled": true}]"#;
    let folder = Folder::new("fastapi");
    let variables = [("USERS", USERS), ("ANSWER_STYLE", "fastapi")];
    let program = programs::start("auth_server", &folder, &variables);
    let at = program.address;
    let reply = post_token(at, "username=johndoe&password=a+long+enough+one&scope=me").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let access = reply.json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(get_with(at, "/users/me", &access).await.json()["username"], "johndoe");
    for (reply, expected) in [
        (post_token(at, "username=johndoe&password=x").await, (401, Some("Bearer"), "Incorrect username or password")),
        (
            post_token(at, "username=alice&password=another+that+is+long").await,
            (401, Some("Bearer"), "Incorrect username or password"),
        ),
        (get(at, "/users/me", &[]).await, (401, Some("Bearer"), "Not authenticated")),
        (get_with(at, "/users/me", "x").await, (401, Some("Bearer"), "Could not validate credentials")),
        (
            get_with(at, "/users/me/items", &access).await,
            (401, Some("Bearer scope=\"items me\""), "Not enough permissions"),
        ),
    ] {
        let (status, challenge, words) = expected;
        assert_eq!(said(&reply), (status, challenge, detail(words)));
    }
    let reply = post_token(at, "username=johndoe").await;
    assert_eq!((reply.status, &reply.json()["detail"][0]["loc"]), (422, &json!(["body", "password"])));
}
