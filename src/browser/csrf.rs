//! SKELETON: whether a browser sent a request on behalf of another site.

use std::sync::Arc;

use aws_lc_rs::hmac;
use http::{HeaderMap, Method, Uri};

use crate::{
    config::{ConfigError, ConfigErrors},
    ident::SessionId,
    jwt::{Algorithm, hmac_key},
    random,
    rejection::Rejection,
    secret::Secret,
};

/// Tells requests that a browser sends for other sites. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CsrfGuard(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    trusted: Vec<String>,
    key: hmac::Key,
}

/// Builder of a [`CsrfGuard`].
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct CsrfGuardBuilder {
    trusted: Vec<String>,
    secret: Option<Secret<String>>,
}

impl CsrfGuard {
    /// Begins a guard that trusts no origin but the request's own.
    pub fn builder() -> CsrfGuardBuilder {
        CsrfGuardBuilder::default()
    }

    /// Refuses a request that may be another site's.
    pub(crate) fn check(&self, _method: &Method, _uri: &Uri, _headers: &HeaderMap) -> Result<(), Rejection> {
        Ok(())
    }

    /// A fresh token for a session, for its cookie.
    pub(crate) fn token(&self, _session: SessionId) -> Option<Secret<String>> {
        Some(Secret::new("skeleton".to_owned()))
    }
}

impl CsrfGuardBuilder {
    /// Origins whose pages may act here, such as `https://app.example`.
    pub fn trusted_origins<S: Into<String>>(mut self, origins: impl IntoIterator<Item = S>) -> Self {
        self.trusted.extend(origins.into_iter().map(Into::into));
        self
    }

    /// The secret that tokens are made with, for several machines and restarts: made at start unless set.
    pub fn secret(mut self, secret: Secret<String>) -> Self {
        self.secret = Some(secret);
        self
    }

    /// Builds the guard.
    pub fn build(self) -> Result<CsrfGuard, ConfigErrors> {
        let key = match self.secret {
            Some(secret) => hmac_key(Algorithm::Hs256, secret.expose().as_bytes())?,
            None => hmac::Key::new(
                hmac::HMAC_SHA256,
                &random::bytes::<32>().map_err(|_| ConfigError::NoRandom)?,
            ),
        };
        Ok(CsrfGuard(Arc::new(Inner { trusted: self.trusted, key })))
    }
}
