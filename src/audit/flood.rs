//! How often the same is told: a scanner must not fill the log, nor hide in it what else happens.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use super::kind::Kind;

/// Kinds and reasons that are told apart. Both come from this crate, which has about a hundred and fifty pairs of them; should there
/// ever be more, those that come last share one window.
const PLACES: usize = 256;
/// The lower bits of a window's state, in which it counts what was told.
const COUNT: u64 = 0xffff;

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

/// What was told of one kind and reason in this second. Threads wait for each other nowhere: while nothing is told they only count.
#[derive(Debug)]
struct Window {
    whose: OnceLock<(Kind, &'static str)>,
    /// The second, and below it how many were told in it.
    state: AtomicU64,
    kept: AtomicU64,
}

impl Window {
    const fn new() -> Self {
        Self { whose: OnceLock::new(), state: AtomicU64::new(0), kept: AtomicU64::new(0) }
    }

    fn take(&self, most: u32, second: u64) -> Turn {
        let turn = self.state.fetch_update(Relaxed, Relaxed, |state| {
            let (seen, told) = (state >> COUNT.count_ones(), state & COUNT);
            // A thread that read the clock a little earlier than another opens no second of its own.
            if second > seen {
                Some(second << COUNT.count_ones() | 1)
            } else {
                (told < u64::from(most).min(COUNT)).then_some(state + 1)
            }
        });
        if turn.is_err() {
            self.kept.fetch_add(1, Relaxed);
            return Turn::Keep;
        }
        Turn::Tell { suppressed: self.kept.swap(0, Relaxed) }
    }
}

/// What was told lately, by kind and reason.
#[derive(Debug)]
pub(crate) struct Flood {
    windows: [Window; PLACES],
    others: Window,
}

impl Flood {
    pub(crate) const fn new() -> Self {
        Self { windows: [const { Window::new() }; PLACES], others: Window::new() }
    }

    /// Whether to tell of one more, if `most` are told in a second. `second` counts from anywhere; it may stand still, and one that
    /// is earlier than another was counts as that.
    pub(crate) fn take(&self, kind: Kind, reason: &'static str, most: u32, second: u64) -> Turn {
        self.window(kind, reason).take(most, second)
    }

    fn window(&self, kind: Kind, reason: &'static str) -> &Window {
        let mut hasher = DefaultHasher::new();
        (kind, reason).hash(&mut hasher);
        let first = usize::try_from(hasher.finish() % PLACES as u64).unwrap_or_default();
        let (before, from) = self.windows.split_at(first);
        let is_own = |window: &&Window| *window.whose.get_or_init(|| (kind, reason)) == (kind, reason);
        from.iter().chain(before).find(is_own).unwrap_or(&self.others)
    }
}

/// Seconds of this process, by a clock that nobody sets: where the system's clock is set back or stands still, this one goes on.
pub(crate) fn second() -> u64 {
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    // Not 0, which is what a window begins with.
    BEGUN.get_or_init(Instant::now).elapsed().as_secs() + 1
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashMap,
        sync::atomic::{AtomicBool, AtomicUsize},
        thread,
    };

    use super::*;

    const MOST: u32 = 10;

    /// As many reasons as one likes. They live as long as the process, which is why nothing but a test makes them.
    fn reasons(count: usize) -> Vec<&'static str> {
        (0..count).map(|n| &*format!("reason-{n}").leak()).collect()
    }

    #[test]
    fn ten_a_second_for_each_reason_and_the_rest_counted() {
        let flood = Flood::new();
        let at = |second| flood.take(Kind::CredentialInvalid, "expired", MOST, second);
        let told = (0..1000).filter(|_| at(5) != Turn::Keep).count();
        assert_eq!(told, 10);
        let other = flood.take(Kind::CredentialInvalid, "bad_signature", MOST, 5);
        assert_eq!(other, Turn::Tell { suppressed: 0 }, "another reason is not drowned");
        let other = flood.take(Kind::CredentialMissing, "expired", MOST, 5);
        assert_eq!(other, Turn::Tell { suppressed: 0 }, "nor is another kind");
        assert_eq!(at(6), Turn::Tell { suppressed: 990 });
        assert_eq!(at(6), Turn::Tell { suppressed: 0 });
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_opens_no_second() {
        let flood = Flood::new();
        let mut told = 0;
        for round in 0..100_000_u64 {
            // To and fro between seconds, as threads see them that read the clock at the same time.
            let second = [7, 6, 7, 1][usize::try_from(round % 4).unwrap()];
            told += usize::from(flood.take(Kind::LoginFailed, "wrong password", MOST, second) != Turn::Keep);
        }
        assert_eq!(told, 10);
    }

    #[test]
    fn a_million_refusals_of_a_hundred_reasons_are_ten_lines_each() {
        let (flood, reasons) = (Flood::new(), reasons(100));
        let mut told = HashMap::<_, u64>::new();
        for n in 0..1_000_000 {
            // No order that repeats.
            let reason = reasons[n * 7919 % 99_991 % 100];
            if flood.take(Kind::CredentialInvalid, reason, MOST, 1) != Turn::Keep {
                *told.entry(reason).or_default() += 1;
            }
        }
        assert_eq!(told.len(), 100);
        assert!(told.values().all(|&lines| lines == 10), "{told:?}");
        let missed: u64 = reasons
            .iter()
            .map(|reason| match flood.take(Kind::CredentialInvalid, reason, MOST, 2) {
                Turn::Tell { suppressed } => suppressed,
                Turn::Keep => 0,
            })
            .sum();
        assert_eq!(missed, 1_000_000 - 1000, "every one is accounted for");
    }

    #[test]
    fn more_reasons_than_there_is_room_for_share_one_bound() {
        let (flood, reasons) = (Flood::new(), reasons(PLACES + 1000));
        let lines = |reasons: &[&'static str]| {
            let all = reasons.iter().flat_map(|reason| [*reason; 20]);
            all.filter(|reason| flood.take(Kind::RequestMalformed, reason, MOST, 1) != Turn::Keep).count()
        };
        assert_eq!(lines(&reasons[..PLACES]), PLACES * 10);
        assert_eq!(lines(&reasons[PLACES..]), 10);
    }

    #[test]
    fn threads_together_tell_no_more_than_one_would_and_lose_nothing() {
        let (flood, stop) = (Flood::new(), AtomicBool::new(false));
        let (told, taken, suppressed) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicU64::new(0));
        let second = AtomicU64::new(1);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !stop.load(Relaxed) {
                        taken.fetch_add(1, Relaxed);
                        let turn = flood.take(Kind::LoginLimited, "address", MOST, second.load(Relaxed));
                        if let Turn::Tell { suppressed: before } = turn {
                            told.fetch_add(1, Relaxed);
                            suppressed.fetch_add(before, Relaxed);
                        }
                    }
                });
            }
            for _ in 0..20 {
                thread::sleep(std::time::Duration::from_millis(5));
                second.fetch_add(1, Relaxed);
            }
            stop.store(true, Relaxed);
        });
        let told = told.load(Relaxed);
        assert!((10..=21 * 10).contains(&told), "{told} told in 21 seconds");
        let last = match flood.take(Kind::LoginLimited, "address", MOST, 1000) {
            Turn::Tell { suppressed } => suppressed,
            Turn::Keep => panic!("a new second"),
        };
        assert_eq!(suppressed.load(Relaxed) + last + told as u64, taken.load(Relaxed) as u64);
    }
}
