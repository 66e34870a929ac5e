//! The keys that a server signs with: one that does, and those that are published beside it.

mod builder;
mod plan;
mod sealing;
mod snapshot;

use std::{collections::HashSet, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::FutureExt as _;
use tokio::sync::Mutex;

pub use self::builder::KeyRingBuilder;
use self::{
    plan::{Periods, Phase},
    sealing::Sealing,
    snapshot::Snapshot,
};
use super::{
    algorithm::Algorithm,
    jwk::JwkSet,
    keyset::{KeySet, SetId},
    signer::SigningKey,
};
use crate::{
    audit,
    clock::UnixSeconds,
    config::ConfigErrors,
    follow::{Age, Ages, Follow, Read, Reading, TIMEOUT},
    secret::Secret,
    store::{KeyRecord, KeyStore, StoreError},
};

/// The signing keys of a server. Cheap to clone; made of one [`SigningKey`] with `into()`.
///
/// Keys that a store keeps live through four phases, and all machines that share the store agree on which:
///
/// | phase | published | signs | lasts |
/// |---|---|---|---|
/// | prepublished | yes | no | 15 min, longer than caches may keep a key set |
/// | active | yes | yes | 90 d |
/// | retiring | yes | no | 75 min, longer than tokens live |
/// | gone | no | no | |
///
/// A machine reads them again every half minute, while it is asked to sign or to verify; the one that finds that it is time
/// publishes the next key. Their private halves are sealed with AES-256-GCM under a secret that the store does not know.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
/// use portcullis::{AuthorizationServer, jwt::*, secret::Secret, store::MemoryStore};
///
/// # let key_secret = "7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26";
/// let store = Arc::new(MemoryStore::new());
/// let keys = KeyRing::stored(store, Algorithm::EdDsa, Secret::from(key_secret)).open().await?;
/// let server = AuthorizationServer::builder("https://id.example", "orders", keys).build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct KeyRing(Arc<Ring>);

struct Ring {
    current: Snapshot<Members>,
    stored: Option<Stored>,
}

/// Keys as they were when the store was last read.
struct Members {
    all: Vec<Member>,
    set: KeySet,
    /// The published set, as text.
    jwks: Bytes,
}

#[derive(Clone)]
struct Member {
    key: Arc<SigningKey>,
    active_at: UnixSeconds,
}

struct Stored {
    store: Arc<dyn KeyStore>,
    sealing: Sealing,
    algorithm: Algorithm,
    periods: Periods,
    follow: Follow,
    /// Held while the store is read, so that what was read earlier never replaces what was read later.
    reading: Mutex<()>,
}

/// Why keys could not be had from a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyRingError {
    /// A setting is wrong.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The store did not answer, or its keys cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keys of this ring were given, not stored: give others.
    #[error("the keys of this ring are not in a store")]
    Given,
}

/// A moment that never comes: for keys that are given to be published alone.
const NEVER: UnixSeconds = UnixSeconds::new(u64::MAX);
/// How long caches may keep the published set.
const CACHED: Duration = Duration::from_secs(300);
/// How much later than it is used by nobody a key leaves the store: machines' clocks differ.
const LATE: Duration = Duration::from_secs(3600);
/// How often the others are given time to agree.
const TRIES: usize = 8;
/// How often the store is read.
const DUE: Duration = Duration::from_secs(30);
/// How soon it is read again for a token whose key is not there.
const SOON: u64 = 5;
const WHAT: &str = "key store";

impl From<SigningKey> for KeyRing {
    fn from(key: SigningKey) -> Self {
        let set = KeySet::as_published(vec![key.verifying_key()]);
        let member = Member { key: Arc::new(key), active_at: UnixSeconds::new(0) };
        Self::of(Members { jwks: published(std::slice::from_ref(&member)), all: vec![member], set }, None)
    }
}

impl KeyRing {
    /// Keys from the program's own configuration: `active` signs; `published` are published and verify beside it, such as the
    /// one before it and the one after it.
    ///
    /// # Errors
    ///
    /// As [`KeySet::new`].
    pub fn given(active: SigningKey, published: impl IntoIterator<Item = SigningKey>) -> Result<Self, ConfigErrors> {
        let rest = published.into_iter().map(|key| Member { key: Arc::new(key), active_at: NEVER });
        let active = Member { key: Arc::new(active), active_at: UnixSeconds::new(0) };
        Ok(Self::of(Members::new(std::iter::once(active).chain(rest).collect())?, None))
    }

