//! Real servers, started by these tests for themselves: what every store promises, many at once from two processes, and what
//! happens when a server is down, slow or full.
//!
//! Where a server is not installed its tests say so and pass, unless `PORTCULLIS_TEST_SERVERS` is `required`.

#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "told to whoever runs them: what is skipped, and how long it took"
)]

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use portcullis::{
    clock::UnixSeconds,
    ident::SessionId,
    session::{SealedToken, SessionRecord, TokenDigest},
    store::{
        CalledBack, Cursor, NewSession, Revocation, Revoked, Rotated, Rotation, SessionStore, Store, StoreError,
        StoreFuture,
    },
    testing::stores as suite,
};
use tokio::{
    sync::{Mutex, MutexGuard, OnceCell},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::support::now;

pub const PASSWORD: &str = "hunter2-of-the-server";
/// PostgreSQL does not run as root.
const NOBODY: u32 = 65534;

/// Runs a server until its own input ends: nothing is left over, however this program ends. A line says that the folder stays.
const KEEPER: &str = r#"
    folder=$1 signal=$2 && shift 2
    "$@" </dev/null >>"$folder/log" 2>&1 & server=$!
    echo $server
    read -r keep
    kill -CONT $server; kill -$signal $server; wait $server
    [ -n "$keep" ] || rm -rf "$folder"
"#;

/// A server of one's own on loopback, that stops when dropped. Its folder goes with it.
pub struct Private {
    pub url: String,
    folder: PathBuf,
    /// The signal that ends it as a crash would, with nothing left running.
    crash: &'static str,
    command: Vec<String>,
    running: Option<Running>,
}

struct Running {
    server: u32,
    keeper: Child,
    input: Option<ChildStdin>,
}

impl Private {
    async fn new(name: &str, crash: &'static str, make: impl Fn(&Path, u16) -> (String, Vec<String>)) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let folder = env::temp_dir().join(format!("portcullis-{name}-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        if is_root() {
            std::os::unix::fs::chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (url, command) = make(&folder, port);
        let mut server = Self { url, folder, crash, command, running: None };
        server.start().await;
        server
    }

    /// Starts it, and waits until it answers.
    pub async fn start(&mut self) {
        let folder = self.folder.to_str().unwrap();
        let mut keeper = unprivileged("sh", &self.folder);
        keeper.args(["-c", KEEPER, "sh", folder, self.crash]).args(&self.command);
        let mut keeper = keeper.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut server = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut server).unwrap();
        let input = keeper.stdin.take();
        self.running = Some(Running { server: server.trim().parse().unwrap(), keeper, input });
        let deadline = Instant::now() + Duration::from_secs(30);
        while let Err(error) = Store::connect(&self.url).await {
            let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "{error}\n{log}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends it at once, as a crash would.
    pub fn stop(&mut self) {
        self.end(b"keep\n");
    }

    fn end(&mut self, last: &[u8]) {
        let Some(mut running) = self.running.take() else { return };
        let _ = running.input.take().unwrap().write_all(last);
        let deadline = Instant::now() + Duration::from_secs(20);
        while running.keeper.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                signal("KILL", &[running.server]);
                let _ = running.keeper.kill();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.join("log")).unwrap()).into_owned()
    }

    /// Keeps it from doing anything.
    pub fn pause(&self) {
        let server = self.running.as_ref().unwrap().server;
        // First the one that would start others.
        signal("STOP", &[server]);
        signal("STOP", &children(server));
    }

    pub fn resume(&self) {
        let server = self.running.as_ref().unwrap().server;
        signal("CONT", &children(server));
        signal("CONT", &[server]);
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            signal("CONT", &children(running.server));
        }
        self.end(b"");
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

fn unprivileged(program: impl AsRef<std::ffi::OsStr>, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).env("HOME", folder);
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

fn signal(name: &str, pids: &[u32]) {
    if !pids.is_empty() {
        // One of them may have gone by itself.
        let _ = Command::new("kill").arg(format!("-{name}")).args(pids.iter().map(u32::to_string)).output().unwrap();
    }
}

/// The processes that this one has started.
fn children(parent: u32) -> Vec<u32> {
    let all = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let is_child = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // After the name, which may be anything: the state, then the parent.
        let parents = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
        parents == Some(parent)
    };
    all.filter(is_child).collect()
}

