//! What caches are told of an answer that is for one caller alone.

use http::{
    HeaderMap, HeaderValue,
    header::{CACHE_CONTROL, VARY},
};

/// Keeps an answer out of caches that several people share. What the handler says stands if it does so; anything else is replaced.
///
/// A cookie needs this, and an `Authorization` field does not: the latter keeps an answer out by itself (RFC 9111 §3.5).
pub(crate) fn keep_private(headers: &mut HeaderMap) {
    // `private="set-cookie"` keeps that one field out and no more (RFC 9111 §5.2.2.7).
    let keeps = |name: &[u8]| name.eq_ignore_ascii_case(b"no-store") || name.eq_ignore_ascii_case(b"private");
    if !headers.get_all(CACHE_CONTROL).iter().any(|field| elements(field.as_bytes()).any(keeps)) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}

/// Says that the answer depends on the request fields that `names` lists, unless that is said already.
pub(crate) fn vary(headers: &mut HeaderMap, names: &HeaderValue) {
    let said = |name: &[u8]| {
        let covers = |other: &[u8]| other == b"*" || other.eq_ignore_ascii_case(name);
        headers.get_all(VARY).iter().any(|field| elements(field.as_bytes()).any(covers))
    };
    if !elements(names.as_bytes()).all(said) {
        headers.append(VARY, names.clone());
    }
}

/// Elements of a list (RFC 9110 §5.6.1). A comma within a quoted string ends none.
fn elements(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    let ends = move |&byte: &u8| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' => return !quoted,
            _ => {}
        }
        false
    };
    field.split(ends).map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a [u8]> {
        headers.get_all(name).iter().map(HeaderValue::as_bytes).collect()
    }

    #[test]
    fn req_139_what_the_handler_says_stands_if_it_keeps_the_answer_out_of_shared_caches() {
        for (given, stands) in [
            (&[][..], false),
            (&["no-store"], true),
            (&["private"], true),
            (&["Private, max-age=60"], true),
            (&["max-age=60,NO-STORE"], true),
            (&["max-age=60", "\tprivate "], true),
            (&["no-cache"], false),
            (&["public, max-age=60"], false),
            (&["private=\"set-cookie\""], false),
            (&["no-store=1"], false),
            (&["x-private, no-storer"], false),
            (&["max-age=60 private"], false),
            (&["ext=\"a, no-store, b\""], false),
            (&["ext=\"a\\\", no-store, b\""], false),
            (&["ext=\"a\\\\\", no-store"], true),
            (&["ext=\"a, no-store"], false),
            (&["\u{e9}, private"], true),
            (&[""], false),
        ] {
            let mut headers = HeaderMap::new();
            for field in given {
                headers.append(CACHE_CONTROL, HeaderValue::from_bytes(field.as_bytes()).unwrap());
            }
            keep_private(&mut headers);
            let expected = if stands { given } else { &["no-store"] };
            let expected: Vec<_> = expected.iter().map(|field| field.as_bytes()).collect();
            assert_eq!(all(&headers, "cache-control"), expected, "{given:?}");
        }
    }

    #[test]
    fn req_139_req_150_vary_names_each_field_once() {
        for (given, names, added) in [
            (&[][..], "cookie", true),
            (&["Cookie"], "cookie", false),
            (&["accept, COOKIE"], "cookie", false),
            (&["accept", "cookie"], "cookie", false),
            (&["*"], "cookie", false),
            (&["accept, *"], "cookie", false),
            (&["cookies, x-cookie"], "cookie", true),
            (&["origin"], "origin, access-control-request-method", true),
            (&["access-control-request-method,origin"], "origin, access-control-request-method", false),
        ] {
            let mut headers = HeaderMap::new();
            for field in given {
                headers.append(VARY, HeaderValue::from_static(field));
            }
            vary(&mut headers, &HeaderValue::from_static(names));
            let expected: Vec<_> = given.iter().copied().chain(added.then_some(names)).map(str::as_bytes).collect();
            assert_eq!(all(&headers, "vary"), expected, "{given:?}");
        }
    }
}
