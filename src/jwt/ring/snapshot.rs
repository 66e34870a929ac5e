//! What all readers see until another takes its place.

use std::sync::{Arc, PoisonError};

use crate::sync::{
    RwLock,
    atomic::{AtomicU64, Ordering},
};

/// A value, and its number, which costs no lock to look at. Numbers are of this value alone.
pub(super) struct Snapshot<T> {
    current: RwLock<Arc<T>>,
    number: AtomicU64,
}

impl<T> Snapshot<T> {
    pub(super) fn new(value: T, number: u64) -> Self {
        Self { current: RwLock::new(Arc::new(value)), number: AtomicU64::new(number) }
    }

    /// The value as it is now: whoever has seen that it is another one gets that, or one after it.
    pub(super) fn get(&self) -> Arc<T> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the value has this number. Never again once somebody has seen another.
    pub(super) fn is(&self, number: u64) -> bool {
        self.number.load(Ordering::Acquire) == number
    }

    /// Puts another in its place. When it returns, nobody gets the one before.
    pub(super) fn replace(&self, value: T, number: u64) {
        let value = Arc::new(value);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that neither is seen without the other.
        self.number.store(number, Ordering::Release);
        *current = value;
    }
}

#[cfg(all(test, portcullis_loom))]
mod proofs;
