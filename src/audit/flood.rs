//! How often the same is told: a scanner must not fill the log, nor hide in it what else happens.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use super::kind::Kind;
use crate::clock::UnixSeconds;

/// Refusals of one kind and reason that are told in a second; others in it are counted.
pub(crate) const MOST_A_SECOND: u32 = 10;

/// What was told of one reason in this second.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    second: u64,
    told: u32,
    kept: u64,
}

/// Whether to tell.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Turn {
    /// Yes, and that so many were not told before this one.
    Tell {
        /// How many.
        suppressed: u64,
    },
    /// No.
    Keep,
}

impl Window {
    fn take(&mut self, now: UnixSeconds) -> Turn {
        if self.second != now.get() {
            self.second = now.get();
            self.told = 0;
        }
        if self.told >= MOST_A_SECOND {
            self.kept = self.kept.saturating_add(1);
            return Turn::Keep;
        }
        self.told += 1;
        Turn::Tell { suppressed: std::mem::take(&mut self.kept) }
    }
}

/// What was told lately, by kind and reason. Both come from this crate, so there are few.
#[derive(Debug, Default)]
pub(crate) struct Flood(Mutex<Option<HashMap<(Kind, &'static str), Window>>>);

impl Flood {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(None))
    }

    pub(crate) fn take(&self, kind: Kind, reason: &'static str, now: UnixSeconds) -> Turn {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        windows.get_or_insert_default().entry((kind, reason)).or_default().take(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_a_second_for_each_reason_and_the_rest_counted() {
        let flood = Flood::new();
        let at = |second| flood.take(Kind::CredentialInvalid, "expired", UnixSeconds::new(second));
        let told = (0..1000).filter(|_| at(5) != Turn::Keep).count();
        assert_eq!(told, 10);
        let other = flood.take(Kind::CredentialInvalid, "bad_signature", UnixSeconds::new(5));
        assert_eq!(other, Turn::Tell { suppressed: 0 }, "another reason is not drowned");
        assert_eq!(at(6), Turn::Tell { suppressed: 990 });
        assert_eq!(at(6), Turn::Tell { suppressed: 0 });
        // A clock that is set back opens a new second, no more.
        assert_eq!(at(4), Turn::Tell { suppressed: 0 });
        assert_eq!((0..100).filter(|_| at(4) != Turn::Keep).count(), 9);
    }
}
