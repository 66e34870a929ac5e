//! Which endpoints a server has, and where: one list, for routers and for documents.

use super::AuthorizationServer;
#[cfg(feature = "password")]
use crate::endpoint::{CookieSessionEndpoint, PasswordEndpoint, RegisterEndpoint, SessionsEndpoint, SignedInEndpoint};
use crate::endpoint::{DocumentEndpoint, OAuthEndpoint, TokenEndpoint};
#[cfg(all(feature = "openapi", feature = "password"))]
use crate::endpoint::{Registration, SessionCookies};
#[cfg(feature = "openapi")]
use crate::rejection::AnswerStyle;

/// An endpoint, by what it is for.
pub(crate) enum Mounted {
    Token(TokenEndpoint),
    Refresh(OAuthEndpoint),
    Revoke(OAuthEndpoint),
    Introspect(OAuthEndpoint),
    Keys(DocumentEndpoint),
    ServerMetadata(DocumentEndpoint),
    ResourceMetadata(DocumentEndpoint),
    #[cfg(feature = "password")]
    Sessions(SignedInEndpoint<SessionsEndpoint>),
    #[cfg(feature = "password")]
    Session(SignedInEndpoint<SessionsEndpoint>),
    #[cfg(feature = "password")]
    LogOut(SignedInEndpoint<SessionsEndpoint>),
    #[cfg(feature = "password")]
    Password(SignedInEndpoint<PasswordEndpoint>),
    #[cfg(feature = "password")]
    Register(RegisterEndpoint),
    #[cfg(feature = "password")]
    PageSession(CookieSessionEndpoint),
    #[cfg(feature = "password")]
    PageRefresh(CookieSessionEndpoint),
}

/// What a document needs to know of a server.
#[cfg(feature = "openapi")]
#[derive(Debug)]
pub(crate) struct Facts {
    /// What can be asked for at the token endpoint.
    pub(crate) grants: Vec<&'static str>,
    /// How clients authenticate.
    pub(crate) methods: Vec<&'static str>,
    /// What the answers of its gates and of its token endpoint are like.
    pub(crate) style: AnswerStyle,
    /// Whether attempts to sign in are limited.
    pub(crate) limited: bool,
    /// Whether access tokens are in a cookie.
    #[cfg(feature = "password")]
    pub(crate) access_cookie: bool,
    /// Whether those who register do not learn which names are taken.
    #[cfg(feature = "password")]
    pub(crate) hides_names: bool,
}

impl AuthorizationServer {
    /// Every endpoint that there is, with its path.
    pub(crate) fn mounts(&self) -> Vec<(String, Mounted)> {
        #[cfg_attr(not(feature = "password"), expect(unused_mut, reason = "nothing else is there"))]
        let mut mounts = vec![
            ("/token", Mounted::Token(self.token_endpoint())),
            ("/token/refresh", Mounted::Refresh(self.refresh_endpoint())),
            ("/revoke", Mounted::Revoke(self.revocation_endpoint())),
            ("/introspect", Mounted::Introspect(self.introspection_endpoint())),
            ("/.well-known/jwks.json", Mounted::Keys(self.jwks_endpoint())),
        ];
        #[cfg(feature = "password")]
        {
            mounts.push(("/sessions", Mounted::Sessions(self.sessions_endpoint())));
            mounts.push(("/sessions/{id}", Mounted::Session(self.sessions_endpoint())));
            mounts.push(("/logout", Mounted::LogOut(self.sessions_endpoint())));
            mounts.extend(self.password_endpoint().map(|endpoint| ("/password", Mounted::Password(endpoint))));
            mounts.extend(self.register_endpoint().map(|endpoint| ("/register", Mounted::Register(endpoint))));
            if let Some(endpoint) = self.session_endpoint() {
                mounts.push(("/session", Mounted::PageSession(endpoint.clone())));
                mounts.push(("/session/refresh", Mounted::PageRefresh(endpoint)));
            }
        }
        let below = |(path, endpoint)| (format!("{}{path}", self.path()), endpoint);
        let mut mounts: Vec<_> = mounts.into_iter().map(below).collect();
        let server = self.metadata_endpoint().map(|(path, document)| (path, Mounted::ServerMetadata(document)));
        let resource = self.own.metadata_endpoint().map(|(path, document)| (path, Mounted::ResourceMetadata(document)));
        mounts.extend(server.into_iter().chain(resource).map(|(path, endpoint)| (path.to_owned(), endpoint)));
        mounts
    }

    /// What a document needs to know.
    #[cfg(feature = "openapi")]
    pub(crate) fn facts(&self) -> Facts {
        let issuer = &self.issuer;
        Facts {
            grants: issuer.grant_types(),
            methods: issuer.clients.methods(),
            style: issuer.style,
            limited: issuer.limiter.is_some(),
            #[cfg(feature = "password")]
            access_cookie: issuer.cookies.as_ref().and_then(SessionCookies::guard_of_access).is_some(),
            #[cfg(feature = "password")]
            hides_names: issuer.accounts.registration.as_ref().is_some_and(Registration::hides_names),
        }
    }
}
