//! The server's endpoints, each a plain [`tower_service::Service`] that any framework can route to.

#[cfg(feature = "password")]
mod account;
#[cfg(feature = "password")]
mod browser;
mod client_auth;
mod document;
mod enclosed;
#[cfg(feature = "password")]
mod ending;
mod error;
mod fastapi;
mod grant;
mod health;
mod introspect;
mod issuer;
mod metadata;
mod revoke;
#[cfg(feature = "password")]
mod sessions;
mod token;

use std::{
    convert::Infallible,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, PRAGMA},
};
use http_body::Body;
use http_body_util::Full;
use tower_service::Service;
use tracing::field::Empty;

#[cfg(feature = "password")]
pub(crate) use self::account::Accounts;
use self::error::EndpointError;
#[cfg(feature = "password")]
pub use self::{
    account::{PasswordEndpoint, RegisterEndpoint, Registration},
    browser::{CookieSessionEndpoint, SessionCookies},
    enclosed::SignedInEndpoint,
    sessions::SessionsEndpoint,
};
pub(crate) use self::{
    client_auth::Clients,
    issuer::{Issuer, LEEWAY, LONGEST_LIFETIME},
    metadata::{ResourceMetadata, ServerMetadata},
};
pub use self::{
    document::DocumentEndpoint,
    enclosed::TokenEndpoint,
    health::{HealthEndpoint, ReadyEndpoint},
};
#[cfg(feature = "password")]
pub(crate) use self::{
    ending::{NotChanged, Unsettled},
    issuer::Sessions,
};
use crate::{
    audit,
    form::{Form, FormError},
    gate,
    login::LoginOutcome,
    rejection::AnswerStyle,
};

/// Service for an endpoint that takes a form: `/token`, `/token/refresh`, `/revoke` or `/introspect`.
///
/// `POST` with `application/x-www-form-urlencoded` alone: 16 KiB, 64 parameters and 10 seconds at most, no parameter
/// twice but `resource`. Needs a Tokio runtime with its timer enabled. A request whose future is dropped issues nothing.
#[derive(Clone)]
pub struct OAuthEndpoint {
    issuer: Arc<Issuer>,
    does: Does,
}

/// What an endpoint does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Does {
    /// Gives tokens (RFC 6749 §3.2).
    Token,
    /// Gives tokens for refresh tokens alone, whose form need not name the grant.
    Refresh,
    /// Gives tokens to a page, most of them in cookies. For whatever has a guard around it.
    #[cfg(feature = "password")]
    SignIn,
    /// Takes them back (RFC 7009).
    Revoke,
    /// Says whether they are good (RFC 7662).
    Introspect,
}

impl OAuthEndpoint {
    pub(crate) const fn new(issuer: Arc<Issuer>, does: Does) -> Self {
        Self { issuer, does }
    }
}

impl fmt::Debug for OAuthEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuthEndpoint").field("issuer", &self.issuer.name).field("does", &self.does).finish()
    }
}

impl<B> Service<Request<B>> for OAuthEndpoint
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (endpoint, method) = (self.clone(), request.method().clone());
        let answer = async move {
            let mut outcome = LoginOutcome::NotTried;
            let answer = endpoint.answer(request, &mut outcome).await;
            let style = if endpoint.does == Does::Token { endpoint.issuer.style } else { AnswerStyle::Standard };
            let mut response = told_in(style, answer);
            response.extensions_mut().insert(outcome);
            Ok(for_method(&method, response))
        };
        answer.boxed()
    }
}

impl OAuthEndpoint {
    async fn answer<B>(
        &self,
        request: Request<B>,
        outcome: &mut LoginOutcome,
    ) -> Result<Response<Full<Bytes>>, EndpointError>
    where
        B: Body + Send,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (parts, body) = request.into_parts();
        if parts.method != Method::POST {
            return Err(EndpointError::MethodNotAllowed { allow: "POST" });
        }
        let form = match parts.extensions.get::<FormError>() {
            // A layer has tried to read it.
            Some(error) => return Err((*error).into()),
            None => Form::read(&parts.headers, body).await?,
        };
        let code = |error: &EndpointError| error.code();
        let issue = || audit::decision!("issue_token", client_id = Empty, subject = Empty);
        match self.does {
            Does::Token => audit::inside(issue(), self.issuer.token(&parts, &form, None, outcome), code).await,
            Does::Refresh => {
                let token = self.issuer.token(&parts, &form, Some("refresh_token"), outcome);
                audit::inside(issue(), token, code).await
            }
            #[cfg(feature = "password")]
            Does::SignIn => audit::inside(issue(), self.issuer.sign_page_in(&parts, &form, outcome), code).await,
            Does::Revoke => {
                let span = audit::decision!("revoke_token", client_id = Empty);
                audit::inside(span, self.issuer.revocation(&parts, &form), code).await
            }
            Does::Introspect => {
                let span = audit::decision!("introspect_token", client_id = Empty, active = Empty);
                audit::inside(span, self.issuer.introspection(&parts, &form), code).await
            }
        }
    }
}

/// The answer, or the refusal, which is told if the client could have known better.
#[cfg(feature = "password")]
fn told(answer: Result<Response<Full<Bytes>>, EndpointError>) -> Response<Full<Bytes>> {
    told_in(AnswerStyle::Standard, answer)
}

/// The same in this style.
fn told_in(style: AnswerStyle, answer: Result<Response<Full<Bytes>>, EndpointError>) -> Response<Full<Bytes>> {
    if let Some((status, reason)) = answer.as_ref().err().and_then(|error| error.malformed()) {
        audit::malformed(status, reason);
    }
    answer.unwrap_or_else(|error| error.response_in(style))
}

/// The answer to a request with this method: without its content to `HEAD`.
fn for_method(method: &Method, mut answer: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    let length = answer.body().size_hint().exact().unwrap_or_default();
    if gate::leaves_out_content(method, length, answer.headers_mut()) {
        *answer.body_mut() = Full::default();
    }
    answer
}

/// A JSON answer that no cache may keep (RFC 6749 §5.1).
fn private_json(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = private(status, body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// An answer that no cache may keep.
fn private(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    response
}
