//! From a token's text to the proof that it is good.

use std::{
    any::Any,
    fmt,
    marker::PhantomData,
    mem::MaybeUninit,
    sync::{Arc, OnceLock},
};

use serde::{Deserialize, de::DeserializeOwned};

use super::{
    claims::RegisteredClaims,
    key::VerifyingKey,
    keyset::KeySet,
    policy::ClaimsPolicy,
    token::{self, Header, MAX_SIGNATURE, Segments, SignatureBuffer},
};
use crate::{
    clock::UnixSeconds,
    principal::{Identity, Principal},
    rejection::Rejection,
};

/// Claims beside the registered ones: any type of the program's own that `serde` can read from them.
///
/// It is read from the whole payload, so its fields may repeat registered names.
pub trait CustomClaims: DeserializeOwned + Send + Sync + 'static {}

impl<T: DeserializeOwned + Send + Sync + 'static> CustomClaims for T {}

/// For programs that look at registered claims alone.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
pub struct NoClaims {}

/// A token whose signature, issuer, audience, type and times were checked: a [`Verifier`] alone makes them.
///
/// Cheap to clone. `Debug` shows the subject, not the claims.
pub struct Verified<C = NoClaims>(Arc<Checked<C>>);

struct Checked<C> {
    registered: RegisteredClaims,
    custom: C,
}

impl<C> Verified<C> {
    /// The claims of the program's own type.
    pub fn claims(&self) -> &C {
        &self.0.custom
    }

    /// `iss`: who made the token.
    pub fn issuer(&self) -> &str {
        self.0.registered.issuer()
    }

    /// `aud`: whom it is meant for.
    pub fn audience(&self) -> impl Iterator<Item = &str> {
        self.0.registered.audience()
    }

    /// `sub`: whom it is about.
    pub fn subject(&self) -> &str {
        self.0.registered.subject().unwrap_or_default()
    }

    /// `exp`: when it stops being valid.
    pub fn expires_at(&self) -> UnixSeconds {
        self.0.registered.expires_at
    }

    /// `nbf`: when it begins to be valid.
    pub fn not_before(&self) -> Option<UnixSeconds> {
        self.0.registered.not_before
    }

    /// `iat`: when it was made.
    pub fn issued_at(&self) -> Option<UnixSeconds> {
        self.0.registered.issued_at
    }
}

impl<C: Send + Sync + 'static> Verified<C> {
    /// The caller, as policies see them.
    pub fn principal(&self) -> Principal {
        Principal::new(Arc::clone(&self.0) as Arc<dyn Identity>)
    }
}

impl<C: Send + Sync> Identity for Checked<C> {
    fn issuer(&self) -> &str {
        self.registered.issuer()
    }

    fn subject(&self) -> &str {
        self.registered.subject().unwrap_or_default()
    }

    fn client_id(&self) -> Option<&str> {
        self.registered.client_id()
    }

    fn scope(&self) -> &str {
        self.registered.scope().unwrap_or_default()
    }

    fn session_id(&self) -> Option<&str> {
        self.registered.session_id()
    }

    fn token_id(&self) -> Option<&str> {
        self.registered.token_id()
    }

    fn auth_time(&self) -> Option<UnixSeconds> {
        self.registered.auth_time
    }
}

impl<C> Clone for Verified<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C> fmt::Debug for Verified<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified").field("subject", &self.subject()).finish_non_exhaustive()
    }
}

/// Checks tokens against one set of keys and one policy. Cheap to clone.
pub struct Verifier<C = NoClaims> {
    rules: Arc<Rules>,
    claims: PhantomData<fn() -> C>,
}

#[derive(Debug)]
struct Rules {
    policy: ClaimsPolicy,
    keys: KeySet,
    known: KnownHeaders,
}

impl Verifier {
    /// A verifier that accepts what `keys` signed and `policy` allows.
    pub fn new(policy: ClaimsPolicy, keys: KeySet) -> Self {
        Self { rules: Arc::new(Rules { policy, keys, known: KnownHeaders::default() }), claims: PhantomData }
    }
}

impl<C: CustomClaims> Verifier<C> {
    /// The same, but that it reads claims of the program's own type `D` besides. Tokens that lack them are refused.
    pub fn claims<D: CustomClaims>(self) -> Verifier<D> {
        Verifier { rules: self.rules, claims: PhantomData }
    }

