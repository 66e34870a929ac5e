//! Who signs in with this name and password? One answer, and one amount of work, for all who do not.

use std::sync::Arc;

use super::hasher::{HashError, PasswordHasher};
use crate::{
    audit,
    ident::LoginName,
    secret::Secret,
    store::{StoreError, UserRecord, UserStore},
};

/// Users and the pool that checks their passwords.
#[derive(Clone)]
pub(crate) struct PasswordLogin {
    pub(crate) users: Arc<dyn UserStore>,
    pub(crate) hasher: PasswordHasher,
}

/// How a login ended.
pub(crate) enum Outcome {
    /// The password is this user's, and the user may sign in.
    SignedIn(Box<UserRecord>),
    /// It did not work; clients do not learn why.
    Refused,
    /// It could not be tried. Try again after so many seconds.
    Unavailable { retry_after: u64 },
}

impl PasswordLogin {
    /// Looks the user up and checks the password. Unknown, disabled and mistyped users cost one hash alike.
    pub(crate) async fn sign_in(&self, name: &str, password: Secret<String>) -> Outcome {
        let user = match LoginName::parse(name) {
            Ok(login) => match self.users.find_by_login(&login).await {
                Ok(user) => user,
                Err(error) => return store_failed(&error),
            },
            // No user can have such a name.
            Err(_) => None,
        };
        let Some(user) = user else {
            return match self.hasher.verify_nobody(password).await {
                Ok(()) => refused(None, "unknown user"),
                Err(error) => hasher_failed(error),
            };
        };
        let fits = match self.hasher.verify(password.clone(), user.password.clone()).await {
            Err(HashError::Unreadable) => {
                audit::infrastructure_failed("stored password hash", &HashError::Unreadable);
                self.hasher.verify_nobody(password).await.map(|()| false)
            }
            fits => fits,
        };
        match fits {
            Ok(true) if !user.disabled => Outcome::SignedIn(Box::new(user)),
            Ok(true) => refused(Some(&user), "user disabled"),
            Ok(false) => refused(Some(&user), "wrong password"),
            Err(error) => hasher_failed(error),
        }
    }
}

fn refused(user: Option<&UserRecord>, reason: &'static str) -> Outcome {
    audit::login_failed(user.map(|user| user.id.subject()).as_deref(), reason);
    Outcome::Refused
}

fn store_failed(error: &StoreError) -> Outcome {
    audit::infrastructure_failed("user store", error);
    Outcome::Unavailable { retry_after: crate::rejection::RETRY_SECONDS }
}

fn hasher_failed(error: HashError) -> Outcome {
    audit::infrastructure_failed("password hasher", &error);
    // A queue of 64 is worked off in about a second.
    Outcome::Unavailable { retry_after: 1 }
}
