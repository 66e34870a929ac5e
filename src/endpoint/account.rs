//! `POST /register` and `POST /password`: somebody who becomes a user, and a user who chooses another password.

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
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::Full;
use serde::Serialize;
use tokio::time;
use tower_service::Service;

use super::{
    ending::{NotChanged, to_the_end},
    error::EndpointError,
    issuer::{Issuer, failed},
    private, private_json, told,
};
use crate::{
    audit,
    client_ip::ClientIp,
    config::{ConfigError, ConfigErrors},
    form::Form,
    ident::{LoginName, LoginNameError, SessionId, UserId},
    jwt::{NoClaims, Verified},
    login::{self, LoginAttempt, LoginOutcome},
    password::{
        Breaches, HashError, Lane, Outcome, PasswordContext, PasswordLogin, PasswordPolicy, PasswordRefusal,
        PasswordRefusals,
    },
    rejection::{Answers, Rejection, Wire},
    scope::{Scope, ScopeSet},
    secret::Secret,
    store::{StoreError, UserPublic, UserRecord, active_user, within},
};

type Answer = Result<Response<Full<Bytes>>, EndpointError>;

/// How new users and new passwords are dealt with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accounts {
    pub(crate) policy: PasswordPolicy,
    pub(crate) breaches: Option<Breaches>,
    /// `None` if nobody may register.
    pub(crate) registration: Option<Registration>,
}

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

    pub(crate) fn check(&mut self, errors: &mut ConfigErrors) {
        let scope = |name: &String| errors.keep(Scope::parse(name).map_err(|_| ConfigError::Scope(name.clone())));
        self.granted = self.scopes.iter().filter_map(scope).collect();
    }
}

impl Accounts {
    /// Whether somebody may choose this password, the list of known ones included.
    pub(crate) async fn check(&self, name: &LoginName, password: &Secret<String>) -> Result<(), PasswordRefusals> {
        self.policy.check(password, &PasswordContext::from(name))?;
        self.compare(password).await
    }

    async fn compare(&self, password: &Secret<String>) -> Result<(), PasswordRefusals> {
        match &self.breaches {
            Some(breaches) => breaches.reason(password).await.map_or(Ok(()), |reason| Err(reason.into())),
            None => Ok(()),
        }
    }
}

/// Service for `POST /register`, a form with `username` and `password`, with the bounds of
/// [`OAuthEndpoint`](super::OAuthEndpoint)'s. See [`Registration`] for what it answers. Of requests for one name, however
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

/// Service for `POST /password`, behind a layer that verifies the user's token: a form with `current_password` and
/// `new_password`, with the bounds of [`OAuthEndpoint`](super::OAuthEndpoint)'s.
///
/// | case | answer |
/// |---|---|
/// | changed | 204: all other sessions are over; the one of the token goes on, if it has one |
/// | a new password that cannot be | 400 `invalid_request` with every reason at once, before the current one is looked at |
/// | another current password | 400 `invalid_grant` |
/// | too many of them, by this session | 429 with `Retry-After`: whoever has stolen a token cannot go on guessing |
/// | a user who is disabled or gone | 401 `invalid_token` |
/// | another issuer's token, or a client's own | 403 |
/// | overloaded, or a store is down | 503 |
///
/// It is done to its end even if the client hangs up, so that no guess at the current password goes unseen.
#[derive(Clone)]
pub struct PasswordEndpoint {
    issuer: Arc<Issuer>,
    answers: Answers,
}

impl PasswordEndpoint {
    pub(crate) const fn new(issuer: Arc<Issuer>, answers: Answers) -> Self {
        Self { issuer, answers }
    }
}

/// Why something is not done: because of the request, or because of who asks.
enum NotForThem {
    Request(EndpointError),
    Caller(Rejection),
}

impl<E: Into<EndpointError>> From<E> for NotForThem {
    fn from(error: E) -> Self {
        Self::Request(error.into())
    }
}

