//! What was decided and why, as `tracing` events with the target `portcullis::audit`.
//!
//! One event per decision, of bounded size, without a credential and without a text that a client chose.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use http::{HeaderMap, Method};
use tracing::{Level, event};

#[cfg(feature = "password")]
use crate::ident::SessionId;
use crate::{fetch, rejection::Rejection, scope::ScopeSet};

const TARGET: &str = "portcullis::audit";

/// Kinds of event. A missing credential, a bad one, a failed login, a denied authorization and a failure of our own
/// are told apart, because each asks for another reaction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Kind {
    /// A request without credential was refused.
    CredentialMissing,
    /// A request with a bad credential was refused.
    CredentialInvalid,
    /// A caller lacks a permission.
    AuthorizationDenied,
    /// A request to an endpoint is not one that it understands.
    RequestMalformed,
    /// An issuer's keys were fetched, and are others than before.
    KeysFetched,
    /// Something that a decision needs answers again.
    InfrastructureRecovered,
    /// Somebody signed in.
    LoginSucceeded,
    /// Somebody did not sign in.
    LoginFailed,
    /// Somebody registered.
    UserRegistered,
    /// Somebody did not register.
    RegistrationRefused,
    /// A user has another password.
    PasswordChanged,
    /// A user who asked for another password did not get it.
    PasswordChangeRefused,
    /// A session went on with a new access token.
    SessionRefreshed,
    /// A refresh token opened nothing.
    RefreshRefused,
    /// A refresh token came again after it was turned: the session was ended.
    RefreshReused,
    /// A client did not prove who it is.
    ClientRefused,
    /// A client got a token in its own name.
    TokenIssued,
    /// Sessions were ended, by their owner or for them.
    SessionsEnded,
    /// Access tokens were called back.
    TokensRevoked,
    /// A login was not tried, because too many are.
    LoginShed,
    /// A login was not tried, because there were too many attempts before it.
    LoginLimited,
    /// A password was hashed anew, as new ones are, after its owner had signed in; or that was not possible.
    HashUpgraded,
    /// A request arrived at a layer that an outer one would have answered.
    LayersMisplaced,
    /// Something that a decision needs did not answer, or is not there.
    InfrastructureFailed,
}

impl Kind {
    /// Stable name, as in the event's field `kind`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CredentialMissing => "credential_missing",
            Self::CredentialInvalid => "credential_invalid",
            Self::AuthorizationDenied => "authorization_denied",
            Self::RequestMalformed => "request_malformed",
            Self::KeysFetched => "keys_fetched",
            Self::InfrastructureRecovered => "infrastructure_recovered",
            Self::LoginSucceeded => "login_succeeded",
            Self::LoginFailed => "login_failed",
            Self::UserRegistered => "user_registered",
            Self::RegistrationRefused => "registration_refused",
            Self::PasswordChanged => "password_changed",
            Self::PasswordChangeRefused => "password_change_refused",
            Self::SessionRefreshed => "session_refreshed",
            Self::RefreshRefused => "refresh_refused",
            Self::RefreshReused => "refresh_reused",
            Self::ClientRefused => "client_refused",
            Self::TokenIssued => "token_issued",
            Self::SessionsEnded => "sessions_ended",
            Self::TokensRevoked => "tokens_revoked",
            Self::LoginShed => "login_shed",
            Self::LoginLimited => "login_limited",
            Self::HashUpgraded => "hash_upgraded",
            Self::LayersMisplaced => "layers_misplaced",
            Self::InfrastructureFailed => "infrastructure_failed",
        }
    }
}

/// The innermost reason, which is the one that says something.
#[cfg(any(feature = "breach-client", feature = "jwks-client"))]
pub(crate) fn cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// A gate refused a request. `subject` is known only of a caller whose credential was checked; `scope` is what the caller
/// would have needed.
pub(crate) fn refused(rejection: Rejection, subject: Option<&str>, scope: Option<&ScopeSet>) {
    let verdict = rejection.verdict();
    let (kind, status, scope) = (verdict.kind.name(), verdict.status.as_u16(), scope.map(tracing::field::display));
    if matches!(rejection, Rejection::KeysUnavailable | Rejection::KeyIdRepeated | Rejection::RevocationsUnavailable) {
        // The outage is told once, where it begins, and not for each request that it hits.
        event!(target: TARGET, Level::DEBUG, kind, status, subject, scope, reason = %rejection, "request refused");
    } else if verdict.kind == Kind::InfrastructureFailed {
        event!(target: TARGET, Level::ERROR, kind, status, subject, scope, reason = %rejection, "request refused");
    } else {
        event!(target: TARGET, Level::INFO, kind, status, subject, scope, reason = %rejection, "request refused");
    }
}

