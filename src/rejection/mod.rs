//! Why a request is refused, and the one place that says what the answer is.

mod answers;

use http::StatusCode;

#[cfg(feature = "password")]
pub(crate) use self::answers::BEARER;
pub use self::answers::{AnswerStyle, Answers, Wire};
pub(crate) use self::answers::{Needs, RETRY_SECONDS, detail};
use crate::{audit, clock::UnixSeconds, throttle::Limit};

/// Why a request was refused. `Display` is for operators; clients see a status and a challenge.
///
/// Nothing in it was chosen by the client but numbers, so it can be logged as it is. Each refusal has it in the extensions of
/// its response, for layers further out and for tests.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// The request carries no `Authorization` field.
    #[error("no credential")]
    NoCredential,
    /// The request carries a credential of another scheme.
    #[error("credential of another scheme")]
    OtherScheme,
    /// The `Authorization` field is not in the grammar of RFC 6750 §2.1.
    #[error("malformed credential")]
    MalformedCredential,
    /// There is more than one credential (RFC 6750 §2).
    #[error("more than one credential")]
    RepeatedCredential,
    /// The token's text is longer than the policy allows.
    #[error("token of {bytes} bytes, {most} allowed")]
    TokenTooLong {
        /// Length of the token.
        bytes: usize,
        /// The policy's limit.
        most: usize,
    },
    /// The token is not three non-empty base64url segments, or a part of it is not strict JSON.
    #[error("malformed token: {0}")]
    MalformedToken(&'static str),
    /// The header names an extension that must be understood and is not (`crit`, `b64`, `zip`).
    #[error("header parameter {0:?} refused")]
    HeaderRefused(&'static str),
    /// The header's `typ` is not that of the tokens accepted here (RFC 8725 §3.11).
    #[error("token of another type")]
    WrongType,
    /// No key fits the header's `kid` and `alg`.
    #[error("no key for this token")]
    UnknownKey,
    /// The token does not say which of several keys it was signed with.
    #[error("several keys fit this token")]
    AmbiguousKey,
    /// The issuer publishes several keys that fit under the token's key id: its mistake, not the token's.
    #[error("several keys under this key id")]
    KeyIdRepeated,
    /// The issuer's keys cannot be had.
    #[error("verification keys unavailable")]
    KeysUnavailable,
    /// The signature is not one of the key over this text.
    #[error("bad signature")]
    BadSignature,
    /// A mandatory claim is missing.
    #[error("claim {0:?} missing")]
    ClaimMissing(&'static str),
    /// A claim has another type or form than its definition says.
    #[error("claim {0:?} malformed")]
    ClaimMalformed(&'static str),
    /// The token comes from another issuer.
    #[error("another issuer")]
    WrongIssuer,
    /// The token is meant for another audience.
    #[error("another audience")]
    WrongAudience,
    /// The token's `exp` lies in the past, leeway included.
    #[error("token expired at {exp}, now {now}")]
    Expired {
        /// When it expired.
        exp: UnixSeconds,
        /// When it was checked.
        now: UnixSeconds,
    },
    /// The token's `nbf` lies in the future, leeway included.
    #[error("token not valid before {nbf}, now {now}")]
    NotYetValid {
        /// When it becomes valid.
        nbf: UnixSeconds,
        /// When it was checked.
        now: UnixSeconds,
    },
    /// The token's `iat` lies in the future, leeway included.
    #[error("token issued at {iat}, now {now}")]
    IssuedInFuture {
        /// When it claims to have been issued.
        iat: UnixSeconds,
        /// When it was checked.
        now: UnixSeconds,
    },
    /// A claim that the policy requires is missing.
    #[error("a required claim is missing")]
    RequiredClaimMissing,
    /// A claim's value is not among those that the policy allows.
    #[error("a claim's value is not allowed")]
    ClaimNotAllowed,
    /// The claims do not have the shape of the program's own type.
    #[error("claims do not fit the program's type")]
    CustomClaims,
    /// The token was called back before it expired.
    #[error("token revoked")]
    Revoked,
    /// The user whom the credential names is disabled.
    #[error("user disabled")]
    UserInactive,
    /// The user whom the credential names is no longer there.
    #[error("user gone")]
    UserGone,
    /// A scope is missing.
    #[error("scope missing")]
    InsufficientScope,
    /// A policy says no, whatever scopes the caller has.
    #[error("denied by policy")]
    PolicyDenied,
    /// The caller signed in too long ago, or in a way that is not strong enough (RFC 9470).
    #[error("authentication too old or too weak")]
    InsufficientAuthentication,
    /// What a policy needs to know does not answer.
    #[error("policy undecided: {0}")]
    PolicyUndecided(&'static str),
    /// No layer has decided whether the request may pass, nor is its route marked as open.
    #[error("no layer has decided about this request: require something of it, or mark its route with `Public`")]
    NoDecision,
    /// A store cannot answer.
    #[error("store unavailable")]
    StoreUnavailable,
    /// It cannot be told whether the token was called back.
    #[error("revocations unavailable")]
    RevocationsUnavailable,
    /// There were too many attempts to sign in.
    #[error("too many attempts ({}), none for {seconds} s", limit.name())]
    TooManyAttempts {
        /// Which limit has none left.
        limit: Limit,
        /// When it will have one again, in seconds.
        seconds: u64,
    },
    /// Which account a request to sign in is for can be read in no way, or in more than one.
    #[error("account to sign in to cannot be read in one way")]
    LoginUnreadable,
    /// The request came over plain HTTP.
    #[error("request over plain HTTP")]
    Plaintext,
    /// A browser sent the request on behalf of another site, or it cannot be told that none did.
    #[error("request of another site: {0}")]
    CrossSite(&'static str),
    /// A layer that this one depends on is missing, or is further in.
    #[error(
        "{0} is missing, or sits inside what needs it; the stacks of `ResourceServer` and `AuthorizationServer` have it"
    )]
    LayerMissing(&'static str),
    /// A handler takes claims of another type than the verifying layer reads.
    #[error("the handler takes `Verified` claims of another type than the layer reads: see `ResourceServer::claims`")]
    OtherClaims,
}

/// The `error` attribute of a challenge (RFC 6750 §3.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum BearerError {
    InvalidRequest,
    InvalidToken,
    InsufficientScope,
    InsufficientUserAuthentication,
}

impl BearerError {
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidToken => "invalid_token",
            Self::InsufficientScope => "insufficient_scope",
            Self::InsufficientUserAuthentication => "insufficient_user_authentication",
        }
    }

    /// One text per code: it must not tell which check failed.
    pub(crate) const fn description(self) -> &'static str {
        match self {
            Self::InvalidRequest => "the request must carry exactly one well-formed bearer credential",
            Self::InvalidToken => "the access token is expired, revoked, malformed or not valid here",
            Self::InsufficientScope => "the access token does not carry the scope that is needed",
            Self::InsufficientUserAuthentication => "a newer or stronger authentication is needed",
        }
    }
}

