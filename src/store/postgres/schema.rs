//! The tables, in a schema of their own, and how those of an older version are brought up to date.

use std::time::Duration;

use sqlx::{Acquire as _, Executor as _, PgConnection, PgPool, Row as _};
use tokio::time::timeout;

use super::store_error;
use crate::store::StoreError;

/// How long a start may take, the wait for another machine's included.
const START: Duration = Duration::from_secs(60);

/// Each entry takes the tables from the version of its index to the next. Entries are never changed, only added.
const MIGRATIONS: &[&str] = &[
    // Text is compared as bytes: a new version of the system's collations would make another order of what is there.
    // A session's `ends_at` moves with use; `expires_at` does not. `turns` counts how often it was turned.
    r#"
    CREATE TABLE portcullis.users (
        id text COLLATE "C" NOT NULL PRIMARY KEY,
        login text COLLATE "C" NOT NULL UNIQUE,
        password text NOT NULL,
        scopes text NOT NULL,
        disabled boolean NOT NULL
    );
    CREATE TABLE portcullis.sessions (
        id bytea NOT NULL PRIMARY KEY,
        subject text COLLATE "C" NOT NULL,
        client_id text NOT NULL,
        scope text NOT NULL,
        audience text[] NOT NULL,
        label text NOT NULL,
        network text NOT NULL,
        auth_time bigint NOT NULL,
        last_used bigint NOT NULL,
        expires_at bigint NOT NULL,
        ends_at bigint NOT NULL,
        current bytea NOT NULL,
        previous bytea,
        turned_at bigint,
        sealed bytea,
        turns bigint NOT NULL DEFAULT 0
    );
    CREATE INDEX sessions_by_subject ON portcullis.sessions (subject);
    CREATE INDEX sessions_by_expiry ON portcullis.sessions (expires_at);
    CREATE TABLE portcullis.spent (
        session bytea NOT NULL REFERENCES portcullis.sessions (id) ON DELETE CASCADE,
        digest bytea NOT NULL,
        PRIMARY KEY (session, digest)
    );
    CREATE TABLE portcullis.revocations (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        noted_at bigint NOT NULL DEFAULT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
        kind smallint NOT NULL,
        name bytea NOT NULL,
        issued_until bigint NOT NULL,
        until bigint NOT NULL,
        UNIQUE (kind, name)
    );
    CREATE INDEX revocations_by_time ON portcullis.revocations (noted_at);
    CREATE INDEX revocations_by_end ON portcullis.revocations (until);
    CREATE TABLE portcullis.keys (
        kid text COLLATE "C" NOT NULL PRIMARY KEY,
        algorithm text NOT NULL,
        sealed bytea NOT NULL,
        predecessor text COLLATE "C" NOT NULL UNIQUE,
        published_at bigint NOT NULL,
        active_at bigint NOT NULL
    )
"#,
    // For people, `time` is there as well. By their time and id events are listed and cleared away; by kind and subject too, so
    // that a page of a few among millions is found without a look at the others.
    r#"
    CREATE TABLE portcullis.audit (
        id text COLLATE "C" NOT NULL PRIMARY KEY,
        time_ms bigint NOT NULL,
        time timestamptz NOT NULL GENERATED ALWAYS AS (to_timestamp(time_ms / 1000.0)) STORED,
        kind text COLLATE "C" NOT NULL,
        reason text,
        detail text,
        status integer,
        issuer text,
        subject text COLLATE "C",
        client_id text,
        session text,
        token_id text,
        scope text,
        what text,
        which text,
        count bigint,
        request_id text,
        method text,
        path text,
        client_ip text
    );
    CREATE INDEX audit_by_time ON portcullis.audit (time_ms, id);
    CREATE INDEX audit_by_kind ON portcullis.audit (kind, time_ms, id);
    CREATE INDEX audit_by_subject ON portcullis.audit (subject, time_ms, id) WHERE subject IS NOT NULL
"#,
];

/// Only one machine at a time brings the tables up to date; those that start at the same time wait for it.
const BEGIN: &str = "
    SELECT pg_advisory_xact_lock(7166754523104);
    CREATE SCHEMA IF NOT EXISTS portcullis;
    CREATE TABLE IF NOT EXISTS portcullis.version (version bigint NOT NULL)
";

/// Brings the tables up to date, in one transaction: a crash leaves the old version or the new one.
pub(super) async fn bring_up_to_date(pool: &PgPool) -> Result<(), StoreError> {
    let late = |_| StoreError::unavailable("the database does not bring its tables up to date in time");
    let start = async { migrate(&mut *pool.acquire().await.map_err(store_error)?).await };
    timeout(START, start).await.map_err(late)?
}

async fn migrate(db: &mut PgConnection) -> Result<(), StoreError> {
    let settings = "SELECT current_setting('server_encoding'), current_setting('default_transaction_isolation'),
        to_regclass('portcullis.version') IS NOT NULL";
    let row = sqlx::query(settings).fetch_one(&mut *db).await.map_err(store_error)?;
    suits("encoding", "UTF8", &row.try_get::<String, _>(0).map_err(store_error)?)?;
    suits("default_transaction_isolation", "read committed", &row.try_get::<String, _>(1).map_err(store_error)?)?;
    // Without a look first, a program that may not create anything could not use what is there.
    if row.try_get(2).map_err(store_error)? && is_known(version(db).await.map_err(store_error)?)? {
        return Ok(());
    }
    create(db).await
}

async fn create(db: &mut PgConnection) -> Result<(), StoreError> {
    let mut transaction = db.begin().await.map_err(store_error)?;
    // By itself: a statement's time is set when it begins.
    transaction.execute("SET LOCAL statement_timeout = '60s'").await.map_err(store_error)?;
    transaction.execute(BEGIN).await.map_err(store_error)?;
    let found = version(&mut transaction).await.map_err(store_error)?;
    if is_known(found)? {
        return Ok(());
    }
    for migration in MIGRATIONS.iter().skip(found) {
        transaction.execute(*migration).await.map_err(store_error)?;
    }
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    transaction.execute("DELETE FROM portcullis.version").await.map_err(store_error)?;
    let note = sqlx::query("INSERT INTO portcullis.version (version) VALUES ($1)").bind(known);
    note.execute(&mut *transaction).await.map_err(store_error)?;
    transaction.commit().await.map_err(store_error)
}

async fn version(db: &mut PgConnection) -> sqlx::Result<usize> {
    let row = sqlx::query("SELECT coalesce(max(version), 0) FROM portcullis.version").fetch_one(db).await?;
    Ok(usize::try_from(row.try_get::<i64, _>(0)?).unwrap_or(usize::MAX))
}

/// Whether nothing is left to do. Newer tables are left as they are.
fn is_known(version: usize) -> Result<bool, StoreError> {
    let known = MIGRATIONS.len();
    if version <= known {
        return Ok(version == known);
    }
    Err(StoreError::unavailable(format!(
        "the database has version {version} of the tables; this program knows {known}"
    )))
}

fn suits(setting: &str, needed: &str, found: &str) -> Result<(), StoreError> {
    let other = || StoreError::unavailable(format!("the database has {setting} `{found}`; `{needed}` is needed"));
    (needed == found).then_some(()).ok_or_else(other)
}
