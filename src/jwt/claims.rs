//! The registered claims of a token (RFC 7519 §4.1, RFC 9068 §2.2), read once and kept beside their text.

use std::{borrow::Cow, num::NonZeroU32};

use super::json::{self, Malformed, Member, Members, Number};
use crate::{clock::UnixSeconds, rejection::Rejection, revocation::TokenNames};

/// Largest number of seconds that a JSON number carries without loss: 2^53.
const MAX_SECONDS: u64 = 1 << 53;

/// A string claim: where it stands in the text. Four bytes each, because tokens are shorter than 64 KiB; a string ends
/// behind its opening quote, so never at 0.
#[derive(Clone, Copy)]
struct Span {
    start: u32,
    end: NonZeroU32,
}

/// `aud`: one, as most issuers write it, or a list (RFC 7519 §4.1.3).
enum Audience {
    One(Span),
    Many(Vec<Span>),
}

impl Audience {
    fn as_slice(&self) -> &[Span] {
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
    audience: Option<Audience>,
    subject: Option<Span>,
    client_id: Option<Span>,
    token_id: Option<Span>,
    session_id: Option<Span>,
    scope: Option<Span>,
    /// There is a `scope`, and it is no string. Whether that may be is for the issuer's policy to say.
    pub(super) has_other_scope: bool,
    pub(crate) expires_at: UnixSeconds,
    pub(crate) not_before: Option<UnixSeconds>,
    pub(crate) issued_at: Option<UnixSeconds>,
    pub(crate) auth_time: Option<UnixSeconds>,
}

impl RegisteredClaims {
    /// Reads a payload, nested `depth` levels at most. `iss` and `exp` must be there; what is there must have
    /// its type, but for `scope`.
    pub(crate) fn parse(payload: String, depth: u8) -> Result<Self, Rejection> {
        let mut raw = Raw::of(&payload);
        json::read_object(&payload, depth, &mut raw)
            .map_err(|reason| raw.malformed.map_or(Rejection::MalformedToken(reason), Rejection::ClaimMalformed))?;
        let unescaped = raw.unescaped;
        let mut claims = Self {
            issuer: raw.issuer.ok_or(Rejection::ClaimMissing("iss"))?,
            audience: raw.audience,
            expires_at: raw.expires_at.ok_or(Rejection::ClaimMissing("exp"))?,
            subject: raw.subject,
            client_id: raw.client_id,
            token_id: raw.token_id,
            session_id: raw.session_id,
            scope: raw.scope,
            has_other_scope: raw.has_other_scope,
            not_before: raw.not_before,
            issued_at: raw.issued_at,
            auth_time: raw.auth_time,
            payload_length: payload.len(),
            text: payload,
        };
        if !unescaped.is_empty() {
            claims.text.push_str(&unescaped);
        }
        Ok(claims)
    }

    fn text(&self, span: Span) -> &str {
        self.text.get(span.start as usize..span.end.get() as usize).unwrap_or_default()
    }

    /// The whole payload, as it was signed.
    pub(crate) fn payload(&self) -> &str {
        self.text.get(..self.payload_length).unwrap_or_default()
    }

    pub(crate) fn issuer(&self) -> &str {
        self.text(self.issuer)
    }

    pub(crate) fn audience(&self) -> impl Iterator<Item = &str> {
        self.audience.iter().flat_map(Audience::as_slice).map(|span| self.text(*span))
    }

    pub(crate) const fn has_audience(&self) -> bool {
        self.audience.is_some()
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

    /// What it may be called back by.
    pub(super) fn names(&self) -> TokenNames<'_> {
        TokenNames {
            id: self.token_id(),
            session: self.session_id(),
            subject: self.subject().unwrap_or_default(),
            issued_at: self.issued_at,
        }
    }

    pub(crate) fn session_id(&self) -> Option<&str> {
        self.session_id.map(|span| self.text(span))
    }

    pub(crate) fn scope(&self) -> Option<&str> {
        self.scope.map(|span| self.text(span))
    }
}

/// Claims as they are read, before it is known which are missing.
struct Raw<'p> {
    payload: &'p str,
    /// Strings that the payload spells with escapes, one behind the other.
    unescaped: String,
    issuer: Option<Span>,
    audience: Option<Audience>,
    subject: Option<Span>,
    client_id: Option<Span>,
    token_id: Option<Span>,
    session_id: Option<Span>,
    scope: Option<Span>,
    has_other_scope: bool,
    expires_at: Option<UnixSeconds>,
    not_before: Option<UnixSeconds>,
    issued_at: Option<UnixSeconds>,
    auth_time: Option<UnixSeconds>,
    /// Registered claim that was being read; it is the malformed one if reading stops there.
    malformed: Option<&'static str>,
}

impl<'p> Raw<'p> {
    const fn of(payload: &'p str) -> Self {
        Self {
            payload,
            unescaped: String::new(),
            issuer: None,
            audience: None,
            subject: None,
            client_id: None,
            token_id: None,
            session_id: None,
            scope: None,
            has_other_scope: false,
            expires_at: None,
            not_before: None,
            issued_at: None,
            auth_time: None,
            malformed: None,
        }
    }