    /// Checks `token` as of `now`. Layers read the clock; tests and fuzzers pass any second they like.
    ///
    /// # Errors
    ///
    /// The [`Rejection`] that says which check failed first. No claim is read before the signature has been checked.
    pub fn verify_at(&self, token: &[u8], now: UnixSeconds) -> Result<Verified<C>, Rejection> {
        let policy = &self.rules.policy;
        if token.len() > policy.max_token {
            return Err(Rejection::TokenTooLong { bytes: token.len(), most: policy.max_token });
        }
        let payload = self.rules.verify_signature(Segments::split(token)?)?;
        let registered = RegisteredClaims::parse(payload, policy.max_depth)?;
        policy.check(&registered, now)?;
        let custom = custom(registered.payload())?;
        Ok(Verified(Arc::new(Checked { registered, custom })))
    }
}

impl<C> Clone for Verifier<C> {
    fn clone(&self) -> Self {
        Self { rules: Arc::clone(&self.rules), claims: PhantomData }
    }
}

impl<C> fmt::Debug for Verifier<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Verifier").field(&self.rules).finish()
    }
}

impl Rules {
    /// Checks header and signature of a token and returns its payload (RFC 7515 §5.2).
    fn verify_signature(&self, token: Segments<'_>) -> Result<String, Rejection> {
        if let Some(key) = self.known.key(token.header) {
            check(key, token)?;
        } else {
            let text = token::decode_text(token.header)?;
            let header = Header::parse(&text)?;
            let key = self.keys.select(header.kid.as_deref(), &header.alg)?;
            self.policy.check_type(&header)?;
            check(key, token)?;
            self.known.learn(token.header, key);
        }
        token::decode_text(token.payload)
    }
}

fn check(key: &VerifyingKey, token: Segments<'_>) -> Result<(), Rejection> {
    let mut buffer: SignatureBuffer = [MaybeUninit::uninit(); MAX_SIGNATURE];
    key.verify(token.signed, token.decode_signature(&mut buffer)?)
}

/// The first few headers that came with a good signature, and the key that each was checked with.
///
/// An issuer writes the same header each time, so comparing its bytes replaces decoding and parsing them. Only headers
/// that passed every check get in, and the outcome is the same with and without: keys and policy never change here.
#[derive(Debug, Default)]
struct KnownHeaders([OnceLock<(Box<[u8]>, VerifyingKey)>; 4]);

impl KnownHeaders {
    fn key(&self, segment: &[u8]) -> Option<&VerifyingKey> {
        let known = self.0.iter().map_while(OnceLock::get);
        known.into_iter().find(|(header, _)| **header == *segment).map(|(_, key)| key)
    }

    /// Remembers a header while there is room. It is as short as any token, so the memory is bounded.
    fn learn(&self, segment: &[u8], key: &VerifyingKey) {
        for slot in &self.0 {
            match slot.get() {
                Some((known, _)) if **known == *segment => return,
                Some(_) => {}
                // Another thread may be faster; then the next token is remembered.
                None => return drop(slot.set((segment.into(), key.clone()))),
            }
        }
    }
}

/// Reads the program's own claims; for [`NoClaims`] without reading at all.
fn custom<C: CustomClaims>(payload: &str) -> Result<C, Rejection> {
    let mut none = None::<C>;
    if let Some(none) = (&mut none as &mut dyn Any).downcast_mut::<Option<NoClaims>>() {
        *none = Some(NoClaims {});
    }
    none.map_or_else(|| serde_json::from_str(payload).map_err(|_| Rejection::CustomClaims), Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwt::Algorithm;

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

    /// The examples carry no type, and half of them no claims: what they show is header and signature.
    fn rules(key: VerifyingKey) -> Rules {
        let policy = ClaimsPolicy::builder("joe", "-").danger_any_token_type().build().unwrap();
        Rules { policy, keys: KeySet::new([key]).unwrap(), known: KnownHeaders::default() }
    }

    fn payload(rules: &Rules, token: &[u8]) -> Result<String, Rejection> {
        rules.verify_signature(Segments::split(token)?)
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
                    assert_eq!(payload(&rules(key), compact.as_bytes()), Ok(payload_utf8), "{source}");
                }
                ("refused", Some(key)) => assert!(payload(&rules(key), compact.as_bytes()).is_err(), "{source}"),
                // `none`, and ES512, which is not supported: no key can be loaded, and no other key takes the token.
                ("refused" | "unsupported", None) => {
                    let other = VerifyingKey::hmac(Algorithm::Hs256, b"0123456789abcdefghijklmnopqrstuv").unwrap();
                    assert!(payload(&rules(other), compact.as_bytes()).is_err(), "{source}");
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
            let (fresh, warm) = (rules(key.clone()), rules(key));
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
