//! What the environment says, all of it checked before anything is started.

use std::{collections::HashSet, env, fmt::Display, str::FromStr, time::Duration};

use portcullis::{
    client::{Client, GrantType, HashedSecret, Resource},
    client_ip::TrustedProxies,
    config::ConfigError,
    cors::{CorsPolicy, CorsPolicyBuilder, CorsSetting},
    endpoint::Registration,
    ident::LoginName,
    jwt::{Algorithm, ClaimsPolicy, RemoteJwks, SigningKey},
    login::{Lockout, Quota},
    rejection::AnswerStyle,
    scope::{Scope, ScopeError, ScopeSet},
    secret::Secret,
    session::SessionPolicy,
};
use serde::Deserialize;

use super::watch::Scrapers;

/// What is wrong, each with the name of its variable in front.
pub(crate) type Mistakes = Vec<String>;

pub(crate) struct Settings {
    /// Another issuer whose tokens are accepted.
    pub(crate) foreign: Option<(ClaimsPolicy, RemoteJwks)>,
    pub(crate) listener: std::net::TcpListener,
    /// Where `/metrics` is.
    pub(crate) metrics: Metrics,
    pub(crate) issuer: String,
    pub(crate) audience: String,
    pub(crate) store: String,
    pub(crate) redis: Option<String>,
    pub(crate) users: Vec<NewUser>,
    /// `None` if nobody may register.
    pub(crate) registration: Option<Registration>,
    pub(crate) clients: Vec<Client>,
    pub(crate) resources: Vec<Resource>,
    pub(crate) keys: Keys,
    pub(crate) lifetime: Duration,
    pub(crate) style: AnswerStyle,
    pub(crate) policy: SessionPolicy,
    pub(crate) lockout: Lockout,
    pub(crate) per_address: Quota,
    pub(crate) proxies: TrustedProxies,
    pub(crate) audit: Audit,
    /// `None` if no page of another origin may call.
    pub(crate) cors: Option<CorsPolicy>,
    pub(crate) hash_concurrency: Option<usize>,
    /// Under which devices are known: whatever secret there is that outlives the process.
    pub(crate) secret: Option<Secret<String>>,
}

/// Where the figures are to be seen.
pub(crate) enum Metrics {
    /// Where everything else is.
    Beside(Scrapers),
    /// At an address of their own.
    Apart(std::net::TcpListener),
}

/// Where events go beside the log.
pub(crate) struct Audit {
    pub(crate) sinks: Vec<Sink>,
    /// For how long the store keeps them; zero is for ever.
    pub(crate) keep: Duration,
    /// One of so many requests that are let through is told.
    pub(crate) admitted: u32,
}

#[derive(PartialEq)]
pub(crate) enum Sink {
    Store,
    File(std::path::PathBuf),
    Stdout,
}

