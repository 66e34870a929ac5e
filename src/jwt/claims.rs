//! The registered claims of a token (RFC 7519 §4.1, RFC 9068 §2.2), read once and kept beside their text.

use std::borrow::Cow;

use super::json::{self, Malformed, Members};
use crate::{clock::UnixSeconds, rejection::Rejection};

/// Largest number of seconds that a JSON number carries without loss: 2^53.
const MAX_SECONDS: u64 = 1 << 53;

/// A string claim: where it stands in the text. Four bytes each, because tokens are shorter than 64 KiB.
#[derive(Clone, Copy)]
struct Span {
    start: u32,
    end: u32,
}

/// `aud`: one, as most issuers write it, or a list (RFC 7519 §4.1.3).
#[derive(Clone)]
enum Audience<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> Audience<T> {
    fn map<U>(self, mut with: impl FnMut(T) -> U) -> Audience<U> {
        match self {
            Self::One(audience) => Audience::One(with(audience)),
            Self::Many(audiences) => Audience::Many(audiences.into_iter().map(with).collect()),
        }
    }

    fn as_slice(&self) -> &[T] {
        match self {
            Self::One(audience) => std::slice::from_ref(audience),
            Self::Many(audiences) => audiences,
        }
    }
}

/// The registered claims, whatever their values: nothing here has been checked against a policy.
pub(crate) struct RegisteredClaims {
    /// The payload, and behind it those strings that it spells with escapes.
    text: String,
    payload_length: usize,
    issuer: Span,
    audience: Audience<Span>,
    subject: Option<Span>,
    client_id: Option<Span>,
    token_id: Option<Span>,
    session_id: Option<Span>,
    scope: Option<Span>,
    pub(crate) expires_at: UnixSeconds,
    pub(crate) not_before: Option<UnixSeconds>,
    pub(crate) issued_at: Option<UnixSeconds>,
    pub(crate) auth_time: Option<UnixSeconds>,
}

impl RegisteredClaims {
    /// Reads a payload, nested `depth` levels at most. `iss`, `aud` and `exp` must be there; what is there must have
    /// its type.
    pub(crate) fn parse(payload: String, depth: u8) -> Result<Self, Rejection> {
        let mut raw = Raw::default();
        json::read_object(&payload, depth, &mut raw)
            .map_err(|reason| raw.malformed.map_or(Rejection::MalformedToken(reason), Rejection::ClaimMalformed))?;
        let payload_length = payload.len();
        let mut unescaped = String::new();
        let mut keep = |text: Cow<'_, str>| {
            let start = match &text {
                Cow::Borrowed(text) => text.as_ptr().addr() - payload.as_ptr().addr(),
                Cow::Owned(text) => {
                    unescaped.push_str(text);
                    payload_length + unescaped.len() - text.len()
                }
            };
            let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
            Span { start: place(start), end: place(start + text.len()) }
        };
        let mut claims = Self {
            issuer: keep(raw.issuer.ok_or(Rejection::ClaimMissing("iss"))?),
            audience: raw.audience.ok_or(Rejection::ClaimMissing("aud"))?.map(&mut keep),
            expires_at: raw.expires_at.ok_or(Rejection::ClaimMissing("exp"))?,
            subject: raw.subject.map(&mut keep),
            client_id: raw.client_id.map(&mut keep),
            token_id: raw.token_id.map(&mut keep),
            session_id: raw.session_id.map(&mut keep),
            scope: raw.scope.map(&mut keep),
            not_before: raw.not_before,
            issued_at: raw.issued_at,
            auth_time: raw.auth_time,
            payload_length,
            text: String::new(),
        };
        claims.text = payload;
        claims.text.push_str(&unescaped);
        Ok(claims)
    }

    fn text(&self, span: Span) -> &str {
        self.text.get(span.start as usize..span.end as usize).unwrap_or_default()
    }

    /// The whole payload, as it was signed.
    pub(crate) fn payload(&self) -> &str {
        self.text.get(..self.payload_length).unwrap_or_default()
    }

    pub(crate) fn issuer(&self) -> &str {
        self.text(self.issuer)
    }

    pub(crate) fn audience(&self) -> impl Iterator<Item = &str> {
        self.audience.as_slice().iter().map(|span| self.text(*span))
    }

    pub(crate) fn subject(&self) -> Option<&str> {
        self.subject.map(|span| self.text(span))
    }

    pub(crate) fn client_id(&self) -> Option<&str> {
        self.client_id.map(|span| self.text(span))
    }

    pub(crate) fn token_id(&self) -> Option<&str> {
        self.token_id.map(|span| self.text(span))
    }

    pub(crate) fn session_id(&self) -> Option<&str> {
        self.session_id.map(|span| self.text(span))
    }

    pub(crate) fn scope(&self) -> Option<&str> {
        self.scope.map(|span| self.text(span))
    }
}

