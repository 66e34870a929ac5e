//! Documents and routers: what a document says of a route is what the route does.

mod forms;
mod mistakes;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::Request,
    response::Response,
};
use portcullis::{
    AuthorizationServer, AuthorizationServerBuilder,
    authz::{AuthorizeLayer, Claim, Scopes, SignedIn, all, any, not},
    browser::{ACCESS_COOKIE, CsrfGuard},
    client::{Client, GrantType, HashedSecret},
    endpoint::{Registration, SessionCookies},
    ident::{LoginName, UserId},
    jwt::{Algorithm, SigningKey},
    openapi::{OpenApiRouterExt as _, docs},
    password::PasswordHasher,
    principal::Principal,
    rejection::AnswerStyle,
    secret::Secret,
    session::SessionPolicy,
    store::{MemoryStore, PasswordHash, UserRecord, UserStore as _},
    transport::SecureHeadersLayer,
};
use serde_json::{Value, json};
use tower::ServiceExt as _;
use utoipa::openapi::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{login::hasher, support::now};

const ISSUER: &str = "https://id.example/shop";
const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

macro_rules! handlers {
    ($($name:ident $path:literal),* $(,)?) => {$(
        #[utoipa::path(get, path = $path, responses((status = 200, description = "It was reached")))]
        async fn $name() {}
    )*};
}
handlers!(
    all_of "/all_of", one_of "/one_of", both "/both", nested "/nested", signed_in "/signed_in", public "/public",
    public_within "/public_within", policy "/policy", protected "/protected", cookie "/cookie", either "/either",
    current "/current", alone "/alone",
);

#[utoipa::path(get, path = "/optional", responses((status = 200, description = "It was reached")))]
async fn optional(_: Option<Principal>) {}

/// What one layer refuses on one method only.
#[utoipa::path(post, path = "/nested", responses((status = 200, description = "It was reached")))]
async fn post_nested() {}

/// Everything that can be declared.
fn everything(server: &AuthorizationServer, guard: &CsrfGuard) -> OpenApiRouter {
    let api = server.resource_server();
    let claim = || Claim::one_of("region", ["eu"]).unwrap();
    let scopes = |list: &[&str]| Scopes::all_of(list).unwrap();
    let mixed = all((any((scopes(&["p", "q"]), scopes(&["r"]))), not(claim()), scopes(&["s"])));
    let nested = OpenApiRouter::new()
        .routes(routes!(nested).require_any_scope(["x", "y"]).unwrap())
        .routes(routes!(post_nested))
        .require_any_scope(["y", "z"])
        .unwrap();
    let closed = OpenApiRouter::new()
        .routes(routes!(all_of).require_scopes(["a", "b"]).unwrap())
        .routes(routes!(one_of).require_any_scope(["a", "b"]).unwrap())
        .routes(routes!(both).require_scopes(["a"]).unwrap().require_any_scope(["b", "c"]).unwrap())
        .nest("/in", nested.require_scopes(["n"]).unwrap())
        .routes(routes!(signed_in).authorize(AuthorizeLayer::new(SignedIn)))
        .routes(routes!(public_within).public())
        .routes(routes!(policy).authorize(AuthorizeLayer::new(mixed)))
        .authenticate(&api);
    closed
        .routes(routes!(public).public())
        .routes(routes!(alone))
        .routes(routes!(optional).authenticate_optional(&api))
        .routes(routes!(protected).declare(api.protect(scopes(&["a"]))))
        .routes(routes!(current).declare(server.protect(scopes(&["a"])).unwrap()))
        .routes(routes!(cookie).require_scopes(["a"]).unwrap().declare(api.authenticate_cookie(guard.clone())))
        .routes(routes!(either).declare(api.authenticate_cookie(guard.clone()).or_bearer().optional()))
}

fn guard() -> CsrfGuard {
    CsrfGuard::builder().build().unwrap()
}

fn key() -> SigningKey {
    let pem = std::fs::read(format!("{}/tests/keys/ed25519.pem", env!("CARGO_MANIFEST_DIR"))).unwrap();
    SigningKey::from_pem(Algorithm::EdDsa, &pem).unwrap()
}

