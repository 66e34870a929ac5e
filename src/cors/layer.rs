//! The gate: preflight requests are answered here, other answers are told whose pages may read them.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use arc_swap::ArcSwap;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ORIGIN, VARY,
    },
};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::policy::{CorsPolicy, Origins, Reader, Refusal, Rules};
use crate::{audit, caching, fetch::Preflight};

const ALLOW_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");

/// Layer that lets pages of other origins in, as far as a [`CorsPolicy`] allows; the [module docs](crate::cors) have an example.
///
/// Clones, and the services that they make, share one policy, which can be [replaced](Self::replace) while they serve.
#[derive(Clone, Debug)]
#[must_use]
pub struct CorsStrictLayer {
    shared: Arc<Shared>,
}

struct Shared {
    rules: ArcSwap<Rules>,
    explain: AtomicBool,
}

impl CorsStrictLayer {
    /// A layer with this policy.
    pub fn new(policy: CorsPolicy) -> Self {
        Self { shared: Arc::new(Shared { rules: ArcSwap::new(policy.0), explain: AtomicBool::new(false) }) }
    }

    /// Puts another policy in place of the one that there is, for every clone of this layer and every service that they made.
    /// Requests wait for nothing: one that is under way is answered by the policy that it met.
    ///
    /// ```
    /// use portcullis::cors::{CorsPolicy, CorsStrictLayer};
    ///
    /// let cors = CorsStrictLayer::new(CorsPolicy::builder().origins(["https://app.example"]).build()?);
    /// let handle = cors.clone();
    /// // …the router has the layer; later:
    /// handle.replace(CorsPolicy::builder().origins(["https://app.example", "https://new.example"]).build()?);
    /// # Ok::<(), portcullis::config::ConfigErrors>(())
    /// ```
    pub fn replace(&self, policy: CorsPolicy) {
        self.shared.rules.store(policy.0);
    }

    /// Has the log say why pages are refused, or not, as it does not unless told, for every clone of this layer. Answers are the same.
    /// An event with the target `portcullis::cors` for each, with up to 100 bytes of what the client sent: ten a second of level `INFO`,
    /// with the number of those that were of level `DEBUG` since the last.
    ///
    /// ```
    /// # use portcullis::cors::{CorsPolicy, CorsStrictLayer};
    /// let cors = CorsStrictLayer::new(CorsPolicy::builder().origins(["https://app.example"]).build()?);
    /// cors.explain(cfg!(debug_assertions));
    /// # Ok::<(), portcullis::config::ConfigErrors>(())
    /// ```
    pub fn explain(&self, explain: bool) {
        self.shared.explain.store(explain, Ordering::Relaxed);
    }
}

impl<S> Layer<S> for CorsStrictLayer {
    type Service = CorsStrict<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CorsStrict { inner, shared: Arc::clone(&self.shared) }
    }
}

/// Middleware that answers preflight requests, and tells browsers who may read other answers; the [module docs](crate::cors) have
/// an example.
#[derive(Clone, Debug)]
pub struct CorsStrict<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl Shared {
    /// What is to be said of a request.
    fn decide<B>(&self, request: &mut Request<B>) -> Says {
        let (rules, headers) = (self.rules.load(), request.headers());
        let Some(asked) = Preflight::of(request.method(), headers) else {
            let reader = rules.reader(headers);
            if let (Reader::Nobody, Some(origin)) = (reader, headers.get(ORIGIN)) {
                self.explain(&Refusal::OriginNotAllowed(origin.as_bytes()));
            }
            return Says::Reader(reader.field(), Arc::clone(&rules));
        };
        let granted = rules.preflight(asked, headers).inspect_err(|refusal| self.explain(refusal));
        let (granted, private_network) = (granted.ok().and_then(Reader::field), asked.private_network);
        // The request goes no further: in its own fields' place there is room for those of the answer, so none is allocated.
        let mut says = std::mem::take(request.headers_mut());
        says.clear();
        says.insert(VARY, rules.preflight_vary.clone());
        if let Some(reader) = granted {
            says.insert(ACCESS_CONTROL_ALLOW_ORIGIN, reader);
            for (name, value) in &rules.granted {
                says.insert(name, value.clone());
            }
            if private_network {
                says.insert(ALLOW_PRIVATE_NETWORK, HeaderValue::from_static("true"));
            }
        }
        Says::Permission(says)
    }

    fn explain(&self, refusal: &Refusal<'_>) {
        if self.explain.load(Ordering::Relaxed) {
            audit::page_refused(refusal);
        }
    }
}

/// What an answer says.
enum Says {
    /// To a preflight request: what it may do, if anything.
    Permission(HeaderMap),
    /// To any other: who may read it.
    Reader(Option<HeaderValue>, Arc<Rules>),
}

/// The answer to a preflight request: always an ok status, and permission or none.
fn permission<B: Default>(says: HeaderMap) -> Response<B> {
    let mut response = Response::new(B::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    *response.headers_mut() = says;
    response
}

/// Names who may read another answer, whatever its status: a script is to see why it was refused.
fn name_reader(headers: &mut HeaderMap, reader: Option<HeaderValue>, rules: &Rules) {
    // One place says who may read: what a handler said about that does not count.
    for name in [ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_EXPOSE_HEADERS] {
        headers.remove(name);
    }
    if matches!(rules.origins, Origins::Listed { .. }) {
        // Also where no origin was sent: a cache must not give this answer to a page that is allowed.
        caching::vary(headers, &HeaderValue::from_static("Origin"));
    }
    let Some(reader) = reader else { return };
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, reader);
    if rules.credentials {
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    if let Some(exposed) = &rules.exposed {
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed.clone());
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for CorsStrict<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: Default,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = CorsFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let says = self.shared.decide(&mut request);
        let inner = if matches!(says, Says::Permission(_)) { None } else { Some(self.inner.call(request)) };
        CorsFuture { inner, says: Some(says) }
    }
}

pin_project! {
    /// Response future of [`CorsStrict`]: the inner service's, or the answer to a preflight request, which is ready at once.
    pub struct CorsFuture<F> {
        #[pin]
        inner: Option<F>,
        says: Option<Says>,
    }
}

impl<F, B, E> Future for CorsFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Default,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = match this.inner.as_pin_mut() {
            Some(inner) => Some(ready!(inner.poll(cx))?),
            None => None,
        };
        Poll::Ready(match (this.says.take(), answer) {
            (Some(Says::Reader(reader, rules)), Some(mut answer)) => {
                name_reader(answer.headers_mut(), reader, &rules);
                Ok(answer)
            }
            (Some(Says::Permission(says)), _) => Ok(permission(says)),
            // Polled again after it was ready, which the contract of `Future` forbids.
            _ => return Poll::Pending,
        })
    }
}

impl<F> fmt::Debug for CorsFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CorsFuture").finish_non_exhaustive()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("rules", &self.rules.load()).field("explain", &self.explain).finish()
    }
}
