//! What a program that is watched shows of itself: counters, gauges and histograms, through the facade [`metrics`](https://docs.rs/metrics).
//!
//! The program installs a recorder of its choice, before it builds its servers, and calls [`describe`]; the guide's page
//! [`metrics`](crate::guide::metrics) has an exporter for Prometheus, queries and alerts. Without a recorder nothing is kept, and
//! without the feature `metrics` nothing is there.
//!
//! Names, types, units and labels are part of the interface: they change with a new major version alone. Metrics, labels' values and
//! buckets may be added. A label's value is one of a fixed list, or was named by the program's own configuration: no client can make
//! a new one.
//!
//! ```
//! use metrics_exporter_prometheus::PrometheusBuilder;
//!
//! let recorder = PrometheusBuilder::new().build_recorder();
//! let handle = recorder.handle();
//! # metrics::with_local_recorder(&recorder, || {
//! // … once it is installed, with `metrics::set_global_recorder(recorder)`:
//! portcullis::metrics::describe();
//! // … and for each scrape:
//! portcullis::metrics::publish();
//! let text = handle.render();
//! // … and every few seconds, because nobody may come to scrape, and it grows until it sorts what was measured:
//! handle.run_upkeep();
//! # assert!(text.contains("portcullis_events_total{kind=\"refresh_reused\"} 0"), "{text}");
//! # });
//! ```

#[cfg(feature = "metrics")]
mod names;
#[cfg_attr(not(feature = "metrics"), path = "off.rs")]
mod on;
#[cfg(feature = "metrics")]
mod tally;

#[cfg(feature = "metrics")]
pub use self::names::*;
pub(crate) use self::on::*;

/// Tells the installed recorder what each metric means, and begins to count from zero the events that have no reason, and those
/// of `degraded`, so that the first of them is seen as an increase. Once, after the recorder was installed.
#[cfg(feature = "metrics")]
pub fn describe() {
    use ::metrics::{describe_counter, describe_gauge, describe_histogram};

    for &Metric { name, kind, unit, help, .. } in ALL {
        let unit = match unit {
            Unit::Count => ::metrics::Unit::Count,
            Unit::Seconds => ::metrics::Unit::Seconds,
        };
        match kind {
            MetricKind::Counter => describe_counter!(name, unit, help),
            MetricKind::Gauge => describe_gauge!(name, unit, help),
            MetricKind::Histogram => describe_histogram!(name, unit, help),
        }
    }
    self::on::begin();
}

/// Hands over to the recorder what threads have counted of [`REQUESTS_ADMITTED`] and [`TOKEN_CACHE_LOOKUPS`] and not told it yet: each does
/// so by itself when it counts in another second than before, because all of them adding to one number would cost more than the
/// rest of a request. Before each scrape, or the last second of a thread that has fallen idle is missing.
#[cfg(feature = "metrics")]
pub fn publish() {
    self::tally::publish();
}

/// What each request counts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hot {
    /// A request of a caller who is known.
    Known,
    /// One of nobody.
    Nobody,
    /// A token that was remembered.
    Hit,
    /// One that was not.
    Miss,
}
