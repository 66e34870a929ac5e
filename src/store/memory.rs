//! A store that dies with the process.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use futures::FutureExt as _;

use super::{PasswordHash, StoreError, StoreFuture, UserRecord, UserStore};
use crate::ident::{LoginName, UserId};

/// Users that it holds at most.
const MOST_USERS: usize = 100_000;

/// Users in memory, 100,000 at most. For tests and for trying out.
#[derive(Debug, Default)]
pub struct MemoryStore {
    // Both maps change together, under one lock, and no operation on them can panic half-way.
    users: RwLock<Users>,
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
