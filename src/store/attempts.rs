//! Attempts counted in memory: bounded, swept, and safe when it is full.

use std::{collections::HashMap, mem, sync::PoisonError, time::Duration};

use futures::FutureExt as _;

use super::{Attempt, AttemptStore, MOST_QUOTAS, Reserved, Settled, StoreFuture};
use crate::{
    clock::UnixSeconds,
    sync::{Mutex, MutexGuard},
    throttle::{AttemptKey, Begun, Counted, Failures, Limit, Lockout, Quota, Taken},
};

/// Parts of a table, each under a lock of its own.
const SHARDS: usize = SHARDS_U8 as usize;
const SHARDS_U8: u8 = 64;
/// Entries of each table unless something else is asked for.
const CAPACITY: usize = 1 << 20;

/// Attempts counted in this process: addresses, pairs, accounts, devices and registrations apart, 1,048,576 of each at most, in no
/// more than 128 bytes each.
///
/// What is over is swept away when a table is full, once a second at most; if that does not help, so is what is furthest from
/// any limit: less than half a quota, or an account with fewer than its free failures. Whoever is waiting, or locked, is never
/// forgotten to make room. When even that does not help, those who are new are counted in 16,384 parts, each as one: nobody gets
/// an attempt more than their limit, and strangers wait for each other where they meet, until enough of those who are kept have
/// waited long enough: a day, by default. Devices that are known have a table of their own, which strangers cannot fill.
#[derive(Debug)]
pub struct MemoryAttempts {
    addresses: Table<Counted>,
    pairs: Table<Counted>,
    registrations: Table<Counted>,
    turns: Table<Counted>,
    overall: Table<Counted>,
    accounts: Table<Failures>,
    devices: Table<Failures>,
}

impl Default for MemoryAttempts {
    fn default() -> Self {
        Self::with_capacity(CAPACITY)
    }
}

impl MemoryAttempts {
    /// Nothing counted yet, with the default bound.
    pub fn new() -> Self {
        Self::default()
    }

    /// As many entries of each kind, at least 1,024.
    pub fn with_capacity(entries: usize) -> Self {
        let entries = entries.max(1024);
        Self {
            addresses: Table::of(entries),
            pairs: Table::of(entries),
            registrations: Table::of(entries),
            turns: Table::of(entries),
            overall: Table::of(SHARDS),
            accounts: Table::of(entries),
            devices: Table::of(entries),
        }
    }

    /// How many entries there are, of all kinds.
    pub fn len(&self) -> usize {
        let counted = [&self.addresses, &self.pairs, &self.registrations, &self.turns, &self.overall].map(Table::len);
        counted.into_iter().sum::<usize>() + self.accounts.len() + self.devices.len()
    }

    /// Whether nothing is counted.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As [`AttemptStore::reserve`], at once.
    pub(crate) fn count(&self, attempt: &Attempt, now: UnixSeconds) -> Reserved {
        let (mut left, mut steps) = ([0; MOST_QUOTAS], [None; MOST_QUOTAS]);
        for ((key, quota), (left, step)) in attempt.quotas().zip(left.iter_mut().zip(&mut steps)) {
            match self.take(key, quota, now) {
                Ok((taken, rest)) => (*left, *step) = (rest, Some(taken)),
                Err(wait) => return self.refused(attempt, steps, key.kind, wait),
            }
        }
        if let Some((key, lockout)) = attempt.account() {
            let begin = |kept| match lockout.begin(kept, now) {
                Begun::Granted(failures) => (Some(failures), Ok(())),
                Begun::Refused { failures, wait } => (Some(failures).filter(|then| *then != kept), Err(wait)),
            };
            if let Err(wait) = self.locks(key.kind).change(&key.digest, now, worth_of(lockout, now), begin) {
                return self.refused(attempt, steps, key.kind, wait);
            }
        }
        Reserved::Granted { left }
    }

