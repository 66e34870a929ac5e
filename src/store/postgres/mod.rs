//! Users, sessions, revocations, keys and events in PostgreSQL: for several machines.

mod audit;
mod database;
mod keys;
mod revocations;
mod schema;
mod sessions;
mod users;

use std::fmt;

use sqlx::{PgPool, Row as _, postgres::PgRow};

use self::database::{Database, Statement};
use super::StoreError;

/// Users, sessions, revocations, keys and events in a PostgreSQL database (12 or later), in a schema of their own, `portcullis`.
///
/// Each call is one statement, which commits by itself: whole, or not at all. It waits for the disk, also where
/// `synchronous_commit` is off, unless it adds events; where it is `local` or `remote_write`, it stays so. What a standby has not got is lost in a
/// failover. Only the callers' `now` decides what is over; the database's clock orders revocations, and what has ended is
/// cleared away an hour late, because machines' clocks differ.
///
/// A call resolves within three seconds, with [`StoreError::Unavailable`] if the server has not answered by then, or if 1,024
/// others are waiting. What it was to write may be there then, or not. Connections are made anew when the server is back.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use portcullis::store::PostgresStore;
///
/// let store = PostgresStore::connect("postgres://app:secret@db.example/app?sslmode=verify-full").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct PostgresStore(Database);

impl PostgresStore {
    /// Connects, with a pool of 16 connections at most, and brings the tables up to date. Several machines may do so at once.
    ///
    /// A pooler such as `PgBouncer` must keep one connection for one client's session, or know prepared statements.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if the server cannot be reached, is set up in another way than UTF-8 and `read committed`,
    /// or if its tables were made by a newer version. It never shows the URL's password.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        Database::connect(url).await.map(Self)
    }

    /// The same with a pool of yours, whose settings stay as they are. Set its `statement_timeout` to a few seconds: a
    /// statement that nobody waits for any more could go on for as long as it says.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub async fn from_pool(pool: PgPool) -> Result<Self, StoreError> {
        Database::from_pool(pool).await.map(Self)
    }

    async fn one<T>(&self, statement: Statement, read: impl Fn(&PgRow) -> Read<T>) -> Result<Option<T>, StoreError> {
        self.0.run(statement).await?.first().map(read).transpose().map_err(store_error)
    }

    async fn all<T>(&self, statement: Statement, read: impl Fn(&PgRow) -> Read<T>) -> Result<Vec<T>, StoreError> {
        self.0.run(statement).await?.iter().map(read).collect::<Read<_>>().map_err(store_error)
    }

    /// Whether the statement returns anything.
    async fn any(&self, statement: Statement) -> Result<bool, StoreError> {
        Ok(!self.0.run(statement).await?.is_empty())
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").finish_non_exhaustive()
    }
}

type Read<T> = sqlx::Result<T>;

/// A statement that writes begins with this, and takes its rows from it: a lost write would be a token turned back.
macro_rules! durably {
    ($statement:literal) => {
        concat!(
            "WITH durable AS MATERIALIZED (SELECT CASE current_setting('synchronous_commit') WHEN 'off'
                THEN set_config('synchronous_commit', 'on', true) END) ",
            $statement
        )
    };
}
use durably;

/// The end of an `INSERT` of revocations, of which there is one for each name: it is noted again, with the later of both moments.
macro_rules! once {
    () => {
        "ON CONFLICT (kind, name) DO UPDATE SET noted_at = excluded.noted_at, until = greatest(r.until, excluded.until),
            issued_until = greatest(r.issued_until, excluded.issued_until)"
    };
}
use once;

/// A column that must be what this program has written there.
fn parsed<T>(row: &PgRow, column: usize, parse: impl Fn(&str) -> Option<T>) -> Read<T> {
    let strange = || sqlx::Error::ColumnDecode { index: column.to_string(), source: "not in its normal form".into() };
    parse(row.try_get(column)?).ok_or_else(strange)
}

/// A function, not `From`: the driver's type stays out of the public interface.
fn store_error(error: sqlx::Error) -> StoreError {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code).map(std::borrow::Cow::into_owned);
    match (code.as_deref(), error) {
        (Some("23505"), _) => StoreError::Conflict,
        (Some("53100"), _) => StoreError::Full,
        // Without the row that it is about, which may be somebody's.
        (Some(code), sqlx::Error::Database(error)) => StoreError::unavailable(format!("{} ({code})", error.message())),
        (_, error) => StoreError::unavailable(error),
    }
}
