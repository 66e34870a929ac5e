//! Cookies as credentials, and requests that other sites cause: around counted services, and over real sockets.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

use aws_lc_rs::hmac;
use axum::{Router, routing::any as on_any};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures::FutureExt as _;
use http::{HeaderValue, Request, Response};
use portcullis::{
    bearer::{BearerExtractLayer, Credential},
    browser::{ACCESS_COOKIE, CSRF_COOKIE, CookieExtractLayer, CsrfGuard, CsrfLayer, REFRESH_COOKIE},
    jwt::Algorithm,
    principal::Principal,
    rejection::{Rejection, Wire},
};
use proptest::prelude::*;
use tower::{Layer, Service, ServiceBuilder, service_fn};

use crate::support::{Authority, Log, Reply, Server, answers, send, serve};

const SECRET: &str = "0123456789abcdef0123456789abcdeffedcba9876543210fedcba9876543210";
const FOREIGN: &[u8] = b"sec-fetch-site: cross-site";
const OWN: &[u8] = b"sec-fetch-site: same-origin";

fn guard() -> CsrfGuard {
    CsrfGuard::builder().trusted_origins(["https://app.example"]).secret(SECRET.into()).build().unwrap()
}

/// The fields of a browser that has a session and says nothing of where it is: its cookies, and the token as it should be.
fn session_fields() -> (String, String) {
    let (session, nonce) = ([7; 16], [9; 16]);
    let refresh = URL_SAFE_NO_PAD.encode([&session[..], &[1; 32]].concat());
    let said = [&[1][..], &nonce].concat();
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let mac = hmac::sign(&key, &[b"portcullis csrf", &said[..], &session].concat());
    let token = URL_SAFE_NO_PAD.encode([&said[..], mac.as_ref()].concat());
    (format!("{REFRESH_COOKIE}={refresh}; {CSRF_COOKIE}={token}"), token)
}

/// `/account` takes the cookie, `/either` the header too, `/open` strangers as well, `/form` anybody of this site.
async fn server(authority: &Authority) -> Server {
    let (api, guard) = (authority.api().realm("test").unwrap(), guard());
    let who =
        |caller: Option<Principal>| async move { caller.map_or("stranger".to_owned(), |c| c.subject().to_owned()) };
    let cached =
        |field: &'static str| on_any(move || async move { ([("cache-control", field), ("vary", "accept")], "") });
    let account = Router::new()
        .route("/account", on_any(who))
        .route("/account/public", cached("public, max-age=60"))
        .route("/account/private", cached("max-age=60, Private"));
    let app = account
        .layer(api.authenticate_cookie(guard.clone()))
        .merge(Router::new().route("/either", on_any(who)).layer(api.authenticate_cookie(guard.clone()).or_bearer()))
        .merge(
            Router::new()
                .route("/open", on_any(who))
                .layer(api.authenticate_cookie(guard.clone()).or_bearer().optional()),
        )
        .merge(Router::new().route("/strangers", on_any(who)).layer(api.authenticate_cookie(guard.clone()).optional()))
        .merge(Router::new().route("/form", on_any(|| async { "done" })).layer(CsrfLayer::new(guard)));
    serve(app).await
}

/// A service behind a layer, and how often it was called.
fn counted<L, S>(layer: &L) -> (S, Arc<AtomicUsize>)
where
    L: Layer<tower::util::BoxCloneService<Request<()>, Response<String>, Infallible>, Service = S>,
{
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    let inner = service_fn(move |_: Request<()>| {
        counter.fetch_add(1, Relaxed);
        std::future::ready(Ok(Response::new(String::new())))
    });
    (layer.layer(tower::util::BoxCloneService::new(inner)), calls)
}

fn request(method: &str, fields: &[(&str, &str)]) -> Request<()> {
    let new = Request::builder().method(method).uri("/");
    fields.iter().fold(new, |request, (name, value)| request.header(*name, *value)).body(()).unwrap()
}

/// Head of the answer of a layer that answers at once.
fn answered<S, B>(service: &mut S, request: Request<()>) -> Response<B>
where
    S: Service<Request<()>, Response = Response<B>, Error = Infallible>,
{
    service.call(request).now_or_never().unwrap().unwrap()
}

