//! A user as the store has them, and as anyone else may see them.

use std::fmt;

use serde::Serialize;

use crate::{
    ident::{LoginName, UserId},
    scope::ScopeSet,
};

/// A password's hash in PHC string format. Prints as `[redacted]` and cannot be serialised.
#[derive(Clone, Eq, PartialEq)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// Takes over a PHC string. Whether a hasher can read it shows when it is used.
    pub fn from_phc(phc: impl Into<String>) -> Self {
        Self(phc.into())
    }

    /// The PHC string, for a store to keep.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A user as the store has them, hash included. It cannot be serialised: [`UserPublic`] can, and has no hash.
///
/// ```compile_fail,E0277
/// fn leak(user: &portcullis::store::UserRecord) -> String {
///     serde_json::to_string(user).unwrap_or_default()
/// }
/// ```
#[derive(Clone, Debug)]
pub struct UserRecord {
    /// Identifier that never changes.
    pub id: UserId,
    /// What they type to sign in.
    pub login: LoginName,
    /// Hash of their password.
    pub password: PasswordHash,
    /// What they may be granted.
    pub scopes: ScopeSet,
    /// Whether they are kept from signing in.
    pub disabled: bool,
}

impl UserRecord {
    /// What others may see.
    pub fn public(&self) -> UserPublic {
        UserPublic {
            id: self.id.clone(),
            username: self.login.as_str().to_owned(),
            scopes: self.scopes.clone(),
            disabled: self.disabled,
        }
    }
}

/// A user as others may see them.
///
/// ```
/// use portcullis::{ident::*, store::*};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let user = UserRecord {
///     id: UserId::random()?,
///     login: LoginName::parse("Alice")?,
///     password: PasswordHash::from_phc("$argon2id$..."),
///     scopes: "me".parse()?,
///     disabled: false,
/// };
/// let json = serde_json::to_string(&user.public())?;
/// assert!(json.contains("alice") && !json.contains("argon2"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct UserPublic {
    /// Identifier that never changes.
    pub id: UserId,
    /// What they type to sign in.
    pub username: String,
    /// What they may be granted.
    pub scopes: ScopeSet,
    /// Whether they are kept from signing in.
    pub disabled: bool,
}
