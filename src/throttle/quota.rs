//! So many in a period: the generic cell rate algorithm, in microseconds. What is taken can be given back.

use std::time::Duration;

use crate::{clock::UnixSeconds, config::ConfigErrors};

/// So many attempts at once, and as many again over each period, evenly.
///
/// ```
/// use portcullis::login::Quota;
///
/// let quota = Quota::per_minute(30); // thirty at once, then one every two seconds
/// # let _ = quota;
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Quota {
    most: u32,
    per: Duration,
}

/// When a quota will be whole again, in microseconds since 1970: all that has to be kept of what was taken.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counted(pub u64);

/// What became of one that was asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Taken {
    /// It was there.
    Granted {
        /// To be kept.
        counted: Counted,
        /// How many more there are now.
        left: u32,
    },
    /// It was not.
    Refused {
        /// To be kept: less than before, if a clock was set back or the quota is a smaller one now.
        counted: Counted,
        /// When there will be one.
        wait: Duration,
    },
}

const SECOND: u64 = 1_000_000;

impl Quota {
    /// `most` at once, and as many again in each `per`.
    pub const fn new(most: u32, per: Duration) -> Self {
        Self { most, per }
    }

    /// `most` at once, and as many again in each minute.
    pub const fn per_minute(most: u32) -> Self {
        Self::new(most, Duration::from_secs(60))
    }

    /// How many there are at once.
    pub const fn most(self) -> u32 {
        self.most
    }

    /// The period in which as many come again.
    pub const fn per(self) -> Duration {
        self.per
    }

    /// Notes what is out of bounds: 1 to 1,000,000 in a second to a day.
    pub(crate) fn check(self, setting: &'static str, errors: &mut ConfigErrors) {
        errors.bound_number(setting, self.most as usize, 1, 1_000_000);
        errors.bound(setting, self.per, Duration::from_secs(1), Duration::from_secs(24 * 3600));
    }

    /// How long one takes to come back.
    pub(crate) fn interval(self) -> u64 {
        (u64::try_from(self.per.as_micros()).unwrap_or(u64::MAX) / u64::from(self.most.max(1))).max(1)
    }

    /// How long all of them take.
    fn whole(self) -> u64 {
        self.interval().saturating_mul(u64::from(self.most))
    }

    /// Takes one as of `now`.
    pub fn take(self, counted: Counted, now: UnixSeconds) -> Taken {
        let (now, interval, whole) = (micros(now), self.interval(), self.whole());
        // Nothing is counted beyond what can be: a clock that was set back, or a smaller quota, keeps nobody out for longer.
        // That is kept even of a refusal, or the moment that it names would bring the next one.
        let from = counted.0.clamp(now, now.saturating_add(whole));
        let then = from.saturating_add(interval);
        match now.saturating_add(whole).checked_sub(then) {
            Some(left) => {
                Taken::Granted { counted: Counted(then), left: u32::try_from(left / interval).unwrap_or(u32::MAX) }
            }
            None => Taken::Refused {
                counted: Counted(from),
                wait: Duration::from_micros(then.saturating_sub(now.saturating_add(whole))),
            },
        }
    }

    /// Gives one back that was taken.
    #[must_use]
    pub fn give_back(self, counted: Counted) -> Counted {
        Counted(counted.0.saturating_sub(self.interval()))
    }

    /// Whether nothing is counted any more, as of `now`.
    pub fn is_whole(counted: Counted, now: UnixSeconds) -> bool {
        counted.0 <= micros(now)
    }
}

