//! Callers without tokens: what is further in runs as it does with a token.

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body, routing::get};
use http::Request;
use portcullis::{
    authz::{
        AuthorizeLayer, Claim, CurrentUser, CurrentUsers, DenyUndecidedLayer, RequireScopesLayer, SignedIn, StepUp,
    },
    clock::UnixSeconds,
    ident::{LoginName, UserId},
    jwt::Verified,
    principal::{Principal, ScopeName, Scoped},
    rejection::{Answers, Rejection},
    store::{MemoryStore, PasswordHash, UserRecord, UserStore as _},
    testing::{AsPrincipalLayer, ManualClock, TestAuthority, TestPrincipal, as_nobody, as_principal},
};
use serde::Deserialize;
use tower::ServiceExt as _;

use crate::support::now;

#[derive(Deserialize)]
struct Tenant {
    tenant: String,
}

struct Items;
impl ScopeName for Items {
    const SCOPE: &'static str = "items";
}

fn routes() -> Router {
    let items = || async { "items" };
    let policy = |layer| Router::new().route("/", get(items)).layer(layer);
    Router::new()
        .route("/me", get(|caller: Principal| async move { caller.subject().to_owned() }))
        .route(
            "/greet",
            get(async |caller: Option<Principal>| {
                caller.map_or("stranger".to_owned(), |caller| caller.subject().to_owned())
            }),
        )
        .route("/scoped", get(|caller: Scoped<Items>| async move { caller.subject().to_owned() }))
        .route("/tenant", get(|caller: Verified<Tenant>| async move { caller.claims().tenant.clone() }))
        .route("/plain", get(|caller: Verified| async move { caller.issuer().to_owned() }))
        .nest("/items", policy(RequireScopesLayer::all_of(["items"]).unwrap()))
        .nest(
            "/eu",
            Router::new().route("/", get(items)).layer(AuthorizeLayer::new(Claim::one_of("region", ["eu"]).unwrap())),
        )
        .nest(
            "/transfer",
            Router::new().route("/", get(items)).layer(AuthorizeLayer::new(StepUp::within(Duration::from_secs(300)))),
        )
        .nest(
            "/decided",
            Router::new().route("/", get(items)).layer(DenyUndecidedLayer).layer(AuthorizeLayer::new(SignedIn)),
        )
}

/// Status, body and reason of the answer.
async fn ask(app: Router, path: &str) -> (u16, String, Option<Rejection>) {
    let response = app.oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
    let (status, reason) = (response.status().as_u16(), response.extensions().get().copied());
    let body = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
    (status, String::from_utf8_lossy(&body).into_owned(), reason)
}

fn anna() -> TestPrincipal {
    let now = UnixSeconds::new(now());
    TestPrincipal::user("user:7").scopes("me items").claim("tenant", "acme").claim("region", "eu").auth_time(now)
}

#[tokio::test]
async fn a_caller_who_is_said_is_answered_as_one_with_a_token() {
    let authority = TestAuthority::new();
    let bob = TestPrincipal::user("user:8").claim("region", "us").auth_time(UnixSeconds::new(1_000));
    let paths = ["/me", "/greet", "/scoped", "/tenant", "/plain", "/items", "/eu", "/transfer", "/decided"];
    let mut answers = Vec::new();
    for who in [anna(), bob] {
        for path in paths {
            let said = ask(routes().layer(as_principal(who.clone())), path).await;
            let request = Request::get(path).header("authorization", format!("Bearer {}", authority.token_for(&who)));
            let app = routes().layer(authority.api().authenticate());
            let response = app.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            let by_token = (response.status().as_u16(), response.extensions().get::<Rejection>().copied());
            assert_eq!((said.0, said.2), by_token, "{path}: {said:?}");
            answers.push(said.0);
        }
    }
    // `/tenant` reads claims that neither layer was told of.
    assert_eq!(answers[..9], [200, 200, 200, 500, 200, 200, 200, 200, 200]);
    assert_eq!(answers[9..], [200, 200, 403, 500, 200, 403, 403, 401, 200]);
}

