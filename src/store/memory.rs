//! A store that dies with the process.

mod audit;

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError, RwLock},
};

use futures::FutureExt as _;

use super::{
    CalledBack, Cursor, KeyRecord, KeyStore, MOST_LISTED, MOST_REVOCATIONS, NewSession, PasswordHash, Revocation,
    RevocationStore, Revocations, Rotated, Rotation, SessionStore, StoreError, StoreFuture, UserRecord, UserStore,
};
use crate::{
    clock::UnixSeconds,
    ident::{LoginName, SessionId, UserId},
    session::{Family, SealedToken, SessionRecord, Standing, Step, TokenDigest},
};

/// Users that it holds at most.
const MOST_USERS: usize = 100_000;

/// Sessions that it holds at most.
const MOST_SESSIONS: usize = 100_000;

/// Keys that it holds at most.
const MOST_KEYS: usize = 1000;

/// Users, sessions, revocations, keys and events in memory: 100,000 users, as many sessions, and the last 32,768 events at most.
/// For tests and for trying out.
#[derive(Debug, Default)]
pub struct MemoryStore {
    // Both maps change together, under one lock, and no operation on them can panic half-way.
    users: RwLock<Users>,
    sessions: Mutex<HashMap<SessionId, Session>>,
    revocations: Mutex<Noted>,
    keys: Mutex<Vec<KeyRecord>>,
    events: Mutex<audit::Events>,
}

/// Revocations in the order in which they came.
#[derive(Debug, Default)]
struct Noted {
    list: Vec<(u64, Revocation)>,
    last: u64,
    /// How many there may be before those that have run out are looked for.
    sweep_at: usize,
}

#[derive(Debug)]
struct Session {
    record: SessionRecord,
    family: Family,
    sealed: Option<SealedToken>,
    spent: HashSet<TokenDigest>,
}

#[derive(Debug, Default)]
struct Users {
    by_id: HashMap<UserId, UserRecord>,
    by_login: HashMap<LoginName, UserId>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn read<T>(&self, read: impl FnOnce(&Users) -> T) -> T {
        read(&self.users.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, write: impl FnOnce(&mut Users) -> T) -> T {
        write(&mut self.users.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn with_sessions<T>(&self, with: impl FnOnce(&mut HashMap<SessionId, Session>) -> T) -> T {
        with(&mut lock(&self.sessions))
    }

    /// Notes that the tokens of these sessions are called back: under the lock of the sessions, so that both happen or neither.
    fn note(&self, sessions: &[SessionId], tokens: CalledBack) -> Result<(), StoreError> {
        let revocations = sessions.iter().map(|id| Revocation::of_session(*id, tokens.until));
        lock(&self.revocations).note(revocations.collect(), tokens.now)
    }

    fn change(&self, id: &UserId, change: impl FnOnce(&mut UserRecord)) -> bool {
        self.write(|users| users.by_id.get_mut(id).map(change).is_some())
    }
}

/// No operation under these locks can panic half-way.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl UserStore for MemoryStore {
    fn find_by_login<'a>(&'a self, login: &'a LoginName) -> StoreFuture<'a, Option<UserRecord>> {
        let found = |users: &Users| users.by_login.get(login).and_then(|id| users.by_id.get(id)).cloned();
        async move { Ok(self.read(found)) }.boxed()
    }

    fn find_by_id<'a>(&'a self, id: &'a UserId) -> StoreFuture<'a, Option<UserRecord>> {
        async move { Ok(self.read(|users| users.by_id.get(id).cloned())) }.boxed()
    }

    fn insert(&self, user: UserRecord) -> StoreFuture<'_, ()> {
        let insert = |users: &mut Users| {
            if users.by_id.contains_key(&user.id) || users.by_login.contains_key(&user.login) {
                return Err(StoreError::Conflict);
            }
            if users.by_id.len() >= MOST_USERS {
                return Err(StoreError::Full);
            }
            users.by_login.insert(user.login.clone(), user.id.clone());
            users.by_id.insert(user.id.clone(), user);
            Ok(())
        };
        async move { self.write(insert) }.boxed()
    }

    fn replace_hash<'a>(&'a self, id: &'a UserId, hash: PasswordHash) -> StoreFuture<'a, bool> {
        async move { Ok(self.change(id, |user| user.password = hash)) }.boxed()
    }

    fn swap_hash<'a>(&'a self, id: &'a UserId, from: &'a PasswordHash, to: PasswordHash) -> StoreFuture<'a, bool> {
        let upgrade = move |users: &mut Users| {
            let user = users.by_id.get_mut(id).filter(|user| user.password == *from);
            user.map(|user| user.password = to).is_some()
        };
        async move { Ok(self.write(upgrade)) }.boxed()
    }

    fn set_disabled<'a>(&'a self, id: &'a UserId, disabled: bool) -> StoreFuture<'a, bool> {
        async move { Ok(self.change(id, |user| user.disabled = disabled)) }.boxed()
    }
}

