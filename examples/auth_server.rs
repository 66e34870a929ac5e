//! A server to point any client at, configured by the environment: `cargo run --example auth_server`.
//!
//! | variable | default | meaning |
//! |---|---|---|
//! | `LISTEN` | `127.0.0.1:8080` | address and port; port 0 takes a free one |
//! | `ISSUER` | `http://` and the address | `iss` of the tokens |
//! | `AUDIENCE` | `api` | `aud` of the tokens |
//! | `STORE` | `memory:` | `memory:` or `sqlite:PATH` |
//! | `USERS` | none | JSON array of `{"username", "password", "scopes": […]}`, added where missing |
//! | `ALGORITHM` | `EdDSA` | `EdDSA`, `RS256`, `ES256`, `HS256`, or another that the crate supports |
//! | `SIGNING_KEY` | made at start | PEM; for `HS256` what `openssl rand -hex 32` prints, the text itself being the key |
//! | `ACCESS_TTL` | `600` | lifetime of an access token in seconds, 1 to 3600 |
//! | `JWKS_URL` | none | where another issuer publishes its keys; its tokens are then accepted beside our own |
//! | `JWKS_ISSUER` | none | `iss` of its tokens; needed with `JWKS_URL` |
//! | `JWKS_AUDIENCE` | `AUDIENCE` | `aud` of its tokens |
//! | `JWKS_SCOPES` | `me items` | which of its scopes count here: another issuer's `admin` is none of ours |
//! | `JWKS_COOLDOWN` | `30` | seconds between fetches that unknown keys cause, 1 to 3600; also the least between others |
//!
//! A bad value ends the program with a message that names the variable.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program talks to its user")]

use std::{collections::HashSet, env, process::ExitCode, sync::Arc, time::Duration};

use axum::{Json, Router, extract::State, routing::get};
use portcullis::{
    AuthorizationServer,
    ident::{LoginName, UserId},
    jwt::{Algorithm, ClaimsPolicy, RemoteJwks, SigningKey},
    password::PasswordHasher,
    principal::Principal,
    rejection::Rejection,
    scope::{Scope, ScopeError, ScopeSet},
    secret::Secret,
    store::{MemoryStore, SqliteStore, StoreError, UserRecord, UserStore},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(mistakes) => {
            eprintln!("auth_server: {}", mistakes.join("\nauth_server: "));
            ExitCode::FAILURE
        }
    }
}

/// What is wrong, each with the name of its variable in front.
type Mistakes = Vec<String>;

async fn run() -> Result<(), Mistakes> {
    let settings = Settings::read()?;
    let listener = TcpListener::from_std(settings.listener).map_err(|e| named("LISTEN", e))?;
    let hasher = PasswordHasher::builder().build().map_err(|e| named("password hasher", e))?;
    add_users(&*settings.store, &hasher, settings.users).await?;
    let server = AuthorizationServer::builder(settings.issuer, settings.audience, settings.key)
        .first_party_login(settings.store, hasher)
        .access_token_lifetime(settings.lifetime)
        .build()
        .map_err(|e| named("server", e))?;

    let app = routes(&server, settings.foreign).map_err(|e| named("routes", e))?;
    println!("listening on http://{}", listener.local_addr().map_err(|e| named("LISTEN", e))?);
    axum::serve(listener, app).with_graceful_shutdown(stop()).await.map_err(|e| named("LISTEN", e))
}

/// Resolves when the program is told to end, by Ctrl-C or, on Unix, by SIGTERM.
async fn stop() {
    #[cfg(unix)]
    if let Ok(mut term) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = term.recv() => {}
        }
        return;
    }
    let _ = tokio::signal::ctrl_c().await;
}

