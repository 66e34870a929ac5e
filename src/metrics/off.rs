//! The same without the feature `metrics`: nothing.

use super::Hot;
use crate::clock::UnixSeconds;

pub(crate) const fn count(_: Hot, _: UnixSeconds) {}
pub(crate) const fn event(_: &'static str, _: Option<&'static str>) {}
pub(crate) const fn outage(_: &'static str, _: &str, _: bool) {}
pub(crate) const fn read(_: &'static str, _: &str, _: UnixSeconds) {}
pub(crate) const fn ready(_: &'static str, _: bool) {}
pub(crate) const fn events_dropped(_: &'static str, _: u64) {}
pub(crate) const fn cached_tokens(_: usize, _: usize) {}
#[cfg(feature = "password")]
pub(crate) const fn password_waits(_: bool) {}
#[cfg(feature = "password")]
pub(crate) const fn password_waited(_: Stopwatch) {}
#[cfg(feature = "password")]
pub(crate) const fn password_hashed(_: Stopwatch) {}
#[cfg(feature = "password")]
pub(crate) const fn password_shed() {}
pub(crate) const fn signed(_: &'static str, _: Stopwatch) {}

/// Measures nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch;

impl Stopwatch {
    pub(crate) const fn start() -> Self {
        Self
    }
}
