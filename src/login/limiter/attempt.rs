//! An attempt, from when it is counted until it is settled.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use http::HeaderValue;

use super::{Inner, LoginLimiter, LoginOutcome};
use crate::{
    audit,
    ident::LoginName,
    login::device::{self, Carrier, DeviceId},
    secret::Secret,
    store::{Attempt, Reserved, Settled},
    throttle::{Limit, Quota},
};

/// An attempt that was let through and is counted. Cheap to clone; the limiter leaves it in the request's extensions for the
/// handler.
#[derive(Clone)]
pub struct LoginAttempt {
    pub(super) limiter: LoginLimiter,
    pub(super) attempt: Attempt,
    /// Whether it is the shared store that has counted it.
    pub(super) counted_there: bool,
    /// The one that it is for, if there can be such a one.
    pub(super) account: Option<LoginName>,
    pub(super) device: Option<DeviceId>,
    /// Whether it is by a device, or a session, that is no stranger there.
    pub(super) known: bool,
    pub(super) locked: bool,
    pub(super) left: Option<u32>,
    /// By whichever copy was first.
    pub(super) settled: Arc<AtomicBool>,
}

impl LoginAttempt {
    /// Whether it comes from a device where the account's owner has signed in before.
    pub const fn is_known_device(&self) -> bool {
        self.device.is_some()
    }

    /// Whether the account is locked, and the limiter [silent](LoginLimiterBuilder::silent) about it: the password must not
    /// open anything, even if it is right.
    #[cfg(feature = "password")]
    pub(crate) const fn is_locked(&self) -> bool {
        self.locked
    }

    /// Whether it goes before those of strangers: on a known device, so many times a minute. Somebody with an account of their own
    /// could otherwise keep everybody else out.
    /// Each call takes a turn.
    pub fn goes_first(&self) -> bool {
        const TURNS: Quota = Quota::per_minute(10);
        let Some(account) = self.account.as_ref().filter(|_| self.known) else { return false };
        let Inner { here, clock, .. } = &*self.limiter.0;
        let turn = Attempt::default().quota(self.limiter.key(Limit::Turn, &[account.as_str().as_bytes()]), TURNS);
        matches!(here.count(&turn, clock.now()), Reserved::Granted { .. })
    }

    /// What to give a client that has signed in and is no browser, as `device_token`, to send along the next time. `None` if no
    /// account was named, or if there are no random bytes to be had.
    pub fn device_token(&self) -> Option<Secret<String>> {
        self.token(Carrier::Body)
    }

    /// The field that makes a browser's device known.
    pub(in crate::login) fn set_cookie(&self) -> Option<HeaderValue> {
        let cookie = self.limiter.0.devices.cookie(self.account.as_ref()?);
        device::set_cookie(&cookie, &self.token(Carrier::Cookie)?)
    }

    fn token(&self, carrier: Carrier) -> Option<Secret<String>> {
        let Inner { devices, clock, .. } = &*self.limiter.0;
        let id = self.device.or_else(DeviceId::random)?;
        Some(devices.token(self.account.as_ref()?, id, carrier, clock.now()))
    }

    /// What is left of the address's quota, and in how many seconds there will be one more.
    pub(in crate::login) fn left(&self, outcome: LoginOutcome) -> Option<(Quota, u32)> {
        let quota = self.attempt.quotas().find(|(key, _)| key.kind == Limit::Address)?.1;
        let back = u32::from(outcome != LoginOutcome::Failed);
        Some((quota, (self.left? + back).min(quota.most())))
    }

    /// Says how it ended; only the first word counts, of whichever copy. One that is never settled stays counted as a failure. What
    /// could not be taken back stays counted, too.
    pub async fn settle(&self, outcome: LoginOutcome) {
        if self.settled.swap(true, Ordering::Relaxed) {
            return;
        }
        let settled = match outcome {
            LoginOutcome::Failed => return,
            LoginOutcome::Succeeded => Settled::Succeeded,
            LoginOutcome::NotTried => Settled::NotTried,
        };
        let Inner { here, shared, clock, .. } = &*self.limiter.0;
        let (attempt, now) = (self.attempt, clock.now());
        match shared {
            Some(store) if self.counted_there => {
                let (store, limiter) = (Arc::clone(store), self.limiter.clone());
                // To its end, even if whoever has signed in hangs up.
                let settle = async move { limiter.ask(store.settle(attempt, settled, now), now).await };
                let _ = tokio::spawn(audit::carried(settle)).await;
            }
            _ => here.take_back(&attempt, settled, now),
        }
    }
}

impl fmt::Debug for LoginAttempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginAttempt")
            .field("known_device", &self.is_known_device())
            .field("locked", &self.locked)
            .finish_non_exhaustive()
    }
}
