//! What CORS costs, beside tower-http's `CorsLayer` with the same settings: `cargo bench --bench cors`. Time from the request to
//! the answer's head, with the inner service's part (an empty answer), and what was allocated on the way.
#![allow(
    missing_docs,
    clippy::similar_names,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    reason = "a benchmark"
)]

use std::{
    convert::Infallible,
    future::{Ready, ready},
    hint::black_box,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures::FutureExt as _;
use http::{HeaderName, HeaderValue, Method, Request, Response};
use portcullis::cors::{CorsPolicy, CorsStrictLayer};
use tower::{Layer, Service};
use tower_http::cors::{AllowOrigin, CorsLayer};

/// Answers at once, with nothing.
#[derive(Clone)]
struct Inner;

impl Service<Request<()>> for Inner {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        drop(request);
        ready(Ok(Response::new(())))
    }
}

/// Few at once, so that a request is still in the cache, as one is that has just been read.
const BATCH: usize = 50;
const ROUNDS: usize = 3_000;

fn request(method: Method, fields: &[(&'static str, &str)]) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = method;
    // What any browser sends besides.
    let common =
        [("host", "api.example"), ("accept", "*/*"), ("user-agent", "Mozilla/5.0"), ("sec-fetch-mode", "cors")];
    for (name, value) in common.iter().chain(fields) {
        request.headers_mut().append(HeaderName::from_static(name), value.parse().unwrap());
    }
    request
}

/// Nanoseconds for one request, and allocations.
fn run<S>(service: &mut S, request: &Request<()>) -> (f64, u64)
where
    S: Service<Request<()>, Error = Infallible>,
{
    let batch: Vec<_> = (0..BATCH).map(|_| request.clone()).collect();
    let begun = Instant::now();
    for request in batch {
        drop(black_box(service.call(request).now_or_never().unwrap()));
    }
    let time = begun.elapsed();
    let one = request.clone();
    let allocated = allocation_counter::measure(|| drop(black_box(service.call(one).now_or_never().unwrap())));
    (time.as_nanos() as f64 / BATCH as f64, allocated.count_total)
}

fn main() {
    let named = ["https://app.example", "https://admin.example", "https://shop.example"];
    let many: Vec<String> = (0..1000).map(|n| format!("https://customer-{n:04}.example")).collect();
    let origins =
        |many: &[String]| named.iter().map(|o| (*o).to_owned()).chain(many.iter().cloned()).collect::<Vec<_>>();
    println!("| origins | request | portcullis ns | tower-http ns | ratio | allocations | tower-http's |");
    println!("|---|---|---|---|---|---|---|");
    for origins in [origins(&[]), origins(&many)] {
        let policy = CorsPolicy::builder()
            .origins(origins.clone())
            .methods(["GET", "PUT", "DELETE"])
            .request_headers(["authorization", "content-type"])
            .expose_headers(["www-authenticate"])
            .credentials()
            .max_age(Duration::from_secs(600))
            .build()
            .unwrap();
        let theirs = CorsLayer::new()
            .allow_origin(AllowOrigin::list(origins.iter().map(|o| o.parse::<HeaderValue>().unwrap())))
            .allow_methods([Method::GET, Method::PUT, Method::DELETE])
            .allow_headers([http::header::AUTHORIZATION, http::header::CONTENT_TYPE])
            .expose_headers([http::header::WWW_AUTHENTICATE])
            .allow_credentials(true)
            .max_age(Duration::from_secs(600));
        let (mut ours, mut theirs, mut bare) = (CorsStrictLayer::new(policy).layer(Inner), theirs.layer(Inner), Inner);
        let good = ("origin", origins.last().unwrap().as_str());
        let evil = ("origin", "https://evil.example");
        let put = ("access-control-request-method", "PUT");
        let headers = ("access-control-request-headers", "authorization,content-type");
        let hostile = "a,".repeat(8 * 1024);
        let hostile = ("access-control-request-headers", hostile.as_str());
        let spaces = " ".repeat(16 * 1024 - 1) + "a";
        let spaces = ("access-control-request-headers", spaces.as_str());
        let cases = [
            ("no origin", request(Method::GET, &[])),
            ("actual, allowed", request(Method::GET, &[good])),
            ("actual, refused", request(Method::GET, &[evil])),
            ("preflight, allowed", request(Method::OPTIONS, &[good, put, headers])),
            ("preflight, refused for its origin", request(Method::OPTIONS, &[evil, put, headers])),
            (
                "preflight, refused for its method",
                request(Method::OPTIONS, &[good, ("access-control-request-method", "PATCH"), headers]),
            ),
            ("preflight, 16 KiB of header names", request(Method::OPTIONS, &[good, put, hostile])),
            ("preflight, a name of 16 KiB", request(Method::OPTIONS, &[good, put, spaces])),
            ("preflight, 16 KiB, evil origin", request(Method::OPTIONS, &[evil, put, hostile])),
        ];
        for (what, request) in cases {
            let (mut best, mut counts) = ([f64::MAX; 3], [0; 3]);
            // In turns, so that a busy moment hits all alike; the least of each.
            for _ in 0..ROUNDS {
                let round = [run(&mut ours, &request), run(&mut theirs, &request), run(&mut bare, &request)];
                for (at, (time, count)) in round.into_iter().enumerate() {
                    best[at] = best[at].min(time);
                    counts[at] = count;
                }
            }
            let [a, b, floor] = best;
            println!(
                "| {} | {what} | {a:.0} | {b:.0} | {:.2} | {} | {} |  (inner service alone {floor:.0} ns, {})",
                origins.len(),
                a / b,
                counts[0],
                counts[1],
                counts[2]
            );
        }
    }
}
