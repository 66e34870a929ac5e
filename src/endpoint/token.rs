//! `POST /token` and `POST /token/refresh`: the grants (RFC 6749 §4.3, §4.4, §6).

#[cfg(feature = "password")]
mod login;

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, request::Parts};
use http_body_util::Full;

#[cfg(feature = "password")]
use super::{browser::Carrier, fastapi};
use super::{
    error::EndpointError,
    grant,
    issuer::{Grant, Issuer},
};
#[cfg(feature = "password")]
use crate::rejection::AnswerStyle;
use crate::{
    audit,
    client::{Client, GrantType},
    form::Form,
    login::LoginOutcome,
    scope::ScopeSet,
};

type Answer = Result<Response<Full<Bytes>>, EndpointError>;

impl Issuer {
    /// Answers a request for a token; `grant` is the only one, where a form need not name it. `outcome` is
    /// told what became of a password, if one was looked at.
    pub(super) async fn token(
        self: &Arc<Self>,
        parts: &Parts,
        form: &Form,
        grant: Option<&str>,
        #[cfg_attr(not(feature = "password"), expect(unused_variables, reason = "no password is looked at"))]
        outcome: &mut LoginOutcome,
    ) -> Answer {
        let client = self.clients.authenticate(&parts.headers, form)?;
        audit::note("client_id", || client.id());
        let grant = match grant {
            Some(grant) if form.get("grant_type").is_none_or(|named| named == grant) => grant,
            Some(_) => return Err(EndpointError::UnsupportedGrantType),
            #[cfg(feature = "password")]
            None if self.style == AnswerStyle::FastApi => form.get("grant_type").unwrap_or("password"),
            None => form.require("grant_type")?,
        };
        match grant {
            #[cfg(feature = "password")]
            "password" => {
                let answer = self.password_grant(client, form, parts, Carrier::Body, outcome).await;
                match self.style {
                    AnswerStyle::FastApi => answer.map_err(|error| fastapi::of_login(error, form)),
                    AnswerStyle::Standard => answer,
                }
            }
            #[cfg(feature = "password")]
            "refresh_token" => self.refresh_grant(client, form, Carrier::Body).await,
            "client_credentials" if self.clients.iter().any(|client| client.may(GrantType::ClientCredentials)) => {
                if client.may(GrantType::ClientCredentials) {
                    self.client_credentials_grant(client, form).await
                } else {
                    audit::client_refused(Some(client.id()), "grant type not for this client");
                    Err(EndpointError::UnauthorizedClient)
                }
            }
            _ => Err(EndpointError::UnsupportedGrantType),
        }
    }

    /// RFC 6749 §4.4. No refresh token: the client can ask again (§4.4.3).
    async fn client_credentials_grant(&self, client: &Client, form: &Form) -> Answer {
        let requested = requested_scope(form)?;
        let audience = self.audience(client, &form.resources(), None)?;
        let limits = self.limits(client, &audience);
        // Nobody stands behind the client: what it may have is what was given to it.
        let scope = grant::granted(requested.as_ref(), None, &client.limit().unwrap_or_default(), &limits);
        let scope = scope.inspect_err(|_| audit::client_refused(Some(client.id()), "scope not granted"))?;
        let (subject, now) = (client.subject(), self.clock.now());
        let grant = Grant {
            subject: &subject,
            client,
            audience: &audience,
            scope: &scope,
            auth_time: None,
            now,
            issued_at: self.issued_at(&subject, now),
            session: None,
            ends_at: None,
            refresh_token: None,
            device_token: None,
        };
        let issued = self.issue(&grant).await?;
        let response = issued.in_body()?;
        audit::token_issued(client.id(), &issued.token_id);
        Ok(response)
    }
}

fn requested_scope(form: &Form) -> Result<Option<ScopeSet>, EndpointError> {
    form.get("scope").map(str::parse::<ScopeSet>).transpose().map_err(|_| EndpointError::MalformedScope)
}
