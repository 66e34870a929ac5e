//! The gate: one credential in, or a refusal out.

use std::task::{Context, Poll};

use http::{Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use super::credentials::{self, Credential};
use crate::{
    audit::Preflights,
    gate::{GateBody, GateFuture},
    rejection::{Answers, Rejection, Wire},
};

/// Layer that applies [`BearerExtract`]; the [module docs](crate::bearer) have an example.
#[derive(Clone, Debug)]
#[must_use]
pub struct BearerExtractLayer {
    optional: bool,
    answers: Answers,
    preflights: Preflights,
}

impl BearerExtractLayer {
    /// Refuses requests without a credential.
    pub fn required() -> Self {
        Self { optional: false, answers: Answers::default(), preflights: Preflights::default() }
    }

    /// Lets requests without a credential pass, as [`Credential::Absent`]. A bad credential is refused all the same.
    pub fn optional() -> Self {
        Self { optional: true, ..Self::required() }
    }

    /// Sets the realm of the challenges: `api` unless set.
    pub fn answers(self, answers: Answers) -> Self {
        Self { answers, ..self }
    }
}

impl<S> Layer<S> for BearerExtractLayer {
    type Service = BearerExtract<S>;

    fn layer(&self, inner: S) -> Self::Service {
        BearerExtract { inner, layer: self.clone() }
    }
}

/// Middleware that reads one bearer credential; the [module docs](crate::bearer) have an example.
#[derive(Clone, Debug)]
pub struct BearerExtract<S> {
    inner: S,
    layer: BearerExtractLayer,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for BearerExtract<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
{
    type Response = Response<GateBody<ResBody>>;
    type Error = S::Error;
    type Future = GateFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        self.layer.preflights.look(request.method(), request.headers());
        let credential = match credentials::read(request.headers(), request.uri()) {
            Ok(token) => Credential::Bearer(token),
            Err(Rejection::NoCredential | Rejection::OtherScheme) if self.layer.optional => Credential::Absent,
            Err(rejection) => {
                let wire = Wire::of(request.headers());
                return GateFuture::refused(request.method(), self.layer.answers.refuse(rejection, None, wire));
            }
        };
        request.extensions_mut().insert(credential);
        GateFuture::forwarded(self.inner.call(request))
    }
}
