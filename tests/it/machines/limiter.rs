//! All limits of a limiter together, in a store that is down at times.
//!
//! The model keeps a bucket for each quota, and for each account the count of `lockout.rs`; once for the store, and once for what
//! is counted in the process while the store does not answer.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use portcullis::{
    client_ip::ClientIp,
    clock::{ManualClock, UnixSeconds},
    ident::LoginName,
    login::{AttemptKey, Limit, LoginAttempt, LoginLimiter, LoginOutcome, Quota, WhenDown, Who},
    rejection::Rejection,
    store::{Attempt, AttemptStore, MemoryAttempts, Reserved, Settled, StoreError, StoreFuture},
};
use proptest::{collection::vec, prelude::*};

use super::lockout::Count;

const START: u64 = 1_800_000_000;
const ACCOUNTS: [&str; 2] = ["ann", "bob"];
/// How many at once, and as many again in each minute.
const PER_ADDRESS: u32 = 8;
const PER_PAIR: u32 = 6;
const OVERALL: u32 = 12;

#[derive(Clone, Copy, Debug)]
enum Step {
    Begin {
        address: u8,
        account: Option<usize>,
    },
    /// By a device that the first account's owner has signed in with.
    BeginAtHome,
    /// One that is open, the latest first. Those that are never settled stay failures.
    Settle(usize, LoginOutcome),
    Wait(u64),
    Store {
        down: bool,
    },
    Unlock(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let account = prop_oneof![4 => Just(Some(0_usize)), 1 => Just(Some(1)), 1 => Just(None)];
    let outcome = prop_oneof![
        1 => Just(LoginOutcome::Succeeded),
        1 => Just(LoginOutcome::Failed),
        2 => Just(LoginOutcome::NotTried),
    ];
    prop_oneof![
        14 => (0_u8..2, account).prop_map(|(address, account)| Step::Begin { address, account }),
        2 => Just(Step::BeginAtHome),
        4 => (0_usize..4, outcome).prop_map(|(which, outcome)| Step::Settle(which, outcome)),
        3 => prop_oneof![1_u64..12, Just(60), Just(900)].prop_map(Step::Wait),
        2 => any::<bool>().prop_map(|down| Step::Store { down }),
        1 => (0..ACCOUNTS.len()).prop_map(Step::Unlock),
    ]
}

/// Counts in memory, unless it is down.
#[derive(Default)]
struct Flaky {
    counted: MemoryAttempts,
    down: AtomicBool,
}

impl Flaky {
    fn or_down<'a, T: Send + 'a>(&self, answer: StoreFuture<'a, T>) -> StoreFuture<'a, T> {
        if self.down.load(Ordering::SeqCst) {
            return Box::pin(async { Err(StoreError::unavailable("down")) });
        }
        answer
    }
}

impl AttemptStore for Flaky {
    fn reserve(&self, attempt: Attempt, now: UnixSeconds) -> StoreFuture<'_, Reserved> {
        self.or_down(self.counted.reserve(attempt, now))
    }

    fn settle(&self, attempt: Attempt, settled: Settled, now: UnixSeconds) -> StoreFuture<'_, ()> {
        self.or_down(self.counted.settle(attempt, settled, now))
    }

    fn forget(&self, key: AttemptKey) -> StoreFuture<'_, bool> {
        self.or_down(self.counted.forget(key))
    }
}

/// What fills up by so many in a minute, counted in microseconds.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    most: u32,
    level: u64,
    seen: u64,
}

const MICROS: u64 = 1_000_000;

impl Bucket {
    fn one(&self) -> u64 {
        60 * MICROS / u64::from(self.most)
    }

    fn fill(&mut self, now: u64) {
        self.level = (self.level + (now - self.seen) * MICROS).min(self.one() * u64::from(self.most));
        self.seen = now;
    }

    /// Takes one, or says for how many seconds there is none.
    fn take(&mut self, now: u64) -> Result<(), u64> {
        self.fill(now);
        let one = self.one();
        let missing = one.saturating_sub(self.level);
        self.level = self.level.saturating_sub(one);
        if missing > 0 { Err(missing.div_ceil(MICROS)) } else { Ok(()) }
    }
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Key {
    Address(u8),
    Pair(u8, usize),
    Overall,
}

/// Who tries: from an address on an account, or at home.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Trier {
    From(u8, Option<usize>),
    Home,
}

/// What one place has counted.
#[derive(Clone, Debug, Default)]
struct Book {
    buckets: HashMap<Key, Bucket>,
    accounts: HashMap<usize, Count>,
    home: Count,
}

