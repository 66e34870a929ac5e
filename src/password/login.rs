//! Who signs in with this name and password? One answer, and one amount of work, for all who do not.

use std::sync::Arc;

use super::hasher::{Check, HashError, PasswordHasher};
use crate::{
    audit,
    ident::LoginName,
    secret::Secret,
    store::{StoreError, UserRecord, UserStore, within},
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
            Ok(login) => match within(self.users.find_by_login(&login)).await {
                Ok(user) => user,
                Err(error) => return store_failed(&error),
            },
            // No user can have such a name.
            Err(_) => None,
        };
        let hash = user.as_ref().map(|user| user.password.clone());
        match (self.hasher.check(password, hash).await, user) {
            (Ok(Check::Fits), Some(user)) if !user.disabled => Outcome::SignedIn(Box::new(user)),
            (Ok(Check::Fits), user) => refused(user.as_ref(), "user disabled"),
            (Ok(Check::Differs), Some(user)) => refused(Some(&user), "wrong password"),
            (Ok(Check::Differs), None) => refused(None, "unknown user"),
            (Ok(Check::Unreadable), user) => refused(user.as_ref(), "stored password hash cannot be read"),
            (Err(error), _) => hasher_failed(error),
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
    match error {
        // Not ours to repair, and as frequent as an attacker likes.
        HashError::Overloaded => audit::login_shed(),
        _ => audit::infrastructure_failed("password hasher", &error),
    }
    // A queue of 64 is worked off in about a second.
    Outcome::Unavailable { retry_after: 1 }
}
