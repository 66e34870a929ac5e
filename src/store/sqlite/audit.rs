//! Events in SQLite.

use std::time::SystemTime;

use futures::FutureExt as _;
use rusqlite::{Connection, Row, ToSql, params, types::Type};

use super::SqliteStore;
use crate::{
    audit::{EventRecord, Kind, millis},
    store::{
        AuditStore, EventQuery, StoreFuture,
        numbers::{signed, time, unsigned},
    },
};

/// Events that are written at once. Logins that are written meanwhile wait for one such piece at most.
const PIECE: usize = 64;
/// Old ones that are cleared away for each new one: more than one, so that none are left over.
const CLEARED: i64 = 2;

const RECORD: &str = "id, time_ms, kind, reason, detail, status, issuer, subject, client_id, session, token_id, scope,
    what, which, count, request_id, method, path, client_ip";

impl AuditStore for SqliteStore {
    fn add_events(&self, mut events: Vec<EventRecord>, forget: Option<SystemTime>) -> StoreFuture<'_, ()> {
        let forget = forget.map(|moment| signed(millis(moment)));
        async move {
            while !events.is_empty() {
                let later = events.split_off(events.len().min(PIECE));
                let piece = std::mem::replace(&mut events, later);
                self.0.write(move |db| add(db, &piece, forget)).await?;
            }
            Ok(())
        }
        .boxed()
    }

    fn events(&self, query: EventQuery) -> StoreFuture<'_, Vec<EventRecord>> {
        self.0.read(move |db| list(db, &query)).boxed()
    }
}

fn add(db: &Connection, events: &[EventRecord], forget: Option<i64>) -> rusqlite::Result<()> {
    let insert = format!(
        "INSERT INTO audit ({RECORD}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16,
        ?17, ?18, ?19) ON CONFLICT (id) DO NOTHING"
    );
    let mut insert = db.prepare_cached(&insert)?;
    for event in events {
        insert.execute(params![
            event.id,
            signed(millis(event.time)),
            event.kind,
            event.reason,
            event.detail,
            event.status,
            event.issuer,
            event.subject,
            event.client_id,
            event.session,
            event.token_id,
            event.scope,
            event.what,
            event.which,
            event.count.map(signed),
            event.request_id,
            event.method,
            event.path,
            event.client_ip.map(|address| address.to_string()),
        ])?;
    }
    if let Some(forget) = forget {
        let most = i64::try_from(events.len()).unwrap_or(i64::MAX).saturating_mul(CLEARED);
        let clear = "DELETE FROM audit WHERE rowid IN
            (SELECT rowid FROM audit WHERE time_ms < ?1 ORDER BY time_ms, id LIMIT ?2)";
        db.prepare_cached(clear)?.execute([forget, most])?;
    }
    Ok(())
}

/// With kinds and without a subject, a look for each kind: together they would be all events of these kinds, sorted.
fn list(db: &Connection, query: &EventQuery) -> rusqlite::Result<Vec<EventRecord>> {
    if query.subject.is_some() || query.kinds.len() < 2 {
        return look(db, query, &query.kinds);
    }
    let mut found = Vec::new();
    for kind in query.kinds.chunks(1) {
        found.extend(look(db, query, kind)?);
    }
    found.sort_unstable_by(|one, other| (other.time, &other.id).cmp(&(one.time, &one.id)));
    found.truncate(query.page());
    Ok(found)
}

fn look(db: &Connection, query: &EventQuery, kinds: &[Kind]) -> rusqlite::Result<Vec<EventRecord>> {
    let (since, most) =
        (query.since.map(|since| signed(millis(since))), i64::try_from(query.page()).unwrap_or(i64::MAX));
    let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
    let mut parameters: Vec<&dyn ToSql> = Vec::new();
    parameters.extend(query.subject.as_ref().map(|subject| subject as &dyn ToSql));
    parameters.extend(names.iter().map(|name| name as &dyn ToSql));
    parameters.extend(since.as_ref().map(|since| since as &dyn ToSql));
    parameters.extend(query.after.as_ref().map(|after| after as &dyn ToSql));
    parameters.push(&most);
    db.prepare_cached(&statement(query, kinds))?.query_map(&parameters[..], record)?.collect()
}

