//! The lock on guessing, in a store of attempts: strangers and two known devices of one account.
//!
//! The model counts what the docs promise, with waits from a table. Attempts may be settled late and in any order, or never;
//! clocks go back; an administrator unlocks.

use std::time::Duration;

use futures::FutureExt as _;
use portcullis::{
    clock::UnixSeconds,
    login::{AttemptKey, Begun, Failures, Limit, Lockout},
    store::{Attempt, AttemptStore, MemoryAttempts, Reserved, Settled},
};
use proptest::{collection::vec, prelude::*};

const MINUTE: u64 = 60;
const DAY: u64 = 24 * 3600;
const MONTH: u64 = 30 * DAY;
const START: u64 = 1_800_000_000;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// By strangers (0) or one of two devices. It stays open.
    Guess(usize),
    /// So often, and never settled: as with a wrong password, or by those who hang up.
    Flood(usize, u8),
    /// Settles one that is open, the latest first.
    Settle(usize, Settled),
    /// Waits for as long as was said last, and a second less.
    WaitNearly,
    Wait(u64),
    Back(u64),
    Unlock,
}

fn step() -> impl Strategy<Value = Step> {
    let who = || prop_oneof![3 => Just(0_usize), 1 => 1_usize..3];
    let settled = prop_oneof![1 => Just(Settled::Succeeded), 4 => Just(Settled::NotTried)];
    let wait =
        prop_oneof![4 => 1..15 * MINUTE, 2 => Just(15 * MINUTE), 1 => DAY - 900..DAY + 9, 1 => MONTH - 9..MONTH + 9];
    prop_oneof![
        8 => who().prop_map(Step::Guess),
        3 => (who(), 1_u8..120).prop_map(|(who, times)| Step::Flood(who, times)),
        3 => (0_usize..4, settled).prop_map(|(which, settled)| Step::Settle(which, settled)),
        5 => Just(Step::WaitNearly),
        5 => wait.prop_map(Step::Wait),
        1 => (1..MONTH).prop_map(Step::Back),
        1 => Just(Step::Unlock),
    ]
}

/// What one who guesses has done since they last succeeded.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    recent: u64,
    in_a_row: u64,
    last: u64,
    /// What `last` was before the last one was counted, for whoever takes that one back.
    before: u64,
}

impl Count {
    /// Five are free; then half a minute, twice as much each time, a quarter of an hour at the most; a hundred in a row.
    fn wait(self) -> u64 {
        const WAITS: [u64; 11] = [0, 0, 0, 0, 0, 30, 60, 120, 240, 480, 900];
        if self.in_a_row >= 100 {
            return MONTH;
        }
        usize::try_from(self.recent).ok().and_then(|recent| WAITS.get(recent)).copied().unwrap_or(900)
    }

    fn look(&mut self, now: u64) {
        // A moment ahead was seen by a clock that has been set back since.
        (self.last, self.before) = (self.last.min(now), self.before.min(now));
        if now - self.last >= DAY {
            self.recent = 0;
        }
        if now - self.last >= MONTH {
            self.in_a_row = 0;
        }
    }

    /// Counts one, or says how long to wait.
    pub fn guess(&mut self, now: u64) -> Result<(), u64> {
        let mut then = *self;
        then.look(now);
        let (waited, wait) = (now - then.last, then.wait());
        if waited < wait {
            // What is kept of a refusal shows only where the clock was set back.
            *self = then;
            return Err(wait - waited);
        }
        *self = Self { recent: then.recent + 1, in_a_row: then.in_a_row + 1, last: now, before: then.last };
        Ok(())
    }

    pub fn take_back(&mut self, now: u64) {
        self.recent = self.recent.saturating_sub(1);
        self.in_a_row = self.in_a_row.saturating_sub(1);
        self.last = self.before;
        let mut then = *self;
        then.look(now);
        if then.recent == 0 && then.in_a_row == 0 {
            *self = Self::default();
        }
    }
}

fn attempt(who: usize) -> Attempt {
    let kind = if who == 0 { Limit::Account } else { Limit::Device };
    let digest = [u8::try_from(who).unwrap(); 16];
    Attempt::default().lock(AttemptKey { kind, digest }, Lockout::default())
}

struct Machine {
    store: MemoryAttempts,
    counts: [Count; 3],
    /// Guesses that were let through and are not settled, of whom.
    open: Vec<usize>,
    now: u64,
    told: u64,
    /// When strangers' guesses were let through that nobody has taken back, as long as no clock went back.
    guesses: Vec<u64>,
}

/// Store calls in memory resolve at once.
fn answer<T>(call: portcullis::store::StoreFuture<'_, T>) -> T {
    call.now_or_never().expect("it waits for nothing").unwrap()
}

impl Machine {
    fn now(&self) -> UnixSeconds {
        UnixSeconds::new(self.now)
    }

