//! The gate around a route where people sign in.

use std::{
    mem,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    account::AccountField,
    fields,
    limiter::{LoginAttempt, LoginLimiter, LoginOutcome, Who},
};
use crate::{
    audit,
    client_ip::ClientIp,
    cookie, fetch, form,
    gate::GateBody,
    rejection::{Answers, Rejection, Wire},
    throttle::Limit,
};

/// Limits attempts to sign in at the route that it is around.
///
/// The body is read up to 16 KiB, within 10 seconds, for the account that it names, and handed on as it came. The attempt is
/// counted before the route sees it, and settled by the [`LoginOutcome`] in the extensions of its response or, for handlers that put
/// none there, by its status: 2xx has succeeded; 405, 413, 415, 429 and 503 was not tried; anything else has failed. A handler that
/// answers a wrong password with 200, or a right one with 303, must say so. To gRPC a failure is in the head of the answer and a
/// success is not: its handlers must say so, or it counts as failed. The handler finds a [`LoginAttempt`] in the request's
/// extensions. A preflight is not counted, and is handed on without a body. A request whose future is dropped stays counted.
///
/// Answers 429 with `Retry-After` (RFC 6585 §4) and the fields `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10),
/// which have nothing of an account but where that is what refuses; those of other answers are of the address alone. A success
/// sets a cookie that makes the device known, [`DEVICE_COOKIE`](super::DEVICE_COOKIE); a client that is no browser sends
/// `device_token` beside the account, in the same body.
///
/// Goes inside [`ClientIpLayer`](crate::client_ip::ClientIpLayer), and inside a CORS layer.
#[derive(Clone, Debug)]
pub struct LoginRateLimitLayer {
    limiter: LoginLimiter,
    settings: Settings,
}

#[derive(Clone, Debug)]
struct Settings {
    account: AccountField,
    outcome: fn(StatusCode) -> LoginOutcome,
    answers: Answers,
    cookie: bool,
    /// Whether the inner service reads bodies as this layer does, and refuses what is unreadable itself.
    reads_alike: bool,
}

impl LoginRateLimitLayer {
    /// A layer that counts with `limiter`, and finds the account in `account`.
    pub fn new(limiter: LoginLimiter, account: AccountField) -> Self {
        let answers = Answers::default();
        let settings = Settings { account, outcome: by_status, answers, cookie: true, reads_alike: false };
        Self { limiter, settings }
    }

    /// For an endpoint of ours: it reads forms with the same code, tells outcomes itself, and a request without an account
    /// there is no login.
    pub(crate) fn around_endpoint(limiter: LoginLimiter, answers: Answers) -> Self {
        // As the endpoint looks it up.
        let new = Self::new(limiter, AccountField::form("username").canonical(str::to_owned));
        let outcome = |_| LoginOutcome::NotTried;
        Self { settings: Settings { outcome, answers, reads_alike: true, ..new.settings }, ..new }
    }

    /// Sets how an attempt has ended, for a handler that says so by its status alone.
    #[must_use]
    pub fn outcome_by_status(mut self, outcome: fn(StatusCode) -> LoginOutcome) -> Self {
        self.settings.outcome = outcome;
        self
    }

    /// Sets no cookie. Devices are then known by the `device_token` alone that the handler gives out, from
    /// [`LoginAttempt::device_token`].
    #[must_use]
    pub fn without_cookie(mut self) -> Self {
        self.settings.cookie = false;
        self
    }
}

/// What a gRPC handler's answer says, as far as it has a status: what went well has one only behind its body, and so is a failure
/// unless the handler says otherwise.
fn by_grpc_status(headers: &HeaderMap) -> LoginOutcome {
    match headers.get("grpc-status").map(HeaderValue::as_bytes) {
        Some(b"0") => LoginOutcome::Succeeded,
        // RESOURCE_EXHAUSTED and UNAVAILABLE.
        Some(b"8" | b"14") => LoginOutcome::NotTried,
        _ => LoginOutcome::Failed,
    }
}

/// What a handler's status says. A failure unless it is clear: a guess that counts too much does less harm.
fn by_status(status: StatusCode) -> LoginOutcome {
    match status {
        status if status.is_success() => LoginOutcome::Succeeded,
        StatusCode::METHOD_NOT_ALLOWED
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::UNSUPPORTED_MEDIA_TYPE
        | StatusCode::TOO_MANY_REQUESTS
        | StatusCode::SERVICE_UNAVAILABLE => LoginOutcome::NotTried,
        _ => LoginOutcome::Failed,
    }
}

impl<S> Layer<S> for LoginRateLimitLayer {
    type Service = LoginRateLimit<S>;

    fn layer(&self, inner: S) -> Self::Service {
        LoginRateLimit { inner, limit: Some(self.clone()) }
    }
}

