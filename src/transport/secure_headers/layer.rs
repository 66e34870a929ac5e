//! The gate that adds fields to answers.

use std::task::{Context, Poll};

use http::{Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use super::SecureFields;
use crate::gate::FinishFuture;

/// Adds fields to answers that keep browsers and caches from doing more with them than was meant.
///
/// | field | on | what the handler has set |
/// |---|---|---|
/// | `X-Content-Type-Options: nosniff` | every answer | is replaced |
/// | `X-Frame-Options: DENY` | every answer | is kept |
/// | `Content-Security-Policy: frame-ancestors 'none'` | every answer without `X-Frame-Options` of the handler's own | is kept |
/// | `Referrer-Policy: no-referrer` | every answer | is kept |
/// | `Cache-Control: no-store` | answers to requests with `Authorization` or `Cookie`, and those that set a cookie | is kept if it has `no-store` or `private` |
///
/// `Cross-Origin-Resource-Policy` is left out: it would close an API to pages of other origins that may use it. So are
/// `Permissions-Policy` and a policy for scripts, which only the author of a page knows.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower::BoxError> {
/// use http::{Request, Response};
/// use portcullis::transport::SecureHeadersLayer;
/// use tower::{BoxError, ServiceBuilder, ServiceExt};
///
/// async fn hello(_: Request<String>) -> Result<Response<String>, BoxError> {
///     Ok(Response::default())
/// }
/// let service = ServiceBuilder::new().layer(SecureHeadersLayer::new()).service_fn(hello);
/// let request = Request::builder().header("authorization", "Bearer abc").body(String::new())?;
/// let answer = service.oneshot(request).await?;
/// assert_eq!(answer.headers()["cache-control"], "no-store");
/// assert_eq!(answer.headers()["x-frame-options"], "DENY");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct SecureHeadersLayer(());

impl SecureHeadersLayer {
    /// A layer that adds them all.
    pub const fn new() -> Self {
        Self(())
    }
}

impl<S> Layer<S> for SecureHeadersLayer {
    type Service = SecureHeaders<S>;

    fn layer(&self, inner: S) -> Self::Service {
        SecureHeaders { inner }
    }
}

/// Service of [`SecureHeadersLayer`].
#[derive(Clone, Debug)]
pub struct SecureHeaders<S> {
    inner: S,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for SecureHeaders<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = FinishFuture<S::Future, SecureFields>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let fields = SecureFields::of(request.headers());
        FinishFuture::new(self.inner.call(request), fields)
    }
}
