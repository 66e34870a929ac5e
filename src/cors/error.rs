//! What can be wrong with a CORS configuration.

use std::time::Duration;

use crate::fetch::OriginFault;

/// One mistake in a CORS configuration; inside [`ConfigError::Cors`](crate::config::ConfigError::Cors).
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CorsError {
    /// No origin is named. A server that nobody else's page may read needs no CORS layer.
    #[error("no origin is named")]
    NoOrigin,
    /// An origin is none that a browser sends.
    #[error("origin {origin:?} {fault}")]
    Origin {
        /// What was given.
        origin: String,
        /// What is wrong with it.
        fault: OriginFault,
    },
    /// An origin is named twice.
    #[error("origin {0:?} is named twice")]
    OriginTwice(String),
    /// `*` stands for every origin, and there are others beside it.
    #[error("the origin * is every origin, and there are others beside it")]
    AnyOriginBesideOthers,
    /// Credentials and every origin: any page could act as whoever looks at it (Fetch, "CORS protocol and credentials").
    #[error("credentials with every origin: any page could act as whoever looks at it")]
    CredentialsWithAnyOrigin,
    /// Credentials and an `http` origin: whoever is on the network can be that page.
    #[error("credentials with {0:?}, which is not https: whoever is on the network can be that page")]
    CredentialsWithPlaintext(String),
    /// With credentials `*` is no wildcard, but a method of that name (Fetch, "CORS protocol and credentials").
    #[error("with credentials * is no wildcard for methods: name them")]
    CredentialsWithAnyMethod,
    /// With credentials `*` is no wildcard, but a header of that name.
    #[error("with credentials * is no wildcard for request headers: name them")]
    CredentialsWithAnyHeader,
    /// With credentials `*` is no wildcard, but a header of that name.
    #[error("with credentials * is no wildcard for exposed headers: name them")]
    CredentialsWithAnyExposed,
    /// A list of methods is empty: nothing could be asked for.
    #[error("no method is named")]
    NoMethod,
    /// A method is none that can be allowed.
    #[error("method {method:?} {fault}")]
    Method {
        /// What was given.
        method: String,
        /// What is wrong with it.
        fault: MethodFault,
    },
    /// `*` stands for every method, and there are others beside it.
    #[error("the method * is every method, and there are others beside it")]
    AnyMethodBesideOthers,
    /// A request header is none that can be allowed.
    #[error("request header {name:?} {fault}")]
    RequestHeader {
        /// What was given.
        name: String,
        /// What is wrong with it.
        fault: HeaderFault,
    },
    /// `*` covers every request header but `Authorization`, which must be named beside it (Fetch, "CORS non-wildcard
    /// request-header name").
    #[error("the request header * does not cover authorization: name authorization beside it")]
    AuthorizationBehindWildcard,
    /// `*` stands for all other request headers, and there are others beside it.
    #[error("the request header * is every one but authorization, and there are others beside it")]
    AnyHeaderBesideOthers,
    /// An exposed header is none that can be.
    #[error("exposed header {name:?} {fault}")]
    ExposedHeader {
        /// What was given.
        name: String,
        /// What is wrong with it.
        fault: HeaderFault,
    },
    /// `*` exposes every header, and there are others beside it.
    #[error("the exposed header * is every header, and there are others beside it")]
    AnyExposedBesideOthers,
    /// The time for which browsers may remember a permission is no whole number of seconds, or over a day.
    #[error("max-age of {0:?} is no whole number of seconds from 0 to 86400")]
    MaxAge(Duration),
    /// Requests from public into private networks, for every origin or every name below a domain.
    #[error("private-network access needs origins that are named one by one: {0:?} is not")]
    PrivateNetworkWithWildcard(String),
    /// Requests into private networks, from a page that whoever is on the network can be.
    #[error("private-network access with {0:?}, which is not https")]
    PrivateNetworkWithPlaintext(String),
}

