//! The request that is being worked on, for events that are told deep inside.
//!
//! It is not handed down: what decides takes a request, a token or a form, and need not know who watches. It is set for as long as
//! the request's future is polled, on the thread that polls it, and taken along by tasks that go on after it.

use std::{
    cell::{Cell, RefCell},
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context as Task, Poll},
};

use http::{HeaderName, HeaderValue, Method, Request, StatusCode, uri::PathAndQuery};
use pin_project_lite::pin_project;
use tracing::{Instrument as _, instrument::Instrumented};

use super::{
    event::{Event, EventId, RequestFacts, Who, bounded},
    kind::Kind,
    trail::AuditTrail,
};
use crate::client_ip::ClientIp;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id that is taken from a request.
const MOST_ID: usize = 64;
/// Events that wait for the answer to a request. Those of one request are few.
const MOST_HELD: usize = 32;

/// Boxes that each thread keeps for requests to come.
const MOST_SPARE: usize = 64;

thread_local! {
    static CURRENT: Cell<Option<Boxed>> = const { Cell::new(None) };
    static SPARE: RefCell<Vec<Boxed>> = const { RefCell::new(Vec::new()) };
}

/// A context in a box, because it goes to and fro for each poll. Boxes are used again: a request costs no allocation for its own as
/// long as there is one to spare. Full until [`spare`] takes it back.
#[derive(Debug)]
pub(super) struct Boxed(Box<Option<Context>>);

impl Boxed {
    /// For this request.
    #[inline]
    pub(super) fn of<B>(trail: AuditTrail, request: &Request<B>) -> Self {
        let spare = SPARE.try_with(|spare| spare.try_borrow_mut().ok()?.pop()).ok().flatten();
        let mut boxed = spare.unwrap_or_else(|| Self(Box::new(None)));
        *boxed.0 = Some(Context::of(trail, request));
        boxed
    }

    pub(super) fn get(&mut self) -> Option<&mut Context> {
        (*self.0).as_mut()
    }
}

/// Takes a box back, whose request is over.
pub(super) fn spare(mut boxed: Boxed) {
    *boxed.0 = None;
    let _ = SPARE.try_with(|spare| {
        if let Ok(mut spare) = spare.try_borrow_mut()
            && spare.len() < MOST_SPARE
        {
            spare.push(boxed);
        }
    });
}

/// What is known of a request, and what became of it so far.
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
    caller: Option<Box<Who>>,
    /// Whether nobody has let it through: it was refused, or it is still being asked whether it may.
    kept_out: bool,
    /// What waits for the answer. Made for the first event, or where a task goes on elsewhere.
    held: Option<Arc<Mutex<Held>>>,
}

/// Events of a request, which tell the status of its answer as well, and so are told with it.
#[derive(Debug)]
enum Held {
    /// There is no answer yet.
    Open(Vec<Event>),
    /// Nothing waits any more: there was this answer, or none will come.
    Done(Option<StatusCode>),
}

impl Default for Held {
    fn default() -> Self {
        Self::Open(Vec::new())
    }
}

impl Context {
    #[inline]
    fn of<B>(trail: AuditTrail, request: &Request<B>) -> Self {
        let headers = request.headers();
        // Few requests have one. To go through the names, of which most are numbers, costs less than to hash this one.
        let is_named = headers.keys().any(|name| *name == X_REQUEST_ID);
        let id = is_named.then(|| headers.get(X_REQUEST_ID)).flatten();
        Self {
            sampled: trail.samples(),
            trail,
            method: request.method().clone(),
            path: request.uri().path_and_query().cloned(),
            id: id.filter(|id| is_id(id.as_bytes())).cloned(),
            made: None,
            address: ClientIp::of(request.extensions()).map(|client| client.0),
            entered: false,
            caller: None,
            kept_out: false,
            held: None,
        }
    }