/// A folder with all of these programs, so that they are of one version.
fn installed(programs: &[&str]) -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(Result::ok);
    let mut folders: Vec<_> = versions.map(|version| version.path().join("bin")).collect();
    folders.sort();
    folders.reverse();
    folders.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    let found = folders.into_iter().find(|folder| programs.iter().all(|program| folder.join(program).is_file()));
    if found.is_none() {
        let required = env::var("PORTCULLIS_TEST_SERVERS").is_ok_and(|value| value == "required");
        assert!(!required, "{programs:?} are not installed");
        eprintln!("skipped: {programs:?} are not installed");
    }
    found
}

/// A PostgreSQL of one's own, if it is installed.
#[cfg(feature = "postgres")]
pub async fn postgres() -> Option<Private> {
    let programs = installed(&["initdb", "postgres"])?;
    let make = |folder: &Path, port: u16| {
        let data = folder.join("data").to_str().unwrap().to_owned();
        fs::write(folder.join("password"), PASSWORD).unwrap();
        let made = unprivileged(programs.join("initdb"), folder)
            .args(["-D", &data, "-U", "portcullis", "-E", "UTF8", "--locale=C", "-A", "scram-sha-256", "--no-sync"])
            .args(["--pwfile", "password"])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let program = programs.join("postgres").to_str().unwrap().to_owned();
        let (port, folder) = (port.to_string(), folder.to_str().unwrap());
        let settings = ["-c", "fsync=on", "-c", "synchronous_commit=on", "-c", "max_connections=100"];
        let place = ["-D", &data, "-h", "127.0.0.1", "-p", &port, "-k", folder];
        let command = [&[program.as_str()], place.as_slice(), settings.as_slice()].concat();
        let url = format!("postgres://portcullis:{PASSWORD}@127.0.0.1:{port}/postgres");
        (url, command.into_iter().map(str::to_owned).collect())
    };
    Some(Private::new("postgres", "QUIT", make).await)
}

/// A Redis of one's own that writes to its disk before it answers, if it is installed.
#[cfg(feature = "redis")]
pub async fn redis() -> Option<Private> {
    let program = installed(&["redis-server"])?.join("redis-server").to_str().unwrap().to_owned();
    let make = |folder: &Path, port: u16| {
        let (port, folder) = (port.to_string(), folder.to_str().unwrap());
        let place = ["--bind", "127.0.0.1", "--port", &port, "--dir", folder, "--requirepass", PASSWORD];
        let durable = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""];
        let command = [&[program.as_str()], place.as_slice(), durable.as_slice()].concat();
        (format!("redis://:{PASSWORD}@127.0.0.1:{port}/0"), command.into_iter().map(str::to_owned).collect())
    };
    Some(Private::new("redis", "KILL", make).await)
}

/// A server that these tests share. One test at a time has it: two cores are not enough to do more and look at the clock.
pub struct Shared {
    _alone: MutexGuard<'static, ()>,
    pub server: MutexGuard<'static, Private>,
    store: Store,
}

static ALONE: Mutex<()> = Mutex::const_new(());

async fn shared(
    cell: &'static OnceCell<Option<Mutex<Private>>>,
    start: impl AsyncFnOnce() -> Option<Private>,
) -> Option<Shared> {
    let alone = ALONE.lock().await;
    let server = cell.get_or_init(|| async { start().await.map(Mutex::new) }).await.as_ref()?.lock().await;
    let store = Store::connect(&server.url).await.unwrap();
    Some(Shared { _alone: alone, server, store })
}

async fn each_server(mut test: impl AsyncFnMut(Shared)) {
    #[cfg(feature = "postgres")]
    if let Some(server) = shared_postgres().await {
        test(server).await;
    }
    #[cfg(feature = "redis")]
    if let Some(server) = shared_redis().await {
        test(server).await;
    }
}

