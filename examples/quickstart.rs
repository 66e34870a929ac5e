//! Sign in with a password, call protected routes, be refused: `cargo run --example quickstart`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program talks to its user")]

use std::{env, error::Error, net::SocketAddr, process::ExitCode, sync::Arc};

use axum::{Json, extract::State};
use portcullis::{
    AuthorizationServer,
    ident::{LoginName, UserId},
    jwt::{Algorithm, SigningKey},
    openapi::{OpenApiRouterExt as _, docs},
    password::PasswordHasher,
    principal::Principal,
    random,
    rejection::Rejection,
    session::SessionPolicy,
    store::{SqliteStore, UserPublic, UserRecord, UserStore},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

#[derive(OpenApi)]
#[openapi(info(title = "Quickstart"))]
struct Document;

/// What the scopes are for, as whoever signs in on the page of the document reads it.
const SCOPES: [(&str, &str); 3] = [("me", "Who you are"), ("items", "What you have"), ("admin", "What others have")];

const DATABASE: &str = "quickstart.db";

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quickstart: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    // Refusals and logins are told on stderr, with their reason.
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let address = env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind(&address).await.map_err(|e| format!("LISTEN={address}: {e}"))?;
    let url = format!("http://{}", listener.local_addr()?);

    let store = Arc::new(SqliteStore::open(DATABASE).map_err(|e| format!("{DATABASE}: {e}"))?);
    let hasher = PasswordHasher::builder().build()?;
    add_demo_user(&*store, &hasher).await?;

    // A key that lives as long as the program. Load one with `SigningKey::from_pem` to keep tokens valid.
    let key = SigningKey::generate(Algorithm::EdDsa)?;
    let server = AuthorizationServer::builder(&url, "quickstart", key)
        .first_party_login(store.clone(), hasher)
        .sessions(store, SessionPolicy::default())
        .build()?;
    let api = server.resource_server();

    // A scope is demanded where the route stands, and drawn on the page; what is further in needs what is further out as well.
    let (app, document) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(me))
        .routes(routes!(my_items).require_scopes(["items"])?)
        .require_scopes(["me"])?
        .routes(routes!(reports).require_scopes(["admin"])?)
        .authenticate(&api)
        .merge(server.documented_routes())
        .split_for_parts();
    let document = server.document(document, SCOPES)?;
    let app = app.merge(docs("/docs", &document)).with_state(server);

    print_commands(&url);
    // With the peer's address, by which logins are limited.
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}

/// Who is calling
#[utoipa::path(get, path = "/users/me", responses((status = 200, description = "The user", body = UserPublic)))]
async fn me(State(server): State<AuthorizationServer>, caller: Principal) -> Result<Json<UserPublic>, Rejection> {
    Ok(Json(server.active_user(&caller).await?.public()))
}

/// What they have
#[utoipa::path(get, path = "/users/me/items", responses((status = 200, description = "Their items", body = Value)))]
async fn my_items(State(server): State<AuthorizationServer>, caller: Principal) -> Result<Json<Value>, Rejection> {
    let user = server.active_user(&caller).await?;
    Ok(Json(json!([{ "item": "lantern", "owner": user.login.as_str() }])))
}

/// What others have
#[utoipa::path(get, path = "/admin/reports", responses((status = 200, description = "The reports", body = Value)))]
async fn reports() -> Json<Value> {
    Json(json!({ "visitors": 42 }))
}

async fn add_demo_user(users: &dyn UserStore, hasher: &PasswordHasher) -> Result<(), Box<dyn Error>> {
    let login = LoginName::parse("demo")?;
    if users.find_by_login(&login).await?.is_some() {
        println!("The user `demo` is there already. Delete {DATABASE} for a new password.\n");
        return Ok(());
    }
    let secret = random::password()?;
    println!("Password of the user `demo`, shown this once: {}\n", secret.expose());
    let password = hasher.hash(secret).await?;
    let scopes = "me items".parse()?;
    users.insert(UserRecord { id: UserId::random()?, login, password, scopes, disabled: false }).await?;
    Ok(())
}

fn print_commands(url: &str) {
    println!(
        "Try, with the password in place of PASSWORD:

    curl -s {url}/token -d grant_type=password -d username=demo --data-urlencode password=PASSWORD
    export TOKEN=...                      # the access_token of the answer
    curl -i {url}/users/me -H \"Authorization: Bearer $TOKEN\"
    curl -i {url}/users/me/items -H \"Authorization: Bearer $TOKEN\"
    curl -i {url}/admin/reports -H \"Authorization: Bearer $TOKEN\"   # 403: a scope is missing
    curl -i {url}/users/me                # 401: no token
    curl -s {url}/token/refresh -d refresh_token=REFRESH_TOKEN         # the next pair; the old one is spent
    curl -s {url}/sessions -H \"Authorization: Bearer $TOKEN\"
    curl -i -X POST {url}/logout -H \"Authorization: Bearer $TOKEN\"   # and nothing of it opens anything
    curl -s {url}/.well-known/jwks.json

The same in a browser, with a button to sign in: {url}/docs"
    );
}