/// Looks out for preflight requests, which carry no credential, at a layer that reads credentials. Clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Preflights {
    told: Arc<AtomicBool>,
}

impl Preflights {
    /// Tells of the first; of others, to whoever listens to everything. Any other request costs a look at its method.
    #[inline]
    pub(crate) fn look(&self, method: &Method, headers: &HeaderMap) {
        if *method == Method::OPTIONS && fetch::is_preflight(method, headers) {
            self.tell();
        }
    }

    #[cold]
    fn tell(&self) {
        const TEXT: &str =
            "a preflight request reached the layer that reads credentials: put CorsStrictLayer outside of it";
        let kind = Kind::LayersMisplaced.name();
        if self.told.swap(true, Relaxed) {
            event!(target: TARGET, Level::DEBUG, kind, "{TEXT}");
        } else {
            event!(target: TARGET, Level::WARN, kind, "{TEXT}");
        }
    }
}

/// A set of keys with new content was fetched.
#[cfg(feature = "jwks-client")]
pub(crate) fn keys_fetched(usable: usize, skipped: usize, ids_of_several: usize) {
    let kind = Kind::KeysFetched.name();
    if ids_of_several > 0 {
        event!(target: TARGET, Level::WARN, kind, usable, skipped, ids_of_several, "keys fetched; some ids are ambiguous");
    } else {
        event!(target: TARGET, Level::INFO, kind, usable, skipped, "keys fetched");
    }
}

/// Something that decisions need has begun to fail. Told once for each outage.
pub(crate) fn outage_begun(what: &'static str, which: &str, reason: &dyn std::fmt::Display) {
    event!(target: TARGET, Level::ERROR, kind = Kind::InfrastructureFailed.name(), what, which, %reason, "outage begun");
}

/// The outage of an issuer has outlasted its last good keys: its tokens are answered 503 from here on.
#[cfg(feature = "jwks-client")]
pub(crate) fn keys_dropped(which: &str) {
    event!(target: TARGET, Level::ERROR, kind = Kind::InfrastructureFailed.name(), what = "JWKS", which, "last good keys dropped");
}

/// It answers again.
pub(crate) fn outage_over(what: &'static str, which: &str) {
    event!(target: TARGET, Level::INFO, kind = Kind::InfrastructureRecovered.name(), what, which, "outage over");
}

/// An endpoint could not make sense of a request.
pub(crate) fn malformed(status: u16, reason: &'static str) {
    event!(target: TARGET, Level::INFO, kind = Kind::RequestMalformed.name(), status, reason, "request refused");
}

/// A user signed in.
#[cfg(feature = "password")]
pub(crate) fn login_succeeded(subject: &str, token_id: &str) {
    event!(target: TARGET, Level::INFO, kind = Kind::LoginSucceeded.name(), subject, token_id, "login succeeded");
}

/// A login failed. `subject` is known only if the login name is.
#[cfg(feature = "password")]
pub(crate) fn login_failed(subject: Option<&str>, reason: &'static str) {
    event!(target: TARGET, Level::INFO, kind = Kind::LoginFailed.name(), subject, reason, "login failed");
}

/// Somebody registered. What they call themselves is not told.
#[cfg(feature = "password")]
pub(crate) fn user_registered(subject: &str) {
    event!(target: TARGET, Level::INFO, kind = Kind::UserRegistered.name(), subject, "user registered");
}

/// Somebody did not register.
#[cfg(feature = "password")]
pub(crate) fn registration_refused(reason: &'static str) {
    event!(target: TARGET, Level::INFO, kind = Kind::RegistrationRefused.name(), reason, "registration refused");
}

