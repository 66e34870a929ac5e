//! The future of a gate that may have to ask before it decides.

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

use super::{GateBody, GateFuture, sealed::Sealed};

/// A gate that may have to ask before it decides.
pub trait Asks: Sealed {
    /// What it is told.
    type Answer;

    /// Lets the request pass, or says how it is refused.
    #[doc(hidden)]
    fn settle<B>(&self, request: &mut Request<B>, answer: Self::Answer) -> Result<(), Box<Response<Bytes>>>;
}

/// What a gate makes of a request at first sight.
pub(crate) enum Sight<A> {
    Pass,
    Refuse(Box<Response<Bytes>>),
    Ask(BoxFuture<'static, A>),
}

impl<A> From<Result<(), Box<Response<Bytes>>>> for Sight<A> {
    fn from(settled: Result<(), Box<Response<Bytes>>>) -> Self {
        settled.map_or_else(Self::Refuse, |()| Self::Pass)
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
        Decided { #[pin] future: GateFuture<S::Future> },
    }
}

/// What is to be done when the answer is there.
struct Rest<S, G, ReqBody> {
    service: S,
    gate: Arc<G>,
    request: Request<ReqBody>,
}

impl<S, G, ReqBody, ResBody> AskFuture<S, G, ReqBody>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
    G: Asks,
{
    /// Goes on with the request as the gate saw it. `service` is ready.
    #[inline]
    pub(crate) fn new(sight: Sight<G::Answer>, service: &mut S, gate: &Arc<G>, request: Request<ReqBody>) -> Self {
        let state = match sight {
            Sight::Pass => State::Decided { future: GateFuture::forwarded(service.call(request)) },
            Sight::Refuse(response) => State::Decided { future: GateFuture::refused(request.method(), response) },
            Sight::Ask(answer) => {
                // Clones, in place of the service that is ready: what it has reserved is neither held while this one waits, nor
                // by whoever called, where this one would wait for it.
                *service = service.clone();
                let rest = Rest { service: service.clone(), gate: Arc::clone(gate), request };
                State::Asking { answer, rest: Some(Box::new(rest)) }
            }
        };
        Self { state }
    }
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
            let next = match state.as_mut().project() {
                StateProj::Decided { future } => return future.poll(cx),
                StateProj::Asking { answer, rest } => {
                    let answer = ready!(answer.poll_unpin(cx));
                    // Taken once, because the state is replaced right away; so below.
                    let Some(mut rest) = rest.take() else { return Poll::Pending };
                    match rest.gate.settle(&mut rest.request, answer) {
                        Ok(()) => State::Admitted { rest: Some(rest) },
                        Err(response) => {
                            State::Decided { future: GateFuture::refused(rest.request.method(), response) }
                        }
                    }
                }
                StateProj::Admitted { rest } => {
                    let Some(waiting) = rest.as_mut() else { return Poll::Pending };
                    ready!(waiting.service.poll_ready(cx))?;
                    let Some(mut rest) = rest.take() else { return Poll::Pending };
                    State::Decided { future: GateFuture::forwarded(rest.service.call(rest.request)) }
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