    fn guess(&mut self, who: usize) -> Result<bool, TestCaseError> {
        let told = answer(self.store.reserve(attempt(who), self.now()));
        let expected = self.counts[who].guess(self.now);
        match (told, expected) {
            (Reserved::Granted { .. }, Ok(())) => {
                if who == 0 {
                    self.guesses.push(self.now);
                }
                Ok(true)
            }
            (Reserved::Refused { limit, wait }, Err(expected)) => {
                prop_assert_eq!(limit, if who == 0 { Limit::Account } else { Limit::Device });
                prop_assert_eq!(wait, Duration::from_secs(expected));
                let locked = self.counts[who].in_a_row >= 100;
                prop_assert!(locked || expected <= 15 * MINUTE, "nobody waits for longer");
                self.told = expected;
                Ok(false)
            }
            (told, expected) => Err(TestCaseError::fail(format!("{told:?}, expected {expected:?} of {who}"))),
        }
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Guess(who) => {
                if self.guess(who)? {
                    self.open.push(who);
                }
            }
            Step::Flood(who, times) => {
                for _ in 0..times {
                    self.guess(who)?;
                }
            }
            Step::Settle(which, settled) => {
                let Some(place) = self.open.len().checked_sub(which + 1) else { return Ok(()) };
                let who = self.open.remove(place);
                answer(self.store.settle(attempt(who), settled, self.now()));
                match settled {
                    Settled::Succeeded => self.counts[who] = Count::default(),
                    Settled::NotTried => self.counts[who].take_back(self.now),
                }
                if who == 0 {
                    self.guesses.clear();
                }
            }
            Step::WaitNearly => {
                let said = self.told;
                self.now += said.saturating_sub(1);
                if said > 0 && self.counts[0].wait() > 0 {
                    // Strangers are the ones who may be waiting for this; the model says whether they are.
                    self.guess(0)?;
                }
                self.now += said.min(1);
                self.told = 0;
            }
            Step::Wait(by) => self.now += by,
            Step::Back(by) => {
                self.now -= by;
                self.guesses.clear();
            }
            Step::Unlock => {
                let key = attempt(0).account().unwrap().0;
                let forgotten = answer(self.store.forget(key));
                prop_assert!(forgotten || self.counts[0].in_a_row == 0, "there was something to forget");
                self.counts[0] = Count::default();
                self.guesses.clear();
            }
        }
        self.bounds()
    }

    /// What the waits come to, whoever guesses how: never more than these in any such time.
    fn bounds(&self) -> Result<(), TestCaseError> {
        for (seconds, most) in [(1, 5), (29, 5), (59, 6), (15 * MINUTE, 9), (3600, 12), (MONTH - DAY, 100)] {
            let within = self.guesses.iter().filter(|moment| **moment + seconds > self.now).count();
            prop_assert!(within <= most, "{within} in {seconds} s: {:?}", self.guesses);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_guesses_are_let_through_as_the_lock_says(steps in vec(step(), 1..60)) {
        let store = MemoryAttempts::with_capacity(1024);
        let (counts, open, guesses) = ([Count::default(); 3], Vec::new(), Vec::new());
        let mut machine = Machine { store, counts, open, now: START, told: 0, guesses };
        for step in steps {
            machine.step(step)?;
        }
    }

    /// Whatever strangers do: a device that is known has a count of its own.
    #[test]
    fn no_guesses_of_strangers_or_of_another_device_lock_the_owners(steps in vec(step(), 1..60)) {
        let store = MemoryAttempts::with_capacity(1024);
        let (counts, open, guesses) = ([Count::default(); 3], Vec::new(), Vec::new());
        let mut machine = Machine { store, counts, open, now: START, told: 0, guesses };
        for step in steps {
            let by_owner = matches!(step, Step::Guess(1) | Step::Flood(1, _) | Step::Settle(..));
            if !by_owner {
                machine.step(step)?;
            }
            prop_assert!(machine.guess(1)?, "the owner gets in");
            answer(machine.store.settle(attempt(1), Settled::Succeeded, machine.now()));
            machine.counts[1] = Count::default();
        }
    }

    /// Whatever a store has kept, and whatever the clock says: there is an answer, and a wait that ends.
    #[test]
    fn no_numbers_are_too_large_for_the_lock(
        recent in prop_oneof![any::<u16>(), Just(u16::MAX)],
        in_a_row in prop_oneof![any::<u16>(), Just(u16::MAX), Just(0)],
        last in any::<u64>(),
        before in any::<u64>(),
        now in prop_oneof![any::<u64>(), Just(u64::MAX), Just(0)],
        waits in (1..3600_u64, 3600..DAY),
        window in 1..MONTH,
    ) {
        let failures = Failures { recent, in_a_row, last, before };
        let seconds = Duration::from_secs;
        for lockout in [Lockout::default(), Lockout::default().waits(seconds(waits.0), seconds(waits.1)).window(seconds(window))] {
            match lockout.begin(failures, UnixSeconds::new(now)) {
                Begun::Granted(then) => prop_assert!(then.recent > 0 && then.in_a_row > 0 && then.last == now),
                Begun::Refused { wait, failures } => {
                    let after = now.checked_add(wait.as_secs());
                    let then = after.map(|after| lockout.begin(failures, UnixSeconds::new(after)));
                    prop_assert!(then.is_none_or(|then| matches!(then, Begun::Granted(_))), "as it was told");
                }
            }
            let back = Lockout::take_back(failures);
            prop_assert!(back.recent <= recent && back.in_a_row <= in_a_row && back.last <= before);
        }
    }
}
