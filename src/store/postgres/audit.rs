//! Events in PostgreSQL. As durable as the database says: they come again if a call fails, and none opens anything.

use std::time::SystemTime;

use futures::FutureExt as _;
use sqlx::{Row as _, postgres::PgRow, query};

use super::{PostgresStore, Read};
use crate::{
    audit::{EventRecord, millis},
    store::{
        AuditStore, EventQuery, StoreFuture,
        numbers::{signed, time, unsigned},
    },
};

/// Old ones that are cleared away for each new one: more than one, so that none are left over.
const CLEARED: i64 = 2;

macro_rules! columns {
    () => {
        "id, time_ms, kind, reason, detail, status, issuer, subject, client_id, session, token_id, scope, what, which,
        count, request_id, method, path, client_ip"
    };
}

/// Rows that another statement clears away are left to it.
const ADD: &str = concat!(
    "WITH ended AS MATERIALIZED (
        SELECT id FROM portcullis.audit WHERE time_ms < $20 ORDER BY time_ms, id LIMIT $21 FOR UPDATE SKIP LOCKED
    ),
    cleared AS (DELETE FROM portcullis.audit a USING ended e WHERE a.id = e.id)
    INSERT INTO portcullis.audit (",
    columns!(),
    ") SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::integer[], $7::text[],
        $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::bigint[], $16::text[],
        $17::text[], $18::text[], $19::text[])
    ON CONFLICT (id) DO NOTHING"
);

/// A page. `$1` is the subject, `$2` the first moment, `$3` the id of the last one seen, `$4` how many. The place to go on from is
/// one value, whether or not there is an id, so that the index leads there by every plan.
macro_rules! page {
    ($subject:literal, $kind:literal) => {
        concat!(
            "SELECT ",
            columns!(),
            " FROM portcullis.audit WHERE ",
            $subject,
            " AND ",
            $kind,
            " AND time_ms >= $2 AND (time_ms, id) < (
                CASE WHEN $3::text IS NULL THEN 9223372036854775807
                    ELSE coalesce((SELECT time_ms FROM portcullis.audit WHERE id = $3), -1) END,
                coalesce($3, ''))
            ORDER BY time_ms DESC, id DESC LIMIT $4"
        )
    };
}

/// Of all subjects, and all kinds: `$1` and `$5` are there, and nothing.
const ALL: &str = page!("$1::text IS NULL", "$5::text[] IS NOT NULL");
/// Of one subject.
const OF_ONE: &str = page!("subject = $1", "($5::text[] = '{}' OR kind = ANY ($5))");
/// Of all subjects, some kinds: a look for each kind, together they would be all events of these kinds, sorted.
const OF_KINDS: &str = concat!(
    "SELECT e.* FROM unnest($5::text[]) AS asked (asked) CROSS JOIN LATERAL (",
    page!("$1::text IS NULL", "kind = asked"),
    ") e ORDER BY e.time_ms DESC, e.id DESC LIMIT $4"
);

impl AuditStore for PostgresStore {
    fn add_events(&self, events: Vec<EventRecord>, forget: Option<SystemTime>) -> StoreFuture<'_, ()> {
        macro_rules! column {
            ($field:ident) => {
                events.iter().map(|event| event.$field.clone()).collect::<Vec<_>>()
            };
        }
        if events.is_empty() {
            return async { Ok(()) }.boxed();
        }
        let insert = query(ADD)
            .bind(column!(id))
            .bind(events.iter().map(|event| signed(millis(event.time))).collect::<Vec<_>>())
            .bind(column!(kind))
            .bind(column!(reason))
            .bind(column!(detail))
            .bind(events.iter().map(|event| event.status.map(i32::from)).collect::<Vec<_>>())
            .bind(column!(issuer))
            .bind(column!(subject))
            .bind(column!(client_id))
            .bind(column!(session))
            .bind(column!(token_id))
            .bind(column!(scope))
            .bind(column!(what))
            .bind(column!(which))
            .bind(events.iter().map(|event| event.count.map(signed)).collect::<Vec<_>>())
            .bind(column!(request_id))
            .bind(column!(method))
            .bind(column!(path))
            .bind(events.iter().map(|event| event.client_ip.map(|at| at.to_string())).collect::<Vec<_>>())
            .bind(forget.map(|moment| signed(millis(moment))))
            .bind(i64::try_from(events.len()).unwrap_or(i64::MAX).saturating_mul(CLEARED));
        async move { self.0.run(insert).await.map(drop) }.boxed()
    }

    fn events(&self, asked: EventQuery) -> StoreFuture<'_, Vec<EventRecord>> {
        let text = match (&asked.subject, &asked.kinds[..]) {
            (Some(_), _) => OF_ONE,
            (None, []) => ALL,
            (None, _) => OF_KINDS,
        };
        let most = i64::try_from(asked.page()).unwrap_or(i64::MAX);
        let list = query(text)
            .bind(asked.subject)
            .bind(asked.since.map_or(0, |since| signed(millis(since))))
            .bind(asked.after)
            .bind(most)
            .bind(asked.kinds.iter().map(|kind| kind.name().to_owned()).collect::<Vec<_>>());
        self.all(list, record).boxed()
    }
}

/// A row of `audit`, in the order of the columns above.
fn record(row: &PgRow) -> Read<EventRecord> {
    let strange = |column: &str| sqlx::Error::ColumnDecode { index: column.to_owned(), source: "out of range".into() };
    let status = row.try_get::<Option<i32>, _>(5)?.map(u16::try_from).transpose();
    let address = row.try_get::<Option<String>, _>(18)?.map(|text| text.parse()).transpose();
    Ok(EventRecord {
        id: row.try_get(0)?,
        time: time(row.try_get(1)?),
        kind: row.try_get(2)?,
        reason: row.try_get(3)?,
        detail: row.try_get(4)?,
        status: status.map_err(|_| strange("status"))?,
        issuer: row.try_get(6)?,
        subject: row.try_get(7)?,
        client_id: row.try_get(8)?,
        session: row.try_get(9)?,
        token_id: row.try_get(10)?,
        scope: row.try_get(11)?,
        what: row.try_get(12)?,
        which: row.try_get(13)?,
        count: row.try_get::<Option<i64>, _>(14)?.map(unsigned),
        request_id: row.try_get(15)?,
        method: row.try_get(16)?,
        path: row.try_get(17)?,
        client_ip: address.map_err(|_| strange("client_ip"))?,
    })
}