fn builder() -> AuthorizationServerBuilder {
    AuthorizationServer::builder(ISSUER, "https://api.example/shop", key())
}

const SECRET: &str = "4f0a6c1e9b7d3528a6e1c0f94b8d7325";

/// A server with every endpoint, whose one user is the subject that comes with it.
async fn whole(hasher: &PasswordHasher, style: AnswerStyle) -> (AuthorizationServer, String) {
    let users = Arc::new(MemoryStore::new());
    let (id, login) = (UserId::random().unwrap(), LoginName::parse("alice").unwrap());
    let (password, scopes) =
        (PasswordHash::from_phc("$argon2id$v=19$m=16,t=1,p=1$AAAAAAAAAAA$AAAA"), "a".parse().unwrap());
    let subject = id.subject();
    users.insert(UserRecord { id, login, password, scopes, disabled: false }).await.unwrap();
    let secret = HashedSecret::of(&Secret::from(SECRET)).unwrap();
    let server = builder()
        .first_party_login(Arc::clone(&users) as _, hasher.clone())
        .sessions(users as _, SessionPolicy::default().grace(Duration::from_secs(10)))
        .session_cookies(SessionCookies::new(guard()).access_in_cookie())
        .registration(Registration::new())
        .client(Client::confidential("tool", secret).grant(GrantType::ClientCredentials))
        .answer_style(style)
        .build()
        .unwrap();
    (server, subject)
}

/// A token of this subject with these scopes.
fn token(subject: &str, scope: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let id = format!("t-{}", NEXT.fetch_add(1, Relaxed));
    let claims = json!({
        "iss": ISSUER, "aud": "https://api.example/shop", "sub": subject, "client_id": "app", "jti": id,
        "iat": now(), "exp": now() + 600, "scope": scope,
    });
    key().sign(&claims).unwrap()
}

fn json_of(document: &OpenApi) -> Value {
    serde_json::to_value(document).unwrap()
}

/// Path, method and operation of everything in a document.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in METHODS.iter().filter(|method| !item[**method].is_null()) {
            found.push((path.clone(), (*method).to_owned(), item[*method].clone()));
        }
    }
    found
}

async fn ask(app: &Router, method: &str, path: &str, fields: &[(&str, String)]) -> Response {
    let request = Request::builder().method(method.to_uppercase().as_str()).uri(path);
    let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, value));
    app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

async fn described(hasher: &PasswordHasher) -> (Router, Value, String) {
    described_in(hasher, AnswerStyle::Standard).await
}

async fn described_in(hasher: &PasswordHasher, style: AnswerStyle) -> (Router, Value, String) {
    let (server, subject) = whole(hasher, style).await;
    let routes = everything(&server, &guard()).merge(server.documented_routes());
    let (app, document) = routes.split_for_parts();
    let scopes =
        ["a", "b", "c", "n", "p", "q", "r", "s", "x", "y", "z"].map(|scope| (scope, format!("What {scope} opens")));
    let document = server.document(document, scopes).unwrap();
    (app, json_of(&document), subject)
}

/// How an alternative has its caller show a token, if it does, and with which scopes.
fn shown(alternative: &Value) -> Option<(&'static str, Vec<String>)> {
    let scopes = |name: &str| Some(serde_json::from_value(alternative.get(name)?.clone()).unwrap());
    let bearer = || scopes("bearer").or_else(|| scopes("OAuth2"));
    scopes("cookie").map(|scopes| ("cookie", scopes)).or_else(|| bearer().map(|scopes| ("authorization", scopes)))
}

fn credential(field: &'static str, token: &str) -> (&'static str, String) {
    let value = if field == "cookie" { format!("{ACCESS_COOKIE}={token}") } else { format!("Bearer {token}") };
    (field, value)
}

#[tokio::test]
async fn routers_do_what_their_documents_say() {
    for style in [AnswerStyle::Standard, AnswerStyle::FastApi] {
        routers_do_what_their_documents_say_in(style).await;
    }
}

