//! What a store does for signing keys that several machines share.

use std::fmt;

use super::StoreFuture;
use crate::clock::UnixSeconds;

/// The signing keys of one server, in the order in which each follows the one before.
///
/// Object-safe. Each call is atomic. Of any number of calls to [`add_key`](Self::add_key) that name one predecessor, one
/// succeeds: this is how machines agree which key comes next. What is kept of a private key is sealed under a secret that the
/// store does not know.
///
/// # Errors
///
/// Every call may fail with [`StoreError::Unavailable`](super::StoreError::Unavailable).
pub trait KeyStore: Send + Sync + 'static {
    /// All keys, in no particular order. There are few: those that are over are removed.
    fn keys(&self) -> StoreFuture<'_, Vec<KeyRecord>>;

    /// Adds a key. [`StoreError::Conflict`](super::StoreError::Conflict) if its id is taken, or if its predecessor has a
    /// successor already.
    fn add_key(&self, key: KeyRecord) -> StoreFuture<'_, ()>;

    /// Removes a key; `false` if there is none with this id.
    fn remove_key<'a>(&'a self, kid: &'a str) -> StoreFuture<'a, bool>;
}

/// A signing key as a store has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyRecord {
    /// Its id, as tokens name it.
    pub kid: String,
    /// Its algorithm, as tokens name it.
    pub algorithm: String,
    /// Its private half.
    pub sealed: SealedKey,
    /// The id of the key that it follows; empty for the first.
    pub predecessor: String,
    /// From when on it is published.
    pub published_at: UnixSeconds,
    /// From when on it signs.
    pub active_at: UnixSeconds,
}

/// A private key that only the holder of the server's secret can read.
#[derive(Clone, Eq, PartialEq)]
pub struct SealedKey(Vec<u8>);

impl SealedKey {
    /// Takes over what a store has kept.
    pub const fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// For a store to keep.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SealedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[sealed]")
    }
}

impl<T: KeyStore + ?Sized> KeyStore for std::sync::Arc<T> {
    fn keys(&self) -> StoreFuture<'_, Vec<KeyRecord>> {
        (**self).keys()
    }

    fn add_key(&self, key: KeyRecord) -> StoreFuture<'_, ()> {
        (**self).add_key(key)
    }

    fn remove_key<'a>(&'a self, kid: &'a str) -> StoreFuture<'a, bool> {
        (**self).remove_key(kid)
    }
}
