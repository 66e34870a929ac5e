//! Tokens that have been verified, looked up by their whole text.
//!
//! Only successes get in, so nobody but an issuer chooses what is kept. A hit is equality of every byte: never of a hash,
//! a signature or a token id, each of which an attacker may repeat beside other content. What can change between two
//! requests is looked at on each hit, by the verifier: the time, and whether the keys are still the same.

use std::fmt;

use quick_cache::Weighter;

use super::verifier::Verified;
use crate::config::ConfigErrors;

/// How much is kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct CacheSize {
    entries: usize,
    bytes: usize,
}

impl Default for CacheSize {
    fn default() -> Self {
        Self { entries: 10_000, bytes: 16 * 1024 * 1024 }
    }
}

impl CacheSize {
    pub(crate) fn new(entries: usize, bytes: usize) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        errors.bound_number("cached tokens", entries, 1, 10_000_000);
        errors.bound_number("bytes of cached tokens", bytes, 64 * 1024, 16 * 1024 * 1024 * 1024);
        errors.finish(Some(Self { entries, bytes }))
    }
}

/// Bounded by entries and by bytes; what is asked for again stays, so that a flood of tokens seen once does not push out
/// those in use.
pub(crate) struct Cache<C> {
    size: CacheSize,
    tokens: quick_cache::sync::Cache<Box<[u8]>, Verified<C>, Weight>,
}

/// Bytes that an entry takes, or its share of the number of entries if that is more: one bound holds both.
#[derive(Clone, Debug)]
struct Weight {
    least: u64,
}

/// What an entry takes beside its token and its claims.
const OVERHEAD: usize = 320;

impl<C> Weighter<Box<[u8]>, Verified<C>> for Weight {
    fn weight(&self, token: &Box<[u8]>, verified: &Verified<C>) -> u64 {
        ((token.len() + verified.text_length() + OVERHEAD) as u64).max(self.least)
    }
}

impl<C> Cache<C> {
    pub(crate) fn new(size: CacheSize) -> Self {
        let (entries, bytes) = (size.entries, size.bytes as u64);
        let least = (bytes / entries as u64).max(1);
        let tokens = quick_cache::sync::Cache::with_weighter(entries, bytes, Weight { least });
        Self { size, tokens }
    }

    pub(crate) const fn size(&self) -> CacheSize {
        self.size
    }

    pub(crate) fn get(&self, token: &[u8]) -> Option<Verified<C>> {
        self.tokens.get(token)
    }

    pub(crate) fn insert(&self, token: &[u8], verified: Verified<C>) {
        self.tokens.insert(token.into(), verified);
    }

    pub(crate) fn remove(&self, token: &[u8]) {
        self.tokens.remove(token);
    }
}

impl<C> fmt::Debug for Cache<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("size", &self.size).field("entries", &self.tokens.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::UnixSeconds,
        jwt::{Algorithm, ClaimsPolicy, KeySet, NoClaims, SigningKey, Verifier},
    };

    /// A proof to keep, and its token.
    fn verified() -> (Verified<NoClaims>, String) {
        let key = SigningKey::generate(Algorithm::Hs256).unwrap();
        let claims = serde_json::json!({
            "iss": "i", "aud": "a", "sub": "s", "client_id": "c", "jti": "j", "iat": 1, "exp": 600,
        });
        let token = key.sign(&claims).unwrap();
        let policy = ClaimsPolicy::builder("i", "a").build().unwrap();
        let verifier = Verifier::new(policy, KeySet::new([key.verifying_key()]).unwrap()).without_cache();
        (verifier.verify_at(token.as_bytes(), UnixSeconds::new(1)).unwrap(), token)
    }

    #[test]
    fn entries_and_bytes_are_bounded_and_a_flood_does_not_push_out_what_is_in_use() {
        let (proof, _) = verified();
        for (entries, bytes) in [(1000, 64 * 1024 * 1024), (1_000_000, 1024 * 1024)] {
            let cache = Cache::new(CacheSize::new(entries, bytes).unwrap());
            let hot: Vec<String> = (0..50).map(|n| format!("hot-{n}")).collect();
            for _ in 0..3 {
                for token in &hot {
                    if cache.get(token.as_bytes()).is_none() {
                        cache.insert(token.as_bytes(), proof.clone());
                    }
                }
            }
            for n in 0..100_000 {
                // Each new token is seen once; those in use are seen now and then.
                cache.insert(format!("seen-once-{n}").as_bytes(), proof.clone());
                if n % 100 == 0 {
                    assert!(cache.get(hot[n / 100 % hot.len()].as_bytes()).is_some(), "{n}");
                }
            }
            assert!(cache.tokens.len() <= entries, "{}", cache.tokens.len());
            assert!(cache.tokens.weight() <= bytes as u64, "{}", cache.tokens.weight());
            let kept = hot.iter().filter(|token| cache.get(token.as_bytes()).is_some()).count();
            assert_eq!(kept, hot.len());
        }
    }

    #[test]
    fn a_hit_is_equality_of_every_byte() {
        let (proof, token) = verified();
        let cache = Cache::new(CacheSize::default());
        cache.insert(token.as_bytes(), proof);
        assert!(cache.get(token.as_bytes()).is_some());
        for other in [&token[1..], &token[..token.len() - 1], &format!("{token}="), ""] {
            assert!(cache.get(other.as_bytes()).is_none());
        }
        let mut changed = token.clone().into_bytes();
        for at in 0..changed.len() {
            changed[at] ^= 1;
            assert!(cache.get(&changed).is_none(), "{at}");
            changed[at] ^= 1;
        }
        cache.remove(token.as_bytes());
        assert!(cache.get(token.as_bytes()).is_none());
    }

    #[test]
    fn sizes_have_bounds() {
        assert_eq!(CacheSize::new(0, 0).unwrap_err().iter().count(), 2);
        assert!(CacheSize::new(10_000_000, 64 * 1024).is_ok());
    }
}
