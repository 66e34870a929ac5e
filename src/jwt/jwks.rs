//! JWK sets that others publish (RFC 7517 §5): which of their keys can verify, and with which algorithm. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    algorithm::{Algorithm, Family},
    jwk::Jwk,
    key::VerifyingKey,
};

/// What a set holds for us.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    pub(crate) keys: Vec<VerifyingKey>,
    /// Keys that cannot verify here: `use` or `key_ops` says so, a type or curve that is not supported, a shared secret,
    /// RSA below 2,048 bits, `alg` that contradicts, members missing.
    pub(crate) skipped: usize,
    /// The same keys by their JSON, so that a later set with the same JSON has the same key.
    pub(crate) by_text: BTreeMap<String, VerifyingKey>,
}

/// Why a document is of no use at all.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum BadSet {
    #[error("not a JWK set")]
    NotASet,
    #[error("more than {0} keys")]
    TooMany(usize),
    #[error("no key that can verify")]
    NoneUsable,
}

#[derive(Deserialize)]
struct Document<'a> {
    // As they are spelt: a tree of their values could take fifty times as much memory.
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

/// Reads a set. One odd key does not spoil the others; a set without a usable one is taken for a mistake of its server.
///
/// `algorithms` are those that the issuer may sign with, in order: a key that names none gets the first that fits its
/// type. Keys that are spelt as one of those `before` are that key still, and are not prepared again.
pub(crate) fn parse(
    json: &[u8],
    algorithms: &[Algorithm],
    most: usize,
    before: &BTreeMap<String, VerifyingKey>,
) -> Result<Parsed, BadSet> {
    let Document { keys } = serde_json::from_slice(json).map_err(|_| BadSet::NotASet)?;
    if keys.len() > most {
        return Err(BadSet::TooMany(most));
    }
    let mut parsed = Parsed::default();
    for key in keys {
        let text = key.get();
        if parsed.by_text.contains_key(text) {
            // Twice the same is one.
            continue;
        }
        match before.get(text).cloned().or_else(|| usable(text, algorithms)) {
            Some(key) => {
                parsed.keys.push(key.clone());
                parsed.by_text.insert(text.to_owned(), key);
            }
            None => parsed.skipped += 1,
        }
    }
    if parsed.keys.is_empty() { Err(BadSet::NoneUsable) } else { Ok(parsed) }
}

