//! Words of the Fetch standard that several gates share: what a preflight request is, what an origin is.

mod origin;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN},
};

pub use self::origin::OriginFault;
pub(crate) use self::origin::{MOST_HOST, WebOrigin, is_loopback, split_port};

/// Where a browser says that a request comes from, as seen from the server (Fetch Metadata).
pub(crate) const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether a request asks for permission and for nothing else (Fetch, "CORS-preflight request"): an `OPTIONS` with an origin
/// and the method that is to follow. A plain `OPTIONS` is a request like any other.
pub(crate) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    Preflight::of(method, headers).is_some()
}

/// What a preflight request asks for, beside headers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Preflight<'r> {
    pub(crate) origin: Result<&'r HeaderValue, Repeated>,
    pub(crate) method: Result<&'r HeaderValue, Repeated>,
}

impl<'r> Preflight<'r> {
    /// `None` of any other request.
    pub(crate) fn of(method: &Method, headers: &'r HeaderMap) -> Option<Self> {
        if method != Method::OPTIONS {
            return None;
        }
        let present = |name| single(headers, name).transpose();
        Some(Self { origin: present(&ORIGIN)?, method: present(&ACCESS_CONTROL_REQUEST_METHOD)? })
    }
}

/// Whether a byte may be in a token (RFC 9110 §5.6.2).
pub(crate) fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether a text is a token: the name of a method, of a field, of a cookie.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_tchar)
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
