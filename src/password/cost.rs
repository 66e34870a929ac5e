//! What a login costs, whatever it is made of: in blocks of Argon2, to which the time of everything else is converted. Pure.

use std::time::Duration;

use super::argon2id::Argon2Params;

/// Blocks of 1 KiB that Argon2 fills, or what takes as long.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Work(u64);

impl Work {
    pub(super) const fn blocks(blocks: u64) -> Self {
        Self(blocks)
    }

    /// A sixteenth more. What was timed takes a little longer one time than another, and what takes longer than the
    /// costliest login has nothing left to make up.
    const fn and_a_margin(self) -> Self {
        Self(self.0.saturating_add(self.0 / 16))
    }

    /// Seven parts of eight: for what is approached in steps, so that the last one is small.
    pub(super) const fn most_of(self) -> Self {
        Self(self.0 - self.0 / 8)
    }

    /// Parameters that do this much in `memory_kib` at the most; `None` if it is nothing, or too little to matter.
    pub(super) fn within(self, memory_kib: u32) -> Option<Argon2Params> {
        let passes = self.0.div_ceil(u64::from(memory_kib).max(1));
        let memory = self.0.checked_div(passes)?;
        Argon2Params::of_work(u32::try_from(memory).ok()?, u32::try_from(passes).ok()?)
    }
}

/// How long the pool's own work takes here and now: the last few times of it.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    own: Work,
    times: [Duration; Self::KEPT],
    /// Place of the last one that was noted, and of the last one that was gone by.
    noted: usize,
    used: usize,
}

impl Pace {
    const KEPT: usize = 32;

    /// Begins with one time.
    pub(super) fn new(own: Work, time: Duration) -> Self {
        // A clock that stands still must not make everything look like endless work.
        Self { own, times: [time.max(Duration::from_micros(1)); Self::KEPT], noted: 0, used: 0 }
    }

    fn at(&self, place: usize) -> Duration {
        self.times.get(place).copied().unwrap_or_default()
    }

    /// Notes how long the own work has taken this time.
    pub(super) fn note(&mut self, time: Duration) {
        self.noted = (self.noted + 1) % Self::KEPT;
        // A machine that slept was not slow. If it is for good, a few rounds get there.
        let most = self.greatest().time.saturating_mul(4);
        if let Some(oldest) = self.times.get_mut(self.noted) {
            *oldest = time.min(most).max(Duration::from_micros(1));
        }
    }

    /// How long this much is to take. Each call goes by another of the times that were noted, so that what is timed by it
    /// varies as much as the work itself.
    pub(super) fn time(&mut self, work: Work) -> Duration {
        self.used = (self.used + 1) % Self::KEPT;
        let nanoseconds =
            self.at(self.used).as_nanos().saturating_mul(u128::from(work.0)).checked_div(u128::from(self.own.0));
        Duration::from_nanos(nanoseconds.and_then(|time| u64::try_from(time).ok()).unwrap_or(u64::MAX))
    }

    /// As it was the last time.
    pub(super) fn latest(&self) -> Speed {
        Speed { work: self.own, time: self.at(self.noted) }
    }

    /// At its fastest.
    pub(super) fn greatest(&self) -> Speed {
        Speed { work: self.own, time: self.times.iter().min().copied().unwrap_or_default() }
    }
}

/// So much work took so long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Speed {
    work: Work,
    time: Duration,
}

impl Speed {
    /// Less is too short for a clock to tell.
    const LEAST: Work = Work(1024);

    /// That of work that took this long, or else the one that is known.
    pub(super) fn or_of(self, work: Work, time: Duration) -> Self {
        if work >= Self::LEAST && time > Duration::ZERO { Self { work, time } } else { self }
    }

    /// What is done in this time.
    pub(super) fn work(self, time: Duration) -> Work {
        let blocks = time.as_nanos().saturating_mul(u128::from(self.work.0)).checked_div(self.time.as_nanos());
        Work(blocks.and_then(|blocks| u64::try_from(blocks).ok()).unwrap_or(u64::MAX))
    }
}

/// What hashes cost that are not made as the pool's own are: each kind by the least time that it took.
#[derive(Debug)]
pub(super) struct Costs<K> {
    own: Work,
    others: Vec<(K, Work)>,
}

impl<K: PartialEq> Costs<K> {
    /// Kinds that are told apart: a store has a handful.
    const MOST: usize = 64;
    /// Three times what the costliest hash takes that is read: nothing but a clock that was put forward says more.
    const MOST_WORK: Work = Work(16 * 1024 * 1024);

