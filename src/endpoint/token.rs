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
#[cfg(feature = "password")]
use http::header::USER_AGENT;
use http::{HeaderMap, Method, Request, Response, StatusCode, header::AUTHORIZATION};
use http_body::Body;
use http_body_util::Full;
use serde::Serialize;
use tower_service::Service;

use super::{error::EndpointError, form::Form, private_json};
use crate::{
    audit,
    clock::{Clock, UnixSeconds},
    ident::SessionId,
    jwt::SigningKey,
    random,
    scope::ScopeSet,
};
#[cfg(feature = "password")]
use crate::{
    ident::UserId,
    password::{Outcome, PasswordLogin},
    session::{RefreshToken, SessionPolicy, SessionRecord},
    store::{NewSession, Rotated, Rotation, SessionStore},
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
    #[cfg(feature = "password")]
    pub(crate) sessions: Option<Sessions>,
}

/// Where sessions live, and for how long.
#[cfg(feature = "password")]
#[derive(Clone)]
pub(crate) struct Sessions {
    pub(crate) store: Arc<dyn SessionStore>,
    pub(crate) policy: SessionPolicy,
}

/// Service that issues access tokens.
///
/// `POST` with `application/x-www-form-urlencoded` alone: 16 KiB, 64 parameters and 10 seconds at most, no parameter
/// twice. Needs a Tokio runtime with its timer enabled. A request whose future is dropped issues nothing.
#[derive(Clone)]
pub struct TokenEndpoint {
    issuer: Arc<Issuer>,
    /// The only grant, where a form need not name one.
    grant: Option<&'static str>,
}

impl TokenEndpoint {
    pub(crate) const fn new(issuer: Arc<Issuer>) -> Self {
        Self { issuer, grant: None }
    }

    pub(crate) const fn refresh(issuer: Arc<Issuer>) -> Self {
        Self { issuer, grant: Some("refresh_token") }
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
        let (issuer, grant) = (Arc::clone(&self.issuer), self.grant);
        let answer = async move {
            let answer = issuer.answer(request, grant).await;
            if let Some((status, reason)) = answer.as_ref().err().and_then(|error| error.malformed()) {
                audit::malformed(status, reason);
            }
            Ok(answer.unwrap_or_else(EndpointError::response))
        };
        answer.boxed()
    }
}

