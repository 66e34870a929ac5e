//! The decision: may a request that came in the clear go on, and if not, may its client be sent elsewhere?

mod layer;

use std::sync::Arc;

use bytes::Bytes;
use http::{
    Extensions, HeaderMap, HeaderValue, Method, Response, StatusCode, Uri,
    header::{AUTHORIZATION, CACHE_CONTROL, COOKIE, LOCATION, PROXY_AUTHORIZATION},
};

pub use self::layer::{RequireHttps, RequireHttpsLayer};
use crate::{
    bearer,
    client_ip::{Scheme, TrustedProxies},
    config::{ConfigError, ConfigErrors},
    fetch::WebOrigin,
};

/// Longest address to redirect to, in bytes: so much every recipient should take (RFC 9110 §4.1).
const MOST_LOCATION: usize = 8000;

/// What is asked of requests.
#[derive(Clone, Debug)]
struct Rules {
    proxies: TrustedProxies,
    /// Origin over TLS that clients without credentials are sent to.
    redirect: Option<Arc<str>>,
    loopback: bool,
}

/// What becomes of a request.
#[derive(Debug, Eq, PartialEq)]
enum Passage {
    /// It goes on.
    Open,
    /// Its client is sent to this address.
    Redirect(HeaderValue),
    /// It is refused.
    Closed,
}

impl Rules {
    fn passage(&self, method: &Method, uri: &Uri, headers: &HeaderMap, extensions: &Extensions) -> Passage {
        if self.proxies.scheme(extensions, headers) == Scheme::Https
            || (self.loopback && self.proxies.is_local(extensions, headers))
        {
            return Passage::Open;
        }
        // A client that has shown its credential in the clear once is to learn of it, and not to go on doing so unseen.
        let redirected = matches!(*method, Method::GET | Method::HEAD) && !carries_credential(headers, uri);
        let origin = self.redirect.as_deref().filter(|_| redirected);
        origin.and_then(|origin| location(origin, uri)).map_or(Passage::Closed, Passage::Redirect)
    }
}

fn carries_credential(headers: &HeaderMap, uri: &Uri) -> bool {
    [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE].iter().any(|name| headers.contains_key(name)) || bearer::in_query(uri)
}

/// The same path and query at another origin. A path that does not begin with a slash would go on writing the host's name.
fn location(origin: &str, uri: &Uri) -> Option<HeaderValue> {
    let target = uri.path_and_query()?.as_str();
    let plain = target.starts_with('/') && target.bytes().all(|byte| matches!(byte, b'!'..=b'~'));
    let short = target.len() + origin.len() <= MOST_LOCATION;
    (plain && short).then(|| HeaderValue::try_from([origin, target].concat()).ok()).flatten()
}

