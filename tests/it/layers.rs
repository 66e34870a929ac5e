//! Layers around a mock: what was answered, and was the inner service called?

use std::time::Duration;

use http::{Request, Response, header::WWW_AUTHENTICATE};
use portcullis::{
    authz::RequireScopesLayer,
    bearer::{BearerExtractLayer, Credential},
    jwt::{Algorithm, ClaimsPolicy, JwtVerifyLayer, NoClaims, Verified, Verifier},
    principal::Principal,
};
use serde::Deserialize;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_test::{assert_request_eq, mock};

use crate::support::{AUDIENCE, Authority, ISSUER, Log, answers};

type Mock = mock::Mock<&'static str, Response<String>>;
type Handle = mock::Handle<&'static str, Response<String>>;

/// A mock that is told only that it was called: requests with extensions do not compare.
fn mocked<L, S>(layer: L) -> (S, Handle)
where
    L: Layer<tower::util::MapRequest<Mock, fn(Request<()>) -> &'static str>, Service = S>,
{
    let (inner, handle) = mock::pair();
    let called: fn(Request<()>) -> &'static str = |_| "called";
    (layer.layer(tower::util::MapRequest::new(inner, called)), handle)
}

fn request(authorization: Option<&str>) -> Request<()> {
    let mut request = Request::builder().uri("/");
    if let Some(authorization) = authorization {
        request = request.header("authorization", authorization);
    }
    request.body(()).unwrap()
}

/// A request that must reach the inner service, once.
async fn passes<S, B>(service: S, handle: &mut Handle, request: Request<()>)
where
    S: Service<Request<()>, Response = Response<B>>,
    S::Error: std::fmt::Debug,
{
    let answer = async {
        assert_request_eq!(handle, "called").send_response(Response::new(String::new()));
    };
    let (response, ()) = tokio::join!(service.oneshot(request), answer);
    assert_eq!(response.unwrap().status(), 200);
}

/// Status and challenge of a request that must not reach the inner service.
async fn refused<S, B>(service: S, handle: &mut Handle, request: Request<()>) -> (u16, String)
where
    S: Service<Request<()>, Response = Response<B>>,
    S::Error: std::fmt::Debug,
{
    handle.allow(1);
    // If the mock is called after all, nobody answers it.
    let response = tokio::time::timeout(Duration::from_secs(10), service.oneshot(request)).await;
    let response = response.expect("the inner service was called").unwrap();
    assert_eq!(next_call(handle), None, "the inner service was called");
    let challenge = response.headers().get(WWW_AUTHENTICATE).map_or("", |field| field.to_str().unwrap());
    (response.status().as_u16(), challenge.to_owned())
}

/// What the mock has been called with, if anything.
fn next_call(handle: &mut Handle) -> Option<&'static str> {
    use futures::FutureExt as _;
    std::pin::pin!(handle.next_request()).now_or_never().flatten().map(|(request, _)| request)
}

#[tokio::test]
async fn bearer_extract_lets_one_credential_pass() {
    let (service, mut handle) = mocked(BearerExtractLayer::required());
    passes(service, &mut handle, request(Some("Bearer abc"))).await;
}

#[tokio::test]
async fn req_009_req_012_bearer_extract_stops_the_rest() {
    for (field, status, challenge) in [
        (None, 401, "Bearer realm=\"test\""),
        (Some("Basic YTpi"), 401, "Bearer realm=\"test\""),
        (Some("Bearer"), 400, "error=\"invalid_request\""),
        (Some("Bearer a b"), 400, "error=\"invalid_request\""),
    ] {
        let (service, mut handle) = mocked(BearerExtractLayer::required().answers(answers()));
        let (answered, field_value) = refused(service, &mut handle, request(field)).await;
        assert_eq!(answered, status, "{field:?}");
        assert!(field_value.ends_with(challenge) || field_value.contains(challenge), "{field:?}: {field_value}");
        assert_eq!(field_value.contains("error"), status == 400, "{field:?}: {field_value}");
    }
}

