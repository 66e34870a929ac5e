//! Requests that are odd in other ways than their credential: the policy holds, no handler runs, and the answer is a sentence of the
//! table.

use http::{Request, Version};

use super::{
    Answer, WIRES, ask, check, request,
    rows::{A_AND_B, INVALID_REQUEST, PASSES, STRANGER, Sentence, claiming, good},
    servers::{At, Host, World, hosts, path},
};
use crate::support::send;

/// Asks over each version of HTTP that `host` speaks, and compares. How often that was.
async fn compare(host: &Host, request: &Request<()>, wire: &str, says: Sentence) -> usize {
    for version in host.versions() {
        let before = host.calls();
        let mut answer = ask(host, *version, request).await;
        // What HTTP leaves out; what would have been there is in the other rows. A handler's own answer is the handler's affair.
        if request.method() == "HEAD" && (says != PASSES || answer.body.is_empty()) {
            assert!(answer.body.is_empty(), "{} {version:?} {wire} {answer:?}", host.name);
            answer.body = if says == PASSES { b"ok".to_vec() } else { super::expected(says, wire).body };
        }
        if let Err(error) = check(says, wire, &answer, host.calls() - before) {
            panic!("{} {version:?} {wire} {request:?}: {error}", host.name);
        }
    }
    host.versions().len()
}

#[tokio::test]
async fn whatever_the_method_the_verdict_is_the_same() {
    let world = World::new().await;
    let (hosts, scope, good) = (hosts(&world).await, claiming(&world, "scope", "b"), good(&world));
    let mut asked = 0;
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "post"] {
        for (credential, says) in [(None, STRANGER), (Some(&scope[0]), A_AND_B), (Some(&good[0]), PASSES)] {
            for (wire, content_type) in WIRES {
                let mut fields: Vec<_> = content_type.map(|value| ("content-type", value)).into_iter().collect();
                fields.extend(credential.map(|credential| ("authorization", credential.as_str())));
                let request = request(method, &path("Both"), &fields);
                for host in &hosts {
                    asked += compare(host, &request, wire, says).await;
                }
            }
        }
    }
    assert_eq!(asked, 10 * 3 * 4 * 9);
}

#[tokio::test]
async fn connect_is_a_method_like_others() {
    let world = World::new().await;
    for host in &hosts(&world).await {
        let At::Socket(address) = host.at else { continue };
        let reply = send(address, &format!("CONNECT {}", path("Closed")), &[], b"").await;
        assert_eq!((reply.status, reply.header("www-authenticate")), (401, STRANGER.challenge), "{}", host.name);
        // No path, so no place: whatever the server says, it is no tunnel.
        let reply = send(address, "CONNECT localhost:443", &[], b"").await;
        assert!(reply.status == 404 || reply.header("grpc-status") == Some("12"), "{} {reply:?}", host.name);
        assert_eq!(host.calls(), 0, "{}", host.name);
    }
}

/// Fields by which some servers are talked into another method, another path, or another caller.
#[tokio::test]
async fn no_other_field_changes_what_is_asked_or_who_asks() {
    let world = World::new().await;
    let (hosts, good) = (hosts(&world).await, good(&world));
    let token = good[0].strip_prefix("Bearer ").unwrap();
    let (cookie, open) = (format!("access_token={token}"), path("Open"));
    for (name, value) in [
        ("x-http-method-override", "OPTIONS"),
        ("x-http-method", "OPTIONS"),
        ("x-method-override", "OPTIONS"),
        ("x-original-url", &open),
        ("x-rewrite-url", &open),
        ("x-forwarded-uri", &open),
        ("x-forwarded-path", &open),
        ("x-forwarded-prefix", "/verdicts.Open"),
        ("x-original-uri", &open),
        ("forwarded", "for=127.0.0.1;host=localhost"),
        ("x-user", "user:7"),
        ("x-forwarded-user", "user:7"),
        ("x-authenticated-scope", "a b"),
        ("authorization-bin", &good[0]),
        ("authorization-bin", token),
        ("grpc-metadata-authorization", &good[0]),
        ("proxy-authorization", &good[0]),
        ("x-authorization", &good[0]),
        ("x-access-token", token),
        ("cookie", &cookie),
        ("origin", "https://evil.example"),
        ("access-control-request-method", "POST"),
        ("upgrade-insecure-requests", "1"),
    ] {
        for method in ["POST", "OPTIONS"] {
            for (wire, content_type) in WIRES {
                let mut fields = vec![(name, value)];
                fields.extend(content_type.map(|content_type| ("content-type", content_type)));
                let request = request(method, &path("Closed"), &fields);
                for host in &hosts {
                    compare(host, &request, wire, STRANGER).await;
                }
            }
        }
    }
    for query in [format!("access_token={token}"), format!("authorization=Bearer%20{token}")] {
        let request = Request::post(format!("{}?{query}", path("Closed"))).body(()).unwrap();
        for host in hosts.iter().filter(|host| matches!(host.at, At::Socket(_))) {
            compare(host, &request, "http", STRANGER).await;
        }
    }
}

