//! Where a verifier's keys come from: a set that never changes, or one that is fetched from the issuer.

use futures::future::BoxFuture;

#[cfg(feature = "testing")]
use super::manual::ManualKeys;
#[cfg(feature = "jwks-client")]
use super::remote::RemoteJwks;
use super::{
    keyset::{KeySet, SetId},
    ring::KeyRing,
};
use crate::{clock::UnixSeconds, rejection::Rejection};

/// Resolves when a fetch has ended, well or not, or has taken too long to wait for.
pub(crate) type Fetched = BoxFuture<'static, ()>;

/// Where a verifier gets the keys of an issuer. Made of a [`KeySet`], a [`KeyRing`]
#[cfg_attr(feature = "jwks-client", doc = "or a [`RemoteJwks`]")]
/// with `into()`, which [`Verifier::new`](super::Verifier::new) does by itself. Cheap to clone.
#[derive(Clone, Debug)]
pub struct KeySource(Source);

#[derive(Clone, Debug)]
enum Source {
    Fixed(KeySet),
    Ring(KeyRing),
    #[cfg(feature = "jwks-client")]
    Remote(RemoteJwks),
    #[cfg(feature = "testing")]
    Manual(ManualKeys),
}

impl From<KeySet> for KeySource {
    fn from(keys: KeySet) -> Self {
        Self(Source::Fixed(keys))
    }
}

impl From<KeyRing> for KeySource {
    fn from(keys: KeyRing) -> Self {
        Self(Source::Ring(keys))
    }
}

#[cfg(feature = "jwks-client")]
impl From<RemoteJwks> for KeySource {
    fn from(keys: RemoteJwks) -> Self {
        Self(Source::Remote(keys))
    }
}

#[cfg(feature = "testing")]
impl From<ManualKeys> for KeySource {
    fn from(keys: ManualKeys) -> Self {
        Self(Source::Manual(keys))
    }
}

impl KeySource {
    /// Sees to it that keys which a store keeps are read again when it is time; `false` if they must be before anything is decided.
    pub(crate) fn keep_up(&self, now: UnixSeconds) -> bool {
        match &self.0 {
            Source::Fixed(_) => true,
            Source::Ring(ring) => {
                ring.keep_up(now);
                !ring.are_old(now)
            }
            #[cfg(feature = "jwks-client")]
            Source::Remote(_) => true,
            #[cfg(feature = "testing")]
            Source::Manual(keys) => keys.current().is_some(),
        }
    }

    /// Whether there may be keys that are too old to decide anything with.
    pub(crate) const fn can_be_old(&self) -> bool {
        matches!(self.0, Source::Ring(_))
    }

    /// The keys as they are now.
    #[cfg_attr(
        not(any(feature = "jwks-client", feature = "testing")),
        expect(clippy::unnecessary_wraps, reason = "keys that do not change are always there")
    )]
    pub(crate) fn current(&self) -> Result<KeySet, Rejection> {
        match &self.0 {
            Source::Fixed(keys) => Ok(keys.clone()),
            Source::Ring(ring) => Ok(ring.set()),
            #[cfg(feature = "jwks-client")]
            Source::Remote(remote) => remote.current().ok_or(Rejection::KeysUnavailable),
            #[cfg(feature = "testing")]
            Source::Manual(keys) => keys.current().ok_or(Rejection::KeysUnavailable),
        }
    }

    /// Whether they are those that the program was built with.
    pub(crate) const fn are_fixed(&self) -> bool {
        matches!(self.0, Source::Fixed(_))
    }

    /// Whether there are keys to verify with. Those that a store keeps are read again first where it is time.
    pub(crate) async fn are_there(&self, now: UnixSeconds) -> bool {
        if let Source::Ring(ring) = &self.0 {
            return ring.signing(now).await.is_some();
        }
        self.current().is_ok()
    }

    /// Whether the set that there is now has this number.
    pub(crate) fn are(&self, id: SetId) -> bool {
        match &self.0 {
            Source::Fixed(own) => own.id() == id,
            Source::Ring(ring) => ring.are(id),
            #[cfg(feature = "jwks-client")]
            Source::Remote(remote) => remote.are(id),
            #[cfg(feature = "testing")]
            Source::Manual(keys) => keys.are(id),
        }
    }

    /// Asks for new keys, because a token names one that is not there. `None` if that has just been tried.
    pub(crate) fn fetch_again(&self, now: UnixSeconds) -> Option<Fetched> {
        match &self.0 {
            Source::Fixed(_) => None,
            Source::Ring(ring) => ring.fetch_again(now),
            #[cfg(feature = "jwks-client")]
            Source::Remote(remote) => remote.fetch_again(),
            #[cfg(feature = "testing")]
            Source::Manual(_) => None,
        }
    }

    /// What a rejection means, as far as these keys can tell: a key that is not there may be one that could not be fetched.
    pub(crate) fn verdict(&self, rejection: Rejection) -> Rejection {
        match (&self.0, rejection) {
            (Source::Ring(ring), Rejection::UnknownKey) if ring.is_failing() => Rejection::KeysUnavailable,
            #[cfg(feature = "jwks-client")]
            (Source::Remote(remote), Rejection::UnknownKey) if remote.is_failing() => Rejection::KeysUnavailable,
            _ => rejection,
        }
    }
}
