//! What comes in the clear, and the headers that keep the rest from it: mocks around layers, and raw bytes over sockets.

use std::{
    cell::Cell,
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use allocation_counter::measure;
use axum::{Extension, Router, routing};
use futures::FutureExt as _;
use http::{HeaderMap, HeaderValue, Request, Response, header::STRICT_TRANSPORT_SECURITY};
use http_body_util::BodyExt as _;
use portcullis::{
    client_ip::{ForwardedBy, Scheme, TrustedProxies},
    config::{ConfigError, OriginFault},
    transport::{HstsLayer, RequireHttpsLayer, SecureHeadersLayer},
};
use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    test_runner::{Config, TestRunner},
};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_test::mock;

use crate::support::{Log, Reply, Server, answers, get, send, serve};

const STRANGER: [u8; 4] = [203, 0, 113, 9];
const PROXY: [u8; 4] = [10, 0, 0, 1];
const HSTS: &str = "max-age=63072000; includeSubDomains";

fn proxies() -> TrustedProxies {
    TrustedProxies::parse(["10.0.0.0/8"]).unwrap()
}

fn request(peer: [u8; 4], fields: &[(&'static str, &str)]) -> Request<()> {
    let mut request = Request::new(());
    for (name, value) in fields {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    request.extensions_mut().insert(SocketAddr::from((peer, 4711)));
    request
}

/// What all layers together answer, and how often the handler was called.
struct Site {
    server: Server,
    calls: Arc<AtomicUsize>,
}

impl Site {
    async fn new(proxies: &[&str], change: impl FnOnce(RequireHttpsLayer) -> RequireHttpsLayer) -> Self {
        let proxies = TrustedProxies::parse(proxies).unwrap();
        Self::serving(proxies.clone(), change(RequireHttpsLayer::new(proxies)), None).await
    }

    async fn serving(proxies: TrustedProxies, https: RequireHttpsLayer, said: Option<Scheme>) -> Self {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let handler = routing::any(move || {
            counted.fetch_add(1, Relaxed);
            std::future::ready(([("strict-transport-security", "max-age=0"), ("cache-control", "public")], "secret"))
        });
        let app = Router::new()
            .route("/{*path}", handler)
            .layer(https)
            .layer(SecureHeadersLayer::new())
            .layer(HstsLayer::new(proxies));
        let app = match said {
            Some(scheme) => app.layer(Extension(scheme)),
            None => app,
        };
        Self { server: serve(app).await, calls }
    }

    async fn send(&self, line: &str, fields: &[&str]) -> Reply {
        let fields: Vec<_> = fields.iter().map(|field| field.as_bytes()).collect();
        send(self.server.address, line, &fields, b"").await
    }

    /// Sends a request that must not reach the handler.
    async fn stopped(&self, line: &str, fields: &[&str]) -> Reply {
        let before = self.calls.load(Relaxed);
        let reply = self.send(line, fields).await;
        assert_eq!(self.calls.load(Relaxed), before, "{line} {fields:?} reached the handler");
        assert_eq!(reply.header("strict-transport-security"), None, "{line} {fields:?}");
        assert!(!reply.text().contains("secret"));
        reply
    }

    async fn refused(&self, line: &str, fields: &[&str]) {
        let reply = self.stopped(line, fields).await;
        assert_eq!(reply.status, 403, "{line} {fields:?}");
        for absent in ["location", "www-authenticate"] {
            assert_eq!(reply.header(absent), None, "{line} {fields:?}");
        }
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        assert_eq!(reply.header("content-type"), Some("application/problem+json"));
        if !line.starts_with("HEAD") {
            assert_eq!(reply.json()["status"], 403);
        }
    }

    async fn redirected(&self, line: &str, fields: &[&str], location: &str) {
        let reply = self.stopped(line, fields).await;
        assert_eq!((reply.status, reply.header("location")), (308, Some(location)), "{line} {fields:?}");
        assert_eq!((reply.header("cache-control"), &reply.body[..]), (Some("no-store"), &b""[..]));
    }

    async fn passed(&self, line: &str, fields: &[&str]) -> Reply {
        let before = self.calls.load(Relaxed);
        let reply = self.send(line, fields).await;
        assert_eq!((reply.status, self.calls.load(Relaxed)), (200, before + 1), "{line} {fields:?}");
        reply
    }
}

fn redirecting(layer: RequireHttpsLayer) -> RequireHttpsLayer {
    layer.redirect_to("https://api.example").unwrap()
}

#[tokio::test]
async fn req_019_req_141_credentials_in_the_clear_are_refused_and_never_redirected() {
    const CREDENTIALS: &[&str] = &[
        "authorization: Bearer abc",
        "authorization: Basic YTpi",
        "authorization:",
        "proxy-authorization: Basic YTpi",
        "cookie: __Host-portcullis-access=abc",
        "cookie: a=b",
    ];
    let log = Log::default();
    let _guard = log.capture();
    for site in [Site::new(&[], redirecting).await, Site::new(&[], |layer| layer).await] {
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"] {
            for credential in CREDENTIALS {
                site.refused(&format!("{method} /a"), &[credential]).await;
            }
            site.refused(&format!("{method} /a?access_token=abc"), &[]).await;
            site.refused(&format!("{method} /a?x=1&%61ccess_token=abc"), &[]).await;
        }
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            site.refused(&format!("{method} /a"), &[]).await;
        }
        let preflight = ["origin: https://app.example", "access-control-request-method: GET"];
        site.refused("OPTIONS /a", &preflight).await;
    }
    assert!(log.text().contains("request_unsafe") && log.text().contains("request over plain HTTP"));
    assert!(!log.text().contains("abc"), "{}", log.text());
}

#[tokio::test]
async fn req_141_without_credentials_browsers_are_sent_to_the_same_path_over_tls() {
    let site = Site::new(&[], redirecting).await;
    for (line, location) in [
        ("GET /a", "https://api.example/a"),
        ("HEAD /a/b?c=d&e=%0d%0a", "https://api.example/a/b?c=d&e=%0d%0a"),
        ("GET //evil.example/a", "https://api.example//evil.example/a"),
        ("GET http://evil.example/a", "https://api.example/a"),
        ("GET https://evil.example/a", "https://api.example/a"),
    ] {
        site.redirected(line, &[], location).await;
        let fields = ["x-forwarded-host: evil.example", "x-forwarded-proto: https", "x-http-method-override: POST"];
        site.redirected(line, &fields, location).await;
    }
    let long = "a".repeat(8000);
    site.refused(&format!("GET /{long}"), &[]).await;
    // Nobody is redirected unless it is asked for.
    Site::new(&[], |layer| layer).await.refused("GET /a", &[]).await;
}

#[tokio::test]
async fn req_019_req_056_strangers_are_not_believed_on_how_they_came() {
    const SAID: &[&[&str]] = &[
        &[],
        &["x-forwarded-proto: https"],
        &["x-forwarded-proto: https, https"],
        &["forwarded: proto=https"],
        &["forwarded: for=10.0.0.1;proto=https;by=127.0.0.1", "x-forwarded-proto: https", "x-forwarded-for: 10.0.0.1"],
        &["x-forwarded-ssl: on", "front-end-https: on", "x-forwarded-scheme: https", "x-url-scheme: https"],
    ];
    for site in [Site::new(&[], |layer| layer).await, Site::new(&["10.0.0.0/8", "::1"], |layer| layer).await] {
        for said in SAID {
            site.refused("GET /a", said).await;
            site.refused("GET https://api.example/a", said).await;
            site.refused("POST /a", &[said, &["authorization: Bearer abc"][..]].concat()).await;
        }
    }
}

#[tokio::test]
async fn req_056_req_140_req_142_a_named_proxy_says_how_its_client_came() {
    let site = Site::new(&["127.0.0.1"], redirecting).await;
    for said in [
        &["x-forwarded-proto: https"][..],
        &["x-forwarded-proto: HTTPS", "x-forwarded-for: 203.0.113.9"],
        &["forwarded: for=203.0.113.9;proto=https"],
        &["forwarded: for=203.0.113.9;proto=https", "x-forwarded-proto: https"],
    ] {
        let reply = site.passed("GET /a", said).await;
        // `header` fails if there are two.
        assert_eq!(reply.header("strict-transport-security"), Some(HSTS), "{said:?}");
        assert_eq!(reply.header("cache-control"), Some("public"), "{said:?}");
        let reply = site.passed("POST /a", &[said, &["authorization: Bearer abc"]].concat()).await;
        assert_eq!(reply.header("strict-transport-security"), Some(HSTS), "{said:?}");
        assert_eq!(reply.header("cache-control"), Some("no-store"), "{said:?}");
    }
    for said in [
        &["x-forwarded-proto: http"][..],
        &["x-forwarded-proto: https", "x-forwarded-proto: http"],
        &["x-forwarded-proto: http, https"],
        &["x-forwarded-proto:"],
        &["forwarded: for=203.0.113.9"],
        &["forwarded: for=203.0.113.9;proto=http", "x-forwarded-proto: https"],
        &["forwarded: for=203.0.113.9;host=\"a;proto=https;b=c\""],
        &[],
    ] {
        site.redirected("GET /a", said, "https://api.example/a").await;
        site.refused("GET /a", &[said, &["authorization: Bearer abc"]].concat()).await;
    }
    let proxies = TrustedProxies::parse(["127.0.0.1"]).unwrap().only(ForwardedBy::XForwardedFor);
    let site = Site::serving(proxies.clone(), RequireHttpsLayer::new(proxies), None).await;
    site.passed("GET /a", &["forwarded: for=203.0.113.9", "x-forwarded-proto: https"]).await;
    site.refused("GET /a", &["forwarded: proto=https"]).await;
}

#[tokio::test]
async fn who_terminates_tls_here_says_so() {
    let site = |said| async move {
        let https = RequireHttpsLayer::new(TrustedProxies::none());
        Site::serving(TrustedProxies::none(), https, Some(said)).await
    };
    let reply = site(Scheme::Https).await.passed("GET /a", &["x-forwarded-proto: http"]).await;
    assert_eq!(reply.header("strict-transport-security"), Some(HSTS));
    site(Scheme::Http).await.refused("GET /a", &["x-forwarded-proto: https"]).await;
}

#[tokio::test]
async fn loopback_passes_where_it_is_allowed_and_no_proxy_shows() {
    let site = Site::new(&[], RequireHttpsLayer::allow_loopback).await;
    let reply = site.passed("POST /a", &["authorization: Bearer abc"]).await;
    assert_eq!(reply.header("strict-transport-security"), None, "in the clear");
    for field in [
        "x-forwarded-for: 203.0.113.9",
        "x-forwarded-host: a",
        "forwarded: for=203.0.113.9",
        "via: 1.1 a",
        "x-real-ip: a",
    ] {
        site.refused("GET /a", &[field]).await;
    }
    Site::new(&["127.0.0.1"], RequireHttpsLayer::allow_loopback).await.refused("GET /a", &[]).await;
    let service = RequireHttpsLayer::new(proxies()).allow_loopback().layer(service_fn(hello));
    for (peer, status) in [([127, 0, 0, 1], 200), (STRANGER, 403), (PROXY, 403), ([0, 0, 0, 0], 403)] {
        assert_eq!(service.clone().oneshot(request(peer, &[])).await.unwrap().status(), status, "{peer:?}");
    }
    // Where the server tells no peer.
    assert_eq!(service.oneshot(Request::new(())).await.unwrap().status(), 403);
}

async fn hello(_: Request<()>) -> Result<Response<String>, Infallible> {
    Ok(Response::new("hello".to_owned()))
}

#[tokio::test]
async fn grpc_in_the_clear_is_told_permission_denied() {
    let service = RequireHttpsLayer::new(proxies()).answers(answers()).layer(service_fn(hello));
    for (content_type, field, frame) in [
        ("application/grpc", Some("7"), ""),
        ("application/grpc+proto", Some("7"), ""),
        ("application/grpc-web+proto", None, "grpc-status:7\r\ngrpc-message:Forbidden\r\n"),
    ] {
        let request = request(STRANGER, &[("content-type", content_type), ("authorization", "Bearer abc")]);
        let response = service.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200, "{content_type}");
        assert_eq!(response.headers().get("grpc-status").map(|field| field.to_str().unwrap()), field, "{content_type}");
        assert!(!response.headers().contains_key("www-authenticate"));
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(body.ends_with(frame.as_bytes()) && body.is_empty() == frame.is_empty(), "{content_type}");
    }
}

