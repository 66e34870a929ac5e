//! The user behind a token, as the store has them now: a token outlives a user who was disabled after it was issued.

mod layer;

use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use quick_cache::sync::Cache;

pub use self::layer::{CurrentUserLayer, LoadCurrentUser};
use crate::{
    clock::{Clock, SystemClock, UnixSeconds},
    config::ConfigErrors,
    ident::UserId,
    principal::Principal,
    rejection::Rejection,
    store::{UserPublic, UserStore, active_user},
};

/// How long a user is believed to be as they were read, unless set.
const KEPT: Duration = Duration::from_secs(5);
/// And at most.
const KEPT_MOST: Duration = Duration::from_secs(60);
/// How many users are kept.
const MOST: usize = 10_000;

/// The user who is calling, as the store had them a few seconds ago at the most: in the extensions of what is inside
/// [`CurrentUserLayer`].
#[derive(Clone, Debug)]
pub struct CurrentUser(Arc<UserPublic>);

impl Deref for CurrentUser {
    type Target = UserPublic;

    fn deref(&self) -> &UserPublic {
        &self.0
    }
}

/// Users of an issuer, those who called lately kept for some seconds. Cheap to clone; clones keep the same ones.
#[derive(Clone)]
pub struct CurrentUsers(Arc<State>);

struct State {
    users: Arc<dyn UserStore>,
    issuer: String,
    clock: Arc<dyn Clock>,
    kept_for: Duration,
    kept: Cache<UserId, Kept>,
    forgotten: Forgotten,
}

/// How often users were forgotten, some of them counted together: what was read of one before that does not count any more,
/// even if it arrives only afterwards.
struct Forgotten {
    hasher: RandomState,
    times: [AtomicU64; 64],
}

impl Forgotten {
    fn new() -> Self {
        Self { hasher: RandomState::new(), times: [const { AtomicU64::new(0) }; 64] }
    }

    fn of(&self, user: &UserId) -> &AtomicU64 {
        let [first, ..] = &self.times;
        let place = usize::try_from(self.hasher.hash_one(user) % 64).unwrap_or_default();
        self.times.get(place).unwrap_or(first)
    }
}

#[derive(Clone)]
struct Kept {
    /// `None` of who is disabled or gone.
    user: Option<CurrentUser>,
    read: UnixSeconds,
    /// How often they had been forgotten before.
    forgotten: u64,
}

impl CurrentUsers {
    /// The users that `issuer` vouches for, who are in `users`.
    pub fn new(users: Arc<dyn UserStore>, issuer: impl Into<String>) -> Self {
        let (issuer, clock, kept_for) = (issuer.into(), Arc::new(SystemClock), KEPT);
        let (kept, forgotten) = (Cache::new(MOST), Forgotten::new());
        Self(Arc::new(State { users, issuer, clock, kept_for, kept, forgotten }))
    }

    fn with(self, change: impl FnOnce(&mut State)) -> Self {
        let State { users, issuer, clock, kept_for, .. } = &*self.0;
        let mut state = State {
            users: Arc::clone(users),
            issuer: issuer.clone(),
            clock: Arc::clone(clock),
            kept_for: *kept_for,
            kept: Cache::new(MOST),
            forgotten: Forgotten::new(),
        };
        change(&mut state);
        Self(Arc::new(state))
    }

    /// Sets for how long a user is believed to be as they were read: 5 seconds unless set, a minute at most. With zero,
    /// each request reads.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Duration`](crate::config::ConfigError::Duration) if it is longer.
    pub fn kept_for(self, duration: Duration) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        errors.bound("time for which a current user is kept", duration, Duration::ZERO, KEPT_MOST);
        errors.finish(Some(self.with(|state| state.kept_for = duration)))
    }

    /// Sets where the time is read: the system's clock unless set.
    #[must_use]
    pub fn clock(self, clock: Arc<dyn Clock>) -> Self {
        self.with(|state| state.clock = clock)
    }

    /// A layer that refuses callers who are disabled or gone.
    pub fn layer(&self) -> CurrentUserLayer {
        CurrentUserLayer::new(self.clone())
    }

    /// Reads a user anew when they call next: for who was changed, on this machine.
    pub fn forget(&self, user: &UserId) {
        self.0.forgotten.of(user).fetch_add(1, SeqCst);
    }

    /// What is kept of the caller, if that is not too old.
    fn recall(&self, caller: &Principal) -> Option<Result<CurrentUser, Rejection>> {
        let Some(id) = caller.user_id(&self.0.issuer) else {
            return Some(Err(Rejection::UserInactive));
        };
        let (kept, now) = (self.0.kept.get(&id)?, self.0.clock.now());
        // A clock that was set back says nothing about the age.
        let fresh = kept.read <= now && now < kept.read.saturating_add(self.0.kept_for);
        let holds = fresh && kept.forgotten == self.0.forgotten.of(&id).load(SeqCst);
        holds.then(|| kept.user.ok_or(Rejection::UserInactive))
    }

    /// The caller, read from the store.
    async fn read(self, caller: Principal) -> Result<CurrentUser, Rejection> {
        let State { users, issuer, clock, kept, forgotten, .. } = &*self.0;
        let id = caller.user_id(issuer).ok_or(Rejection::UserInactive)?;
        let (read, before) = (clock.now(), forgotten.of(&id).load(SeqCst));
        let user = match active_user(&**users, issuer, &caller).await {
            Ok(user) => Some(CurrentUser(Arc::new(user.public()))),
            Err(Rejection::UserInactive) => None,
            Err(rejection) => return Err(rejection),
        };
        kept.insert(id, Kept { user: user.clone(), read, forgotten: before });
        user.ok_or(Rejection::UserInactive)
    }
}

impl fmt::Debug for CurrentUsers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CurrentUsers").field("issuer", &self.0.issuer).finish_non_exhaustive()
    }
}
