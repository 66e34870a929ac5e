//! Asks a store that does not answer once a second, and not for each attempt. Pure but for its memory.

use crate::{
    clock::UnixSeconds,
    sync::atomic::{AtomicU64, Ordering},
};

/// Closed while all is well. After a failure nobody is let through for a second; then one is, to see.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// When somebody may look again, in seconds since 1970; 0 while it is closed.
    again: AtomicU64,
}

/// For how long nobody asks, in seconds: at least one whole one, whatever part of a second has passed.
const PAUSE: u64 = 2;

/// A clock that is set before 1970 stands at the end of time, after which there is nothing.
fn after_pause(now: UnixSeconds) -> u64 {
    now.get().saturating_add(PAUSE)
}

impl Breaker {
    /// Whether this caller may ask.
    pub(super) fn allows(&self, now: UnixSeconds) -> bool {
        let again = self.again.load(Ordering::Relaxed);
        // A clock that was set back closes nothing for longer.
        if again == 0 || again > after_pause(now) {
            return true;
        }
        let next = after_pause(now);
        again <= now.get() && self.again.compare_exchange(again, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Notes how it went, and says whether that is news.
    pub(super) fn note(&self, answered: bool, now: UnixSeconds) -> bool {
        let then = if answered { 0 } else { after_pause(now) };
        let before = self.again.swap(then, Ordering::Relaxed);
        (before == 0) != answered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_does_not_answer_is_asked_by_one_now_and_then() {
        let breaker = Breaker::default();
        let allowed = |now| (0..10).filter(|_| breaker.allows(UnixSeconds::new(now))).count();
        let note = |answered, now| breaker.note(answered, UnixSeconds::new(now));
        assert_eq!(allowed(100), 10);
        assert!(!note(true, 100), "no news");
        assert!(note(false, 100) && !note(false, 100), "told once");
        assert_eq!([allowed(100), allowed(101), allowed(102), allowed(103)], [0, 0, 1, 0]);
        assert!(!note(false, 103));
        assert_eq!([allowed(104), allowed(105)], [0, 1]);
        assert!(note(true, 105));
        assert_eq!(allowed(105), 10);
        assert!(note(false, 9000));
        assert_eq!(allowed(100), 10, "the clock was set back");
        note(false, u64::MAX);
        assert_eq!(allowed(u64::MAX), 10, "there is no later moment to wait for");
    }
}

#[cfg(all(test, portcullis_loom))]
mod proofs;