impl Trier {
    /// The quotas that it counts under, in their order.
    fn keys(self) -> Vec<(Key, Limit, u32)> {
        let Self::From(address, account) = self else { return Vec::new() };
        let pair = account.map(|account| (Key::Pair(address, account), Limit::Pair, PER_PAIR));
        let address = (Key::Address(address), Limit::Address, PER_ADDRESS);
        [Some(address), pair, Some((Key::Overall, Limit::Overall, OVERALL))].into_iter().flatten().collect()
    }

    /// Whether it is one on an account.
    fn is_counted(self) -> bool {
        !matches!(self, Self::From(_, None))
    }
}

type Verdict = Result<(), (Limit, u64)>;

impl Book {
    fn bucket(&mut self, key: Key, most: u32) -> &mut Bucket {
        self.buckets.entry(key).or_insert(Bucket { most, level: 60 * MICROS, seen: 0 })
    }

    fn count_of(&mut self, trier: Trier) -> Option<(&mut Count, Limit)> {
        match trier {
            Trier::From(_, account) => Some((self.accounts.entry(account?).or_default(), Limit::Account)),
            Trier::Home => Some((&mut self.home, Limit::Device)),
        }
    }

    /// All limits, or none.
    fn reserve(&mut self, trier: Trier, with_account: bool, now: u64) -> Verdict {
        let mut then = self.clone();
        for (key, limit, most) in trier.keys() {
            then.bucket(key, most).take(now).map_err(|wait| (limit, wait))?;
        }
        if let Some((count, limit)) = then.count_of(trier).filter(|_| with_account) {
            count.guess(now).map_err(|wait| (limit, wait))?;
        }
        *self = then;
        Ok(())
    }

