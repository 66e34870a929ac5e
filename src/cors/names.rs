//! Names of methods and headers, as far as a CORS configuration may have them.

use super::error::{HeaderFault, MethodFault};
use crate::fetch;

/// IANA's "HTTP Method Registry", but for what browsers send for nobody and for what is no method (`PRI`).
const METHODS: &[&str] = &[
    "ACL",
    "BASELINE-CONTROL",
    "BIND",
    "CHECKIN",
    "CHECKOUT",
    "COPY",
    "DELETE",
    "GET",
    "HEAD",
    "LABEL",
    "LINK",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MKREDIRECTREF",
    "MKWORKSPACE",
    "MOVE",
    "OPTIONS",
    "ORDERPATCH",
    "PATCH",
    "POST",
    "PROPFIND",
    "PROPPATCH",
    "PUT",
    "QUERY",
    "REBIND",
    "REPORT",
    "SEARCH",
    "UNBIND",
    "UNCHECKOUT",
    "UNLINK",
    "UNLOCK",
    "UPDATE",
    "UPDATEREDIRECTREF",
    "VERSION-CONTROL",
];

/// Fetch, "forbidden method".
const FORBIDDEN_METHODS: &[&str] = &["CONNECT", "TRACE", "TRACK"];

/// Fetch, "forbidden request-header"; those that begin with `proxy-` and `sec-` as well.
const FORBIDDEN_REQUEST_HEADERS: &[&str] = &[
    "accept-charset",
    "accept-encoding",
    "access-control-request-headers",
    "access-control-request-method",
    "access-control-request-private-network",
    "connection",
    "content-length",
    "cookie",
    "cookie2",
    "date",
    "dnt",
    "expect",
    "host",
    "keep-alive",
    "origin",
    "referer",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

/// Fetch, "forbidden response-header name".
const FORBIDDEN_RESPONSE_HEADERS: &[&str] = &["set-cookie", "set-cookie2"];

/// What has a meaning in answers alone (RFC 9110 and 9111, Fetch, and others).
const RESPONSE_HEADERS: &[&str] = &[
    "accept-ranges",
    "age",
    "allow",
    "clear-site-data",
    "content-security-policy",
    "cross-origin-opener-policy",
    "cross-origin-resource-policy",
    "etag",
    "location",
    "permissions-policy",
    "referrer-policy",
    "retry-after",
    "server",
    "strict-transport-security",
    "timing-allow-origin",
    "vary",
    "www-authenticate",
    "x-content-type-options",
    "x-frame-options",
];

/// What has a meaning in requests alone.
const REQUEST_HEADERS: &[&str] = &[
    "accept-charset",
    "authorization",
    "cookie",
    "cookie2",
    "expect",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "max-forwards",
    "origin",
    "proxy-authorization",
    "range",
    "referer",
    "te",
    "user-agent",
];

/// Checks a method. Methods differ by case.
pub(super) fn check_method(method: &str) -> Result<(), MethodFault> {
    let upper = method.to_ascii_uppercase();
    if !is_token(method) {
        Err(MethodFault::Malformed)
    } else if FORBIDDEN_METHODS.contains(&upper.as_str()) {
        Err(MethodFault::Forbidden)
    } else if METHODS.contains(&method) {
        Ok(())
    } else if METHODS.contains(&upper.as_str()) {
        Err(MethodFault::Case)
    } else {
        Err(MethodFault::Unknown)
    }
}

/// Checks the name of a header that scripts may set, in lower case.
pub(super) fn check_request_header(name: &str) -> Result<(), HeaderFault> {
    let forbidden = name.starts_with("proxy-") || name.starts_with("sec-") || FORBIDDEN_REQUEST_HEADERS.contains(&name);
    check_header(name, forbidden, RESPONSE_HEADERS.contains(&name))
}

/// Checks the name of a header that scripts may read, in lower case. Those that they may read anyway are no mistake.
pub(super) fn check_exposed_header(name: &str) -> Result<(), HeaderFault> {
    let wrong_side = name.starts_with("sec-") || REQUEST_HEADERS.contains(&name);
    check_header(name, FORBIDDEN_RESPONSE_HEADERS.contains(&name), wrong_side)
}

fn check_header(name: &str, forbidden: bool, wrong_side: bool) -> Result<(), HeaderFault> {
    if !is_token(name) {
        Err(HeaderFault::Malformed)
    } else if forbidden {
        Err(HeaderFault::Forbidden)
    } else if wrong_side || name.starts_with("access-control-") {
        // Of the latter the protocol itself speaks, on either side.
        Err(HeaderFault::WrongSide)
    } else {
        Ok(())
    }
}

/// `*` is a token to the grammar; here it is the wildcard, and in a longer text a mistake.
fn is_token(text: &str) -> bool {
    fetch::is_token(text) && !text.contains('*')
}
