//! Who signs in with this name and password? One answer, and one amount of work, for all who do not.

use std::sync::{Arc, Mutex, PoisonError};

use tracing::{Instrument as _, field::Empty};

use super::{
    hasher::{HashError, PasswordHasher},
    pool::Lane,
    worker::Check,
};
use crate::{
    audit,
    ident::{LoginName, UserId},
    secret::Secret,
    store::{PasswordHash, StoreError, UserRecord, UserStore, within},
};

/// Upgrades at once; others wait for the next login of their user.
const MOST_UPGRADES: usize = 4;

/// Users and the pool that checks their passwords.
#[derive(Clone)]
pub(crate) struct PasswordLogin {
    pub(crate) users: Arc<dyn UserStore>,
    pub(crate) hasher: PasswordHasher,
    /// Whose hashes are being upgraded.
    upgrading: Arc<Mutex<Vec<UserId>>>,
}

/// How a login ended.
pub(crate) enum Outcome {
    /// The password is this user's, and the user may sign in.
    SignedIn(Box<SignedIn>),
    /// It did not work; clients do not learn why. Whoever asked tells the log.
    Refused(Refused),
    /// It could not be tried. Try again after so many seconds.
    Unavailable { retry_after: u64 },
}

/// A login that did not work, for the log.
pub(crate) struct Refused {
    /// Whose it would have been, if there is such a user.
    pub(crate) subject: Option<String>,
    /// Why, or `None` where it was locked.
    pub(crate) reason: Option<&'static str>,
}

impl Refused {
    fn of(user: Option<&UserRecord>, reason: impl Into<Option<&'static str>>) -> Outcome {
        Outcome::Refused(Self { subject: user.map(|user| user.id.subject()), reason: reason.into() })
    }

    /// Tells it as a login.
    pub(crate) fn tell(&self) {
        match self.reason {
            Some(reason) => audit::login_failed(self.subject.as_deref(), reason),
            None => audit::login_locked_silently(self.subject.as_deref()),
        }
    }
}

/// A user whose password was right, and the password, as long as it may have to be looked at again.
pub(crate) struct SignedIn {
    /// As found before the password was checked.
    pub(crate) user: UserRecord,
    password: Secret<String>,
    /// The hash is as a new one would be.
    current: bool,
}

impl PasswordLogin {
    pub(crate) fn new(users: Arc<dyn UserStore>, hasher: PasswordHasher) -> Self {
        Self { users, hasher, upgrading: Arc::default() }
    }

    /// Looks the user up and checks the password. Unknown, disabled, locked and mistyped users cost one hash alike.
    ///
    /// A `locked` login is refused whatever the password is, and the password is not looked at.
    pub(crate) async fn sign_in(&self, name: &str, password: Secret<String>, lane: Lane, locked: bool) -> Outcome {
        let span = audit::decision!("check_password", subject = Empty);
        let outcome = self.look(name, password, lane, locked).instrument(span.clone()).await;
        match &outcome {
            Outcome::SignedIn(signed_in) => {
                if !span.is_disabled() {
                    span.record("subject", signed_in.user.id.subject());
                }
                audit::decided(&span, "ok", None);
            }
            Outcome::Refused(Refused { reason, .. }) => {
                audit::decided(&span, "refused", Some(reason.unwrap_or("locked_silently")));
            }
            Outcome::Unavailable { .. } => audit::decided(&span, "refused", Some("unavailable")),
        }
        outcome
    }

    async fn look(&self, name: &str, password: Secret<String>, lane: Lane, locked: bool) -> Outcome {
        let user = match LoginName::parse(name) {
            Ok(login) => match within(self.users.find_by_login(&login)).await {
                Ok(user) => user,
                Err(error) => return store_failed(&error),
            },
            // No user can have such a name.
            Err(_) => None,
        };
        let hash = user.as_ref().filter(|_| !locked).map(|user| user.password.clone());
        match (self.hasher.check(password.clone(), hash, lane).await, user) {
            (Ok(_), user) if locked => Refused::of(user.as_ref(), None),
            (Ok(Check::Fits { current }), Some(user)) if !user.disabled => {
                Outcome::SignedIn(Box::new(SignedIn { user, password, current }))
            }
            (Ok(Check::Fits { .. }), user) => Refused::of(user.as_ref(), "user disabled"),
            (Ok(Check::Differs), Some(user)) => Refused::of(Some(&user), "wrong password"),
            (Ok(Check::Differs), None) => Refused::of(None, "unknown user"),
            (Ok(Check::Unreadable), user) => Refused::of(user.as_ref(), "stored password hash cannot be read"),
            (Err(error), _) => hasher_failed(error),
        }
    }

