//! A server that is killed at any moment: what it has acknowledged is there when it is back, once.
#![expect(clippy::print_stdout, reason = "one process tells the other where it listens")]

use std::{
    collections::HashSet,
    env,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use portcullis::{
    AuthorizationServer,
    clock::UnixSeconds,
    ident::{LoginName, UserId},
    jwt::{Algorithm, SigningKey},
    secret::Secret,
    session::SessionPolicy,
    store::{Store, UserRecord},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    login::{PASSWORD, form, hasher},
    stores::Folder,
};

const STORE: &str = "PORTCULLIS_TEST_CRASHING_STORE";
const SESSIONS: usize = 8;
const REFRESHES: usize = 500;

/// The server, if this is its process: the test below starts it.
#[tokio::test]
async fn a_server_to_be_killed() {
    let Ok(url) = env::var(STORE) else { return };
    let store = Store::connect(&url).await.unwrap();
    let server =
        AuthorizationServer::builder("https://id.example", "orders", SigningKey::generate(Algorithm::EdDsa).unwrap())
            .first_party_login(store.users().unwrap(), hasher())
            .sessions(store.sessions(), SessionPolicy::default().grace(Duration::from_secs(60)))
            .build()
            .unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("\nlistening on {}", listener.local_addr().unwrap());
    let app = server.routes::<()>().into_make_service_with_connect_info::<std::net::SocketAddr>();
    let serving = axum::serve(listener, app);
    // Should whoever started it be gone, it ends by itself.
    let _ = tokio::time::timeout(Duration::from_secs(300), serving.into_future()).await;
}

struct Running {
    child: Child,
    address: SocketAddr,
}

impl Running {
    fn start(url: &str) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "crashes::a_server_to_be_killed", "--nocapture"])
            .env(STORE, url)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines.find_map(|line| line.unwrap().strip_prefix("listening on ")?.parse().ok()).unwrap();
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }
}

impl Drop for Running {
    /// As a crash would: SIGKILL.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Status and body of the answer, or nothing if there was none, or half of one.
async fn ask(address: SocketAddr, form: &str) -> Option<(u16, serde_json::Value)> {
    let exchange = async {
        let mut stream = tokio::net::TcpStream::connect(address).await.ok()?;
        let head = format!(
            "POST /token HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\
            content-type: application/x-www-form-urlencoded\r\n\r\n{form}",
            form.len()
        );
        stream.write_all(head.as_bytes()).await.ok()?;
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).await.ok()?;
        let reply = String::from_utf8(reply).ok()?;
        let (head, body) = reply.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, serde_json::from_str(body).ok()?))
    };
    tokio::time::timeout(Duration::from_secs(10), exchange).await.ok().flatten()
}

/// One device: the token that it has, and how many it has had.
struct Device {
    token: String,
    had: usize,
    /// When the answer got lost that it has been asking for since.
    lost: Option<Instant>,
}

impl Device {
    /// Refreshes until the server is gone, or `most` times; each answer is either good or "try again".
    async fn refresh(&mut self, address: SocketAddr, most: usize) -> usize {
        for done in 0..most {
            let form = format!("grant_type=refresh_token&refresh_token={}", self.token);
            let asked = Instant::now();
            let answer = ask(address, &form).await.filter(|(status, _)| *status != 503);
            let Some((status, body)) = answer else {
                self.lost.get_or_insert(asked);
                return done;
            };
            let since = self.lost.take().map(|lost| lost.elapsed());
            let what = "what was acknowledged is lost, or somebody has it twice";
            assert_eq!(status, 200, "{body}: {what}; asked for since {since:?}, of which the grace is a minute");
            let next = body["refresh_token"].as_str().unwrap().to_owned();
            self.had += usize::from(next != self.token);
            self.token = next;
        }
        most
    }
}

