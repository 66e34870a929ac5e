//! Permissions: what a caller must have been granted, or must be.
//!
//! [`AuthorizeLayer`] applies a [`Policy`], [`RequireScopesLayer`] the commonest of them. They sit inside
//! [`JwtVerifyLayer`](crate::jwt::JwtVerifyLayer), or whatever else proves a caller; without it they answer `500` and never let a
//! request pass. A policy allows, denies, or cannot tell:
//!
//! | it says | answer |
//! |---|---|
//! | scopes are missing | 403 `insufficient_scope`, with all that are needed, those of layers further out included |
//! | no | 403 |
//! | sign in again, or in a stronger way | 401 `insufficient_user_authentication` (RFC 9470) |
//! | the user is disabled, or gone | 401 `invalid_token` |
//! | what it asks does not answer | 503 |
//!
//! ```
//! use std::time::Duration;
//! use portcullis::authz::{AuthorizeLayer, Claim, RequireScopesLayer, Scopes, StepUp, all};
//!
//! let reports = RequireScopesLayer::all_of(["reports:read", "audit"])?;
//! let either = RequireScopesLayer::any_of(["items", "items:read"])?;
//! let transfer = AuthorizeLayer::new(all((
//!     Scopes::all_of(["transfer"])?,
//!     Claim::one_of("region", ["eu", "ch"])?,
//!     StepUp::within(Duration::from_secs(300)),
//! )));
//! assert!(RequireScopesLayer::all_of(["two scopes", ""]).is_err());
//! # Ok::<(), portcullis::config::ConfigErrors>(())
//! ```

mod asks;
mod claim;
mod current_user;
mod decision;
mod demand;
mod layer;
mod open;
mod policy;
mod scopes;
mod step_up;

pub(crate) use self::current_user::{enter, enter_nobody};
pub use self::{
    asks::{AsyncPolicyFn, Question, ServicePolicy, async_policy_fn},
    claim::Claim,
    current_user::{CurrentUser, CurrentUserLayer, CurrentUsers, LoadCurrentUser, UserGate},
    decision::{Decision, Denial},
    layer::{Authorize, AuthorizeLayer, PolicyGate, RequireScopes, RequireScopesLayer},
    open::{DenyUndecided, DenyUndecidedLayer, MarkPublic, Public},
    policy::{
        Access, All, Any, IssuedBy, Not, Outcome, Policies, Policy, PolicyFn, SignedIn, all, any, not, policy_fn,
    },
    scopes::Scopes,
    step_up::StepUp,
};