fn routes(
    server: &AuthorizationServer,
    foreign: Option<(ClaimsPolicy, RemoteJwks)>,
) -> Result<Router, portcullis::config::ConfigErrors> {
    let own = server.resource_server()?;
    let api = match foreign {
        Some((policy, keys)) => own.trust(policy, keys)?,
        None => own,
    };
    let items = Router::new().route("/users/me/items", get(my_items)).layer(api.require(["items"])?);
    let me = Router::new().route("/users/me", get(me)).merge(items).layer(api.require(["me"])?);
    let admin = Router::new().route("/admin/reports", get(reports)).layer(api.require(["admin"])?);
    Ok(me.merge(admin).layer(api.authenticate()).merge(server.routes()).with_state(server.clone()))
}

async fn me(State(server): State<AuthorizationServer>, caller: Principal) -> Result<Json<Value>, Rejection> {
    if caller.issuer() != server.issuer() {
        // Somebody else's user: what the token says is all that is known here.
        let scopes: Vec<&str> = caller.scopes().collect();
        return Ok(Json(json!({ "issuer": caller.issuer(), "subject": caller.subject(), "scopes": scopes })));
    }
    Ok(Json(json!(server.active_user(&caller).await?.public())))
}

async fn my_items(State(server): State<AuthorizationServer>, caller: Principal) -> Result<Json<Value>, Rejection> {
    let owner = if caller.issuer() == server.issuer() {
        server.active_user(&caller).await?.login.as_str().to_owned()
    } else {
        // Their `alice` is not ours.
        format!("{} of {}", caller.subject(), caller.issuer())
    };
    Ok(Json(json!([{ "item": "lantern", "owner": owner }])))
}

async fn reports() -> Json<Value> {
    Json(json!({ "visitors": 42 }))
}

