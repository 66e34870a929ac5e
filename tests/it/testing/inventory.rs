//! The inventory of routes: what is forgotten is found, and named.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Instant};

use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    response::IntoResponse,
    routing::{MethodRouter, any, delete, get, post},
};
use http::StatusCode;
use portcullis::{
    AuthorizationServer, ResourceServer,
    authz::{Claim, DenyUndecidedLayer},
    client_ip::TrustedProxies,
    jwt::{Algorithm, SigningKey},
    password::PasswordHasher,
    principal::Principal,
    session::SessionPolicy,
    store::MemoryStore,
    testing::{
        TestAuthority,
        inventory::{Finding, Gap, Inventory, InventoryBuilder, Verdict, inventory},
    },
    transport::RequireHttpsLayer,
};
use utoipa::openapi::{
    OpenApi, Paths,
    path::{HttpMethod, OperationBuilder},
    security::SecurityRequirement,
};

mod company;
mod reach;
mod refusals;

async fn nothing() {}

/// A document of these operations: method, path, `security` in JSON (`None` leaves it out).
fn document(operations: &[(HttpMethod, &str, Option<&str>)]) -> OpenApi {
    let mut paths = Paths::new();
    for (method, path, security) in operations {
        let security: Option<Vec<SecurityRequirement>> = security.map(|text| serde_json::from_str(text).unwrap());
        let operation = OperationBuilder::new().securities(security).build();
        paths.add_path_operation(path, vec![method.clone()], operation);
    }
    OpenApi::new(utoipa::openapi::Info::new("test", "1"), paths)
}

/// Routes behind a token with these scopes.
fn closed(api: &ResourceServer, scopes: &[&str], path: &str, methods: MethodRouter) -> Router {
    let router = Router::new().route(path, methods);
    let router = if scopes.is_empty() { router } else { router.layer(api.require(scopes).unwrap()) };
    router.layer(api.authenticate())
}

/// The gaps as they are told.
fn told(inventory: &Inventory) -> Vec<String> {
    inventory.gaps().iter().map(ToString::to_string).collect()
}

struct Setting {
    authority: TestAuthority,
    api: ResourceServer,
}

impl Setting {
    fn new() -> Self {
        let authority = TestAuthority::new();
        let api = authority.api();
        Self { authority, api }
    }

    fn look(&self, router: Router, operations: &[(HttpMethod, &str, Option<&str>)]) -> InventoryBuilder {
        inventory(router, &document(operations)).authority(&self.authority)
    }

    /// The gaps of a router with one closed route `/a`, and what else is in it.
    async fn gaps(&self, router: Router, security: &str) -> Vec<String> {
        told(&self.look(router, &[(HttpMethod::Get, "/a", Some(security))]).run().await)
    }
}

#[tokio::test]
async fn an_operation_is_as_closed_as_its_document_says_or_that_is_told() {
    let setting = Setting::new();
    let api = &setting.api;
    let a = r#"[{"login":["a"]}]"#;
    let route = |scopes: &[&str]| closed(api, scopes, "/a", get(nothing));
    assert_eq!(setting.gaps(route(&["a"]), a).await, [""; 0]);
    let open = "GET /a: is closed in the document, and passes without a token: 200 OK";
    assert_eq!(setting.gaps(Router::new().route("/a", get(nothing)), a).await, [open]);
    let lax = "GET /a: passes without the scope `a`: 200 OK";
    assert_eq!(setting.gaps(route(&[]), a).await, [lax]);
    let two = "GET /a: is refused with exactly the scopes `a`: 403 Forbidden: scope missing";
    assert_eq!(setting.gaps(route(&["a", "b"]), a).await, [two]);
    let anyone_signed_in = r#"[{"login":[]}]"#;
    assert_eq!(setting.gaps(route(&[]), anyone_signed_in).await, [""; 0]);
    assert!(setting.gaps(route(&["a"]), anyone_signed_in).await[0].starts_with("GET /a: is refused with exactly"));
    let optional = Router::new().route("/a", get(nothing)).layer(api.authenticate_optional());
    assert_eq!(
        setting.gaps(optional, anyone_signed_in).await,
        ["GET /a: is closed in the document, and passes without a token: 200 OK"]
    );
}

