//! What handlers of tonic see of a caller, and how they refuse.

use std::{error::Error as _, sync::Arc};

use http::{Extensions, HeaderMap, Request as HttpRequest, Response as HttpResponse};
use percent_encoding::percent_decode;
use portcullis::{
    authz::{CurrentUsers, DenyUndecidedLayer, Public, SignedIn},
    bearer::BearerExtractLayer,
    browser::{CookieExtractLayer, CsrfGuard, CsrfLayer},
    client_ip::{ClientIpLayer, TrustedProxies},
    cors::{CorsPolicy, CorsStrictLayer},
    ident::{LoginName, UserId},
    jwt::{NoClaims, Verified},
    principal::{ScopeName, Scoped},
    rejection::{Answers, Rejection, Wire},
    scope::ScopeSet,
    store::{MemoryStore, PasswordHash, UserRecord, UserStore},
    tonic::CallerExt as _,
    transport::{HstsLayer, RequireHttpsLayer, SecureHeadersLayer},
};
use serde::Deserialize;
use tonic::{
    Code, Request, Status,
    metadata::MetadataMap,
    server::NamedService,
    service::Routes,
    transport::server::{Router, Server},
};
use tower::{Layer, Service, ServiceExt as _};

use super::{Book, api, authority, notes::health_server::HealthServer};
use crate::support::{Authority, ISSUER, Log};

/// The request that comes out of `layer`, as a handler of tonic gets it.
async fn through<L, S, B>(layer: L, token: Option<&str>) -> Request<()>
where
    L: Layer<Seeing, Service = S>,
    S: Service<HttpRequest<()>, Response = HttpResponse<B>, Error: std::fmt::Debug>,
{
    let (send, receive) = std::sync::mpsc::channel();
    let seen = layer.layer(Seeing(send));
    let request = HttpRequest::post("/");
    let request =
        token.into_iter().fold(request, |request, token| request.header("authorization", format!("Bearer {token}")));
    let response = seen.oneshot(request.body(()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    Request::from_parts(MetadataMap::new(), receive.recv().unwrap(), ())
}

/// Tells the extensions of each request.
#[derive(Clone)]
struct Seeing(std::sync::mpsc::Sender<Extensions>);

impl Service<HttpRequest<()>> for Seeing {
    type Response = HttpResponse<String>;
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: HttpRequest<()>) -> Self::Future {
        self.0.send(request.into_parts().0.extensions).unwrap();
        std::future::ready(Ok(HttpResponse::new(String::new())))
    }
}

struct Me;

impl ScopeName for Me {
    const SCOPE: &'static str = "me";
}

#[derive(Debug, Deserialize)]
struct OtherClaims {}

fn why(status: &Status) -> Rejection {
    *status.source().unwrap().downcast_ref().unwrap()
}

fn challenge(status: &Status) -> Option<&str> {
    status.metadata().get("www-authenticate").map(|field| field.to_str().unwrap())
}

#[tokio::test]
async fn handlers_see_the_caller_that_layers_found() {
    let authority = authority();
    let (api, token) = (api(&authority), authority.token("me"));
    let request = through(api.authenticate(), Some(&token)).await;
    assert_eq!(request.caller().unwrap().subject(), "user:7");
    assert_eq!(request.optional_caller().unwrap().unwrap().subject(), "user:7");
    let scoped: Scoped<Me> = request.scoped().unwrap();
    assert_eq!(scoped.subject(), "user:7");
    let verified: Verified<NoClaims> = request.verified().unwrap();
    assert_eq!(verified.issuer(), ISSUER);
    // Another type than the layer reads is a mistake of the program.
    let other = request.verified::<OtherClaims>().unwrap_err();
    assert_eq!((other.code(), why(&other)), (Code::Internal, Rejection::OtherClaims));
    let user = request.current_user().unwrap_err();
    assert_eq!((user.code(), why(&user)), (Code::Internal, Rejection::LayerMissing("CurrentUserLayer")));
}

#[tokio::test]
async fn a_user_who_was_loaded_is_there() {
    let (authority, store) = (authority(), Arc::new(MemoryStore::new()));
    let (id, login) = (UserId::parse("7").unwrap(), LoginName::parse("alice").unwrap());
    let (password, scopes) = (PasswordHash::from_phc(""), "me".parse().unwrap());
    store.insert(UserRecord { id, login, password, scopes, disabled: false }).await.unwrap();
    let layer =
        tower::layer::util::Stack::new(CurrentUsers::new(store, ISSUER).layer(), api(&authority).authenticate());
    let request = through(layer, Some(&authority.token("me"))).await;
    assert_eq!(request.current_user().unwrap().username, "alice");
}

#[tokio::test]
async fn req_188_req_189_a_missing_scope_names_what_layers_demanded_too() {
    let authority = authority();
    let api = api(&authority);
    let layer = tower::layer::util::Stack::new(api.require(["notes"]).unwrap(), api.authenticate());
    let request = through(layer, Some(&authority.token("notes"))).await;
    let status = request.scoped::<Me>().unwrap_err();
    assert_eq!((status.code(), why(&status)), (Code::PermissionDenied, Rejection::InsufficientScope));
    assert!(challenge(&status).unwrap().ends_with(", scope=\"me notes\""), "{status:?}");
}

#[tokio::test]
async fn a_stranger_is_unauthenticated_and_a_missing_layer_is_told() {
    let api = api(&authority());
    let stranger = through(api.authenticate_optional(), None).await;
    assert!(stranger.optional_caller().unwrap().is_none());
    let naked = Request::new(());
    let log = Log::default();
    let guard = log.capture();
    for (request, code, reason, field) in [
        (stranger, Code::Unauthenticated, Rejection::NoCredential, Some("Bearer realm=\"test\"")),
        (naked, Code::Internal, Rejection::LayerMissing("JwtVerifyLayer"), None),
    ] {
        for status in [
            request.caller().unwrap_err(),
            request.scoped::<Me>().unwrap_err(),
            request.verified::<NoClaims>().unwrap_err(),
            request.current_user().unwrap_err(),
        ] {
            assert_eq!((status.code(), why(&status), challenge(&status)), (code, reason, field));
        }
    }
    let naked = Request::new(()).optional_caller().unwrap_err();
    assert_eq!((naked.code(), challenge(&naked)), (Code::Internal, None));
    drop(guard);
    assert_eq!(log.text().matches("ERROR").count(), 5, "{}", log.text());
    assert!(log.text().contains("JwtVerifyLayer is missing"), "{}", log.text());
}

/// Headers with the message unescaped: tonic escapes spaces, which need not be.
fn unescaped(mut headers: HeaderMap) -> HeaderMap {
    let message = percent_decode(headers["grpc-message"].as_bytes()).decode_utf8().unwrap().into_owned();
    headers.insert("grpc-message", message.parse().unwrap());
    headers
}

/// A status of a handler is, to the last header, what a layer answers.
#[test]
fn req_187_req_188_req_189_statuses_are_what_layers_answer() {
    let scopes: ScopeSet = "a b".parse().unwrap();
    let answers = Answers::for_realm("orders").unwrap();
    for rejection in [
        Rejection::NoCredential,
        Rejection::OtherScheme,
        Rejection::MalformedCredential,
        Rejection::RepeatedCredential,
        Rejection::TokenTooLong { bytes: 9000, most: 8192 },
        Rejection::MalformedToken("payload"),
        Rejection::WrongType,
        Rejection::BadSignature,
        Rejection::Revoked,
        Rejection::UserInactive,
        Rejection::InsufficientScope,
        Rejection::InsufficientAuthentication,
        Rejection::PolicyDenied,
        Rejection::PolicyUndecided("directory"),
        Rejection::KeysUnavailable,
        Rejection::StoreUnavailable,
        Rejection::LoginUnreadable,
        Rejection::Plaintext,
        Rejection::CrossSite("none"),
        Rejection::NoDecision,
        Rejection::LayerMissing("JwtVerifyLayer"),
    ] {
        for scopes in [None, Some(&scopes)] {
            let status = answers.grpc_status(rejection, scopes);
            assert_eq!(why(&status), rejection);
            let layers = answers.refuse(rejection, scopes, Wire::Grpc);
            let handlers = status.into_http::<String>();
            assert_eq!(handlers.status(), layers.status(), "{rejection}");
            assert_eq!(unescaped(handlers.headers().clone()), *layers.headers(), "{rejection}");
        }
        let handlers = Status::from(rejection).into_http::<String>();
        let layers = Answers::default().refuse(rejection, None, Wire::Grpc);
        assert_eq!(unescaped(handlers.headers().clone()), *layers.headers(), "{rejection}");
    }
}

fn name<S: NamedService>(_: &S) -> &'static str {
    S::NAME
}

