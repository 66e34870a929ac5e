//! What all endpoints share: who the server is, whom it knows, and the access tokens that it makes.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;
use zeroize::Zeroizing;

#[cfg(feature = "password")]
use super::{account::Accounts, browser::SessionCookies, ending::Unsettled};
use super::{
    client_auth::Clients,
    error::EndpointError,
    grant::{self, Limits},
    private_json,
};
use crate::{
    audit,
    client::{Client, Resource},
    clock::{Clock, UnixSeconds},
    ident::SessionId,
    jwt::{KeyRing, SigningKey, Verified, Verifier},
    login::LoginLimiter,
    metrics::{self, Stopwatch},
    random,
    rejection::AnswerStyle,
    revocation::RevocationList,
    scope::ScopeSet,
    store::{Revocation, Revoked, StoreError, within},
};
#[cfg(feature = "password")]
use crate::{
    authz::CurrentUsers,
    password::PasswordLogin,
    session::SessionPolicy,
    store::{CalledBack, SessionStore},
};

/// Does it to its end, even if whoever asked goes away half-way: what is left of an ending could not be asked for again.
pub(super) async fn to_the_end<T: Send + 'static, E: From<StoreError> + Send + 'static>(
    ending: impl Future<Output = Result<T, E>> + Send + 'static,
) -> Result<T, E> {
    tokio::spawn(audit::carried(ending)).await.unwrap_or_else(|error| Err(StoreError::unavailable(error).into()))
}

/// What endpoints issue tokens from.
pub(crate) struct Issuer {
    pub(crate) name: String,
    pub(crate) audience: String,
    pub(crate) resources: Vec<Resource>,
    pub(crate) keys: KeyRing,
    /// For the server's own tokens, whomever they are for; remembers nothing, and knows of no revocation.
    pub(crate) verifier: Verifier,
    pub(crate) lifetime: Duration,
    /// What the token endpoint's answers are like.
    pub(crate) style: AnswerStyle,
    #[cfg_attr(not(feature = "password"), expect(dead_code, reason = "a client has no default but what it may have"))]
    pub(crate) default_scope: Option<ScopeSet>,
    pub(crate) clients: Clients,
    /// Limits logins, where there are any and they are limited.
    pub(crate) limiter: Option<LoginLimiter>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) revocations: Option<RevocationList>,
    /// Whether the list is kept where the sessions are, so that whatever ends one has noted that already.
    #[cfg(feature = "password")]
    pub(crate) sessions_note: bool,
    #[cfg(feature = "password")]
    pub(crate) unsettled: Unsettled,
    #[cfg(feature = "password")]
    pub(crate) login: Option<PasswordLogin>,
    /// Its users, as layers see them.
    #[cfg(feature = "password")]
    pub(crate) current: Option<CurrentUsers>,
    #[cfg(feature = "password")]
    pub(crate) sessions: Option<Sessions>,
    #[cfg(feature = "password")]
    pub(crate) accounts: Accounts,
    /// Where pages keep their sessions, if they do.
    #[cfg(feature = "password")]
    pub(crate) cookies: Option<SessionCookies>,
}

/// Where sessions live, and for how long.
#[cfg(feature = "password")]
#[derive(Clone)]
pub(crate) struct Sessions {
    pub(crate) store: Arc<dyn SessionStore>,
    pub(crate) policy: SessionPolicy,
}

/// What is to be issued.
pub(super) struct Grant<'a> {
    pub(super) subject: &'a str,
    pub(super) client: &'a Client,
    pub(super) audience: &'a [&'a str],
    pub(super) scope: &'a ScopeSet,
    /// When a person proved who they are, if one did.
    pub(super) auth_time: Option<UnixSeconds>,
    pub(super) now: UnixSeconds,
    /// What the token says of when it was issued: from [`Issuer::issued_at`].
    pub(super) issued_at: UnixSeconds,
    pub(super) session: Option<SessionId>,
    /// When that session ends, which no token of it outlives.
    pub(super) ends_at: Option<UnixSeconds>,
    pub(super) refresh_token: Option<&'a str>,
    /// What the client is to show when it signs in again.
    pub(super) device_token: Option<&'a str>,
}

