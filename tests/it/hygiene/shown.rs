//! What `Debug` and `Display` show of whatever holds a secret, or holds something that does.

use std::{convert::Infallible, fmt::Debug, sync::Arc};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use portcullis::{
    AuthorizationServer,
    audit::{AuditLayer, AuditTrail},
    authz::{AuthorizeLayer, CurrentUser, RequireScopesLayer, policy_fn},
    bearer::{BearerExtractLayer, Credential},
    browser::{CookieExtractLayer, CsrfGuard, CsrfLayer},
    client::{Client, HashedSecret},
    client_ip::{ClientIp, ClientIpLayer, TrustedProxies},
    clock::UnixSeconds,
    cors::{CorsPolicy, CorsStrictLayer},
    endpoint::{Registration, SessionCookies},
    ident::{LoginName, SessionId, UserId},
    jwt::{Algorithm, JwtVerifyLayer, KeyRing, SigningKey, Verified},
    login::{AccountField, LoginAttempt, LoginLimiter, LoginRateLimitLayer, Who},
    password::{PasswordContext, PasswordHasher, PasswordPolicy},
    principal::Principal,
    rejection::{Answers, Wire},
    secret::Secret,
    session::SessionPolicy,
    store::{MemoryAttempts, MemoryStore, PasswordHash, SealedKey, UserRecord},
    testing::{Flaw, TestAuthority, TestPrincipal, as_principal},
    transport::RequireHttpsLayer,
};
use tower::{Layer, Service, ServiceExt as _, service_fn};

use super::run::Run;

/// Both ways in which `Debug` prints.
macro_rules! show {
    ($run:expr, $($thing:expr),+ $(,)?) => {
        $({
            let thing = &$thing;
            $run.told("shown", format!("{thing:?} {thing:#?}").as_bytes());
        })+
    };
}

type Body = Full<Bytes>;

async fn inner(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    drop(request);
    Ok(Response::default())
}

/// A layer, its service, and the future of a request.
fn layered<L>(run: &mut Run, layer: L, request: Request<Body>)
where
    L: Layer<tower::util::BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>> + Debug,
    L::Service: Service<Request<Body>, Error = Infallible> + Debug,
{
    let service = tower::util::BoxCloneSyncService::new(service_fn(inner));
    let mut service = layer.layer(service);
    show!(run, layer, service);
    // What comes of it is not asked for: that it is being asked is enough to print it.
    drop(service.call(request));
    show!(run, service);
}

