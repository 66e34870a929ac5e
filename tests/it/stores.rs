//! What every store promises, and what SQLite promises beyond.

#![expect(clippy::print_stdout, reason = "figures, for whoever runs them")]

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use portcullis::{
    audit::{EventRecord, Kind},
    ident::{LoginName, UserId},
    store::{
        AuditStore, KeyStore, MemoryAttempts, MemoryStore, PasswordHash, RevocationStore, SqliteStore, StoreError,
        UserRecord, UserStore,
    },
    testing::stores as suite,
};

/// A folder that is removed when dropped.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("portcullis-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn user(id: &str, login: &str) -> UserRecord {
    UserRecord {
        id: UserId::parse(id).unwrap(),
        login: LoginName::parse(login).unwrap(),
        password: PasswordHash::from_phc(format!("$hash${id}")),
        scopes: "me items".parse().unwrap(),
        disabled: false,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_conforms() {
    conforms(Arc::new(MemoryStore::new())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_conforms() {
    let folder = Folder::new("conforms");
    conforms(Arc::new(SqliteStore::open(folder.file("a.db")).unwrap())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn req_028_req_172_attempts_in_memory_conform() {
    let attempts = Arc::new(MemoryAttempts::new());
    for _ in 0..5 {
        suite::attempts(attempts.clone()).await;
    }
}

/// All but sessions, which `sessions.rs` looks at; twice, because a store is not always new.
async fn conforms<S: UserStore + RevocationStore + KeyStore + AuditStore>(store: Arc<S>) {
    for _ in 0..2 {
        suite::users(Arc::clone(&store) as _).await;
        suite::revocations(Arc::clone(&store) as _).await;
        suite::keys(Arc::clone(&store) as _).await;
        suite::audit(Arc::clone(&store) as _).await;
    }
}

#[tokio::test]
async fn sqlite_keeps_what_it_acknowledged_in_a_private_file() {
    let folder = Folder::new("keeps");
    let path = folder.file("users.db");
    let store = SqliteStore::open(&path).unwrap();
    store.insert(user("1", "alice")).await.unwrap();
    // A second program on the same file, while the first is running.
    let second = SqliteStore::open(&path).unwrap();
    second.insert(user("2", "bob")).await.unwrap();
    assert!(store.find_by_login(&LoginName::parse("bob").unwrap()).await.unwrap().is_some());
    drop((store, second));
    let again = SqliteStore::open(&path).unwrap();
    assert!(again.find_by_login(&LoginName::parse("alice").unwrap()).await.unwrap().is_some());
    #[cfg(unix)]
    for name in ["users.db", "users.db-wal", "users.db-shm"] {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(folder.file(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn sqlite_takes_every_name_for_a_file() {
    // SQLite alone would take this for databases in memory, one for each connection. Relative, so in the package's folder.
    let path = std::path::Path::new(":memory:");
    let file = std::path::absolute(path).unwrap();
    let store = SqliteStore::open(path).unwrap();
    store.insert(user("1", "alice")).await.unwrap();
    let found = store.find_by_login(&LoginName::parse("alice").unwrap()).await;
    drop(store);
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", file.display()));
    }
    assert!(found.unwrap().is_some());
}

#[tokio::test]
async fn sqlite_says_so_when_it_cannot_answer() {
    let folder = Folder::new("cannot");
    let path = folder.file("users.db");
    let store = SqliteStore::open(&path).unwrap();
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(matches!(store.insert(user("1", "alice")).await, Err(StoreError::Unavailable(_))), "locked by another");
    assert!(store.find_by_id(&UserId::parse("1").unwrap()).await.unwrap().is_none(), "readers go on");
    other.execute_batch("ROLLBACK").unwrap();
    store.insert(user("1", "alice")).await.unwrap();
    // A record that this program would not have written is no missing user.
    other.execute_batch("UPDATE users SET scopes = 'two  spaces'").unwrap();
    let broken = store.find_by_id(&UserId::parse("1").unwrap()).await;
    assert!(matches!(broken, Err(StoreError::Unavailable(_))), "{broken:?}");

    other.execute_batch("PRAGMA user_version = 99").unwrap();
    let newer = SqliteStore::open(&path).unwrap_err();
    assert!(newer.to_string().contains("version 99"), "{newer}");
    std::fs::write(folder.file("garbage.db"), vec![7; 8192]).unwrap();
    for bad in ["garbage.db", "no/such/folder.db", ""] {
        assert!(matches!(SqliteStore::open(folder.file(bad)), Err(StoreError::Unavailable(_))), "{bad}");
    }
}

/// The queries of the guide's page on events, for one schema or none.
pub fn queries_of_the_guide() -> String {
    let page = include_str!("../../src/guide/audit.md");
    let (_, rest) = page.split_once("```sql\n").unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

#[test]
fn sqlite_runs_the_queries_of_the_guide() {
    let folder = Folder::new("queries");
    SqliteStore::open(folder.file("a.db")).unwrap();
    let db = rusqlite::Connection::open(folder.file("a.db")).unwrap();
    let queries = queries_of_the_guide().replace("portcullis.", "").replace("extract(epoch FROM now())", "unixepoch()");
    assert_eq!(queries.matches("SELECT").count(), 3);
    db.execute_batch(&queries).unwrap();
}

/// An event that was told just now.
fn event(n: u64) -> EventRecord {
    let mut event = EventRecord::new(format!("{n:032x}"), SystemTime::now(), Kind::CredentialInvalid.name());
    event.reason = Some("bad_signature".to_owned());
    event.detail = Some("signature does not verify".to_owned());
    event.status = Some(401);
    event.subject = Some(format!("user:{}", n % 1000));
    event.request_id = Some(event.id.clone());
    event.method = Some("GET".to_owned());
    event.path = Some("/users/me/items".to_owned());
    event.client_ip = Some([192, 0, 2, 1].into());
    event
}

/// Events are written as fast as they can be; what a login does meanwhile must not wait for as long as it would be given up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_writes_events_without_holding_up_logins() {
    let folder = Folder::new("flooded");
    let store = SqliteStore::open(folder.file("a.db")).unwrap();
    store.insert(user("1", "alice")).await.unwrap();
    let id = UserId::parse("1").unwrap();
    let mut measured = Vec::new();
    for flooded in [false, true] {
        let (flooding, count) = (store.clone(), Arc::new(AtomicU64::new(0)));
        let counting = Arc::clone(&count);
        let flood = tokio::spawn(async move {
            if !flooded {
                return;
            }
            loop {
                let first = counting.load(Ordering::SeqCst);
                // Those before it are cleared away meanwhile.
                let forget = Some(SystemTime::now() - Duration::from_millis(50));
                flooding.add_events((first..first + 256).map(event).collect(), forget).await.unwrap();
                counting.fetch_add(256, Ordering::SeqCst);
            }
        });
        let (begun, mut calls) = (Instant::now(), Vec::new());
        while begun.elapsed() < Duration::from_secs(2) {
            let call = Instant::now();
            assert!(store.replace_hash(&id, PasswordHash::from_phc("$x")).await.unwrap());
            calls.push(call.elapsed());
        }
        flood.abort();
        calls.sort();
        let [half, most] = [calls[calls.len() / 2], calls[calls.len() * 99 / 100]];
        let told = count.load(Ordering::SeqCst) / 2;
        println!("a write takes {half:?}, 99 of 100 less than {most:?}, beside {told} events a second");
        measured.push((*calls.last().unwrap(), told));
    }
    let [_, (longest, told)] = measured[..] else { panic!("{measured:?}") };
    assert!(longest < Duration::from_millis(1500), "{longest:?}: the login would be answered 503");
    assert!(told > 256, "{told} events a second");
}
