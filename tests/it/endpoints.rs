//! Sessions, clients, resources, revocation, introspection and metadata, over a real socket.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{Router, routing::get as route};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Incoming};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use portcullis::{
    AuthorizationServer,
    browser::CsrfGuard,
    client::{Client, GrantType, HashedSecret, Resource, random_secret},
    clock::{Clock as _, ManualClock, UnixSeconds},
    config::{ConfigError, ConfigErrors},
    endpoint::{Registration, SessionCookies},
    ident::{SessionId, UserId},
    jwt::{Algorithm, SigningKey},
    secret::Secret,
    session::SessionPolicy,
    store::{Cursor, MemoryStore, RevocationStore as _, Revoked},
};
use serde_json::{Value, json};

use crate::{
    login::{PASSWORD, claims, form, hasher, refused, users, well_formed},
    support::{Log, Reply, Server, get, get_with, now, post, post_token, send, serve},
};

const ISSUER: &str = "https://id.example";
const TOOL: &str = "https://tool.example/mcp";
const ARCHIVE: &str = "https://archive.example";

struct World {
    server: Server,
    handle: AuthorizationServer,
    clock: Arc<ManualClock>,
    users: Arc<MemoryStore>,
    /// Of the client `reports`.
    secret: String,
}

/// A server with an app that may sign users in, a tool, an archive, a service `reports` that may read orders in its own name,
/// and a gateway that may ask about tokens for the tool.
async fn world() -> World {
    let users = users().await;
    let clock = Arc::new(ManualClock::at(UnixSeconds::new(now())));
    let secret = random_secret().unwrap();
    let hashed = || HashedSecret::of(&secret).unwrap();
    let key = SigningKey::generate(Algorithm::EdDsa).unwrap();
    let handle = AuthorizationServer::builder(ISSUER, "orders", key)
        .first_party_login(Arc::clone(&users) as _, hasher())
        .sessions(Arc::clone(&users) as _, SessionPolicy::default())
        .clock(Arc::clone(&clock) as _)
        .client(Client::public("app").grant(GrantType::Password))
        .client(Client::public("kiosk").grant(GrantType::Password).scopes(["items"]).resources([TOOL]))
        .client(Client::public("viewer"))
        .client(
            Client::confidential("reports", hashed())
                .grant(GrantType::ClientCredentials)
                .scopes(["orders:read", "tool:run"])
                .resources(["orders", TOOL]),
        )
        .client(Client::confidential("gateway", hashed()).introspects([TOOL]))
        .resource(Resource::new(TOOL).scopes(["tool:run", "items"]))
        .resource(Resource::new(ARCHIVE))
        .build()
        .unwrap();
    let api = handle.resource_server();
    let tool = handle.resource_server_for(TOOL).unwrap();
    let routes = Router::new()
        .route("/me", route(|| async { "me" }).layer(api.authenticate()))
        .route("/tool", route(|| async { "tool" }).layer(tool.authenticate()))
        .merge(handle.routes());
    World { server: serve(routes).await, handle, clock, users, secret: secret.expose().clone() }
}

impl World {
    async fn login(&self, more: &str) -> Reply {
        let reply = post_token(self.server.address, &form("alice", PASSWORD, &format!("&client_id=app{more}"))).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply
    }

    async fn refresh(&self, token: &str, more: &str) -> Reply {
        let form = format!("grant_type=refresh_token&client_id=app&refresh_token={token}{more}");
        let reply = post_token(self.server.address, &form).await;
        well_formed(&reply);
        reply
    }

    /// A form that `client` sends with the secret, as `client_secret_basic`.
    async fn as_client(&self, client: &str, path: &str, form: &str) -> Reply {
        let basic = STANDARD.encode(format!("{client}:{}", self.secret));
        let headers: [&[u8]; 2] =
            [b"content-type: application/x-www-form-urlencoded", &format!("authorization: Basic {basic}").into_bytes()];
        send(self.server.address, &format!("POST {path}"), &headers, form.as_bytes()).await
    }

    async fn call(&self, line: &str, token: &str) -> Reply {
        send(self.server.address, line, &[format!("authorization: Bearer {token}").as_bytes()], b"").await
    }

    async fn sessions(&self, token: &str) -> Vec<Value> {
        let reply = get_with(self.server.address, "/sessions", token).await;
        assert_eq!((reply.status, reply.header("cache-control")), (200, Some("no-store")), "{reply:?}");
        reply.json()["sessions"].as_array().unwrap().clone()
    }

    async fn opens(&self, path: &str, token: &str) -> bool {
        let reply = get_with(self.server.address, path, token).await;
        assert!(matches!(reply.status, 200 | 401), "{reply:?}");
        reply.status == 200
    }
}

fn access(reply: &Reply) -> String {
    reply.json()["access_token"].as_str().unwrap_or_else(|| panic!("{reply:?}")).to_owned()
}

fn refresh_token(reply: &Reply) -> String {
    reply.json()["refresh_token"].as_str().unwrap_or_else(|| panic!("{reply:?}")).to_owned()
}

