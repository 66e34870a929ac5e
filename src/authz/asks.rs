//! Policies that ask somebody before they decide.

use std::{fmt, future::Future};

use http::{Method, Uri};
use tower_service::Service;

use super::{
    decision::Decision,
    policy::{Access, Outcome, Policy},
};
use crate::{audit, principal::Principal};

/// A policy that asks: a function to a future of [`Decision`] or `bool`, which takes along what it needs of the request. The
/// function is called for each request; the future is left alone where others have settled it.
///
/// ```
/// use portcullis::{authz::{Access, AuthorizeLayer, Decision, async_policy_fn}, ident::UserId};
///
/// async fn owns(user: Option<UserId>, path: String) -> Result<bool, std::io::Error> {
/// #    Ok(true)
///     // …a look into the program's own tables
/// }
///
/// let layer = AuthorizeLayer::new(async_policy_fn(|access: &Access<'_>| {
///     let owns = owns(access.caller().user_id("https://id.example"), access.uri().path().to_owned());
///     async { owns.await.map_or(Decision::Undecided("tables"), Decision::from) }
/// }));
/// ```
pub const fn async_policy_fn<F, R>(decide: F) -> AsyncPolicyFn<F>
where
    F: Fn(&Access<'_>) -> R + Send + Sync + 'static,
    R: Future<Output: Into<Decision>> + Send + 'static,
{
    AsyncPolicyFn(decide)
}

/// From [`async_policy_fn`].
#[derive(Clone, Copy)]
pub struct AsyncPolicyFn<F>(F);

impl<F, R> Policy for AsyncPolicyFn<F>
where
    F: Fn(&Access<'_>) -> R + Send + Sync + 'static,
    R: Future<Output: Into<Decision>> + Send + 'static,
{
    fn decide(&self, access: &Access<'_>) -> Outcome {
        let decision = (self.0)(access);
        Outcome::Later(Box::pin(async { decision.await.into() }))
    }
}

/// What a [`ServicePolicy`] asks its service.
#[derive(Clone)]
#[non_exhaustive]
pub struct Question {
    /// Who is calling.
    pub caller: Principal,
    /// What for.
    pub method: Method,
    /// Of what.
    pub uri: Uri,
}

// Without the query, which may hold secrets.
impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self { caller, method, .. }, path) = (self, self.uri.path());
        f.debug_struct("Question").field("caller", caller).field("method", method).field("path", &path).finish()
    }
}

/// A policy behind a [`Service`] of its own, with whatever layers that has: limits, time-outs, a remote decision point.
///
/// An error of the service is [`Undecided`](Decision::Undecided), and told in the log.
///
/// ```
/// use portcullis::authz::{AuthorizeLayer, Decision, Question, ServicePolicy};
/// use tower::{BoxError, service_fn};
///
/// let directory = service_fn(|question: Question| async move {
///     Ok::<_, BoxError>(Decision::from(question.caller.user_id("https://id.example").is_some()))
/// });
/// let layer = AuthorizeLayer::new(ServicePolicy::new(directory));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ServicePolicy<S>(S);

impl<S> ServicePolicy<S> {
    /// Asks a clone of `service` for each request.
    pub const fn new(service: S) -> Self {
        Self(service)
    }
}

impl<S> Policy for ServicePolicy<S>
where
    S: Service<Question, Response = Decision> + Clone + Send + Sync + 'static,
    S::Error: fmt::Display + Send,
    S::Future: Send,
{
    fn decide(&self, access: &Access<'_>) -> Outcome {
        let mut service = self.0.clone();
        let (caller, method, uri) = (access.caller().clone(), access.method().clone(), access.uri().clone());
        let question = Question { caller, method, uri };
        Outcome::Later(Box::pin(async move {
            let decision = match std::future::poll_fn(|cx| service.poll_ready(cx)).await {
                Ok(()) => service.call(question).await,
                Err(error) => Err(error),
            };
            decision.unwrap_or_else(|error| {
                audit::infrastructure_failed("policy service", &error);
                Decision::Undecided("policy service")
            })
        }))
    }
}

impl<F> fmt::Debug for AsyncPolicyFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AsyncPolicyFn")
    }
}
