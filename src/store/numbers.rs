//! Moments and numbers as databases have them.

use std::time::{Duration, SystemTime};

use crate::clock::UnixSeconds;

/// Databases have signed integers; nothing lasts until they end.
pub(super) fn seconds(moment: UnixSeconds) -> i64 {
    signed(moment.get())
}

pub(super) fn moment(seconds: i64) -> UnixSeconds {
    UnixSeconds::new(unsigned(seconds))
}

pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// From milliseconds since 1970.
pub(super) fn time(millis: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(unsigned(millis))
}
