//! Limits on signing in: who may guess how often, and how an owner gets in all the same.
//!
//! An attempt is counted before the password is looked at, and taken back if it turns out to be none or to be right: parallel
//! guesses cannot slip past, nor can one whose connection is dropped. It counts under the address that it comes from, and as a
//! failure on the account that it names, whether or not there is such an account. A device where the account's owner has signed
//! in before shows a token for that, and has a count of its own: however much strangers guess, its owner gets in.
//!
//! [`AuthorizationServer`](crate::AuthorizationServer) has all of this around its own endpoints. For another program's login route:
//!
//! ```
//! use axum::{Router, routing::post};
//! use portcullis::login::{AccountField, LoginLimiter, LoginRateLimitLayer, Lockout, Quota};
//!
//! # async fn sign_in() {}
//! let limiter = LoginLimiter::builder()
//!     .per_address(Quota::per_minute(30))
//!     .per_account(Lockout::default().free(5))
//!     .build()?;
//! let limit = LoginRateLimitLayer::new(limiter, AccountField::json("email"));
//! let app: Router = Router::new().route("/login", post(sign_in)).layer(limit);
//! # Ok::<(), portcullis::config::ConfigErrors>(())
//! ```

mod account;
mod breaker;
mod device;
mod fields;
mod layer;
mod limiter;
mod pace;

#[cfg(feature = "password")]
pub(crate) use self::fields::refuse;
pub use self::{
    account::{AccountField, ReadAccount, UnreadableAccount},
    device::DEVICE_COOKIE,
    layer::{LoginRateLimit, LoginRateLimitLayer},
    limiter::{LoginAttempt, LoginLimiter, LoginLimiterBuilder, LoginOutcome, WhenDown, Who},
};
pub use crate::throttle::{AttemptKey, Begun, Counted, Failures, Limit, Lockout, Quota, Taken};
