//! What a verified request costs beyond its signature: `cargo bench --bench verify`.
//!
//! For each algorithm, a token of 600 bytes goes through the full stack (extract, verify, one scope) around an empty
//! service, beside the bare signature check with the same prepared key, and jsonwebtoken's `decode` for comparison.
//! `benches/instructions.sh` counts instructions with the same operations. Allocations are counted, and held to a
//! bound, by a test (`tests/it/costs.rs`), because a counting allocator would slow what is timed here.
#![allow(
    missing_docs,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark"
)]

use std::{
    convert::Infallible,
    future::Ready,
    hint::black_box,
    sync::{Arc, OnceLock},
    time::{Instant, SystemTime},
};

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    signature::{self, EcdsaKeyPair, Ed25519KeyPair, ParsedPublicKey, RsaKeyPair},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use criterion::Criterion;
use futures::{FutureExt as _, future::BoxFuture};
use http::{HeaderValue, Request, Response, header::AUTHORIZATION};
use jsonwebtoken as jwt;
use metrics_exporter_prometheus::PrometheusBuilder;
use portcullis::{
    ResourceServer,
    audit::{AuditLayer, AuditSink, AuditTrail, Event, SinkError},
    clock::UnixSeconds,
    jwt::{Algorithm, ClaimsPolicy, KeySet, SigningKey, Verifier, VerifyingKey},
};
use serde_json::{Value, json};
use tower::{Service, ServiceBuilder, service_fn};

const ISSUER: &str = "https://id.example.com";
const AUDIENCE: &str = "orders";
const SECRET: &[u8] = b"0123456789abcdefghijklmnopqrstuv";
const TOKEN_BYTES: usize = 600;

const RSA: &[u8] = include_bytes!("../tests/keys/rsa.pem");
const RSA_PUBLIC: &[u8] = include_bytes!("../tests/keys/rsa_pub.pem");
const P256: &[u8] = include_bytes!("../tests/keys/p256.pem");
const P256_PUBLIC: &[u8] = include_bytes!("../tests/keys/p256_pub.pem");
const ED25519: &[u8] = include_bytes!("../tests/keys/ed25519.pem");
const ED25519_PUBLIC: &[u8] = include_bytes!("../tests/keys/ed25519_pub.pem");

/// An operation to be timed, counted or weighed; it panics if it does not come out as it should.
type Operation = Box<dyn FnMut()>;

struct Case {
    algorithm: &'static str,
    operations: Vec<(&'static str, Operation)>,
}

fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

fn claims(padding: usize) -> Value {
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "user:1MDU7CHDcZdaF_StCCAoog", "client_id": "first-party",
        "iat": now(), "exp": now() + 3600, "auth_time": now(), "jti": "PCd--6yZQWb7w2MKMWwKgA",
        "scope": "me items items:write orders orders:read admin", "pad": "x".repeat(padding),
    })
}

/// A token of 600 bytes, or the next length that the encoding allows; smaller where the signature leaves no room.
fn token(key: &SigningKey) -> String {
    let token = |padding| key.sign(&claims(padding)).unwrap();
    (0..TOKEN_BYTES).map(token).find(|token| token.len() >= TOKEN_BYTES).unwrap()
}

fn der(pem: &[u8]) -> Vec<u8> {
    pem::parse(pem).unwrap().into_contents()
}

