//! The decision: on whose behalf did a browser send this request?

use http::{
    HeaderMap, HeaderValue, Method, Uri,
    header::{HOST, ORIGIN, UPGRADE},
};

use crate::fetch::{SEC_FETCH_SITE, is_loopback, single, split_port};

/// What a request says of where it comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Site {
    /// It may come from anywhere: its method changes nothing, or its origin is trusted, or its own.
    Fine,
    /// It says nothing, as programs do and browsers of long ago.
    Silent,
}

/// Tells where a request comes from, by what a page cannot forge; or which of it says that it is another site's.
pub(super) fn judge(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    is_trusted: impl Fn(&[u8]) -> bool,
) -> Result<Site, &'static str> {
    if is_safe(method, headers) {
        return Ok(Site::Fine);
    }
    let origin = single(headers, &ORIGIN);
    if let Ok(Some(origin)) = origin
        && is_trusted(origin.as_bytes())
    {
        return Ok(Site::Fine);
    }
    match single(headers, &SEC_FETCH_SITE).map(|site| site.map(HeaderValue::as_bytes)) {
        Ok(Some(b"same-origin" | b"none")) => return Ok(Site::Fine),
        Ok(Some(_)) => return Err("`Sec-Fetch-Site` is neither `same-origin` nor `none`"),
        Err(_) => return Err("`Sec-Fetch-Site` is repeated"),
        Ok(None) => {}
    }
    match origin {
        Ok(None) => Ok(Site::Silent),
        Ok(Some(origin)) => {
            let host = effective_host(uri, headers).ok_or("`Host` is missing or repeated")?;
            let own = is_own(origin.as_bytes(), host);
            if own { Ok(Site::Fine) } else { Err("`Origin` is not the request's own") }
        }
        Err(_) => Err("`Origin` is repeated"),
    }
}

/// Whether a request asks for nothing to be changed (RFC 9110 §9.2.1). `TRACE` is safe there; no page sends it, and no handler needs it.
fn is_safe(method: &Method, headers: &HeaderMap) -> bool {
    // A handshake opens a socket that can do anything, with the cookies of whoever is made to send it; pages of other sites may
    // send it, and no preflight asks for permission.
    let handshake = || method == Method::GET && headers.contains_key(UPGRADE);
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) && !handshake()
}

/// Where a request was sent: the target's authority counts before the field (RFC 9112 §3.2.2; RFC 9113 §8.3.1).
fn effective_host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a [u8]> {
    match uri.authority() {
        Some(authority) => Some(authority.as_str().as_bytes()),
        None => single(headers, &HOST).ok().flatten().map(HeaderValue::as_bytes),
    }
}

