//! Every call of a store, measured.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use crate::{
    clock::UnixSeconds,
    ident::{LoginName, SessionId, UserId},
    metrics,
    session::{SessionRecord, Standing, TokenDigest},
    store::{
        Attempt, AttemptStore, CalledBack, Cursor, KeyRecord, KeyStore, NewSession, PasswordHash, Reserved, Revocation,
        RevocationStore, Revocations, Rotated, Rotation, SessionStore, Settled, StoreError, StoreFuture, UserRecord,
        UserStore,
    },
    throttle::AttemptKey,
};

pub(super) struct Metered<S: ?Sized> {
    pub(super) store: Arc<S>,
}

/// A call that is measured. Dropped before its answer, it was given up: it took too long, or nobody waits for it any more.
struct Call<'a, T> {
    asked: StoreFuture<'a, T>,
    store: &'static str,
    operation: &'static str,
    begun: Option<Instant>,
}

impl<T> Future for Call<'_, T> {
    type Output = Result<T, StoreError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let begun = *self.begun.get_or_insert_with(Instant::now);
        let answer = ready!(self.asked.as_mut().poll(cx));
        self.begun = None;
        metrics::store_answered(self.store, self.operation, begun.elapsed());
        let failed = |reason| metrics::store_failed(self.store, self.operation, reason);
        match &answer {
            Err(StoreError::Unavailable(_)) => failed("unavailable"),
            Err(StoreError::Full) => failed("full"),
            // Somebody else was faster, which is an answer.
            Ok(_) | Err(StoreError::Conflict) => {}
        }
        Poll::Ready(answer)
    }
}

impl<T> Drop for Call<'_, T> {
    fn drop(&mut self) {
        if self.begun.is_some() {
            metrics::store_failed(self.store, self.operation, "given_up");
        }
    }
}

fn call<'a, T: 'a>(store: &'static str, operation: &'static str, asked: StoreFuture<'a, T>) -> StoreFuture<'a, T> {
    Box::pin(Call { asked, store, operation, begun: None })
}

impl UserStore for Metered<dyn UserStore> {
    fn find_by_login<'a>(&'a self, login: &'a LoginName) -> StoreFuture<'a, Option<UserRecord>> {
        call("users", "find_by_login", self.store.find_by_login(login))
    }

    fn find_by_id<'a>(&'a self, id: &'a UserId) -> StoreFuture<'a, Option<UserRecord>> {
        call("users", "find_by_id", self.store.find_by_id(id))
    }

    fn insert(&self, user: UserRecord) -> StoreFuture<'_, ()> {
        call("users", "insert", self.store.insert(user))
    }

    fn replace_hash<'a>(&'a self, id: &'a UserId, hash: PasswordHash) -> StoreFuture<'a, bool> {
        call("users", "replace_hash", self.store.replace_hash(id, hash))
    }

    fn swap_hash<'a>(&'a self, id: &'a UserId, from: &'a PasswordHash, to: PasswordHash) -> StoreFuture<'a, bool> {
        call("users", "swap_hash", self.store.swap_hash(id, from, to))
    }

    fn set_disabled<'a>(&'a self, id: &'a UserId, disabled: bool) -> StoreFuture<'a, bool> {
        call("users", "set_disabled", self.store.set_disabled(id, disabled))
    }
}

impl<S: RevocationStore + ?Sized> RevocationStore for Metered<S> {
    fn revoke_tokens(&self, revocations: Vec<Revocation>, now: UnixSeconds) -> StoreFuture<'_, ()> {
        call("revocations", "revoke_tokens", self.store.revoke_tokens(revocations, now))
    }

    fn revocations(&self, cursor: Cursor, now: UnixSeconds) -> StoreFuture<'_, Revocations> {
        call("revocations", "revocations", self.store.revocations(cursor, now))
    }
}

impl SessionStore for Metered<dyn SessionStore> {
    fn create(&self, session: NewSession) -> StoreFuture<'_, ()> {
        call("sessions", "create", self.store.create(session))
    }

    fn find(&self, id: SessionId, now: UnixSeconds) -> StoreFuture<'_, Option<SessionRecord>> {
        call("sessions", "find", self.store.find(id, now))
    }

    fn look(
        &self,
        id: SessionId,
        token: TokenDigest,
        now: UnixSeconds,
    ) -> StoreFuture<'_, Option<(SessionRecord, Standing)>> {
        call("sessions", "look", self.store.look(id, token, now))
    }

    fn rotate(&self, rotation: Rotation) -> StoreFuture<'_, Rotated> {
        call("sessions", "rotate", self.store.rotate(rotation))
    }

    fn revoke(&self, id: SessionId, tokens: CalledBack) -> StoreFuture<'_, bool> {
        call("sessions", "revoke", self.store.revoke(id, tokens))
    }

    fn revoke_all<'a>(
        &'a self,
        subject: &'a str,
        except: Option<SessionId>,
        tokens: CalledBack,
    ) -> StoreFuture<'a, Vec<SessionId>> {
        call("sessions", "revoke_all", self.store.revoke_all(subject, except, tokens))
    }

    fn sessions<'a>(&'a self, subject: &'a str, now: UnixSeconds) -> StoreFuture<'a, Vec<SessionRecord>> {
        call("sessions", "sessions", self.store.sessions(subject, now))
    }
}

impl KeyStore for Metered<dyn KeyStore> {
    fn keys(&self) -> StoreFuture<'_, Vec<KeyRecord>> {
        call("keys", "keys", self.store.keys())
    }

    fn add_key(&self, key: KeyRecord) -> StoreFuture<'_, ()> {
        call("keys", "add_key", self.store.add_key(key))
    }

    fn remove_key<'a>(&'a self, kid: &'a str) -> StoreFuture<'a, bool> {
        call("keys", "remove_key", self.store.remove_key(kid))
    }
}

impl AttemptStore for Metered<dyn AttemptStore> {
    fn reserve(&self, attempt: Attempt, now: UnixSeconds) -> StoreFuture<'_, Reserved> {
        call("attempts", "reserve", self.store.reserve(attempt, now))
    }

    fn settle(&self, attempt: Attempt, settled: Settled, now: UnixSeconds) -> StoreFuture<'_, ()> {
        call("attempts", "settle", self.store.settle(attempt, settled, now))
    }

    fn forget(&self, key: AttemptKey) -> StoreFuture<'_, bool> {
        call("attempts", "forget", self.store.forget(key))
    }
}