#[test]
fn req_156_req_157_what_another_site_causes_stops_before_the_handler() {
    let access = format!("{ACCESS_COOKIE}=abc");
    let (cookie, foreign) = (("cookie", access.as_str()), ("sec-fetch-site", "cross-site"));
    for (method, fields, status) in [
        ("GET", &[foreign, cookie][..], 200),
        ("POST", &[("sec-fetch-site", "same-origin"), cookie], 200),
        ("POST", &[("origin", "https://app.example"), foreign, cookie], 200),
        ("POST", &[foreign, cookie], 403),
        ("DELETE", &[("sec-fetch-site", "same-site"), cookie], 403),
        ("POST", &[("origin", "null"), cookie], 403),
        ("GET", &[foreign, ("upgrade", "websocket"), cookie], 403),
        ("POST", &[cookie], 403),
    ] {
        let expected = usize::from(status == 200);
        let (mut service, calls) = counted(&CsrfLayer::new(guard()).answers(answers()));
        let response = answered(&mut service, request(method, fields));
        assert_eq!((response.status().as_u16(), calls.load(Relaxed)), (status, expected), "{method} {fields:?}");
        let (mut service, calls) = counted(&CookieExtractLayer::new(guard()).answers(answers()));
        let response = answered(&mut service, request(method, fields));
        assert_eq!((response.status().as_u16(), calls.load(Relaxed)), (status, expected), "{method} {fields:?}");
        assert!(!response.headers().contains_key("www-authenticate"), "no credential would help");
    }
}

#[test]
fn req_187_req_188_another_site_is_told_so_over_grpc() {
    let fields = [("sec-fetch-site", "cross-site"), ("cookie", &format!("{ACCESS_COOKIE}=abc"))];
    for content_type in ["application/grpc+proto", "application/grpc-web"] {
        let grpc = || request("POST", &[&fields[..], &[("content-type", content_type)]].concat());
        let (mut csrf, calls) = counted(&CsrfLayer::new(guard()));
        let (mut cookie, others) = counted(&CookieExtractLayer::new(guard()));
        let heads = [answered(&mut csrf, grpc()).into_parts().0, answered(&mut cookie, grpc()).into_parts().0];
        assert_eq!((calls.load(Relaxed), others.load(Relaxed)), (0, 0));
        for head in heads {
            assert_eq!((head.status.as_u16(), head.headers.contains_key("www-authenticate")), (200, false));
            let status = head.headers.get("grpc-status").map(HeaderValue::as_bytes);
            assert_eq!(status.unwrap_or(b"7"), b"7", "{content_type}");
            assert_eq!(status.is_some(), content_type == "application/grpc+proto");
        }
    }
}

