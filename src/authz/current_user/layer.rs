//! The gate: a caller in, and on with the user if they may still act.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::FutureExt as _;
use http::{Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use super::{CurrentUser, CurrentUsers};
use crate::{
    gate::{AskFuture, Asks, GateBody, Sight, sealed::Sealed},
    principal::{self, Principal},
    rejection::{Answers, Rejection},
};

/// Layer that refuses callers who are disabled or gone, 401 `invalid_token`, and leaves the [`CurrentUser`] with the others. If the
/// store cannot tell, 503. From [`CurrentUsers::layer`], or
/// [`AuthorizationServer::current_user`](crate::AuthorizationServer::current_user).
///
/// Sits inside the layer that verifies. It decides nothing else: it goes outside the
/// [`AuthorizeLayer`](super::super::AuthorizeLayer).
#[derive(Clone, Debug)]
#[must_use]
pub struct CurrentUserLayer {
    gate: Arc<Gate>,
}

/// Whose users, and how it answers.
#[derive(Clone, Debug)]
pub struct Gate {
    users: CurrentUsers,
    /// As the caller is answered further out, unless set.
    answers: Option<Answers>,
}

impl CurrentUserLayer {
    pub(super) fn new(users: CurrentUsers) -> Self {
        Self { gate: Arc::new(Gate { users, answers: None }) }
    }

    /// Sets the realm of the challenges: that of the layer which let the caller in, unless set.
    pub fn answers(self, answers: Answers) -> Self {
        Self { gate: Arc::new(Gate { users: self.gate.users.clone(), answers: Some(answers) }) }
    }
}

impl Gate {
    fn look<B>(&self, request: &mut Request<B>) -> Sight<Result<CurrentUser, Rejection>> {
        let Some(caller) = request.extensions().get::<Principal>() else {
            return self.settle(request, Err(Rejection::PolicyDenied)).into();
        };
        match self.users.recall(caller) {
            Some(known) => self.settle(request, known).into(),
            None => Sight::Ask(self.users.clone().read(caller.clone()).boxed()),
        }
    }
}

impl Sealed for Gate {}

impl Asks for Gate {
    type Answer = Result<CurrentUser, Rejection>;

    fn settle<B>(&self, request: &mut Request<B>, user: Self::Answer) -> Result<(), Box<Response<Bytes>>> {
        match user {
            Ok(user) => drop(request.extensions_mut().insert(user)),
            Err(rejection) => {
                let rejection = principal::reason(request.extensions(), rejection);
                return Err(principal::refuse(request, self.answers.as_ref(), rejection, None).into());
            }
        }
        Ok(())
    }
}

impl<S> Layer<S> for CurrentUserLayer {
    type Service = LoadCurrentUser<S>;

    fn layer(&self, inner: S) -> Self::Service {
        LoadCurrentUser { inner, gate: Arc::clone(&self.gate) }
    }
}

/// Middleware from [`CurrentUserLayer`].
#[derive(Clone, Debug)]
pub struct LoadCurrentUser<S> {
    inner: S,
    /// Shared, because some servers clone their services for each request.
    gate: Arc<Gate>,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for LoadCurrentUser<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
{
    type Response = Response<GateBody<ResBody>>;
    type Error = S::Error;
    type Future = AskFuture<S, Gate, ReqBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let sight = self.gate.look(&mut request);
        AskFuture::new(sight, &mut self.inner, &self.gate, request)
    }
}
