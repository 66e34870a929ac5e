//! `GET` of a document that everybody may read and caches may keep: keys and metadata.

use std::{
    convert::Infallible,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use aws_lc_rs::digest;
use base64_simd::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH},
};
use http_body_util::Full;
use tower_service::Service;

use super::{
    error::EndpointError,
    for_method,
    issuer::{Issuer, failed},
};

/// Service that answers `GET` and `HEAD` with a document, and other methods with `405`. It never reads the body.
///
/// Caches may keep the answer for five minutes, and then ask by its `ETag` whether it has changed.
#[derive(Clone)]
pub struct DocumentEndpoint(Document);

#[derive(Clone)]
enum Document {
    /// The public keys that verify a server's tokens (RFC 7517 §5).
    Keys(Arc<Issuer>),
    /// What is known from the start.
    Fixed(Bytes),
}

impl DocumentEndpoint {
    pub(crate) const fn keys(issuer: Arc<Issuer>) -> Self {
        Self(Document::Keys(issuer))
    }

    pub(crate) const fn fixed(document: Bytes) -> Self {
        Self(Document::Fixed(document))
    }

    /// The document, and its type.
    async fn read(&self) -> Result<(Bytes, &'static str), EndpointError> {
        match &self.0 {
            Document::Keys(issuer) => {
                let jwks = issuer.keys.jwks(issuer.clock.now()).await;
                let jwks = jwks.ok_or_else(|| failed("key store", &"has not been read for too long"))?;
                Ok((jwks, "application/jwk-set+json"))
            }
            Document::Fixed(document) => Ok((document.clone(), "application/json")),
        }
    }

    async fn answer(&self, method: &Method, headers: &HeaderMap) -> Result<Response<Full<Bytes>>, EndpointError> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Err(EndpointError::MethodNotAllowed { allow: "GET, HEAD" });
        }
        let (document, content_type) = self.read().await?;
        let tag = tag(&document);
        let mut response = Response::new(Full::default());
        if matches(headers, &tag) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        } else {
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
            *response.body_mut() = Full::new(document);
        }
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            headers.insert(ETAG, tag);
        }
        Ok(response)
    }
}

impl fmt::Debug for DocumentEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DocumentEndpoint").finish_non_exhaustive()
    }
}

impl<B> Service<Request<B>> for DocumentEndpoint {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (endpoint, method, headers) = (self.clone(), request.method().clone(), request.headers().clone());
        let answer = async move {
            let answer = endpoint.answer(&method, &headers).await;
            Ok(for_method(&method, answer.unwrap_or_else(EndpointError::response)))
        };
        answer.boxed()
    }
}

/// A strong validator (RFC 9110 §8.8.3).
fn tag(document: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA256, document);
    let start = hash.as_ref().first_chunk::<16>().copied().unwrap_or_default();
    format!("\"{}\"", URL_SAFE_NO_PAD.encode_to_string(start))
}

/// Whether whoever asks has this one already (RFC 9110 §13.1.2): compared weakly, as that says.
fn matches(headers: &HeaderMap, tag: &str) -> bool {
    let fields = headers.get_all(IF_NONE_MATCH).iter().filter_map(|field| field.to_str().ok());
    let mut tags = fields.flat_map(|field| field.split(',')).map(str::trim);
    tags.any(|other| other == "*" || other.strip_prefix("W/").unwrap_or(other) == tag)
}

#[cfg(test)]
mod tests {
    use http::header::CONTENT_LENGTH;
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn head_is_get_without_the_content() {
        let mut endpoint = DocumentEndpoint::fixed(Bytes::from_static(b"{}"));
        for (method, status, length, content) in [
            (Method::GET, 200, None, "{}"),
            (Method::HEAD, 200, Some("2"), ""),
            (Method::POST, 405, None, r#"{"error":"invalid_request""#),
        ] {
            let request = Request::builder().method(&method).body(()).unwrap();
            let answer = endpoint.call(request).await.unwrap();
            assert_eq!(answer.status(), status, "{method}");
            assert_eq!(answer.headers().get(CONTENT_LENGTH).map(|length| length.to_str().unwrap()), length, "{method}");
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            assert!(body.starts_with(content.as_bytes()) && body.is_empty() == content.is_empty(), "{method} {body:?}");
        }
    }

    #[test]
    fn what_a_cache_has_already() {
        for (fields, expected) in [
            (&[][..], false),
            (&["\"a\""][..], true),
            (&["W/\"a\""], true),
            (&["\"b\", \"a\""], true),
            (&["\"b\"", "\"a\""], true),
            (&["*"], true),
            (&["\"b\""], false),
            (&["a"], false),
            (&[""], false),
        ] {
            let headers = fields.iter().map(|field| (IF_NONE_MATCH, HeaderValue::from_static(field))).collect();
            assert_eq!(matches(&headers, "\"a\""), expected, "{fields:?}");
        }
    }
}