/// Claims as they are read, before it is known which are missing.
#[derive(Default)]
struct Raw<'de> {
    issuer: Option<Cow<'de, str>>,
    audience: Option<Audience<Cow<'de, str>>>,
    subject: Option<Cow<'de, str>>,
    client_id: Option<Cow<'de, str>>,
    token_id: Option<Cow<'de, str>>,
    session_id: Option<Cow<'de, str>>,
    scope: Option<Cow<'de, str>>,
    expires_at: Option<UnixSeconds>,
    not_before: Option<UnixSeconds>,
    issued_at: Option<UnixSeconds>,
    auth_time: Option<UnixSeconds>,
    /// Registered claim that was being read; it is the malformed one if reading stops there.
    malformed: Option<&'static str>,
}

impl<'a> Members<'a> for Raw<'a> {
    fn member(&mut self, name: &str, value: json::Value<'_, 'a>) -> Result<(), Malformed> {
        macro_rules! take {
            ($name:literal, $field:ident, $read:expr) => {{
                self.malformed = Some($name);
                self.$field = Some($read);
            }};
        }
        match name {
            "iss" => take!("iss", issuer, value.string()?),
            "sub" => take!("sub", subject, value.string()?),
            "aud" if value.is_array() => take!("aud", audience, Audience::Many(value.strings()?)),
            "aud" => take!("aud", audience, Audience::One(value.string()?)),
            "exp" => take!("exp", expires_at, seconds(value.number()?, f64::floor)?),
            // Rounded up: whole seconds of `now` have reached a fraction of a second only when they reach the next.
            "nbf" => take!("nbf", not_before, seconds(value.number()?, f64::ceil)?),
            "iat" => take!("iat", issued_at, seconds(value.number()?, f64::floor)?),
            "auth_time" => take!("auth_time", auth_time, seconds(value.number()?, f64::floor)?),
            "jti" => take!("jti", token_id, value.string()?),
            "client_id" => take!("client_id", client_id, value.string()?),
            "sid" => take!("sid", session_id, value.string()?),
            "scope" => take!("scope", scope, value.string()?),
            _ => value.skip()?,
        }
        self.malformed = None;
        Ok(())
    }
}

