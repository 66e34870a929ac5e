//! Kinds of event, and how loud each of them is.

use std::fmt;

use serde::{Serialize, Serializer};

/// What has happened. A missing credential, a bad one, a failed login, a denied authorization and a failure of our own are told
/// apart, because each asks for another reaction.
///
/// [Names](Self::name) never change; kinds may be added.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Kind {
    /// A request whose caller is known was let through: a sample of them.
    RequestAdmitted,
    /// A request without credential was refused.
    CredentialMissing,
    /// A request with a bad credential was refused.
    CredentialInvalid,
    /// A caller lacks a permission.
    AuthorizationDenied,
    /// A request came in the clear, or from a page of another site, and was refused before its credential was looked at.
    RequestUnsafe,
    /// A request to an endpoint is not one that it understands.
    RequestMalformed,
    /// Somebody signed in.
    LoginSucceeded,
    /// Somebody did not sign in.
    LoginFailed,
    /// A login was not tried: there were too many failures of its account.
    LoginLocked,
    /// A login was not tried: there were too many attempts from its address, or in all.
    LoginLimited,
    /// A login was not tried: too many passwords are being hashed.
    LoginShed,
    /// Somebody registered.
    UserRegistered,
    /// Somebody did not register.
    RegistrationRefused,
    /// A user has another password.
    PasswordChanged,
    /// A user who asked for another password did not get it.
    PasswordChangeRefused,
    /// A user was disabled or enabled, or somebody may sign in again who had failed too often.
    UserChanged,
    /// A password was hashed anew, as new ones are, after its owner had signed in; or that was not possible.
    HashUpgraded,
    /// A session went on with a new access token.
    SessionRefreshed,
    /// A refresh token opened nothing.
    RefreshRefused,
    /// A refresh token came again after it was turned: the session was ended.
    RefreshReused,
    /// Sessions were ended, by their owner or for them.
    SessionsEnded,
    /// A client got a token in its own name.
    TokenIssued,
    /// Access tokens were called back.
    TokensRevoked,
    /// A client did not prove who it is, or may not do what it asks for.
    ClientRefused,
    /// An issuer's keys, or our own, were read, and are others than before.
    KeysFetched,
    /// A server was put together.
    ConfigurationLoaded,
    /// A request arrived at a layer that an outer one would have answered.
    LayersMisplaced,
    /// Something that a decision needs did not answer, or is not there: a request was refused for it.
    InfrastructureFailed,
    /// Something did not answer, and was done without: no request was refused for it.
    Degraded,
    /// Something that decisions need has begun to fail.
    OutageBegun,
    /// It answers again.
    OutageEnded,
    /// A sink did not keep up, and events that it should have got are lost to it.
    EventsDropped,
}

impl Kind {
    /// Every kind.
    pub const ALL: &[Self] = &[
        Self::RequestAdmitted,
        Self::CredentialMissing,
        Self::CredentialInvalid,
        Self::AuthorizationDenied,
        Self::RequestUnsafe,
        Self::RequestMalformed,
        Self::LoginSucceeded,
        Self::LoginFailed,
        Self::LoginLocked,
        Self::LoginLimited,
        Self::LoginShed,
        Self::UserRegistered,
        Self::RegistrationRefused,
        Self::PasswordChanged,
        Self::PasswordChangeRefused,
        Self::UserChanged,
        Self::HashUpgraded,
        Self::SessionRefreshed,
        Self::RefreshRefused,
        Self::RefreshReused,
        Self::SessionsEnded,
        Self::TokenIssued,
        Self::TokensRevoked,
        Self::ClientRefused,
        Self::KeysFetched,
        Self::ConfigurationLoaded,
        Self::LayersMisplaced,
        Self::InfrastructureFailed,
        Self::Degraded,
        Self::OutageBegun,
        Self::OutageEnded,
        Self::EventsDropped,
    ];

