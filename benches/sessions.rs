//! How many refresh tokens are turned in a second: `cargo bench --bench sessions`, and with `--features postgres` on a
//! PostgreSQL of its own as well, if one is installed.
//!
//! Each table compares what ran in turns, a second at a time, so that a noisy neighbour meets all alike. The figure is the
//! median second. `cores` is the CPU time that each kind of thread took in a second; `others` is everybody else's, the
//! database server's included.
#![allow(
    missing_docs,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::wildcard_imports,
    reason = "a benchmark"
)]

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use portcullis::{
    AuthorizationServer,
    client::{Client, GrantType},
    clock::UnixSeconds,
    ident::{LoginName, SessionId, UserId},
    jwt::{Algorithm, SigningKey},
    password::PasswordHasher,
    secret::Secret,
    session::{SealedToken, SessionPolicy, TokenDigest},
    store::{Rotated, Rotation, SessionStore, SqliteStore, UserRecord, UserStore},
};
use rusqlite::{Connection, OptionalExtension as _, params};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
    task::JoinSet,
};

const CALLERS: usize = 64;
const SIZES: [u64; 3] = [10_000, 100_000, 1_000_000];
const WINDOW: Duration = Duration::from_secs(1);
const WINDOWS: usize = 5;
/// Seconds that a session lasts without use, as the default policy has it.
const IDLE: u64 = 14 * 24 * 3600;
const PASSWORD: &str = "correct-horse-battery-staple";

/// Does what it is named for until then, and says how often.
struct Contender<'a> {
    name: String,
    run: Box<dyn FnMut(Instant) -> u64 + 'a>,
}

fn contender<'a>(name: impl Into<String>, run: impl FnMut(Instant) -> u64 + 'a) -> Contender<'a> {
    Contender { name: name.into(), run: Box::new(run) }
}

/// Lets them take turns, and prints how they do beside the first one.
fn compare(title: &str, mut contenders: Vec<Contender<'_>>) {
    let mut rates = vec![Vec::new(); contenders.len()];
    let mut spent = vec![(BTreeMap::<String, f64>::new(), 0.0, 0); contenders.len()];
    for window in 0..=WINDOWS {
        for (at, Contender { run, .. }) in contenders.iter_mut().enumerate() {
            let (begin, own, all) = (Instant::now(), threads(), machine());
            let done = run(begin + WINDOW);
            let seconds = begin.elapsed().as_secs_f64();
            // The first one warms up.
            if window > 0 {
                rates[at].push(done as f64 / seconds);
                for (name, time) in threads() {
                    *spent[at].0.entry(name.clone()).or_default() += time - own.get(&name).copied().unwrap_or_default();
                }
                spent[at].1 += machine() - all;
                spent[at].2 += done;
            }
        }
    }
    println!("\n{title:42} {:>8} {:>17} {:>6} {:>8}  cores", "per s", "least - most", "ratio", "µs CPU");
    let median = |rates: &mut Vec<f64>| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    };
    let first = median(&mut rates[0]);
    for ((Contender { name, .. }, mut rates), (own, all, done)) in contenders.into_iter().zip(rates).zip(spent) {
        let (rate, least, most) = (median(&mut rates), rates[0], rates[rates.len() - 1]);
        let cpu: f64 = own.values().sum();
        print!("{name:42} {rate:8.0} {least:8.0} -{most:7.0} {:6.3} {:8.1} ", rate / first, cpu * 1e6 / done as f64);
        let seconds = WINDOWS as f64 * WINDOW.as_secs_f64();
        for (name, time) in own.iter().filter(|(_, time)| **time > 0.01 * seconds) {
            print!(" {name} {:.2},", time / seconds);
        }
        println!(" others {:.2}", (all - cpu).max(0.0) / seconds);
    }
}

/// Seconds of CPU time that this program's threads have taken, by name.
fn threads() -> BTreeMap<String, f64> {
    let mut times = BTreeMap::new();
    for task in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let read = |name| fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let nanoseconds = read("schedstat").split(' ').next().and_then(|time| time.parse().ok()).unwrap_or(0.0);
        *times.entry(read("comm").trim().to_owned()).or_default() += nanoseconds / 1e9;
    }
    times
}

/// Seconds of CPU time that were taken on this machine, or from it.
fn machine() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.lines().next().unwrap_or_default().split_whitespace().skip(1).collect();
    // Idle, waiting for the disk, and what is counted twice.
    let taken = fields.iter().enumerate().filter(|(at, _)| ![3, 4, 8, 9].contains(at));
    // Hundredths of a second.
    taken.map(|(_, field)| field.parse::<f64>().unwrap_or_default()).sum::<f64>() / 100.0
}

fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

/// Numbers that look random (splitmix64), the same in each run.
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn bytes<const N: usize>(seed: u64) -> [u8; N] {
    let mut bytes = [0; N];
    for (at, part) in bytes.chunks_exact_mut(8).enumerate() {
        part.copy_from_slice(&mixed(mixed(seed) ^ at as u64).to_le_bytes());
    }
    bytes
}

/// The id of a session by its number.
fn id(session: u64) -> [u8; 16] {
    bytes(session << 32)
}

/// The refresh token that a session has after it was turned this often.
fn token(session: u64, turns: u32) -> [u8; 32] {
    bytes((session << 32) + 1 + u64::from(turns))
}

/// Somebody who turns the tokens of every so many sessions, in random order.
struct Caller {
    first: u64,
    every: u64,
    turns: Vec<u32>,
    calls: u64,
}

impl Caller {
    /// All have been turned once.
    fn new(first: u64, every: u64, sessions: u64) -> Self {
        Self { first, every, turns: vec![1; ((sessions - first).div_ceil(every)) as usize], calls: 0 }
    }

    fn several(sessions: u64) -> Vec<Self> {
        (0..CALLERS as u64).map(|first| Self::new(first, CALLERS as u64, sessions)).collect()
    }

    fn next(&mut self) -> Rotation {
        self.calls += 1;
        let random = mixed(self.calls ^ (self.first << 40));
        let at = random % self.turns.len() as u64;
        let (session, turns) = (self.first + at * self.every, &mut self.turns[at as usize]);
        *turns += 1;
        let now = UnixSeconds::new(now());
        let later = |seconds| now.saturating_add(Duration::from_secs(seconds));
        Rotation {
            id: SessionId::from_bytes(id(session)),
            presented: TokenDigest::from_bytes(token(session, *turns - 1)),
            successor: TokenDigest::from_bytes(token(session, *turns)),
            sealed: SealedToken::from_bytes(Vec::new()),
            grace: Duration::ZERO,
            ends_at: later(IDLE - (random >> 32) % (IDLE / 16)),
            called_back_until: later(660),
            now,
        }
    }
}

/// All callers at once, each turning one token after the other as `turn` does.
async fn at_once(callers: &mut Vec<Caller>, until: Instant, turn: impl Turn) -> u64 {
    let mut tasks = JoinSet::new();
    for mut caller in callers.drain(..) {
        let turn = turn.clone();
        tasks.spawn(async move {
            let mut done = 0;
            while Instant::now() < until {
                turn.turn(caller.next()).await;
                done += 1;
            }
            (caller, done)
        });
    }
    let (back, done): (Vec<_>, Vec<u64>) = tasks.join_all().await.into_iter().unzip();
    *callers = back;
    done.iter().sum()
}

trait Turn: Clone + Send + 'static {
    fn turn(&self, rotation: Rotation) -> impl Future<Output = ()> + Send;
}

