//! The handle that protects routes: one set of keys, one policy, one realm, layers that fit each other.

mod cookies;

use std::{fmt, sync::Arc};

use futures::FutureExt as _;
use tower_layer::Layer;

pub use self::cookies::CookieAuthenticateLayer;
use crate::{
    audit,
    authz::{AuthorizeLayer, Policy, PolicyGate, RequireScopesLayer, Scopes},
    browser::CsrfGuard,
    clock::{Clock, SystemClock},
    config::{ConfigError, ConfigErrors},
    endpoint::{DocumentEndpoint, ResourceMetadata},
    gate::{Both, Gated},
    health::Readiness,
    jwt::{ClaimsPolicy, CustomClaims, JwtVerify, JwtVerifyLayer, KeySource, NoClaims, Verifier},
    rejection::{AnswerStyle, Answers},
    revocation::RevocationList,
    scope::ScopeSet,
    store::StoreError,
};

/// Protects routes with bearer tokens. Cheap to clone.
///
/// ```
/// use portcullis::{ResourceServer, jwt::*};
///
/// # let key = SigningKey::generate(Algorithm::EdDsa)?.verifying_key();
/// let policy = ClaimsPolicy::builder("https://id.example", "orders").build()?;
/// let api = ResourceServer::new(policy, KeySet::new([key])?);
///
/// let whole_router = api.authenticate();
/// let one_route = api.require(["orders:read"])?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ResourceServer<C = NoClaims> {
    verifier: Verifier<C>,
    clock: Arc<dyn Clock>,
    answers: Answers,
    metadata: Option<ResourceMetadata>,
}

impl ResourceServer {
    /// Accepts what `keys` signed and `policy` allows.
    #[must_use]
    pub fn new(policy: ClaimsPolicy, keys: impl Into<KeySource>) -> Self {
        audit::configuration_loaded("resource server", policy.issuer(), &"its tokens are accepted");
        Self::of(policy, keys)
    }

    /// The same, untold: part of a server that is told of.
    pub(crate) fn of(policy: ClaimsPolicy, keys: impl Into<KeySource>) -> Self {
        let (verifier, answers) = (Verifier::new(policy, keys), Answers::default());
        Self { verifier, clock: Arc::new(SystemClock), answers, metadata: None }
    }
}

impl<C: CustomClaims> ResourceServer<C> {
    /// Accepts the tokens of another issuer as well, with keys and rules of its own.
    ///
    /// # Errors
    ///
    /// As [`Verifier::trust`].
    pub fn trust(self, policy: ClaimsPolicy, keys: impl Into<KeySource>) -> Result<Self, ConfigErrors> {
        let issuer = policy.issuer().to_owned();
        let verifier = self.verifier.trust(policy, keys)?;
        audit::configuration_loaded("resource server", &issuer, &"its tokens are accepted as well");
        Ok(Self { verifier, ..self })
    }

    /// Refuses what `list` says was called back, among the tokens of this issuer.
    ///
    /// # Errors
    ///
    /// As [`Verifier::revocations`].
    pub fn revocations(self, issuer: &str, list: RevocationList) -> Result<Self, ConfigErrors> {
        Ok(Self { verifier: self.verifier.revocations(issuer, list)?, ..self })
    }

    /// Sets how many verified tokens are remembered, and how many bytes they may take: 10,000 and 16 MiB unless set.
    ///
    /// # Errors
    ///
    /// As [`Verifier::cache`].
    pub fn cache(self, entries: usize, bytes: usize) -> Result<Self, ConfigErrors> {
        Ok(Self { verifier: self.verifier.cache(entries, bytes)?, ..self })
    }

    /// Remembers no token: each is checked from its first byte to its last each time.
    #[must_use]
    pub fn without_cache(self) -> Self {
        Self { verifier: self.verifier.without_cache(), ..self }
    }

    /// The same, but that it reads claims of the program's own type `D` besides, for handlers that take
    /// [`Verified<D>`](crate::jwt::Verified). Tokens that lack them are refused.
    #[must_use]
    pub fn claims<D: CustomClaims>(self) -> ResourceServer<D> {
        let Self { verifier, clock, answers, metadata } = self;
        ResourceServer { verifier: verifier.claims(), clock, answers, metadata }
    }

