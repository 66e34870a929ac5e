//! Passwords that became known: a list to compare new ones with, and what happens when it does not answer.

#[cfg(feature = "breach-client")]
mod client;

use std::{fmt, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio::{sync::Semaphore, time};
use unicode_normalization::UnicodeNormalization as _;

#[cfg(feature = "breach-client")]
pub use self::client::BreachClient;
use super::{context::collect, refusal::PasswordRefusal};
use crate::{audit, config::ConfigErrors, secret::Secret};

/// So many passwords are looked up at once; further ones wait. Requests must not become a flood of others.
const MOST_AT_ONCE: usize = 64;

/// A list of passwords that became known (NIST SP 800-63B-4 §3.1.1.2, ASVS 6.2.12). Object-safe.
///
/// Asked when a password is chosen, never at a login, and only about one that the [policy](super::PasswordPolicy) lets
/// pass.
pub trait BreachList: Send + Sync + 'static {
    /// Whether the password, which is in NFC, is in the list. The future may be dropped at any time.
    ///
    /// # Errors
    ///
    /// [`BreachListError`] if that cannot be told. Nothing of the password may be in it: it is logged.
    fn contains<'a>(&'a self, password: &'a Secret<String>) -> BreachFuture<'a>;
}

/// Result of a list's look-up.
pub type BreachFuture<'a> = BoxFuture<'a, Result<bool, BreachListError>>;

/// The list cannot answer. `Display` has its own words, for operators.
#[derive(Debug, thiserror::Error)]
#[error("list of known passwords unavailable: {0}")]
pub struct BreachListError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl BreachListError {
    /// The list cannot answer, because of `reason`.
    pub fn unavailable(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(reason.into())
    }
}

/// What happens to a password when the list does not answer.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum WhenDown {
    /// It is accepted, and an audit event says so. The list comes after the policy, which has refused what is tried
    /// first; that somebody else's outage keeps people from changing a password that leaked would be the greater harm.
    #[default]
    Accept,
    /// It is refused with [`PasswordRefusal::NotCompared`]; endpoints answer 503.
    Refuse,
}

/// A list, and how it is asked. Cheap to clone.
///
/// | setting | default | bound |
/// |---|---|---|
/// | when it does not answer | [`WhenDown::Accept`] | |
/// | longest wait | 2 s | 100 ms to 10 s |
/// | look-ups at once | 64, others wait | fixed |
///
/// ```
/// use portcullis::{password::*, secret::Secret};
///
/// struct Ours;
///
/// impl BreachList for Ours {
///     fn contains<'a>(&'a self, password: &'a Secret<String>) -> BreachFuture<'a> {
///         Box::pin(async move { Ok(password.expose() == "the one on the sticky note") })
///     }
/// }
///
/// let breaches = Breaches::new(Ours).when_down(WhenDown::Refuse);
/// ```
#[derive(Clone)]
#[must_use]
pub struct Breaches {
    list: Arc<dyn BreachList>,
    when_down: WhenDown,
    wait: Duration,
    at_once: Arc<Semaphore>,
}

impl Breaches {
    /// Asks this list.
    pub fn new(list: impl BreachList) -> Self {
        Self {
            list: Arc::new(list),
            when_down: WhenDown::default(),
            wait: Duration::from_secs(2),
            at_once: Arc::new(Semaphore::new(MOST_AT_ONCE)),
        }
    }

    /// Sets what happens when it does not answer: the password is accepted unless set.
    pub fn when_down(self, when_down: WhenDown) -> Self {
        Self { when_down, ..self }
    }

    /// Sets how long an answer is waited for: 2 seconds unless set, 100 milliseconds to 10 seconds.
    pub fn wait(self, wait: Duration) -> Self {
        Self { wait, ..self }
    }

    pub(crate) fn check(&self, errors: &mut ConfigErrors) {
        errors.bound("wait for the breach list", self.wait, Duration::from_millis(100), Duration::from_secs(10));
    }

    /// Why a password may not be chosen, if it may not.
    pub(crate) async fn reason(&self, password: &Secret<String>) -> Option<PasswordRefusal> {
        let normal = Secret::wiped(collect(password.expose().nfc()));
        let ask = async {
            let _turn = self.at_once.acquire().await.map_err(BreachListError::unavailable)?;
            self.list.contains(&normal).await
        };
        let answer = time::timeout(self.wait, ask).await;
        let answer = answer.unwrap_or_else(|_| Err(BreachListError::unavailable("no answer in time")));
        match (answer, self.when_down) {
            (Ok(true), _) => Some(PasswordRefusal::Breached),
            (Ok(false), _) => None,
            (Err(error), WhenDown::Accept) => {
                audit::not_compared(&error);
                None
            }
            (Err(error), WhenDown::Refuse) => {
                audit::infrastructure_failed("breach list", &error);
                Some(PasswordRefusal::NotCompared)
            }
        }
    }
}

impl fmt::Debug for Breaches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaches").field("when_down", &self.when_down).field("wait", &self.wait).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Knows one password; does not answer at all about another; of a third it says that it cannot tell.
    struct List;

    impl BreachList for List {
        fn contains<'a>(&'a self, password: &'a Secret<String>) -> BreachFuture<'a> {
            Box::pin(async move {
                match password.expose().as_str() {
                    "caf\u{e9}" => Ok(true),
                    "never" => std::future::pending().await,
                    "down" => Err(BreachListError::unavailable("no line")),
                    _ => Ok(false),
                }
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_known_is_refused_and_an_outage_as_the_program_says() {
        use PasswordRefusal::{Breached, NotCompared};
        let (accept, refuse) = (Breaches::new(List), Breaches::new(List).when_down(WhenDown::Refuse));
        for (password, when_accepted, when_refused) in [
            ("caf\u{e9}", Some(Breached), Some(Breached)),
            ("cafe\u{301}", Some(Breached), Some(Breached)),
            ("cafe", None, None),
            ("never", None, Some(NotCompared)),
            ("down", None, Some(NotCompared)),
        ] {
            assert_eq!(accept.reason(&password.into()).await, when_accepted, "{password}");
            assert_eq!(refuse.reason(&password.into()).await, when_refused, "{password}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn look_ups_at_once_are_bounded() {
        let breaches = Breaches::new(List).when_down(WhenDown::Refuse);
        let turns = Arc::clone(&breaches.at_once).acquire_many_owned(64).await.unwrap();
        assert_eq!(breaches.reason(&"cafe".into()).await, Some(PasswordRefusal::NotCompared), "waited too long");
        drop(turns);
        assert_eq!(breaches.reason(&"cafe".into()).await, None);
        let mut errors = ConfigErrors::default();
        breaches.clone().wait(Duration::from_millis(99)).check(&mut errors);
        breaches.wait(Duration::from_secs(11)).check(&mut errors);
        assert_eq!(errors.iter().count(), 2);
    }
}