    /// Keys that `store` keeps and that take turns by themselves. `secret` seals them there: 32 random bytes or more, such as
    /// `openssl rand -hex 32` prints, the same on all machines. Shared-secret algorithms have nothing to publish, and do not
    /// build.
    pub fn stored(store: Arc<dyn KeyStore>, algorithm: Algorithm, secret: Secret<String>) -> KeyRingBuilder {
        KeyRingBuilder::new(store, algorithm, secret)
    }

    fn of(members: Members, stored: Option<Stored>) -> Self {
        let number = members.set.id().0;
        Self(Arc::new(Ring { current: Snapshot::new(members, number), stored }))
    }

    /// Publishes another key, which is to sign when those who verify have had the time to learn of it, and says when. If one
    /// is waiting already, it stays with that.
    ///
    /// # Errors
    ///
    /// [`KeyRingError`] if the keys are not in a store, or the store does not answer.
    pub async fn rotate(&self, now: UnixSeconds) -> Result<UnixSeconds, KeyRingError> {
        let stored = self.0.stored.as_ref().ok_or(KeyRingError::Given)?;
        for _ in 0..TRIES {
            let last = self.0.read(stored, now).await?;
            let Some(active_at) = plan::next(last.active_at, true, stored.periods, now) else {
                return Ok(last.active_at);
            };
            stored.add(&last.kid, active_at, now).await?;
        }
        Err(StoreError::unavailable("others keep changing the keys").into())
    }

    /// Puts a new key in the place of all others, at once: for one that somebody else has got hold of. What the others have
    /// signed is refused here when this returns, on machines with the same store within half a minute if they can read it, and by
    /// others when they fetch the key set again. Everybody has to refresh or sign in again.
    ///
    /// # Errors
    ///
    /// As [`rotate`](Self::rotate); then some of them may still be there: call again.
    pub async fn replace(&self, now: UnixSeconds) -> Result<(), KeyRingError> {
        let stored = self.0.stored.as_ref().ok_or(KeyRingError::Given)?;
        // Those that were there before the new one, and no other: somebody else may be doing the same.
        let mut before = None;
        for _ in 0..TRIES {
            let last = self.0.read(stored, now).await?;
            let there = stored.store.keys().await?;
            if stored.add(&last.kid, now, now).await? {
                before = Some(there);
                break;
            }
        }
        let before = before.ok_or_else(|| StoreError::unavailable("others keep changing the keys"))?;
        for record in before {
            stored.store.remove_key(&record.kid).await?;
        }
        self.0.read(stored, now).await?;
        Ok(())
    }

    /// The key that signs now. `None` if another machine may have given up on it, because the store has not been read for as
    /// long as a key is published before it signs.
    pub(crate) async fn signing(&self, now: UnixSeconds) -> Option<Arc<SigningKey>> {
        if let Some(stored) = &self.0.stored {
            let ages = Ages { due: DUE, stale: stored.periods.prepublish };
            self.is_read(stored, ages, now).await.then_some(())?;
        }
        let members = self.0.members();
        let phases = members.phases(Duration::MAX, now);
        let active = members.all.iter().zip(phases).find(|(_, phase)| *phase == Phase::Active);
        // The clock of the machine that made the first one may be ahead of ours.
        let first = || members.all.iter().find(|member| member.active_at != NEVER);
        active.map(|(member, _)| member).or_else(first).map(|member| Arc::clone(&member.key))
    }

    /// Whether the keys may be others by now, and it is known how to find out: a key that was replaced must not open a machine
    /// that has been idle. While the store cannot be read, those that there are go on.
    pub(crate) fn are_old(&self, now: UnixSeconds) -> bool {
        self.0.stored.as_ref().is_some_and(|stored| {
            let age = stored.follow.age(Ages { due: DUE, stale: 2 * DUE }, now);
            age == Age::Stale && !stored.follow.is_failing()
        })
    }

    /// Begins to read the store where it is time.
    pub(crate) fn keep_up(&self, now: UnixSeconds) {
        if let Some(stored) = &self.0.stored
            && stored.follow.age(Ages { due: DUE, stale: Duration::MAX }, now) != Age::Fresh
        {
            self.begin(stored, now);
        }
    }

    /// Reads the store again for a token whose key is not there, unless that has just been done.
    pub(crate) fn fetch_again(&self, now: UnixSeconds) -> Option<Reading> {
        let stored = self.0.stored.as_ref()?;
        let soon = Ages { due: Duration::from_secs(SOON), stale: Duration::MAX };
        if stored.follow.age(soon, now) == Age::Fresh {
            return None;
        }
        stored.follow.join(WHAT, now, || self.reading(now))
    }

