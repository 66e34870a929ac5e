//! How often in a row an account may be guessed at, and how long to wait in between. Pure.

use std::time::Duration;

use crate::{clock::UnixSeconds, config::ConfigErrors};

/// After some failures at no cost, a wait that doubles with each further one; after so many in a row, nothing but a success or
/// [`unlock`](crate::AuthorizationServer::unlock) helps.
///
/// | setting | default | bound |
/// |---|---|---|
/// | free failures | 5 | 1 to 100 |
/// | first wait | 30 s | 1 s to 1 h |
/// | longest wait | 15 min | the first wait to 24 h |
/// | failures are forgotten after | 24 h without one | 1 s to 30 d |
/// | failures in a row | 100 | the free ones to 100 (NIST SP 800-63B-4 §3.2.2) |
///
/// What is in a row is remembered for 30 days after the last failure, however soon failures are forgotten: that shortens waits,
/// and does not give somebody patient a thousand guesses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub struct Lockout {
    free: u16,
    first: Duration,
    longest: Duration,
    window: Duration,
    in_a_row: u16,
}

/// What is kept of an account's failures. The default is none.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Failures {
    /// Those that are not forgotten.
    pub recent: u16,
    /// Those since the last success.
    pub in_a_row: u16,
    /// When the last of them began, in seconds since 1970.
    pub last: u64,
    /// When the one before it did.
    pub before: u64,
}

/// Whether an attempt may be made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Begun {
    /// It may, and counts as a failure until it turns out to be none. To be kept.
    Granted(Failures),
    /// Not before so long.
    Refused {
        /// To be kept: as before, unless the clock was set back.
        failures: Failures,
        /// How long to wait.
        wait: Duration,
    },
}

/// For how long failures in a row are remembered.
pub(crate) const REMEMBERED: Duration = Duration::from_secs(30 * 24 * 3600);
/// The most in a row that can be allowed.
const MOST_IN_A_ROW: u16 = 100;

impl Default for Lockout {
    fn default() -> Self {
        Self {
            free: 5,
            first: Duration::from_secs(30),
            longest: Duration::from_secs(15 * 60),
            window: Duration::from_secs(24 * 3600),
            in_a_row: MOST_IN_A_ROW,
        }
    }
}

impl Lockout {
    /// Sets how many failures cost no wait.
    pub const fn free(self, free: u16) -> Self {
        Self { free, ..self }
    }

    /// Sets the wait after them, and the longest that it becomes.
    pub const fn waits(self, first: Duration, longest: Duration) -> Self {
        Self { first, longest, ..self }
    }

    /// Sets for how long without a failure the earlier ones count.
    pub const fn window(self, window: Duration) -> Self {
        Self { window, ..self }
    }

    /// Sets after how many failures in a row nothing but a success or an administrator helps.
    pub const fn in_a_row(self, in_a_row: u16) -> Self {
        Self { in_a_row, ..self }
    }

    /// How many failures cost no wait.
    pub const fn free_failures(self) -> u16 {
        self.free
    }

    /// For how long without a failure the earlier ones count.
    pub const fn forgets_after(self) -> Duration {
        self.window
    }

    pub(crate) fn check(self, errors: &mut ConfigErrors) {
        let (second, day) = (Duration::from_secs(1), Duration::from_secs(24 * 3600));
        errors.bound_number("free login failures", self.free.into(), 1, MOST_IN_A_ROW.into());
        errors.bound("first wait", self.first, second, Duration::from_secs(3600));
        errors.bound("longest wait", self.longest, self.first, day);
        errors.bound("login failures are forgotten after", self.window, second, REMEMBERED);
        errors.bound_number("login failures in a row", self.in_a_row.into(), self.free.into(), MOST_IN_A_ROW.into());
    }

    /// What a script has to know of it: free failures, waits and window in seconds, failures in a row.
    #[cfg(feature = "redis")]
    pub(crate) const fn numbers(self) -> [u64; 5] {
        let Self { free, first, longest, window, in_a_row } = self;
        [free as u64, first.as_secs(), longest.as_secs(), window.as_secs(), in_a_row as u64]
    }

    /// How long after a failure the next attempt may be made, if there are so many.
    fn wait(self, recent: u16) -> Duration {
        let Some(beyond) = recent.checked_sub(self.free) else { return Duration::ZERO };
        let doubled = 1_u32.checked_shl(beyond.into()).and_then(|times| self.first.checked_mul(times));
        // What is forgotten keeps nobody waiting.
        doubled.unwrap_or(self.longest).min(self.longest).min(self.window)
    }

