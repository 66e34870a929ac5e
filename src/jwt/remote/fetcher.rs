//! The task behind a [`RemoteJwks`](super::RemoteJwks): when to fetch, what to keep, and how long.

use std::{collections::BTreeMap, panic::AssertUnwindSafe, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{
    FutureExt as _,
    future::{self, Either},
};
use tokio::time::{self, Instant};

use super::{
    Shared,
    fetch::{Answer, Fetch, FetchError, Location},
};
use crate::{
    audit,
    clock::{Clock as _, SystemClock},
    jwt::{algorithm::Algorithm, jwks, key::VerifyingKey, keyset::KeySet},
    metrics, random,
    sync::atomic::Ordering,
};

/// The task: the only one that fetches, so that there is never more than one fetch at a time.
pub(super) struct Fetcher {
    pub(super) shared: Arc<Shared>,
    pub(super) location: Location,
    pub(super) fetch: Fetch,
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) most_keys: usize,
    pub(super) refresh: (Duration, Duration),
    pub(super) keep: Duration,
    pub(super) last_good: Instant,
    /// The document that the current keys were read from, and its keys as they were spelt.
    pub(super) last_text: Option<Bytes>,
    pub(super) last_keys: BTreeMap<String, VerifyingKey>,
    pub(super) failures: u32,
}

/// Says so when nothing fetches any more, though the program has not asked for that.
struct Guard(Arc<Shared>, String);

impl Drop for Guard {
    fn drop(&mut self) {
        if self.0.stopped.load(Ordering::Relaxed) {
            // Nobody asks for these any more.
            metrics::outage("JWKS", &self.1, false);
            return;
        }
        let told = self.0.turns.note(true);
        let dropped = self.0.current.swap(None).is_some();
        if !told {
            audit::outage_begun("JWKS", &self.1, &"the task that fetches has ended: its runtime is gone");
        } else if dropped {
            audit::keys_dropped(&self.1);
        }
    }
}

impl Fetcher {
    pub(super) async fn run(mut self) {
        let _guard = Guard(Arc::clone(&self.shared), self.location.name());
        let mut next = Instant::now();
        loop {
            self.shared.turns.wait(next).await;
            if Instant::now() < next && !self.shared.turns.are_asked_for() {
                // Woken for what a fetch on time has answered.
                continue;
            }
            let number = self.shared.turns.begin(Instant::now());
            // A service of the program's own may panic; the keys must be fetched again all the same.
            let round = AssertUnwindSafe(self.round()).catch_unwind().await;
            next = match round.unwrap_or(Err(FetchError::Panicked)) {
                Ok(lifetime) => Instant::now() + lifetime,
                Err(error) => self.failed(&error),
            };
            self.shared.turns.end(number);
        }
    }

    async fn round(&mut self) -> Result<Duration, FetchError> {
        let span = audit::decision!("fetch_keys", which = &*self.location.name());
        let fetched = audit::inside(span, self.fetch_in_time(), FetchError::code).await;
        self.keep_keys(&fetched?)
    }

    async fn fetch_in_time(&self) -> Result<Answer, FetchError> {
        let mut fetched = pin!(time::timeout(self.shared.timeout, self.location.fetch(&self.fetch)));
        let expiry = pin!(time::sleep_until(self.last_good + self.keep));
        // An outage may outlast the last good set while its end is being waited for. Where the set was older than that when
        // the fetch began, because it is fetched less often, the fetch itself must show that there is an outage.
        let fetched = if self.shared.turns.has_failed() || expiry.deadline() > Instant::now() {
            match future::select(fetched.as_mut(), expiry).await {
                Either::Left((fetched, _)) => fetched,
                Either::Right(_) => {
                    self.drop_keys();
                    fetched.await
                }
            }
        } else {
            fetched.await
        };
        fetched.unwrap_or(Err(FetchError::Timeout))
    }

    /// Takes over a good set, and says in how long to fetch it again.
    fn keep_keys(&mut self, answer: &Answer) -> Result<Duration, FetchError> {
        // The same text is the same set, and what was remembered of it stays good.
        if self.last_text.as_ref() != Some(&answer.body) || self.shared.current.load().is_none() {
            let parsed = jwks::parse(&answer.body, &self.algorithms, self.most_keys, &self.last_keys)?;
            let keys = KeySet::as_published(parsed.keys);
            let ambiguous = keys.ids_of_several();
            self.shared.ambiguous.store(ambiguous, Ordering::Relaxed);
            // The same keys in another order, as servers behind one address may write them, are no news.
            let skipped = self.shared.skipped.swap(parsed.skipped, Ordering::Relaxed);
            let same = skipped == parsed.skipped && parsed.by_text.keys().eq(self.last_keys.keys());
            if self.last_text.is_none() || !same {
                audit::keys_fetched(&self.location.name(), keys.len(), parsed.skipped, ambiguous);
            }
            self.shared.current.store(Some(Arc::new(keys)));
            self.last_keys = parsed.by_text;
            self.last_text = Some(answer.body.clone());
        }
        if self.shared.turns.note(false) {
            audit::outage_over("JWKS", &self.location.name());
        }
        metrics::read("JWKS", &self.location.name(), SystemClock.now());
        self.failures = 0;
        self.last_good = Instant::now();
        // Held to the bound first: what a server claims may be longer than a `Duration` can be multiplied.
        let lifetime = answer.lifetime.unwrap_or(self.refresh.1).min(self.refresh.1 * 2);
        Ok((lifetime * 4 / 5).clamp(self.refresh.0, self.refresh.1))
    }

    /// The last good set has been used for as long as it may be.
    fn drop_keys(&self) {
        if self.shared.current.swap(None).is_some() {
            audit::keys_dropped(&self.location.name());
        }
    }

    /// Notes a failure, and says when to try again. It is told once, when it begins.
    fn failed(&mut self, error: &FetchError) -> Instant {
        if !self.shared.turns.note(true) {
            audit::outage_begun("JWKS", &self.location.name(), error);
        }
        let now = Instant::now();
        let expiry = self.last_good + self.keep;
        if now >= expiry {
            self.drop_keys();
        }
        let wait = Duration::from_secs(1 << self.failures.min(5));
        self.failures = self.failures.saturating_add(1);
        // Up to a quarter more, so that many programs do not come back at once.
        let quarter = random::bytes::<1>().map_or(0, |[byte]| u32::from(byte));
        let again = now + wait + wait * quarter / 1024;
        if now < expiry { again.min(expiry) } else { again }
    }
}
