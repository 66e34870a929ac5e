//! What a demand for scopes costs: `cargo bench --bench policies`. Time of a request through `RequireScopesLayer` around an empty
//! service, less that of the service alone, for 1, 10 and 100 scopes demanded of a token with 100; what a token was found to meet
//! before, and what is looked at anew.
#![allow(
    missing_docs,
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
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use futures::FutureExt as _;
use http::{Request, Response};
use portcullis::{
    authz::RequireScopesLayer,
    clock::UnixSeconds,
    jwt::{Algorithm, ClaimsPolicy, KeySet, SigningKey, Verifier},
    principal::{Identity, Principal},
};
use serde_json::json;
use tower::{Layer, Service};

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

/// A caller of whom nothing is remembered.
struct Forgotten(String);

impl Identity for Forgotten {
    fn issuer(&self) -> &'static str {
        "https://id.example"
    }
    fn subject(&self) -> &'static str {
        "user:7"
    }
    fn client_id(&self) -> Option<&str> {
        None
    }
    fn scope(&self) -> &str {
        &self.0
    }
    fn session_id(&self) -> Option<&str> {
        None
    }
    fn token_id(&self) -> Option<&str> {
        None
    }
    fn auth_time(&self) -> Option<UnixSeconds> {
        None
    }
}

const BATCH: usize = 100;
const ROUNDS: usize = 2_000;

/// Nanoseconds for one call, with a fresh request each: the median of many batches.
fn time<S, R>(service: &mut S, caller: &Principal) -> f64
where
    S: Service<Request<()>, Response = Response<R>, Error = Infallible>,
{
    let mut batches: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let mut requests: Vec<_> = (0..BATCH)
                .map(|_| {
                    let mut request = Request::new(());
                    request.extensions_mut().insert(caller.clone());
                    request
                })
                .collect();
            let started = Instant::now();
            for request in requests.drain(..) {
                let response = service.call(black_box(request)).now_or_never().unwrap().unwrap();
                assert_eq!(black_box(response).status(), 200);
            }
            started.elapsed().as_nanos() as f64 / BATCH as f64
        })
        .collect();
    batches.sort_by(f64::total_cmp);
    batches[ROUNDS / 2]
}

fn main() {
    let names: Vec<String> = (0..100).map(|number| format!("resource{number:02}:read")).collect();
    let granted = names.join(" ");
    let key = SigningKey::generate(Algorithm::EdDsa).unwrap();
    let policy = ClaimsPolicy::builder("https://id.example", "orders").build().unwrap();
    let verifier = Verifier::new(policy, KeySet::new([key.verifying_key()]).unwrap());
    let now = 1_800_000_000;
    let claims = json!({
        "iss": "https://id.example", "aud": "orders", "sub": "user:7", "client_id": "app", "jti": "t", "iat": now,
        "exp": now + 600, "scope": granted,
    });
    let token = key.sign(&claims).unwrap();
    let known = verifier.verify_at(token.as_bytes(), UnixSeconds::new(now)).unwrap().principal();
    let anew = Principal::new(Arc::new(Forgotten(granted)));
    println!("{:>22} {:>16} {:>16}", "scopes demanded", "seen before, ns", "looked at, ns");
    for (what, demanded) in [
        ("1, the first", &names[..1]),
        ("1, the last", &names[99..]),
        ("10, every tenth", &names.iter().step_by(10).cloned().collect::<Vec<_>>()[..]),
        ("100, all", &names[..]),
    ] {
        let layer = RequireScopesLayer::all_of(demanded).unwrap();
        let extra = |caller: &Principal| {
            // In turns, so that what else the machine does hits both.
            let bare = time(&mut Inner, caller);
            let demanding = time(&mut layer.layer(Inner), caller);
            demanding - bare
        };
        println!("{what:>22} {:>16.1} {:>16.1}", extra(&known), extra(&anew));
    }
}
