//! Policies that are not built.

use std::time::Duration;

use portcullis::{
    config::OriginFault,
    cors::{CorsError, CorsPolicyBuilder, HeaderFault, MethodFault},
};

pub type Change = fn(CorsPolicyBuilder) -> CorsPolicyBuilder;

pub fn good(builder: CorsPolicyBuilder) -> CorsPolicyBuilder {
    builder.origins(["https://app.example"])
}

/// A policy that is good, changed into one that is not, and all that is wrong then.
#[expect(clippy::too_many_lines, reason = "a table")]
pub fn mistakes() -> Vec<(Change, Vec<CorsError>)> {
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
    vec![
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
    ]
}
