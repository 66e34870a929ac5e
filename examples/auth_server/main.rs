//! A server to point any client at, configured by the environment: `cargo run --example auth_server`.
//!
//! | variable | default | meaning |
//! |---|---|---|
//! | `LISTEN` | `127.0.0.1:8080` | address and port; port 0 takes a free one |
//! | `METRICS_LISTEN` | with `LISTEN`, for peers on this machine; `off` with `TRUSTED_PROXIES` | address and port of `/metrics` alone, for whoever reaches it, such as `127.0.0.1:9464`; `off`: nowhere. A proxy on this machine that says of nobody that it speaks for them would show it to everybody: give an address then |
//! | `ISSUER` | `http://` and the address | `iss` of the tokens |
//! | `AUDIENCE` | `api` | `aud` of the tokens |
//! | `STORE` | `memory:` | users, sessions and keys: `memory:`, `sqlite:PATH`, or with `--features postgres` `postgres://…` |
//! | `REDIS_URL` | none | sessions, what is called back, and counts of logins, with `--features redis`: `redis://…`; unless set, the first two are in `STORE`, and logins are counted in memory |
//! | `USERS` | none | JSON array of `{"username", "password", "scopes": […]}`, added where missing; with `"disabled": true` for one who may not sign in |
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
//! | `AUDIT` | `none` | where events go beside the log on stderr, between commas: `store`, a table in `STORE`; `jsonl:PATH`, lines of JSON; `stdout`, such lines among what it prints |
//! | `AUDIT_DAYS` | `90` | days for which the table keeps them, 0 to 36500; 0 is for ever |
//! | `AUDIT_ADMITTED` | `1000` | of so many requests that are let through one is told, 0 to 1000000000; 0 is none, 1 is all |
//! | `CORS_ORIGINS` | none | origins such as `https://app.example, https://*.app.example`, between commas, whose pages may call; `*` is every one |
//! | `CORS_METHODS` | `GET, HEAD, POST` | methods that those pages may use, between commas |
//! | `CORS_HEADERS` | none | request headers that they may set, between commas, such as `authorization, content-type` |
//! | `CORS_EXPOSE` | none | headers of answers that they may read, between commas, such as `www-authenticate, retry-after` |
//! | `CORS_CREDENTIALS` | `false` | `true`: they may send cookies |
//! | `CORS_MAX_AGE` | none | seconds for which a browser remembers what is allowed, 0 to 86400; by itself it does for 5 |
//! | `HASH_CONCURRENCY` | cores | passwords that are hashed at once, 1 to 256 |
//! | `ANSWER_STYLE` | `standard` | `fastapi`: statuses, challenges and bodies as FastAPI's security tutorial has them, for its clients |
//! | `CLIENTS` | none | JSON array of `{"client_id", "client_secret", "grants": […], "scopes": […], "resources": […], "introspects": […]}`; all but the first may be left out, without a secret the client is public, grants are `password` and `client_credentials` |
//! | `RESOURCES` | none | JSON array of `{"resource", "scopes": […]}`: what tokens can be for beside `AUDIENCE` |
//! | `JWKS_URL` | none | where another issuer publishes its keys; its tokens are then accepted beside our own |
//! | `JWKS_ISSUER` | none | `iss` of its tokens; needed with `JWKS_URL` |
//! | `JWKS_AUDIENCE` | `AUDIENCE` | `aud` of its tokens |
//! | `JWKS_SCOPES` | `me items` | which of its scopes count here: another issuer's `admin` is none of ours |
//! | `JWKS_COOLDOWN` | `30` | seconds between fetches that unknown keys cause, 1 to 3600; also the least between others |
//!
//! `/docs` is a page with all routes, to sign in and try them out. `/health` and `/ready` are for load balancers, `/metrics` is for
//! Prometheus; `grafana.json` beside this file is a dashboard of it.
//!
//! A bad value ends the program with a message that names the variable. SIGTERM and Ctrl-C end it well, within half a minute; a
//! second one, at once. Should nobody read its log, lines are lost, and counted, and nobody waits.

mod routes;
mod serve;
mod settings;
mod watch;

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
    time::Duration,
};

use axum::Router;
use futures::{StreamExt as _, stream};
use metrics_exporter_prometheus::PrometheusHandle;
use portcullis::{
    AuthorizationServer, AuthorizationServerBuilder,
    audit::{AuditLayer, AuditTrail, JsonLines},
    client_ip::ClientIpLayer,
    cors::CorsStrictLayer,
    health::Readiness,
    ident::{LoginName, UserId},
    jwt::{ClaimsPolicy, KeyRing, RemoteJwks},
    login::{LoginLimiter, LoginLimiterBuilder},
    openapi::docs,
    password::PasswordHasher,
    secret::Secret,
    store::{Store, StoreError, UserRecord, UserStore},
};
use tokio::{net::TcpListener, runtime};
use tower::ServiceBuilder;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder};

