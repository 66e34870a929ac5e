//! Times portcullis beside other verifying layers, in one run, with the same tokens around the same empty service:
//! `cargo run --release --manifest-path benches/peers/Cargo.toml`, with `-- --quick` for fewer rounds.
//!
//! Prints nanoseconds of a request, then how many times as long as portcullis each peer takes. Exits with 1 if a peer
//! is not slower than portcullis without its cache. The method is that of `benches/verify.rs`: a token of 600 bytes, and
//! the least that a batch of about a millisecond took, batches of all contenders taking turns.
//!
//! All check the signature, `exp`, `iss`, `aud` and one scope, with one key in memory; `contenders.rs` says how each
//! was set up. None waits for anything then, so polling once drives them all, without a runtime. Before it is timed,
//! each gets tokens that it must refuse; one that it accepts is printed as a remark.

mod contenders;

use std::{
    collections::BTreeMap,
    process::ExitCode,
    time::{Instant, SystemTime},
};

use bytes::Bytes;
use contenders::{CONTENDERS, Keys, Send};
use http::HeaderValue;
use portcullis::jwt::{Algorithm, SigningKey};
use serde_json::{Value, json};

const ISSUER: &str = "https://id.example.com";
const AUDIENCE: &str = "orders";
const SCOPE: &str = "items";
const TOKEN_BYTES: usize = 600;
const ALGORITHMS: [Algorithm; 5] =
    [Algorithm::Hs256, Algorithm::Rs256, Algorithm::Ps256, Algorithm::Es256, Algorithm::EdDsa];

/// Where portcullis without its cache stands among [`CONTENDERS`], with its cache, and where the peers begin.
const COLD: usize = 1;
const WARM: usize = 2;
const PEERS: usize = 3;

/// Nanoseconds of each contender, by their order; `None` of one that cannot have this algorithm.
type Times = Vec<Option<f64>>;

fn claims(padding: usize) -> Value {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "user:1MDU7CHDcZdaF_StCCAoog", "client_id": "first-party",
        "iat": now, "exp": now + 3600, "auth_time": now, "jti": "PCd--6yZQWb7w2MKMWwKgA",
        "scope": "me items items:write orders orders:read admin", "pad": "x".repeat(padding),
    })
}

/// A token of 600 bytes, or the next length that the encoding allows; smaller where the signature leaves no room.
fn token(key: &SigningKey) -> String {
    let token = |padding| key.sign(&claims(padding)).unwrap();
    (0..TOKEN_BYTES).map(token).find(|token| token.len() >= TOKEN_BYTES).unwrap()
}

/// The `Authorization` field of a token. As a server has it: one shared buffer, of which header values are views.
fn field(token: &str) -> HeaderValue {
    HeaderValue::from_maybe_shared(Bytes::from(format!("Bearer {token}"))).unwrap()
}

/// Tokens that must be refused, and what is wrong with each.
fn bad_tokens(key: &SigningKey) -> Vec<(&'static str, String)> {
    let with = |name: &str, value: Value| {
        let mut claims = claims(0);
        claims[name] = value;
        key.sign(&claims).unwrap()
    };
    let without = |name: &str| {
        let mut claims = claims(0);
        claims.as_object_mut().unwrap().remove(name);
        key.sign(&claims).unwrap()
    };
    let mut flipped = token(key);
    let signature = flipped.rfind('.').unwrap() + 1;
    let other = if flipped[signature..].starts_with('A') { "B" } else { "A" };
    flipped.replace_range(signature..=signature, other);
    vec![
        ("a flipped signature", flipped),
        ("another audience", with("aud", "billing".into())),
        ("no audience", without("aud")),
        ("another issuer", with("iss", "https://id.example.net".into())),
        ("no issuer", without("iss")),
        ("a past expiry", with("exp", (claims(0)["iat"].as_u64().unwrap() - 3600).into())),
        ("no expiry", without("exp")),
        ("another scope", with("scope", "me items:write".into())),
    ]
}

/// Who accepts a token with which fault, and for which algorithms.
type Remarks = BTreeMap<(&'static str, &'static str), Vec<&'static str>>;

