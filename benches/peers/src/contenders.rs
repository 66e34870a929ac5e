//! The empty service alone, inside portcullis, and inside each peer.

use std::{
    convert::Infallible,
    future::Ready,
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use futures::FutureExt as _;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header::AUTHORIZATION};
use jsonwebtoken::{
    self as jwt,
    crypto::{CryptoProvider, aws_lc, rust_crypto},
    jwk::{Jwk, JwkSet},
};
use jwt_authorizer::{AuthError, IntoLayer as _, JwtAuthorizer};
use oauth_resource_server::{KeyNaming, OAuthConfig, OAuthValidator, http_layer::HttpAuthLayer};
use portcullis::{
    ResourceServer,
    jwt::{Algorithm, ClaimsPolicy, KeySet, SigningKey},
};
use tower::{Service, ServiceBuilder, service_fn};
use tower_http::validate_request::ValidateRequestHeaderLayer;
use tower_oauth2_resource_server::{
    server::OAuth2ResourceServer, tenant::TenantConfiguration, validation::ClaimsValidationSpec,
};

use crate::{AUDIENCE, ISSUER, SCOPE};

/// Sends a request with this `Authorization` field through a service; making the request is part of the cost.
pub type Send = Box<dyn FnMut(&HeaderValue) -> StatusCode>;

/// Makes a contender for one algorithm, or none if it cannot have it.
pub type Setup = fn(&Keys) -> Option<Send>;

pub const CONTENDERS: [(&str, Setup); 8] = [
    ("empty service", |_| Some(sender(empty()))),
    ("portcullis cold", |keys| Some(portcullis(keys, false))),
    ("portcullis warm", |keys| Some(portcullis(keys, true))),
    ("jwt-authorizer", |keys| Some(jwt_authorizer(keys))),
    ("tower-oauth2-resource-server", |keys| Some(with_rust_crypto(tower_oauth2(keys)))),
    ("the same with aws-lc", |keys| Some(tower_oauth2(keys))),
    ("oauth-resource-server", oauth_resource_server),
    ("tower-http, jsonwebtoken", |keys| Some(by_hand(keys))),
];

/// The key of one algorithm, as each contender wants it.
pub struct Keys {
    pub signing: SigningKey,
    decoding: jwt::DecodingKey,
    jwks: String,
}

impl Keys {
    pub fn new(algorithm: Algorithm) -> Self {
        const KID: &str = "2026-01"; // tower-oauth2-resource-server has no key without one
        const SECRET: &[u8] = b"0123456789abcdefghijklmnopqrstuv";
        macro_rules! pem {
            ($name:literal) => {
                include_bytes!(concat!("../../../tests/keys/", $name, ".pem"))
            };
        }
        let (signing, decoding) = match algorithm {
            Algorithm::Hs256 => (SigningKey::hmac(algorithm, SECRET), Ok(jwt::DecodingKey::from_secret(SECRET))),
            Algorithm::Rs256 | Algorithm::Ps256 => {
                (SigningKey::from_pem(algorithm, pem!("rsa")), jwt::DecodingKey::from_rsa_pem(pem!("rsa_pub")))
            }
            Algorithm::Es256 => {
                (SigningKey::from_pem(algorithm, pem!("p256")), jwt::DecodingKey::from_ec_pem(pem!("p256_pub")))
            }
            _ => (SigningKey::from_pem(algorithm, pem!("ed25519")), jwt::DecodingKey::from_ed_pem(pem!("ed25519_pub"))),
        };
        let (signing, decoding) = (signing.unwrap().with_kid(KID), decoding.unwrap());
        let mut jwk = Jwk::from_decoding_key(&decoding, Some(peer(algorithm))).unwrap();
        jwk.common.key_id = Some(KID.to_owned());
        let jwks = serde_json::to_string(&JwkSet { keys: vec![jwk] }).unwrap();
        Self { signing, decoding, jwks }
    }
}

fn peer(algorithm: Algorithm) -> jwt::Algorithm {
    algorithm.name().parse().unwrap()
}

/// What the peers keep of a token's claims, where one can choose: what a handler wants at least, less than we keep.
#[derive(Clone, serde::Deserialize)]
struct Claims {
    #[expect(dead_code, reason = "the empty service asks nobody's name")]
    sub: String,
    scope: String,
}

impl Claims {
    fn permit(&self) -> bool {
        self.scope.split(' ').any(|scope| scope == SCOPE)
    }
}

type Empty = tower::util::ServiceFn<fn(Request<()>) -> Ready<Result<Response<()>, Infallible>>>;

fn empty() -> Empty {
    service_fn(|_| std::future::ready(Ok(Response::new(()))))
}

fn sender<S, B>(mut service: S) -> Send
where
    S: Service<Request<()>, Response = Response<B>, Error = Infallible> + 'static,
{
    Box::new(move |field| {
        let mut request = Request::new(());
        request.headers_mut().insert(AUTHORIZATION, field.clone());
        let response = service.call(black_box(request)).now_or_never().unwrap().unwrap();
        black_box(response).status()
    })
}

fn refusal(status: StatusCode) -> Response<()> {
    let mut response = Response::default();
    *response.status_mut() = status;
    response
}

fn portcullis(keys: &Keys, remember: bool) -> Send {
    let policy = ClaimsPolicy::builder(ISSUER, AUDIENCE).build().unwrap();
    let api = ResourceServer::new(policy, KeySet::new([keys.signing.verifying_key()]).unwrap());
    let api = if remember { api } else { api.without_cache() };
    let layers = ServiceBuilder::new().layer(api.authenticate()).layer(api.require([SCOPE]).unwrap());
    sender(layers.service(empty()))
}