impl Session {
    /// Turns the current token into its successor.
    fn turn(&mut self, rotation: Rotation) {
        let Rotation { presented, successor, sealed, ends_at, now, .. } = rotation;
        self.spent.insert(presented);
        self.sealed = Some(sealed);
        self.family = Family { current: successor, previous: Some((presented, now)), ends_at };
        self.record.last_used = now;
    }
}

impl SessionStore for MemoryStore {
    fn create(&self, new: NewSession) -> StoreFuture<'_, ()> {
        let NewSession { session: record, digest: current, ends_at } = new;
        let create = move |sessions: &mut HashMap<SessionId, Session>| {
            if sessions.len() >= MOST_SESSIONS {
                sessions.retain(|_, session| session.family.ends_at > record.last_used);
            }
            if sessions.len() >= MOST_SESSIONS {
                return Err(StoreError::Full);
            }
            if sessions.contains_key(&record.id) {
                return Err(StoreError::Conflict);
            }
            let family = Family { current, previous: None, ends_at };
            sessions.insert(record.id, Session { record, family, sealed: None, spent: HashSet::new() });
            Ok(())
        };
        async move { self.with_sessions(create) }.boxed()
    }

    fn find(&self, id: SessionId, now: UnixSeconds) -> StoreFuture<'_, Option<SessionRecord>> {
        let find = move |sessions: &mut HashMap<SessionId, Session>| {
            sessions.get(&id).filter(|session| !session.family.has_ended(now)).map(|session| session.record.clone())
        };
        async move { Ok(self.with_sessions(find)) }.boxed()
    }

    fn look(
        &self,
        id: SessionId,
        token: TokenDigest,
        now: UnixSeconds,
    ) -> StoreFuture<'_, Option<(SessionRecord, Standing)>> {
        let look = move |sessions: &mut HashMap<SessionId, Session>| {
            let session = sessions.get(&id).filter(|session| !session.family.has_ended(now))?;
            let standing = match token {
                _ if token == session.family.current => Standing::Current,
                _ if session.spent.contains(&token) => Standing::Spent,
                _ => Standing::Foreign,
            };
            Some((session.record.clone(), standing))
        };
        async move { Ok(self.with_sessions(look)) }.boxed()
    }

    fn rotate(&self, rotation: Rotation) -> StoreFuture<'_, Rotated> {
        let rotate = move |sessions: &mut HashMap<SessionId, Session>| {
            let Some(session) = sessions.get_mut(&rotation.id) else { return Ok(Rotated::Unknown) };
            Ok(match session.family.decide(&rotation.presented, rotation.grace, rotation.now) {
                Step::Turn => {
                    session.turn(rotation);
                    Rotated::Turned
                }
                Step::Again => session.sealed.clone().map_or(Rotated::Unknown, Rotated::Again),
                Step::LookAmongSpent if session.spent.contains(&rotation.presented) => {
                    self.note(&[rotation.id], rotation.called_back())?;
                    sessions.remove(&rotation.id);
                    Rotated::Reused
                }
                Step::LookAmongSpent | Step::Ended => Rotated::Unknown,
            })
        };
        async move { self.with_sessions(rotate) }.boxed()
    }

    fn revoke(&self, id: SessionId, tokens: CalledBack) -> StoreFuture<'_, bool> {
        let revoke = move |sessions: &mut HashMap<SessionId, Session>| {
            self.note(&[id], tokens)?;
            Ok(sessions.remove(&id).is_some())
        };
        async move { self.with_sessions(revoke) }.boxed()
    }

    fn revoke_all<'a>(
        &'a self,
        subject: &'a str,
        except: Option<SessionId>,
        tokens: CalledBack,
    ) -> StoreFuture<'a, Vec<SessionId>> {
        let revoke = move |sessions: &mut HashMap<SessionId, Session>| {
            let its = sessions.values().filter(|session| session.record.subject == subject);
            let its: Vec<_> = its.map(|session| session.record.id).filter(|id| Some(*id) != except).collect();
            self.note(&its, tokens)?;
            sessions.retain(|id, _| !its.contains(id));
            Ok(its)
        };
        async move { self.with_sessions(revoke) }.boxed()
    }

    fn sessions<'a>(&'a self, subject: &'a str, now: UnixSeconds) -> StoreFuture<'a, Vec<SessionRecord>> {
        let list = move |sessions: &mut HashMap<SessionId, Session>| {
            let live = |session: &&Session| session.record.subject == subject && !session.family.has_ended(now);
            let mut list: Vec<_> = sessions.values().filter(live).map(|session| session.record.clone()).collect();
            list.sort_by_key(|session| (std::cmp::Reverse(session.last_used), session.id));
            list.truncate(MOST_LISTED);
            list
        };
        async move { Ok(self.with_sessions(list)) }.boxed()
    }
}

