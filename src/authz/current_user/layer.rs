//! The gate: a caller in, and on with the user if they may still act.

use std::sync::Arc;

use futures::FutureExt as _;
use http::Request;
use tower_layer::Layer;

use super::{CurrentUser, CurrentUsers};
use crate::{
    gate::{Asks, Gated, Sight, sealed::Sealed},
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
    gate: Arc<UserGate>,
}

/// Whose users, and how it answers: the gate of [`LoadCurrentUser`].
#[derive(Clone, Debug)]
pub struct UserGate {
    users: CurrentUsers,
    /// As the caller is answered further out, unless set.
    answers: Option<Answers>,
}

impl CurrentUserLayer {
    pub(super) fn new(users: CurrentUsers) -> Self {
        Self { gate: Arc::new(UserGate { users, answers: None }) }
    }

    #[cfg(all(feature = "openapi", feature = "password"))]
    pub(crate) fn of(gate: &UserGate) -> Self {
        Self { gate: Arc::new(gate.clone()) }
    }

    #[cfg(feature = "password")]
    pub(crate) fn gate(&self) -> UserGate {
        UserGate::clone(&self.gate)
    }

    /// Sets the realm of the challenges: that of the layer which let the caller in, unless set.
    pub fn answers(self, answers: Answers) -> Self {
        Self { gate: Arc::new(UserGate { users: self.gate.users.clone(), answers: Some(answers) }) }
    }
}

impl Sealed for UserGate {}

impl Asks for UserGate {
    type Answer = Result<CurrentUser, Rejection>;

    #[inline]
    fn look<B>(&self, request: &mut Request<B>) -> Sight<Self::Answer> {
        let Some(caller) = request.extensions().get::<Principal>() else {
            return self.settle(request, Err(Rejection::PolicyDenied));
        };
        match self.users.recall(caller) {
            Some(known) => self.settle(request, known),
            None => Sight::Ask(self.users.clone().read(caller.clone()).boxed()),
        }
    }

    fn settle<B>(&self, request: &mut Request<B>, user: Self::Answer) -> Sight<Self::Answer> {
        match user {
            Ok(user) => drop(request.extensions_mut().insert(user)),
            Err(rejection) => {
                let rejection = principal::reason(request.extensions(), rejection);
                return Sight::Refuse(principal::refuse(request, self.answers.as_ref(), rejection, None).into());
            }
        }
        Sight::Pass
    }
}

impl<S> Layer<S> for CurrentUserLayer {
    type Service = LoadCurrentUser<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Gated::new(inner, Arc::clone(&self.gate))
    }
}

/// Middleware from [`CurrentUserLayer`].
pub type LoadCurrentUser<S> = Gated<S, UserGate>;
