//! One fetch: where to, what of the answer counts, and why it failed.

use std::{fmt, future::poll_fn, sync::Arc, time::Duration};

use aws_lc_rs::digest;
use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use http::{
    HeaderMap, Request, Response, StatusCode, Uri,
    header::{AGE, CACHE_CONTROL, CONTENT_ENCODING},
};
use http_body::Body;
use http_body_util::{BodyExt as _, Empty, Limited};
use serde::Deserialize;
use tower_service::Service;

use crate::{audit, config::ConfigError, jwt::jwks::BadSet, uri};

/// Longest document, in bytes.
pub(super) const MAX_BODY: usize = 256 * 1024;
const MAX_REDIRECTS: usize = 3;

/// Fetches one document, with its body held to [`MAX_BODY`].
pub(super) type Fetch = Arc<dyn Fn(Uri) -> BoxFuture<'static, Result<Answer, FetchError>> + Send + Sync>;

/// A document.
pub(super) struct Answer {
    pub(super) body: Bytes,
    /// How much longer caches may keep it, if it says so.
    pub(super) lifetime: Option<Duration>,
}

/// Why keys could not be fetched, for operators.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// The server could not be reached, or the connection broke.
    #[error("no answer: {0}")]
    Transport(String),
    /// The program's own service panicked.
    #[error("the service that fetches panicked")]
    Panicked,
    /// It took too long.
    #[error("no answer in time")]
    Timeout,
    /// Another status than 200; a redirect to another origin is one of these.
    #[error("answered with status {0}")]
    Status(u16),
    /// The body is over 256 KiB.
    #[error("document longer than {MAX_BODY} bytes")]
    TooLong,
    /// The body is compressed, though nobody asked for that.
    #[error("document is compressed")]
    Compressed,
    /// The document is not a JWK set, has too many keys, or none that can verify.
    #[error("{0}")]
    Unusable(String),
    /// The metadata are malformed, or name another issuer.
    #[error("metadata: {0}")]
    Metadata(&'static str),
}

impl FetchError {
    /// The same in a word.
    pub(super) const fn code(&self) -> &'static str {
        match self {
            Self::Transport(_) => "transport",
            Self::Panicked => "panicked",
            Self::Timeout => "timeout",
            Self::Status(_) => "status",
            Self::TooLong => "too_long",
            Self::Compressed => "compressed",
            Self::Unusable(_) => "unusable",
            Self::Metadata(_) => "metadata",
        }
    }
}

impl From<BadSet> for FetchError {
    fn from(bad: BadSet) -> Self {
        Self::Unusable(bad.to_string())
    }
}

/// Where the keys are.
#[derive(Clone)]
pub(super) enum Location {
    Keys(String),
    OpenId(String),
    OAuth(String),
}

#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&uri::without_credentials(&self.name()), f)
    }
}

impl Location {
    fn address(&self) -> &str {
        let (Self::Keys(address) | Self::OpenId(address) | Self::OAuth(address)) = self;
        address
    }

    /// What it is called where things are told: its address, but of the query, which may be what opens it, only enough of a digest
    /// to tell it from others.
    pub(super) fn name(&self) -> String {
        let Some((place, query)) = self.address().split_once('?') else { return self.address().to_owned() };
        let digest = digest::digest(&digest::SHA256, query.as_bytes());
        digest.as_ref().iter().take(4).fold(format!("{place}?"), |name, byte| format!("{name}{byte:02x}"))
    }

