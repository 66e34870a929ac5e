//! Login, tokens and permissions for any tower-compatible server, as composable [`Layer`](tower_layer::Layer)s and
//! services: what FastAPI's security tutorial makes easy, without its demo shortcuts.
//!
//! A [`ResourceServer`] protects routes: it hands out layers that read a bearer token, verify it and demand scopes.
//! An [`AuthorizationServer`] signs people in and issues those tokens. Each works without the other, on axum, tonic,
//! warp, plain hyper, or whatever else speaks tower.
//!
//! ```
//! # #[cfg(all(feature = "axum", feature = "password"))] {
//! use std::sync::Arc;
//!
//! use axum::{Router, routing::get};
//! use portcullis::{
//!     AuthorizationServer, jwt::{Algorithm, SigningKey}, password::PasswordHasher,
//!     principal::Principal, store::MemoryStore,
//! };
//!
//! async fn me(caller: Principal) -> String {
//!     caller.subject().to_owned()
//! }
//!
//! fn app() -> Result<Router, portcullis::config::ConfigErrors> {
//!     let key = SigningKey::generate(Algorithm::EdDsa)?;
//!     let server = AuthorizationServer::builder("https://api.example", "api", key)
//!         .first_party_login(Arc::new(MemoryStore::new()), PasswordHasher::builder().build()?)
//!         .build()?;
//!     let api = server.resource_server();
//!     let me = Router::new().route("/me", get(me)).layer(api.require(["me"])?).layer(api.authenticate());
//!     Ok(me.merge(server.routes()))
//! }
//! # app().unwrap();
//! # }
//! ```
//!
//! # Where things are
//!
//! | module | what a user takes from it |
//! |---|---|
//! | [`bearer`] | [`BearerExtractLayer`](bearer::BearerExtractLayer): one credential per request, or a refusal |
//! | [`cors`] | [`CorsStrictLayer`](cors::CorsStrictLayer), [`CorsPolicy`](cors::CorsPolicy): which pages of other origins may call |
//! | [`browser`] | [`CookieExtractLayer`](browser::CookieExtractLayer), [`CsrfLayer`](browser::CsrfLayer): tokens in cookies, and no forged requests |
//! | [`jwt`] | [`JwtVerifyLayer`](jwt::JwtVerifyLayer): keys, the claims' policy, [`Verified`](jwt::Verified) |
//! | [`authz`] | [`RequireScopesLayer`](authz::RequireScopesLayer): permissions |
//! | [`presets`] | rules and addresses of keys for Cognito, Auth0, Clerk, Keycloak, Entra ID, Google |
//! | [`principal`] | [`Principal`](principal::Principal): who is calling |
//! | [`rejection`] | [`Rejection`](rejection::Rejection): why a request was refused, and the answer that follows |
//! | [`login`] | [`LoginRateLimitLayer`](login::LoginRateLimitLayer): limits on guessing that lock no owner out |
//! | [`client_ip`] | [`ClientIpLayer`](client_ip::ClientIpLayer): where a request comes from, behind trusted proxies |
//! | [`transport`] | [`RequireHttpsLayer`](transport::RequireHttpsLayer), [`HstsLayer`](transport::HstsLayer), [`SecureHeadersLayer`](transport::SecureHeadersLayer): TLS, and the headers that go with it |
//! | [`endpoint`] | services for tokens, revocation, introspection, sessions, accounts, keys and metadata |
//! | [`client`] | [`Client`](client::Client) and [`Resource`](client::Resource): who asks for tokens, and for what |
//! | [`session`] | how long a login lasts, and what a device may do with it |
//! | [`revocation`] | [`RevocationList`](revocation::RevocationList): calling access tokens back |
//! | [`store`] | [`UserStore`](store::UserStore) and its backends |
#![cfg_attr(
    feature = "password",
    doc = "| [`password`] | Argon2id in a bounded pool, what new passwords must be like |"
)]
#![cfg_attr(feature = "axum", doc = "| [`axum`] | router and extractors |")]
#![cfg_attr(
    feature = "tonic",
    doc = "| [`tonic`] | callers in handlers, `Status` for refusals, layers around one service |"
)]
#![cfg_attr(
    feature = "openapi",
    doc = "| [`openapi`] | what a route demands, declared once: enforced, and drawn in an OpenAPI document and its page |"
)]
#![cfg_attr(
    feature = "testing",
    doc = "| [`testing`] | tokens right and wrong, identities without tokens, what every store promises; with `openapi`, an inventory of every route |"
)]
#![cfg_attr(feature = "metrics", doc = "| [`metrics`] | names of counters, gauges and histograms |")]
//! | [`health`] | [`Readiness`](health::Readiness): whether the stores and keys answer, for whoever sends requests here |
//! | [`config`] | [`ConfigErrors`](config::ConfigErrors): every mistake of a configuration at once |
//! | [`audit`] | [`AuditTrail`](audit::AuditTrail): what was decided and why, in `tracing` and in sinks that nobody waits for |
//! | [`scope`], [`ident`], [`secret`], [`clock`], [`random`] | the words that the rest is made of |
//! | [`gate`] | the response body and future that all layers share |
//! | [`guide`] | order of layers, defaults, threats, proofs, choices |
//!
//! # Features
//!
//! They only add interfaces; none changes behaviour.
//!
//! | feature | by default | adds |
//! |---|---|---|
//! | `axum` | yes | router with the endpoints, extractors |
//! | `breach-client` | yes | new passwords are compared with those that became known, over HTTP |
//! | `jwks-client` | yes | keys that an issuer publishes, fetched in the background |
//! | `legacy-hashes` | no | hashes by bcrypt, scrypt, PBKDF2, Argon2i and Argon2d in the store, which their users' next login replaces |
//! | `metrics` | no | counters, gauges and histograms through the facade `metrics`, for any recorder |
//! | `openapi` | no | scopes declared once: enforced, and drawn in an OpenAPI document and its page |
//! | `password` | yes | Argon2id hashing, `grant_type=password`, registration, change of password |
//! | `postgres` | no | users, sessions, revocations and signing keys in PostgreSQL, for several machines |
//! | `redis` | no | sessions, revocations and counts of logins in Redis or Valkey, for several machines |
//! | `sqlite` | yes | users, sessions, revocations and signing keys in a SQLite file |
//! | `testing` | no | what tests of programs need, and programs must not have: tokens, callers, suites for stores, an inventory of routes |
//! | `tonic` | no | `tonic::Status` for refusals, callers in handlers, layers around single services, the client's address where tonic puts it |

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]
// The guide names what is behind features; with all of them, every link has to lead somewhere.
#![cfg_attr(
    not(all(feature = "metrics", feature = "openapi", feature = "password", feature = "testing", feature = "tonic")),
    allow(rustdoc::broken_intra_doc_links)
)]