/// A JSON number of seconds, possibly fractional, from 0 to 2^53 (RFC 7519 §2).
fn seconds(number: &str, round: impl FnOnce(f64) -> f64) -> Result<UnixSeconds, Malformed> {
    const OUT_OF_RANGE: Malformed = "number out of range";
    if let Ok(seconds) = number.parse() {
        return if seconds <= MAX_SECONDS { Ok(UnixSeconds::new(seconds)) } else { Err(OUT_OF_RANGE) };
    }
    // A fraction, an exponent, a sign, or too many digits.
    let seconds = round(number.parse().map_err(|_| OUT_OF_RANGE)?);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "in range"
    )]
    if (0.0..MAX_SECONDS as f64).contains(&seconds) { Ok(UnixSeconds::new(seconds as u64)) } else { Err(OUT_OF_RANGE) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<RegisteredClaims, Rejection> {
        RegisteredClaims::parse(text.to_owned(), 16)
    }

    #[test]
    fn req_076_numeric_dates() {
        for (exp, expected) in [
            ("0", Some(0)),
            ("1300819380", Some(1_300_819_380)),
            ("1300819380.9", Some(1_300_819_380)),
            ("1.3e9", Some(1_300_000_000)),
            ("9007199254740992", Some(1 << 53)),
            ("9007199254740993", None),
            ("1e300", None),
            ("1e999", None),
            ("-1", None),
            ("-0.5", None),
            ("18446744073709551615", None),
            ("18446744073709551616", None),
            ("\"1300819380\"", None),
            ("null", None),
            ("true", None),
            ("[1]", None),
            ("{}", None),
            ("NaN", None),
            ("Infinity", None),
        ] {
            let claims = parse(&format!(r#"{{"iss":"i","aud":"a","exp":{exp}}}"#));
            assert_eq!(claims.ok().map(|claims| claims.expires_at.get()), expected, "{exp}");
        }
        let claims = parse(r#"{"iss":"i","aud":"a","exp":2,"nbf":1.1,"iat":1.1}"#).unwrap();
        assert_eq!(claims.not_before, Some(UnixSeconds::new(2)), "not valid before the second is over");
        assert_eq!(claims.issued_at, Some(UnixSeconds::new(1)));
    }

    #[test]
    fn req_077_audience_is_a_string_or_an_array() {
        for (aud, expected) in [
            (r#""a""#, Some(vec!["a"])),
            (r#"["a","b"]"#, Some(vec!["a", "b"])),
            (r#"["\u0061"]"#, Some(vec!["a"])),
            ("[]", Some(vec![])),
            ("null", None),
            ("1", None),
            (r#"["a",1]"#, None),
            (r#"[["a"]]"#, None),
            (r#"{"a":1}"#, None),
        ] {
            let claims = parse(&format!(r#"{{"iss":"i","aud":{aud},"exp":1}}"#)).ok();
            assert_eq!(claims.as_ref().map(|claims| claims.audience().collect::<Vec<_>>()), expected, "{aud}");
        }
    }

    #[test]
    fn a_refusal_names_the_claim() {
        for (text, expected) in [
            (r#"{"aud":"a","exp":1}"#, Rejection::ClaimMissing("iss")),
            (r#"{"iss":"i","exp":1}"#, Rejection::ClaimMissing("aud")),
            (r#"{"iss":"i","aud":"a"}"#, Rejection::ClaimMissing("exp")),
            (r#"{"iss":"i","aud":"a","exp":"1"}"#, Rejection::ClaimMalformed("exp")),
            (r#"{"iss":1}"#, Rejection::ClaimMalformed("iss")),
            (r#"{"sub":null}"#, Rejection::ClaimMalformed("sub")),
            (r#"{"scope":["a"]}"#, Rejection::ClaimMalformed("scope")),
            (r#"{"iss":"i","iss":"i"}"#, Rejection::MalformedToken("a member is named twice")),
        ] {
            assert_eq!(parse(text).err(), Some(expected), "{text}");
        }
    }

    #[test]
    fn strings_are_found_again_in_the_payload() {
        let text = r#"{"scope":"me items","iss":"i\u002f","sub":"é","aud":["x","\u0061"],"exp":1,"sid":""}"#;
        let claims = parse(text).unwrap();
        assert_eq!((claims.issuer(), claims.subject()), ("i/", Some("é")));
        assert_eq!((claims.audience().collect::<Vec<_>>(), claims.payload()), (vec!["x", "a"], text));
        assert_eq!((claims.scope(), claims.session_id(), claims.token_id()), (Some("me items"), Some(""), None));
    }
}
