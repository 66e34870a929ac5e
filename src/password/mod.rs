//! Passwords: Argon2id in a pool that cannot be made to take more than its share, and a login that tells nothing.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use portcullis::{password::PasswordHasher, secret::Secret};
//!
//! let hasher = PasswordHasher::builder().build()?;
//! let hash = hasher.hash(Secret::from("correct horse battery staple")).await?;
//! assert!(hasher.verify(Secret::from("correct horse battery staple"), hash.clone()).await?);
//! assert!(!hasher.verify(Secret::from("Tr0ub4dor&3"), hash).await?);
//! # Ok(())
//! # }
//! ```

mod argon2id;
mod breach;
mod common;
mod hasher;
mod login;
mod pattern;
mod policy;
mod refusal;

#[cfg(feature = "breach-client")]
pub use self::breach::BreachClient;
pub(crate) use self::login::{Outcome, PasswordLogin};
pub use self::{
    argon2id::Argon2Params,
    breach::{BreachFuture, BreachList, BreachListError, Breaches, WhenDown},
    hasher::{HashError, PasswordHasher, PasswordHasherBuilder},
    policy::{Composition, PasswordContext, PasswordPolicy, PasswordPolicyBuilder},
    refusal::{CharacterKind, PasswordRefusal, PasswordRefusals},
};
