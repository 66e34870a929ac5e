//! Who asks for a fetch, which fetch answers them, and when there may be another.

use std::{pin::pin, sync::PoisonError, time::Duration};

use futures::future;
use tokio::time::{self, Instant};

use crate::sync::{
    Mutex, Notify,
    atomic::{AtomicBool, Ordering},
    watch,
};

/// One fetch at a time, by whoever calls [`begin`](Self::begin) and [`end`](Self::end) in turns; requests ask for one, at most
/// once in a cooldown, and wait for the one that answers them.
pub(super) struct Turns {
    asked: Mutex<Asked>,
    wanted: Notify,
    /// Number of the last fetch that has ended.
    ended: watch::Sender<u64>,
    /// Whether it failed.
    failing: AtomicBool,
    cooldown: Duration,
}

/// When a request last had reason to ask for new keys, and which fetch answers that.
#[derive(Default)]
struct Asked {
    /// Number of the last fetch that has begun.
    begun: u64,
    at: Option<Instant>,
    answered_by: u64,
}

/// Number of a fetch that is waited for, and whether requests asked for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Awaited {
    /// It may have begun before.
    OnTime(u64),
    /// It has been asked for, and answers those who asked before it began.
    Asked(u64),
}

impl Awaited {
    pub(super) const fn number(self) -> u64 {
        match self {
            Self::OnTime(number) | Self::Asked(number) => number,
        }
    }
}

impl Turns {
    pub(super) fn new(cooldown: Duration) -> Self {
        let (asked, wanted, ended) = (Mutex::default(), Notify::new(), watch::Sender::new(0));
        Self { asked, wanted, ended, failing: AtomicBool::new(false), cooldown }
    }

    /// Number of the last fetch that has ended.
    pub(super) fn ended(&self) -> u64 {
        *self.ended.borrow()
    }

    /// Resolves when this fetch has ended.
    pub(super) async fn wait_for(&self, number: u64) {
        let _ = self.ended.subscribe().wait_for(|ended| *ended >= number).await;
    }

    /// The fetch to wait for, if one is on its way or may begin.
    pub(super) fn ask(&self, now: Instant) -> Option<Awaited> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = self.ended();
        if asked.answered_by > ended {
            return Some(Awaited::Asked(asked.answered_by));
        }
        if asked.begun > ended {
            return Some(Awaited::OnTime(asked.begun));
        }
        if asked.at.is_some_and(|at| now.duration_since(at) < self.cooldown) {
            return None;
        }
        asked.at = Some(now);
        asked.answered_by = asked.begun + 1;
        self.wanted.notify_one();
        Some(Awaited::Asked(asked.answered_by))
    }

    /// Until it is time, or somebody asks.
    pub(super) async fn wait(&self, until: Instant) {
        future::select(pin!(time::sleep_until(until)), pin!(self.wanted.notified())).await;
    }

    /// Begins the next fetch, and says its number.
    pub(super) fn begin(&self, now: Instant) -> u64 {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.begun += 1;
        if asked.answered_by == asked.begun {
            // The cooldown runs from the fetch, which may have had to wait for another.
            asked.at = Some(now);
        }
        asked.begun
    }

    /// Notes how it went, before it ends; whether the one before had failed.
    pub(super) fn note(&self, failed: bool) -> bool {
        self.failing.swap(failed, Ordering::Relaxed)
    }

    /// Ends it, well or not. What it brought must be there by now.
    pub(super) fn end(&self, number: u64) {
        self.ended.send_replace(number);
    }

    /// Whether the last fetch failed.
    pub(super) fn has_failed(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// Whether a request has asked for a fetch that has not ended.
    pub(super) fn are_asked_for(&self) -> bool {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).answered_by > self.ended()
    }

    /// Whether the last fetch failed, or one is on its way: then a key that is not there may be one that could not be had.
    pub(super) fn are_in_doubt(&self) -> bool {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        // In this order: one that fails in between has not ended at the first look, or has failed at the second.
        asked.answered_by.max(asked.begun) > self.ended() || self.has_failed()
    }
}

#[cfg(all(test, portcullis_loom))]
mod proofs;