    /// Whether the first address is one that may be fetched from.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        self.first().map(drop).ok_or_else(|| ConfigError::KeyAddress(uri::without_credentials(&self.name())))
    }

    /// Address of the keys, or of the metadata that name it.
    fn first(&self) -> Option<Uri> {
        match self {
            Self::Keys(address) => uri::fetchable(address),
            Self::OpenId(issuer) | Self::OAuth(issuer) if issuer.contains('?') => None,
            Self::OpenId(issuer) => {
                uri::fetchable(issuer)?;
                uri::fetchable(&format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/')))
            }
            Self::OAuth(issuer) => {
                let uri = uri::fetchable(issuer)?;
                let path = uri.path().trim_end_matches('/');
                let (scheme, authority) = (uri.scheme()?, uri.authority()?);
                uri::fetchable(&format!("{scheme}://{authority}/.well-known/oauth-authorization-server{path}"))
            }
        }
    }

    /// The key set, by way of the metadata if need be. They are read each time: an issuer may move its keys.
    pub(super) async fn fetch(&self, fetch: &Fetch) -> Result<Answer, FetchError> {
        let first = self.first().ok_or(FetchError::Metadata("address"))?;
        let answer = fetch(first).await?;
        let (Self::OpenId(issuer) | Self::OAuth(issuer)) = self else {
            return Ok(answer);
        };
        let metadata: Metadata =
            serde_json::from_slice(&answer.body).map_err(|_| FetchError::Metadata("`issuer` or `jwks_uri` missing"))?;
        // OpenID Connect Discovery 1.0 §4.3, RFC 8414 §3.3: or somebody else's metadata would bring their keys.
        if metadata.issuer != *issuer {
            return Err(FetchError::Metadata("of another issuer"));
        }
        // An issuer on the network has no business with what listens on our loopback.
        let keys =
            uri::fetchable(&metadata.jwks_uri).filter(|keys| uri::is_https(keys) || !issuer.starts_with("https:"));
        fetch(keys.ok_or(FetchError::Metadata("`jwks_uri` is not https"))?).await
    }
}

/// What counts of an answer's head: status 200, no compression, and how long it may be kept.
fn read_head(status: StatusCode, headers: &HeaderMap) -> Result<Option<Duration>, FetchError> {
    if status != StatusCode::OK {
        return Err(FetchError::Status(status.as_u16()));
    }
    if headers.get(CONTENT_ENCODING).is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(FetchError::Compressed);
    }
    Ok(lifetime(headers))
}

/// `max-age` less `Age` (RFC 9111 §4.2); nothing where a cache should not keep it.
fn lifetime(headers: &HeaderMap) -> Option<Duration> {
    let mut lifetime = None;
    let fields = headers.get_all(CACHE_CONTROL).iter().filter_map(|field| field.to_str().ok());
    for directive in fields.flat_map(|field| field.split(',')).map(str::trim) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        if name.eq_ignore_ascii_case("no-store") || name.eq_ignore_ascii_case("no-cache") {
            return Some(Duration::ZERO);
        }
        if name.eq_ignore_ascii_case("max-age") {
            lifetime = value.trim_matches('"').parse().ok().map(Duration::from_secs).or(lifetime);
        }
    }
    let age = headers.get(AGE).and_then(|age| age.to_str().ok()).and_then(|age| age.parse().ok());
    lifetime.map(|lifetime| lifetime.saturating_sub(Duration::from_secs(age.unwrap_or(0))))
}

/// Fetches with a service of the program's own.
pub(super) fn with_service<S, B>(service: S) -> Fetch
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Error: fmt::Display,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    Arc::new(move |uri| {
        let mut service = service.clone();
        let fetch = async move {
            let query = uri.query().map(|query| format!("?{query}"));
            let transport = |text: String| match &query {
                Some(query) => FetchError::Transport(text.replace(query, "?…")),
                None => FetchError::Transport(text),
            };
            let broken = |error: S::Error| transport(error.to_string());
            let mut request = Request::new(Empty::new());
            *request.uri_mut() = uri;
            poll_fn(|cx| service.poll_ready(cx)).await.map_err(broken)?;
            let (head, body) = service.call(request).await.map_err(broken)?.into_parts();
            let lifetime = read_head(head.status, &head.headers)?;
            let body = Limited::new(body, MAX_BODY).collect().await.map_err(|error| {
                let too_long = error.downcast_ref::<http_body_util::LengthLimitError>().is_some();
                if too_long { FetchError::TooLong } else { transport(error.to_string()) }
            })?;
            Ok(Answer { body: body.to_bytes(), lifetime })
        };
        fetch.boxed()
    })
}

