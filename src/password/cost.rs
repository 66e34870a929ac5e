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

    /// A sixteenth more. What was timed takes a little longer one time than another, and what takes longer than the costliest
    /// login has nothing left to make up.
    const fn and_a_margin(self) -> Self {
        Self(self.0.saturating_add(self.0 / 16))
    }

    /// What is left of this much when `done` is done.
    pub(super) const fn beyond(self, done: Self) -> Self {
        Self(self.0.saturating_sub(done.0))
    }

    /// Parameters that do this much in `memory_kib` at the most; `None` if it is nothing, or too little to matter.
    pub(super) fn within(self, memory_kib: u32) -> Option<Argon2Params> {
        let passes = self.0.div_ceil(u64::from(memory_kib).max(1));
        let memory = self.0.checked_div(passes)?;
        Argon2Params::of_work(u32::try_from(memory).ok()?, u32::try_from(passes).ok()?)
    }
}

/// How long a block takes here and now, in picoseconds; half a million or so.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Pace(u64);

/// A guess, where a clock tells nothing.
impl Default for Pace {
    fn default() -> Self {
        Self(500_000)
    }
}

impl Pace {
    /// Less than this is too short for the clock to time well.
    const LEAST: Work = Work(1024);

    /// The pace of work that took this long, if there was enough of it.
    pub(super) fn of(work: Work, time: Duration) -> Option<Self> {
        let blocks = u128::from(work.0);
        let picoseconds = (time.as_nanos() * 1000).checked_div(blocks)?;
        let pace = Self(u64::try_from(picoseconds).ok()?);
        (work >= Self::LEAST && pace.0 > 0).then_some(pace)
    }

    /// What is done in this time.
    pub(super) fn work_in(self, time: Duration) -> Work {
        let blocks = (time.as_nanos() * 1000).checked_div(u128::from(self.0)).unwrap_or_default();
        Work(u64::try_from(blocks).unwrap_or(u64::MAX))
    }

    /// Follows the latest pace, an eighth of the way: a machine is not always as fast, and one slow hash is no trend.
    pub(super) const fn towards(self, latest: Self) -> Self {
        Self(self.0 - self.0 / 8 + latest.0 / 8)
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

    pub(super) const fn new(own: Work) -> Self {
        Self { own, others: Vec::new() }
    }

    /// Notes what a hash has taken. The least counts: what disturbs makes it longer, never shorter.
    pub(super) fn note(&mut self, kind: K, took: Work) {
        if let Some((_, least)) = self.others.iter_mut().find(|(other, _)| *other == kind) {
            *least = took.min(*least);
        } else if self.others.len() < Self::MOST {
            self.others.push((kind, took));
        }
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
    fn req_034_whatever_was_done_the_rest_makes_up_for_it() {
        for target in [8, 38_912, 47_104, 35_840, 196_608, 2_621_440, 40_000_000] {
            for kept in [7 * 1024, 19 * 1024, 256 * 1024] {
                for done in [0, 8, 1000, 35_840, 38_912, 196_608] {
                    let rest = Work(target).beyond(Work(done)).within(kept);
                    let total = done + rest.map_or(0, |rest| rest.work().0);
                    let (least, passes) = (done.max(target), target / u64::from(kept) + 1);
                    assert!(total.abs_diff(least) <= passes.max(8), "{target} {kept} {done} {rest:?}");
                    assert!(rest.is_none_or(|rest| rest.blocks() <= kept as usize), "in the memory that is there");
                }
            }
        }
        assert_eq!(Work(7).within(1024), None);
        assert_eq!(Work(1600).and_a_margin(), Work(1700));
    }

    #[test]
    fn the_costliest_is_the_greatest_of_the_least_of_each_kind() {
        let mut costs = Costs::new(Work(1600));
        assert_eq!(costs.costliest(), Work(1600));
        for (kind, took, costliest) in [
            ("cheap", 100, 1600),
            ("dear", 3200, 3400),
            ("dear", 32_000, 3400),
            ("dearer", 6400, 6800),
            ("dearer", 4800, 5100),
            ("cheap", 8000, 5100),
        ] {
            costs.note(kind, Work(took));
            assert_eq!(costs.costliest(), Work(costliest), "{kind} {took}");
        }
        let mut costs = Costs::new(Work(1600));
        (0..1000).for_each(|kind| costs.note(kind, Work(1)));
        assert_eq!(costs.others.len(), 64);
    }

    #[test]
    fn a_pace_turns_time_into_work() {
        let ms = Duration::from_millis;
        let pace = Pace::of(Work(40_000), ms(20)).unwrap();
        assert_eq!((pace, pace.work_in(ms(5))), (Pace(500_000), Work(10_000)));
        assert_eq!(pace.towards(Pace(580_000)), Pace(510_000));
        for (work, time) in [(0, ms(1)), (1023, ms(1)), (2000, Duration::ZERO)] {
            assert_eq!(Pace::of(Work(work), time), None, "{work} {time:?}");
        }
        let years = Duration::from_secs(u64::MAX / 1000);
        assert_eq!(Pace(1).work_in(years), Work(u64::MAX), "no overflow");
        assert_eq!(Pace::of(Work(1024), years), None, "no overflow");
    }
}