    /// Sets where the time is read: the system's clock unless set.
    #[must_use]
    pub fn clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// Sets the realm that the challenges name: `api` unless set.
    ///
    /// # Errors
    ///
    /// As [`Answers::for_realm`].
    pub fn realm(self, realm: &str) -> Result<Self, ConfigErrors> {
        let answers = Answers::for_realm(realm)?.set_like(&self.answers);
        let answers = match &self.metadata {
            Some(metadata) => answers.naming_metadata(&metadata.address),
            None => answers,
        };
        Ok(Self { answers, ..self })
    }

    /// Sets what the answers of its layers are like: as the standards say, unless set. What is further in follows it, extractors
    /// and [`Principal::answers`](crate::principal::Principal::answers) included.
    ///
    /// ```
    /// # use portcullis::{ResourceServer, jwt::*};
    /// use portcullis::rejection::AnswerStyle;
    /// # let key = SigningKey::generate(Algorithm::EdDsa)?.verifying_key();
    /// # let policy = ClaimsPolicy::builder("https://id.example", "orders").build()?;
    /// let api = ResourceServer::new(policy, KeySet::new([key])?).answer_style(AnswerStyle::FastApi);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn answer_style(self, style: AnswerStyle) -> Self {
        Self { answers: self.answers.style(style), ..self }
    }

    /// Answers what calls itself gRPC as everything else: see [`Answers::without_grpc`].
    #[must_use]
    pub fn without_grpc(self) -> Self {
        Self { answers: self.answers.without_grpc(), ..self }
    }

    /// Describes the resource for clients that do not know it yet (RFC 9728): what it is called, who issues its tokens, which
    /// scopes there are. Challenges then name the address of [`metadata_endpoint`](Self::metadata_endpoint)'s document.
    ///
    /// ```
    /// # use portcullis::{ResourceServer, jwt::*};
    /// # let key = SigningKey::generate(Algorithm::EdDsa)?.verifying_key();
    /// # let policy = ClaimsPolicy::builder("https://id.example", "https://api.example/orders").build()?;
    /// let api = ResourceServer::new(policy, KeySet::new([key])?)
    ///     .describe("https://api.example/orders", ["https://id.example"], ["orders:read", "orders:write"])?;
    /// let (path, _service) = api.metadata_endpoint().ok_or("described")?;
    /// assert_eq!(path, "/.well-known/oauth-protected-resource/orders");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ConfigError::Address`] if `resource` is not `https`, nor `http` on loopback, or has a query or a fragment.
    pub fn describe<S: Into<String>, T: Into<String>>(
        self,
        resource: &str,
        authorization_servers: impl IntoIterator<Item = S>,
        scopes: impl IntoIterator<Item = T>,
    ) -> Result<Self, ConfigErrors> {
        let servers: Vec<String> = authorization_servers.into_iter().map(Into::into).collect();
        let scopes: Vec<String> = scopes.into_iter().map(Into::into).collect();
        let metadata = ResourceMetadata::of(resource, &servers, &scopes);
        let metadata = metadata.ok_or_else(|| ConfigError::Address(resource.to_owned()))?;
        Ok(Self { answers: self.answers.naming_metadata(&metadata.address), metadata: Some(metadata), ..self })
    }

    /// The path of the resource's metadata, and the service for it, if it was [described](Self::describe).
    pub fn metadata_endpoint(&self) -> Option<(&str, DocumentEndpoint)> {
        let ResourceMetadata { path, document, .. } = self.metadata.as_ref()?;
        Some((path, DocumentEndpoint::fixed(document.clone())))
    }

    /// A layer that refuses requests without a good token.
    pub fn authenticate(&self) -> AuthenticateLayer<C> {
        self.reading(false)
    }

    /// A layer that lets requests without a credential pass, with no caller. One with a bad token is refused all the
    /// same.
    pub fn authenticate_optional(&self) -> AuthenticateLayer<C> {
        self.reading(true)
    }

    /// As [`authenticate`](Self::authenticate), for pages that hold their token in [`ACCESS_COOKIE`](crate::browser::ACCESS_COOKIE);
    /// [`or_bearer`](CookieAuthenticateLayer::or_bearer) takes the header of others besides. Requests that `guard` refuses are 403.
    ///
    /// ```
    /// # use portcullis::{ResourceServer, browser::CsrfGuard, jwt::*};
    /// # let key = SigningKey::generate(Algorithm::EdDsa)?.verifying_key();
    /// # let policy = ClaimsPolicy::builder("https://id.example", "orders").build()?;
    /// # let api = ResourceServer::new(policy, KeySet::new([key])?);
    /// let guard = CsrfGuard::builder().build()?;
    /// let pages = api.authenticate_cookie(guard.clone());
    /// let pages_and_programs = api.authenticate_cookie(guard).or_bearer();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn authenticate_cookie(&self, guard: CsrfGuard) -> CookieAuthenticateLayer<C> {
        CookieAuthenticateLayer::new(guard, self.verify(), self.answers.clone())
    }

    /// As [`authenticate_cookie`](Self::authenticate_cookie) with the header besides, where there is a guard; the header alone, where
    /// there is none.
    #[cfg(feature = "password")]
    pub(crate) fn authenticate_either(&self, guard: Option<&CsrfGuard>) -> CookieAuthenticateLayer<C> {
        match guard {
            Some(guard) => self.authenticate_cookie(guard.clone()).or_bearer(),
            None => CookieAuthenticateLayer::without_cookies(self.verify(), self.answers.clone()),
        }
    }

    /// A layer, to sit inside [`authenticate`](Self::authenticate), that demands every one of `scopes`.
    ///
    /// # Errors
    ///
    /// As [`RequireScopesLayer::all_of`].
    pub fn require<S: AsRef<str>>(
        &self,
        scopes: impl IntoIterator<Item = S>,
    ) -> Result<RequireScopesLayer, ConfigErrors> {
        Ok(self.authorize(Scopes::all_of(scopes)?))
    }

    /// A layer, to sit inside [`authenticate`](Self::authenticate), that demands one of `scopes`.
    ///
    /// # Errors
    ///
    /// As [`RequireScopesLayer::any_of`].
    pub fn require_any<S: AsRef<str>>(
        &self,
        scopes: impl IntoIterator<Item = S>,
    ) -> Result<RequireScopesLayer, ConfigErrors> {
        Ok(self.authorize(Scopes::any_of(scopes)?))
    }

    /// A layer, to sit inside [`authenticate`](Self::authenticate), that lets pass whom `policy` allows.
    pub fn authorize<P: Policy>(&self, policy: P) -> AuthorizeLayer<P> {
        AuthorizeLayer::new(policy).clock(Arc::clone(&self.clock))
    }

    /// All that a route needs, in the one right order: [`authenticate`](Self::authenticate), and inside it
    /// [`authorize`](Self::authorize).
    ///
    /// ```
    /// # use portcullis::{ResourceServer, jwt::*};
    /// use portcullis::authz::{Scopes, SignedIn};
    /// # let key = SigningKey::generate(Algorithm::EdDsa)?.verifying_key();
    /// # let policy = ClaimsPolicy::builder("https://id.example", "orders").build()?;
    /// # let api = ResourceServer::new(policy, KeySet::new([key])?);
    /// let orders = api.protect(Scopes::all_of(["orders:read"])?);
    /// let anybody = api.protect(SignedIn);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn protect<P: Policy>(&self, policy: P) -> ProtectLayer<P, C> {
        let verify = self.verify_for(&policy.scopes());
        ProtectLayer { gate: Arc::new(Both::new(verify, self.authorize(policy).gate())) }
    }

    /// As within [`authenticate`](Self::authenticate), where it is known what will be demanded.
    pub(crate) fn verify_for(&self, scopes: &ScopeSet) -> JwtVerifyLayer<C> {
        self.verify().answers(self.answers.demanding(scopes)).reading_header(false)
    }

    /// What it needs to be ready: the keys of its issuers, and what was called back. See [`health`](crate::health).
    pub fn readiness(&self) -> Readiness {
        let (sources, clock) = (self.verifier.sources(), &self.clock);
        let needs_keys = sources.iter().any(|(keys, _)| !keys.are_fixed());
        let readiness = Readiness::new();
        let readiness = if needs_keys {
            let (sources, clock) = (sources.clone(), Arc::clone(clock));
            readiness.needs("issuer_keys", true, move || {
                let (sources, clock) = (sources.clone(), Arc::clone(&clock));
                let probe = async move {
                    for (keys, _) in &sources {
                        if !keys.are_there(clock.now()).await {
                            return Err(StoreError::unavailable("no keys"));
                        }
                    }
                    Ok(())
                };
                probe.boxed()
            })
        } else {
            readiness
        };
        let lists = sources.into_iter().filter_map(|(_, list)| list);
        lists.fold(readiness, |readiness, list| list.needed_by(readiness, Arc::clone(clock)))
    }

    /// How its layers answer, for handlers that refuse by themselves.
    pub const fn answers(&self) -> &Answers {
        &self.answers
    }

    fn reading(&self, optional: bool) -> AuthenticateLayer<C> {
        AuthenticateLayer { verify: self.verify().reading_header(optional), optional }
    }

    fn verify(&self) -> JwtVerifyLayer<C> {
        let verify = JwtVerifyLayer::new(self.verifier.clone()).clock(Arc::clone(&self.clock));
        verify.answers(self.answers.clone())
    }
}