#[cfg(feature = "postgres")]
async fn shared_postgres() -> Option<Shared> {
    static SERVER: OnceCell<Option<Mutex<Private>>> = OnceCell::const_new();
    shared(&SERVER, postgres).await
}

#[cfg(feature = "redis")]
pub async fn shared_redis() -> Option<Shared> {
    static SERVER: OnceCell<Option<Mutex<Private>>> = OnceCell::const_new();
    shared(&SERVER, redis).await
}

fn digest(n: u64) -> TokenDigest {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    TokenDigest::from_bytes(bytes)
}

fn session(subject: &str) -> NewSession {
    let now = UnixSeconds::new(now());
    let session = SessionRecord {
        id: SessionId::random().unwrap(),
        subject: subject.to_owned(),
        client_id: "app".to_owned(),
        scope: "me".parse().unwrap(),
        audience: vec!["orders".to_owned()],
        label: String::new(),
        network: String::new(),
        auth_time: now,
        last_used: now,
        expires_at: now.saturating_add(Duration::from_secs(9000)),
    };
    NewSession { ends_at: session.expires_at, session, digest: digest(0) }
}

/// Turns token 0 into `successor`, a minute's grace after it was turned, or none at all.
fn turn(id: SessionId, successor: u64, grace: u64) -> Rotation {
    let now = UnixSeconds::new(now());
    Rotation {
        id,
        presented: digest(0),
        successor: digest(successor),
        sealed: SealedToken::from_bytes(successor.to_string().into_bytes()),
        grace: Duration::from_secs(grace),
        ends_at: now.saturating_add(Duration::from_secs(9000)),
        called_back_until: called_back().until,
        now,
    }
}