    fn take_back(&mut self, trier: Trier, outcome: LoginOutcome, now: u64) {
        for (key, _, most) in trier.keys() {
            let bucket = self.bucket(key, most);
            bucket.fill(now);
            bucket.level = (bucket.level + bucket.one()).min(bucket.one() * u64::from(most));
        }
        if let Some((count, _)) = self.count_of(trier) {
            match outcome {
                LoginOutcome::Succeeded => *count = Count::default(),
                _ => count.take_back(now),
            }
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    Here,
    There,
}

struct Machine {
    clock: Arc<ManualClock>,
    store: Arc<Flaky>,
    limiter: LoginLimiter,
    token: String,
    alone: WhenDown,
    here: Book,
    there: Book,
    /// When somebody may ask a store again that has not answered.
    pause: Option<u64>,
    now: u64,
    open: Vec<(LoginAttempt, Trier, Place)>,
    /// What was let through (1) or taken back (-1), when, where, from which address.
    flow: Vec<(u64, Place, u8, i64)>,
}

fn address(number: u8) -> ClientIp {
    ClientIp::from(IpAddr::from(Ipv4Addr::new(192, 0, 2, number)))
}

impl Machine {
    async fn new(alone: WhenDown) -> Self {
        let (clock, store) = (Arc::new(ManualClock::at(UnixSeconds::new(START))), Arc::new(Flaky::default()));
        let limiter = LoginLimiter::builder()
            .per_address(Quota::per_minute(PER_ADDRESS))
            .per_address_and_account(Quota::per_minute(PER_PAIR))
            .overall(Quota::per_minute(OVERALL))
            .accounts_when_down(alone)
            .capacity(1024)
            .clock(Arc::clone(&clock) as _)
            .store(Arc::clone(&store) as _)
            .build()
            .unwrap();
        let who = Who { address: Some(address(9)), account: Some(ACCOUNTS[0]), ..Who::default() };
        let first = limiter.begin(who).await.unwrap();
        let token = first.device_token().unwrap().expose().clone();
        first.settle(LoginOutcome::Succeeded).await;
        assert!(store.counted.is_empty(), "who succeeds leaves nothing behind");
        let (here, there, pause) = (Book::default(), Book::default(), None);
        Self { clock, store, limiter, token, alone, here, there, pause, now: START, open: Vec::new(), flow: Vec::new() }
    }

    fn is_down(&self) -> bool {
        self.store.down.load(Ordering::SeqCst)
    }

    /// Asks the store, and notes whether it answered.
    fn asks(&mut self) -> bool {
        self.pause = self.is_down().then_some(self.now + 2);
        !self.is_down()
    }

    /// What is to come of an attempt: where it is counted, or why it is not.
    fn expect(&mut self, trier: Trier) -> Result<Place, Rejection> {
        let now = self.now;
        let refused = |(limit, seconds)| Rejection::TooManyAttempts { limit, seconds };
        if self.pause.is_none_or(|until| until <= now) && self.asks() {
            return self.there.reserve(trier, true, now).map(|()| Place::There).map_err(refused);
        }
        let with_account = self.alone == WhenDown::CountHere;
        self.here.reserve(trier, with_account, now).map_err(refused)?;
        if with_account || !trier.is_counted() { Ok(Place::Here) } else { Err(Rejection::StoreUnavailable) }
    }

    async fn begin(&mut self, trier: Trier) -> Result<(), TestCaseError> {
        let who = match trier {
            Trier::From(number, account) => Who {
                address: Some(address(number)),
                account: account.map(|account| ACCOUNTS[account]),
                ..Who::default()
            },
            Trier::Home => Who { account: Some(ACCOUNTS[0]), device_token: Some(&self.token), ..Who::default() },
        };
        let begun = self.limiter.begin(who).await;
        let expected = self.expect(trier);
        prop_assert_eq!(begun.as_ref().map(drop).map_err(|why| *why), expected.map(drop), "{:?}", trier);
        if let (Ok(attempt), Ok(place)) = (begun, expected) {
            prop_assert_eq!(attempt.is_known_device(), trier == Trier::Home);
            if let Trier::From(address, _) = trier {
                self.flow.push((self.now, place, address, 1));
            }
            self.open.push((attempt, trier, place));
        }
        Ok(())
    }

    async fn settle(&mut self, which: usize, outcome: LoginOutcome) {
        let Some(number) = self.open.len().checked_sub(which + 1) else { return };
        let (attempt, trier, place) = self.open.remove(number);
        attempt.settle(outcome).await;
        // Only the first word counts, of whichever copy.
        attempt.clone().settle(LoginOutcome::Succeeded).await;
        if outcome == LoginOutcome::Failed {
            return;
        }
        let book = match place {
            Place::Here => &mut self.here,
            Place::There if self.asks() => &mut self.there,
            // What could not be taken back stays counted.
            Place::There => return,
        };
        book.take_back(trier, outcome, self.now);
        if let Trier::From(address, _) = trier {
            self.flow.push((self.now, place, address, -1));
        }
    }

    async fn unlock(&mut self, account: usize) -> Result<(), TestCaseError> {
        let name = LoginName::parse(ACCOUNTS[account]).unwrap();
        let told = self.limiter.unlock(&name).await;
        self.here.accounts.remove(&account);
        let answered = self.asks();
        if answered {
            self.there.accounts.remove(&account);
        }
        prop_assert_eq!(told.is_ok(), answered);
        Ok(())
    }

    async fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Begin { address, account } => self.begin(Trier::From(address, account)).await?,
            Step::BeginAtHome => self.begin(Trier::Home).await?,
            Step::Settle(which, outcome) => self.settle(which, outcome).await,
            Step::Wait(by) => {
                self.now += by;
                self.clock.advance(Duration::from_secs(by));
            }
            Step::Store { down } => self.store.down.store(down, Ordering::SeqCst),
            Step::Unlock(account) => self.unlock(account).await?,
        }
        self.bounds()
    }

    /// In any time no more pass than there are at once and come back in it, but for what was taken back meanwhile.
    fn bounds(&self) -> Result<(), TestCaseError> {
        for seconds in [1, 30, 60, 300] {
            for place in [Place::Here, Place::There] {
                let flow = self.flow.iter().filter(|(moment, at, ..)| moment + seconds > self.now && *at == place);
                let through = |from: Option<u8>| {
                    flow.clone()
                        .filter(move |(_, _, address, _)| from.is_none_or(|from| from == *address))
                        .map(|flow| flow.3)
                };
                let most = |quota: u32| i64::from(quota) + i64::try_from(seconds).unwrap() * i64::from(quota) / 60;
                for address in 0..2 {
                    let through = through(Some(address)).sum::<i64>();
                    prop_assert!(through <= most(PER_ADDRESS), "{} of {} in {} s", through, address, seconds);
                }
                let through = through(None).sum::<i64>();
                prop_assert!(through <= most(OVERALL), "{} in all in {} s", through, seconds);
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_attempts_count_under_all_limits_or_none_while_the_store_comes_and_goes(
        alone in prop_oneof![Just(WhenDown::Refuse), Just(WhenDown::CountHere)],
        steps in vec(step(), 1..80),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut machine = Machine::new(alone).await;
            for step in steps {
                machine.step(step).await?;
            }
            Ok::<(), TestCaseError>(())
        })?;
    }
}
