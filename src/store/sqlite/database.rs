//! Threads around SQLite connections: one that writes in groups, one that copies the journal into the file, a few that read.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, SyncSender, TrySendError},
    },
    thread,
    time::{Duration, Instant},
};

use futures::channel::oneshot;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::schema;
use crate::store::{StoreError, TARGET};

/// Calls that may wait for the writer, and for the readers.
const QUEUE: usize = 1024;
/// Writes in one commit.
const GROUP: usize = 64;
/// After so many commits the journal is copied into the file, by a thread of its own: the writer would wait for the disk.
const CHECKPOINT_GROUPS: u32 = 16;
/// Reading threads. They wait for the disk at worst; two keep two cores busy.
const READERS: usize = 2;
/// Pages of the journal at which the writer itself copies them into the file, should the thread for that not keep up: 64 MB.
const JOURNAL: u32 = 16_000;
/// How long to wait for a lock that another program holds.
const BUSY: Duration = Duration::from_secs(2);

/// Handle to the threads. They end when the last clone is dropped and the queues are empty.
#[derive(Clone)]
pub(super) struct Database {
    writer: SyncSender<Write>,
    readers: SyncSender<Read>,
}

type Read = Box<dyn FnOnce(&Connection) + Send>;
/// Writes, if there is a transaction to write in, and returns how to tell the caller once the commit's outcome is known.
type Write = Box<dyn FnOnce(Option<&Connection>) -> Tell + Send>;
type Tell = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

impl Database {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        // Absolute, so that later connections open the same file, and so that no name means anything but a file:
        // `:memory:` alone would be three databases.
        let path = &std::path::absolute(path).map_err(StoreError::unavailable)?;
        create_private(path)?;
        let mut db = connect(path)?;
        write_ahead(&db)?;
        // Durable before the caller hears of it.
        db.pragma_update(None, "synchronous", "FULL").map_err(store_error)?;
        db.pragma_update(None, "wal_autocheckpoint", JOURNAL).map_err(store_error)?;
        schema::migrate(&mut db)?;
        let (checkpoint, asked) = mpsc::sync_channel(1);
        let own = connect(path)?;
        spawn("portcullis-sqlite-checkpoint", move || checkpoint_loop(&own, &asked))?;
        let (writer, queue) = mpsc::sync_channel(QUEUE);
        spawn("portcullis-sqlite-write", move || write_loop(&db, &queue, &checkpoint))?;
        let (readers, queue) = mpsc::sync_channel(QUEUE);
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..READERS {
            let (db, queue) = (connect(path)?, Arc::clone(&queue));
            db.pragma_update(None, "query_only", true).map_err(store_error)?;
            spawn("portcullis-sqlite-read", move || read_loop(&db, &queue))?;
        }
        Ok(Self { writer, readers })
    }

    /// Runs `read` on a reading thread.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (tell, told) = oneshot::channel();
        let job: Read = Box::new(move |db| {
            // A caller who has gone needs no answer.
            if !tell.is_canceled() {
                let _ = tell.send(read(db).map_err(store_error));
            }
        });
        self.readers.try_send(job).map_err(|error| not_sent(&error))?;
        told.await.map_err(|_| gone())?
    }

    /// Runs `write` on the writing thread and resolves when it is durable, or has left no trace.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        write: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (tell, told) = oneshot::channel();
        let job: Write = Box::new(move |db| {
            // A caller who has gone before it was their turn has been told, or has told somebody, that it did not happen.
            let db = db.filter(|_| !tell.is_canceled());
            let result = db.map(|db| in_savepoint(db, write).map_err(store_error));
            Box::new(move |commit| {
                let _ = tell.send(outcome(result, commit));
            })
        });
        self.writer.try_send(job).map_err(|error| not_sent(&error))?;
        told.await.map_err(|_| gone())?
    }
}

/// What a caller is told, from what their write returned, if it was tried, and how the commit went.
fn outcome<T>(result: Option<Result<T, StoreError>>, commit: Result<(), StoreError>) -> Result<T, StoreError> {
    match (result, commit) {
        // Why the commit failed, in one word.
        (Some(Err(StoreError::Full)), _) => Err(StoreError::Full),
        // Whatever a write saw, a conflict included, may be gone with the transaction.
        (_, Err(error)) => Err(error),
        (Some(result), Ok(())) => result,
        (None, Ok(())) => Err(gone()),
    }
}

