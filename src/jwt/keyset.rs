//! Which key checks which token.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    algorithm::{ASYMMETRIC, Algorithm},
    jwks::{self, BadSet},
    key::{KeyId, VerifyingKey},
    token::{self, Header, Segments, TokenType},
};
use crate::{
    config::{ConfigError, ConfigErrors},
    rejection::Rejection,
};

/// Verification keys, of which exactly one fits a token, or none. Never changes; cheap to clone.
#[derive(Clone)]
pub struct KeySet(Arc<Keys>);

/// Tells sets apart without keeping them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct SetId(pub(super) u64);

impl SetId {
    fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed))
    }
}

struct Keys {
    id: SetId,
    all: Vec<VerifyingKey>,
    /// Places of the keys with this id. A keyed hash, because tokens choose what is looked up.
    named: HashMap<Box<str>, Vec<usize>>,
    unnamed: Vec<usize>,
    /// For each algorithm, the place of its only key.
    only: Vec<(Algorithm, Option<usize>)>,
    known: KnownHeaders,
}

impl KeySet {
    /// A set of `keys`.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NoKey`] if there is none, [`ConfigError::DuplicateKey`] for each two of the same algorithm and
    /// key id (RFC 7517 §4.5).
    pub fn new(keys: impl IntoIterator<Item = VerifyingKey>) -> Result<Self, ConfigErrors> {
        let keys: Vec<VerifyingKey> = keys.into_iter().collect();
        let mut errors = ConfigErrors::default();
        if keys.is_empty() {
            errors.push(ConfigError::NoKey);
        }
        let mut rest = keys.as_slice();
        while let Some((key, others)) = rest.split_first() {
            rest = others;
            if others.iter().any(|other| other.kid() == key.kid() && other.algorithm().accepts(key.algorithm().name()))
            {
                errors.push(ConfigError::DuplicateKey(key.kid().map(str::to_owned)));
            }
        }
        errors.finish(Some(Self::as_published(keys)))
    }

    /// The keys of a JWK set (RFC 7517 §5), such as a server publishes. Those that cannot verify are passed over, as are
    /// shared secrets; a key that names no algorithm gets the first that fits its type, which for RSA is `RS256`.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new); [`ConfigError::Key`] if the text is no JWK set, or has over 1,024 keys or none to use.
    ///
    /// ```
    /// use portcullis::jwt::KeySet;
    ///
    /// let set = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    /// let keys = KeySet::from_jwks(set.as_bytes())?;
    /// # Ok::<(), portcullis::config::ConfigErrors>(())
    /// ```
    pub fn from_jwks(json: &[u8]) -> Result<Self, ConfigErrors> {
        let parsed = jwks::parse(json, ASYMMETRIC, 1024, &BTreeMap::new()).map_err(|bad| match bad {
            BadSet::NotASet => ConfigError::Key("not a JWK set"),
            BadSet::TooMany(_) => ConfigError::Key("JWK set of over 1,024 keys"),
            BadSet::NoneUsable => ConfigError::Key("JWK set without a key that can verify"),
        })?;
        Self::new(parsed.keys)
    }

    /// A set as somebody else publishes it, in which an id may stand for several keys: no token can use it then.
    pub(crate) fn as_published(keys: Vec<VerifyingKey>) -> Self {
        let mut named: HashMap<Box<str>, Vec<usize>> = HashMap::new();
        let mut unnamed = Vec::new();
        let mut only: Vec<(Algorithm, Option<usize>)> = Vec::new();
        for (place, key) in keys.iter().enumerate() {
            match key.kid() {
                Some(kid) => named.entry(kid.into()).or_default().push(place),
                None => unnamed.push(place),
            }
            match only.iter_mut().find(|(algorithm, _)| algorithm.accepts(key.algorithm().name())) {
                Some((_, first)) => *first = None,
                None => only.push((key.algorithm(), Some(place))),
            }
        }
        Self(Arc::new(Keys { id: SetId::next(), all: keys, named, unnamed, only, known: KnownHeaders::default() }))
    }

    #[cfg(feature = "jwks-client")]
    pub(crate) fn len(&self) -> usize {
        self.0.all.len()
    }

