//! New users and new passwords.

use std::sync::Arc;

use tower_layer::Layer as _;

use super::{AuthorizationServer, AuthorizationServerBuilder};
use crate::{
    config::{ConfigError, ConfigErrors},
    endpoint::{Accounts, PasswordEndpoint, RegisterEndpoint, Registration, SignedInEndpoint},
    ident::LoginName,
    password::{Breaches, PasswordPolicy, PasswordRefusals},
    secret::Secret,
};

impl AuthorizationServer {
    /// The service for `POST /register`, if [registration](AuthorizationServerBuilder::registration) is open.
    pub fn register_endpoint(&self) -> Option<RegisterEndpoint> {
        self.issuer.accounts.registration.as_ref()?;
        Some(RegisterEndpoint::new(Arc::clone(&self.issuer), self.own.answers().clone()))
    }

    /// The service for `POST /password`, behind the layers that verify whose it is, if there are users who have one.
    pub fn password_endpoint(&self) -> Option<SignedInEndpoint<PasswordEndpoint>> {
        self.issuer.login.as_ref()?;
        let endpoint = PasswordEndpoint::new(Arc::clone(&self.issuer), self.own.answers().clone());
        Some(SignedInEndpoint(self.own_callers().layer(endpoint)))
    }

    /// What new passwords must be like.
    pub fn password_policy(&self) -> &PasswordPolicy {
        &self.issuer.accounts.policy
    }

    /// Whether a user of this name may choose this password: for programs that add users, or
    /// [set passwords](Self::set_password), themselves. The list of known passwords is asked, too, if there is one.
    ///
    /// # Errors
    ///
    /// [`PasswordRefusals`], with every reason at once; the list is only asked about what the policy lets pass.
    pub async fn check_password(&self, name: &LoginName, password: &Secret<String>) -> Result<(), PasswordRefusals> {
        self.issuer.accounts.check(name, password).await
    }
}

impl AuthorizationServerBuilder {
    /// Sets what new passwords must be like, at `/register` and `/password`: [`PasswordPolicy::default`] unless set.
    /// Passwords that are there already are not looked at.
    pub fn password_policy(mut self, policy: PasswordPolicy) -> Self {
        self.accounts.policy = policy;
        self
    }

    /// Compares new passwords with a list of those that became known: with none unless set.
    pub fn breaches(mut self, breaches: Breaches) -> Self {
        self.accounts.breaches = Some(breaches);
        self
    }

    /// Lets strangers become users, by `POST /register`: nobody may unless set.
    pub fn registration(mut self, registration: Registration) -> Self {
        self.accounts.registration = Some(registration);
        self
    }

    pub(super) fn check_accounts(&mut self, errors: &mut ConfigErrors) {
        let Accounts { breaches, registration, .. } = &mut self.accounts;
        if let Some(breaches) = breaches {
            breaches.check(errors);
        }
        if let Some(registration) = registration {
            registration.check(errors);
            if self.login.is_none() {
                errors.push(ConfigError::RegistrationWithoutLogin);
            }
        }
    }
}