/// One failed write must not take the rest of its group with it.
fn in_savepoint<T>(db: &Connection, write: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
    db.execute_batch("SAVEPOINT one")?;
    let result = write(db);
    let end = db.execute_batch(if result.is_ok() { "RELEASE one" } else { "ROLLBACK TO one; RELEASE one" });
    // The write's own error says more than one of the clean-up, which fails if SQLite has rolled all back by itself.
    result.and_then(|value| end.map(|()| value))
}

fn write_loop(db: &Connection, writes: &Receiver<Write>, checkpoint: &SyncSender<()>) {
    let mut groups = 0_u32;
    while let Ok(first) = writes.recv() {
        groups = groups.wrapping_add(1);
        if groups.is_multiple_of(CHECKPOINT_GROUPS) {
            // Where one is going on, that is enough.
            let _ = checkpoint.try_send(());
        }
        let begun = db.execute_batch("BEGIN IMMEDIATE");
        // Where none can begin, nobody who waits already should wait for the same again.
        let most = if begun.is_ok() { GROUP } else { QUEUE + 1 };
        let group = std::iter::once(first).chain(writes.try_iter().take(most - 1));
        // When the disk fails or is full, SQLite rolls the whole transaction back by itself. A write that ran then would
        // commit alone, and its caller would hear that it failed.
        let tells: Vec<Tell> = group.map(|write| write(Some(db).filter(|db| !db.is_autocommit()))).collect();
        let committed = begun.and_then(|()| db.execute_batch("COMMIT"));
        if committed.is_err() && !db.is_autocommit() {
            // Nothing to do if this fails as well: the next `BEGIN` will, and its callers are told.
            let _ = db.execute_batch("ROLLBACK");
        }
        for tell in tells {
            // Errors cannot be cloned; each caller gets the words.
            tell(committed.as_ref().copied().map_err(|error| StoreError::unavailable(error.to_string())));
        }
    }
}

/// Copies what was committed from the journal into the file, beside the writer.
fn checkpoint_loop(db: &Connection, asked: &Receiver<()>) {
    while asked.recv().is_ok() {
        // If it fails, the writer does it when the journal has grown long.
        let _ = db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
    }
}

fn read_loop(db: &Connection, reads: &Mutex<Receiver<Read>>) {
    loop {
        // Held while waiting for a job, not while doing it.
        let job = reads.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(read) => read(db),
            Err(_) => return,
        }
    }
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    // No URI file names: a path is a path.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let db = Connection::open_with_flags(path, flags)?;
        db.busy_timeout(BUSY)?;
        db.pragma_update(None, "foreign_keys", true)?;
        Ok(db)
    };
    open().map_err(store_error)
}

/// Puts the file into WAL mode, which it keeps. SQLite does not wait for another program's lock here as it does elsewhere.
fn write_ahead(db: &Connection) -> Result<(), StoreError> {
    let deadline = Instant::now() + BUSY;
    loop {
        match db.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0)) {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(mode) => {
                return Err(StoreError::unavailable(format!("the file is in journal mode `{mode}`, not `wal`")));
            }
            Err(error) if is_locked(&error) && Instant::now() < deadline => thread::sleep(Duration::from_millis(10)),
            Err(error) => return Err(store_error(error)),
        }
    }
}

fn is_locked(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Creates a missing file before SQLite would, because it holds password hashes and SQLite lets the umask decide.
/// SQLite gives its journal files the mode of the main file.
fn create_private(path: &Path) -> Result<(), StoreError> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path).map_err(StoreError::unavailable)?;
    #[cfg(unix)]
    if file.metadata().is_ok_and(|file| std::os::unix::fs::PermissionsExt::mode(&file.permissions()) & 0o077 != 0) {
        tracing::warn!(target: TARGET, path = %path.display(), "others than the owner may open the file with the users' password hashes");
    }
    drop(file);
    Ok(())
}

/// A function, not `From`: the driver's type stays out of the public interface.
pub(super) fn store_error(error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::ConstraintViolation) => StoreError::Conflict,
        Some(ErrorCode::DiskFull) => StoreError::Full,
        // Without the statement, which tells an operator nothing.
        _ => match error {
            rusqlite::Error::SqlInputError { msg, .. } => StoreError::unavailable(msg),
            error => StoreError::unavailable(error),
        },
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), StoreError> {
    thread::Builder::new().name(name.to_owned()).spawn(body).map(drop).map_err(StoreError::unavailable)
}

