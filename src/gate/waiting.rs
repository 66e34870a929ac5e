//! Gates that may have to ask before they decide: one service for all of them, and its future.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture, ready};
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{GateBody, refusal, sealed::Sealed};
use crate::audit;

/// A gate that may have to ask before it decides.
pub trait Asks: Sealed {
    /// What it is told.
    type Answer: 'static;

    /// What it makes of a request at first sight.
    #[doc(hidden)]
    fn look<B>(&self, request: &mut Request<B>) -> Sight<Self::Answer>;

    /// What it makes of a request that it has asked about.
    #[doc(hidden)]
    fn settle<B>(&self, request: &mut Request<B>, answer: Self::Answer) -> Sight<Self::Answer>;
}

/// What a gate makes of a request.
#[doc(hidden)]
#[expect(missing_debug_implementations, reason = "gates tell it to their service, and to nobody else")]
pub enum Sight<A> {
    Pass,
    Refuse(Box<Response<Bytes>>),
    Ask(BoxFuture<'static, A>),
}

/// What one of two gates is told.
#[doc(hidden)]
#[expect(missing_debug_implementations, reason = "gates tell it to their service, and to nobody else")]
pub enum OfBoth<O, I> {
    Outer(O),
    Inner(I),
}

/// A gate inside another, in one step: a request is handed on once, and the answer once.
#[derive(Debug)]
pub struct Both<O, I> {
    outer: O,
    inner: Arc<I>,
}

impl<O, I> Both<O, I> {
    pub(crate) const fn new(outer: O, inner: Arc<I>) -> Self {
        Self { outer, inner }
    }

    #[cfg(feature = "openapi")]
    pub(crate) const fn parts(&self) -> (&O, &Arc<I>) {
        (&self.outer, &self.inner)
    }
}

impl<O, I> Sealed for Both<O, I> {}

impl<O: Asks, I: Asks> Both<O, I> {
    #[inline]
    fn go_on<B>(&self, request: &mut Request<B>, outer: Sight<O::Answer>) -> Sight<<Self as Asks>::Answer> {
        match outer {
            Sight::Pass => within(self.inner.look(request)),
            Sight::Refuse(response) => Sight::Refuse(response),
            Sight::Ask(asks) => Sight::Ask(asks.map(OfBoth::Outer).boxed()),
        }
    }
}

#[inline]
fn within<O: 'static, I: 'static>(inner: Sight<I>) -> Sight<OfBoth<O, I>> {
    match inner {
        Sight::Pass => Sight::Pass,
        Sight::Refuse(response) => Sight::Refuse(response),
        Sight::Ask(asks) => Sight::Ask(asks.map(OfBoth::Inner).boxed()),
    }
}

impl<O: Asks, I: Asks> Asks for Both<O, I> {
    type Answer = OfBoth<O::Answer, I::Answer>;

    #[inline]
    fn look<B>(&self, request: &mut Request<B>) -> Sight<Self::Answer> {
        let outer = self.outer.look(request);
        self.go_on(request, outer)
    }

    fn settle<B>(&self, request: &mut Request<B>, answer: Self::Answer) -> Sight<Self::Answer> {
        match answer {
            OfBoth::Outer(answer) => {
                let outer = self.outer.settle(request, answer);
                self.go_on(request, outer)
            }
            OfBoth::Inner(answer) => within(self.inner.settle(request, answer)),
        }
    }
}

/// A service behind a gate.
#[derive(Debug)]
pub struct Gated<S, G> {
    inner: S,
    /// Shared, because some servers clone their services for each request.
    gate: Arc<G>,
}

impl<S, G> Gated<S, G> {
    pub(crate) const fn new(inner: S, gate: Arc<G>) -> Self {
        Self { inner, gate }
    }
}

impl<S: Clone, G> Clone for Gated<S, G> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), gate: Arc::clone(&self.gate) }
    }
}

impl<S, G, ReqBody, ResBody> Service<Request<ReqBody>> for Gated<S, G>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
    G: Asks,
{
    type Response = Response<GateBody<ResBody>>;
    type Error = S::Error;
    type Future = AskFuture<S, G, ReqBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let state = match self.gate.look(&mut request) {
            Sight::Pass => State::Forwarded { future: self.inner.call(request) },
            Sight::Refuse(response) => State::Refused { response: Some(refusal(request.method(), response)) },
            Sight::Ask(answer) => {
                audit::keep_out(true);
                // Clones, in place of the service that is ready: what it has reserved is neither held while this one waits, nor
                // by whoever called, where this one would wait for it.
                self.inner = self.inner.clone();
                let rest = Rest { service: self.inner.clone(), gate: Arc::clone(&self.gate), request };
                State::Asking { answer, rest: Some(Box::new(rest)) }
            }
        };
        AskFuture { state }
    }
}

pin_project! {
    /// Response future of a gate that may have to ask: decided at once, but for a request that it has to ask about.
    ///
    /// Dropping it drops the question.
    pub struct AskFuture<S, G, ReqBody>
    where
        S: Service<Request<ReqBody>>,
        G: Asks,
    {
        #[pin]
        state: State<S, G, ReqBody>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, G, ReqBody>
    where
        S: Service<Request<ReqBody>>,
        G: Asks,
    {
        Asking { answer: BoxFuture<'static, G::Answer>, rest: Option<Box<Rest<S, G, ReqBody>>> },
        Admitted { rest: Option<Box<Rest<S, G, ReqBody>>> },
        Forwarded { #[pin] future: S::Future },
        // Boxed, so that the common case does not carry room for a whole response.
        Refused { response: Option<Box<Response<Bytes>>> },
    }
}

/// What is to be done when the answer is there.
struct Rest<S, G, ReqBody> {
    service: S,
    gate: Arc<G>,
    request: Request<ReqBody>,
}

impl<S, G, ReqBody, ResBody> Future for AskFuture<S, G, ReqBody>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    G: Asks,
{
    type Output = Result<Response<GateBody<ResBody>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            // What is taken is there: the state is replaced right away, or the future has ended and must not be polled again.
            let next = match state.as_mut().project() {
                StateProj::Forwarded { future } => {
                    return future.poll(cx).map(|result| result.map(|response| response.map(GateBody::inner)));
                }
                StateProj::Refused { response } => {
                    let Some(response) = response.take() else { return Poll::Pending };
                    return Poll::Ready(Ok(response.map(GateBody::whole)));
                }
                StateProj::Asking { answer, rest } => {
                    let answer = ready!(answer.poll_unpin(cx));
                    let Some(mut rest) = rest.take() else { return Poll::Pending };
                    match rest.gate.settle(&mut rest.request, answer) {
                        Sight::Pass => State::Admitted { rest: Some(rest) },
                        Sight::Refuse(response) => {
                            State::Refused { response: Some(refusal(rest.request.method(), response)) }
                        }
                        Sight::Ask(answer) => State::Asking { answer, rest: Some(rest) },
                    }
                }
                StateProj::Admitted { rest } => {
                    let Some(waiting) = rest.as_mut() else { return Poll::Pending };
                    ready!(waiting.service.poll_ready(cx))?;
                    let Some(mut rest) = rest.take() else { return Poll::Pending };
                    audit::keep_out(false);
                    State::Forwarded { future: rest.service.call(rest.request) }
                }
            };
            state.set(next);
        }
    }
}

impl<S, G, ReqBody> fmt::Debug for AskFuture<S, G, ReqBody>
where
    S: Service<Request<ReqBody>>,
    G: Asks,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AskFuture").finish_non_exhaustive()
    }
}
