//! Callers without tokens: who a test says is calling.

use std::{
    fmt,
    marker::PhantomData,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use serde_json::{Map, Value};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    authz,
    clock::{Clock, SystemClock, UnixSeconds},
    gate::{GateBody, GateFuture},
    jwt::{Algorithm, ClaimsPolicy, CustomClaims, KeySet, NoClaims, SigningKey, Verifier},
    principal::Principal,
    rejection::{Answers, Rejection, Wire},
};

/// Issuer of what a test says, unless said otherwise.
pub(super) const ISSUER: &str = "https://id.example";
/// And for whom.
pub(super) const AUDIENCE: &str = "api";

/// Somebody who calls, as a test describes them: for [`as_principal`], and for
/// [`TestAuthority::token_for`](super::TestAuthority::token_for).
///
/// ```
/// use std::time::Duration;
/// use portcullis::testing::TestPrincipal;
///
/// let caller = TestPrincipal::user("user:7")
///     .scopes("me items")
///     .claim("tenant", "acme")
///     .lifetime(Duration::from_secs(60));
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct TestPrincipal {
    scopes: String,
    lifetime: Duration,
    issuer: Option<String>,
    /// Whatever else is set, by the name of its claim.
    claims: Map<String, Value>,
}

impl TestPrincipal {
    /// The user with this subject (`user:7`), by the client `test`, with no scope, for ten minutes.
    pub fn user(subject: impl Into<String>) -> Self {
        let new = Self { scopes: String::new(), lifetime: Duration::from_secs(600), issuer: None, claims: Map::new() };
        new.claim("sub", subject.into()).claim("client_id", "test")
    }

    /// A client that calls in its own name.
    pub fn client(id: impl Into<String>) -> Self {
        let id = id.into();
        Self::user(id.clone()).claim("client_id", id)
    }

    /// Sets the scopes, single spaces between them.
    pub fn scopes(self, scopes: impl Into<String>) -> Self {
        Self { scopes: scopes.into(), ..self }
    }

    /// Sets a claim, whichever it is: the registered ones as well, in place of what they would be.
    pub fn claim(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.claims.insert(name.into(), value.into());
        self
    }

    /// Sets the client that acts for the subject.
    pub fn client_id(self, id: impl Into<String>) -> Self {
        self.claim("client_id", id.into())
    }

    /// Sets when the person last proved who they are.
    pub fn auth_time(self, at: UnixSeconds) -> Self {
        self.claim("auth_time", at.get())
    }

    /// Sets the session that the credential belongs to.
    pub fn session(self, id: impl Into<String>) -> Self {
        self.claim("sid", id.into())
    }

    /// Sets who vouches for the subject: `https://id.example`, or the authority's name, unless set.
    pub fn issuer(self, issuer: impl Into<String>) -> Self {
        Self { issuer: Some(issuer.into()), ..self }
    }

    /// Sets for how long the credential is good: ten minutes unless set.
    pub fn lifetime(self, lifetime: Duration) -> Self {
        Self { lifetime, ..self }
    }

    /// The claims of a token that says all this.
    pub(super) fn to_claims(&self, issuer: &str, audience: &str, id: &str, now: UnixSeconds) -> Map<String, Value> {
        let mut claims = Map::new();
        let mut set = |name: &str, value: Value| drop(claims.insert(name.to_owned(), value));
        set("iss", self.issuer.as_deref().unwrap_or(issuer).into());
        set("aud", audience.into());
        set("jti", id.into());
        set("iat", now.get().into());
        set("exp", now.saturating_add(self.lifetime).get().into());
        if !self.scopes.is_empty() {
            set("scope", self.scopes.as_str().into());
        }
        claims.extend(self.claims.clone());
        claims
    }
}

/// A layer in place of [`authenticate`](crate::ResourceServer::authenticate), for tests: every request is `caller`'s, whatever
/// credential it carries or does not carry. What is further in runs as it does with a real token.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower::BoxError> {
/// use portcullis::{authz::RequireScopesLayer, jwt::Verified, testing::{TestPrincipal, as_principal}};
/// use tower::{BoxError, ServiceBuilder, ServiceExt};
/// # use http::{Request, Response};
///
/// #[derive(serde::Deserialize)]
/// struct Tenant {
///     tenant: String,
/// }
///
/// async fn handler(request: Request<String>) -> Result<Response<String>, BoxError> {
///     let caller = Verified::<Tenant>::of(request.extensions()).ok_or("never without")?;
///     Ok(Response::new(format!("{} of {}", caller.subject(), caller.claims().tenant)))
/// }
///
/// let anna = TestPrincipal::user("user:7").scopes("items").claim("tenant", "acme");
/// let service = ServiceBuilder::new()
///     .layer(as_principal(anna).claims::<Tenant>())
///     .layer(RequireScopesLayer::all_of(["items"])?)
///     .service_fn(handler);
/// assert_eq!(service.oneshot(Request::new(String::new())).await?.status(), 200);
/// # Ok(())
/// # }
/// ```
///
/// Handlers that take [`Verified<C>`](crate::jwt::Verified) work, too, and it is no forged proof: the layer signs what the test
/// says with a key of its own that nobody else has, and a [`Verifier`] for that key alone makes the proof. So a caller whose
/// claims do not fit `C`, or are none that a token could carry, is refused as a token with them would be. That is done once, as the
/// layer is made, so a caller does not run out while the test runs.
///
/// The layer goes where `authenticate()` would be, and not around it: a layer that reads tokens further in refuses a request
/// without one. So keep the routes, with what they demand, in a function of their own, and put around them what lets callers
/// in. Where that cannot be done, give the program [`TestAuthority::api`](super::TestAuthority::api) and send tokens.
pub fn as_principal(caller: TestPrincipal) -> AsPrincipalLayer {
    AsPrincipalLayer::of(Some(caller))
}

