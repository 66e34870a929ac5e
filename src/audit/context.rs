//! The request that is being worked on, for events that are told deep inside.
//!
//! It is not handed down: what decides takes a request, a token or a form, and need not know who watches. It is set for as long as
//! the request's future is polled, on the thread that polls it, and taken along by tasks that go on after it.

use std::{
    cell::RefCell,
    net::IpAddr,
    pin::Pin,
    task::{Context as Task, Poll},
};

use http::{HeaderName, HeaderValue, Method, Request, uri::PathAndQuery};
use pin_project_lite::pin_project;

use super::{
    event::{EventId, RequestFacts, Who, bounded},
    trail::AuditTrail,
};
use crate::client_ip::ClientIp;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id that is taken from a request.
const MOST_ID: usize = 64;

thread_local!(static CURRENT: RefCell<Option<Context>> = const { RefCell::new(None) });

/// What is known of a request, and what became of it so far. Made without an allocation.
#[derive(Clone, Debug)]
pub(super) struct Context {
    pub(super) trail: AuditTrail,
    method: Method,
    path: Option<PathAndQuery>,
    id: Option<HeaderValue>,
    made: Option<EventId>,
    address: Option<IpAddr>,
    /// Whether it is to be told, should it be let through.
    sampled: bool,
    /// Whether its caller is known.
    entered: bool,
    /// Who that is, if it may have to be told.
    caller: Option<Who>,
    refused: bool,
}

impl Context {
    pub(super) fn of<B>(trail: AuditTrail, request: &Request<B>) -> Self {
        Self {
            sampled: trail.samples(),
            trail,
            method: request.method().clone(),
            path: request.uri().path_and_query().cloned(),
            id: request.headers().get(X_REQUEST_ID).filter(|id| is_id(id.as_bytes())).cloned(),
            made: None,
            address: ClientIp::of(request.extensions()).map(|client| client.0),
            entered: false,
            caller: None,
            refused: false,
        }
    }

    pub(super) fn facts(&mut self) -> RequestFacts {
        let id = self.id.as_ref().and_then(|id| id.to_str().ok()).map(bounded);
        RequestFacts {
            id: id.unwrap_or_else(|| self.made.get_or_insert_with(EventId::next).to_string().into()),
            method: bounded(self.method.as_str()),
            path: bounded(self.path.as_ref().map_or("*", PathAndQuery::path)),
            client_ip: self.address,
        }
    }

    /// Who was let through, if that is to be told.
    pub(super) fn admitted(&mut self) -> Option<Who> {
        self.caller.take().filter(|_| !self.refused)
    }
}

fn is_id(text: &[u8]) -> bool {
    (1..=MOST_ID).contains(&text.len())
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(byte))
}

/// Runs `work` on behalf of the request in `slot`, which is back there when it ends, however it does.
pub(super) fn within<R>(slot: &mut Option<Context>, work: impl FnOnce() -> R) -> R {
    struct Back<'a>(&'a mut Option<Context>);
    impl Drop for Back<'_> {
        fn drop(&mut self) {
            swap(self.0);
        }
    }
    if slot.is_none() {
        return work();
    }
    swap(slot);
    let _back = Back(slot);
    work()
}

fn swap(slot: &mut Option<Context>) {
    // Gone, or in use, only where a thread ends or somebody tells while being told: nothing is known of the request then.
    let _ = CURRENT.try_with(|current| {
        if let Ok(mut current) = current.try_borrow_mut() {
            std::mem::swap(&mut *current, slot);
        }
    });
}

/// Calls `look` with the request that is being worked on, if one is known.
pub(super) fn current<R>(look: impl FnOnce(&mut Context) -> R) -> Option<R> {
    CURRENT.try_with(|current| current.try_borrow_mut().ok()?.as_mut().map(look)).ok().flatten()
}

/// Notes who is calling.
#[inline]
pub(crate) fn entered(who: impl FnOnce() -> Who) {
    current(|context| {
        context.entered = true;
        if context.sampled {
            context.caller = Some(who());
        }
    });
}

/// Notes that the request is refused.
pub(super) fn refused() {
    current(|context| context.refused = true);
}

/// A future that goes on in a task of its own, and takes along on whose behalf.
pub(crate) fn carried<F: Future>(inner: F) -> Carried<F> {
    Carried { inner, context: current(|context| context.clone()) }
}

pin_project! {
    /// From [`carried`].
    #[derive(Debug)]
    pub(crate) struct Carried<F> {
        #[pin]
        inner: F,
        context: Option<Context>,
    }
}

impl<F: Future> Future for Carried<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<F::Output> {
        let this = self.project();
        within(this.context, || this.inner.poll(task))
    }
}
