//! The decision: which credential do these request headers carry?

use std::{borrow::Cow, fmt, ops::Range};

use http::{HeaderMap, HeaderValue, Uri, header::AUTHORIZATION};
use percent_encoding::percent_decode_str;

use crate::{fetch::is_tchar, rejection::Rejection};

/// What a request brought along.
#[derive(Clone, Debug)]
pub enum Credential {
    /// Nothing, which optional mode lets pass.
    Absent,
    /// One bearer token, not checked yet.
    Bearer(BearerToken),
}

/// The text of a bearer token: a view of the header field, not a copy. Prints as `[redacted]`.
#[derive(Clone)]
pub struct BearerToken {
    field: HeaderValue,
    at: (usize, usize),
}

impl BearerToken {
    /// The token, in the grammar `1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`.
    pub fn as_bytes(&self) -> &[u8] {
        self.field.as_bytes().get(self.at.0..self.at.1).unwrap_or_default()
    }

    /// The token that stands there in a field, if it is in the grammar.
    pub(crate) fn within(field: &HeaderValue, at: Range<usize>) -> Option<Self> {
        let fits = field.as_bytes().get(at.clone()).is_some_and(is_b64token);
        fits.then(|| Self { field: field.clone(), at: (at.start, at.end) })
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Reads the one credential of a request.
///
/// [`Rejection::NoCredential`] and [`Rejection::OtherScheme`] say that there is none; every other refusal says that
/// there is one and it is bad.
pub(crate) fn read(headers: &HeaderMap, uri: &Uri) -> Result<BearerToken, Rejection> {
    let (field, start) = locate(headers, uri)?;
    BearerToken::within(field, start..field.len()).ok_or(Rejection::MalformedCredential)
}

/// As [`read`], without a look at the token's characters, and without keeping it. A gate that goes on to verify the token
/// calls this, and [`is_b64token`] only for a token that is no good: a good one has no other characters.
pub(crate) fn locate<'a>(headers: &'a HeaderMap, uri: &Uri) -> Result<(&'a HeaderValue, usize), Rejection> {
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let field = fields.next().ok_or(Rejection::NoCredential)?;
    // RFC 9110 §5.3: the field is a singleton. Which of two would a proxy in front have looked at?
    if fields.next().is_some() {
        return Err(Rejection::RepeatedCredential);
    }
    let start = token_start(field.as_bytes())?;
    if in_query(uri) {
        // A malformed token is told as such, whatever else is wrong.
        let well_formed = field.as_bytes().get(start..).is_some_and(is_b64token);
        return Err(if well_formed { Rejection::RepeatedCredential } else { Rejection::MalformedCredential });
    }
    Ok((field, start))
}

/// Offset of the token in `"Bearer" 1*SP b64token` (RFC 6750 §2.1), whose characters are not looked at.
fn token_start(field: &[u8]) -> Result<usize, Rejection> {
    // What nearly every client sends, before the grammar is asked.
    let plain = field.starts_with(b"Bearer ").then_some(b"Bearer".len());
    let scheme_end = plain.or_else(|| field.iter().position(|&byte| !is_tchar(byte))).unwrap_or(field.len());
    let (scheme, rest) = field.split_at_checked(scheme_end).ok_or(Rejection::MalformedCredential)?;
    if scheme.is_empty() || rest.first().is_some_and(|&byte| byte != b' ') {
        return Err(Rejection::MalformedCredential);
    }
    // RFC 9110 §11.1: scheme names ignore case.
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Err(Rejection::OtherScheme);
    }
    Ok(field.len() - rest.trim_ascii_start_spaces().len())
}

trait TrimSpaces {
    fn trim_ascii_start_spaces(&self) -> &Self;
}

impl TrimSpaces for [u8] {
    /// Drops U+0020 alone: a tab is no separator in this grammar.
    fn trim_ascii_start_spaces(&self) -> &Self {
        let spaces = self.iter().take_while(|&&byte| byte == b' ').count();
        self.get(spaces..).unwrap_or_default()
    }
}

#[expect(clippy::needless_bitwise_bool, reason = "a branch would keep the compiler from using vectors")]
pub(crate) fn is_b64token(token: &[u8]) -> bool {
    let padding = token.iter().rev().take_while(|&&byte| byte == b'=').count();
    let text = token.get(..token.len() - padding).unwrap_or_default();
    // Without a branch or an early exit, so that the compiler looks at many bytes at a time. `-` to `9` are minus, period,
    // slash and the digits; the bit that lower case has more is set for the range of letters.
    let allowed = |byte: u8| {
        let within = |byte: u8, first: u8, last: u8| byte.wrapping_sub(first) <= last - first;
        within(byte | 0x20, b'a', b'z') | within(byte, b'-', b'9') | (byte == b'+') | (byte == b'_') | (byte == b'~')
    };
    !text.is_empty() && text.iter().fold(0, |bad, &byte| bad | u8::from(!allowed(byte))) == 0
}