impl<C> Clone for ResourceServer<C> {
    fn clone(&self) -> Self {
        let Self { verifier, clock, answers, metadata } = self;
        Self {
            verifier: verifier.clone(),
            clock: Arc::clone(clock),
            answers: answers.clone(),
            metadata: metadata.clone(),
        }
    }
}

impl<C> fmt::Debug for ResourceServer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResourceServer").field("verifier", &self.verifier).finish_non_exhaustive()
    }
}

/// What [`BearerExtractLayer`](crate::bearer::BearerExtractLayer) around [`JwtVerifyLayer`] answers and lets pass, in one
/// step: from [`ResourceServer::authenticate`]. It leaves no [`Credential`](crate::bearer::Credential) in the extensions.
#[derive(Debug)]
#[must_use]
pub struct AuthenticateLayer<C = NoClaims> {
    verify: JwtVerifyLayer<C>,
    /// For documents: the layer within knows it, too.
    optional: bool,
}

// By hand: neither claims nor policies need to be clonable.
impl<C> Clone for AuthenticateLayer<C> {
    fn clone(&self) -> Self {
        Self { verify: self.verify.clone(), optional: self.optional }
    }
}

#[cfg(feature = "openapi")]
impl<C: CustomClaims> AuthenticateLayer<C> {
    /// What its answers are like.
    pub(crate) fn answer_style(&self) -> AnswerStyle {
        self.verify.answer_style()
    }
}