/// Sends what must be accepted and what must be refused through each contender, and remarks on what is not refused.
fn check(algorithm: &'static str, senders: &mut [Option<Send>], key: &SigningKey, remarks: &mut Remarks) {
    let bad_tokens = bad_tokens(key);
    for (sender, (name, _)) in senders.iter_mut().zip(CONTENDERS).skip(1) {
        let Some(send) = sender else { continue };
        // The good one first, so that a cache has something to mix the others up with.
        assert_eq!(send(&field(&token(key))), 200, "{algorithm}, {name}");
        for (fault, token) in &bad_tokens {
            if send(&field(token)) == 200 {
                remarks.entry((name, fault)).or_default().push(algorithm);
            }
        }
    }
}

/// The least time that a batch took, of each contender. On a machine with noisy neighbours this is what repeats.
fn least(senders: &mut [Option<Send>], field: &HeaderValue, rounds: usize) -> Times {
    let seconds = |send: &mut Send, times: u32| {
        let begin = Instant::now();
        (0..times).for_each(|_| assert_eq!(send(field), 200));
        begin.elapsed().as_secs_f64() / f64::from(times)
    };
    let batch = |send: &mut Send| (1e-3 / seconds(send, 20)).clamp(1.0, 1e5) as u32;
    let batches: Vec<_> = senders.iter_mut().map(|sender| sender.as_mut().map(batch)).collect();
    let mut least: Times = batches.iter().map(|batch| batch.map(|_| f64::MAX)).collect();
    for _ in 0..rounds {
        for ((least, batch), sender) in least.iter_mut().zip(&batches).zip(&mut *senders) {
            if let (Some(least), Some(batch), Some(send)) = (least, batch, sender) {
                *least = least.min(seconds(send, *batch) * 1e9);
            }
        }
    }
    least
}

fn row(first: &str, cells: impl IntoIterator<Item = String>) {
    println!("| {first} | {} |", cells.into_iter().collect::<Vec<_>>().join(" | "));
}

fn head(first: &str, names: &[(&str, contenders::Setup)]) {
    row(first, names.iter().map(|(name, _)| (*name).to_owned()));
    row("---", names.iter().map(|_| "---:".to_owned()));
}

fn cell(number: Option<f64>, decimals: usize) -> String {
    number.map_or("-".to_owned(), |number| format!("{number:.decimals$}"))
}

/// Prints the remarks and both tables.
fn report(remarks: &Remarks, results: &[(Algorithm, Times)]) {
    for ((name, fault), algorithms) in remarks {
        println!("Remark: {name} accepts a token with {fault} ({}).\n", algorithms.join(", "));
    }
    head("ns", &CONTENDERS);
    for (algorithm, times) in results {
        row(algorithm.name(), times.iter().map(|time| cell(*time, 0)));
    }
    println!();
    head("times as long as portcullis", &CONTENDERS[PEERS..]);
    for (algorithm, times) in results {
        for (ours, name) in [(COLD, "cold"), (WARM, "warm")] {
            let ratio = |peer: &Option<f64>| peer.zip(times[ours]).map(|(peer, ours)| peer / ours);
            row(&format!("{algorithm}, {name}"), times[PEERS..].iter().map(|peer| cell(ratio(peer), 2)));
        }
    }
}

/// Prints each peer that is no slower than portcullis without its cache; whether there is none.
fn ahead(results: &[(Algorithm, Times)]) -> bool {
    let mut ahead = true;
    for (algorithm, times) in results {
        for (time, (name, _)) in times.iter().zip(CONTENDERS).skip(PEERS) {
            if time.is_some() && *time <= times[COLD] {
                println!("\n{algorithm}: {name} is not slower than portcullis cold.");
                ahead = false;
            }
        }
    }
    ahead
}

fn main() -> ExitCode {
    contenders::install_crypto();
    let rounds = if std::env::args().any(|argument| argument == "--quick") { 40 } else { 400 };
    let mut remarks = Remarks::new();
    let results = ALGORITHMS.map(|algorithm| {
        let keys = Keys::new(algorithm);
        let mut senders: Vec<_> = CONTENDERS.iter().map(|(_, setup)| setup(&keys)).collect();
        check(algorithm.name(), &mut senders, &keys.signing, &mut remarks);
        (algorithm, least(&mut senders, &field(&token(&keys.signing)), rounds))
    });
    report(&remarks, &results);
    if ahead(&results) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
