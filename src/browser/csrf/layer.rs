//! The gate: requests of other sites stop here.

use std::task::{Context, Poll};

use http::{Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use super::CsrfGuard;
use crate::{
    gate::{GateBody, GateFuture},
    rejection::{Answers, Wire},
};

/// Layer that applies [`Csrf`]; the [module docs](crate::browser) have an example.
///
/// Around routes that know their callers by a cookie of the program's own, tell the guard its
/// [name](super::CsrfGuardBuilder::session_cookies).
#[derive(Clone, Debug)]
#[must_use]
pub struct CsrfLayer {
    guard: CsrfGuard,
    answers: Answers,
}

impl CsrfLayer {
    /// A layer that refuses what `guard` refuses.
    pub fn new(guard: CsrfGuard) -> Self {
        Self { guard, answers: Answers::default() }
    }

    /// Sets how it answers.
    pub fn answers(self, answers: Answers) -> Self {
        Self { answers, ..self }
    }
}

impl<S> Layer<S> for CsrfLayer {
    type Service = Csrf<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Csrf { inner, layer: self.clone() }
    }
}

/// Middleware that refuses requests of other sites; the [module docs](crate::browser) have an example.
#[derive(Clone, Debug)]
pub struct Csrf<S> {
    inner: S,
    layer: CsrfLayer,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Csrf<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
{
    type Response = Response<GateBody<ResBody>>;
    type Error = S::Error;
    type Future = GateFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let CsrfLayer { guard, answers } = &self.layer;
        match guard.check(request.method(), request.uri(), request.headers()) {
            Ok(()) => GateFuture::forwarded(self.inner.call(request)),
            Err(rejection) => {
                GateFuture::refused(request.method(), answers.refuse(rejection, None, Wire::of(request.headers())))
            }
        }
    }
}