/// Answer to a refusal, but for its words.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) status: StatusCode,
    pub(crate) challenge: Challenge,
    pub(crate) grpc: Grpc,
    pub(crate) kind: audit::Kind,
}

/// Which `WWW-Authenticate` field goes with an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Challenge {
    /// None: nothing is wrong with the credential.
    Silent,
    /// The realm alone.
    Plain,
    /// The realm and what is wrong.
    Error(BearerError),
}

/// gRPC status codes in use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Grpc {
    InvalidArgument = 3,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

impl Rejection {
    /// The one mapping from reason to answer. Every variant is named: a new one compiles only once its answer is chosen.
    pub(crate) const fn verdict(self) -> Verdict {
        use BearerError::{InsufficientScope, InsufficientUserAuthentication, InvalidRequest, InvalidToken};
        let (status, challenge, grpc, kind) = match self {
            Self::NoCredential | Self::OtherScheme => {
                (StatusCode::UNAUTHORIZED, Challenge::Plain, Grpc::Unauthenticated, audit::Kind::CredentialMissing)
            }
            Self::MalformedCredential | Self::RepeatedCredential => (
                StatusCode::BAD_REQUEST,
                Challenge::Error(InvalidRequest),
                Grpc::Unauthenticated,
                audit::Kind::CredentialInvalid,
            ),
            Self::TokenTooLong { .. }
            | Self::MalformedToken(_)
            | Self::HeaderRefused(_)
            | Self::WrongType
            | Self::UnknownKey
            | Self::AmbiguousKey
            | Self::BadSignature
            | Self::ClaimMissing(_)
            | Self::ClaimMalformed(_)
            | Self::WrongIssuer
            | Self::WrongAudience
            | Self::Expired { .. }
            | Self::NotYetValid { .. }
            | Self::IssuedInFuture { .. }
            | Self::RequiredClaimMissing
            | Self::CustomClaims
            | Self::Revoked
            | Self::UserInactive
            | Self::UserGone => (
                StatusCode::UNAUTHORIZED,
                Challenge::Error(InvalidToken),
                Grpc::Unauthenticated,
                audit::Kind::CredentialInvalid,
            ),
            Self::ClaimNotAllowed | Self::PolicyDenied => {
                (StatusCode::FORBIDDEN, Challenge::Plain, Grpc::PermissionDenied, audit::Kind::AuthorizationDenied)
            }
            // No challenge: the same request with other credentials would be refused as well.
            Self::Plaintext | Self::CrossSite(_) => {
                (StatusCode::FORBIDDEN, Challenge::Silent, Grpc::PermissionDenied, audit::Kind::RequestUnsafe)
            }
            Self::InsufficientScope => (
                StatusCode::FORBIDDEN,
                Challenge::Error(InsufficientScope),
                Grpc::PermissionDenied,
                audit::Kind::AuthorizationDenied,
            ),
            // 401, because signing in again is what helps (RFC 9470 §3).
            Self::InsufficientAuthentication => (
                StatusCode::UNAUTHORIZED,
                Challenge::Error(InsufficientUserAuthentication),
                Grpc::Unauthenticated,
                audit::Kind::AuthorizationDenied,
            ),
            Self::StoreUnavailable
            | Self::RevocationsUnavailable
            | Self::KeysUnavailable
            | Self::KeyIdRepeated
            | Self::PolicyUndecided(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                Challenge::Silent,
                Grpc::Unavailable,
                audit::Kind::InfrastructureFailed,
            ),
            Self::TooManyAttempts { limit: Limit::Account | Limit::Device, .. } => {
                (StatusCode::TOO_MANY_REQUESTS, Challenge::Silent, Grpc::ResourceExhausted, audit::Kind::LoginLocked)
            }
            Self::TooManyAttempts { limit: Limit::Registration, .. } => (
                StatusCode::TOO_MANY_REQUESTS,
                Challenge::Silent,
                Grpc::ResourceExhausted,
                audit::Kind::RegistrationRefused,
            ),
            Self::TooManyAttempts { .. } => {
                (StatusCode::TOO_MANY_REQUESTS, Challenge::Silent, Grpc::ResourceExhausted, audit::Kind::LoginLimited)
            }
            Self::LoginUnreadable => {
                (StatusCode::BAD_REQUEST, Challenge::Silent, Grpc::InvalidArgument, audit::Kind::RequestMalformed)
            }
            Self::LayerMissing(_) | Self::OtherClaims | Self::NoDecision => (
                StatusCode::INTERNAL_SERVER_ERROR,
                Challenge::Silent,
                Grpc::Internal,
                audit::Kind::InfrastructureFailed,
            ),
        };
        Verdict { status, challenge, grpc, kind }
    }

