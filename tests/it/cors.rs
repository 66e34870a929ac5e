//! What pages of other origins may do: every configuration and request in tables, with all that the answer says about it.

mod any_bytes;
mod mistakes;
mod rows;

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header::VARY};
use portcullis::{
    config::{ConfigError, ConfigErrors},
    cors::{CorsPolicy, CorsStrictLayer},
};
use tower::{ServiceBuilder, ServiceExt, service_fn};

use self::{
    mistakes::{Change, good, mistakes},
    rows::ROWS,
};
use crate::support::{Authority, Log, get, send, serve};

/// A policy of the tables, by name, and what it says where it allows: methods, request headers, exposed headers, max-age.
fn policy(name: &str) -> (CorsPolicy, [Option<&'static str>; 4]) {
    let listed = CorsPolicy::builder();
    let built = match name {
        // All that is left to the defaults.
        "plain" => (listed.origins(["https://app.example"]).build(), [Some("GET, HEAD, POST"), None, None, None]),
        "api" => {
            let origins = [
                "https://app.example",
                "https://*.shop.example",
                "https://*.shop.example:8443",
                "https://admin.example:8443",
                "http://localhost:3000",
                "https://[2001:db8::1]",
            ];
            let policy = listed.origins(origins).methods(["GET", "PUT", "DELETE"]).credentials();
            let policy = policy.request_headers(["Authorization", "content-type", "X-Request-Id"]);
            let policy = policy.expose_headers(["WWW-Authenticate", "retry-after"]).max_age(Duration::from_secs(600));
            let says =
                ["GET, PUT, DELETE", "authorization, content-type, x-request-id", "www-authenticate, retry-after"];
            (policy.build(), [Some(says[0]), Some(says[1]), Some(says[2]), Some("600")])
        }
        "http" => {
            let policy = listed.origins(["http://plain.example", "https://app.example"]).methods(["PATCH"]);
            (
                policy.request_headers(["x-a"]).max_age(Duration::ZERO).build(),
                [Some("PATCH"), Some("x-a"), None, Some("0")],
            )
        }
        "public" => {
            let policy = CorsPolicy::any_origin().methods(["GET"]).expose_headers(["x-total"]);
            (policy.build(), [Some("GET"), None, Some("x-total"), None])
        }
        "wild" => {
            let policy = CorsPolicy::any_origin().methods(["*"]).request_headers(["*", "authorization"]);
            (policy.expose_headers(["*"]).build(), [Some("*"), Some("*, authorization"), Some("*"), None])
        }
        // As text, which is how configurations come from outside.
        "star" => (listed.origins(["*"]).build(), [Some("GET, HEAD, POST"), None, None, None]),
        "lan" => {
            let policy = listed.origins(["https://app.example"]).private_network_access();
            (policy.build(), [Some("GET, HEAD, POST"), None, None, None])
        }
        _ => panic!("{name}"),
    };
    (built.0.unwrap(), built.1)
}

/// Answers with the status that the path names; `/vary…` with a `Vary` of its own, `/own` with permissions of its own.
fn inner(request: &Request<String>, calls: &AtomicUsize) -> Response<String> {
    calls.fetch_add(1, Ordering::SeqCst);
    let mut response = Response::new(String::new());
    let path = request.uri().path().trim_start_matches('/');
    let headers = response.headers_mut();
    match path {
        "vary" => drop(headers.insert(VARY, HeaderValue::from_static("accept, Origin"))),
        "vary-cookie" => drop(headers.insert(VARY, HeaderValue::from_static("cookie"))),
        "vary-all" => drop(headers.insert(VARY, HeaderValue::from_static("*"))),
        "own" => {
            for (name, value) in [("origin", "*"), ("credentials", "true")] {
                let name: HeaderName = format!("access-control-allow-{name}").parse().unwrap();
                headers.append(name.clone(), HeaderValue::from_static(value));
                headers.append(name, HeaderValue::from_static("https://evil.example"));
            }
            headers.insert("access-control-expose-headers", HeaderValue::from_static("set-cookie"));
        }
        _ => *response.status_mut() = path.parse::<u16>().ok().and_then(|s| StatusCode::from_u16(s).ok()).unwrap(),
    }
    response
}

fn values(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
}

/// Sends a request through the layer; whether the inner service was called, and the answer.
async fn ask(policy: CorsPolicy, request: Request<String>) -> (bool, Response<()>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&calls);
    let service = service_fn(move |request| std::future::ready(Ok::<_, Infallible>(inner(&request, &seen))));
    let service = ServiceBuilder::new().layer(CorsStrictLayer::new(policy)).service(service);
    let answer = service.oneshot(request).await.unwrap().map(drop);
    (calls.load(Ordering::SeqCst) > 0, answer)
}

