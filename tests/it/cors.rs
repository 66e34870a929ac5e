//! What pages of other origins may do: every configuration and request in tables, with all that the answer says about it.

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
    config::{ConfigError, ConfigErrors, OriginFault},
    cors::{CorsError, CorsPolicy, CorsPolicyBuilder, CorsStrictLayer, HeaderFault, MethodFault},
};
use proptest::prelude::*;
use tower::{ServiceBuilder, ServiceExt, service_fn};

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

/// policy | request | its fields | status, and what the answer says: `O` the request's own origin may read it, `*` every one may;
/// `C`redentials; `M`ethods, `H`eaders, `E`xposed headers, max-`A`ge, each as the policy says it; `P`rivate network. `v`: it
/// varies on the origin; `w`: on all that a preflight request says; `-`: on nothing. Nothing that is not named may be there.
const ROWS: &str = "
    plain | GET /200 |  | 200 v
    plain | GET /200 | o=https://app.example | 200 O v
    plain | HEAD /200 | o=https://app.example | 200 O v
    plain | POST /200 | o=https://app.example | 200 O v
    plain | DELETE /200 | o=https://app.example | 200 O v
    plain | OPTIONS /200 | o=https://app.example | 200 O v
    plain | OPTIONS /200 |  | 200 v
    plain | OPTIONS /200 | m=GET | 200 v
    plain | OPTIONS /200 | m=GET h=x-a | 200 v
    plain | GET /200 | o=https://app.example m=GET | 200 O v
    plain | POST /200 | o=https://app.example m=PUT h=x-a p=true | 200 O v
    plain | GET /200 | o=null | 200 v
    plain | GET /200 | o= | 200 v
    plain | GET /200 | o=* | 200 v
    plain | GET /200 | o=https://APP.example | 200 v
    plain | GET /200 | o=HTTPS://app.example | 200 v
    plain | GET /200 | o=http://app.example | 200 v
    plain | GET /200 | o=https://app.example:443 | 200 v
    plain | GET /200 | o=https://app.example:8443 | 200 v
    plain | GET /200 | o=https://app.example/ | 200 v
    plain | GET /200 | o=https://app.example. | 200 v
    plain | GET /200 | o=https://app.example.evil.example | 200 v
    plain | GET /200 | o=https://evil-app.example | 200 v
    plain | GET /200 | o=https://evil.app.example | 200 v
    plain | GET /200 | o=https://app.exampl | 200 v
    plain | GET /200 | o=https://app.examplee | 200 v
    plain | GET /200 | o=https://example | 200 v
    plain | GET /200 | o=https://app@app.example | 200 v
    plain | GET /200 | o=https://app.example_https://app.example | 200 v
    plain | GET /200 | o=https://app.example,https://app.example | 200 v
    plain | GET /200 | o=https://app.example o=https://app.example | 200 v
    plain | GET /200 | o=https://app.example o=https://evil.example | 200 v
    plain | GET /200 | o=https://evil.example o=https://app.example | 200 v
    plain | GET /400 | o=https://app.example | 400 O v
    plain | GET /401 | o=https://app.example | 401 O v
    plain | GET /403 | o=https://app.example | 403 O v
    plain | GET /404 | o=https://app.example | 404 O v
    plain | GET /429 | o=https://app.example | 429 O v
    plain | GET /500 | o=https://app.example | 500 O v
    plain | GET /503 | o=https://app.example | 503 O v
    plain | GET /308 | o=https://app.example | 308 O v
    plain | GET /304 | o=https://app.example | 304 O v
    plain | GET /401 | o=https://evil.example | 401 v
    plain | GET /401 |  | 401 v
    plain | GET /503 |  | 503 v
    plain | OPTIONS /401 | o=https://app.example | 401 O v
    plain | GET /own |  | 200 v
    plain | GET /own | o=https://app.example | 200 O v
    plain | GET /own | o=https://evil.example | 200 v
    plain | OPTIONS /own | o=https://evil.example | 200 v
    plain | OPTIONS /401 | o=https://app.example m=GET | 204 O M w
    plain | OPTIONS /503 | o=https://app.example m=HEAD | 204 O M w
    plain | OPTIONS /308 | o=https://app.example m=POST | 204 O M w
    plain | OPTIONS /own | o=https://app.example m=GET | 204 O M w
    plain | OPTIONS /200 | o=https://app.example m=PUT | 204 w
    plain | OPTIONS /200 | o=https://app.example m=DELETE | 204 w
    plain | OPTIONS /200 | o=https://app.example m=PATCH | 204 w
    plain | OPTIONS /200 | o=https://app.example m=OPTIONS | 204 w
    plain | OPTIONS /200 | o=https://app.example m=get | 204 w
    plain | OPTIONS /200 | o=https://app.example m=GET_ | 204 w
    plain | OPTIONS /200 | o=https://app.example m=GET,POST | 204 w
    plain | OPTIONS /200 | o=https://app.example m= | 204 w
    plain | OPTIONS /200 | o=https://app.example m=* | 204 w
    plain | OPTIONS /200 | o=https://app.example m=GET m=GET | 204 w
    plain | OPTIONS /200 | o=https://app.example m=GET h= | 204 O M w
    plain | OPTIONS /200 | o=https://app.example m=GET h=, | 204 O M w
    plain | OPTIONS /200 | o=https://app.example m=GET h=authorization | 204 w
    plain | OPTIONS /200 | o=https://app.example m=GET h=content-type | 204 w
    plain | OPTIONS /200 | o=https://app.example m=GET h=* | 204 w
    plain | OPTIONS /200 | o=https://app.example m=GET p=true | 204 w
    plain | OPTIONS /200 | o=https://evil.example m=GET | 204 w
    plain | OPTIONS /200 | o=null m=GET | 204 w
    plain | OPTIONS /200 | o= m=GET | 204 w
    plain | OPTIONS /200 | o=https://app.example o=https://app.example m=GET | 204 w
    plain | OPTIONS /200 | o=https://evil.example o=https://app.example m=GET | 204 w
    plain | OPTIONS /200 | o=https://app.example m=GET authorization=Bearer_x | 204 O M w
    plain | OPTIONS /200 | o=https://app.example m=GET cookie=a=b | 204 O M w
    api | GET /200 |  | 200 v
    api | GET /200 | o=https://app.example | 200 O C E v
    api | GET /401 | o=https://app.example | 401 O C E v
    api | GET /429 | o=https://app.example | 429 O C E v
    api | GET /503 | o=https://app.example | 503 O C E v
    api | GET /200 | o=https://admin.example:8443 | 200 O C E v
    api | GET /200 | o=https://admin.example | 200 v
    api | GET /200 | o=https://admin.example:844 | 200 v
    api | GET /200 | o=https://admin.example:84430 | 200 v
    api | GET /200 | o=http://localhost:3000 | 200 O C E v
    api | GET /200 | o=http://localhost | 200 v
    api | GET /200 | o=https://localhost:3000 | 200 v
    api | GET /200 | o=https://[2001:db8::1] | 200 O C E v
    api | GET /200 | o=https://[2001:db8::2] | 200 v
    api | GET /200 | o=https://shop.example | 200 v
    api | GET /200 | o=https://a.shop.example | 200 O C E v
    api | GET /200 | o=https://a.b-c.d.shop.example | 200 O C E v
    api | GET /200 | o=https://xn--bcher-kva.shop.example | 200 O C E v
    api | GET /200 | o=https://a.shop.example:8443 | 200 O C E v
    api | GET /200 | o=https://a.shop.example:8444 | 200 v
    api | GET /200 | o=https://a.shop.example: | 200 v
    api | GET /200 | o=http://a.shop.example | 200 v
    api | GET /200 | o=https://A.shop.example | 200 v
    api | GET /200 | o=https://.shop.example | 200 v
    api | GET /200 | o=https://a..shop.example | 200 v
    api | GET /200 | o=https://a.shop.example. | 200 v
    api | GET /200 | o=https://a.shop.example.evil.example | 200 v
    api | GET /200 | o=https://evilshop.example | 200 v
    api | GET /200 | o=https://evil.example#.shop.example | 200 v
    api | GET /200 | o=https://evil.example/.shop.example | 200 v
    api | GET /200 | o=https://evil.example?.shop.example | 200 v
    api | GET /200 | o=https://evil.example\\.shop.example | 200 v
    api | GET /200 | o=https://evil.example:80.shop.example | 200 v
    api | GET /200 | o=https://a@b.shop.example | 200 v
    api | GET /200 | o=https://evil.example%00.shop.example | 200 v
    api | GET /200 | o=https://evil.example,.shop.example | 200 v
    api | GET /200 | o=https://a_.shop.example | 200 v
    api | GET /200 | o=https://*.shop.example | 200 v
    api | GET /200 | o=https://[::1].shop.example | 200 v
    api | GET /200 | o=null | 200 v
    api | GET /vary | o=https://app.example | 200 O C E accept,_Origin
    api | GET /vary-cookie | o=https://app.example | 200 O C E cookie v
    api | GET /vary-all | o=https://app.example | 200 O C E *
    api | GET /vary-cookie |  | 200 cookie v
    api | GET /own | o=https://a.shop.example | 200 O C E v
    api | OPTIONS /200 | o=https://app.example m=PUT | 204 O C M H A w
    api | OPTIONS /200 | o=https://app.example m=DELETE h=authorization | 204 O C M H A w
    api | OPTIONS /200 | o=https://app.example m=GET h=authorization,content-type | 204 O C M H A w
    api | OPTIONS /200 | o=https://app.example m=GET h=authorization,_content-type | 204 O C M H A w
    api | OPTIONS /200 | o=https://app.example m=GET h=content-type_,authorization | 204 O C M H A w
    api | OPTIONS /200 | o=https://app.example m=GET h=Authorization,X-Request-ID | 204 O C M H A w
    api | OPTIONS /200 | o=https://app.example m=GET h=authorization h=x-request-id | 204 O C M H A w
    api | OPTIONS /200 | o=https://app.example m=GET h=authorization,,x-request-id, | 204 O C M H A w
    api | OPTIONS /200 | o=https://app.example m=GET h=,,,,,,,,,,,,,,,,authorization,content-type | 204 O C M H A w
    api | OPTIONS /200 | o=https://app.example m=GET h=,,,,,,,,,,,,,,,,,,authorization,content-type | 204 w
    api | OPTIONS /200 | o=https://app.example m=GET h=authorization,x-b | 204 w
    api | OPTIONS /200 | o=https://app.example m=GET h=x-b,authorization | 204 w
    api | OPTIONS /200 | o=https://app.example m=GET h=authorization h=x-b | 204 w
    api | OPTIONS /200 | o=https://app.example m=GET h=authorization;content-type | 204 w
    api | OPTIONS /200 | o=https://app.example m=GET h=authorization_content-type | 204 w
    api | OPTIONS /200 | o=https://app.example m=GET h=* | 204 w
    api | OPTIONS /200 | o=https://app.example m=GET h=authorizatio | 204 w
    api | OPTIONS /200 | o=https://app.example m=GET h=authorizationn | 204 w
    api | OPTIONS /200 | o=https://app.example m=GET h=cookie | 204 w
    api | OPTIONS /200 | o=https://app.example m=POST | 204 w
    api | OPTIONS /200 | o=https://app.example m=HEAD | 204 w
    api | OPTIONS /200 | o=https://app.example m=put | 204 w
    api | OPTIONS /200 | o=https://a.shop.example m=PUT h=content-type | 204 O C M H A w
    api | OPTIONS /200 | o=https://shop.example m=PUT | 204 w
    api | OPTIONS /200 | o=http://localhost:3000 m=PUT | 204 O C M H A w
    api | OPTIONS /200 | o=https://app.example m=PUT p=true | 204 w
    api | OPTIONS /200 | o=https://evil.example m=PUT h=authorization | 204 w
    api | OPTIONS /200 | o=null m=PUT | 204 w
    api | OPTIONS /401 | o=https://app.example | 401 O C E v
    http | GET /200 | o=http://plain.example | 200 O v
    http | GET /200 | o=https://plain.example | 200 v
    http | GET /200 | o=https://app.example | 200 O v
    http | OPTIONS /200 | o=http://plain.example m=PATCH h=x-a | 204 O M H A w
    http | OPTIONS /200 | o=http://plain.example m=GET | 204 w
    http | OPTIONS /200 | o=http://plain.example m=PATCH h=x-a,x-a | 204 O M H A w
    public | GET /200 |  | 200 * E -
    public | GET /401 |  | 401 * E -
    public | GET /200 | o=https://anybody.example | 200 * E -
    public | GET /200 | o=null | 200 * E -
    public | GET /200 | o=https://a.example o=https://b.example | 200 * E -
    public | GET /own | o=https://anybody.example | 200 * E -
    public | GET /vary-cookie | o=https://anybody.example | 200 * E cookie
    public | OPTIONS /200 |  | 200 * E -
    public | OPTIONS /200 | o=https://anybody.example m=GET | 204 * M w
    public | OPTIONS /200 | o=null m=GET | 204 * M w
    public | OPTIONS /200 | o=https://anybody.example m=POST | 204 w
    public | OPTIONS /200 | o=https://anybody.example m=GET h=x-a | 204 w
    public | OPTIONS /200 | o=https://a.example o=https://b.example m=GET | 204 w
    public | OPTIONS /200 | o=https://anybody.example m=GET p=true | 204 w
    wild | GET /200 | o=https://anybody.example | 200 * E -
    wild | OPTIONS /200 | o=https://anybody.example m=PURGE h=authorization,x-a | 204 * M H w
    wild | OPTIONS /200 | o=https://anybody.example m=GET | 204 * M H w
    wild | OPTIONS /200 | o=https://anybody.example m=GET m=PUT | 204 w
    star | GET /200 |  | 200 * -
    star | OPTIONS /200 | o=https://anybody.example m=POST | 204 * M w
    star | OPTIONS /200 | o=https://anybody.example m=PUT | 204 w
    lan | GET /200 | o=https://app.example | 200 O v
    lan | OPTIONS /200 | o=https://app.example m=GET | 204 O M w
    lan | OPTIONS /200 | o=https://app.example m=GET p=true | 204 O M P w
    lan | OPTIONS /200 | o=https://evil.example m=GET p=true | 204 w
    lan | OPTIONS /200 | o=https://app.example m=PUT p=true | 204 w
