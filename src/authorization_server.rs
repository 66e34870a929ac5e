//! The handle that issues tokens: one issuer, one audience, one signing key, endpoints that agree.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    clock::{Clock, SystemClock},
    config::{ConfigError, ConfigErrors},
    endpoint::{Issuer, JwksEndpoint, TokenEndpoint},
    jwt::{ClaimsPolicy, KeySet, SigningKey},
    resource_server::ResourceServer,
    scope::{Scope, ScopeSet},
};
#[cfg(feature = "password")]
use crate::{
    endpoint::Sessions,
    password::{PasswordHasher, PasswordLogin},
    principal::Principal,
    rejection::Rejection,
    session::SessionPolicy,
    store::{SessionStore, UserRecord, UserStore, active_user},
};

/// Issues access tokens and publishes the key that verifies them. Cheap to clone.
///
/// ```
/// # #[cfg(feature = "password")] {
/// use std::sync::Arc;
/// use portcullis::{AuthorizationServer, jwt::*, password::PasswordHasher, store::MemoryStore};
///
/// let users = Arc::new(MemoryStore::new());
/// let key = SigningKey::generate(Algorithm::EdDsa)?;
/// let server = AuthorizationServer::builder("https://id.example", "orders", key)
///     .first_party_login(users, PasswordHasher::builder().build()?)
///     .build()?;
///
/// let token = server.token_endpoint();
/// let jwks = server.jwks_endpoint();
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct AuthorizationServer {
    issuer: Arc<Issuer>,
    jwks: Bytes,
}

/// Builder of an [`AuthorizationServer`].
#[must_use]
pub struct AuthorizationServerBuilder {
    issuer: Issuer,
    longest: Duration,
    default_scope: Option<Vec<String>>,
}

const LONGEST_LIFETIME: Duration = Duration::from_secs(3600);

impl AuthorizationServer {
    /// Begins a server that is called `issuer` and makes tokens for `audience`, signed with `key`. None has a safe
    /// default.
    pub fn builder(
        issuer: impl Into<String>,
        audience: impl Into<String>,
        key: SigningKey,
    ) -> AuthorizationServerBuilder {
        AuthorizationServerBuilder {
            issuer: Issuer {
                name: issuer.into(),
                audience: audience.into(),
                key,
                lifetime: Duration::from_secs(600),
                default_scope: None,
                client_id: "first-party".to_owned(),
                clock: Arc::new(SystemClock),
                #[cfg(feature = "password")]
                login: None,
                #[cfg(feature = "password")]
                sessions: None,
            },
            longest: LONGEST_LIFETIME,
            default_scope: None,
        }
    }

    /// What it is called: `iss` of its tokens.
    pub fn issuer(&self) -> &str {
        &self.issuer.name
    }

    /// The service for `POST /token`.
    pub fn token_endpoint(&self) -> TokenEndpoint {
        TokenEndpoint::new(Arc::clone(&self.issuer))
    }

    /// The service for `POST /token/refresh`: the token endpoint for refresh tokens alone, whose form need not name the
    /// grant.
    pub fn refresh_endpoint(&self) -> TokenEndpoint {
        TokenEndpoint::refresh(Arc::clone(&self.issuer))
    }

    /// The service for `GET /.well-known/jwks.json`.
    pub fn jwks_endpoint(&self) -> JwksEndpoint {
        JwksEndpoint::new(self.jwks.clone())
    }

    /// The user who is calling, if they may still act: for routes that must know at once that somebody was disabled,
    /// because a token says what was true when it was issued.
    ///
    /// # Errors
    ///
    /// [`Rejection::UserInactive`] if the caller is none of this server's users, or is disabled;
    /// [`Rejection::StoreUnavailable`] if the store cannot tell.
    #[cfg(feature = "password")]
    pub async fn active_user(&self, caller: &Principal) -> Result<UserRecord, Rejection> {
        let login = self.issuer.login.as_ref().ok_or(Rejection::UserInactive)?;
        active_user(&*login.users, &self.issuer.name, caller).await
    }

    /// A resource server that accepts this server's tokens, of up to 16 KiB, with this server's clock, for routes in the
    /// same program.
    ///
    /// # Errors
    ///
    /// None that a built server can cause; the signature is that of its parts.
    pub fn resource_server(&self) -> Result<ResourceServer, ConfigErrors> {
        // Longest names, longest scope, largest key: what this server makes always fits.
        let policy = ClaimsPolicy::builder(&self.issuer.name, &self.issuer.audience).max_token(16 * 1024).build()?;
        let keys = KeySet::new([self.issuer.key.verifying_key()])?;
        Ok(ResourceServer::new(policy, keys).clock(Arc::clone(&self.issuer.clock)))
    }
}

