//! axum's door: a router with the endpoints, and extractors for what the gates prove.
//!
//! ```
//! use axum::{Router, routing::get};
//! use portcullis::{ResourceServer, principal::Principal};
//!
//! async fn whoami(caller: Principal) -> String {
//!     caller.subject().to_owned()
//! }
//!
//! async fn greet(caller: Option<Principal>) -> String {
//!     caller.map_or_else(|| "stranger".to_owned(), |caller| caller.subject().to_owned())
//! }
//!
//! fn routes(api: &ResourceServer) -> Router {
//!     let closed = Router::new().route("/whoami", get(whoami)).layer(api.authenticate());
//!     let open = Router::new().route("/greet", get(greet)).layer(api.authenticate_optional());
//!     closed.merge(open)
//! }
//! ```
//!
//! An extractor on a route without the layers answers `500`, never an empty value.
//!
//! A scope can be demanded by the handler itself, too, with a type that stands for it:
//!
//! ```
//! use portcullis::{authz::CurrentUser, principal::{ScopeName, Scoped}};
//!
//! struct Export;
//! impl ScopeName for Export {
//!     const SCOPE: &'static str = "reports:export";
//! }
//!
//! async fn export(caller: Scoped<Export>) -> String {
//!     format!("reports of {}", caller.subject())
//! }
//!
//! // Inside `AuthorizationServer::current_user`.
//! async fn me(user: CurrentUser) -> String {
//!     user.username.clone()
//! }
//! ```

use std::fmt;

use ::axum::{
    Router,
    body::Body,
    extract::{FromRequestParts, OptionalFromRequestParts},
    response::{IntoResponse, Response},
};
use http::request::Parts;
use tower_layer::Layer as _;

use crate::{
    authorization_server::{AuthorizationServer, Mounted},
    authz::{CurrentUser, Public},
    endpoint::HealthEndpoint,
    health::Readiness,
    jwt::{CustomClaims, Verified},
    principal::{self, Principal, ScopeName, Scoped},
    rejection::{Answers, Needs, Rejection, Wire},
    scope::ScopeSet,
};

impl AuthorizationServer {
    /// A router with all endpoints, to merge into one's own: `POST` of `/token`, `/token/refresh`, `/revoke` and
    /// `/introspect`; `/sessions`, `/sessions/{id}`, `/logout` and `/password` for users who are signed in; `/register`
    /// if [registration](crate::AuthorizationServerBuilder::registration) is open; `/session` and `/session/refresh` if pages may keep
    /// sessions in [cookies](crate::AuthorizationServerBuilder::session_cookies); `GET` of `/.well-known/jwks.json`
    /// and, where the issuer and the audience are addresses, of their metadata. If the issuer is an address with a
    /// path, all but the metadata is below that path, where the metadata says that it is.
    ///
    /// With the feature `openapi`, `documented_routes` has the same with their document.
    ///
    /// Sessions say which network they began in if the router is served with
    /// `into_make_service_with_connect_info::<SocketAddr>()`.
    pub fn routes<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        let mount = |router: Router<S>, (path, endpoint): (String, Mounted)| mount(router, &path, endpoint);
        self.mounts().into_iter().fold(Router::new(), mount)
    }
}

impl Readiness {
    /// A router with `GET /health` and `GET /ready`, open on purpose: see [`health`](crate::health).
    pub fn routes<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        let ready = Public.layer(self.endpoint());
        Router::new().route_service("/health", Public.layer(HealthEndpoint)).route_service("/ready", ready)
    }
}

/// Puts an endpoint where it belongs.
pub(crate) fn mount<S: Clone + Send + Sync + 'static>(router: Router<S>, path: &str, endpoint: Mounted) -> Router<S> {
    match endpoint {
        Mounted::Token(endpoint) => router.route_service(path, endpoint),
        Mounted::Refresh(endpoint) | Mounted::Revoke(endpoint) | Mounted::Introspect(endpoint) => {
            router.route_service(path, endpoint)
        }
        Mounted::Keys(endpoint) | Mounted::ServerMetadata(endpoint) | Mounted::ResourceMetadata(endpoint) => {
            router.route_service(path, endpoint)
        }
        #[cfg(feature = "password")]
        Mounted::Sessions(endpoint) | Mounted::Session(endpoint) | Mounted::LogOut(endpoint) => {
            router.route_service(path, endpoint)
        }
        #[cfg(feature = "password")]
        Mounted::Password(endpoint) => router.route_service(path, endpoint),
        #[cfg(feature = "password")]
        Mounted::Register(endpoint) => router.route_service(path, endpoint),
        #[cfg(feature = "password")]
        Mounted::PageSession(endpoint) | Mounted::PageRefresh(endpoint) => router.route_service(path, endpoint),
    }
}

