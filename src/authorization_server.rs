//! The handle that issues tokens: one issuer, one audience, one signing key, endpoints that agree.

#[cfg(feature = "password")]
mod accounts;
#[cfg(feature = "password")]
mod cookies;
#[cfg(feature = "axum")]
mod mounts;
mod readiness;
#[cfg(feature = "password")]
mod users;

use std::{fmt, sync::Arc, time::Duration};

#[cfg(feature = "openapi")]
pub(crate) use self::mounts::Facts;
#[cfg(feature = "axum")]
pub(crate) use self::mounts::Mounted;
#[cfg(feature = "password")]
pub use self::users::{ProtectUsers, ProtectUsersLayer};
use crate::{
    audit,
    client::{Client, GrantType, Resource},
    clock::{Clock, SystemClock},
    config::{ConfigError, ConfigErrors},
    endpoint::{
        Clients, DocumentEndpoint, Does, Issuer, LEEWAY, LONGEST_LIFETIME, OAuthEndpoint, ServerMetadata, TokenEndpoint,
    },
    jwt::{ClaimsPolicy, KeyRing, Verifier},
    login::{LoginLimiter, LoginRateLimit, LoginRateLimitLayer},
    rejection::AnswerStyle,
    resource_server::ResourceServer,
    revocation::RevocationList,
    scope::{Scope, ScopeSet},
    store::RevocationStore,
};
#[cfg(feature = "password")]
use crate::{
    authz::CurrentUsers,
    endpoint::{Accounts, SessionCookies, Sessions, SessionsEndpoint, SignedInEndpoint, Unsettled},
    password::{PasswordHasher, PasswordLogin},
    session::SessionPolicy,
    store::{SessionStore, UserStore, metered},
};

/// Issues access tokens, calls them back, and publishes the keys that verify them. Cheap to clone.
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
    metadata: Option<ServerMetadata>,
    /// For the server's own audience.
    own: ResourceServer,
}

/// Builder of an [`AuthorizationServer`].
#[must_use]
pub struct AuthorizationServerBuilder {
    name: String,
    audience: String,
    keys: KeyRing,
    lifetime: Duration,
    longest: Duration,
    default_scope: Option<Vec<String>>,
    clients: Vec<Client>,
    resources: Vec<Resource>,
    clock: Arc<dyn Clock>,
    revocations: Option<RevocationList>,
    limits: Limits,
    style: AnswerStyle,
    #[cfg(feature = "password")]
    login: Option<PasswordLogin>,
    #[cfg(feature = "password")]
    sessions: Option<Sessions>,
    #[cfg(feature = "password")]
    accounts: Accounts,
    #[cfg(feature = "password")]
    cookies: Option<SessionCookies>,
}

/// How logins are limited.
enum Limits {
    Default,
    Own(LoginLimiter),
    None,
}

/// What the server calls the client that its own users sign in with, unless clients are named.
const OWN_CLIENT: &str = "first-party";

impl AuthorizationServer {
    /// Begins a server that is called `issuer` and makes tokens for `audience`, signed with `keys`: a
    /// [`SigningKey`](crate::jwt::SigningKey) or a [`KeyRing`]. None has a safe default.
    pub fn builder(
        issuer: impl Into<String>,
        audience: impl Into<String>,
        keys: impl Into<KeyRing>,
    ) -> AuthorizationServerBuilder {
        AuthorizationServerBuilder {
            name: issuer.into(),
            audience: audience.into(),
            keys: keys.into(),
            lifetime: Duration::from_secs(600),
            longest: LONGEST_LIFETIME,
            default_scope: None,
            clients: Vec::new(),
            resources: Vec::new(),
            clock: Arc::new(SystemClock),
            revocations: None,
            limits: Limits::Default,
            style: AnswerStyle::Standard,
            #[cfg(feature = "password")]
            login: None,
            #[cfg(feature = "password")]
            sessions: None,
            #[cfg(feature = "password")]
            accounts: Accounts::default(),
            #[cfg(feature = "password")]
            cookies: None,
        }
    }

    /// What it is called: `iss` of its tokens.
    pub fn issuer(&self) -> &str {
        &self.issuer.name
    }

    /// Its signing keys.
    pub fn keys(&self) -> &KeyRing {
        &self.issuer.keys
    }

    /// The service for `POST /token` (RFC 6749 §3.2), within the limit for logins. Unless the builder says otherwise, that needs
    /// to know the client's address: see [`client_ip`](crate::client_ip).
    pub fn token_endpoint(&self) -> TokenEndpoint {
        TokenEndpoint(self.limited(Does::Token))
    }

