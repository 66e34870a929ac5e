//! Words of the Fetch standard that several gates share: what a preflight request is, what an origin is.

mod origin;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN},
};

pub use self::origin::OriginFault;
pub(crate) use self::origin::{WebOrigin, is_loopback, split_port};

/// Where a browser says that a request comes from, as seen from the server (Fetch Metadata).
pub(crate) const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether a request asks for permission and for nothing else (Fetch, "CORS-preflight request"): an `OPTIONS` with an origin
/// and the method that is to follow. A plain `OPTIONS` is a request like any other.
pub(crate) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) && headers.contains_key(ORIGIN)
}

/// The value of a field that comes once. One that comes twice means nothing.
pub(crate) fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, Repeated> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        (_, Some(_)) => Err(Repeated),
    }
}

/// A field that may come once came twice.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Repeated;
