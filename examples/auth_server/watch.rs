//! What whoever runs the server asks it: `/health`, `/ready`, `/metrics`.

use std::net::{IpAddr, SocketAddr};

use axum::{
    Router,
    extract::ConnectInfo,
    http::{
        HeaderMap, StatusCode,
        header::{CONTENT_TYPE, FORWARDED, HOST, ORIGIN, VIA},
        uri::Authority,
    },
    response::IntoResponse as _,
    routing::get,
};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use portcullis::{
    authz::Public,
    health::Readiness,
    metrics::{self as names, PASSWORD_HASH_SECONDS, PASSWORD_WAIT_SECONDS, SIGNING_SECONDS, STORE_SECONDS},
};

/// Who may see the figures: they say how many logins fail.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Scrapers {
    /// Peers on this machine that speak for nobody else.
    ThisMachine,
    /// Whoever reaches the address, which is for them alone.
    All,
    Nobody,
}

/// Keeps what is counted and measured. To be installed before anything is built that counts.
pub(crate) fn recorder() -> Result<PrometheusRecorder, BuildError> {
    const SIGNING: &[f64] = &[0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.005, 0.025];
    const STORE: &[f64] = &[0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0];
    const PASSWORD: &[f64] = &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0];
    let of = |name: &str| Matcher::Full(name.to_owned());
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(of(SIGNING_SECONDS), SIGNING)?
        .set_buckets_for_metric(of(STORE_SECONDS), STORE)?
        .set_buckets_for_metric(of(PASSWORD_HASH_SECONDS), PASSWORD)?
        .set_buckets_for_metric(of(PASSWORD_WAIT_SECONDS), PASSWORD)?;
    Ok(builder.build_recorder())
}

/// The routes that anybody may ask, and `/metrics` for some.
pub(crate) fn routes(readiness: &Readiness, handle: PrometheusHandle, scrapers: Scrapers) -> Router {
    readiness.routes().merge(figures(handle, scrapers))
}

/// `/metrics` alone.
pub(crate) fn figures(handle: PrometheusHandle, scrapers: Scrapers) -> Router {
    let answer = async move |peer: ConnectInfo<SocketAddr>, headers: HeaderMap| {
        if !is_allowed(scrapers, peer.0, &headers) {
            return StatusCode::NOT_FOUND.into_response();
        }
        names::publish();
        ([(CONTENT_TYPE, "text/plain; version=0.0.4")], handle.render()).into_response()
    };
    if scrapers == Scrapers::Nobody {
        return Router::new();
    }
    Router::new().route("/metrics", get(answer).layer(Public))
}

/// A proxy on this machine is a peer on this machine, whoever it speaks for; so is a browser, whatever page it shows, also one whose
/// name was made to lead here (DNS rebinding).
fn is_allowed(scrapers: Scrapers, peer: SocketAddr, headers: &HeaderMap) -> bool {
    let forwarded = || {
        let fields = [FORWARDED.as_str(), VIA.as_str(), ORIGIN.as_str(), "x-real-ip", "x-client-ip"];
        let of_networks = ["cf-connecting-ip", "true-client-ip", "fastly-client-ip"];
        let said =
            |name: &str| name.starts_with("x-forwarded") || fields.contains(&name) || of_networks.contains(&name);
        headers.keys().any(|name| said(name.as_str()))
    };
    match scrapers {
        Scrapers::All => true,
        Scrapers::Nobody => false,
        Scrapers::ThisMachine => peer.ip().to_canonical().is_loopback() && names_this_machine(headers) && !forwarded(),
    }
}

fn names_this_machine(headers: &HeaderMap) -> bool {
    let Some(Ok(host)) = headers.get(HOST).map(|host| host.to_str().unwrap_or_default().parse::<Authority>()) else {
        return false;
    };
    let name = host.host();
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}