    /// Undoes what was taken before a limit refused. Where nobody else has counted since, all is as it was.
    fn refused(&self, attempt: &Attempt, steps: [Option<Step>; MOST_QUOTAS], limit: Limit, wait: Duration) -> Reserved {
        for ((key, quota), Step { before, after }) in attempt.quotas().zip(steps.into_iter().flatten()) {
            self.quotas(key.kind).reduce(&key.digest, |counted, _| {
                let rest = if counted == after { before } else { quota.give_back(counted) };
                Some(rest).filter(|rest| *rest != Counted::default())
            });
        }
        Reserved::Refused { limit, wait }
    }

    /// As [`AttemptStore::settle`], at once.
    pub(crate) fn take_back(&self, attempt: &Attempt, settled: Settled, now: UnixSeconds) {
        attempt.quotas().for_each(|(key, quota)| self.give_back(key, quota, now));
        let Some((key, lockout)) = attempt.account() else { return };
        self.locks(key.kind).reduce(&key.digest, |failures, alone| match settled {
            Settled::Succeeded if alone => None,
            _ => Some(Lockout::take_back(failures)).filter(|rest| !lockout.is_forgotten(*rest, now)),
        });
    }

    fn take(&self, key: AttemptKey, quota: Quota, now: UnixSeconds) -> Result<(Step, u32), Duration> {
        let take = |before| match quota.take(before, now) {
            Taken::Granted { counted, left } => (Some(counted), Ok((Step { before, after: counted }, left))),
            Taken::Refused { counted, wait } => (Some(counted).filter(|then| *then != before), Err(wait)),
        };
        self.quotas(key.kind).change(&key.digest, now, worth_of_quota(quota, now), take)
    }

    fn give_back(&self, key: AttemptKey, quota: Quota, now: UnixSeconds) {
        self.quotas(key.kind).reduce(&key.digest, |counted, _| {
            Some(quota.give_back(counted)).filter(|counted| !Quota::is_whole(*counted, now))
        });
    }

    const fn quotas(&self, kind: Limit) -> &Table<Counted> {
        match kind {
            Limit::Pair => &self.pairs,
            Limit::Registration => &self.registrations,
            Limit::Overall => &self.overall,
            Limit::Turn => &self.turns,
            Limit::Address | Limit::Account | Limit::Device => &self.addresses,
        }
    }

    const fn locks(&self, kind: Limit) -> &Table<Failures> {
        if matches!(kind, Limit::Device) { &self.devices } else { &self.accounts }
    }
}

impl AttemptStore for MemoryAttempts {
    fn reserve(&self, attempt: Attempt, now: UnixSeconds) -> StoreFuture<'_, Reserved> {
        async move { Ok(self.count(&attempt, now)) }.boxed()
    }

    fn settle(&self, attempt: Attempt, settled: Settled, now: UnixSeconds) -> StoreFuture<'_, ()> {
        async move {
            self.take_back(&attempt, settled, now);
            Ok(())
        }
        .boxed()
    }

    fn forget(&self, key: AttemptKey) -> StoreFuture<'_, bool> {
        async move {
            Ok(match key.kind {
                Limit::Account | Limit::Device => self.locks(key.kind).remove(&key.digest),
                _ => self.quotas(key.kind).remove(&key.digest),
            })
        }
        .boxed()
    }
}

/// What was counted before one more, and after.
#[derive(Clone, Copy)]
struct Step {
    before: Counted,
    after: Counted,
}

/// What would be lost if an entry were forgotten.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Worth {
    Nothing,
    Little,
    Much,
}

fn worth_of(lockout: Lockout, now: UnixSeconds) -> impl Fn(Failures) -> Worth {
    move |failures| {
        if lockout.is_forgotten(failures, now) {
            Worth::Nothing
        } else if lockout.is_free(failures, now) {
            Worth::Little
        } else {
            Worth::Much
        }
    }
}

fn worth_of_quota(quota: Quota, now: UnixSeconds) -> impl Fn(Counted) -> Worth {
    move |counted| match quota.take(counted, now) {
        _ if Quota::is_whole(counted, now) => Worth::Nothing,
        Taken::Granted { left, .. } if left >= quota.most() / 2 => Worth::Little,
        _ => Worth::Much,
    }
}