#[tokio::test]
async fn back_pressure_and_errors_of_the_inner_service_pass_through_all_three() {
    let (inner, mut handle) = mock::pair::<&'static str, Response<String>>();
    let called: fn(Request<()>) -> &'static str = |_| "called";
    let stack = ServiceBuilder::new()
        .layer(HstsLayer::new(proxies()))
        .layer(SecureHeadersLayer::new())
        .layer(RequireHttpsLayer::new(proxies()))
        .service(tower::util::MapRequest::new(inner, called));
    let mut service = mock::Spawn::new(stack);
    handle.allow(0);
    assert!(service.poll_ready::<Request<()>>().is_pending());
    handle.allow(1);
    assert!(service.poll_ready::<Request<()>>().is_ready());
    let response = service.call(request(PROXY, &[("x-forwarded-proto", "https")]));
    handle.next_request().await.unwrap().1.send_error("inner");
    assert!(response.await.unwrap_err().to_string().contains("inner"));
    // What is refused does not reach it.
    handle.allow(1);
    assert!(service.poll_ready::<Request<()>>().is_ready());
    let response = service.call(request(STRANGER, &[("x-forwarded-proto", "https")])).await.unwrap();
    assert_eq!(response.status(), 403);
    assert!(handle.next_request().now_or_never().is_none(), "the inner service was called");
}