use self::{
    serve::Stop,
    settings::{Audit, Keys, Metrics, Mistakes, NewUser, Settings, Sink, named, parse_scopes},
};

/// Lines of the log that may wait for whoever reads it.
const LOG: usize = 8192;
/// How long what was begun on the runtime may go on when the program ends: nobody waits for the look-up of a name.
const REST: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    // Whoever reads stderr may stop to, and a disk may be full: neither must take requests with it.
    let log = NonBlockingBuilder::default().buffered_lines_limit(LOG).finish(io::stderr());
    let (mut stderr, _written_at_the_end) = log;
    let lost = stderr.error_counter();
    let log = tracing_subscriber::fmt().with_ansi(io::stderr().is_terminal()).with_writer(stderr.clone());
    // What is told of a log that cannot be written goes to stderr as well by default, and panics.
    log.log_internal_errors(false).init();
    let ended = match runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let ended = runtime.block_on(run(lost));
            runtime.shutdown_timeout(REST);
            ended
        }
        Err(error) => Err(named("threads", error)),
    };
    let Err(mistakes) = ended else { return ExitCode::SUCCESS };
    let _ = stderr.write_all(format!("auth_server: {}\n", mistakes.join("\nauth_server: ")).as_bytes());
    ExitCode::FAILURE
}

async fn run(lost: ErrorCounter) -> Result<(), Mistakes> {
    // First, because the first process of a container is not ended by a signal that it does not listen for.
    let mut stop = stop().map_err(|e| named("signals", e))?;
    let settings = Settings::read()?;
    // Before anything is there that counts.
    let recorder = watch::recorder().map_err(|e| named("metrics", e))?;
    let figures = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|e| named("metrics", e))?;
    portcullis::metrics::describe();
    tokio::spawn(keep_up(figures.clone(), lost));
    let hasher = PasswordHasher::builder();
    let hasher = settings.hash_concurrency.map_or(hasher.clone(), |most| hasher.concurrency(most));
    let hasher = hasher.build().map_err(|e| named("HASH_CONCURRENCY", e))?;
    // Last, because it may create a file.
    let connect = async { Store::connect(&settings.store).await.map_err(|e| named("STORE", e)) };
    let Some(store) = or_stop(&mut stop, connect).await? else { return Ok(()) };
    // Before all that may have something to tell.
    let trail = start_trail(&settings.audit, &store)?;
    let served = async {
        match or_stop(&mut stop, prepare(settings, hasher, store, trail.clone(), figures)).await? {
            Some(program) => program.serve(stop).await,
            None => Ok(()),
        }
    };
    let served = served.await;
    // Whatever has ended it: what was told is to be found afterwards. A sink that is down must not keep it from ending.
    if !trail.flush(FLUSH).await {
        tracing::error!("AUDIT: some events could not be written");
    }
    served
}

/// What it comes to; nothing if the program is told to end before.
async fn or_stop<T>(stop: &mut Stop, begun: impl Future<Output = Result<T, Mistakes>>) -> Result<Option<T>, Mistakes> {
    tokio::select! {
        come = begun => come.map(Some),
        _ = stop.next() => Ok(None),
    }
}

/// What was told is written when it ends, within this time.
const FLUSH: Duration = Duration::from_secs(5);

fn start_trail(audit: &Audit, store: &Store) -> Result<AuditTrail, Mistakes> {
    let mut builder = AuditTrail::builder().admitted_one_in(audit.admitted);
    for sink in &audit.sinks {
        builder = match sink {
            Sink::Store => {
                let table = store.audit().ok_or_else(|| named("AUDIT", "this store keeps no events"))?;
                builder.sink(table.keep(audit.keep))
            }
            Sink::File(path) => builder.sink(JsonLines::append(path).map_err(|e| named("AUDIT", e))?),
            Sink::Stdout => builder.sink(JsonLines::stdout().map_err(|e| named("AUDIT", e))?),
        };
    }
    let trail = builder.start().map_err(|e| named("AUDIT", e))?;
    trail.install().map_err(|e| named("AUDIT", e))?;
    Ok(trail)
}

/// All that answers, and where.
struct Program {
    listener: TcpListener,
    app: Router,
    figures: Option<(TcpListener, Router)>,
}

