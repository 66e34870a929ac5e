//! Routes that are open on purpose, and a last gate for those about which nobody has decided.

use std::task::{Context, Poll};

use http::{Extensions, Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    gate::{GateBody, GateFuture},
    principal::{self, Anonymous, Principal},
    rejection::Rejection,
};

/// Layer that marks a route as open on purpose: [`DenyUndecidedLayer`] further in lets its requests pass, unless a layer between
/// the two asks who is calling, and nobody decides about them.
///
/// For single routes: around a router, it opens whatever is added to that later.
///
/// ```
/// use axum::{Router, routing::get};
/// use portcullis::authz::{DenyUndecidedLayer, Public};
///
/// let open: Router = Router::new().route("/health", get(|| async {})).layer(DenyUndecidedLayer).layer(Public);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Public;

impl<S> Layer<S> for Public {
    type Service = MarkPublic<S>;

    fn layer(&self, inner: S) -> Self::Service {
        MarkPublic { inner }
    }
}

/// In the extensions of a request whose route is open, before anybody has asked who is calling.
#[derive(Clone, Copy)]
struct Open;

/// Middleware from [`Public`].
#[derive(Clone, Debug)]
pub struct MarkPublic<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for MarkPublic<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let extensions = request.extensions_mut();
        if let Some(caller) = extensions.get_mut::<Principal>() {
            caller.decide(None);
        } else if let Some(stranger) = extensions.get_mut::<Anonymous>() {
            stranger.decided = true;
        } else {
            extensions.insert(Open);
        }
        self.inner.call(request)
    }
}

/// Layer that refuses what reaches it without a decision, with 500 and a line in the log: for the inside of a stack, so that
/// one that was put together wrongly lets nothing through.
///
/// Who is calling is no decision, even if it is known: that takes an [`AuthorizeLayer`](super::AuthorizeLayer) further out, if
/// only with [`SignedIn`](super::SignedIn), or [`Public`].
#[derive(Clone, Copy, Debug, Default)]
pub struct DenyUndecidedLayer;

impl<S> Layer<S> for DenyUndecidedLayer {
    type Service = DenyUndecided<S>;

    fn layer(&self, inner: S) -> Self::Service {
        DenyUndecided { inner }
    }
}

/// Middleware from [`DenyUndecidedLayer`].
#[derive(Clone, Debug)]
pub struct DenyUndecided<S> {
    inner: S,
}

/// What counts is what was decided since somebody last asked who is calling.
fn is_decided(extensions: &Extensions) -> bool {
    match (extensions.get::<Principal>(), extensions.get::<Anonymous>()) {
        (Some(caller), _) => caller.is_decided(),
        (None, Some(stranger)) => stranger.decided,
        (None, None) => extensions.get::<Open>().is_some(),
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for DenyUndecided<S>
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
        if is_decided(request.extensions()) {
            return GateFuture::forwarded(self.inner.call(request));
        }
        GateFuture::refused(request.method(), principal::refuse(&request, None, Rejection::NoDecision, None))
    }
}
