//! The decision: may the page that a request comes from do this, and read the answer?

use std::{cmp::Ordering, fmt, sync::Arc};

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{ACCESS_CONTROL_REQUEST_HEADERS, ORIGIN},
};

use crate::fetch::{MOST_HOST, Preflight, single};

/// Empty elements that a list of headers may have (RFC 9110 §5.6.1.2: "a reasonable number").
const MOST_EMPTY: usize = 16;

/// Whose pages may read answers, and what they may ask for: built by [`CorsPolicy::builder`]. Cheap to clone.
#[derive(Clone)]
#[must_use]
pub struct CorsPolicy(pub(super) Arc<Rules>);

/// What was configured, checked.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) origins: Origins,
    pub(super) credentials: bool,
    pub(super) methods: List,
    pub(super) request_headers: List,
    pub(super) exposed: Option<HeaderValue>,
    pub(super) private_network: bool,
    /// What a preflight request that is allowed is told, beside whose it is.
    pub(super) granted: Vec<(HeaderName, HeaderValue)>,
    /// What the answer to a preflight request depends on, allowed or not.
    pub(super) preflight_vary: HeaderValue,
}

/// Whose pages.
#[derive(Debug)]
pub(super) enum Origins {
    Any,
    Listed {
        /// Origins, in the order of all lists here.
        exact: Vec<Box<str>>,
        /// Of `https` patterns what follows the asterisk, such as `.app.example:8443`, in the same order.
        below: Vec<Box<str>>,
    },
}

/// Names that are allowed.
#[derive(Debug)]
pub(super) enum List {
    Any,
    /// In the order of all lists here.
    Named(Vec<Box<str>>),
}

impl List {
    pub(super) fn of(mut names: Vec<Box<str>>) -> Self {
        names.sort_unstable_by(|one, other| by_length(one.as_bytes(), other.as_bytes()));
        Self::Named(names)
    }

    fn has(&self, name: &[u8]) -> bool {
        let Self::Named(names) = self else { return true };
        has(names, name)
    }
}

/// The order of all lists here: by length, which mostly tells already that two texts differ.
pub(super) fn by_length(one: &[u8], other: &[u8]) -> Ordering {
    one.len().cmp(&other.len()).then_with(|| one.cmp(other))
}

fn has(texts: &[Box<str>], text: &[u8]) -> bool {
    texts.binary_search_by(|own| by_length(own.as_bytes(), text)).is_ok()
}

