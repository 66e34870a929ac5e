//! A server to point any client at, configured by the environment: `cargo run --example auth_server`.
//!
//! | variable | default | meaning |
//! |---|---|---|
//! | `LISTEN` | `127.0.0.1:8080` | address and port; port 0 takes a free one |
//! | `ISSUER` | `http://` and the address | `iss` of the tokens |
//! | `AUDIENCE` | `api` | `aud` of the tokens |
//! | `STORE` | `memory:` | users, sessions and keys: `memory:`, `sqlite:PATH`, or with `--features postgres` `postgres://…` |
//! | `REDIS_URL` | none | sessions, what is called back, and counts of logins, with `--features redis`: `redis://…`; unless set, the first two are in `STORE`, and logins are counted in memory |
//! | `USERS` | none | JSON array of `{"username", "password", "scopes": […]}`, added where missing |
//! | `REGISTRATION` | `closed` | `open`: strangers may register, for the scopes `me items`; `hidden`: without learning which names are taken |
//! | `ALGORITHM` | `EdDSA` | `EdDSA`, `RS256`, `ES256`, `HS256`, or another that the crate supports |
//! | `SIGNING_KEY` | made at start | PEM; for `HS256` what `openssl rand -hex 32` prints, the text itself being the key |
//! | `KEY_SECRET` | none | instead of `SIGNING_KEY`: keys live in `STORE` and take turns, sealed under this, what `openssl rand -hex 32` prints |
//! | `ACCESS_TTL` | `600` | lifetime of an access token in seconds, 1 to 3600 |
//! | `SESSION_IDLE` | `1209600` | seconds for which a session lasts unused, 60 to a year |
//! | `SESSION_TTL` | `7776000` | seconds for which it lasts in all, 60 to ten years |
//! | `REFRESH_GRACE` | `0` | seconds for which a refresh token that was turned gives the same successor again, up to 60 |
//! | `LOGIN_FAILURES` | `5` | failures of an account that cost no wait, 1 to 100; after them waits double from 30 s to 15 min |
//! | `LOGIN_WINDOW` | `86400` | seconds without a failure after which the earlier ones are forgotten, 1 to 2592000 |
//! | `LOGIN_PER_MINUTE` | `30` | logins of a client address that fail: so many at once, and as many a minute, 1 to 1000000 |
//! | `TRUSTED_PROXIES` | none | networks such as `10.0.0.0/8, 192.0.2.1`, between commas, whose `Forwarded` or `X-Forwarded-For` is believed |
//! | `CORS_ORIGINS` | none | origins such as `https://app.example, https://*.app.example`, between commas, whose pages may call; `*` is every one |
//! | `CORS_METHODS` | `GET, HEAD, POST` | methods that those pages may use, between commas |
//! | `CORS_HEADERS` | none | request headers that they may set, between commas, such as `authorization, content-type` |
//! | `CORS_EXPOSE` | none | headers of answers that they may read, between commas, such as `www-authenticate, retry-after` |
//! | `CORS_CREDENTIALS` | `false` | `true`: they may send cookies |
//! | `CORS_MAX_AGE` | none | seconds for which a browser remembers what is allowed, 0 to 86400; by itself it does for 5 |
//! | `HASH_CONCURRENCY` | cores | passwords that are hashed at once, 1 to 256 |
//! | `CLIENTS` | none | JSON array of `{"client_id", "client_secret", "grants": […], "scopes": […], "resources": […], "introspects": […]}`; all but the first may be left out, without a secret the client is public, grants are `password` and `client_credentials` |
//! | `RESOURCES` | none | JSON array of `{"resource", "scopes": […]}`: what tokens can be for beside `AUDIENCE` |
//! | `JWKS_URL` | none | where another issuer publishes its keys; its tokens are then accepted beside our own |
//! | `JWKS_ISSUER` | none | `iss` of its tokens; needed with `JWKS_URL` |
//! | `JWKS_AUDIENCE` | `AUDIENCE` | `aud` of its tokens |
//! | `JWKS_SCOPES` | `me items` | which of its scopes count here: another issuer's `admin` is none of ours |
//! | `JWKS_COOLDOWN` | `30` | seconds between fetches that unknown keys cause, 1 to 3600; also the least between others |
//!
//! A bad value ends the program with a message that names the variable.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program talks to its user")]