impl Turn for Arc<dyn SessionStore> {
    async fn turn(&self, rotation: Rotation) {
        assert_eq!(self.rotate(rotation).await.unwrap(), Rotated::Turned);
    }
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("portcullis-bench-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A file of the store's with this many sessions, each turned once.
fn fill(path: &Path, sessions: u64) {
    drop(SqliteStore::open(path).unwrap());
    // Its threads have ended when the journal is gone.
    while path.with_extension("db-wal").exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut db = Connection::open(path).unwrap();
    db.execute_batch("PRAGMA foreign_keys = OFF; PRAGMA journal_mode = OFF; PRAGMA cache_size = -2000000").unwrap();
    let (all, now) = (db.transaction().unwrap(), now());
    let mut begin = all
        .prepare(
            "INSERT INTO sessions (id, subject, client_id, scope, audience, label, auth_time, last_used, expires_at,
            network, ends_at, current, previous, turned_at, sealed)
            VALUES (?1, ?2, 'first-party', 'me items', 'orders', 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Firefox/140.0',
            ?3, ?3, ?3 + 7776000, '203.0.113.0/24', ?4, ?5, ?6, ?3, x'')",
        )
        .unwrap();
    for session in 0..sessions {
        let ends_at = now + 3600 + mixed(session) % IDLE;
        let subject = format!("user:{:022}", mixed(!session));
        let (current, previous) = (token(session, 1), token(session, 0));
        begin.execute(params![id(session), subject, now as i64, ends_at as i64, current, previous]).unwrap();
    }
    let mut spend = all.prepare("INSERT INTO spent (session, digest) VALUES (?1, ?2)").unwrap();
    for session in 0..sessions {
        spend.execute(params![id(session), token(session, 0)]).unwrap();
    }
    drop((begin, spend));
    all.commit().unwrap();
}

/// What somebody would write who keeps sessions in SQLite, and is as careful: so many rotations in each transaction.
fn by_hand(path: &Path, sessions: u64, group: usize) -> impl FnMut(Instant) -> u64 + use<> {
    let db = Connection::open(path).unwrap();
    db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON").unwrap();
    let mut caller = Caller::new(0, 1, sessions);
    let look = "SELECT current FROM sessions WHERE id = ?1 AND ends_at > ?2";
    let turn =
        "UPDATE sessions SET current = ?3, previous = ?2, sealed = ?4, turned_at = ?5, last_used = ?5, ends_at = ?6
        WHERE id = ?1 AND current = ?2";
    let spend = "INSERT INTO spent (session, digest) VALUES (?1, ?2)";
    move |until| {
        let mut done = 0;
        while Instant::now() < until {
            db.execute_batch("BEGIN IMMEDIATE").unwrap();
            for _ in 0..group {
                let Rotation { id, presented, successor, sealed, now, ends_at, .. } = caller.next();
                let (id, presented) = (id.as_bytes(), presented.as_bytes());
                let (now, ends_at) = (now.get() as i64, ends_at.get() as i64);
                let mut find = db.prepare_cached(look).unwrap();
                let found = find.query_row(params![id, now], |row| row.get(0)).optional().unwrap();
                assert_eq!(found, Some(*presented));
                let row = params![id, presented, successor.as_bytes(), sealed.as_bytes(), now, ends_at];
                assert_eq!(db.prepare_cached(turn).unwrap().execute(row).unwrap(), 1);
                db.prepare_cached(spend).unwrap().execute(params![id, presented]).unwrap();
            }
            db.execute_batch("COMMIT").unwrap();
            done += group as u64;
        }
        done
    }
}

fn through_store(
    runtime: &Runtime,
    store: Arc<dyn SessionStore>,
    sessions: u64,
) -> impl FnMut(Instant) -> u64 + use<'_> {
    let mut callers = Caller::several(sessions);
    move |until| runtime.block_on(at_once(&mut callers, until, Arc::clone(&store)))
}

/// A client with a session and a connection of its own.
struct Browser {
    stream: TcpStream,
    reply: Vec<u8>,
    token: String,
}

impl Browser {
    async fn sign_in(server: SocketAddr) -> Self {
        let stream = TcpStream::connect(server).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut browser = Self { stream, reply: Vec::new(), token: String::new() };
        browser.ask(&format!("grant_type=password&client_id=app&username=alice&password={PASSWORD}")).await;
        browser
    }

    async fn refresh(&mut self) {
        let form = format!("grant_type=refresh_token&client_id=app&refresh_token={}", self.token);
        self.ask(&form).await;
    }

    /// Sends the form, and takes the refresh token from the answer.
    async fn ask(&mut self, form: &str) {
        let request = format!(
            "POST /token HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-www-form-urlencoded\r\n\
            content-length: {}\r\n\r\n{form}",
            form.len()
        );
        self.stream.write_all(request.as_bytes()).await.unwrap();
        self.reply.clear();
        while !self.is_whole() {
            assert!(self.stream.read_buf(&mut self.reply).await.unwrap() > 0, "the server has hung up");
        }
        let reply = std::str::from_utf8(&self.reply).unwrap();
        assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
        between(reply, "\"refresh_token\":\"", "\"").unwrap().clone_into(&mut self.token);
    }

    fn is_whole(&self) -> bool {
        let reply = std::str::from_utf8(&self.reply).unwrap();
        reply.split_once("\r\n\r\n").is_some_and(|(head, body)| {
            let length = between(head, "content-length: ", "\r\n").map(str::parse::<usize>);
            Some(Ok(body.len())) == length
        })
    }
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    Some(rest.split_once(after).map_or(rest, |(text, _)| text))
}

