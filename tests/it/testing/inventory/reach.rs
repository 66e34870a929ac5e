//! What an inventory reaches, and what it owns up to not reaching: tails, fallbacks, other routes at the same path.

use std::{convert::Infallible, time::Instant};

use axum::{
    Router,
    body::Body,
    http::Method,
    response::IntoResponse,
    routing::{any, delete, get, options, post},
};
use http::StatusCode;
use portcullis::testing::inventory::inventory;
use serde_json::json;
use tower_http::cors::CorsLayer;
use utoipa::openapi::{OpenApi, path::HttpMethod};

use super::{Setting, closed, nothing, told};

const A: &str = r#"[{"login":["a"]}]"#;

fn unknown(method: &str, path: &str) -> String {
    format!("{method} {path}: is in the router, and not in the document; it passes without a token")
}

/// All methods that an open handler for any has; `HEAD` follows from `GET`.
fn all_unknown(path: &str) -> Vec<String> {
    ["GET", "PUT", "POST", "DELETE", "OPTIONS", "PATCH", "TRACE"].map(|method| unknown(method, path)).to_vec()
}

#[tokio::test]
async fn a_tail_is_known_only_if_the_document_has_it_itself() {
    let setting = Setting::new();
    let items = || closed(&setting.api, &["a"], "/api/items", get(nothing));
    let documented = [(HttpMethod::Get, "/api/items", Some(A))];
    let gaps = async |router: Router| told(&setting.look(router, &documented).run().await);
    assert_eq!(gaps(items()).await, [""; 0]);
    let proxy = items().route("/api/{*rest}", any(nothing));
    assert_eq!(gaps(proxy).await, all_unknown("/api/{*rest}"));
    // Not in the way of another route at the same depth.
    let made_up = "/api/no/such/tail/{id}";
    let beside = items().route("/api/{*rest}", any(nothing)).route(made_up, get(nothing));
    assert_eq!(gaps(beside).await, [vec![unknown("GET", made_up)], all_unknown("/api/{*rest}")].concat());
    assert_eq!(gaps(items().route("/{*path}", any(nothing))).await, all_unknown("/{*path}"));
    let whole = || Router::new().route("/x", get(nothing)).fallback(nothing).into_service::<Body>();
    let below = [(HttpMethod::Get, "/api/items", Some(A)), (HttpMethod::Get, "/whole/x", None)];
    let with_whole = setting.look(items().nest_service("/whole", whole()), &below).open(["GET /whole/x"]).run().await;
    assert_eq!(told(&with_whole), all_unknown("/whole/{*rest}"));
    // One that the document has, with or without a star, is asked for as such.
    for path in ["/files/{path}", "/files/{*path}"] {
        let files = || closed(&setting.api, &["a"], "/files/{*path}", get(nothing));
        let complete = setting.look(files(), &[(HttpMethod::Get, path, Some(A))]).run().await;
        complete.assert_complete();
        let open = Router::new().route("/files/{*path}", get(nothing));
        let open = told(&setting.look(open, &[(HttpMethod::Get, path, Some(A))]).run().await);
        assert_eq!(open, [format!("GET {path}: is closed in the document, and passes without a token: 200 OK")]);
    }
    let listed = items().merge(closed(&setting.api, &["a"], "/api/{*rest}", get(nothing)));
    setting.look(listed, &documented).undocumented(["GET /api/{*rest}"]).run().await.assert_complete();
}

#[tokio::test]
async fn a_fallback_of_ones_own_is_on_a_list_whatever_it_answers() {
    let setting = Setting::new();
    let a = [(HttpMethod::Get, "/a", Some(A))];
    let one = || closed(&setting.api, &["a"], "/a", get(nothing));
    let look = |router: Router| setting.look(router, &a);
    let not_listed = |path: &str| format!("GET {path}: is a fallback of the router, and on no list: 404 Not Found");
    let legacy = || Router::new().route("/old", get(nothing)).into_service::<Body>();
    let with_legacy = || one().fallback_service(legacy());
    assert_eq!(told(&look(with_legacy()).run().await), [not_listed("/{*rest}")]);
    look(with_legacy()).open(["GET /{*rest}"]).run().await.assert_complete();
    let wrong = told(&look(with_legacy()).undocumented(["GET /{*rest}"]).run().await);
    assert_eq!(wrong, [not_listed("/{*rest}")], "it is open");
    let nested = || one().nest("/api", Router::new().route("/b", get(nothing)).fallback_service(legacy()));
    let nested = told(&look(nested()).open(["GET /api/b"]).run().await);
    assert_eq!(nested, [not_listed("/api/{*rest}")]);
    // By another method it answers otherwise.
    let by_method = async |method: Method| {
        if method == Method::POST { StatusCode::OK } else { StatusCode::NOT_FOUND }
    };
    let posts = told(&look(one().fallback(by_method)).open(["GET /{*rest}"]).run().await);
    assert_eq!(posts, ["POST /{*rest}: is no route, and is answered: 200 OK"]);
    look(one().fallback(by_method)).open(["GET /{*rest}", "POST /{*rest}"]).run().await.assert_complete();
    // Behind the layers it is closed, and so on the other list.
    let behind = || Router::new().route("/a", get(nothing)).fallback_service(legacy());
    let behind = || behind().layer(setting.api.require(["a"]).unwrap()).layer(setting.api.authenticate());
    assert_eq!(told(&look(behind()).run().await).len(), 1);
    look(behind()).undocumented(["GET /{*rest}"]).run().await.assert_complete();
    let wrong = told(&look(behind()).open(["GET /{*rest}"]).run().await);
    assert_eq!(wrong, ["GET /{*rest}: is on the list of what may be open, and is not open"]);
    // axum's own needs no list, whatever is around it.
    look(one().fallback_service(legacy()).reset_fallback()).run().await.assert_complete();
}