#[cfg(feature = "openapi")]
impl<C> AuthenticateLayer<C> {
    /// One that demands a credential.
    pub(crate) fn demanding(verify: &JwtVerifyLayer<C>) -> Self {
        Self { verify: verify.clone(), optional: false }
    }

    /// Whether requests without a credential pass.
    pub(crate) const fn is_optional(&self) -> bool {
        self.optional
    }
}

/// What [`AuthenticateLayer`] around [`AuthorizeLayer`] answers and lets pass, in one step: from [`ResourceServer::protect`].
#[derive(Debug)]
#[must_use]
pub struct ProtectLayer<P, C = NoClaims> {
    gate: Arc<Both<JwtVerifyLayer<C>, PolicyGate<P>>>,
}

/// Middleware that verifies the bearer token, and lets pass whom a policy allows: from [`ProtectLayer`].
pub type Protect<S, P, C = NoClaims> = Gated<S, Both<JwtVerifyLayer<C>, PolicyGate<P>>>;

impl<P, C> Clone for ProtectLayer<P, C> {
    fn clone(&self) -> Self {
        Self { gate: Arc::clone(&self.gate) }
    }
}

#[cfg(feature = "openapi")]
impl<P, C> ProtectLayer<P, C> {
    /// What it is made of, from the outside in.
    pub(crate) fn layers(&self) -> (AuthenticateLayer<C>, AuthorizeLayer<P>) {
        let (verify, policy) = self.gate.parts();
        (AuthenticateLayer::demanding(verify), AuthorizeLayer::of(policy))
    }
}

impl<S, P, C> Layer<S> for ProtectLayer<P, C> {
    type Service = Protect<S, P, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Gated::new(inner, Arc::clone(&self.gate))
    }
}

impl<S, C: CustomClaims> Layer<S> for AuthenticateLayer<C> {
    type Service = JwtVerify<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        self.verify.layer(inner)
    }
}
