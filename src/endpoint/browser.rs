//! `POST /session`, `POST /session/refresh` and `DELETE /session`: sessions that pages keep in cookies.

mod cookies;

use std::{
    convert::Infallible,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{
    FutureExt as _,
    future::{self, BoxFuture},
};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{AUTHORIZATION, CACHE_CONTROL, PRAGMA},
    request::Parts,
};
use http_body::Body;
use http_body_util::Full;
use tower_service::Service;

pub use self::cookies::SessionCookies;
use self::cookies::only;
pub(super) use self::cookies::{Carrier, carries, clear};
use super::{
    OAuthEndpoint,
    error::EndpointError,
    for_method,
    issuer::{Issuer, failed},
    private,
    sessions::not_found,
    told,
};
use crate::{
    audit,
    browser::{ACCESS_COOKIE, REFRESH_COOKIE},
    caching,
    client::Client,
    form::{self, Form, FormError},
    gate::GateBody,
    ident::SessionId,
    login::{LoginOutcome, LoginRateLimit},
    rejection::{Answers, Rejection, Wire},
    session::RefreshToken,
};

type Answer = Result<Response<Full<Bytes>>, EndpointError>;

/// Service for sessions that pages keep in cookies, all of it behind a guard against requests of other sites. What is where,
/// [`SessionCookies`] says. It is told by the end of the path what is asked for: mount it at `…/session` and `…/session/refresh`.
///
/// | request | answer |
/// |---|---|
/// | `POST …/session`, a form with `username` and `password` | 200: signed in; as the token endpoint refuses, within the same limits. `scope`, `resource`, `device_name` and `client_id` as there |
/// | `POST …/session/refresh`, with no body, or a form with `scope` or `resource` | 200: the session goes on; 400 `invalid_grant` if it has ended, and the cookies are cleared; the same without that if it is another client's |
/// | `DELETE …/session` | 204: it is over, and so is every access token that it was given; 204 as well if it was |
///
/// A request that may be another site's is answered 403 before anything is counted or read; one with an `Authorization` field, or
/// with the refresh cookie twice, 400. A login ends the session whose cookie comes with it. Where a store is down, the answer is
/// 503 and the cookies stay.
#[derive(Clone)]
pub struct CookieSessionEndpoint {
    issuer: Arc<Issuer>,
    cookies: SessionCookies,
    sign_in: LoginRateLimit<OAuthEndpoint>,
    answers: Answers,
}

impl CookieSessionEndpoint {
    /// `sign_in` is the endpoint that signs people in, within its limits.
    pub(crate) fn new(issuer: Arc<Issuer>, sign_in: LoginRateLimit<OAuthEndpoint>, answers: Answers) -> Option<Self> {
        let cookies = issuer.cookies.clone()?;
        Some(Self { issuer, cookies, sign_in, answers })
    }

    async fn refresh<B>(&self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: Body + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (parts, body) = request.into_parts();
        let answer = match read(&parts.headers, body).await {
            Ok(form) => self.issuer.refresh_page(&self.cookies, &parts.headers, &form).await,
            Err(error) => Err(error.into()),
        };
        let dead = matches!(answer, Err(EndpointError::InvalidGrant));
        let mut response = told(answer);
        if dead {
            clear(response.headers_mut());
        }
        response
    }

    async fn sign_out(&self, headers: &HeaderMap) -> Response<Full<Bytes>> {
        told(self.issuer.sign_page_out(&self.cookies, headers).await)
    }
}

/// The form of a request that need not have one.
async fn read<B>(headers: &HeaderMap, body: B) -> Result<Form, FormError>
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let body = form::whole(body).await?;
    if body.is_empty() || form::is_form(headers) {
        Form::parse(&body)
    } else {
        Err(FormError("the body must be application/x-www-form-urlencoded"))
    }
}