    /// Tells the trail: with the answer, or now if there was one. `false` if it is part of what was told before.
    pub(super) fn tell(&mut self, event: Event) -> bool {
        let Self { held, trail, .. } = self;
        let mut held = held.get_or_insert_default().lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *held {
            Held::Open(events) => {
                // One refusal for one reason: what failed, and that the request was refused for it, are one event.
                let is_refusal = event.kind == Kind::InfrastructureFailed && event.status.is_some();
                let failed = |earlier: &Event| is_refusal && earlier.kind == event.kind && earlier.status.is_none();
                if let Some(at) = events.iter().rposition(failed) {
                    events.get_mut(at).map(|earlier| earlier.refused_as(event)).unwrap_or_default();
                    return false;
                } else if events.len() < MOST_HELD {
                    events.push(event);
                } else {
                    trail.tell(event);
                }
            }
            Held::Done(status) => trail.tell(event.answered(*status)),
        }
        true
    }

    /// Tells what waits for the answer, which is there, or will not come.
    pub(super) fn finish(&mut self, status: Option<StatusCode>) {
        let Some(held) = &self.held else { return };
        let done = Held::Done(status);
        let held = std::mem::replace(&mut *held.lock().unwrap_or_else(PoisonError::into_inner), done);
        if let Held::Open(events) = held {
            for event in events {
                self.trail.tell(event.answered(status));
            }
        }
    }

    /// What the request is called: as it says itself, or as it is called here from now on.
    fn name(&mut self) -> Box<str> {
        match self.id.as_ref().and_then(|id| id.to_str().ok()) {
            Some(id) => bounded(id),
            None => self.made.get_or_insert_with(EventId::next).to_string().into(),
        }
    }

    pub(super) fn facts(&mut self) -> RequestFacts {
        RequestFacts {
            id: self.name(),
            method: bounded(self.method.as_str()),
            path: bounded(self.path.as_ref().map_or("*", PathAndQuery::path)),
            client_ip: self.address,
        }
    }

    /// Who was let through, if that is to be told.
    pub(super) fn admitted(&mut self) -> Option<Who> {
        self.caller.take().filter(|_| !self.kept_out).map(|who| *who)
    }
}

fn is_id(text: &[u8]) -> bool {
    (1..=MOST_ID).contains(&text.len())
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(byte))
}

/// While it is there, this thread works on behalf of a request, which is back in its slot afterwards, however that ends.
#[must_use]
pub(super) struct Within<'a>(&'a mut Option<Boxed>);

/// Works on behalf of the request in `slot`, if there is one.
#[inline]
pub(super) fn within(slot: &mut Option<Boxed>) -> Option<Within<'_>> {
    slot.is_some().then(|| {
        swap(slot);
        Within(slot)
    })
}

impl Drop for Within<'_> {
    #[inline]
    fn drop(&mut self) {
        swap(self.0);
    }
}

#[inline]
fn swap(slot: &mut Option<Boxed>) {
    // Gone only where a thread ends: nothing is known of the request then.
    let _ = CURRENT.try_with(|current| *slot = current.replace(slot.take()));
}

/// Calls `look` with the request that is being worked on, if one is known. To whoever tells while being told none is.
pub(super) fn current<R>(look: impl FnOnce(&mut Context) -> R) -> Option<R> {
    let mut slot = None;
    swap(&mut slot);
    let taken = Within(&mut slot);
    taken.0.as_mut()?.get().map(look)
}

/// Notes who is calling.
#[inline]
pub(crate) fn entered(who: impl FnOnce() -> Who) {
    current(|context| {
        context.entered = true;
        if context.sampled {
            context.caller = Some(Box::new(who()));
        }
    });
}

/// Notes that the request is refused, or that a gate has to ask about it first; or that it is let through after that.
pub(crate) fn keep_out(kept_out: bool) {
    current(|context| context.kept_out = kept_out);
}

/// A future that goes on in a task of its own until it has done something for a request, and takes along on whose behalf: in events,
/// and in spans. One that goes on for ever has nothing to take along: whoever has begun it is no part of what it does.
pub(crate) fn carried<F: Future>(inner: F) -> Carried<Instrumented<F>> {
    let context = current(|context| {
        // What is told there waits for the answer, too, if there is none yet, and is of the same request.
        context.held.get_or_insert_default();
        context.name();
        Boxed(Box::new(Some(context.clone())))
    });
    Carried { inner: inner.in_current_span(), context }
}

pin_project! {
    /// From [`carried`].
    #[derive(Debug)]
    pub(crate) struct Carried<F> {
        #[pin]
        inner: F,
        context: Option<Boxed>,
    }
}

impl<F: Future> Future for Carried<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _here = within(this.context);
        this.inner.poll(task)
    }
}
