//! Of those who ask at once one reads: who joins, who begins, and what all of them see of how it ended. Pure but for its memory.

use std::sync::{Arc, PoisonError};

use super::TIMEOUT;
use crate::{
    clock::UnixSeconds,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

/// That nothing has been read yet, or nothing has failed.
const NEVER: u64 = u64::MAX;

/// A reading that others can join.
pub(super) trait Running: Clone {
    /// Whether it is worth joining. One that has died unseen is not.
    fn goes_on(&self) -> bool;
}

/// When a copy was read, and the one reading that may be going on.
#[derive(Debug)]
pub(super) struct Flight<R> {
    /// Seconds, of the moment at which the last reading that ended well was begun.
    read: AtomicU64,
    /// Seconds, of the last one that did not.
    failed: AtomicU64,
    failing: AtomicBool,
    waiting: AtomicUsize,
    running: Mutex<Option<R>>,
}

impl<R> Default for Flight<R> {
    fn default() -> Self {
        Self {
            read: AtomicU64::new(NEVER),
            failed: AtomicU64::new(NEVER),
            failing: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            running: Mutex::new(None),
        }
    }
}

impl<R> Flight<R> {
    /// When the copy was read. Whoever sees that sees what was read then.
    pub(super) fn read(&self) -> Option<UnixSeconds> {
        moment(&self.read)
    }

    pub(super) fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// One second in which nobody asks again a store that has not answered.
    fn has_just_failed(&self, now: UnixSeconds) -> bool {
        // Not for longer than a reading takes, should the clock be set back.
        let ahead = moment(&self.failed).and_then(|failed| failed.get().checked_sub(now.get()));
        ahead.is_some_and(|seconds| seconds <= TIMEOUT.as_secs() + 1)
    }

    /// Notes what was read as of `begun`; whether that ends an outage. Before whoever waits is told.
    pub(super) fn ended_well(&self, begun: UnixSeconds) -> bool {
        self.read.store(begun.get(), Ordering::Release);
        self.failing.swap(false, Ordering::Relaxed)
    }

    /// Notes that nothing could be read by then; whether that begins an outage.
    pub(super) fn failed(&self, then: UnixSeconds) -> bool {
        self.failed.store(then.get(), Ordering::Relaxed);
        !self.failing.swap(true, Ordering::Relaxed)
    }
}

impl<R: Running> Flight<R> {
    /// The reading that is going on, or the one that `begin` begins. `None` if one has just failed, or none can be begun.
    pub(super) fn join(&self, now: UnixSeconds, begin: impl FnOnce() -> Option<R>) -> Option<R> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(going) = running.as_ref().filter(|running| running.goes_on()) {
            return Some(going.clone());
        }
        if self.has_just_failed(now) {
            return None;
        }
        let new = begin()?;
        *running = Some(new.clone());
        Some(new)
    }
}

/// One of those who wait.
pub(super) struct Waiting<R>(Arc<Flight<R>>);

impl<R> Waiting<R> {
    /// `None` if there are `most` already.
    pub(super) fn one(flight: &Arc<Flight<R>>, most: usize) -> Option<Self> {
        let one = Self(Arc::clone(flight));
        (flight.waiting.fetch_add(1, Ordering::Relaxed) < most).then_some(one)
    }
}

impl<R> Drop for Waiting<R> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

fn moment(seconds: &AtomicU64) -> Option<UnixSeconds> {
    let seconds = seconds.load(Ordering::Acquire);
    (seconds != NEVER).then(|| UnixSeconds::new(seconds))
}

#[cfg(all(test, portcullis_loom))]
mod proofs;
