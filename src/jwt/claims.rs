//! The registered claims of a token (RFC 7519 §4.1, RFC 9068 §2.2), read once and kept beside their text.

use std::{borrow::Cow, fmt, ops::Range};

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::json::{self, Members, Text};
use crate::{clock::UnixSeconds, rejection::Rejection};

/// Largest number of seconds that a JSON number carries without loss: 2^53.
const MAX_SECONDS: u64 = 1 << 53;

/// A string claim: a range of the payload, or its own text where the payload spells it with escapes.
#[derive(Clone)]
enum Value {
    Range(Range<usize>),
    Owned(Box<str>),
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
    payload: String,
    issuer: Value,
    audience: Audience<Value>,
    subject: Option<Value>,
    client_id: Option<Value>,
    token_id: Option<Value>,
    session_id: Option<Value>,
    scope: Option<Value>,
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
        let keep = |text: Cow<'_, str>| match text {
            Cow::Borrowed(text) => {
                let start = text.as_ptr().addr() - payload.as_ptr().addr();
                Value::Range(start..start + text.len())
            }
            Cow::Owned(text) => Value::Owned(text.into()),
        };
        Ok(Self {
            issuer: keep(raw.issuer.ok_or(Rejection::ClaimMissing("iss"))?),
            audience: raw.audience.ok_or(Rejection::ClaimMissing("aud"))?.map(keep),
            expires_at: raw.expires_at.ok_or(Rejection::ClaimMissing("exp"))?,
            subject: raw.subject.map(keep),
            client_id: raw.client_id.map(keep),
            token_id: raw.token_id.map(keep),
            session_id: raw.session_id.map(keep),
            scope: raw.scope.map(keep),
            not_before: raw.not_before,
            issued_at: raw.issued_at,
            auth_time: raw.auth_time,
            payload,
        })
    }

    fn text<'a>(&'a self, value: &'a Value) -> &'a str {
        match value {
            Value::Range(range) => self.payload.get(range.clone()).unwrap_or_default(),
            Value::Owned(text) => text,
        }
    }

    /// The whole payload, as it was signed.
    pub(crate) fn payload(&self) -> &str {
        &self.payload
    }

    pub(crate) fn issuer(&self) -> &str {
        self.text(&self.issuer)
    }

    pub(crate) fn audience(&self) -> impl Iterator<Item = &str> {
        self.audience.as_slice().iter().map(|value| self.text(value))
    }

    pub(crate) fn subject(&self) -> Option<&str> {
        self.subject.as_ref().map(|value| self.text(value))
    }

    pub(crate) fn client_id(&self) -> Option<&str> {
        self.client_id.as_ref().map(|value| self.text(value))
    }

    pub(crate) fn token_id(&self) -> Option<&str> {
        self.token_id.as_ref().map(|value| self.text(value))
    }

    pub(crate) fn session_id(&self) -> Option<&str> {
        self.session_id.as_ref().map(|value| self.text(value))
    }

    pub(crate) fn scope(&self) -> Option<&str> {
        self.scope.as_ref().map(|value| self.text(value))
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

impl<'de> Members<'de> for Raw<'de> {
    fn member<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A, depth: u8) -> Result<(), A::Error> {
        macro_rules! take {
            ($name:literal, $field:ident, $seed:expr) => {{
                self.malformed = Some($name);
                self.$field = Some(map.next_value_seed($seed)?);
            }};
        }
        match name {
            "iss" => take!("iss", issuer, Text),
            "sub" => take!("sub", subject, Text),
            "aud" => take!("aud", audience, AudienceSeed),
            "exp" => take!("exp", expires_at, NumericDate { round_up: false }),
            // Rounded up: whole seconds of `now` have reached a fraction of a second only when they reach the next.
            "nbf" => take!("nbf", not_before, NumericDate { round_up: true }),
            "iat" => take!("iat", issued_at, NumericDate { round_up: false }),
            "auth_time" => take!("auth_time", auth_time, NumericDate { round_up: false }),
            "jti" => take!("jti", token_id, Text),
            "client_id" => take!("client_id", client_id, Text),
            "sid" => take!("sid", session_id, Text),
            "scope" => take!("scope", scope, Text),
            _ => json::skip(map, depth)?,
        }
        self.malformed = None;
        Ok(())
    }
}

struct AudienceSeed;

impl<'de> DeserializeSeed<'de> for AudienceSeed {
    type Value = Audience<Cow<'de, str>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AudienceSeed {
    type Value = Audience<Cow<'de, str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or an array of strings")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Audience::One(Cow::Borrowed(text)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Audience::One(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut audiences = Vec::new();
        while let Some(text) = seq.next_element_seed(Text)? {
            audiences.push(text);
        }
        Ok(Audience::Many(audiences))
    }
}

/// A JSON number of seconds, possibly fractional, from 0 to 2^53 (RFC 7519 §2).
struct NumericDate {
    round_up: bool,
}

impl<'de> DeserializeSeed<'de> for NumericDate {
    type Value = UnixSeconds;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for NumericDate {
    type Value = UnixSeconds;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of seconds from 0 to 2^53")
    }

    fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Self::Value, E> {
        if seconds <= MAX_SECONDS { Ok(UnixSeconds::new(seconds)) } else { Err(E::custom("out of range")) }
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "checked")]
    fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<Self::Value, E> {
        let whole = if self.round_up { seconds.ceil() } else { seconds.floor() };
        if (0.0..=MAX_SECONDS as f64).contains(&seconds) {
            Ok(UnixSeconds::new(whole as u64))
        } else {
            Err(E::custom("out of range"))
        }
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
            (r#"{"iss":"i","iss":"i"}"#, Rejection::MalformedToken("not a JSON object")),
        ] {
            assert_eq!(parse(text).err(), Some(expected), "{text}");
        }
    }

    #[test]
    fn strings_are_found_again_in_the_payload() {
        let claims =
            parse(r#"{"scope":"me items","iss":"i\u002f","sub":"é","aud":["x","a"],"exp":1,"sid":""}"#).unwrap();
        assert_eq!((claims.issuer(), claims.subject()), ("i/", Some("é")));
        assert_eq!((claims.scope(), claims.session_id(), claims.token_id()), (Some("me items"), Some(""), None));
    }
}