struct Settings {
    /// Another issuer whose tokens are accepted.
    foreign: Option<(ClaimsPolicy, RemoteJwks)>,
    listener: std::net::TcpListener,
    issuer: String,
    audience: String,
    store: Arc<dyn UserStore>,
    users: Vec<NewUser>,
    key: SigningKey,
    lifetime: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewUser {
    username: String,
    password: String,
    scopes: Vec<String>,
    #[serde(default)]
    disabled: bool,
}

impl Settings {
    /// Reads every variable before it gives up, so that all mistakes show at once.
    fn read() -> Result<Self, Mistakes> {
        let mut mistakes = Mistakes::new();
        let listen = get_or(&mut mistakes, "LISTEN", "127.0.0.1:8080", listen);
        let own_url = listen.as_ref().map_or_else(|| "-".to_owned(), |(_, url)| url.clone());
        let issuer = get_or(&mut mistakes, "ISSUER", &own_url, |text| check_names(text, "-"));
        let audience = get_or(&mut mistakes, "AUDIENCE", "api", |text| check_names("-", text));
        let users = get_or(&mut mistakes, "USERS", "[]", parse_users);
        let lifetime = get_or(&mut mistakes, "ACCESS_TTL", "600", parse_seconds);
        let algorithm = get_or(&mut mistakes, "ALGORITHM", "EdDSA", |text| {
            text.parse::<Algorithm>().map_err(|e| format!("{e}: try EdDSA, RS256, ES256 or HS256"))
        });
        let key =
            algorithm.and_then(|algorithm| get_or(&mut mistakes, "SIGNING_KEY", "", |text| load_key(algorithm, text)));
        let foreign = read_foreign(&mut mistakes, audience.as_deref().unwrap_or("-"));
        if issuer.as_ref().zip(foreign.as_ref()).is_some_and(|(own, (policy, _))| own == policy.issuer()) {
            mistakes.push("JWKS_ISSUER: is our own".to_owned());
        }
        // Last, because it may create a file.
        let open = if mistakes.is_empty() { open_store } else { check_store };
        let store = get_or(&mut mistakes, "STORE", "memory:", open).flatten();
        match (listen, issuer, audience, store, users, key, lifetime) {
            (
                Some((listener, _)),
                Some(issuer),
                Some(audience),
                Some(store),
                Some(users),
                Some(key),
                Some(lifetime),
            ) if mistakes.is_empty() => Ok(Self { foreign, listener, issuer, audience, store, users, key, lifetime }),
            _ => Err(mistakes),
        }
    }
}

/// Reads what begins with `JWKS_`; without `JWKS_URL` there is no other issuer, and the rest would mean nothing.
fn read_foreign(mistakes: &mut Mistakes, audience: &str) -> Option<(ClaimsPolicy, RemoteJwks)> {
    let names = ["JWKS_URL", "JWKS_ISSUER", "JWKS_AUDIENCE", "JWKS_SCOPES", "JWKS_COOLDOWN"];
    let set: Vec<&str> = names.into_iter().filter(|name| env::var_os(name).is_some()).collect();
    if set.is_empty() {
        return None;
    }
    for name in ["JWKS_URL", "JWKS_ISSUER"].into_iter().filter(|name| !set.contains(name)) {
        mistakes.push(format!("{name}: is needed with {}", set.join(" and ")));
    }
    let issuer = get_or(mistakes, "JWKS_ISSUER", "-", |text| check_names(text, "-"));
    let audience = get_or(mistakes, "JWKS_AUDIENCE", audience, |text| check_names("-", text));
    let cooldown = get_or(mistakes, "JWKS_COOLDOWN", "30", parse_seconds).unwrap_or(Duration::from_secs(30));
    // Fetches from now on; where something else is wrong, it ends with the program.
    let mut fetch = || {
        get_or(mistakes, "JWKS_URL", "", |url| {
            let builder = RemoteJwks::builder(url).cooldown(cooldown).refresh(cooldown, Duration::from_secs(3600));
            builder.start().map_err(|e| e.to_string())
        })
    };
    let keys = if set.contains(&"JWKS_URL") { fetch() } else { None };
    let scopes =
        get_or(mistakes, "JWKS_SCOPES", "me items", |text| text.parse::<ScopeSet>().map_err(|e| e.to_string()))?;
    let policy =
        ClaimsPolicy::builder(issuer?, audience?).map_scopes(scopes.iter().map(|scope| (scope, scope))).build();
    let policy = policy.map_err(|e| mistakes.push(format!("JWKS_ISSUER: {e}"))).ok();
    policy.zip(keys)
}

/// Reads a variable. One that is set but empty is a mistake: a secret that failed to arrive must not pass for none.
fn get_or<T>(
    mistakes: &mut Mistakes,
    name: &str,
    default: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Option<T> {
    let value = match env::var(name) {
        Ok(value) if value.is_empty() => Err("is set but empty".to_owned()),
        Ok(value) => parse(&value),
        Err(env::VarError::NotPresent) => parse(default),
        Err(env::VarError::NotUnicode(_)) => Err("is not UTF-8".to_owned()),
    };
    value.map_err(|why| mistakes.push(format!("{name}: {why}"))).ok()
}

fn named(name: &str, why: impl std::fmt::Display) -> Mistakes {
    vec![format!("{name}: {why}")]
}

/// The socket, and the URL that it has unless `ISSUER` says otherwise.
fn listen(text: &str) -> Result<(std::net::TcpListener, String), String> {
    let bind = || {
        let listener = std::net::TcpListener::bind(text)?;
        listener.set_nonblocking(true)?;
        let free_port = text.ends_with(":0");
        let url = if free_port { format!("http://{}", listener.local_addr()?) } else { format!("http://{text}") };
        Ok((listener, url))
    };
    bind().map_err(|e: std::io::Error| e.to_string())
}

/// One of the two is under test; it comes back if it can be the `iss` or `aud` of a token.
fn check_names(issuer: &str, audience: &str) -> Result<String, String> {
    let policy = ClaimsPolicy::builder(issuer, audience).build().map_err(|e| e.to_string());
    policy.map(|_| if issuer == "-" { audience.to_owned() } else { issuer.to_owned() })
}

fn parse_users(text: &str) -> Result<Vec<NewUser>, String> {
    // serde_json's own message could quote a password.
    let users: Vec<NewUser> = serde_json::from_str(text).map_err(|e| {
        format!("line {}, column {}: not an array of {{\"username\", \"password\", \"scopes\"}}", e.line(), e.column())
    })?;
    let mut names = HashSet::new();
    for (at, user) in users.iter().enumerate() {
        let name = LoginName::parse(&user.username).map_err(|e| format!("entry {at}: {e}"))?;
        if user.password.is_empty() || user.password.len() > 1024 {
            return Err(format!("entry {at}: the password must have 1 to 1,024 bytes"));
        }
        parse_scopes(&user.scopes).map_err(|e| format!("entry {at}: {e}"))?;
        if !names.insert(name) {
            return Err(format!("entry {at}: the user name is taken by an entry before it"));
        }
    }
    Ok(users)
}

fn parse_scopes(names: &[String]) -> Result<ScopeSet, ScopeError> {
    names.iter().map(|name| Scope::parse(name)).collect()
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 1..=3600) => Ok(Duration::from_secs(seconds)),
        _ => Err("must be a whole number of seconds from 1 to 3600".to_owned()),
    }
}

