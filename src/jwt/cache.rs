//! Tokens that have been verified, looked up by their whole text.
//!
//! Only successes get in, so nobody but an issuer chooses what is kept. A hit is equality of every byte: never of a hash,
//! a signature or a token id, each of which an attacker may repeat beside other content. What can change between two
//! requests is looked at on each hit, by the verifier: the time, and whether the token's key is still one of its issuer's.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::{
        TryLockError,
        // Of figures, which no proof is about.
        atomic::{AtomicUsize, Ordering},
    },
};

use quick_cache::{Equivalent, Weighter};

use self::{
    front::Front,
    shared::{Tokens, in_shards},
};
use super::verified::{CustomClaims, Verified};
use crate::{
    config::ConfigErrors,
    metrics,
    stripe::Striped,
    sync::{Mutex, MutexGuard},
};

mod front;
#[cfg(not(all(test, portcullis_loom)))]
mod shared;
#[cfg(all(test, portcullis_loom))]
#[path = "cache/stand_in.rs"]
mod shared;

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
/// those in use. What a thread asks for all the time it has a copy of, so that threads do not count the same references.
pub(crate) struct Cache<C> {
    size: CacheSize,
    fronts: Striped<Mutex<Front<Verified<C>>>>,
    tokens: Tokens<C>,
    /// How many of them there were when that was last told.
    told: AtomicUsize,
}

/// A token's whole text, placed by its end: that is its signature, which no two good tokens share. Whoever sends other texts
/// with the same end finds the one that is there, compares it, and goes on; they get nothing in.
#[derive(Eq, PartialEq)]
struct Token<T>(T);

const PLACED_BY: usize = 32;

impl<T: AsRef<[u8]>> Hash for Token<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let text = self.0.as_ref();
        state.write(text.last_chunk::<PLACED_BY>().map_or(text, |end| end));
    }
}

impl Equivalent<Token<Box<[u8]>>> for Token<&[u8]> {
    fn equivalent(&self, kept: &Token<Box<[u8]>>) -> bool {
        *self.0 == *kept.0
    }
}

/// Bytes that an entry takes, or its share of the number of entries if that is more: one bound holds both.
#[derive(Clone, Debug)]
struct Weight {
    least: u64,
}

/// What an entry takes beside its token and its claims.
const OVERHEAD: usize = 320;

fn bytes_of<C>(token: &[u8], verified: &Verified<C>) -> usize {
    token.len() + verified.text_length() + OVERHEAD
}

impl<C> Weighter<Token<Box<[u8]>>, Verified<C>> for Weight {
    fn weight(&self, Token(token): &Token<Box<[u8]>>, verified: &Verified<C>) -> u64 {
        (bytes_of(token, verified) as u64).max(self.least)
    }
}

/// Copies that a thread has at the most, and how many bytes one may take.
const MOST_IN_FRONT: usize = 64;
const MOST_BYTES_IN_FRONT: usize = 4096;

impl<C> Cache<C> {
    pub(crate) fn new(size: CacheSize) -> Self {
        let (entries, bytes) = (size.entries, size.bytes as u64);
        let least = (bytes / entries as u64).max(1);
        // The copies of all threads take an eighth of what the rest may take, at the most.
        let share = |all: usize, each: usize| all / 8 / Striped::<()>::count() / each;
        let in_front = share(entries, 1).min(share(size.bytes, MOST_BYTES_IN_FRONT)).min(MOST_IN_FRONT);
        Self {
            size,
            fronts: Striped::new(|| Mutex::new(Front::new(in_front))),
            tokens: in_shards(entries, bytes, Weight { least }),
            told: AtomicUsize::new(0),
        }
    }

    pub(crate) const fn size(&self) -> CacheSize {
        self.size
    }

    pub(crate) fn insert(&self, token: &[u8], verified: Verified<C>) {
        self.tokens.insert(Token(token.into()), verified);
        self.tell(self.tokens.len());
    }

    /// Drops an entry that does not hold any more. Another thread's copy of it is dropped when it is found there.
    pub(crate) fn remove(&self, token: &[u8]) {
        self.tokens.remove(&Token(token));
        self.tell(self.tokens.len());
        if let Some(mut front) = self.front() {
            front.remove(token);
        }
    }

    fn tell(&self, entries: usize) {
        let before = self.told.swap(entries, Ordering::Relaxed);
        if before != entries {
            metrics::cached_tokens(before, entries);
        }
    }

    /// This thread's copies; `None` while another thread has them, where there are more threads than cores.
    fn front(&self) -> Option<MutexGuard<'_, Front<Verified<C>>>> {
        match self.fronts.own().try_lock() {
            Ok(front) => Some(front),
            Err(TryLockError::Poisoned(front)) => Some(front.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl<C> Cache<C> {
    /// Whether it is there, for the log. Nothing is moved up by that.
    pub(crate) fn has(&self, token: &[u8]) -> bool {
        self.tokens.peek(&Token(token)).is_some()
    }
}

impl<C: CustomClaims> Cache<C> {
    pub(crate) fn get(&self, token: &[u8]) -> Option<Verified<C>> {
        let mut front = self.front();
        if let Some(verified) = front.as_mut().and_then(|front| front.get(token)) {
            return Some(verified.clone());
        }
        let verified = self.tokens.get(&Token(token))?;
        if let Some(front) = &mut front
            && bytes_of(token, &verified) <= MOST_BYTES_IN_FRONT
            && front.is_worth_a_copy(token)
            && let Some(copy) = verified.copy()
        {
            front.insert(token, copy);
        }
        Some(verified)
    }
}

impl<C> Drop for Cache<C> {
    fn drop(&mut self) {
        self.tell(0);
    }
}

impl<C> fmt::Debug for Cache<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("size", &self.size).field("entries", &self.tokens.len()).finish_non_exhaustive()
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
    }

    #[test]
    fn the_smallest_memory_keeps_a_long_token() {
        let (proof, _) = verified();
        let cache = Cache::new(CacheSize::new(10_000_000, 64 * 1024).unwrap());
        let long = "x".repeat(50_000);
        cache.insert(long.as_bytes(), proof);
        assert!(cache.get(long.as_bytes()).is_some());
    }

    #[test]
    fn sizes_have_bounds() {
        assert_eq!(CacheSize::new(0, 0).unwrap_err().iter().count(), 2);
        assert!(CacheSize::new(10_000_000, 64 * 1024).is_ok());
    }
}
