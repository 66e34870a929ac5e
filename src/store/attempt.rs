//! What a store does for attempts to sign in.

use std::time::Duration;

use super::StoreFuture;
use crate::{
    clock::UnixSeconds,
    throttle::{AttemptKey, Limit, Lockout, Quota},
};

/// Counts attempts, so that several machines count as one.
///
/// Object-safe. Each call is atomic as far as it says so. Keys are digests: a store learns neither names nor addresses. What a store
/// forgets is guessed again, so it forgets nothing by itself but what [`Quota`] and [`Lockout`] say is over.
///
/// # Errors
///
/// Every call may fail with [`StoreError::Unavailable`](super::StoreError::Unavailable) or
/// [`StoreError::Full`](super::StoreError::Full); what then happens is the limiter's to say.
pub trait AttemptStore: Send + Sync + 'static {
    /// Counts an attempt under all of its keys or, if one of them has none left, under none. Of any number of attempts at once,
    /// as many are granted as would be one after the other.
    fn reserve(&self, attempt: Attempt, now: UnixSeconds) -> StoreFuture<'_, Reserved>;

    /// Takes back what was counted for an attempt.
    fn settle(&self, attempt: Attempt, settled: Settled, now: UnixSeconds) -> StoreFuture<'_, ()>;

    /// Forgets what was counted under a key; `false` if there was nothing.
    fn forget(&self, key: AttemptKey) -> StoreFuture<'_, bool>;
}

/// An attempt: what it counts under, and how much is allowed there.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Attempt {
    quotas: [Option<(AttemptKey, Quota)>; MOST_QUOTAS],
    lock: Option<(AttemptKey, Lockout)>,
}

/// Quotas that one attempt counts under at most.
pub const MOST_QUOTAS: usize = 3;

impl Attempt {
    /// Counts it under one more quota; beyond [`MOST_QUOTAS`], not.
    #[must_use]
    pub fn quota(mut self, key: AttemptKey, quota: Quota) -> Self {
        if let Some(free) = self.quotas.iter_mut().find(|quota| quota.is_none()) {
            *free = Some((key, quota));
        }
        self
    }

    /// Counts it as a failure of this account until it turns out to be none.
    #[must_use]
    pub const fn lock(self, key: AttemptKey, lockout: Lockout) -> Self {
        Self { lock: Some((key, lockout)), ..self }
    }

    /// What it counts under, in the order in which it is asked for.
    pub fn quotas(&self) -> impl Iterator<Item = (AttemptKey, Quota)> + Clone {
        self.quotas.into_iter().flatten()
    }

    /// The account that it is an attempt on.
    pub const fn account(&self) -> Option<(AttemptKey, Lockout)> {
        self.lock
    }

    /// The same, but without the account.
    #[must_use]
    pub(crate) const fn quotas_alone(self) -> Self {
        Self { lock: None, ..self }
    }
}

/// What became of an attempt that was to be counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reserved {
    /// It is counted.
    Granted {
        /// What is left under each of its quotas, in their order.
        left: [u32; MOST_QUOTAS],
    },
    /// It is not; nothing has changed.
    Refused {
        /// The first limit that had none left.
        limit: Limit,
        /// When it will have one.
        wait: Duration,
    },
}

/// Why an attempt is taken back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Settled {
    /// It succeeded: what was counted of it comes back, and the account's failures are forgotten.
    Succeeded,
    /// It was none, because no password was looked at: what was counted of it comes back.
    NotTried,
}

impl<T: AttemptStore + ?Sized> AttemptStore for std::sync::Arc<T> {
    fn reserve(&self, attempt: Attempt, now: UnixSeconds) -> StoreFuture<'_, Reserved> {
        (**self).reserve(attempt, now)
    }

    fn settle(&self, attempt: Attempt, settled: Settled, now: UnixSeconds) -> StoreFuture<'_, ()> {
        (**self).settle(attempt, settled, now)
    }

    fn forget(&self, key: AttemptKey) -> StoreFuture<'_, bool> {
        (**self).forget(key)
    }
}
