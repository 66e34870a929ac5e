//! Pages to read before the reference: how the pieces fit, what they refuse, and how each promise is proved.

#[doc = include_str!("ten_minutes.md")]
pub mod ten_minutes {}

#[doc = include_str!("layers.md")]
pub mod layers {}

#[doc = include_str!("frameworks.md")]
pub mod frameworks {}

#[doc = include_str!("sessions.md")]
#[cfg(feature = "password")]
pub mod sessions {}

#[doc = include_str!("providers.md")]
pub mod providers {}

#[doc = include_str!("cors.md")]
pub mod cors {}

#[doc = include_str!("cookies.md")]
pub mod cookies {}

#[doc = include_str!("passwords.md")]
#[cfg(feature = "password")]
pub mod passwords {}

#[doc = include_str!("limits.md")]
#[cfg(feature = "password")]
pub mod limits {}

#[doc = include_str!("transport.md")]
pub mod transport {}

#[doc = include_str!("testing.md")]
#[cfg(all(feature = "testing", feature = "openapi", feature = "password"))]
pub mod testing {}

#[doc = include_str!("from_fastapi.md")]
pub mod from_fastapi {}

#[doc = include_str!("from_jwt.md")]
pub mod from_jwt {}

#[doc = include_str!("deployment.md")]
pub mod deployment {}

#[doc = include_str!("audit.md")]
#[cfg(feature = "axum")]
pub mod audit {}

#[doc = include_str!("metrics.md")]
#[cfg(all(feature = "metrics", feature = "axum"))]
pub mod metrics {}

#[doc = include_str!("tracing.md")]
pub mod tracing {}

#[doc = include_str!("openapi.md")]
#[cfg(feature = "openapi")]
pub mod openapi {}

#[doc = include_str!("defaults.md")]
pub mod defaults {}

#[doc = include_str!("threats.md")]
pub mod threats {}

#[doc = include_str!("faults.md")]
pub mod faults {}

#[doc = include_str!("requirements.md")]
pub mod requirements {}

#[doc = include_str!("house.md")]
pub mod house {}

// First, because the first of two definitions counts: the page's own ones lead to files that rustdoc does not copy.
#[doc = include_str!("figures/images.md")]
#[doc = include_str!("figures.md")]
pub mod figures {}