async fn routers_do_what_their_documents_say_in(style: AnswerStyle) {
    let hasher = hasher();
    let (_, document, _) = described_in(&hasher, style).await;
    let lacks_scope = if style == AnswerStyle::FastApi { 401 } else { 403 };
    let (mut strangers, mut let_in, mut kept_out) = (0, 0, 0);
    for (path, method, operation) in operations(&document) {
        let concrete = path.replace("{id}", "nobody");
        // Each time another server: some operations end all tokens of their caller.
        let ask = async |scopes: Option<(&'static str, &[String])>| {
            let (app, _, subject) = described_in(&hasher, style).await;
            let fields = scopes.map(|(field, scopes)| credential(field, &token(&subject, &scopes.join(" "))));
            // As a page of the same origin asks.
            let own = ("sec-fetch-site", "same-origin".to_owned());
            let fields: Vec<_> = fields.into_iter().chain([own]).collect();
            let response = self::ask(&app, &method, &concrete, &fields).await;
            let status = response.status().as_u16();
            let told = &operation["responses"][status.to_string()];
            assert!(!told.is_null(), "{method} {path} answers {status}");
            agrees(&response, told, &path);
            status
        };
        let alternatives = operation["security"].as_array().cloned().unwrap_or_default();
        let needed: Vec<_> = alternatives.iter().filter_map(shown).collect();
        let open = alternatives.is_empty() || alternatives.contains(&json!({}));
        let status = ask(None).await;
        assert_eq!(status == 401, !open && !needed.is_empty(), "{method} {path}: {status} {alternatives:?}");
        strangers += 1;
        for (field, scopes) in needed {
            let status = ask(Some((field, &scopes))).await;
            assert!(!matches!(status, 401 | 403), "{method} {path} {scopes:?}: {status}");
            let_in += 1;
            for at in 0..scopes.len() {
                let mut fewer = scopes.clone();
                fewer.remove(at);
                assert_eq!(ask(Some((field, &fewer))).await, lacks_scope, "{method} {path} {fewer:?}");
                kept_out += 1;
            }
        }
    }
    // What a login lacks.
    assert_eq!(document["paths"]["/shop/token"]["post"]["responses"]["422"].is_object(), style == AnswerStyle::FastApi);
    assert!(strangers >= 31 && let_in >= 51 && kept_out >= 49, "{strangers} {let_in} {kept_out}");
}

/// The fields and the type of an answer are those that the document names.
fn agrees(response: &Response, told: &Value, path: &str) {
    if response.status() == 401 {
        let named = told["headers"].as_object().unwrap().keys().any(|name| name == "WWW-Authenticate");
        assert!(named && response.headers().contains_key("www-authenticate"), "{path}");
    }
    if let Some(content_type) = response.headers().get("content-type").filter(|_| response.status().as_u16() >= 400) {
        let content = told["content"].as_object().unwrap_or_else(|| panic!("{path} {}: {told}", response.status()));
        assert!(content.contains_key(content_type.to_str().unwrap()), "{path}: {content_type:?} {told}");
    }
}