    /// Whether the password that was right is so for `now` as well: a hash may have been upgraded by another login of the
    /// same user, or replaced because the password was changed.
    ///
    /// # Errors
    ///
    /// Seconds after which to try again.
    pub(crate) async fn is_still_right(&self, signed_in: &SignedIn, now: &PasswordHash) -> Result<bool, u64> {
        if *now == signed_in.user.password {
            return Ok(true);
        }
        // They have shown that they are no stranger.
        match self.hasher.verify_in(Lane::Known, signed_in.password.clone(), now.clone()).await {
            Ok(fits) => Ok(fits),
            Err(HashError::Unreadable) => Ok(false),
            Err(error) => Err(hash_failed(error)),
        }
    }

    /// Has the password hashed anew, if its hash is not as a new one would be. Nobody waits for it, and it makes no login
    /// wait that comes from a known device; what cannot be done now is done when the user next signs in.
    pub(crate) fn upgrade_later(&self, signed_in: SignedIn) {
        let SignedIn { user, password, current } = signed_in;
        if current {
            return;
        }
        let Some(turn) = Turn::take(&self.upgrading, &user.id) else { return };
        let login = self.clone();
        let upgrade = async move {
            let subject = user.id.subject();
            match login.upgrade(&user, password).await {
                Ok(true) => audit::hash_upgraded(&subject),
                // Upgraded or changed by somebody else.
                Ok(false) => {}
                Err(reason) => audit::hash_not_upgraded(&subject, &reason),
            }
            drop(turn);
        };
        tokio::spawn(audit::carried(upgrade));
    }

    async fn upgrade(&self, user: &UserRecord, password: Secret<String>) -> Result<bool, NotUpgraded> {
        let now = within(self.users.find_by_id(&user.id)).await?;
        if now.is_none_or(|now| now.password != user.password) {
            return Ok(false);
        }
        let hash = self.hasher.hash(password).await?;
        Ok(within(self.users.swap_hash(&user.id, &user.password, hash)).await?)
    }
}

#[derive(Debug, thiserror::Error)]
enum NotUpgraded {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Hash(#[from] HashError),
}

/// One of a few upgrades, and the only one of its user.
struct Turn {
    upgrading: Arc<Mutex<Vec<UserId>>>,
    id: UserId,
}

impl Turn {
    fn take(upgrading: &Arc<Mutex<Vec<UserId>>>, id: &UserId) -> Option<Self> {
        let mut ids = upgrading.lock().unwrap_or_else(PoisonError::into_inner);
        if ids.len() >= MOST_UPGRADES || ids.contains(id) {
            return None;
        }
        ids.push(id.clone());
        Some(Self { upgrading: Arc::clone(upgrading), id: id.clone() })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.upgrading.lock().unwrap_or_else(PoisonError::into_inner).retain(|id| *id != self.id);
    }
}

fn store_failed(error: &StoreError) -> Outcome {
    audit::infrastructure_failed("user store", error);
    Outcome::Unavailable { retry_after: crate::rejection::RETRY_SECONDS }
}

fn hasher_failed(error: HashError) -> Outcome {
    Outcome::Unavailable { retry_after: hash_failed(error) }
}

/// Seconds after which to try again.
fn hash_failed(error: HashError) -> u64 {
    match error {
        // Not ours to repair, and as frequent as an attacker likes.
        HashError::Overloaded => audit::login_shed(),
        _ => audit::infrastructure_failed("password hasher", &error),
    }
    // A queue of 64 is worked off in about a second.
    1
}

#[cfg(test)]
#[allow(unreachable_pub, reason = "its other home is a program")]
#[path = "../../tests/it/statistics.rs"]
mod statistics;

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::{password::Argon2Params, store::MemoryStore};