/// Entries by digest.
#[derive(Debug)]
struct Table<S> {
    shards: Box<[Mutex<Shard<S>>]>,
    most: usize,
}

#[derive(Debug)]
struct Shard<S> {
    entries: HashMap<[u8; 16], S>,
    /// When it was last swept, in seconds since 1970.
    swept: u64,
}

impl<S: Copy + Default> Table<S> {
    fn of(entries: usize) -> Self {
        let shard = || Mutex::new(Shard { entries: HashMap::new(), swept: 0 });
        Self { shards: std::iter::repeat_with(shard).take(SHARDS).collect(), most: entries / SHARDS }
    }

    fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).entries.len()).sum()
    }

    fn shard(&self, digest: &[u8; 16]) -> Option<MutexGuard<'_, Shard<S>>> {
        let [.., last] = digest;
        self.shards.get(usize::from(*last) % SHARDS).map(lock)
    }

    /// Replaces an entry by what `change` makes of it, if it makes one.
    fn change<R>(
        &self,
        digest: &[u8; 16],
        now: UnixSeconds,
        worth: impl Fn(S) -> Worth,
        change: impl Fn(S) -> (Option<S>, R),
    ) -> R {
        let Some(mut shard) = self.shard(digest) else { return change(S::default()).1 };
        if let Some(entry) = shard.entries.get_mut(digest) {
            let (then, result) = change(*entry);
            *entry = then.unwrap_or(*entry);
            return result;
        }
        if shard.entries.len() >= self.most {
            shard.sweep(now, self.most, worth);
        }
        let others = others(digest);
        let digest = if shard.entries.len() >= self.most { &others } else { digest };
        let (then, result) = change(shard.entries.get(digest).copied().unwrap_or_default());
        if let Some(then) = then {
            shard.entries.insert(*digest, then);
        }
        result
    }

    /// Replaces an entry that is there by what `reduce` leaves of it: its own, or else that of those it is counted with.
    fn reduce(&self, digest: &[u8; 16], reduce: impl FnOnce(S, bool) -> Option<S>) {
        let Some(mut shard) = self.shard(digest) else { return };
        let (digest, alone) =
            if shard.entries.contains_key(digest) { (*digest, true) } else { (others(digest), false) };
        let Some(entry) = shard.entries.get_mut(&digest) else { return };
        match reduce(*entry, alone) {
            Some(rest) => *entry = rest,
            None => drop(shard.entries.remove(&digest)),
        }
    }

    /// Forgets an entry, or else what those are counted under that it is counted with.
    fn remove(&self, digest: &[u8; 16]) -> bool {
        self.shard(digest).is_some_and(|mut shard| {
            shard.entries.remove(digest).or_else(|| shard.entries.remove(&others(digest))).is_some()
        })
    }
}

impl<S: Copy> Shard<S> {
    /// Makes room, once a second at most: a look at every entry costs more than an attempt may.
    fn sweep(&mut self, now: UnixSeconds, most: usize, worth: impl Fn(S) -> Worth) {
        if mem::replace(&mut self.swept, now.get()) == now.get() {
            return;
        }
        self.entries.retain(|_, entry| worth(*entry) > Worth::Nothing);
        if self.entries.len() > most / 8 * 7 {
            self.entries.retain(|_, entry| worth(*entry) > Worth::Little);
        }
    }
}

/// What a digest is counted under when there is no room for it: one of 256 in its shard.
fn others(&[first, .., last]: &[u8; 16]) -> [u8; 16] {
    let mut others = [0xff; 16];
    let [part, .., shard] = &mut others;
    (*part, *shard) = (first, last % SHARDS_U8);
    others
}