    /// A name for the reason, without what belongs to the one request. Names never change; there may be more.
    pub const fn code(self) -> &'static str {
        match self {
            Self::NoCredential => "no_credential",
            Self::OtherScheme => "other_scheme",
            Self::MalformedCredential => "malformed_credential",
            Self::RepeatedCredential => "repeated_credential",
            Self::TokenTooLong { .. } => "token_too_long",
            Self::MalformedToken(_) => "malformed_token",
            Self::HeaderRefused(_) => "header_refused",
            Self::WrongType => "wrong_type",
            Self::UnknownKey => "unknown_key",
            Self::AmbiguousKey => "ambiguous_key",
            Self::KeyIdRepeated => "key_id_repeated",
            Self::KeysUnavailable => "keys_unavailable",
            Self::BadSignature => "bad_signature",
            Self::ClaimMissing(_) => "claim_missing",
            Self::ClaimMalformed(_) => "claim_malformed",
            Self::WrongIssuer => "wrong_issuer",
            Self::WrongAudience => "wrong_audience",
            Self::Expired { .. } => "expired",
            Self::NotYetValid { .. } => "not_yet_valid",
            Self::IssuedInFuture { .. } => "issued_in_future",
            Self::RequiredClaimMissing => "required_claim_missing",
            Self::ClaimNotAllowed => "claim_not_allowed",
            Self::CustomClaims => "custom_claims",
            Self::Revoked => "revoked",
            Self::UserInactive => "user_inactive",
            Self::UserGone => "user_gone",
            Self::InsufficientScope => "insufficient_scope",
            Self::PolicyDenied => "policy_denied",
            Self::InsufficientAuthentication => "insufficient_authentication",
            Self::PolicyUndecided(_) => "policy_undecided",
            Self::NoDecision => "no_decision",
            Self::StoreUnavailable => "store_unavailable",
            Self::RevocationsUnavailable => "revocations_unavailable",
            Self::TooManyAttempts { limit, .. } => limit.code(),
            Self::LoginUnreadable => "login_unreadable",
            Self::Plaintext => "plaintext",
            Self::CrossSite(_) => "cross_site",
            Self::LayerMissing(_) => "layer_missing",
            Self::OtherClaims => "other_claims",
        }
    }

    /// Status of the answer over HTTP (RFC 6750 §3.1, RFC 9110 §15.5), unless the [style](AnswerStyle) is another.
    pub const fn status(self) -> StatusCode {
        self.verdict().status
    }
}