fn case(algorithm: Algorithm) -> Case {
    let (signing, verifying, encoding, decoding) = match algorithm {
        Algorithm::Hs256 => (
            SigningKey::hmac(algorithm, SECRET),
            VerifyingKey::hmac(algorithm, SECRET),
            jwt::EncodingKey::from_secret(SECRET),
            jwt::DecodingKey::from_secret(SECRET),
        ),
        Algorithm::Rs256 | Algorithm::Ps256 => (
            SigningKey::from_pem(algorithm, RSA),
            VerifyingKey::from_pem(algorithm, RSA_PUBLIC),
            jwt::EncodingKey::from_rsa_pem(RSA).unwrap(),
            jwt::DecodingKey::from_rsa_pem(RSA_PUBLIC).unwrap(),
        ),
        Algorithm::Es256 => (
            SigningKey::from_pem(algorithm, P256),
            VerifyingKey::from_pem(algorithm, P256_PUBLIC),
            jwt::EncodingKey::from_ec_pem(P256).unwrap(),
            jwt::DecodingKey::from_ec_pem(P256_PUBLIC).unwrap(),
        ),
        _ => (
            SigningKey::from_pem(algorithm, ED25519),
            VerifyingKey::from_pem(algorithm, ED25519_PUBLIC),
            jwt::EncodingKey::from_ed_pem(ED25519).unwrap(),
            jwt::DecodingKey::from_ed_pem(ED25519_PUBLIC).unwrap(),
        ),
    };
    let (signing, verifying) = (signing.unwrap(), verifying.unwrap());
    let token = token(&signing);
    let seen = token.clone();
    Case {
        algorithm: algorithm.name(),
        operations: vec![
            ("empty service", through(empty(), &token)),
            ("bare check", bare_check(algorithm, &token)),
            ("full stack", full_stack(verifying.clone(), &token, false)),
            ("full stack, seen", full_stack(verifying.clone(), &token, true)),
            ("jsonwebtoken decode", peer_decode(algorithm, decoding, token)),
            ("bare sign", bare_sign(algorithm)),
            ("sign", Box::new(move || drop(black_box(signing.sign(&black_box(claims_once())).unwrap())))),
            ("jsonwebtoken encode", peer_encode(algorithm, encoding)),
            ("full stack, seen, audited", audited(verifying, &seen)),
        ],
    }
}

/// Claims as a struct, as a server makes them: serialising is part of signing, building a `Value` is not.
#[derive(Clone, Copy, serde::Serialize)]
struct Claims {
    iss: &'static str,
    aud: &'static str,
    sub: &'static str,
    client_id: &'static str,
    iat: u64,
    exp: u64,
    auth_time: u64,
    jti: &'static str,
    scope: &'static str,
}

const fn claims_once() -> Claims {
    Claims {
        iss: ISSUER,
        aud: AUDIENCE,
        sub: "user:1MDU7CHDcZdaF_StCCAoog",
        client_id: "first-party",
        iat: 1_800_000_000,
        exp: 1_800_000_600,
        auth_time: 1_800_000_000,
        jti: "PCd--6yZQWb7w2MKMWwKgA",
        scope: "me items items:write orders orders:read admin",
    }
}

type Empty = tower::util::ServiceFn<fn(Request<()>) -> Ready<Result<Response<()>, Infallible>>>;

fn empty() -> Empty {
    service_fn(|_| std::future::ready(Ok(Response::new(()))))
}

/// Sends a request with this token through `service`; making the request is part of the cost.
fn through<S, B>(mut service: S, token: &str) -> Operation
where
    S: Service<Request<()>, Response = Response<B>, Error = Infallible> + 'static,
{
    // As a server has it: one shared buffer, of which header values are views.
    let field = HeaderValue::from_maybe_shared(bytes::Bytes::from(format!("Bearer {token}"))).unwrap();
    let _shared = field.clone();
    Box::new(move || {
        let mut request = Request::new(());
        request.headers_mut().insert(AUTHORIZATION, field.clone());
        let response = service.call(black_box(request)).now_or_never().unwrap().unwrap();
        assert_eq!(response.status(), 200);
        black_box(response);
    })
}

fn full_stack(key: VerifyingKey, token: &str, remember: bool) -> Operation {
    let policy = ClaimsPolicy::builder(ISSUER, AUDIENCE).build().unwrap();
    let api = ResourceServer::new(policy, KeySet::new([key]).unwrap());
    let api = if remember { api } else { api.without_cache() };
    let service =
        ServiceBuilder::new().layer(api.authenticate()).layer(api.require(["items"]).unwrap()).service(empty());
    through(service, token)
}

/// The same with what a server that is watched has around it: audit with a sample of one in a thousand, whose sink keeps none.
fn audited(key: VerifyingKey, token: &str) -> Operation {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| tokio::runtime::Builder::new_multi_thread().enable_time().build().unwrap());
    let trail = {
        let _entered = runtime.enter();
        AuditTrail::builder().sink(Nowhere).start().unwrap()
    };
    let policy = ClaimsPolicy::builder(ISSUER, AUDIENCE).build().unwrap();
    let api = ResourceServer::new(policy, KeySet::new([key]).unwrap());
    let service = ServiceBuilder::new()
        .layer(AuditLayer::new(trail))
        .layer(api.authenticate())
        .layer(api.require(["items"]).unwrap())
        .service(empty());
    through(service, token)
}

struct Nowhere;