impl Noted {
    fn note(&mut self, revocations: Vec<Revocation>, now: UnixSeconds) -> Result<(), StoreError> {
        if self.list.len() + revocations.len() > self.sweep_at {
            let mut seen = HashSet::new();
            // What is there twice is needed once: the later in the list, which says at least as much.
            self.list.reverse();
            self.list.retain(|(_, revocation)| now < revocation.until && seen.insert(revocation.clone()));
            self.list.reverse();
            self.sweep_at = (2 * self.list.len()).clamp(1000, MOST_REVOCATIONS);
        }
        if self.list.len() + revocations.len() > MOST_REVOCATIONS {
            return Err(StoreError::Full);
        }
        for revocation in revocations {
            self.last += 1;
            self.list.push((self.last, revocation));
        }
        Ok(())
    }

    fn since(&self, Cursor(cursor): Cursor, now: UnixSeconds) -> Revocations {
        let seen = self.list.partition_point(|(number, _)| *number <= cursor);
        let new = self.list.iter().skip(seen).filter(|(_, revocation)| now < revocation.until);
        Revocations { list: new.map(|(_, revocation)| revocation.clone()).collect(), cursor: Cursor(self.last) }
    }
}

impl RevocationStore for MemoryStore {
    fn revoke_tokens(&self, revocations: Vec<Revocation>, now: UnixSeconds) -> StoreFuture<'_, ()> {
        async move { lock(&self.revocations).note(revocations, now) }.boxed()
    }

    fn revocations(&self, cursor: Cursor, now: UnixSeconds) -> StoreFuture<'_, Revocations> {
        async move { Ok(lock(&self.revocations).since(cursor, now)) }.boxed()
    }
}

impl KeyStore for MemoryStore {
    fn keys(&self) -> StoreFuture<'_, Vec<KeyRecord>> {
        async move { Ok(lock(&self.keys).clone()) }.boxed()
    }

    fn add_key(&self, key: KeyRecord) -> StoreFuture<'_, ()> {
        let add = move || {
            let mut keys = lock(&self.keys);
            if keys.iter().any(|other| other.kid == key.kid || other.predecessor == key.predecessor) {
                return Err(StoreError::Conflict);
            }
            if keys.len() >= MOST_KEYS {
                return Err(StoreError::Full);
            }
            keys.push(key);
            Ok(())
        };
        async move { add() }.boxed()
    }

    fn remove_key<'a>(&'a self, kid: &'a str) -> StoreFuture<'a, bool> {
        async move { Ok(lock(&self.keys).extract_if(.., |key| key.kid == kid).count() > 0) }.boxed()
    }
}