/// The form of a `POST`.
async fn posted<B>(request: Request<B>) -> Result<Form, EndpointError>
where
    B: Body + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (parts, body) = request.into_parts();
    if parts.method != Method::POST {
        return Err(EndpointError::MethodNotAllowed { allow: "POST" });
    }
    Ok(Form::read(&parts.headers, body).await?)
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
        let hash = login.hasher.hash(password).await.map_err(|error| {
            audit::registration_refused("password could not be hashed");
            hasher_failed(error)
        })?;
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

    /// Changes the password of a user who knows their current one.
    async fn change_password(
        self: &Arc<Self>,
        user: &UserRecord,
        current: Secret<String>,
        new: Secret<String>,
        except: Option<SessionId>,
    ) -> Result<Response<Full<Bytes>>, NotForThem> {
        let Some(login) = &self.login else { return Err(failed("password", &"there are no users").into()) };
        let refuse = |reason| audit::password_change_refused(&user.id.subject(), reason);
        // A guess here is a guess at a login, and is counted, told and answered as one.
        let by = except.map_or_else(|| user.id.subject(), |session| session.to_string());
        let counted = match &self.limiter {
            Some(limiter) => Some(limiter.begin_again(&user.login, &by).await.map_err(NotForThem::Caller)?),
            None => None,
        };
        // They are signed in already, and no strangers; but not more often than a known device.
        let first = counted.as_ref().is_some_and(LoginAttempt::goes_first);
        let lane = if first { Lane::Known } else { Lane::Stranger };
        let (outcome, checked) = match login.sign_in(user.login.as_str(), current, lane, false).await {
            Outcome::SignedIn(checked) if checked.user.id == user.id => (LoginOutcome::Succeeded, Ok(checked)),
            Outcome::SignedIn(_) | Outcome::Refused => {
                refuse("wrong password");
                (LoginOutcome::Failed, Err(EndpointError::InvalidGrant))
            }
            Outcome::Unavailable { retry_after } => {
                (LoginOutcome::NotTried, Err(EndpointError::Unavailable { retry_after }))
            }
        };
        if let Some(counted) = counted {
            counted.settle(outcome).await;
        }
        let checked = checked?;
        if let Err(refusals) = self.accounts.compare(&new).await {
            let (reason, answer) = known(&refusals);
            refuse(reason);
            return Ok(answer?);
        }
        match self.replace_password(&user.id, Some(&checked), (new, lane), except).await {
            Ok(true) => Ok(private(StatusCode::NO_CONTENT, Bytes::new())),
            Ok(false) => {
                refuse("user changed meanwhile");
                Err(EndpointError::InvalidGrant.into())
            }
            Err(NotChanged::Hash(error)) => {
                refuse("password could not be hashed");
                Err(hasher_failed(error).into())
            }
            Err(NotChanged::Store(error)) => Err(failed("store", &error).into()),
        }
    }
}

impl Issuer {
    /// The answer, or the refusal in the words of whoever refuses.
    async fn answer(
        &self,
        answer: Result<Response<Full<Bytes>>, NotForThem>,
        answers: &Answers,
        wire: Wire,
    ) -> Response<Full<Bytes>> {
        match answer {
            Ok(response) => response,
            Err(NotForThem::Request(error)) => told(Err(error)),
            Err(NotForThem::Caller(rejection)) => {
                login::refuse(self.limiter.as_ref(), answers, rejection, wire).await.map(Full::new)
            }
        }
    }
}

