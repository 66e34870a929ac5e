//! Refusals of an OAuth endpoint (RFC 6749 §5.2): one mapping from reason to bytes.

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE},
};
use http_body_util::Full;

use super::{fastapi, private_json};
use crate::{form::FormError, rejection::AnswerStyle};

/// Why an endpoint refuses. The texts are ours; nothing that a client sent comes back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum EndpointError {
    /// Parameter missing, repeated or malformed; body of another type or too long.
    InvalidRequest(&'static str),
    /// The credentials do not open anything, for whatever reason.
    InvalidGrant,
    /// The same in the same bytes, where the session goes on: it is of another client, or for another audience.
    #[cfg(feature = "password")]
    OthersGrant,
    /// A login that failed, in the style of FastAPI's tutorial.
    #[cfg(feature = "password")]
    IncorrectLogin,
    /// In that style, a login whose form lacks one of these.
    #[cfg(feature = "password")]
    LoginMissing { username: bool, password: bool },
    /// The client is not known, or has not proved who it is.
    InvalidClient,
    /// The same for a page, whose client can prove nothing. Not 401: at its challenge, a browser would ask the user for a name and
    /// a password by itself.
    #[cfg(feature = "password")]
    NoClientOfPages,
    /// The client may not do this.
    UnauthorizedClient,
    /// `grant_type` is not one that this server supports.
    UnsupportedGrantType,
    /// `scope` is not in the grammar, or too long.
    MalformedScope,
    /// Nothing of the scope may be granted, or more than fits a token.
    ScopeNotGranted,
    /// A resource is unknown, or may not be had (RFC 8707 §2).
    InvalidTarget,
    /// Tokens of this kind cannot be revoked here (RFC 7009 §2.2.1).
    UnsupportedTokenType,
    /// Another method than `allow`.
    MethodNotAllowed { allow: &'static str },
    /// Something that is needed does not answer.
    Unavailable { retry_after: u64 },
}

impl From<FormError> for EndpointError {
    fn from(FormError(reason): FormError) -> Self {
        Self::InvalidRequest(reason)
    }
}

const BASIC: &str = r#"Basic realm="client", charset="UTF-8""#;

impl EndpointError {
    /// What a client could have known to be wrong, for the log. Other outcomes are told where they are decided.
    pub(super) const fn malformed(self) -> Option<(u16, &'static str)> {
        match self {
            Self::InvalidRequest(reason) => Some((400, reason)),
            Self::UnsupportedGrantType => Some((400, "grant type not supported")),
            Self::MalformedScope => Some((400, "scope malformed")),
            Self::UnsupportedTokenType => Some((400, "token type cannot be revoked")),
            Self::MethodNotAllowed { .. } => Some((405, "method not supported")),
            Self::InvalidGrant
            | Self::InvalidClient
            | Self::UnauthorizedClient
            | Self::InvalidTarget
            | Self::ScopeNotGranted
            | Self::Unavailable { .. } => None,
            #[cfg(feature = "password")]
            Self::LoginMissing { .. } => Some((422, "a required parameter is missing")),
            #[cfg(feature = "password")]
            Self::OthersGrant | Self::NoClientOfPages | Self::IncorrectLogin => None,
        }
    }

    /// What the token endpoint answers in this style; the refusals that are of one style alone are as they are.
    pub(super) fn response_in(self, style: AnswerStyle) -> Response<Full<Bytes>> {
        match (style, self) {
            (AnswerStyle::FastApi, Self::Unavailable { .. } | Self::MethodNotAllowed { .. }) => {
                fastapi::plain(self.response())
            }
            _ => self.response(),
        }
    }

    /// The word for it (RFC 6749 §5.2, RFC 7009 §2.2.1, RFC 8707 §2).
    pub(super) const fn code(self) -> &'static str {
        match self {
            Self::InvalidRequest(_) | Self::MethodNotAllowed { .. } => "invalid_request",
            #[cfg(feature = "password")]
            Self::LoginMissing { .. } => "invalid_request",
            Self::InvalidGrant => "invalid_grant",
            #[cfg(feature = "password")]
            Self::OthersGrant | Self::IncorrectLogin => "invalid_grant",
            Self::InvalidClient => "invalid_client",
            #[cfg(feature = "password")]
            Self::NoClientOfPages => "invalid_client",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::InvalidTarget => "invalid_target",
            Self::UnsupportedTokenType => "unsupported_token_type",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::MalformedScope | Self::ScopeNotGranted => "invalid_scope",
            Self::Unavailable { .. } => "temporarily_unavailable",
        }
    }

    pub(super) fn response(self) -> Response<Full<Bytes>> {
        let (status, description) = match self {
            Self::InvalidRequest(description) => (StatusCode::BAD_REQUEST, description),
            Self::InvalidGrant => (StatusCode::BAD_REQUEST, "the credentials are not valid"),
            #[cfg(feature = "password")]
            Self::OthersGrant => return Self::InvalidGrant.response(),
            #[cfg(feature = "password")]
            Self::IncorrectLogin => return fastapi::incorrect(),
            #[cfg(feature = "password")]
            Self::LoginMissing { username, password } => return fastapi::missing(username, password),
            // One text: whether the client or its secret is unknown is nobody's business.
            Self::InvalidClient => (StatusCode::UNAUTHORIZED, "the client could not be authenticated"),
            #[cfg(feature = "password")]
            Self::NoClientOfPages => (StatusCode::BAD_REQUEST, "the client could not be authenticated"),
            Self::UnauthorizedClient => (StatusCode::BAD_REQUEST, "this client may not do this"),
            Self::InvalidTarget => (StatusCode::BAD_REQUEST, "the resource is unknown or may not be had"),
            Self::UnsupportedTokenType => (StatusCode::BAD_REQUEST, "tokens of this type cannot be revoked here"),
            Self::UnsupportedGrantType => (StatusCode::BAD_REQUEST, "this grant type is not supported"),
            Self::MalformedScope | Self::ScopeNotGranted => {
                (StatusCode::BAD_REQUEST, "the scope is malformed or may not be granted")
            }
            Self::MethodNotAllowed { .. } => (StatusCode::METHOD_NOT_ALLOWED, "this method is not supported"),
            Self::Unavailable { .. } => (StatusCode::SERVICE_UNAVAILABLE, "try again later"),
        };
        let code = self.code();
        let body = format!(r#"{{"error":"{code}","error_description":"{description}"}}"#);
        let mut response = private_json(status, body);
        match self {
            Self::MethodNotAllowed { allow } => {
                response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
            }
            Self::Unavailable { retry_after } => {
                response.headers_mut().insert(RETRY_AFTER, retry_after.into());
            }
            Self::InvalidClient => {
                // Every 401 has a challenge (RFC 9110 §15.5.2), and this scheme always works here.
                response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(BASIC));
            }
            _ => {}
        }
        response
    }
}
