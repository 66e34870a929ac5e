//! Sessions in Redis: a hash for each, a set of its tokens that were turned, and a list for each subject.

use futures::FutureExt as _;

use super::{RedisStore, number, script, strange};
use crate::{
    clock::UnixSeconds,
    ident::SessionId,
    scope::ScopeSet,
    session::{SealedToken, SessionRecord, Standing, TokenDigest},
    store::{CalledBack, MOST_LISTED, NewSession, Rotated, Rotation, SessionStore, StoreError, StoreFuture},
};

fn session(id: SessionId) -> String {
    format!("{{portcullis}}:session:{id}")
}

fn spent(id: SessionId) -> String {
    format!("{{portcullis}}:spent:{id}")
}

fn list(subject: &str) -> String {
    format!("{{portcullis}}:subject:{subject}")
}

fn text(id: SessionId) -> Vec<u8> {
    id.to_string().into_bytes()
}

impl SessionStore for RedisStore {
    fn create(&self, new: NewSession) -> StoreFuture<'_, ()> {
        let NewSession { session: record, digest, ends_at } = new;
        async move {
            let keys = [session(record.id), list(&record.subject)];
            let arguments = [
                text(record.id),
                record.subject.into_bytes(),
                record.client_id.into_bytes(),
                record.scope.to_string().into_bytes(),
                serde_json::to_vec(&record.audience).map_err(StoreError::unavailable)?,
                record.label.into_bytes(),
                record.network.into_bytes(),
                number(record.auth_time),
                number(record.last_used),
                number(record.expires_at),
                number(ends_at),
                digest.as_bytes().to_vec(),
            ];
            let added: bool = self.0.run(script!("create"), &keys, &arguments).await?;
            if added { Ok(()) } else { Err(StoreError::Conflict) }
        }
        .boxed()
    }

    fn find(&self, id: SessionId, now: UnixSeconds) -> StoreFuture<'_, Option<SessionRecord>> {
        async move { Ok(self.look_for(id, Vec::new(), now).await?.map(|(record, _)| record)) }.boxed()
    }

    fn look(
        &self,
        id: SessionId,
        token: TokenDigest,
        now: UnixSeconds,
    ) -> StoreFuture<'_, Option<(SessionRecord, Standing)>> {
        async move {
            let found = self.look_for(id, token.as_bytes().to_vec(), now).await?;
            let standing = |standing: Vec<u8>| match standing.as_slice() {
                b"current" => Ok(Standing::Current),
                b"spent" => Ok(Standing::Spent),
                b"foreign" => Ok(Standing::Foreign),
                _ => Err(strange()),
            };
            found.map(|(record, told)| Ok((record, standing(told)?))).transpose()
        }
        .boxed()
    }

    fn rotate(&self, rotation: Rotation) -> StoreFuture<'_, Rotated> {
        async move {
            let keys = [session(rotation.id), spent(rotation.id)];
            let arguments = [
                text(rotation.id),
                rotation.presented.as_bytes().to_vec(),
                rotation.successor.as_bytes().to_vec(),
                rotation.sealed.as_bytes().to_vec(),
                rotation.grace.as_secs().to_string().into_bytes(),
                number(rotation.ends_at),
                number(rotation.now),
                number(rotation.called_back_until),
            ];
            let mut told: Vec<Vec<u8>> = self.0.run(script!("rotate"), &keys, &arguments).await?;
            let sealed = if told.len() == 2 { told.pop() } else { None };
            match (told.first().map(Vec::as_slice), sealed) {
                (Some(b"turned"), None) => Ok(Rotated::Turned),
                (Some(b"again"), Some(sealed)) => Ok(Rotated::Again(SealedToken::from_bytes(sealed))),
                (Some(b"reused"), None) => Ok(Rotated::Reused),
                (Some(b"unknown"), None) => Ok(Rotated::Unknown),
                _ => Err(strange()),
            }
        }
        .boxed()
    }

    fn revoke(&self, id: SessionId, tokens: CalledBack) -> StoreFuture<'_, bool> {
        async move {
            let arguments = [text(id), number(tokens.until), number(tokens.now)];
            self.0.run(script!("revoke"), &[session(id), spent(id)], &arguments).await
        }
        .boxed()
    }

    fn revoke_all<'a>(
        &'a self,
        subject: &'a str,
        except: Option<SessionId>,
        tokens: CalledBack,
    ) -> StoreFuture<'a, Vec<SessionId>> {
        async move {
            let except = except.map(text).unwrap_or_default();
            let arguments = [subject.as_bytes().to_vec(), except, number(tokens.until), number(tokens.now)];
            let ended: Vec<String> = self.0.run(script!("revoke_all"), &[list(subject)], &arguments).await?;
            ended.iter().map(|id| SessionId::parse(id).ok_or_else(strange)).collect()
        }
        .boxed()
    }

    fn sessions<'a>(&'a self, subject: &'a str, now: UnixSeconds) -> StoreFuture<'a, Vec<SessionRecord>> {
        async move {
            let arguments = [number(now), MOST_LISTED.to_string().into_bytes()];
            let found: Vec<Vec<Vec<u8>>> = self.0.run(script!("sessions"), &[list(subject)], &arguments).await?;
            found.into_iter().map(|fields| record(fields).map(|(record, _)| record)).collect()
        }
        .boxed()
    }
}

impl RedisStore {
    async fn look_for(
        &self,
        id: SessionId,
        token: Vec<u8>,
        now: UnixSeconds,
    ) -> Result<Option<(SessionRecord, Vec<u8>)>, StoreError> {
        let arguments = [text(id), token, number(now)];
        let found: Option<Vec<Vec<u8>>> = self.0.run(script!("look"), &[session(id), spent(id)], &arguments).await?;
        found.map(record).transpose()
    }
}

/// What the scripts return of a session: one word on its token, its id, and the fields that they name `RECORD`.
fn record(fields: Vec<Vec<u8>>) -> Result<(SessionRecord, Vec<u8>), StoreError> {
    let fields: [Vec<u8>; 12] = fields.try_into().map_err(|_| strange())?;
    let [word, id, subject, client_id, scope, audience, label, network, auth_time, last_used, expires_at, _] = fields;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|_| strange());
    let moment = |bytes: Vec<u8>| Ok(UnixSeconds::new(text(bytes)?.parse().map_err(|_| strange())?));
    let record = SessionRecord {
        id: SessionId::parse(&text(id)?).ok_or_else(strange)?,
        subject: text(subject)?,
        client_id: text(client_id)?,
        scope: ScopeSet::from_store(&text(scope)?).map_err(|_| strange())?,
        audience: serde_json::from_slice(&audience).map_err(|_| strange())?,
        label: text(label)?,
        network: text(network)?,
        auth_time: moment(auth_time)?,
        last_used: moment(last_used)?,
        expires_at: moment(expires_at)?,
    };
    Ok((record, word))
}