/// A user has another password. `by` whose will it is.
#[cfg(feature = "password")]
pub(crate) fn password_changed(subject: &str, by: &'static str) {
    event!(target: TARGET, Level::INFO, kind = Kind::PasswordChanged.name(), subject, by, "password changed");
}

/// A user did not get another password.
#[cfg(feature = "password")]
pub(crate) fn password_change_refused(subject: &str, reason: &'static str) {
    event!(target: TARGET, Level::INFO, kind = Kind::PasswordChangeRefused.name(), subject, reason, "password not changed");
}

/// A hash was replaced by one that is made as new ones are.
#[cfg(feature = "password")]
pub(crate) fn hash_upgraded(subject: &str) {
    event!(target: TARGET, Level::INFO, kind = Kind::HashUpgraded.name(), subject, "password hash upgraded");
}

/// A hash stays as it is until its owner signs in again. Their login has not failed.
#[cfg(feature = "password")]
pub(crate) fn hash_not_upgraded(subject: &str, reason: &dyn std::fmt::Display) {
    event!(target: TARGET, Level::WARN, kind = Kind::HashUpgraded.name(), subject, %reason, "password hash not upgraded");
}

/// A session went on. `again`: for a client that asked twice within the grace.
#[cfg(feature = "password")]
pub(crate) fn session_refreshed(subject: &str, session: SessionId, token_id: &str, again: bool) {
    let kind = Kind::SessionRefreshed.name();
    event!(target: TARGET, Level::INFO, kind, subject, %session, token_id, again, "session refreshed");
}

/// A refresh token opened nothing. The session is known only if it is there.
#[cfg(feature = "password")]
pub(crate) fn refresh_refused(session: Option<(&str, SessionId)>, reason: &'static str) {
    let (subject, session) = session.map(|(subject, id)| (subject, tracing::field::display(id))).unzip();
    event!(target: TARGET, Level::INFO, kind = Kind::RefreshRefused.name(), subject, session, reason, "refresh refused");
}

/// A token that was turned came again: somebody has a copy.
#[cfg(feature = "password")]
pub(crate) fn refresh_reused(subject: &str, session: SessionId) {
    event!(target: TARGET, Level::WARN, kind = Kind::RefreshReused.name(), subject, %session, "session ended: refresh token reused");
}

/// A client did not prove who it is. Its id is in the configuration, or is not told.
pub(crate) fn client_refused(client_id: Option<&str>, reason: &'static str) {
    event!(target: TARGET, Level::INFO, kind = Kind::ClientRefused.name(), client_id, reason, "client refused");
}

/// A client got a token in its own name.
pub(crate) fn token_issued(client_id: &str, token_id: &str) {
    event!(target: TARGET, Level::INFO, kind = Kind::TokenIssued.name(), client_id, token_id, "token issued");
}

/// Sessions were ended: so many, or this one.
#[cfg(feature = "password")]
pub(crate) fn sessions_ended(subject: &str, session: Option<SessionId>, ended: usize, reason: &'static str) {
    let (kind, session) = (Kind::SessionsEnded.name(), session.map(tracing::field::display));
    event!(target: TARGET, Level::INFO, kind, subject, session, ended, reason, "sessions ended");
}

/// An access token was called back.
pub(crate) fn token_revoked(subject: &str, token_id: &str) {
    event!(target: TARGET, Level::INFO, kind = Kind::TokensRevoked.name(), subject, token_id, "token revoked");
}

/// A login was not tried, because too many are.
#[cfg(feature = "password")]
pub(crate) fn login_shed() {
    let kind = Kind::LoginShed.name();
    event!(target: TARGET, Level::WARN, kind, reason = "too many passwords are being hashed", "login not tried");
}

/// A new password was accepted without the list of those that became known.
#[cfg(feature = "password")]
pub(crate) fn not_compared(reason: &dyn std::fmt::Display) {
    let kind = Kind::InfrastructureFailed.name();
    event!(target: TARGET, Level::WARN, kind, what = "breach list", %reason, "password accepted without the list");
}

/// Something that a decision needs failed. `what` names it, `reason` is its own words.
pub(crate) fn infrastructure_failed(what: &'static str, reason: &dyn std::fmt::Display) {
    event!(target: TARGET, Level::ERROR, kind = Kind::InfrastructureFailed.name(), what, %reason, "request refused");
}