fn load_key(algorithm: Algorithm, text: &str) -> Result<SigningKey, String> {
    if text.is_empty() {
        tracing::warn!("SIGNING_KEY is not set: a key is made now, and its tokens die with the process");
        return SigningKey::generate(algorithm).map_err(|e| e.to_string());
    }
    if matches!(algorithm, Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512) {
        let secret = text.trim().as_bytes();
        // A passphrase of that length would pass as a key; digits that a tool printed are what was meant.
        if !secret.iter().all(u8::is_ascii_hexdigit) {
            return Err("must be hexadecimal digits, such as `openssl rand -hex 32` prints".to_owned());
        }
        return SigningKey::hmac(algorithm, secret).map_err(|e| e.to_string());
    }
    // Files of environment variables often carry a PEM on one line.
    SigningKey::from_pem(algorithm, text.replace("\\n", "\n").as_bytes()).map_err(|e| e.to_string())
}

fn open_store(text: &str) -> Result<Option<Arc<dyn UserStore>>, String> {
    match text.split_once(':') {
        Some(("memory", "")) => Ok(Some(Arc::new(MemoryStore::new()))),
        Some(("sqlite", path)) if is_path(path) => {
            SqliteStore::open(path).map(|store| Some(Arc::new(store) as _)).map_err(|e| e.to_string())
        }
        _ => Err("must be `memory:` or `sqlite:PATH`, with a plain path".to_owned()),
    }
}

/// What other programs take for more than a path, such as `//users.db`, `:memory:` and `file:users.db?mode=ro`, is none.
fn is_path(path: &str) -> bool {
    !path.is_empty() && !["//", ":", "file:"].iter().any(|start| path.starts_with(start))
}

/// As [`open_store`], without opening anything.
fn check_store(text: &str) -> Result<Option<Arc<dyn UserStore>>, String> {
    if text.strip_prefix("sqlite:").is_some_and(is_path) { Ok(None) } else { open_store(text) }
}

async fn add_users(store: &dyn UserStore, hasher: &PasswordHasher, users: Vec<NewUser>) -> Result<(), Mistakes> {
    for user in users {
        let login = LoginName::parse(&user.username).map_err(|e| named("USERS", e))?;
        if store.find_by_login(&login).await.map_err(|e| named("STORE", e))?.is_some() {
            tracing::info!(username = login.as_str(), "the user is there already and stays as they are");
            continue;
        }
        let password = hasher.hash(Secret::new(user.password)).await.map_err(|e| named("USERS", e))?;
        let id = UserId::random().map_err(|e| named("USERS", e))?;
        let scopes = parse_scopes(&user.scopes).map_err(|e| named("USERS", e))?;
        match store.insert(UserRecord { id, login, password, scopes, disabled: user.disabled }).await {
            // Somebody else, such as a second server on the same file, was faster.
            Ok(()) | Err(StoreError::Conflict) => {}
            Err(error) => return Err(named("STORE", error)),
        }
    }
    Ok(())
}