#[tokio::test]
async fn handlers_of_verified_claims_get_a_proof_or_the_refusal_that_a_token_would_get() {
    let with = |who: TestPrincipal| routes().layer(as_principal(who).claims::<Tenant>());
    assert_eq!(ask(with(anna()), "/tenant").await, (200, "acme".to_owned(), None));
    let (status, _, reason) = ask(with(TestPrincipal::user("user:8")), "/tenant").await;
    assert_eq!((status, reason), (401, Some(Rejection::CustomClaims)));
    for (who, why) in [
        (TestPrincipal::user(""), Rejection::ClaimMalformed("sub")),
        (anna().scopes("two  spaces"), Rejection::ClaimMalformed("scope")),
        (anna().claim("exp", "never"), Rejection::ClaimMalformed("exp")),
        (anna().issuer(""), Rejection::WrongIssuer),
    ] {
        assert_eq!(ask(routes().layer(as_principal(who)), "/me").await.2, Some(why));
    }
    let (_, issuer, _) = ask(routes().layer(as_principal(anna().issuer("https://us.example"))), "/plain").await;
    assert_eq!(issuer, "https://us.example");
}

#[tokio::test]
async fn a_caller_does_not_run_out_and_is_made_when_the_clock_says() {
    let clock = Arc::new(ManualClock::at(UnixSeconds::new(5_000)));
    let layer: AsPrincipalLayer = as_principal(anna().lifetime(Duration::from_secs(60))).clock(clock.clone());
    let times = |caller: Verified| async move { format!("{:?} {}", caller.issued_at(), caller.expires_at()) };
    let app = Router::new().route("/", get(times)).layer(layer);
    clock.advance(Duration::from_secs(100_000));
    let made = format!("{:?} 5060", Some(UnixSeconds::new(5_000)));
    assert_eq!(ask(app, "/").await, (200, made, None));
}

#[tokio::test]
async fn nobody_is_a_stranger_where_that_is_allowed_and_401_elsewhere() {
    let answers = Answers::for_realm("test").unwrap();
    let app = routes().layer(as_nobody().answers(answers));
    assert_eq!(ask(app.clone(), "/greet").await, (200, "stranger".to_owned(), None));
    for path in ["/me", "/items", "/eu", "/scoped", "/plain"] {
        let response = app.clone().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 401, "{path}");
        assert_eq!(response.headers()["www-authenticate"], "Bearer realm=\"test\"", "{path}");
    }
}

#[tokio::test]
async fn the_user_behind_a_said_caller_is_read_from_the_store() {
    let store = Arc::new(MemoryStore::new());
    let user = |id: &str, disabled| UserRecord {
        id: UserId::parse(id).unwrap(),
        login: LoginName::parse(&format!("user-{id}")).unwrap(),
        password: PasswordHash::from_phc("none"),
        scopes: "me".parse().unwrap(),
        disabled,
    };
    store.insert(user("7", false)).await.unwrap();
    store.insert(user("8", true)).await.unwrap();
    let users = CurrentUsers::new(store, "https://id.example");
    let name = |user: CurrentUser| async move { user.username.clone() };
    for (who, expected) in [
        (TestPrincipal::user("user:7"), (200, None)),
        (TestPrincipal::user("user:8"), (401, Some(Rejection::UserInactive))),
        (TestPrincipal::user("user:9"), (401, Some(Rejection::UserGone))),
        (TestPrincipal::client("7"), (403, Some(Rejection::PolicyDenied))),
        (TestPrincipal::user("user:7").issuer("https://us.example"), (403, Some(Rejection::PolicyDenied))),
    ] {
        let app = Router::new().route("/", get(name)).layer(users.layer()).layer(as_principal(who.clone()));
        let (status, body, reason) = ask(app, "/").await;
        assert_eq!((status, reason), expected, "{who:?}: {body}");
        assert_eq!(status == 200, body == "user-7");
    }
}