/// Service of [`LoginRateLimitLayer`].
#[derive(Clone, Debug)]
pub struct LoginRateLimit<S> {
    inner: S,
    limit: Option<LoginRateLimitLayer>,
}

impl<S> LoginRateLimit<S> {
    /// Lets everything through.
    pub(crate) const fn without_limits(inner: S) -> Self {
        Self { inner, limit: None }
    }
}

impl<S, B, R> Service<Request<B>> for LoginRateLimit<S>
where
    S: Service<Request<GateBody<B>>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    R: Send + 'static,
{
    type Response = Response<GateBody<R>>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The one that is ready is called; its clone may not be.
        let clone = self.inner.clone();
        let inner = mem::replace(&mut self.inner, clone);
        match self.limit.clone() {
            // It asks for nothing (Fetch §4.8), and a handler that signs people in all the same finds nothing to do so with.
            Some(_) if fetch::is_preflight(request.method(), request.headers()) => {
                hand_on(inner, request.map(|_| GateBody::whole(Bytes::new()))).boxed()
            }
            Some(LoginRateLimitLayer { limiter, settings }) => settings.limit(limiter, inner, request).boxed(),
            None => hand_on(inner, request.map(GateBody::inner)).boxed(),
        }
    }
}

async fn hand_on<S, B, R>(mut inner: S, request: Request<GateBody<B>>) -> Result<Response<GateBody<R>>, S::Error>
where
    S: Service<Request<GateBody<B>>, Response = Response<R>>,
{
    Ok(inner.call(request).await?.map(GateBody::inner))
}

impl Settings {
    async fn limit<S, B, R>(
        self,
        limiter: LoginLimiter,
        inner: S,
        request: Request<B>,
    ) -> Result<Response<GateBody<R>>, S::Error>
    where
        S: Service<Request<GateBody<B>>, Response = Response<R>>,
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let wire = Wire::of(request.headers());
        let refuse = |rejection| self.answers.refuse(rejection, None, wire).map(GateBody::whole);
        if self.reads_alike && !form::is_form(request.headers()) {
            return hand_on(inner, request.map(GateBody::inner)).await;
        }
        let (mut parts, body) = request.into_parts();
        let body = match form::whole(body).await {
            Ok(body) => body,
            Err(error) if self.reads_alike => {
                // The endpoint says what is wrong with it, in its own words.
                parts.extensions.insert(error);
                return hand_on(inner, Request::from_parts(parts, GateBody::whole(Bytes::new()))).await;
            }
            Err(_) => return Ok(refuse(Rejection::LoginUnreadable)),
        };
        let asked = match self.account.read(&parts.headers, &body) {
            Ok(asked) => asked,
            // No login, or none that the endpoint could read either.
            Err(_) if self.reads_alike => {
                return hand_on(inner, Request::from_parts(parts, GateBody::whole(body))).await;
            }
            Err(_) => return Ok(refuse(Rejection::LoginUnreadable)),
        };
        let who = Who {
            address: ClientIp::of(&parts.extensions),
            account: asked.account.as_ref().map(|account| account.expose().as_str()),
            device_token: asked.device_token.as_ref().map(|token| token.expose().as_str()),
            headers: Some(&parts.headers),
        };
        let begun = if self.reads_alike { limiter.begin_or_lock(who).await } else { limiter.begin(who).await };
        let attempt = match begun {
            Ok(attempt) => attempt,
            Err(rejection) => {
                let response =
                    fields::refuse(Some(&limiter), &self.answers, (audit::Who::default(), rejection), wire).await;
                return Ok(response.map(GateBody::whole));
            }
        };
        let mut request = Request::from_parts(parts, GateBody::whole(body));
        request.extensions_mut().insert(attempt.clone());
        let mut response = hand_on(inner, request).await?;
        let told = response.extensions().get::<LoginOutcome>().copied();
        let outcome = told.unwrap_or_else(|| match wire {
            Wire::Http => (self.outcome)(response.status()),
            _ => by_grpc_status(response.headers()),
        });
        attempt.settle(outcome).await;
        if response.status() == StatusCode::SERVICE_UNAVAILABLE {
            limiter.pace().await;
        }
        self.finish(&attempt, outcome, &mut response);
        Ok(response)
    }

    fn finish<R>(&self, attempt: &LoginAttempt, outcome: LoginOutcome, response: &mut Response<R>) {
        if let Some((quota, left)) = attempt.left(outcome) {
            let again = (quota.per() / quota.most().max(1)).as_secs().max(1);
            fields::tell(response, Limit::Address, (quota.most(), quota.per()), left, again);
        }
        let success = self.cookie && outcome == LoginOutcome::Succeeded;
        if let Some(field) = success.then(|| attempt.set_cookie()).flatten() {
            cookie::add(response.headers_mut(), field);
        }
    }
}