/// Fields as in the tables: `o`rigin, `m`ethod, `h`eaders and `p`rivate network that are asked for; `_` is a space.
fn request(line: &str, fields: &str) -> Request<String> {
    let (method, path) = line.trim().split_once(' ').unwrap();
    let mut request = Request::builder().method(method).uri(path);
    for field in fields.split_whitespace() {
        let (name, value) = field.split_once('=').unwrap();
        let name = match name {
            "o" => "origin",
            "m" => "access-control-request-method",
            "h" => "access-control-request-headers",
            "p" => "access-control-request-private-network",
            other => other,
        };
        request = request.header(name, value.replace('_', " "));
    }
    request.body(String::new()).unwrap()
}

#[tokio::test]
async fn req_143_req_144_req_145_req_146_req_147_req_149_req_150_req_151_what_every_answer_says() {
    const PREFLIGHT: &str = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";
    let rows: Vec<&str> = ROWS.lines().map(str::trim).filter(|row| !row.is_empty()).collect();
    assert!(rows.len() >= 150, "{}", rows.len());
    for row in rows {
        let [name, line, fields, expected] = row.split('|').map(str::trim).collect::<Vec<_>>().try_into().unwrap();
        let (policy, [methods, allowed, exposed, max_age]) = policy(name);
        let request = request(line, fields);
        let own = values(request.headers(), "origin").first().cloned();
        let (called, answer) = ask(policy, request).await;
        let mut tokens = expected.split(' ');
        assert_eq!(answer.status().as_u16().to_string(), tokens.next().unwrap(), "{row}");
        let mut expected: Vec<(&str, String)> = Vec::new();
        let mut vary: Vec<String> = Vec::new();
        let mut preflight = false;
        for token in tokens {
            let says = |value: Option<&str>| value.unwrap_or_else(|| panic!("{row}")).to_owned();
            match token {
                "O" => expected.push(("access-control-allow-origin", says(own.as_deref()))),
                "*" if line.contains("vary-all") => vary.push("*".to_owned()),
                "*" => expected.push(("access-control-allow-origin", "*".to_owned())),
                "C" => expected.push(("access-control-allow-credentials", "true".to_owned())),
                "M" => expected.push(("access-control-allow-methods", says(methods))),
                "H" => expected.push(("access-control-allow-headers", says(allowed))),
                "E" => expected.push(("access-control-expose-headers", says(exposed))),
                "A" => expected.push(("access-control-max-age", says(max_age))),
                "P" => expected.push(("access-control-allow-private-network", "true".to_owned())),
                "v" => vary.push("Origin".to_owned()),
                "w" if name == "lan" => {
                    preflight = true;
                    vary.push(format!("{PREFLIGHT}, Access-Control-Request-Private-Network"));
                }
                "w" => {
                    preflight = true;
                    vary.push(PREFLIGHT.to_owned());
                }
                "-" => {}
                own => vary.push(own.replace('_', " ")),
            }
        }
        let own = |(name, value): (&HeaderName, &HeaderValue)| {
            let name = name.as_str().to_owned();
            name.starts_with("access-control-").then(|| (name, value.to_str().unwrap().to_owned()))
        };
        let mut found: Vec<(String, String)> = answer.headers().iter().filter_map(own).collect();
        let mut expected: Vec<_> = expected.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{row}");
        assert_eq!(values(answer.headers(), "vary"), vary, "{row}");
        assert_eq!(called, !preflight, "{row}");
        if preflight {
            assert!(answer.status().is_success() && answer.headers().len() == expected.len() + 1, "{row}");
        }
    }
}

#[test]
fn req_144_req_146_req_149_req_152_bad_configurations_are_not_built_and_every_mistake_is_named() {
    let rows = mistakes();
    assert!(rows.len() >= 60, "{}", rows.len());
    for (at, (change, expected)) in rows.into_iter().enumerate() {
        let errors = change(CorsPolicy::builder()).build().map(drop).unwrap_err();
        let found: Vec<_> = errors.iter().cloned().collect();
        let expected: Vec<_> = expected.into_iter().map(ConfigError::Cors).collect();
        assert_eq!(found, expected, "row {at}");
        // Each says what it is about.
        assert!(found.iter().all(|error| error.to_string().starts_with("CORS: ")), "{errors}");
    }
}

