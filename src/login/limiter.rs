//! Counts attempts before they are made, and takes back what was none.

mod attempt;
mod builder;
mod digests;

use std::{fmt, sync::Arc, time::Duration};

use http::HeaderMap;
use tokio::time;

use self::digests::Digests;
pub use self::{attempt::LoginAttempt, builder::LoginLimiterBuilder};
use super::{
    breaker::Breaker,
    device::{self, DeviceId, Devices},
    pace::Pace,
};
use crate::{
    audit,
    client_ip::ClientIp,
    clock::{Clock, SystemClock, UnixSeconds},
    ident::LoginName,
    rejection::Rejection,
    store::{Attempt, AttemptStore, MemoryAttempts, Reserved, StoreError},
    throttle::{AttemptKey, Limit, Lockout, Quota},
};

/// How long a shared store may take: a login waits for it.
const MOST_TIME: Duration = Duration::from_millis(500);

/// Limits attempts to sign in. Cheap to clone; clones count together.
///
/// | limit | default | counts |
/// |---|---|---|
/// | per address, an IPv6 one by its /64 | 30 at once and 30 a minute | attempts that do not succeed |
/// | per account, as it was typed, in the form that stores use | 5 free failures, then waits from 30 s to 15 min, 100 in a row | failures |
/// | per account and device that has signed in there before | the same, of its own | failures |
/// | per address and account | none | attempts that do not succeed |
/// | overall | none: whoever fills it shuts everybody out | attempts that do not succeed |
/// | registrations per address | 10 an hour | all |
///
/// An account's owner on a device that is known there has a count of its own and no other limit. All others share the
/// account's. Whether there is such an account makes no difference.
///
/// Everything is counted in this process, within [`MemoryAttempts`]' bounds, unless a [`store`](LoginLimiterBuilder::store) is
/// given; what is counted in memory is forgotten with the process. Needs a Tokio runtime with its timer enabled for a store.
#[derive(Clone)]
pub struct LoginLimiter(Arc<Inner>);

struct Inner {
    limits: Limits,
    digests: Digests,
    devices: Devices,
    here: Arc<MemoryAttempts>,
    shared: Option<Arc<dyn AttemptStore>>,
    breaker: Breaker,
    pace: Pace,
    clock: Arc<dyn Clock>,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    address: Option<Quota>,
    pair: Option<Quota>,
    overall: Option<Quota>,
    account: Lockout,
    registration: Quota,
    ipv6_prefix: u8,
    silent: bool,
    addresses_when_down: WhenDown,
    accounts_when_down: WhenDown,
}

/// What happens to a limit while its store does not answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum WhenDown {
    /// It is counted in this process: each machine then lets through as much as all of them should.
    CountHere,
    /// Attempts are answered 503, with `Retry-After`.
    Refuse,
}

/// Who asks to sign in.
#[derive(Clone, Copy, Default)]
pub struct Who<'a> {
    /// Where the request comes from.
    pub address: Option<ClientIp>,
    /// The account, as it was typed.
    pub account: Option<&'a str>,
    /// What the request has as a device's token, other than in cookies.
    pub device_token: Option<&'a str>,
    /// The request's headers, for the cookies with devices' tokens.
    pub headers: Option<&'a HeaderMap>,
}

// A name may be a password that was typed into the wrong field, and headers have cookies.
impl fmt::Debug for Who<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, account, device_token, .. } = self;
        f.debug_struct("Who")
            .field("address", address)
            .field("has_account", &account.is_some())
            .field("has_device_token", &device_token.is_some())
            .finish_non_exhaustive()
    }
}

/// How an attempt ended. An endpoint puts it into the extensions of its response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LoginOutcome {
    /// The password was right.
    Succeeded,
    /// It was not, or there is no such account.
    Failed,
    /// No password was looked at.
    NotTried,
}

impl LoginLimiter {
    /// Begins a limiter with the defaults of the table above.
    pub fn builder() -> LoginLimiterBuilder {
        LoginLimiterBuilder {
            limits: Limits {
                address: Some(Quota::per_minute(30)),
                pair: None,
                overall: None,
                account: Lockout::default(),
                registration: Quota::new(10, Duration::from_secs(3600)),
                ipv6_prefix: 64,
                silent: false,
                addresses_when_down: WhenDown::CountHere,
                accounts_when_down: WhenDown::Refuse,
            },
            secret: None,
            realm: String::new(),
            capacity: None,
            shared: None,
            clock: Arc::new(SystemClock),
        }
    }