fn called_back() -> CalledBack {
    let now = UnixSeconds::new(now());
    CalledBack { until: now.saturating_add(Duration::from_secs(60)), now }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_keep_what_every_store_promises() {
    each_server(async |Shared { store, .. }| {
        for _ in 0..2 {
            suite::sessions(store.sessions()).await;
            suite::revocations(Arc::new(store.sessions())).await;
            if let Some(attempts) = store.attempts() {
                suite::attempts(attempts).await;
            }
            if let (Some(users), Some(keys)) = (store.users(), store.keys()) {
                suite::users(users).await;
                suite::keys(keys).await;
            }
            if let Some(table) = store.audit() {
                suite::audit(table.store()).await;
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_at_once_one_turns_a_token_on_servers() {
    each_server(async |Shared { store, .. }| {
        let begun = Instant::now();
        suite::race(store.sessions(), 1000, 64).await;
        println!("{store:?}: {:?}", begun.elapsed());
    })
    .await;
}

const SECOND: &str = "PORTCULLIS_TEST_SECOND_PROCESS";
const CALLERS: u64 = 32;

/// Each outcome in one word.
async fn present(store: &Arc<dyn SessionStore>, id: SessionId, first: u64, grace: u64) -> Vec<String> {
    let mut calls = JoinSet::new();
    for successor in first..first + CALLERS {
        let store = Arc::clone(store);
        calls.spawn(async move {
            match store.rotate(turn(id, successor, grace)).await.unwrap() {
                Rotated::Turned => format!("turned:{successor}"),
                Rotated::Again(sealed) => format!("again:{}", String::from_utf8_lossy(sealed.as_bytes())),
                other => format!("{other:?}"),
            }
        });
    }
    calls.join_all().await
}

/// Not a test: what the second process does, for each line that the first one sends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_process() {
    let Ok(url) = env::var(SECOND) else { return };
    let store = Store::connect(&url).await.unwrap().sessions();
    println!("\n@ready");
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let (id, grace) = line.split_once(' ').unwrap();
        let outcomes = present(&store, SessionId::parse(id).unwrap(), 2000, grace.parse().unwrap()).await;
        println!("@{}", outcomes.join(" "));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_in_two_processes_one_turns_a_token() {
    each_server(async |Shared { store, server, .. }| {
        let mut second = Command::new(env::current_exe().unwrap())
            .args(["--exact", "servers::the_second_process", "--nocapture"])
            .env(SECOND, &server.url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = second.stdin.take().unwrap();
        let mut lines = BufReader::new(second.stdout.take().unwrap()).lines();
        let mut answer = || lines.find_map(|line| line.unwrap().strip_prefix('@').map(str::to_owned)).unwrap();
        assert_eq!(answer(), "ready");
        let (store, mut wins) = (store.sessions(), 0);
        for round in 0..1000 {
            let (new, grace) = (session("race:two"), if round % 2 == 0 { 0 } else { 60 });
            let id = new.session.id;
            store.create(new).await.unwrap();
            writeln!(input, "{id} {grace}").unwrap();
            let mut outcomes = present(&store, id, 1000, grace).await;
            outcomes.extend(tokio::task::block_in_place(&mut answer).split(' ').map(str::to_owned));
            let winners: Vec<_> = outcomes.iter().filter_map(|told| told.strip_prefix("turned:")).collect();
            let [winner] = winners[..] else { panic!("round {round}: {outcomes:?}") };
            let count = |told: &str| outcomes.iter().filter(|other| *other == told).count();
            if grace == 0 {
                let found = (count("Reused"), count("Unknown"), store.find(id, UnixSeconds::new(now())).await.unwrap());
                assert_eq!(found, (1, 62, None), "round {round}: {outcomes:?}");
            } else {
                assert_eq!(count(&format!("again:{winner}")), 63, "round {round}: {outcomes:?}");
            }
            wins += u32::from(winner.parse::<u64>().unwrap() < 2000);
        }
        println!("the first process won {wins} of 1000");
        drop(input);
        assert!(second.wait().unwrap().success());
    })
    .await;
}

/// Calls of each kind are refused within three seconds.
async fn cannot_answer(store: &Arc<dyn SessionStore>, id: SessionId) {
    let now = UnixSeconds::new(now());
    let soon = || now.saturating_add(Duration::from_secs(60));
    let note = || vec![Revocation { tokens: Revoked::Session(id), until: soon() }];
    let calls: Vec<StoreFuture<'_, String>> = vec![
        Box::pin(async { store.find(id, now).await.map(|told| format!("{told:?}")) }),
        Box::pin(async { store.rotate(turn(id, 7, 60)).await.map(|told| format!("{told:?}")) }),
        Box::pin(async { store.create(session("user:9")).await.map(|told| format!("{told:?}")) }),
        Box::pin(async { store.sessions("user:9", now).await.map(|told| format!("{told:?}")) }),
        Box::pin(async { store.revoke_all("user:9", None, called_back()).await.map(|told| format!("{told:?}")) }),
        Box::pin(async { store.revoke_tokens(note(), now).await.map(|told| format!("{told:?}")) }),
        Box::pin(async { store.revocations(Cursor::START, now).await.map(|told| format!("{told:?}")) }),
    ];
    let begun = Instant::now();
    let told = futures::future::join_all(calls.into_iter().chain((0..100).map(|_| -> StoreFuture<'_, String> {
        Box::pin(async { store.find(id, now).await.map(|told| format!("{told:?}")) })
    })));
    for told in told.await {
        assert!(matches!(told, Err(StoreError::Unavailable(_))), "{told:?}");
        let words = format!("{told:?}");
        assert!(!words.contains(PASSWORD), "{words}");
    }
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
}

/// It answers again, soon and then each time, and the session is there.
async fn answers_again(store: &Arc<dyn SessionStore>, id: SessionId) {
    let now = UnixSeconds::new(now());
    let again = async {
        while store.find(id, now).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(10), again).await.unwrap();
    let mut calls = JoinSet::new();
    for _ in 0..50 {
        let store = Arc::clone(store);
        calls.spawn(async move { store.find(id, now).await });
    }
    // Of the connections that died, some may have been on their way back to the pool.
    let found = calls.join_all().await.into_iter().filter(|found| matches!(found, Ok(Some(_)))).count();
    assert!(found >= 34, "{found} of 50");
    for _ in 0..50 {
        assert!(store.find(id, now).await.unwrap().is_some(), "no session is lost");
    }
    // Whether or not the call that was cut off had turned it, nobody is called a thief.
    let told = store.rotate(turn(id, 8, 60)).await.unwrap();
    assert!(matches!(told, Rotated::Turned | Rotated::Again(_)), "{told:?}");
    store.create(session("user:9")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_down_is_unavailable_and_no_session_is_lost() {
    each_server(async |Shared { store, mut server, .. }| {
        let (store, new) = (store.sessions(), session("user:1"));
        let id = new.session.id;
        store.create(new).await.unwrap();
        server.stop();
        cannot_answer(&store, id).await;
        server.start().await;
        answers_again(&store, id).await;
        // Those in the middle of it are told, or have been served.
        let mut calls = JoinSet::new();
        for n in 0..200 {
            let store = Arc::clone(&store);
            calls.spawn(async move { store.create(session(&format!("user:{n}"))).await });
        }
        sleep(Duration::from_millis(5)).await;
        server.stop();
        for told in timeout(Duration::from_secs(3), calls.join_all()).await.unwrap() {
            assert!(matches!(told, Ok(()) | Err(StoreError::Unavailable(_))), "{told:?}");
        }
        server.start().await;
        answers_again(&store, id).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_slow_is_unavailable_and_no_session_is_lost() {
    each_server(async |Shared { store, server, .. }| {
        let (store, new) = (store.sessions(), session("user:1"));
        let id = new.session.id;
        store.create(new).await.unwrap();
        for _ in 0..2 {
            server.pause();
            cannot_answer(&store, id).await;
            server.resume();
            answers_again(&store, id).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_who_go_away_leave_nothing_behind() {
    each_server(async |Shared { store, .. }| {
        let (store, new) = (store.sessions(), session("user:1"));
        let id = new.session.id;
        store.create(new).await.unwrap();
        for n in 0..300_u64 {
            let rotate = store.rotate(turn(id, 100 + n, 60));
            let _ = timeout(Duration::from_micros(n * 10), rotate).await;
        }
        answers_again(&store, id).await;
    })
    .await;
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_full_says_so_and_one_that_evicts_is_refused() {
    let Some(Shared { store, server, _alone, .. }) = shared_redis().await else { return };
    let (store, new) = (store.sessions(), session("user:1"));
    let id = new.session.id;
    store.create(new).await.unwrap();
    let mut admin = redis::Client::open(server.url.as_str()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let mut set = async |name: &str, value: &str| {
        redis::cmd("CONFIG").arg("SET").arg(name).arg(value).exec_async(&mut admin).await.unwrap();
    };
    set("maxmemory", "1").await;
    let now = UnixSeconds::new(now());
    let note = vec![Revocation { tokens: Revoked::Session(id), until: now.saturating_add(Duration::from_secs(60)) }];
    assert!(matches!(store.create(session("user:1")).await, Err(StoreError::Full)));
    assert!(matches!(store.rotate(turn(id, 1, 0)).await, Err(StoreError::Full)));
    assert!(matches!(store.revoke_tokens(note, now).await, Err(StoreError::Full)));
    assert!(store.find(id, now).await.unwrap().is_some(), "no session is lost");
    set("maxmemory", "0").await;
    assert_eq!(store.rotate(turn(id, 1, 0)).await.unwrap(), Rotated::Turned);
    set("maxmemory", "1").await;
    assert_eq!(store.rotate(turn(id, 1, 0)).await.unwrap(), Rotated::Reused, "a thief is stopped all the same");
    assert!(!store.revoke(id, called_back()).await.unwrap(), "and whoever signs out is signed out");
    set("maxmemory", "0").await;
    set("maxmemory-policy", "allkeys-lru").await;
    let error = Store::connect(&server.url).await.unwrap_err().to_string();
    set("maxmemory-policy", "noeviction").await;
    assert!(error.contains("allkeys-lru"), "{error}");
    let wrong = Store::connect(&server.url.replace(PASSWORD, "wrong-password")).await.unwrap_err();
    assert!(!format!("{wrong} {wrong:?}").contains("wrong-password"), "{wrong}");
}

#[cfg(feature = "postgres")]
mod postgresql {
    use portcullis::store::PostgresStore;
    use sqlx::{Connection as _, Executor as _, PgConnection, Row as _, postgres::PgPoolOptions};

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn tables_are_made_once_and_newer_ones_are_left_alone() {
        let Some(Shared { server, _alone, .. }) = shared_postgres().await else { return };
        let mut admin = PgConnection::connect(&server.url).await.unwrap();
        for round in 0..3 {
            admin.execute("DROP SCHEMA portcullis CASCADE").await.unwrap();
            let mut starts = JoinSet::new();
            for _ in 0..6 {
                let url = server.url.clone();
                starts.spawn(async move { PostgresStore::connect(&url).await.map(drop) });
            }
            assert!(starts.join_all().await.iter().all(Result::is_ok), "round {round}");
        }
        admin.execute("UPDATE portcullis.version SET version = 99").await.unwrap();
        let newer = PostgresStore::connect(&server.url).await.unwrap_err().to_string();
        assert!(newer.contains("version 99"), "{newer}");
        admin.execute("DROP SCHEMA portcullis CASCADE").await.unwrap();
        let wrong = PostgresStore::connect(&server.url.replace(PASSWORD, "wrong-password")).await.unwrap_err();
        assert!(!format!("{wrong} {wrong:?}").contains("wrong-password"), "{wrong}");
        let pool = PgPoolOptions::new()
            .after_connect(|db, _| {
                Box::pin(
                    async move { db.execute("SET default_transaction_isolation = 'serializable'").await.map(drop) },
                )
            })
            .connect(&server.url);
        let other = PostgresStore::from_pool(pool.await.unwrap()).await.unwrap_err().to_string();
        assert!(other.contains("`serializable`"), "{other}");
        let store = PostgresStore::connect(&server.url).await.unwrap();
        assert_eq!(format!("{store:?}"), "PostgresStore { .. }");
    }

    /// What a program that may not create anything finds made, it uses.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_pool_of_ones_own_that_is_used_up_does_not_hold_callers_up() {
        let Some(Shared { server, _alone, .. }) = shared_postgres().await else { return };
        let mut admin = PgConnection::connect(&server.url).await.unwrap();
        let grants = format!(
            "DROP ROLE IF EXISTS plain; CREATE ROLE plain LOGIN PASSWORD '{PASSWORD}';
            GRANT USAGE ON SCHEMA portcullis TO plain;
            GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA portcullis TO plain"
        );
        admin.execute(grants.as_str()).await.unwrap();
        let url = server.url.replace("portcullis:", "plain:");
        let pool = PgPoolOptions::new().max_connections(1).connect(&url).await.unwrap();
        let store: Arc<dyn SessionStore> = Arc::new(PostgresStore::from_pool(pool.clone()).await.unwrap());
        let new = session("user:1");
        let id = new.session.id;
        store.create(new).await.unwrap();
        let held = pool.acquire().await.unwrap();
        cannot_answer(&store, id).await;
        drop(held);
        answers_again(&store, id).await;
        admin.execute("DROP OWNED BY plain; DROP ROLE plain").await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_session_that_is_locked_is_unavailable_for_as_long() {
        let Some(Shared { store, server, _alone, .. }) = shared_postgres().await else { return };
        let (store, new) = (store.sessions(), session("user:1"));
        let id = new.session.id;
        store.create(new).await.unwrap();
        let mut other = PgConnection::connect(&server.url).await.unwrap();
        let mut transaction = other.begin().await.unwrap();
        transaction.execute("SELECT FROM portcullis.sessions FOR UPDATE").await.unwrap();
        let begun = Instant::now();
        assert!(matches!(store.rotate(turn(id, 1, 0)).await, Err(StoreError::Unavailable(_))));
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        transaction.rollback().await.unwrap();
        assert_eq!(store.rotate(turn(id, 1, 0)).await.unwrap(), Rotated::Turned, "it had been given up");
    }

    /// While one waits for the row, it is turned twice: what was presented is then neither the current token nor the last one,
    /// and spent since the statement began.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_token_that_was_spent_while_one_waited_is_known() {
        let Some(Shared { store, server, _alone, .. }) = shared_postgres().await else { return };
        let store = store.sessions();
        let mut other = PgConnection::connect(&server.url).await.unwrap();
        for _ in 0..20 {
            let new = session("user:1");
            let id = new.session.id;
            store.create(new).await.unwrap();
            let mut transaction = other.begin().await.unwrap();
            let (bytes, zero, one, two) = (id.as_bytes().to_vec(), digest(0), digest(1), digest(2));
            let turn_twice =
                "UPDATE portcullis.sessions SET current = $2, previous = $3, turned_at = 0, turns = turns + 2
                WHERE id = $1";
            let twice =
                sqlx::query(turn_twice).bind(&bytes).bind(two.as_bytes().as_slice()).bind(one.as_bytes().as_slice());
            twice.execute(&mut *transaction).await.unwrap();
            for spent in [zero, one] {
                let spend = sqlx::query("INSERT INTO portcullis.spent VALUES ($1, $2)").bind(&bytes);
                spend.bind(spent.as_bytes().as_slice()).execute(&mut *transaction).await.unwrap();
            }
            let (waiting, guessing) = (Arc::clone(&store), Arc::clone(&store));
            let waiting = tokio::spawn(async move { waiting.rotate(turn(id, 9, 60)).await });
            let mut guess = turn(id, 10, 60);
            guess.presented = digest(77);
            let guessing = tokio::spawn(async move { guessing.rotate(guess).await });
            sleep(Duration::from_millis(50)).await;
            transaction.commit().await.unwrap();
            assert_eq!(waiting.await.unwrap().unwrap(), Rotated::Reused);
            assert_eq!(guessing.await.unwrap().unwrap(), Rotated::Unknown);
            assert_eq!(store.find(id, UnixSeconds::new(now())).await.unwrap(), None);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_write_waits_for_the_disk_whatever_the_database_says() {
        let Some(Shared { server, _alone, .. }) = shared_postgres().await else { return };
        let mut admin = PgConnection::connect(&server.url).await.unwrap();
        let watch = "ALTER DATABASE postgres SET synchronous_commit = off;
            CREATE TABLE public.seen (what text, setting text);
            CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                INSERT INTO public.seen VALUES (TG_TABLE_NAME || ' ' || TG_OP, current_setting('synchronous_commit'));
                RETURN NULL;
            END $$";
        admin.execute(watch).await.unwrap();
        for table in ["users", "sessions", "spent", "revocations", "keys"] {
            let trigger = format!(
                "CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON portcullis.{table}
                FOR EACH ROW EXECUTE FUNCTION public.note()"
            );
            admin.execute(trigger.as_str()).await.unwrap();
        }
        let store = Store::connect(&server.url).await.unwrap();
        suite::users(store.users().unwrap()).await;
        suite::keys(store.keys().unwrap()).await;
        suite::revocations(Arc::new(store.sessions())).await;
        suite::race(store.sessions(), 8, 4).await;
        let sessions = store.sessions();
        sessions.create(session("user:off")).await.unwrap();
        assert_eq!(sessions.revoke_all("user:off", None, called_back()).await.unwrap().len(), 1);
        let seen = "SELECT what, count(*), bool_and(setting = 'on') FROM public.seen GROUP BY what";
        let seen = admin.fetch_all(seen).await.unwrap();
        let undo = "DROP FUNCTION public.note() CASCADE; DROP TABLE public.seen;
            ALTER DATABASE postgres RESET synchronous_commit";
        admin.execute(undo).await.unwrap();
        assert!(seen.len() >= 10, "{} kinds of writes", seen.len());
        for row in seen {
            assert!(row.get::<bool, _>(2), "{}", row.get::<&str, _>(0));
        }
    }

    /// Events wait for the server, and come once, also where the answer to the first try got lost.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn events_that_are_told_while_the_server_is_down_are_there_once_it_is_back() {
        use http::Request;
        use portcullis::{audit::AuditTrail, store::EventQuery};
        use tower::Service as _;
        let Some(Shared { store, mut server, _alone }) = shared_postgres().await else { return };
        let table = store.audit().unwrap();
        let trail = AuditTrail::builder().sink(table.clone()).start().unwrap();
        let mut stack = crate::audit::refusing(&trail);
        let since = std::time::SystemTime::now();
        let mut tell = async |round: u32| {
            for n in 0..200 {
                let request = Request::get(format!("/{round}/{n}")).body(()).unwrap();
                drop(stack.call(request).await);
            }
        };
        tell(0).await;
        server.stop();
        tell(1).await;
        assert!(!trail.flush(Duration::from_secs(4)).await, "it is down");
        server.start().await;
        tell(2).await;
        assert!(trail.flush(Duration::from_secs(30)).await);
        server.pause();
        tell(3).await;
        assert!(!trail.flush(Duration::from_secs(4)).await, "it does not answer");
        server.resume();
        assert!(trail.flush(Duration::from_secs(30)).await);
        assert_eq!(trail.dropped().map(|(_, lost)| lost).sum::<u64>(), 0);
        let told = table.events(EventQuery::new().since(since).most(1000)).await.unwrap();
        let mut paths: Vec<_> = told.into_iter().rev().filter_map(|event| event.path).collect();
        paths.retain(|path| path.split('/').count() == 3);
        let expected: Vec<_> = (0..4).flat_map(|round| (0..200).map(move |n| format!("/{round}/{n}"))).collect();
        assert_eq!(paths, expected, "in order, each once");
        let mut admin = PgConnection::connect(&server.url).await.unwrap();
        admin.execute(crate::stores::queries_of_the_guide().as_str()).await.unwrap();
    }

    /// A file system of two megabytes.
    struct Tiny(PathBuf);

    impl Tiny {
        fn mount(at: &Path) -> Option<Self> {
            fs::create_dir(at).unwrap();
            let options = format!("size=2m,mode=700,uid={NOBODY},gid={NOBODY}");
            let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).output();
            mounted.is_ok_and(|done| done.status.success()).then(|| Self(at.to_owned()))
        }
    }

    impl Drop for Tiny {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("-l").arg(&self.0).output();
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_disk_that_is_full_is_told_and_no_session_is_lost() {
        let _alone = ALONE.lock().await;
        let Some(server) = postgres().await else { return };
        let place = server.folder.join("tiny");
        let Some(tiny) = Tiny::mount(&place) else {
            eprintln!("skipped: a file system of two megabytes cannot be mounted here");
            return;
        };
        let store = Store::connect(&server.url).await.unwrap().sessions();
        let mut admin = PgConnection::connect(&server.url).await.unwrap();
        admin.execute(format!("CREATE TABLESPACE tiny LOCATION '{}'", place.display()).as_str()).await.unwrap();
        admin.execute("ALTER TABLE portcullis.sessions SET TABLESPACE tiny").await.unwrap();
        let (new, now) = (session("user:1"), UnixSeconds::new(now()));
        let id = new.session.id;
        store.create(new).await.unwrap();
        let mut kept = vec![id];
        loop {
            let mut new = session("user:1");
            new.session.audience = (0..200).map(|n| format!("https://{n}.example")).collect();
            let id = new.session.id;
            match store.create(new).await {
                Ok(()) => kept.push(id),
                Err(error) => break assert!(matches!(error, StoreError::Full), "{error}"),
            }
            assert!(kept.len() < 10_000, "two megabytes are full some time");
        }
        for id in &kept {
            assert!(store.find(*id, now).await.unwrap().is_some(), "no session is lost");
        }
        let more = Command::new("mount").args(["-o", "remount,size=64m"]).arg(&tiny.0).output().unwrap();
        assert!(more.status.success());
        store.create(session("user:1")).await.unwrap();
        assert_eq!(store.rotate(turn(id, 1, 0)).await.unwrap(), Rotated::Turned);
    }
}
