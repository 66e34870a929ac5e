//! `POST /token`: the token endpoint (RFC 6749 §3.2).

use std::{
    convert::Infallible,
    fmt,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use http::{HeaderMap, Method, Request, Response, StatusCode, header::AUTHORIZATION};
use http_body::Body;
use http_body_util::Full;
use serde::Serialize;
use tower_service::Service;

use super::{error::EndpointError, form::Form, private_json};
#[cfg(feature = "password")]
use crate::password::{Outcome, PasswordLogin};
use crate::{
    audit,
    clock::{Clock, UnixSeconds},
    jwt::SigningKey,
    random,
    scope::ScopeSet,
};

/// What the endpoint issues tokens from.
pub(crate) struct Issuer {
    pub(crate) name: String,
    pub(crate) audience: String,
    pub(crate) key: SigningKey,
    pub(crate) lifetime: Duration,
    pub(crate) default_scope: Option<ScopeSet>,
    pub(crate) client_id: String,
    pub(crate) clock: Arc<dyn Clock>,
    #[cfg(feature = "password")]
    pub(crate) login: Option<PasswordLogin>,
}

/// Service that issues access tokens.
///
/// `POST` with `application/x-www-form-urlencoded` alone: 16 KiB, 64 parameters and 10 seconds at most, no parameter
/// twice. Needs a Tokio runtime with its timer enabled. A request whose future is dropped issues nothing.
#[derive(Clone)]
pub struct TokenEndpoint {
    issuer: Arc<Issuer>,
}

impl TokenEndpoint {
    pub(crate) const fn new(issuer: Arc<Issuer>) -> Self {
        Self { issuer }
    }
}

impl fmt::Debug for TokenEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenEndpoint").field("issuer", &self.issuer.name).finish_non_exhaustive()
    }
}

impl<B> Service<Request<B>> for TokenEndpoint
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let issuer = Arc::clone(&self.issuer);
        let answer = async move {
            let answer = issuer.answer(request).await;
            if let Some((status, reason)) = answer.as_ref().err().and_then(|error| error.malformed()) {
                audit::malformed(status, reason);
            }
            Ok(answer.unwrap_or_else(EndpointError::response))
        };
        answer.boxed()
    }
}

impl Issuer {
    async fn answer<B>(&self, request: Request<B>) -> Result<Response<Full<Bytes>>, EndpointError>
    where
        B: Body + Send,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (parts, body) = request.into_parts();
        if parts.method != Method::POST {
            return Err(EndpointError::MethodNotAllowed { allow: "POST" });
        }
        let form = Form::read(&parts.headers, body).await?;
        check_client_authentication(&parts.headers, &form)?;
        match form.require("grant_type")? {
            #[cfg(feature = "password")]
            "password" => match &self.login {
                Some(login) => self.password_grant(login, &form).await,
                None => Err(EndpointError::UnsupportedGrantType),
            },
            _ => Err(EndpointError::UnsupportedGrantType),
        }
    }

    /// RFC 6749 §4.3, for the one client that is this server's own.
    #[cfg(feature = "password")]
    async fn password_grant(&self, login: &PasswordLogin, form: &Form) -> Result<Response<Full<Bytes>>, EndpointError> {
        let (username, password) = (form.require("username")?, form.require("password")?);
        // Before the password, so that a malformed scope tells nothing about it.
        let requested = form.get("scope").map(str::parse::<ScopeSet>).transpose();
        let requested = requested.map_err(|_| EndpointError::MalformedScope)?;
        match login.sign_in(username, password.into()).await {
            Outcome::SignedIn(user) => {
                let subject = user.id.subject();
                let granted = granted(requested.as_ref(), self.default_scope.as_ref(), &user.scopes);
                // The password was right: whoever watches for guesses must see this one too.
                let granted = granted.inspect_err(|_| audit::login_failed(Some(&subject), "scope not granted"))?;
                self.issue(&subject, &granted)
            }
            Outcome::Refused => Err(EndpointError::InvalidGrant),
            Outcome::Unavailable { retry_after } => Err(EndpointError::Unavailable { retry_after }),
        }
    }

    /// An access token (RFC 9068 §2) for a subject who has just proved who they are.
    #[cfg_attr(not(feature = "password"), expect(dead_code, reason = "no grant needs it"))]
    fn issue(&self, subject: &str, scope: &ScopeSet) -> Result<Response<Full<Bytes>>, EndpointError> {
        let now = self.clock.now();
        let token_id = random::text::<16>().map_err(|error| failed("random source", &error))?;
        let scope = scope.to_string();
        let claims = AccessToken {
            iss: &self.name,
            aud: &self.audience,
            sub: subject,
            client_id: &self.client_id,
            iat: now,
            exp: now.saturating_add(self.lifetime),
            auth_time: now,
            jti: &token_id,
            scope: &scope,
        };
        let access_token = self.key.sign(&claims).map_err(|error| failed("signing key", &error))?;
        let response = TokenResponse {
            access_token: &access_token,
            token_type: "Bearer",
            expires_in: self.lifetime.as_secs(),
            scope: &scope,
        };
        let body = serde_json::to_vec(&response).map_err(|error| failed("token response", &error))?;
        audit::login_succeeded(subject, &token_id);
        Ok(private_json(StatusCode::OK, body))
    }
}

