//! Users in PostgreSQL.

use futures::FutureExt as _;
use sqlx::{Row as _, postgres::PgRow, query};

use super::{PostgresStore, Read, durably, parsed};
use crate::{
    ident::{LoginName, UserId},
    scope::ScopeSet,
    store::{PasswordHash, StoreFuture, UserRecord, UserStore},
};

impl UserStore for PostgresStore {
    fn find_by_login<'a>(&'a self, login: &'a LoginName) -> StoreFuture<'a, Option<UserRecord>> {
        let find = "SELECT id, login, password, scopes, disabled FROM portcullis.users WHERE login = $1";
        self.one(query(find).bind(login.as_str().to_owned()), user).boxed()
    }

    fn find_by_id<'a>(&'a self, id: &'a UserId) -> StoreFuture<'a, Option<UserRecord>> {
        let find = "SELECT id, login, password, scopes, disabled FROM portcullis.users WHERE id = $1";
        self.one(query(find).bind(id.as_str().to_owned()), user).boxed()
    }

    fn insert(&self, user: UserRecord) -> StoreFuture<'_, ()> {
        let insert = durably!(
            "INSERT INTO portcullis.users (id, login, password, scopes, disabled)
            SELECT $1, $2, $3, $4, $5 FROM durable"
        );
        let insert = query(insert)
            .bind(user.id.as_str().to_owned())
            .bind(user.login.as_str().to_owned())
            .bind(user.password.expose().to_owned())
            .bind(user.scopes.to_string())
            .bind(user.disabled);
        async move { self.0.run(insert).await.map(drop) }.boxed()
    }

    fn replace_hash<'a>(&'a self, id: &'a UserId, hash: PasswordHash) -> StoreFuture<'a, bool> {
        let update = durably!("UPDATE portcullis.users SET password = $2 FROM durable WHERE id = $1 RETURNING 1");
        self.any(query(update).bind(id.as_str().to_owned()).bind(hash.expose().to_owned())).boxed()
    }

    fn swap_hash<'a>(&'a self, id: &'a UserId, from: &'a PasswordHash, to: PasswordHash) -> StoreFuture<'a, bool> {
        let update = durably!(
            "UPDATE portcullis.users SET password = $3 FROM durable WHERE id = $1 AND password = $2 RETURNING 1"
        );
        let update = query(update).bind(id.as_str().to_owned());
        self.any(update.bind(from.expose().to_owned()).bind(to.expose().to_owned())).boxed()
    }

    fn set_disabled<'a>(&'a self, id: &'a UserId, disabled: bool) -> StoreFuture<'a, bool> {
        let update = durably!("UPDATE portcullis.users SET disabled = $2 FROM durable WHERE id = $1 RETURNING 1");
        self.any(query(update).bind(id.as_str().to_owned()).bind(disabled)).boxed()
    }
}

/// A row of `users`, in the order of the queries above.
fn user(row: &PgRow) -> Read<UserRecord> {
    Ok(UserRecord {
        id: parsed(row, 0, UserId::parse)?,
        login: parsed(row, 1, |text| LoginName::parse(text).ok())?,
        password: PasswordHash::from_phc(row.try_get::<String, _>(2)?),
        scopes: parsed(row, 3, |text| ScopeSet::from_store(text).ok())?,
        disabled: row.try_get(4)?,
    })
}