/// What was issued. How it travels, whoever answers says.
pub(super) struct Issued<'a> {
    pub(super) grant: &'a Grant<'a>,
    pub(super) access_token: Zeroizing<String>,
    pub(super) token_id: String,
    /// In seconds.
    pub(super) expires_in: u64,
    pub(super) scope: String,
}

/// The longest that an access token may still be accepted after it expires, anywhere (the bound of a policy's leeway).
pub(crate) const LEEWAY: Duration = Duration::from_secs(300);
/// The longest that access tokens live, unless longer ones are asked for by name.
pub(crate) const LONGEST_LIFETIME: Duration = Duration::from_secs(3600);
/// By how much a clock may be off, and be set right again, without a token passing that was called back before or meanwhile.
pub(crate) const CLOCK_ERROR: Duration = Duration::from_secs(3600);

impl Issuer {
    /// Whom a token of this client may be for: `held` is what its session was begun with, if it has one.
    pub(super) fn audience<'a>(
        &'a self,
        client: &Client,
        requested: &[&str],
        held: Option<&[String]>,
    ) -> Result<Vec<&'a str>, EndpointError> {
        let audience = grant::audience(requested, &self.audience, self.may_be_for(client, held));
        audience.inspect_err(|_| audit::client_refused(Some(client.id()), "resource unknown or not to be had"))
    }

    /// All that it may be for.
    pub(super) fn may_be_for<'a>(&'a self, client: &Client, held: Option<&[String]>) -> Vec<&'a str> {
        let all = std::iter::once(self.audience.as_str()).chain(self.resources.iter().map(Resource::id));
        let held = |id: &str| held.is_none_or(|held| held.iter().any(|own| own == id));
        all.filter(|id| client.may_ask_for(id) && held(id)).collect()
    }

    /// What limits the scope of a token for these, beside what its subject may have.
    pub(super) fn limits(&self, client: &Client, audience: &[&str]) -> Limits {
        let resources = self.resources.iter().filter(|resource| audience.contains(&resource.id()));
        Limits { client: client.limit(), resources: resources.filter_map(Resource::limit).collect() }
    }

    /// An access token (RFC 9068 §2).
    pub(super) async fn issue<'a>(&self, grant: &'a Grant<'a>) -> Result<Issued<'a>, EndpointError> {
        let Grant { subject, auth_time, now, .. } = *grant;
        let token_id = random::text::<16>().map_err(|error| failed("random source", &error))?;
        let (scope, session) = (grant.scope.to_string(), grant.session.map(|id| id.to_string()));
        let exp = now.saturating_add(self.lifetime);
        let exp = grant.ends_at.map_or(exp, |ends_at| exp.min(ends_at));
        let claims = AccessToken {
            iss: &self.name,
            aud: match grant.audience {
                [one] => Audience::One(one),
                many => Audience::Many(many),
            },
            sub: subject,
            client_id: grant.client.id(),
            iat: grant.issued_at,
            exp,
            auth_time,
            jti: &token_id,
            sid: session.as_deref(),
            scope: &scope,
        };
        let key = self.signing_key(now).await?;
        let took = Stopwatch::start();
        let access_token = key.sign(&claims).map_err(|error| failed("signing key", &error))?;
        metrics::signed(key.algorithm().name(), took);
        let expires_in = exp.get().saturating_sub(now.get());
        Ok(Issued { grant, access_token: Zeroizing::new(access_token), token_id, expires_in, scope })
    }

    /// The key that signs now.
    pub(super) async fn signing_key(&self, now: UnixSeconds) -> Result<Arc<SigningKey>, EndpointError> {
        let key = self.keys.signing(now).await;
        key.ok_or_else(|| failed("signing key", &"the store has not been read for too long"))
    }

    /// When a token of this subject that is issued now says that it was. Of the tokens that were called back up to a moment,
    /// some are of this very second: this one is not among them. What is called back after this was asked is.
    pub(super) fn issued_at(&self, subject: &str, now: UnixSeconds) -> UnixSeconds {
        let Some(list) = &self.revocations else { return now };
        // A machine that only issues tokens must hear of what the others call back, too.
        list.is_usable(now);
        let revoked = list.issued_until(subject);
        revoked.map_or(now, |until| now.max(until.saturating_add(Duration::from_secs(1))))
    }

    /// Calls back a token, if it has a name; resolves when it passes no longer. Without a list there is nothing that could.
    pub(super) async fn revoke_token(&self, token: &Verified) -> Result<(), StoreError> {
        let caller = token.principal();
        let Some(id) = caller.token_id() else { return Ok(()) };
        let until = token.expires_at().saturating_add(LEEWAY).saturating_add(CLOCK_ERROR);
        self.revoke(vec![Revocation { tokens: Revoked::Token(id.to_owned()), until }]).await?;
        audit::token_revoked(caller.subject(), id);
        Ok(())
    }

    /// Calls back all tokens of a subject that were issued until now.
    #[cfg(feature = "password")]
    pub(super) async fn revoke_subject(&self, subject: String) -> Result<(), StoreError> {
        let CalledBack { until, now } = self.called_back();
        self.revoke(vec![Revocation { tokens: Revoked::Subject(subject, now), until }]).await
    }

    /// Takes note here of sessions that were ended in the store, and with them their tokens.
    #[cfg(feature = "password")]
    pub(super) fn learn(&self, sessions: &[SessionId], tokens: CalledBack) -> Result<(), StoreError> {
        let revocations = sessions.iter().map(|id| Revocation::of_session(*id, tokens.until)).collect();
        self.revocations.as_ref().map_or(Ok(()), |list| list.learn(revocations, tokens.now))
    }

    /// Notes that the tokens of sessions are called back, where the store of the sessions does not do that.
    #[cfg(feature = "password")]
    pub(super) async fn note_elsewhere(&self, sessions: &[SessionId], tokens: CalledBack) -> Result<(), StoreError> {
        if self.sessions_note {
            return Ok(());
        }
        self.revoke(sessions.iter().map(|id| Revocation::of_session(*id, tokens.until)).collect()).await
    }

    async fn revoke(&self, revocations: Vec<Revocation>) -> Result<(), StoreError> {
        match &self.revocations {
            Some(list) if !revocations.is_empty() => within(list.revoke(revocations, self.clock.now())).await,
            _ => Ok(()),
        }
    }

    /// For how long the tokens of a session that is ended now are called back: until no token that was issued before is good any
    /// more, even one that was to live for an hour, before the server was started with another setting.
    #[cfg(feature = "password")]
    pub(super) fn called_back(&self) -> CalledBack {
        let (now, longest) = (self.clock.now(), self.lifetime.max(LONGEST_LIFETIME));
        CalledBack { until: now.saturating_add(longest).saturating_add(LEEWAY).saturating_add(CLOCK_ERROR), now }
    }
}

