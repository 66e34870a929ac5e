//! Time as a value: decisions take `now` as an argument, and only gates and engines read a clock.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use serde::Serialize;

/// A moment, in whole seconds since 1970-01-01T00:00:00Z (`NumericDate` of RFC 7519 §2).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct UnixSeconds(u64);

impl UnixSeconds {
    /// The moment `seconds` after 1970-01-01T00:00:00Z.
    pub const fn new(seconds: u64) -> Self {
        Self(seconds)
    }

    /// Seconds since 1970-01-01T00:00:00Z.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The moment `duration` later, in whole seconds; the last representable one if that overflows.
    #[must_use]
    pub const fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.as_secs()))
    }
}

impl fmt::Display for UnixSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where gates and engines read the time.
pub trait Clock: Send + Sync + 'static {
    /// The current moment.
    fn now(&self) -> UnixSeconds;
}

/// The operating system's clock. One that is set before 1970 reads as the end of time, at which every token has expired.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixSeconds {
        UnixSeconds(seconds())
    }
}

/// As of the last tick, some milliseconds ago: whole seconds need no more, and it takes a third of the time.
#[cfg(target_os = "linux")]
fn seconds() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    u64::try_from(time.tv_sec).unwrap_or(u64::MAX)
}

#[cfg(not(target_os = "linux"))]
fn seconds() -> u64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(u64::MAX, |since| since.as_secs())
}

/// A clock that moves only when told, for tests.
///
/// ```
/// use std::time::Duration;
/// use portcullis::clock::{Clock, ManualClock, UnixSeconds};
///
/// let clock = ManualClock::at(UnixSeconds::new(1_000));
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(clock.now(), UnixSeconds::new(1_060));
/// clock.go_back(Duration::from_secs(2_000));
/// assert_eq!(clock.now(), UnixSeconds::new(0));
/// clock.set(UnixSeconds::new(5_000));
/// assert_eq!(clock.now(), UnixSeconds::new(5_000));
/// ```
#[derive(Debug)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock that stands at `now`.
    pub const fn at(now: UnixSeconds) -> Self {
        Self(AtomicU64::new(now.0))
    }

    /// Moves the clock forward by whole seconds.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_secs(), Ordering::SeqCst);
    }

    /// Moves the clock back by whole seconds, to 1970 at the most: as one does that is set right.
    pub fn go_back(&self, by: Duration) {
        let back = |now: u64| Some(now.saturating_sub(by.as_secs()));
        // Never fails, because there is always a new value.
        let _ = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, back);
    }

    /// Sets the clock, forward or back.
    pub fn set(&self, now: UnixSeconds) {
        self.0.store(now.0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> UnixSeconds {
        UnixSeconds(self.0.load(Ordering::SeqCst))
    }
}

impl<T: Clock + ?Sized> Clock for std::sync::Arc<T> {
    fn now(&self) -> UnixSeconds {
        (**self).now()
    }
}
