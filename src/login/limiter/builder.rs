//! Settings of a limiter.

use std::{fmt, hash::RandomState, sync::Arc};

use super::{
    Inner, Limits, LoginLimiter, WhenDown,
    digests::{Digests, keys},
};
use crate::{
    clock::Clock,
    config::ConfigErrors,
    login::{breaker::Breaker, device::Devices, pace::Pace},
    secret::Secret,
    store::{AttemptStore, MemoryAttempts, metered},
    throttle::{Lockout, Quota},
};

/// Builder of a [`LoginLimiter`].
#[must_use]
pub struct LoginLimiterBuilder {
    pub(super) limits: Limits,
    pub(super) secret: Option<Secret<String>>,
    pub(super) realm: String,
    pub(super) capacity: Option<usize>,
    pub(super) shared: Option<Arc<dyn AttemptStore>>,
    pub(super) clock: Arc<dyn Clock>,
}

impl LoginLimiterBuilder {
    /// Sets what one address may try.
    pub fn per_address(mut self, quota: Quota) -> Self {
        self.limits.address = Some(quota);
        self
    }

    /// Limits no address: for servers that cannot tell where requests come from. What is lost: one machine may try one password
    /// each on as many accounts as it likes, and register as many.
    pub fn danger_without_addresses(mut self) -> Self {
        self.limits.address = None;
        self
    }

    /// Sets how often an account may be failed at, by strangers, and by each device that is known there.
    pub fn per_account(mut self, lockout: Lockout) -> Self {
        self.limits.account = lockout;
        self
    }

    /// Limits what one address may try on one account: not unless set.
    pub fn per_address_and_account(mut self, quota: Quota) -> Self {
        self.limits.pair = Some(quota);
        self
    }

    /// Limits what everybody together may try, known devices apart: not unless set.
    pub fn overall(mut self, quota: Quota) -> Self {
        self.limits.overall = Some(quota);
        self
    }

    /// Sets how many accounts one address may ask for: 10 an hour unless set.
    pub fn registrations(mut self, quota: Quota) -> Self {
        self.limits.registration = quota;
        self
    }

    /// Sets how many bits of an IPv6 address are one party: 64 unless set, 32 to 128. A provider that hands out /56 or /48
    /// gives one customer 256 or 65,536 parties of the default.
    pub fn ipv6_prefix(mut self, bits: u8) -> Self {
        self.limits.ipv6_prefix = bits;
        self
    }

    /// Lets an account that is locked answer as if the password were wrong, at the cost of a hash, rather than with 429. Whoever
    /// locked it does not learn so; nor does its owner learn why.
    pub fn silent(mut self) -> Self {
        self.limits.silent = true;
        self
    }

    /// Counts in a store that several machines share.
    pub fn store(mut self, store: Arc<dyn AttemptStore>) -> Self {
        self.shared = Some(metered::attempts(store));
        self
    }

    /// Sets how many entries of each kind there are in memory: 1,048,576 unless set, 1,024 to 16,777,216.
    pub fn capacity(mut self, entries: usize) -> Self {
        self.capacity = Some(entries);
        self
    }

    /// Sets what happens to limits by address, and overall, while the store does not answer: counted here unless set.
    pub fn addresses_when_down(mut self, then: WhenDown) -> Self {
        self.limits.addresses_when_down = then;
        self
    }

    /// Sets what happens to limits by account while the store does not answer: refused unless set, because each machine would
    /// allow as many failures again.
    pub fn accounts_when_down(mut self, then: WhenDown) -> Self {
        self.limits.accounts_when_down = then;
        self
    }

    /// Sets the secret under which devices are known, and under which a shared store has names: 32 random bytes or more, the same
    /// on all machines. With another one, what a store has counted is forgotten. Unless set, devices are strangers again after a restart and on other machines, and who reads a shared store
    /// can try which names are in it.
    pub fn secret(mut self, secret: Secret<String>) -> Self {
        self.secret = Some(secret);
        self
    }

    /// Names the set of users whose logins are limited: none unless set. Limiters of different users that share a store or a secret
    /// must be told apart, or whoever may register with one clears the failures of the same name with the other.
    pub fn realm(mut self, realm: impl Into<String>) -> Self {
        self.realm = realm.into();
        self
    }

    /// Sets where the time is read: the system's clock unless set.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Builds the limiter.
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`], with one entry for each bad setting.
    pub fn build(self) -> Result<LoginLimiter, ConfigErrors> {
        let Self { limits, secret, realm, capacity, shared, clock } = self;
        let mut errors = ConfigErrors::default();
        limits.account.check(&mut errors);
        limits.registration.check("registrations per address", &mut errors);
        let quotas = [
            ("logins per address", limits.address),
            ("logins per address and account", limits.pair),
            ("logins overall", limits.overall),
        ];
        for (setting, quota) in quotas {
            if let Some(quota) = quota {
                quota.check(setting, &mut errors);
            }
        }
        errors.bound_number("bits of an IPv6 address", limits.ipv6_prefix.into(), 32, 128);
        if let Some(entries) = capacity {
            errors.bound_number("entries of login limits", entries, 1024, 1 << 24);
        }
        let keys = errors.keep(keys(secret.as_ref(), &realm));
        let [names, devices] = errors.finish(keys)?;
        let digests = match &shared {
            Some(_) => Digests::Shared(Box::new(names)),
            None => Digests::Here([RandomState::new(), RandomState::new()]),
        };
        let here = Arc::new(capacity.map_or_else(MemoryAttempts::new, MemoryAttempts::with_capacity));
        let (breaker, pace, devices) = (Breaker::default(), Pace::default(), Devices::new(devices));
        Ok(LoginLimiter(Arc::new(Inner { limits, digests, devices, here, shared, breaker, pace, clock })))
    }
}

impl fmt::Debug for LoginLimiterBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginLimiterBuilder").field("limits", &self.limits).finish_non_exhaustive()
    }
}
