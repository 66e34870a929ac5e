//! The program that `benches/load/run.py` loads from outside: one handler, bare and behind the layers.
//!
//! ```text
//! load serve            listens on a free port of 127.0.0.1 and prints where
//! load mint COUNT       prints so many tokens that it would accept, one a line
//! load call PATH COUNT  calls a route so often without any socket, for callgrind and the like
//! ```
//!
//! `ALGORITHM` and `SIGNING_KEY` are as for the example `auth_server`, `ISSUER` and `AUDIENCE` are needed,
//! `TOKIO_WORKER_THREADS` says how many threads serve. `/bare` has no layers at all; what it costs is axum, hyper, and the
//! kernel. `/layered` has a layer that does nothing, which shows what axum takes for any. `/protected` is the same handler behind `ResourceServer::protect`; `/named` reads the caller besides.
//! `/unremembered` checks each token from its first byte to its last each time. With `METRICS=on` a recorder takes what is counted;
//! with `AUDIT_FILE` there is an audit trail around all routes, with its lines in that file, or with
//! `AT_THE_ROUTE=on` around the one of `/protected` alone, in one go with its own layer; with `OUTER=on` a layer around all that
//! does nothing.
#![allow(missing_docs, clippy::print_stdout, clippy::print_stderr, reason = "a benchmark talks to its user")]

use std::{
    env,
    error::Error,
    io::{BufWriter, Write as _, stdout},
    process::ExitCode,
    time::SystemTime,
};

use axum::{
    Json, Router,
    body::{Body, to_bytes},
    http::{Request, header::AUTHORIZATION},
    routing::get,
};
use metrics_exporter_prometheus::PrometheusBuilder;
use portcullis::{
    ResourceServer,
    audit::{AuditLayer, AuditTrail, JsonLines},
    authz::Scopes,
    jwt::{Algorithm, ClaimsPolicy, KeySet, SigningKey},
    principal::Principal,
};
use serde::Serialize;
use serde_json::json;
use tokio::net::TcpListener;
use tower::{Service as _, layer::util::Identity};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// What the tokens may do, and what the protected routes demand of it.
const GRANTED: &str = "me items admin";
const DEMANDED: [&str; 1] = ["items"];
/// As long as tokens of `auth_server` may live: no run is longer.
const LIFETIME: u64 = 3600;

#[tokio::main]
async fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["serve"] => serve().await,
        ["mint", count] => mint(count),
        ["call", path, count] => call(path, count).await,
        // `cargo bench` starts every program that there is.
        ["--bench", ..] => {
            println!("load: run by `python3 benches/load/run.py`");
            Ok(())
        }
        _ => Err("usage: load serve | load mint COUNT | load call PATH COUNT".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Serialize)]
struct Report {
    visitors: u32,
}

/// The handler that every route has.
async fn report() -> Json<Report> {
    Json(Report { visitors: 42 })
}

async fn named(caller: Principal) -> Json<Report> {
    // Something of the caller is used, so that nothing of it is optimised away.
    Json(Report { visitors: if caller.subject().is_empty() { 0 } else { 42 } })
}

/// What a server has that is watched, as `auth_server` does it, and where.
enum Watched {
    Nowhere,
    /// By a layer that does nothing.
    Idly,
    Around(AuditTrail),
    AtTheRoute(AuditTrail),
}

fn watched() -> Outcome<Watched> {
    if env::var_os("METRICS").is_some() {
        metrics::set_global_recorder(PrometheusBuilder::new().build_recorder())?;
        portcullis::metrics::describe();
    }
    let Some(path) = env::var_os("AUDIT_FILE") else {
        return Ok(if env::var_os("OUTER").is_some() { Watched::Idly } else { Watched::Nowhere });
    };
    let trail = AuditTrail::builder().sink(JsonLines::append(path)?).start()?;
    trail.install()?;
    Ok(if env::var_os("AT_THE_ROUTE").is_some() { Watched::AtTheRoute(trail) } else { Watched::Around(trail) })
}

fn app() -> Outcome<Router> {
    let policy = ClaimsPolicy::builder(setting("ISSUER")?, setting("AUDIENCE")?).build()?;
    let api = ResourceServer::new(policy, KeySet::new([key()?.verifying_key()])?);
    let items = || Scopes::all_of(DEMANDED);
    let watched = watched()?;
    let protected = match &watched {
        Watched::AtTheRoute(trail) => get(report).layer((AuditLayer::new(trail.clone()), api.protect(items()?))),
        _ => get(report).layer(api.protect(items()?)),
    };
    let app = Router::new()
        .route("/bare", get(report))
        .route("/layered", get(report).layer(Identity::new()))
        .route("/protected", protected)
        .route("/named", get(named).layer(api.protect(items()?)))
        .route("/unremembered", get(report).layer(api.clone().without_cache().protect(items()?)));
    Ok(match watched {
        Watched::Around(trail) => app.layer(AuditLayer::new(trail)),
        Watched::Idly => app.layer(Identity::new()),
        Watched::Nowhere | Watched::AtTheRoute(_) => app,
    })
}

async fn serve() -> Outcome<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app()?).await?)
}

async fn call(path: &str, count: &str) -> Outcome<()> {
    // As `serve` does for each connection; unless it is done, layers are put around handlers for each request.
    let mut app = app()?.with_state::<()>(());
    let header = format!("Bearer {}", token(&key()?, 0)?);
    for _ in 0..count.parse::<u64>()? {
        let request = Request::get(path).header(AUTHORIZATION, &header).body(Body::empty())?;
        let answer = app.call(request).await?;
        if !answer.status().is_success() {
            return Err(format!("{path}: {}", answer.status()).into());
        }
        to_bytes(answer.into_body(), 1024).await?;
    }
    Ok(())
}

fn mint(count: &str) -> Outcome<()> {
    let key = key()?;
    let mut out = BufWriter::new(stdout().lock());
    for number in 0..count.parse::<u64>()? {
        writeln!(out, "{}", token(&key, number)?)?;
    }
    Ok(out.flush()?)
}

fn token(key: &SigningKey, number: u64) -> Outcome<String> {
    let (issuer, audience, now) =
        (setting("ISSUER")?, setting("AUDIENCE")?, SystemTime::UNIX_EPOCH.elapsed()?.as_secs());
    Ok(key.sign(&json!({
        "iss": issuer, "aud": audience, "sub": "user:1MDU7CHDcZdaF_StCCAoog", "client_id": "first-party",
        "iat": now, "exp": now + LIFETIME, "auth_time": now, "jti": format!("load-{number:017}"), "scope": GRANTED,
    }))?)
}

fn key() -> Outcome<SigningKey> {
    let algorithm: Algorithm = setting("ALGORITHM")?.parse()?;
    let text = setting("SIGNING_KEY")?;
    Ok(match algorithm {
        Algorithm::Hs256 => SigningKey::hmac(algorithm, text.trim().as_bytes())?,
        _ => SigningKey::from_pem(algorithm, text.as_bytes())?,
    })
}

fn setting(name: &str) -> Outcome<String> {
    env::var(name).map_err(|why| format!("{name}: {why}").into())
}
