//! Secrets are planted wherever a secret can be, and looked for wherever something is told: zero may be found.
//!
//! `cargo test --test it hygiene:: -- --nocapture` says how much was searched.

#![allow(clippy::print_stdout, reason = "what was searched, for whoever runs it")]

mod needles;
mod recorder;
pub mod run;
mod shown;

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use axum::{Router, body::Body};
use http::Request;
use portcullis::{
    AuthorizationServer,
    client_ip::ClientIp,
    endpoint::Registration,
    jwt::{Algorithm, SigningKey},
    login::{Lockout, LoginLimiter, Quota},
    session::SessionPolicy,
    store::MemoryStore,
    testing::{Flaw, TestAuthority},
};
use tower::ServiceExt as _;

use self::needles::Needles;
use crate::{
    login::{PASSWORD, form, hasher, users},
    support::Log,
};

/// Set in the process that the test starts for itself: what is logged anywhere in it is recorded, which other tests must not see.
const INSIDE: &str = "PORTCULLIS_HYGIENE";

/// Runs a test of this module in a process of its own, and shows what it printed.
fn in_a_process_of_its_own(name: &str) {
    let program = std::env::current_exe().unwrap();
    let output = Command::new(program)
        .args(["--exact", &format!("hygiene::{name}"), "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{out}");
    assert!(output.status.success(), "{out}\n{err}");
    assert!(out.contains("needles"), "it has searched something: {out}");
}

#[test]
fn req_192_planted_secrets_are_in_nothing_that_is_told() {
    if std::env::var_os(INSIDE).is_none() {
        return in_a_process_of_its_own("req_192_planted_secrets_are_in_nothing_that_is_told");
    }
    run::in_runtime(async {
        let folder = crate::stores::Folder::new("hygiene");
        let file = folder.file("a.db");
        let mut run = run::Run::begin();
        run.everything(&format!("sqlite:{}", file.display())).await;
        // The file, and what is on its way into it.
        for name in ["a.db", "a.db-wal"] {
            run.told("database", &fs::read(folder.file(name)).unwrap_or_default());
        }
        run.finish();
    });
}

#[cfg(any(feature = "postgres", feature = "redis"))]
#[test]
fn req_192_planted_secrets_are_in_no_statement_of_a_server() {
    if std::env::var_os(INSIDE).is_none() {
        return in_a_process_of_its_own("req_192_planted_secrets_are_in_no_statement_of_a_server");
    }
    run::in_runtime(async {
        #[cfg(feature = "postgres")]
        if let Some(server) = crate::servers::postgres().await {
            let mut run = run::Run::begin();
            // The server logs every statement, and what it was given for each parameter.
            let url = format!("{}?options[log_statement]=all&options[log_duration]=on", server.url);
            run.everything(&url).await;
            let log = server.log();
            assert!(log.to_lowercase().contains("insert into"), "it logs statements");
            let (log, names) = run::without_names_looked_up(&log);
            assert!(names > 0, "it logs what statements are given");
            run.told("statements", log.as_bytes());
            run.finish();
        }
        #[cfg(feature = "redis")]
        if let Some(server) = crate::servers::redis().await {
            let mut run = run::Run::begin();
            let monitor = run::Monitor::begin(&server.url);
            run.everything(&server.url).await;
            let seen = monitor.end();
            assert!(seen.contains("\"EVALSHA\"") || seen.contains("\"EVAL\""), "it sees commands: {seen}");
            run.told("commands", seen.as_bytes());
            run.finish();
        }
        println!("0 needles more");
    });
}

#[test]
fn what_is_planted_is_found_in_every_encoding() {
    let secret = "zebra \"quartz\" & lamp + 4711\\ö".to_owned();
    let mut needles = Needles::default();
    needles.add("password", &secret);
    let recorder = recorder::Recorder::default();
    let _guard = recorder.capture();
    let encodings = needles.of("password");
    assert!(encodings.len() >= 15, "{encodings:?}");
    for (encoding, text) in &encodings {
        recorder.take();
        tracing::trace!(target: "anybody", field = %format!("before{text}after"), "an event");
        let found = needles.search(&recorder.take());
        assert!(found.iter().any(|hit| hit.name == "password"), "{encoding}: {text}");
        tracing::trace_span!("a span", field = text.as_str());
        assert!(!needles.search(&recorder.take()).is_empty(), "{encoding} on a span");
    }
    recorder.take();
    tracing::trace!(bytes = ?secret.as_bytes(), text = ?secret, "as `Debug` has it");
    let both: Vec<_> = needles.search(&recorder.take()).iter().map(|hit| hit.encoding).collect();
    assert!(both.contains(&"list of bytes") && both.contains(&"Debug"), "{both:?}");
    tracing::trace!("something else");
    assert!(needles.search(&recorder.take()).is_empty());
}

/// Types that hold texts which may be secret do not print what they hold. Which those are is told by their fields: a new one is
/// found here, and must print itself, or be shown to hold none.
#[test]
fn req_192_no_type_with_a_secret_in_it_prints_itself() {
    /// Fields that are called like a secret and are none.
    const NONE: &[(&str, &str)] = &[
        // Names and digests of tokens, which open nothing.
        ("Who", "token_id"),
        ("EventRecord", "token_id"),
        ("TestPrincipal", "token_id"),
        ("Revoked", "Token"),
        ("Known", "tokens"),
        ("TokenDigest", "[u8; 32]"),
        // Names of cookies, words that a program gives a policy, origins, an endpoint's address, a challenge.
        ("ConfigError", "CookieName"),
        ("ConfigError", "PasswordWord"),
        ("CsrfGuardBuilder", "cookies"),
        ("CorsError", "With"),
        ("PasswordFlow", "token"),
        ("Challenges", "invalid_token"),
    ];
    const WORDS: &[&str] =
        &["password", "secret", "token", "pepper", "cookie", "credential", "private", "pem", "sealed", "presented"];
    const TEXTS: &[&str] = &["String", "Box<str>", "&str", "&'a str", "Vec<u8>", "Bytes", "HeaderValue", "[u8"];
    let mut looked_at = 0;
    let mut found = Vec::new();
    crate::architecture::walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut |path, text| {
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap().to_owned();
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let line = line.trim_start();
            let Some(rest) = line.split_once("struct ").or_else(|| line.split_once("enum ")).map(|(_, rest)| rest)
            else {
                continue;
            };
            if line.starts_with("//") || line.contains('"') {
                continue;
            }
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let above = lines[..at].iter().rev().take_while(|line| {
                let line = line.trim_start();
                line.starts_with("#[") || line.starts_with("//") || line.starts_with(')')
            });
            let derives = above.clone().any(|line| line.contains("derive(") && line.contains("Debug"));
            looked_at += 1;
            if !derives {
                continue;
            }
            let indent = lines[at].len() - line.len();
            let is_whole = line.ends_with(';') || line.ends_with('}');
            let end =
                |line: &&&str| line.len() - line.trim_start().len() == indent && line.trim_start().starts_with('}');
            let body: Vec<&str> = if is_whole {
                vec![line]
            } else {
                let length = lines[at + 1..].iter().position(|line| end(&line)).unwrap_or(0);
                lines[at..=at + length].to_vec()
            };
            for field in body {
                let field = field.trim_start();
                if field.starts_with("//") || field.starts_with('#') {
                    continue;
                }
                // Wiped, and printed all the same.
                let wiped = field.contains("Zeroizing<") || field.contains("hmac::Key");
                let called = field.split(':').next().unwrap().to_lowercase();
                let text = TEXTS.iter().any(|text| field.contains(text)) && !field.contains("Secret<");
                let named = text && WORDS.iter().any(|word| called.contains(word));
                let known = NONE.iter().any(|(of, none)| *of == name && field.contains(none));
                if (wiped || named) && !known {
                    found.push(format!("{}: {name}: {field}", path.display()));
                }
            }
        }
    });
    assert!(looked_at > 250, "{looked_at}");
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Whatever is logged goes through one place, which bounds it; the rest is told at start-up, or once.
#[test]
fn every_place_that_logs_is_known() {
    const PLACES: &[(&str, usize)] = &[
        // Bounded by kind and reason.
        ("audit/tell.rs", 3),
        // Spans and no events.
        ("audit/span.rs", 1),
        // When the pool is made; when a hash of a kind comes that was not expected, once for each kind that is stored.
        ("password/hasher.rs", 1),
        ("password/worker.rs", 1),
        // When a store is opened.
        ("store/redis/server.rs", 2),
        ("store/sqlite/database.rs", 1),
        // When a file is opened.
        ("audit/json_lines.rs", 1),
    ];
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    crate::architecture::walk(&source, &mut |path, text| {
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let code: Vec<_> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        let logs = |line: &&&str| {
            let words = ["event!(", "error!(", "warn!(", "info!(", "debug!(", "trace!(", "_span!("];
            let call = words.iter().any(|word| line.contains(word));
            call && (line.contains("tracing::") || line.trim_start().starts_with("event!("))
        };
        let found = code.iter().filter(logs).count();
        let own = path.strip_prefix(&source).unwrap().display().to_string();
        let known = PLACES.iter().find(|(known, _)| *known == own).map_or(0, |(_, places)| *places);
        assert_eq!(found, known, "{own}");
    });
}