#[tokio::test]
async fn refusals_and_answers_get_the_headers_and_a_handlers_own_are_kept() {
    let site = Site::new(&["127.0.0.1"], |layer| layer).await;
    for reply in [
        site.passed("GET /a", &["x-forwarded-proto: https"]).await,
        site.stopped("GET /a", &[]).await,
        get(site.server.address, "/", &[b"x-forwarded-proto: https"]).await,
    ] {
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("content-security-policy", "frame-ancestors 'none'"),
            ("referrer-policy", "no-referrer"),
        ] {
            assert_eq!(reply.header(name), Some(value), "{reply:?}");
        }
        assert_eq!(reply.header("cross-origin-resource-policy"), None);
    }
    let page = |_: Request<()>| async {
        let response = Response::builder().header("x-frame-options", "SAMEORIGIN").header("cache-control", "private");
        response.header("referrer-policy", "origin").body(())
    };
    let service = SecureHeadersLayer::new().layer(service_fn(page));
    let response = service.oneshot(request(STRANGER, &[("cookie", "a=b")])).await.unwrap();
    let kept = |name| response.headers().get(name).map(|value: &HeaderValue| value.to_str().unwrap());
    assert_eq!(kept("x-frame-options"), Some("SAMEORIGIN"));
    assert_eq!(kept("content-security-policy"), None, "it would go before the handler's own");
    assert_eq!((kept("referrer-policy"), kept("cache-control")), (Some("origin"), Some("private")));
}

