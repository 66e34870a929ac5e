//! What a route demands, declared once: enforced by its layers, and drawn in an OpenAPI document and its page.
//!
//! For `utoipa` 6 and `utoipa-axum` 0.3. [`OpenApiRouterExt`] puts layers around routes and writes what they demand into their
//! operations; [`AuthorizationServer::documented_routes`] has the server's own endpoints with their document;
//! [`AuthorizationServer::document`], or [`Security`] for tokens from elsewhere, says how to sign in and what scopes are for; and
//! [`docs()`] is a page to read all of it, sign in, and try it out. The [guide](crate::guide::openapi) tells the rest.
//!
//! List no `paths(…)` in `#[openapi(…)]` that `routes!` has as well: `utoipa` keeps those, and drops what was declared of
//! the others.
//!
//! [`AuthorizationServer::documented_routes`]: crate::AuthorizationServer::documented_routes
//! [`AuthorizationServer::document`]: crate::AuthorizationServer::document
//!
//! ```
//! # #[cfg(feature = "password")] {
//! use portcullis::{AuthorizationServer, config::ConfigErrors, openapi::{OpenApiRouterExt as _, docs}, principal::Principal};
//! use utoipa_axum::{router::OpenApiRouter, routes};
//!
//! /// Who is calling
//! #[utoipa::path(get, path = "/users/me", responses((status = 200, description = "Their name")))]
//! async fn me(caller: Principal) -> String {
//!     caller.subject().to_owned()
//! }
//!
//! fn app(server: &AuthorizationServer) -> Result<axum::Router, ConfigErrors> {
//!     let (app, document) = OpenApiRouter::new()
//!         .routes(routes!(me).require_scopes(["me"])?)
//!         .authenticate(&server.resource_server())
//!         .merge(server.documented_routes())
//!         .split_for_parts();
//!     let document = server.document(document, [("me", "Who you are")])?;
//!     Ok(app.merge(docs("/docs", &document)))
//! }
//! # use portcullis::{jwt::*, password::PasswordHasher, store::MemoryStore};
//! # let key = SigningKey::generate(Algorithm::EdDsa)?;
//! # let users = std::sync::Arc::new(MemoryStore::new());
//! # app(&AuthorizationServer::builder("https://api.example", "api", key)
//! #     .first_party_login(users, PasswordHasher::builder().build()?).build()?)?;
//! # }
//! # Ok::<(), portcullis::config::ConfigErrors>(())
//! ```

mod demands;
mod docs;
mod endpoints;
mod operation;
mod router;
mod schemas;
mod security;

pub use self::{
    demands::{BEARER, COOKIE, Demands, OAUTH2},
    docs::docs,
    router::{Declares, OpenApiRouterExt, RouteLayer, RouteService},
    security::Security,
};