/// Somebody who sends whatever they like, as fast as they can.
#[tokio::test]
async fn a_hostile_client_of_each_endpoint_fills_no_log() {
    const ROUND: Duration = Duration::from_millis(250);
    let many = Quota::per_minute(10_000);
    let limits = LoginLimiter::builder().per_address(many).per_account(Lockout::default().free(3)).registrations(many);
    let key = SigningKey::generate(Algorithm::EdDsa).unwrap();
    let handle = AuthorizationServer::builder("https://id.example", "orders", key)
        .first_party_login(users().await, hasher())
        .login_limits(limits.build().unwrap())
        .sessions(std::sync::Arc::new(MemoryStore::new()), SessionPolicy::default())
        .registration(Registration::new())
        .build()
        .unwrap();
    let authority = TestAuthority::new();
    let api = authority.api();
    let me = Router::new().route("/me", axum::routing::any(|| async { "me" })).layer(api.authenticate());
    let app = me.merge(handle.routes());
    let tokens: Vec<String> = Flaw::ALL.iter().map(|flaw| authority.flawed(*flaw).token).collect();
    let log = Log::default();
    let guard = log.capture();
    let begun = Instant::now();
    let mut asked = 0_usize;
    let bodies = [
        String::new(),
        "x".repeat(100),
        form("nobody", "wrong", "&scope=%ff"),
        "grant_type=refresh_token&refresh_token=x".to_owned(),
        "grant_type=client_credentials&client_id=a&client_secret=b".to_owned(),
        "token=x".to_owned(),
        form("%00", PASSWORD, "").replace("username", "password"),
    ];
    for path in
        ["/me", "/token", "/token/refresh", "/revoke", "/introspect", "/sessions", "/logout", "/register", "/password"]
    {
        let until = Instant::now() + ROUND;
        while Instant::now() < until {
            let method = ["POST", "GET", "DELETE", "OPTIONS", "PUT"][asked % 7 % 5];
            let mut request = Request::builder().method(method).uri(path);
            if asked.is_multiple_of(3) {
                request = request.header("authorization", format!("Bearer {}", tokens[asked / 3 % tokens.len()]));
            }
            if !asked.is_multiple_of(5) {
                request = request.header("content-type", "application/x-www-form-urlencoded");
            }
            let mut request = request.body(Body::from(bodies[asked % bodies.len()].clone())).unwrap();
            request.extensions_mut().insert(ClientIp([192, 0, 2, 1].into()));
            let _ = app.clone().oneshot(request).await;
            asked += 1;
        }
    }
    let seconds = usize::try_from(begun.elapsed().as_secs()).unwrap() + 2;
    drop(guard);
    let text = log.text();
    let loud: Vec<&str> =
        text.lines().filter(|line| ["INFO", "WARN", "ERROR"].iter().any(|level| line.contains(level))).collect();
    let mut reasons: Vec<&str> = loud
        .iter()
        .filter_map(|line| {
            let end = line.find(" status=").or_else(|| line.find(" detail=")).unwrap_or(line.len());
            line.get(line.find("kind=")?..end)
        })
        .collect();
    reasons.sort_unstable();
    reasons.dedup();
    println!("{asked} requests in {seconds} s: {} lines at info, of {} reasons", loud.len(), reasons.len());
    assert!(asked > 500, "{asked}");
    assert!(loud.len() <= reasons.len() * 10 * seconds, "{}", loud.len());
    let own = text.lines().filter(|line| line.contains("portcullis::audit")).count();
    assert!(own > loud.len(), "who listens at debug hears more: {own}");
}
