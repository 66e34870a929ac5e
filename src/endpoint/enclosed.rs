//! Endpoints together with what has to be around them. What that is may change; these types stay.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Full;
use tower_service::Service;

use super::OAuthEndpoint;
#[cfg(feature = "password")]
use crate::{browser::CookieExtract, jwt::JwtVerify};
use crate::{gate::GateBody, login::LoginRateLimit};

/// Service for `/token`: an [`OAuthEndpoint`] within the limits on logins, if there are any.
#[derive(Clone, Debug)]
pub struct TokenEndpoint(pub(crate) LoginRateLimit<OAuthEndpoint>);

impl<B> Service<Request<B>> for TokenEndpoint
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<GateBody<Full<Bytes>>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<B>>::poll_ready(&mut self.0, cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.0.call(request)
    }
}

/// An endpoint for users who are signed in, behind what verifies that: a bearer token or, where the server keeps access tokens in
/// cookies, a cookie.
#[cfg(feature = "password")]
#[derive(Clone, Debug)]
pub struct SignedInEndpoint<E>(pub(crate) CookieExtract<JwtVerify<E>>);

#[cfg(feature = "password")]
impl<E, B> Service<Request<B>> for SignedInEndpoint<E>
where
    E: Service<Request<B>, Response = Response<Full<Bytes>>, Error = Infallible> + Clone + Send + 'static,
    E::Future: Send + 'static,
    B: Send + 'static,
{
    type Response = Response<GateBody<GateBody<Full<Bytes>>>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<B>>::poll_ready(&mut self.0, cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        Box::pin(self.0.call(request))
    }
}
