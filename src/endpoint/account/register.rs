//! `POST /register`: somebody who becomes a user.

use std::{
    convert::Infallible,
    fmt,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{
    FutureExt as _,
    future::{self, BoxFuture},
};
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::Full;
use tokio::time;
use tower_service::Service;

use super::{Answer, NotForThem, Reason, for_method, hasher_failed, known, posted, refusal, refused};
use crate::{
    audit,
    client_ip::ClientIp,
    config::{ConfigError, ConfigErrors},
    endpoint::{
        ending::{Tries, later},
        error::EndpointError,
        issuer::{Issuer, failed, to_the_end},
        private_json,
    },
    form::Form,
    ident::{LoginName, UserId},
    login::LoginOutcome,
    password::{PasswordContext, PasswordLogin},
    rejection::{Answers, Wire},
    scope::{Scope, ScopeSet},
    secret::Secret,
    store::{StoreError, UserPublic, UserRecord, UserStore, within},
};

/// Lets strangers become users, by `POST /register`. Without it there is no such endpoint.
///
/// A form with `username` and `password`; no mail is sent, no captcha asked for. An address may ask for so many accounts as
/// the server's [`LoginLimiter`](crate::login::LoginLimiter) says: 10 an hour, whatever comes of them.
///
/// | case | answer |
/// |---|---|
/// | registered | 201 with the user, as [`UserPublic`] |
/// | a name or a password that cannot be | 400 with every reason at once: `{"error": "invalid_request", "reasons": [{"code": …, "message": …}, …]}` |
/// | the name is taken | 409 with the reason `username_taken` |
/// | too many from one address | 429 with `Retry-After` |
/// | overloaded, or a store is down | 503 |
///
/// ```
/// use std::sync::Arc;
/// use portcullis::{AuthorizationServer, endpoint::Registration, jwt::*, password::PasswordHasher, store::MemoryStore};
///
/// let key = SigningKey::generate(Algorithm::EdDsa)?;
/// let server = AuthorizationServer::builder("https://id.example", "orders", key)
///     .first_party_login(Arc::new(MemoryStore::new()), PasswordHasher::builder().build()?)
///     .registration(Registration::new().scopes(["me"]))
///     .build()?;
/// assert!(server.register_endpoint().is_some());
/// # Ok::<(), portcullis::config::ConfigErrors>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Registration {
    scopes: Vec<String>,
    hides_names: bool,
    /// What `scopes` are, once they have been checked.
    granted: ScopeSet,
}

/// Beside this wait, the time that a store takes to add a user does not show, nor the shorter one that it takes to find
/// them.
const HIDDEN_FOR: Duration = Duration::from_millis(250);

impl Registration {
    /// Open to everybody, who may then do nothing but sign in.
    pub fn new() -> Self {
        Self::default()
    }

    /// What new users may be granted: nothing unless set.
    pub fn scopes<S: Into<String>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.scopes = scopes.into_iter().map(Into::into).collect();
        self
    }

    /// Answers taken names like new ones: both get 202 with the same bytes, after the same hash, a quarter of a second
    /// later.
    ///
    /// Whoever then fails to sign in with the password that they chose has learnt all the same that the name was taken.
    /// It costs them a name, and leaves a `registration_refused` event; choose names that say nothing where that is too
    /// much.
    pub fn hide_existing_names(self) -> Self {
        Self { hides_names: true, ..self }
    }

    #[cfg(feature = "openapi")]
    pub(crate) const fn hides_names(&self) -> bool {
        self.hides_names
    }

    pub(crate) fn check(&mut self, errors: &mut ConfigErrors) {
        let scope = |name: &String| errors.keep(Scope::parse(name).map_err(|_| ConfigError::Scope(name.clone())));
        self.granted = self.scopes.iter().filter_map(scope).collect();
    }
}

/// Service for `POST /register`, a form with `username` and `password`, with the bounds of
/// [`OAuthEndpoint`](crate::endpoint::OAuthEndpoint)'s. See [`Registration`] for what it answers. Of requests for one name, however
/// many there are at once, one at the most is answered 201. One that is dropped has registered somebody, or nobody.
#[derive(Clone)]
pub struct RegisterEndpoint {
    issuer: Arc<Issuer>,
    answers: Answers,
}

impl RegisterEndpoint {
    pub(crate) const fn new(issuer: Arc<Issuer>, answers: Answers) -> Self {
        Self { issuer, answers }
    }
}

