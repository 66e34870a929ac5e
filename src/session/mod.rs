//! Sessions: one login on one device, kept alive by refresh tokens of which one at a time is good.
//!
//! Each refresh turns the token into its successor (RFC 9700 §4.14.2). One that was turned before is somebody's copy: it ends
//! the session, for thief and owner alike, because nobody can tell them apart. What clients may do within a grace is told at
//! [`SessionPolicy`]; what a store must do, at [`SessionStore`](crate::store::SessionStore).

mod digest;
mod rotation;
#[cfg_attr(not(feature = "password"), expect(dead_code, reason = "tokens are made where people sign in"))]
mod token;

use std::time::Duration;

pub(crate) use self::token::RefreshToken;
pub use self::{
    digest::{SealedToken, TokenDigest},
    rotation::{Family, Standing, Step},
};
#[cfg(feature = "password")]
use crate::config::ConfigErrors;
use crate::{clock::UnixSeconds, ident::SessionId, scope::ScopeSet};

/// A session as the store has it, without its tokens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SessionRecord {
    /// Identifier, `sid` of its access tokens.
    pub id: SessionId,
    /// Who signed in: `sub` of its access tokens.
    pub subject: String,
    /// The client that signed them in.
    pub client_id: String,
    /// What was granted then. Refreshed access tokens have this or less.
    pub scope: ScopeSet,
    /// Whom its access tokens may be for, in the order in which they were granted; at least one.
    pub audience: Vec<String>,
    /// What the device is called: a user agent, or a name that was given.
    pub label: String,
    /// Where it signed in from: the first 24 bits of an IPv4 address, 48 of an IPv6 one; empty if that is not known.
    pub network: String,
    /// When the password was checked.
    pub auth_time: UnixSeconds,
    /// When a token was last issued.
    pub last_used: UnixSeconds,
    /// When it ends however much it is used.
    pub expires_at: UnixSeconds,
}

/// How long sessions last.
///
/// | setting | default | bound |
/// |---|---|---|
/// | without use | 14 d | 1 min to 1 y |
/// | in all | 90 d | 1 min to 10 y |
/// | grace for a client that asks twice | 0 s | 60 s |
///
/// Within the grace, the token before the current one gets the same successor again, so that a client whose answer got lost,
/// or two tabs that refresh at once, stay signed in. It is zero unless set, because a thief who is as fast gets it as well; then a
/// client that tries again after its answer got lost is taken for a thief, and signed out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub struct SessionPolicy {
    pub(crate) idle: Duration,
    pub(crate) absolute: Duration,
    pub(crate) grace: Duration,
}

impl Default for SessionPolicy {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 3600);
        Self { idle: 14 * day, absolute: 90 * day, grace: Duration::ZERO }
    }
}

impl SessionPolicy {
    /// Sets how long a session lasts without use.
    pub const fn idle(self, idle: Duration) -> Self {
        Self { idle, ..self }
    }

    /// Sets how long it lasts in all.
    pub const fn absolute(self, absolute: Duration) -> Self {
        Self { absolute, ..self }
    }

    /// Sets for how long the token before the current one gets the same successor again.
    pub const fn grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }
}

#[cfg(feature = "password")]
impl SessionPolicy {
    pub(crate) fn check(&self, errors: &mut ConfigErrors) {
        let (minute, year) = (Duration::from_secs(60), Duration::from_secs(366 * 24 * 3600));
        errors.bound("session without use", self.idle, minute, year);
        errors.bound("session in all", self.absolute, minute, 10 * year);
        errors.bound("grace of refresh tokens", self.grace, Duration::ZERO, minute);
    }

    /// When a session that begins at `now` ends however much it is used. `jitter` takes up to a sixteenth off, so that those
    /// who signed in together do not all have to sign in together again.
    pub(crate) fn expires_at(&self, now: UnixSeconds, jitter: u8) -> UnixSeconds {
        now.saturating_add(shortened(self.absolute, jitter))
    }

    /// When a session that is used at `now` ends if it is not used again, likewise.
    pub(crate) fn ends_at(&self, expires_at: UnixSeconds, now: UnixSeconds, jitter: u8) -> UnixSeconds {
        now.saturating_add(shortened(self.idle, jitter)).min(expires_at)
    }
}

#[cfg(feature = "password")]
fn shortened(duration: Duration, jitter: u8) -> Duration {
    duration.saturating_sub(duration / 16 * u32::from(jitter) / 256)
}

#[cfg(all(test, feature = "password"))]
mod tests {
    use super::*;

    #[test]
    fn req_048_sessions_end_unused_or_old_and_a_little_apart() {
        let policy = SessionPolicy::default().idle(Duration::from_secs(1600)).absolute(Duration::from_secs(16_000));
        let at = UnixSeconds::new;
        assert_eq!((policy.expires_at(at(100), 0), policy.expires_at(at(100), 128)), (at(16_100), at(15_600)));
        assert_eq!(policy.ends_at(at(16_100), at(100), 0), at(1700));
        assert_eq!(policy.ends_at(at(16_100), at(100), 128), at(1650));
        assert_eq!(policy.ends_at(at(16_100), at(16_000), 0), at(16_100), "never beyond the end");
        let mut errors = ConfigErrors::default();
        SessionPolicy::default().check(&mut errors);
        assert!(errors.iter().next().is_none());
        SessionPolicy::default()
            .idle(Duration::ZERO)
            .absolute(Duration::MAX)
            .grace(Duration::from_secs(61))
            .check(&mut errors);
        assert_eq!(errors.iter().count(), 3);
    }
}
