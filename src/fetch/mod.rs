//! Words of the Fetch standard that several gates share: what a preflight request is, what an origin is.

mod origin;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN},
};

pub use self::origin::OriginFault;
pub(crate) use self::origin::{MOST_HOST, WebOrigin, is_loopback, split_port};

/// Where a browser says that a request comes from, as seen from the server (Fetch Metadata).
pub(crate) const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

const REQUEST_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-request-private-network");

/// Whether a request asks for permission and for nothing else (Fetch, "CORS-preflight request"): an `OPTIONS` with an origin
/// and the method that is to follow. A plain `OPTIONS` is a request like any other.
pub(crate) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    Preflight::of(method, headers).is_some()
}

/// What a preflight request asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Preflight<'r> {
    pub(crate) origin: Result<&'r HeaderValue, Repeated>,
    pub(crate) method: Result<&'r HeaderValue, Repeated>,
    /// The list of headers; where it is spread over several fields, those are to be looked up.
    pub(crate) headers: Result<Option<&'r HeaderValue>, Repeated>,
    pub(crate) private_network: bool,
}

impl<'r> Preflight<'r> {
    /// `None` of any other request. Its fields are walked once, which takes less time than to look each up.
    pub(crate) fn of(method: &Method, headers: &'r HeaderMap) -> Option<Self> {
        if method != Method::OPTIONS {
            return None;
        }
        let (mut origin, mut asked, mut names, mut private_network) = (Ok(None), Ok(None), Ok(None), false);
        for (name, value) in headers {
            let seen = if *name == ORIGIN {
                &mut origin
            } else if *name == ACCESS_CONTROL_REQUEST_METHOD {
                &mut asked
            } else if *name == ACCESS_CONTROL_REQUEST_HEADERS {
                &mut names
            } else {
                private_network |= *name == REQUEST_PRIVATE_NETWORK;
                continue;
            };
            *seen = if *seen == Ok(None) { Ok(Some(value)) } else { Err(Repeated) };
        }
        Some(Self { origin: origin.transpose()?, method: asked.transpose()?, headers: names, private_network })
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
