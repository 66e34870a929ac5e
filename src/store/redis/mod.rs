//! Sessions, revocations and attempts to sign in, in Redis or Valkey: for several machines.

mod attempts;
mod revocations;
mod server;
mod sessions;

use std::fmt;

use self::server::Server;
use super::StoreError;
use crate::clock::UnixSeconds;

/// Sessions, revocations and attempts to sign in, in Redis (6.2 or later) or Valkey. Users and signing keys live elsewhere, in SQL: they must outlast
/// everything, and be found in more ways than by one key.
///
/// Each call is one script, which the server runs alone. All keys have one tag, `{portcullis}`, because an id says nothing of the
/// subject whose list it is in: they fill one slot, so that a cluster serves them from one machine, through an endpoint that
/// needs no cluster protocol. One machine does tens of thousands of rotations a second.
///
/// Only the callers' `now` decides what is over. Keys go by the server's clock, an hour after their session has ended.
///
/// # What is durable
///
/// What the server writes before it answers: with `appendonly yes` and `appendfsync always`, everything; with `everysec`, all but
/// about the last second before a crash; without, nothing. A failover loses what the replica had not got. What is lost of
/// sessions signs people out, or makes a token good again that was turned, and its successor worthless; what is lost of
/// revocations opens doors again until the tokens expire. A server that evicts keys is refused.
///
/// A call resolves within three seconds, with [`StoreError::Unavailable`] if the server has not answered by then, or if 1,024
/// others are waiting. What it was to write may be there then, or not. The connection is made anew when the server is back.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use portcullis::store::RedisStore;
///
/// let store = RedisStore::connect("rediss://:secret@cache.example/0").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RedisStore(Server);

impl RedisStore {
    /// Connects to the server. For `rediss:`, aws-lc is made the process's provider of cryptography, unless it has one.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if the server cannot be reached, or evicts keys. It never shows the URL's password.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        Server::connect(url).await.map(Self)
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").finish_non_exhaustive()
    }
}

/// A script, after what all of them share.
macro_rules! script {
    ($name:literal) => {{
        static SCRIPT: std::sync::LazyLock<redis::Script> = std::sync::LazyLock::new(|| {
            redis::Script::new(concat!(include_str!("lua/common.lua"), include_str!(concat!("lua/", $name, ".lua"))))
        });
        &SCRIPT
    }};
}
use script;

/// The end of the year 9999. Lua counts exactly up to there and far beyond, and keys cannot expire much later.
const LAST: u64 = 253_402_300_799;

fn number(moment: UnixSeconds) -> Vec<u8> {
    moment.get().min(LAST).to_string().into_bytes()
}

/// What comes back is what was written, or somebody else's.
fn strange() -> StoreError {
    StoreError::unavailable("the Redis server has something that is not ours")
}