#[test]
fn mistakes_about_transport_are_named() {
    let redirect = |origin: &str| RequireHttpsLayer::new(proxies()).redirect_to(origin).unwrap_err();
    let first = |errors: &portcullis::config::ConfigErrors| errors.iter().next().cloned().unwrap();
    assert_eq!(first(&redirect("http://api.example")), ConfigError::RedirectTarget("http://api.example".to_owned()));
    let fault = OriginFault::Path;
    let origin = "https://api.example/".to_owned();
    assert_eq!(first(&redirect(&origin)), ConfigError::RedirectOrigin { origin, fault });
    assert!(redirect("https://a/b").to_string().starts_with("origin \"https://a/b\" to redirect to has a path"));
    let preload = HstsLayer::builder(proxies()).without_subdomains().preload().build().unwrap_err();
    assert_eq!(first(&preload), ConfigError::HstsPreload);
}

#[test]
fn a_request_over_tls_takes_no_allocation_to_let_pass() {
    let empty = service_fn(|_: Request<()>| std::future::ready(Ok::<_, Infallible>(Response::new(()))));
    let mut stack = redirecting(RequireHttpsLayer::new(proxies())).layer(empty);
    let mut hsts = HstsLayer::new(proxies()).layer(empty);
    let tls = || request(PROXY, &[("x-forwarded-proto", "https"), ("forwarded", "for=203.0.113.9;proto=https")]);
    let (one, two) = (tls(), tls());
    let passed = measure(|| assert_eq!(stack.call(one).now_or_never().unwrap().unwrap().status(), 200));
    assert_eq!(passed.count_total, 0);
    // What the map of headers takes for the first of them.
    let field = measure(|| {
        let mut headers = HeaderMap::new();
        headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(HSTS));
    });
    let added = measure(|| assert_eq!(hsts.call(two).now_or_never().unwrap().unwrap().headers().len(), 1));
    assert_eq!(added.count_total, field.count_total);
}