#[tokio::test]
async fn req_181_req_182_a_user_sees_and_ends_their_sessions() {
    let world = world().await;
    let headers: [&[u8]; 2] = [b"content-type: application/x-www-form-urlencoded", b"user-agent: Firefox/140"];
    let login = |more: &'static str| {
        let body = form("alice", PASSWORD, &format!("&client_id=app{more}"));
        async move { send(world.server.address, "POST /token", &headers, body.as_bytes()).await }
    };
    let phone = login("&device_name=Alice%27s%20phone%00%0A").await;
    let [laptop, tablet] = [login("").await, login("").await];
    world.clock.advance(Duration::from_secs(60));
    let laptop = world.refresh(&refresh_token(&laptop), "").await;

    let mut listed = world.sessions(&access(&laptop)).await;
    let shown: Vec<_> = listed.iter().map(|one| (one["device"].as_str().unwrap(), one["current"] == true)).collect();
    assert_eq!(shown[0], ("Firefox/140", true), "the last used first");
    assert!(shown[1..].contains(&("Alice's phone", false)) && shown.len() == 3, "{shown:?}");
    let (created, used) = (listed[0]["created_at"].as_u64().unwrap(), listed[0]["last_used_at"].as_u64().unwrap());
    assert_eq!(used, created + 60);
    assert_eq!((&listed[0]["client_id"], &listed[0]["scope"]), (&json!("app"), &json!("me items")));
    listed.retain(|one| one["device"] == "Alice's phone");
    let id = listed[0]["id"].as_str().unwrap().to_owned();

    // Another user can neither see nor end it.
    let bob = post_token(world.server.address, &form("bob", PASSWORD, "&client_id=app")).await;
    assert_eq!(world.sessions(&access(&bob)).await.len(), 1);
    assert_eq!(world.call(&format!("DELETE /sessions/{id}"), &access(&bob)).await.status, 404);
    assert!(world.opens("/me", &access(&phone)).await);

    let ended = world.call(&format!("DELETE /sessions/{id}"), &access(&laptop)).await;
    assert_eq!((ended.status, ended.body.len()), (204, 0), "{ended:?}");
    assert!(!world.opens("/me", &access(&phone)).await, "the access token is over as well");
    refused(&world.refresh(&refresh_token(&phone), "").await, 400, "invalid_grant");
    assert_eq!(world.call(&format!("DELETE /sessions/{id}"), &access(&laptop)).await.status, 404);
    for odd in ["x", "%00", "..", &"A".repeat(500)] {
        assert_eq!(world.call(&format!("DELETE /sessions/{odd}"), &access(&laptop)).await.status, 404, "{odd}");
    }

    assert_eq!(world.call("DELETE /sessions?except=current", &access(&laptop)).await.status, 204);
    assert!(world.opens("/me", &access(&laptop)).await && !world.opens("/me", &access(&tablet)).await);
    refused(&world.refresh(&refresh_token(&tablet), "").await, 400, "invalid_grant");
    assert_eq!(world.sessions(&access(&laptop)).await.len(), 1);
    let mistyped = world.call("DELETE /sessions?except=curent", &access(&laptop)).await;
    refused(&mistyped, 400, "invalid_request");
    assert!(world.opens("/me", &access(&laptop)).await, "more than was meant is never ended");

    let laptop = world.refresh(&refresh_token(&laptop), "").await;
    assert_eq!(world.call("DELETE /sessions", &access(&laptop)).await.status, 204);
    assert!(!world.opens("/me", &access(&laptop)).await);
    refused(&world.refresh(&refresh_token(&laptop), "").await, 400, "invalid_grant");
    // Whoever signs in again within the same second is not taken for who has just been signed out.
    let again = world.login("").await;
    assert!(world.opens("/me", &access(&again)).await);
    assert!(world.opens("/me", &access(&bob)).await, "nor is anybody else");
}

#[tokio::test]
async fn the_sessions_endpoints_answer_to_a_good_token_alone() {
    let world = world().await;
    let token = access(&world.login("").await);
    for line in ["GET /sessions", "DELETE /sessions", "DELETE /sessions/x", "POST /logout"] {
        let reply = send(world.server.address, line, &[], b"").await;
        assert_eq!(reply.status, 401, "{line}: {reply:?}");
        assert_eq!(reply.header("www-authenticate"), Some("Bearer realm=\"api\""));
    }
    for (line, allow) in [
        ("POST /sessions", "GET, HEAD, DELETE"),
        ("GET /sessions/x", "DELETE"),
        ("GET /logout", "POST"),
        ("DELETE /logout", "POST"),
    ] {
        let reply = world.call(line, &token).await;
        assert_eq!((reply.status, reply.header("allow")), (405, Some(allow)), "{line}");
    }
    let service = world.as_client("reports", "/token", "grant_type=client_credentials&resource=orders").await;
    assert_eq!(world.call("GET /sessions", &access(&service)).await.status, 403, "a client has no sessions");
    assert!(world.opens("/me", &token).await);
}

