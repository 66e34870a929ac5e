//! Calling access tokens back: what a layer looks at before it lets a token pass that is otherwise good.
//!
//! A signed token cannot be changed, so somebody must remember which ones no longer count: single ones by their `jti`, those
//! of a session by their `sid`, those of a subject up to a moment by their `sub` and `iat`. A [`RevocationList`] is this
//! machine's copy of what its [`RevocationStore`] holds.
//!
//! | revoked | no longer passes |
//! |---|---|
//! | here, through this list | before [`revoke`](RevocationList::revoke) returns |
//! | on another machine, in the same store | 5 seconds after that, at the latest ([`max_delay`](RevocationList::max_delay)) |
//! | while the store cannot be read | nothing passes that the copy is too old for: 503 |
//!
//! What is looked at on each request is two numbers in memory; the copy itself only after something was revoked. Needs a Tokio
//! runtime with its timer enabled: outside of one the store is not read, and tokens are answered 503.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use futures::FutureExt as _;

use crate::{
    clock::{Clock, UnixSeconds},
    config::ConfigErrors,
    follow::{Age, Ages, Follow, Read, Reading, TIMEOUT, TIMEOUT_OF_ALL},
    health::Readiness,
    ident::SessionId,
    principal::Principal,
    store::{Cursor, MOST_REVOCATIONS, Revocation, RevocationStore, Revoked, StoreError, metered},
    sync::{
        RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// The revocations of one issuer's tokens, as a machine knows them. Cheap to clone; clones share what they know.
///
/// ```
/// use std::sync::Arc;
/// use portcullis::{ResourceServer, jwt::*, revocation::RevocationList, store::MemoryStore};
///
/// # let key = SigningKey::generate(Algorithm::EdDsa)?.verifying_key();
/// # let store = Arc::new(MemoryStore::new());
/// // In a program beside the one that issues the tokens, with the same store:
/// let policy = ClaimsPolicy::builder("https://id.example", "orders").build()?;
/// let api = ResourceServer::new(policy, KeySet::new([key])?)
///     .revocations("https://id.example", RevocationList::new(store))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct RevocationList {
    shared: Arc<Shared>,
    ages: Ages,
    when_down: WhenDown,
}

/// What becomes of tokens while the copy is too old.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum WhenDown {
    Refuse,
    Accept,
}

struct Shared {
    store: Arc<dyn RevocationStore>,
    known: RwLock<Known>,
    /// Changes after each revocation that was not known before.
    version: AtomicU64,
    follow: Follow,
}

/// What a list of revocations says of a token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct TokenNames<'a> {
    pub(crate) id: Option<&'a str>,
    pub(crate) session: Option<&'a str>,
    pub(crate) subject: &'a str,
    pub(crate) issued_at: Option<UnixSeconds>,
}

impl<'a> TokenNames<'a> {
    pub(crate) fn of(caller: &'a Principal, issued_at: Option<UnixSeconds>) -> Self {
        Self { id: caller.token_id(), session: caller.session_id(), subject: caller.subject(), issued_at }
    }
}

/// The copy. Everything in it has a moment at which it may be forgotten.
#[derive(Debug)]
struct Known {
    tokens: HashMap<String, UnixSeconds>,
    sessions: HashMap<SessionId, UnixSeconds>,
    /// Which of a subject's tokens, by when they were issued, and until when.
    subjects: HashMap<String, (UnixSeconds, UnixSeconds)>,
    cursor: Cursor,
    /// When the cursor was handed out.
    read: Option<Instant>,
    /// How many there may be before those that have run out are looked for.
    sweep_at: usize,
}

const LEAST_SWEPT: usize = 1024;

impl Default for Known {
    fn default() -> Self {
        Self {
            tokens: HashMap::new(),
            sessions: HashMap::new(),
            subjects: HashMap::new(),
            cursor: Cursor::START,
            read: None,
            sweep_at: LEAST_SWEPT,
        }
    }
}

impl Known {
    fn len(&self) -> usize {
        self.tokens.len() + self.sessions.len() + self.subjects.len()
    }