    /// Counts an attempt, before its password is looked at.
    ///
    /// When dropped half-way, it may have been counted.
    ///
    /// # Errors
    ///
    /// [`Rejection::TooManyAttempts`]; [`Rejection::StoreUnavailable`] if the store does not answer and that is not to be made up
    /// for here; [`Rejection::LayerMissing`] if addresses are limited and `who` has none.
    pub async fn begin(&self, who: Who<'_>) -> Result<LoginAttempt, Rejection> {
        let Inner { limits, clock, .. } = &*self.0;
        let now = clock.now();
        // No user has a name that is none. All of those are counted as one.
        let name = who.account.and_then(|typed| LoginName::parse(typed).ok());
        let device = name.as_ref().and_then(|name| self.device(name, &who, now));
        let attempt = match (&name, device) {
            (Some(name), Some(device)) => {
                let key = self.key(Limit::Device, &[device.as_bytes(), name.as_str().as_bytes()]);
                Attempt::default().lock(key, limits.account)
            }
            _ => self.stranger(who.address, who.account.map(|_| self.account(name.as_ref())))?,
        };
        let begun = LoginAttempt { device, known: device.is_some(), account: name, ..self.counting(attempt) };
        self.count(begun, now).await
    }

    /// As [`begin`](Self::begin), for an endpoint that refuses a locked attempt itself, at the cost of a hash, if the limiter is
    /// silent. It counts for its address like one that fails.
    pub(super) async fn begin_or_lock(&self, who: Who<'_>) -> Result<LoginAttempt, Rejection> {
        match self.begin(who).await {
            Err(Rejection::TooManyAttempts { limit: Limit::Account | Limit::Device, .. }) if self.0.limits.silent => {
                let attempt = self.stranger(who.address, None)?;
                let counted = self.count(self.counting(attempt), self.0.clock.now()).await?;
                Ok(LoginAttempt { locked: true, ..counted })
            }
            begun => begun,
        }
    }