/// No operation under these locks can panic half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> UnixSeconds {
        UnixSeconds::new(seconds)
    }

    fn key(kind: Limit, number: u64) -> AttemptKey {
        let mut digest = [0; 16];
        digest[..8].copy_from_slice(&number.to_be_bytes());
        // As even as a digest would be.
        digest[15] = u8::try_from(number % 251).unwrap();
        AttemptKey { kind, digest }
    }

    fn account(number: u64) -> Attempt {
        Attempt::default().lock(key(Limit::Account, number), Lockout::default())
    }

    fn from(number: u64) -> Attempt {
        Attempt::default().quota(key(Limit::Address, number), Quota::per_minute(2))
    }

    fn is_granted(reserved: Reserved) -> bool {
        matches!(reserved, Reserved::Granted { .. })
    }

    #[test]
    fn one_limit_that_refuses_leaves_the_others_as_they_were() {
        let attempts = MemoryAttempts::new();
        let both = Attempt::default()
            .quota(key(Limit::Address, 1), Quota::per_minute(30))
            .lock(key(Limit::Account, 1), Lockout::default().free(1));
        assert_eq!(attempts.count(&both, at(100)), Reserved::Granted { left: [29, 0, 0] });
        let refused = Reserved::Refused { limit: Limit::Account, wait: Duration::from_secs(30) };
        for _ in 0..100 {
            assert_eq!(attempts.count(&both, at(100)), refused);
        }
        let other = Attempt::default().quota(key(Limit::Address, 1), Quota::per_minute(30));
        assert_eq!(attempts.count(&other, at(100)), Reserved::Granted { left: [28, 0, 0] });
    }

    #[test]
    fn what_is_settled_leaves_nothing_behind() {
        let attempts = MemoryAttempts::new();
        let all = from(1).lock(key(Limit::Account, 1), Lockout::default());
        for settled in [Settled::Succeeded, Settled::NotTried] {
            for _ in 0..10 {
                assert!(is_granted(attempts.count(&all, at(100))));
                attempts.take_back(&all, settled, at(100));
            }
            assert!(attempts.is_empty(), "{settled:?}");
        }
    }

    #[test]
    fn success_forgets_failures_and_not_trying_does_not() {
        let attempts = MemoryAttempts::new();
        let count = || (0..200).take_while(|_| is_granted(attempts.count(&account(1), at(100)))).count();
        assert_eq!(count(), 5);
        attempts.take_back(&account(1), Settled::NotTried, at(100));
        assert_eq!(count(), 1);
        attempts.take_back(&account(1), Settled::Succeeded, at(100));
        assert_eq!(count(), 5);
    }

    #[test]
    fn a_full_table_forgets_what_is_over_and_then_what_matters_least() {
        let attempts = MemoryAttempts::with_capacity(1024);
        while is_granted(attempts.count(&account(7), at(1))) {}
        for number in 1000..101_000 {
            assert!(is_granted(attempts.count(&account(number), at(number / 100))));
            assert!(attempts.len() <= 1024 + 256 * SHARDS, "{}", attempts.len());
        }
        let later = at(1 + 20);
        assert!(!is_granted(attempts.count(&account(7), later)), "who is waiting is not forgotten for that");
    }

    #[test]
    fn who_is_new_when_nothing_can_be_forgotten_is_counted_together() {
        let attempts = MemoryAttempts::with_capacity(1024);
        for number in 0..1300 {
            while is_granted(attempts.count(&account(number), at(100))) {}
        }
        let granted = |from: u64, now| {
            let new = (from..from + 10_000).filter(|number| is_granted(attempts.count(&account(*number), at(now))));
            new.count()
        };
        assert!(granted(10_000, 101) <= 5 * SHARDS, "as many as one account would get, in each part");
        assert!(attempts.len() <= 1024 + 256 * SHARDS);
        let device = Attempt::default().lock(key(Limit::Device, 1), Lockout::default());
        assert!(is_granted(attempts.count(&device, at(101))), "devices have room of their own");
        assert!(granted(30_000, 101 + 24 * 3600) > 100, "when the flood is over, all is as before");
    }

    #[test]
    fn addresses_are_swept_once_their_quota_is_whole() {
        let attempts = MemoryAttempts::with_capacity(1024);
        for number in 0..50_000_u64 {
            attempts.count(&from(number), at(100 + number / 500));
            assert!(attempts.len() <= 1024 + 256 * SHARDS);
        }
        assert!(is_granted(attempts.count(&from(99_999), at(1000))));
    }
}

#[cfg(all(test, portcullis_loom))]
mod proofs;
