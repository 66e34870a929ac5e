//! A page that signs in, and the API that it calls, on two origins over TLS: `cargo run --example spa`.
//!
//! Open the API's address first, then the page's, and accept at each the certificate, which is made at start; `CERT_OUT=spa.pem`
//! writes it to a file for a client to trust. Sign in as `demo` with the password that is printed. Press *Who am I?* for a
//! protected call, reload the page to see that you stay signed in, open a second tab or another browser and end its session from
//! the list, sign out. `ACCESS_TTL=10` makes access tokens so short that you can watch them being renewed.
//!
//! `APP_LISTEN` and `API_LISTEN` are the addresses to listen at, `APP_ORIGIN` and `API_ORIGIN` what browsers call them; port 0
//! is any that is free. `PASSWORD` is the demo user's. On `localhost` the two origins are one host, so that the page's server
//! sees the API's cookies too; give them a name each when you copy this.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program talks to its user")]

mod tls;

use std::{env, error::Error, net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::State,
    http::{
        HeaderValue, Uri,
        header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE},
    },
    routing::get,
    serve::ListenerExt as _,
};
use portcullis::{
    AuthorizationServer,
    browser::CsrfGuard,
    client_ip::TrustedProxies,
    cors::{CorsPolicy, CorsStrictLayer},
    endpoint::SessionCookies,
    ident::{LoginName, UserId},
    jwt::{Algorithm, SigningKey},
    password::PasswordHasher,
    principal::Principal,
    random,
    rejection::Rejection,
    secret::Secret,
    session::SessionPolicy,
    store::{MemoryStore, UserPublic, UserRecord, UserStore},
    transport::{HstsLayer, RequireHttpsLayer, Scheme, SecureHeadersLayer},
};
use tokio::net::TcpListener;

use self::tls::Tls;

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("spa: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Failure> {
    // Refusals and logins are told on stderr, with their reason.
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let (page_tcp, app) = origin("APP", "127.0.0.1:8443").await?;
    let (service_tcp, api) = origin("API", "127.0.0.1:9443").await?;
    let tls = Tls::for_hosts(vec![host(&app)?, host(&api)?])?;
    if let Ok(path) = env::var("CERT_OUT") {
        std::fs::write(&path, &tls.pem).map_err(|e| format!("CERT_OUT={path}: {e}"))?;
    }
    let (page, service) = (page(&app, &api)?, service(&app, &api).await?);
    println!("API  {api}\npage {app}\nSHA-256 of their certificate: {}", tls.sha256);
    tokio::try_join!(serve(&tls, page_tcp, page), serve(&tls, service_tcp, service))?;
    Ok(())
}

/// Serves over TLS, and says so: what a router cannot see for itself, the peer's address and the scheme, it is told.
async fn serve(tls: &Tls, tcp: TcpListener, router: Router) -> std::io::Result<()> {
    let router = router.layer(Extension(Scheme::Https)).into_make_service_with_connect_info::<SocketAddr>();
    // Tapped also because axum tells the peer's address of its own listeners alone.
    let listener = tls.listen(tcp).tap_io(|stream| drop(stream.get_ref().0.set_nodelay(true)));
    axum::serve(listener, router).await
}

/// The API. Layers that are added later are further out. CORS is outside of all that may refuse, since preflight requests carry no
/// credential and pages must be able to read refusals too; the headers refuse nothing.
async fn service(app: &str, api: &str) -> Result<Router, Failure> {
    let store = Arc::new(MemoryStore::new());
    let hasher = PasswordHasher::builder().build()?;
    add_demo_user(&*store, &hasher).await?;

    let guard = CsrfGuard::builder().trusted_origins([app]).build()?;
    let server = AuthorizationServer::builder(api, "api", SigningKey::generate(Algorithm::EdDsa)?)
        .access_token_lifetime(Duration::from_secs(number("ACCESS_TTL", 600)?))
        .first_party_login(store.clone(), hasher)
        // A page that is reloaded while it renews its token asks twice with the same one.
        .sessions(store, SessionPolicy::default().grace(Duration::from_secs(10)))
        .session_cookies(SessionCookies::new(guard))
        .build()?;
    let cors = CorsPolicy::builder()
        .origins([app])
        .methods(["GET", "POST", "DELETE"])
        .request_headers(["authorization"])
        .expose_headers(["www-authenticate", "retry-after"])
        .credentials()
        .max_age(Duration::from_secs(600))
        .build()?;

    let resource = server.resource_server();
    let me = Router::new().route("/me", get(me)).layer(resource.require(["me"])?).layer(resource.authenticate());
    let router = me.merge(server.routes()).with_state(server);
    // For whoever serves this router without TLS one day: here, `serve` has none but requests over it.
    let router = router.layer(RequireHttpsLayer::new(TrustedProxies::none()));
    with_headers(router.layer(CorsStrictLayer::new(cors)), api)
}