/// Whether an origin is the one that a request was sent to. The scheme is not seen from here, so it has to be `https`, or else whoever
/// is on the network could be the page; but for this machine, where nobody is.
fn is_own(origin: &[u8], host: &[u8]) -> bool {
    let Ok(origin) = std::str::from_utf8(origin) else { return false };
    let (rest, default_port) = match (origin.strip_prefix("https://"), origin.strip_prefix("http://")) {
        (Some(rest), _) => (rest, ":443"),
        (None, Some(rest)) if split_port(rest).is_ok_and(|(host, _)| is_loopback(host)) => (rest, ":80"),
        _ => return false,
    };
    // Browsers never write the default port in an origin. In `Host` they do not either, but what stands in between may.
    let host = host.strip_suffix(default_port.as_bytes()).unwrap_or(host);
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._:[]".contains(&byte);
    !rest.is_empty() && rest.bytes().all(plain) && !rest.ends_with(default_port) && rest.as_bytes() == host
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::FutureExt as _;
    use http::{Request, Response};
    use proptest::{prelude::*, sample::select};
    use tower::{Layer, Service, service_fn};

    use super::*;
    use crate::fetch::WebOrigin;

    const TRUSTED: &str = "https://app.example";
    const FOREIGN: &str = "`Sec-Fetch-Site` is neither `same-origin` nor `none`";
    const OTHER: &str = "`Origin` is not the request's own";
    const HOSTLESS: &str = "`Host` is missing or repeated";

    type Row<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], Result<Site, &'static str>);

    fn request(method: &str, target: &str, fields: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in fields {
            request = request.header(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        request.body(()).unwrap()
    }

    fn judged(request: &Request<()>) -> Result<Site, &'static str> {
        judge(request.method(), request.uri(), request.headers(), |origin| origin == TRUSTED.as_bytes())
    }

    #[test]
    fn req_156_req_157_where_a_request_comes_from() {
        let (fine, silent, foreign, other) = (Ok(Site::Fine), Ok(Site::Silent), Err(FOREIGN), Err(OTHER));
        let (twice, origins) = (Err("`Sec-Fetch-Site` is repeated"), Err("`Origin` is repeated"));
        let (host, site, origin, upgrade) = ("host", "sec-fetch-site", "origin", ("upgrade", "websocket"));
        let (here, own) = ((host, "api.example"), (origin, "https://api.example"));
        #[rustfmt::skip]
        let rows: &[Row<'_>] = &[
            // Methods.
            ("GET", "/", &[here, (site, "cross-site")], fine),
            ("HEAD", "/", &[here, (site, "cross-site"), (origin, "null")], fine),
            ("OPTIONS", "/", &[here, (origin, "https://evil.example")], fine),
            ("TRACE", "/", &[here, (site, "cross-site")], foreign),
            ("POST", "/", &[here, (site, "cross-site")], foreign),
            ("PUT", "/", &[here, (site, "cross-site")], foreign),
            ("PATCH", "/", &[here, (site, "cross-site")], foreign),
            ("DELETE", "/", &[here, (site, "cross-site")], foreign),
            ("CONNECT", "/", &[here, (site, "cross-site")], foreign),
            ("get", "/", &[here, (site, "cross-site")], foreign),
            ("BREW", "/", &[here, (site, "cross-site")], foreign),
            ("GET", "/", &[here, (site, "cross-site"), ("x-http-method-override", "DELETE")], fine),
            // A handshake may do anything.
            ("GET", "/", &[here, upgrade, (site, "cross-site")], foreign),
            ("GET", "/", &[here, upgrade, (origin, "https://evil.example")], other),
            ("GET", "/", &[here, upgrade, own], fine),
            ("GET", "/", &[here, upgrade, (origin, TRUSTED)], fine),
            ("GET", "/", &[here, upgrade, (site, "same-origin")], fine),
            ("GET", "/", &[here, upgrade], silent),
            ("GET", "/", &[here, ("upgrade", ""), (site, "cross-site")], foreign),
            // Trusted origins.
            ("POST", "/", &[here, (origin, TRUSTED)], fine),
            ("POST", "/", &[here, (origin, TRUSTED), (site, "cross-site")], fine),
            ("POST", "/", &[here, (origin, TRUSTED), (site, "cross-site"), (site, "x")], fine),
            ("POST", "/", &[here, (origin, TRUSTED), (origin, TRUSTED)], origins),
            ("POST", "/", &[here, (origin, TRUSTED), (origin, TRUSTED), (site, "cross-site")], foreign),
            ("POST", "/", &[here, (origin, "https://app.example:443")], other),
            ("POST", "/", &[here, (origin, "https://app.example/")], other),
            ("POST", "/", &[here, (origin, "https://App.example")], other),
            ("POST", "/", &[here, (origin, "http://app.example")], other),
            ("POST", "/", &[here, (origin, "https://app.example.evil.example")], other),
            ("POST", "/", &[here, (origin, "https://x.app.example")], other),
            ("POST", "/", &[here, (origin, "https://app.example, https://app.example")], other),
            // Fetch metadata.
            ("POST", "/", &[here, (site, "same-origin")], fine),
            ("POST", "/", &[here, (site, "none")], fine),
            ("POST", "/", &[here, (site, "same-site")], foreign),
            ("POST", "/", &[here, (site, "")], foreign),
            ("POST", "/", &[here, (site, "Same-Origin")], foreign),
            ("POST", "/", &[here, (site, "same-origin, cross-site")], foreign),
            ("POST", "/", &[here, (site, "same-origin;x")], foreign),
            ("POST", "/", &[here, (site, "\u{e9}")], foreign),
            ("POST", "/", &[here, (site, "same-origin"), (site, "same-origin")], twice),
            ("POST", "/", &[here, (site, "none"), (site, "cross-site")], twice),
            ("POST", "/", &[here, (site, "same-site"), own], foreign),
            ("POST", "/", &[here, (site, "same-origin"), (origin, "https://evil.example")], fine),
            ("POST", "/", &[here, (site, "none"), (origin, "null")], fine),
            // The origin and the host.
            ("POST", "/", &[here, own], fine),
            ("POST", "/", &[(host, "api.example:443"), own], fine),
            ("POST", "/", &[(host, "api.example:8443"), (origin, "https://api.example:8443")], fine),
            ("POST", "/", &[(host, "api.example:8443"), own], other),
            ("POST", "/", &[here, (origin, "https://api.example:8443")], other),
            ("POST", "/", &[(host, "api.example:80"), own], other),
            ("POST", "/", &[(host, "api.example:443"), (origin, "https://api.example:443")], other),
            ("POST", "/", &[(host, "api.example:443:443"), (origin, "https://api.example:443")], other),
            ("POST", "/", &[here, (origin, "http://api.example")], other),
            ("POST", "/", &[here, (origin, "https://API.example")], other),
            ("POST", "/", &[(host, "API.example"), (origin, "https://API.example")], other),
            ("POST", "/", &[here, (origin, "https://api.example.")], other),
            ("POST", "/", &[here, (origin, "https://api.example/")], other),
            ("POST", "/", &[(host, "api.example/"), (origin, "https://api.example/")], other),
            ("POST", "/", &[(host, "u@api.example"), (origin, "https://u@api.example")], other),
            ("POST", "/", &[here, (origin, "api.example")], other),
            ("POST", "/", &[here, (origin, "wss://api.example")], other),
            ("POST", "/", &[here, (origin, "null")], other),
            ("POST", "/", &[(host, "null"), (origin, "null")], other),
            ("POST", "/", &[here, (origin, "")], other),
            ("POST", "/", &[(host, ""), (origin, "https://")], other),
            ("POST", "/", &[(host, ":443"), (origin, "https://")], other),
            ("POST", "/", &[here, (origin, "\u{e9}")], other),
            ("POST", "/", &[here, own, own], origins),
            ("POST", "/", &[own], Err(HOSTLESS)),
            ("POST", "/", &[here, here, own], Err(HOSTLESS)),
            ("POST", "/", &[here, (host, "evil.example"), (origin, "https://evil.example")], Err(HOSTLESS)),
            // The target's authority, as in HTTP/2.
            ("POST", "https://api.example/", &[own], fine),
            ("POST", "https://api.example:443/", &[own], fine),
            ("POST", "https://api.example/", &[(host, "evil.example"), own], fine),
            ("POST", "https://api.example/", &[(host, "evil.example"), (origin, "https://evil.example")], other),
            ("POST", "https://u@api.example/", &[own], other),
            // This machine.
            ("POST", "/", &[(host, "localhost:3000"), (origin, "http://localhost:3000")], fine),
            ("POST", "/", &[(host, "localhost:80"), (origin, "http://localhost")], fine),
            ("POST", "/", &[(host, "localhost"), (origin, "http://localhost")], fine),
            ("POST", "/", &[(host, "[::1]:8080"), (origin, "http://[::1]:8080")], fine),
            ("POST", "/", &[(host, "127.0.0.1:8080"), (origin, "http://127.0.0.1:8080")], fine),
            ("POST", "/", &[(host, "localhost:3000"), (origin, "http://localhost:3001")], other),
            ("POST", "/", &[(host, "localhost:443"), (origin, "http://localhost")], other),
            ("POST", "/", &[(host, "localhost:3000"), (origin, "http://127.0.0.1:3000")], other),
            ("POST", "/", &[(host, "localhost.example"), (origin, "http://localhost.example")], other),
            ("POST", "/", &[(host, "10.0.0.1"), (origin, "http://10.0.0.1")], other),
            // Nothing said.
            ("POST", "/", &[here], silent),
            ("POST", "/", &[], silent),
            ("POST", "/", &[here, ("referer", "https://evil.example/")], silent),
            ("POST", "/", &[here, ("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")], silent),
        ];
        for (method, target, fields, expected) in rows {
            assert_eq!(judged(&request(method, target, fields)), *expected, "{method} {target} {fields:?}");
        }
    }

    /// What tower-http's layer says of a request.
    fn tower_http_passes(request: Request<()>) -> bool {
        let inner = service_fn(|_: Request<()>| std::future::ready(Ok::<_, Infallible>(Response::new(String::new()))));
        let layer = tower_http::csrf::CsrfLayer::new().add_trusted_origin(TRUSTED).unwrap();
        layer.layer(inner).call(request).now_or_never().unwrap().unwrap().status() == 200
    }

    /// Where we refuse on purpose what tower-http lets pass.
    fn is_exception(request: &Request<()>) -> bool {
        let headers = request.headers();
        let values = |name: &str| headers.get_all(name).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>();
        let (origins, sites) = (values("origin"), values("sec-fetch-site"));
        let odd = |origin: &[u8]| {
            let origin = std::str::from_utf8(origin).map(WebOrigin::parse);
            // Plain HTTP of another machine; or what no browser sends.
            !origin.is_ok_and(|origin| origin.is_ok_and(|origin| origin.secure || origin.is_loopback()))
        };
        let repeated = [&origins, &sites, &values("host")].iter().any(|values| values.len() > 1);
        let handshake = request.method() == Method::GET && headers.contains_key(UPGRADE);
        repeated || handshake || sites.contains(&&b""[..]) || origins.into_iter().any(odd)
    }

    /// The one thing that we let pass and tower-http does not is a default port that stands in `Host` alone.
    fn without_default_port(mut request: Request<()>) -> Request<()> {
        let https = request.headers().get(ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https://"));
        let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        if let Some(host) = host.strip_suffix(if https { ":443" } else { ":80" }) {
            let host = host.parse().unwrap();
            request.headers_mut().insert(HOST, host);
        }
        request
    }

    fn requests() -> impl Strategy<Value = Request<()>> {
        let hosts =
            ["api.example", "api.example:443", "api.example:8443", "localhost:3000", "localhost:80", "[::1]", ""];
        let origin = prop_oneof![
            8 => (select(vec!["https://", "http://"]), select(hosts.to_vec())).prop_map(|(a, b)| format!("{a}{b}")),
            2 => select(vec![TRUSTED, "null", "", "https://api.example/", "https://API.example"]).prop_map(String::from),
            1 => "[!-~]{0,20}",
        ];
        let site = prop_oneof![
            6 => select(vec!["same-origin", "none", "same-site", "cross-site", ""]).prop_map(String::from),
            1 => "[!-~]{0,12}",
        ];
        let fields = |name: &'static str, values: BoxedStrategy<String>, most: usize| {
            let values = proptest::collection::vec(values, 0..=most);
            values.prop_map(move |values| values.into_iter().map(|value| (name, value)).collect::<Vec<_>>())
        };
        let method = select(vec!["POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW", "GET", "HEAD", "OPTIONS"]);
        let target =
            prop_oneof![3 => Just("/"), 1 => Just("https://api.example/"), 1 => Just("http://localhost:3000/")];
        let host = prop_oneof![8 => select(hosts.to_vec()).prop_map(String::from), 1 => "[!-~]{0,12}"];
        let upgrade = fields("upgrade", Just("websocket".to_owned()).boxed(), 1);
        let all = (fields("host", host.boxed(), 2), fields("origin", origin.boxed(), 2));
        (method, target, all, fields("sec-fetch-site", site.boxed(), 2), upgrade).prop_map(
            |(method, target, (hosts, origins), sites, upgrades)| {
                let all: Vec<_> = [hosts, origins, sites, upgrades].concat();
                let all: Vec<_> = all.iter().map(|(name, value)| (*name, value.as_str())).collect();
                request(method, target, &all)
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        /// The engine that others use says the same, but where we mean to say something else.
        #[test]
        fn req_157_without_cookies_the_verdict_is_tower_https_or_stricter(request in requests()) {
            let (ours, theirs) = (judged(&request).is_ok(), tower_http_passes(request.clone()));
            prop_assert!(ours || !theirs || is_exception(&request), "we are stricter: {request:?}");
            let without = without_default_port(request.clone());
            prop_assert!(!ours || theirs || tower_http_passes(without), "we are laxer: {request:?}");
        }
    }
}