    /// The published set, as text, for caches to keep for five minutes. `None` if a key that is not in it may sign within that
    /// time, because the store has not been read for so long.
    pub(crate) async fn jwks(&self, now: UnixSeconds) -> Option<Bytes> {
        if let Some(stored) = &self.0.stored {
            let stale = stored.periods.prepublish.saturating_sub(CACHED + DUE);
            self.is_read(stored, Ages { due: DUE, stale }, now).await.then_some(())?;
        }
        Some(self.0.members().jwks.clone())
    }

    /// Whether the last reading could not be done.
    pub(crate) fn is_failing(&self) -> bool {
        self.0.stored.as_ref().is_some_and(|stored| stored.follow.is_failing())
    }

    /// Whether the store has been read not too long ago, once it has been read again if it was not.
    async fn is_read(&self, stored: &Stored, ages: Ages, now: UnixSeconds) -> bool {
        match stored.follow.age(ages, now) {
            Age::Fresh => {}
            Age::Due => self.begin(stored, now),
            Age::Stale => {
                // Twice, because one that is going on may have been begun too long ago to be of use now.
                for _ in 0..2 {
                    if let Some(reading) = stored.follow.join(WHAT, now, || self.reading(now)) {
                        reading.await;
                    }
                    if stored.follow.age(ages, now) != Age::Stale {
                        return true;
                    }
                }
                return false;
            }
        }
        true
    }

    /// All keys that verify.
    pub(crate) fn set(&self) -> KeySet {
        self.0.members().set.clone()
    }

    /// Whether the set that there is now has this number.
    pub(crate) fn are(&self, id: SetId) -> bool {
        self.0.current.is(id.0)
    }

    /// Whether none of its keys can be published, because whoever verifies with one could sign.
    pub(crate) fn is_shared(&self) -> bool {
        self.0.members().all.iter().all(|member| member.key.algorithm().is_shared())
    }

    /// For how long a key that signs no more is still published, where keys take turns.
    pub(crate) fn retires_for(&self) -> Option<Duration> {
        self.0.stored.as_ref().map(|stored| stored.periods.retire)
    }

    fn begin(&self, stored: &Stored, now: UnixSeconds) {
        stored.follow.begin(WHAT, now, || self.reading(now));
    }

    fn reading(&self, now: UnixSeconds) -> Read {
        let ring = Arc::clone(&self.0);
        let read = async move {
            if let Some(stored) = &ring.stored {
                ring.keep_going(stored, now).await?;
            }
            Ok(())
        };
        Read { most: TIMEOUT, read: read.boxed() }
    }
}

#[cfg(all(test, portcullis_loom))]
impl KeyRing {
    /// Takes over this set, as after a reading.
    pub(crate) fn put(&self, set: KeySet) {
        let number = set.id().0;
        self.0.current.replace(Members { jwks: Bytes::new(), all: Vec::new(), set }, number);
    }
}

impl Ring {
    fn members(&self) -> Arc<Members> {
        self.current.get()
    }

    /// Reads the store, and publishes the next key if it is time: beside this, because to make one may take longer than a reading
    /// may. Where that fails there is time to try again.
    async fn keep_going(self: &Arc<Self>, stored: &Stored, now: UnixSeconds) -> Result<(), StoreError> {
        let last = self.read(stored, now).await?;
        let unfit = last.algorithm != stored.algorithm.name();
        if let Some(active_at) = plan::next(last.active_at, unfit, stored.periods, now) {
            let ring = Arc::clone(self);
            tokio::spawn(audit::carried(async move {
                let Some(stored) = &ring.stored else { return };
                let added = stored.add(&last.kid, active_at, now).await;
                if let Err(error) = added.and(ring.read(stored, now).await) {
                    audit::degraded("key store", audit::Undone::NextKey, &error);
                }
            }));
        }
        Ok(())
    }

