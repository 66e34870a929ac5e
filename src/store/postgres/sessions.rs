//! Sessions in PostgreSQL.

use futures::FutureExt as _;
use sqlx::{Row as _, postgres::PgRow, query};

use super::{PostgresStore, Read, database::Statement, durably, once, parsed};
use crate::{
    clock::UnixSeconds,
    ident::SessionId,
    scope::ScopeSet,
    session::{SealedToken, SessionRecord, Standing, TokenDigest},
    store::{
        CLOCKS_DIFFER, CalledBack, MOST_LISTED, NewSession, Rotated, Rotation, SessionStore, StoreError, StoreFuture,
        numbers::{moment, seconds},
    },
};

/// What [`record`] reads, in its order.
macro_rules! record {
    ($statement:literal) => {
        concat!(
            "SELECT id, subject, client_id, scope, audience, label, network, auth_time, last_used, expires_at",
            $statement
        )
    };
}

/// Up to four that are old are cleared away with each new one, and four of the same subject that have ended, so that nothing is
/// left over; and as many revocations, of which each session leaves one. What is old is found by a moment that use does not move:
/// an index that did would make each turn dearer.
const CREATE: &str = durably!(
    ", ended AS MATERIALIZED (SELECT id FROM portcullis.sessions WHERE expires_at <= $13 LIMIT 4 FOR UPDATE SKIP LOCKED),
    own AS MATERIALIZED (
        SELECT id FROM portcullis.sessions WHERE subject = $2 AND ends_at <= $13 LIMIT 4 FOR UPDATE SKIP LOCKED
    ),
    cleared AS (
        DELETE FROM portcullis.sessions s USING (SELECT id FROM ended UNION SELECT id FROM own) e WHERE s.id = e.id
    ),
    passed AS MATERIALIZED (
        SELECT number FROM portcullis.revocations WHERE until <= $13 LIMIT 4 FOR UPDATE SKIP LOCKED
    ),
    forgotten AS (DELETE FROM portcullis.revocations r USING passed p WHERE r.number = p.number)
    INSERT INTO portcullis.sessions (id, subject, client_id, scope, audience, label, network, auth_time, last_used,
        expires_at, ends_at, current)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12 FROM durable"
);

/// The usual case: the token is the one that is good. Of many that find it so, the first has the row, and the others look at it
/// again when they get it. No row comes of anything else.
const TURN: &str = durably!(
    ", turned AS (
        UPDATE portcullis.sessions s
        SET current = $3, previous = $2, sealed = $4, turned_at = $6, last_used = $6, ends_at = $5, turns = s.turns + 1
        FROM durable WHERE s.id = $1 AND s.current = $2 AND s.ends_at > $6 RETURNING s.id
    )
    INSERT INTO portcullis.spent (session, digest) SELECT id, $2 FROM turned
    ON CONFLICT (session, digest) DO UPDATE SET digest = excluded.digest RETURNING 1"
);