impl Issuer {
    async fn register(
        self: &Arc<Self>,
        form: &Form,
        address: Option<ClientIp>,
    ) -> Result<Response<Full<Bytes>>, NotForThem> {
        let (username, password) = (form.require("username")?, Secret::from(form.require("password")?));
        let (Some(login), Some(registration)) = (&self.login, &self.accounts.registration) else {
            return Err(failed("registration", &"is closed").into());
        };
        let name = LoginName::parse(username);
        let context = name.as_ref().map(PasswordContext::from).unwrap_or_default();
        match (name, self.accounts.policy.check(&password, &context)) {
            (Ok(name), Ok(())) => {
                let counted = match &self.limiter {
                    Some(limiter) => Some(limiter.begin_registration(address).await.map_err(NotForThem::Caller)?),
                    None => None,
                };
                let answer = self.begin_registration(login, registration, name, password).await;
                if let (Some(counted), Err(EndpointError::Unavailable { .. })) = (counted, &answer) {
                    counted.settle(LoginOutcome::NotTried).await;
                }
                Ok(answer?)
            }
            (name, refusals) => {
                audit::registration_refused("name or password");
                Ok(refused(name.err(), refusals.as_ref().err()))
            }
        }
    }

    /// Registers somebody whose name and password can be. All that costs more than a look at the form comes after this, and
    /// after the limit.
    async fn begin_registration(
        self: &Arc<Self>,
        login: &PasswordLogin,
        registration: &Registration,
        name: LoginName,
        password: Secret<String>,
    ) -> Answer {
        let down = |error: StoreError| failed("user store", &error);
        // Spares a hash, where there is nothing to hide.
        if !registration.hides_names && within(login.users.find_by_login(&name)).await.map_err(down)?.is_some() {
            audit::registration_refused("name taken");
            return Ok(taken());
        }
        if let Err(refusals) = self.accounts.compare(&password).await {
            let (reason, answer) = known(&refusals);
            audit::registration_refused(reason);
            return answer;
        }
        let hash = login.hasher.hash(password).await;
        let hash = hash.map_err(|error| hasher_failed(error, audit::registration_refused))?;
        let id = UserId::random().map_err(|error| failed("random source", &error))?;
        let scopes = registration.granted.clone();
        let user = UserRecord { id, login: name, password: hash, scopes, disabled: false };
        let public = user.public();
        let insert = insert(Arc::clone(&login.users), user);
        if registration.hides_names {
            let (inserted, ()) = future::join(insert, time::sleep(HIDDEN_FOR)).await;
            inserted.map_err(down)?;
            return Ok(private_json(StatusCode::ACCEPTED, r#"{"status":"accepted"}"#));
        }
        if insert.await.map_err(down)? { registered(&public) } else { Ok(taken()) }
    }
}

/// Adds a user, and tells; `false` if the name is taken. To its end: nobody is a user whom no event tells of.
async fn insert(users: Arc<dyn UserStore>, user: UserRecord) -> Result<bool, StoreError> {
    let insert = async move {
        let (id, subject) = (user.id.clone(), user.id.subject());
        match within(users.insert(user)).await {
            Ok(()) => {
                audit::user_registered(&subject);
                Ok(true)
            }
            Err(StoreError::Conflict) => {
                audit::registration_refused("name taken");
                Ok(false)
            }
            Err(error) => {
                later(see_registered(Arc::clone(&users), id));
                Err(error)
            }
        }
    };
    to_the_end(insert).await
}

/// Tells that somebody registered, should they be there.
async fn see_registered(users: Arc<dyn UserStore>, id: UserId) {
    let mut tries = Tries::of_a_minute();
    while tries.another().await {
        let Ok(found) = within(users.find_by_id(&id)).await else { continue };
        if found.is_some() {
            audit::user_registered(&id.subject());
        }
        return;
    }
}

impl<B> Service<Request<B>> for RegisterEndpoint
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (endpoint, method) = (self.clone(), request.method().clone());
        let (wire, address) = (Wire::of(request.headers()), ClientIp::of(request.extensions()));
        let answer = async move {
            let answer = match posted(request).await {
                Ok(form) => endpoint.issuer.register(&form, address).await,
                Err(error) => Err(error.into()),
            };
            endpoint.issuer.answer(answer, &endpoint.answers, audit::Who::default(), wire).await
        };
        answer.map(move |answer| Ok(for_method(&method, answer))).boxed()
    }
}

fn taken() -> Response<Full<Bytes>> {
    let reason = Reason::Name { code: "username_taken", message: "this name is taken".to_owned() };
    refusal(StatusCode::CONFLICT, "the name cannot be used", vec![reason])
}

fn registered(user: &UserPublic) -> Answer {
    let body = serde_json::to_vec(user).map_err(|error| failed("user", &error))?;
    Ok(private_json(StatusCode::CREATED, body))
}

impl fmt::Debug for RegisterEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegisterEndpoint").field("issuer", &self.issuer.name).finish_non_exhaustive()
    }
}
