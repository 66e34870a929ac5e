//! The server's endpoints, each a plain [`tower_service::Service`] that any framework can route to.

mod error;
mod form;
mod jwks;
mod token;

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, PRAGMA},
};
use http_body_util::Full;

pub(crate) use self::token::Issuer;
#[cfg(feature = "password")]
pub(crate) use self::token::Sessions;
pub use self::{jwks::JwksEndpoint, token::TokenEndpoint};

/// A JSON answer that no cache may keep (RFC 6749 §5.1).
fn private_json(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    response
}
