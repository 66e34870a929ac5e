//! The user behind a token, as the store has them now: a token outlives a user who was disabled after it was issued.

mod layer;

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher as _, RandomState},
    ops::Deref,
    panic::AssertUnwindSafe,
    sync::{Arc, PoisonError},
    time::Duration,
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared, WeakShared},
};
use http::Extensions;

pub use self::layer::{CurrentUserLayer, LoadCurrentUser, UserGate};
use crate::{
    audit,
    clock::{Clock, SystemClock, UnixSeconds},
    config::ConfigErrors,
    ident::UserId,
    principal::{Anonymous, Principal},
    rejection::{Answers, Rejection},
    store::{UserPublic, UserStore, active_user, metered},
    sync::{
        Cache, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
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

/// A caller takes the place of whoever a layer further out has found, and of what was found about them. Whether none has looked.
pub(crate) fn enter(extensions: &mut Extensions, caller: Principal) -> bool {
    audit::entered(|| caller.who());
    if extensions.insert(caller).is_some() {
        extensions.remove::<CurrentUser>();
        return false;
    }
    extensions.get::<Anonymous>().is_none()
}

/// So does nobody.
pub(crate) fn enter_nobody(extensions: &mut Extensions, answers: Answers) -> bool {
    let nobody_before = extensions.insert(Anonymous { answers, decided: false }).is_some();
    let somebody_before = extensions.remove::<Principal>().is_some();
    extensions.remove::<CurrentUser>();
    !nobody_before && !somebody_before
}

/// Users of an issuer, those who called lately kept for some seconds. Cheap to clone; clones keep the same ones, and forget
/// them together, whatever time is set for each.
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use portcullis::{authz::CurrentUsers, store::MemoryStore};
///
/// let users = CurrentUsers::new(Arc::new(MemoryStore::new()), "https://id.example");
/// let payments = users.clone().kept_for(Duration::ZERO)?.layer();
/// let rest = users.layer();
/// # Ok::<(), portcullis::config::ConfigErrors>(())
/// ```
#[derive(Clone)]
pub struct CurrentUsers {
    users: Arc<Users>,
    clock: Arc<dyn Clock>,
    kept_for: Duration,
}

struct Users {
    store: Arc<dyn UserStore>,
    issuer: String,
    kept: Cache<UserId, Kept>,
    /// With the moment at which they were begun.
    reading: Mutex<HashMap<UserId, (UnixSeconds, WeakShared<Reading>)>>,
    forgotten: Forgotten,
}

/// A user who is being read. All who ask meanwhile wait for the same answer.
type Reading = BoxFuture<'static, Result<Kept, Rejection>>;

#[derive(Clone)]
struct Kept {
    /// Or that they are disabled, or gone.
    user: Result<CurrentUser, Rejection>,
    read: UnixSeconds,
    /// How often they had been forgotten before.
    forgotten: u64,
}

/// How often users were forgotten, some of them counted together: what was read of one before that does not count any more,
/// even if it arrives only afterwards.
struct Forgotten {
    hasher: RandomState,
    times: Box<[AtomicU64; COUNTS]>,
}

/// One where all orders are tried: each would be tried on its own.
const COUNTS: usize = if cfg!(portcullis_loom) { 1 } else { 2048 };

impl Forgotten {
    fn new() -> Self {
        Self { hasher: RandomState::new(), times: Box::new(std::array::from_fn(|_| AtomicU64::new(0))) }
    }

    fn of(&self, user: &UserId) -> &AtomicU64 {
        let [first, ..] = &*self.times;
        let place = usize::try_from(self.hasher.hash_one(user) % COUNTS as u64).unwrap_or_default();
        self.times.get(place).unwrap_or(first)
    }
}

impl CurrentUsers {
    /// The users that `issuer` vouches for, who are in `store`.
    pub fn new(store: Arc<dyn UserStore>, issuer: impl Into<String>) -> Self {
        Self::of(metered::users(store), issuer)
    }

    /// Users of a store whose calls are measured already.
    pub(crate) fn of(store: Arc<dyn UserStore>, issuer: impl Into<String>) -> Self {
        let (kept, reading, forgotten) = (Cache::new(MOST), Mutex::default(), Forgotten::new());
        let users = Arc::new(Users { store, issuer: issuer.into(), kept, reading, forgotten });
        Self { users, clock: Arc::new(SystemClock), kept_for: KEPT }
    }

    /// Sets for how long a user is believed to be as they were read, in whole seconds: 5 unless set, a minute at most. With less
    /// than one, each request reads.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Duration`](crate::config::ConfigError::Duration) if it is longer.
    pub fn kept_for(self, duration: Duration) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        errors.bound("time for which a current user is kept", duration, Duration::ZERO, KEPT_MOST);
        errors.finish(Some(Self { kept_for: duration, ..self }))
    }

    /// Sets where the time is read: the system's clock unless set.
    #[must_use]
    pub fn clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// A layer that refuses callers who are disabled or gone.
    pub fn layer(&self) -> CurrentUserLayer {
        CurrentUserLayer::new(self.clone())
    }

    /// Whatever was read of a user so far counts no more, what is being read included: for who was changed, on this machine.
    pub fn forget(&self, user: &UserId) {
        self.users.forgotten.of(user).fetch_add(1, SeqCst);
    }

    /// What is kept of the caller, if that is not too old.
    fn recall(&self, caller: &Principal) -> Option<Result<CurrentUser, Rejection>> {
        let Some(id) = caller.user_id(&self.users.issuer) else {
            return Some(Err(Rejection::PolicyDenied));
        };
        let (kept, now) = (self.users.kept.get(&id)?, self.clock.now());
        // A clock that was set back says nothing about the age.
        let fresh = kept.read <= now && now < kept.read.saturating_add(self.kept_for);
        (fresh && self.users.is_current(&id, &kept)).then_some(kept.user)
    }

    /// The caller, read from the store.
    async fn read(self, caller: Principal) -> Result<CurrentUser, Rejection> {
        let id = caller.user_id(&self.users.issuer).ok_or(Rejection::PolicyDenied)?;
        for _ in 0..3 {
            let kept = self.join(&id, &caller).await?;
            if self.users.is_current(&id, &kept) {
                return kept.user;
            }
            // They were changed meanwhile: what was read may be from before. Somebody else may have read them again.
            if let Some(known) = self.recall(&caller) {
                return known;
            }
        }
        audit::infrastructure_failed("user store", &"the user is changed all the time");
        Err(Rejection::StoreUnavailable)
    }

    /// Joins whoever is reading the user, or begins to.
    fn join(&self, id: &UserId, caller: &Principal) -> Shared<Reading> {
        let forgotten = self.users.forgotten.of(id).load(SeqCst);
        let now = self.clock.now();
        let mut reading = self.users.reading.lock().unwrap_or_else(PoisonError::into_inner);
        // One that was begun too long ago is as old as what is kept for too long; one that has ended is of those who waited for it.
        let fresh = |begun: &UnixSeconds| *begun <= now && now < begun.saturating_add(self.kept_for);
        let going = reading.get(id).filter(|(begun, _)| fresh(begun)).and_then(|(_, going)| going.upgrade());
        if let Some(going) = going.filter(|going| going.peek().is_none()) {
            return going;
        }
        let (users, id_read) = (Arc::clone(&self.users), id.clone());
        let read = Arc::clone(&users).read(caller.clone(), now, forgotten);
        let begun = AssertUnwindSafe(read).catch_unwind().map(move |read| {
            users.reading.lock().unwrap_or_else(PoisonError::into_inner).remove(&id_read);
            // A store that panics is one that does not answer, for all who wait for it.
            read.unwrap_or_else(|_| {
                audit::infrastructure_failed("user store", &"it has panicked");
                Err(Rejection::StoreUnavailable)
            })
        });
        let begun = begun.boxed().shared();
        // Those whose callers have hung up are never taken out. Without the others, somebody reads once more than needed.
        if reading.len() >= MOST {
            reading.clear();
        }
        if let Some(weak) = begun.downgrade() {
            reading.insert(id.clone(), (now, weak));
        }
        begun
    }
}

impl Users {
    fn is_current(&self, id: &UserId, kept: &Kept) -> bool {
        kept.forgotten == self.forgotten.of(id).load(SeqCst)
    }

    async fn read(self: Arc<Self>, caller: Principal, read: UnixSeconds, forgotten: u64) -> Result<Kept, Rejection> {
        let user = match active_user(&*self.store, &self.issuer, &caller).await {
            Ok(user) => Ok(CurrentUser(Arc::new(user.public()))),
            Err(inactive @ (Rejection::UserInactive | Rejection::UserGone)) => Err(inactive),
            Err(rejection) => return Err(rejection),
        };
        let kept = Kept { user, read, forgotten };
        if let Some(id) = caller.user_id(&self.issuer) {
            self.kept.insert(id, kept.clone());
        }
        Ok(kept)
    }
}

impl fmt::Debug for CurrentUsers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CurrentUsers").field("issuer", &self.users.issuer).finish_non_exhaustive()
    }
}

#[cfg(all(test, portcullis_loom))]
mod proofs;
