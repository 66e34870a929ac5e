//! What a store of attempts promises.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinSet;

use super::{Start, answered, number};
use crate::{
    login::{AttemptKey, Limit, Lockout, Quota},
    store::{Attempt, AttemptStore, MemoryAttempts, Reserved, Settled},
};

/// Panics unless `store` keeps the promises of [`AttemptStore`].
pub async fn attempts(store: Arc<dyn AttemptStore>) {
    decisions_are_those_of_quota_and_lockout(&*store).await;
    refusals_leave_no_trace(&*store).await;
    of_many_at_once_as_many_pass_as_one_after_the_other(store).await;
}

fn key(kind: Limit) -> AttemptKey {
    let mut digest = [0; 16];
    digest.iter_mut().zip([number().to_le_bytes(), number().to_le_bytes()].concat()).for_each(|(to, from)| *to = from);
    AttemptKey { kind, digest }
}

async fn decisions_are_those_of_quota_and_lockout(store: &dyn AttemptStore) {
    let (model, start) = (MemoryAttempts::new(), Start::now());
    for round in 0..20_u16 {
        let seconds = |at: u16| Duration::from_secs(u64::from(at) + 1);
        let lockout = Lockout::default().free(1 + round % 7).waits(seconds(round % 4), seconds(10 + round));
        let lockout = lockout.window(seconds(60 * (round % 3))).in_a_row(20);
        let attempt = match round % 4 {
            0 => Attempt::default().quota(key(Limit::Address), Quota::per_minute(3)),
            1 => Attempt::default().lock(key(Limit::Account), lockout),
            2 => Attempt::default()
                .quota(key(Limit::Address), Quota::new(7, seconds(9)))
                .lock(key(Limit::Device), lockout),
            _ => Attempt::default()
                .quota(key(Limit::Address), Quota::per_minute(40))
                .quota(key(Limit::Pair), Quota::new(2, seconds(30)))
                .quota(key(Limit::Registration), Quota::new(1000, seconds(1)))
                .lock(key(Limit::Account), lockout),
        };
        let mut now = 0;
        for step in 0..120 {
            let chance = number();
            now += match chance % 6 {
                0 => 1,
                1 => 3,
                2 => 20,
                _ => 0,
            };
            // Now and then a machine whose clock is behind asks.
            let at = start.at(if chance & 0x700 == 0 { now / 2 } else { now });
            let (expected, told) = (model.reserve(attempt, at).await, store.reserve(attempt, at).await);
            let told = answered(told);
            assert_eq!(told, answered(expected), "round {round}, step {step}: {attempt:?}");
            let settled = match chance >> 16 & 0xf {
                0 => Settled::Succeeded,
                1..4 => Settled::NotTried,
                _ => continue,
            };
            if matches!(told, Reserved::Granted { .. }) {
                answered(model.settle(attempt, settled, at).await);
                answered(store.settle(attempt, settled, at).await);
            }
        }
        if let Some((key, _)) = attempt.account() {
            assert_eq!(answered(store.forget(key).await), answered(model.forget(key).await), "round {round}");
            assert!(!answered(store.forget(key).await), "it is forgotten");
        }
    }
}

async fn refusals_leave_no_trace(store: &dyn AttemptStore) {
    let (address, start) = (key(Limit::Address), Start::now());
    let quota = Quota::per_minute(5);
    let locked = Attempt::default().quota(address, quota).lock(key(Limit::Account), Lockout::default().free(1));
    assert_eq!(answered(store.reserve(locked, start.at(0)).await), Reserved::Granted { left: [4, 0, 0] });
    let refused = Reserved::Refused { limit: Limit::Account, wait: Duration::from_secs(30) };
    for _ in 0..20 {
        assert_eq!(answered(store.reserve(locked, start.at(0)).await), refused);
    }
    let alone = Attempt::default().quota(address, quota);
    assert_eq!(answered(store.reserve(alone, start.at(0)).await), Reserved::Granted { left: [3, 0, 0] });
}

async fn of_many_at_once_as_many_pass_as_one_after_the_other(store: Arc<dyn AttemptStore>) {
    let now = Start::now().at(0);
    for free in [1, 5, 20] {
        let quota = Quota::per_minute(1000);
        let lockout = Lockout::default().free(free);
        let attempt = Attempt::default().quota(key(Limit::Address), quota).lock(key(Limit::Account), lockout);
        let mut tasks = JoinSet::new();
        for _ in 0..200 {
            let store = Arc::clone(&store);
            tasks.spawn(async move { answered(store.reserve(attempt, now).await) });
        }
        let granted = tasks.join_all().await.into_iter().filter(|told| matches!(told, Reserved::Granted { .. }));
        assert_eq!(granted.count(), usize::from(free), "of 200 at once");
    }
}