fn micros(moment: UnixSeconds) -> u64 {
    moment.get().saturating_mul(SECOND)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> UnixSeconds {
        UnixSeconds::new(seconds)
    }

    /// Takes one, keeps what is to be kept, and says how many are left or how long to wait.
    fn take(quota: Quota, counted: &mut Counted, now: u64) -> Result<u32, Duration> {
        match quota.take(*counted, at(now)) {
            Taken::Granted { counted: then, left } => {
                *counted = then;
                Ok(left)
            }
            Taken::Refused { counted: then, wait } => {
                *counted = then;
                Err(wait)
            }
        }
    }

    #[test]
    fn req_028_so_many_at_once_and_then_one_at_a_time() {
        let (quota, mut counted) = (Quota::per_minute(3), Counted::default());
        let seconds = Duration::from_secs;
        for (now, expected) in [
            (1000, Ok(2)),
            (1000, Ok(1)),
            (1000, Ok(0)),
            (1000, Err(seconds(20))),
            (1019, Err(seconds(1))),
            (1020, Ok(0)),
            (1020, Err(seconds(20))),
            (1060, Ok(1)),
            (2000, Ok(2)),
        ] {
            assert_eq!(take(quota, &mut counted, now), expected, "{now}");
        }
    }

    #[test]
    fn what_is_given_back_is_there_again() {
        let (quota, mut counted) = (Quota::per_minute(2), Counted::default());
        for _ in 0..100 {
            assert_eq!(take(quota, &mut counted, 1000), Ok(1));
            counted = quota.give_back(counted);
        }
        assert!(Quota::is_whole(counted, at(1000)));
        assert!(take(quota, &mut counted, 1000).is_ok() && !Quota::is_whole(counted, at(1000)));
        assert_eq!(quota.give_back(Counted(0)), Counted(0));
    }

    #[test]
    fn a_clock_set_back_or_a_smaller_quota_keeps_nobody_out_for_longer_than_a_period() {
        let (quota, mut counted) = (Quota::per_minute(3), Counted::default());
        assert!(take(quota, &mut counted, 100_000).is_ok());
        assert_eq!(take(quota, &mut counted, 1000), Err(Duration::from_secs(20)));
        assert_eq!(take(quota, &mut counted, 1019), Err(Duration::from_secs(1)));
        assert_eq!(take(quota, &mut counted, 1020), Ok(0), "the moment that was named");
        assert_eq!(take(Quota::per_minute(1), &mut Counted(u64::MAX), 1000), Err(Duration::from_secs(60)));
        assert!(quota.take(Counted(u64::MAX), at(u64::MAX)) != Taken::Granted { counted: Counted(0), left: 0 });
    }

    proptest! {
        /// Whatever is kept, and however the clock goes: the moment that a refusal names lets one through.
        #[test]
        fn req_176_a_refusal_names_the_moment_at_which_it_ends(
            most in 1_u32..50,
            seconds in 1_u64..100,
            kept in 0_u64..4_000_000_000,
            now in 1_u64..4000,
        ) {
            let (quota, mut counted) = (Quota::new(most, Duration::from_secs(seconds)), Counted(kept));
            if let Err(wait) = take(quota, &mut counted, now) {
                let after = now + wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                prop_assert!(take(quota, &mut counted, after).is_ok());
            }
        }

        /// The same verdicts as `governor` gives, for any arrivals.
        #[test]
        fn req_028_the_verdicts_are_those_of_the_known_algorithm(
            most in 1_u32..50,
            seconds in 1_u64..100,
            steps in proptest::collection::vec(0_u64..20, 1..200),
        ) {
            use governor::{Quota as Known, RateLimiter, clock::FakeRelativeClock};

            let quota = Quota::new(most, Duration::from_secs(seconds));
            let period = Duration::from_micros(quota.interval());
            let known = Known::with_period(period).unwrap().allow_burst(most.try_into().unwrap());
            let clock = FakeRelativeClock::default();
            let known = RateLimiter::direct_with_clock(known, clock.clone());
            let (mut counted, mut now) = (Counted::default(), 1000);
            for step in steps {
                now += step;
                clock.advance(Duration::from_secs(step));
                prop_assert_eq!(take(quota, &mut counted, now).is_ok(), known.check().is_ok());
            }
        }
    }
}
