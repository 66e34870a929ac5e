//! Sessions that pages keep in cookies.

use std::{sync::Arc, time::Duration};

use super::{AuthorizationServer, AuthorizationServerBuilder};
use crate::{
    config::{ConfigError, ConfigErrors},
    endpoint::{CookieSessionEndpoint, Does, SessionCookies},
    resource_server::CookieAuthenticateLayer,
};

impl AuthorizationServer {
    /// The service for `/session` and `/session/refresh`, if pages may keep sessions in
    /// [cookies](AuthorizationServerBuilder::session_cookies). Logins are within the same limit as the token endpoint's.
    pub fn session_endpoint(&self) -> Option<CookieSessionEndpoint> {
        CookieSessionEndpoint::new(Arc::clone(&self.issuer), self.limited(Does::SignIn), self.own.answers().clone())
    }

    /// What reads the caller of the server's own endpoints: the header, and the cookie where access tokens are in one.
    pub(super) fn own_callers(&self) -> CookieAuthenticateLayer {
        let cookies = self.issuer.cookies.as_ref();
        self.own.authenticate_either(cookies.and_then(SessionCookies::guard_of_access))
    }
}

impl AuthorizationServerBuilder {
    /// Lets pages keep sessions in cookies: none may unless set. Needs [`first_party_login`](Self::first_party_login), and
    /// [`sessions`](Self::sessions) with a grace.
    pub fn session_cookies(mut self, cookies: SessionCookies) -> Self {
        self.cookies = Some(cookies);
        self
    }

    pub(super) fn check_cookies(&self, errors: &mut ConfigErrors) {
        if self.cookies.is_none() {
            return;
        }
        if self.login.is_none() {
            errors.push(ConfigError::CookiesWithoutLogin);
        }
        match &self.sessions {
            Some(sessions) if sessions.policy.grace < Duration::from_secs(1) => {
                errors.push(ConfigError::CookiesWithoutGrace(sessions.policy.grace));
            }
            Some(_) => {}
            None => errors.push(ConfigError::CookiesWithoutSessions),
        }
    }
}
