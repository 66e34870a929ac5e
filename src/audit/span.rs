//! Spans around decisions, at debug: what was decided, how long it took, and what was asked for it.
//!
//! Where nobody listens at debug they cost a look at a number. Synchronous decisions are made inside of theirs; futures carry
//! theirs along, so that it is entered while they are polled and at no other time.

use std::future::Future;

use tracing::{Instrument as _, Span, level_filters::LevelFilter};

/// A span around a decision, with the fields that all of them have, and its own.
macro_rules! decision {
    ($name:literal $(, $($fields:tt)+)?) => {
        tracing::debug_span!(
            target: "portcullis",
            $name,
            outcome = tracing::field::Empty,
            reason = tracing::field::Empty
            $(, $($fields)+)?
        )
    };
}
pub(crate) use decision;

/// Whether anybody may listen at debug. Of most programs nobody does, and that is seen here before a span is thought of.
#[inline]
pub(crate) fn is_heard() -> bool {
    LevelFilter::current() >= LevelFilter::DEBUG && is_wanted()
}

/// Whether whoever listens to this thread wants to: others may listen elsewhere, or to other targets.
#[cold]
fn is_wanted() -> bool {
    tracing::span_enabled!(target: "portcullis", tracing::Level::DEBUG)
}

/// Notes on a span what was decided, and why if it is a refusal.
pub(crate) fn decided(span: &Span, outcome: &'static str, reason: Option<&'static str>) {
    span.record("outcome", outcome);
    if let Some(reason) = reason {
        span.record("reason", reason);
    }
}

/// Notes something on the span of ours that we are in, if we are in one.
pub(crate) fn note<V: tracing::Value>(field: &'static str, value: impl FnOnce() -> V) {
    if is_heard() {
        let span = Span::current();
        if span.metadata().is_some_and(|metadata| metadata.target() == "portcullis") {
            span.record(field, value());
        }
    }
}

/// Notes a result on a span: `ok`, or `refused` for this reason.
pub(crate) fn result<T, E>(span: &Span, result: &Result<T, E>, reason: impl FnOnce(&E) -> &'static str) {
    match result {
        Ok(_) => decided(span, "ok", None),
        Err(error) => decided(span, "refused", Some(reason(error))),
    }
}

/// Awaits a decision inside of its span, and notes the result there.
pub(crate) async fn inside<T, E>(
    span: Span,
    decide: impl Future<Output = Result<T, E>>,
    reason: impl FnOnce(&E) -> &'static str,
) -> Result<T, E> {
    if span.is_disabled() {
        return decide.await;
    }
    let decided = decide.instrument(span.clone()).await;
    result(&span, &decided, reason);
    decided
}