/// An answer to `HEAD` over HTTP/2, from hyper with nothing between: its status, the length that it tells, and the content.
async fn head<S, R>(service: S, path: &str, token: &str) -> (u16, Option<String>, Vec<u8>)
where
    S: tower::Service<Request<Incoming>, Response = Response<R>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    R: Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + 'static,
{
    let (near, far) = tokio::io::duplex(64 * 1024);
    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    let serving = tokio::spawn(server.serve_connection(TokioIo::new(far), TowerToHyperService::new(service)));
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(near)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::head(format!("https://id.example{path}")).header("authorization", format!("Bearer {token}"));
    let answer = client.send_request(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
    let length = answer.headers().get("content-length").map(|length| length.to_str().unwrap().to_owned());
    let status = answer.status().as_u16();
    let content = answer.into_body().collect().await.expect("a stream that is whole").to_bytes().to_vec();
    connection.abort();
    serving.abort();
    (status, length, content)
}

#[tokio::test]
async fn head_of_every_endpoint_has_no_content_over_http2_without_a_framework() {
    let users = users().await;
    let key = SigningKey::generate(Algorithm::EdDsa).unwrap();
    let handle = AuthorizationServer::builder(ISSUER, "orders", key)
        .first_party_login(Arc::clone(&users) as _, hasher())
        .sessions(users, SessionPolicy::default().grace(Duration::from_secs(10)))
        .registration(Registration::new())
        .session_cookies(SessionCookies::new(CsrfGuard::builder().build().unwrap()))
        .build()
        .unwrap();
    let server = serve(handle.routes()).await;
    let token = access(&post_token(server.address, &form("alice", PASSWORD, "")).await);
    let mut told = Vec::new();

    macro_rules! of {
        ($service:expr, $path:expr) => {
            told.push(($path, head($service, $path, &token).await))
        };
    }
    of!(handle.token_endpoint(), "/token");
    of!(handle.refresh_endpoint(), "/token/refresh");
    of!(handle.revocation_endpoint(), "/revoke");
    of!(handle.introspection_endpoint(), "/introspect");
    of!(handle.sessions_endpoint(), "/sessions");
    of!(handle.sessions_endpoint(), "/sessions/x");
    of!(handle.sessions_endpoint(), "/logout");
    of!(handle.session_endpoint().unwrap(), "/session");
    of!(handle.register_endpoint().unwrap(), "/register");
    of!(handle.password_endpoint().unwrap(), "/password");
    of!(handle.jwks_endpoint(), "/.well-known/jwks.json");
    for (path, (status, length, content)) in told {
        let expected = if ["/sessions", "/.well-known/jwks.json"].contains(&path) { 200 } else { 405 };
        // A page's endpoint takes no token beside its cookies.
        let expected = if path == "/session" { 400 } else { expected };
        assert_eq!((status, content.as_slice()), (expected, &b""[..]), "{path}");
        assert!(length.is_some_and(|length| length.parse::<u64>().unwrap() > 0), "{path}");
    }
}

#[tokio::test]
async fn req_181_logout_ends_the_session_and_what_it_was_given() {
    let log = Log::default();
    let _guard = log.capture();
    let world = world().await;
    let login = world.login("").await;
    let second = world.refresh(&refresh_token(&login), "").await;
    // Warm: the tokens are remembered as verified.
    for _ in 0..3 {
        assert!(world.opens("/me", &access(&login)).await && world.opens("/me", &access(&second)).await);
    }
    assert_eq!(world.call("POST /logout", &access(&login)).await.status, 204);
    for token in [access(&login), access(&second)] {
        let reply = get_with(world.server.address, "/me", &token).await;
        assert_eq!(reply.status, 401);
        assert!(reply.header("www-authenticate").unwrap().contains("error=\"invalid_token\""), "{reply:?}");
    }
    refused(&world.refresh(&refresh_token(&second), "").await, 400, "invalid_grant");
    assert_eq!(world.call("POST /logout", &access(&login)).await.status, 401, "once is enough");
    let text = log.text();
    assert_eq!(text.matches("sessions_ended").count(), 1, "{text}");
    assert!(text.contains("token revoked"), "{text}");
}

#[tokio::test]
async fn req_049_req_181_another_password_or_a_disabled_user_ends_all_sessions() {
    let world = world().await;
    let alice = UserId::parse("id-alice").unwrap();
    let (one, two) = (world.login("").await, world.login("").await);
    let current = claims(&two).1["sid"].as_str().and_then(SessionId::parse);
    let new = "an even better horse battery";
    assert!(world.handle.set_password(&alice, Secret::from(new), current).await.unwrap());
    assert!(!world.opens("/me", &access(&one)).await && world.opens("/me", &access(&two)).await);
    refused(&world.refresh(&refresh_token(&one), "").await, 400, "invalid_grant");
    refused(&post_token(world.server.address, &form("alice", PASSWORD, "&client_id=app")).await, 400, "invalid_grant");
    let three = post_token(world.server.address, &form("alice", new, "&client_id=app")).await;
    assert!(world.opens("/me", &access(&three)).await);

    assert!(world.handle.set_disabled(&alice, true).await.unwrap());
    for reply in [&two, &three] {
        assert!(!world.opens("/me", &access(reply)).await);
        refused(&world.refresh(&refresh_token(reply), "").await, 400, "invalid_grant");
    }
    assert!(world.handle.set_disabled(&alice, false).await.unwrap());
    let four = post_token(world.server.address, &form("alice", new, "&client_id=app")).await;
    assert!(world.opens("/me", &access(&four)).await);
    assert!(!world.opens("/me", &access(&two)).await, "what was ended stays so");
    assert_eq!(world.handle.end_sessions(&alice, None).await.unwrap(), 1);
    assert!(!world.opens("/me", &access(&four)).await);
    let nobody = UserId::parse("nobody").unwrap();
    assert!(!world.handle.set_password(&nobody, Secret::from(new), None).await.unwrap());
    assert!(!world.handle.set_disabled(&nobody, true).await.unwrap());
    assert!(!world.handle.end_session(SessionId::random().unwrap()).await.unwrap());
}

#[tokio::test]
async fn req_029_req_035_clients_prove_who_they_are() {
    let world = world().await;
    let (address, secret) = (world.server.address, &world.secret);
    let basic = |text: &str| format!("authorization: Basic {}", STANDARD.encode(text));
    let grant = "grant_type=client_credentials&scope=orders:read";
    let rows: &[(Option<String>, String, u16, &str)] = &[
        (Some(basic(&format!("reports:{secret}"))), String::new(), 200, ""),
        (Some(basic(&format!("reports:{secret}"))), "&client_id=reports".to_owned(), 200, ""),
        (None, format!("&client_id=reports&client_secret={secret}"), 200, ""),
        (Some(basic("reports:wrong")), String::new(), 401, "invalid_client"),
        (Some(basic("reports:")), String::new(), 401, "invalid_client"),
        (Some(basic(&format!("nobody:{secret}"))), String::new(), 401, "invalid_client"),
        (Some(basic(&format!("app:{secret}"))), String::new(), 401, "invalid_client"),
        (Some("authorization: Basic ???".to_owned()), String::new(), 401, "invalid_client"),
        (Some("authorization: Bearer a.b.c".to_owned()), String::new(), 401, "invalid_client"),
        (None, "&client_id=reports".to_owned(), 401, "invalid_client"),
        (None, "&client_id=reports&client_secret=wrong".to_owned(), 401, "invalid_client"),
        (None, format!("&client_secret={secret}"), 401, "invalid_client"),
        (None, String::new(), 401, "invalid_client"),
        (Some(basic(&format!("reports:{secret}"))), format!("&client_secret={secret}"), 400, "invalid_request"),
        (Some(basic(&format!("reports:{secret}"))), "&client_id=app".to_owned(), 400, "invalid_request"),
        (Some(basic(&format!("gateway:{secret}"))), String::new(), 400, "unauthorized_client"),
        (None, "&client_id=app".to_owned(), 400, "unauthorized_client"),
    ];
    let mut answers = Vec::new();
    for (header, more, status, error) in rows {
        let mut headers: Vec<&[u8]> = vec![b"content-type: application/x-www-form-urlencoded"];
        headers.extend(header.as_ref().map(String::as_bytes));
        let reply = send(address, "POST /token", &headers, format!("{grant}{more}").as_bytes()).await;
        well_formed(&reply);
        assert_eq!(reply.status, *status, "{header:?} {more}: {reply:?}");
        if *status == 401 {
            let challenge = reply.header("www-authenticate").unwrap();
            assert!(challenge.starts_with("Basic realm=\""), "{challenge}");
            answers.push(reply.body.clone());
        }
        if *status != 200 {
            assert_eq!(reply.json()["error"], *error, "{header:?} {more}");
        }
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "which of it is wrong is not told");
    // A client that users do not sign in with, and one that does not exist.
    let viewer = post_token(address, &form("alice", PASSWORD, "&client_id=viewer")).await;
    refused(&viewer, 400, "unauthorized_client");
    let none = post_token(address, &form("alice", PASSWORD, "&client_id=other")).await;
    refused(&none, 401, "invalid_client");
    let unnamed = post_token(address, &form("alice", PASSWORD, "")).await;
    refused(&unnamed, 401, "invalid_client");
}

#[tokio::test]
async fn req_041_a_session_is_its_clients() {
    let world = world().await;
    let token = refresh_token(&world.login("").await);
    let form = format!("grant_type=refresh_token&client_id=kiosk&refresh_token={token}");
    refused(&post_token(world.server.address, &form).await, 400, "invalid_grant");
    let form = format!("grant_type=refresh_token&refresh_token={token}");
    refused(&world.as_client("reports", "/token", &form).await, 400, "invalid_grant");
    assert_eq!(world.refresh(&token, "").await.status, 200, "nor has that cost it");
}

#[tokio::test]
async fn req_036_req_102_a_client_gets_tokens_in_its_own_name() {
    let world = world().await;
    let grant =
        async |more: &str| world.as_client("reports", "/token", &format!("grant_type=client_credentials{more}")).await;
    let reply = grant("").await;
    let body = reply.json();
    assert_eq!(body["scope"], "orders:read tool:run");
    assert_eq!(body.get("refresh_token"), None, "RFC 6749 §4.4.3");
    let (_, claims) = claims(&reply);
    assert_eq!((&claims["sub"], &claims["client_id"]), (&json!("client:reports"), &json!("reports")));
    assert_eq!((claims.get("sid"), claims.get("auth_time")), (None, None), "nobody has signed in");
    assert!(world.opens("/me", &access(&reply)).await);
    for (more, expected) in [
        ("&scope=orders:read+admin", Ok("orders:read")),
        ("&scope=admin", Err("invalid_scope")),
        (&format!("&resource={TOOL}"), Ok("tool:run")),
        (&format!("&resource={TOOL}&scope=orders:read"), Err("invalid_scope")),
        (&format!("&resource={ARCHIVE}"), Err("invalid_target")),
    ] {
        let reply = grant(more).await;
        match expected {
            Ok(scope) => assert_eq!(reply.json()["scope"], scope, "{more}"),
            Err(error) => refused(&reply, 400, error),
        }
    }
}

#[tokio::test]
async fn req_103_req_104_req_105_req_106_tokens_for_one_resource_from_one_session() {
    let world = world().await;
    let login = world.login("").await;
    assert_eq!(claims(&login).1["aud"], "orders");
    let tool = world.refresh(&refresh_token(&login), &format!("&resource={TOOL}")).await;
    let (_, narrow) = claims(&tool);
    assert_eq!((&narrow["aud"], &narrow["scope"]), (&json!(TOOL), &json!("items")), "what the tool knows");
    assert_eq!(tool.json()["expires_in"], 600);
    assert!(world.opens("/tool", &access(&tool)).await && !world.opens("/me", &access(&tool)).await);
    assert!(!world.opens("/tool", &access(&login)).await);
    // Both at once, each of which honours all that the token may do.
    let both = world.refresh(&refresh_token(&tool), &format!("&resource={TOOL}&resource={ARCHIVE}")).await;
    assert_eq!((&claims(&both).1["aud"], &claims(&both).1["scope"]), (&json!([TOOL, ARCHIVE]), &json!("items")));
    // The session is as wide as it was.
    let wide = world.refresh(&refresh_token(&both), "").await;
    assert_eq!((&claims(&wide).1["aud"], &claims(&wide).1["scope"]), (&json!("orders"), &json!("me items")));

    let token = refresh_token(&wide);
    for bad in ["https://other.example", "tool", "https://tool.example/mcp/", "https://tool.example/mcp%23a", "%00"] {
        refused(&world.refresh(&token, &format!("&resource={bad}")).await, 400, "invalid_target");
    }
    let many = "&resource=https://archive.example".repeat(17);
    refused(&world.refresh(&token, &many).await, 400, "invalid_target");
    assert_eq!(world.refresh(&token, "").await.status, 200, "nor has that cost the token");

    // A session that was begun for one resource is for that one.
    let bound = world.login(&format!("&resource={ARCHIVE}")).await;
    assert_eq!(claims(&bound).1["aud"], ARCHIVE);
    let token = refresh_token(&bound);
    for other in [TOOL, "orders"] {
        refused(&world.refresh(&token, &format!("&resource={other}")).await, 400, "invalid_target");
    }
    let again = world.refresh(&token, "").await;
    assert_eq!(claims(&again).1["aud"], ARCHIVE);
    let foreign = post_token(world.server.address, &form("alice", "wrong", "&client_id=app&resource=urn:x")).await;
    refused(&foreign, 400, "invalid_target");
    // A client's own limits.
    let kiosk = post_token(world.server.address, &form("alice", PASSWORD, "&client_id=kiosk")).await;
    assert_eq!((&claims(&kiosk).1["aud"], &claims(&kiosk).1["scope"]), (&json!(TOOL), &json!("items")));
    let beyond = form("alice", PASSWORD, "&client_id=kiosk&resource=orders");
    refused(&post_token(world.server.address, &beyond).await, 400, "invalid_target");
    let beyond = form("alice", PASSWORD, "&client_id=kiosk&scope=me");
    refused(&post_token(world.server.address, &beyond).await, 400, "invalid_scope");
}

/// Whoever asks for too much with a token that was turned has stolen it all the same.
#[tokio::test]
async fn req_046_a_spent_token_is_seen_whatever_else_is_asked() {
    for more in ["&scope=admin", "&resource=urn:x"] {
        let world = world().await;
        let first = refresh_token(&world.login("").await);
        let second = world.refresh(&first, "").await;
        refused(&world.refresh(&first, more).await, 400, "invalid_grant");
        refused(&world.refresh(&refresh_token(&second), "").await, 400, "invalid_grant");
        assert!(!world.opens("/me", &access(&second)).await, "and its access tokens are called back");
        // Asking for too much with a token that nobody has turned tells nothing, and one that is made up neither.
        let made_up = format!("{}{}", &first[..22], "A".repeat(42));
        refused(&world.refresh(&made_up, more).await, 400, "invalid_grant");
    }
}

#[tokio::test]
async fn req_130_req_131_req_132_req_133_revocation() {
    let world = world().await;
    let revoke = async |form: String| post(world.server.address, "/revoke", &form).await;
    let login = world.login("").await;
    let (token, refresh) = (access(&login), refresh_token(&login));
    // Not a token; another's session with a made-up secret; the wrong hint.
    let made_up = format!("{}{}", &refresh[..22], "A".repeat(42));
    for other in ["x", &made_up, "a.b.c", &format!("{}x", &token[..token.len() - 1])] {
        let reply = revoke(format!("client_id=app&token={other}")).await;
        assert_eq!((reply.status, reply.body.len(), reply.header("cache-control")), (200, 0, Some("no-store")));
    }
    assert!(world.opens("/me", &token).await);
    for (path, form, status, error) in [
        ("/revoke", format!("client_id=kiosk&token={token}"), 400, "invalid_grant"),
        ("/revoke", format!("client_id=kiosk&token={refresh}"), 400, "invalid_grant"),
        ("/revoke", format!("token={token}"), 401, "invalid_client"),
        ("/revoke", "client_id=app".to_owned(), 400, "invalid_request"),
        ("/revoke", "client_id=app&token=".to_owned(), 400, "invalid_request"),
    ] {
        refused(&post(world.server.address, path, &form).await, status, error);
    }
    assert!(world.opens("/me", &token).await, "nobody else can revoke it");
    assert_eq!(send(world.server.address, "GET /revoke", &[], b"").await.status, 405);

    // An access token goes alone.
    assert_eq!(revoke(format!("client_id=app&token={token}&token_type_hint=refresh_token")).await.status, 200);
    assert!(!world.opens("/me", &token).await);
    let second = world.refresh(&refresh, "").await;
    assert!(world.opens("/me", &access(&second)).await);
    // A refresh token takes all that came of its session with it, and so does one that was turned before.
    let reply = revoke(format!("client_id=app&token={refresh}&token_type_hint=access_token")).await;
    assert_eq!(reply.status, 200);
    assert!(!world.opens("/me", &access(&second)).await);
    refused(&world.refresh(&refresh_token(&second), "").await, 400, "invalid_grant");
    assert_eq!(revoke(format!("client_id=app&token={refresh}")).await.status, 200, "it is over already");

    let service = access(&world.as_client("reports", "/token", "grant_type=client_credentials").await);
    assert_eq!(world.as_client("reports", "/revoke", &format!("token={service}")).await.status, 200);
    assert!(!world.opens("/me", &service).await);
}

/// A clock that is off by an hour when tokens are called back, or after that, is no way to get one of them back.
#[tokio::test]
async fn what_is_called_back_stays_so_if_the_clock_was_off_by_an_hour() {
    let world = world().await;
    let (clock, right, hour) = (Arc::clone(&world.clock), world.clock.now(), Duration::from_secs(3600));
    let cases: [fn(&ManualClock); 3] =
        [|_| {}, |clock| clock.advance(Duration::from_secs(3600)), |clock| clock.go_back(Duration::from_secs(3600))];
    for (case, step) in cases.into_iter().enumerate() {
        clock.set(right);
        let [alone, with_session] = [world.login("").await, world.login("").await];
        step(&clock);
        for token in [access(&alone), refresh_token(&with_session)] {
            let reply = post(world.server.address, "/revoke", &format!("client_id=app&token={token}")).await;
            assert_eq!(reply.status, 200, "{case}");
        }
        clock.set(right);
        assert!(
            !world.opens("/me", &access(&alone)).await && !world.opens("/me", &access(&with_session)).await,
            "{case}"
        );
        // Nor does the store forget before they are over, ten minutes and the leeway later; in the first two cases, even if the
        // clock is then ahead.
        let over = right.saturating_add(Duration::from_secs(600 + 300 - 1));
        let looks = if case < 2 { over.saturating_add(hour) } else { over };
        let noted = world.users.revocations(Cursor::START, looks);
        let noted: Vec<_> = noted.await.unwrap().list.into_iter().map(|revocation| revocation.tokens).collect();
        let (jti, sid) = (claims(&alone).1["jti"].clone(), claims(&with_session).1["sid"].clone());
        assert!(noted.contains(&Revoked::Token(jti.as_str().unwrap().to_owned())), "{case}");
        assert!(noted.contains(&Revoked::Session(SessionId::parse(sid.as_str().unwrap()).unwrap())), "{case}");
    }
}

#[tokio::test]
async fn req_133_without_a_list_access_tokens_cannot_be_revoked() {
    let key = SigningKey::generate(Algorithm::EdDsa).unwrap();
    let handle = AuthorizationServer::builder("https://id.example", "orders", key);
    let handle = handle.first_party_login(users().await, hasher()).build().unwrap();
    let server = serve(handle.routes()).await;
    let token = access(&post_token(server.address, &form("alice", PASSWORD, "")).await);
    let reply = post(server.address, "/revoke", &format!("token={token}")).await;
    refused(&reply, 400, "unsupported_token_type");
}

#[tokio::test]
async fn req_134_introspection() {
    let world = world().await;
    let ask = async |client: &str, token: &str| {
        let reply = world.as_client(client, "/introspect", &format!("token={token}")).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        well_formed(&reply);
        reply.json()
    };
    let inactive = json!({ "active": false });
    let login = world.login("").await;
    let tool = world.refresh(&refresh_token(&login), &format!("&resource={TOOL}")).await;
    let (_, expected) = claims(&tool);
    let told = ask("gateway", &access(&tool)).await;
    for same in ["iss", "sub", "client_id", "scope", "exp", "iat", "jti", "sid", "auth_time"] {
        assert_eq!(told[same], expected[same], "{same}");
    }
    assert_eq!((&told["active"], &told["token_type"], &told["aud"]), (&json!(true), &json!("Bearer"), &json!([TOOL])));
    // Not for the gateway; not for whoever does not stand for the tool.
    assert_eq!(ask("gateway", &access(&login)).await, inactive);
    assert_eq!(ask("reports", &access(&tool)).await, inactive);
    for bad in ["x", "a.b.c", &format!("{}x", access(&tool)), &refresh_token(&tool), &"A".repeat(64)] {
        assert_eq!(ask("gateway", bad).await, inactive, "{bad}");
    }
    // A client may ask about its own.
    let service = access(&world.as_client("reports", "/token", "grant_type=client_credentials").await);
    assert_eq!(ask("reports", &service).await["sub"], "client:reports");
    assert_eq!(ask("gateway", &service).await, inactive);

    world.clock.advance(Duration::from_secs(631));
    assert_eq!(ask("gateway", &access(&tool)).await, inactive, "expired");
    let tool = world.refresh(&refresh_token(&tool), &format!("&resource={TOOL}")).await;
    assert_eq!(ask("gateway", &access(&tool)).await["active"], true);
    assert_eq!(world.handle.end_sessions(&UserId::parse("id-alice").unwrap(), None).await.unwrap(), 1);
    assert_eq!(ask("gateway", &access(&tool)).await, inactive, "revoked");

    for form in ["client_id=app&token=x", "token=x", "client_id=reports&client_secret=wrong&token=x"] {
        refused(&post(world.server.address, "/introspect", form).await, 401, "invalid_client");
    }
    refused(&world.as_client("gateway", "/introspect", "").await, 400, "invalid_request");
    assert_eq!(send(world.server.address, "GET /introspect", &[], b"").await.status, 405);
}

#[tokio::test]
async fn req_054_req_126_metadata_of_the_server() {
    let world = world().await;
    let reply = get(world.server.address, "/.well-known/oauth-authorization-server", &[]).await;
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")));
    assert_eq!(reply.header("cache-control"), Some("public, max-age=300"));
    let expected = json!({
        "issuer": ISSUER,
        "token_endpoint": "https://id.example/token",
        "jwks_uri": "https://id.example/.well-known/jwks.json",
        "grant_types_supported": ["password", "refresh_token", "client_credentials"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
        "revocation_endpoint": "https://id.example/revoke",
        "revocation_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
        "introspection_endpoint": "https://id.example/introspect",
        "introspection_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "protected_resources": [TOOL, ARCHIVE],
    });
    assert_eq!(reply.json(), expected);
    // With a path, everything is where the metadata says.
    let key = SigningKey::generate(Algorithm::EdDsa).unwrap();
    let tenant = AuthorizationServer::builder("http://localhost:1/tenant", "orders", key);
    let server = serve(tenant.first_party_login(world.users.clone(), hasher()).build().unwrap().routes()).await;
    let document = get(server.address, "/.well-known/oauth-authorization-server/tenant", &[]).await.json();
    assert_eq!(document["issuer"], "http://localhost:1/tenant");
    for name in ["token_endpoint", "revocation_endpoint"] {
        let path = document[name].as_str().unwrap().strip_prefix("http://localhost:1").unwrap();
        assert_eq!(post(server.address, path, "").await.json()["error"], "invalid_request", "{path}");
    }
    let keys = document["jwks_uri"].as_str().unwrap().strip_prefix("http://localhost:1").unwrap();
    assert_eq!(get(server.address, keys, &[]).await.status, 200);

    // A shared secret has nothing to publish, and a server without clients of their own nobody to introspect.
    let secret = "5ebe2294ecd0e0f08eab7690d2a6ee695ebe2294ecd0e0f08eab7690d2a6ee69";
    let key = SigningKey::hmac(Algorithm::Hs256, secret.as_bytes()).unwrap();
    let small = AuthorizationServer::builder("http://localhost:1", "orders", key).build().unwrap();
    let server = serve(small.routes()).await;
    let document = get(server.address, "/.well-known/oauth-authorization-server", &[]).await.json();
    let names: Vec<_> = document.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "issuer",
        "revocation_endpoint",
        "revocation_endpoint_auth_methods_supported",
        "token_endpoint",
        "token_endpoint_auth_methods_supported",
    ];
    assert_eq!(names, expected, "empty lists are left out");
    let key = SigningKey::generate(Algorithm::EdDsa).unwrap();
    let nowhere = AuthorizationServer::builder("http://id.example", "orders", key).build().unwrap();
    assert!(nowhere.metadata_endpoint().is_none(), "neither https nor loopback");
}

#[tokio::test]
async fn req_127_req_128_req_129_metadata_of_a_resource_is_named_in_its_challenges() {
    let world = world().await;
    let tool = world.handle.resource_server_for(TOOL).unwrap().realm("tool").unwrap();
    let (path, document) = tool.metadata_endpoint().unwrap();
    assert_eq!(path, "/.well-known/oauth-protected-resource/mcp");
    let mcp = Router::new().route("/mcp", route(|| async { "tool" }));
    let mcp = mcp.layer(tool.require(["tool:run"]).unwrap()).layer(tool.authenticate());
    let routes = mcp.route_service(path, document);
    let server = serve(routes).await;
    let reply = get(server.address, path, &[]).await;
    let expected = json!({
        "resource": TOOL,
        "authorization_servers": [ISSUER],
        "scopes_supported": ["tool:run", "items"],
        "bearer_methods_supported": ["header"],
    });
    assert_eq!((reply.status, reply.json()), (200, expected));
    let named = "resource_metadata=\"https://tool.example/.well-known/oauth-protected-resource/mcp\"";
    let reply = get(server.address, "/mcp", &[]).await;
    assert_eq!(reply.header("www-authenticate").unwrap(), format!("Bearer realm=\"tool\", {named}"));
    let login = world.login(&format!("&resource={TOOL}")).await;
    let reply = get_with(server.address, "/mcp", &access(&login)).await;
    let challenge = reply.header("www-authenticate").unwrap();
    assert_eq!(reply.status, 403);
    assert!(challenge.contains(named) && challenge.contains("scope=\"tool:run\""), "{challenge}");
    let reply = get_with(server.address, "/mcp", "a.b.c").await;
    assert!(reply.header("www-authenticate").unwrap().contains(named));
    let api = world.handle.resource_server();
    assert!(api.metadata_endpoint().is_none(), "`orders` is no address");
    for bad in ["orders", "http://api.example", "https://api.example/?a", "https://api.example/#a"] {
        let error = api.clone().describe(bad, [ISSUER], ["a"]).unwrap_err();
        assert_eq!(error, ConfigErrors::from(ConfigError::Address(bad.to_owned())));
    }
}

#[tokio::test]
async fn documents_are_cached_until_they_change() {
    let world = world().await;
    for path in ["/.well-known/jwks.json", "/.well-known/oauth-authorization-server"] {
        let reply = get(world.server.address, path, &[]).await;
        let tag = reply.header("etag").unwrap().to_owned();
        let again = get(world.server.address, path, &[format!("if-none-match: {tag}").as_bytes()]).await;
        assert_eq!((again.status, again.body.len(), again.header("etag")), (304, 0, Some(tag.as_str())), "{path}");
        assert_eq!(again.header("cache-control"), Some("public, max-age=300"));
        let other = get(world.server.address, path, &[b"if-none-match: \"other\""]).await;
        assert_eq!((other.status, other.body), (200, reply.body));
    }
}

#[test]
fn mistakes_about_clients_and_resources_are_told_together() {
    let key = SigningKey::generate(Algorithm::EdDsa).unwrap();
    let built = AuthorizationServer::builder("https://id.example", "orders", key)
        .client(Client::public("app"))
        .client(Client::public("app"))
        .client(Client::public("first-party"))
        .client(Client::public("service").grant(GrantType::ClientCredentials))
        .client(Client::public("lost").resources(["urn:nowhere"]))
        .resource(Resource::new("no uri"))
        .resource(Resource::new("urn:twice"))
        .resource(Resource::new("urn:twice"))
        .access_token_lifetime(Duration::ZERO)
        .build();
    let errors = built.unwrap_err();
    assert_eq!(errors.iter().count(), 7, "{errors}");
}

/// Where a session began is told as far as it helps, and no further.
#[tokio::test]
async fn sessions_say_which_network_they_began_in() {
    let users = users().await;
    let key = SigningKey::generate(Algorithm::EdDsa).unwrap();
    let handle = AuthorizationServer::builder(ISSUER, "orders", key)
        .first_party_login(Arc::clone(&users) as _, hasher())
        .sessions(Arc::<MemoryStore>::clone(&users) as _, SessionPolicy::default())
        .build()
        .unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = handle.routes::<()>().into_make_service_with_connect_info::<std::net::SocketAddr>();
    let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let login = post_token(address, &form("alice", PASSWORD, "")).await;
    let listed = get_with(address, "/sessions", &access(&login)).await.json();
    assert_eq!(listed["sessions"][0]["network"], "127.0.0.0/24");
    task.abort();
}
