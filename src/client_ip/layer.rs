//! The gate that finds out where a request comes from, once, for all layers further in.

use std::task::{Context, Poll};

use http::Request;
use tower_layer::Layer;
use tower_service::Service;

use super::TrustedProxies;

/// Leaves the [`ClientIp`](super::ClientIp) of each request in its extensions. Goes outside whatever needs an address: the login
/// limit, the endpoints of an authorization server.
///
/// Without this layer those take the peer's address; behind a proxy that is the proxy's, for everybody. Where a server tells no
/// peer, as on a Unix socket, there is nothing to leave.
#[derive(Clone, Debug)]
pub struct ClientIpLayer {
    proxies: TrustedProxies,
}

impl ClientIpLayer {
    /// A layer that believes these proxies.
    pub const fn new(proxies: TrustedProxies) -> Self {
        Self { proxies }
    }
}

impl<S> Layer<S> for ClientIpLayer {
    type Service = ResolveClientIp<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ResolveClientIp { inner, proxies: self.proxies.clone() }
    }
}

/// Service of [`ClientIpLayer`].
#[derive(Clone, Debug)]
pub struct ResolveClientIp<S> {
    inner: S,
    proxies: TrustedProxies,
}

impl<S, B> Service<Request<B>> for ResolveClientIp<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if let Some(client) = self.proxies.client_of(request.extensions(), request.headers()) {
            request.extensions_mut().insert(client);
        }
        self.inner.call(request)
    }
}