#[tokio::test]
async fn ways_in_are_tried_one_by_one_and_all_left_out() {
    let setting = Setting::new();
    let either = r#"[{"login":["a"]},{"login":["b"]}]"#;
    let any = Router::new().route("/a", get(nothing)).layer(setting.api.require_any(["a", "b"]).unwrap());
    assert_eq!(setting.gaps(any.layer(setting.api.authenticate()), either).await, [""; 0]);
    let all = closed(&setting.api, &["a", "b"], "/a", get(nothing));
    let refused =
        |scope: &str| format!("GET /a: is refused with exactly the scopes `{scope}`: 403 Forbidden: scope missing");
    assert_eq!(setting.gaps(all, either).await, [refused("a"), refused("b")]);
    let lax = closed(&setting.api, &[], "/a", get(nothing));
    assert_eq!(setting.gaps(lax, either).await, ["GET /a: passes without the scope `a` or `b`: 200 OK"]);
    let both = r#"[{"login":["a","b"]}]"#;
    let all = closed(&setting.api, &["a", "b"], "/a", get(nothing));
    assert_eq!(setting.gaps(all, both).await, [""; 0]);
    let one = closed(&setting.api, &["a"], "/a", get(nothing));
    assert_eq!(setting.gaps(one, both).await, ["GET /a: passes without the scope `b`: 200 OK"]);
}

