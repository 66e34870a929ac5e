//! Audit events, kept for a test to look at.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;

use crate::audit::{AuditSink, AuditTrail, Event, Kind, SinkError};

/// Sink that keeps every event. Clones keep the same ones.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use axum::{Router, body::Body, routing::get};
/// use http::Request;
/// use portcullis::{audit::{AuditLayer, AuditTrail, Kind}, testing::{EventLog, TestAuthority}};
/// use tower::ServiceExt as _;
///
/// let log = EventLog::new();
/// let trail = AuditTrail::builder().sink(log.clone()).start()?;
/// let app: Router = Router::new()
///     .route("/", get(|| async {}))
///     .layer(TestAuthority::new().api().authenticate())
///     .layer(AuditLayer::new(trail.clone()));
/// app.oneshot(Request::get("/").body(Body::empty())?).await?;
/// let told = log.events(&trail).await;
/// assert_eq!(told.first().map(|event| event.kind), Some(Kind::CredentialMissing));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct EventLog(Arc<Mutex<Vec<Arc<Event>>>>);

impl EventLog {
    /// A log with nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What was told to `trail` so far. Waits up to 10 seconds for what is on its way.
    pub async fn events(&self, trail: &AuditTrail) -> Vec<Arc<Event>> {
        trail.flush(Duration::from_secs(10)).await;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The kinds of it.
    pub async fn kinds(&self, trail: &AuditTrail) -> Vec<Kind> {
        self.events(trail).await.iter().map(|event| event.kind).collect()
    }
}

impl AuditSink for EventLog {
    fn name(&self) -> &'static str {
        "event_log"
    }

    fn write<'a>(&'a self, events: &'a [Arc<Event>]) -> BoxFuture<'a, Result<(), SinkError>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(events);
        Box::pin(std::future::ready(Ok(())))
    }
}
