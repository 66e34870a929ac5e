//! Users, sessions, revocations, keys and events in a SQLite file: one machine, nothing to install.

mod audit;
mod database;
mod keys;
mod revocations;
mod schema;
mod sessions;

use std::{fmt, path::Path};

use futures::FutureExt as _;
use rusqlite::{Connection, OptionalExtension as _, Row, params, types::Type};

use self::database::Database;
use super::{PasswordHash, StoreError, StoreFuture, UserRecord, UserStore};
use crate::{
    ident::{LoginName, UserId},
    scope::ScopeSet,
};

/// Users, sessions, revocations, keys and events in a SQLite file in WAL mode, durable before a call resolves (`synchronous=FULL`).
///
/// One thread writes and commits all waiting writes as a group; one copies the journal into the file, and a few read, beside it.
/// They end when the last
/// clone is dropped. At most 1,024 calls wait for either; beyond that, and when the file is locked by another program
/// for over two seconds, calls fail with [`StoreError::Unavailable`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use portcullis::{ident::LoginName, store::{SqliteStore, UserStore}};
///
/// # let folder = std::env::temp_dir().join(format!("portcullis-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// let users = SqliteStore::open(folder.join("users.db"))?;
/// assert!(users.find_by_login(&LoginName::parse("nobody")?).await?.is_none());
/// # drop(users);
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SqliteStore(Database);

impl SqliteStore {
    /// Opens the file at `path`, creates it on first use (readable by its owner alone, on Unix), and brings its tables
    /// up to date. Blocks the thread while it does.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if the file cannot be opened, is no database, or was written by a newer version.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Database::open(path.as_ref()).map(Self)
    }

    async fn update(
        &self,
        change: impl FnOnce(&Connection) -> rusqlite::Result<usize> + Send + 'static,
    ) -> Result<bool, StoreError> {
        Ok(self.0.write(change).await? > 0)
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").finish_non_exhaustive()
    }
}

impl UserStore for SqliteStore {
    fn find_by_login<'a>(&'a self, login: &'a LoginName) -> StoreFuture<'a, Option<UserRecord>> {
        let login = login.as_str().to_owned();
        let find = "SELECT id, login, password, scopes, disabled FROM users WHERE login = ?1";
        self.0.read(move |db| db.prepare_cached(find)?.query_row([login], user).optional()).boxed()
    }

    fn find_by_id<'a>(&'a self, id: &'a UserId) -> StoreFuture<'a, Option<UserRecord>> {
        let id = id.as_str().to_owned();
        let find = "SELECT id, login, password, scopes, disabled FROM users WHERE id = ?1";
        self.0.read(move |db| db.prepare_cached(find)?.query_row([id], user).optional()).boxed()
    }

    fn insert(&self, user: UserRecord) -> StoreFuture<'_, ()> {
        let insert = "INSERT INTO users (id, login, password, scopes, disabled) VALUES (?1, ?2, ?3, ?4, ?5)";
        let insert = async move {
            let add = move |db: &Connection| {
                db.prepare_cached(insert)?.execute(params![
                    user.id.as_str(),
                    user.login.as_str(),
                    user.password.expose(),
                    user.scopes.to_string(),
                    user.disabled,
                ])
            };
            self.0.write(add).await.map(drop)
        };
        insert.boxed()
    }

    fn replace_hash<'a>(&'a self, id: &'a UserId, hash: PasswordHash) -> StoreFuture<'a, bool> {
        let id = id.as_str().to_owned();
        let update = "UPDATE users SET password = ?2 WHERE id = ?1";
        self.update(move |db| db.prepare_cached(update)?.execute(params![id, hash.expose()])).boxed()
    }

    fn swap_hash<'a>(&'a self, id: &'a UserId, from: &'a PasswordHash, to: PasswordHash) -> StoreFuture<'a, bool> {
        let (id, from) = (id.as_str().to_owned(), from.clone());
        let update = "UPDATE users SET password = ?3 WHERE id = ?1 AND password = ?2";
        self.update(move |db| db.prepare_cached(update)?.execute(params![id, from.expose(), to.expose()])).boxed()
    }

    fn set_disabled<'a>(&'a self, id: &'a UserId, disabled: bool) -> StoreFuture<'a, bool> {
        let id = id.as_str().to_owned();
        let update = "UPDATE users SET disabled = ?2 WHERE id = ?1";
        self.update(move |db| db.prepare_cached(update)?.execute(params![id, disabled])).boxed()
    }
}

/// A row of `users`, in the order of the queries above.
fn user(row: &Row<'_>) -> rusqlite::Result<UserRecord> {
    let parsed = |column| rusqlite::Error::InvalidColumnType(column, "not in its normal form".to_owned(), Type::Text);
    Ok(UserRecord {
        id: UserId::parse(&row.get::<_, String>(0)?).ok_or_else(|| parsed(0))?,
        login: LoginName::parse(&row.get::<_, String>(1)?).map_err(|_| parsed(1))?,
        password: PasswordHash::from_phc(row.get::<_, String>(2)?),
        scopes: ScopeSet::from_store(&row.get::<_, String>(3)?).map_err(|_| parsed(3))?,
        disabled: row.get(4)?,
    })
}