/// What [`Family::decide`](crate::session::Family::decide) says, in one statement.
///
/// All its parts see the tables as they were when it began, but for `held`: that waits for whoever has the row, and then has the
/// newest version, as the writes below do. What was spent meanwhile is not seen. Of that, the last token is in the row
/// itself; if there may be others, which `turns` tells, and this token is none that is known, the statement looks again.
const ROTATE: &str = concat!(
    durably!(
        ", seen AS MATERIALIZED (SELECT turns FROM portcullis.sessions WHERE id = $1),
    held AS MATERIALIZED (
        SELECT id, current, previous, turned_at, ends_at, sealed, turns FROM portcullis.sessions WHERE id = $1 FOR UPDATE
    ),
    decided AS MATERIALIZED (
        SELECT id, sealed, CASE
            WHEN ends_at <= $7 THEN 'ended'
            WHEN current = $2 THEN 'turn'
            WHEN previous = $2 AND $5 > 0 AND turned_at > $7 - $5 THEN 'again'
            WHEN previous = $2 OR EXISTS (SELECT FROM portcullis.spent WHERE session = $1 AND digest = $2) THEN 'reused'
            WHEN turns IS DISTINCT FROM (SELECT turns FROM seen) THEN 'look again'
            ELSE 'unknown'
        END AS step
        FROM held
    ),
    turned AS (
        UPDATE portcullis.sessions s
        SET current = $3, previous = $2, sealed = $4, turned_at = $7, last_used = $7, ends_at = $6, turns = s.turns + 1
        FROM decided d, durable WHERE s.id = d.id AND d.step = 'turn'
    ),
    spent AS (
        INSERT INTO portcullis.spent (session, digest) SELECT id, $2 FROM decided WHERE step = 'turn'
        ON CONFLICT DO NOTHING
    ),
    revoked AS (
        DELETE FROM portcullis.sessions s USING decided d, durable WHERE s.id = d.id AND d.step = 'reused'
    ),
    noted AS (
        INSERT INTO portcullis.revocations AS r (kind, name, issued_until, until)
        SELECT 1, id, 0, $8 FROM decided WHERE step = 'reused' "
    ),
    once!(),
    ") SELECT step, CASE step WHEN 'again' THEN sealed END FROM decided"
);

/// How often a rotation looks again. Each time, the session must have been turned twice while one statement ran.
const LOOKS: usize = 8;

/// In one order, so that two of these at once do not wait for each other.
const REVOKE_ALL: &str = concat!(
    durably!(
        ", ended AS MATERIALIZED (
            SELECT id FROM portcullis.sessions WHERE subject = $1 AND id IS DISTINCT FROM $2 ORDER BY id FOR UPDATE
        ),
        revoked AS (DELETE FROM portcullis.sessions s USING ended e, durable WHERE s.id = e.id RETURNING s.id),
        noted AS (
            INSERT INTO portcullis.revocations AS r (kind, name, issued_until, until)
            SELECT 1, id, 0, $3 FROM revoked ORDER BY id "
    ),
    once!(),
    ") SELECT id FROM revoked"
);

const REVOKE: &str = concat!(
    durably!(
        ", noted AS (
            INSERT INTO portcullis.revocations AS r (kind, name, issued_until, until) SELECT 1, $1, 0, $2 FROM durable "
    ),
    once!(),
    ") DELETE FROM portcullis.sessions USING durable WHERE id = $1 RETURNING 1"
);

impl SessionStore for PostgresStore {
    fn create(&self, new: NewSession) -> StoreFuture<'_, ()> {
        let NewSession { session, digest, ends_at } = new;
        let insert = query(CREATE)
            .bind(session.id.as_bytes().to_vec())
            .bind(session.subject)
            .bind(session.client_id)
            .bind(session.scope.to_string())
            .bind(session.audience)
            // PostgreSQL's text has no such character, and anybody may name their device.
            .bind(session.label.replace('\0', "\u{fffd}"))
            .bind(session.network)
            .bind(seconds(session.auth_time))
            .bind(seconds(session.last_used))
            .bind(seconds(session.expires_at))
            .bind(seconds(ends_at))
            .bind(digest.as_bytes().to_vec())
            .bind(seconds(session.last_used).saturating_sub(CLOCKS_DIFFER));
        async move { self.0.run(insert).await.map(drop) }.boxed()
    }

    fn find(&self, id: SessionId, now: UnixSeconds) -> StoreFuture<'_, Option<SessionRecord>> {
        let find = record!(" FROM portcullis.sessions WHERE id = $1 AND ends_at > $2");
        self.one(query(find).bind(id.as_bytes().to_vec()).bind(seconds(now)), record).boxed()
    }

    fn look(
        &self,
        id: SessionId,
        token: TokenDigest,
        now: UnixSeconds,
    ) -> StoreFuture<'_, Option<(SessionRecord, Standing)>> {
        let look = record!(
            ", current = $3, EXISTS (SELECT FROM portcullis.spent WHERE session = $1 AND digest = $3)
            FROM portcullis.sessions WHERE id = $1 AND ends_at > $2"
        );
        let found = |row: &PgRow| {
            let standing = match (row.try_get(10)?, row.try_get(11)?) {
                (true, _) => Standing::Current,
                (false, true) => Standing::Spent,
                (false, false) => Standing::Foreign,
            };
            Ok((record(row)?, standing))
        };
        let look = query(look).bind(id.as_bytes().to_vec()).bind(seconds(now)).bind(token.as_bytes().to_vec());
        self.one(look, found).boxed()
    }

    fn rotate(&self, rotation: Rotation) -> StoreFuture<'_, Rotated> {
        async move {
            if self.any(turn(&rotation)).await? {
                return Ok(Rotated::Turned);
            }
            for _ in 0..LOOKS {
                if let Some(rotated) = self.try_to_rotate(&rotation).await? {
                    return Ok(rotated);
                }
            }
            Err(StoreError::unavailable("the session is turned too fast"))
        }
        .boxed()
    }

    fn revoke(&self, id: SessionId, tokens: CalledBack) -> StoreFuture<'_, bool> {
        self.any(query(REVOKE).bind(id.as_bytes().to_vec()).bind(seconds(tokens.until))).boxed()
    }

    fn revoke_all<'a>(
        &'a self,
        subject: &'a str,
        except: Option<SessionId>,
        tokens: CalledBack,
    ) -> StoreFuture<'a, Vec<SessionId>> {
        let id = |row: &PgRow| row.try_get(0).map(SessionId::from_bytes);
        let delete = query(REVOKE_ALL).bind(subject.to_owned()).bind(except.map(|id| id.as_bytes().to_vec()));
        self.all(delete.bind(seconds(tokens.until)), id).boxed()
    }

    fn sessions<'a>(&'a self, subject: &'a str, now: UnixSeconds) -> StoreFuture<'a, Vec<SessionRecord>> {
        let list = record!(
            " FROM portcullis.sessions WHERE subject = $1 AND ends_at > $2 ORDER BY last_used DESC, id LIMIT $3"
        );
        let most = i64::try_from(MOST_LISTED).unwrap_or(i64::MAX);
        self.all(query(list).bind(subject.to_owned()).bind(seconds(now)).bind(most), record).boxed()
    }
}