impl Issued<'_> {
    /// The answer that carries all of it in its body (RFC 6749 §5.1).
    pub(super) fn in_body(&self) -> Result<Response<Full<Bytes>>, EndpointError> {
        let response = TokenResponse {
            access_token: &self.access_token,
            token_type: "Bearer",
            expires_in: self.expires_in,
            scope: &self.scope,
            refresh_token: self.grant.refresh_token,
            device_token: self.grant.device_token,
        };
        let body = serde_json::to_vec(&response).map_err(|error| failed("token response", &error))?;
        Ok(private_json(StatusCode::OK, body))
    }
}

pub(super) fn failed(what: &'static str, error: &dyn fmt::Display) -> EndpointError {
    audit::infrastructure_failed(what, error);
    EndpointError::Unavailable { retry_after: crate::rejection::RETRY_SECONDS }
}

/// Claims of an access token (RFC 9068 §2.2).
#[derive(Serialize)]
struct AccessToken<'a> {
    iss: &'a str,
    aud: Audience<'a>,
    sub: &'a str,
    client_id: &'a str,
    iat: UnixSeconds,
    exp: UnixSeconds,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_time: Option<UnixSeconds>,
    jti: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    scope: &'a str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Audience<'a> {
    One(&'a str),
    Many(&'a [&'a str]),
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
    #[serde(skip_serializing_if = "Option::is_none")]
    device_token: Option<&'a str>,
}
