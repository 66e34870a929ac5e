//! The routes, and what each of them demands.

use axum::{Json, extract::State};
use portcullis::{
    AuthorizationServer, ResourceServer, axum::Refused, config::ConfigErrors, openapi::OpenApiRouterExt as _,
    principal::Principal, store::UserRecord,
};
use serde_json::{Value, json};
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

#[derive(OpenApi)]
#[openapi(info(title = "Authorization server", description = "A server to point any client at."))]
struct Document;

/// What the scopes are for.
pub(crate) const SCOPES: [(&str, &str); 3] =
    [("me", "Who you are"), ("items", "What you have"), ("admin", "What others have")];

/// Routes for callers that `api` lets in, and the server's own.
pub(crate) fn routes(
    server: &AuthorizationServer,
    api: &ResourceServer,
) -> Result<OpenApiRouter<AuthorizationServer>, ConfigErrors> {
    let routes = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(me))
        .routes(routes!(my_items).require_scopes(["items"])?)
        .require_scopes(["me"])?
        .routes(routes!(reports).require_scopes(["admin"])?)
        .authenticate(api);
    Ok(routes.merge(server.documented_routes()))
}

/// Who is calling
#[utoipa::path(get, path = "/users/me", responses((status = 200, description = "The user", body = Value)))]
async fn me(State(server): State<AuthorizationServer>, caller: Principal) -> Result<Json<Value>, Refused> {
    if caller.issuer() != server.issuer() {
        // Somebody else's user: what the token says is all that is known here.
        let scopes: Vec<&str> = caller.scopes().collect();
        return Ok(Json(json!({ "issuer": caller.issuer(), "subject": caller.subject(), "scopes": scopes })));
    }
    Ok(Json(json!(active_user(&server, &caller).await?.public())))
}

/// What they have
#[utoipa::path(get, path = "/users/me/items", responses((status = 200, description = "Their items", body = Value)))]
async fn my_items(State(server): State<AuthorizationServer>, caller: Principal) -> Result<Json<Value>, Refused> {
    let owner = if caller.issuer() == server.issuer() {
        active_user(&server, &caller).await?.login.as_str().to_owned()
    } else {
        // Their `alice` is not ours.
        format!("{} of {}", caller.subject(), caller.issuer())
    };
    Ok(Json(json!([{ "item": "lantern", "owner": owner }])))
}

/// One who is disabled by now is refused as everybody is, in the style that was asked for.
async fn active_user(server: &AuthorizationServer, caller: &Principal) -> Result<UserRecord, Refused> {
    server.active_user(caller).await.map_err(|rejection| caller.refused(rejection))
}

/// What others have
#[utoipa::path(get, path = "/admin/reports", responses((status = 200, description = "The reports", body = Value)))]
async fn reports() -> Json<Value> {
    Json(json!({ "visitors": 42 }))
}