#[tokio::test]
async fn req_005_req_139_req_159_one_credential_of_a_cookie_or_a_refusal() {
    let authority = Authority::new(Algorithm::EdDsa);
    let server = server(&authority).await;
    let token = authority.token("me");
    let cookie = format!("cookie: theme=dark; {ACCESS_COOKIE}={token}");
    let of = |value: &str| format!("cookie: {ACCESS_COOKIE}={value}");
    let (bearer, basic) = (format!("authorization: Bearer {token}"), "authorization: Basic YTpi".to_owned());
    let refresh = format!("cookie: {REFRESH_COOKIE}=x");
    let foreign = String::from_utf8(FOREIGN.to_vec()).unwrap();
    let (invalid, bad) = (Some("invalid_request"), Some("invalid_token"));
    let quoted = of(&format!("\"{token}\""));
    let tampered = of(&format!("{token}A"));
    let doubled = format!("{cookie}; {ACCESS_COOKIE}=x");
    let spelled = format!("cookie: {}={token}", ACCESS_COOKIE.to_lowercase());
    type Row<'a> = (&'a str, &'a [&'a str], u16, Option<&'a str>);
    let rows: &[Row<'_>] = &[
        ("GET /account", &[&cookie], 200, None),
        ("GET /account", &[&cookie, &foreign], 200, None),
        ("GET /account", &[], 401, None),
        ("GET /account", &[&refresh], 401, None),
        ("GET /account", &[&bearer], 401, None),
        ("GET /account", &[&spelled], 401, None),
        ("GET /account?access_token=x", &[], 401, None),
        ("GET /account", &[&cookie, &bearer], 400, invalid),
        ("GET /account", &[&cookie, &basic], 400, invalid),
        ("GET /account", &[&cookie, "authorization:"], 400, invalid),
        ("GET /account?access_token=x", &[&cookie], 400, invalid),
        ("GET /account?access%5ftoken", &[&cookie], 400, invalid),
        ("GET /account", &[&cookie, &cookie], 400, invalid),
        ("GET /account", &[&doubled], 400, invalid),
        ("GET /account", &[&of("")], 400, invalid),
        ("GET /account", &[&of("a b")], 400, invalid),
        ("GET /account", &[&of("caf\u{e9}")], 400, invalid),
        ("GET /account", &[&quoted], 400, invalid),
        ("GET /account", &[&of("abc")], 401, bad),
        ("GET /account", &[&tampered], 401, bad),
        ("GET /either", &[&cookie], 200, None),
        ("GET /either", &[&bearer], 200, None),
        ("GET /either", &[&bearer, &refresh], 200, None),
        ("POST /either", &[&bearer, &foreign], 200, None),
        ("GET /either", &[], 401, None),
        ("GET /either", &[&basic], 401, None),
        ("GET /either", &[&cookie, &bearer], 400, invalid),
        ("GET /either", &[&of(""), &bearer], 400, invalid),
        ("GET /either", &["authorization: Bearer"], 400, invalid),
        ("POST /either", &[&cookie, &bearer, &foreign], 403, None),
        ("GET /open", &[], 200, None),
        ("GET /open", &[&basic], 200, None),
        ("GET /open", &[&cookie], 200, None),
        ("GET /open", &[&of("abc")], 401, bad),
        ("GET /open", &[&of("")], 400, invalid),
        ("GET /open", &["authorization: Bearer"], 400, invalid),
        ("POST /open", &[&foreign], 200, None),
        ("POST /open", &[&cookie, &foreign], 403, None),
        ("GET /strangers", &[&bearer], 200, None),
        ("GET /strangers", &[&cookie, &bearer], 400, invalid),
    ];
    for (line, fields, status, error) in rows {
        let fields: Vec<_> = fields.iter().map(|field| field.as_bytes()).collect();
        let reply = send(server.address, line, &fields, b"").await;
        assert_eq!(reply.status, *status, "{line} {fields:?}: {reply:?}");
        assert_eq!(reply.header("vary"), Some("Cookie"), "{line}");
        let by_cookie = fields.contains(&cookie.as_bytes());
        let kept = reply.header("cache-control") == Some("no-store");
        assert_eq!(kept, by_cookie || *status != 200, "{line} {fields:?}");
        if *status != 200 {
            assert_eq!(reply.json()["error"].as_str(), *error, "{line} {fields:?}");
            let challenge = reply.header("www-authenticate");
            assert_eq!(challenge.is_some(), *status != 403, "{line} {fields:?}");
            assert!(challenge.is_none_or(|challenge| challenge.starts_with("Bearer realm=\"test\"")), "{challenge:?}");
        }
    }
}

#[tokio::test]
async fn req_139_answers_to_a_cookie_stay_out_of_shared_caches() {
    let authority = Authority::new(Algorithm::EdDsa);
    let server = server(&authority).await;
    let cookie = format!("cookie: {ACCESS_COOKIE}={}", authority.token("me"));
    for (path, kept) in [("/account/public", "no-store"), ("/account/private", "max-age=60, Private")] {
        let reply = send(server.address, &format!("GET {path}"), &[cookie.as_bytes()], b"").await;
        assert_eq!((reply.status, reply.header("cache-control")), (200, Some(kept)));
        let vary: Vec<_> = reply.headers.iter().filter(|(name, _)| name == "vary").map(|(_, value)| value).collect();
        assert_eq!(vary, ["accept", "Cookie"], "what the handler said stands");
    }
}