#[tokio::test]
async fn what_everything_demands() {
    let (_, document, _) = described(&hasher()).await;
    let said = |path: &str, method: &str| {
        let security = document["paths"][path][method]["security"].as_array().cloned();
        // The other way to show the same token says the same.
        security.map(|all| all.into_iter().filter(|one| one.get("OAuth2").is_none()).collect::<Vec<_>>())
    };
    let bearer = |lists: &[&[&str]]| Some(lists.iter().map(|list| json!({ "bearer": list })).collect::<Vec<_>>());
    for (path, method, expected) in [
        ("/all_of", "get", bearer(&[&["a", "b"]])),
        ("/one_of", "get", bearer(&[&["a"], &["b"]])),
        ("/both", "get", bearer(&[&["a", "b"], &["a", "c"]])),
        ("/in/nested", "get", bearer(&[&["x", "z", "n"], &["y", "n"]])),
        ("/in/nested", "post", bearer(&[&["y", "n"], &["z", "n"]])),
        ("/signed_in", "get", bearer(&[&[]])),
        ("/public_within", "get", bearer(&[&[]])),
        ("/policy", "get", bearer(&[&["p", "q", "s"], &["r", "s"]])),
        ("/protected", "get", bearer(&[&["a"]])),
        ("/current", "get", bearer(&[&["a"]])),
        ("/public", "get", Some(vec![])),
        ("/alone", "get", None),
        ("/optional", "get", Some(vec![json!({}), json!({ "bearer": [] })])),
        ("/cookie", "get", Some(vec![json!({ "cookie": ["a"] })])),
        ("/either", "get", Some(vec![json!({}), json!({ "cookie": [] }), json!({ "bearer": [] })])),
        ("/shop/token", "post", Some(vec![json!({}), json!({ "client": [] })])),
        ("/shop/introspect", "post", Some(vec![json!({ "client": [] })])),
        ("/shop/sessions", "get", Some(vec![json!({ "cookie": [] }), json!({ "bearer": [] })])),
        ("/shop/register", "post", Some(vec![])),
        ("/shop/session", "post", Some(vec![])),
        ("/shop/session", "delete", Some(vec![json!({}), json!({ "refresh_cookie": [] })])),
        ("/shop/.well-known/jwks.json", "get", Some(vec![])),
    ] {
        assert_eq!(said(path, method), expected, "{method} {path}");
    }
}

/// In the style of FastAPI, each layer is drawn as it answers there.
#[tokio::test]
async fn documents_know_the_style() {
    let (_, document, _) = described_in(&hasher(), AnswerStyle::FastApi).await;
    let statuses = |path: &str| {
        let responses = document["paths"][path]["get"]["responses"].as_object().unwrap();
        responses.keys().map(String::as_str).collect::<Vec<_>>().join(" ")
    };
    for (path, expected) in [
        ("/all_of", "200 401 503"),
        ("/protected", "200 401 503"),
        ("/current", "200 400 401 403 503"),
        ("/policy", "200 400 401 403 503"),
        ("/cookie", "200 401 403 503"),
        ("/public", "200"),
        ("/shop/sessions", "200 401 403 503"),
    ] {
        assert_eq!(statuses(path), expected, "{path}");
    }
    let token = &document["paths"]["/shop/token"]["post"]["requestBody"];
    let schema = &token["content"]["application/x-www-form-urlencoded"]["schema"];
    assert!(schema["required"].is_null() && schema["properties"]["grant_type"].is_object(), "{schema}");
    assert_eq!(token["required"], true);
}

/// Every object in a document, with the name that it has there.
fn walk<'v>(value: &'v Value, each: &mut impl FnMut(&'v serde_json::Map<String, Value>)) {
    match value {
        Value::Object(members) => {
            each(members);
            members.values().for_each(|member| walk(member, each));
        }
        Value::Array(members) => members.iter().for_each(|member| walk(member, each)),
        _ => {}
    }
}

