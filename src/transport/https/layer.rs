//! The gate: over TLS, or not at all.

use std::task::{Context, Poll};

use http::{Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use super::{Passage, Rules};
use crate::{
    client_ip::TrustedProxies,
    config::ConfigErrors,
    gate::{GateBody, GateFuture},
    rejection::{Answers, Rejection, Wire},
};

/// Refuses what comes in the clear: `403`, without a challenge, and the handler is not called.
///
/// A redirect would hide that a client sends its credentials for all to read, and the next request would begin in the
/// clear again. So clients that show one are never [redirected](Self::redirect_to).
///
/// How a request came is what [`TrustedProxies::scheme`] says. The credential in a refused request has been seen by
/// whoever was listening; this layer makes sure that it is noticed at once, in development.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower::BoxError> {
/// use http::{Request, Response, StatusCode};
/// use portcullis::{client_ip::{Scheme, TrustedProxies}, transport::RequireHttpsLayer};
/// use tower::{BoxError, ServiceBuilder, ServiceExt};
///
/// async fn hello(_: Request<String>) -> Result<Response<String>, BoxError> {
///     Ok(Response::default())
/// }
/// let https = RequireHttpsLayer::new(TrustedProxies::parse(["10.0.0.0/8"])?);
/// let service = ServiceBuilder::new().layer(https).service_fn(hello);
/// let answer = service.clone().oneshot(Request::new(String::new())).await?;
/// assert_eq!(answer.status(), StatusCode::FORBIDDEN);
///
/// let mut request = Request::new(String::new());
/// request.extensions_mut().insert(Scheme::Https);
/// assert_eq!(service.oneshot(request).await?.status(), StatusCode::OK);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct RequireHttpsLayer {
    rules: Rules,
    answers: Answers,
}

impl RequireHttpsLayer {
    /// Refuses every request that came in the clear, as far as these proxies know.
    pub fn new(proxies: TrustedProxies) -> Self {
        Self { rules: Rules { proxies, redirect: None, loopback: false }, answers: Answers::default() }
    }

    /// Sets how refusals are worded; they carry no challenge, so the realm does not show.
    pub fn answers(self, answers: Answers) -> Self {
        Self { answers, ..self }
    }

    /// Sends those who come in the clear to the same path and query at this origin, such as `https://api.example`: `308`,
    /// for `GET` and `HEAD` without credentials. For browsers that have not heard of
    /// [HSTS](crate::transport::HstsLayer) yet.
    ///
    /// A request with `Authorization`, `Proxy-Authorization`, `Cookie`, or `access_token` in its query is refused all the
    /// same; so is one whose address would be longer than 8,000 bytes, or has bytes outside of ASCII. The host that a
    /// client names is not looked at. Routers that cut off the beginning of the path, such as axum's `nest`, must be
    /// further in.
    ///
    /// # Errors
    ///
    /// [`ConfigError::RedirectOrigin`](crate::config::ConfigError::RedirectOrigin) for what is no origin as browsers
    /// write it, [`ConfigError::RedirectTarget`](crate::config::ConfigError::RedirectTarget) for one without TLS, or a
    /// pattern.
    pub fn redirect_to(mut self, origin: &str) -> Result<Self, ConfigErrors> {
        self.rules.redirect = Some(super::origin(origin)?);
        Ok(self)
    }

    /// Lets what comes in the clear pass from a loopback address, for development.
    ///
    /// A proxy on this machine has such an address, too, and speaks for strangers. Therefore a request is not let pass if
    /// its peer is a trusted proxy, or if it carries `Forwarded`, `X-Forwarded-` anything, `X-Real-IP` or `Via`. That
    /// does not catch a proxy that writes none of them, as nginx does unless told to, nor tunnels and port forwarding.
    /// Leave it out in production.
    pub fn allow_loopback(mut self) -> Self {
        self.rules.loopback = true;
        self
    }
}

impl<S> Layer<S> for RequireHttpsLayer {
    type Service = RequireHttps<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RequireHttps { inner, layer: self.clone() }
    }
}

/// Service of [`RequireHttpsLayer`].
#[derive(Clone, Debug)]
pub struct RequireHttps<S> {
    inner: S,
    layer: RequireHttpsLayer,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for RequireHttps<S>
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
        let RequireHttpsLayer { rules, answers } = &self.layer;
        match rules.passage(request.method(), request.uri(), request.headers(), request.extensions()) {
            Passage::Open => GateFuture::forwarded(self.inner.call(request)),
            Passage::Redirect(location) => GateFuture::refused(request.method(), super::redirect(location)),
            Passage::Closed => GateFuture::refused(
                request.method(),
                answers.refuse(Rejection::Plaintext, None, Wire::of(request.headers())),
            ),
        }
    }
}
