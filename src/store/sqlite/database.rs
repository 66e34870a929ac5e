//! Threads around SQLite connections: one that writes in groups, a few that read.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
    time::Duration,
};

use futures::channel::oneshot;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::schema;
use crate::store::StoreError;

/// Calls that may wait for the writer, and for the readers.
const QUEUE: usize = 1024;
/// Writes in one commit.
const GROUP: usize = 64;
/// Reading threads. They wait for the disk at worst; two keep two cores busy.
const READERS: usize = 2;
/// How long to wait for a lock that another program holds.
const BUSY: Duration = Duration::from_secs(2);

/// Handle to the threads. They end when the last clone is dropped and the queues are empty.
#[derive(Clone)]
pub(super) struct Database {
    writer: SyncSender<Write>,
    readers: SyncSender<Read>,
}

type Read = Box<dyn FnOnce(&Connection) + Send>;
/// Runs inside the group's transaction and returns how to tell the caller once the commit's outcome is known.
type Write = Box<dyn FnOnce(&Connection) -> Tell + Send>;
type Tell = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

impl Database {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        create_private(path)?;
        let mut db = connect(path)?;
        // FULL: durable before the caller hears of it.
        let durable = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL";
        db.execute_batch(durable).map_err(store_error)?;
        schema::migrate(&mut db)?;
        let (writer, queue) = mpsc::sync_channel(QUEUE);
        spawn("portcullis-sqlite-write", move || write_loop(&db, &queue))?;
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
        self.readers.try_send(job).map_err(|_| busy())?;
        told.await.map_err(|_| gone())?
    }

    /// Runs `write` on the writing thread and resolves when it is durable, or has left no trace.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        write: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (tell, told) = oneshot::channel();
        let job: Write = Box::new(move |db| {
            let result = in_savepoint(db, write);
            Box::new(move |commit| {
                let _ = tell.send(commit.and(result.map_err(store_error)));
            })
        });
        self.writer.try_send(job).map_err(|_| busy())?;
        told.await.map_err(|_| gone())?
    }
}

/// One failed write must not take the rest of its group with it.
fn in_savepoint<T>(db: &Connection, write: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
    db.execute_batch("SAVEPOINT one")?;
    let result = write(db);
    let end = if result.is_ok() { "RELEASE one" } else { "ROLLBACK TO one; RELEASE one" };
    db.execute_batch(end)?;
    result
}

fn write_loop(db: &Connection, writes: &Receiver<Write>) {
    while let Ok(first) = writes.recv() {
        let begun = db.execute_batch("BEGIN IMMEDIATE");
        let group = std::iter::once(first).chain(writes.try_iter().take(GROUP - 1));
        let tells: Vec<Tell> = if begun.is_ok() { group.map(|write| write(db)).collect() } else { drop_group(group) };
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

/// Without a transaction nothing may run; callers learn it from their channel's end.
fn drop_group(group: impl Iterator<Item = Write>) -> Vec<Tell> {
    group.for_each(drop);
    Vec::new()
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

/// Creates a missing file before SQLite would, because it holds password hashes and SQLite lets the umask decide.
/// SQLite gives its journal files the mode of the main file.
fn create_private(path: &Path) -> Result<(), StoreError> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop).map_err(StoreError::unavailable)
}

/// A function, not `From`: the driver's type stays out of the public interface.
pub(super) fn store_error(error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::ConstraintViolation) => StoreError::Conflict,
        Some(ErrorCode::DiskFull) => StoreError::Full,
        _ => StoreError::unavailable(error),
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), StoreError> {
    thread::Builder::new().name(name.to_owned()).spawn(body).map(drop).map_err(StoreError::unavailable)
}

fn busy() -> StoreError {
    StoreError::unavailable("too many calls are waiting for the database")
}

fn gone() -> StoreError {
    StoreError::unavailable("the database did not begin a transaction, or its thread is gone")
}