    /// What still counts as of `now`.
    fn remembered(self, failures: Failures, now: UnixSeconds) -> Failures {
        // The clock may have been set back since: nobody waits for longer because of that.
        let last = failures.last.min(now.get());
        let since = Duration::from_secs(now.get().saturating_sub(last));
        Failures {
            recent: if since < self.window { failures.recent } else { 0 },
            in_a_row: if since < REMEMBERED { failures.in_a_row } else { 0 },
            last,
            before: failures.before.min(last),
        }
    }

    /// Begins an attempt as of `now`: of any number at once, as many are granted as would be one after the other.
    pub fn begin(self, failures: Failures, now: UnixSeconds) -> Begun {
        let failures = self.remembered(failures, now);
        let Failures { recent, in_a_row, last, .. } = failures;
        let since = Duration::from_secs(now.get().saturating_sub(last));
        let wait = if in_a_row >= self.in_a_row { REMEMBERED } else { self.wait(recent) };
        match wait.checked_sub(since) {
            Some(wait) if !wait.is_zero() => Begun::Refused { failures, wait },
            _ => {
                let (recent, in_a_row) = (recent.saturating_add(1), in_a_row.saturating_add(1));
                Begun::Granted(Failures { recent, in_a_row, last: now.get(), before: last })
            }
        }
    }

    /// Takes an attempt back that was none: who has waited need not wait again.
    #[must_use]
    pub const fn take_back(failures: Failures) -> Failures {
        let Failures { recent, in_a_row, before, .. } = failures;
        Failures { recent: recent.saturating_sub(1), in_a_row: in_a_row.saturating_sub(1), last: before, before }
    }

    /// Whether nothing is remembered any more.
    pub fn is_forgotten(self, failures: Failures, now: UnixSeconds) -> bool {
        let Failures { recent, in_a_row, .. } = self.remembered(failures, now);
        recent == 0 && in_a_row == 0
    }

