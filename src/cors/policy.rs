//! The decision: may the page that a request comes from do this, and read the answer?

use std::{fmt, sync::Arc};

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN},
};

use crate::fetch::{MOST_HOST, single};

pub(super) const REQUEST_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-request-private-network");

/// Empty elements that a list of headers may have (RFC 9110 §5.6.1.2: "a reasonable number").
const MOST_EMPTY: usize = 16;

/// Whose pages may read answers, and what they may ask for: built by [`CorsPolicy::builder`]. Cheap to clone.
#[derive(Clone)]
pub struct CorsPolicy(pub(super) Arc<Rules>);

/// What was configured, checked.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) origins: Origins,
    pub(super) credentials: bool,
    pub(super) methods: List,
    pub(super) request_headers: List,
    pub(super) exposed: Option<HeaderValue>,
    pub(super) max_age: Option<HeaderValue>,
    pub(super) private_network: bool,
}

/// Whose pages.
#[derive(Debug)]
pub(super) enum Origins {
    Any,
    Listed {
        /// Origins, sorted.
        exact: Vec<Box<str>>,
        /// Of `https` patterns what follows the asterisk, such as `.app.example:8443`, sorted.
        below: Vec<Box<str>>,
        /// No origin that is allowed is longer.
        longest: usize,
    },
}

/// A list of names, and the field that says it.
#[derive(Debug, Default)]
pub(super) struct List {
    /// Sorted; empty where any will do.
    names: Vec<Box<str>>,
    any: bool,
    pub(super) field: Option<HeaderValue>,
}

impl List {
    pub(super) fn of(mut names: Vec<Box<str>>) -> Self {
        // Tokens, so this keeps every one.
        let field = Some(names.join(", ")).filter(|text| !text.is_empty()).and_then(|text| text.parse().ok());
        names.sort_unstable();
        Self { names, any: false, field }
    }

    pub(super) fn any(field: &'static str) -> Self {
        Self { names: Vec::new(), any: true, field: Some(HeaderValue::from_static(field)) }
    }

    fn has(&self, name: &[u8]) -> bool {
        self.any || self.names.binary_search_by(|own| own.as_bytes().cmp(name)).is_ok()
    }

    /// As [`has`](Self::has), for a list in lower case.
    fn has_in_any_case(&self, name: &[u8]) -> bool {
        let lower = || name.iter().map(u8::to_ascii_lowercase);
        self.any || self.names.binary_search_by(|own| own.bytes().cmp(lower())).is_ok()
    }
}

/// Who may read the answer to a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reader<'r> {
    /// The page that it comes from.
    Origin(&'r HeaderValue),
    /// Every page, whether it asks or not, so that caches need not tell them apart.
    Anyone,
    /// No page of another origin.
    Nobody,
}

