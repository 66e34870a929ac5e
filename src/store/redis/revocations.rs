//! Revocations in Redis: one set in the order of the server's clock, one in the order in which they run out.

use futures::FutureExt as _;

use super::{RedisStore, number, script, strange};
use crate::{
    clock::UnixSeconds,
    ident::SessionId,
    store::{Cursor, MOST_REVOCATIONS, Revocation, RevocationStore, Revocations, Revoked, StoreError, StoreFuture},
};

fn keys() -> [String; 2] {
    ["{portcullis}:revocations", "{portcullis}:revocations:ends"].map(str::to_owned)
}

/// What a member of the sets says: a kind, a name, a moment of issue if it has one, and when it runs out.
type Member = (String, String, u64, u64);

impl RevocationStore for RedisStore {
    fn revoke_tokens(&self, revocations: Vec<Revocation>, now: UnixSeconds) -> StoreFuture<'_, ()> {
        async move {
            if revocations.is_empty() {
                return Ok(());
            }
            let mut arguments = vec![number(now), MOST_REVOCATIONS.to_string().into_bytes()];
            for revocation in &revocations {
                arguments.push(serde_json::to_vec(&member(revocation)).map_err(StoreError::unavailable)?);
                arguments.push(number(revocation.until));
            }
            let noted: bool = self.0.run(script!("revoke_tokens"), &keys(), &arguments).await?;
            if noted { Ok(()) } else { Err(StoreError::Full) }
        }
        .boxed()
    }

    fn revocations(&self, Cursor(cursor): Cursor, now: UnixSeconds) -> StoreFuture<'_, Revocations> {
        async move {
            let arguments = [cursor.to_string().into_bytes(), MOST_REVOCATIONS.to_string().into_bytes()];
            let told: Option<(u64, Vec<Vec<u8>>)> = self.0.run(script!("revocations"), &keys(), &arguments).await?;
            let (cursor, members) = told.ok_or(StoreError::Full)?;
            let read = |member: Vec<u8>| revocation(serde_json::from_slice(&member).ok()?);
            let all = members.into_iter().map(|member| read(member).ok_or_else(strange));
            let live = all.filter(|own| !own.as_ref().is_ok_and(|own| own.until <= now));
            Ok(Revocations { list: live.collect::<Result<_, _>>()?, cursor: Cursor(cursor) })
        }
        .boxed()
    }
}

fn member(revocation: &Revocation) -> Member {
    let (kind, name, issued) = match &revocation.tokens {
        Revoked::Token(id) => ("token", id.clone(), 0),
        Revoked::Session(id) => ("session", id.to_string(), 0),
        Revoked::Subject(subject, issued) => ("subject", subject.clone(), issued.get()),
    };
    (kind.to_owned(), name, issued, revocation.until.get())
}

fn revocation((kind, name, issued, until): Member) -> Option<Revocation> {
    let tokens = match kind.as_str() {
        "token" => Revoked::Token(name),
        "session" => Revoked::Session(SessionId::parse(&name)?),
        "subject" => Revoked::Subject(name, UnixSeconds::new(issued)),
        _ => return None,
    };
    Some(Revocation { tokens, until: UnixSeconds::new(until) })
}