/// `/users/{id}`, of which the example is `me`, and `/users/me`.
fn users() -> OpenApi {
    let closed = json!([{ "login": ["a"] }]);
    let id = json!({ "name": "id", "in": "path", "required": true, "example": "me", "schema": { "type": "string" } });
    serde_json::from_value(json!({
        "openapi": "3.1.0", "info": { "title": "users", "version": "1" },
        "paths": {
            "/users/me": { "get": { "security": closed, "responses": {} } },
            "/users/{id}": { "get": { "security": closed, "parameters": [id], "responses": {} } },
        },
    }))
    .unwrap()
}

#[tokio::test]
async fn values_that_lead_to_another_route_give_way_or_are_told() {
    let setting = Setting::new();
    let me = || closed(&setting.api, &["a"], "/users/me", get(nothing));
    let look = |router: Router| inventory(router, &users()).authority(&setting.authority);
    look(me().merge(closed(&setting.api, &["a"], "/users/{id}", get(nothing)))).run().await.assert_complete();
    let open = || me().route("/users/{id}", get(nothing));
    assert_eq!(
        told(&look(open()).run().await),
        ["GET /users/{id}: is closed in the document, and passes without a token: 200 OK"]
    );
    assert_eq!(
        told(&look(open()).path_value("id", "me").run().await),
        ["GET /users/{id}: is not asked: `/users/me` is answered by `/users/me`; say other values with `path_value`"]
    );
    // So of a path that the document does not have.
    let notes = me().route("/users/{id}/1", get(nothing)).route("/users/{id}/{note}", post(nothing));
    let mut gaps = told(&look(notes).run().await);
    gaps.sort();
    assert!(gaps.contains(&unknown("POST", "/users/{id}/{note}")), "{gaps:?}");
}

#[tokio::test(start_paused = true)]
async fn a_method_beside_the_document_that_does_not_answer_is_told() {
    let setting = Setting::new();
    let hangs = async || std::future::pending::<()>().await;
    let router = closed(&setting.api, &["a"], "/a", get(nothing)).route("/a", delete(hangs)).route("/b", post(hangs));
    let begin = Instant::now();
    let gaps = setting.gaps(router, A).await;
    let silent = |name: &str| format!("{name}: answers nothing within ten seconds");
    assert_eq!(gaps, [silent("DELETE /a"), silent("POST /b")]);
    let behind = closed(&setting.api, &["a"], "/a", get(nothing).delete(hangs));
    assert_eq!(setting.gaps(behind, A).await, [silent("DELETE /a")]);
    assert!(begin.elapsed().as_secs() < 10);
}

#[tokio::test]
async fn options_that_a_layer_answers_everywhere_are_no_routes() {
    let setting = Setting::new();
    let one = || closed(&setting.api, &["a"], "/a", get(nothing)).route("/health", get(nothing));
    let a = [(HttpMethod::Get, "/a", Some(A)), (HttpMethod::Get, "/health", None)];
    let look = |router: Router| setting.look(router, &a).open(["GET /health"]);
    look(one().layer(CorsLayer::permissive())).run().await.assert_complete();
    let own = told(&look(one().route("/a", options(nothing))).run().await);
    assert_eq!(own, [unknown("OPTIONS", "/a")]);
    // With a fallback of one's own it is said on purpose.
    let absent = async || StatusCode::NOT_FOUND.into_response();
    let with_fallback = || one().fallback(absent).layer(CorsLayer::permissive());
    let gaps = told(&look(with_fallback()).open(["GET /{*rest}"]).run().await);
    let anywhere = "OPTIONS /{*rest}: is no route, and is answered: 200 OK".to_owned();
    assert_eq!(gaps, [unknown("OPTIONS", "/a"), unknown("OPTIONS", "/health"), anywhere]);
    look(with_fallback()).open(["GET /{*rest}", "OPTIONS /{*rest}"]).run().await.assert_complete();
    // A layer that lets routes answer hides none of them.
    let mapped = axum::middleware::map_response(async |response: axum::response::Response| {
        let status = response.status();
        Ok::<_, Infallible>(if status == StatusCode::NOT_FOUND { StatusCode::GONE.into_response() } else { response })
    });
    let gaps = told(&look(one().route("/a", options(nothing)).layer(mapped)).run().await);
    assert!(gaps.contains(&unknown("OPTIONS", "/a")), "{gaps:?}");
}

#[tokio::test]
async fn a_method_that_no_token_opens_is_looked_up_beside_others() {
    let setting = Setting::new();
    let app = || {
        let hidden = closed(&setting.api, &["z"], "/b", post(nothing));
        closed(&setting.api, &["a"], "/a", get(nothing)).merge(hidden.route("/b", get(nothing)))
    };
    let look = || setting.look(app(), &[(HttpMethod::Get, "/a", Some(A))]).open(["GET /b"]);
    let complete = look().undocumented(["POST /b"]).run().await;
    complete.assert_complete();
    assert_eq!(complete.rows().len(), 3, "{complete}");
    let absent = told(&look().undocumented(["DELETE /b"]).run().await);
    assert_eq!(absent, ["DELETE /b: is on a list, and is not there"]);
}