#[tokio::test]
async fn req_156_req_157_req_158_the_table_over_a_socket() {
    let server = server(&Authority::new(Algorithm::EdDsa)).await;
    let (cookies, token) = session_fields();
    let (cookies, token) = (format!("cookie: {cookies}"), format!("x-csrf-token: {token}"));
    let rows: &[(&str, &[&[u8]], u16)] = &[
        ("POST", &[], 200),
        ("POST", &[OWN], 200),
        ("POST", &[FOREIGN], 403),
        ("GET", &[FOREIGN], 200),
        ("GET", &[FOREIGN, b"upgrade: websocket"], 403),
        ("TRACE", &[FOREIGN], 403),
        ("POST", &[b"origin: https://localhost"], 200),
        ("POST", &[b"origin: http://localhost"], 200),
        ("POST", &[b"origin: http://localhost:81"], 403),
        ("POST", &[b"origin: https://app.example", FOREIGN], 200),
        ("POST", &[b"origin: https://app.example", b"host: evil.example"], 200),
        ("POST", &[b"origin: https://localhost", b"host: localhost"], 403),
        ("POST", &[OWN, OWN], 403),
        ("POST", &[cookies.as_bytes()], 403),
        ("POST", &[cookies.as_bytes(), OWN], 200),
        ("POST", &[cookies.as_bytes(), token.as_bytes()], 200),
        ("POST", &[cookies.as_bytes(), token.as_bytes(), FOREIGN], 403),
        ("POST", &[cookies.as_bytes(), token.as_bytes(), b"origin: null"], 403),
        ("POST", &[cookies.as_bytes(), token.as_bytes(), token.as_bytes()], 403),
        ("POST", &[cookies.as_bytes(), b"x-csrf-token: x"], 403),
        ("POST http://localhost:99", &[b"origin: http://localhost:99"], 200),
    ];
    for (method, fields, status) in rows {
        let line = if method.contains(' ') { format!("{method}/form") } else { format!("{method} /form") };
        let reply = send(server.address, &line, fields, b"").await;
        assert_eq!(reply.status, *status, "{line} {:?}", fields.iter().map(|f| f.escape_ascii().to_string()));
        if *status == 403 {
            assert_eq!(reply.header("cache-control"), Some("no-store"));
            assert_eq!(reply.json(), serde_json::json!({"type": "about:blank", "title": "Forbidden", "status": 403}));
        }
    }
}

#[test]
fn req_191_req_192_why_a_request_was_taken_for_another_sites_is_told_in_the_log_alone() {
    let log = Log::default();
    let _guard = log.capture();
    let (mut service, _) = counted(&CsrfLayer::new(guard()));
    let fields = [("sec-fetch-site", "cross-site-of-somebody"), ("cookie", "s3cret=x")];
    assert_eq!(answered(&mut service, request("POST", &fields)).status(), 403);
    let text = log.text();
    assert!(text.contains("request_unsafe") && text.contains("`Sec-Fetch-Site` is neither"), "{text}");
    assert!(!text.contains("somebody") && !text.contains("s3cret"), "{text}");
}

/// Everything that a field of HTTP/1.1 can carry is tried at each place that is looked at.
#[tokio::test]
async fn req_093_any_byte_in_what_browsers_send_gets_an_answer_of_the_table() {
    let server = server(&Authority::new(Algorithm::EdDsa)).await;
    let known = |reply: &Reply| matches!(reply.status, 200 | 400 | 401 | 403);
    for byte in (0x20..=0xff).filter(|byte| *byte != 0x7f) {
        for (name, before, after) in [
            ("origin", "https://localhost", ""),
            ("origin", "https://", "localhost"),
            ("sec-fetch-site", "same-origin", ""),
            ("sec-fetch-mode", "", ""),
            ("cookie", ACCESS_COOKIE, "=abc"),
            ("cookie", &format!("{ACCESS_COOKIE}="), "abc"),
            ("cookie", &format!("{REFRESH_COOKIE}=abc; {CSRF_COOKIE}="), ""),
            ("x-csrf-token", "", ""),
        ] {
            let field = [name.as_bytes(), b": ", before.as_bytes(), &[byte], after.as_bytes()].concat();
            let path = if byte % 2 == 0 { "POST /form" } else { "POST /either" };
            let reply = send(server.address, path, &[&field, b"x-csrf-token: x"], b"").await;
            assert!(known(&reply), "{}: {reply:?}", field.escape_ascii());
            let exact = [b"https://localhost", &[byte][..]].concat();
            let origin = name == "origin" && exact.trim_ascii_end() != b"https://localhost" && before.ends_with('t');
            assert!(!origin || path != "POST /form" || reply.status == 403, "{}: {reply:?}", field.escape_ascii());
        }
    }
}

/// What hostile cookie fields are made of, and what becomes of them.
fn units() -> [(String, u16); 8] {
    [
        (";".to_owned(), 401),
        ("a=b; ".to_owned(), 401),
        (" ".to_owned(), 401),
        ("\"".to_owned(), 401),
        ("__Host-portcullis-acces".to_owned(), 401),
        (format!("{ACCESS_COOKIE}; "), 401),
        (format!("{ACCESS_COOKIE}=a; "), 400),
        (format!("{REFRESH_COOKIE}=; "), 401),
    ]
}

