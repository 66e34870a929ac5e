//! Sessions in SQLite. A rotation runs on the writing thread, where nothing comes between its look and its write.

use futures::FutureExt as _;
use rusqlite::{Connection, OptionalExtension as _, Row, params, types::Type};

use super::{SqliteStore, revocations::note};
use crate::{
    clock::UnixSeconds,
    ident::SessionId,
    scope::ScopeSet,
    session::{Family, SealedToken, SessionRecord, Standing, Step, TokenDigest},
    store::{
        CalledBack, MOST_LISTED, NewSession, Revocation, Rotated, Rotation, SessionStore, StoreFuture,
        numbers::{moment, seconds},
    },
};

const RECORD: &str = "id, subject, client_id, scope, audience, label, auth_time, last_used, expires_at, network";
/// Sessions that are cleared away with each new one, of those that are old and of those of the same subject that have ended:
/// more than one, so that none are left over.
const CLEARED: u32 = 4;

impl SessionStore for SqliteStore {
    fn create(&self, new: NewSession) -> StoreFuture<'_, ()> {
        let create = move |db: &Connection| {
            let NewSession { session, digest, ends_at } = &new;
            let (clear, now) = ("DELETE FROM sessions WHERE id IN", seconds(session.last_used));
            let old = format!("{clear} (SELECT id FROM sessions WHERE expires_at <= ?1 LIMIT ?2)");
            db.prepare_cached(&old)?.execute(params![now, CLEARED])?;
            let own = format!("{clear} (SELECT id FROM sessions WHERE subject = ?3 AND ends_at <= ?1 LIMIT ?2)");
            db.prepare_cached(&own)?.execute(params![now, CLEARED, session.subject])?;
            let insert = "INSERT INTO sessions (id, subject, client_id, scope, audience, label, auth_time, last_used,
                expires_at, network, ends_at, current) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
            db.prepare_cached(insert)?.execute(params![
                session.id.as_bytes(),
                session.subject,
                session.client_id,
                session.scope.to_string(),
                session.audience.join("\n"),
                session.label,
                seconds(session.auth_time),
                seconds(session.last_used),
                seconds(session.expires_at),
                session.network,
                seconds(*ends_at),
                digest.as_bytes(),
            ])
        };
        async move { self.0.write(create).await.map(drop) }.boxed()
    }

    fn find(&self, id: SessionId, now: UnixSeconds) -> StoreFuture<'_, Option<SessionRecord>> {
        let find = format!("SELECT {RECORD} FROM sessions WHERE id = ?1 AND ends_at > ?2");
        let params = (*id.as_bytes(), seconds(now));
        self.0.read(move |db| db.prepare_cached(&find)?.query_row(params, record).optional()).boxed()
    }

    fn look(
        &self,
        id: SessionId,
        token: TokenDigest,
        now: UnixSeconds,
    ) -> StoreFuture<'_, Option<(SessionRecord, Standing)>> {
        let look = format!(
            "SELECT {RECORD}, current = ?3, EXISTS (SELECT 1 FROM spent WHERE session = ?1 AND digest = ?3)
            FROM sessions WHERE id = ?1 AND ends_at > ?2"
        );
        let params = (*id.as_bytes(), seconds(now), *token.as_bytes());
        let found = |row: &Row<'_>| {
            let standing = match (row.get(10)?, row.get(11)?) {
                (true, _) => Standing::Current,
                (false, true) => Standing::Spent,
                (false, false) => Standing::Foreign,
            };
            Ok((record(row)?, standing))
        };
        self.0.read(move |db| db.prepare_cached(&look)?.query_row(params, found).optional()).boxed()
    }

    fn rotate(&self, rotation: Rotation) -> StoreFuture<'_, Rotated> {
        self.0.write(move |db| rotate(db, &rotation)).boxed()
    }

    fn revoke(&self, id: SessionId, tokens: CalledBack) -> StoreFuture<'_, bool> {
        self.update(move |db| end(db, id, tokens)).boxed()
    }

    fn revoke_all<'a>(
        &'a self,
        subject: &'a str,
        except: Option<SessionId>,
        tokens: CalledBack,
    ) -> StoreFuture<'a, Vec<SessionId>> {
        let params = (subject.to_owned(), except.map(|id| *id.as_bytes()));
        let delete = "DELETE FROM sessions WHERE subject = ?1 AND id IS NOT ?2 RETURNING id";
        let id = |row: &Row<'_>| row.get(0).map(SessionId::from_bytes);
        let revoke = move |db: &Connection| {
            let ended: Vec<_> = db.prepare_cached(delete)?.query_map(params, id)?.collect::<rusqlite::Result<_>>()?;
            let mut revocations = ended.iter().map(|id| Revocation::of_session(*id, tokens.until));
            revocations.try_for_each(|revocation| note(db, &revocation, tokens.now))?;
            Ok(ended)
        };
        self.0.write(revoke).boxed()
    }

    fn sessions<'a>(&'a self, subject: &'a str, now: UnixSeconds) -> StoreFuture<'a, Vec<SessionRecord>> {
        let list = format!(
            "SELECT {RECORD} FROM sessions WHERE subject = ?1 AND ends_at > ?2
            ORDER BY last_used DESC, id LIMIT {MOST_LISTED}"
        );
        let params = (subject.to_owned(), seconds(now));
        self.0.read(move |db| db.prepare_cached(&list)?.query_map(params, record)?.collect()).boxed()
    }
}

