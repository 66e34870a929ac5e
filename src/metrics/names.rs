//! The names, and what they stand for.

/// What a metric is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum MetricKind {
    /// A number that only grows.
    Counter,
    /// A number that goes up and down.
    Gauge,
    /// How often a value lay below each of some bounds.
    Histogram,
}

/// What a metric is measured in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Unit {
    /// Things that can be counted; 0 and 1 where something is so or not.
    Count,
    /// Seconds; of a moment, since 1970 in UTC.
    Seconds,
}

/// A metric, as it is documented.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: MetricKind,
    /// What it is measured in.
    pub unit: Unit,
    /// The labels that it has.
    pub labels: &'static [&'static str],
    /// What it means, in a line.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($(#[$doc:meta])* $constant:ident = $name:literal, $kind:ident, $unit:ident, [$($label:literal),*], $help:literal;)*) => {
        $(
            #[doc = $help]
            #[doc = concat!("\n\n`", $name, "`, ", stringify!($kind), ", ", stringify!($unit), ".\n\n")]
            $(#[$doc])*
            pub const $constant: &str = $name;
        )*
        /// Every metric that there is.
        pub const ALL: &[Metric] = &[
            $(Metric {
                name: $constant,
                kind: MetricKind::$kind,
                unit: Unit::$unit,
                labels: &[$($label),*],
                help: $help,
            },)*
        ];
    };
}

metrics! {
    /// `caller`: `known`, or `nobody` where a request may come without a credential. Each request once, however many gates it passes,
    /// with and without an [`AuditLayer`](crate::audit::AuditLayer). One that a policy further in denies is among them, and is an event of the
    /// kind `authorization_denied` besides.
    REQUESTS_ADMITTED = "portcullis_requests_admitted_total", Counter, Count, ["caller"],
        "Requests that a gate which reads credentials has let in.";
    /// `kind`: [`Kind::name`](crate::audit::Kind::name). `reason`: [`Event::reason`](crate::audit::Event::reason), empty for those that have none. All of
    /// them, whatever is told to the log or lost by a sink; but not `request_admitted`, which is a sample, nor `events_dropped`.
    EVENTS = "portcullis_events_total", Counter, Count, ["kind", "reason"],
        "Audit events: refusals, logins, sessions, tokens, outages.";
    /// `result`: `hit`, `miss`.
    TOKEN_CACHE_LOOKUPS = "portcullis_token_cache_lookups_total", Counter, Count, ["result"],
        "Look-ups of a token among those that have been verified.";
    /// Of all verifiers together.
    TOKEN_CACHE_ENTRIES = "portcullis_token_cache_entries", Gauge, Count, [],
        "Verified tokens that are remembered.";
    /// `algorithm`: [`Algorithm::name`](crate::jwt::Algorithm::name). One for each access token that was issued.
    SIGNING_SECONDS = "portcullis_signing_seconds", Histogram, Seconds, ["algorithm"],
        "Time to sign an access token.";
    /// On the thread that does it, without the wait for it: one for each password that is hashed or compared with a hash.
    PASSWORD_HASH_SECONDS = "portcullis_password_hash_seconds", Histogram, Seconds, [],
        "Time to hash a password, or to compare one with a hash.";
    /// Of those whose turn has come.
    PASSWORD_WAIT_SECONDS = "portcullis_password_wait_seconds", Histogram, Seconds, [],
        "Time that a password waited for a thread.";
    /// Of all hashers together.
    PASSWORD_WAITING = "portcullis_password_waiting", Gauge, Count, [],
        "Passwords that wait for a thread.";
    /// Because the queue was full, or the wait too long.
    PASSWORD_SHED = "portcullis_password_shed_total", Counter, Count, [],
        "Passwords that were not hashed because too many were waiting.";
    /// `store`: `users`, `sessions`, `revocations`, `keys`, `attempts`. `operation`: the method of its trait. Calls by this crate;
    /// those that were given up are not in it.
    STORE_SECONDS = "portcullis_store_seconds", Histogram, Seconds, ["store", "operation"],
        "Time that a store took to answer.";
    /// Labels as in [`STORE_SECONDS`], and `reason`: `unavailable`, `full`, and `given_up` for a call that took too long, or whose
    /// caller hung up.
    STORE_FAILURES = "portcullis_store_failures_total", Counter, Count, ["store", "operation", "reason"],
        "Calls of a store that did not do what they were to do.";
    /// `what`: `JWKS`, `key store`, `revocation store`, `store of login attempts`, `audit sink`, and the names of
    /// [readiness checks](crate::health::Readiness). `which`: the address that an issuer's keys come from, a sink's name; else empty.
    OUTAGE = "portcullis_outage", Gauge, Count, ["what", "which"],
        "1 while something that decisions need does not answer, else 0.";
    /// `what`, `which`: as in [`OUTAGE`], of what is read again and again: `JWKS`, `key store`, `revocation store`.
    LAST_SUCCESS = "portcullis_last_success_timestamp_seconds", Gauge, Seconds, ["what", "which"],
        "When keys or revocations were last read.";
    /// `check`: as in the answer of [`ReadyEndpoint`](crate::endpoint::ReadyEndpoint). As of the last look.
    READY = "portcullis_ready", Gauge, Count, ["check"],
        "1 if something that the program needs to be ready answered when it was last asked, else 0.";
    /// `sink`: [`AuditSink::name`](crate::audit::AuditSink::name).
    AUDIT_EVENTS_DROPPED = "portcullis_audit_events_dropped_total", Counter, Count, ["sink"],
        "Audit events that a sink did not get.";
}
