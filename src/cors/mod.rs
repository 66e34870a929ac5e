//! Which pages of other origins may call this server and read its answers (Fetch, "CORS protocol").
//!
//! A [`CorsPolicy`] that would be dangerous is not built: every mistake is named at once, as a [`CorsError`]. What is not allowed
//! is refused by leaving the permission out. Nothing is allowed unless named.
//!
//! [`CorsStrictLayer`] goes outermost, around all that may refuse: a preflight request carries no credential, and a script is to
//! see why it was refused. It answers preflight requests by itself. An `OPTIONS` without `Origin` and
//! `Access-Control-Request-Method` is none, and goes on like any other request.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower::BoxError> {
//! use std::time::Duration;
//!
//! use http::{Request, Response};
//! use portcullis::cors::{CorsPolicy, CorsStrictLayer};
//! use tower::{BoxError, ServiceBuilder, ServiceExt};
//!
//! let policy = CorsPolicy::builder()
//!     .origins(["https://app.example"])
//!     .methods(["GET", "DELETE"])
//!     .request_headers(["authorization"])
//!     .max_age(Duration::from_secs(600))
//!     .build()?;
//!
//! async fn handler(_: Request<String>) -> Result<Response<String>, BoxError> {
//!     Ok(Response::default())
//! }
//! let service = ServiceBuilder::new().layer(CorsStrictLayer::new(policy)).service_fn(handler);
//! let request = Request::builder().header("origin", "https://app.example").body(String::new())?;
//! let answer = service.oneshot(request).await?;
//! assert_eq!(answer.headers()["access-control-allow-origin"], "https://app.example");
//! # Ok(())
//! # }
//! ```

mod config;
mod error;
mod layer;
mod names;
mod policy;

pub use self::{
    config::{AnyOrigin, CorsPolicyBuilder, Listed},
    error::{CorsError, CorsSetting, HeaderFault, MethodFault},
    layer::{CorsFuture, CorsStrict, CorsStrictLayer},
    policy::CorsPolicy,
};
