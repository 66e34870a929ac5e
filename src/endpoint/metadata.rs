//! What a server says of itself (RFC 8414), and a resource of itself (RFC 9728). Lists that are empty are left out.

use bytes::Bytes;
use serde::Serialize;

use super::issuer::Issuer;
use crate::{
    client::{GrantType, Resource},
    uri::Place,
};

/// Their well-known names.
const SERVER: &str = "oauth-authorization-server";
const PROTECTED: &str = "oauth-protected-resource";

/// Metadata of an authorization server.
#[derive(Clone, Debug)]
pub(crate) struct ServerMetadata {
    pub(crate) path: String,
    /// Path of the issuer.
    #[cfg(feature = "axum")]
    pub(crate) below: String,
    pub(crate) document: Bytes,
}

/// RFC 8414 §2.
#[derive(Serialize)]
struct Server<'a> {
    issuer: &'a str,
    token_endpoint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwks_uri: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    grant_types_supported: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    token_endpoint_auth_methods_supported: Vec<&'static str>,
    revocation_endpoint: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    revocation_endpoint_auth_methods_supported: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    introspection_endpoint: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    introspection_endpoint_auth_methods_supported: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    protected_resources: Vec<&'a str>,
}

impl ServerMetadata {
    /// `None` if the issuer is no address that anything could be found below.
    pub(crate) fn of(issuer: &Issuer) -> Option<Self> {
        let place = Place::parse(&issuer.name)?;
        let methods = issuer.clients.methods();
        let secret: Vec<_> = methods.iter().copied().filter(|method| *method != "none").collect();
        let resources = std::iter::once(issuer.audience.as_str()).chain(issuer.resources.iter().map(Resource::id));
        let server = Server {
            issuer: place.as_str(),
            token_endpoint: place.below("/token"),
            jwks_uri: (!issuer.keys.is_shared()).then(|| place.below("/.well-known/jwks.json")),
            grant_types_supported: issuer.grant_types(),
            token_endpoint_auth_methods_supported: methods.clone(),
            revocation_endpoint: place.below("/revoke"),
            revocation_endpoint_auth_methods_supported: methods,
            introspection_endpoint: (!secret.is_empty()).then(|| place.below("/introspect")),
            introspection_endpoint_auth_methods_supported: secret,
            protected_resources: resources.filter(|id| Place::parse(id).is_some()).collect(),
        };
        Some(Self {
            path: place.well_known_path(SERVER),
            #[cfg(feature = "axum")]
            below: place.path().to_owned(),
            document: serde_json::to_vec(&server).ok()?.into(),
        })
    }
}

impl Issuer {
    pub(crate) fn grant_types(&self) -> Vec<&'static str> {
        let mut types = Vec::new();
        #[cfg(feature = "password")]
        if self.login.is_some() {
            types.push("password");
            types.extend(self.sessions.is_some().then_some("refresh_token"));
        }
        if self.clients.iter().any(|client| client.may(GrantType::ClientCredentials)) {
            types.push("client_credentials");
        }
        types
    }
}

/// Metadata of a protected resource.
#[derive(Clone, Debug)]
pub(crate) struct ResourceMetadata {
    pub(crate) path: String,
    /// Where it is, as challenges name it.
    pub(crate) address: String,
    pub(crate) document: Bytes,
}

/// RFC 9728 §2.
#[derive(Serialize)]
struct Described<'a> {
    resource: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    authorization_servers: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    scopes_supported: &'a [String],
    bearer_methods_supported: [&'static str; 1],
}

impl ResourceMetadata {
    /// `None` if the resource is no address that anything could be found below.
    pub(crate) fn of(resource: &str, authorization_servers: &[String], scopes: &[String]) -> Option<Self> {
        let place = Place::parse(resource)?;
        let described = Described {
            resource,
            authorization_servers,
            scopes_supported: scopes,
            bearer_methods_supported: ["header"],
        };
        Some(Self {
            path: place.well_known_path(PROTECTED),
            address: place.well_known(PROTECTED),
            document: serde_json::to_vec(&described).ok()?.into(),
        })
    }
}