/// Whether the query has a parameter `access_token` (RFC 6750 §2.3).
pub(crate) fn in_query(uri: &Uri) -> bool {
    // Most have no query at all, and then there is nothing to take apart.
    uri.query().is_some_and(|query| {
        query.split('&').any(|pair| {
            let name = pair.split_once('=').map_or(pair, |(name, _)| name);
            let name =
                if name.contains('%') { Cow::from(percent_decode_str(name)) } else { Cow::from(name.as_bytes()) };
            *name == *b"access_token"
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn read_fields(fields: &[&[u8]], uri: &str) -> Result<String, Rejection> {
        let mut request = Request::get(uri);
        for field in fields {
            request = request.header(AUTHORIZATION, HeaderValue::from_bytes(field).unwrap());
        }
        let request = request.body(()).unwrap();
        read(request.headers(), request.uri()).map(|token| String::from_utf8(token.as_bytes().to_vec()).unwrap())
    }

    #[test]
    fn credential_grammar() {
        use Rejection::{MalformedCredential as Malformed, NoCredential, OtherScheme, RepeatedCredential as Repeated};
        type Row<'a> = (u16, &'a [&'a [u8]], &'a str, Result<&'a str, Rejection>);
        let rows: &[Row<'_>] = &[
            (1, &[b"Bearer a.b-c"], "/", Ok("a.b-c")),
            (2, &[b"Bearer aA0-._~+/=="], "/", Ok("aA0-._~+/==")),
            (2, &[b"Bearer"], "/", Err(Malformed)),
            (2, &[b"Bearer "], "/", Err(Malformed)),
            (2, &[b"Bearer =="], "/", Err(Malformed)),
            (2, &[b"Bearer a=b"], "/", Err(Malformed)),
            (2, &[b"Bearer a b"], "/", Err(Malformed)),
            (2, &[b"Bearer \"a\""], "/", Err(Malformed)),
            (2, &[b"Bearer token=a"], "/", Err(Malformed)),
            (2, &[b"Bearer \xff\xfe"], "/", Err(Malformed)),
            (2, &["Bearer é".as_bytes()], "/", Err(Malformed)),
            (3, &[b"bearer a"], "/", Ok("a")),
            (3, &[b"BEARER a"], "/", Ok("a")),
            (4, &[b"Bearer   a"], "/", Ok("a")),
            (4, &[b"Bearer\ta"], "/", Err(Malformed)),
            (4, &[b"Bearer \ta"], "/", Err(Malformed)),
            (4, &[b" Bearer a"], "/", Err(Malformed)),
            (4, &[b", Bearer a"], "/", Err(Malformed)),
            (4, &[b"Bearer a,"], "/", Err(Malformed)),
            (4, &[b"Bearer a "], "/", Err(Malformed)),
            (4, &[b"Bearer a, Bearer b"], "/", Err(Malformed)),
            (4, &[b""], "/", Err(Malformed)),
            (5, &[b"Bearer a"], "/?access_token=b", Err(Repeated)),
            (5, &[b"Bearer a"], "/?x=1&access%5ftoken=b", Err(Repeated)),
            (5, &[b"Bearer a"], "/?x=access_token&access_tokens=1", Ok("a")),
            (6, &[b"Bearer a", b"Bearer a"], "/", Err(Repeated)),
            (6, &[b"Basic YTpi", b"Bearer a"], "/", Err(Repeated)),
            (8, &[], "/?access_token=b", Err(NoCredential)),
            (12, &[], "/", Err(NoCredential)),
            (13, &[b"Basic YTpi"], "/", Err(OtherScheme)),
            (13, &[b"Digest username=\"a\", realm=\"b\""], "/", Err(OtherScheme)),
            (13, &[b"Bearera b"], "/", Err(OtherScheme)),
            (13, &[b"Negotiate"], "/", Err(OtherScheme)),
        ];
        for (req, fields, uri, expected) in rows {
            assert_eq!(read_fields(fields, uri).as_deref().map_err(|r| *r), *expected, "req {req}: {fields:?} {uri}");
        }
    }

    #[test]
    fn req_002_every_byte_that_a_token_may_have() {
        for byte in 0..=u8::MAX {
            let expected = byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
            for length in [1, 15, 40] {
                let token = [&vec![b'a'; length][..], &[byte], &[b'a'; 3]].concat();
                assert_eq!(is_b64token(&token), expected, "{byte}");
            }
        }
    }

    #[test]
    fn req_192_token_prints_redacted_and_shares_the_field() {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer s3cret"));
        let token = read(&headers, &Uri::from_static("/")).unwrap();
        assert_eq!(format!("{:?}", Credential::Bearer(token.clone())), "Bearer([redacted])");
        // A view: the bytes lie inside the header's own.
        assert_eq!(token.as_bytes().as_ptr_range().end, headers[AUTHORIZATION].as_bytes().as_ptr_range().end);
    }
}
