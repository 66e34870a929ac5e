//! `POST /revoke`: a client gives a token back (RFC 7009).

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode, request::Parts};
use http_body_util::Full;

use super::{
    error::EndpointError,
    issuer::{CLOCK_ERROR, Issuer, LEEWAY, failed, to_the_end},
    private,
};
use crate::{
    audit, client::Client, clock::UnixSeconds, form::Form, jwt::Verified, rejection::Rejection, revocation::TokenNames,
};
#[cfg(feature = "password")]
use crate::{
    session::{RefreshToken, SessionRecord, Standing},
    store::within,
};

impl Issuer {
    /// `token_type_hint` is not needed: a token shows what it is. Whatever is no token of ours is as good as revoked (§2.2).
    pub(super) async fn revocation(
        self: &Arc<Self>,
        parts: &Parts,
        form: &Form,
    ) -> Result<Response<Full<Bytes>>, EndpointError> {
        let client = self.clients.authenticate(&parts.headers, form)?;
        audit::note("client_id", || client.id());
        let token = form.require("token")?;
        #[cfg(feature = "password")]
        if let (Some(_), Some(presented)) = (&self.sessions, RefreshToken::parse(token)) {
            if let Some(session) = self.session_of(&presented).await? {
                its_own(client, Some(&session.client_id))?;
                let ended = self.end_session_of(None, session.id, "refresh token revoked").await;
                ended.map_err(|error| failed("session store", &error))?;
            }
            return Ok(done());
        }
        let verified = match self.genuine(token.as_bytes()).await {
            Ok(verified) => verified,
            Err(Rejection::KeysUnavailable) => return Err(failed("key store", &"cannot be read")),
            Err(_) => return Ok(done()),
        };
        let caller = verified.principal();
        its_own(client, caller.client_id())?;
        let (Some(_), Some(list)) = (caller.token_id(), &self.revocations) else {
            return Err(EndpointError::UnsupportedTokenType);
        };
        if list.has(TokenNames::of(&caller, verified.issued_at())) {
            return Ok(done());
        }
        let issuer = Arc::clone(self);
        let revoked = to_the_end(async move { issuer.revoke_token(&verified).await }).await;
        revoked.map_err(|error| failed("revocation store", &error))?;
        Ok(done())
    }

    /// A token whose time is now, or would be if the clock were off: one that is given back must not open anything once the clock
    /// has been set right.
    async fn genuine(&self, token: &[u8]) -> Result<Verified, Rejection> {
        let within =
            |then: UnixSeconds, later: UnixSeconds| later <= then.saturating_add(CLOCK_ERROR).saturating_add(LEEWAY);
        let its_time = match self.verifier.verify(token, self.clock.now()).await {
            Err(Rejection::Expired { exp, now }) if within(exp, now) => exp,
            Err(Rejection::IssuedInFuture { iat, now }) if within(now, iat) => iat,
            outcome => return outcome,
        };
        self.verifier.verify(token, its_time).await
    }
}

#[cfg(feature = "password")]
impl Issuer {
    /// The session that a token is of, or was of before it was turned.
    pub(super) async fn session_of(&self, presented: &RefreshToken) -> Result<Option<SessionRecord>, EndpointError> {
        let Some(sessions) = &self.sessions else { return Ok(None) };
        let look = sessions.store.look(presented.session(), presented.digest(), self.clock.now());
        let found = within(look).await.map_err(|error| failed("session store", &error))?;
        Ok(found.and_then(|(session, standing)| (standing != Standing::Foreign).then_some(session)))
    }
}

/// Refuses the token of another client, and says so (§2.1).
fn its_own(client: &Client, owner: Option<&str>) -> Result<(), EndpointError> {
    if owner == Some(client.id()) {
        return Ok(());
    }
    audit::client_refused(Some(client.id()), "token of another client");
    Err(EndpointError::InvalidGrant)
}

fn done() -> Response<Full<Bytes>> {
    private(StatusCode::OK, Bytes::new())
}
