//! What browsers send by themselves: cookies, and where a request comes from.
//!
//! [`CookieExtractLayer`] reads the access token of a cookie for [`JwtVerifyLayer`](crate::jwt::JwtVerifyLayer), as
//! [`BearerExtractLayer`](crate::bearer::BearerExtractLayer) does that of a header. A browser sends cookies whoever causes the
//! request, so the layer asks a [`CsrfGuard`] first. [`CsrfLayer`] asks it around routes that need no credential, or that know their
//! caller by other means. [The guide](crate::guide::cookies) says which of it a page needs.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower::BoxError> {
//! use http::{Request, Response};
//! use portcullis::browser::{ACCESS_COOKIE, CookieExtractLayer, CsrfGuard, CsrfLayer};
//! use tower::{BoxError, ServiceBuilder, ServiceExt};
//!
//! async fn handler(request: Request<String>) -> Result<Response<String>, BoxError> {
//!     Ok(Response::default())
//! }
//! let guard = CsrfGuard::builder().build()?;
//! let account = ServiceBuilder::new().layer(CookieExtractLayer::new(guard.clone())).service_fn(handler);
//! let contact = ServiceBuilder::new().layer(CsrfLayer::new(guard)).service_fn(handler);
//!
//! let of = |site: &str| {
//!     let cookie = format!("{ACCESS_COOKIE}=abc");
//!     Request::post("/").header("cookie", cookie).header("sec-fetch-site", site).body(String::new())
//! };
//! assert_eq!(account.clone().oneshot(of("same-origin")?).await?.status(), 200);
//! assert_eq!(account.oneshot(of("cross-site")?).await?.status(), 403);
//! assert_eq!(contact.oneshot(of("cross-site")?).await?.status(), 403);
//! # Ok(())
//! # }
//! ```

mod credential;
mod csrf;

pub use self::{
    credential::{CookieExtract, CookieExtractLayer, CookieFinish},
    csrf::{Csrf, CsrfGuard, CsrfGuardBuilder, CsrfLayer},
};

/// Name of the cookie with a session's refresh token.
pub const REFRESH_COOKIE: &str = "__Host-portcullis-refresh";
/// Name of the cookie with an access token, where it is held in one.
pub const ACCESS_COOKIE: &str = "__Host-portcullis-access";
/// Name of the cookie with the token against forged requests, which scripts of the same host read.
pub const CSRF_COOKIE: &str = "__Host-portcullis-csrf";
