//! A store that dies with the process.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError, RwLock},
};

use futures::FutureExt as _;

use super::{
    NewSession, PasswordHash, Rotated, Rotation, SessionStore, StoreError, StoreFuture, UserRecord, UserStore,
};
use crate::{
    clock::UnixSeconds,
    ident::{LoginName, SessionId, UserId},
    session::{Family, SealedToken, SessionRecord, Step, TokenDigest},
};

/// Users that it holds at most.
const MOST_USERS: usize = 100_000;

/// Sessions that it holds at most.
const MOST_SESSIONS: usize = 100_000;

/// Users and sessions in memory, 100,000 of each at most. For tests and for trying out.
#[derive(Debug, Default)]
pub struct MemoryStore {
    // Both maps change together, under one lock, and no operation on them can panic half-way.
    users: RwLock<Users>,
    sessions: Mutex<HashMap<SessionId, Session>>,
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
        with(&mut self.sessions.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, id: &UserId, change: impl FnOnce(&mut UserRecord)) -> bool {
        self.write(|users| users.by_id.get_mut(id).map(change).is_some())
    }
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
            sessions.get(&id).filter(|session| now < session.family.ends_at).map(|session| session.record.clone())
        };
        async move { Ok(self.with_sessions(find)) }.boxed()
    }

    fn rotate(&self, rotation: Rotation) -> StoreFuture<'_, Rotated> {
        let rotate = move |sessions: &mut HashMap<SessionId, Session>| {
            let Some(session) = sessions.get_mut(&rotation.id) else { return Rotated::Unknown };
            match session.family.decide(&rotation.presented, rotation.grace, rotation.now) {
                Step::Turn => {
                    session.turn(rotation);
                    Rotated::Turned
                }
                Step::Again => session.sealed.clone().map_or(Rotated::Unknown, Rotated::Again),
                Step::LookAmongSpent if session.spent.contains(&rotation.presented) => {
                    sessions.remove(&rotation.id);
                    Rotated::Reused
                }
                Step::LookAmongSpent | Step::Ended => Rotated::Unknown,
            }
        };
        async move { Ok(self.with_sessions(rotate)) }.boxed()
    }

    fn revoke(&self, id: SessionId) -> StoreFuture<'_, bool> {
        async move { Ok(self.with_sessions(|sessions| sessions.remove(&id)).is_some()) }.boxed()
    }

    fn revoke_all<'a>(&'a self, subject: &'a str, except: Option<SessionId>) -> StoreFuture<'a, u64> {
        let revoke = move |sessions: &mut HashMap<SessionId, Session>| {
            let before = sessions.len();
            sessions.retain(|id, session| session.record.subject != subject || Some(*id) == except);
            (before - sessions.len()) as u64
        };
        async move { Ok(self.with_sessions(revoke)) }.boxed()
    }

    fn sessions<'a>(&'a self, subject: &'a str, now: UnixSeconds) -> StoreFuture<'a, Vec<SessionRecord>> {
        let list = move |sessions: &mut HashMap<SessionId, Session>| {
            let live = |session: &&Session| session.record.subject == subject && now < session.family.ends_at;
            let mut list: Vec<_> = sessions.values().filter(live).map(|session| session.record.clone()).collect();
            list.sort_by_key(|session| (std::cmp::Reverse(session.last_used), session.id));
            list
        };
        async move { Ok(self.with_sessions(list)) }.boxed()
    }
}
