//! Revocations in PostgreSQL, in the order of the database's clock.
//!
//! Rows of concurrent transactions can be seen in another order than the one in which they were stamped, so a cursor is taken
//! back by more than any statement lasts. That repeats some, and loses none. A cursor from the future is of a clock that was
//! set back, or of another machine's after a failover: all is read again.

use futures::FutureExt as _;
use sqlx::{Row as _, postgres::PgRow, query};

use super::{PostgresStore, Read, durably, once, store_error};
use crate::{
    clock::UnixSeconds,
    ident::SessionId,
    store::{
        CLOCKS_DIFFER, Cursor, MOST_REVOCATIONS, Revocation, RevocationStore, Revocations, Revoked, StoreError,
        StoreFuture,
        numbers::{moment, seconds},
    },
};

/// What has run out and is cleared away with each new entry: more than one, so that nothing is left over.
const CLEARED: usize = 4;
/// How far a cursor is taken back, in microseconds.
const OVERLAP: i64 = 60_000_000;

impl RevocationStore for PostgresStore {
    fn revoke_tokens(&self, revocations: Vec<Revocation>, now: UnixSeconds) -> StoreFuture<'_, ()> {
        if revocations.is_empty() {
            return async { Ok(()) }.boxed();
        }
        let insert = concat!(
            durably!(
                ", new AS MATERIALIZED (
                    SELECT kind, name, max(issued_until) AS issued_until, max(until) AS until
                    FROM unnest($1, $2, $3, $4) AS r (kind, name, issued_until, until) GROUP BY kind, name
                ),
                ended AS MATERIALIZED (
                    SELECT number FROM portcullis.revocations r WHERE until <= $5
                        AND NOT EXISTS (SELECT FROM new n WHERE n.kind = r.kind AND n.name = r.name)
                    LIMIT $6 FOR UPDATE SKIP LOCKED
                ),
                cleared AS (DELETE FROM portcullis.revocations r USING ended e WHERE r.number = e.number)
                INSERT INTO portcullis.revocations AS r (kind, name, issued_until, until)
                SELECT n.kind, n.name, n.issued_until, n.until FROM new n, durable ORDER BY n.kind, n.name "
            ),
            once!()
        );
        let (mut kinds, mut names, mut issued, mut untils) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for Revocation { tokens, until } in &revocations {
            let (kind, name, issued_until) = match tokens {
                Revoked::Token(id) => (0_i16, id.as_bytes().to_vec(), 0),
                Revoked::Session(id) => (1, id.as_bytes().to_vec(), 0),
                Revoked::Subject(subject, issued) => (2, subject.as_bytes().to_vec(), seconds(*issued)),
            };
            kinds.push(kind);
            names.push(name);
            issued.push(issued_until);
            untils.push(seconds(*until));
        }
        let cleared = i64::try_from(revocations.len().saturating_mul(CLEARED)).unwrap_or(i64::MAX);
        let over = seconds(now).saturating_sub(CLOCKS_DIFFER);
        let insert = query(insert).bind(kinds).bind(names).bind(issued).bind(untils).bind(over).bind(cleared);
        async move { self.0.run(insert).await.map(drop) }.boxed()
    }

    fn revocations(&self, Cursor(cursor): Cursor, now: UnixSeconds) -> StoreFuture<'_, Revocations> {
        let list = "WITH clock AS MATERIALIZED (
                SELECT (extract(epoch FROM statement_timestamp()) * 1000000)::bigint AS micros
            )
            SELECT clock.micros, r.kind, r.name, r.issued_until, r.until
            FROM clock LEFT JOIN portcullis.revocations r ON r.until > $2
                AND r.noted_at >= CASE WHEN $1 <= clock.micros THEN $1 - $3 ELSE 0 END
            LIMIT $4";
        let most = i64::try_from(MOST_REVOCATIONS + 1).unwrap_or(i64::MAX);
        let from = i64::try_from(cursor).unwrap_or(i64::MAX);
        let list = query(list).bind(from).bind(seconds(now)).bind(OVERLAP).bind(most);
        async move {
            let rows = self.0.run(list).await?;
            if rows.len() > MOST_REVOCATIONS {
                return Err(StoreError::Full);
            }
            let read = rows.iter().map(revocation).collect::<Read<Vec<_>>>().map_err(store_error)?;
            let now = read.first().map_or(0, |(micros, _)| u64::try_from(*micros).unwrap_or(0));
            Ok(Revocations { list: read.into_iter().filter_map(|(_, own)| own).collect(), cursor: Cursor(now) })
        }
        .boxed()
    }
}

/// A row, and the database's time. One row without a revocation comes where there is none.
fn revocation(row: &PgRow) -> Read<(i64, Option<Revocation>)> {
    let strange = || sqlx::Error::ColumnDecode { index: "name".to_owned(), source: "not a revocation".into() };
    let micros = row.try_get(0)?;
    let Some(kind) = row.try_get::<Option<i16>, _>(1)? else { return Ok((micros, None)) };
    let name: Vec<u8> = row.try_get(2)?;
    let tokens = match kind {
        0 => String::from_utf8(name).ok().map(Revoked::Token),
        1 => name.try_into().ok().map(SessionId::from_bytes).map(Revoked::Session),
        2 => String::from_utf8(name).ok().zip(Some(moment(row.try_get(3)?))).map(|(of, at)| Revoked::Subject(of, at)),
        _ => None,
    };
    let until = moment(row.try_get(4)?);
    Ok((micros, Some(Revocation { tokens: tokens.ok_or_else(strange)?, until })))
}
