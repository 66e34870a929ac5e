//! What of a session goes into cookies, and what into the body.

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

use crate::{
    browser::{ACCESS_COOKIE, CSRF_COOKIE, CsrfGuard, REFRESH_COOKIE},
    cookie::{self, Scripts},
    endpoint::{
        error::EndpointError,
        issuer::{Grant, Issued, failed},
        private_json,
    },
    form::Form,
    ident::SessionId,
    session::RefreshToken,
};

/// Lets pages keep their sessions in cookies, by `POST /session`, `POST /session/refresh` and `DELETE /session`. Without it there
/// are no such endpoints; with it, none of them without a guard. See [`CookieSessionEndpoint`](super::CookieSessionEndpoint) for what they answer.
///
/// | what | where |
/// |---|---|
/// | refresh token | [`REFRESH_COOKIE`], which no script reads |
/// | token against forged requests | [`CSRF_COOKIE`], which scripts of the same host read |
/// | access token | the body, for the page to hold in memory; or else [`ACCESS_COOKIE`], which no script reads |
///
/// All are `__Host-` cookies: for this host alone, over TLS alone, and not sent along by other sites. No secret is both in a cookie
/// and in a body.
///
/// Cookies know no ports and no paths here: one server on a host, and one client of it. Another server there would be sent its tokens.
///
/// Two tabs refresh at once, and a page may be left while it does: within the grace that is no theft. So
/// [`SessionPolicy::grace`](crate::session::SessionPolicy::grace) must be a second at least.
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use portcullis::{
///     AuthorizationServer, browser::CsrfGuard, endpoint::SessionCookies, jwt::*, password::PasswordHasher,
///     session::SessionPolicy, store::MemoryStore,
/// };
///
/// let (store, key) = (Arc::new(MemoryStore::new()), SigningKey::generate(Algorithm::EdDsa)?);
/// let server = AuthorizationServer::builder("https://id.example", "orders", key)
///     .first_party_login(store.clone(), PasswordHasher::builder().build()?)
///     .sessions(store, SessionPolicy::default().grace(Duration::from_secs(10)))
///     .session_cookies(SessionCookies::new(CsrfGuard::builder().build()?)) // several machines: `.secret(…)`
///     .build()?;
/// assert!(server.session_endpoint().is_some());
/// # Ok::<(), portcullis::config::ConfigErrors>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct SessionCookies {
    guard: CsrfGuard,
    access: bool,
}

impl SessionCookies {
    /// Cookies for whatever this guard lets pass.
    pub const fn new(guard: CsrfGuard) -> Self {
        Self { guard, access: false }
    }

    /// Puts the access token into a cookie of its own instead of the body, for pages that are to hold none. What it opens must be
    /// on the same host. A token that does not fit a cookie is not issued.
    pub const fn access_in_cookie(mut self) -> Self {
        self.access = true;
        self
    }

    pub(super) const fn guard(&self) -> &CsrfGuard {
        &self.guard
    }

    /// The guard of requests whose access token is in a cookie, if any is.
    pub(crate) fn guard_of_access(&self) -> Option<&CsrfGuard> {
        self.access.then_some(&self.guard)
    }

    pub(super) const fn has_access(&self) -> bool {
        self.access
    }

    /// The answer that carries secrets in cookies, as far as the page need not know them.
    fn answer(&self, issued: &Issued<'_>) -> Result<Response<Full<Bytes>>, EndpointError> {
        let Grant { session, ends_at, refresh_token, now, .. } = *issued.grant;
        let (Some(session), Some(ends_at), Some(refresh_token)) = (session, ends_at, refresh_token) else {
            return Err(failed("session cookies", &"there is no session"));
        };
        let token = self.guard.token(session).ok_or_else(|| failed("random source", &"no token for a page"))?;
        let shown = Shown {
            access_token: (!self.access).then_some(&issued.access_token),
            token_type: (!self.access).then_some("Bearer"),
            expires_in: issued.expires_in,
            scope: &issued.scope,
        };
        let body = serde_json::to_vec(&shown).map_err(|error| failed("token response", &error))?;
        let mut response = private_json(StatusCode::OK, body);
        let lasts = ends_at.get().saturating_sub(now.get());
        let mut set = |name, value: &str, seconds, scripts| {
            // The others are of one length; this one is as long as what was granted.
            let field = cookie::set(name, value, seconds, scripts).ok_or(EndpointError::ScopeNotGranted)?;
            cookie::add(response.headers_mut(), field);
            Ok::<_, EndpointError>(())
        };
        set(REFRESH_COOKIE, refresh_token, lasts, Scripts::Hidden)?;
        set(CSRF_COOKIE, token.expose(), lasts, Scripts::Readable)?;
        if self.access {
            set(ACCESS_COOKIE, &issued.access_token, issued.expires_in, Scripts::Hidden)?;
        }
        Ok(response)
    }
}

