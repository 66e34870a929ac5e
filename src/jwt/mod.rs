//! JSON Web Tokens: verified with keys that are prepared once, by a parser and a policy that leave nothing to chance.
//!
//! [`JwtVerifyLayer`] sits inside [`BearerExtractLayer`](crate::bearer::BearerExtractLayer). It lets a request pass if
//! its token is good, with a [`Principal`](crate::principal::Principal) in the extensions, of which [`Verified::of`] makes
//! the proof, and answers `401` with `error="invalid_token"` otherwise.
//!
//! What is checked, and in this order: length, three segments, strict base64url, strict JSON claims, issuer; with that
//! issuer's keys and rules, strict JSON header without `crit`, one key that fits `kid` and `alg`, signature, type, audience,
//! times, presence, what it grants, required claims, and last the program's own type `C`.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower::BoxError> {
//! use http::{Request, Response};
//! use portcullis::{bearer::BearerExtractLayer, jwt::*};
//! use tower::{BoxError, ServiceBuilder, ServiceExt};
//!
//! #[derive(serde::Deserialize)]
//! struct Tenant {
//!     tenant: String,
//! }
//!
//! async fn handler(request: Request<String>) -> Result<Response<String>, BoxError> {
//!     let caller = Verified::<Tenant>::of(request.extensions()).ok_or("never without")?;
//!     Ok(Response::new(format!("{} of {}", caller.subject(), caller.claims().tenant)))
//! }
//!
//! # let key = SigningKey::generate(Algorithm::EdDsa)?;
//! # let now = std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_secs();
//! # let token = key.sign(&serde_json::json!({
//! #     "iss": "https://id.example", "aud": "orders", "sub": "user:7", "client_id": "app", "tenant": "acme",
//! #     "jti": "1", "iat": now, "exp": now + 600,
//! # }))?;
//! # let public_key = key.verifying_key();
//! let policy = ClaimsPolicy::builder("https://id.example", "orders").build()?;
//! let verifier = Verifier::new(policy, KeySet::new([public_key])?).claims::<Tenant>();
//! let service = ServiceBuilder::new()
//!     .layer(BearerExtractLayer::required())
//!     .layer(JwtVerifyLayer::new(verifier))
//!     .service_fn(handler);
//! let request = Request::builder().header("authorization", format!("Bearer {token}")).body(String::new())?;
//! assert_eq!(service.oneshot(request).await?.status(), 200);
//! # Ok(())
//! # }
//! ```

mod algorithm;
mod cache;
mod claims;
mod json;
mod jwk;
mod jwks;
mod key;
mod keyset;
mod layer;
#[cfg(feature = "testing")]
mod manual;
mod mark;
mod payload;
mod policy;
#[cfg(feature = "jwks-client")]
mod remote;
mod ring;
mod scope_map;
mod signer;
mod source;
mod token;
mod verified;
mod verifier;

#[cfg(feature = "testing")]
pub(crate) use self::manual::ManualKeys;
#[cfg(feature = "jwks-client")]
pub use self::remote::{JwksStatus, RemoteJwks, RemoteJwksBuilder};
pub use self::{
    algorithm::{Algorithm, UnknownAlgorithm},
    key::VerifyingKey,
    keyset::KeySet,
    layer::{JwtVerify, JwtVerifyLayer},
    policy::{ClaimsPolicy, ClaimsPolicyBuilder},
    ring::{KeyRing, KeyRingBuilder, KeyRingError},
    scope_map::{ClaimPath, ScopeMap},
    signer::{SigningFailed, SigningKey},
    source::KeySource,
    verified::{CustomClaims, NoClaims, Verified},
    verifier::Verifier,
};
pub(crate) use self::{key::hmac_key, mark::Mark, policy::StandIn};