/// As [`as_principal`], but nobody is signed in: what [`authenticate_optional`](crate::ResourceServer::authenticate_optional)
/// lets in without a credential.
pub fn as_nobody() -> AsPrincipalLayer {
    AsPrincipalLayer::of(None)
}

/// From [`as_principal`] and [`as_nobody`].
#[must_use]
pub struct AsPrincipalLayer<C = NoClaims> {
    caller: Option<TestPrincipal>,
    answers: Answers,
    clock: Arc<dyn Clock>,
    /// Made with all of the above, before there is a service: routers apply their layers when they like, some at each request.
    outcome: Arc<Outcome>,
    reads: PhantomData<fn() -> C>,
}

impl AsPrincipalLayer {
    fn of(caller: Option<TestPrincipal>) -> Self {
        Self::made(caller, Answers::default(), Arc::new(SystemClock))
    }
}

impl<C> AsPrincipalLayer<C> {
    /// For handlers that take [`Verified<D>`](crate::jwt::Verified), as [`ResourceServer::claims`](crate::ResourceServer::claims).
    pub fn claims<D: CustomClaims>(self) -> AsPrincipalLayer<D> {
        AsPrincipalLayer::made(self.caller, self.answers, self.clock)
    }
}

impl<C: CustomClaims> AsPrincipalLayer<C> {
    /// Sets how whatever is further in answers this caller: in the realm `api` unless set.
    pub fn answers(self, answers: Answers) -> Self {
        Self::made(self.caller, answers, self.clock)
    }

    /// Sets where the time is read at which the caller's credential was made, now: the system's clock unless set.
    pub fn clock(self, clock: Arc<dyn Clock>) -> Self {
        Self::made(self.caller, self.answers, clock)
    }

    fn made(caller: Option<TestPrincipal>, answers: Answers, clock: Arc<dyn Clock>) -> Self {
        let outcome = match caller.as_ref().map(|caller| prove::<C>(caller, clock.now())) {
            None => Outcome::Nobody,
            Some(Ok(principal)) => Outcome::Caller(principal.answered(answers.clone())),
            Some(Err(rejection)) => Outcome::Refused(rejection),
        };
        Self { caller, answers, clock, outcome: Arc::new(outcome), reads: PhantomData }
    }
}

/// Makes the caller out of what is said of them, by way of a token.
fn prove<C: CustomClaims>(caller: &TestPrincipal, now: UnixSeconds) -> Result<Principal, Rejection> {
    // Nothing but a lack of random bytes can go wrong here.
    let none = |_| Rejection::KeysUnavailable;
    let key = SigningKey::generate(Algorithm::EdDsa).map_err(|error| none(error.into()))?;
    let keys = KeySet::new([key.verifying_key()]).map_err(none)?;
    let issuer = caller.issuer.as_deref().unwrap_or(ISSUER);
    // A name that cannot be an issuer's.
    let policy = ClaimsPolicy::builder(issuer, AUDIENCE).max_token(64 * 1024).build();
    let policy = policy.map_err(|_| Rejection::WrongIssuer)?;
    let claims = caller.to_claims(issuer, AUDIENCE, "test", now);
    let token = key.sign(&claims).map_err(|_| Rejection::KeysUnavailable)?;
    let verifier = Verifier::new(policy, keys).without_cache().claims::<C>();
    verifier.verify_at(token.as_bytes(), now).map(|verified| verified.principal())
}

impl<C> Clone for AsPrincipalLayer<C> {
    fn clone(&self) -> Self {
        let Self { caller, answers, clock, outcome, .. } = self;
        let (caller, answers, clock) = (caller.clone(), answers.clone(), Arc::clone(clock));
        Self { caller, answers, clock, outcome: Arc::clone(outcome), reads: PhantomData }
    }
}

impl<C> fmt::Debug for AsPrincipalLayer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsPrincipalLayer").field("caller", &self.caller).finish_non_exhaustive()
    }
}

impl<S, C: CustomClaims> Layer<S> for AsPrincipalLayer<C> {
    type Service = AsPrincipal<S>;

    fn layer(&self, inner: S) -> Self::Service {
        AsPrincipal { inner, outcome: Arc::clone(&self.outcome), answers: self.answers.clone() }
    }
}

/// Whose requests are.
#[derive(Debug)]
enum Outcome {
    Caller(Principal),
    Nobody,
    /// No token could say this, and be accepted.
    Refused(Rejection),
}

/// Middleware from [`as_principal`] and [`as_nobody`].
#[derive(Clone, Debug)]
pub struct AsPrincipal<S> {
    inner: S,
    outcome: Arc<Outcome>,
    answers: Answers,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for AsPrincipal<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
{
    type Response = Response<GateBody<ResBody>>;
    type Error = S::Error;
    type Future = GateFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        match &*self.outcome {
            Outcome::Caller(caller) => {
                authz::enter(request.extensions_mut(), caller.clone());
            }
            Outcome::Nobody => {
                authz::enter_nobody(request.extensions_mut(), self.answers.clone());
            }
            Outcome::Refused(rejection) => {
                let wire = Wire::of(request.headers());
                let refusal = self.answers.refuse(*rejection, None, wire);
                return GateFuture::refused(request.method(), refusal);
            }
        }
        GateFuture::forwarded(self.inner.call(request))
    }
}
