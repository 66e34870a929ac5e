//! Counts attempts before they are made, and takes back what was none.

use std::{
    fmt,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::{digest, hmac};
use http::{HeaderMap, HeaderValue};
use tokio::time;

use super::{
    breaker::Breaker,
    device::{self, Carrier, DeviceId, Devices},
    pace::Pace,
};
use crate::{
    audit,
    client_ip::ClientIp,
    clock::{Clock, SystemClock, UnixSeconds},
    config::{ConfigError, ConfigErrors},
    ident::LoginName,
    jwt::{Algorithm, hmac_key},
    random,
    rejection::Rejection,
    secret::Secret,
    store::{Attempt, AttemptStore, MemoryAttempts, Reserved, Settled, StoreError},
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

/// Makes keys of names and addresses.
enum Digests {
    /// For this process alone: secret, of 128 bits, and fast.
    Here([RandomState; 2]),
    /// The same on all machines.
    Shared(Box<hmac::Key>),
}

impl Digests {
    /// The parts before the last are of one width for each kind.
    fn key(&self, kind: Limit, parts: &[&[u8]]) -> AttemptKey {
        let mut digest = [0; 16];
        match self {
            Self::Here(halves) => {
                for (half, state) in digest.chunks_exact_mut(8).zip(halves) {
                    let mut hasher = state.build_hasher();
                    hasher.write_u8(kind as u8);
                    for part in parts {
                        hasher.write(part);
                    }
                    half.copy_from_slice(&hasher.finish().to_be_bytes());
                }
            }
            Self::Shared(key) => {
                let mut context = hmac::Context::with_key(key);
                context.update(&[kind as u8]);
                for part in parts {
                    context.update(part);
                }
                digest.iter_mut().zip(context.sign().as_ref()).for_each(|(to, from)| *to = *from);
            }
        }
        AttemptKey { kind, digest }
    }
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
#[derive(Clone, Copy, Debug, Default)]
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

/// Builder of a [`LoginLimiter`].
#[must_use]
pub struct LoginLimiterBuilder {
    limits: Limits,
    secret: Option<Secret<String>>,
    realm: String,
    capacity: Option<usize>,
    shared: Option<Arc<dyn AttemptStore>>,
    clock: Arc<dyn Clock>,
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
        self.shared = Some(store);
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

/// The key for what attempts count under in a shared store, and that for devices.
fn keys(secret: Option<&Secret<String>>, realm: &str) -> Result<[hmac::Key; 2], ConfigErrors> {
    const LABELS: [&[u8]; 2] = [b"portcullis login attempts", b"portcullis login devices"];
    let [names, devices] = if let Some(secret) = secret {
        let secret = || hmac_key(Algorithm::Hs256, secret.expose().as_bytes());
        [secret()?, secret()?]
    } else {
        // No secret that machines share: what they count must all the same be the same. Devices can wait for the next login.
        let random: [u8; 32] = random::bytes().map_err(|_| ConfigError::NoRandom)?;
        let known = digest::digest(&digest::SHA256, b"portcullis");
        [known.as_ref(), &random].map(|key| hmac::Key::new(hmac::HMAC_SHA256, key))
    };
    let derived = |(root, label): (hmac::Key, &[u8])| {
        let key = hmac::sign(&root, &[label, &[0], realm.as_bytes()].concat());
        hmac::Key::new(hmac::HMAC_SHA256, key.as_ref())
    };
    let [label, other] = LABELS;
    Ok([derived((names, label)), derived((devices, other))])
}

/// An attempt that was let through and is counted. Cheap to clone; the limiter leaves it in the request's extensions for the
/// handler.
#[derive(Clone)]
pub struct LoginAttempt {
    limiter: LoginLimiter,
    attempt: Attempt,
    /// Whether it is the shared store that has counted it.
    counted_there: bool,
    /// The one that it is for, if there can be such a one.
    account: Option<LoginName>,
    device: Option<DeviceId>,
    /// Whether it is by a device, or a session, that is no stranger there.
    known: bool,
    locked: bool,
    left: Option<u32>,
    /// By whichever copy was first.
    settled: Arc<AtomicBool>,
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
    pub(super) fn set_cookie(&self) -> Option<HeaderValue> {
        let cookie = self.limiter.0.devices.cookie(self.account.as_ref()?);
        device::set_cookie(&cookie, &self.token(Carrier::Cookie)?)
    }

    fn token(&self, carrier: Carrier) -> Option<Secret<String>> {
        let Inner { devices, clock, .. } = &*self.limiter.0;
        let id = self.device.or_else(DeviceId::random)?;
        Some(devices.token(self.account.as_ref()?, id, carrier, clock.now()))
    }

    /// What is left of the address's quota, and in how many seconds there will be one more.
    pub(super) fn left(&self, outcome: LoginOutcome) -> Option<(Quota, u32)> {
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
                let _ = tokio::spawn(settle).await;
            }
            _ => here.take_back(&attempt, settled, now),
        }
    }
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
    async fn count(&self, mut begun: LoginAttempt, now: UnixSeconds) -> Result<LoginAttempt, Rejection> {
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

    /// What strangers' failures on an account count under.
    fn account(&self, name: Option<&LoginName>) -> AttemptKey {
        self.key(Limit::Account, &[name.map(LoginName::as_str).unwrap_or_default().as_bytes()])
    }

    fn device(&self, account: &LoginName, who: &Who<'_>, now: UnixSeconds) -> Option<DeviceId> {
        let devices = &self.0.devices;
        let check = |token| devices.check(account, token, now);
        let in_cookies = |headers| device::in_cookies(headers, &devices.cookie(account)).find_map(check);
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

impl fmt::Debug for LoginLimiterBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginLimiterBuilder").field("limits", &self.limits).finish_non_exhaustive()
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
