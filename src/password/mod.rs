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
//!
//! Hashes that were made otherwise, with other parameters, another [pepper](PasswordHasherBuilder::pepper) or, with the
//! feature `legacy-hashes`, by another algorithm, are good as well: a login with the right password replaces them.

mod argon2id;
mod breach;
mod common;
mod context;
mod cost;
mod hasher;
#[cfg(feature = "legacy-hashes")]
mod legacy;
mod login;
mod pattern;
mod pepper;
mod policy;
mod pool;
mod refusal;
mod stored;
mod worker;

const TARGET: &str = "portcullis::password";

#[cfg(feature = "breach-client")]
pub use self::breach::BreachClient;
#[cfg(feature = "legacy-hashes")]
pub use self::legacy::Legacy;
pub use self::{
    argon2id::Argon2Params,
    breach::{BreachFuture, BreachList, BreachListError, Breaches, WhenDown},
    context::PasswordContext,
    hasher::{HashError, PasswordHasher, PasswordHasherBuilder},
    policy::{Composition, PasswordPolicy, PasswordPolicyBuilder},
    refusal::{CharacterKind, PasswordRefusal, PasswordRefusals},
};
pub(crate) use self::{
    login::{Outcome, PasswordLogin, SignedIn},
    pool::Lane,
};
