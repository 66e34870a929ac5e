//! What caches are told of an answer.

use http::{HeaderMap, HeaderValue, header::VARY};

/// Adds the name of a request header to those that an answer varies on, unless it is there already or all are.
pub(crate) fn vary(headers: &mut HeaderMap, name: &HeaderValue) {
    let named = |token: &[u8]| token == b"*" || token.eq_ignore_ascii_case(name.as_bytes());
    let tokens =
        |field: &HeaderValue| field.as_bytes().split(|&byte| byte == b',').any(|token| named(token.trim_ascii()));
    if !headers.get_all(VARY).iter().any(tokens) {
        headers.append(VARY, name.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn req_150_what_an_answer_varies_on_is_said_once() {
        for (before, after) in [
            (&[][..], &["origin"][..]),
            (&["cookie"], &["cookie", "origin"]),
            (&["origin"], &["origin"]),
            (&["accept, Origin ,cookie"], &["accept, Origin ,cookie"]),
            (&["accept", "ORIGIN"], &["accept", "ORIGIN"]),
            (&["*"], &["*"]),
            (&["x-origin"], &["x-origin", "origin"]),
        ] {
            let mut headers = HeaderMap::new();
            before.iter().for_each(|value| drop(headers.append(VARY, HeaderValue::from_static(value))));
            vary(&mut headers, &HeaderValue::from_static("origin"));
            let values: Vec<_> = headers.get_all(VARY).iter().map(|value| value.to_str().unwrap()).collect();
            assert_eq!(values, after);
        }
    }
}
