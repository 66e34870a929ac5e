//! Attempts in Redis: a number for each quota, three for each account. They go by themselves when they are over.

use std::time::Duration;

use futures::FutureExt as _;

use super::{RedisStore, strange};
use crate::{
    clock::UnixSeconds,
    store::{Attempt, AttemptStore, Reserved, Settled, StoreError, StoreFuture},
    throttle::{AttemptKey, REMEMBERED},
};

/// The year 2255: in microseconds, Lua counts exactly up to there.
const LAST: u64 = 9_000_000_000;

/// Accounts and devices that get a count of their own in a day; those beyond share one of 65,536 each.
const NEW_IN_A_DAY: u64 = 1 << 18;

/// A script, after what those on attempts share.
macro_rules! script {
    ($name:literal) => {{
        static SCRIPT: std::sync::LazyLock<redis::Script> = std::sync::LazyLock::new(|| {
            redis::Script::new(concat!(
                include_str!("lua/common.lua"),
                include_str!("lua/attempts.lua"),
                include_str!(concat!("lua/", $name, ".lua"))
            ))
        });
        &SCRIPT
    }};
}

fn name(AttemptKey { kind, digest }: AttemptKey) -> String {
    use std::fmt::Write as _;

    let mut name = format!("{{portcullis}}:attempts:{}:", kind as u8);
    for byte in digest {
        let _ = write!(name, "{byte:02x}");
    }
    name
}

fn names(attempt: &Attempt) -> Vec<String> {
    let quotas = attempt.quotas().map(|(key, _)| key);
    quotas.chain(attempt.account().map(|(key, _)| key)).map(name).collect()
}

/// `now`, the number of quotas, an interval and a most for each, and what the lock says, if there is one.
fn arguments(attempt: &Attempt, now: UnixSeconds) -> Vec<Vec<u8>> {
    let mut numbers = vec![now.get().min(LAST), attempt.quotas().count() as u64];
    for (_, quota) in attempt.quotas() {
        numbers.extend([quota.interval(), u64::from(quota.most())]);
    }
    if let Some((_, lockout)) = attempt.account() {
        numbers.extend(lockout.numbers());
        numbers.extend([REMEMBERED.as_secs(), NEW_IN_A_DAY]);
    }
    numbers.iter().map(|number| number.to_string().into_bytes()).collect()
}

impl AttemptStore for RedisStore {
    fn reserve(&self, attempt: Attempt, now: UnixSeconds) -> StoreFuture<'_, Reserved> {
        async move {
            let told: Vec<u64> = self.0.run(script!("reserve"), &names(&attempt), &arguments(&attempt, now)).await?;
            match told.as_slice() {
                [0, left @ ..] => {
                    let mut found = [0; super::super::MOST_QUOTAS];
                    for (to, from) in found.iter_mut().zip(left) {
                        *to = u32::try_from(*from).map_err(|_| strange())?;
                    }
                    Ok(Reserved::Granted { left: found })
                }
                [at, wait] => {
                    let keys = attempt.quotas().map(|(key, _)| key).chain(attempt.account().map(|(key, _)| key));
                    let at = usize::try_from(at.saturating_sub(1)).unwrap_or(usize::MAX);
                    let limit = keys.map(|key| key.kind).nth(at).ok_or_else(strange)?;
                    Ok(Reserved::Refused { limit, wait: Duration::from_micros(*wait) })
                }
                _ => Err(strange()),
            }
        }
        .boxed()
    }

    fn settle(&self, attempt: Attempt, settled: Settled, now: UnixSeconds) -> StoreFuture<'_, ()> {
        async move {
            let mut arguments = arguments(&attempt, now);
            arguments.push(if settled == Settled::Succeeded { b"1".to_vec() } else { b"0".to_vec() });
            self.0.run::<()>(script!("settle"), &names(&attempt), &arguments).await
        }
        .boxed()
    }

    fn forget(&self, key: AttemptKey) -> StoreFuture<'_, bool> {
        async move {
            let forgotten: Result<bool, StoreError> = self.0.run(script!("forget"), &[name(key)], &[]).await;
            forgotten
        }
        .boxed()
    }
}