/// What a [`CorsError`] is about: a method of the [builder](super::CorsPolicyBuilder).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum CorsSetting {
    /// [`origins`](super::CorsPolicyBuilder::origins).
    Origins,
    /// [`credentials`](super::CorsPolicyBuilder::credentials).
    Credentials,
    /// [`methods`](super::CorsPolicyBuilder::methods).
    Methods,
    /// [`request_headers`](super::CorsPolicyBuilder::request_headers).
    RequestHeaders,
    /// [`expose_headers`](super::CorsPolicyBuilder::expose_headers).
    ExposeHeaders,
    /// [`max_age`](super::CorsPolicyBuilder::max_age).
    MaxAge,
    /// [`private_network_access`](super::CorsPolicyBuilder::private_network_access).
    PrivateNetworkAccess,
}

impl CorsError {
    /// The setting that it is about. Of two that do not go together, the one that gives more away.
    ///
    /// ```
    /// use portcullis::{config::ConfigError, cors::{CorsPolicy, CorsSetting}};
    ///
    /// let errors = CorsPolicy::builder().origins(["https://app.example/"]).methods(["get"]).build().unwrap_err();
    /// let settings = errors.iter().map(|error| match error {
    ///     ConfigError::Cors(error) => error.setting(),
    ///     _ => unreachable!(),
    /// });
    /// assert_eq!(settings.collect::<Vec<_>>(), [CorsSetting::Origins, CorsSetting::Methods]);
    /// ```
    pub const fn setting(&self) -> CorsSetting {
        match self {
            Self::NoOrigin | Self::Origin { .. } | Self::OriginTwice(_) | Self::AnyOriginBesideOthers => {
                CorsSetting::Origins
            }
            Self::NoMethod | Self::Method { .. } | Self::AnyMethodBesideOthers => CorsSetting::Methods,
            Self::RequestHeader { .. } | Self::AuthorizationBehindWildcard | Self::AnyHeaderBesideOthers => {
                CorsSetting::RequestHeaders
            }
            Self::ExposedHeader { .. } | Self::AnyExposedBesideOthers => CorsSetting::ExposeHeaders,
            Self::CredentialsWithAnyOrigin
            | Self::CredentialsWithPlaintext(_)
            | Self::CredentialsWithAnyMethod
            | Self::CredentialsWithAnyHeader
            | Self::CredentialsWithAnyExposed => CorsSetting::Credentials,
            Self::MaxAge(_) => CorsSetting::MaxAge,
            Self::PrivateNetworkWithWildcard(_) | Self::PrivateNetworkWithPlaintext(_) => {
                CorsSetting::PrivateNetworkAccess
            }
        }
    }
}

/// What is wrong with a method in a CORS configuration.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MethodFault {
    /// It is no token (RFC 9110 §5.6.2).
    #[error("is no token")]
    Malformed,
    /// Browsers send it for nobody: `CONNECT`, `TRACE` or `TRACK` (Fetch, "forbidden method").
    #[error("is one that browsers send for nobody")]
    Forbidden,
    /// Methods differ by case, and this one is registered in upper case.
    #[error("must be in upper case: methods differ by case")]
    Case,
    /// It is in no registry (IANA, "HTTP Method Registry"): a typing error, most likely.
    #[error("is no registered method")]
    Unknown,
    /// It is named twice.
    #[error("is named twice")]
    Twice,
}

/// What is wrong with the name of a header in a CORS configuration.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderFault {
    /// It is no token (RFC 9110 §5.1).
    #[error("is no header name")]
    Malformed,
    /// Scripts can neither set nor read it, whatever is allowed (Fetch, "forbidden request-header" and "forbidden
    /// response-header name").
    #[error("is one that scripts can neither set nor read, whatever is allowed")]
    Forbidden,
    /// It belongs into requests alone, or into answers alone, and stands on the other list.
    #[error("belongs on the other side of the exchange")]
    WrongSide,
    /// It is named twice; names do not differ by case.
    #[error("is named twice")]
    Twice,
}