impl AuditSink for Nowhere {
    fn name(&self) -> &'static str {
        "nowhere"
    }

    fn write<'a>(&'a self, _: &'a [Arc<Event>]) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Keeps what is counted from here on, as `auth_server` does.
fn record() {
    metrics::set_global_recorder(PrometheusBuilder::new().build_recorder()).unwrap();
}

/// `verify --watched` prints what audit and metrics add to a request whose token was seen, on one thread and on two.
fn watched() {
    let key = SigningKey::hmac(Algorithm::Hs256, SECRET).unwrap();
    let text = token(&key);
    let bare = || full_stack(key.verifying_key(), &text, true);
    let told = || audited(key.verifying_key(), &text);
    let print = |when: &str| {
        let operations = vec![("seen", bare()), ("seen, audited", told())];
        let times = least(&mut Case { algorithm: "HS256", operations });
        println!("{when:12} {:6.0} ns, with audit {:6.0} ns", times[0], times[1]);
        println!("{when:12} two threads {:.2} times one, with audit {:.2}", scaling(bare), scaling(told));
    };
    print("no recorder");
    record();
    print("recorder");
}

fn bare_check(algorithm: Algorithm, token: &str) -> Operation {
    let (message, signature) = token.rsplit_once('.').unwrap();
    let (message, signature) = (message.to_owned(), URL_SAFE_NO_PAD.decode(signature).unwrap());
    let parsed = match algorithm {
        Algorithm::Hs256 => {
            let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
            return Box::new(move || hmac::verify(&key, black_box(message.as_bytes()), black_box(&signature)).unwrap());
        }
        Algorithm::Rs256 => ParsedPublicKey::new(&signature::RSA_PKCS1_2048_8192_SHA256, der(RSA_PUBLIC)),
        Algorithm::Ps256 => ParsedPublicKey::new(&signature::RSA_PSS_2048_8192_SHA256, der(RSA_PUBLIC)),
        Algorithm::Es256 => ParsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, der(P256_PUBLIC)),
        _ => ParsedPublicKey::new(&signature::ED25519, der(ED25519_PUBLIC)),
    };
    let parsed = parsed.unwrap();
    Box::new(move || parsed.verify_sig(black_box(message.as_bytes()), black_box(&signature)).unwrap())
}

fn bare_sign(algorithm: Algorithm) -> Operation {
    let random = SystemRandom::new();
    let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&claims_once()).unwrap());
    let message = format!(
        "eyJhbGciOiJFZERTQSIsInR5cCI6ImF0K2p3dCIsImtpZCI6ImZ2LVdoSThEeEI2T1l2eklXRGNWSFNUTTlwUFYtcFFXOVM5MzFYRXNDM2MifQ.{payload}"
    );
    match algorithm {
        Algorithm::Hs256 => {
            let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
            Box::new(move || {
                black_box(hmac::sign(&key, black_box(message.as_bytes())));
            })
        }
        Algorithm::Rs256 | Algorithm::Ps256 => {
            let padding: &'static dyn signature::RsaEncoding =
                if algorithm == Algorithm::Rs256 { &signature::RSA_PKCS1_SHA256 } else { &signature::RSA_PSS_SHA256 };
            let pair = RsaKeyPair::from_pkcs8(&der(RSA)).unwrap();
            let mut signature = vec![0; pair.public_modulus_len()];
            Box::new(move || {
                let message = black_box(message.as_bytes());
                pair.sign(padding, &random, message, &mut signature).unwrap();
            })
        }
        Algorithm::Es256 => {
            let pair = EcdsaKeyPair::from_pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, &der(P256)).unwrap();
            Box::new(move || {
                black_box(pair.sign(&random, black_box(message.as_bytes())).unwrap());
            })
        }
        _ => {
            let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der(ED25519)).unwrap();
            Box::new(move || {
                black_box(pair.sign(black_box(message.as_bytes())));
            })
        }
    }
}

fn peer(algorithm: Algorithm) -> jwt::Algorithm {
    algorithm.name().parse().unwrap()
}

fn peer_decode(algorithm: Algorithm, key: jwt::DecodingKey, token: String) -> Operation {
    let mut validation = jwt::Validation::new(peer(algorithm));
    validation.set_audience(&[AUDIENCE]);
    validation.set_issuer(&[ISSUER]);
    Box::new(move || drop(black_box(jwt::decode::<PeerClaims>(black_box(&token), &key, &validation).unwrap())))
}