impl PostgresStore {
    /// `None` if it must look again.
    async fn try_to_rotate(&self, rotation: &Rotation) -> Result<Option<Rotated>, StoreError> {
        let rotate = query(ROTATE)
            .bind(rotation.id.as_bytes().to_vec())
            .bind(rotation.presented.as_bytes().to_vec())
            .bind(rotation.successor.as_bytes().to_vec())
            .bind(rotation.sealed.as_bytes().to_vec())
            .bind(i64::try_from(rotation.grace.as_secs()).unwrap_or(i64::MAX))
            .bind(seconds(rotation.ends_at))
            .bind(seconds(rotation.now))
            .bind(seconds(rotation.called_back_until));
        let rotated = self.one(rotate, rotated).await?;
        Ok(rotated.unwrap_or(Some(Rotated::Unknown)))
    }
}

fn turn(rotation: &Rotation) -> Statement {
    query(TURN)
        .bind(rotation.id.as_bytes().to_vec())
        .bind(rotation.presented.as_bytes().to_vec())
        .bind(rotation.successor.as_bytes().to_vec())
        .bind(rotation.sealed.as_bytes().to_vec())
        .bind(seconds(rotation.ends_at))
        .bind(seconds(rotation.now))
}

fn rotated(row: &PgRow) -> Read<Option<Rotated>> {
    let sealed = || row.try_get::<Option<Vec<u8>>, _>(1);
    Ok(match row.try_get(0)? {
        "turn" => Some(Rotated::Turned),
        "again" => Some(sealed()?.map_or(Rotated::Unknown, |sealed| Rotated::Again(SealedToken::from_bytes(sealed)))),
        "reused" => Some(Rotated::Reused),
        "look again" => None,
        _ => Some(Rotated::Unknown),
    })
}

/// A row of `sessions`.
fn record(row: &PgRow) -> Read<SessionRecord> {
    Ok(SessionRecord {
        id: SessionId::from_bytes(row.try_get(0)?),
        subject: row.try_get(1)?,
        client_id: row.try_get(2)?,
        scope: parsed(row, 3, |text| ScopeSet::from_store(text).ok())?,
        audience: row.try_get(4)?,
        label: row.try_get(5)?,
        network: row.try_get(6)?,
        auth_time: moment(row.try_get(7)?),
        last_used: moment(row.try_get(8)?),
        expires_at: moment(row.try_get(9)?),
    })
}
