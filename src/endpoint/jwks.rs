//! `GET /.well-known/jwks.json`: the public keys that verify this server's tokens (RFC 7517 §5).

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use http_body_util::Full;
use tower_service::Service;

use super::error::EndpointError;

/// Service that answers `GET` and `HEAD` with the JWK set, and other methods with `405`. It never reads the body.
///
/// Caches may keep the answer for five minutes.
#[derive(Clone, Debug)]
pub struct JwksEndpoint {
    document: Bytes,
}

impl JwksEndpoint {
    pub(crate) const fn new(document: Bytes) -> Self {
        Self { document }
    }
}

impl<B> Service<Request<B>> for JwksEndpoint {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return ready(Ok(EndpointError::MethodNotAllowed { allow: "GET, HEAD" }.response()));
        }
        let mut response = Response::new(Full::new(self.document.clone()));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/jwk-set+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
        ready(Ok(response))
    }
}