    /// How many key ids, none of all as one, stand for several keys of one algorithm, so that no token can use them.
    #[cfg(feature = "jwks-client")]
    pub(crate) fn ids_of_several(&self) -> usize {
        let keys = |places: &[usize]| places.iter().filter_map(|place| self.0.all.get(*place)).collect::<Vec<_>>();
        let clash = |places: &&Vec<usize>| {
            let keys = keys(places);
            keys.iter().any(|one| keys.iter().filter(|two| two.algorithm().accepts(one.algorithm().name())).count() > 1)
        };
        self.0.named.values().chain([&self.0.unnamed]).filter(clash).count()
    }

    /// Checks header and signature of a token (RFC 7515 §5.2), and says what kind of token it is and which key checked it.
    pub(crate) fn verify(&self, token: Segments<'_>) -> Result<(TokenType, KeyId), Rejection> {
        if let Some(known) = self.0.known.find(token.header) {
            return Ok((known.typ, self.0.check(known.key, token)?));
        }
        let (key, typ) = self.0.read(token.header)?;
        let id = self.0.check(key, token)?;
        self.0.known.learn(token.header, key, typ);
        Ok((typ, id))
    }

    /// The key that would check a token with this header.
    pub(crate) fn key_for(&self, header: &[u8]) -> Option<KeyId> {
        let known = self.0.known.find(header).map(|known| known.key);
        let key = known.or_else(|| Some(self.0.read(header).ok()?.0))?;
        self.0.all.get(key).map(VerifyingKey::id)
    }

    /// A number that no other set of this process has, nor will have.
    pub(crate) fn id(&self) -> SetId {
        self.0.id
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0.all).finish()
    }
}

impl Keys {
    /// Place of the one key that may check a token whose header names `kid` and `alg`.
    ///
    /// `alg` comes from the token and only selects among keys: which algorithm runs is the key's own.
    fn select(&self, kid: Option<&str>, alg: &str) -> Result<usize, Rejection> {
        let fits = |place: &usize| self.all.get(*place).is_some_and(|key| key.algorithm().accepts(alg));
        // Several that nothing in the set tells apart are the fault of whoever published them, not the token's.
        let one_of = |places: &[usize]| {
            let mut fitting = places.iter().copied().filter(fits);
            match (fitting.next(), fitting.next()) {
                (Some(place), None) => Ok(place),
                (None, _) => Err(Rejection::UnknownKey),
                (Some(_), Some(_)) => Err(Rejection::KeyIdRepeated),
            }
        };
        match kid {
            None => match self.only.iter().find(|(algorithm, _)| algorithm.accepts(alg)) {
                Some((_, Some(place))) => Ok(*place),
                Some((_, None)) => Err(match one_of(&self.unnamed) {
                    Err(Rejection::KeyIdRepeated) => Rejection::KeyIdRepeated,
                    // The set tells its keys apart; the token does not say which.
                    _ => Rejection::AmbiguousKey,
                }),
                None => Err(Rejection::UnknownKey),
            },
            Some(kid) => {
                let named = self.named.get(kid).map_or(&[][..], Vec::as_slice);
                one_of(named).or_else(|rejection| match rejection {
                    Rejection::UnknownKey => one_of(&self.unnamed),
                    other => Err(other),
                })
            }
        }
    }

    /// Place of the key for a header, as base64url, and what kind of token it belongs to.
    fn read(&self, header: &[u8]) -> Result<(usize, TokenType), Rejection> {
        let text = token::decode_text(header)?;
        let header = Header::parse(&text)?;
        Ok((self.select(header.kid.as_deref(), &header.alg)?, header.token_type()))
    }

    fn check(&self, key: usize, token: Segments<'_>) -> Result<KeyId, Rejection> {
        let key = self.all.get(key).ok_or(Rejection::UnknownKey)?;
        key.verify(token.signed, token.decode_signature(&mut token::signature_buffer())?)?;
        Ok(key.id())
    }
}

/// The first few headers that came with a good signature, and the key that each was checked with.
///
/// An issuer writes the same header each time, so comparing its bytes replaces decoding and parsing them. Only headers of
/// tokens with a good signature get in, and the outcome is the same with and without: the keys of a set never change.
#[derive(Default)]
struct KnownHeaders([OnceLock<KnownHeader>; 4]);

struct KnownHeader {
    text: Box<[u8]>,
    key: usize,
    typ: TokenType,
}

impl KnownHeaders {
    fn find(&self, segment: &[u8]) -> Option<&KnownHeader> {
        self.0.iter().map_while(OnceLock::get).find(|known| *known.text == *segment)
    }

