//! A token's text, taken apart: three base64url segments (RFC 7515 §7.1) and the protected header.

use base64_simd::{AsOut as _, URL_SAFE_NO_PAD};
use std::{borrow::Cow, mem::MaybeUninit};

use super::json::{self, Malformed, Member, Members, Value};
use crate::rejection::Rejection;

/// Levels that a header may nest.
const HEADER_DEPTH: u8 = 16;
/// Longest signature: that of RSA with 8,192 bits.
const MAX_SIGNATURE: usize = 1024;
/// Its length in base64url.
const MAX_SIGNATURE_TEXT: usize = (MAX_SIGNATURE * 4).div_ceil(3);

/// Room for a signature, of which only what was decoded is ever read.
pub(crate) type SignatureBuffer = [MaybeUninit<u8>; MAX_SIGNATURE];

pub(crate) const fn signature_buffer() -> SignatureBuffer {
    [MaybeUninit::uninit(); MAX_SIGNATURE]
}

/// `typ` of an access token (RFC 9068 §2.1).
pub(crate) const ACCESS_TOKEN: &str = "at+jwt";

/// What kind of token a header says that it belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum TokenType {
    /// An access token (RFC 9068 §2.1).
    Access,
    /// `JWT`, or nothing: any kind, access tokens of older issuers among them.
    Plain,
    /// Another kind, such as `logout+jwt`.
    Other,
}

/// A token in compact serialisation, cut at its two dots.
#[derive(Clone, Copy)]
pub(crate) struct Segments<'a> {
    pub(crate) header: &'a [u8],
    pub(crate) payload: &'a [u8],
    pub(crate) signature: &'a [u8],
    /// What the signature covers: header, dot, payload.
    pub(crate) signed: &'a [u8],
}

impl<'a> Segments<'a> {
    /// Cuts `token`. Two, four and five parts, and an empty one, are refused.
    pub(crate) fn split(token: &'a [u8]) -> Result<Self, Rejection> {
        const PARTS: Rejection = Rejection::MalformedToken("not three segments");
        let mut dots = memchr::memchr_iter(b'.', token);
        let (Some(first), Some(second), None) = (dots.next(), dots.next(), dots.next()) else {
            return Err(PARTS);
        };
        let (signed, signature) = token.split_at_checked(second).ok_or(PARTS)?;
        let (header, payload) = signed.split_at_checked(first).ok_or(PARTS)?;
        let (Some((_, payload)), Some((_, signature))) = (payload.split_first(), signature.split_first()) else {
            return Err(PARTS);
        };
        if header.is_empty() || payload.is_empty() || signature.is_empty() {
            return Err(Rejection::MalformedToken("a segment is empty"));
        }
        Ok(Self { header, payload, signature, signed })
    }

    /// Decodes the signature into `buffer`.
    pub(crate) fn decode_signature<'b>(&self, buffer: &'b mut SignatureBuffer) -> Result<&'b [u8], Rejection> {
        if self.signature.len() > MAX_SIGNATURE_TEXT {
            return Err(Rejection::BadSignature);
        }
        match URL_SAFE_NO_PAD.decode(self.signature, buffer.as_mut_slice().as_out()) {
            Ok(signature) => Ok(signature),
            Err(_) => Err(NOT_BASE64),
        }
    }
}

const NOT_BASE64: Rejection = Rejection::MalformedToken("not base64url without padding");

/// Decodes a segment that must be UTF-8 (RFC 8725 §3.7). Padding, other alphabets, white space and trailing non-zero
/// bits are refused (RFC 7515 §2): one text, one meaning.
pub(crate) fn decode_text(segment: &[u8]) -> Result<String, Rejection> {
    let bytes = URL_SAFE_NO_PAD.decode_to_vec(segment).map_err(|_| NOT_BASE64)?;
    String::from_utf8(bytes).map_err(|_| Rejection::MalformedToken("not UTF-8"))
}

/// The protected header's members that matter. `jku`, `x5u`, `x5c` and `jwk` are never looked at: keys come from
/// configuration alone.
#[derive(Debug, Default)]
pub(crate) struct Header<'a> {
    pub(crate) alg: Cow<'a, str>,
    pub(crate) kid: Option<Cow<'a, str>>,
    pub(crate) typ: Option<Cow<'a, str>>,
    refused: Option<&'static str>,
}

impl<'a> Header<'a> {
    /// Parses a decoded header.
    pub(crate) fn parse(text: &'a str) -> Result<Self, Rejection> {
        let mut header = Self::default();
        json::read_object(text, HEADER_DEPTH, &mut header).map_err(Rejection::MalformedToken)?;
        match header.refused {
            Some(name) => Err(Rejection::HeaderRefused(name)),
            None if header.alg.is_empty() => Err(Rejection::MalformedToken("no algorithm")),
            None => Ok(header),
        }
    }

    /// What kind of token it says to be (RFC 9068 §2.1).
    pub(crate) fn token_type(&self) -> TokenType {
        if self.is_type(ACCESS_TOKEN) {
            TokenType::Access
        } else if self.typ.is_none() || self.is_type("JWT") {
            TokenType::Plain
        } else {
            TokenType::Other
        }
    }

