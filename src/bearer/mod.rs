//! Reads one bearer credential from each request (RFC 6750 §2.1).
//!
//! A request with one well-formed `Authorization: Bearer` field goes on, with a [`Credential`] in its extensions.
//! No credential, or another scheme, is answered `401`; a repeated field or a malformed credential, `400`.
//! In optional mode a request without credential goes on too; one with a bad credential never does.
//!
//! Tokens in the query (RFC 6750 §2.3) or in a form (§2.2) are not read. A query that carries one beside the header is
//! refused, because a client must use one way only.
//!
//! Place it inside CORS, because preflight requests carry no credential: the first that arrives here is told in the log.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower::BoxError> {
//! use http::{Request, Response, StatusCode};
//! use portcullis::bearer::{BearerExtractLayer, Credential};
//! use tower::{BoxError, ServiceBuilder, ServiceExt};
//!
//! async fn whoami(request: Request<String>) -> Result<Response<String>, BoxError> {
//!     assert!(matches!(request.extensions().get(), Some(Credential::Bearer(_))));
//!     Ok(Response::default())
//! }
//! let service = ServiceBuilder::new().layer(BearerExtractLayer::required()).service_fn(whoami);
//! let request = Request::builder().header("authorization", "Bearer abc").body(String::new())?;
//! assert_eq!(service.oneshot(request).await?.status(), StatusCode::OK);
//! # Ok(())
//! # }
//! ```

mod credentials;
mod layer;

pub(crate) use self::credentials::{in_query, is_b64token, locate, read};
pub use self::{
    credentials::{BearerToken, Credential},
    layer::{BearerExtract, BearerExtractLayer},
};