impl Issuer {
    async fn answer<B>(&self, request: Request<B>, grant: Option<&str>) -> Result<Response<Full<Bytes>>, EndpointError>
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
        let grant = match grant {
            Some(grant) if form.get("grant_type").is_none_or(|named| named == grant) => grant,
            Some(_) => return Err(EndpointError::UnsupportedGrantType),
            None => form.require("grant_type")?,
        };
        match grant {
            #[cfg(feature = "password")]
            "password" => match &self.login {
                Some(login) => self.password_grant(login, &form, &parts.headers).await,
                None => Err(EndpointError::UnsupportedGrantType),
            },
            #[cfg(feature = "password")]
            "refresh_token" => match (&self.login, &self.sessions) {
                (Some(login), Some(sessions)) => self.refresh_grant(login, sessions, &form).await,
                _ => Err(EndpointError::UnsupportedGrantType),
            },
            _ => Err(EndpointError::UnsupportedGrantType),
        }
    }

    /// RFC 6749 §4.3, for the one client that is this server's own.
    #[cfg(feature = "password")]
    async fn password_grant(
        &self,
        login: &PasswordLogin,
        form: &Form,
        headers: &HeaderMap,
    ) -> Result<Response<Full<Bytes>>, EndpointError> {
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
                let now = self.clock.now();
                let session = match &self.sessions {
                    Some(sessions) => Some(self.begin(sessions, &subject, &granted, label(headers), now).await?),
                    None => None,
                };
                let refresh_token = session.as_ref().map(|(_, token)| token.expose());
                let issued = self.issue(&Grant {
                    subject: &subject,
                    scope: &granted,
                    auth_time: now,
                    now,
                    session: session.map(|(id, _)| id),
                    refresh_token: refresh_token.as_ref().map(|token| token.as_str()),
                })?;
                audit::login_succeeded(&subject, &issued.token_id);
                Ok(issued.response)
            }
            Outcome::Refused => Err(EndpointError::InvalidGrant),
            Outcome::Unavailable { retry_after } => Err(EndpointError::Unavailable { retry_after }),
        }
    }

    /// Begins a session; it is in the store when this resolves.
    #[cfg(feature = "password")]
    async fn begin(
        &self,
        Sessions { store, policy }: &Sessions,
        subject: &str,
        scope: &ScopeSet,
        label: String,
        now: UnixSeconds,
    ) -> Result<(SessionId, RefreshToken), EndpointError> {
        let no_random = |error| failed("random source", &error);
        let id = SessionId::random().map_err(no_random)?;
        let token = RefreshToken::random(id).map_err(no_random)?;
        let [one, two] = random::bytes().map_err(no_random)?;
        let expires_at = policy.expires_at(now, one);
        let session = SessionRecord {
            id,
            subject: subject.to_owned(),
            client_id: self.client_id.clone(),
            scope: scope.clone(),
            audience: vec![self.audience.clone()],
            label,
            network: String::new(),
            auth_time: now,
            last_used: now,
            expires_at,
        };
        let new = NewSession { session, digest: token.digest(), ends_at: policy.ends_at(expires_at, now, two) };
        store.create(new).await.map_err(|error| failed("session store", &error))?;
        Ok((id, token))
    }

    /// RFC 6749 §6. Whatever can fail does so before the token is turned: an answer that says "try again" must leave the
    /// token good.
    #[cfg(feature = "password")]
    async fn refresh_grant(
        &self,
        login: &PasswordLogin,
        Sessions { store, policy }: &Sessions,
        form: &Form,
    ) -> Result<Response<Full<Bytes>>, EndpointError> {
        let text = form.require("refresh_token")?;
        let requested = form.get("scope").map(str::parse::<ScopeSet>).transpose();
        let requested = requested.map_err(|_| EndpointError::MalformedScope)?;
        let refused = |session: Option<&SessionRecord>, reason| {
            audit::refresh_refused(session.map(|session| (session.subject.as_str(), session.id)), reason);
            EndpointError::InvalidGrant
        };
        let Some(presented) = RefreshToken::parse(text) else { return Err(refused(None, "not a refresh token")) };
        let (now, down) = (self.clock.now(), |error| failed("session store", &error));
        let session = store.find(presented.session(), now).await.map_err(down)?;
        let Some(session) = session else { return Err(refused(None, "no such session")) };
        if session.client_id != self.client_id || !session.audience.contains(&self.audience) {
            return Err(refused(Some(&session), "session of another client or audience"));
        }
        let user = match UserId::from_subject(&session.subject) {
            Some(id) => login.users.find_by_id(&id).await.map_err(|error| failed("user store", &error))?,
            None => None,
        };
        let Some(user) = user.filter(|user| !user.disabled) else {
            return Err(refused(Some(&session), "user disabled or gone"));
        };
        let scope = refreshed_scope(requested.as_ref(), &session.scope, &user.scopes)?;
        let successor = RefreshToken::random(session.id).map_err(|error| failed("random source", &error))?;
        let sealed = presented.seal(&successor).ok_or_else(|| failed("refresh token", &"cannot be sealed"))?;
        let [jitter] = random::bytes().map_err(|error| failed("random source", &error))?;
        let rotation = Rotation {
            id: session.id,
            presented: presented.digest(),
            successor: successor.digest(),
            sealed,
            grace: policy.grace,
            ends_at: policy.ends_at(session.expires_at, now, jitter),
            now,
        };
        // Signed before the token is turned, for the same reason; whose refresh token goes with it is not known yet.
        let grant = |refresh_token| Grant {
            subject: &session.subject,
            scope: &scope,
            auth_time: session.auth_time,
            now,
            session: Some(session.id),
            refresh_token: Some(refresh_token),
        };
        let first = successor.expose();
        let issued = self.issue(&grant(first.as_str()))?;
        match store.rotate(rotation).await.map_err(down)? {
            Rotated::Turned => {
                audit::session_refreshed(&session.subject, session.id, &issued.token_id, false);
                Ok(issued.response)
            }
            Rotated::Again(sealed) => {
                let same = presented.open(&sealed).ok_or_else(|| failed("refresh token", &"cannot be opened"))?;
                let issued = self.issue(&grant(same.expose().as_str()))?;
                audit::session_refreshed(&session.subject, session.id, &issued.token_id, true);
                Ok(issued.response)
            }
            Rotated::Reused => {
                audit::refresh_reused(&session.subject, session.id);
                Err(EndpointError::InvalidGrant)
            }
            Rotated::Unknown => Err(refused(Some(&session), "not a token of this session")),
        }
    }

    /// An access token (RFC 9068 §2), and the answer that carries it.
    #[cfg_attr(not(feature = "password"), expect(dead_code, reason = "no grant needs it"))]
    fn issue(&self, grant: &Grant<'_>) -> Result<Issued, EndpointError> {
        let Grant { subject, auth_time, now, .. } = *grant;
        let token_id = random::text::<16>().map_err(|error| failed("random source", &error))?;
        let (scope, session) = (grant.scope.to_string(), grant.session.map(|id| id.to_string()));
        let claims = AccessToken {
            iss: &self.name,
            aud: &self.audience,
            sub: subject,
            client_id: &self.client_id,
            iat: now,
            exp: now.saturating_add(self.lifetime),
            auth_time,
            jti: &token_id,
            sid: session.as_deref(),
            scope: &scope,
        };
        let access_token = self.key.sign(&claims).map_err(|error| failed("signing key", &error))?;
        let response = TokenResponse {
            access_token: &access_token,
            token_type: "Bearer",
            expires_in: self.lifetime.as_secs(),
            scope: &scope,
            refresh_token: grant.refresh_token,
        };
        let body = serde_json::to_vec(&response).map_err(|error| failed("token response", &error))?;
        Ok(Issued { response: private_json(StatusCode::OK, body), token_id })
    }
}