use std::{collections::HashSet, env, fmt::Display, net::SocketAddr, process::ExitCode, str::FromStr, time::Duration};

use axum::{Json, Router, extract::State, routing::get};
use portcullis::{
    AuthorizationServer, AuthorizationServerBuilder,
    client::{Client, GrantType, HashedSecret, Resource},
    client_ip::{ClientIpLayer, TrustedProxies},
    config::ConfigError,
    cors::{CorsPolicy, CorsPolicyBuilder, CorsSetting, CorsStrictLayer},
    endpoint::Registration,
    ident::{LoginName, UserId},
    jwt::{Algorithm, ClaimsPolicy, KeyRing, RemoteJwks, SigningKey},
    login::{Lockout, LoginLimiter, LoginLimiterBuilder, Quota},
    password::PasswordHasher,
    principal::Principal,
    rejection::Rejection,
    scope::{Scope, ScopeError, ScopeSet},
    secret::Secret,
    session::SessionPolicy,
    store::{Store, StoreError, UserRecord, UserStore},
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
    let hasher = PasswordHasher::builder();
    let hasher = settings.hash_concurrency.map_or(hasher.clone(), |most| hasher.concurrency(most));
    let hasher = hasher.build().map_err(|e| named("HASH_CONCURRENCY", e))?;
    // Last, because it may create a file.
    let store = Store::connect(&settings.store).await.map_err(|e| named("STORE", e))?;
    let users =
        store.users().ok_or_else(|| named("STORE", "holds no users; give it as REDIS_URL, beside another one"))?;
    let shared = match &settings.redis {
        Some(url) => Store::connect(url).await.map_err(|e| named("REDIS_URL", e))?,
        None => store.clone(),
    };
    let limiter = LoginLimiter::builder().per_address(settings.per_address).per_account(settings.lockout);
    let limiter = shared.attempts().into_iter().fold(limiter, LoginLimiterBuilder::store);
    let limiter = settings.secret.into_iter().fold(limiter, LoginLimiterBuilder::secret);
    let limiter = limiter.build().map_err(|e| named("login limits", e))?;
    let keys = match settings.keys {
        Keys::Given(key) => KeyRing::from(*key),
        Keys::Stored(algorithm, secret) => {
            let keys = store.keys().ok_or_else(|| named("KEY_SECRET", "the store holds no keys"))?;
            KeyRing::stored(keys, algorithm, secret).open().await.map_err(|e| named("KEY_SECRET", e))?
        }
    };
    add_users(&*users, &hasher, settings.users).await?;
    let builder = AuthorizationServer::builder(settings.issuer, settings.audience, keys)
        .first_party_login(users, hasher)
        .login_limits(limiter)
        .sessions(shared.sessions(), settings.policy)
        .access_token_lifetime(settings.lifetime);
    let builder = match settings.registration {
        Some(registration) => builder.registration(registration),
        None => builder,
    };
    let builder = settings.resources.into_iter().fold(builder, AuthorizationServerBuilder::resource);
    let builder = settings.clients.into_iter().fold(builder, AuthorizationServerBuilder::client);
    let server = builder.build().map_err(|e| named("server", e))?;

    let app = routes(&server, settings.foreign).map_err(|e| named("routes", e))?;
    let app = app.layer(ClientIpLayer::new(settings.proxies));
    // Outermost: preflight requests carry no credential, and are no logins; and a script is to see why it was refused.
    let app = match settings.cors {
        Some(policy) => app.layer(CorsStrictLayer::new(policy)),
        None => app,
    };
    println!("listening on http://{}", listener.local_addr().map_err(|e| named("LISTEN", e))?);
    // With the peer's address, by which logins are limited, and for the list of sessions.
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
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
    store: String,
    redis: Option<String>,
    users: Vec<NewUser>,
    /// `None` if nobody may register.
    registration: Option<Registration>,
    clients: Vec<Client>,
    resources: Vec<Resource>,
    keys: Keys,
    lifetime: Duration,
    policy: SessionPolicy,
    lockout: Lockout,
    per_address: Quota,
    proxies: TrustedProxies,
    /// `None` if no page of another origin may call.
    cors: Option<CorsPolicy>,
    hash_concurrency: Option<usize>,
    /// Under which devices are known: whatever secret there is that outlives the process.
    secret: Option<Secret<String>>,
}

