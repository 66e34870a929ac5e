//! Signing keys in SQLite.

use futures::FutureExt as _;
use rusqlite::{Connection, Row, params};

use super::SqliteStore;
use crate::store::{
    KeyRecord, KeyStore, SealedKey, StoreFuture,
    numbers::{moment, seconds},
};

impl KeyStore for SqliteStore {
    fn keys(&self) -> StoreFuture<'_, Vec<KeyRecord>> {
        let list = "SELECT kid, algorithm, sealed, predecessor, published_at, active_at FROM keys";
        let key = |row: &Row<'_>| {
            Ok(KeyRecord {
                kid: row.get(0)?,
                algorithm: row.get(1)?,
                sealed: SealedKey::from_bytes(row.get(2)?),
                predecessor: row.get(3)?,
                published_at: moment(row.get(4)?),
                active_at: moment(row.get(5)?),
            })
        };
        self.0.read(move |db| db.prepare_cached(list)?.query_map([], key)?.collect()).boxed()
    }

    fn add_key(&self, key: KeyRecord) -> StoreFuture<'_, ()> {
        let insert = "INSERT INTO keys (kid, algorithm, sealed, predecessor, published_at, active_at)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let add = move |db: &Connection| {
            let (published, active) = (seconds(key.published_at), seconds(key.active_at));
            let params = params![key.kid, key.algorithm, key.sealed.as_bytes(), key.predecessor, published, active];
            db.prepare_cached(insert)?.execute(params)
        };
        async move { self.0.write(add).await.map(drop) }.boxed()
    }

    fn remove_key<'a>(&'a self, kid: &'a str) -> StoreFuture<'a, bool> {
        let kid = kid.to_owned();
        self.update(move |db| db.prepare_cached("DELETE FROM keys WHERE kid = ?1")?.execute([kid])).boxed()
    }
}
