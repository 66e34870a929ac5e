//! What counts as a refusal: a handler's own, a token that was called back, ways in that are not tried.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::Request,
    middleware::{Next, from_fn},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::StatusCode;
use portcullis::testing::inventory::{Finding, Verdict, inventory};
use serde_json::Value;
use utoipa::openapi::path::HttpMethod;

use super::{Setting, closed, document, nothing, told};

const A: &str = r#"[{"login":["a"]}]"#;

#[tokio::test]
async fn a_rule_of_the_handlers_own_is_listed_and_hides_no_scope() {
    let setting = Setting::new();
    let orders = [(HttpMethod::Get, "/orders/{id}", Some(A))];
    let owners = || get(async || StatusCode::FORBIDDEN);
    let app = |scopes: &[&str]| closed(&setting.api, scopes, "/orders/{id}", owners());
    let look = |router: Router| setting.look(router, &orders);
    let gaps = told(&look(app(&["a"])).run().await);
    assert_eq!(gaps, ["GET /orders/{id}: is refused with exactly the scopes `a`: 403 Forbidden"]);
    let complete = look(app(&["a"])).refuses_itself(["GET /orders/{order}"]).run().await;
    complete.assert_complete();
    assert_eq!(complete.rows()[0].verdict, Verdict::OwnRule);
    assert!(complete.to_string().contains("closed, and by its own rule"), "{complete}");
    // The handler's own 403 does not stand for the layer that was forgotten.
    let gaps = told(&look(app(&[])).refuses_itself(["GET /orders/{id}"]).run().await);
    assert_eq!(gaps, ["GET /orders/{id}: passes without the scope `a`: 403 Forbidden"]);
    // A layer's refusal is none of its own.
    let gaps = told(&look(app(&["a", "b"])).refuses_itself(["GET /orders/{id}"]).run().await);
    assert_eq!(gaps, ["GET /orders/{id}: is refused with exactly the scopes `a`: 403 Forbidden: scope missing"]);
    let lets_pass = || closed(&setting.api, &["a"], "/orders/{id}", get(nothing));
    let gaps = told(&look(lets_pass()).refuses_itself(["GET /orders/{id}", "GET /gone"]).run().await);
    let expected = [
        "GET /orders/{id}: is on the list of what refuses by its own rule, and does not",
        "GET /gone: is on a list, and is not there",
    ];
    assert_eq!(gaps, expected);
}

#[tokio::test]
async fn the_same_scopes_by_several_schemes_are_one_way_in() {
    let setting = Setting::new();
    let route = || closed(&setting.api, &["a"], "/a", get(nothing));
    let requests = async |security: &str| {
        let inventory = setting.look(route(), &[(HttpMethod::Get, "/a", Some(security))]).run().await;
        inventory.assert_complete();
        inventory.requests()
    };
    assert_eq!(requests(A).await, requests(r#"[{"login":["a"]},{"bearer":["a"]},{"other":["a"]}]"#).await);
    // Two of four pairs: 16 combinations, but 81 of each way twice.
    let pairs = ["a", "b", "c", "d"]
        .map(|scope| ["login", "bearer"].map(|scheme| format!(r#"{{"{scheme}":["{scope}1","{scope}2"]}}"#)).join(","));
    let security = format!("[{}]", pairs.join(","));
    let lax = closed(&setting.api, &[], "/a", get(nothing));
    let found = setting.look(lax, &[(HttpMethod::Get, "/a", Some(&security))]).run().await;
    assert_eq!(found.gaps().len(), 16, "{found}");
    assert!(found.gaps().iter().all(|gap| matches!(gap.finding, Finding::PassesWithout { .. })), "{found}");
}

/// The claims of a request's token, whoever signed it.
fn claims(request: &Request) -> Option<Value> {
    let header = request.headers().get("authorization")?.to_str().ok()?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header.split('.').nth(1)?).ok()?).ok()
}

#[tokio::test]
async fn a_token_that_was_called_back_proves_nothing_of_signatures() {
    let setting = Setting::new();
    let gone: Arc<Mutex<HashSet<String>>> = Arc::default();
    let revoked = gone.clone();
    let sign_out = move |request: Request| {
        revoked.lock().unwrap().extend(claims(&request).map(|claims| claims["jti"].to_string()));
        std::future::ready(())
    };
    // Knows what was called back, and looks at no signature.
    let naive = from_fn(move |request: Request, next: Next| {
        let gone = gone.clone();
        async move {
            let unauthorized = (StatusCode::UNAUTHORIZED, [("www-authenticate", "Bearer")]);
            let Some(claims) = claims(&request) else { return unauthorized.into_response() };
            let is_gone = gone.lock().unwrap().contains(&claims["jti"].to_string());
            let has = claims["scope"].as_str().is_some_and(|scopes| scopes.split(' ').any(|scope| scope == "a"));
            match (is_gone, has) {
                (true, _) => unauthorized.into_response(),
                (false, false) => StatusCode::FORBIDDEN.into_response(),
                (false, true) => next.run(request).await,
            }
        }
    });
    let app = closed(&setting.api, &["a"], "/out", post(sign_out))
        .merge(Router::new().route("/zone", get(async || -> Response { ().into_response() })).layer(naive));
    let operations = [(HttpMethod::Post, "/out", Some(A)), (HttpMethod::Get, "/zone", Some(A))];
    let gaps = told(&setting.look(app, &operations).run().await);
    assert_eq!(gaps, ["GET /zone: passes with a token of a wrong signature: 200 OK"]);
}

#[tokio::test]
async fn where_no_way_in_is_tried_whatever_blames_the_client_refuses() {
    let setting = Setting::new();
    let document = |security: &str| {
        let mut document = document(&[(HttpMethod::Post, "/revoke", Some(security))]);
        let mut components = utoipa::openapi::Components::new();
        let basic: utoipa::openapi::security::SecurityScheme =
            serde_json::from_str(r#"{"type":"http","scheme":"basic"}"#).unwrap();
        components.add_security_scheme("client", basic);
        document.components = Some(components);
        document
    };
    let look = async |security: &str, status: StatusCode| {
        let router = Router::new().route("/revoke", post(async move || status));
        let inventory = inventory(router, &document(security)).authority(&setting.authority).untried(["client"]);
        inventory.run().await.is_complete()
    };
    let others = r#"[{"client":[]}]"#;
    for (status, refuses) in [(400, true), (401, true), (403, true), (404, false), (200, false), (500, false)] {
        assert_eq!(look(others, StatusCode::from_u16(status).unwrap()).await, refuses, "{status}");
    }
    let mixed = r#"[{"client":[]},{"login":["a"]}]"#;
    assert!(!look(mixed, StatusCode::BAD_REQUEST).await, "a token must be tried");
}