/// Every layer that a service may stand in keeps its name, and tonic takes it.
#[test]
fn layers_around_a_service_keep_its_name() {
    let authority: Authority = authority();
    let (api, health) = (api(&authority), || HealthServer::new(Book::default()));
    let (guard, proxies) = (CsrfGuard::builder().build().unwrap(), TrustedProxies::none());
    let cors = CorsPolicy::builder().origins(["https://app.example"]).build().unwrap();
    let users = CurrentUsers::new(Arc::new(MemoryStore::new()), ISSUER);
    macro_rules! taken {
        ($($layer:expr),* $(,)?) => {$({
            let service = $layer.layer(health());
            assert_eq!(name(&service), "notes.v1.Health", stringify!($layer));
            let _: Router = Server::builder().add_service(service.clone());
            let _: Routes = Routes::new(service);
        })*};
    }
    taken!(
        api.authenticate(),
        api.authenticate_optional(),
        api.authenticate_cookie(guard.clone()),
        api.protect(SignedIn),
        api.require(["me"]).unwrap(),
        api.authorize(SignedIn),
        users.layer(),
        BearerExtractLayer::required(),
        CookieExtractLayer::new(guard.clone()),
        CsrfLayer::new(guard),
        Public,
        DenyUndecidedLayer,
        ClientIpLayer::new(proxies.clone()),
        CorsStrictLayer::new(cors),
        RequireHttpsLayer::new(proxies.clone()),
        HstsLayer::new(proxies),
        SecureHeadersLayer::new(),
    );
    // All in one.
    let stack = Public.layer(DenyUndecidedLayer.layer(api.authenticate().layer(users.layer().layer(health()))));
    assert_eq!(name(&stack), "notes.v1.Health");
    let _ = Server::builder().add_service(stack);
}