async fn prepare(
    settings: Settings,
    hasher: PasswordHasher,
    store: Store,
    trail: AuditTrail,
    figures: PrometheusHandle,
) -> Result<Program, Mistakes> {
    let listener = TcpListener::from_std(settings.listener).map_err(|e| named("LISTEN", e))?;
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
    let builder = AuthorizationServer::builder(settings.issuer, settings.audience, keys)
        .first_party_login(users.clone(), hasher.clone())
        .login_limits(limiter)
        .sessions(shared.sessions(), settings.policy)
        .access_token_lifetime(settings.lifetime)
        .answer_style(settings.style);
    let builder = match settings.registration {
        Some(registration) => builder.registration(registration),
        None => builder,
    };
    let builder = settings.resources.into_iter().fold(builder, AuthorizationServerBuilder::resource);
    let builder = settings.clients.into_iter().fold(builder, AuthorizationServerBuilder::client);
    let server = builder.build().map_err(|e| named("CLIENTS or RESOURCES", e))?;

    let (app, readiness) = app(&server, settings.foreign).map_err(|e| named("routes", e))?;
    let (scrapers, apart) = match settings.metrics {
        Metrics::Beside(scrapers) => (scrapers, None),
        Metrics::Apart(listener) => (watch::Scrapers::Nobody, Some(listener)),
    };
    let app = app.merge(watch::routes(&readiness, figures.clone(), scrapers));
    // Around all that decides, or refusals would not be joined to their requests; inside of what knows clients by their proxies. In
    // one go, because axum boxes what is around a router each time.
    let around = ServiceBuilder::new().layer(ClientIpLayer::new(settings.proxies)).layer(AuditLayer::new(trail));
    let app = app.layer(around);
    // Outermost: preflight requests carry no credential, and are no logins; and a script is to see why it was refused.
    let app = match settings.cors {
        Some(policy) => app.layer(CorsStrictLayer::new(policy)),
        None => app,
    };
    let figures = match apart {
        Some(listener) => {
            let listener = TcpListener::from_std(listener).map_err(|e| named("METRICS_LISTEN", e))?;
            Some((listener, watch::figures(figures, watch::Scrapers::All)))
        }
        None => None,
    };
    // When nothing else can be wrong any more, because they stay.
    add_users(&*users, &hasher, settings.users).await?;
    Ok(Program { listener, app, figures })
}

impl Program {
    async fn serve(self, stop: Stop) -> Result<(), Mistakes> {
        say("listening on ", "", &self.listener).map_err(|e| named("LISTEN", e))?;
        if let Some((listener, figures)) = self.figures {
            say("figures on ", "/metrics", &listener).map_err(|e| named("METRICS_LISTEN", e))?;
            tokio::spawn(serve::serve(listener, figures, serve::SCRAPERS, stream::pending().boxed()));
        }
        serve::serve(self.listener, self.app, serve::CONNECTIONS, stop).await;
        Ok(())
    }
}

/// Whoever has started the program may not want to hear it.
fn say(what: &str, path: &str, listener: &TcpListener) -> io::Result<()> {
    let address = listener.local_addr()?;
    let _ = writeln!(io::stdout(), "{what}http://{address}{path}");
    Ok(())
}

/// Sorts what was measured into its buckets now and then: it takes memory until then, and nobody may come to see it. And tells what
/// the log has lost.
async fn keep_up(figures: PrometheusHandle, lost: ErrorCounter) {
    let mut told = 0;
    loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        figures.run_upkeep();
        let lines = lost.dropped_lines();
        if lines > told {
            tracing::warn!(lines = lines - told, "lines of the log were lost: nobody reads them fast enough");
            told = lines;
        }
    }
}

/// When the program is told to end, by Ctrl-C or, on Unix, by SIGTERM. It listens for that at once, and not when it is first asked: a
/// server that is told to end right after its first answer would die of it, and what it had told would be lost.
fn stop() -> io::Result<Stop> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(stream::poll_fn(move |cx| {
            let interrupted = interrupt.poll_recv(cx);
            if interrupted.is_ready() { interrupted } else { terminate.poll_recv(cx) }
        })
        .boxed())
    }
    #[cfg(windows)]
    {
        let mut ctrl_c = tokio::signal::windows::ctrl_c()?;
        Ok(stream::poll_fn(move |cx| ctrl_c.poll_recv(cx)).boxed())
    }
}

/// The routes, the document of them, and its page; and what they need to be ready.
fn app(
    server: &AuthorizationServer,
    foreign: Option<(ClaimsPolicy, RemoteJwks)>,
) -> Result<(Router, Readiness), portcullis::config::ConfigErrors> {
    let own = server.resource_server();
    let api = match foreign {
        Some((policy, keys)) => own.trust(policy, keys)?,
        None => own,
    };
    let (app, document) = routes::routes(server, &api)?.split_for_parts();
    let document = server.document(document, routes::SCOPES)?;
    let readiness = server.readiness().and(&api.readiness());
    Ok((app.merge(docs("/docs", &document)).with_state(server.clone()), readiness))
}

async fn add_users(store: &dyn UserStore, hasher: &PasswordHasher, users: Vec<NewUser>) -> Result<(), Mistakes> {
    let mut there = 0;
    for user in users {
        let login = LoginName::parse(&user.username).map_err(|e| named("USERS", e))?;
        if store.find_by_login(&login).await.map_err(|e| named("STORE", e))?.is_some() {
            there += 1;
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
    if there > 0 {
        // How many, not who: names do not belong into a log.
        tracing::info!(there, "users that are there already stay as they are");
    }
    Ok(())
}