pub mod audit;
mod authorization_server;
pub mod authz;
#[cfg(feature = "axum")]
pub mod axum;
pub mod bearer;
pub mod browser;
mod caching;
pub mod client;
pub mod client_ip;
pub mod clock;
pub mod config;
mod cookie;
pub mod cors;
pub mod endpoint;
mod fetch;
mod follow;
mod form;
pub mod gate;
// Its examples need more than the default features; without, `cargo test --doc` leaves its pages out.
#[cfg(any(not(doctest), all(feature = "metrics", feature = "openapi", feature = "testing", feature = "tonic")))]
pub mod guide;
pub mod health;
pub mod ident;
pub mod jwt;
pub mod login;
#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(not(feature = "metrics"))]
mod metrics;
#[cfg(feature = "openapi")]
pub mod openapi;
#[cfg(feature = "password")]
pub mod password;
pub mod presets;
pub mod principal;
pub mod random;
pub mod rejection;
mod resource_server;
pub mod revocation;
pub mod scope;
pub mod secret;
pub mod session;
pub mod store;
mod stripe;
mod sync;
#[cfg(feature = "testing")]
pub mod testing;
mod throttle;
#[cfg(feature = "tonic")]
pub mod tonic;
pub mod transport;
mod uri;

pub use authorization_server::{AuthorizationServer, AuthorizationServerBuilder};
#[cfg(feature = "password")]
pub use authorization_server::{ProtectUsers, ProtectUsersLayer};
pub use resource_server::{AuthenticateLayer, CookieAuthenticateLayer, Protect, ProtectLayer, ResourceServer};

/// The README's code compiles and runs, too.
#[cfg(all(doctest, feature = "openapi", feature = "testing"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// Cargo says nothing of tests that it leaves out: in a package, which cannot depend on itself, plain `cargo test` has few.
#[cfg(all(test, not(all(feature = "metrics", feature = "openapi", feature = "testing", feature = "tonic"))))]
mod tests {
    #[test]
    #[ignore = "left out are tests/it and the guide: `cargo test --features metrics,openapi,testing,tonic`"]
    fn everything_was_tested() {
        panic!("not without the features metrics, openapi, testing and tonic");
    }
}