/// Not to be kept: the same address is refused to those who show a credential.
fn redirect(location: HeaderValue) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(LOCATION, location);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Reads an origin to redirect to.
fn origin(text: &str) -> Result<Arc<str>, ConfigErrors> {
    let origin = text.to_owned();
    match WebOrigin::parse(text) {
        Ok(parsed) if parsed.secure && !parsed.wildcard => Ok(parsed.as_str().into()),
        Ok(_) => Err(ConfigError::RedirectTarget(origin).into()),
        Err(fault) => Err(ConfigError::RedirectOrigin { origin, fault }.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::fetch::OriginFault;
    use proptest::prelude::*;

    const ORIGIN: &str = "https://api.example";
    const STRANGER: [u8; 4] = [203, 0, 113, 9];
    const PROXY: [u8; 4] = [10, 0, 0, 1];
    const LOOPBACK: [u8; 4] = [127, 0, 0, 1];

    fn rules(redirect: bool, loopback: bool) -> Rules {
        let proxies = TrustedProxies::parse(["10.0.0.0/8"]).unwrap();
        Rules { proxies, redirect: redirect.then(|| origin(ORIGIN).unwrap()), loopback }
    }

    fn passage(rules: &Rules, line: &str, peer: [u8; 4], fields: &[(&'static str, &'static str)]) -> Passage {
        let (method, uri) = line.split_once(' ').unwrap();
        let headers = fields.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
        let mut extensions = Extensions::new();
        extensions.insert(SocketAddr::from((peer, 4711)));
        rules.passage(&method.parse().unwrap(), &uri.parse().unwrap(), &headers.collect(), &extensions)
    }

    #[test]
    fn req_019_req_141_what_comes_in_the_clear_is_refused_or_without_credentials_redirected() {
        type Row<'a> = (&'a str, &'a [(&'static str, &'static str)], Option<&'a str>);
        let at = |path: &str| Passage::Redirect(HeaderValue::try_from(format!("{ORIGIN}{path}")).unwrap());
        let rows: &[Row<'_>] = &[
            ("GET /", &[], Some("/")),
            ("HEAD /a/b?c=d&e", &[], Some("/a/b?c=d&e")),
            ("GET /a?", &[], Some("/a?")),
            ("GET /%0d%0aset-cookie:x", &[], Some("/%0d%0aset-cookie:x")),
            ("GET //evil.example/", &[], Some("//evil.example/")),
            ("GET /@evil.example", &[], Some("/@evil.example")),
            ("GET /\\evil.example", &[], Some("/\\evil.example")),
            ("GET /../../a", &[], Some("/../../a")),
            ("GET /?access_tokens=b&token=access_token", &[], Some("/?access_tokens=b&token=access_token")),
            // The client's own idea of host and scheme is not asked for.
            ("GET /", &[("host", "evil.example"), ("x-forwarded-host", "evil.example")], Some("/")),
            ("GET http://evil.example/a", &[], Some("/a")),
            ("GET https://evil.example/a", &[], Some("/a")),
            ("GET https://evil.example", &[], Some("/")),
            ("GET /", &[("x-forwarded-proto", "https")], Some("/")),
            ("GET /", &[("forwarded", "proto=https")], Some("/")),
            // Whatever does not begin with a slash would become part of the host.
            ("GET *", &[], None),
            ("GET .evil.example", &[], None),
            ("GET evil.example:80", &[], None),
            ("GET http://evil.example?a", &[], None),
            // Raw bytes that browsers read in their own ways.
            ("GET /\u{e9}", &[], None),
            // Methods that do something.
            ("POST /", &[], None),
            ("PUT /", &[], None),
            ("DELETE /", &[], None),
            ("PATCH /", &[], None),
            ("OPTIONS /", &[], None),
            ("OPTIONS *", &[], None),
            ("OPTIONS /", &[("origin", "https://app.example"), ("access-control-request-method", "GET")], None),
            ("TRACE /", &[], None),
            ("get /", &[], None),
            // Credentials, also empty ones and those that are none.
            ("GET /", &[("authorization", "Bearer a")], None),
            ("HEAD /", &[("authorization", "Bearer a")], None),
            ("GET /", &[("authorization", "")], None),
            ("GET /", &[("authorization", "Basic YTpi")], None),
            ("GET /", &[("proxy-authorization", "Basic YTpi")], None),
            ("GET /", &[("cookie", "a=b")], None),
            ("GET /", &[("cookie", "")], None),
            ("GET /?access_token=a", &[], None),
            ("GET /?a=b&access%5Ftoken=a", &[], None),
            ("GET /?access_token", &[], None),
        ];
        for (line, fields, expected) in rows {
            let expected = expected.map_or(Passage::Closed, at);
            assert_eq!(passage(&rules(true, false), line, STRANGER, fields), expected, "{line} {fields:?}");
            assert_eq!(passage(&rules(false, false), line, STRANGER, fields), Passage::Closed, "{line} {fields:?}");
            // The same over TLS, and from this machine where that is allowed.
            let tls = [&[("x-forwarded-proto", "https")], *fields].concat();
            assert_eq!(passage(&rules(true, false), line, PROXY, &tls), Passage::Open, "{line} {fields:?}");
            let by_proxy = fields.iter().any(|(name, _)| name.contains("forwarded"));
            let open = if by_proxy { expected } else { Passage::Open };
            assert_eq!(passage(&rules(true, true), line, LOOPBACK, fields), open, "{line} {fields:?}");
            assert_ne!(passage(&rules(true, false), line, LOOPBACK, fields), Passage::Open, "{line} {fields:?}");
            assert_ne!(passage(&rules(true, true), line, STRANGER, fields), Passage::Open, "{line} {fields:?}");
        }
    }

    #[test]
    fn addresses_to_redirect_to_are_bounded() {
        let longest = format!("/{}", "a".repeat(MOST_LOCATION - ORIGIN.len() - 1));
        assert!(location(ORIGIN, &longest.parse().unwrap()).is_some());
        assert!(location(ORIGIN, &format!("{longest}a").parse().unwrap()).is_none());
    }

    #[test]
    fn origins_to_redirect_to() {
        for good in ["https://api.example", "https://api.example:8443", "https://[2001:db8::1]"] {
            assert_eq!(&*origin(good).unwrap(), good);
        }
        let target = |origin: &str| ConfigError::RedirectTarget(origin.to_owned());
        let fault = |origin: &str, fault| ConfigError::RedirectOrigin { origin: origin.to_owned(), fault };
        for error in [
            target("http://api.example"),
            target("http://localhost:3000"),
            target("https://*.api.example"),
            fault("", OriginFault::Empty),
            fault("null", OriginFault::Null),
            fault("api.example", OriginFault::Scheme),
            fault("https://api.example/", OriginFault::Path),
            fault("https://api.example/v1", OriginFault::Path),
            fault("https://api.example?a", OriginFault::Query),
            fault("https://a@api.example", OriginFault::UserInfo),
            fault("https://api.example:443", OriginFault::DefaultPort),
            fault("https://API.example", OriginFault::UpperCase),
            fault("https://api.example\r\nx: y", OriginFault::Host),
        ] {
            let (ConfigError::RedirectTarget(text) | ConfigError::RedirectOrigin { origin: text, .. }) = &error else {
                panic!("{error}")
            };
            assert_eq!(origin(text).unwrap_err(), ConfigErrors::from(error.clone()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn req_141_a_redirect_goes_to_the_origin_of_the_configuration(target in "(\\PC|[/?#@:\\\\.%]){0,60}") {
            if let Ok(uri) = target.parse::<Uri>()
                && let Some(location) = location(ORIGIN, &uri)
            {
                let location = location.to_str().unwrap().to_owned();
                prop_assert!(location.starts_with("https://api.example/"), "{location}");
                let parsed: Uri = location.parse().unwrap();
                prop_assert_eq!(parsed.authority().unwrap().as_str(), "api.example");
            }
        }
    }
}