    /// An endpoint within the limit for logins.
    fn limited(&self, does: Does) -> LoginRateLimit<OAuthEndpoint> {
        use tower_layer::Layer as _;

        let endpoint = self.endpoint(does);
        match &self.issuer.limiter {
            Some(limiter) => {
                LoginRateLimitLayer::around_endpoint(limiter.clone(), self.own.answers().clone()).layer(endpoint)
            }
            None => LoginRateLimit::without_limits(endpoint),
        }
    }

    /// The service for `POST /token/refresh`: the token endpoint for refresh tokens alone, whose form need not name the
    /// grant.
    pub fn refresh_endpoint(&self) -> OAuthEndpoint {
        self.endpoint(Does::Refresh)
    }

    /// The service for `POST /revoke`: a client gives a token back (RFC 7009). A refresh token takes its session and that
    /// session's access tokens with it; an access token goes alone.
    pub fn revocation_endpoint(&self) -> OAuthEndpoint {
        self.endpoint(Does::Revoke)
    }

    /// The service for `POST /introspect`: a confidential client asks whether a token is good (RFC 7662), one of its own or
    /// one for a resource that it [may ask about](Client::introspects).
    pub fn introspection_endpoint(&self) -> OAuthEndpoint {
        self.endpoint(Does::Introspect)
    }

    fn endpoint(&self, does: Does) -> OAuthEndpoint {
        OAuthEndpoint::new(Arc::clone(&self.issuer), does)
    }

    /// The service for `GET /.well-known/jwks.json` (RFC 7517 §5).
    pub fn jwks_endpoint(&self) -> DocumentEndpoint {
        DocumentEndpoint::keys(Arc::clone(&self.issuer))
    }

    /// The path of the server's metadata, and the service for it (RFC 8414). `None` if the issuer is no `https` address, nor
    /// `http` on loopback. It names `/token`, `/revoke`, `/introspect` and `/.well-known/jwks.json` below the issuer.
    pub fn metadata_endpoint(&self) -> Option<(&str, DocumentEndpoint)> {
        let ServerMetadata { path, document, .. } = self.metadata.as_ref()?;
        Some((path, DocumentEndpoint::fixed(document.clone())))
    }

    /// Path of the issuer, below which its endpoints are; empty if it has none, or is no address.
    #[cfg(feature = "axum")]
    pub(crate) fn path(&self) -> &str {
        self.metadata.as_ref().map_or("", |metadata| metadata.below.as_str())
    }

    /// The service for `/sessions`, `/sessions/{id}` and `/logout`, behind the layers that verify whose they are.
    #[cfg(feature = "password")]
    pub fn sessions_endpoint(&self) -> SignedInEndpoint<SessionsEndpoint> {
        use tower_layer::Layer as _;

        let endpoint = SessionsEndpoint::new(Arc::clone(&self.issuer), self.own.answers().clone());
        SignedInEndpoint(self.own_callers().layer(endpoint))
    }

    /// A resource server that accepts this server's tokens, of up to 16 KiB, with this server's clock, keys and revocations,
    /// for routes in the same program.
    pub fn resource_server(&self) -> ResourceServer {
        self.own.clone()
    }

    /// As [`resource_server`](Self::resource_server), for tokens that are for another of the server's resources.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Resource`] if it has none of that name.
    pub fn resource_server_for(&self, resource: &str) -> Result<ResourceServer, ConfigErrors> {
        let known = |known: &&Resource| known.id() == resource;
        let known = self.issuer.resources.iter().find(known);
        let resource = known.ok_or_else(|| ConfigError::Resource(resource.to_owned()))?;
        let scopes: Vec<String> = resource.limit().iter().flat_map(ScopeSet::iter).map(str::to_owned).collect();
        accepting(&self.issuer, resource.id(), scopes)
    }
}

/// Longest names, longest scope, largest key: what a server makes always fits.
const MOST_TOKEN: usize = 16 * 1024;

/// A resource server for an issuer's tokens for `audience`.
fn accepting(issuer: &Issuer, audience: &str, scopes: Vec<String>) -> Result<ResourceServer, ConfigErrors> {
    let policy = ClaimsPolicy::builder(&issuer.name, audience).max_token(MOST_TOKEN).build()?;
    let server = ResourceServer::of(policy, issuer.keys.clone()).clock(Arc::clone(&issuer.clock));
    let server = server.answer_style(issuer.style);
    let server = match &issuer.revocations {
        Some(list) => server.revocations(&issuer.name, list.clone())?,
        None => server,
    };
    // Not every audience is an address; one that is not has no place for its metadata.
    let described = server.clone().describe(audience, [issuer.name.as_str()], scopes);
    Ok(described.unwrap_or(server))
}

