//! Fields that keep browsers and caches from doing more with an answer than was meant.

mod layer;

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        AUTHORIZATION, CONTENT_SECURITY_POLICY, COOKIE, REFERRER_POLICY, SET_COOKIE, X_CONTENT_TYPE_OPTIONS,
        X_FRAME_OPTIONS,
    },
};

pub use self::layer::{SecureHeaders, SecureHeadersLayer};
use crate::{
    caching,
    gate::{Finish, sealed},
};

/// What an answer gets.
#[derive(Clone, Copy, Debug)]
pub struct SecureFields {
    /// Whether the request carried a credential, so that the answer may be for one person alone.
    personal: bool,
}

impl SecureFields {
    /// For the answer to a request with these headers.
    fn of(request: &HeaderMap) -> Self {
        Self { personal: request.contains_key(AUTHORIZATION) || request.contains_key(COOKIE) }
    }
}

impl sealed::Sealed for SecureFields {}

impl Finish for SecureFields {
    fn finish(self, headers: &mut HeaderMap) {
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        // A policy of the handler's own says what it says, and one of ours would go before its X-Frame-Options
        // (CSP 3, "frame-ancestors").
        if !headers.contains_key(X_FRAME_OPTIONS) {
            absent(headers, CONTENT_SECURITY_POLICY, "frame-ancestors 'none'");
        }
        absent(headers, X_FRAME_OPTIONS, "DENY");
        absent(headers, REFERRER_POLICY, "no-referrer");
        if self.personal || headers.contains_key(SET_COOKIE) {
            caching::keep_private(headers);
        }
    }
}

/// Sets a field that the handler has not set.
fn absent(headers: &mut HeaderMap, name: HeaderName, value: &'static str) {
    headers.entry(name).or_insert(HeaderValue::from_static(value));
}

#[cfg(test)]
mod tests {
    use http::header::CACHE_CONTROL;

    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn finished(request: &[(&'static str, &str)], answer: &[(&'static str, &str)]) -> HeaderMap {
        let mut answer = headers(answer);
        SecureFields::of(&headers(request)).finish(&mut answer);
        answer
    }

    #[test]
    fn what_a_handler_says_itself_is_kept() {
        let said = |answer: &[(&'static str, &str)]| {
            let headers = finished(&[], answer);
            let all = ["x-content-type-options", "x-frame-options", "content-security-policy", "referrer-policy"];
            all.map(|name| {
                let values: Vec<_> = headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect();
                values.join(" | ")
            })
        };
        let none = "frame-ancestors 'none'";
        for (answer, expected) in [
            (&[][..], ["nosniff", "DENY", none, "no-referrer"]),
            (
                &[("x-content-type-options", "sniff"), ("x-content-type-options", "x")],
                ["nosniff", "DENY", none, "no-referrer"],
            ),
            (&[("x-frame-options", "SAMEORIGIN")], ["nosniff", "SAMEORIGIN", "", "no-referrer"]),
            (
                &[("content-security-policy", "default-src 'self'")],
                ["nosniff", "DENY", "default-src 'self'", "no-referrer"],
            ),
            (
                &[("content-security-policy", "a"), ("content-security-policy", "b")],
                ["nosniff", "DENY", "a | b", "no-referrer"],
            ),
            (&[("content-security-policy-report-only", "a")], ["nosniff", "DENY", none, "no-referrer"]),
            (&[("referrer-policy", "same-origin")], ["nosniff", "DENY", none, "same-origin"]),
        ] {
            assert_eq!(said(answer), expected, "{answer:?}");
        }
        let headers = finished(&[], &[]);
        assert_eq!(headers.len(), 4, "{headers:?}");
    }

    #[test]
    fn req_139_answers_to_those_who_show_a_credential_are_not_stored() {
        let authorization = &[("authorization", "Bearer a")][..];
        let cookie = &[("cookie", "a=b")][..];
        for (request, answer, expected) in [
            (&[][..], &[][..], ""),
            (&[], &[("cache-control", "public, max-age=60")], "public, max-age=60"),
            (&[("x-api-key", "a")], &[], ""),
            (authorization, &[], "no-store"),
            (cookie, &[], "no-store"),
            (&[("authorization", "")], &[], "no-store"),
            (authorization, &[("cache-control", "public, max-age=60")], "no-store"),
            (authorization, &[("cache-control", "public"), ("cache-control", "max-age=60")], "no-store"),
            (authorization, &[("cache-control", "no-cache")], "no-store"),
            (authorization, &[("cache-control", "")], "no-store"),
            // The handler's own, if it keeps shared caches away.
            (authorization, &[("cache-control", "private, max-age=60")], "private, max-age=60"),
            (cookie, &[("cache-control", "max-age=60 ,\tPRIVATE")], "max-age=60 ,\tPRIVATE"),
            (cookie, &[("cache-control", "No-Store")], "No-Store"),
            (cookie, &[("cache-control", "max-age=60"), ("cache-control", "private")], "max-age=60 | private"),
            (cookie, &[("cache-control", "a=\"b, c\", private")], "a=\"b, c\", private"),
            (cookie, &[("cache-control", "a=\"\\\"\", private")], "a=\"\\\"\", private"),
            // What only looks like it.
            (cookie, &[("cache-control", "x-private")], "no-store"),
            (cookie, &[("cache-control", "privates")], "no-store"),
            (cookie, &[("cache-control", "no-store-x, no store")], "no-store"),
            (cookie, &[("cache-control", "private=\"set-cookie\"")], "no-store"),
            (cookie, &[("cache-control", "a=\"b, private, c\"")], "no-store"),
            (cookie, &[("cache-control", "a=\"b\\\", private, c\"")], "no-store"),
            (cookie, &[("pragma", "no-cache")], "no-store"),
            // An answer that makes somebody known.
            (&[], &[("set-cookie", "a=b"), ("cache-control", "public")], "no-store"),
            (&[], &[("set-cookie", "a=b"), ("cache-control", "private")], "private"),
        ] {
            let headers = finished(request, answer);
            let values: Vec<_> = headers.get_all(CACHE_CONTROL).iter().map(|value| value.to_str().unwrap()).collect();
            assert_eq!(values.join(" | "), expected, "{request:?} {answer:?}");
        }
    }
}
