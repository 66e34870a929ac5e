//! The gate: a bearer token in, a proof out.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use super::verifier::{CustomClaims, NoClaims, Verifier};
use crate::{
    bearer::Credential,
    clock::{Clock, SystemClock},
    gate::{GateBody, GateFuture},
    principal::Anonymous,
    rejection::{Answers, Rejection, Wire},
};

/// Layer that applies [`JwtVerify`]; the [module docs](crate::jwt) have an example.
#[must_use]
pub struct JwtVerifyLayer<C = NoClaims> {
    verifier: Verifier<C>,
    clock: Arc<dyn Clock>,
    answers: Answers,
}

impl<C: CustomClaims> JwtVerifyLayer<C> {
    /// A layer that lets pass what `verifier` accepts.
    pub fn new(verifier: Verifier<C>) -> Self {
        Self { verifier, clock: Arc::new(SystemClock), answers: Answers::default() }
    }

    /// Sets where the time is read: the system's clock unless set.
    pub fn clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// Sets the realm of the challenges: `api` unless set.
    pub fn answers(self, answers: Answers) -> Self {
        Self { answers, ..self }
    }
}

impl<C> Clone for JwtVerifyLayer<C> {
    fn clone(&self) -> Self {
        Self { verifier: self.verifier.clone(), clock: Arc::clone(&self.clock), answers: self.answers.clone() }
    }
}

impl<C> fmt::Debug for JwtVerifyLayer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtVerifyLayer").field("verifier", &self.verifier).finish_non_exhaustive()
    }
}

impl<S, C: CustomClaims> Layer<S> for JwtVerifyLayer<C> {
    type Service = JwtVerify<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        JwtVerify { inner, layer: self.clone() }
    }
}

/// Middleware that verifies the bearer token; the [module docs](crate::jwt) have an example.
#[derive(Debug)]
pub struct JwtVerify<S, C = NoClaims> {
    inner: S,
    layer: JwtVerifyLayer<C>,
}

impl<S: Clone, C> Clone for JwtVerify<S, C> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), layer: self.layer.clone() }
    }
}

impl<S, C: CustomClaims> JwtVerify<S, C> {
    /// Puts into the extensions what the credential proves.
    fn admit<B>(&self, request: &mut Request<B>) -> Result<(), Rejection> {
        let extensions = request.extensions_mut();
        match extensions.get::<Credential>() {
            None => Err(Rejection::LayerMissing("BearerExtractLayer")),
            Some(Credential::Absent) => {
                extensions.insert(Anonymous { answers: self.layer.answers.clone() });
                Ok(())
            }
            Some(Credential::Bearer(token)) => {
                let verified = self.layer.verifier.verify_at(token.as_bytes(), self.layer.clock.now())?;
                extensions.insert(verified.principal());
                extensions.insert(verified);
                Ok(())
            }
        }
    }
}

impl<S, C, ReqBody, ResBody> Service<Request<ReqBody>> for JwtVerify<S, C>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    C: CustomClaims,
{
    type Response = Response<GateBody<ResBody>>;
    type Error = S::Error;
    type Future = GateFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        match self.admit(&mut request) {
            Ok(()) => GateFuture::forwarded(self.inner.call(request)),
            Err(rejection) => {
                let wire = Wire::of(request.headers());
                GateFuture::refused(self.layer.answers.refuse(rejection, None, wire))
            }
        }
    }
}