    /// Stable name, as in the event's field `kind`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RequestAdmitted => "request_admitted",
            Self::CredentialMissing => "credential_missing",
            Self::CredentialInvalid => "credential_invalid",
            Self::AuthorizationDenied => "authorization_denied",
            Self::RequestUnsafe => "request_unsafe",
            Self::RequestMalformed => "request_malformed",
            Self::LoginSucceeded => "login_succeeded",
            Self::LoginFailed => "login_failed",
            Self::LoginLocked => "login_locked",
            Self::LoginLimited => "login_limited",
            Self::LoginShed => "login_shed",
            Self::UserRegistered => "user_registered",
            Self::RegistrationRefused => "registration_refused",
            Self::PasswordChanged => "password_changed",
            Self::PasswordChangeRefused => "password_change_refused",
            Self::UserChanged => "user_changed",
            Self::HashUpgraded => "hash_upgraded",
            Self::SessionRefreshed => "session_refreshed",
            Self::RefreshRefused => "refresh_refused",
            Self::RefreshReused => "refresh_reused",
            Self::SessionsEnded => "sessions_ended",
            Self::TokenIssued => "token_issued",
            Self::TokensRevoked => "tokens_revoked",
            Self::ClientRefused => "client_refused",
            Self::KeysFetched => "keys_fetched",
            Self::ConfigurationLoaded => "configuration_loaded",
            Self::LayersMisplaced => "layers_misplaced",
            Self::InfrastructureFailed => "infrastructure_failed",
            Self::Degraded => "degraded",
            Self::OutageBegun => "outage_begun",
            Self::OutageEnded => "outage_ended",
            Self::EventsDropped => "events_dropped",
        }
    }

    /// How many are told at their own level in a second, for each reason, or `None` for all: whoever sends requests must not be able
    /// to fill a log. Those of a kind are further apart from what a stranger can do where somebody has to be let in first.
    pub(crate) const fn most_a_second(self) -> Option<u32> {
        match self {
            Self::RequestAdmitted
            | Self::CredentialMissing
            | Self::CredentialInvalid
            | Self::AuthorizationDenied
            | Self::RequestUnsafe
            | Self::RequestMalformed
            | Self::LoginFailed
            | Self::LoginLocked
            | Self::LoginLimited
            | Self::LoginShed
            | Self::RegistrationRefused
            | Self::PasswordChangeRefused
            | Self::RefreshRefused
            | Self::ClientRefused
            | Self::InfrastructureFailed
            | Self::Degraded
            // A store on the edge of its time is down and up again with each call.
            | Self::OutageBegun
            | Self::OutageEnded => Some(10),
            Self::LoginSucceeded
            | Self::UserRegistered
            | Self::PasswordChanged
            | Self::UserChanged
            | Self::HashUpgraded
            | Self::SessionRefreshed
            | Self::RefreshReused
            | Self::SessionsEnded
            | Self::TokenIssued
            | Self::TokensRevoked => Some(100),
            Self::KeysFetched
            | Self::ConfigurationLoaded
            | Self::LayersMisplaced
            | Self::EventsDropped => None,
        }
    }

    /// Whether anybody can cause it by the thousand. What cannot be is to be told even where a queue is all but full of these.
    pub(crate) const fn is_of_anybody(self) -> bool {
        match self {
            Self::OutageBegun | Self::OutageEnded | Self::Degraded => false,
            Self::LayersMisplaced => true,
            _ => matches!(self.most_a_second(), Some(10)),
        }
    }
}

/// What was not done, because something did not answer: the reasons of [`Kind::Degraded`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Undone {
    NextKey,
    OldKey,
    #[cfg(feature = "password")]
    SessionsEnd,
    #[cfg(feature = "password")]
    TokensEnd,
    #[cfg(feature = "password")]
    Unlocking,
    #[cfg(feature = "password")]
    Comparison,
}

impl Undone {
    /// The event's reason.
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::NextKey => "next signing key not made",
            Self::OldKey => "old signing key not removed",
            #[cfg(feature = "password")]
            Self::SessionsEnd => "sessions not ended",
            #[cfg(feature = "password")]
            Self::TokensEnd => "tokens not called back",
            #[cfg(feature = "password")]
            Self::Unlocking => "not unlocked",
            #[cfg(feature = "password")]
            Self::Comparison => "not compared",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[cfg(feature = "metrics")]
    #[test]
    fn what_is_counted_from_zero_are_kinds() {
        for name in crate::metrics::WITHOUT_REASON {
            assert!(Kind::ALL.iter().any(|kind| kind.name() == name), "{name}");
        }
    }

    #[test]
    fn names_are_told_apart() {
        let names: HashSet<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), Kind::ALL.len());
    }
}