fn not_sent<T>(error: &TrySendError<T>) -> StoreError {
    match error {
        TrySendError::Full(_) => StoreError::unavailable("too many calls are waiting for the database"),
        TrySendError::Disconnected(_) => gone(),
    }
}

fn gone() -> StoreError {
    StoreError::unavailable("the thread of the database is gone")
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(std::path::PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("portcullis-database-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&folder);
            std::fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    async fn count(db: &Database) -> u32 {
        db.read(|db| db.query_row("SELECT count(*) FROM users", [], |row| row.get(0))).await.unwrap()
    }

    fn insert(db: &Connection, id: &str) -> rusqlite::Result<usize> {
        db.execute("INSERT INTO users VALUES (?1, ?1, '', '', 0)", [id])
    }

    /// Sends `writes` so that they make one group, and returns what each caller is told.
    async fn as_a_group(
        db: &Database,
        writes: Vec<fn(&Connection) -> rusqlite::Result<usize>>,
    ) -> Vec<Result<usize, StoreError>> {
        let (start, begun) = mpsc::channel::<()>();
        let first = db.write(move |_| Ok(begun.recv().map_or(0, |()| 1)));
        let all = futures::future::join_all(writes.into_iter().map(|write| db.write(write)));
        let release = async {
            // Both of the others have been polled, so everything is in the queue.
            start.send(()).unwrap();
        };
        let (first, told, ()) = tokio::join!(first, all, release);
        assert_eq!(first.is_ok(), told.iter().any(Result::is_ok), "one group, one commit");
        told
    }

    #[tokio::test]
    async fn a_group_is_one_commit_and_a_failed_write_leaves_the_others() {
        let folder = Folder::new("group");
        let db = Database::open(&folder.0.join("a.db")).unwrap();
        let told = as_a_group(&db, vec![|db| insert(db, "1"), |db| insert(db, "1"), |db| insert(db, "2")]).await;
        assert!(matches!(told[..], [Ok(1), Err(StoreError::Conflict), Ok(1)]), "{told:?}");
        assert_eq!(count(&db).await, 2);
    }

    #[tokio::test]
    async fn after_sqlite_has_rolled_back_by_itself_nothing_of_the_group_is_kept() {
        let folder = Folder::new("rolled-back");
        let db = Database::open(&folder.0.join("a.db")).unwrap();
        let told = as_a_group(
            &db,
            vec![
                |db| insert(db, "1"),
                |db| db.execute_batch("ROLLBACK").and_then(|()| db.execute("no statement", [])),
                |db| insert(db, "2"),
            ],
        )
        .await;
        assert!(told.iter().all(|told| matches!(told, Err(StoreError::Unavailable(_)))), "{told:?}");
        assert_eq!(count(&db).await, 0, "what failed has left no trace");
        assert!(db.write(|db| insert(db, "3")).await.is_ok(), "and all is well again");
    }

    #[tokio::test]
    async fn a_full_disk_is_told() {
        let folder = Folder::new("full");
        let db = Database::open(&folder.0.join("a.db")).unwrap();
        let limit = |db: &Connection| db.query_row("PRAGMA max_page_count = 20", [], |row| row.get::<_, u32>(0));
        db.write(limit).await.unwrap();
        let fill =
            |db: &Connection| db.execute("INSERT INTO users VALUES ('x', 'x', hex(randomblob(100000)), '', 0)", []);
        assert!(matches!(db.write(fill).await, Err(StoreError::Full)));
        assert_eq!(count(&db).await, 0);
        assert!(db.write(|db| insert(db, "1")).await.is_ok());
    }

    #[tokio::test]
    async fn files_are_durable_and_open_for_many_at_once() {
        let folder = Folder::new("many");
        for round in 0..10 {
            let path = folder.0.join(format!("{round}.db"));
            let open = || {
                thread::spawn({
                    let path = path.clone();
                    move || Database::open(&path)
                })
            };
            let opened: Vec<_> = std::iter::repeat_with(open).take(8).collect();
            for each in opened {
                let db = each.join().unwrap().unwrap();
                let pragma = |name| {
                    move |db: &Connection| {
                        db.pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0))
                    }
                };
                assert_eq!(db.write(pragma("journal_mode")).await.unwrap(), "wal".to_owned().into());
                assert_eq!(db.write(pragma("synchronous")).await.unwrap(), 2.into(), "FULL");
                assert_eq!(db.write(pragma("wal_autocheckpoint")).await.unwrap(), i64::from(JOURNAL).into());
            }
        }
    }
}
