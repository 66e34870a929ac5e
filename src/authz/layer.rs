//! The gate: a caller in, and on if the policy allows.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use tower_layer::Layer;
use tracing::{Instrument as _, Span};

use super::{
    decision::{Decision, Denial},
    policy::{Access, Outcome, Policy},
    scopes::Scopes,
};
use crate::{
    audit,
    clock::{Clock, SystemClock},
    config::ConfigErrors,
    gate::{Asks, Gated, Sight, sealed::Sealed},
    principal::{self, Principal},
    rejection::{Answers, Needs, Rejection},
    scope::ScopeSet,
    stripe::{Apart, Striped},
};

/// How long a policy that asks may take, unless the layer says otherwise.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Layer that applies [`Authorize`]; the [module docs](crate::authz) have an example.
#[must_use]
pub struct AuthorizeLayer<P> {
    gate: Arc<PolicyGate<P>>,
}

/// Layer that demands scopes: [`AuthorizeLayer`] with [`Scopes`].
pub type RequireScopesLayer = AuthorizeLayer<Scopes>;

/// Middleware that demands scopes: from [`RequireScopesLayer`].
pub type RequireScopes<S> = Authorize<S, Scopes>;

/// What decides, and how it answers: the gate of [`Authorize`].
pub struct PolicyGate<P> {
    policy: Arc<P>,
    settings: Settings,
}

#[derive(Clone)]
struct Settings {
    /// What is demanded, for callers to take along; each core counts its own references.
    demands: Option<Arc<Striped<Arc<Apart<ScopeSet>>>>>,
    clock: Arc<dyn Clock>,
    /// As the caller is answered further out, unless set.
    answers: Option<Answers>,
    patience: Duration,
}

