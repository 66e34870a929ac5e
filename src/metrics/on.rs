//! What is counted and measured, a function for each thing.

use std::time::{Duration, Instant};

use ::metrics::{Histogram, counter, gauge, histogram};

use super::names::{
    AUDIT_EVENTS_DROPPED, EVENTS, LAST_SUCCESS, OUTAGE, PASSWORD_SHED, READY, SIGNING_SECONDS, STORE_FAILURES,
    STORE_SECONDS, TOKEN_CACHE_ENTRIES,
};
#[cfg(feature = "password")]
use super::names::{PASSWORD_HASH_SECONDS, PASSWORD_WAIT_SECONDS, PASSWORD_WAITING};
pub(crate) use super::tally::count;
use crate::clock::UnixSeconds;

/// Events that are told without a reason.
pub(crate) const WITHOUT_REASON: [&str; 11] = [
    "configuration_loaded",
    "hash_upgraded",
    "keys_fetched",
    "login_succeeded",
    "user_registered",
    "session_refreshed",
    "refresh_reused",
    "token_issued",
    "tokens_revoked",
    "outage_begun",
    "outage_ended",
];

/// Reasons for which something was done without what does not answer. Often there is one of them, and no second.
pub(crate) const UNDONE: [&str; 6] = [
    "next signing key not made",
    "old signing key not removed",
    "sessions not ended",
    "tokens not called back",
    "not unlocked",
    "not compared",
];

/// Begins at zero what would otherwise appear with its first one, which no rate would see.
pub(super) fn begin() {
    for kind in WITHOUT_REASON {
        counter!(EVENTS, "kind" => kind).increment(0);
    }
    for reason in UNDONE {
        counter!(EVENTS, "kind" => "degraded", "reason" => reason).increment(0);
    }
    counter!(PASSWORD_SHED).increment(0);
}

/// An event.
pub(crate) fn event(kind: &'static str, reason: Option<&'static str>) {
    match reason {
        Some(reason) => counter!(EVENTS, "kind" => kind, "reason" => reason).increment(1),
        None => counter!(EVENTS, "kind" => kind).increment(1),
    }
}

/// Whether something that decisions need does not answer.
pub(crate) fn outage(what: &'static str, which: &str, is_down: bool) {
    gauge!(OUTAGE, "what" => what, "which" => which.to_owned()).set(f64::from(u8::from(is_down)));
}

/// What is read again and again was read.
pub(crate) fn read(what: &'static str, which: &str, at: UnixSeconds) {
    #[expect(clippy::cast_precision_loss, reason = "exact for 285 million years")]
    gauge!(LAST_SUCCESS, "what" => what, "which" => which.to_owned()).set(at.get() as f64);
    outage(what, which, false);
}

/// Whether what a program needs to be ready has answered.
pub(crate) fn ready(check: &'static str, is_ready: bool) {
    gauge!(READY, "check" => check).set(f64::from(u8::from(is_ready)));
}

/// Events that a sink did not get.
pub(crate) fn events_dropped(sink: &'static str, events: u64) {
    counter!(AUDIT_EVENTS_DROPPED, "sink" => sink).increment(events);
}

/// How many verified tokens are remembered, more or fewer than before.
pub(crate) fn cached_tokens(before: usize, now: usize) {
    let gauge = gauge!(TOKEN_CACHE_ENTRIES);
    if now >= before { gauge.increment(whole(now - before)) } else { gauge.decrement(whole(before - now)) }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn whole(number: usize) -> f64 {
    number as f64
}

/// A password begins to wait, or waits no longer.
#[cfg(feature = "password")]
pub(crate) fn password_waits(begins: bool) {
    let gauge = gauge!(PASSWORD_WAITING);
    if begins { gauge.increment(1) } else { gauge.decrement(1) }
}

/// A password's turn has come.
#[cfg(feature = "password")]
pub(crate) fn password_waited(waited: Stopwatch) {
    waited.record(histogram!(PASSWORD_WAIT_SECONDS));
}

/// A password was hashed.
#[cfg(feature = "password")]
pub(crate) fn password_hashed(took: Stopwatch) {
    took.record(histogram!(PASSWORD_HASH_SECONDS));
}

/// A password was not hashed.
#[cfg(feature = "password")]
pub(crate) fn password_shed() {
    counter!(PASSWORD_SHED).increment(1);
}

/// A token was signed.
pub(crate) fn signed(algorithm: &'static str, took: Stopwatch) {
    took.record(histogram!(SIGNING_SECONDS, "algorithm" => algorithm));
}

/// A call of a store.
pub(crate) fn store_answered(store: &'static str, operation: &'static str, took: Duration) {
    histogram!(STORE_SECONDS, "store" => store, "operation" => operation).record(took);
}

/// A call of a store that did not do what it was to do.
pub(crate) fn store_failed(store: &'static str, operation: &'static str, reason: &'static str) {
    counter!(STORE_FAILURES, "store" => store, "operation" => operation, "reason" => reason).increment(1);
}

/// Measures how long something takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    #[expect(clippy::needless_pass_by_value, reason = "a handle that was just made")]
    fn record(self, histogram: Histogram) {
        histogram.record(self.0.elapsed());
    }
}