#[derive(serde::Deserialize)]
#[expect(dead_code, reason = "read by nobody, as much as ours keeps")]
struct PeerClaims {
    iss: String,
    aud: String,
    sub: String,
    client_id: String,
    jti: String,
    scope: String,
    exp: u64,
    iat: u64,
}

fn peer_encode(algorithm: Algorithm, key: jwt::EncodingKey) -> Operation {
    let header = jwt::Header::new(peer(algorithm));
    Box::new(move || drop(black_box(jwt::encode(&header, black_box(&claims_once()), &key).unwrap())))
}

fn cases() -> Vec<Case> {
    [Algorithm::Hs256, Algorithm::Rs256, Algorithm::Ps256, Algorithm::Es256, Algorithm::EdDsa].map(case).into()
}

/// `verify --run ALGORITHM OPERATION TIMES` does that and nothing else, for callgrind.
fn run_once(arguments: &[String]) -> bool {
    let [_, flag, algorithm, operation, times] = arguments else { return false };
    if flag != "--run" {
        return false;
    }
    let mut case = case(algorithm.parse().unwrap());
    let operation = match operation.strip_suffix(", counted") {
        Some(operation) => {
            record();
            operation
        }
        None => operation,
    };
    let (_, run) = case.operations.iter_mut().find(|(name, _)| *name == operation).unwrap();
    (0..times.parse::<usize>().unwrap()).for_each(|_| run());
    true
}

/// Nanoseconds of each operation: the least that a batch took, batches of all operations taking turns. On a machine with
/// noisy neighbours this is what repeats.
fn least(case: &mut Case) -> Vec<f64> {
    const ROUNDS: usize = 400;
    let once = |(_, run): &mut (&str, Operation)| {
        let begin = Instant::now();
        (0..20).for_each(|_| run());
        begin.elapsed().as_secs_f64() / 20.0
    };
    // Batches of about a millisecond.
    let batches: Vec<u32> = case.operations.iter_mut().map(|each| (1e-3 / once(each)).clamp(1.0, 1e5) as u32).collect();
    let mut least = vec![f64::MAX; batches.len()];
    for _ in 0..ROUNDS {
        for ((least, batch), (_, run)) in least.iter_mut().zip(&batches).zip(&mut case.operations) {
            let begin = Instant::now();
            (0..*batch).for_each(|_| run());
            *least = least.min(begin.elapsed().as_secs_f64() * 1e9 / f64::from(*batch));
        }
    }
    least
}

/// `verify --ratios` prints a table of times, and of ours beside the bare operation.
fn ratios() {
    println!("{:6} {:20} {:>10} {:>9} {:>7}", "", "operation", "ns", "added ns", "ratio");
    for mut case in cases() {
        let times = least(&mut case);
        for (at, (name, _)) in case.operations.iter().enumerate() {
            let bare = if name.contains("sign") || name.contains("encode") { times[5] } else { times[1] };
            let added = times[at] - bare;
            println!("{:6} {name:20} {:10.0} {added:9.0} {:7.3}", case.algorithm, times[at], times[at] / bare);
        }
    }
}

/// Kilobytes of memory that the process has in use.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().split(' ').next()?.parse().ok()).unwrap_or_default()
}

/// Nanoseconds of one look at each of `tokens`, in turn; the least of five rounds.
fn look_up(verifier: &Verifier, tokens: &[String], now: UnixSeconds) -> f64 {
    let round = || {
        let begin = Instant::now();
        for token in tokens {
            black_box(verifier.verify_at(black_box(token.as_bytes()), now).unwrap());
        }
        begin.elapsed().as_secs_f64() * 1e9 / tokens.len() as f64
    };
    (0..5).map(|_| round()).fold(f64::MAX, f64::min)
}

/// Nanoseconds of a request through the full stack with each of `tokens`, in turn; the least of five rounds.
fn full_stack_of(api: &ResourceServer, tokens: &[String]) -> f64 {
    let mut service =
        ServiceBuilder::new().layer(api.authenticate()).layer(api.require(["items"]).unwrap()).service(empty());
    let field = |token: &String| HeaderValue::from_maybe_shared(bytes::Bytes::from(format!("Bearer {token}"))).unwrap();
    let fields: Vec<HeaderValue> = tokens.iter().map(field).collect();
    let mut round = || {
        let begin = Instant::now();
        for field in &fields {
            let mut request = Request::new(());
            request.headers_mut().insert(AUTHORIZATION, field.clone());
            assert_eq!(service.call(black_box(request)).now_or_never().unwrap().unwrap().status(), 200);
        }
        begin.elapsed().as_secs_f64() * 1e9 / tokens.len() as f64
    };
    (0..6).map(|_| round()).fold(f64::MAX, f64::min)
}

