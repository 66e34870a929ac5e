//! The gate that lets everybody pass, and sees what becomes of them.

use std::{
    pin::Pin,
    task::{Context as Task, Poll},
};

use http::{Request, Response, StatusCode};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    context::{Boxed, Context, spare, within},
    tell,
    trail::AuditTrail,
};
use crate::stripe::Striped;

/// Layer that joins events to the request they are about, and hands them to a trail: what layers and endpoints further in decide,
/// and a sample of the requests that they let through.
///
/// It goes outside of whatever decides, or refusals are not seen, and inside of [`ClientIpLayer`](crate::client_ip::ClientIpLayer),
/// or clients are unknown behind a proxy. It changes neither requests nor answers, and what it adds to a request that is let
/// through allocates nothing once it is warm, unless the request is in the sample or more than 64 are under way on a thread. Sinks
/// get what was decided with the answer, whose status it tells; if the client goes away before, then.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), portcullis::config::ConfigErrors> {
/// use axum::{Router, routing::get};
/// use portcullis::audit::{AuditLayer, AuditTrail};
///
/// let trail = AuditTrail::builder().start()?;
/// let app: Router = Router::new().route("/", get(|| async {})).layer(AuditLayer::new(trail));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct AuditLayer {
    trail: AuditTrail,
}

impl AuditLayer {
    /// A layer that hands events to `trail`.
    pub const fn new(trail: AuditTrail) -> Self {
        Self { trail }
    }
}

impl<S> Layer<S> for AuditLayer {
    type Service = Audit<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Audit { inner, trail: std::sync::Arc::new(Striped::new(|| self.trail.apart())) }
    }
}

/// Service of [`AuditLayer`].
#[derive(Clone, Debug)]
pub struct Audit<S> {
    inner: S,
    /// Each request takes a reference along; each core counts its own.
    trail: std::sync::Arc<Striped<AuditTrail>>,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Audit<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = AuditFuture<S::Future>;

    fn poll_ready(&mut self, task: &mut Task<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(task)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        // Filled where it is, and so below: what is moved here is moved for each request.
        let mut future = AuditFuture { inner: None, context: Some(Boxed::of(self.trail.own().clone(), &request)) };
        let here = within(&mut future.context);
        future.inner = Some(self.inner.call(request));
        drop(here);
        future
    }
}

pin_project! {
    /// Response future of [`Audit`].
    #[derive(Debug)]
    pub struct AuditFuture<F> {
        // None once it has answered.
        #[pin]
        inner: Option<F>,
        context: Option<Boxed>,
    }

    impl<F> PinnedDrop for AuditFuture<F> {
        /// A client has gone before its answer. What is told because of that is told of its request, and what was decided is told
        /// all the same.
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let here = within(this.context);
            this.inner.set(None);
            drop(here);
            if let Some(context) = this.context.take() {
                end(context, None);
            }
        }
    }
}

/// The answer is there, or will not come.
fn end(mut context: Boxed, status: Option<StatusCode>) {
    let admitted = context.get().and_then(Context::admitted);
    let mut context = Some(context);
    if let Some(who) = admitted {
        let _here = within(&mut context);
        tell::admitted(who, status);
    }
    // The last that is told of it.
    if let Some(mut context) = context {
        if let Some(context) = context.get() {
            context.finish(status);
        }
        spare(context);
    }
}

impl<F, B, E> Future for AuditFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else { return Poll::Pending };
        let here = within(this.context);
        let answer = inner.poll(task);
        if answer.is_pending() {
            return answer;
        }
        // What it leaves undone, such as a login that took too long for a layer in between, is told of this request, too.
        this.inner.set(None);
        drop(here);
        if let Some(context) = this.context.take() {
            let status = if let Poll::Ready(Ok(response)) = &answer { Some(response.status()) } else { None };
            end(context, status);
        }
        answer
    }
}