#[expect(clippy::too_many_lines, reason = "a list")]
pub async fn everything(run: &mut Run) {
    let plant = |run: &mut Run, name: &str| {
        let secret = portcullis::client::random_secret().unwrap().expose().clone();
        run.needles().add(name, &secret);
        secret
    };
    // Single values.
    let secret = plant(run, "a secret");
    let sealed = plant(run, "a sealed key");
    let phc = plant(run, "a stored hash");
    let typed = plant(run, "what somebody typed as a name");
    let digest = HashedSecret::of(&Secret::from(secret.as_str())).unwrap();
    show!(run, Secret::from(secret.as_str()), digest, PasswordHash::from_phc(format!("$x${phc}")));
    show!(run, SealedKey::from_bytes(sealed.clone().into_bytes()));
    show!(run, Client::confidential("c", digest.clone()).also_secret(digest.clone()));
    let too_short = HashedSecret::of(&Secret::from(&secret[..20])).unwrap_err();
    run.needles().add("a secret that is too short", &secret[..20]);
    run.told("shown", format!("{too_short} {too_short:?}").as_bytes());
    show!(run, LoginName::parse(&format!("{typed}\0")), UserId::parse(&format!("{typed} {typed}")));
    show!(run, SessionId::parse(&secret));

    // Builders, with whatever can be wrong with what they are given, and what they build.
    let bad = ["short-secret-1".to_owned(), " ".repeat(40) + &typed, secret.clone()];
    for (at, text) in bad.iter().enumerate() {
        run.needles().add(&format!("a secret {at}"), text.trim());
        let given = || Secret::from(text.as_str());
        let hasher = PasswordHasher::builder().pepper("p", given()).old_pepper("o", given());
        let guard = CsrfGuard::builder().secret(given()).trusted_origins(["https://a.example"]);
        let limiter = LoginLimiter::builder().secret(given()).store(Arc::new(MemoryAttempts::new()));
        let ring = KeyRing::stored(Arc::new(MemoryStore::new()), Algorithm::EdDsa, given());
        show!(run, hasher, guard, limiter, ring);
        show!(run, hasher.build().map_err(|error| (error.to_string(), error)));
        show!(run, guard.build().map_err(|error| (error.to_string(), error)));
        show!(run, limiter.build().map_err(|error| (error.to_string(), error)));
        show!(run, ring.open().await.map_err(|error| (error.to_string(), error)));
        show!(run, SigningKey::hmac(Algorithm::Hs256, text.as_bytes()).map_err(|error| (error.to_string(), error)));
        show!(run, SigningKey::from_pem(Algorithm::Rs256, text.as_bytes()).map_err(|error| (error.to_string(), error)));
        let errors = AuthorizationServer::builder(text.as_str(), "a", SigningKey::generate(Algorithm::EdDsa).unwrap());
        drop(errors);
    }

    // A server with all of it, and its endpoints.
    let given = || Secret::from(secret.as_str());
    let hasher = PasswordHasher::builder().pepper("p", given()).build().unwrap();
    let guard = CsrfGuard::builder().secret(given()).build().unwrap();
    let limiter = LoginLimiter::builder().secret(given()).build().unwrap();
    let users = Arc::new(MemoryStore::new());
    let user = UserRecord {
        id: UserId::parse("u").unwrap(),
        login: LoginName::parse("u").unwrap(),
        password: hasher.hash(given()).await.unwrap(),
        scopes: "me".parse().unwrap(),
        disabled: false,
    };
    run.needles().add("a peppered hash", user.password.expose());
    show!(run, user, user.public(), PasswordContext::from(&user.login));
    portcullis::store::UserStore::insert(&*users, user).await.unwrap();
    let policy = PasswordPolicy::builder().service_name("Acme").build().unwrap();
    show!(run, policy.check(&given(), &PasswordContext::default()));
    show!(run, policy.check_change(&given(), &given(), &PasswordContext::default()));
    let builder = AuthorizationServer::builder(
        "https://id.example",
        "a",
        SigningKey::hmac(Algorithm::Hs256, secret.as_bytes()).unwrap(),
    )
    .first_party_login(Arc::clone(&users) as _, hasher.clone())
    .login_limits(limiter.clone())
    .sessions(Arc::clone(&users) as _, SessionPolicy::default().grace(std::time::Duration::from_secs(10)))
    .session_cookies(SessionCookies::new(guard.clone()))
    .registration(Registration::new())
    .client(Client::confidential("c", digest));
    show!(run, builder);
    let server = builder.build().unwrap();
    let api = server.resource_server();
    show!(run, server, api, users, hasher, guard, limiter, server.keys());
    show!(run, server.token_endpoint(), server.refresh_endpoint(), server.revocation_endpoint());
    show!(run, server.introspection_endpoint(), server.jwks_endpoint(), server.sessions_endpoint());
    show!(run, server.current_users(), server.current_user());
    let attempt = limiter
        .begin(Who { address: Some(ClientIp([192, 0, 2, 1].into())), account: Some(&typed), ..Who::default() })
        .await
        .unwrap();
    show!(run, attempt, attempt.device_token());
    let (token, headers) = (
        attempt.device_token().unwrap(),
        http::HeaderMap::from_iter([(http::header::COOKIE, http::HeaderValue::from_str(&secret).unwrap())]),
    );
    let account = Some(typed.as_str());
    show!(run, Who { address: None, account, device_token: Some(token.expose()), headers: Some(&headers) });
    run.needles().add("a device token", attempt.device_token().unwrap().expose());

    // Requests with tokens, the layers that read them, and what those leave in the extensions.
    let authority = TestAuthority::new();
    show!(run, authority, authority.verifier(), authority.key_source(), authority.key_service());
    show!(run, authority.flawed(Flaw::ALL[0]));
    let token = authority.token("me");
    run.needles().add_token("a token in layers", &token);
    let request = || {
        let request = Request::builder().uri("/").header("authorization", format!("Bearer {token}"));
        let mut request = request.header("cookie", format!("__Host-access={token}")).body(Body::default()).unwrap();
        request.extensions_mut().insert(ClientIp([192, 0, 2, 1].into()));
        request
    };
    let trail = AuditTrail::builder().start().unwrap();
    show!(run, trail, AuditTrail::builder());
    layered(run, AuditLayer::new(trail), request());
    layered(run, BearerExtractLayer::required(), request());
    layered(run, CookieExtractLayer::new(guard.clone()), request());
    layered(run, CookieExtractLayer::new(guard.clone()).or_bearer(), request());
    layered(run, CsrfLayer::new(guard.clone()), request());
    layered(run, JwtVerifyLayer::new(authority.verifier()), request());
    layered(run, authority.api().authenticate(), request());
    layered(run, authority.api().authenticate_cookie(guard), request());
    layered(run, RequireScopesLayer::all_of(["me"]).unwrap(), request());
    let around_login = LoginRateLimitLayer::new(limiter, AccountField::form("username"));
    let seen = Arc::new(std::sync::Mutex::new(String::new()));
    let keep = Arc::clone(&seen);
    let inner = service_fn(move |request: Request<portcullis::gate::GateBody<Body>>| {
        // The headers are the client's own, and printed as the `http` crate does.
        let text = format!("{:?} {:?}", request.body(), request.extensions().get::<LoginAttempt>());
        keep.lock().unwrap().push_str(&text);
        async { Ok::<_, Infallible>(Response::new(())) }
    });
    let mut service = around_login.layer(tower::util::BoxCloneSyncService::new(inner));
    let form = super::run::encoded(&[("username", &typed), ("password", &secret)]);
    let mut login = request().map(|_| Body::from(form));
    login.headers_mut().insert("content-type", "application/x-www-form-urlencoded".parse().unwrap());
    service.call(login).await.unwrap();
    show!(run, around_login, service);
    assert!(seen.lock().unwrap().contains("GateBody"));
    run.told("shown", seen.lock().unwrap().as_bytes());
    layered(run, ClientIpLayer::new(TrustedProxies::none()), request());
    layered(run, RequireHttpsLayer::new(TrustedProxies::none()), request());
    layered(
        run,
        CorsStrictLayer::new(CorsPolicy::builder().origins(["https://a.example"]).build().unwrap()),
        request(),
    );
    layered(run, as_principal(TestPrincipal::user("u")), request());
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let keep = Arc::clone(&seen);
    let look = service_fn(move |request: Request<Body>| {
        let extensions = request.extensions();
        let text = format!(
            "{extensions:?} {:?} {:?} {:?} {:?}",
            extensions.get::<Principal>(),
            extensions.get::<Credential>(),
            extensions.get::<CurrentUser>(),
            Verified::<portcullis::jwt::NoClaims>::of(extensions)
        );
        keep.lock().unwrap().push(text);
        async { Ok::<_, Infallible>(Response::new(Body::default())) }
    });
    let mut stack = BearerExtractLayer::required().layer(JwtVerifyLayer::new(authority.verifier()).layer(look));
    let stack = stack.ready().await.unwrap();
    let future = stack.call(request());
    show!(run, future);
    assert_eq!(future.await.unwrap().status(), 200);
    assert_eq!(seen.lock().unwrap().len(), 1);
    run.told("shown", seen.lock().unwrap().concat().as_bytes());
    let policy = policy_fn(|access| {
        let _ = format!("{access:?}");
        true
    });
    show!(run, AuthorizeLayer::new(policy));

    // Why requests are refused, and what is answered.
    for flaw in Flaw::ALL {
        let flawed = authority.flawed(*flaw);
        if flawed.token.len() > 100 {
            run.needles().add_token("a bad token in a rejection", &flawed.token);
        }
        let rejection =
            authority.verifier().verify_at(flawed.token.as_bytes(), UnixSeconds::new(crate::support::now()));
        let Err(rejection) = rejection else { continue };
        run.told("shown", format!("{rejection} {rejection:?}").as_bytes());
        for wire in [Wire::Http, Wire::Grpc, Wire::GrpcWeb, Wire::GrpcWebText] {
            show!(run, Answers::default().refuse(rejection, None, wire));
        }
        let status = Answers::default().grpc_status(rejection, None);
        run.told("shown", format!("{status} {status:?}").as_bytes());
    }
}