/// Where the signing keys are.
enum Keys {
    Given(Box<SigningKey>),
    Stored(Algorithm, Secret<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewClient {
    client_id: String,
    client_secret: Option<String>,
    #[serde(default)]
    grants: Vec<String>,
    scopes: Option<Vec<String>>,
    resources: Option<Vec<String>>,
    #[serde(default)]
    introspects: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewResource {
    resource: String,
    scopes: Option<Vec<String>>,
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
        let registration = get_or(&mut mistakes, "REGISTRATION", "closed", parse_registration).flatten();
        let clients = get_or(&mut mistakes, "CLIENTS", "[]", parse_clients);
        let resources = get_or(&mut mistakes, "RESOURCES", "[]", parse_resources);
        let lifetime = get_or(&mut mistakes, "ACCESS_TTL", "600", parse_seconds);
        let policy = read_policy(&mut mistakes);
        let lockout = read_lockout(&mut mistakes);
        let per_address =
            get_or(&mut mistakes, "LOGIN_PER_MINUTE", "30", |text| number(text, 1, 1_000_000)).map(Quota::per_minute);
        let proxies = get_or(&mut mistakes, "TRUSTED_PROXIES", "-", parse_proxies);
        let cors = read_cors(&mut mistakes);
        let hash_concurrency = env::var_os("HASH_CONCURRENCY")
            .and_then(|_| get_or(&mut mistakes, "HASH_CONCURRENCY", "", |text| number::<usize>(text, 1, 256)));
        let secret = device_secret();
        let algorithm = get_or(&mut mistakes, "ALGORITHM", "EdDSA", |text| {
            text.parse::<Algorithm>().map_err(|e| format!("{e}: try EdDSA, RS256, ES256 or HS256"))
        });
        let keys = algorithm.and_then(|algorithm| read_keys(&mut mistakes, algorithm));
        let foreign = read_foreign(&mut mistakes, audience.as_deref().unwrap_or("-"));
        if issuer.as_ref().zip(foreign.as_ref()).is_some_and(|(own, (policy, _))| own == policy.issuer()) {
            mistakes.push("JWKS_ISSUER: is our own".to_owned());
        }
        let store =
            get_or(&mut mistakes, "STORE", "memory:", |text| check_url(text, &["memory", "sqlite", "postgres"]));
        let redis = env::var_os("REDIS_URL")
            .and_then(|_| get_or(&mut mistakes, "REDIS_URL", "", |text| check_url(text, &["redis", "rediss", "unix"])));
        let limits = lockout.zip(per_address).zip(proxies);
        match (listen, issuer, audience, store, users, clients, resources, keys, lifetime, policy.zip(limits)) {
            (
                Some((listener, _)),
                Some(issuer),
                Some(audience),
                Some(store),
                Some(users),
                Some(clients),
                Some(resources),
                Some(keys),
                Some(lifetime),
                Some((policy, ((lockout, per_address), proxies))),
            ) if mistakes.is_empty() => Ok(Self {
                foreign,
                listener,
                issuer,
                audience,
                store,
                redis,
                users,
                registration,
                clients,
                resources,
                keys,
                lifetime,
                policy,
                lockout,
                per_address,
                proxies,
                cors,
                hash_concurrency,
                secret,
            }),
            _ => Err(mistakes),
        }
    }
}

fn parse_registration(text: &str) -> Result<Option<Registration>, String> {
    let open = Registration::new().scopes(["me", "items"]);
    match text {
        "closed" => Ok(None),
        "open" => Ok(Some(open)),
        "hidden" => Ok(Some(open.hide_existing_names())),
        _ => Err("is none of closed, open and hidden".to_owned()),
    }
}

fn read_policy(mistakes: &mut Mistakes) -> Option<SessionPolicy> {
    let idle = get_or(mistakes, "SESSION_IDLE", "1209600", |text| seconds(text, 60, 31_622_400));
    let absolute = get_or(mistakes, "SESSION_TTL", "7776000", |text| seconds(text, 60, 316_224_000));
    let grace = get_or(mistakes, "REFRESH_GRACE", "0", |text| seconds(text, 0, 60));
    Some(SessionPolicy::default().idle(idle?).absolute(absolute?).grace(grace?))
}

fn read_lockout(mistakes: &mut Mistakes) -> Option<Lockout> {
    let free = get_or(mistakes, "LOGIN_FAILURES", "5", |text| number(text, 1, 100));
    let window = get_or(mistakes, "LOGIN_WINDOW", "86400", |text| seconds(text, 1, 30 * 86400));
    Some(Lockout::default().free(free?).window(window?))
}

/// Devices that have signed in before must be known after a restart, and by a second server with the same keys.
fn device_secret() -> Option<Secret<String>> {
    let set = |name: &str| env::var(name).ok().filter(|text| !text.is_empty());
    let secret = set("KEY_SECRET").or_else(|| set("SIGNING_KEY"))?;
    // A digest of all of it, because a PEM is no secret that a limiter takes, and longer than what is hashed at once.
    let mut digest = String::new();
    for part in secret.trim().as_bytes().chunks(256) {
        let text = digest + &String::from_utf8_lossy(part);
        digest = HashedSecret::of(&Secret::new(text)).ok()?.to_string();
    }
    Some(Secret::new(digest))
}

fn parse_proxies(text: &str) -> Result<TrustedProxies, String> {
    if text == "-" {
        return Ok(TrustedProxies::none());
    }
    TrustedProxies::parse(text.split(',').map(str::trim)).map_err(|e| e.to_string())
}

/// Reads what begins with `CORS_`; without `CORS_ORIGINS` nobody is allowed anything, and the rest would mean nothing.
fn read_cors(mistakes: &mut Mistakes) -> Option<CorsPolicy> {
    let names =
        ["ORIGINS", "METHODS", "HEADERS", "EXPOSE", "CREDENTIALS", "MAX_AGE"].map(|name| format!("CORS_{name}"));
    if names.iter().all(|name| env::var_os(name).is_none()) {
        return None;
    }
    let mut list = |name: &str| -> Vec<String> {
        let parse = |text: &str| Ok(text.split(',').map(|item| item.trim().to_owned()).collect());
        if env::var_os(name).is_some() { get_or(mistakes, name, "", parse).unwrap_or_default() } else { Vec::new() }
    };
    let policy = CorsPolicy::builder().origins(list("CORS_ORIGINS"));
    let policy = policy.request_headers(list("CORS_HEADERS")).expose_headers(list("CORS_EXPOSE"));
    let methods = list("CORS_METHODS");
    let policy = if methods.is_empty() { policy } else { policy.methods(methods) };
    let credentials = get_or(mistakes, "CORS_CREDENTIALS", "false", |text| {
        text.parse::<bool>().map_err(|_| "is neither true nor false".to_owned())
    });
    let max_age = env::var_os("CORS_MAX_AGE").and_then(|_| {
        get_or(mistakes, "CORS_MAX_AGE", "", |text| {
            text.parse().map(Duration::from_secs).map_err(|_| "is no whole number of seconds".to_owned())
        })
    });
    // Also where that cannot be read, so that what does not go with it is told at once.
    let policy = if credentials == Some(false) { policy } else { policy.credentials() };
    let policy = max_age.into_iter().fold(policy, CorsPolicyBuilder::max_age);
    let told = policy.build().map_err(|errors| {
        for error in errors.iter() {
            let ConfigError::Cors(cors) = error else { continue };
            let variable = match cors.setting() {
                CorsSetting::Origins => "ORIGINS",
                CorsSetting::Credentials => "CREDENTIALS",
                CorsSetting::Methods => "METHODS",
                CorsSetting::RequestHeaders => "HEADERS",
                CorsSetting::ExposeHeaders => "EXPOSE",
                _ => "MAX_AGE",
            };
            mistakes.push(format!("CORS_{variable}: {cors}"));
        }
    });
    told.ok()
}

fn read_keys(mistakes: &mut Mistakes, algorithm: Algorithm) -> Option<Keys> {
    if env::var_os("KEY_SECRET").is_none() {
        let key = get_or(mistakes, "SIGNING_KEY", "", |text| load_key(algorithm, text));
        return key.map(|key| Keys::Given(Box::new(key)));
    }
    if env::var_os("SIGNING_KEY").is_some() {
        mistakes.push("KEY_SECRET: there is a SIGNING_KEY already".to_owned());
    }
    get_or(mistakes, "KEY_SECRET", "", |text| Ok(Keys::Stored(algorithm, Secret::new(text.trim().to_owned()))))
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
    let users: Vec<NewUser> = json_array(text, "{\"username\", \"password\", \"scopes\"}")?;
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

fn parse_clients(text: &str) -> Result<Vec<Client>, String> {
    let clients: Vec<NewClient> = json_array(text, "{\"client_id\", …}")?;
    clients.into_iter().enumerate().map(|(at, new)| client(new).map_err(|e| format!("entry {at}: {e}"))).collect()
}

fn client(new: NewClient) -> Result<Client, String> {
    let mut client = match new.client_secret {
        Some(secret) => {
            let secret =
                HashedSecret::of(&Secret::new(secret)).map_err(|_| "the secret must be 32 random characters")?;
            Client::confidential(new.client_id, secret)
        }
        None => Client::public(new.client_id),
    };
    for grant in &new.grants {
        client = client.grant(match grant.as_str() {
            "password" => GrantType::Password,
            "client_credentials" => GrantType::ClientCredentials,
            _ => return Err("a grant is `password` or `client_credentials`".to_owned()),
        });
    }
    if let Some(scopes) = new.scopes {
        client = client.scopes(scopes);
    }
    if let Some(resources) = new.resources {
        client = client.resources(resources);
    }
    Ok(client.introspects(new.introspects))
}

fn parse_resources(text: &str) -> Result<Vec<Resource>, String> {
    let resources: Vec<NewResource> = json_array(text, "{\"resource\", \"scopes\"}")?;
    let resource = |new: NewResource| match new.scopes {
        Some(scopes) => Resource::new(new.resource).scopes(scopes),
        None => Resource::new(new.resource),
    };
    Ok(resources.into_iter().map(resource).collect())
}

/// The parser's own message could quote a secret.
fn json_array<T: serde::de::DeserializeOwned>(text: &str, of: &str) -> Result<Vec<T>, String> {
    serde_json::from_str(text).map_err(|e| format!("line {}, column {}: not an array of {of}", e.line(), e.column()))
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    seconds(text, 1, 3600)
}

fn seconds(text: &str, least: u64, most: u64) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) if (least..=most).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("must be a whole number of seconds from {least} to {most}")),
    }
}

fn number<T: FromStr + PartialOrd + Display + Copy>(text: &str, least: T, most: T) -> Result<T, String> {
    match text.parse() {
        Ok(number) if least <= number && number <= most => Ok(number),
        _ => Err(format!("must be a whole number from {least} to {most}")),
    }
}

/// Whether a store's URL is of one of these kinds; the rest shows when it is opened.
fn check_url(text: &str, kinds: &[&str]) -> Result<String, String> {
    let kind = text.split(':').next().unwrap_or_default();
    let known = text.contains(':') && kinds.iter().any(|known| kind.trim_end_matches("ql") == *known);
    if known { Ok(text.to_owned()) } else { Err(format!("must begin with one of {}:", kinds.join(":, "))) }
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
