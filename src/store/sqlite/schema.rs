//! The tables, and how a file written by an older version is brought up to date.

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::database::store_error;
use crate::store::StoreError;

/// Each entry takes the file from the version of its index to the next. Entries are never changed, only added.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE users (
        id TEXT NOT NULL PRIMARY KEY,
        login TEXT NOT NULL UNIQUE,
        password TEXT NOT NULL,
        scopes TEXT NOT NULL,
        disabled INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
",
    // `ends_at` moves with use; `expires_at` does not. A session's tokens that were turned go with it.
    "
    CREATE TABLE sessions (
        id BLOB NOT NULL PRIMARY KEY,
        subject TEXT NOT NULL,
        client_id TEXT NOT NULL,
        scope TEXT NOT NULL,
        audience TEXT NOT NULL,
        label TEXT NOT NULL,
        auth_time INTEGER NOT NULL,
        last_used INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        ends_at INTEGER NOT NULL,
        current BLOB NOT NULL,
        previous BLOB,
        turned_at INTEGER,
        sealed BLOB
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX sessions_by_subject ON sessions (subject);
    CREATE INDEX sessions_by_end ON sessions (ends_at);
    CREATE TABLE spent (
        session BLOB NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
        digest BLOB NOT NULL,
        PRIMARY KEY (session, digest)
    ) STRICT, WITHOUT ROWID
",
    // A session's `audience` may be several, a line each. Revocations are numbered in the order of their commits.
    // What is cleared away is found by a moment that use does not move: an index that did would cost each turn two pages more.
    "
    DROP INDEX sessions_by_end;
    CREATE INDEX sessions_by_expiry ON sessions (expires_at);
    ALTER TABLE sessions ADD COLUMN network TEXT NOT NULL DEFAULT '';
    CREATE TABLE revocations (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        kind INTEGER NOT NULL,
        name ANY NOT NULL,
        issued_until INTEGER NOT NULL,
        until INTEGER NOT NULL,
        UNIQUE (kind, name)
    ) STRICT;
    CREATE INDEX revocations_by_end ON revocations (until);
    CREATE TABLE keys (
        kid TEXT NOT NULL PRIMARY KEY,
        algorithm TEXT NOT NULL,
        sealed BLOB NOT NULL,
        predecessor TEXT NOT NULL UNIQUE,
        published_at INTEGER NOT NULL,
        active_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
",
    // For people, `time` is there as text. By their time and id events are listed and cleared away; by kind and subject as well,
    // so that a page of a few among millions is found without a look at the others.
    "
    CREATE TABLE audit (
        id TEXT NOT NULL PRIMARY KEY,
        time_ms INTEGER NOT NULL,
        time TEXT GENERATED ALWAYS AS (strftime('%Y-%m-%dT%H:%M:%fZ', time_ms / 1000.0, 'unixepoch')) VIRTUAL,
        kind TEXT NOT NULL,
        reason TEXT,
        detail TEXT,
        status INTEGER,
        issuer TEXT,
        subject TEXT,
        client_id TEXT,
        session TEXT,
        token_id TEXT,
        scope TEXT,
        what TEXT,
        which TEXT,
        count INTEGER,
        request_id TEXT,
        method TEXT,
        path TEXT,
        client_ip TEXT
    ) STRICT;
    CREATE INDEX audit_by_time ON audit (time_ms, id);
    CREATE INDEX audit_by_kind ON audit (kind, time_ms, id);
    CREATE INDEX audit_by_subject ON audit (subject, time_ms, id) WHERE subject IS NOT NULL
",
];

/// Brings the tables up to date, in one transaction: a crash leaves the old version or the new one.
pub(super) fn migrate(db: &mut Connection) -> Result<(), StoreError> {
    let (version, known) = bring_up_to_date(db).map_err(store_error)?;
    if version <= known {
        return Ok(());
    }
    Err(StoreError::unavailable(format!("the file has version {version} of the tables; this program knows {known}")))
}

/// The version that was found, and the one that this program knows. A newer file is left as it is.
fn bring_up_to_date(db: &mut Connection) -> rusqlite::Result<(usize, usize)> {
    // Immediate: of two programs that start at once, the second sees what the first has done.
    let transaction = Transaction::new(db, TransactionBehavior::Immediate)?;
    let version = transaction.query_row("PRAGMA user_version", [], |row| row.get::<_, u32>(0))? as usize;
    for (at, migration) in MIGRATIONS.iter().enumerate().skip(version) {
        transaction.execute_batch(&format!("{migration}; PRAGMA user_version = {}", at + 1))?;
    }
    transaction.commit()?;
    Ok((version, MIGRATIONS.len()))
}
