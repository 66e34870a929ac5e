//! What all gates share: a body that is somebody else's or was made here, and the future that yields it.

mod waiting;

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Response, header::CONTENT_LENGTH};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pub use self::waiting::{AskFuture, Asks, Both, Gated, Sight};

pin_project! {
    /// Body that passed a gate: of a response, the inner service's own or the refusal's; of a request, as it came or read whole.
    ///
    /// `Debug` shows how long one is that was read, and not what it says: it may be a login.
    pub struct GateBody<B> {
        #[pin]
        kind: BodyKind<B>,
    }
}

pin_project! {
    #[project = BodyKindProj]
    enum BodyKind<B> {
        Inner { #[pin] body: B },
        Whole { text: Option<Bytes> },
    }
}

impl<B> GateBody<B> {
    pub(crate) const fn inner(body: B) -> Self {
        Self { kind: BodyKind::Inner { body } }
    }

    /// A body that is all there.
    pub(crate) fn whole(text: Bytes) -> Self {
        Self { kind: BodyKind::Whole { text: Some(text).filter(|text| !text.is_empty()) } }
    }
}

impl<B: fmt::Debug> fmt::Debug for GateBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            BodyKind::Inner { body } => f.debug_tuple("GateBody").field(body).finish(),
            BodyKind::Whole { text } => {
                let length = text.as_ref().map_or(0, Bytes::len);
                f.debug_struct("GateBody").field("length", &length).finish_non_exhaustive()
            }
        }
    }
}

impl<B: Default> Default for GateBody<B> {
    fn default() -> Self {
        Self::inner(B::default())
    }
}

impl<B: Body<Data = Bytes>> Body for GateBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match self.project().kind.project() {
            BodyKindProj::Inner { body } => body.poll_frame(cx),
            BodyKindProj::Whole { text } => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            BodyKind::Inner { body } => body.is_end_stream(),
            BodyKind::Whole { text } => text.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            BodyKind::Inner { body } => body.size_hint(),
            BodyKind::Whole { text } => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
        }
    }
}

pin_project! {
    /// Response future of a gate: the inner service's answer, or a refusal that is ready at once.
    #[derive(Debug)]
    pub struct GateFuture<F> {
        #[pin]
        kind: FutureKind<F>,
    }
}

pin_project! {
    #[project = FutureKindProj]
    #[derive(Debug)]
    enum FutureKind<F> {
        Forwarded { #[pin] future: F },
        // Boxed, so that the common case does not carry room for a whole response.
        Refused { response: Option<Box<Response<Bytes>>> },
    }
}

impl<F> GateFuture<F> {
    pub(crate) const fn forwarded(future: F) -> Self {
        Self { kind: FutureKind::Forwarded { future } }
    }

    /// The answer to a request with this method.
    pub(crate) fn refused(method: &Method, response: impl Into<Box<Response<Bytes>>>) -> Self {
        Self { kind: FutureKind::Refused { response: Some(refusal(method, response.into())) } }
    }
}

impl<F, B, E> Future for GateFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<GateBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            FutureKindProj::Forwarded { future } => {
                future.poll(cx).map(|result| result.map(|response| response.map(GateBody::inner)))
            }
            FutureKindProj::Refused { response } => match response.take() {
                Some(response) => Poll::Ready(Ok(response.map(GateBody::whole))),
                // Polled again after it was ready, which the contract of `Future` forbids.
                None => Poll::Pending,
            },
        }
    }
}

/// The answer to a request with this method.
fn refusal(method: &Method, mut response: Box<Response<Bytes>>) -> Box<Response<Bytes>> {
    if leaves_out_content(method, response.body().len() as u64, response.headers_mut()) {
        response.body_mut().clear();
    }
    response
}

/// Whether the answer is to go without its content, of which the length is told then (RFC 9110 §9.3.2). Servers see to that over
/// HTTP/1.1; over HTTP/2 hyper sends what is there, and the client takes it for a broken stream.
pub(crate) fn leaves_out_content(method: &Method, length: u64, headers: &mut HeaderMap) -> bool {
    let leaves_out = *method == Method::HEAD && length > 0;
    if leaves_out {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    leaves_out
}

/// What a gate adds to the headers of the answer, whoever made it.
pub trait Finish: sealed::Sealed {
    /// Adds it.
    #[doc(hidden)]
    fn finish(self, headers: &mut HeaderMap);
}

pub(crate) mod sealed {
    /// Gates of this crate alone add something.
    pub trait Sealed {}
}

pin_project! {
    /// Response future of a gate that adds to the answer's headers.
    #[derive(Debug)]
    pub struct FinishFuture<F, A> {
        #[pin]
        future: F,
        adds: Option<A>,
    }
}

impl<F, A> FinishFuture<F, A> {
    pub(crate) const fn new(future: F, adds: A) -> Self {
        Self { future, adds: Some(adds) }
    }
}

impl<F, A, B, E> Future for FinishFuture<F, A>
where
    F: Future<Output = Result<Response<B>, E>>,
    A: Finish,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut result = std::task::ready!(this.future.poll(cx));
        if let (Ok(response), Some(adds)) = (&mut result, this.adds.take()) {
            adds.finish(response.headers_mut());
        }
        Poll::Ready(result)
    }
}