impl Principal {
    /// For handlers that refuse by themselves: the answer over HTTP, as the layer that let the caller in gives it.
    ///
    /// ```
    /// use portcullis::{axum::Refused, principal::Principal, rejection::Rejection};
    ///
    /// async fn orders_of_march(caller: Principal) -> Result<String, Refused> {
    ///     Err(caller.refused(Rejection::PolicyDenied))
    /// }
    /// ```
    #[must_use]
    pub fn refused(&self, rejection: Rejection) -> Refused {
        Refused { rejection, scopes: None, caller: Some(self.clone()), answers: self.answers(), wire: Wire::Http }
    }
}

/// For handlers that refuse by themselves: over HTTP, with the realm `api`, in the style of the standards. For the realm and the
/// style of the layer outside, see [`Principal::refused`]. For another realm, another framing, or the scopes that are missing, see [`ResourceServer::answers`](crate::ResourceServer::answers).
impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        Answers::default().refuse(self, None, Wire::Http).map(Body::from)
    }
}

/// Why an extractor had nothing to give: nobody signed in, a scope is missing, or the layers are. Or what a handler
/// [refuses](Principal::refused). As a response it is the answer of the layer that let the caller in; `Display` is for operators.
#[derive(Clone, Debug)]
pub struct Refused {
    rejection: Rejection,
    scopes: Option<ScopeSet>,
    caller: Option<Principal>,
    answers: Answers,
    wire: Wire,
}

impl Refused {
    /// The reason, for extractors of one's own that do without.
    ///
    /// ```
    /// use axum::{extract::FromRequestParts, http::request::Parts};
    /// use portcullis::{axum::Refused, principal::{ScopeName, Scoped}, rejection::Rejection};
    ///
    /// struct Export;
    /// impl ScopeName for Export {
    ///     const SCOPE: &'static str = "reports:export";
    /// }
    ///
    /// /// Whether the caller may export reports; whoever may not sees them all the same.
    /// struct MayExport(bool);
    ///
    /// impl<S: Send + Sync> FromRequestParts<S> for MayExport {
    ///     type Rejection = Refused;
    ///
    ///     async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
    ///         match Scoped::<Export>::from_request_parts(parts, state).await {
    ///             Ok(_) => Ok(Self(true)),
    ///             Err(refused) if refused.rejection() == Rejection::InsufficientScope => Ok(Self(false)),
    ///             Err(refused) => Err(refused),
    ///         }
    ///     }
    /// }
    /// ```
    pub const fn rejection(&self) -> Rejection {
        self.rejection
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rejection.fmt(f)
    }
}

impl std::error::Error for Refused {}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self { rejection, scopes, caller, answers, wire } = self;
        let who = caller.as_ref().map(Principal::who).unwrap_or_default();
        answers.refuse_caller(who, rejection, scopes.as_ref().map(Needs::Scopes), wire).map(Body::from)
    }
}

/// The proof that a gate left, or `None` where a gate saw that there is no credential.
fn optional<T>(parts: &Parts, proof: Option<T>) -> Result<Option<T>, Refused> {
    if proof.is_some() || principal::is_nobody(&parts.extensions) { Ok(proof) } else { Err(absent(parts)) }
}

fn present<T>(parts: &Parts, proof: Option<T>) -> Result<T, Refused> {
    proof.ok_or_else(|| absent(parts))
}

fn absent(parts: &Parts) -> Refused {
    // Where the layers are there and let the caller pass, they read another type of claims.
    absent_for(parts, Rejection::OtherClaims, None)
}

/// Refuses the caller for this reason; a stranger, because there is none.
fn absent_for(parts: &Parts, rejection: Rejection, scopes: Option<ScopeSet>) -> Refused {
    let (extensions, wire) = (&parts.extensions, Wire::of(&parts.headers));
    let (rejection, answers) = (principal::reason(extensions, rejection), principal::answers(extensions));
    Refused { rejection, scopes, caller: extensions.get().cloned(), answers, wire }
}

impl<S: Send + Sync, N: ScopeName> FromRequestParts<S> for Scoped<N> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        let caller = present(parts, parts.extensions.get::<Principal>().cloned())?;
        let needed = Self::needed(&caller);
        Self::of(caller).ok_or_else(|| absent_for(parts, Rejection::InsufficientScope, Some(needed)))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for CurrentUser {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        let user = parts.extensions.get().cloned();
        user.ok_or_else(|| absent_for(parts, Rejection::LayerMissing("CurrentUserLayer"), None))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Principal {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        present(parts, parts.extensions.get().cloned())
    }
}

impl<S: Send + Sync> OptionalFromRequestParts<S> for Principal {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Refused> {
        optional(parts, parts.extensions.get().cloned())
    }
}

impl<S: Send + Sync, C: CustomClaims> FromRequestParts<S> for Verified<C> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        present(parts, Self::of(&parts.extensions))
    }
}

impl<S: Send + Sync, C: CustomClaims> OptionalFromRequestParts<S> for Verified<C> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Refused> {
        optional(parts, Self::of(&parts.extensions))
    }
}