/// A server on this store, with one user, and so many clients that have signed in.
async fn sign_in(server: &Runtime, store: &SqliteStore) -> Vec<Browser> {
    let hasher = PasswordHasher::builder().build().unwrap();
    let user = UserRecord {
        id: UserId::parse("1MDU7CHDcZdaF_StCCAoog").unwrap(),
        login: LoginName::parse("alice").unwrap(),
        password: hasher.hash(Secret::from(PASSWORD)).await.unwrap(),
        scopes: "me items".parse().unwrap(),
        disabled: false,
    };
    store.insert(user).await.unwrap();
    let key = SigningKey::generate(Algorithm::EdDsa).unwrap();
    let routes = AuthorizationServer::builder("https://id.example", "orders", key)
        .first_party_login(Arc::new(store.clone()), hasher)
        .sessions(Arc::new(store.clone()), SessionPolicy::default())
        .client(Client::public("app").grant(GrantType::Password))
        .build()
        .unwrap()
        .routes();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // Registered with the runtime that serves.
    let listener = listener.into_std().unwrap();
    let routes = routes.into_make_service_with_connect_info::<std::net::SocketAddr>();
    server.spawn(async move { axum::serve(TcpListener::from_std(listener).unwrap(), routes).await.unwrap() });
    let mut browsers = Vec::new();
    for _ in 0..CALLERS {
        browsers.push(Browser::sign_in(address).await);
    }
    browsers
}

fn over_http(runtime: &Runtime, mut browsers: Vec<Browser>) -> impl FnMut(Instant) -> u64 + use<'_> {
    move |until| {
        runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for mut browser in browsers.drain(..) {
                tasks.spawn(async move {
                    let mut done = 0;
                    while Instant::now() < until {
                        browser.refresh().await;
                        done += 1;
                    }
                    (browser, done)
                });
            }
            let (back, done): (Vec<_>, Vec<u64>) = tasks.join_all().await.into_iter().unzip();
            browsers = back;
            done.iter().sum()
        })
    }
}

fn runtime(name: &str) -> Runtime {
    Builder::new_multi_thread().thread_name(name).enable_all().build().unwrap()
}

fn sqlite(runtime: &Runtime) {
    let folder = Folder::new("sqlite");
    let file = |name: String, sessions| {
        let path = folder.0.join(format!("{name}-{sessions}.db"));
        fill(&path, sessions);
        path
    };
    let [few, _, many] = SIZES;
    let mut contenders = Vec::new();
    for (at, size) in SIZES.into_iter().enumerate() {
        let store = Arc::new(SqliteStore::open(file("store".to_owned(), size)).unwrap());
        contenders.push(contender(format!("store, {size} sessions"), through_store(runtime, store, size)));
        for group in [1, CALLERS] {
            if at == 0 || (size == many && group > 1) {
                let hand = by_hand(&file(format!("hand-{group}"), size), size, group);
                contenders.push(contender(format!("by hand, {group} a transaction, {size} sessions"), hand));
            }
        }
    }
    compare("SQLite", contenders);

    let store = SqliteStore::open(file("http".to_owned(), few)).unwrap();
    let server = self::runtime("server");
    let browsers = runtime.block_on(sign_in(&server, &store));
    let direct = through_store(runtime, Arc::new(store), few);
    compare("SQLite", vec![contender("store", direct), contender("POST /token", over_http(runtime, browsers))]);
}

#[cfg(feature = "postgres")]
mod postgres {
    use std::{
        os::unix::{fs::MetadataExt as _, process::CommandExt as _},
        process::{Child, Command, Stdio},
    };

    use portcullis::{
        session::SessionRecord,
        store::{NewSession, PostgresStore},
    };
    use sqlx::{Executor as _, PgPool, postgres::PgPoolOptions};

    use super::*;

    const SESSIONS: u64 = 4096;
    /// PostgreSQL does not run as root.
    const NOBODY: u32 = 65534;
    const OWN: &str = "
        CREATE SCHEMA hand;
        CREATE TABLE hand.sessions (LIKE portcullis.sessions INCLUDING ALL);
        CREATE TABLE hand.spent (LIKE portcullis.spent INCLUDING ALL,
            FOREIGN KEY (session) REFERENCES hand.sessions (id) ON DELETE CASCADE);
        INSERT INTO hand.sessions SELECT * FROM portcullis.sessions;
        VACUUM ANALYZE;
    ";
    const BY_HAND: &str = "
        WITH turned AS (
            UPDATE hand.sessions SET current = $3, previous = $2, sealed = $4, turned_at = $5, last_used = $5, ends_at = $6,
                turns = turns + 1
            WHERE id = $1 AND current = $2 AND ends_at > $5 RETURNING id
        )
        INSERT INTO hand.spent (session, digest) SELECT id, $2 FROM turned
    ";