#[tokio::test]
async fn a_layer_that_looks_at_no_signature_is_found() {
    use axum::middleware::{Next, from_fn};
    let setting = Setting::new();
    // Believes whatever the payload says.
    let naive = from_fn(async |request: axum::extract::Request, next: Next| {
        let header = request.headers().get("authorization").and_then(|value| value.to_str().ok());
        let Some(payload) = header.and_then(|text| text.split('.').nth(1)) else {
            return (StatusCode::UNAUTHORIZED, [("www-authenticate", "Bearer realm=\"x\"")]).into_response();
        };
        use base64::Engine as _;
        let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        let has = claims["scope"].as_str().unwrap_or_default().split(' ').any(|scope| scope == "a");
        if has { next.run(request).await } else { StatusCode::FORBIDDEN.into_response() }
    });
    let router = Router::new().route("/a", get(nothing)).layer(naive);
    let gaps = setting.gaps(router, r#"[{"login":["a"]}]"#).await;
    assert_eq!(gaps, ["GET /a: passes with a token of a wrong signature: 200 OK"]);
}

#[tokio::test]
async fn refusals_that_prove_nothing_and_layers_that_do_not_fit_are_told() {
    let setting = Setting::new();
    let api = &setting.api;
    let a = r#"[{"login":["a"]}]"#;
    let no_verifier = Router::new().route("/a", get(nothing)).layer(api.require(["a"]).unwrap());
    assert!(setting.gaps(no_verifier, a).await[0].contains("put together wrongly: JwtVerifyLayer is missing"));
    let inside_out =
        Router::new().route("/a", get(nothing)).layer(api.authenticate()).layer(api.require(["a"]).unwrap());
    assert!(setting.gaps(inside_out, a).await[0].contains("put together wrongly"));
    let undecided = Router::new().route("/a", get(nothing)).layer(DenyUndecidedLayer).layer(api.authenticate());
    assert!(setting.gaps(undecided, a).await[0].contains("put together wrongly: no layer has decided"));
    let extractor = Router::new().route("/a", get(async |_: Principal| {}));
    assert!(setting.gaps(extractor, a).await[0].contains("put together wrongly"));
    let bare = Router::new().route("/a", get(async || StatusCode::UNAUTHORIZED));
    assert_eq!(setting.gaps(bare, a).await, ["GET /a: answers without a challenge: 401 Unauthorized"]);
    let forbidden = Router::new().route("/a", get(async || StatusCode::FORBIDDEN));
    assert_eq!(
        setting.gaps(forbidden, a).await,
        ["GET /a: answers nobody with 403 Forbidden, where 401 Unauthorized is due"]
    );
    let eu = closed(api, &["a"], "/a", get(nothing)).layer(api.authorize(Claim::one_of("region", ["eu"]).unwrap()));
    assert!(!setting.gaps(eu.layer(api.authenticate()), a).await.is_empty());
    let panics = closed(api, &["a"], "/a", get(async || -> () { panic!("reached") }));
    assert_eq!(setting.gaps(panics, a).await, [""; 0], "whoever reaches it has passed the layers");
}

#[tokio::test]
async fn what_is_open_must_be_on_the_list_and_the_list_must_be_open() {
    let setting = Setting::new();
    let app = || {
        let health =
            Router::new().route("/health", get(nothing)).route("/busy", get(async || StatusCode::TOO_MANY_REQUESTS));
        closed(&setting.api, &["a"], "/a", get(nothing)).merge(health)
    };
    for open in [None, Some("[]"), Some("[{}]"), Some(r#"[{"login":["a"]},{}]"#)] {
        let operations = [
            (HttpMethod::Get, "/a", Some(r#"[{"login":["a"]}]"#)),
            (HttpMethod::Get, "/health", open),
            (HttpMethod::Get, "/busy", open),
        ];
        let complete = setting.look(app(), &operations).open(["GET /health", "GET /busy"]).run().await;
        complete.assert_complete();
        assert_eq!(complete.rows().iter().filter(|row| row.verdict == Verdict::Open).count(), 2);
        let gaps = told(&setting.look(app(), &operations).open(["GET /busy"]).run().await);
        assert_eq!(gaps, ["GET /health: is open, and not on the list of what may be open"]);
        let open = ["GET /health", "GET /busy", "GET /a", "POST /health", "GET /gone", "nonsense"];
        let gaps = told(&setting.look(app(), &operations).open(open).run().await);
        let expected = [
            "GET /a: is on the list of what may be open, and is not open",
            "POST /health: is on a list, and is not there",
            "GET /gone: is on a list, and is not there",
            "nonsense: is on a list, and is not there",
        ];
        assert_eq!(gaps, expected);
    }
    let shut =
        [(HttpMethod::Get, "/a", Some("[]")), (HttpMethod::Get, "/health", None), (HttpMethod::Get, "/busy", None)];
    let gaps = told(&setting.look(app(), &shut).open(["GET /a", "GET /health", "GET /busy"]).run().await);
    assert_eq!(
        gaps,
        ["GET /a: is open in the document, and refuses who has no token: 401 Unauthorized: no credential"]
    );
}

#[tokio::test]
async fn what_the_document_does_not_know_is_found() {
    let setting = Setting::new();
    let a = (HttpMethod::Get, "/a", Some(r#"[{"login":["a"]}]"#));
    let one = || closed(&setting.api, &["a"], "/a", get(nothing));
    let gaps = async |router: Router| told(&setting.look(router, std::slice::from_ref(&a)).run().await);
    let unknown = |name: &str, open: bool| {
        let more = if open { "; it passes without a token" } else { "" };
        format!("{name}: is in the router, and not in the document{more}")
    };
    assert_eq!(gaps(one().route("/b", get(nothing))).await, [unknown("GET /b", true)]);
    assert_eq!(
        gaps(one().merge(closed(&setting.api, &["a"], "/b/{id}", post(nothing)))).await,
        [unknown("POST /b/{id}", false)]
    );
    assert_eq!(gaps(one().merge(closed(&setting.api, &["z"], "/b", post(nothing)))).await, [unknown("/b", false)]);
    // Another method of a path that the document knows.
    assert_eq!(gaps(one().route("/a", delete(nothing))).await, [unknown("DELETE /a", true)]);
    let more = closed(&setting.api, &["a"], "/a", get(nothing).options(nothing));
    assert_eq!(gaps(more).await, [unknown("OPTIONS /a", false)]);
    let every = closed(&setting.api, &["a"], "/a", any(nothing));
    assert_eq!(gaps(every).await.len(), 6, "all but `GET`, and `HEAD`, which follows from it");
    // A `HEAD` of its own that is not as closed.
    let head = one().route("/a", axum::routing::head(nothing));
    assert_eq!(gaps(head).await, ["HEAD /a: is closed in the document, and passes without a token: 200 OK"]);
    let head = closed(&setting.api, &["a"], "/b", get(nothing)).route("/b", axum::routing::head(nothing));
    assert_eq!(gaps(one().merge(head)).await, [unknown("GET /b", false), unknown("HEAD /b", true)]);
    // A service as a whole, and a fallback.
    let whole = Router::new().route("/x", get(nothing)).into_service::<Body>();
    let with_whole = gaps(one().nest_service("/whole", whole)).await;
    assert!(with_whole.contains(&unknown("GET /whole/{*rest}", true)), "{with_whole:?}");
    assert_eq!(gaps(one().fallback(nothing)).await, ["GET /{*rest}: is no route, and is answered: 200 OK"]);
    let nested = one().nest("/api", Router::new().route("/b", get(nothing)).fallback(nothing));
    assert!(gaps(nested).await.contains(&"GET /api/{*rest}: is no route, and is answered: 200 OK".to_owned()));
}

#[tokio::test]
async fn what_need_not_be_documented_is_listed_and_looked_at_all_the_same() {
    let setting = Setting::new();
    let a = [(HttpMethod::Get, "/a", Some(r#"[{"login":["a"]}]"#))];
    let app = || {
        closed(&setting.api, &["a"], "/a", get(nothing))
            .merge(closed(&setting.api, &[], "/sessions/{id}", get(nothing)))
            .merge(closed(&setting.api, &["z"], "/secret", post(nothing)))
            .route("/.well-known/jwks.json", get(nothing))
            .fallback(nothing)
    };
    let listed = setting.look(app(), &a).open(["GET /.well-known/jwks.json", "GET /{*rest}"]);
    let complete = listed.undocumented(["GET /sessions/{any}", "POST /secret"]).run().await;
    complete.assert_complete();
    assert_eq!(complete.rows().len(), 5, "{complete}");
    // On both lists is not open on purpose.
    let both = ["GET /.well-known/jwks.json", "GET /{*rest}"];
    let both =
        setting.look(app(), &a).open(both).undocumented(both).undocumented(["GET /sessions/{id}", "POST /secret"]);
    let both = told(&both.run().await);
    assert_eq!(
        both[0],
        "GET /.well-known/jwks.json: is in the router, and not in the document; it passes without a token"
    );
    let wrong = setting.look(app(), &a).open(["GET /sessions/{id}", "GET /{*rest}"]);
    let wrong = told(&wrong.undocumented(["GET /.well-known/jwks.json", "POST /secret"]).run().await);
    let expected = [
        "GET /.well-known/jwks.json: is in the router, and not in the document; it passes without a token",
        "GET /sessions/{id}: is on the list of what may be open, and is not open",
    ];
    assert_eq!(wrong.iter().map(String::as_str).collect::<BTreeSet<_>>(), expected.into_iter().collect());
}

/// The server's own endpoints beside a program's: none is in the document, each is on the list that it belongs on.
#[tokio::test]
async fn a_servers_own_endpoints_are_open_or_closed_as_they_are_listed() {
    let store = Arc::new(MemoryStore::new());
    let key = SigningKey::generate(Algorithm::EdDsa).unwrap();
    let server = AuthorizationServer::builder("https://id.example", "https://api.example", key)
        .first_party_login(store.clone(), PasswordHasher::builder().build().unwrap())
        .sessions(store, SessionPolicy::default())
        .build()
        .unwrap();
    let authority = TestAuthority::with_name("https://id.example", "https://api.example");
    let api = authority.api();
    let proxies = TrustedProxies::parse(["127.0.0.0/8"]).unwrap();
    let app = closed(&api, &["a"], "/a", get(nothing)).merge(server.routes()).layer(RequireHttpsLayer::new(proxies));
    let document = document(&[(HttpMethod::Get, "/a", Some(r#"[{"login":["a"]}]"#))]);
    let look = |app: Router| {
        inventory(app, &document).authority(&authority).prepare(|request| {
            request.headers_mut().insert("x-forwarded-proto", "https".parse().unwrap());
            request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 50_000))));
        })
    };
    let open = [
        "POST /token",
        "POST /token/refresh",
        // Which ask for a client's password in the form, and refuse an empty one with 400.
        "POST /introspect",
        "POST /revoke",
        "GET /.well-known/jwks.json",
        "GET /.well-known/oauth-authorization-server",
        "GET /.well-known/oauth-protected-resource",
    ];
    let unlisted = look(app.clone()).run().await;
    for name in open {
        let (method, path) = name.split_once(' ').unwrap();
        let gap = |gap: &&Gap| gap.path == path && gap.method.as_ref().is_some_and(|other| other == method);
        let gap = unlisted.gaps().iter().find(gap).unwrap_or_else(|| panic!("{name}: {unlisted}"));
        assert_eq!(gap.finding, Finding::Undocumented { open: true });
    }
    let closed: Vec<String> = unlisted
        .gaps()
        .iter()
        .filter(|gap| gap.finding == Finding::Undocumented { open: false })
        .map(|gap| gap.path.clone())
        .collect();
    assert_eq!(closed, ["/logout", "/password", "/sessions", "/sessions/{id}"], "{unlisted}");
    let listed = look(app.clone()).open(open).undocumented(["GET /sessions", "DELETE /sessions/{id}"]);
    let listed = listed.undocumented(["POST /logout", "POST /password"]).run().await;
    listed.assert_complete();
    // Without what `prepare` does, nothing is reached, and nothing passes for complete.
    assert!(!inventory(app, &document).authority(&authority).open(open).run().await.is_complete());
}

#[tokio::test]
async fn what_the_router_does_not_have_is_told() {
    let setting = Setting::new();
    let a = r#"[{"login":["a"]}]"#;
    let operations =
        [(HttpMethod::Get, "/a", Some(a)), (HttpMethod::Get, "/b", Some(a)), (HttpMethod::Post, "/a", Some(a))];
    let router = closed(&setting.api, &["a"], "/a", get(nothing));
    let gaps = told(&setting.look(router, &operations).run().await);
    assert_eq!(
        gaps,
        ["POST /a: is in the document, and not in the router", "GET /b: is in the document, and not in the router"]
    );
}

#[tokio::test]
async fn ways_in_that_no_token_opens_must_be_named_and_still_refuse() {
    let setting = Setting::new();
    let mut document = document(&[(HttpMethod::Post, "/revoke", Some(r#"[{"client":[]}]"#))]);
    let mut components = utoipa::openapi::Components::new();
    let basic: utoipa::openapi::security::SecurityScheme =
        serde_json::from_str(r#"{"type":"http","scheme":"basic"}"#).unwrap();
    components.add_security_scheme("client", basic);
    document.components = Some(components);
    let refuses =
        || Router::new().route("/revoke", post(async || (StatusCode::UNAUTHORIZED, [("www-authenticate", "Basic")])));
    let look = |router| inventory(router, &document).authority(&setting.authority);
    let gaps = look(refuses()).run().await;
    assert_eq!(gaps.gaps()[0].finding, Finding::SchemeUntried("client".to_owned()));
    look(refuses()).untried(["client"]).run().await.assert_complete();
    let open = look(Router::new().route("/revoke", post(nothing))).untried(["client"]).run().await;
    assert!(matches!(open.gaps()[0].finding, Finding::PassesWithoutToken(_)), "{open}");
}

#[tokio::test]
async fn without_tokens_nothing_is_complete() {
    let bare = inventory(Router::new(), &document(&[])).run().await;
    assert_eq!((bare.gaps()[0].finding.clone(), bare.is_complete(), bare.requests()), (Finding::NoTokens, false, 0));
    let setting = Setting::new();
    let stale = TestAuthority::new();
    let router = closed(&setting.api, &["a"], "/a", get(nothing));
    let other = document(&[(HttpMethod::Get, "/a", Some(r#"[{"login":["a"]}]"#))]);
    let gaps = inventory(router, &other).tokens(move |scopes| std::future::ready(stale.token(&scopes))).run().await;
    assert!(!gaps.is_complete(), "tokens of nobody prove nothing");
}

#[tokio::test(start_paused = true)]
async fn a_route_that_does_not_answer_is_told() {
    let setting = Setting::new();
    let router = closed(&setting.api, &["a"], "/a", get(async || std::future::pending::<()>().await));
    let begin = Instant::now();
    assert!(
        setting
            .gaps(router, r#"[{"login":["a"]}]"#)
            .await
            .contains(&"GET /a: answers nothing within ten seconds".to_owned())
    );
    assert!(begin.elapsed().as_secs() < 10);
}

#[tokio::test]
#[should_panic(
    expected = "1 of 1 operations have gaps:\n  GET /a: is closed in the document, and passes without a token: 200 OK"
)]
async fn an_assertion_names_the_gaps() {
    let setting = Setting::new();
    let router = Router::new().route("/a", get(nothing));
    setting.look(router, &[(HttpMethod::Get, "/a", Some(r#"[{"login":["a"]}]"#))]).run().await.assert_complete();
}