impl RequireScopesLayer {
    /// Demands every one of `scopes`.
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`] that name each text that is no scope, or say that there is none.
    pub fn all_of<S: AsRef<str>>(scopes: impl IntoIterator<Item = S>) -> Result<Self, ConfigErrors> {
        Scopes::all_of(scopes).map(Self::new)
    }

    /// Demands at least one of `scopes`. The challenge names them all.
    ///
    /// # Errors
    ///
    /// As [`all_of`](Self::all_of).
    pub fn any_of<S: AsRef<str>>(scopes: impl IntoIterator<Item = S>) -> Result<Self, ConfigErrors> {
        Scopes::any_of(scopes).map(Self::new)
    }
}

impl<P: Policy> AuthorizeLayer<P> {
    /// A layer that lets pass whom `policy` allows.
    pub fn new(policy: P) -> Self {
        let scopes = Some(policy.scopes()).filter(|scopes| !scopes.is_empty());
        let striped = |scopes: ScopeSet| Arc::new(Striped::new(|| Arc::new(Apart(scopes.clone()))));
        let clock = Arc::new(SystemClock);
        let settings = Settings { demands: scopes.map(striped), clock, answers: None, patience: PATIENCE };
        Self { gate: Arc::new(PolicyGate { policy: Arc::new(policy), settings }) }
    }
}

impl<P> AuthorizeLayer<P> {
    fn with(self, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = self.gate.settings.clone();
        change(&mut settings);
        Self { gate: Arc::new(PolicyGate { policy: Arc::clone(&self.gate.policy), settings }) }
    }

    #[cfg(feature = "openapi")]
    pub(crate) fn of(gate: &Arc<PolicyGate<P>>) -> Self {
        Self { gate: Arc::clone(gate) }
    }

    pub(crate) fn gate(&self) -> Arc<PolicyGate<P>> {
        Arc::clone(&self.gate)
    }

    /// The policy.
    pub fn policy(&self) -> &P {
        &self.gate.policy
    }

    /// Sets the realm of the challenges: that of the layer which let the caller in, unless set.
    pub fn answers(self, answers: Answers) -> Self {
        self.with(|settings| settings.answers = Some(answers))
    }

    /// Sets where the time is read: the system's clock unless set.
    pub fn clock(self, clock: Arc<dyn Clock>) -> Self {
        self.with(|settings| settings.clock = clock)
    }

    /// Sets how long a policy that asks may take before nobody knows: 1.5 seconds unless set. Needs a Tokio runtime with its
    /// timer enabled.
    pub fn patience(self, patience: Duration) -> Self {
        self.with(|settings| settings.patience = patience)
    }
}

impl<P: Policy> PolicyGate<P> {
    /// What the policy says, and what is said of that at debug.
    #[cold]
    fn decide_in_span(&self, access: &Access<'_>) -> Outcome {
        let who = access.caller().who();
        let span =
            audit::decision!("authorize", subject = who.subject.as_deref(), client_id = who.client_id.as_deref());
        match span.in_scope(|| self.policy.decide(access)) {
            Outcome::Now(decision) => {
                decision.note(&span);
                Outcome::Now(decision)
            }
            Outcome::Later(asks) => {
                let noted = span.clone();
                let asks = asks.instrument(span);
                Outcome::Later(Box::pin(async move {
                    let decision = asks.await;
                    decision.note(&noted);
                    decision
                }))
            }
        }
    }
}

impl Decision {
    fn note(&self, span: &Span) {
        let (outcome, reason) = match self {
            Self::Allow => ("ok", None),
            Self::Deny(Denial::Scope(_)) => ("refused", Some("insufficient_scope")),
            Self::Deny(Denial::Authentication(_)) => ("refused", Some("insufficient_authentication")),
            Self::Deny(Denial::UserInactive) => ("refused", Some("user_inactive")),
            Self::Deny(Denial::Forbidden) => ("refused", Some("policy_denied")),
            Self::Undecided(_) => ("refused", Some("policy_undecided")),
        };
        audit::decided(span, outcome, reason);
    }
}

impl<P> Sealed for PolicyGate<P> {}

impl<P: Policy> Asks for PolicyGate<P> {
    type Answer = Decision;

    #[inline]
    fn look<B>(&self, request: &mut Request<B>) -> Sight<Decision> {
        let Some(access) = Access::of(request, self.settings.clock.now()) else {
            // Without a caller there is nothing to decide, and nobody is allowed in.
            let denied = Decision::Deny(Denial::Forbidden);
            return Sight::Refuse(refuse(request, self.settings.answers.as_ref(), &denied).into());
        };
        let outcome = if audit::is_heard() { self.decide_in_span(&access) } else { self.policy.decide(&access) };
        match outcome {
            Outcome::Now(decision) => self.settle(request, decision),
            Outcome::Later(asks) => {
                let patience = self.settings.patience;
                // The timer is made where it is polled, which is inside a runtime.
                Sight::Ask(Box::pin(async move {
                    tokio::time::timeout(patience, asks).await.unwrap_or(Decision::Undecided("no answer in time"))
                }))
            }
        }
    }

    #[inline]
    fn settle<B>(&self, request: &mut Request<B>, decision: Decision) -> Sight<Decision> {
        match request.extensions_mut().get_mut::<Principal>().filter(|_| decision.is_allowed()) {
            Some(caller) => caller.decide(self.settings.demands.as_ref().map(|demands| demands.own())),
            None => return Sight::Refuse(refuse(request, self.settings.answers.as_ref(), &decision).into()),
        }
        Sight::Pass
    }
}

/// Answers a request whose caller `decision` does not allow in.
fn refuse<B>(request: &Request<B>, answers: Option<&Answers>, decision: &Decision) -> Response<Bytes> {
    let refuse = |rejection, needs: Option<Needs<'_>>| {
        principal::refuse(request, answers, principal::reason(request.extensions(), rejection), needs)
    };
    match decision {
        Decision::Deny(Denial::Scope(scopes)) => {
            let all = request.extensions().get::<Principal>().map(|caller| caller.demanded_with(scopes));
            refuse(Rejection::InsufficientScope, all.as_ref().map(Needs::Scopes))
        }
        Decision::Deny(Denial::Authentication(step_up)) => {
            refuse(Rejection::InsufficientAuthentication, Some(step_up.needs()))
        }
        Decision::Deny(Denial::UserInactive) => refuse(Rejection::UserInactive, None),
        Decision::Undecided(what) => refuse(Rejection::PolicyUndecided(what), None),
        Decision::Deny(Denial::Forbidden) | Decision::Allow => refuse(Rejection::PolicyDenied, None),
    }
}

impl<P> Clone for AuthorizeLayer<P> {
    fn clone(&self) -> Self {
        Self { gate: Arc::clone(&self.gate) }
    }
}

impl<P: fmt::Debug> fmt::Debug for AuthorizeLayer<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizeLayer").field("policy", &self.gate.policy).finish_non_exhaustive()
    }
}

impl<P: fmt::Debug> fmt::Debug for PolicyGate<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicyGate").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl<S, P> Layer<S> for AuthorizeLayer<P> {
    type Service = Authorize<S, P>;

    fn layer(&self, inner: S) -> Self::Service {
        Gated::new(inner, self.gate())
    }
}

/// Middleware that lets pass whom a policy allows; the [module docs](crate::authz) have an example.
pub type Authorize<S, P> = Gated<S, PolicyGate<P>>;
