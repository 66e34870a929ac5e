//! What was decided, about whom, and why: as `tracing` events with the target `portcullis::audit`, and as typed [`Event`]s for
//! [sinks](AuditSink).
//!
//! One event per decision, of bounded size, without a credential, and without a login name. Whatever a client chose in it is
//! bounded and cannot begin a line.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use axum::{Router, routing::get};
//! use portcullis::{audit::{AuditLayer, AuditTrail, JsonLines}, client_ip::{ClientIpLayer, TrustedProxies}};
//! # let path = std::env::temp_dir().join(format!("portcullis-audit-{}.jsonl", std::process::id()));
//!
//! let trail = AuditTrail::builder().sink(JsonLines::append(&path)?).start()?;
//! trail.install()?;
//! let app: Router = Router::new()
//!     .route("/", get(|| async {}))
//!     // … and whatever authenticates, inside of:
//!     .layer(AuditLayer::new(trail))
//!     .layer(ClientIpLayer::new(TrustedProxies::none()));
//! # std::fs::remove_file(&path)?;
//! # Ok(())
//! # }
//! ```

mod context;
mod event;
mod flood;
mod json_lines;
mod kind;
mod layer;
mod preflight;
mod record;
mod sink;
mod span;
mod tell;
mod trail;

const TARGET: &str = "portcullis::audit";

pub(crate) use self::{
    context::{carried, entered, keep_out},
    kind::Undone,
    preflight::Preflights,
    record::millis,
    span::{decided, decision, inside, is_heard, note, result},
    tell::*,
};
pub use self::{
    event::{Event, EventId, RequestFacts, Who},
    json_lines::JsonLines,
    kind::Kind,
    layer::{Audit, AuditFuture, AuditLayer},
    record::EventRecord,
    sink::{AuditSink, SinkError},
    trail::{AuditTrail, AuditTrailBuilder, InstalledAlready},
};

/// The innermost reason, which is the one that says something.
#[cfg(any(feature = "breach-client", feature = "jwks-client"))]
pub(crate) fn cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