#[tokio::test]
async fn optional_mode_never_takes_a_bad_credential_for_none() {
    let layer = BearerExtractLayer::optional();
    let seen = |request: Request<()>| async move {
        Ok::<_, std::convert::Infallible>(Response::new(match request.extensions().get() {
            Some(Credential::Absent) => "absent",
            Some(Credential::Bearer(_)) => "bearer",
            None => "nothing",
        }))
    };
    for (field, status) in [(None, 200), (Some("Basic YTpi"), 200), (Some("Bearer a"), 200), (Some("Bearer"), 400)] {
        let response = layer.layer(service_fn(seen)).oneshot(request(field)).await.unwrap();
        assert_eq!(response.status(), status, "{field:?}");
    }
    let mut twice = request(Some("Bearer a"));
    twice.headers_mut().append("authorization", "Bearer a".parse().unwrap());
    assert_eq!(layer.layer(service_fn(seen)).oneshot(twice).await.unwrap().status(), 400);
}

#[tokio::test]
async fn jwt_verify_stops_a_bad_token() {
    let authority = Authority::new(Algorithm::Es256);
    let stack = || {
        ServiceBuilder::new()
            .layer(BearerExtractLayer::required())
            .layer(JwtVerifyLayer::new(authority.verifier()).answers(answers()))
            .into_inner()
    };
    let other = Authority::new(Algorithm::Es256).token("");
    for token in ["abc", "a.b.c", &other, &authority.token_with(|claims| claims["exp"] = 1.into())] {
        let (service, mut handle) = mocked(stack());
        let (status, challenge) = refused(service, &mut handle, request(Some(&format!("Bearer {token}")))).await;
        assert_eq!(status, 401, "{token}");
        assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
    }
    let (service, mut handle) = mocked(stack());
    let good = request(Some(&format!("Bearer {}", authority.token("me"))));
    passes(service, &mut handle, good).await;
}

#[tokio::test]
async fn a_missing_layer_refuses_and_is_named_in_the_log() {
    let authority = Authority::new(Algorithm::EdDsa);
    let log = Log::default();
    let _guard = log.capture();
    let good = || request(Some(&format!("Bearer {}", authority.token("me"))));

    let (service, mut handle) = mocked(JwtVerifyLayer::new(authority.verifier()));
    assert_eq!(refused(service, &mut handle, good()).await, (500, String::new()));
    assert!(log.text().contains("ERROR") && log.text().contains("BearerExtractLayer is missing"), "{}", log.text());

    let scopes = RequireScopesLayer::all_of(["me"]).unwrap();
    let (service, mut handle) = mocked(scopes.clone());
    assert_eq!(refused(service, &mut handle, good()).await, (500, String::new()));
    assert!(log.text().contains("JwtVerifyLayer is missing"), "{}", log.text());

    // Extracted, but never verified; and the two in the wrong order.
    let unverified = ServiceBuilder::new().layer(BearerExtractLayer::optional()).layer(scopes.clone()).into_inner();
    for request in [good(), request(None)] {
        let (service, mut handle) = mocked(unverified.clone());
        assert_eq!(refused(service, &mut handle, request).await.0, 500);
    }
    let wrong = ServiceBuilder::new()
        .layer(JwtVerifyLayer::new(authority.verifier()))
        .layer(BearerExtractLayer::required())
        .into_inner();
    let (service, mut handle) = mocked(wrong);
    assert_eq!(refused(service, &mut handle, good()).await.0, 500);
}