/// Claims of an access token (RFC 9068 §2.2).
#[derive(Serialize)]
struct AccessToken<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    client_id: &'a str,
    iat: UnixSeconds,
    exp: UnixSeconds,
    auth_time: UnixSeconds,
    jti: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    scope: &'a str,
}

/// RFC 6749 §5.1.
#[derive(Serialize)]
struct TokenResponse<'a> {
    access_token: &'a str,
    token_type: &'a str,
    expires_in: u64,
    scope: &'a str,
}

/// What a user gets: what was asked for, or else the server's default, as far as the user may have it.
///
/// Asking for scopes of which none may be granted is an error (RFC 6749 §3.3), and so is a grant of over 4,096 bytes.
#[cfg_attr(not(feature = "password"), expect(dead_code, reason = "no grant needs it"))]
fn granted(
    requested: Option<&ScopeSet>,
    default: Option<&ScopeSet>,
    may: &ScopeSet,
) -> Result<ScopeSet, EndpointError> {
    match (requested, default) {
        (Some(requested), _) => Some(requested.intersection(may))
            .filter(|granted| !granted.is_empty())
            .ok_or(EndpointError::ScopeNotGranted),
        (None, Some(default)) => Ok(may.intersection(default)),
        (None, None) => Ok(may.clone()),
    }
    // A token with more would be too long for those who check it.
    .and_then(|granted| if granted.is_short() { Ok(granted) } else { Err(EndpointError::ScopeNotGranted) })
}

/// One way to authenticate a client per request (RFC 6749 §2.3).
fn check_client_authentication(headers: &HeaderMap, form: &Form) -> Result<(), EndpointError> {
    if headers.contains_key(AUTHORIZATION) && form.get("client_secret").is_some() {
        return Err(EndpointError::InvalidRequest("the client authenticates in more than one way"));
    }
    Ok(())
}

fn failed(what: &'static str, error: &dyn fmt::Display) -> EndpointError {
    audit::infrastructure_failed(what, error);
    EndpointError::Unavailable { retry_after: crate::rejection::RETRY_SECONDS }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scope::Scope;

    #[test]
    fn req_031_req_039_granted_scope_is_never_wider_than_the_users() {
        let set = |text: &str| text.parse::<ScopeSet>().unwrap();
        let may = set("me items");
        for (requested, default, expected) in [
            (Some("me"), None, Ok("me")),
            (Some("me admin"), None, Ok("me")),
            (Some("items me"), Some("me"), Ok("items me")),
            (Some("admin"), None, Err(EndpointError::ScopeNotGranted)),
            (Some("ME"), None, Err(EndpointError::ScopeNotGranted)),
            (None, None, Ok("me items")),
            (None, Some("me admin"), Ok("me")),
            (None, Some("admin"), Ok("")),
        ] {
            let result = granted(requested.map(set).as_ref(), default.map(set).as_ref(), &may);
            assert_eq!(result.map(|scope| scope.to_string()), expected.map(str::to_owned), "{requested:?} {default:?}");
        }
        assert_eq!(granted(None, None, &ScopeSet::default()), Ok(ScopeSet::default()));
        let thousand = (0..1000).map(|n| Scope::parse(&format!("scope-{n}")).unwrap()).collect();
        assert_eq!(granted(None, None, &thousand), Err(EndpointError::ScopeNotGranted));
        assert_eq!(granted(Some(&set("scope-7")), None, &thousand), Ok(set("scope-7")));
    }
}
