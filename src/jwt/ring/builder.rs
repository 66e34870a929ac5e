//! A ring's settings, and its first look at the store.

use std::{fmt, sync::Arc, time::Duration};

use tokio::sync::Mutex;

use super::{KeyRing, KeyRingError, Members, Stored, plan::Periods, sealing::Sealing};
use crate::{
    clock::{Clock, SystemClock},
    config::{ConfigError, ConfigErrors},
    follow::Follow,
    jwt::algorithm::Algorithm,
    secret::Secret,
    store::{KeyStore, metered},
};

/// How a ring's keys in a store are kept.
#[must_use]
pub struct KeyRingBuilder {
    store: Arc<dyn KeyStore>,
    algorithm: Algorithm,
    secret: Secret<String>,
    periods: Periods,
    clock: Arc<dyn Clock>,
}

const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

impl KeyRingBuilder {
    pub(super) fn new(store: Arc<dyn KeyStore>, algorithm: Algorithm, secret: Secret<String>) -> Self {
        let periods = Periods { prepublish: minutes(15), rotate: minutes(90 * 24 * 60), retire: minutes(75) };
        Self { store: metered::keys(store), algorithm, secret, periods, clock: Arc::new(SystemClock) }
    }

    /// How long a key signs: 90 days unless set, 2 hours to 2 years.
    pub fn rotate_every(mut self, period: Duration) -> Self {
        self.periods.rotate = period;
        self
    }

    /// How long a key is published before it signs: 15 minutes unless set, 7 minutes to a day. Caches may keep the key set for
    /// 5 minutes, and a machine reads the store every half minute. It is also how long the server goes on signing while the
    /// store cannot be read.
    pub fn prepublish(mut self, period: Duration) -> Self {
        self.periods.prepublish = period;
        self
    }

    /// How long a key is published after it has signed: 75 minutes unless set, 75 minutes to 2 days. It must be longer than
    /// access tokens live, by ten minutes or more.
    pub fn retire_after(mut self, period: Duration) -> Self {
        self.periods.retire = period;
        self
    }

    /// Sets where the time is read while it is opened: the system's clock unless set.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Reads the keys, and makes the first one if there is none.
    ///
    /// # Errors
    ///
    /// [`KeyRingError`] if a setting is out of bounds, the store does not answer, or a key was sealed under another secret.
    pub async fn open(self) -> Result<KeyRing, KeyRingError> {
        let Self { store, algorithm, secret, periods, clock } = self;
        let mut errors = ConfigErrors::default();
        let day = minutes(24 * 60);
        errors.bound("time for which a key signs", periods.rotate, minutes(120), 732 * day);
        errors.bound("time for which a key is published before it signs", periods.prepublish, minutes(7), day);
        errors.bound("time for which a key is published after it has signed", periods.retire, minutes(75), 2 * day);
        if algorithm.is_shared() {
            errors.push(ConfigError::KeyMismatch(algorithm));
        }
        let sealing = errors.keep(Sealing::new(secret.expose().as_bytes()));
        let sealing = errors.finish(sealing)?;
        let stored = Stored { store, sealing, algorithm, periods, follow: Follow::default(), reading: Mutex::new(()) };
        let now = clock.now();
        if stored.store.keys().await?.is_empty() {
            stored.add("", now, now).await?;
        }
        let ring = KeyRing::of(Members::none(), Some(stored));
        if let Some(reading) = ring.fetch_again(now) {
            reading.await;
        }
        // Once more where that failed, for the reason, which has been told to nobody but the log.
        if let Some(stored) = ring.0.stored.as_ref().filter(|stored| stored.follow.is_failing()) {
            ring.0.read(stored, now).await?;
        }
        Ok(ring)
    }
}

impl fmt::Debug for KeyRingBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRingBuilder").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}