/// What OpenAPI 3.1 asks for and tools trip over.
fn valid(document: &Value) {
    assert_eq!(document["openapi"], "3.1.0");
    assert!(document["info"]["title"].is_string() && document["info"]["version"].is_string(), "{}", document["info"]);
    walk(document, &mut |object| {
        if let Some(target) = object.get("$ref") {
            let pointer = target.as_str().unwrap().strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{target} is nowhere");
        }
    });
    let schemes = document["components"]["securitySchemes"].as_object().cloned().unwrap_or_default();
    let mut ids = BTreeSet::new();
    for (path, method, operation) in operations(document) {
        let what = format!("{method} {path}");
        assert!(!operation["responses"].as_object().unwrap().is_empty(), "{what}");
        for (status, response) in operation["responses"].as_object().unwrap() {
            assert!(status.parse::<u16>().is_ok() && response["description"].is_string(), "{what} {status}");
        }
        if let Some(id) = operation["operationId"].as_str() {
            assert!(ids.insert(id.to_owned()), "{id} twice");
        }
        let declared: Vec<_> = operation["parameters"].as_array().into_iter().flatten().collect();
        let in_path = declared.iter().filter(|parameter| parameter["in"] == "path").map(|parameter| &parameter["name"]);
        let named: Vec<_> = path.split('{').skip(1).map(|rest| rest.split('}').next().unwrap()).collect();
        assert!(in_path.eq(named.iter()), "{what}");
        for (name, scopes) in
            operation["security"].as_array().into_iter().flatten().flat_map(|one| one.as_object().unwrap())
        {
            let scheme = schemes.get(name).unwrap_or_else(|| panic!("{what}: {name} is not declared"));
            for flow in scheme["flows"].as_object().into_iter().flat_map(|flows| flows.values()) {
                assert!(flow["tokenUrl"].is_string());
                for scope in scopes.as_array().unwrap() {
                    assert!(flow["scopes"][scope.as_str().unwrap()].is_string(), "{what}: {scope} is not described");
                }
            }
        }
    }
    // What is declared is also used.
    let used = document.to_string();
    for name in document["components"]["schemas"].as_object().into_iter().flat_map(|schemas| schemas.keys()) {
        assert!(used.contains(&format!("/schemas/{name}\"")), "{name} is not used");
    }
}

#[tokio::test]
async fn documents_are_valid() {
    for style in [AnswerStyle::Standard, AnswerStyle::FastApi] {
        let (_, document, _) = described_in(&hasher(), style).await;
        valid(&document);
        assert!(!document.to_string().contains("x-portcullis"), "what is kept while a document grows");
    }
    for flavour in flavours() {
        let routes = OpenApiRouter::<()>::with_openapi(OpenApi::new(
            utoipa::openapi::Info::new("t", "1"),
            utoipa::openapi::Paths::new(),
        ));
        let document = routes.merge(flavour.server.documented_routes()).into_openapi();
        let document = flavour.server.document(document, [("", ""); 0]).unwrap();
        valid(&json_of(&document));
    }
}

struct Flavour {
    server: AuthorizationServer,
    /// Paths and methods, and nothing else.
    expected: Vec<&'static str>,
}

/// Servers with more and fewer endpoints.
fn flavours() -> Vec<Flavour> {
    let bare = [
        "post /token",
        "post /token/refresh",
        "post /revoke",
        "post /introspect",
        "get /.well-known/jwks.json",
        "get /sessions",
        "delete /sessions",
        "delete /sessions/{id}",
        "post /logout",
    ];
    let metadata =
        ["get /.well-known/oauth-authorization-server/shop", "get /.well-known/oauth-protected-resource/shop"];
    let below = |paths: &[&str]| -> Vec<&'static str> {
        paths.iter().map(|path| &*path.replace(" /", " /shop/").leak()).chain(metadata).collect()
    };
    let users = || Arc::new(MemoryStore::new());
    let secret = || HashedSecret::of(&Secret::from(SECRET)).unwrap();
    let password = [&bare[..], &["post /password"]].concat();
    let pages = ["post /register", "post /session", "delete /session", "post /session/refresh"];
    let all = [&password[..], &pages].concat();
    let (hasher, store) = (hasher(), users());
    vec![
        Flavour { server: AuthorizationServer::builder("id", "api", key()).build().unwrap(), expected: bare.to_vec() },
        Flavour {
            server: builder().client(Client::confidential("tool", secret())).build().unwrap(),
            expected: below(&bare),
        },
        Flavour {
            server: builder().first_party_login(users(), hasher.clone()).danger_without_login_limits().build().unwrap(),
            expected: below(&password),
        },
        Flavour {
            server: builder()
                .first_party_login(Arc::clone(&store) as _, hasher)
                .sessions(store as _, SessionPolicy::default().grace(Duration::from_secs(10)))
                .session_cookies(SessionCookies::new(guard()))
                .registration(Registration::new().hide_existing_names())
                .build()
                .unwrap(),
            expected: below(&all),
        },
    ]
}