    /// Adds one; whether that changes anything.
    fn add(&mut self, Revocation { tokens, until }: Revocation) -> bool {
        fn later<K: std::hash::Hash + Eq>(map: &mut HashMap<K, UnixSeconds>, key: K, until: UnixSeconds) -> bool {
            let before = map.get(&key).copied();
            map.insert(key, before.map_or(until, |before| before.max(until)));
            before.is_none()
        }
        match tokens {
            Revoked::Token(id) => later(&mut self.tokens, id, until),
            Revoked::Session(id) => later(&mut self.sessions, id, until),
            Revoked::Subject(subject, issued) => {
                let before = self.subjects.get(&subject).copied();
                let latest = before.map_or((issued, until), |before| (before.0.max(issued), before.1.max(until)));
                self.subjects.insert(subject, latest);
                before.is_none_or(|before| before.0 < issued)
            }
        }
    }

    fn add_all(&mut self, list: Vec<Revocation>, now: UnixSeconds) -> Result<bool, StoreError> {
        if self.len() + list.len() > self.sweep_at {
            self.tokens.retain(|_, until| now < *until);
            self.sessions.retain(|_, until| now < *until);
            self.subjects.retain(|_, (_, until)| now < *until);
            self.sweep_at = (2 * (self.len() + list.len())).clamp(LEAST_SWEPT, MOST_REVOCATIONS);
        }
        // What comes again takes no room, so that a list that is full can still be read.
        let mut changed = false;
        for revocation in list {
            changed |= self.add(revocation);
            if self.len() > MOST_REVOCATIONS {
                return Err(StoreError::Full);
            }
        }
        Ok(changed)
    }

    fn has(&self, token: TokenNames<'_>) -> bool {
        let by_id = || token.id.is_some_and(|id| self.tokens.contains_key(id));
        let session = || token.session.and_then(SessionId::parse);
        let by_session = || !self.sessions.is_empty() && session().is_some_and(|id| self.sessions.contains_key(&id));
        // A token that does not say when it was issued may have been at any time.
        let before = |issued_until| token.issued_at.is_none_or(|issued| issued <= issued_until);
        let by_subject = || self.subjects.get(token.subject).is_some_and(|(issued_until, _)| before(*issued_until));
        by_id() || by_session() || by_subject()
    }
}

impl RevocationList {
    /// The list that `store` keeps.
    pub fn new(store: Arc<dyn RevocationStore>) -> Self {
        Self::of(metered::revocations(store))
    }

    /// The list of a store whose calls are measured already.
    pub(crate) fn of(store: Arc<dyn RevocationStore>) -> Self {
        let shared = Shared { store, known: RwLock::default(), version: AtomicU64::new(0), follow: Follow::default() };
        let ages = Ages { due: Duration::from_secs(1), stale: Duration::from_secs(5) };
        Self { shared: Arc::new(shared), ages, when_down: WhenDown::Refuse }
    }