/// The two fields stand in one metadata, in either order, however their names are written.
#[tokio::test]
async fn two_credentials_in_metadata_are_none() {
    let world = World::new().await;
    let (hosts, good) = (hosts(&world).await, good(&world));
    for fields in [
        [("authorization", "Bearer x"), ("authorization", good[0].as_str())],
        [("authorization", good[0].as_str()), ("Authorization", "Bearer x")],
        [("AUTHORIZATION", good[0].as_str()), ("authorization", good[0].as_str())],
        [("authorization", good[0].as_str()), ("authorization", "")],
    ] {
        for (wire, content_type) in WIRES {
            let mut fields = fields.to_vec();
            fields.extend(content_type.map(|content_type| ("content-type", content_type)));
            let request = request("POST", &path("Closed"), &fields);
            for host in &hosts {
                compare(host, &request, wire, INVALID_REQUEST).await;
            }
        }
    }
}

#[tokio::test]
async fn req_190_what_looks_like_grpc_and_is_not_is_answered_over_http() {
    let world = World::new().await;
    let hosts = hosts(&world).await;
    for (content_type, wire) in [
        ("application/grpc", "grpc"),
        ("application/grpc+json", "grpc"),
        ("application/grpc+x", "grpc"),
        ("application/grpc; charset=utf-8", "grpc"),
        ("APPLICATION/GRPC", "grpc"),
        ("application/grpc-web", "grpc-web"),
        ("application/grpc-web+json", "grpc-web"),
        ("application/grpc-web-text+proto", "grpc-web-text"),
        ("application/grpcx", "http"),
        ("application/grpcs+proto", "http"),
        ("application/grpc-webx", "http"),
        ("application/grpc-web-texts", "http"),
        ("application/grpc-", "http"),
        ("application/grpc/proto", "http"),
        ("application/proto", "http"),
        ("application/json;x=application/grpc", "http"),
        ("text/application/grpc", "http"),
        ("grpc", "http"),
        ("", "http"),
    ] {
        let request = request("POST", &path("Closed"), &[("content-type", content_type)]);
        for host in &hosts {
            compare(host, &request, wire, STRANGER).await;
        }
    }
}

/// Whatever a router makes of a path that is not quite a place's, no handler of a place that is closed runs.
#[tokio::test]
async fn no_spelling_of_a_path_leads_past_the_layers() {
    let world = World::new().await;
    let hosts = hosts(&world).await;
    let mut asked = 0;
    for odd in [
        "//verdicts.Closed/Ask",
        "/verdicts.Closed//Ask",
        "/verdicts.Closed/Ask/",
        "/verdicts.Closed/Ask//",
        "/verdicts.Closed/./Ask",
        "/./verdicts.Closed/Ask",
        "/verdicts.Open/../verdicts.Closed/Ask/",
        "/verdicts.closed/ask",
        "/VERDICTS.CLOSED/ASK",
        "/verdicts%2EClosed/Ask",
        "/verdicts.Closed/%41sk",
        "/%76erdicts.Closed/Ask",
        "/verdicts.Closed%2FAsk",
        "/verdicts.Closed%2fAsk",
        "/verdicts.Closed/Ask%00",
        "/verdicts.Closed/Ask;x=1",
        "/verdicts.Closed;x/Ask",
        "/verdicts.Closed/Ask?/verdicts.Open/Ask",
        "/verdicts.Closed",
        "/verdicts.Closed/",
        "/",
        "*",
    ] {
        for content_type in [None, Some("application/grpc"), Some("application/grpc-web-text")] {
            let fields: Vec<_> = content_type.map(|value| ("content-type", value)).into_iter().collect();
            let Ok(uri) = odd.parse::<http::Uri>() else { panic!("{odd}") };
            let mut request = request("POST", "/", &fields);
            *request.uri_mut() = uri;
            for host in hosts.iter().filter(|host| matches!(host.at, At::Socket(_))) {
                for version in [Version::HTTP_11, Version::HTTP_2] {
                    if odd == "*" && version == Version::HTTP_2 {
                        continue;
                    }
                    let before = host.calls();
                    let answer: Answer = ask(host, version, &request).await;
                    // Of a service that all may call, tonic has asked the handler, which is to know its own methods.
                    let open = host.name == "tonic" && odd.starts_with("/verdicts.Open/");
                    assert_eq!(host.calls() - before, usize::from(open), "{} {odd} {answer:?}", host.name);
                    let unknown = answer.status == 404 || answer.header("grpc-status") == Some("12");
                    let wire = WIRES.iter().find(|(_, value)| *value == content_type).unwrap().0;
                    let refused = check(STRANGER, wire, &answer, 0);
                    assert!(open || unknown || refused.is_ok(), "{} {odd} {refused:?}", host.name);
                    if host.name == "tonic" && content_type == Some("application/grpc") {
                        assert_eq!(answer.status, 200, "{odd} {answer:?}");
                    }
                    asked += 1;
                }
            }
        }
    }
    assert_eq!(asked, 516);
}
