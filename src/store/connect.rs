//! The store that a URL names.

#[cfg(not(all(feature = "postgres", feature = "redis", feature = "sqlite")))]
use std::future::Ready;
use std::{fmt, sync::Arc};

use super::{AttemptStore, AuditStore, AuditTable, KeyStore, MemoryStore, SessionStore, StoreError, UserStore};

/// A store, chosen when a program starts. Its parts are one and the same backend; clones share it.
///
/// | URL | backend | feature |
/// |---|---|---|
/// | `memory:` | [`MemoryStore`] | |
/// | `sqlite:PATH`, with a plain path | `SqliteStore` | `sqlite` |
/// | `postgres://…`, `postgresql://…` | `PostgresStore` | `postgres` |
/// | `redis://…`, `rediss://…`, `unix:///PATH`, `redis+unix:///PATH`, `valkey…` likewise | `RedisStore` | `redis` |
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use portcullis::store::Store;
///
/// let store = Store::connect("memory:").await?;
/// assert!(store.users().is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Store {
    kind: &'static str,
    users: Option<Arc<dyn UserStore>>,
    sessions: Arc<dyn SessionStore>,
    keys: Option<Arc<dyn KeyStore>>,
    attempts: Option<Arc<dyn AttemptStore>>,
    audit: Option<Arc<dyn AuditStore>>,
}

impl Store {
    /// Opens what `url` names.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if the URL is of no known kind, or of one whose feature is not compiled in, or if the backend
    /// cannot be opened. It never shows the URL, which may hold a password.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        let (kind, rest) = url.split_once(':').unwrap_or_default();
        match kind {
            "memory" if rest.is_empty() => Ok(Self::holding_all("memory", Arc::new(MemoryStore::new()))),
            "sqlite" if is_path(rest) => sqlite(rest).await,
            "postgres" | "postgresql" => postgres(url).await,
            "redis" | "rediss" | "redis+unix" | "unix" | "valkey" | "valkeys" | "valkey+unix" => redis(url).await,
            _ => Err(StoreError::unavailable(
                "a store is `memory:`, `sqlite:PATH` with a plain path, `postgres://…` or `redis://…`",
            )),
        }
    }

    fn holding_all<S: UserStore + SessionStore + KeyStore + AuditStore>(kind: &'static str, store: Arc<S>) -> Self {
        let (users, sessions, keys) = (Arc::clone(&store) as _, Arc::clone(&store) as _, Arc::clone(&store) as _);
        Self { kind, users: Some(users), sessions, keys: Some(keys), attempts: None, audit: Some(store) }
    }

    /// Its users, if this backend holds users.
    pub fn users(&self) -> Option<Arc<dyn UserStore>> {
        self.users.clone()
    }

    /// Its sessions and revocations.
    pub fn sessions(&self) -> Arc<dyn SessionStore> {
        Arc::clone(&self.sessions)
    }

    /// Its signing keys, if this backend holds such keys.
    pub fn keys(&self) -> Option<Arc<dyn KeyStore>> {
        self.keys.clone()
    }

    /// Its count of attempts to sign in, if this backend counts them for several machines: Redis alone does. A
    /// [`LoginLimiter`](crate::login::LoginLimiter) counts by itself otherwise.
    pub fn attempts(&self) -> Option<Arc<dyn AttemptStore>> {
        self.attempts.clone()
    }

    /// Its table of what was told, if this backend keeps one: all but Redis do.
    pub fn audit(&self) -> Option<AuditTable> {
        self.audit.clone().map(AuditTable::new)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// What other programs take for more than a path, such as `//users.db`, `:memory:` and `file:users.db?mode=ro`, is none.
fn is_path(path: &str) -> bool {
    !path.is_empty() && !["//", ":", "file:"].iter().any(|start| path.starts_with(start))
}

#[cfg(feature = "sqlite")]
async fn sqlite(path: &str) -> Result<Store, StoreError> {
    let path = path.to_owned();
    let open = tokio::task::spawn_blocking(move || super::SqliteStore::open(path));
    let store = open.await.map_err(StoreError::unavailable)??;
    Ok(Store::holding_all("sqlite", Arc::new(store)))
}

#[cfg(not(feature = "sqlite"))]
fn sqlite(_: &str) -> Ready<Result<Store, StoreError>> {
    missing("sqlite")
}

#[cfg(feature = "postgres")]
async fn postgres(url: &str) -> Result<Store, StoreError> {
    Ok(Store::holding_all("postgres", Arc::new(super::PostgresStore::connect(url).await?)))
}

#[cfg(not(feature = "postgres"))]
fn postgres(_: &str) -> Ready<Result<Store, StoreError>> {
    missing("postgres")
}

#[cfg(feature = "redis")]
async fn redis(url: &str) -> Result<Store, StoreError> {
    let store = Arc::new(super::RedisStore::connect(url).await?);
    let sessions = Arc::clone(&store) as _;
    Ok(Store { kind: "redis", users: None, sessions, keys: None, attempts: Some(store), audit: None })
}

#[cfg(not(feature = "redis"))]
fn redis(_: &str) -> Ready<Result<Store, StoreError>> {
    missing("redis")
}

#[cfg(not(all(feature = "postgres", feature = "redis", feature = "sqlite")))]
fn missing(feature: &str) -> Ready<Result<Store, StoreError>> {
    let words = format!("this program was built without the feature `{feature}` of portcullis");
    std::future::ready(Err(StoreError::unavailable(words)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_url_names_a_store() {
        let store = Store::connect("memory:").await.unwrap();
        assert!(store.users().is_some() && store.keys().is_some() && store.audit().is_some());
        assert_eq!(format!("{store:?}"), r#"Store { kind: "memory", .. }"#);
        for bad in [
            "",
            "memory",
            "memory:x",
            "sqlite:",
            "sqlite://a.db",
            "sqlite::memory:",
            "sqlite:file:a.db",
            "mysql://a",
            "Redis:",
        ] {
            let error = Store::connect(bad).await.unwrap_err().to_string();
            assert!(error.contains("`sqlite:PATH`"), "{bad}: {error}");
        }
    }

    #[tokio::test]
    async fn a_kind_that_is_not_compiled_in_is_named() {
        for (feature, url, is_in) in [
            ("sqlite", "sqlite:no/such/folder/a.db", cfg!(feature = "sqlite")),
            ("postgres", "postgres://u:hunter2@127.0.0.1:1/d", cfg!(feature = "postgres")),
            ("redis", "redis://u:hunter2@127.0.0.1:1/0", cfg!(feature = "redis")),
        ] {
            let error = Store::connect(url).await.unwrap_err();
            let text = format!("{error} {error:?}");
            assert_eq!(text.contains(&format!("without the feature `{feature}`")), !is_in, "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
}