    /// Whether the next attempt would be granted and cost no wait even then, as for an account with few failures. Of such ones
    /// it does least harm to forget.
    pub fn is_free(self, failures: Failures, now: UnixSeconds) -> bool {
        let Failures { recent, in_a_row, .. } = self.remembered(failures, now);
        recent < self.free && in_a_row < 2 * self.free
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: u64 = 1_000_000;
    const DAY: u64 = 24 * 3600;

    fn at(seconds: u64) -> UnixSeconds {
        UnixSeconds::new(seconds)
    }

    /// The seconds at which somebody who tries at every one of them is let through.
    fn granted(lockout: Lockout, seconds: u64) -> Vec<u64> {
        let mut failures = Failures::default();
        let mut through = Vec::new();
        for now in START..START + seconds {
            while let Begun::Granted(then) = lockout.begin(failures, at(now)) {
                failures = then;
                through.push(now - START);
            }
        }
        through
    }

    #[test]
    fn req_172_free_failures_and_then_doubling_waits() {
        let through = granted(Lockout::default(), 6000);
        assert_eq!(through, [0, 0, 0, 0, 0, 30, 90, 210, 450, 930, 1830, 2730, 3630, 4530, 5430]);
        let quick = Lockout::default().free(1).waits(Duration::from_secs(1), Duration::from_secs(4));
        assert_eq!(granted(quick, 20), [0, 1, 3, 7, 11, 15, 19]);
    }

    #[test]
    fn req_171_never_more_than_a_hundred_in_a_row_for_a_month() {
        let through = granted(Lockout::default(), 29 * DAY);
        assert_eq!(through.len(), 100, "{:?}", through.last());
        let patient = Lockout::default().window(Duration::from_secs(1));
        assert_eq!(granted(patient, 29 * DAY).len(), 100, "also where failures are soon forgotten");
        let most = Failures { recent: 100, in_a_row: 100, last: START, before: START };
        for after in [0, 1, DAY, 29 * DAY] {
            assert!(matches!(Lockout::default().begin(most, at(START + after)), Begun::Refused { .. }), "{after}");
        }
        assert!(matches!(Lockout::default().begin(most, at(START + 30 * DAY)), Begun::Granted(_)));
    }

    #[test]
    fn req_173_two_hundred_at_once_are_as_many_as_there_are_free_failures() {
        for free in [1, 5, 100] {
            let lockout = Lockout::default().free(free);
            let mut failures = Failures::default();
            let through = (0..200).filter(|_| match lockout.begin(failures, at(START)) {
                Begun::Granted(then) => {
                    failures = then;
                    true
                }
                Begun::Refused { .. } => false,
            });
            assert_eq!(through.count(), usize::from(free));
        }
    }

    #[test]
    fn failures_are_forgotten_after_the_window_and_waits_end_with_it() {
        let lockout = Lockout::default().free(3).window(Duration::from_secs(10));
        let three = Failures { recent: 3, in_a_row: 3, last: START, before: START };
        let wait = |after| match lockout.begin(three, at(START + after)) {
            Begun::Granted(then) => Ok(then.recent),
            Begun::Refused { wait, .. } => Err(wait.as_secs()),
        };
        assert_eq!([wait(0), wait(9), wait(10)], [Err(10), Err(1), Ok(1)]);
    }

    #[test]
    fn attempts_that_were_none_are_taken_back() {
        let Begun::Granted(one) = Lockout::default().begin(Failures::default(), at(START)) else { panic!() };
        let none = Lockout::take_back(one);
        assert_eq!((none.recent, none.in_a_row), (0, 0));
        assert!(Lockout::default().is_forgotten(none, at(START)));
        assert_eq!(Lockout::take_back(Failures::default()), Failures::default());
        // Whoever has waited for a quarter of an hour, and was shed, may try again at once.
        let waited = Failures { recent: 12, in_a_row: 12, last: START, before: START };
        let Begun::Granted(shed) = Lockout::default().begin(waited, at(START + 900)) else { panic!() };
        assert!(matches!(Lockout::default().begin(shed, at(START + 901)), Begun::Refused { .. }));
        let Begun::Granted(_) = Lockout::default().begin(Lockout::take_back(shed), at(START + 901)) else { panic!() };
    }

    #[test]
    fn a_clock_set_back_keeps_nobody_waiting_for_longer() {
        let ahead = Failures { recent: 5, in_a_row: 5, last: START + DAY, before: START + DAY };
        let Begun::Refused { wait, failures } = Lockout::default().begin(ahead, at(START)) else { panic!() };
        assert_eq!(wait, Duration::from_secs(30));
        let Begun::Refused { wait, failures } = Lockout::default().begin(failures, at(START + 29)) else { panic!() };
        assert_eq!(wait, Duration::from_secs(1));
        assert!(matches!(Lockout::default().begin(failures, at(START + 30)), Begun::Granted(_)), "as it was told");
    }

    #[test]
    fn bounds() {
        let count = |lockout: Lockout| {
            let mut errors = ConfigErrors::default();
            lockout.check(&mut errors);
            errors.iter().count()
        };
        let lockout = Lockout::default();
        assert_eq!(count(lockout), 0);
        assert_eq!(count(lockout.free(0)), 1);
        assert_eq!(count(lockout.in_a_row(101)), 1, "NIST's limit is none to be raised");
        assert_eq!(count(lockout.free(7).in_a_row(6)), 1);
        assert_eq!(count(lockout.waits(Duration::ZERO, Duration::from_secs(1))), 1);
        assert_eq!(count(lockout.waits(Duration::from_secs(9), Duration::from_secs(8))), 1);
        assert_eq!(count(lockout.window(Duration::ZERO)), 1);
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Wait(u32),
        Guess,
        SignIn,
        Shed,
    }

    proptest! {
        /// Whatever happens in whatever order: attempts are never nearer to each other than the waits say, and never more than a
        /// hundred in a row.
        #[test]
        fn req_171_req_172_invariants(
            free in 1_u16..20,
            first in 1_u64..100,
            window in 1_u64..200_000,
            steps in proptest::collection::vec(
                prop_oneof![
                    3 => (0_u32..100_000).prop_map(Step::Wait),
                    9 => Just(Step::Guess),
                    1 => Just(Step::SignIn),
                    1 => Just(Step::Shed),
                ],
                1..400,
            ),
        ) {
            let seconds = Duration::from_secs;
            let lockout = Lockout::default().free(free).waits(seconds(first), seconds(900)).window(seconds(window));
            let (mut failures, mut now, mut in_a_row, mut recent, mut last) = (Failures::default(), START, 0, 0_u32, START);
            for step in steps {
                if let Step::Wait(by) = step {
                    now += u64::from(by);
                    continue;
                }
                if now - last >= window {
                    recent = 0;
                }
                if now - last >= REMEMBERED.as_secs() {
                    in_a_row = 0;
                }
                let Begun::Granted(then) = lockout.begin(failures, at(now)) else {
                    prop_assert!(recent >= u32::from(free) || in_a_row >= 100, "a refusal has a reason");
                    continue;
                };
                if recent >= u32::from(free) {
                    let wait = (first << (recent - u32::from(free)).min(20)).min(900);
                    prop_assert!(now - last >= wait.min(window));
                }
                match step {
                    Step::Guess => {
                        (in_a_row, recent, last, failures) = (in_a_row + 1, recent + 1, now, then);
                        prop_assert!(in_a_row <= 100);
                    }
                    Step::SignIn => (failures, in_a_row, recent) = (Failures::default(), 0, 0),
                    Step::Shed => failures = Lockout::take_back(then),
                    Step::Wait(_) => {}
                }
            }
        }
    }
}