    /// Counts an attempt of somebody who is signed in already, and proves once more that it is they: for their account, and
    /// `by`, such as a session, whose own count it has.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    pub async fn begin_again(&self, account: &LoginName, by: &str) -> Result<LoginAttempt, Rejection> {
        let Inner { limits, clock, .. } = &*self.0;
        // Ends where the name begins, which no name can look like.
        let key = self.key(Limit::Device, &[by.as_bytes(), &[0], account.as_str().as_bytes()]);
        let counting = self.counting(Attempt::default().lock(key, limits.account));
        let begun = LoginAttempt { known: true, account: Some(account.clone()), ..counting };
        self.count(begun, clock.now()).await
    }

    /// Counts a request for a new account.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    pub async fn begin_registration(&self, address: Option<ClientIp>) -> Result<LoginAttempt, Rejection> {
        let Inner { limits, clock, .. } = &*self.0;
        let mut attempt = Attempt::default();
        if limits.address.is_some() {
            let party = address.ok_or(NO_ADDRESS)?.party(limits.ipv6_prefix);
            attempt = attempt.quota(self.key(Limit::Registration, &[&party]), limits.registration);
        }
        let begun = self.counting(attempt);
        self.count(begun, clock.now()).await
    }

    /// Forgets an account's failures, those of strangers; `false` if there were none. Devices that are known have their own,
    /// which this does not touch.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store does not answer: call again.
    pub async fn unlock(&self, account: &LoginName) -> Result<bool, StoreError> {
        let Inner { here, shared, clock, .. } = &*self.0;
        let key = self.account(Some(account));
        let forgotten = here.forget(key).await?;
        match shared {
            Some(store) => Ok(self.ask(store.forget(key), clock.now()).await? || forgotten),
            None => Ok(forgotten),
        }
    }

    fn stranger(&self, address: Option<ClientIp>, account: Option<AttemptKey>) -> Result<Attempt, Rejection> {
        let Limits { address: per_address, pair, overall, account: lockout, ipv6_prefix, .. } = self.0.limits;
        let mut attempt = Attempt::default();
        if per_address.is_some() || pair.is_some() {
            let party = address.ok_or(NO_ADDRESS)?.party(ipv6_prefix);
            if let Some(quota) = per_address {
                attempt = attempt.quota(self.key(Limit::Address, &[&party]), quota);
            }
            if let (Some(quota), Some(account)) = (pair, account) {
                attempt = attempt.quota(self.key(Limit::Pair, &[&party, &account.digest]), quota);
            }
        }
        if let Some(quota) = overall {
            attempt = attempt.quota(self.key(Limit::Overall, &[]), quota);
        }
        Ok(account.map_or(attempt, |account| attempt.lock(account, lockout)))
    }

    /// Counts in the store or, where that does not answer, as is said for then.
    async fn count(&self, begun: LoginAttempt, now: UnixSeconds) -> Result<LoginAttempt, Rejection> {
        let span = audit::decision!("count_attempt", known_device = begun.is_known_device());
        audit::inside(span, self.count_now(begun, now), |rejection| rejection.code()).await
    }

    async fn count_now(&self, mut begun: LoginAttempt, now: UnixSeconds) -> Result<LoginAttempt, Rejection> {
        let Inner { here, shared, breaker, .. } = &*self.0;
        let asked = match shared {
            Some(store) if breaker.allows(now) => self.ask(store.reserve(begun.attempt, now), now).await.ok(),
            _ => None,
        };
        begun.counted_there = asked.is_some();
        let reserved = match asked {
            Some(reserved) => reserved,
            None if shared.is_none() => here.count(&begun.attempt, now),
            None => self.count_alone(&begun.attempt, now)?,
        };
        match reserved {
            Reserved::Granted { left: [left, ..] } => Ok(LoginAttempt { left: Some(left), ..begun }),
            Reserved::Refused { limit, wait } => {
                let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                Err(Rejection::TooManyAttempts { limit, seconds: seconds.max(1) })
            }
        }
    }

    /// Counts here while the store does not answer, as far as that is wanted. A flood from one address is told so even where
    /// nobody can sign in.
    fn count_alone(&self, attempt: &Attempt, now: UnixSeconds) -> Result<Reserved, Rejection> {
        let Inner { limits, here, .. } = &*self.0;
        let refused = limits.accounts_when_down == WhenDown::Refuse && attempt.account().is_some();
        if limits.addresses_when_down == WhenDown::Refuse && attempt.quotas().next().is_some() {
            return Err(Rejection::StoreUnavailable);
        }
        if !refused {
            return Ok(here.count(attempt, now));
        }
        let quotas = attempt.quotas_alone();
        match here.count(&quotas, now) {
            Reserved::Granted { .. } => Err(Rejection::StoreUnavailable),
            refused @ Reserved::Refused { .. } => Ok(refused),
        }
    }

    /// Asks the shared store, not for long, and notes whether it has answered.
    async fn ask<T>(
        &self,
        call: impl Future<Output = Result<T, StoreError>>,
        now: UnixSeconds,
    ) -> Result<T, StoreError> {
        let late = |_| Err(StoreError::unavailable("no answer in time"));
        let answer = time::timeout(MOST_TIME, call).await.unwrap_or_else(late);
        match &answer {
            Ok(_) if self.0.breaker.note(true, now) => audit::outage_over("store of login attempts", ""),
            Err(error) if self.0.breaker.note(false, now) => audit::outage_begun("store of login attempts", "", error),
            _ => {}
        }
        answer
    }

    /// Whether logins are refused while a shared store does not answer.
    pub(crate) fn needs_store(&self) -> bool {
        let Inner { limits, shared, .. } = &*self.0;
        shared.is_some() && [limits.addresses_when_down, limits.accounts_when_down].contains(&WhenDown::Refuse)
    }

    /// Whether it answers: asked for what nobody has.
    pub(crate) async fn store_answers(&self) -> Result<(), StoreError> {
        let Some(store) = &self.0.shared else { return Ok(()) };
        // No name looks like this.
        let nobody = self.key(Limit::Account, &[&[0]]);
        self.ask(store.forget(nobody), self.0.clock.now()).await.map(drop)
    }

    /// What strangers' failures on an account count under.
    fn account(&self, name: Option<&LoginName>) -> AttemptKey {
        self.key(Limit::Account, &[name.map(LoginName::as_str).unwrap_or_default().as_bytes()])
    }

    fn device(&self, account: &LoginName, who: &Who<'_>, now: UnixSeconds) -> Option<DeviceId> {
        let devices = &self.0.devices;
        let check = |token| devices.check(account, token, now);
        let cookie = devices.cookie(account);
        let in_cookies = |headers| device::in_cookies(headers, &cookie).find_map(check);
        who.device_token.and_then(check).or_else(|| who.headers.and_then(in_cookies))
    }

    fn key(&self, kind: Limit, parts: &[&[u8]]) -> AttemptKey {
        self.0.digests.key(kind, parts)
    }

    /// An attempt that is about to be counted.
    fn counting(&self, attempt: Attempt) -> LoginAttempt {
        LoginAttempt {
            limiter: self.clone(),
            attempt,
            counted_there: false,
            account: None,
            device: None,
            known: false,
            locked: false,
            left: None,
            settled: Arc::default(),
        }
    }

    /// Resolves when a refusal may be answered.
    pub(super) async fn pace(&self) {
        self.0.pace.keep().await;
    }

    /// The policies that answers name.
    pub(super) fn policy(&self, limit: Limit) -> Option<(u32, Duration)> {
        let Limits { address, pair, overall, account, registration, .. } = self.0.limits;
        let quota = match limit {
            Limit::Address => address?,
            Limit::Pair => pair?,
            Limit::Overall => overall?,
            Limit::Registration => registration,
            Limit::Turn => return None,
            Limit::Account | Limit::Device => return Some((account.free_failures().into(), account.forgets_after())),
        };
        Some((quota.most(), quota.per()))
    }
}

/// Without it, everybody would be limited as one, or nobody would be.
const NO_ADDRESS: Rejection = Rejection::LayerMissing(
    "the client's address (`into_make_service_with_connect_info::<SocketAddr>()` on axum, or `ClientIpLayer`)",
);

impl fmt::Debug for LoginLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginLimiter").field("limits", &self.0.limits).finish_non_exhaustive()
    }
}