fn usable(key: &str, algorithms: &[Algorithm]) -> Option<VerifyingKey> {
    let jwk: Jwk = serde_json::from_str(key).ok()?;
    let fits = |algorithm: &&Algorithm| match algorithm.family() {
        // A secret that is published is none, and a public key taken for one lets everybody sign.
        Family::Hmac => false,
        Family::Rsa => jwk.kty == "RSA",
        Family::Ec => jwk.kty == "EC" && jwk.crv.as_deref() == Some(super::key::curve_name(**algorithm)),
        Family::Ed25519 => jwk.kty == "OKP" && jwk.crv.as_deref() == Some("Ed25519"),
    };
    let named = |algorithm: &&Algorithm| jwk.alg.as_deref().is_none_or(|alg| algorithm.accepts(alg));
    let algorithm = *algorithms.iter().filter(fits).find(named)?;
    VerifyingKey::from_parsed(algorithm, jwk).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwt::algorithm::ASYMMETRIC;

    const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    fn ed25519(more: &str) -> String {
        format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{X}"{more}}}"#)
    }

    fn rsa(bits: usize, more: &str) -> String {
        let n = base64_simd::URL_SAFE_NO_PAD.encode_to_string(vec![0xc5; bits / 8]);
        format!(r#"{{"kty":"RSA","n":"{n}","e":"AQAB"{more}}}"#)
    }

    #[test]
    fn req_086_req_088_req_089_keys_that_cannot_verify_are_skipped() {
        let good = ed25519(r#","kid":"good""#);
        for (bad, why) in [
            (ed25519(r#","use":"enc""#), "use"),
            (ed25519(r#","key_ops":["sign"]"#), "key_ops"),
            (ed25519(r#","alg":"ES256""#), "alg of another type"),
            (ed25519(r#","alg":"none""#), "alg"),
            (ed25519(r#","alg":1"#), "alg is no string"),
            (rsa(1024, ""), "small"),
            (rsa(2048, r#","alg":"HS256""#), "alg of a secret"),
            (r#"{"kty":"oct","k":"MDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1ub3BxcnN0dXY"}"#.to_owned(), "secret"),
            (r#"{"kty":"oct","alg":"HS256","k":"MDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1ub3BxcnN0dXY"}"#.to_owned(), "secret"),
            (r#"{"kty":"EC","crv":"secp256k1","x":"AA","y":"AA"}"#.to_owned(), "curve"),
            (r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#.to_owned(), "no point"),
            (r#"{"kty":"AKP","pub":"AA"}"#.to_owned(), "kty"),
            (r#"{"kid":"x"}"#.to_owned(), "no kty"),
            ("null".to_owned(), "no key"),
            ("[]".to_owned(), "no key"),
            ("7".to_owned(), "no key"),
        ] {
            let parsed =
                parse(format!(r#"{{"keys":[{bad},{good}]}}"#).as_bytes(), ASYMMETRIC, 64, &BTreeMap::new()).unwrap();
            assert_eq!((parsed.keys.len(), parsed.skipped), (1, 1), "{why}: {bad}");
            assert_eq!(parsed.keys[0].kid(), Some("good"));
            let alone = parse(format!(r#"{{"keys":[{bad}]}}"#).as_bytes(), ASYMMETRIC, 64, &BTreeMap::new());
            assert_eq!(alone.unwrap_err(), BadSet::NoneUsable, "{why}");
        }
    }

    #[test]
    fn documents_that_are_no_set() {
        for text in ["", "null", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":null}"#, "<html></html>", r#"{"keys":[]} x"#]
        {
            assert_eq!(
                parse(text.as_bytes(), ASYMMETRIC, 64, &BTreeMap::new()).unwrap_err(),
                BadSet::NotASet,
                "{text}"
            );
        }
        assert_eq!(parse(br#"{"keys":[]}"#, ASYMMETRIC, 64, &BTreeMap::new()).unwrap_err(), BadSet::NoneUsable);
        let many = format!(r#"{{"keys":[{}]}}"#, vec!["1"; 65].join(","));
        assert_eq!(parse(many.as_bytes(), ASYMMETRIC, 64, &BTreeMap::new()).unwrap_err(), BadSet::TooMany(64));
        let deep = format!(r#"{{"keys":[{}{}]}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(parse(deep.as_bytes(), ASYMMETRIC, 64, &BTreeMap::new()).unwrap_err(), BadSet::NoneUsable);
    }

    #[test]
    fn a_key_that_is_spelt_as_before_is_the_same_key() {
        let set = |keys: &[&str], before: &Parsed| {
            parse(format!(r#"{{"keys":[{}]}}"#, keys.join(",")).as_bytes(), ASYMMETRIC, 64, &before.by_text).unwrap()
        };
        let (old, new) = (ed25519(r#","kid":"old""#), rsa(2048, r#","kid":"new""#));
        let first = set(&[&old], &Parsed::default());
        let id = first.keys[0].id();
        let both = set(&[&new, &old], &first);
        assert_eq!(both.keys[1].id(), id);
        for other in
            [old.replace("11qY", "11qZ"), old.replace("old", "older"), old.replace("OKP", "OKP\",\"alg\":\"EdDSA")]
        {
            // Other material, another name, or said more of: whatever it is, it is looked at anew.
            let keys = set(&[&new, &other], &both).keys;
            assert!(keys.iter().all(|key| key.id() != id), "{other}");
        }
        assert_ne!(set(&[&old], &Parsed::default()).keys[0].id(), id, "forgotten in between");
    }

    #[test]
    fn a_key_that_is_published_twice_is_one() {
        let key = ed25519(r#","kid":"k""#);
        let parsed =
            parse(format!(r#"{{"keys":[{key},{key}]}}"#).as_bytes(), ASYMMETRIC, 64, &BTreeMap::new()).unwrap();
        assert_eq!((parsed.keys.len(), parsed.skipped), (1, 0));
    }

    #[test]
    fn req_059_each_key_gets_one_algorithm() {
        use Algorithm::{EdDsa, Ps256, Rs256, Rs512};
        for (key, allowed, expected) in [
            (rsa(2048, ""), ASYMMETRIC, Some(Rs256)),
            (rsa(2048, r#","alg":"PS256""#), ASYMMETRIC, Some(Ps256)),
            (rsa(2048, ""), &[EdDsa, Rs512, Rs256], Some(Rs512)),
            (rsa(2048, r#","alg":"RS256""#), &[Rs512], None),
            (rsa(2048, ""), &[EdDsa], None),
            (ed25519(""), ASYMMETRIC, Some(EdDsa)),
            (ed25519(r#","alg":"Ed25519""#), ASYMMETRIC, Some(EdDsa)),
            (ed25519(""), &[Rs256], None),
        ] {
            let parsed = parse(format!(r#"{{"keys":[{key}]}}"#).as_bytes(), allowed, 64, &BTreeMap::new());
            assert_eq!(parsed.ok().map(|parsed| parsed.keys[0].algorithm()), expected, "{key} {allowed:?}");
        }
    }
}