/// Whether a list in lower case has a name. Browsers send lower case; names do not differ by it (RFC 9110 §5.1).
fn has_in_any_case(names: &[Box<str>], name: &[u8]) -> bool {
    let lower = || name.iter().map(u8::to_ascii_lowercase);
    let in_lower = |own: &str| own.len().cmp(&name.len()).then_with(|| own.bytes().cmp(lower()));
    let has_upper = name.iter().any(u8::is_ascii_uppercase);
    has(names, name) || (has_upper && names.binary_search_by(|own| in_lower(own)).is_ok())
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

impl Reader<'_> {
    /// How an answer names them.
    pub(super) fn field(self) -> Option<HeaderValue> {
        match self {
            Self::Origin(origin) => Some(origin.clone()),
            Self::Anyone => Some(HeaderValue::from_static("*")),
            Self::Nobody => None,
        }
    }
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

    /// Whether a preflight request is allowed what it asks for, and by whom (Fetch, "CORS-preflight fetch").
    pub(super) fn preflight<'r>(
        &self,
        asked: Preflight<'r>,
        headers: &'r HeaderMap,
    ) -> Result<Reader<'r>, Refusal<'r>> {
        let origin = asked.origin.map_err(|_| Refusal::OriginRepeated)?;
        if !self.allows(origin.as_bytes()) {
            return Err(Refusal::OriginNotAllowed(origin.as_bytes()));
        }
        let method = asked.method.map_err(|_| Refusal::MethodRepeated)?.as_bytes();
        if !self.methods.has(method) {
            return Err(Refusal::MethodNotAllowed(method));
        }
        self.check_headers(asked, headers)?;
        if asked.private_network && !self.private_network {
            return Err(Refusal::PrivateNetwork);
        }
        Ok(match self.origins {
            Origins::Any => Reader::Anyone,
            Origins::Listed { .. } => Reader::Origin(origin),
        })
    }

    /// Compared byte for byte, as browsers compare what they are answered.
    fn allows(&self, origin: &[u8]) -> bool {
        let Origins::Listed { exact, below } = &self.origins else { return true };
        has(exact, origin) || (!below.is_empty() && is_below(below, origin))
    }

    /// Whether every header that is asked for is allowed. However many are sent, no more are looked at than are allowed, and no
    /// more of each than the longest has bytes.
    fn check_headers<'r>(&self, asked: Preflight<'r>, headers: &'r HeaderMap) -> Result<(), Refusal<'r>> {
        let List::Named(names) = &self.request_headers else { return Ok(()) };
        // The last is the longest.
        let window = names.last().map_or(0, |name| name.len()) + 4;
        let mut left = names.len() + MOST_EMPTY;
        let several = asked.headers.is_err().then(|| headers.get_all(ACCESS_CONTROL_REQUEST_HEADERS));
        for field in asked.headers.ok().flatten().into_iter().chain(several.into_iter().flatten()) {
            let mut rest = field.as_bytes();
            loop {
                left = left.checked_sub(1).ok_or(Refusal::TooManyHeaders)?;
                let seen = rest.get(..window).unwrap_or(rest);
                let comma = seen.iter().position(|&byte| byte == b',');
                let element = seen.get(..comma.unwrap_or(seen.len())).unwrap_or_default();
                let cut_off = comma.is_none() && seen.len() < rest.len();
                let name = element.trim_ascii();
                if cut_off || (!name.is_empty() && !has_in_any_case(names, name)) {
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
    let host = rest.iter().take(MOST_HOST + 1).position(|&byte| byte == b':').unwrap_or(rest.len());
    if host > MOST_HOST {
        return false;
    }
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    // From the left, for as long as what was passed is names: `https://evil.example#.app.example` is none.
    let mut label = 0;
    for (at, &byte) in rest.iter().enumerate().take(host) {
        match byte {
            b'.' if label == 0 => return false,
            b'.' => {
                let suffix = rest.get(at..).unwrap_or_default();
                if has(below, suffix) {
                    return is_of_domain(rest.get(..host).unwrap_or_default(), at + 1);
                }
                label = 0;
            }
            byte if plain(byte) => label += 1,
            _ => return false,
        }
    }
    false
}

/// Whether a name belongs to whoever has the domain that begins at `domain` in it, and not to somebody who was given names below it:
/// of `https://*.amazonaws.com`, what is below `s3.amazonaws.com` is everybody's.
fn is_of_domain(host: &[u8], domain: usize) -> bool {
    let suffix = std::str::from_utf8(host).ok().and_then(psl::suffix_str);
    suffix.is_some_and(|suffix| domain + suffix.len() < host.len())
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

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn req_153_refusing_takes_no_allocation_and_no_longer_however_much_is_sent() {
        let CorsPolicy(rules) = CorsPolicy::builder()
            .origins(["https://app.example", "https://*.app.example"])
            .request_headers(["authorization"])
            .build()
            .unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, HeaderValue::from_static("https://app.example"));
        headers.insert("access-control-request-method", HeaderValue::from_static("GET"));
        let mut refused = |name: HeaderName, value: &str| {
            let before = headers.insert(&name, value.parse().unwrap());
            let (mut permission, mut reader) = (None, None);
            let allocated = allocation_counter::measure(|| {
                let asked = Preflight::of(&Method::OPTIONS, &headers).unwrap();
                permission = Some(rules.preflight(asked, &headers));
                reader = Some(rules.reader(&headers));
            });
            assert_eq!(allocated.count_total, 0, "{value:.40}");
            assert_eq!(reader == Some(Reader::Nobody), name == ORIGIN, "{value:.40}");
            assert!(permission.unwrap().unwrap_err().to_string().len() < 500, "{value:.40}");
            match before {
                Some(before) => headers.insert(name, before),
                None => headers.remove(name),
            };
        };
        let long = 16 * 1024;
        for value in [
            "a,".repeat(long / 2),
            ",".repeat(long),
            "a".repeat(long),
            " ".repeat(long) + "a",
            format!("authorization,{}", "\t".repeat(long) + "x"),
            "authorization,".repeat(long / 14),
        ] {
            refused(ACCESS_CONTROL_REQUEST_HEADERS, &value);
        }
        refused(ORIGIN, &format!("https://{}.evil.example", "a.".repeat(long / 2)));
        refused(ORIGIN, &format!("https://{}xapp.example", "evil.".repeat(30)));
        refused(ORIGIN, "https://evil.example");
        refused(http::header::ACCESS_CONTROL_REQUEST_METHOD, &"G".repeat(long));
    }
}
