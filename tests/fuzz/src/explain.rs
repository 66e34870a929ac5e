//! The rules by which our verdicts differ from `jsonwebtoken`'s, written down a second time with `serde_json`.

use std::{collections::HashSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;

/// Why we refuse a token, with a good signature, that `jsonwebtoken` accepts.
pub fn refusal(header: &[u8], payload: &[u8], now: u64) -> Option<&'static str> {
    if let Some(rule) = strict(header).or_else(|| strict(payload)) {
        return Some(rule);
    }
    let (header, claims): (Value, Value) =
        (serde_json::from_slice(header).ok()?, serde_json::from_slice(payload).ok()?);
    let typ = header["typ"].as_str().unwrap_or_default().to_ascii_lowercase();
    if typ.strip_prefix("application/").unwrap_or(&typ) != "at+jwt" {
        return Some("RFC 9068 §4: another type, or none");
    }
    if ["crit", "b64", "zip"].iter().any(|name| header.get(name).is_some()) {
        return Some("RFC 7515 §4.1.11: an extension that must be understood");
    }
    if header.get("kid").is_some_and(|kid| kid != "k") {
        return Some("RFC 7515 §4.1.4: no key of that id");
    }
    let text = |name: &str| claims[name].as_str().is_some_and(|text| !text.is_empty());
    if !["sub", "client_id", "jti"].into_iter().all(text) || claims.get("iat").is_none() {
        return Some("RFC 9068 §2.2: a mandatory claim is missing or empty");
    }
    if !claims["iss"].is_string() {
        return Some("RFC 7519 §4.1.1: `iss` is one string");
    }
    let aud = &claims["aud"];
    if !aud.is_string() && !aud.as_array().is_some_and(|all| all.iter().all(Value::is_string)) {
        return Some("RFC 7519 §4.1.3: `aud` is a string or strings");
    }
    for name in ["exp", "nbf", "iat", "auth_time"] {
        let whole = claims[name].as_u64().is_some_and(|seconds| seconds <= 1 << 53);
        let other = claims[name].as_f64().is_some_and(|seconds| (0.0..9_007_199_254_740_992.0).contains(&seconds));
        if claims.get(name).is_some() && !whole && (claims[name].is_u64() || !other) {
            return Some("RFC 7519 §2: times are numbers from 0 to 2^53");
        }
    }
    if claims["iat"].as_f64().is_some_and(|iat| iat > (now + 30) as f64) {
        return Some("issued in the future");
    }
    // They round, we do not let a fraction of a second pass.
    if claims["exp"].as_f64().is_some_and(|exp| exp.floor() + 30.0 <= now as f64)
        || claims["nbf"].as_f64().is_some_and(|nbf| nbf.ceil() > (now + 30) as f64)
    {
        return Some("a fraction of a second, or the last one");
    }
    let scope = claims.get("scope").map(|scope| scope.as_str().unwrap_or("\""));
    if scope.is_some_and(|scope| scope.parse::<portcullis::scope::ScopeSet>().is_err()) {
        return Some("RFC 6749 §3.3: not a scope");
    }
    if claims.get("sid").is_some_and(|sid| !sid.is_string()) {
        return Some("`sid` is a string");
    }
    None
}

/// Why we accept a token that `jsonwebtoken` refuses.
pub fn acceptance(header: &[u8], payload: &[u8]) -> Option<&'static str> {
    if serde_json::from_slice::<Value>(payload).is_err() || serde_json::from_slice::<Value>(header).is_err() {
        return Some("a number beyond the range of f64, where nobody reads it");
    }
    let header: Value = serde_json::from_slice(header).ok()?;
    let looked_at = ["alg", "typ", "kid"];
    if header.as_object()?.keys().any(|name| !looked_at.contains(&name.as_str())) {
        return Some("RFC 8725 §3.10: header parameters that are never looked at may have any value");
    }
    let claims: Value = serde_json::from_slice(payload).ok()?;
    if ["exp", "nbf"].iter().any(|name| claims[name].as_u64().is_none()) {
        return Some("a time with a fraction or an exponent, or no `nbf`");
    }
    None
}

/// What a strict parser objects to and a lax one does not.
fn strict(text: &[u8]) -> Option<&'static str> {
    let Ok(text) = std::str::from_utf8(text) else { return Some("RFC 8725 §3.7: UTF-8") };
    match serde_json::from_str::<Strict>(text) {
        Ok(Strict(levels)) if levels > 16 => Some("nested too deeply"),
        Ok(_) => None,
        Err(error) if error.to_string().starts_with("twice") => Some("RFC 7519 §4: a member twice"),
        Err(_) => Some("not JSON"),
    }
}

/// Any JSON without a repeated member, and how deep it is.
struct Strict(usize);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Strict(0))
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self, A::Error> {
        let mut levels = 0;
        while let Some(Strict(inner)) = seq.next_element()? {
            levels = levels.max(inner);
        }
        Ok(Strict(levels + 1))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        let (mut levels, mut names) = (0, HashSet::new());
        while let Some((name, Strict(inner))) = map.next_entry::<String, Strict>()? {
            levels = levels.max(inner);
            if !names.insert(name) {
                return Err(A::Error::custom("twice"));
            }
        }
        Ok(Strict(levels + 1))
    }
}