#[test]
fn what_is_good_is_built() {
    let rows: Vec<Change> = vec![
        |b| good(b),
        |b| b.origins(["http://app.example", "https://app.example", "https://app.example:8443"]),
        |b| b.origins(["http://localhost:3000", "http://[::1]", "http://127.9.9.9"]).credentials(),
        |b| b.origins(["https://*.app.example", "https://a.app.example"]).credentials(),
        |b| good(b).max_age(Duration::from_secs(86_400)),
        |b| good(b).max_age(Duration::ZERO),
        |b| good(b).methods(["*"]).request_headers(["authorization", "*"]).expose_headers(["*"]),
        |b| good(b).methods(["PROPFIND", "QUERY", "OPTIONS"]),
        |b| good(b).request_headers(["Accept", "content-type", "last-event-id", "user-agent", "traceparent"]),
        |b| good(b).expose_headers(["cache-control", "etag", "location", "dpop-nonce"]),
    ];
    for (at, change) in rows.into_iter().enumerate() {
        let built: Result<CorsPolicy, ConfigErrors> = change(CorsPolicy::builder()).build();
        assert!(built.is_ok(), "row {at}: {built:?}");
    }
}

#[tokio::test]
async fn settings_change_while_requests_are_served() {
    let cors = CorsStrictLayer::new(policy("plain").0);
    let service = service_fn(|_: Request<String>| async { Ok::<_, Infallible>(Response::new(String::new())) });
    let service = ServiceBuilder::new().layer(cors.clone()).service(service);
    let allowed = async |origin: &str| {
        let request = request("GET /200", &format!("o={origin}"));
        service.clone().oneshot(request).await.unwrap().headers().contains_key("access-control-allow-origin")
    };
    assert!(allowed("https://app.example").await && !allowed("https://admin.example:8443").await);
    cors.replace(policy("api").0);
    assert!(allowed("https://admin.example:8443").await);
    cors.replace(policy("lan").0);
    assert!(allowed("https://app.example").await && !allowed("https://admin.example:8443").await);
}

