//! Whatever browsers, and those who play one, put into the fields that the layers for browsers read.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use bolero::check;
use futures::FutureExt as _;
use http::{HeaderName, HeaderValue, Method, Request, Response, header::HOST};
use portcullis::{
    browser::{ACCESS_COOKIE, CookieExtractLayer, CsrfGuard, CsrfLayer, REFRESH_COOKIE},
    client_ip::TrustedProxies,
    cors::{CorsPolicy, CorsStrictLayer},
    transport::{HstsLayer, RequireHttpsLayer, SecureHeadersLayer},
};
use tower_layer::Layer;
use tower_service::Service;

const FIELDS: [&str; 12] = [
    "origin",
    "cookie",
    "sec-fetch-site",
    "access-control-request-method",
    "access-control-request-headers",
    "access-control-request-private-network",
    "x-forwarded-proto",
    "forwarded",
    "host",
    "x-csrf-token",
    "authorization",
    "upgrade",
];

/// Answers 200 and nothing else.
#[derive(Clone)]
struct Inner;

impl<B> Service<Request<B>> for Inner {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        ready(Ok(Response::new(String::new())))
    }
}

/// A method, a peer, and fields; of each what it is, whether its value begins as a good one does, and more of it.
type Input = (u8, bool, Vec<(u8, u8, Vec<u8>)>);

fn request((method, proxied, fields): &Input) -> Request<()> {
    let mut request = Request::new(());
    let methods = [Method::GET, Method::POST, Method::OPTIONS, Method::DELETE];
    *request.method_mut() = methods[usize::from(*method) % methods.len()].clone();
    let peer = if *proxied { [10, 0, 0, 1] } else { [203, 0, 113, 9] };
    request.extensions_mut().insert(std::net::SocketAddr::from((peer, 4711)));
    request.headers_mut().insert(HOST, HeaderValue::from_static("api.example"));
    let good = [
        "",
        "https://app.example",
        "https://a.shop.example",
        "https://api.example",
        "https",
        "for=1.2.3.4;proto=https",
        "same-origin",
        "cross-site",
        "GET",
        "authorization",
        "__Host-portcullis-access=a.b.c",
        "__Host-portcullis-refresh=x; __Host-portcullis-csrf=y",
    ];
    for (name, begins, more) in fields {
        let value = [good[usize::from(*begins) % good.len()].as_bytes(), more].concat();
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            request.headers_mut().append(HeaderName::from_static(FIELDS[usize::from(*name) % FIELDS.len()]), value);
        }
    }
    request
}

fn status<S>(mut service: S, request: Request<()>) -> (u16, Option<HeaderValue>)
where
    S: Service<Request<()>, Error = Infallible>,
    S::Response: Answer,
{
    service.call(request).now_or_never().expect("at once").unwrap().told()
}

trait Answer {
    fn told(self) -> (u16, Option<HeaderValue>);
}

impl<B> Answer for Response<B> {
    fn told(self) -> (u16, Option<HeaderValue>) {
        (self.status().as_u16(), self.headers().get("access-control-allow-origin").cloned())
    }
}

#[test]
fn layers_for_browsers_answer_anything_out_of_their_table() {
    let proxies = TrustedProxies::parse(["10.0.0.0/8"]).unwrap();
    let guard = CsrfGuard::builder().trusted_origins(["https://app.example"]).build().unwrap();
    let policy = CorsPolicy::builder()
        .origins(["https://app.example", "https://*.shop.example"])
        .request_headers(["authorization"])
        .credentials();
    let cors = CorsStrictLayer::new(policy.build().unwrap());
    let https = RequireHttpsLayer::new(proxies.clone()).redirect_to("https://api.example").unwrap();
    let (hsts, fields) = (HstsLayer::new(proxies), SecureHeadersLayer::new());
    check!().with_type::<Input>().for_each(|input| {
        let request = || self::request(input);
        let csrf = CsrfLayer::new(guard.clone()).layer(Inner);
        let (refused, _) = status(csrf, request());
        assert!(matches!(refused, 200 | 403));
        let cookie = CookieExtractLayer::new(guard.clone()).or_bearer().layer(Inner);
        let (read, _) = status(cookie, request());
        assert!(matches!(read, 200 | 400 | 401 | 403));
        let (way, _) = status(fields.layer(hsts.layer(https.layer(Inner))), request());
        assert!(matches!(way, 200 | 308 | 403));
        let (asked, reader) = status(cors.layer(Inner), request());
        assert!(matches!(asked, 200 | 204));
        if let Some(reader) = reader {
            let reader = reader.to_str().unwrap();
            let below = reader.strip_prefix("https://").and_then(|host| host.strip_suffix(".shop.example"));
            let plain = |host: &str| host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
            assert!(reader == "https://app.example" || below.is_some_and(plain), "{reader}");
            assert_eq!(request().headers().get_all("origin").iter().count(), 1);
        }
        // What acts with one of our cookies says where it comes from, or is refused.
        let headers = request().headers().clone();
        let text = |name: &str| headers.get(name).map(|value| value.as_bytes().to_vec()).unwrap_or_default();
        let ours = headers.get_all("cookie").iter().any(|field| {
            let named = |pair: &[u8]| {
                [REFRESH_COOKIE, ACCESS_COOKIE].iter().any(|name| pair.starts_with(format!("{name}=").as_bytes()))
            };
            field.as_bytes().split(|&byte| byte == b';').any(|pair| named(pair.trim_ascii()))
        });
        if request().method() == Method::POST && ours && refused == 200 {
            let site = [&b"same-origin"[..], b"none"].contains(&text("sec-fetch-site").as_slice());
            let origin = [&b"https://app.example"[..], b"https://api.example"].contains(&text("origin").as_slice());
            assert!(site || origin, "{headers:?}");
        }
    });
}