impl fmt::Debug for AuthorizationServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizationServer")
            .field("issuer", &self.issuer.name)
            .field("audience", &self.issuer.audience)
            .field("key", &self.issuer.key)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for AuthorizationServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizationServerBuilder").field("issuer", &self.issuer.name).finish_non_exhaustive()
    }
}

impl AuthorizationServerBuilder {
    /// Lets the users of `users` sign in with their password (`grant_type=password`).
    ///
    /// For programs that are themselves the only client, such as an API and its own app: RFC 9700 §2.4 forbids the
    /// password grant where somebody else's client would see the password. Every request is taken for the one
    /// first-party client; a `client_id` or client secret that it carries is not looked at and opens nothing.
    #[cfg(feature = "password")]
    pub fn first_party_login(mut self, users: Arc<dyn UserStore>, hasher: PasswordHasher) -> Self {
        self.issuer.login = Some(PasswordLogin { users, hasher });
        self
    }

    /// Gives a login a session in `store`, and a refresh token to keep it alive (RFC 6749 §6).
    ///
    /// Its access tokens carry the session as `sid`. Ending it stops the refreshing at once; an access token that was issued
    /// before stays good for what is left of its ten minutes.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use portcullis::{AuthorizationServer, jwt::*, password::PasswordHasher, session::SessionPolicy, store::MemoryStore};
    ///
    /// let store = Arc::new(MemoryStore::new());
    /// let key = SigningKey::generate(Algorithm::EdDsa)?;
    /// let server = AuthorizationServer::builder("https://id.example", "orders", key)
    ///     .first_party_login(store.clone(), PasswordHasher::builder().build()?)
    ///     .sessions(store, SessionPolicy::default())
    ///     .build()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "password")]
    pub fn sessions(mut self, store: Arc<dyn SessionStore>, policy: SessionPolicy) -> Self {
        self.issuer.sessions = Some(Sessions { store, policy });
        self
    }

    /// How long an access token is valid: 10 minutes unless set, 1 second to 1 hour.
    pub fn access_token_lifetime(mut self, lifetime: Duration) -> Self {
        self.issuer.lifetime = lifetime;
        self
    }

    /// As [`access_token_lifetime`](Self::access_token_lifetime), up to a day. What is lost: a stolen token opens the
    /// door for that long, and a scope that is taken away from a user stays granted for that long.
    pub fn danger_access_token_lifetime(mut self, lifetime: Duration) -> Self {
        self.issuer.lifetime = lifetime;
        self.longest = Duration::from_secs(24 * 3600);
        self
    }

    /// What a login that asks for no scope is granted, as far as the user may have it: all that the user may have
    /// unless set (RFC 6749 §3.3).
    pub fn default_scope<S: Into<String>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.default_scope = Some(scopes.into_iter().map(Into::into).collect());
        self
    }

    /// Sets where the time is read: the system's clock unless set.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.issuer.clock = clock;
        self
    }

    /// Builds the server.
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`], with one [`ConfigError`] for each bad setting.
    pub fn build(self) -> Result<AuthorizationServer, ConfigErrors> {
        let Self { mut issuer, longest, default_scope } = self;
        let mut errors = ConfigErrors::default();
        errors.keep(ClaimsPolicy::builder(&issuer.name, &issuer.audience).build());
        errors.bound("access token lifetime", issuer.lifetime, Duration::from_secs(1), longest);
        #[cfg(feature = "password")]
        if let Some(sessions) = &issuer.sessions {
            sessions.policy.check(&mut errors);
        }
        if let Some(names) = default_scope {
            let scope = |name: String| errors.keep(Scope::parse(&name).map_err(|_| ConfigError::Scope(name)));
            issuer.default_scope = Some(names.into_iter().filter_map(scope).collect::<ScopeSet>());
        }
        let jwks = serde_json::to_vec(&issuer.key.jwks()).map_err(|_| ConfigError::Key("cannot be published"));
        let jwks = errors.keep(jwks);
        errors.finish(jwks.map(|jwks| AuthorizationServer { issuer: Arc::new(issuer), jwks: jwks.into() }))
    }
}