#[tokio::test]
async fn documents_have_the_endpoints_that_there_are() {
    let everywhere: BTreeSet<_> = flavours().into_iter().flat_map(|flavour| flavour.expected).collect();
    for Flavour { server, expected } in flavours() {
        let (documented, document) = server.documented_routes::<()>().split_for_parts();
        let found: BTreeSet<_> =
            operations(&json_of(&document)).into_iter().map(|(path, method, _)| format!("{method} {path}")).collect();
        assert_eq!(found, expected.iter().map(|one| (*one).to_owned()).collect());
        for app in [documented, server.routes()] {
            for one in &everywhere {
                let (method, path) = one.split_once(' ').unwrap();
                let response = ask(&app, method, &path.replace("{id}", "nobody"), &[]).await;
                // The endpoints answer with a content type, or nothing; a router that knows no path with neither.
                let known = response.status() != 404 || response.headers().contains_key("content-type");
                let sibling = expected.iter().any(|own| own.split_once(' ').unwrap().1 == path);
                assert_eq!(known, sibling, "{one}");
            }
        }
    }
}

#[tokio::test]
async fn a_page_that_is_all_of_a_nested_router_is_found_below_it() {
    let app = Router::new().nest("/api", docs("/", &OpenApi::default()));
    let redirect = ask(&app, "get", "/api", &[]).await;
    assert_eq!(
        (redirect.status().as_u16(), &redirect.headers()["location"]),
        (303, &"api/index.html".parse().unwrap())
    );
    assert_eq!(ask(&app, "get", "/api/index.html", &[]).await.status(), 200);
    assert_eq!(ask(&app, "get", "/api/openapi.json", &[]).await.status(), 200);
}

async fn text(response: Response) -> String {
    String::from_utf8(to_bytes(response.into_body(), 4 << 20).await.unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn the_page_is_there_wherever_it_is_nested_and_keeps_its_policy() {
    let document = || utoipa::openapi::OpenApi::default();
    let plain: Router = docs("/docs", &document());
    let root: Router = docs("/", &document());
    let slash: Router = docs("/docs/", &document());
    let nested = Router::new().nest("/in", docs("/a/docs", &document()));
    for (app, at) in [(plain, "/docs"), (root, ""), (slash, "/docs"), (nested, "/in/a/docs")] {
        let app = app.layer(SecureHeadersLayer::new());
        if !at.is_empty() {
            let redirect = ask(&app, "get", at, &[]).await;
            assert_eq!((redirect.status().as_u16(), &redirect.headers()["location"]), (303, &"docs/".parse().unwrap()));
        }
        let page = ask(&app, "get", &format!("{at}/"), &[]).await;
        assert_eq!(page.status(), 200, "{at}");
        let policy = page.headers().get_all("content-security-policy");
        assert_eq!(policy.iter().count(), 1);
        let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
        for part in ["default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"] {
            assert!(policy.split("; ").any(|own| own == part), "{part}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        let page = text(page).await;
        for file in page.split("\"./").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            let response = ask(&app, "get", &format!("{at}/{file}"), &[]).await;
            assert_eq!(response.status(), 200, "{at}/{file}");
        }
        let script = text(ask(&app, "get", &format!("{at}/swagger-initializer.js"), &[]).await).await;
        assert!(
            script.contains(r#""url": "./openapi.json""#) && script.contains(r#""persistAuthorization": false"#),
            "{script}"
        );
        assert!(script.contains(r#""validatorUrl": "none""#) && !script.contains("https://"), "{script}");
        let served = ask(&app, "get", &format!("{at}/openapi.json"), &[]).await;
        assert_eq!(served.headers()["content-type"], "application/json");
        assert_eq!(text(served).await, document().to_json().unwrap());
        for other in ["nothing", "..%2fCargo.toml", "embed.rs"] {
            assert_eq!(ask(&app, "get", &format!("{at}/{other}"), &[]).await.status(), 404, "{other}");
        }
        assert_eq!(ask(&app, "post", &format!("{at}/"), &[]).await.status(), 405);
    }
}
