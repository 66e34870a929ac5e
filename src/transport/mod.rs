//! TLS and the headers that go with it; [the guide](crate::guide::transport) says in which order, and what a proxy must do.
//!
//! [`RequireHttpsLayer`] refuses what comes in the clear. [`HstsLayer`] keeps browsers from coming so, and
//! [`SecureHeadersLayer`] keeps answers out of frames and caches. None of them believes a client on how it came:
//! [`Scheme`] says who is believed.
//!
//! ```
//! use axum::{Router, routing::get};
//! use portcullis::{
//!     client_ip::TrustedProxies,
//!     transport::{HstsLayer, RequireHttpsLayer, SecureHeadersLayer},
//! };
//!
//! let proxies = TrustedProxies::parse(["10.0.0.0/8"])?;
//! let app: Router = Router::new()
//!     .route("/", get(|| async { "hello" }))
//!     .layer(RequireHttpsLayer::new(proxies.clone()).redirect_to("https://api.example")?)
//!     .layer(SecureHeadersLayer::new())
//!     .layer(HstsLayer::new(proxies));
//! # Ok::<(), portcullis::config::ConfigErrors>(())
//! ```

mod hsts;
mod https;
mod secure_headers;

pub use self::{
    hsts::{Hsts, HstsBuilder, HstsField, HstsLayer},
    https::{RequireHttps, RequireHttpsLayer},
    secure_headers::{SecureFields, SecureHeaders, SecureHeadersLayer},
};
pub use crate::client_ip::Scheme;
