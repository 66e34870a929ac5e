//! Revocations in SQLite. One transaction at a time writes, so that numbers come in the order in which rows can be seen.

use futures::FutureExt as _;
use rusqlite::{
    Connection, Row, params,
    types::{ToSqlOutput, Type, Value},
};

use super::SqliteStore;
use crate::{
    clock::UnixSeconds,
    ident::SessionId,
    store::{
        Cursor, MOST_REVOCATIONS, Revocation, RevocationStore, Revocations, Revoked, StoreError, StoreFuture,
        numbers::{moment, seconds},
    },
};

/// What has run out and is cleared away with each new entry: more than one, so that nothing is left over.
const CLEARED: u32 = 4;

impl RevocationStore for SqliteStore {
    fn revoke_tokens(&self, revocations: Vec<Revocation>, now: UnixSeconds) -> StoreFuture<'_, ()> {
        self.0.write(move |db| revocations.iter().try_for_each(|revocation| note(db, revocation, now))).boxed()
    }

    fn revocations(&self, Cursor(cursor): Cursor, now: UnixSeconds) -> StoreFuture<'_, Revocations> {
        let cursor = i64::try_from(cursor).unwrap_or(i64::MAX);
        let list = "SELECT number, kind, name, issued_until, until FROM revocations
            WHERE number > ?1 AND until > ?2 ORDER BY number LIMIT ?3";
        let read = move |db: &Connection| {
            let most = i64::try_from(MOST_REVOCATIONS + 1).unwrap_or(i64::MAX);
            let mut list = db.prepare_cached(list)?;
            let rows = list.query_map(params![cursor, seconds(now), most], revocation)?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        async move {
            let rows = self.0.read(read).await?;
            if rows.len() > MOST_REVOCATIONS {
                return Err(StoreError::Full);
            }
            let read_up_to = rows.last().map_or(cursor, |(number, _)| *number);
            let list = rows.into_iter().map(|(_, revocation)| revocation).collect();
            Ok(Revocations { list, cursor: Cursor(u64::try_from(read_up_to).unwrap_or(0)) })
        }
        .boxed()
    }
}

/// Notes one. What is there already gets a new number and the later of both moments: a row for each name, however often it
/// comes.
pub(super) fn note(
    db: &Connection,
    Revocation { tokens, until }: &Revocation,
    now: UnixSeconds,
) -> rusqlite::Result<()> {
    let clear = "DELETE FROM revocations WHERE number IN (SELECT number FROM revocations WHERE until <= ?1 LIMIT ?2)";
    db.prepare_cached(clear)?.execute(params![seconds(now), CLEARED])?;
    let insert = "INSERT OR REPLACE INTO revocations (kind, name, issued_until, until)
        SELECT ?1, ?2, max(?3, coalesce(max(issued_until), 0)), max(?4, coalesce(max(until), 0))
        FROM revocations WHERE kind = ?1 AND name = ?2";
    let (kind, name, issued_until) = match tokens {
        Revoked::Token(id) => (0, ToSqlOutput::from(id.as_str()), 0),
        Revoked::Session(id) => (1, ToSqlOutput::from(id.as_bytes().as_slice()), 0),
        Revoked::Subject(subject, issued) => (2, ToSqlOutput::from(subject.as_str()), seconds(*issued)),
    };
    db.prepare_cached(insert)?.execute(params![kind, name, issued_until, seconds(*until)]).map(drop)
}

fn revocation(row: &Row<'_>) -> rusqlite::Result<(i64, Revocation)> {
    let tokens = match (row.get(1)?, row.get::<_, Value>(2)?) {
        (0, Value::Text(id)) => Some(Revoked::Token(id)),
        (1, Value::Blob(id)) => id.try_into().ok().map(SessionId::from_bytes).map(Revoked::Session),
        (2, Value::Text(subject)) => Some(Revoked::Subject(subject, moment(row.get(3)?))),
        _ => None,
    };
    let strange = || rusqlite::Error::InvalidColumnType(2, "not a revocation".to_owned(), Type::Blob);
    Ok((row.get(0)?, Revocation { tokens: tokens.ok_or_else(strange)?, until: moment(row.get(4)?) }))
}