    fn span(&mut self, text: Cow<'_, str>) -> Result<Span, Malformed> {
        let length = text.len();
        let start = match text {
            Cow::Borrowed(text) => text.as_ptr().addr() - self.payload.as_ptr().addr(),
            Cow::Owned(text) => {
                self.unescaped.push_str(&text);
                self.payload.len() + self.unescaped.len() - length
            }
        };
        let place = |at: usize| u32::try_from(at).ok();
        let span = place(start).zip(place(start + length).and_then(NonZeroU32::new));
        span.map(|(start, end)| Span { start, end }).ok_or("too long")
    }

    fn string(&mut self, value: json::Value<'_, '_>) -> Result<Span, Malformed> {
        self.span(value.string()?)
    }

    fn audience(&mut self, value: json::Value<'_, '_>) -> Result<Audience, Malformed> {
        if value.is_array() {
            let audiences = value.strings()?;
            audiences.into_iter().map(|audience| self.span(audience)).collect::<Result<_, _>>().map(Audience::Many)
        } else {
            self.string(value).map(Audience::One)
        }
    }
}

impl<'a> Members<'a> for Raw<'_> {
    fn member(&mut self, name: &str, value: json::Value<'_, 'a>) -> Result<Member, Malformed> {
        macro_rules! take {
            ($number:literal, $name:literal, $field:ident, $read:expr) => {{
                self.malformed = Some($name);
                self.$field = Some($read);
                $number
            }};
        }
        let number = match name {
            "iss" => take!(0, "iss", issuer, self.string(value)?),
            "sub" => take!(1, "sub", subject, self.string(value)?),
            "aud" => take!(2, "aud", audience, self.audience(value)?),
            "exp" => take!(3, "exp", expires_at, seconds(&value.number()?, f64::floor)?),
            // Rounded up: whole seconds of `now` have reached a fraction of a second only when they reach the next.
            "nbf" => take!(4, "nbf", not_before, seconds(&value.number()?, f64::ceil)?),
            "iat" => take!(5, "iat", issued_at, seconds(&value.number()?, f64::floor)?),
            "auth_time" => take!(6, "auth_time", auth_time, seconds(&value.number()?, f64::floor)?),
            "jti" => take!(7, "jti", token_id, self.string(value)?),
            "client_id" => take!(8, "client_id", client_id, self.string(value)?),
            "sid" => take!(9, "sid", session_id, self.string(value)?),
            "scope" if value.is_string() => take!(10, "scope", scope, self.string(value)?),
            "scope" => {
                self.has_other_scope = true;
                value.skip()?;
                10
            }
            _ => return value.skip().map(|()| Member::Other),
        };
        self.malformed = None;
        Ok(Member::Own(number))
    }
}

/// A JSON number of seconds, possibly fractional, from 0 to 2^53 (RFC 7519 §2).
fn seconds(number: &Number<'_>, round: impl FnOnce(f64) -> f64) -> Result<UnixSeconds, Malformed> {
    const OUT_OF_RANGE: Malformed = "number out of range";
    if let Some(seconds) = number.whole {
        return if seconds <= MAX_SECONDS { Ok(UnixSeconds::new(seconds)) } else { Err(OUT_OF_RANGE) };
    }
    // A fraction, an exponent, a sign, or too many digits. The sign is looked at before rounding can drop it.
    let seconds: f64 = number.spelt.parse().map_err(|_| OUT_OF_RANGE)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "in range"
    )]
    if (0.0..MAX_SECONDS as f64).contains(&seconds) {
        Ok(UnixSeconds::new(round(seconds) as u64))
    } else {
        Err(OUT_OF_RANGE)
    }
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
        for nbf in ["-0.5", "-1", "-0.0000001", "-1e-9"] {
            assert!(parse(&format!(r#"{{"iss":"i","aud":"a","exp":2,"nbf":{nbf}}}"#)).is_err(), "{nbf}");
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
            (r#"{"iss":"i","aud":"a"}"#, Rejection::ClaimMissing("exp")),
            (r#"{"iss":"i","aud":"a","exp":"1"}"#, Rejection::ClaimMalformed("exp")),
            (r#"{"iss":1}"#, Rejection::ClaimMalformed("iss")),
            (r#"{"sub":null}"#, Rejection::ClaimMalformed("sub")),
            (r#"{"scope":["a"],"scope":"a"}"#, Rejection::MalformedToken("a member is named twice")),
            (r#"{"scope":"a","scope":["a"]}"#, Rejection::MalformedToken("a member is named twice")),
            (r#"{"scope":[01]}"#, Rejection::MalformedToken("not a JSON object")),
            (r#"{"iss":"i","iss":"i"}"#, Rejection::MalformedToken("a member is named twice")),
        ] {
            assert_eq!(parse(text).err(), Some(expected), "{text}");
        }
    }

    #[test]
    fn a_scope_that_is_no_string_is_noted() {
        for (scope, other) in [(r#""a""#, false), (r#"["a"]"#, true), ("null", true), ("1", true), (r#"{"a":1}"#, true)]
        {
            let claims = parse(&format!(r#"{{"iss":"i","exp":1,"scope":{scope}}}"#)).unwrap();
            assert_eq!((claims.has_other_scope, claims.scope().is_none()), (other, other), "{scope}");
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
