//! The gate: a bearer token in, a proof out.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{FutureExt as _, ready};
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    source::Fetched,
    verified::{CustomClaims, NoClaims, Verified},
    verifier::{Refused, Verifier},
};
use crate::{
    audit::Preflights,
    bearer::{Credential, is_b64token, locate},
    clock::{Clock, SystemClock, UnixSeconds},
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
    reads: Reads,
    preflights: Preflights,
}

/// Where the token is.
#[derive(Clone, Copy, Debug)]
enum Reads {
    /// In the extensions, where [`BearerExtractLayer`](crate::bearer::BearerExtractLayer) has put it.
    Credential,
    /// In the header: the work of both layers in one, for half of what they cost.
    Header { optional: bool },
}

impl<C: CustomClaims> JwtVerifyLayer<C> {
    /// A layer that lets pass what `verifier` accepts.
    pub fn new(verifier: Verifier<C>) -> Self {
        let (clock, answers, preflights) = (Arc::new(SystemClock), Answers::default(), Preflights::default());
        Self { verifier, clock, answers, reads: Reads::Credential, preflights }
    }

    /// Reads the header by itself, with no other layer outside it.
    pub(crate) fn reading_header(self, optional: bool) -> Self {
        Self { reads: Reads::Header { optional }, ..self }
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
        let (verifier, clock, answers) = (self.verifier.clone(), Arc::clone(&self.clock), self.answers.clone());
        Self { verifier, clock, answers, reads: self.reads, preflights: self.preflights.clone() }
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
        JwtVerify { inner, layer: Arc::new(self.clone()) }
    }
}

/// Middleware that verifies the bearer token; the [module docs](crate::jwt) have an example.
#[derive(Debug)]
pub struct JwtVerify<S, C = NoClaims> {
    inner: S,
    /// Shared, because some servers clone their services for each request.
    layer: Arc<JwtVerifyLayer<C>>,
}

impl<S: Clone, C> Clone for JwtVerify<S, C> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), layer: Arc::clone(&self.layer) }
    }
}

impl<C: CustomClaims> JwtVerifyLayer<C> {
    /// Puts into the extensions what the credential proves.
    fn admit<B>(&self, request: &mut Request<B>, check: Check<C>) -> Result<(), Refused> {
        let verified = match self.token(request)? {
            None => None,
            Some(token) => {
                Some(check(&self.verifier, token, self.clock.now()).map_err(|refused| match self.reads {
                    // Looked at only now, because a token that is good has no other characters.
                    Reads::Header { .. } if !is_b64token(token) => Refused::from(Rejection::MalformedCredential),
                    _ => refused,
                })?)
            }
        };
        let extensions = request.extensions_mut();
        match verified {
            None => drop(extensions.insert(Anonymous { answers: self.answers.clone() })),
            Some(verified) => drop(extensions.insert(verified.into_principal())),
        }
        Ok(())
    }

    /// The token of a request, or `None` where it may come without one.
    fn token<'r, B>(&self, request: &'r Request<B>) -> Result<Option<&'r [u8]>, Rejection> {
        match self.reads {
            Reads::Credential => match request.extensions().get::<Credential>() {
                None => Err(Rejection::LayerMissing("BearerExtractLayer")),
                Some(Credential::Absent) => Ok(None),
                Some(Credential::Bearer(token)) => Ok(Some(token.as_bytes())),
            },
            Reads::Header { optional } => {
                self.preflights.look(request.method(), request.headers());
                match locate(request.headers(), request.uri()) {
                    Ok((field, start)) => Ok(field.as_bytes().get(start..)),
                    Err(Rejection::NoCredential | Rejection::OtherScheme) if optional => Ok(None),
                    Err(rejection) => Err(rejection),
                }
            }
        }
    }

    fn refuse<B>(&self, rejection: Rejection, request: &Request<B>) -> Response<Bytes> {
        self.answers.refuse(rejection, None, Wire::of(request.headers()))
    }
}

/// The first check of a token, or the last.
type Check<C> = fn(&Verifier<C>, &[u8], UnixSeconds) -> Result<Verified<C>, Refused>;

impl<S, C, ReqBody, ResBody> Service<Request<ReqBody>> for JwtVerify<S, C>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
    C: CustomClaims,
{
    type Response = Response<GateBody<ResBody>>;
    type Error = S::Error;
    type Future = VerifyFuture<S, C, ReqBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let state = match self.layer.admit(&mut request, Verifier::check) {
            Ok(()) => State::Decided { future: GateFuture::forwarded(self.inner.call(request)) },
            Err(Refused { retry: None, rejection }) => {
                State::Decided { future: GateFuture::refused(self.layer.refuse(rejection, &request)) }
            }
            Err(Refused { retry: Some(fetched), .. }) => {
                // A clone, and not the service that is ready: what it has reserved is not held while this one waits.
                let rest = Rest { service: self.inner.clone(), layer: Arc::clone(&self.layer), request };
                State::Fetching { fetched, rest: Some(Box::new(rest)) }
            }
        };
        VerifyFuture { state }
    }
}

pin_project! {
    /// Response future of [`JwtVerify`]: decided at once, but for a token with a key that is being fetched.
    pub struct VerifyFuture<S, C, ReqBody>
    where
        S: Service<Request<ReqBody>>,
    {
        #[pin]
        state: State<S, C, ReqBody>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, C, ReqBody>
    where
        S: Service<Request<ReqBody>>,
    {
        Fetching { fetched: Fetched, rest: Option<Box<Rest<S, C, ReqBody>>> },
        Admitted { rest: Option<Box<Rest<S, C, ReqBody>>> },
        Decided { #[pin] future: GateFuture<S::Future> },
    }
}

/// What is to be done when keys have been fetched.
struct Rest<S, C, ReqBody> {
    service: S,
    layer: Arc<JwtVerifyLayer<C>>,
    request: Request<ReqBody>,
}

impl<S, C, ReqBody, ResBody> Future for VerifyFuture<S, C, ReqBody>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    C: CustomClaims,
{
    type Output = Result<Response<GateBody<ResBody>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let last: Check<C> = |verifier, token, now| verifier.check_again(token, now).map_err(Refused::from);
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProj::Decided { future } => return future.poll(cx),
                StateProj::Fetching { fetched, rest } => {
                    ready!(fetched.poll_unpin(cx));
                    // Taken once, because the state is replaced right away; so below.
                    let Some(mut rest) = rest.take() else { return Poll::Pending };
                    match rest.layer.admit(&mut rest.request, last) {
                        Ok(()) => State::Admitted { rest: Some(rest) },
                        Err(refused) => {
                            let answer = rest.layer.refuse(refused.rejection, &rest.request);
                            State::Decided { future: GateFuture::refused(answer) }
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

impl<S, C, ReqBody> fmt::Debug for VerifyFuture<S, C, ReqBody>
where
    S: Service<Request<ReqBody>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyFuture").finish_non_exhaustive()
    }
}
