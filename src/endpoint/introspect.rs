//! `POST /introspect`: is this token good, and what does it say (RFC 7662)?

use bytes::Bytes;
use http::{Response, StatusCode, request::Parts};
use http_body_util::Full;
use serde::Serialize;

use super::{
    error::EndpointError,
    issuer::{Issuer, failed},
    private_json,
};
#[cfg(feature = "password")]
use crate::client::Client;
use crate::{audit, clock::UnixSeconds, form::Form, rejection::Rejection, revocation::TokenNames};

/// What there is to say of a token; of one that is not good, nothing (§2.2).
#[derive(Default, Serialize)]
#[serde(default)]
struct Answer<'a> {
    active: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    aud: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<UnixSeconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iat: Option<UnixSeconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_time: Option<UnixSeconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<&'a str>,
}

impl Issuer {
    pub(super) async fn introspection(
        &self,
        parts: &Parts,
        form: &Form,
    ) -> Result<Response<Full<Bytes>>, EndpointError> {
        let client = self.clients.authenticate(&parts.headers, form)?;
        if !client.is_confidential() {
            // Anybody could say that; the endpoint would tell guessers which of their tokens are good.
            audit::client_refused(Some(client.id()), "a public client asks about a token");
            return Err(EndpointError::InvalidClient);
        }
        audit::note("client_id", || client.id());
        let (token, now) = (form.require("token")?, self.clock.now());
        #[cfg(feature = "password")]
        if let Some(answer) = self.refresh_token_is(client, token, now).await? {
            return Ok(answer);
        }
        let verified = match self.verifier.verify(token.as_bytes(), now).await {
            // The verifier is lenient with times, for those who revoke.
            Ok(verified) if now < verified.expires_at() => verified,
            Err(Rejection::KeysUnavailable) => return Err(failed("key store", &"cannot be read")),
            Ok(_) | Err(_) => return json(&Answer::default()),
        };
        let caller = verified.principal();
        let own = caller.client_id() == Some(client.id());
        if !own && !verified.audience().any(|audience| client.may_introspect(audience)) {
            audit::client_refused(Some(client.id()), "asks about a token of another client");
            return json(&Answer::default());
        }
        if let Some(list) = &self.revocations {
            if !list.settled(now).await {
                return Err(failed("revocation store", &"cannot be read"));
            }
            if list.has(TokenNames::of(&caller, verified.issued_at())) {
                return json(&Answer::default());
            }
        }
        let scopes: Vec<&str> = caller.scopes().collect();
        json(&Answer {
            active: true,
            iss: Some(caller.issuer()),
            sub: Some(caller.subject()),
            aud: verified.audience().collect(),
            client_id: caller.client_id(),
            scope: Some(scopes.join(" ")).filter(|scope| !scope.is_empty()),
            token_type: Some("Bearer"),
            exp: Some(verified.expires_at()),
            iat: verified.issued_at(),
            auth_time: caller.auth_time(),
            jti: caller.token_id(),
            sid: caller.session_id(),
        })
    }

    /// The answer if it is a refresh token: for the client alone that has it.
    #[cfg(feature = "password")]
    async fn refresh_token_is(
        &self,
        client: &Client,
        token: &str,
        now: UnixSeconds,
    ) -> Result<Option<Response<Full<Bytes>>>, EndpointError> {
        use crate::{
            session::{RefreshToken, Standing},
            store::within,
        };

        let (Some(sessions), Some(presented)) = (&self.sessions, RefreshToken::parse(token)) else { return Ok(None) };
        let look = sessions.store.look(presented.session(), presented.digest(), now);
        let found = within(look).await.map_err(|error| failed("session store", &error))?;
        let Some((session, Standing::Current)) = found else { return json(&Answer::default()).map(Some) };
        if session.client_id != client.id() {
            audit::client_refused(Some(client.id()), "asks about a token of another client");
            return json(&Answer::default()).map(Some);
        }
        let id = session.id.to_string();
        json(&Answer {
            active: true,
            iss: Some(&self.name),
            sub: Some(&session.subject),
            aud: session.audience.iter().map(String::as_str).collect(),
            client_id: Some(client.id()),
            scope: Some(session.scope.to_string()).filter(|scope| !scope.is_empty()),
            auth_time: Some(session.auth_time),
            sid: Some(&id),
            ..Answer::default()
        })
        .map(Some)
    }
}

fn json(answer: &Answer<'_>) -> Result<Response<Full<Bytes>>, EndpointError> {
    audit::note("active", || answer.active);
    let body = serde_json::to_vec(answer).map_err(|error| failed("introspection answer", &error))?;
    Ok(private_json(StatusCode::OK, body))
}