/// Kills the server at random moments of so many milliseconds until there were enough refreshes; `between` is done while it is
/// down. An answer that got lost is asked for again after a few kills at the most, within the grace.
async fn refreshes_survive(url: &str, within: u64, mut between: impl AsyncFnMut(usize)) {
    let store = Store::connect(url).await.unwrap();
    let user = UserRecord {
        id: UserId::parse("id-alice").unwrap(),
        login: LoginName::parse("alice").unwrap(),
        password: hasher().hash(Secret::from(PASSWORD)).await.unwrap(),
        scopes: "me".parse().unwrap(),
        disabled: false,
    };
    store.users().unwrap().insert(user).await.unwrap();
    let server = Running::start(url);
    let mut devices = Vec::new();
    for _ in 0..SESSIONS {
        let (status, body) = ask(server.address, &form("alice", PASSWORD, "")).await.unwrap();
        assert_eq!(status, 200, "{body}");
        devices.push(Device { token: body["refresh_token"].as_str().unwrap().to_owned(), had: 1, lost: None });
    }
    drop(server);
    let (mut done, mut kills) = (0, 0);
    let random = proptest::bits::u64::ANY;
    let mut runner = proptest::test_runner::TestRunner::default();
    while done < REFRESHES {
        let server = Running::start(url);
        let address = server.address;
        // On a machine that has much else to do, the grace could run out while a server is killed again and again.
        let late =
            devices.iter().any(|device| device.lost.is_some_and(|lost| lost.elapsed() > Duration::from_secs(20)));
        // A few each, so that the server is killed often.
        let each = devices.iter_mut().map(|device| device.refresh(address, 5));
        let all = futures::future::join_all(each);
        let after = proptest::strategy::Strategy::new_tree(&random, &mut runner).unwrap();
        let after = Duration::from_micros(proptest::strategy::ValueTree::current(&after) % (1000 * within));
        let after = if late { Duration::from_secs(8) } else { after };
        let kill = async move {
            tokio::time::sleep(after).await;
            drop(server);
        };
        let (rounds, ()) = tokio::join!(all, kill);
        done += rounds.iter().sum::<usize>();
        kills += 1;
        between(kills).await;
    }
    println!("{done} refreshes, {kills} kills");
    assert!(kills > 5, "{kills} kills are too few to say anything");
    // Once more, for those whose last answer was lost; and each device has a session, and one alone.
    let server = Running::start(url);
    for device in &mut devices {
        assert_eq!(device.refresh(server.address, 2).await, 2);
    }
    drop(server);
    let listed =
        Store::connect(url).await.unwrap().sessions().sessions("user:id-alice", UnixSeconds::new(0)).await.unwrap();
    assert_eq!(listed.len(), SESSIONS);
    assert_eq!(devices.iter().map(|device| &device.token).collect::<HashSet<_>>().len(), SESSIONS);
    turned_as_often_as_told(url, devices.iter().map(|device| device.had - 1).sum()).await;
}

/// Each token that was turned is one that a device has had: nothing was turned twice, or for nobody.
#[cfg_attr(not(feature = "postgres"), allow(clippy::unused_async, reason = "one kind of store waits"))]
async fn turned_as_often_as_told(url: &str, expected: usize) {
    let count = "SELECT count(*) FROM spent";
    if let Some(path) = url.strip_prefix("sqlite:") {
        let db = rusqlite::Connection::open(path).unwrap();
        let spent: i64 = db.query_row(count, [], |row| row.get(0)).unwrap();
        assert_eq!(usize::try_from(spent).unwrap(), expected);
    }
    #[cfg(feature = "postgres")]
    if url.starts_with("postgres:") {
        let mut db = <sqlx::PgConnection as sqlx::Connection>::connect(url).await.unwrap();
        let spent: i64 = sqlx::query_scalar("SELECT count(*) FROM portcullis.spent").fetch_one(&mut db).await.unwrap();
        assert_eq!(usize::try_from(spent).unwrap(), expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_on_sqlite_that_is_killed_loses_no_session_and_doubles_none() {
    let folder = Arc::new(Folder::new("killed"));
    refreshes_survive(&format!("sqlite:{}", folder.file("a.db").display()), 60, async |_| {}).await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_on_postgres_that_are_killed_lose_no_session_and_double_none() {
    let Some(mut database) = crate::servers::postgres().await else { return };
    let url = database.url.clone();
    // Every third time the database crashes as well.
    refreshes_survive(&url, 700, async |kills| {
        if kills % 3 == 0 {
            database.stop();
            database.start().await;
        }
    })
    .await;
}
