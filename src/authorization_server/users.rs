//! What a program does with users and their sessions.

use std::sync::Arc;

use tower_layer::Layer;

use super::AuthorizationServer;
#[cfg(feature = "openapi")]
use crate::{authz::AuthorizeLayer, resource_server::AuthenticateLayer};
use crate::{
    authz::{CurrentUserLayer, CurrentUsers, Policy, PolicyGate, UserGate},
    config::{ConfigError, ConfigErrors},
    endpoint::NotChanged,
    gate::{Both, Gated},
    ident::{LoginName, SessionId, UserId},
    jwt::JwtVerifyLayer,
    principal::Principal,
    rejection::Rejection,
    secret::Secret,
    store::{StoreError, UserRecord, active_user},
};

impl AuthorizationServer {
    /// Ends a session: its refresh token opens nothing any more, nor does any access token that it was given. `false` if there
    /// is none.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if a store does not answer: call again.
    pub async fn end_session(&self, id: SessionId) -> Result<bool, StoreError> {
        self.issuer.end_session_of(None, id, "ended by the program").await
    }

    /// Ends all sessions of a user, or all but one, and says how many. With all of them, access tokens without a session end
    /// as well.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if a store does not answer: call again.
    pub async fn end_sessions(&self, user: &UserId, except: Option<SessionId>) -> Result<usize, StoreError> {
        self.issuer.end_sessions_of(user.subject(), except, "ended by the program").await
    }

    /// Gives a user another password and ends their sessions, all or all but one (RFC 9700 §4.14.2, ASVS 7.4.3). `false` if
    /// there is no such user. For administrators: neither the old password is asked for, nor the policy; see
    /// [`check_password`](Self::check_password).
    ///
    /// # Errors
    ///
    /// [`Rejection::StoreUnavailable`] if the hasher is overloaded or a store does not answer. Whether the password was changed
    /// is open then: call again.
    pub async fn set_password(
        &self,
        user: &UserId,
        password: Secret<String>,
        except: Option<SessionId>,
    ) -> Result<bool, Rejection> {
        self.issuer.set_password(user.clone(), password, except).await.map_err(|error| {
            let what = match error {
                NotChanged::Hash(_) => "password hasher",
                NotChanged::Store(_) => "store",
            };
            crate::audit::infrastructure_failed(what, &error);
            Rejection::StoreUnavailable
        })
    }

    /// Lets strangers sign in to an account again that has failed too often; `false` if it had not failed. Devices that are known
    /// there have a count of their own.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if a store does not answer: call again.
    pub async fn unlock(&self, account: &LoginName) -> Result<bool, StoreError> {
        match &self.issuer.limiter {
            Some(limiter) => {
                let unlocked = limiter.unlock(account).await?;
                if unlocked {
                    crate::audit::user_changed(None, "unlocked");
                }
                Ok(unlocked)
            }
            None => Ok(false),
        }
    }

    /// Disables a user and ends all of their sessions (ASVS 7.4.2), or enables them again. `false` if there is no such user.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if a store does not answer: call again.
    pub async fn set_disabled(&self, user: &UserId, disabled: bool) -> Result<bool, StoreError> {
        self.issuer.set_disabled(user.clone(), disabled).await
    }

    /// A layer, to sit inside [`ResourceServer::authenticate`](crate::ResourceServer::authenticate), that refuses callers who are
    /// none of this server's users, or were disabled since their token was issued, and leaves the
    /// [`CurrentUser`](crate::authz::CurrentUser) with the others. Users are read anew after 5 seconds, and at once where
    /// [`set_disabled`](Self::set_disabled) has changed them; for other times, see [`current_users`](Self::current_users).
    ///
    /// # Errors
    ///
    /// [`ConfigError::CurrentUserWithoutLogin`] if the server has no users.
    pub fn current_user(&self) -> Result<CurrentUserLayer, ConfigErrors> {
        Ok(self.current_users()?.layer())
    }

    /// The users that [`current_user`](Self::current_user) looks at: to keep them for another time, or to
    /// [`forget`](CurrentUsers::forget) one whom the program has changed by itself.
    ///
    /// # Errors
    ///
    /// As [`current_user`](Self::current_user).
    pub fn current_users(&self) -> Result<CurrentUsers, ConfigErrors> {
        Ok(self.issuer.current.clone().ok_or(ConfigError::CurrentUserWithoutLogin)?)
    }

    /// All that a route of this server's users needs, in the one right order: the token is verified, then the user is looked up as
    /// in [`current_user`](Self::current_user), then `policy` decides.
    ///
    /// # Errors
    ///
    /// As [`current_user`](Self::current_user).
    pub fn protect<P: Policy>(&self, policy: P) -> Result<ProtectUsersLayer<P>, ConfigErrors> {
        let verify = self.own.verify_for(&policy.scopes());
        let inner = Both::new(self.current_user()?.gate(), self.own.authorize(policy).gate());
        Ok(ProtectUsersLayer { gate: Arc::new(Both::new(verify, Arc::new(inner))) })
    }

    /// The user who is calling, if they may still act: for routes that must know at once that somebody was disabled,
    /// because a token says what was true when it was issued.
    ///
    /// # Errors
    ///
    /// [`Rejection::PolicyDenied`] if the caller is none of this server's users: a client, or another issuer's user;
    /// [`Rejection::UserInactive`] if they are disabled, [`Rejection::UserGone`] if they are not there any more;
    /// [`Rejection::StoreUnavailable`] if the store cannot tell.
    pub async fn active_user(&self, caller: &Principal) -> Result<UserRecord, Rejection> {
        let login = self.issuer.login.as_ref().ok_or(Rejection::PolicyDenied)?;
        active_user(&*login.users, &self.issuer.name, caller).await
    }
}

/// What the layers for routes of a server's own users answer and let pass, in one step: from [`AuthorizationServer::protect`].
#[derive(Debug)]
#[must_use]
pub struct ProtectUsersLayer<P> {
    gate: Arc<UsersGate<P>>,
}

type UsersGate<P> = Both<JwtVerifyLayer, Both<UserGate, PolicyGate<P>>>;

/// Middleware from [`ProtectUsersLayer`].
pub type ProtectUsers<S, P> = Gated<S, UsersGate<P>>;

/// Whether the policy can be cloned makes no difference.
impl<P> Clone for ProtectUsersLayer<P> {
    fn clone(&self) -> Self {
        Self { gate: Arc::clone(&self.gate) }
    }
}

#[cfg(feature = "openapi")]
impl<P> ProtectUsersLayer<P> {
    /// What it is made of, from the outside in.
    pub(crate) fn layers(&self) -> (AuthenticateLayer, CurrentUserLayer, AuthorizeLayer<P>) {
        let (verify, inner) = self.gate.parts();
        let (users, policy) = inner.parts();
        (AuthenticateLayer::demanding(verify), CurrentUserLayer::of(users), AuthorizeLayer::of(policy))
    }
}

impl<S, P> Layer<S> for ProtectUsersLayer<P> {
    type Service = ProtectUsers<S, P>;

    fn layer(&self, inner: S) -> Self::Service {
        Gated::new(inner, Arc::clone(&self.gate))
    }
}