";

#[tokio::test]
async fn req_143_req_144_req_145_req_146_req_147_req_149_req_150_req_151_what_every_answer_says() {
    const PREFLIGHT: &str = "origin, access-control-request-method, access-control-request-headers";
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
                "v" => vary.push("origin".to_owned()),
                "w" if name == "lan" => {
                    preflight = true;
                    vary.push(format!("{PREFLIGHT}, access-control-request-private-network"));
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

type Change = fn(CorsPolicyBuilder) -> CorsPolicyBuilder;

/// A policy that is good, changed into one that is not, and all that is wrong then.
#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn req_144_req_146_req_149_req_152_bad_configurations_are_not_built_and_every_mistake_is_named() {
    use CorsError as E;
    fn origin(origin: &str, fault: OriginFault) -> CorsError {
        E::Origin { origin: origin.to_owned(), fault }
    }
    fn method(method: &str, fault: MethodFault) -> CorsError {
        E::Method { method: method.to_owned(), fault }
    }
    fn header(name: &str, fault: HeaderFault) -> CorsError {
        E::RequestHeader { name: name.to_owned(), fault }
    }
    fn exposed(name: &str, fault: HeaderFault) -> CorsError {
        E::ExposedHeader { name: name.to_owned(), fault }
    }
    use HeaderFault::{Forbidden, WrongSide};
    let long = Duration::from_secs(86_401);
    let half = Duration::from_millis(1500);
    let rows: Vec<(Change, Vec<CorsError>)> = vec![
        (|b| b.origins([] as [&str; 0]), vec![E::NoOrigin]),
        (|b| b.origins([""]), vec![origin("", OriginFault::Empty)]),
        (|b| b.origins(["null"]), vec![origin("null", OriginFault::Null)]),
        (|b| b.origins(["null"]).credentials(), vec![origin("null", OriginFault::Null)]),
        (|b| b.origins(["app.example"]), vec![origin("app.example", OriginFault::Scheme)]),
        (|b| b.origins(["ftp://app.example"]), vec![origin("ftp://app.example", OriginFault::Scheme)]),
        (|b| b.origins(["file:///"]), vec![origin("file:///", OriginFault::Scheme)]),
        (|b| b.origins(["https://app.example/"]), vec![origin("https://app.example/", OriginFault::Path)]),
        (|b| b.origins(["https://app.example/a"]), vec![origin("https://app.example/a", OriginFault::Path)]),
        (|b| b.origins(["https://app.example?a"]), vec![origin("https://app.example?a", OriginFault::Query)]),
        (|b| b.origins(["https://app.example#a"]), vec![origin("https://app.example#a", OriginFault::Query)]),
        (|b| b.origins(["https://u:p@app.example"]), vec![origin("https://u:p@app.example", OriginFault::UserInfo)]),
        (|b| b.origins(["https://App.example"]), vec![origin("https://App.example", OriginFault::UpperCase)]),
        (
            |b| b.origins(["https://b\u{fc}cher.example"]),
            vec![origin("https://b\u{fc}cher.example", OriginFault::Unicode)],
        ),
        (|b| b.origins(["https://"]), vec![origin("https://", OriginFault::Host)]),
        (|b| b.origins(["https://a..example"]), vec![origin("https://a..example", OriginFault::Host)]),
        (|b| b.origins(["https://app.example."]), vec![origin("https://app.example.", OriginFault::Host)]),
        (|b| b.origins(["https://a b.example"]), vec![origin("https://a b.example", OriginFault::Host)]),
        (|b| b.origins(["https://0x7f.1"]), vec![origin("https://0x7f.1", OriginFault::Address)]),
        (|b| b.origins(["https://[0:0::1]"]), vec![origin("https://[0:0::1]", OriginFault::Address)]),
        (|b| b.origins(["https://app.example:443"]), vec![origin("https://app.example:443", OriginFault::DefaultPort)]),
        (|b| b.origins(["http://app.example:80"]), vec![origin("http://app.example:80", OriginFault::DefaultPort)]),
        (|b| b.origins(["https://app.example:0"]), vec![origin("https://app.example:0", OriginFault::Port)]),
        (|b| b.origins(["https://app.example:65536"]), vec![origin("https://app.example:65536", OriginFault::Port)]),
        (|b| b.origins(["https://app.example:"]), vec![origin("https://app.example:", OriginFault::Port)]),
        (|b| b.origins(["https://app.example:*"]), vec![origin("https://app.example:*", OriginFault::Wildcard)]),
        (|b| b.origins(["https://app*.example"]), vec![origin("https://app*.example", OriginFault::Wildcard)]),
        (|b| b.origins(["https://*"]), vec![origin("https://*", OriginFault::Wildcard)]),
        (|b| b.origins(["https://*.*.example"]), vec![origin("https://*.*.example", OriginFault::Wildcard)]),
        (|b| b.origins(["https://*.com"]), vec![origin("https://*.com", OriginFault::PublicSuffix)]),
        (|b| b.origins(["https://*.co.uk"]), vec![origin("https://*.co.uk", OriginFault::PublicSuffix)]),
        (|b| b.origins(["https://*.github.io"]), vec![origin("https://*.github.io", OriginFault::PublicSuffix)]),
        (|b| b.origins(["http://*.app.example"]), vec![origin("http://*.app.example", OriginFault::PlaintextWildcard)]),
        (
            |b| b.origins(["https://a.example", "https://a.example"]),
            vec![E::OriginTwice("https://a.example".to_owned())],
        ),
        (|b| b.origins(["*", "https://a.example"]), vec![E::AnyOriginBesideOthers]),
        (|b| b.origins(["*"]).credentials(), vec![E::CredentialsWithAnyOrigin]),
        (
            |b| b.origins(["https://a.example", "*"]).credentials(),
            vec![E::AnyOriginBesideOthers, E::CredentialsWithAnyOrigin],
        ),
        (
            |b| b.origins(["http://a.example"]).credentials(),
            vec![E::CredentialsWithPlaintext("http://a.example".to_owned())],
        ),
        (
            |b| b.origins(["http://10.0.0.1:8080", "http://127.0.0.1"]).credentials(),
            vec![E::CredentialsWithPlaintext("http://10.0.0.1:8080".to_owned())],
        ),
        (
            |b| b.origins(["http://localhost.example"]).credentials(),
            vec![E::CredentialsWithPlaintext("http://localhost.example".to_owned())],
        ),
        (|b| good(b).methods(["*"]).credentials(), vec![E::CredentialsWithAnyMethod]),
        (|b| good(b).methods(["*", "GET"]), vec![E::AnyMethodBesideOthers]),
        (|b| good(b).methods([] as [&str; 0]), vec![E::NoMethod]),
        (|b| good(b).methods(["G ET"]), vec![method("G ET", MethodFault::Malformed)]),
        (|b| good(b).methods(["GET,POST"]), vec![method("GET,POST", MethodFault::Malformed)]),
        (|b| good(b).methods(["GET", ""]), vec![method("", MethodFault::Malformed)]),
        (|b| good(b).methods(["CONNECT"]), vec![method("CONNECT", MethodFault::Forbidden)]),
        (|b| good(b).methods(["trace"]), vec![method("trace", MethodFault::Forbidden)]),
        (|b| good(b).methods(["TRACK"]), vec![method("TRACK", MethodFault::Forbidden)]),
        (|b| good(b).methods(["patch"]), vec![method("patch", MethodFault::Case)]),
        (|b| good(b).methods(["DELTE"]), vec![method("DELTE", MethodFault::Unknown)]),
        (|b| good(b).methods(["GET", "GET"]), vec![method("GET", MethodFault::Twice)]),
        (|b| good(b).request_headers(["*"]), vec![E::AuthorizationBehindWildcard]),
        (
            |b| good(b).request_headers(["*"]).credentials(),
            vec![E::CredentialsWithAnyHeader, E::AuthorizationBehindWildcard],
        ),
        (|b| good(b).request_headers(["*", "authorization"]).credentials(), vec![E::CredentialsWithAnyHeader]),
        (|b| good(b).request_headers(["*", "authorization", "x-a"]), vec![E::AnyHeaderBesideOthers]),
        (|b| good(b).request_headers(["*", "*", "authorization"]), vec![E::AnyHeaderBesideOthers]),
        (|b| good(b).expose_headers(["*", "*"]), vec![E::AnyExposedBesideOthers]),
        (|b| good(b).request_headers(["access-control-foo"]), vec![header("access-control-foo", WrongSide)]),
        (|b| good(b).expose_headers(["access-control-max-age"]), vec![exposed("access-control-max-age", WrongSide)]),
        (|b| b.origins(["https://*.kawasaki.jp"]), vec![origin("https://*.kawasaki.jp", OriginFault::PublicSuffix)]),
        (
            |b| b.origins(["http://a.localhost"]).credentials(),
            vec![E::CredentialsWithPlaintext("http://a.localhost".to_owned())],
        ),
        (
            |b| b.origins(["http://localhost:3000"]).private_network_access(),
            vec![E::PrivateNetworkWithPlaintext("http://localhost:3000".to_owned())],
        ),
        (|b| good(b).request_headers(["x a"]), vec![header("x a", HeaderFault::Malformed)]),
        (|b| good(b).request_headers(["x-*"]), vec![header("x-*", HeaderFault::Malformed)]),
        (|b| good(b).request_headers([""]), vec![header("", HeaderFault::Malformed)]),
        (|b| good(b).request_headers(["Host"]), vec![header("Host", Forbidden)]),
        (|b| good(b).request_headers(["cookie"]), vec![header("cookie", Forbidden)]),
        (|b| good(b).request_headers(["Origin"]), vec![header("Origin", Forbidden)]),
        (|b| good(b).request_headers(["sec-fetch-site"]), vec![header("sec-fetch-site", Forbidden)]),
        (|b| good(b).request_headers(["Proxy-Authorization"]), vec![header("Proxy-Authorization", Forbidden)]),
        (
            |b| good(b).request_headers(["Access-Control-Allow-Origin"]),
            vec![header("Access-Control-Allow-Origin", WrongSide)],
        ),
        (|b| good(b).request_headers(["www-authenticate"]), vec![header("www-authenticate", WrongSide)]),
        (|b| good(b).request_headers(["x-a", "X-A"]), vec![header("X-A", HeaderFault::Twice)]),
        (|b| good(b).expose_headers(["*"]).credentials(), vec![E::CredentialsWithAnyExposed]),
        (|b| good(b).expose_headers(["*", "x-a"]), vec![E::AnyExposedBesideOthers]),
        (|b| good(b).expose_headers(["Set-Cookie"]), vec![exposed("Set-Cookie", Forbidden)]),
        (|b| good(b).expose_headers(["authorization"]), vec![exposed("authorization", WrongSide)]),
        (|b| good(b).expose_headers(["Host"]), vec![exposed("Host", WrongSide)]),
        (|b| good(b).expose_headers(["sec-fetch-site"]), vec![exposed("sec-fetch-site", WrongSide)]),
        (|b| good(b).expose_headers(["x:a"]), vec![exposed("x:a", HeaderFault::Malformed)]),
        (|b| good(b).expose_headers(["etag", "ETag"]), vec![exposed("ETag", HeaderFault::Twice)]),
        (|b| good(b).max_age(Duration::from_secs(86_401)), vec![E::MaxAge(long)]),
        (|b| good(b).max_age(Duration::from_millis(1500)), vec![E::MaxAge(half)]),
        (|b| good(b).max_age(Duration::MAX), vec![E::MaxAge(Duration::MAX)]),
        (|b| b.origins(["*"]).private_network_access(), vec![E::PrivateNetworkWithWildcard("*".to_owned())]),
        (
            |b| b.origins(["https://*.app.example"]).private_network_access(),
            vec![E::PrivateNetworkWithWildcard("https://*.app.example".to_owned())],
        ),
        (
            |b| b.origins(["http://app.example"]).private_network_access(),
            vec![E::PrivateNetworkWithPlaintext("http://app.example".to_owned())],
        ),
        // All at once, in the order of the settings.
        (
            |b| {
                let b = b.origins(["null", "http://a.example", "https://*.com"]).credentials().methods(["get", "*"]);
                b.request_headers(["*", "cookie"]).expose_headers(["*", "set-cookie"]).max_age(Duration::MAX)
            },
            vec![
                origin("null", OriginFault::Null),
                E::CredentialsWithPlaintext("http://a.example".to_owned()),
                origin("https://*.com", OriginFault::PublicSuffix),
                E::AnyMethodBesideOthers,
                E::CredentialsWithAnyMethod,
                method("get", MethodFault::Case),
                header("cookie", Forbidden),
                E::CredentialsWithAnyHeader,
                E::AnyHeaderBesideOthers,
                E::AuthorizationBehindWildcard,
                exposed("set-cookie", Forbidden),
                E::CredentialsWithAnyExposed,
                E::AnyExposedBesideOthers,
                E::MaxAge(Duration::MAX),
            ],
        ),
    ];
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

fn good(builder: CorsPolicyBuilder) -> CorsPolicyBuilder {
    builder.origins(["https://app.example"])
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

proptest! {
    /// Any bytes anywhere: an answer of the table, never a permission for what is not named, and no panic.
    #[test]
    fn req_143_req_153_any_bytes_get_an_answer_of_the_table(
        name in proptest::sample::select(vec!["plain", "api", "http", "public", "wild", "lan"]),
        method in proptest::sample::select(vec!["OPTIONS", "GET", "POST", "TRACE", "X"]),
        fields in proptest::collection::vec(
            (
                proptest::sample::select(vec![
                    "origin",
                    "access-control-request-method",
                    "access-control-request-headers",
                    "access-control-request-private-network",
                ]),
                prop_oneof![
                    proptest::collection::vec(any::<u8>(), 0..40),
                    Just(b"https://app.example".to_vec()),
                    Just(b"GET".to_vec()),
                    "https://[a-z.:#@*-]{0,20}shop\\.example(:8443)?".prop_map(String::into_bytes),
                    "[a-z,* -]{0,60}".prop_map(String::into_bytes),
                ],
            ),
            0..7,
        ),
    ) {
        let (policy, [methods, allowed, ..]) = policy(name);
        let mut request = Request::builder().method(method).uri("/200").body(String::new()).unwrap();
        for (name, value) in fields {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                request.headers_mut().append(name, value);
            }
        }
        let origins: Vec<_> = request.headers().get_all("origin").iter().cloned().collect();
        let asks = request.headers().contains_key("access-control-request-method");
        let preflight = request.method() == Method::OPTIONS && asks && !origins.is_empty();
        let (called, answer) = ask(policy, request).now_or_never().unwrap();
        prop_assert_eq!(called, !preflight);
        prop_assert_eq!(answer.status().as_u16(), if preflight { 204 } else { 200 });
        let headers = answer.headers();
        if let Some(reader) = headers.get("access-control-allow-origin") {
            let own = origins.len() == 1 && origins[0] == *reader;
            prop_assert!((own && !matches!(name, "public" | "wild")) || (*reader == "*" && matches!(name, "public" | "wild")));
        } else {
            prop_assert!(headers.keys().all(|name| !name.as_str().starts_with("access-control-")));
        }
        if preflight && headers.contains_key("access-control-allow-origin") {
            prop_assert_eq!(headers.get("access-control-allow-methods").map(|v| v.to_str().unwrap()), methods);
            prop_assert_eq!(headers.get("access-control-allow-headers").map(|v| v.to_str().unwrap()), allowed);
        }
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