/// Why a preflight request was refused. Told in the log alone, and there only where that is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Refusal<'r> {
    OriginRepeated,
    OriginNotAllowed(&'r [u8]),
    MethodRepeated,
    MethodNotAllowed(&'r [u8]),
    HeaderNotAllowed(&'r [u8]),
    TooManyHeaders,
    PrivateNetwork,
}

impl Rules {
    /// Who may read the answer to a request that is no preflight request.
    pub(super) fn reader<'r>(&self, headers: &'r HeaderMap) -> Reader<'r> {
        match (&self.origins, single(headers, &ORIGIN)) {
            (Origins::Any, _) => Reader::Anyone,
            (Origins::Listed { .. }, Ok(Some(origin))) if self.allows(origin.as_bytes()) => Reader::Origin(origin),
            (Origins::Listed { .. }, _) => Reader::Nobody,
        }
    }

    /// What a preflight request is answered (Fetch, "CORS-preflight fetch").
    pub(super) fn preflight<'r>(&self, headers: &'r HeaderMap) -> Result<Reader<'r>, Refusal<'r>> {
        let origin = single(headers, &ORIGIN).map_err(|_| Refusal::OriginRepeated)?;
        let reader = match &self.origins {
            Origins::Any => Reader::Anyone,
            Origins::Listed { .. } => {
                let origin = origin.ok_or(Refusal::OriginNotAllowed(b""))?;
                if !self.allows(origin.as_bytes()) {
                    return Err(Refusal::OriginNotAllowed(origin.as_bytes()));
                }
                Reader::Origin(origin)
            }
        };
        let method = single(headers, &ACCESS_CONTROL_REQUEST_METHOD).map_err(|_| Refusal::MethodRepeated)?;
        let method = method.map(HeaderValue::as_bytes).unwrap_or_default();
        if !self.methods.has(method) {
            return Err(Refusal::MethodNotAllowed(method));
        }
        self.check_headers(headers)?;
        if headers.contains_key(REQUEST_PRIVATE_NETWORK) && !self.private_network {
            return Err(Refusal::PrivateNetwork);
        }
        Ok(reader)
    }

    /// Compared byte for byte, as browsers compare what they are answered.
    fn allows(&self, origin: &[u8]) -> bool {
        let Origins::Listed { exact, below, longest } = &self.origins else { return true };
        if origin.len() > *longest {
            return false;
        }
        exact.binary_search_by(|own| own.as_bytes().cmp(origin)).is_ok()
            || (!below.is_empty() && is_below(below, origin))
    }

    /// Whether every header that is asked for is allowed. However many are sent, no more are looked at than are allowed, and no
    /// more of each than the longest has bytes.
    fn check_headers<'r>(&self, headers: &'r HeaderMap) -> Result<(), Refusal<'r>> {
        let allowed = &self.request_headers;
        if allowed.any {
            return Ok(());
        }
        let window = allowed.names.iter().map(|name| name.len()).max().unwrap_or_default() + 4;
        let mut left = allowed.names.len() + MOST_EMPTY;
        for field in headers.get_all(ACCESS_CONTROL_REQUEST_HEADERS) {
            let mut rest = field.as_bytes();
            loop {
                left = left.checked_sub(1).ok_or(Refusal::TooManyHeaders)?;
                let seen = rest.get(..window).unwrap_or(rest);
                let comma = seen.iter().position(|&byte| byte == b',');
                let element = seen.get(..comma.unwrap_or(seen.len())).unwrap_or_default();
                let cut_off = comma.is_none() && seen.len() < rest.len();
                let name = element.trim_ascii();
                if cut_off || (!name.is_empty() && !allowed.has_in_any_case(name)) {
                    return Err(Refusal::HeaderNotAllowed(name));
                }
                match comma.and_then(|comma| rest.get(comma + 1..)) {
                    Some(after) => rest = after,
                    None => break,
                }
            }
        }
        Ok(())
    }
}

/// Whether an origin is that of a name below one of these, over `https`.
fn is_below(below: &[Box<str>], origin: &[u8]) -> bool {
    let Some(rest) = origin.strip_prefix(b"https://") else { return false };
    let host = rest.iter().position(|&byte| byte == b':').unwrap_or(rest.len());
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    // From the left, for as long as what was passed is names: `https://evil.example#.app.example` is none.
    let mut label = 0;
    for (at, &byte) in rest.iter().enumerate().take(host.min(MOST_HOST)) {
        match byte {
            b'.' if label == 0 => return false,
            b'.' => {
                let suffix = rest.get(at..).unwrap_or_default();
                if host <= MOST_HOST && below.binary_search_by(|own| own.as_bytes().cmp(suffix)).is_ok() {
                    return true;
                }
                label = 0;
            }
            byte if plain(byte) => label += 1,
            _ => return false,
        }
    }
    false
}

impl fmt::Debug for CorsPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Of what a client chose, so much goes into a line of the log, escaped.
        const MOST: usize = 100;
        let shown = |text: &[u8]| text.get(..MOST).unwrap_or(text).escape_ascii().to_string();
        match self {
            Self::OriginRepeated => f.write_str("more than one Origin field"),
            Self::OriginNotAllowed(origin) => write!(f, "origin \"{}\" is not allowed", shown(origin)),
            Self::MethodRepeated => f.write_str("more than one Access-Control-Request-Method field"),
            Self::MethodNotAllowed(method) => write!(f, "method \"{}\" is not allowed", shown(method)),
            Self::HeaderNotAllowed(name) => write!(f, "request header \"{}\" is not allowed", shown(name)),
            Self::TooManyHeaders => f.write_str("more request headers than are allowed"),
            Self::PrivateNetwork => f.write_str("private-network access is not allowed"),
        }
    }
}
