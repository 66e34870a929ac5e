//! Scripts on one connection that many calls share, each in bounded time.

use std::{sync::Arc, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, ErrorKind, FromRedisValue, RedisError, Script, ServerErrorKind,
    aio::MultiplexedConnection,
};
use tokio::{
    sync::{Mutex, Semaphore},
    time::timeout,
};

use crate::store::{StoreError, TARGET};

/// Calls that may wait for an answer.
const QUEUE: usize = 1024;
/// How long a call takes at most, with the wait for a connection.
const CALL: Duration = Duration::from_millis(2500);
/// How long to wait for an answer, and for a connection.
const ANSWER: Duration = Duration::from_secs(2);
const CONNECT: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(super) struct Server(Arc<Inner>);

struct Inner {
    client: Client,
    // Held while connecting: one tries, the others wait, none longer than a call may take.
    line: Mutex<Line>,
    queue: Arc<Semaphore>,
}

/// The connection, if there is a good one, and how many there were before.
#[derive(Default)]
struct Line {
    connection: Option<MultiplexedConnection>,
    number: u64,
}

impl Server {
    pub(super) async fn connect(url: &str) -> Result<Self, StoreError> {
        if ["rediss:", "valkeys:"].iter().any(|scheme| url.starts_with(scheme)) {
            // The driver takes the program's own choice, and would panic where there is none or a choice of two.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        }
        let client = Client::open(url).map_err(|error| store_error(&error))?;
        let server = Self(Arc::new(Inner { client, line: Mutex::default(), queue: Arc::new(Semaphore::new(QUEUE)) }));
        let (mut connection, _) = timeout(CALL, server.line()).await.map_err(|_| late())??;
        let ask = redis::cmd("INFO");
        let info: Result<String, RedisError> =
            timeout(CALL, ask.query_async(&mut connection)).await.map_err(|_| late())?;
        match info {
            Ok(info) => forgets_nothing(&info)?,
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm) => {
                tracing::warn!(target: TARGET, "the Redis server does not tell its settings; it must not evict keys");
            }
            Err(error) => return Err(store_error(&error)),
        }
        Ok(server)
    }

    /// Runs a script: one round trip, once the server knows it.
    ///
    /// In a task of its own: a caller who goes away would leave behind a connection of which nobody has seen that it is dead.
    pub(super) async fn run<T: FromRedisValue + Send + 'static>(
        &self,
        script: &'static Script,
        keys: &[String],
        arguments: &[Vec<u8>],
    ) -> Result<T, StoreError> {
        let full = |_| StoreError::unavailable("too many calls are waiting for the Redis server");
        let place = Arc::clone(&self.0.queue).try_acquire_owned().map_err(full)?;
        let (server, keys, arguments) = (self.clone(), keys.to_vec(), arguments.to_vec());
        let run = async move {
            let mut call = script.prepare_invoke();
            for key in &keys {
                call.key(key);
            }
            for argument in &arguments {
                call.arg(argument.as_slice());
            }
            let (mut connection, number) = server.line().await?;
            let answer = call.invoke_async(&mut connection).await;
            if answer.as_ref().is_err_and(is_broken) {
                server.hang_up(number).await;
            }
            drop(place);
            answer.map_err(|error| store_error(&error))
        };
        let run = tokio::spawn(timeout(CALL, run));
        run.await.map_err(|_| StoreError::unavailable("the runtime is gone"))?.map_err(|_| late())?
    }

    /// The connection, and its number; a new one if there is none.
    async fn line(&self) -> Result<(MultiplexedConnection, u64), StoreError> {
        let mut line = self.0.line.lock().await;
        if let Some(connection) = &line.connection {
            return Ok((connection.clone(), line.number));
        }
        let settings =
            AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(Some(ANSWER));
        let connection = self.0.client.get_multiplexed_async_connection_with_config(&settings);
        let connection = connection.await.map_err(|error| store_error(&error))?;
        *line = Line { connection: Some(connection.clone()), number: line.number + 1 };
        Ok((connection, line.number))
    }

    /// The next call connects anew. Those that still wait on this one go on waiting.
    async fn hang_up(&self, number: u64) {
        let mut line = self.0.line.lock().await;
        if line.number == number {
            line.connection = None;
        }
    }
}

/// A server that throws keys away when it is full would forget what was called back, and who is signed in.
fn forgets_nothing(info: &str) -> Result<(), StoreError> {
    let setting = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim));
    if setting("aof_enabled") == Some("0") {
        tracing::warn!(target: TARGET, "the Redis server keeps no append-only file: what it was told is lost when it stops");
    }
    match setting("maxmemory_policy") {
        None | Some("noeviction") => Ok(()),
        Some(other) => Err(StoreError::unavailable(format!(
            "the Redis server has maxmemory-policy `{other}`, and would forget what it was told; `noeviction` is needed"
        ))),
    }
}

/// Whether the connection is of no more use: it is dead, it is late, or it leads to a server that lets nobody write any more.
fn is_broken(error: &RedisError) -> bool {
    // From within a script, older servers put their own words around it.
    if error.to_string().contains("READONLY You can't write") {
        return true;
    }
    match error.kind() {
        ErrorKind::Server(kind) => matches!(kind, ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown),
        ErrorKind::Extension => false,
        _ => true,
    }
}

/// A function, not `From`: the driver's type stays out of the public interface.
pub(super) fn store_error(error: &RedisError) -> StoreError {
    let text = error.to_string();
    // From within a script, older servers put their own words around it.
    let full =
        error.code() == Some("OOM") || text.contains("OOM command not allowed") || text.contains("No space left");
    if full { StoreError::Full } else { StoreError::unavailable(text) }
}

fn late() -> StoreError {
    StoreError::unavailable("the Redis server does not answer in time")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_evicts_is_refused() {
        assert!(forgets_nothing("# Memory\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n").is_ok());
        assert!(forgets_nothing("").is_ok());
        let error = forgets_nothing("maxmemory_policy:allkeys-lru\r\n").unwrap_err();
        assert!(error.to_string().contains("`allkeys-lru`"), "{error}");
    }
}