/// Where the signing keys are.
pub(crate) enum Keys {
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
pub(crate) struct NewUser {
    pub(crate) username: String,
    pub(crate) password: String,
    pub(crate) scopes: Vec<String>,
    #[serde(default)]
    pub(crate) disabled: bool,
}

impl Settings {
    /// Reads every variable before it gives up, so that all mistakes show at once.
    pub(crate) fn read() -> Result<Self, Mistakes> {
        let mut mistakes = Mistakes::new();
        let listen = get_or(&mut mistakes, "LISTEN", "127.0.0.1:8080", listen);
        let own_url = listen.as_ref().map_or("http://-", |(_, url)| url);
        let issuer = get_or(&mut mistakes, "ISSUER", own_url, check_issuer);
        let audience = get_or(&mut mistakes, "AUDIENCE", "api", |text| check_names("-", text));
        let users = get_or(&mut mistakes, "USERS", "[]", parse_users);
        let registration = get_or(&mut mistakes, "REGISTRATION", "closed", parse_registration).flatten();
        let clients = get_or(&mut mistakes, "CLIENTS", "[]", parse_clients);
        let resources = get_or(&mut mistakes, "RESOURCES", "[]", parse_resources);
        let lifetime = get_or(&mut mistakes, "ACCESS_TTL", "600", parse_seconds);
        let style = get_or(&mut mistakes, "ANSWER_STYLE", "standard", parse_style);
        let policy = read_policy(&mut mistakes);
        let lockout = read_lockout(&mut mistakes);
        let per_address =
            get_or(&mut mistakes, "LOGIN_PER_MINUTE", "30", |text| number(text, 1, 1_000_000)).map(Quota::per_minute);
        let proxies = match env::var_os("TRUSTED_PROXIES") {
            Some(_) => get_or(&mut mistakes, "TRUSTED_PROXIES", "", parse_proxies),
            None => Some(TrustedProxies::none()),
        };
        let metrics = read_metrics(&mut mistakes);
        let audit = read_audit(&mut mistakes);
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
        let tokens = lifetime.zip(style).zip(audit);
        match (
            listen.zip(metrics),
            issuer,
            audience,
            store,
            users,
            clients,
            resources,
            keys,
            tokens,
            policy.zip(limits),
        ) {
            (
                Some(((listener, _), metrics)),
                Some(issuer),
                Some(audience),
                Some(store),
                Some(users),
                Some(clients),
                Some(resources),
                Some(keys),
                Some(((lifetime, style), audit)),
                Some((policy, ((lockout, per_address), proxies))),
            ) if mistakes.is_empty() => Ok(Self {
                foreign,
                listener,
                metrics,
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
                style,
                policy,
                lockout,
                per_address,
                proxies,
                audit,
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

fn parse_style(text: &str) -> Result<AnswerStyle, String> {
    match text {
        "standard" => Ok(AnswerStyle::Standard),
        "fastapi" => Ok(AnswerStyle::FastApi),
        _ => Err("is neither standard nor fastapi".to_owned()),
    }
}

/// Behind a proxy, every peer may be one of this machine.
fn read_metrics(mistakes: &mut Mistakes) -> Option<Metrics> {
    if env::var_os("METRICS_LISTEN").is_none() {
        let proxies = env::var_os("TRUSTED_PROXIES").is_some();
        return Some(Metrics::Beside(if proxies { Scrapers::Nobody } else { Scrapers::ThisMachine }));
    }
    get_or(mistakes, "METRICS_LISTEN", "", |text| match text {
        "off" => Ok(Metrics::Beside(Scrapers::Nobody)),
        address => listen(address).map(|(listener, _)| Metrics::Apart(listener)),
    })
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

fn read_audit(mistakes: &mut Mistakes) -> Option<Audit> {
    let sinks = get_or(mistakes, "AUDIT", "none", parse_sinks);
    let days = get_or(mistakes, "AUDIT_DAYS", "90", |text| number::<u64>(text, 0, 36_500));
    let admitted = get_or(mistakes, "AUDIT_ADMITTED", "1000", |text| number(text, 0, 1_000_000_000));
    Some(Audit { sinks: sinks?, keep: Duration::from_secs(days? * 86_400), admitted: admitted? })
}

fn parse_sinks(text: &str) -> Result<Vec<Sink>, String> {
    let mut sinks = Vec::new();
    for name in text.split(',').map(str::trim).filter(|_| text != "none") {
        let sink = match name.split_once(':') {
            None if name == "store" => Sink::Store,
            None if name == "stdout" => Sink::Stdout,
            Some(("jsonl", path)) if !path.is_empty() => {
                Sink::File(std::path::absolute(path).map_err(|e| e.to_string())?)
            }
            _ => return Err("is neither none nor a list of store, jsonl:PATH and stdout".to_owned()),
        };
        if sinks.contains(&sink) {
            return Err("names a place twice".to_owned());
        }
        sinks.push(sink);
    }
    Ok(sinks)
}

fn parse_proxies(text: &str) -> Result<TrustedProxies, String> {
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
    get_or(mistakes, "KEY_SECRET", "", |text| {
        let secret = text.trim();
        if secret.len() < 64 || !is_printed_by_a_tool(secret) {
            return Err("must be 64 hexadecimal digits, such as `openssl rand -hex 32` prints".to_owned());
        }
        Ok(Keys::Stored(algorithm, Secret::new(secret.to_owned())))
    })
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

pub(crate) fn named(name: &str, why: impl std::fmt::Display) -> Mistakes {
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

/// Whoever reads the tokens finds our keys from there.
fn check_issuer(text: &str) -> Result<String, String> {
    let url = text.parse::<axum::http::Uri>().ok().filter(|_| !text.contains(['?', '#']));
    match url.as_ref().and_then(|url| url.authority().filter(|_| matches!(url.scheme_str(), Some("http" | "https")))) {
        None => Err("must be a URL of http or https without query and fragment".to_owned()),
        Some(of) if ["0.0.0.0", "[::]"].contains(&of.host()) => {
            Err("must be said where LISTEN is every address: nobody reaches the server by that".to_owned())
        }
        Some(_) => check_names(text, "-"),
    }
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

pub(crate) fn parse_scopes(names: &[String]) -> Result<ScopeSet, ScopeError> {
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

/// A passphrase of that length would pass as a key; digits that a tool printed are what was meant.
fn is_printed_by_a_tool(secret: &str) -> bool {
    secret.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn load_key(algorithm: Algorithm, text: &str) -> Result<SigningKey, String> {
    if text.is_empty() {
        tracing::warn!("SIGNING_KEY is not set: a key is made now, and its tokens die with the process");
        return SigningKey::generate(algorithm).map_err(|e| e.to_string());
    }
    if matches!(algorithm, Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512) {
        let secret = text.trim();
        if !is_printed_by_a_tool(secret) {
            return Err("must be hexadecimal digits, such as `openssl rand -hex 32` prints".to_owned());
        }
        return SigningKey::hmac(algorithm, secret.as_bytes()).map_err(|e| e.to_string());
    }
    // Files of environment variables often carry a PEM on one line.
    SigningKey::from_pem(algorithm, text.replace("\\n", "\n").as_bytes()).map_err(|e| e.to_string())
}