/// What is to be issued.
struct Grant<'a> {
    subject: &'a str,
    scope: &'a ScopeSet,
    auth_time: UnixSeconds,
    now: UnixSeconds,
    session: Option<SessionId>,
    refresh_token: Option<&'a str>,
}

/// What was issued.
#[cfg_attr(not(feature = "password"), expect(dead_code, reason = "no grant needs it"))]
struct Issued {
    response: Response<Full<Bytes>>,
    token_id: String,
}

/// What a device is called if it does not say: its user agent, as far as it is short and plain.
#[cfg(feature = "password")]
fn label(headers: &HeaderMap) -> String {
    const MOST: usize = 200;
    let text = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    text.chars().take(MOST).collect()
}

/// What a refreshed access token may do: what was asked for, or else all that the session has, as far as the user still may.
/// More than the session has is an error (RFC 6749 §6).
#[cfg_attr(not(feature = "password"), expect(dead_code, reason = "no grant needs it"))]
fn refreshed_scope(
    requested: Option<&ScopeSet>,
    session: &ScopeSet,
    may: &ScopeSet,
) -> Result<ScopeSet, EndpointError> {
    let asked = requested.unwrap_or(session);
    if asked.iter().all(|scope| session.contains(scope)) {
        Ok(asked.intersection(may))
    } else {
        Err(EndpointError::ScopeNotGranted)
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
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<&'a str>,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<&'a str>,
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
