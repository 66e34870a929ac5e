//! Filters of warp inside of layers, and served by hyper: `cargo run --example warp_api`.
//!
//! It signs in nobody: it makes a key at its start, and prints tokens that it accepts.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program talks to its user")]

use std::{
    convert::Infallible,
    env,
    error::Error,
    process::ExitCode,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use portcullis::{
    ResourceServer,
    authz::{DenyUndecidedLayer, Public, Scopes},
    jwt::{Algorithm, ClaimsPolicy, KeySet, SigningKey},
    principal::Principal,
};
use serde_json::json;
use tokio::net::TcpListener;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt as _, service_fn, util::BoxCloneSyncService};
use warp::{Filter as _, reply};

const ISSUER: &str = "https://warp-api.example";
const AUDIENCE: &str = "warp";

type Body = UnsyncBoxBody<Bytes, BoxError>;
type App = BoxCloneSyncService<Request<Incoming>, Response<Body>, Infallible>;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("warp_api: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    // Refusals are told on stderr, with their reason.
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let address = env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind(&address).await.map_err(|e| format!("LISTEN={address}: {e}"))?;
    let url = format!("http://{}", listener.local_addr()?);

    let key = SigningKey::generate(Algorithm::EdDsa)?;
    let policy = ClaimsPolicy::builder(ISSUER, AUDIENCE).build()?;
    let app = app(&ResourceServer::new(policy, KeySet::new([key.verifying_key()])?))?;
    print_commands(&url, &token(&key, "me")?, &token(&key, "me admin")?);
    loop {
        let (stream, _) = listener.accept().await?;
        let service = TowerToHyperService::new(app.clone());
        tokio::spawn(async move {
            let server = auto::Builder::new(TokioExecutor::new());
            if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!("connection ended: {error}");
            }
        });
    }
}

/// Filters become services, each inside of what it demands; what none of them is for goes to the public ones, which answer 404.
fn app(api: &ResourceServer) -> Result<App, Box<dyn Error>> {
    let health = warp::path!("health").map(|| "up");
    // A layer has put the caller into the extensions. Without it the filter would not match.
    let me = warp::path!("users" / "me")
        .and(warp::ext::get::<Principal>())
        .map(|caller: Principal| reply::json(&json!({ "subject": caller.subject() })));
    let reports = warp::path!("admin" / "reports").map(|| reply::json(&json!({ "visitors": 42 })));

    let stack = || ServiceBuilder::new().layer(api.authenticate());
    // Innermost, so that filters around which a demand was forgotten are closed, and not open.
    let last = DenyUndecidedLayer;
    let me = boxed(stack().layer(api.require(["me"])?).layer(last).service(warp::service(me)));
    // All in one.
    let admin = api.protect(Scopes::all_of(["me", "admin"])?);
    let reports = boxed(ServiceBuilder::new().layer(admin).layer(last).service(warp::service(reports)));
    let open = boxed(ServiceBuilder::new().layer(Public).layer(last).service(warp::service(health)));
    Ok(App::new(service_fn(move |request: Request<Incoming>| {
        let service = match request.uri().path().split('/').nth(1) {
            Some("users") => &me,
            Some("admin") => &reports,
            _ => &open,
        };
        service.clone().oneshot(request)
    })))
}

/// One type for them all.
fn boxed<S, B>(service: S) -> App
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    App::new(service.map_response(|response: Response<B>| response.map(|body| body.map_err(Into::into).boxed_unsync())))
}

fn token(key: &SigningKey, scope: &str) -> Result<String, Box<dyn Error>> {
    let now = SystemTime::UNIX_EPOCH.elapsed()?;
    Ok(key.sign(&json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "demo", "client_id": "trying-out", "jti": scope, "scope": scope,
        "iat": now.as_secs(), "exp": (now + Duration::from_secs(3600)).as_secs(),
    }))?)
}

fn print_commands(url: &str, token: &str, admin: &str) {
    println!(
        "Try:

    export TOKEN={token}
    export ADMIN={admin}
    curl -i {url}/health                  # for everybody
    curl -i {url}/users/me -H \"Authorization: Bearer $TOKEN\"
    curl -i {url}/users/me                # 401: no token
    curl -i {url}/admin/reports -H \"Authorization: Bearer $TOKEN\"   # 403: a scope is missing
    curl -i {url}/admin/reports -H \"Authorization: Bearer $ADMIN\""
    );
}
