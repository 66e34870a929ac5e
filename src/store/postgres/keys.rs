//! Signing keys in PostgreSQL.

use futures::FutureExt as _;
use sqlx::{Row as _, postgres::PgRow, query};

use super::{PostgresStore, Read, durably};
use crate::store::{
    KeyRecord, KeyStore, SealedKey, StoreFuture,
    numbers::{moment, seconds},
};

impl KeyStore for PostgresStore {
    fn keys(&self) -> StoreFuture<'_, Vec<KeyRecord>> {
        let list = "SELECT kid, algorithm, sealed, predecessor, published_at, active_at FROM portcullis.keys";
        self.all(query(list), key).boxed()
    }

    fn add_key(&self, key: KeyRecord) -> StoreFuture<'_, ()> {
        let insert = durably!(
            "INSERT INTO portcullis.keys (kid, algorithm, sealed, predecessor, published_at, active_at)
            SELECT $1, $2, $3, $4, $5, $6 FROM durable"
        );
        let insert = query(insert)
            .bind(key.kid)
            .bind(key.algorithm)
            .bind(key.sealed.as_bytes().to_vec())
            .bind(key.predecessor)
            .bind(seconds(key.published_at))
            .bind(seconds(key.active_at));
        async move { self.0.run(insert).await.map(drop) }.boxed()
    }

    fn remove_key<'a>(&'a self, kid: &'a str) -> StoreFuture<'a, bool> {
        let delete = durably!("DELETE FROM portcullis.keys USING durable WHERE kid = $1 RETURNING 1");
        self.any(query(delete).bind(kid.to_owned())).boxed()
    }
}

fn key(row: &PgRow) -> Read<KeyRecord> {
    Ok(KeyRecord {
        kid: row.try_get(0)?,
        algorithm: row.try_get(1)?,
        sealed: SealedKey::from_bytes(row.try_get(2)?),
        predecessor: row.try_get(3)?,
        published_at: moment(row.try_get(4)?),
        active_at: moment(row.try_get(5)?),
    })
}