impl Issuer {
    /// Signs somebody in whose browser is to keep the session.
    pub(super) async fn sign_page_in(
        self: &Arc<Self>,
        parts: &Parts,
        form: &Form,
        outcome: &mut LoginOutcome,
    ) -> Answer {
        let Some(cookies) = &self.cookies else { return Err(EndpointError::UnsupportedGrantType) };
        let presented = only(&parts.headers, REFRESH_COOKIE)?;
        let client = self.client_of_page(&parts.headers, form, "password")?;
        self.password_grant(client, form, parts, Carrier::Cookies { cookies, presented }, outcome).await
    }

    async fn refresh_page(self: &Arc<Self>, cookies: &SessionCookies, headers: &HeaderMap, form: &Form) -> Answer {
        let presented = only(headers, REFRESH_COOKIE)?;
        let client = self.client_of_page(headers, form, "refresh_token")?;
        self.refresh_grant(client, form, Carrier::Cookies { cookies, presented }).await
    }

    /// Ends what the cookies name. The access token is asked as well: it may outlive the other.
    async fn sign_page_out(self: &Arc<Self>, cookies: &SessionCookies, headers: &HeaderMap) -> Answer {
        let refresh = only(headers, REFRESH_COOKIE)?;
        let access = if cookies.has_access() { only(headers, ACCESS_COOKIE)? } else { None };
        let ended = match refresh {
            Some(presented) => self.end_presented(presented, "signed out").await?,
            None => false,
        };
        if let Some(access) = access.filter(|_| !ended) {
            match self.verifier.verify(access.as_bytes(), self.clock.now()).await {
                Ok(token) => self.log_out(token).await.map_err(|error| failed("session store", &error))?,
                Err(Rejection::KeysUnavailable) => return Err(failed("key store", &"cannot be read")),
                Err(_) => {}
            }
        }
        let mut response = private(StatusCode::NO_CONTENT, Bytes::new());
        clear(response.headers_mut());
        Ok(response)
    }

    /// The client of a page, which asks for nothing but this grant. A public one: what a page knows, everybody does.
    fn client_of_page(&self, headers: &HeaderMap, form: &Form, grant: &str) -> Result<&Client, EndpointError> {
        let client = self.clients.authenticate(headers, form).map_err(|error| match error {
            EndpointError::InvalidClient => EndpointError::NoClientOfPages,
            other => other,
        })?;
        if client.is_confidential() {
            audit::client_refused(Some(client.id()), "confidential client in a page");
            return Err(EndpointError::NoClientOfPages);
        }
        match form.get("grant_type") {
            Some(named) if named != grant => Err(EndpointError::UnsupportedGrantType),
            _ => Ok(client),
        }
    }

    /// Ends the session that a login has taken the place of, whoever's it was: nobody's name for a session is good for two logins
    /// (ASVS 7.2.4). If that cannot be done, the new one ends instead.
    pub(super) async fn end_former(
        self: &Arc<Self>,
        carrier: Carrier<'_>,
        subject: &str,
        session: Option<SessionId>,
    ) -> Result<(), EndpointError> {
        let Some(former) = carrier.former() else { return Ok(()) };
        let ended = self.end_presented(former, "signed in again").await;
        if let (Err(_), Some(id)) = (&ended, session) {
            // As far as the store lets that be done. Nobody has its tokens.
            let _ = self.end(subject, id, "former session goes on").await;
        }
        ended.map(drop)
    }