/// The page: three files, and a policy under which nothing else runs.
fn page(app: &str, api: &str) -> Result<Router, Failure> {
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src {api}; \
         frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    );
    let html = include_str!("page/index.html").replace("{api}", api);
    let policy = HeaderValue::from_str(&policy)?;
    let file = |kind: &'static str, text: Bytes| {
        let (kind, policy) = (HeaderValue::from_static(kind), policy.clone());
        get(async move || ([(CONTENT_TYPE, kind.clone()), (CONTENT_SECURITY_POLICY, policy.clone())], text.clone()))
    };
    let router = Router::new()
        .route("/", file("text/html; charset=utf-8", html.into()))
        .route("/app.js", file("text/javascript; charset=utf-8", Bytes::from_static(include_bytes!("page/app.js"))))
        .route("/style.css", file("text/css; charset=utf-8", Bytes::from_static(include_bytes!("page/style.css"))));
    with_headers(router, app)
}

fn with_headers(router: Router, origin: &str) -> Result<Router, Failure> {
    let router = router.layer(SecureHeadersLayer::new());
    // Browsers would keep it for `localhost` as a whole, and open none of your other programs there over plain HTTP.
    let is_local = host(origin)? == "localhost";
    Ok(if is_local { router } else { router.layer(HstsLayer::new(TrustedProxies::none())) })
}

async fn me(State(server): State<AuthorizationServer>, caller: Principal) -> Result<Json<UserPublic>, Rejection> {
    Ok(Json(server.active_user(&caller).await?.public()))
}

async fn add_demo_user(users: &dyn UserStore, hasher: &PasswordHasher) -> Result<(), Failure> {
    let secret = if let Ok(password) = env::var("PASSWORD") {
        Secret::new(password)
    } else {
        let made = random::password()?;
        println!("Password of the user `demo`, shown this once: {}\n", made.expose());
        made
    };
    let password = hasher.hash(secret).await?;
    let (login, scopes) = (LoginName::parse("demo")?, "me".parse()?);
    users.insert(UserRecord { id: UserId::random()?, login, password, scopes, disabled: false }).await?;
    Ok(())
}

/// A listener at `…_LISTEN`, and what browsers call it: `…_ORIGIN`.
async fn origin(name: &str, default: &str) -> Result<(TcpListener, String), Failure> {
    let address = env::var(format!("{name}_LISTEN")).unwrap_or_else(|_| default.to_owned());
    let listener = TcpListener::bind(&address).await.map_err(|e| format!("{name}_LISTEN={address}: {e}"))?;
    let origin = env::var(format!("{name}_ORIGIN")).unwrap_or_else(|_| "https://localhost:0".to_owned());
    let origin = match origin.strip_suffix(":0") {
        Some(host) => format!("{host}:{}", listener.local_addr()?.port()),
        None => origin,
    };
    Ok((listener, origin))
}

fn host(origin: &str) -> Result<String, Failure> {
    let host = origin.parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_owned));
    host.ok_or_else(|| format!("{origin} is no origin").into())
}

fn number(name: &str, default: u64) -> Result<u64, Failure> {
    match env::var(name) {
        Ok(text) => text.parse().map_err(|e| format!("{name}={text}: {e}").into()),
        Err(_) => Ok(default),
    }
}