#[tokio::test]
async fn long_cookie_fields_are_answered_like_short_ones() {
    let server = server(&Authority::new(Algorithm::EdDsa)).await;
    let long = |unit: &str| format!("cookie: {}", unit.repeat(16 * 1024 / unit.len()));
    for (unit, status) in units() {
        let unit = unit.as_str();
        let reply = send(server.address, "GET /account", &[long(unit).as_bytes()], b"").await;
        assert_eq!(reply.status, status, "{unit}");
        let reply = send(server.address, "POST /form", &[long(unit).as_bytes(), b"x-csrf-token: x"], b"").await;
        assert_eq!(reply.status, if unit.contains('=') && unit != "a=b; " { 403 } else { 200 }, "{unit}");
    }
    // A token of 16 KiB is one, but longer than any that is verified.
    let token = format!("cookie: {ACCESS_COOKIE}={}", "a".repeat(16 * 1024));
    assert_eq!(send(server.address, "GET /account", &[token.as_bytes()], b"").await.status, 401);
}

/// Sixteen times the length: linear work takes sixteen times as long at the most, quadratic work 256 times.
#[test]
fn long_cookie_fields_cost_no_more_than_their_length() {
    let authority = Authority::new(Algorithm::EdDsa);
    let layers = (authority.api().authenticate_cookie(guard()), CsrfLayer::new(guard()));
    let token = |length| format!("{ACCESS_COOKIE}={}", "a".repeat(length));
    let of = |unit: &str, length| unit.repeat(length / unit.len());
    let (few, many) = (1024, 16 * 1024);
    let mut pairs: Vec<_> = units().iter().map(|(unit, _)| [of(unit, few), of(unit, many)]).collect();
    // One long value, and one that comes after many others.
    pairs.push([token(few), token(many)]);
    pairs.push([of("a=b; ", few) + &token(1), of("a=b; ", many) + &token(1)]);
    for [short, long] in pairs {
        let fields = |cookie: &str| request("POST", &[("cookie", cookie), ("x-csrf-token", "x")]);
        let took = |cookie: &str| {
            let (mut authenticate, _) = counted(&layers.0);
            let (mut csrf, _) = counted(&layers.1);
            let (one, two) = (fields(cookie), fields(cookie));
            let begun = Instant::now();
            let answers = (answered(&mut authenticate, one), answered(&mut csrf, two));
            let took = begun.elapsed();
            assert!(answers.0.status().is_client_error());
            took
        };
        // The least of several: whatever else this machine does only adds to it.
        let least = |cookie: &str| (0..7).map(|_| took(cookie)).min().unwrap();
        let ratios = std::iter::repeat_with(|| least(&long).as_secs_f64() / least(&short).as_secs_f64());
        let mut ratios = ratios.take(3).skip_while(|ratio| *ratio > 40.0);
        assert!(ratios.next().is_some(), "{short:.40}… takes over 40 times as long, three times in a row");
    }
}

#[test]
fn a_refusal_takes_no_memory_but_that_of_its_answer() {
    let long = format!("{}; {ACCESS_COOKIE}=a", "a=b; ".repeat(3000));
    let refused = |fields: &[(&str, &str)], reason| {
        let answers = answers();
        let hostile = request("POST", fields);
        let rejection = Rejection::CrossSite(reason);
        let plain = allocation_counter::measure(|| drop(Box::new(answers.refuse(rejection, None, Wire::Http))));
        let (mut csrf, _) = counted(&CsrfLayer::new(guard()).answers(answers.clone()));
        let layer = allocation_counter::measure(|| drop(answered(&mut csrf, hostile)));
        assert_eq!(layer.count_total, plain.count_total, "{reason}");
    };
    refused(&[("sec-fetch-site", &long)], "`Sec-Fetch-Site` is neither `same-origin` nor `none`");
    refused(&[("origin", &long)], "`Host` is missing or repeated");
    refused(&[("origin", &format!("https://{long}")), ("host", &long)], "`Origin` is not the request's own");
    refused(&[("cookie", &long)], "session cookie without `Sec-Fetch-Site`, `Origin` and `X-CSRF-Token`");
}