    /// Takes over what the store has, removes what is over, and returns the key that none follows.
    async fn read(&self, stored: &Stored, now: UnixSeconds) -> Result<KeyRecord, StoreError> {
        let _reading = stored.reading.lock().await;
        let mut records = stored.store.keys().await?;
        // One order on all machines.
        records.sort_by(|a, b| (a.active_at, a.published_at, &a.kid).cmp(&(b.active_at, b.published_at, &b.kid)));
        let moments: Vec<_> = records.iter().map(|record| record.active_at).collect();
        let phases = plan::phases(&moments, stored.periods.retire, now);
        let over = plan::phases(&moments, stored.periods.retire + LATE, now);
        let known = self.members();
        let mut members = Vec::new();
        for (record, (phase, over)) in records.iter().zip(phases.into_iter().zip(over)) {
            if phase != Phase::Gone {
                members.push(stored.open(record, &known)?);
            } else if over == Phase::Gone
                && let Err(error) = stored.store.remove_key(&record.kid).await
            {
                // It is of no use to anybody, here or there.
                audit::degraded("key store", audit::Undone::OldKey, &error);
            }
        }
        let followed: HashSet<&str> = records.iter().map(|record| record.predecessor.as_str()).collect();
        let last = records.iter().rev().find(|record| !followed.contains(record.kid.as_str())).cloned();
        let last = last.ok_or_else(|| StoreError::unavailable("there is no signing key"))?;
        if !known.are(&members) {
            let members = Members::new(members).map_err(StoreError::unavailable)?;
            let number = members.set.id().0;
            audit::own_keys_read(members.all.len());
            self.current.replace(members, number);
        }
        Ok(last)
    }
}

impl Stored {
    /// The key of a record: the one that is there, if it is, because to parse one costs more than to compare its id.
    fn open(&self, record: &KeyRecord, known: &Members) -> Result<Member, StoreError> {
        let same = |member: &&Member| member.key.kid() == Some(record.kid.as_str());
        let key = match known.all.iter().find(same) {
            Some(member) => Arc::clone(&member.key),
            None => Arc::new(self.unseal(record)?),
        };
        Ok(Member { key, active_at: record.active_at })
    }

    fn unseal(&self, record: &KeyRecord) -> Result<SigningKey, StoreError> {
        let sealed_otherwise = || StoreError::unavailable("a signing key was sealed under another secret, or changed");
        let algorithm = record.algorithm.parse::<Algorithm>().map_err(StoreError::unavailable)?;
        let der = self.sealing.open(&record.kid, &record.sealed).ok_or_else(sealed_otherwise)?;
        Ok(SigningKey::from_der(algorithm, &der).map_err(StoreError::unavailable)?.with_kid(record.kid.as_str()))
    }

    /// Makes a key that follows `predecessor`; `false` if another machine was faster.
    async fn add(&self, predecessor: &str, active_at: UnixSeconds, now: UnixSeconds) -> Result<bool, StoreError> {
        let algorithm = self.algorithm;
        // RSA keys take a good part of a second.
        let made = tokio::task::spawn_blocking(move || {
            let key = SigningKey::generate(algorithm).ok()?;
            Some((key.kid()?.to_owned(), key.pkcs8()?))
        });
        let (kid, der) =
            made.await.ok().flatten().ok_or_else(|| StoreError::unavailable("a signing key could not be made"))?;
        let sealed = self.sealing.seal(&kid, &der);
        let sealed = sealed.ok_or_else(|| StoreError::unavailable("a signing key could not be sealed"))?;
        let record = KeyRecord {
            kid,
            algorithm: algorithm.name().to_owned(),
            sealed,
            predecessor: predecessor.to_owned(),
            published_at: now,
            active_at,
        };
        match self.store.add_key(record).await {
            Ok(()) => Ok(true),
            Err(StoreError::Conflict) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Members {
    fn new(all: Vec<Member>) -> Result<Self, ConfigErrors> {
        let set = KeySet::new(all.iter().map(|member| member.key.verifying_key()))?;
        Ok(Self { jwks: published(&all), all, set })
    }

    fn none() -> Self {
        Self { jwks: published(&[]), all: Vec::new(), set: KeySet::as_published(Vec::new()) }
    }

    fn phases(&self, retire: Duration, now: UnixSeconds) -> Vec<Phase> {
        let moments: Vec<_> = self.all.iter().map(|member| member.active_at).collect();
        plan::phases(&moments, retire, now)
    }

    fn are(&self, others: &[Member]) -> bool {
        let names = |members: &[Member]| {
            members.iter().map(|member| (member.key.kid().map(str::to_owned), member.active_at)).collect::<Vec<_>>()
        };
        names(&self.all) == names(others)
    }
}

fn published(members: &[Member]) -> Bytes {
    let keys = members.iter().flat_map(|member| member.key.jwks().keys).collect();
    // Nothing in it can fail to serialise.
    serde_json::to_vec(&JwkSet { keys }).unwrap_or_default().into()
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.members().all.iter().map(|member| &member.key)).finish()
    }
}
