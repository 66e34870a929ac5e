//! `POST /password`: a user who chooses another password.

use std::{
    convert::Infallible,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::Full;
use tower_service::Service;

use super::{NotForThem, for_method, hasher_failed, known, posted, refused};
use crate::{
    audit,
    endpoint::{
        ending::NotChanged,
        error::EndpointError,
        issuer::{Issuer, failed, to_the_end},
        private,
    },
    ident::{SessionId, UserId},
    jwt::{NoClaims, Verified},
    login::{LoginAttempt, LoginOutcome},
    password::{Lane, Outcome, PasswordContext},
    rejection::{Answers, Rejection, Wire},
    secret::Secret,
    store::{StoreError, UserRecord, active_user},
};

/// Service for `POST /password`, behind a layer that verifies the user's token: a form with `current_password` and
/// `new_password`, with the bounds of [`OAuthEndpoint`](crate::endpoint::OAuthEndpoint)'s.
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

impl Issuer {
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
            wrong @ (Outcome::SignedIn(_) | Outcome::Refused(_)) => {
                let reason = if let Outcome::Refused(refused) = wrong { refused.reason } else { None };
                refuse(reason.unwrap_or("user changed meanwhile"));
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
            Err(NotChanged::Hash(error)) => Err(hasher_failed(error, refuse).into()),
            Err(NotChanged::Store(error)) => Err(failed("store", &error).into()),
        }
    }
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
        let (endpoint, method) = (self.clone(), request.method().clone());
        let wire = Wire::of(request.headers());
        let caller = Verified::<NoClaims>::of(request.extensions());
        let answer = async move {
            let who = caller.as_ref().map(|caller| caller.principal().who()).unwrap_or_default();
            let refuse = |rejection| endpoint.answers.refuse_caller(who.clone(), rejection, None, wire).map(Full::new);
            let Some(caller) = caller else { return refuse(Rejection::LayerMissing("JwtVerifyLayer")) };
            let user = caller.issuer() == endpoint.issuer.name && UserId::from_subject(caller.subject()).is_some();
            if !user {
                return refuse(Rejection::ClaimNotAllowed);
            }
            let answer = endpoint.answer(&caller, request).await;
            endpoint.issuer.answer(answer, &endpoint.answers, who, wire).await
        };
        answer.map(move |answer| Ok(for_method(&method, answer))).boxed()
    }
}

impl fmt::Debug for PasswordEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordEndpoint").field("issuer", &self.issuer.name).finish_non_exhaustive()
    }
}