/// Whether proxies say `https` and nothing else, worked out on texts: each byte is a character of them.
fn say_https(forwarded: &[String], proto: &[String]) -> bool {
    let trim = |text: &str| text.trim_matches([' ', '\t']).to_owned();
    let elements = |fields: &[String]| fields.iter().flat_map(|field| field.split(',')).map(trim).collect::<Vec<_>>();
    // Pairs of an element, if all of it can be read.
    let pairs = |element: &String| {
        let pair = |text: &str| {
            let (name, value) = text.trim_matches([' ', '\t']).split_once('=')?;
            let quotes = value.matches('"').count();
            let is_quoted = quotes == 2 && value.len() > 1 && value.starts_with('"') && value.ends_with('"');
            let graphic = |text: &str| text.chars().all(|c| c.is_ascii_graphic());
            let readable = graphic(name) && graphic(value) && !value.contains('\\') && (quotes == 0 || is_quoted);
            readable.then(|| (name.to_ascii_lowercase(), value.replace('"', "").to_ascii_lowercase()))
        };
        element.split(';').map(pair).collect::<Option<Vec<_>>>()
    };
    let hop = |element: &String| {
        let schemes = pairs(element).into_iter().flatten().filter(|(name, _)| name == "proto").map(|(_, value)| value);
        schemes.collect::<Vec<_>>() == ["https"]
    };
    let (hops, words) = (elements(forwarded), elements(proto));
    let count = hops.len() + words.len();
    (1..=16).contains(&count) && hops.iter().all(hop) && words.iter().all(|word| word.eq_ignore_ascii_case("https"))
}

/// Fields with these elements in them, and at times bytes of any kind.
fn fields(element: impl Strategy<Value = String> + Clone + 'static) -> impl Strategy<Value = Vec<Vec<u8>>> {
    let list = |most| {
        let padded =
            ("[ \t]{0,2}", element.clone(), "[ \t]{0,2}").prop_map(|(before, text, after)| before + &text + &after);
        vec(padded, 1..=most).prop_map(|list| list.join(",").into_bytes())
    };
    let repeated = (element.clone(), 6..20_usize).prop_map(|(text, times)| vec![text; times].join(",").into_bytes());
    let field = prop_oneof![12 => list(1), 6 => list(3), 2 => repeated, 1 => vec(any::<u8>(), 0..30)];
    prop_oneof![3 => Just(Vec::new()), 6 => vec(field.clone(), 1), 1 => vec(field, 2..3)]
}