/// Adds a user, and tells; `false` if the name is taken. To its end: nobody is a user whom no event tells of.
async fn insert(users: Arc<dyn crate::store::UserStore>, user: UserRecord) -> Result<bool, StoreError> {
    let insert = async move {
        let subject = user.id.subject();
        match within(users.insert(user)).await {
            Ok(()) => {
                audit::user_registered(&subject);
                Ok(true)
            }
            Err(StoreError::Conflict) => {
                audit::registration_refused("name taken");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    };
    to_the_end(insert).await
}

impl PasswordEndpoint {
    async fn answer<B>(&self, caller: &Verified, request: Request<B>) -> Result<Response<Full<Bytes>>, NotForThem>
    where
        B: Body + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let form = posted(request).await?;
        let (current, new) = (form.require("current_password")?, form.require("new_password")?);
        let (current, new) = (Secret::from(current), Secret::from(new));
        let principal = caller.principal();
        let login = self.issuer.login.as_ref().ok_or(NotForThem::Caller(Rejection::UserInactive))?;
        let user = active_user(&*login.users, &self.issuer.name, &principal).await.map_err(NotForThem::Caller)?;
        // Before the current one is looked at: that costs no hash, and tells nothing of it.
        let verdict = self.issuer.accounts.policy.check_change(&current, &new, &PasswordContext::from(&user.login));
        if let Err(refusals) = verdict {
            audit::password_change_refused(&user.id.subject(), "new password");
            return Ok(refused(None, Some(&refusals)));
        }
        let (issuer, session) = (Arc::clone(&self.issuer), principal.session_id().and_then(SessionId::parse));
        let change = async move { Ok(issuer.change_password(&user, current, new, session).await) };
        to_the_end(change).await.unwrap_or_else(|error: StoreError| Err(failed("password", &error).into()))
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
        let endpoint = self.clone();
        let (wire, address) = (Wire::of(request.headers()), ClientIp::of(request.extensions()));
        let answer = async move {
            let answer = match posted(request).await {
                Ok(form) => endpoint.issuer.register(&form, address).await,
                Err(error) => Err(error.into()),
            };
            endpoint.issuer.answer(answer, &endpoint.answers, wire).await
        };
        answer.map(Ok).boxed()
    }
}

impl<B> Service<Request<B>> for PasswordEndpoint
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
        let endpoint = self.clone();
        let wire = Wire::of(request.headers());
        let caller = Verified::<NoClaims>::of(request.extensions());
        let answer = async move {
            let refuse = |rejection| endpoint.answers.refuse(rejection, None, wire).map(Full::new);
            let Some(caller) = caller else { return refuse(Rejection::LayerMissing("JwtVerifyLayer")) };
            let user = caller.issuer() == endpoint.issuer.name && UserId::from_subject(caller.subject()).is_some();
            if !user {
                return refuse(Rejection::ClaimNotAllowed);
            }
            let answer = endpoint.answer(&caller, request).await;
            endpoint.issuer.answer(answer, &endpoint.answers, wire).await
        };
        answer.map(Ok).boxed()
    }
}

/// What a list said against a password. One that had to answer and did not is an outage, and makes no password a bad one.
fn known(refusals: &PasswordRefusals) -> (&'static str, Answer) {
    if refusals.iter().any(|reason| reason == PasswordRefusal::NotCompared) {
        let retry_after = crate::rejection::RETRY_SECONDS;
        ("password could not be compared", Err(EndpointError::Unavailable { retry_after }))
    } else {
        ("password known", Ok(refused(None, Some(refusals))))
    }
}

fn hasher_failed(error: HashError) -> EndpointError {
    match error {
        // As after a login: a queue of 64 is worked off in about a second.
        HashError::Overloaded => EndpointError::Unavailable { retry_after: 1 },
        _ => failed("password hasher", &error),
    }
}

/// A refusal that says all that is wrong. Its texts are ours.
#[derive(Serialize)]
struct Refusal {
    error: &'static str,
    error_description: &'static str,
    reasons: Vec<Reason>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Reason {
    Password(PasswordRefusal),
    Name { code: &'static str, message: String },
}

fn refusal(status: StatusCode, error_description: &'static str, reasons: Vec<Reason>) -> Response<Full<Bytes>> {
    let body = serde_json::to_vec(&Refusal { error: "invalid_request", error_description, reasons });
    match body {
        Ok(body) => private_json(status, body),
        Err(error) => failed("refusal", &error).response(),
    }
}

fn refused(name: Option<LoginNameError>, password: Option<&PasswordRefusals>) -> Response<Full<Bytes>> {
    let name = name.map(|error| Reason::Name { code: error.code(), message: error.to_string() });
    let password = password.into_iter().flat_map(PasswordRefusals::iter).map(Reason::Password);
    let reasons = name.into_iter().chain(password).collect();
    refusal(StatusCode::BAD_REQUEST, "the name or the password cannot be used", reasons)
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

impl fmt::Debug for PasswordEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordEndpoint").field("issuer", &self.issuer.name).finish_non_exhaustive()
    }
}
