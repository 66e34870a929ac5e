//! Permissions: what a caller must have been granted.
//!
//! [`RequireScopesLayer`] sits inside [`JwtVerifyLayer`](crate::jwt::JwtVerifyLayer). A caller who lacks a scope is
//! answered `403` with a challenge that names all scopes needed, those of layers further out included. Without a
//! verifying layer outside it, it answers `500` and never lets a request pass.
//!
//! ```
//! use portcullis::authz::RequireScopesLayer;
//!
//! let reports = RequireScopesLayer::all_of(["reports:read", "audit"])?;
//! let either = RequireScopesLayer::any_of(["items", "items:read"])?;
//! assert!(RequireScopesLayer::all_of(["two scopes", ""]).is_err());
//! # Ok::<(), portcullis::config::ConfigErrors>(())
//! ```

mod layer;
mod scopes;

pub use self::layer::{RequireScopes, RequireScopesLayer};
