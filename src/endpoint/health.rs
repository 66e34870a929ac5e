//! `GET /health` and `GET /ready`.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use http::{HeaderValue, Method, Request, Response, StatusCode, header::RETRY_AFTER};
use http_body_util::Full;
use serde::Serialize;
use tower_service::Service;

use super::{EndpointError, for_method, private_json};
use crate::health::{Readiness, Report};

/// Service that answers `GET` and `HEAD` with 200 and `{"status":"ok"}`: the process is there. It asks nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct HealthEndpoint;

/// Service that answers `GET` and `HEAD` with 200 and `{"status":"ready"}`, or with 503, `Retry-After` and
/// `{"status":"unavailable","failing":["users"]}`: names of [checks](Readiness), neither addresses nor reasons. From
/// [`Readiness::endpoint`].
#[derive(Clone, Debug)]
pub struct ReadyEndpoint(Readiness);

impl Readiness {
    /// The service for `GET /ready`.
    #[must_use]
    pub fn endpoint(&self) -> ReadyEndpoint {
        ReadyEndpoint(self.clone())
    }
}

#[derive(Serialize)]
struct Status<'a> {
    status: &'static str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    failing: &'a [&'static str],
}

fn answer(report: &Report) -> Response<Full<Bytes>> {
    let mut failing: Vec<_> = report.failing().collect();
    // Two servers may need the same.
    failing.sort_unstable();
    failing.dedup();
    let (code, status) =
        if report.is_ready() { (StatusCode::OK, "ready") } else { (StatusCode::SERVICE_UNAVAILABLE, "unavailable") };
    let mut response = json(code, &Status { status, failing: &failing });
    if !report.is_ready() {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

fn json(code: StatusCode, status: &Status<'_>) -> Response<Full<Bytes>> {
    private_json(code, serde_json::to_vec(status).unwrap_or_default())
}

fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

fn not_allowed() -> Response<Full<Bytes>> {
    EndpointError::MethodNotAllowed { allow: "GET, HEAD" }.response()
}

impl<B> Service<Request<B>> for HealthEndpoint {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let method = request.method();
        let ok = || json(StatusCode::OK, &Status { status: "ok", failing: &[] });
        ready(Ok(for_method(method, if is_read(method) { ok() } else { not_allowed() })))
    }
}

impl<B> Service<Request<B>> for ReadyEndpoint {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (readiness, method) = (self.0.clone(), request.method().clone());
        let answer = async move {
            let answer = if is_read(&method) { answer(&readiness.look().await) } else { not_allowed() };
            Ok(for_method(&method, answer))
        };
        answer.boxed()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    async fn ask<S>(mut endpoint: S, method: Method) -> (u16, Option<String>, String)
    where
        S: Service<Request<()>, Response = Response<Full<Bytes>>, Error = Infallible>,
    {
        let answer = endpoint.call(Request::builder().method(method).body(()).unwrap()).await.unwrap();
        let retry = answer.headers().get(RETRY_AFTER).map(|field| field.to_str().unwrap().to_owned());
        let (status, body) = (answer.status().as_u16(), answer.into_body().collect().await.unwrap().to_bytes());
        (status, retry, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn answers() {
        let good = || Readiness::new().check("good", || ready(Ok::<_, &str>(())));
        let bad = |name| Readiness::new().check(name, || ready(Err::<(), _>("postgres://app:hunter2@10.0.0.7/app")));
        let unavailable = r#"{"status":"unavailable","failing":["a","b"]}"#;
        let down = good().and(&bad("b")).and(&bad("a")).and(&bad("b"));
        for (readiness, method, status, retry, body) in [
            (good(), Method::GET, 200, None, r#"{"status":"ready"}"#),
            (good(), Method::HEAD, 200, None, ""),
            (down.clone(), Method::GET, 503, Some("1"), unavailable),
            (down, Method::HEAD, 503, Some("1"), ""),
        ] {
            let expected = (status, retry.map(str::to_owned), body.to_owned());
            assert_eq!(ask(readiness.endpoint(), method).await, expected);
        }
        assert_eq!(ask(HealthEndpoint, Method::GET).await, (200, None, r#"{"status":"ok"}"#.to_owned()));
        assert_eq!(ask(HealthEndpoint, Method::HEAD).await, (200, None, String::new()));
        assert_eq!(ask(HealthEndpoint, Method::POST).await.0, 405);
        assert_eq!(ask(good().endpoint(), Method::POST).await.0, 405);
    }
}