    /// Ends the session that a refresh token is of; `false` if it is of none.
    async fn end_presented(self: &Arc<Self>, text: &str, reason: &'static str) -> Result<bool, EndpointError> {
        let Some(presented) = RefreshToken::parse(text) else { return Ok(false) };
        let Some(session) = self.session_of(&presented).await? else { return Ok(false) };
        let ended = self.end_session_of(None, session.id, reason).await;
        ended.map_err(|error| failed("session store", &error))
    }
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Asked {
    SignIn,
    Refresh,
    SignOut,
}

impl Asked {
    /// Told by the method and the end of the path, so that the service works wherever it is mounted. `None` if there is nothing.
    fn of(method: &Method, path: &str) -> Result<Option<Self>, EndpointError> {
        let mut segments = path.rsplit('/');
        match (segments.next(), segments.next(), method) {
            (Some("refresh"), Some("session"), &Method::POST) => Ok(Some(Self::Refresh)),
            (Some("refresh"), Some("session"), _) => Err(EndpointError::MethodNotAllowed { allow: "POST" }),
            (Some("session"), _, &Method::POST) => Ok(Some(Self::SignIn)),
            (Some("session"), _, &Method::DELETE) => Ok(Some(Self::SignOut)),
            (Some("session"), ..) => Err(EndpointError::MethodNotAllowed { allow: "POST, DELETE" }),
            _ => Ok(None),
        }
    }
}

impl<B> Service<Request<B>> for CookieSessionEndpoint
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<GateBody<Full<Bytes>>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<B>>::poll_ready(&mut self.sign_in, cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (method, uri, headers) = (request.method(), request.uri(), request.headers());
        if let Err(rejection) = self.cookies.guard().check(method, uri, headers) {
            return at_once(method, self.answers.refuse(rejection, None, Wire::of(headers)).map(Full::new));
        }
        if headers.contains_key(AUTHORIZATION) {
            // One credential in a request, and here it is the cookie.
            let error = EndpointError::InvalidRequest("the request has an Authorization field beside its cookies");
            return at_once(method, told(Err(error)));
        }
        let (asked, method) = (Asked::of(method, uri.path()), method.clone());
        match asked {
            Ok(Some(Asked::SignIn)) => self.sign_in.call(request).map(|answer| answer.map(finished)).boxed(),
            Ok(Some(Asked::Refresh)) => {
                let endpoint = self.clone();
                async move { Ok(whole(endpoint.refresh(request).await)) }.boxed()
            }
            Ok(Some(Asked::SignOut)) => {
                let (endpoint, (parts, _)) = (self.clone(), request.into_parts());
                async move { Ok(whole(endpoint.sign_out(&parts.headers).await)) }.boxed()
            }
            Ok(None) => at_once(&method, not_found()),
            Err(error) => at_once(&method, told(Err(error))),
        }
    }
}

type Finished = Response<GateBody<Full<Bytes>>>;

fn at_once(method: &Method, response: Response<Full<Bytes>>) -> BoxFuture<'static, Result<Finished, Infallible>> {
    future::ready(Ok(whole(for_method(method, response)))).boxed()
}

fn whole(response: Response<Full<Bytes>>) -> Finished {
    finished(response.map(GateBody::inner))
}

/// Whoever has made it, no cache may keep it, nor give it to somebody with other cookies.
fn finished(mut response: Finished) -> Finished {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    caching::vary(headers, &HeaderValue::from_static("Cookie"));
    response
}

impl fmt::Debug for CookieSessionEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CookieSessionEndpoint").field("issuer", &self.issuer.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for() {
        let no = |allow| Err(EndpointError::MethodNotAllowed { allow });
        for (method, path, expected) in [
            (Method::POST, "/session", Ok(Some(Asked::SignIn))),
            (Method::POST, "/auth/session", Ok(Some(Asked::SignIn))),
            (Method::POST, "session", Ok(Some(Asked::SignIn))),
            (Method::DELETE, "/session", Ok(Some(Asked::SignOut))),
            (Method::POST, "/auth/session/refresh", Ok(Some(Asked::Refresh))),
            (Method::GET, "/session", no("POST, DELETE")),
            (Method::OPTIONS, "/session", no("POST, DELETE")),
            (Method::DELETE, "/session/refresh", no("POST")),
            (Method::HEAD, "/session/refresh", no("POST")),
            (Method::POST, "/refresh", Ok(None)),
            (Method::POST, "/session/", Ok(None)),
            (Method::DELETE, "/session/x", Ok(None)),
            (Method::POST, "/session/refresh/", Ok(None)),
            (Method::POST, "/", Ok(None)),
        ] {
            assert_eq!(Asked::of(&method, path), expected, "{method} {path}");
        }
    }
}