/// The query in SQL: its parameters are the subject, the kinds, the first moment, the last id seen and how many, as far as they are
/// there.
fn statement(query: &EventQuery, kinds: &[Kind]) -> String {
    let mut text = format!("SELECT {RECORD} FROM audit WHERE true");
    if query.subject.is_some() {
        text.push_str(" AND subject = ?");
    }
    if !kinds.is_empty() {
        text.push_str(" AND kind IN (");
        text.push_str(&vec!["?"; kinds.len()].join(", "));
        text.push(')');
    }
    if query.since.is_some() {
        text.push_str(" AND time_ms >= ?");
    }
    if query.after.is_some() {
        text.push_str(" AND (time_ms, id) < (SELECT time_ms, id FROM audit WHERE id = ?)");
    }
    text.push_str(" ORDER BY time_ms DESC, id DESC LIMIT ?");
    text
}

/// A row of `audit`, in the order of [`RECORD`].
fn record(row: &Row<'_>) -> rusqlite::Result<EventRecord> {
    let strange = |_| rusqlite::Error::InvalidColumnType(18, "not an address".to_owned(), Type::Text);
    Ok(EventRecord {
        id: row.get(0)?,
        time: time(row.get(1)?),
        kind: row.get(2)?,
        reason: row.get(3)?,
        detail: row.get(4)?,
        status: row.get(5)?,
        issuer: row.get(6)?,
        subject: row.get(7)?,
        client_id: row.get(8)?,
        session: row.get(9)?,
        token_id: row.get(10)?,
        scope: row.get(11)?,
        what: row.get(12)?,
        which: row.get(13)?,
        count: row.get::<_, Option<i64>>(14)?.map(unsigned),
        request_id: row.get(15)?,
        method: row.get(16)?,
        path: row.get(17)?,
        client_ip: row.get::<_, Option<String>>(18)?.map(|text| text.parse()).transpose().map_err(strange)?,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::sqlite::{Database, schema};

    /// How SQLite goes about a query: no look at rows that are not asked for, and nothing to sort.
    #[test]
    fn each_page_is_found_by_an_index() {
        let mut db = Connection::open_in_memory().unwrap();
        schema::migrate(&mut db).unwrap();
        let (subject, kinds) = (|query: EventQuery| query.subject("user:7"), [Kind::LoginFailed, Kind::LoginLocked]);
        let since = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        for (query, kinds, index) in [
            (EventQuery::new(), &[][..], "audit_by_time"),
            (EventQuery::new(), &kinds[..1], "audit_by_kind"),
            (subject(EventQuery::new()), &[], "audit_by_subject"),
            (subject(EventQuery::new()), &kinds, "audit_by_subject"),
        ] {
            for query in
                [query.clone(), query.clone().since(since), query.clone().after("x"), query.after("x").since(since)]
            {
                let text = format!("EXPLAIN QUERY PLAN {}", statement(&query, kinds));
                let (mut explained, mut plan) = (db.prepare(&text).unwrap(), Vec::new());
                let mut rows = explained.raw_query();
                while let Some(row) = rows.next().unwrap() {
                    plan.push(row.get::<_, String>(3).unwrap());
                }
                let plan = plan.join("\n");
                assert!(plan.contains(&format!("INDEX {index}")) && !plan.contains("TEMP B-TREE"), "{text}:\n{plan}");
            }
        }
    }

    /// What a login waits for while many events are written: one piece of them, no more.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn other_writes_come_between_the_pieces_of_a_batch() {
        let folder = std::env::temp_dir().join(format!("portcullis-audit-pieces-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let store = SqliteStore(Database::open(&folder.join("a.db")).unwrap());
        let event = |n: u64| EventRecord {
            id: format!("{n:032x}"),
            ..EventRecord::from(&crate::audit::Event::new(Kind::LoginFailed, tracing::Level::INFO, ""))
        };
        let adding = store.clone();
        let adding = tokio::spawn(async move { adding.add_events((0..64 * 40).map(event).collect(), None).await });
        let count = |db: &Connection| db.query_row("SELECT count(*) FROM audit", [], |row| row.get::<_, u32>(0));
        let mut seen = Vec::new();
        while !adding.is_finished() {
            seen.push(store.0.write(count).await.unwrap());
        }
        adding.await.unwrap().unwrap();
        seen.dedup();
        assert!(seen.windows(2).all(|two| two[1] - two[0] <= 128) && seen.len() > 10, "{seen:?}");
        drop(store);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
