//! Where events go.

use std::{fmt, sync::Arc};

use futures::future::BoxFuture;

use super::event::Event;

/// Takes events. Each sink of an [`AuditTrail`](super::AuditTrail) has a queue and a task of its own: it may be slow, or fail, and no
/// request nor other sink waits for it.
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use futures::future::BoxFuture;
/// use portcullis::audit::{AuditSink, Event, Kind, SinkError};
///
/// /// Calls whoever is on duty.
/// struct Pager;
///
/// impl AuditSink for Pager {
///     fn name(&self) -> &'static str {
///         "pager"
///     }
///
///     fn write<'a>(&'a self, events: &'a [Arc<Event>]) -> BoxFuture<'a, Result<(), SinkError>> {
///         Box::pin(async move {
///             for event in events.iter().filter(|event| event.kind == Kind::RefreshReused) {
///                 page(&format!("stolen refresh token of {:?}", event.who.subject)).await?;
///             }
///             Ok(())
///         })
///     }
/// }
/// # async fn page(_: &str) -> Result<(), SinkError> { Ok(()) }
/// ```
pub trait AuditSink: Send + Sync + 'static {
    /// What it is called in logs and figures.
    fn name(&self) -> &'static str;

    /// Writes events, in the order in which they happened as far as one task saw them.
    ///
    /// It runs on the program's own runtime and must not block: what writes to disk does that in a thread, as
    /// [`JsonLines`](super::JsonLines) does.
    ///
    /// They are handed over again if it fails or takes more than 10 seconds, so some may come twice; they have the same
    /// [`id`](Event::id) then. A call that takes longer is dropped.
    ///
    /// # Errors
    ///
    /// [`SinkError`], which says whether it is worth to try again.
    fn write<'a>(&'a self, events: &'a [Arc<Event>]) -> BoxFuture<'a, Result<(), SinkError>>;
}

impl<T: AuditSink + ?Sized> AuditSink for Arc<T> {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn write<'a>(&'a self, events: &'a [Arc<Event>]) -> BoxFuture<'a, Result<(), SinkError>> {
        (**self).write(events)
    }
}

/// Why events were not written.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// It may work later: the events are kept, and handed over again after some time.
    #[error("{0}")]
    Unavailable(Box<str>),
    /// These events will never be written: they are dropped, and counted.
    #[error("{0}")]
    Refused(Box<str>),
}

impl SinkError {
    /// It may work later.
    pub fn unavailable(reason: impl fmt::Display) -> Self {
        Self::Unavailable(reason.to_string().into())
    }

    /// It will not.
    pub fn refused(reason: impl fmt::Display) -> Self {
        Self::Refused(reason.to_string().into())
    }
}
