//! Moments as databases have them.

use crate::clock::UnixSeconds;

/// Databases have signed integers; nothing lasts until they end.
pub(super) fn seconds(moment: UnixSeconds) -> i64 {
    i64::try_from(moment.get()).unwrap_or(i64::MAX)
}

pub(super) fn moment(seconds: i64) -> UnixSeconds {
    UnixSeconds::new(u64::try_from(seconds).unwrap_or(0))
}
