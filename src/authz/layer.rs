//! The gate: a caller in, and on if the scopes are there.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use http::{Extensions, Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use super::scopes::Requirement;
use crate::{
    config::ConfigErrors,
    gate::{GateBody, GateFuture},
    principal::{self, Principal},
    rejection::{Answers, Rejection, Wire},
    scope::ScopeSet,
};

/// Layer that applies [`RequireScopes`]; the [module docs](crate::authz) have an example.
#[derive(Clone, Debug)]
#[must_use]
pub struct RequireScopesLayer {
    requirement: Requirement,
    answers: Answers,
}

impl RequireScopesLayer {
    /// Demands every one of `scopes`.
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`] that name each text that is no scope, or say that there is none.
    pub fn all_of<S: AsRef<str>>(scopes: impl IntoIterator<Item = S>) -> Result<Self, ConfigErrors> {
        Ok(Self { requirement: Requirement::new(scopes, true)?, answers: Answers::default() })
    }

    /// Demands at least one of `scopes`. The challenge names them all.
    ///
    /// # Errors
    ///
    /// As [`all_of`](Self::all_of).
    pub fn any_of<S: AsRef<str>>(scopes: impl IntoIterator<Item = S>) -> Result<Self, ConfigErrors> {
        Ok(Self { requirement: Requirement::new(scopes, false)?, answers: Answers::default() })
    }

    /// Sets the realm of the challenges: `api` unless set.
    pub fn answers(self, answers: Answers) -> Self {
        Self { answers, ..self }
    }

    /// Refuses, or notes in the caller what was demanded.
    fn admit(&self, extensions: &mut Extensions) -> Result<(), (Rejection, Option<ScopeSet>)> {
        let Some(caller) = extensions.get_mut::<Principal>() else {
            return Err((principal::absence(extensions).0, None));
        };
        if !self.requirement.is_met_by(caller) {
            return Err((Rejection::InsufficientScope, Some(caller.demanded_with(self.requirement.scopes()))));
        }
        caller.demand(self.requirement.scopes());
        Ok(())
    }
}

impl<S> Layer<S> for RequireScopesLayer {
    type Service = RequireScopes<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RequireScopes { inner, layer: Arc::new(self.clone()) }
    }
}

/// Middleware that demands scopes; the [module docs](crate::authz) have an example.
#[derive(Clone, Debug)]
pub struct RequireScopes<S> {
    inner: S,
    /// Shared, because some servers clone their services for each request.
    layer: Arc<RequireScopesLayer>,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for RequireScopes<S>
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
        match self.layer.admit(request.extensions_mut()) {
            Ok(()) => GateFuture::forwarded(self.inner.call(request)),
            Err((rejection, scopes)) => {
                let wire = Wire::of(request.headers());
                let subject = request.extensions().get().map(Principal::subject);
                GateFuture::refused(self.layer.answers.refuse_caller(subject, rejection, scopes.as_ref(), wire))
            }
        }
    }
}