    async fn with_alice(hasher: PasswordHasher) -> PasswordLogin {
        let users = Arc::new(MemoryStore::new());
        let user = UserRecord {
            id: UserId::parse("alice").unwrap(),
            login: LoginName::parse("alice").unwrap(),
            password: hasher.hash("right".into()).await.unwrap(),
            scopes: "me".parse().unwrap(),
            disabled: false,
        };
        users.insert(user).await.unwrap();
        PasswordLogin::new(users, hasher)
    }

    /// As `tests/it/timing.rs`, for what no endpoint shows:
    /// `cargo test --release --lib -- --ignored timing --nocapture`.
    #[tokio::test]
    #[ignore = "half a minute, on a machine that is left alone"]
    #[allow(clippy::print_stdout, reason = "a table")]
    async fn timing_of_a_locked_login_tells_nothing() {
        const ROUNDS: usize = 400;
        let params = Argon2Params::new(7 * 1024, 5, 1).unwrap();
        let login = with_alice(PasswordHasher::builder().params(params).concurrency(1).build().unwrap()).await;
        let kinds = [
            ("wrong password", "alice", "wrong", false),
            ("locked, right password", "alice", "right", true),
            ("locked, wrong password", "alice", "wrong", true),
            ("locked, no such user", "nobody", "wrong", true),
        ];
        let mut times = vec![Vec::new(); kinds.len()];
        for round in 0..ROUNDS + 20 {
            for turn in 0..kinds.len() {
                // Each comes after each other as often.
                let at = (turn * (1 + round % 2 * 2) + round) % kinds.len();
                let (_, name, password, locked) = kinds[at];
                let begin = Instant::now();
                let outcome = login.sign_in(name, password.into(), Lane::Stranger, locked).await;
                let time = begin.elapsed().as_secs_f64() * 1e3;
                assert!(matches!(outcome, Outcome::Refused(_)));
                if round >= 20 {
                    times[at].push(time);
                }
            }
        }
        let mut different = 0;
        for ((name, ..), sample) in kinds.iter().zip(&times) {
            let (u, t) = (statistics::mann_whitney(sample, &times[0]), statistics::welch(sample, &times[0]));
            println!(
                "{name:24} {:8.3} ms, z {:6.2} p {:.2e}, t {:6.2} p {:.2e}",
                statistics::median(sample),
                u.statistic,
                u.probability,
                t.statistic,
                t.probability
            );
            // One in a thousand, shared among six comparisons.
            different += usize::from(u.probability.min(t.probability) < 0.001 / 6.0);
        }
        assert_eq!(different, 0);
    }

    #[tokio::test]
    async fn a_locked_login_is_refused_whatever_the_password_is() {
        let login = with_alice(PasswordHasher::builder().concurrency(1).build().unwrap()).await;
        for (name, password, locked, signed_in) in [
            ("alice", "right", false, true),
            ("alice", "right", true, false),
            ("alice", "wrong", true, false),
            ("nobody", "right", true, false),
        ] {
            for lane in [Lane::Known, Lane::Stranger] {
                let outcome = login.sign_in(name, password.into(), lane, locked).await;
                assert!(!matches!(outcome, Outcome::Unavailable { .. }), "{name} {password}");
                assert_eq!(matches!(outcome, Outcome::SignedIn(_)), signed_in, "{name} {password} {locked}");
            }
        }
    }

    #[test]
    fn few_upgrades_at_once_and_one_of_each_user() {
        let upgrading = Arc::default();
        let take = |id: &str| Turn::take(&upgrading, &UserId::parse(id).unwrap());
        let turns = ["a", "b", "c", "d"].map(|id| take(id).unwrap());
        assert!(take("a").is_none() && take("e").is_none());
        drop(turns);
        let turn = take("a");
        assert!(turn.is_some() && take("a").is_none() && take("e").is_some());
    }
}