proptest! {
    /// Whatever comes, a token that a handler sees is the one cookie's, in a request that the guard lets pass.
    #[test]
    fn req_159_a_handler_sees_the_one_token_or_is_not_called(
        before in "[ -~]{0,30}",
        value in prop_oneof![
            3 => "[A-Za-z0-9._~+/-]{1,20}={0,2}[ \t]?".prop_map(String::into_bytes),
            1 => proptest::collection::vec(any::<u8>(), 0..20),
        ],
        after in proptest::collection::vec(any::<u8>(), 0..20),
        origin in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)),
        site in proptest::option::of(prop_oneof![Just("same-origin"), Just("none"), Just("cross-site"), Just("")]),
        method in prop_oneof![Just("GET"), Just("POST")],
    ) {
        let cookie = [before.as_bytes(), b";", ACCESS_COOKIE.as_bytes(), b"=", &value, b";", &after].concat();
        let Ok(cookie) = HeaderValue::from_bytes(&cookie) else { return Ok(()) };
        let mut request = request(method, &[("host", "api.example")]);
        request.headers_mut().insert("cookie", cookie);
        if let Some(origin) = origin.and_then(|origin| HeaderValue::from_bytes(&origin).ok()) {
            request.headers_mut().insert("origin", origin);
        }
        if let Some(site) = site {
            request.headers_mut().insert("sec-fetch-site", HeaderValue::from_static(site));
        }
        let inner = service_fn(|request: Request<()>| {
            let Some(Credential::Bearer(token)) = request.extensions().get() else { panic!("no token") };
            let seen = Response::builder().header("seen", token.as_bytes());
            std::future::ready(Ok::<_, Infallible>(seen.body(String::new()).unwrap()))
        });
        let response = answered(&mut CookieExtractLayer::new(guard()).layer(inner), request);
        let (status, seen) = (response.status().as_u16(), response.headers().get("seen"));
        prop_assert_eq!(seen.is_some(), status == 200);
        if let Some(seen) = seen {
            let value = value.split(|byte| *byte == b';').next().unwrap_or_default();
            prop_assert_eq!(seen.as_bytes(), value.trim_ascii_end());
            prop_assert!(method == "GET" || matches!(site, Some("same-origin" | "none")));
        } else {
            prop_assert!(matches!(status, 400 | 403));
        }
    }
}

#[test]
fn req_148_a_preflight_at_a_layer_that_reads_credentials_is_told_once() {
    let authority = Authority::new(Algorithm::EdDsa);
    let ask = [("origin", "https://app.example"), ("access-control-request-method", "PUT")];
    let told = |log: &Log, level: &str| {
        log.text().lines().filter(|line| line.contains(level) && line.contains("put CorsStrictLayer outside")).count()
    };
    fn twice<S, B>(
        layer: &impl Layer<tower::util::BoxCloneService<Request<()>, Response<String>, Infallible>, Service = S>,
        ask: &[(&str, &str)],
    ) where
        S: Service<Request<()>, Response = Response<B>, Error = Infallible>,
    {
        for fields in [&ask[..1], ask, ask] {
            let (mut service, _) = counted(layer);
            assert_eq!(answered(&mut service, request("OPTIONS", fields)).status(), 401, "answered as before");
        }
        let (mut service, _) = counted(layer);
        answered(&mut service, request("PUT", ask));
    }
    let verify = || portcullis::jwt::JwtVerifyLayer::new(authority.verifier());
    let log = Log::default();
    let _guard = log.capture();
    twice(&BearerExtractLayer::required(), &ask);
    assert_eq!((told(&log, "WARN"), told(&log, "DEBUG")), (1, 1), "{}", log.text());
    twice(&CookieExtractLayer::new(guard()), &ask);
    assert_eq!((told(&log, "WARN"), told(&log, "DEBUG")), (2, 2), "{}", log.text());
    twice(&authority.api().authenticate(), &ask);
    assert_eq!((told(&log, "WARN"), told(&log, "DEBUG")), (3, 3), "{}", log.text());
    // One event of two layers: the inner one reads no credential.
    let stack = ServiceBuilder::new().layer(BearerExtractLayer::required()).layer(verify()).into_inner();
    twice(&stack, &ask);
    twice(&authority.api().authenticate_cookie(guard()), &ask);
    assert_eq!((told(&log, "WARN"), told(&log, "DEBUG")), (5, 5), "{}", log.text());
    assert!(log.text().contains("layers_misplaced"));
}
