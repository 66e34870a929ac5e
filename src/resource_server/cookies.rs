//! The layers for browsers, stacked.

use tower_layer::Layer;

use crate::{
    browser::{CookieExtract, CookieExtractLayer, CsrfGuard},
    jwt::{CustomClaims, JwtVerify, JwtVerifyLayer, NoClaims},
    rejection::Answers,
};

/// [`CookieExtractLayer`] around [`JwtVerifyLayer`]: from [`ResourceServer::authenticate_cookie`](super::ResourceServer::authenticate_cookie).
#[derive(Debug)]
#[must_use]
pub struct CookieAuthenticateLayer<C = NoClaims> {
    extract: CookieExtractLayer,
    verify: JwtVerifyLayer<C>,
}

/// Whether the claims can be cloned makes no difference.
impl<C> Clone for CookieAuthenticateLayer<C> {
    fn clone(&self) -> Self {
        Self { extract: self.extract.clone(), verify: self.verify.clone() }
    }
}

impl<C: CustomClaims> CookieAuthenticateLayer<C> {
    pub(super) fn new(guard: CsrfGuard, verify: JwtVerifyLayer<C>, answers: Answers) -> Self {
        Self { extract: CookieExtractLayer::new(guard).answers(answers), verify }
    }

    /// Reads the header alone, for services that are of one type with cookies and without.
    #[cfg(feature = "password")]
    pub(super) fn without_cookies(verify: JwtVerifyLayer<C>, answers: Answers) -> Self {
        Self { extract: CookieExtractLayer::header_alone().answers(answers), verify }
    }

    /// As [`CookieExtractLayer::or_bearer`].
    pub fn or_bearer(self) -> Self {
        Self { extract: self.extract.or_bearer(), ..self }
    }

    /// Whether it reads the cookie, and whether the header.
    #[cfg(feature = "openapi")]
    pub(crate) const fn reads(&self) -> (bool, bool) {
        self.extract.reads()
    }

    /// What its answers are like.
    #[cfg(feature = "openapi")]
    pub(crate) fn answer_style(&self) -> crate::rejection::AnswerStyle {
        self.verify.answer_style()
    }

    /// Whether requests without a credential pass.
    #[cfg(feature = "openapi")]
    pub(crate) const fn is_optional(&self) -> bool {
        self.extract.is_optional()
    }

    /// As [`CookieExtractLayer::optional`].
    pub fn optional(self) -> Self {
        Self { extract: self.extract.optional(), ..self }
    }
}

impl<S, C: CustomClaims> Layer<S> for CookieAuthenticateLayer<C> {
    type Service = CookieExtract<JwtVerify<S, C>>;

    fn layer(&self, inner: S) -> Self::Service {
        self.extract.layer(self.verify.layer(inner))
    }
}