    /// What somebody would write who keeps sessions in PostgreSQL.
    #[derive(Clone)]
    struct ByHand(PgPool);

    impl Turn for ByHand {
        async fn turn(&self, rotation: Rotation) {
            let turn = sqlx::query(BY_HAND)
                .bind(rotation.id.as_bytes().as_slice())
                .bind(rotation.presented.as_bytes().as_slice())
                .bind(rotation.successor.as_bytes().as_slice())
                .bind(rotation.sealed.as_bytes())
                .bind(rotation.now.get() as i64)
                .bind(rotation.ends_at.get() as i64);
            assert_eq!(turn.execute(&self.0).await.unwrap().rows_affected(), 1);
        }
    }

    struct Server {
        running: Child,
        _folder: Folder,
    }

    impl Drop for Server {
        fn drop(&mut self) {
            let _ = Command::new("kill").args(["-QUIT", &self.running.id().to_string()]).status();
            let _ = self.running.wait();
        }
    }

    /// A server that waits for the disk, as it does unless it is told otherwise; `None` if none is installed.
    async fn start() -> Option<(Server, PgPool)> {
        let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let mut programs: Vec<_> = versions.map(|version| version.path().join("bin")).collect();
        programs.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        let programs = programs.into_iter().find(|folder| folder.join("initdb").is_file())?;
        let folder = Folder::new("postgres");
        let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
        if is_root {
            std::os::unix::fs::chown(&folder.0, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let command = |name| {
            let mut command = Command::new(programs.join(name));
            command.current_dir(&folder.0).env("HOME", &folder.0).stdout(Stdio::null()).stderr(Stdio::null());
            if is_root {
                command.uid(NOBODY).gid(NOBODY);
            }
            command
        };
        let initdb = ["-D", "data", "-U", "bench", "-E", "UTF8", "--locale=C", "-A", "trust", "--no-sync"];
        assert!(command("initdb").args(initdb).status().unwrap().success());
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port().to_string();
        let place = ["-D", "data", "-h", "127.0.0.1", "-p", &port, "-k", "", "-c", "synchronous_commit=on"];
        let running = command("postgres").args(place).spawn().unwrap();
        let server = Server { running, _folder: folder };
        let url = format!("postgres://bench@127.0.0.1:{port}/postgres");
        for _ in 0..200 {
            if let Ok(pool) = PgPoolOptions::new().max_connections(8).connect(&url).await {
                return Some((server, pool));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        None
    }

    /// A session that has not been turned; the first of its callers' turns is the second.
    fn session(number: u64) -> NewSession {
        let now = UnixSeconds::new(now());
        let session = SessionRecord {
            id: SessionId::from_bytes(id(number)),
            subject: format!("user:{:022}", mixed(!number)),
            client_id: "first-party".to_owned(),
            scope: "me items".parse().unwrap(),
            audience: vec!["orders".to_owned()],
            label: "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Firefox/140.0".to_owned(),
            network: "203.0.113.0/24".to_owned(),
            auth_time: now,
            last_used: now,
            expires_at: now.saturating_add(Duration::from_secs(90 * 24 * 3600)),
        };
        let ends_at = now.saturating_add(Duration::from_secs(3600 + mixed(number) % IDLE));
        NewSession { session, digest: TokenDigest::from_bytes(token(number, 1)), ends_at }
    }

    pub(super) fn measure(runtime: &Runtime) {
        let Some((_server, pool)) = runtime.block_on(start()) else { return println!("\nno PostgreSQL is installed") };
        let store: Arc<dyn SessionStore> = Arc::new(runtime.block_on(PostgresStore::from_pool(pool.clone())).unwrap());
        runtime.block_on(async {
            for number in 0..SESSIONS {
                store.create(session(number)).await.unwrap();
            }
            for statement in OWN.split(';') {
                pool.execute(statement).await.unwrap();
            }
        });
        let (mut callers, by_hand) = (Caller::several(SESSIONS), ByHand(pool.clone()));
        let hand = |until| runtime.block_on(at_once(&mut callers, until, by_hand.clone()));
        let store = through_store(runtime, store, SESSIONS);
        compare("PostgreSQL", vec![contender("one statement by hand", hand), contender("store", store)]);
        runtime.block_on(pool.close());
    }
}

fn main() {
    // `cargo test --benches` runs this as well, and is told nothing by it.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    println!("{CALLERS} callers; {} cores", std::thread::available_parallelism().unwrap());
    let runtime = runtime("caller");
    sqlite(&runtime);
    #[cfg(feature = "postgres")]
    postgres::measure(&runtime);
}
