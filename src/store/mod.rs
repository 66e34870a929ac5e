//! Where users and sessions live: small object-safe traits, and the backends that keep them.
//!
//! | backend | for | holds | atomic by | durable when a call resolves |
//! |---|---|---|---|---|
//! | [`MemoryStore`] | tests, trying out | all | one lock | never |
#![cfg_attr(
    feature = "sqlite",
    doc = "| [`SqliteStore`] | one machine, nothing to install | all | one writing thread | yes (`synchronous=FULL`) |"
)]
#![cfg_attr(
    feature = "postgres",
    doc = "| [`PostgresStore`] | several machines | all | one statement, row locks | yes (`synchronous_commit=on`) |"
)]
#![cfg_attr(
    feature = "redis",
    doc = "| [`RedisStore`] | several machines | sessions, revocations, attempts | one script | as `appendfsync` says |"
)]
//!
//! [`Store::connect`] opens whichever a URL names. [`testing::stores`](crate::testing::stores) holds a store of your own to
//! what all of these promise.

mod attempt;
mod attempts;
mod audit;
mod connect;
mod error;
mod key;
mod memory;
pub(crate) mod metered;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod numbers;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
mod revocation;
mod session;
#[cfg(feature = "sqlite")]
mod sqlite;
mod user;

/// Of events about a database that is opened.
#[cfg(any(feature = "redis", feature = "sqlite"))]
const TARGET: &str = "portcullis::store";

use futures::future::BoxFuture;

#[cfg(feature = "password")]
pub(crate) use self::error::turned;
pub(crate) use self::error::within;
#[cfg(feature = "postgres")]
pub use self::postgres::PostgresStore;
#[cfg(feature = "redis")]
pub use self::redis::RedisStore;
#[cfg(feature = "sqlite")]
pub use self::sqlite::SqliteStore;
pub use self::{
    attempt::{Attempt, AttemptStore, MOST_QUOTAS, Reserved, Settled},
    attempts::MemoryAttempts,
    audit::{AuditStore, AuditTable, EventQuery},
    connect::Store,
    error::StoreError,
    key::{KeyRecord, KeyStore, SealedKey},
    memory::MemoryStore,
    revocation::{Cursor, MOST_REVOCATIONS, Revocation, RevocationStore, Revocations, Revoked},
    session::{CalledBack, MOST_LISTED, NewSession, Rotated, Rotation, SessionStore},
    user::{PasswordHash, UserPublic, UserRecord},
};
use crate::{
    audit::infrastructure_failed,
    ident::{LoginName, UserId},
    principal::Principal,
    rejection::Rejection,
};

/// How late what is over is cleared away where several machines write, in seconds: their clocks differ.
#[cfg(feature = "postgres")]
const CLOCKS_DIFFER: i64 = 3600;

/// Result of a store's call.
pub type StoreFuture<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// The users who can sign in.
///
/// Object-safe, so that a program picks its backend when it starts. Each call is atomic: it happens whole, or not at
/// all. A call that resolved with `Ok` is as durable as the backend says. A future that is dropped leaves open whether
/// its write happens.
///
/// # Errors
///
/// Every call may fail with [`StoreError::Unavailable`]; callers then refuse the request. A store must never answer
/// "no such user" when it cannot tell: an outage would look like a wrong password.
pub trait UserStore: Send + Sync + 'static {
    /// The user who signs in as `login`, disabled ones included.
    fn find_by_login<'a>(&'a self, login: &'a LoginName) -> StoreFuture<'a, Option<UserRecord>>;

    /// The user with this id, disabled ones included.
    fn find_by_id<'a>(&'a self, id: &'a UserId) -> StoreFuture<'a, Option<UserRecord>>;

    /// Adds a user.
    ///
    /// [`StoreError::Conflict`] if the id or the login name is taken; of concurrent calls with one name, one succeeds.
    fn insert(&self, user: UserRecord) -> StoreFuture<'_, ()>;

    /// Replaces the password hash of a user; `false` if there is no such user.
    fn replace_hash<'a>(&'a self, id: &'a UserId, hash: PasswordHash) -> StoreFuture<'a, bool>;

    /// Replaces the password hash of a user, if it still is `from`; `false` if it is not, or there is no such user.
    ///
    /// For whoever has decided by looking at `from`: a password that was changed meanwhile stays. Of concurrent calls with the
    /// same `from`, one succeeds.
    fn swap_hash<'a>(&'a self, id: &'a UserId, from: &'a PasswordHash, to: PasswordHash) -> StoreFuture<'a, bool>;

    /// Disables a user, or enables them again; `false` if there is no such user.
    fn set_disabled<'a>(&'a self, id: &'a UserId, disabled: bool) -> StoreFuture<'a, bool>;
}

/// The user who is calling, if they may still act: a token outlives a user who was disabled after it was issued.
///
/// `issuer` is the one whose users `users` has; a caller whom another issuer vouches for is none of them.
///
/// # Errors
///
/// [`Rejection::PolicyDenied`] if the caller is nobody's user, or another issuer's: their token is good, but not for this;
/// [`Rejection::UserGone`] if the store has them no more, [`Rejection::UserInactive`] if they are disabled;
/// [`Rejection::StoreUnavailable`] if it cannot tell.
pub async fn active_user(users: &dyn UserStore, issuer: &str, caller: &Principal) -> Result<UserRecord, Rejection> {
    let id = caller.user_id(issuer).ok_or(Rejection::PolicyDenied)?;
    let user = within(users.find_by_id(&id)).await.map_err(|error| {
        infrastructure_failed("user store", &error);
        Rejection::StoreUnavailable
    })?;
    let user = user.ok_or(Rejection::UserGone)?;
    if user.disabled { Err(Rejection::UserInactive) } else { Ok(user) }
}

impl<T: UserStore + ?Sized> UserStore for std::sync::Arc<T> {
    fn find_by_login<'a>(&'a self, login: &'a LoginName) -> StoreFuture<'a, Option<UserRecord>> {
        (**self).find_by_login(login)
    }

    fn find_by_id<'a>(&'a self, id: &'a UserId) -> StoreFuture<'a, Option<UserRecord>> {
        (**self).find_by_id(id)
    }

    fn insert(&self, user: UserRecord) -> StoreFuture<'_, ()> {
        (**self).insert(user)
    }

    fn replace_hash<'a>(&'a self, id: &'a UserId, hash: PasswordHash) -> StoreFuture<'a, bool> {
        (**self).replace_hash(id, hash)
    }

    fn swap_hash<'a>(&'a self, id: &'a UserId, from: &'a PasswordHash, to: PasswordHash) -> StoreFuture<'a, bool> {
        (**self).swap_hash(id, from, to)
    }

    fn set_disabled<'a>(&'a self, id: &'a UserId, disabled: bool) -> StoreFuture<'a, bool> {
        (**self).set_disabled(id, disabled)
    }
}