/// Everything in one look, so that a made-up token costs no more.
const LOOK: &str = "SELECT current, previous, turned_at, ends_at, sealed,
    EXISTS (SELECT 1 FROM spent WHERE session = ?1 AND digest = ?2) FROM sessions WHERE id = ?1";

fn rotate(db: &Connection, rotation: &Rotation) -> rusqlite::Result<Rotated> {
    let (id, presented) = (rotation.id.as_bytes(), rotation.presented.as_bytes());
    let look = |row: &Row<'_>| {
        let previous =
            row.get::<_, Option<_>>(1)?.map(TokenDigest::from_bytes).zip(row.get::<_, Option<_>>(2)?.map(moment));
        let family = Family { current: TokenDigest::from_bytes(row.get(0)?), previous, ends_at: moment(row.get(3)?) };
        Ok((family, row.get::<_, Option<_>>(4)?.map(SealedToken::from_bytes), row.get::<_, bool>(5)?))
    };
    let found = db.prepare_cached(LOOK)?.query_row(params![id, presented], look).optional()?;
    let Some((family, sealed, spent)) = found else { return Ok(Rotated::Unknown) };
    match family.decide(&rotation.presented, rotation.grace, rotation.now) {
        Step::Turn => {
            let turn = "UPDATE sessions SET current = ?2, previous = ?3, sealed = ?4, turned_at = ?5, last_used = ?5,
                ends_at = ?6 WHERE id = ?1";
            let (now, ends_at) = (seconds(rotation.now), seconds(rotation.ends_at));
            let (successor, sealed) = (rotation.successor.as_bytes(), rotation.sealed.as_bytes());
            db.prepare_cached(turn)?.execute(params![id, successor, presented, sealed, now, ends_at])?;
            db.prepare_cached("INSERT INTO spent (session, digest) VALUES (?1, ?2)")?
                .execute(params![id, presented])?;
            Ok(Rotated::Turned)
        }
        Step::Again => Ok(sealed.map_or(Rotated::Unknown, Rotated::Again)),
        Step::LookAmongSpent if spent => end(db, rotation.id, rotation.called_back()).map(|_| Rotated::Reused),
        Step::LookAmongSpent | Step::Ended => Ok(Rotated::Unknown),
    }
}

fn end(db: &Connection, id: SessionId, tokens: CalledBack) -> rusqlite::Result<usize> {
    note(db, &Revocation::of_session(id, tokens.until), tokens.now)?;
    db.prepare_cached("DELETE FROM sessions WHERE id = ?1")?.execute([id.as_bytes()])
}

/// A row of `sessions`, in the order of [`RECORD`].
fn record(row: &Row<'_>) -> rusqlite::Result<SessionRecord> {
    let scope = ScopeSet::from_store(&row.get::<_, String>(3)?);
    Ok(SessionRecord {
        id: SessionId::from_bytes(row.get(0)?),
        subject: row.get(1)?,
        client_id: row.get(2)?,
        scope: scope.map_err(|_| rusqlite::Error::InvalidColumnType(3, "not a scope".to_owned(), Type::Text))?,
        audience: row.get::<_, String>(4)?.split('\n').map(str::to_owned).collect(),
        label: row.get(5)?,
        auth_time: moment(row.get(6)?),
        last_used: moment(row.get(7)?),
        expires_at: moment(row.get(8)?),
        network: row.get(9)?,
    })
}