/// How many times as many requests two threads do as one. Each has an operation of its own.
fn scaling(operation: impl Fn() -> Operation + Sync) -> f64 {
    let seconds = |threads: usize| {
        let begin = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let mut run = operation();
                    (0..500_000).for_each(|_| run());
                });
            }
        });
        begin.elapsed().as_secs_f64()
    };
    let least = |threads| (0..5).map(|_| seconds(threads)).fold(f64::MAX, f64::min);
    2.0 * least(1) / least(2)
}

/// `verify --cache` prints what remembered tokens cost, in time, memory and threads, and keys by number.
fn cache() {
    let key = SigningKey::hmac(Algorithm::Hs256, SECRET).unwrap();
    let keys = KeySet::new([key.verifying_key()]).unwrap();
    let policy = || ClaimsPolicy::builder(ISSUER, AUDIENCE).build().unwrap();
    let now = UnixSeconds::new(now());
    for entries in [1_000, 100_000] {
        let token = |n| {
            let mut claims = claims(100);
            claims["jti"] = format!("{n:022}").into();
            key.sign(&claims).unwrap()
        };
        let tokens: Vec<String> = (0..entries).map(token).collect();
        let verifier = Verifier::new(policy(), keys.clone()).cache(entries + entries / 4, 1 << 30).unwrap();
        let before = resident();
        look_up(&verifier, &tokens, now);
        let bytes = (resident().saturating_sub(before)) * 1024 / entries;
        let hit = look_up(&verifier, &tokens, now);
        println!("{entries} tokens of {} bytes: {hit:.0} ns a hit, {bytes} bytes an entry", tokens[0].len());
        let api = ResourceServer::new(policy(), keys.clone()).cache(entries + entries / 4, 1 << 30).unwrap();
        println!("the same, full stack: {:.0} ns", full_stack_of(&api, &tokens));
        // In the order of their signatures, which is none: what lies side by side is not asked for one after the other.
        let mut order: Vec<&String> = tokens.iter().collect();
        order.sort_by(|one, two| one.rsplit('.').cmp(two.rsplit('.')));
        let tokens: Vec<String> = order.into_iter().cloned().collect();
        println!("the same, in no order: {:.0} ns", full_stack_of(&api, &tokens));
    }
    let api = ResourceServer::new(policy(), keys.clone());
    let stack =
        || ServiceBuilder::new().layer(api.authenticate()).layer(api.require(["items"]).unwrap()).service(empty());
    let text = token(&key);
    println!("one token, two threads: {:.2} times one thread", scaling(|| through(stack(), &text)));
    let shared = stack();
    println!("the same, clones of one service: {:.2}", scaling(|| through(shared.clone(), &text)));
    println!("the empty service: {:.2}", scaling(|| through(empty(), &text)));
    for number in [1, 10, 1_000] {
        let pair = |n: usize| SigningKey::generate(Algorithm::EdDsa).unwrap().with_kid(format!("key-{n}"));
        let pairs: Vec<SigningKey> = (0..number).map(pair).collect();
        let keys = KeySet::new(pairs.iter().map(SigningKey::verifying_key)).unwrap();
        let verifier = Verifier::new(policy(), keys).without_cache();
        let tokens: Vec<String> = (0..100).map(|n| token(&pairs[n * 7 % number])).collect();
        println!("{number} keys: {:.0} ns a token (EdDSA, uncached)", look_up(&verifier, &tokens, now));
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if run_once(&arguments) {
        return;
    }
    if arguments.iter().any(|argument| argument == "--cache") {
        return cache();
    }
    if arguments.iter().any(|argument| argument == "--watched") {
        return watched();
    }
    if arguments.iter().any(|argument| argument == "--ratios") {
        return ratios();
    }
    let mut cases = cases();
    let mut criterion = Criterion::default().configure_from_args();
    for case in &mut cases {
        let mut group = criterion.benchmark_group(case.algorithm);
        for (name, run) in &mut case.operations {
            group.bench_function(*name, |bencher| bencher.iter(&mut *run));
        }
        group.finish();
    }
    criterion.final_summary();
}