    /// How long a token may still pass here after it was revoked on another machine: 5 seconds unless set, 2 seconds to a
    /// minute. The store is read once in a fifth of that, and only while requests come.
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`] if it is out of bounds.
    pub fn max_delay(self, delay: Duration) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        errors.bound("delay of revocations", delay, Duration::from_secs(2), Duration::from_secs(60));
        let due = Duration::from_secs((delay.as_secs() / 5).max(1));
        errors.finish(Some(Self { ages: Ages { due, stale: delay }, ..self }))
    }

    /// Lets tokens pass while the store cannot be read, as the last reading saw them; unless this is asked for, they are
    /// answered 503, and so they are before the first. What is lost: whoever can keep the store from answering can use what was
    /// revoked on another machine, until it expires.
    #[must_use]
    pub fn danger_accept_when_down(self) -> Self {
        Self { when_down: WhenDown::Accept, ..self }
    }

    /// Calls tokens back. They pass no longer on this machine from the moment at which this returns. A future that is dropped
    /// leaves open whether they do.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store did not take it: nothing is changed, so that whoever asked can ask again with the token that
    /// they have. [`StoreError::Full`] for single tokens beyond half a million; sessions and subjects have the other half.
    pub async fn revoke(&self, revocations: Vec<Revocation>, now: UnixSeconds) -> Result<(), StoreError> {
        let single = revocations.iter().any(|revocation| matches!(revocation.tokens, Revoked::Token(_)));
        if single
            && self.shared.known.read().unwrap_or_else(PoisonError::into_inner).tokens.len() > MOST_REVOCATIONS / 2
        {
            return Err(StoreError::Full);
        }
        self.shared.store.revoke_tokens(revocations.clone(), now).await?;
        self.learn(revocations, now)
    }

    /// Takes note of what the store has noted already.
    pub(crate) fn learn(&self, revocations: Vec<Revocation>, now: UnixSeconds) -> Result<(), StoreError> {
        self.shared.learn(revocations, now)
    }

    /// Changes whenever something was added. To be read before [`has`](Self::has), whose answer holds for it.
    pub(crate) fn version(&self) -> u64 {
        self.shared.version.load(Ordering::Acquire)
    }

    /// Whether this token was called back.
    pub(crate) fn has(&self, token: TokenNames<'_>) -> bool {
        self.shared.known.read().unwrap_or_else(PoisonError::into_inner).has(token)
    }

    /// Whether the copy is good as of `now`. Begins a reading where it is time.
    pub(crate) fn is_usable(&self, now: UnixSeconds) -> bool {
        match self.shared.follow.age(self.ages, now) {
            Age::Fresh => true,
            Age::Stale if !self.accepts_stale() => false,
            Age::Due | Age::Stale => {
                self.shared.follow.begin(WHAT, now, || self.shared.read(now));
                true
            }
        }
    }

    /// Only what was read once can be stale.
    fn accepts_stale(&self) -> bool {
        let follow = &self.shared.follow;
        self.when_down == WhenDown::Accept && follow.is_failing() && follow.has_read()
    }

    /// Resolves when the copy has been read again, or could not be. `None` if there is no use in waiting.
    pub(crate) fn read_again(&self, now: UnixSeconds) -> Option<Reading> {
        let first = self.join(now)?;
        let list = self.clone();
        let read = async move {
            first.await;
            // It may have been begun too long ago to be of use now.
            if list.shared.follow.age(list.ages, now) == Age::Stale
                && let Some(second) = list.join(now)
            {
                second.await;
            }
        };
        Some(read.boxed())
    }

    fn join(&self, now: UnixSeconds) -> Option<Reading> {
        self.shared.follow.join(WHAT, now, || self.shared.read(now))
    }

    /// Whether the copy is good, once it has been read again if it was not.
    pub(crate) async fn settled(&self, now: UnixSeconds) -> bool {
        if self.is_usable(now) {
            return true;
        }
        if let Some(reading) = self.read_again(now) {
            reading.await;
        }
        self.is_usable(now)
    }

    /// Part of what a program needs to be ready: that it can be told what was called back.
    pub(crate) fn needed_by(self, readiness: Readiness, clock: Arc<dyn Clock>) -> Readiness {
        readiness.needs("revocations", true, move || {
            let (list, now) = (self.clone(), clock.now());
            let settled =
                async move { list.settled(now).await.then_some(()).ok_or(StoreError::unavailable("too old")) };
            settled.boxed()
        })
    }

    /// When a token was last called back by its subject's name, so that a new one can be told from it.
    pub(crate) fn issued_until(&self, subject: &str) -> Option<UnixSeconds> {
        let known = self.shared.known.read().unwrap_or_else(PoisonError::into_inner);
        known.subjects.get(subject).map(|(issued_until, _)| *issued_until)
    }
}

#[cfg(all(test, portcullis_loom))]
impl RevocationList {
    /// As after the store was read at `now`, and had none.
    pub(crate) fn has_read_as_of(&self, now: UnixSeconds) {
        self.shared.follow.has_read_as_of(now);
    }
}

const WHAT: &str = "revocation store";
/// After how long a cursor is not trusted any more.
const PAUSE: Duration = Duration::from_secs(30);
/// How many of a long list are added while requests wait.
const AT_ONCE: usize = 1000;

impl Shared {
    fn read(self: &Arc<Self>, now: UnixSeconds) -> Read {
        let (shared, (cursor, most)) = (Arc::clone(self), self.cursor());
        let read = async move {
            let begun = Instant::now();
            let mut read = shared.store.revocations(cursor, now).await?;
            while !read.list.is_empty() {
                let rest = read.list.split_off(read.list.len().min(AT_ONCE));
                shared.learn(std::mem::replace(&mut read.list, rest), now)?;
            }
            // Last, so that what was cut off half-way is read again.
            let mut known = shared.known.write().unwrap_or_else(PoisonError::into_inner);
            (known.cursor, known.read) = (read.cursor, Some(begun));
            Ok(())
        };
        Read { most, read: read.boxed() }
    }

    /// Where to go on reading, and how long that may take. From the start after a pause, in which the store's own clock may have
    /// been set back; a list that has grown long must be read then all the same.
    fn cursor(&self) -> (Cursor, Duration) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let recent = known.read.is_some_and(|read| read.elapsed() < PAUSE);
        if recent { (known.cursor, TIMEOUT) } else { (Cursor::START, TIMEOUT_OF_ALL) }
    }

    fn learn(&self, list: Vec<Revocation>, now: UnixSeconds) -> Result<(), StoreError> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let changed = known.add_all(list, now);
        // Whatever was added before it was full counts.
        if !matches!(changed, Ok(false)) {
            self.version.fetch_add(1, Ordering::Release);
        }
        changed.map(drop)
    }
}

impl fmt::Debug for RevocationList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevocationList")
            .field("ages", &self.ages)
            .field("when_down", &self.when_down)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> UnixSeconds {
        UnixSeconds::new(seconds)
    }

    const TOKEN: TokenNames<'static> = TokenNames {
        id: Some("j"),
        session: Some("AAAAAAAAAAAAAAAAAAAAAA"),
        subject: "user:1",
        issued_at: Some(UnixSeconds::new(100)),
    };

    #[test]
    fn what_is_called_back() {
        let session = SessionId::from_bytes([0; 16]);
        for (tokens, expected) in [
            (Revoked::Token("j".to_owned()), true),
            (Revoked::Token("J".to_owned()), false),
            (Revoked::Session(session), true),
            (Revoked::Session(SessionId::from_bytes([1; 16])), false),
            (Revoked::Subject("user:1".to_owned(), at(100)), true),
            (Revoked::Subject("user:1".to_owned(), at(99)), false),
            (Revoked::Subject("user:2".to_owned(), at(100)), false),
        ] {
            let mut known = Known::default();
            assert!(known.add(Revocation { tokens: tokens.clone(), until: at(1000) }));
            assert_eq!(known.has(TOKEN), expected, "{tokens:?}");
            assert!(!known.has(TokenNames { id: None, session: None, subject: "", issued_at: None }));
        }
    }

    #[test]
    fn a_later_entry_never_weakens_an_earlier_one() {
        let mut known = Known::default();
        let subject =
            |issued, until| Revocation { tokens: Revoked::Subject("user:1".to_owned(), at(issued)), until: at(until) };
        assert!(known.add(subject(100, 1000)));
        assert!(!known.add(subject(100, 1000)), "known already");
        assert!(!known.add(subject(50, 900)));
        assert!(known.has(TOKEN));
        assert!(known.add(subject(101, 800)));
        assert_eq!(known.subjects["user:1"], (at(101), at(1000)));
        // A token without `iat` could be of any age.
        assert!(known.has(TokenNames { issued_at: None, ..TOKEN }));
    }

    #[test]
    fn what_has_run_out_makes_room() {
        let mut known = Known::default();
        let batch = |from: u64, until| {
            (from..from + 600).map(|n| Revocation { tokens: Revoked::Token(n.to_string()), until: at(until) }).collect()
        };
        known.add_all(batch(0, 1000), at(1)).unwrap();
        known.add_all(batch(600, 2000), at(1)).unwrap();
        assert_eq!(known.len(), 1200);
        for round in 2..20 {
            known.add_all(batch(600 * round, 1000 * round + 1), at(1000 * round)).unwrap();
            assert!(known.len() <= 3600, "{}", known.len());
        }
    }
}