#[tokio::test]
async fn why_a_page_is_refused_is_said_in_the_log_alone_and_only_where_asked_for() {
    let log = Log::default();
    let _guard = log.capture();
    let answer = async |explain: bool, fields: &str| {
        let service = service_fn(|_: Request<String>| async { Ok::<_, Infallible>(Response::new(String::new())) });
        let layer = CorsStrictLayer::new(policy("api").0);
        layer.explain(explain);
        let answer = ServiceBuilder::new().layer(layer).service(service).oneshot(request("OPTIONS /200", fields)).await;
        format!("{:?}", answer.unwrap().map(drop))
    };
    for (fields, said) in [
        ("o=https://evil.example m=GET", r#"origin "https://evil.example" is not allowed"#),
        ("o=https://evil.example", r#"origin "https://evil.example" is not allowed"#),
        ("o=https://app.example m=PATCH", r#"method "PATCH" is not allowed"#),
        ("o=https://app.example m=GET h=authorization,x-b", r#"request header "x-b" is not allowed"#),
        ("o=https://app.example m=GET p=true", "private-network access is not allowed"),
        ("o=https://app.example o=https://app.example m=GET", "more than one Origin field"),
        ("o=https://app.example m=GET m=GET", "more than one Access-Control-Request-Method field"),
        ("o=https://app.example m=GET h=,,,,,,,,,,,,,,,,,,,,,,,", "more request headers than are allowed"),
    ] {
        let before = log.text().len();
        let quiet = answer(false, fields).await;
        assert_eq!(log.text().len(), before, "{fields}");
        assert_eq!(answer(true, fields).await, quiet, "{fields}");
        let text = log.text().split_off(before);
        assert!(text.contains(&said.replace('"', "\\\"")) || text.contains(said), "{fields}: {text}");
    }
    let before = log.text().len();
    let origin = "x".repeat(16_000);
    answer(true, &format!("o=https://{origin} m=GET")).await;
    assert!(log.text().len() - before < 600, "a line is short");
}

/// Outside of the layers that read credentials: preflight requests pass without one, and refusals can be read.
#[tokio::test]
async fn req_148_req_151_a_script_reads_why_it_was_refused_over_a_socket() {
    let authority = Authority::new(portcullis::jwt::Algorithm::EdDsa);
    let api = authority.api();
    let app = axum::Router::new()
        .route("/", axum::routing::get(|| async { "in" }))
        .layer(api.authenticate())
        .layer(CorsStrictLayer::new(policy("api").0));
    let server = serve(app).await;
    let origin = b"origin: https://app.example".as_slice();
    let refused = get(server.address, "/", &[origin]).await;
    assert_eq!(refused.status, 401);
    assert_eq!(refused.header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(refused.header("access-control-expose-headers"), Some("www-authenticate, retry-after"));
    let asks: &[&[u8]] =
        &[origin, b"access-control-request-method: GET", b"access-control-request-headers: authorization"];
    let preflight = send(server.address, "OPTIONS /", asks, b"").await;
    assert_eq!((preflight.status, preflight.header("www-authenticate")), (204, None));
    assert_eq!(preflight.header("access-control-allow-headers"), Some("authorization, content-type, x-request-id"));
    let token = format!("authorization: Bearer {}", authority.token(""));
    let admitted = get(server.address, "/", &[origin, token.as_bytes()]).await;
    assert_eq!((admitted.status, admitted.text().as_str()), (200, "in"));
    // Without its other two fields it is no preflight request, and needs a credential.
    assert_eq!(send(server.address, "OPTIONS /", &[origin], b"").await.status, 401);
    let hostile = [b"access-control-request-headers: ".as_slice(), &b"a,".repeat(8000)].concat();
    let preflight =
        send(server.address, "OPTIONS /", &[origin, b"access-control-request-method: GET", &hostile], b"").await;
    assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (204, None));
}

#[test]
fn req_153_the_answer_to_a_preflight_request_takes_no_allocation() {
    let service =
        service_fn(|_: Request<String>| std::future::ready(Ok::<_, Infallible>(Response::new(String::new()))));
    let service = ServiceBuilder::new().layer(CorsStrictLayer::new(policy("api").0)).service(service);
    let hostile = "a,".repeat(8 * 1024);
    for (fields, granted) in [
        ("o=https://evil.example m=PUT h=authorization".to_owned(), false),
        ("o=https://app.example m=PATCH h=authorization".to_owned(), false),
        (format!("o=https://app.example m=PUT h={hostile}"), false),
        ("o=https://a.shop.example m=PUT h=authorization,content-type".to_owned(), true),
    ] {
        // What browsers send besides: the answer's fields go where they were.
        let mut request = request("OPTIONS /200", &fields);
        for name in ["host", "accept", "user-agent", "sec-fetch-mode", "accept-language", "referer"] {
            request.headers_mut().insert(name, HeaderValue::from_static("x"));
        }
        // Texts become shared when they are cloned for the first time; those that hyper reads are from the start.
        let (mut service, mut answer) = (service.clone(), None);
        drop(tower::Service::call(&mut service, request.clone()).now_or_never());
        let allocated = allocation_counter::measure(|| {
            answer = Some(tower::Service::call(&mut service, request).now_or_never().unwrap().unwrap());
        });
        assert_eq!(answer.unwrap().headers().contains_key("access-control-allow-origin"), granted, "{fields:.60}");
        assert_eq!(allocated.count_total, 0, "{fields:.60}");
    }
}

/// Below a domain there may be names that others have: what is below `s3.amazonaws.com` is everybody's.
#[tokio::test]
async fn req_149_a_wildcard_does_not_reach_below_a_suffix_that_others_have_names_under() {
    let origins = ["https://*.amazonaws.com", "https://*.app.example.co.uk:8443"];
    let policy = || CorsPolicy::builder().origins(origins).credentials().build().unwrap();
    for (origin, allowed) in [
        ("https://console.amazonaws.com", true),
        ("https://a.b.amazonaws.com", true),
        ("https://s3.amazonaws.com", false),
        ("https://evil.s3.amazonaws.com", false),
        ("https://ec2-1-2-3-4.us-west-1.compute.amazonaws.com", false),
        ("https://x.app.example.co.uk:8443", true),
        ("https://x.app.example.co.uk", false),
    ] {
        let (_, answer) = ask(policy(), request("GET /200", &format!("o={origin}"))).await;
        assert_eq!(answer.headers().contains_key("access-control-allow-credentials"), allowed, "{origin}");
    }
}

/// What users of other layers write: typed names, and a layer that is there only if it is configured.
#[tokio::test]
async fn names_may_be_typed_and_the_layer_may_be_optional() {
    use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
    let policy = CorsPolicy::builder()
        .origins(["https://app.example".to_owned()])
        .methods([Method::GET])
        .methods([Method::DELETE])
        .request_headers([AUTHORIZATION, CONTENT_TYPE])
        .expose_headers([RETRY_AFTER])
        .build()
        .unwrap();
    for (policy, allowed) in [(Some(policy), Some("GET, DELETE")), (None, None)] {
        let app = axum::Router::new()
            .route("/", axum::routing::get(|| async { "in" }))
            .layer(tower::util::option_layer(policy.map(CorsStrictLayer::new)))
            .layer(tower::util::option_layer(Some(portcullis::transport::SecureHeadersLayer::new())));
        let server = serve(app).await;
        let asks: &[&[u8]] = &[b"origin: https://app.example", b"access-control-request-method: DELETE"];
        let answer = send(server.address, "OPTIONS /", asks, b"").await;
        assert_eq!(answer.header("access-control-allow-methods"), allowed);
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
}