/// Fetches with reqwest: rustls, no compression, redirects within the origin alone. A proxy of the environment is used for
/// `https` alone: whoever reads plain `http` to loopback would choose the keys.
pub(super) fn client() -> Result<Fetch, String> {
    let secure = builder().build().map_err(|error| error.to_string())?;
    let loopback = builder().no_proxy().build().map_err(|error| error.to_string())?;
    Ok(Arc::new(move |uri: Uri| {
        let client = if uri::is_https(&uri) { secure.clone() } else { loopback.clone() };
        let fetch = async move {
            let broken = |error: reqwest::Error| FetchError::Transport(audit::cause(&error));
            let mut response = client.get(uri.to_string()).send().await.map_err(broken)?;
            let lifetime = read_head(response.status(), response.headers())?;
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(broken)? {
                if body.len() + chunk.len() > MAX_BODY {
                    return Err(FetchError::TooLong);
                }
                body.extend_from_slice(&chunk);
            }
            Ok(Answer { body: body.into(), lifetime })
        };
        fetch.boxed()
    }))
}

fn builder() -> reqwest::ClientBuilder {
    let redirect = reqwest::redirect::Policy::custom(|attempt| {
        let origin = |url: &reqwest::Url| url.origin();
        let same = attempt.previous().first().is_some_and(|first| origin(first) == origin(attempt.url()));
        if same && attempt.previous().len() <= MAX_REDIRECTS { attempt.follow() } else { attempt.stop() }
    });
    // Also where another crate has switched the features on.
    let plain = reqwest::Client::builder().no_gzip().no_brotli().no_zstd().no_deflate();
    plain.redirect(redirect).referer(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn well_known_addresses() {
        for (issuer, openid, oauth) in [
            (
                "https://id.example",
                "https://id.example/.well-known/openid-configuration",
                "https://id.example/.well-known/oauth-authorization-server",
            ),
            (
                "https://id.example/realms/a/",
                "https://id.example/realms/a/.well-known/openid-configuration",
                "https://id.example/.well-known/oauth-authorization-server/realms/a",
            ),
        ] {
            assert_eq!(Location::OpenId(issuer.to_owned()).first().unwrap().to_string(), openid);
            assert_eq!(Location::OAuth(issuer.to_owned()).first().unwrap().to_string(), oauth);
        }
        assert!(Location::OpenId("http://id.example".to_owned()).check().is_err());
    }

    #[test]
    fn a_query_is_in_no_name_and_tells_addresses_apart() {
        let name = |address: &str| Location::Keys(address.to_owned()).name();
        let [one, two] =
            ["p=b2c_1_sign_in", "p=b2c_1_edit"].map(|query| name(&format!("https://id.example/keys?{query}")));
        assert!(one != two && one.starts_with("https://id.example/keys?") && one.len() == two.len(), "{one} {two}");
        assert!(!one.contains("b2c"), "{one}");
        assert_eq!(one, name("https://id.example/keys?p=b2c_1_sign_in"), "the same each time");
        assert_eq!(name("https://id.example/keys"), "https://id.example/keys");
    }

    #[tokio::test]
    async fn what_a_service_says_of_its_failure_is_told_without_the_query() {
        let service = tower::service_fn(async |request: Request<Empty<Bytes>>| {
            Err::<Response<Empty<Bytes>>, _>(format!("error sending request for url ({})", request.uri()))
        });
        let fetch = with_service(service);
        for (address, told) in [
            ("https://id.example/keys?key=s3cret", "https://id.example/keys?…"),
            ("https://id.example/keys", "https://id.example/keys"),
        ] {
            let error = fetch(address.parse().unwrap()).await.err().unwrap().to_string();
            assert_eq!(error, format!("no answer: error sending request for url ({told})"));
        }
    }

    #[test]
    fn lifetimes() {
        for (cache_control, age, expected) in [
            ("max-age=600", None, Some(600)),
            ("public, Max-Age=\"600\", must-revalidate", None, Some(600)),
            ("max-age=600", Some("100"), Some(500)),
            ("max-age=600", Some("1000"), Some(0)),
            ("max-age=600", Some("x"), Some(600)),
            ("no-store", None, Some(0)),
            ("max-age=600, no-cache", None, Some(0)),
            ("max-age=-1", None, None),
            ("max-age=99999999999999999999", None, None),
            ("max-age=18446744073709551615", None, Some(u64::MAX)),
            ("s-maxage=600", None, None),
            ("", None, None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache_control));
            if let Some(age) = age {
                headers.insert(AGE, HeaderValue::from_static(age));
            }
            assert_eq!(lifetime(&headers), expected.map(Duration::from_secs), "{cache_control} {age:?}");
        }
    }
}