/// What the page is told.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    access_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_type: Option<&'a str>,
    expires_in: u64,
    scope: &'a str,
}

/// How tokens come and go.
#[derive(Clone, Copy)]
pub(in crate::endpoint) enum Carrier<'a> {
    /// In bodies (RFC 6749).
    Body,
    /// In cookies, of which one was presented, or none.
    Cookies { cookies: &'a SessionCookies, presented: Option<&'a str> },
}

impl<'a> Carrier<'a> {
    pub(in crate::endpoint) const fn is_body(self) -> bool {
        matches!(self, Self::Body)
    }

    /// The answer that carries what was issued.
    pub(in crate::endpoint) fn answer(self, issued: &Issued<'_>) -> Result<Response<Full<Bytes>>, EndpointError> {
        match self {
            Self::Body => issued.in_body(),
            Self::Cookies { cookies, .. } => cookies.answer(issued),
        }
    }

    /// The refresh token that is to be turned; `None` if the cookie is missing, which is as good as dead.
    pub(in crate::endpoint) fn refresh_token<'b>(self, form: &'b Form) -> Result<Option<&'b str>, EndpointError>
    where
        'a: 'b,
    {
        match self {
            Self::Body => Ok(Some(form.require("refresh_token")?)),
            Self::Cookies { .. } if form.get("refresh_token").is_some() => {
                Err(EndpointError::InvalidRequest("the refresh token belongs into its cookie alone"))
            }
            Self::Cookies { presented, .. } => Ok(presented),
        }
    }

    /// The refresh token of the session that a login takes the place of.
    pub(in crate::endpoint) const fn former(self) -> Option<&'a str> {
        match self {
            Self::Body => None,
            Self::Cookies { presented, .. } => presented,
        }
    }
}

/// The one cookie of this name. A value that is no text opens nothing, like any other that we have not made.
pub(super) fn only<'a>(headers: &'a HeaderMap, name: &'a str) -> Result<Option<&'a str>, EndpointError> {
    let mut values = cookie::named(headers, name);
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some((field, at)), None) => {
            let value = field.as_bytes().get(at).and_then(|value| std::str::from_utf8(value).ok());
            Ok(Some(value.unwrap_or_default()))
        }
        // Which of two would a proxy in front have looked at?
        (Some(_), Some(_)) => Err(EndpointError::InvalidRequest("a cookie is repeated")),
    }
}

/// Whether a request has cookies of a session that is not known to be another one.
pub(in crate::endpoint) fn carries(headers: &HeaderMap, session: Option<SessionId>) -> bool {
    let refresh = only(headers, REFRESH_COOKIE).ok().flatten().and_then(RefreshToken::parse);
    let any = [REFRESH_COOKIE, ACCESS_COOKIE].into_iter().any(|name| cookie::named(headers, name).next().is_some());
    any && refresh.is_none_or(|token| Some(token.session()) == session)
}

/// Has the browser forget all of them.
pub(in crate::endpoint) fn clear(headers: &mut HeaderMap) {
    let cookies =
        [(REFRESH_COOKIE, Scripts::Hidden), (CSRF_COOKIE, Scripts::Readable), (ACCESS_COOKIE, Scripts::Hidden)];
    for field in cookies.into_iter().filter_map(|(name, scripts)| cookie::set(name, "", 0, scripts)) {
        cookie::add(headers, field);
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header::COOKIE};

    use super::*;

    #[test]
    fn req_159_one_cookie_of_a_name_or_none() {
        const REPEATED: Result<Option<&str>, EndpointError> =
            Err(EndpointError::InvalidRequest("a cookie is repeated"));
        let cookie = |bytes: &[u8]| [&b"__Host-portcullis-refresh="[..], bytes].concat();
        for (fields, expected) in [
            (vec![], Ok(None)),
            (vec![b"a=b".to_vec()], Ok(None)),
            (vec![cookie(b"T")], Ok(Some("T"))),
            (vec![cookie(b"T; a=b")], Ok(Some("T"))),
            (vec![cookie(b"")], Ok(Some(""))),
            (vec![cookie(b"\xff\xfe")], Ok(Some(""))),
            (vec![cookie(b"T"), cookie(b"T")], REPEATED),
            (vec![[cookie(b"T"), b";".to_vec(), cookie(b"")].concat()], REPEATED),
        ] {
            let headers =
                fields.iter().map(|field| (COOKIE, HeaderValue::from_bytes(field).unwrap())).collect::<HeaderMap>();
            assert_eq!(only(&headers, REFRESH_COOKIE), expected, "{fields:?}");
        }
    }
}
