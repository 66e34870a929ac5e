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

use ::axum::{
    Router,
    body::Body,
    extract::{FromRequestParts, OptionalFromRequestParts},
    response::{IntoResponse, Response},
};
use http::request::Parts;

use crate::{
    authorization_server::AuthorizationServer,
    jwt::{CustomClaims, Verified},
    principal::{Anonymous, Principal},
    rejection::{Answers, Rejection, Wire},
};

impl AuthorizationServer {
    /// A router with `POST /token` and `GET /.well-known/jwks.json`, to merge into one's own.
    pub fn routes<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        Router::new()
            .route_service("/token", self.token_endpoint())
            .route_service("/.well-known/jwks.json", self.jwks_endpoint())
    }
}

/// For handlers that refuse by themselves, with the realm `api`.
impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        Answers::default().refuse(self, None, Wire::Http).map(Body::from)
    }
}

/// The refusal for a request that carries no proof of a caller.
fn absent(parts: &Parts) -> Response {
    let wire = Wire::of(&parts.headers);
    let refused = match parts.extensions.get::<Anonymous>() {
        Some(anonymous) => anonymous.answers.refuse(Rejection::NoCredential, None, wire),
        None => Answers::default().refuse(Rejection::LayerMissing("JwtVerifyLayer"), None, wire),
    };
    refused.map(Body::from)
}

fn present<T: Clone + Send + Sync + 'static>(parts: &Parts) -> Result<T, Response> {
    parts.extensions.get::<T>().cloned().ok_or_else(|| absent(parts))
}

/// `None` only where a verifying layer saw that there is no credential.
fn optional<T: Clone + Send + Sync + 'static>(parts: &Parts) -> Result<Option<T>, Response> {
    match (parts.extensions.get::<T>(), parts.extensions.get::<Anonymous>()) {
        (Some(proof), _) => Ok(Some(proof.clone())),
        (None, Some(_)) => Ok(None),
        (None, None) => Err(absent(parts)),
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Principal {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        present(parts)
    }
}

impl<S: Send + Sync> OptionalFromRequestParts<S> for Principal {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Response> {
        optional(parts)
    }
}

impl<S: Send + Sync, C: CustomClaims> FromRequestParts<S> for Verified<C> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        present(parts)
    }
}

impl<S: Send + Sync, C: CustomClaims> OptionalFromRequestParts<S> for Verified<C> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Response> {
        optional(parts)
    }
}