/// Strangers never pass; whom a trusted proxy speaks for, exactly if the proxy says `https` and nothing else.
#[test]
fn req_019_req_140_any_bytes_about_the_scheme_get_an_answer_of_the_table() {
    const SCHEMES: &[&str] =
        &["https", "https", "https", "HTTPS", "http", "", "wss", "https ", "\"https\"", "https;q=1"];
    const PAIRS: &[&str] = &[
        "proto=https",
        "proto=https",
        "proto=https",
        "Proto=\"HTTPS\"",
        "proto=http",
        "proto =http;proto=https",
        "proto=\"https",
        "proto = https",
        "proto=ht\\tps",
        "proto",
        "https",
        "for=203.0.113.9",
        "host=\"a;proto=https\"",
        "host=\"a,proto=https\"",
        "x=\"",
        "by=\u{e9}",
        "",
    ];
    let statement = prop_oneof![
        3 => Just("proto=https".to_owned()),
        2 => select(&["for=\"[2001:db8::9]:80\"; proto=https;by=_a", "host=a;PROTO=\"https\""][..]).prop_map(str::to_owned),
        3 => vec(select(PAIRS), 1..4).prop_map(|pairs| pairs.join(";")),
    ];
    let scheme = prop_oneof![3 => Just("https".to_owned()), 2 => select(SCHEMES).prop_map(str::to_owned)];
    let only = select(&[None, None, Some(ForwardedBy::Forwarded), Some(ForwardedBy::XForwardedFor)][..]);
    let said = (only, fields(statement.boxed()), fields(scheme.boxed()));
    let config = Config { failure_persistence: None, ..Config::with_cases(4 * Config::default().cases) };
    let least = config.cases / 20;
    let (passed, refused) = (Cell::new(0), Cell::new(0));
    let tried = TestRunner::new(config).run(&said, |(only, forwarded, proto)| {
        let proxies = only.map_or_else(proxies, |only| proxies().only(only));
        let mut stack = ServiceBuilder::new()
            .layer(HstsLayer::new(proxies.clone()))
            .layer(RequireHttpsLayer::new(proxies))
            .service(service_fn(hello));
        for peer in [STRANGER, PROXY] {
            let mut request = request(peer, &[("authorization", "Bearer abc")]);
            let mut put = |name: &'static str, values: &[Vec<u8>]| {
                let mut texts = Vec::new();
                for value in values {
                    if let Ok(field) = HeaderValue::from_bytes(value) {
                        request.headers_mut().append(name, field);
                        texts.push(value.iter().copied().map(char::from).collect::<String>());
                    }
                }
                texts
            };
            let (mut hops, mut words) = (put("forwarded", &forwarded), put("x-forwarded-proto", &proto));
            match only {
                Some(ForwardedBy::Forwarded) => words.clear(),
                Some(_) => hops.clear(),
                None => {}
            }
            let admitted = peer == PROXY && say_https(&hops, &words);
            let response = stack.call(request).now_or_never().unwrap().unwrap();
            let hsts = response.headers().get_all(STRICT_TRANSPORT_SECURITY).iter().count();
            prop_assert_eq!(
                (response.status().as_u16(), hsts),
                if admitted { (200, 1) } else { (403, 0) },
                "{:?}",
                peer
            );
            let kind = if admitted { &passed } else { &refused };
            kind.set(kind.get() + 1);
        }
        Ok(())
    });
    tried.unwrap();
    assert!(passed.get() >= least && refused.get() >= 2 * least, "{passed:?} {refused:?}");
}