/// jwt-authorizer wants responses to come from its errors. Those of a type of our own cost it less than axum's.
struct Answer(Response<()>);

impl From<AuthError> for Answer {
    fn from(error: AuthError) -> Self {
        Self(Response::from(error).map(drop))
    }
}

/// The key as a JWK set, which names the one algorithm and is as fast as PEM; the scope in its `check`. It has no way to require `iss` and
/// `aud`, only to compare them. Verifies with jsonwebtoken 9, thus ring.
fn jwt_authorizer(keys: &Keys) -> Send {
    let validation = jwt_authorizer::Validation::new().iss(&[ISSUER]).aud(&[AUDIENCE]);
    let authorizer = JwtAuthorizer::from_jwks_text(&keys.jwks).validation(validation).check(Claims::permit).build();
    let layer = authorizer.now_or_never().unwrap().unwrap().into_layer();
    let layers = ServiceBuilder::new().map_response(|Answer(response)| response).layer(layer).map_response(Answer);
    sender(layers.service(empty()))
}

/// A static JWK set, and the claims named one by one, since by default such a set leaves `iss` unchecked. It knows no
/// scopes: tower-http's layer looks at the claims that it leaves. Verifies with jsonwebtoken 11.
fn tower_oauth2(keys: &Keys) -> Send {
    let claims = ClaimsValidationSpec::new().iss(ISSUER).aud(&vec![AUDIENCE.to_owned()]).exp(true);
    let tenant = TenantConfiguration::static_builder(&keys.jwks)
        .claims_validation(claims)
        .allowed_algorithms(&[peer(keys.signing.algorithm())]) // HS256 must be named
        .build()
        .unwrap();
    let server = OAuth2ResourceServer::<Claims>::builder().add_tenant(tenant).build().now_or_never().unwrap().unwrap();
    let scope = |request: &mut Request<()>| match request.extensions().get::<Claims>() {
        Some(claims) if claims.permit() => Ok(()),
        _ => Err(refusal(StatusCode::FORBIDDEN)),
    };
    let layers = ServiceBuilder::new().layer(server.into_layer()).layer(ValidateRequestHeaderLayer::custom(scope));
    sender(layers.service(empty()))
}

/// A JWK set to begin with, which nothing here makes it fetch anew; the scope in its configuration, and `at+jwt`, which
/// we require, too. Verifies with jsonwebtoken 9, thus ring. It refuses shared secrets, so there is no HS256.
fn oauth_resource_server(keys: &Keys) -> Option<Send> {
    if keys.signing.algorithm() == Algorithm::Hs256 {
        return None;
    }
    let config = OAuthConfig {
        enabled: true,
        issuer: ISSUER.to_owned(),
        audience: AUDIENCE.to_owned(),
        resource: "https://api.example.com".to_owned(),
        required_scope: Some(SCOPE.to_owned()),
        algorithms: vec![keys.signing.algorithm().name().to_owned()],
        require_at_jwt: true,
        ..OAuthConfig::default()
    };
    let config = config.resolve(KeyNaming::Dotted("oauth")).unwrap().unwrap();
    let validator = OAuthValidator::builder(&config).initial_jwks(&keys.jwks).build().unwrap();
    let layer = HttpAuthLayer::builder().oauth(Arc::new(validator)).build().unwrap();
    Some(sender(ServiceBuilder::new().layer(layer).service(empty())))
}

/// What a server's author writes without any of these crates: tower-http's layer around jsonwebtoken 11 with aws-lc.
fn by_hand(keys: &Keys) -> Send {
    let mut validation = jwt::Validation::new(peer(keys.signing.algorithm()));
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[AUDIENCE]);
    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    let key = keys.decoding.clone();
    let authorize = move |request: &mut Request<()>| {
        let unauthorized = || refusal(StatusCode::UNAUTHORIZED);
        let token = bearer(request.headers()).ok_or_else(unauthorized)?;
        let claims = jwt::decode::<Claims>(token, &key, &validation).map_err(|_| unauthorized())?.claims;
        if !claims.permit() {
            return Err(refusal(StatusCode::FORBIDDEN));
        }
        request.extensions_mut().insert(claims);
        Ok(())
    };
    sender(ServiceBuilder::new().layer(ValidateRequestHeaderLayer::custom(authorize)).service(empty()))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

/// Whether jsonwebtoken 11 verifies with `RustCrypto`, else with aws-lc.
static RUST_CRYPTO: AtomicBool = AtomicBool::new(false);

/// Lets jsonwebtoken 11, whose backend is one for the whole process, change it between contenders.
pub fn install_crypto() {
    let provider = CryptoProvider {
        verifier_factory: |algorithm, key| {
            let rust_crypto = RUST_CRYPTO.load(Relaxed);
            let provider = if rust_crypto { &rust_crypto::DEFAULT_PROVIDER } else { &aws_lc::DEFAULT_PROVIDER };
            (provider.verifier_factory)(algorithm, key)
        },
        ..aws_lc::DEFAULT_PROVIDER.clone()
    };
    Box::leak(Box::new(provider)).install_default().unwrap();
}

/// The default backend of tower-oauth2-resource-server.
fn with_rust_crypto(mut send: Send) -> Send {
    Box::new(move |field| {
        RUST_CRYPTO.store(true, Relaxed);
        let status = send(field);
        RUST_CRYPTO.store(false, Relaxed);
        status
    })
}