    /// Whether `typ` is `expected`, case and a leading `application/` aside (RFC 7515 §4.1.9).
    pub(crate) fn is_type(&self, expected: &str) -> bool {
        const PREFIX: &str = "application/";
        self.typ.as_deref().is_some_and(|typ| {
            let prefixed = typ.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX));
            let short = if prefixed { typ.get(PREFIX.len()..).unwrap_or_default() } else { typ };
            short.eq_ignore_ascii_case(expected)
        })
    }
}

impl<'a> Members<'a> for Header<'a> {
    fn member(&mut self, name: &str, value: Value<'_, 'a>) -> Result<Member, Malformed> {
        let mut refuse = |name, value: Value<'_, '_>| {
            self.refused = Some(name);
            value.skip().map(|()| Member::Other)
        };
        match name {
            "alg" => self.alg = value.string()?,
            "kid" => self.kid = Some(value.string()?),
            "typ" => self.typ = Some(value.string()?),
            // RFC 7515 §4.1.11: an extension that must be understood is not; RFC 7797: payload as it stands;
            // RFC 7516 §4.1.3: compressed.
            "crit" => return refuse("crit", value),
            "b64" => return refuse("b64", value),
            "zip" => return refuse("zip", value),
            _ => value.skip()?,
        }
        Ok(Member::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn req_080_exactly_three_segments() {
        for (token, good) in [
            ("a.b.c", true),
            ("a.b", false),
            ("a.b.c.d", false),
            ("a.b.c.d.e", false),
            ("a", false),
            ("", false),
            ("..", false),
            ("a.b.", false),
            ("a..c", false),
            (".b.c", false),
        ] {
            assert_eq!(Segments::split(token.as_bytes()).is_ok(), good, "{token:?}");
        }
        let segments = Segments::split(b"aa.bbb.c").unwrap();
        assert_eq!((segments.header, segments.payload, segments.signature), (&b"aa"[..], &b"bbb"[..], &b"c"[..]));
        assert_eq!(segments.signed, b"aa.bbb");
    }

    #[test]
    fn req_079_base64url_is_strict() {
        assert_eq!(decode_text(b"e30").unwrap(), "{}");
        assert_eq!(decode_text(b"Pz8_").unwrap(), "???");
        for bad in ["e30=", "e3 0", "e30\n", "e31", "Pz8/", "e30+", "e", "é"] {
            assert!(decode_text(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert_eq!(decode_text(b"_w"), Err(Rejection::MalformedToken("not UTF-8")), "req 65");
    }

    #[test]
    fn header_parameters() {
        let bad = [
            (60, "{}"),
            (60, r#"{"alg":null}"#),
            (60, r#"{"alg":1}"#),
            (60, r#"{"alg":["HS256"]}"#),
            (60, r#"{"alg":""}"#),
            (73, r#"{"alg":"HS256","alg":"HS256"}"#),
            (73, r#"{"alg":"HS256","al\u0067":"none"}"#),
            (76, r#"{"alg":"HS256","kid":1}"#),
            (76, r#"{"alg":"HS256","typ":null}"#),
            (78, r#"{"alg":"HS256","crit":["exp"]}"#),
            (78, r#"{"alg":"HS256","crit":[]}"#),
            (78, r#"{"alg":"HS256","crit":null}"#),
            (78, r#"{"alg":"HS256","crit":["alg"]}"#),
            (78, r#"{"alg":"HS256","b64":true}"#),
            (78, r#"{"alg":"HS256","b64":false,"crit":["b64"]}"#),
            (64, r#"{"alg":"HS256","zip":"DEF"}"#),
        ];
        for (req, text) in bad {
            assert!(Header::parse(text).is_err(), "req {req}: {text}");
        }
        let good = r#"{"jwk":{"k":"AA"},"jku":"https://evil.example","x5c":["AA"],"x5u":"x","alg":"HS256","kid":"k"}"#;
        assert_eq!(Header::parse(good).unwrap().kid.as_deref(), Some("k"), "req 69");
    }

    #[test]
    fn req_070_req_094_type() {
        for (typ, good) in [
            ("at+jwt", true),
            ("AT+JWT", true),
            ("application/at+jwt", true),
            ("Application/At+Jwt", true),
            ("JWT", false),
            ("at+jwt ", false),
            ("application/", false),
            ("text/at+jwt", false),
            ("application/application/at+jwt", false),
            ("", false),
        ] {
            let text = format!(r#"{{"alg":"x","typ":"{typ}"}}"#);
            assert_eq!(Header::parse(&text).unwrap().is_type("at+jwt"), good, "{typ:?}");
        }
        assert!(!Header::parse(r#"{"alg":"x"}"#).unwrap().is_type("at+jwt"));
        for (typ, expected) in [
            (r#","typ":"at+jwt""#, TokenType::Access),
            (r#","typ":"JWT""#, TokenType::Plain),
            (r#","typ":"application/jwt""#, TokenType::Plain),
            ("", TokenType::Plain),
            (r#","typ":"""#, TokenType::Other),
            (r#","typ":"logout+jwt""#, TokenType::Other),
            (r#","typ":"dpop+jwt""#, TokenType::Other),
        ] {
            let text = format!(r#"{{"alg":"x"{typ}}}"#);
            assert_eq!(Header::parse(&text).unwrap().token_type(), expected, "{typ}");
        }
    }
}