    /// Remembers a header while there is room. It is as short as any token, so the memory is bounded.
    fn learn(&self, segment: &[u8], key: usize, typ: TokenType) {
        for slot in &self.0 {
            match slot.get() {
                Some(known) if *known.text == *segment => return,
                Some(_) => {}
                // Another thread may be faster; then the next token is remembered.
                None => return drop(slot.set(KnownHeader { text: segment.into(), key, typ })),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    fn key(algorithm: Algorithm, first: u8, kid: Option<&str>) -> VerifyingKey {
        let secret: Vec<u8> = (first..first + 64).collect();
        let key = VerifyingKey::hmac(algorithm, &secret).unwrap();
        kid.map_or(key.clone(), |kid| key.with_kid(kid))
    }

    #[test]
    fn req_058_req_059_req_087_selection() {
        use Algorithm::{Hs256, Hs512};
        let two = KeySet::new([key(Hs256, 0, Some("a")), key(Hs256, 1, Some("b"))]).unwrap();
        let open = KeySet::new([key(Hs256, 0, None), key(Hs512, 1, Some("b"))]).unwrap();
        let pair = KeySet::new([key(Hs256, 0, Some("a")), key(Hs512, 1, Some("a"))]).unwrap();
        for (set, kid, alg, expected) in [
            (&two, Some("a"), "HS256", Ok((Hs256, Some("a")))),
            (&two, Some("A"), "HS256", Err(Rejection::UnknownKey)),
            (&two, Some("../../dev/null"), "HS256", Err(Rejection::UnknownKey)),
            (&two, Some("a"), "HS512", Err(Rejection::UnknownKey)),
            (&two, Some("a"), "none", Err(Rejection::UnknownKey)),
            (&two, Some("a"), "hs256", Err(Rejection::UnknownKey)),
            (&two, None, "HS256", Err(Rejection::AmbiguousKey)),
            (&open, Some("x"), "HS256", Ok((Hs256, None))),
            (&open, None, "HS256", Ok((Hs256, None))),
            (&open, None, "HS512", Ok((Hs512, Some("b")))),
            (&open, Some("x"), "HS512", Err(Rejection::UnknownKey)),
            (&pair, Some("a"), "HS512", Ok((Hs512, Some("a")))),
        ] {
            let selected = set.0.select(kid, alg).map(|place| &set.0.all[place]);
            let selected = selected.map(|key| (key.algorithm(), key.kid()));
            assert_eq!(selected, expected, "{kid:?} {alg}");
        }
    }

    #[test]
    fn req_087_an_id_that_stands_for_several_keys_is_no_use() {
        use Algorithm::{Hs256, Hs512};
        let set = KeySet::as_published(vec![
            key(Hs256, 0, Some("a")),
            key(Hs256, 1, Some("a")),
            key(Hs512, 2, Some("a")),
            key(Hs256, 3, Some("b")),
        ]);
        assert_eq!(set.0.select(Some("a"), "HS256"), Err(Rejection::KeyIdRepeated));
        assert_eq!(set.0.select(Some("a"), "HS512"), Ok(2));
        assert_eq!(set.0.select(Some("b"), "HS256"), Ok(3));
        assert_eq!(set.0.select(None, "HS256"), Err(Rejection::AmbiguousKey), "the token's fault");
        // Without ids, it is the set's.
        let set = KeySet::as_published(vec![key(Hs256, 0, None), key(Hs256, 1, None), key(Hs512, 2, None)]);
        assert_eq!(set.0.select(None, "HS256"), Err(Rejection::KeyIdRepeated));
        assert_eq!(set.0.select(Some("x"), "HS256"), Err(Rejection::KeyIdRepeated));
        assert_eq!(set.0.select(None, "HS512"), Ok(2));
    }

    #[test]
    fn req_087_the_key_for_a_header_is_the_one_that_would_check_it() {
        use Algorithm::Hs256;
        let (a, b, other_a) = (key(Hs256, 0, Some("a")), key(Hs256, 1, Some("b")), key(Hs256, 2, Some("a")));
        let header = base64_simd::URL_SAFE_NO_PAD.encode_to_string(r#"{"alg":"HS256","kid":"a"}"#);
        for (keys, expected) in [
            (vec![a.clone()], Some(a.id())),
            (vec![b.clone(), a.clone()], Some(a.id())),
            (vec![b.clone(), other_a.clone()], Some(other_a.id())),
            (vec![a.clone(), other_a], None),
            (vec![b], None),
        ] {
            assert_eq!(KeySet::as_published(keys.clone()).key_for(header.as_bytes()), expected, "{keys:?}");
        }
        assert_ne!(key(Hs256, 0, Some("a")).id(), a.id(), "loaded twice");
        for bad in ["", "e30", "%", "."] {
            assert_eq!(one(a.clone()).key_for(bad.as_bytes()), None);
        }
    }

    #[test]
    fn sets_that_cannot_decide_are_not_built() {
        assert_eq!(KeySet::new([]).unwrap_err(), ConfigError::NoKey.into());
        for kid in [None, Some("a")] {
            let twice = [key(Algorithm::Hs256, 0, kid), key(Algorithm::Hs256, 1, kid)];
            assert_eq!(KeySet::new(twice).unwrap_err(), ConfigError::DuplicateKey(kid.map(str::to_owned)).into());
        }
    }

    /// A published example of RFC 7515 appendix A, RFC 7520 section 4 or RFC 8037 appendix A.
    #[derive(Deserialize)]
    struct Example {
        source: String,
        alg: String,
        expect: String,
        jwk: Option<serde_json::Value>,
        compact: String,
        payload_utf8: String,
    }

    fn examples() -> Vec<Example> {
        serde_json::from_str(include_str!("../../tests/vectors/jose.json")).unwrap()
    }

    fn one(key: VerifyingKey) -> KeySet {
        KeySet::new([key]).unwrap()
    }

    /// Half of the examples carry no claims: what they show is header and signature.
    fn payload(keys: &KeySet, token: &[u8]) -> Result<String, Rejection> {
        let token = Segments::split(token)?;
        keys.verify(token)?;
        token::decode_text(token.payload)
    }

    #[test]
    fn req_092_published_examples_get_the_expected_verdict() {
        let mut seen = Vec::new();
        for example in examples() {
            let Example { source, alg, expect, jwk, compact, payload_utf8 } = example;
            let key = alg.parse::<Algorithm>().ok().zip(jwk).map(|(algorithm, jwk)| {
                VerifyingKey::from_jwk(algorithm, &jwk.to_string()).unwrap_or_else(|error| panic!("{source}: {error}"))
            });
            match (expect.as_str(), key) {
                ("valid", Some(key)) => {
                    assert_eq!(payload(&one(key), compact.as_bytes()), Ok(payload_utf8), "{source}");
                }
                ("refused", Some(key)) => assert!(payload(&one(key), compact.as_bytes()).is_err(), "{source}"),
                // `none`, and ES512, which is not supported: no key can be loaded, and no other key takes the token.
                ("refused" | "unsupported", None) => {
                    let other = VerifyingKey::hmac(Algorithm::Hs256, b"0123456789abcdefghijklmnopqrstuv").unwrap();
                    assert!(payload(&one(other), compact.as_bytes()).is_err(), "{source}");
                }
                (other, _) => panic!("{source}: {other}"),
            }
            seen.push(source);
        }
        let published =
            "7515 A.1 7515 A.2 7515 A.3 7515 A.4 7515 A.5 7520 4.1 7520 4.2 7520 4.3 7520 4.4 7520 4.5 8037 A.4";
        assert_eq!(seen.join(" ").replace("RFC ", ""), published);
    }

    #[test]
    fn req_092_published_examples_with_any_byte_changed_are_refused() {
        for Example { source, alg, jwk, compact, .. } in examples().into_iter().filter(|e| e.expect == "valid") {
            let key = VerifyingKey::from_jwk(alg.parse().unwrap(), &jwk.unwrap().to_string()).unwrap();
            // Fresh, and after it has seen the header.
            let (fresh, warm) = (one(key.clone()), one(key));
            payload(&warm, compact.as_bytes()).unwrap();
            let mut changed = compact.into_bytes();
            for at in 0..changed.len() {
                let original = changed[at];
                // Neighbours in the alphabet differ in the lowest bits, which a lax decoder drops.
                for other in [original ^ 1, original ^ 2, original ^ 0x20, b'A', b'.', 0xff] {
                    if other != original {
                        changed[at] = other;
                        assert!(payload(&fresh, &changed).is_err(), "{source}: byte {at} to {other}");
                        assert!(payload(&warm, &changed).is_err(), "{source}: byte {at} to {other}, header known");
                    }
                }
                changed[at] = original;
            }
        }
    }
}