    pub(super) const fn new(own: Work) -> Self {
        Self { own, others: Vec::new() }
    }

    /// Notes what a hash has taken, and says whether it is the first of its kind. The least counts: what disturbs makes it longer,
    /// never shorter. But it comes up again with time: what disturbs Argon2 alone makes all others look shorter.
    pub(super) fn note(&mut self, kind: K, took: Work) -> bool {
        let took = took.min(Self::MOST_WORK);
        if let Some((_, least)) = self.others.iter_mut().find(|(other, _)| *other == kind) {
            let up = Work(least.0 + took.0.saturating_sub(least.0) / 64);
            *least = took.min(up);
            return false;
        }
        let has_room = self.others.len() < Self::MOST;
        if has_room {
            self.others.push((kind, took));
        }
        has_room
    }

    /// What each login is to cost.
    pub(super) fn costliest(&self) -> Work {
        let dearer = self.others.iter().map(|(_, work)| *work).filter(|work| *work > self.own);
        dearer.map(Work::and_a_margin).fold(self.own, Work::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn req_034_whatever_is_left_to_do_fits_into_the_memory_that_is_there() {
        for target in [8, 38_912, 47_104, 35_840, 196_608, 2_621_440, 40_000_000] {
            for kept in [7 * 1024, 19 * 1024, 256 * 1024] {
                let done = Work(target).within(kept).unwrap();
                let passes = target / u64::from(kept) + 1;
                assert!(done.work().0.abs_diff(target) <= passes, "{target} {kept} {done:?}");
                assert!(done.blocks() <= kept as usize, "in the memory that is there");
            }
        }
        assert_eq!(Work(7).within(1024), None);
        assert_eq!(Work(1600).and_a_margin(), Work(1700));
    }

    #[test]
    fn the_costliest_is_the_greatest_of_the_least_of_each_kind() {
        let mut costs = Costs::new(Work(1600));
        assert_eq!(costs.costliest(), Work(1600));
        let mut seen = std::collections::HashSet::new();
        for (kind, took, costliest) in [
            ("cheap", 100, 1600),
            ("dear", 3200, 3400),
            // By a sixty-fourth of the difference.
            ("dear", 9600, 3506),
            ("dearer", 6400, 6800),
            ("dearer", 4800, 5100),
            ("cheap", 8000, 5100),
        ] {
            assert_eq!(costs.note(kind, Work(took)), seen.insert(kind), "{kind}: told once");
            assert_eq!(costs.costliest(), Work(costliest), "{kind} {took}");
        }
        costs.note("endless", Work(u64::MAX));
        assert_eq!(costs.costliest(), Work(17 * 1024 * 1024));
        let mut costs = Costs::new(Work(1600));
        assert_eq!((0..1000).filter(|kind| costs.note(*kind, Work(1))).count(), 64);
        assert_eq!(costs.others.len(), 64);
    }

    #[test]
    fn a_pace_turns_time_into_work_and_work_into_time() {
        let ms = Duration::from_millis;
        let mut pace = Pace::new(Work(40_000), ms(20));
        assert_eq!((pace.greatest().work(ms(5)), pace.time(Work(10_000))), (Work(10_000), ms(5)));
        for time in 0..32 {
            pace.note(ms(20 + time));
        }
        let mut times: Vec<_> = (0..32).map(|_| pace.time(Work(80_000))).collect();
        times.sort_unstable();
        assert_eq!(times, (20..52).map(|time| ms(2 * time)).collect::<Vec<_>>(), "each in its turn");
        assert_eq!(pace.greatest().work(ms(20)), Work(40_000));
        assert_eq!(pace.greatest().or_of(Work(2000), ms(2)).work(ms(20)), Work(20_000));
        assert_eq!(pace.greatest().or_of(Work(1000), ms(2)).work(ms(20)), Work(40_000), "too little to tell");
        assert_eq!(Work(1600).most_of(), Work(1400));
        pace.note(Duration::from_secs(3600));
        assert_eq!(pace.latest().work(ms(80)), Work(40_000), "it was asleep");
    }

    #[test]
    fn no_clock_makes_it_overflow() {
        let years = Duration::from_secs(u64::MAX);
        for time in [Duration::ZERO, years] {
            let mut pace = Pace::new(Work(40_000), time);
            pace.note(time);
            assert!(pace.greatest().work(years) > Work(0) && pace.time(Work(u64::MAX)) > Duration::ZERO, "{time:?}");
        }
        assert!(Pace::new(Work(1), years).time(Work(u64::MAX)) > Duration::ZERO);
    }
}
