//! Cookies: found in a request as they came, set for this host alone.
//!
//! Not by a library of cookies: those copy every name and value into maps and want text, where a gate looks for one name among
//! any bytes and keeps a view of its value.

use std::ops::Range;

use http::{
    HeaderMap, HeaderValue,
    header::{COOKIE, SET_COOKIE},
};

/// Most bytes of name and value that browsers keep (RFC 6265bis §5.6; ASVS 3.3.5).
pub(crate) const MOST: usize = 4096;

/// Cookies of this name, in the order in which they came: the field, and where in it the value stands. Names differ by case.
pub(crate) fn named<'a>(
    headers: &'a HeaderMap,
    name: &'a str,
) -> impl Iterator<Item = (&'a HeaderValue, Range<usize>)> {
    headers.get_all(COOKIE).iter().flat_map(move |field| {
        let mut next = 0;
        field.as_bytes().split(|&byte| byte == b';').filter_map(move |pair| {
            let start = next;
            next += pair.len() + 1;
            let spaces = pair.len() - pair.trim_ascii_start().len();
            let value = pair.get(spaces..)?.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?.trim_ascii_end();
            let start = start + spaces + name.len() + 1;
            Some((field, start..start + value.len()))
        })
    })
}

/// Whether scripts may read a cookie.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Scripts {
    /// None may: `HttpOnly`.
    Hidden,
    /// Those of this host's pages may.
    #[cfg_attr(not(feature = "password"), expect(dead_code, reason = "such cookies come with sessions"))]
    Readable,
}

/// Sets a cookie for this host alone, over TLS alone, and not sent along by other sites (RFC 6265bis §4.1.3.2: its name must begin
/// with `__Host-`); `None` if it is longer than browsers keep.
pub(crate) fn set(name: &str, value: &str, seconds: u64, scripts: Scripts) -> Option<HeaderValue> {
    let http_only = match scripts {
        Scripts::Hidden => " HttpOnly;",
        Scripts::Readable => "",
    };
    let field = format!("{name}={value}; Path=/; Max-Age={seconds}; Secure;{http_only} SameSite=Strict");
    let mut field = Some(field).filter(|_| name.len() + value.len() <= MOST)?.parse::<HeaderValue>().ok()?;
    field.set_sensitive(true);
    Some(field)
}

/// Adds a cookie to an answer.
pub(crate) fn add(headers: &mut HeaderMap, cookie: HeaderValue) {
    headers.append(SET_COOKIE, cookie);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_found_by_name_among_any_bytes() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=b; __Host-d=1;__host-d=2; __Host-d2=6"));
        headers.append(COOKIE, HeaderValue::from_bytes(b"\xff=1; __Host-d=3;;=;\t__Host-d=\xfe ").unwrap());
        headers.append(COOKIE, HeaderValue::from_static("__Host-d=4=5; x; __Host-d; __Host-d =7; __Host-d="));
        let found: Vec<_> = named(&headers, "__Host-d").map(|(field, at)| &field.as_bytes()[at]).collect();
        assert_eq!(found, [&b"1"[..], b"3", b"\xfe", b"4=5", b""]);
    }

    #[test]
    fn req_020_req_154_req_155_cookies_are_set_for_this_host_over_tls() {
        let field = set("__Host-d", "T", 60, Scripts::Hidden).unwrap();
        assert_eq!(field.to_str().unwrap(), "__Host-d=T; Path=/; Max-Age=60; Secure; HttpOnly; SameSite=Strict");
        assert!(field.is_sensitive());
        let field = set("__Host-d", "T", 0, Scripts::Readable).unwrap();
        assert_eq!(field.to_str().unwrap(), "__Host-d=T; Path=/; Max-Age=0; Secure; SameSite=Strict");
        assert!(set("__Host-d", &"x".repeat(MOST - 8), 1, Scripts::Hidden).is_some());
        assert!(set("__Host-d", &"x".repeat(MOST - 7), 1, Scripts::Hidden).is_none());
        assert!(set("__Host-d", "x\r\nset-cookie: y", 1, Scripts::Hidden).is_none());
    }
}
