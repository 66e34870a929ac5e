//! A gRPC server that asks for tokens: every kind of call, scopes for each service, one that everybody may call, and gRPC-Web.
//!
//! `cargo run --example tonic_api` makes a key at its start, prints a token that it accepts, and what to try. It signs in nobody.
//! For tokens of somebody who does, such as the example `auth_server`, in three terminals:
//!
//! ```sh
//! USERS='[{"username":"demo","password":"correct horse battery staple","scopes":["notes"]}]' cargo run --example auth_server
//! JWKS_URL=http://127.0.0.1:8080/.well-known/jwks.json ISSUER=http://127.0.0.1:8080 AUDIENCE=api cargo run --example tonic_api
//! curl -s http://127.0.0.1:8080/token -d grant_type=password -d username=demo --data-urlencode 'password=correct horse battery staple'
//! TOKEN=<its access_token> cargo run --example tonic_api -- client
//! ```
//!
//! | variable | default | meaning |
//! |---|---|---|
//! | `LISTEN` | `127.0.0.1:50051` | address and port; port 0 takes a free one |
//! | `JWKS_URL` | none | where the issuer publishes its keys |
//! | `ISSUER`, `AUDIENCE` | | `iss` and `aud` of its tokens; needed with `JWKS_URL` |
//! | `TOKEN`, `URL` | none, `http://127.0.0.1:50051` | for `cargo run --example tonic_api -- client`: what it shows, and to whom |
//!
//! `notes.rs` was generated from `notes.proto`, once, so that nobody needs a build script for it: a program with
//! `tonic-prost-build` 0.14 and `protox` 0.10 that calls
//! `tonic_prost_build::configure().out_dir(".").compile_fds(protox::compile(["notes.proto"], ["."])?)?`, and then `cargo fmt`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program talks to its user")]

mod client;
#[allow(missing_docs, unreachable_pub, clippy::pedantic, reason = "generated")]
mod notes;
mod service;

use std::{
    env,
    error::Error,
    process::ExitCode,
    time::{Duration, SystemTime},
};

use portcullis::{
    ResourceServer,
    authz::{DenyUndecidedLayer, Public},
    config::ConfigErrors,
    jwt::{Algorithm, ClaimsPolicy, KeySet, RemoteJwks, SigningKey},
};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{service::Routes, transport::Server};
use tonic_web::GrpcWebLayer;
use tower::{Layer as _, layer::util::Stack};

use self::{
    notes::{health_server::HealthServer, notes_server::NotesServer, reports_server::ReportsServer},
    service::{Alive, Notebook},
};

#[tokio::main]
async fn main() -> ExitCode {
    // Refusals are told on stderr, with their reason.
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let done = match env::args().nth(1).as_deref() {
        None => serve().await,
        Some("client") => client::run().await,
        Some(other) => Err(format!("{other:?} is no command: leave it out, or say `client`").into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tonic_api: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> Result<(), Box<dyn Error>> {
    let address = env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:50051".to_owned());
    let listener = TcpListener::bind(&address).await.map_err(|e| format!("LISTEN={address}: {e}"))?;
    let address = listener.local_addr()?.to_string();
    let (api, token) = match env::var("JWKS_URL") {
        Ok(url) => (of_issuer(&url)?, None),
        Err(_) => of_own_key().map(|(api, token)| (api, Some(token)))?,
    };
    let server = Server::builder()
        // For gRPC-Web, which browsers speak over HTTP/1.1 as well.
        .accept_http1(true)
        // Who is calling. A stranger goes on, to what is public; a bad token does not.
        .layer(api.authenticate_optional())
        .add_routes(routes(&api)?);
    print_commands(&address, token.as_deref());
    server.serve_with_incoming(TcpListenerStream::new(listener)).await?;
    Ok(())
}

/// The services, each inside of what it demands.
fn routes(api: &ResourceServer) -> Result<Routes, ConfigErrors> {
    // Refuses what nobody has decided about, so that a service whose demand was forgotten is closed, and not open. Inside of it
    // gRPC-Web becomes gRPC, so that refusals come in the framing of the request.
    let last = Stack::new(GrpcWebLayer::new(), DenyUndecidedLayer);
    let notebook = Notebook::default();
    let mut routes = Routes::builder();
    routes
        .add_service(api.require(["notes"])?.layer(last.layer(NotesServer::new(notebook.clone()))))
        .add_service(api.require(["admin"])?.layer(last.layer(ReportsServer::new(notebook))))
        .add_service(Public.layer(last.layer(HealthServer::new(Alive))));
    Ok(routes.routes())
}

/// Accepts the tokens of an issuer that publishes its keys.
fn of_issuer(url: &str) -> Result<ResourceServer, Box<dyn Error>> {
    let named = |name: &str| env::var(name).map_err(|_| format!("{name} is needed with JWKS_URL"));
    let policy = ClaimsPolicy::builder(named("ISSUER")?, named("AUDIENCE")?).build()?;
    let keys = RemoteJwks::builder(url).start().map_err(|e| format!("JWKS_URL={url}: {e}"))?;
    Ok(ResourceServer::new(policy, keys))
}

/// Accepts the tokens of a key that lives as long as the program, of which one is made.
fn of_own_key() -> Result<(ResourceServer, String), Box<dyn Error>> {
    let (issuer, audience) = ("https://tonic-api.example", "notes");
    let key = SigningKey::generate(Algorithm::EdDsa)?;
    let now = SystemTime::UNIX_EPOCH.elapsed()?;
    let token = key.sign(&json!({
        "iss": issuer, "aud": audience, "sub": "demo", "client_id": "trying-out", "jti": "1", "scope": "notes",
        "iat": now.as_secs(), "exp": (now + Duration::from_secs(3600)).as_secs(),
    }))?;
    let policy = ClaimsPolicy::builder(issuer, audience).build()?;
    Ok((ResourceServer::new(policy, KeySet::new([key.verifying_key()])?), token))
}

fn print_commands(address: &str, token: Option<&str>) {
    let token = token.unwrap_or("...                      # the access_token of the issuer, with the scope `notes`");
    let call = "grpcurl -plaintext -import-path examples/tonic_api -proto notes.proto";
    println!(
        "Try:

    export TOKEN={token}
    export URL=http://{address}
    cargo run --example tonic_api -- client               # a call of each kind; 7: the token has no scope `admin`
    TOKEN= cargo run --example tonic_api -- client        # 16: no token

    {call} -H \"authorization: Bearer $TOKEN\" -d '{{\"text\": \"buy milk\"}}' {address} notes.v1.Notes/Add
    {call} -H \"authorization: Bearer $TOKEN\" {address} notes.v1.Notes/List
    {call} -v {address} notes.v1.Notes/List      # Unauthenticated, and the challenge
    {call} {address} notes.v1.Health/Check       # for everybody

    curl -i $URL/notes.v1.Notes/Add -H 'content-type: application/grpc-web' -d ''   # gRPC-Web: grpc-status 16 in the body
    curl -i -X POST $URL/notes.v1.Notes/Add                                         # 401: over HTTP, it is told so"
    );
}