#[tokio::test]
async fn req_016_nested_requirements_accumulate_in_the_challenge() {
    let authority = Authority::new(Algorithm::EdDsa);
    let stack = ServiceBuilder::new()
        .layer(authority.api().authenticate())
        .layer(RequireScopesLayer::all_of(["me"]).unwrap())
        .layer(RequireScopesLayer::any_of(["items", "items:read"]).unwrap())
        .layer(RequireScopesLayer::all_of(["admin", "me"]).unwrap())
        .into_inner();
    for (granted, status, needed) in [
        ("", 403, "scope=\"me\""),
        ("admin", 403, "scope=\"me\""),
        ("me", 403, "scope=\"items items:read me\""),
        ("me items:read", 403, "scope=\"admin me items items:read\""),
        ("items me", 403, "scope=\"admin me items items:read\""),
        ("admin items me", 200, ""),
    ] {
        let log = Log::default();
        let _guard = log.capture();
        let request = request(Some(&format!("Bearer {}", authority.token(granted))));
        if status == 200 {
            let (service, mut handle) = mocked(stack.clone());
            passes(service, &mut handle, request).await;
            continue;
        }
        let (service, mut handle) = mocked(stack.clone());
        let (answered, challenge) = refused(service, &mut handle, request).await;
        assert_eq!(answered, status, "{granted}");
        assert!(challenge.ends_with(needed), "{granted}: {challenge}");
        for told in ["reason=\"insufficient_scope\"", "subject=\"user:7\"", needed] {
            assert!(log.text().contains(told), "{told} in {}", log.text());
        }
    }
}

#[tokio::test]
async fn proofs_reach_the_handler() {
    #[derive(Deserialize)]
    struct Tenant {
        tenant: String,
        exp: u64,
    }
    let authority = Authority::new(Algorithm::Rs256);
    let policy = ClaimsPolicy::builder(ISSUER, AUDIENCE).build().unwrap();
    let service = ServiceBuilder::new()
        .layer(BearerExtractLayer::required())
        .layer(JwtVerifyLayer::new(Verifier::new(policy, authority.keys()).claims::<Tenant>()))
        .service_fn(|request: Request<()>| async move {
            let verified = Verified::<Tenant>::of(request.extensions()).unwrap();
            assert!(Verified::<NoClaims>::of(request.extensions()).is_none(), "claims of another type");
            let caller: &Principal = request.extensions().get().unwrap();
            assert_eq!(verified.claims().exp, verified.expires_at().get());
            assert_eq!((verified.issuer(), verified.audience().collect::<Vec<_>>()), (ISSUER, vec![AUDIENCE]));
            assert_eq!((caller.subject(), caller.client_id(), caller.token_id()), ("user:7", Some("app"), Some("t-1")));
            assert_eq!(caller.user_id(ISSUER).unwrap().as_str(), "7");
            assert_eq!((caller.issuer(), caller.user_id("https://id.example/")), (ISSUER, None), "req 185");
            assert!(caller.has_scope("me") && !caller.has_scope("m"));
            assert_eq!(caller.session_id(), Some("s"));
            Ok::<_, std::convert::Infallible>(Response::new(verified.claims().tenant.clone()))
        });
    let good = authority.token_with(|claims| {
        claims["tenant"] = "acme".into();
        claims["scope"] = "me".into();
        claims["sid"] = "s".into();
    });
    let lacking = authority.token("me");
    assert_eq!(service.clone().oneshot(request(Some(&format!("Bearer {good}")))).await.unwrap().status(), 200);
    assert_eq!(service.oneshot(request(Some(&format!("Bearer {lacking}")))).await.unwrap().status(), 401);
}

#[tokio::test]
async fn back_pressure_and_errors_of_the_inner_service_pass_through() {
    let authority = Authority::new(Algorithm::EdDsa);
    let stack = ServiceBuilder::new().layer(authority.api().authenticate()).into_inner();
    let (inner, mut handle) = mock::pair::<&'static str, Response<String>>();
    let called: fn(Request<()>) -> &'static str = |_| "called";
    let mut service = mock::Spawn::new(stack.layer(tower::util::MapRequest::new(inner, called)));
    handle.allow(0);
    assert!(service.poll_ready::<Request<()>>().is_pending());
    handle.allow(1);
    assert!(service.poll_ready::<Request<()>>().is_ready());
    let response = service.call(request(Some(&format!("Bearer {}", authority.token("")))));
    handle.next_request().await.unwrap().1.send_error("inner");
    assert!(response.await.unwrap_err().to_string().contains("inner"));
}