impl fmt::Debug for AuthorizationServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizationServer")
            .field("issuer", &self.issuer.name)
            .field("audience", &self.issuer.audience)
            .field("keys", &self.issuer.keys)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for AuthorizationServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizationServerBuilder").field("issuer", &self.name).finish_non_exhaustive()
    }
}

impl AuthorizationServerBuilder {
    /// Lets the users of `users` sign in with their password (`grant_type=password`).
    ///
    /// For programs that are themselves the only client, such as an API and its own app: RFC 9700 §2.4 forbids the
    /// password grant where somebody else's client would see the password. Unless a [`client`](Self::client) with that grant
    /// is named, requests are taken for the one first-party client; with no client named at all, a `client_id` or client
    /// secret that they carry is not looked at and opens nothing.
    #[cfg(feature = "password")]
    pub fn first_party_login(mut self, users: Arc<dyn UserStore>, hasher: PasswordHasher) -> Self {
        self.login = Some(PasswordLogin::new(metered::users(users), hasher));
        self
    }

    /// Gives a login a session in `store`, and a refresh token to keep it alive (RFC 6749 §6).
    ///
    /// Its access tokens carry the session as `sid`. When it is ended they pass no longer: the store keeps what is called back,
    /// as if it were given to [`revocations`](Self::revocations).
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
        self.sessions = Some(Sessions { store: metered::sessions(store), policy });
        self
    }

    /// Sets how logins are limited: as [`LoginLimiter`] does by itself, unless set.
    pub fn login_limits(mut self, limiter: LoginLimiter) -> Self {
        self.limits = Limits::Own(limiter);
        self
    }

    /// Limits nothing: for servers with limits of their own around [`token_endpoint`](AuthorizationServer::token_endpoint), `/password`
    /// and `/register`. What is lost: RFC 6749 §4.3.2 demands one, and without it a password can be guessed as fast as it can be
    /// hashed; there are no tokens for devices.
    pub fn danger_without_login_limits(mut self) -> Self {
        self.limits = Limits::None;
        self
    }

    /// Calls access tokens back with this list: for a server without sessions, for one that keeps them elsewhere, or for other
    /// settings than a list has by itself.
    pub fn revocations(mut self, list: RevocationList) -> Self {
        self.revocations = Some(list);
        self
    }

    /// Names a client. Once there is one, a request that names a client must name one of these, and prove it if it can.
    pub fn client(mut self, client: Client) -> Self {
        self.clients.push(client);
        self
    }

    /// Adds something that tokens can be for beside the server's own audience, for clients that ask for it as `resource`
    /// (RFC 8707).
    pub fn resource(mut self, resource: Resource) -> Self {
        self.resources.push(resource);
        self
    }

    /// How long an access token is valid: 10 minutes unless set, 1 second to 1 hour.
    pub fn access_token_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// As [`access_token_lifetime`](Self::access_token_lifetime), up to a day. What is lost: a stolen token opens the
    /// door for that long, and a scope that is taken away from a user stays granted for that long.
    pub fn danger_access_token_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self.longest = Duration::from_secs(24 * 3600);
        self
    }

    /// What a login that asks for no scope is granted, as far as the user may have it: all that the user may have
    /// unless set (RFC 6749 §3.3).
    pub fn default_scope<S: Into<String>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.default_scope = Some(scopes.into_iter().map(Into::into).collect());
        self
    }

    /// Sets what the answers are like, of `/token` and of the layers of the server's own [`resource_server`](AuthorizationServer::resource_server):
    /// as the standards say, unless set. The other endpoints say what is wrong with their forms and tokens in the terms of their
    /// RFCs in any case.
    pub fn answer_style(mut self, style: AnswerStyle) -> Self {
        self.style = style;
        self
    }

    /// Sets where the time is read: the system's clock unless set.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Builds the server.
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`], with one [`ConfigError`] for each bad setting.
    #[cfg_attr(not(feature = "password"), expect(unused_mut, reason = "nothing else is changed by being checked"))]
    pub fn build(mut self) -> Result<AuthorizationServer, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        errors.bound("access token lifetime", self.lifetime, Duration::from_secs(1), self.longest);
        if let Some(retires) = self.keys.retires_for() {
            let longest = retires.saturating_sub(Duration::from_secs(600));
            errors.bound("access token lifetime beside a key's last time", self.lifetime, Duration::ZERO, longest);
        }
        let default_scope = self.default_scope.as_ref().map(|names| {
            let scope = |name: &String| errors.keep(Scope::parse(name).map_err(|_| ConfigError::Scope(name.clone())));
            names.iter().filter_map(scope).collect::<ScopeSet>()
        });
        self.check_clients(&mut errors);
        // As lenient with times as anybody may be, for those who revoke.
        let policy = ClaimsPolicy::builder(&self.name, &self.audience).max_token(MOST_TOKEN).leeway(LEEWAY);
        let policy = self.resources.iter().fold(policy, |policy, resource| policy.also_audience(resource.id()));
        let policy = errors.keep(policy.build());
        #[cfg(feature = "password")]
        if let Some(sessions) = &self.sessions {
            sessions.policy.check(&mut errors);
        }
        #[cfg(feature = "password")]
        self.check_accounts(&mut errors);
        #[cfg(feature = "password")]
        self.check_cookies(&mut errors);
        let limiter = errors.keep(self.limiter());
        let (policy, limiter) = errors.finish(policy.zip(limiter))?;
        let verifier = Verifier::new(policy, self.keys.clone()).without_cache();
        let clients = Clients::new(self.clients.clone(), self.own_client());
        let issuer = Issuer {
            #[cfg(feature = "password")]
            sessions_note: self.revocations.is_none(),
            #[cfg(feature = "password")]
            unsettled: Unsettled::default(),
            #[cfg(feature = "password")]
            current: self
                .login
                .as_ref()
                .map(|login| CurrentUsers::of(Arc::clone(&login.users), &*self.name).clock(Arc::clone(&self.clock))),
            revocations: self.list(),
            name: self.name,
            audience: self.audience,
            resources: self.resources,
            keys: self.keys,
            verifier,
            lifetime: self.lifetime,
            style: self.style,
            default_scope,
            clients,
            limiter,
            clock: self.clock,
            #[cfg(feature = "password")]
            login: self.login,
            #[cfg(feature = "password")]
            sessions: self.sessions,
            #[cfg(feature = "password")]
            accounts: self.accounts,
            #[cfg(feature = "password")]
            cookies: self.cookies,
        };
        let own = accepting(&issuer, &issuer.audience, Vec::new())?;
        let (audience, lifetime) = (&issuer.audience, issuer.lifetime.as_secs());
        let detail = format!("audience {audience:?}, access tokens of {lifetime} s");
        audit::configuration_loaded("authorization server", &issuer.name, &detail);
        Ok(AuthorizationServer { metadata: ServerMetadata::of(&issuer), own, issuer: Arc::new(issuer) })
    }

    fn check_clients(&self, errors: &mut ConfigErrors) {
        let mut names = std::collections::HashSet::from([self.audience.as_str()]);
        for resource in &self.resources {
            resource.check(errors);
            if !names.insert(resource.id()) {
                errors.push(ConfigError::Resource(resource.id().to_owned()));
            }
        }
        let mut ids = std::collections::HashSet::new();
        for client in &self.clients {
            client.check(|resource| names.contains(resource), errors);
            if !ids.insert(client.id()) || client.id() == OWN_CLIENT {
                let reason = "there is another of this name";
                errors.push(ConfigError::BadClient { id: client.id().to_owned(), reason });
            }
        }
    }

    /// The client that requests are taken for which name none: where users sign in and no other client is named for it.
    fn own_client(&self) -> Option<Client> {
        #[cfg(feature = "password")]
        let login = self.login.is_some();
        #[cfg(not(feature = "password"))]
        let login = false;
        let named = self.clients.iter().any(|client| client.may(GrantType::Password));
        let own =
            if login { Client::public(OWN_CLIENT).grant(GrantType::Password) } else { Client::public(OWN_CLIENT) };
        (self.clients.is_empty() || (login && !named)).then_some(own)
    }

    /// The limit for logins, where there are any.
    fn limiter(&self) -> Result<Option<LoginLimiter>, ConfigErrors> {
        #[cfg(feature = "password")]
        let login = self.login.is_some();
        #[cfg(not(feature = "password"))]
        let login = false;
        match &self.limits {
            Limits::Default if login => LoginLimiter::builder().clock(Arc::clone(&self.clock)).build().map(Some),
            Limits::Own(limiter) => Ok(Some(limiter.clone())),
            Limits::Default | Limits::None => Ok(None),
        }
    }

    fn list(&self) -> Option<RevocationList> {
        #[cfg(feature = "password")]
        let store = self.sessions.as_ref().map(|sessions| Arc::clone(&sessions.store) as Arc<dyn RevocationStore>);
        #[cfg(not(feature = "password"))]
        let store = None::<Arc<dyn RevocationStore>>;
        self.revocations.clone().or_else(|| store.map(RevocationList::of))
    }
}
