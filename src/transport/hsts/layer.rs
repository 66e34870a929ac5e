//! The gate that tells browsers to keep to TLS.

use std::task::{Context, Poll};

use http::{HeaderValue, Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use super::{HstsBuilder, HstsField};
use crate::{
    client_ip::{Scheme, TrustedProxies},
    gate::FinishFuture,
};

/// Tells browsers to come over TLS from now on: `Strict-Transport-Security: max-age=63072000; includeSubDomains` (RFC
/// 6797).
///
/// Exactly one such field goes out with the answer to a request that came over TLS, whatever stands further in has set;
/// in the clear there is none, because browsers would not believe it and the standard forbids it. How a request came is
/// what [`TrustedProxies::scheme`] says.
///
/// Browsers keep what they are told, for every port of the name: not for `localhost`, nor before all names below this one
/// have certificates.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower::BoxError> {
/// use http::{Request, Response};
/// use portcullis::{client_ip::{Scheme, TrustedProxies}, transport::HstsLayer};
/// use tower::{BoxError, ServiceBuilder, ServiceExt};
///
/// async fn hello(_: Request<String>) -> Result<Response<String>, BoxError> {
///     Ok(Response::default())
/// }
/// let service = ServiceBuilder::new().layer(HstsLayer::new(TrustedProxies::none())).service_fn(hello);
/// let mut request = Request::new(String::new());
/// request.extensions_mut().insert(Scheme::Https);
/// let answer = service.clone().oneshot(request).await?;
/// assert_eq!(answer.headers()["strict-transport-security"], "max-age=63072000; includeSubDomains");
///
/// let answer = service.oneshot(Request::new(String::new())).await?;
/// assert!(answer.headers().is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct HstsLayer {
    pub(super) proxies: TrustedProxies,
    pub(super) field: HeaderValue,
}

impl HstsLayer {
    /// Two years, with all names below this one.
    pub const fn new(proxies: TrustedProxies) -> Self {
        Self { proxies, field: HeaderValue::from_static("max-age=63072000; includeSubDomains") }
    }

    /// For another time, or without the names below this one.
    pub const fn builder(proxies: TrustedProxies) -> HstsBuilder {
        HstsBuilder::new(proxies)
    }
}

impl<S> Layer<S> for HstsLayer {
    type Service = Hsts<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Hsts { inner, layer: self.clone() }
    }
}

/// Service of [`HstsLayer`].
#[derive(Clone, Debug)]
pub struct Hsts<S> {
    inner: S,
    layer: HstsLayer,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Hsts<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = FinishFuture<S::Future, HstsField>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let scheme = self.layer.proxies.scheme(request.extensions(), request.headers());
        let field = HstsField((scheme == Scheme::Https).then(|| self.layer.field.clone()));
        FinishFuture::new(self.inner.call(request), field)
    }
}
