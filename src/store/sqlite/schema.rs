//! The tables, and how a file written by an older version is brought up to date.

use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::store::StoreError;

/// Each entry takes the file from the version of its index to the next. Entries are never changed, only added.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE users (
        id TEXT NOT NULL PRIMARY KEY,
        login TEXT NOT NULL UNIQUE,
        password TEXT NOT NULL,
        scopes TEXT NOT NULL,
        disabled INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
"];

/// Brings the tables up to date, in one transaction: a crash leaves the old version or the new one.
pub(super) fn migrate(db: &mut Connection) -> Result<(), StoreError> {
    // Immediate: of two programs that start at once, the second sees what the first has done.
    let transaction = Transaction::new(db, TransactionBehavior::Immediate)?;
    let version: u32 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let Some(missing) = MIGRATIONS.get(version as usize..) else {
        return Err(StoreError::unavailable(format!(
            "the file has version {version} of the tables; this program knows {}",
            MIGRATIONS.len()
        )));
    };
    for migration in missing {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(
        None,
        "user_version",
        u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX),
    )?;
    Ok(transaction.commit()?)
}
