//! Statements on pooled connections, each in bounded time.

use std::{sync::Arc, time::Duration};

use futures::channel::oneshot;
use sqlx::{
    ConnectOptions as _, Connection as _, Executor as _, PgPool, Postgres,
    pool::PoolConnection,
    postgres::{PgArguments, PgConnectOptions, PgPoolOptions, PgRow},
    query::Query,
};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout, timeout_at},
};

use super::{schema, store_error};
use crate::store::StoreError;

/// Calls that may wait for a connection, or for the server.
const QUEUE: usize = 1024;
/// Connections of a pool of our own. A server has 100 unless it is told otherwise.
const CONNECTIONS: u32 = 16;
/// How long a call takes at most, the wait for a connection included.
const CALL: Duration = Duration::from_millis(2500);
/// How long it waits for a connection: what begins has the time that a statement may take.
const WAIT: Duration = Duration::from_millis(1200);
/// How long a connection may have been unused before it is tried first. Each that died with its server would else fail one call.
const UNUSED: Duration = Duration::from_secs(1);
/// For connections of our own. The server gives up before we do, so that it does not go on with what nobody waits for; only a
/// commit that waits for a standby is beyond that.
const SETTINGS: &str = "SET statement_timeout = '1200ms'; SET default_transaction_isolation = 'read committed'";

pub(super) type Statement = Query<'static, Postgres, PgArguments>;

#[derive(Clone)]
pub(super) struct Database {
    pool: PgPool,
    queue: Arc<Semaphore>,
}

impl Database {
    pub(super) async fn connect(url: &str) -> Result<Self, StoreError> {
        let options: PgConnectOptions = url.parse().map_err(store_error)?;
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(WAIT)
            .test_before_acquire(false)
            .before_acquire(|connection, used| {
                Box::pin(async move {
                    if used.idle_for < UNUSED {
                        return Ok(true);
                    }
                    connection.ping().await.map(|()| true)
                })
            })
            .after_connect(|connection, _| Box::pin(async move { connection.execute(SETTINGS).await.map(drop) }))
            .connect_with(options.disable_statement_logging());
        Self::from_pool(pool.await.map_err(store_error)?).await
    }

    pub(super) async fn from_pool(pool: PgPool) -> Result<Self, StoreError> {
        schema::bring_up_to_date(&pool).await?;
        Ok(Self { pool, queue: Arc::new(Semaphore::new(QUEUE)) })
    }

    /// Runs one statement, in a transaction of its own.
    ///
    /// In a task of its own as well: a caller who goes away would leave a connection behind in the middle of an answer.
    pub(super) async fn run(&self, statement: Statement) -> Result<Vec<PgRow>, StoreError> {
        let full = |_| StoreError::unavailable("too many calls are waiting for the database");
        let place = Arc::clone(&self.queue).try_acquire_owned().map_err(full)?;
        let (tell, told) = oneshot::channel();
        let pool = self.pool.clone();
        tokio::spawn(async move {
            let begun = Instant::now();
            let deadline = begun + CALL;
            let connection = match timeout_at(begun + WAIT, pool.acquire()).await {
                // A caller who has gone needs no answer.
                Ok(Ok(connection)) if !tell.is_canceled() => connection,
                Ok(Ok(connection)) => return give_back(connection).await,
                Ok(Err(error)) => return drop(tell.send(Err(store_error(error)))),
                Err(_) => return drop(tell.send(Err(late()))),
            };
            answer(connection, statement, deadline, tell).await;
            drop(place);
        });
        told.await.map_err(|_| StoreError::unavailable("the runtime of the database is gone"))?
    }
}

async fn answer(
    mut connection: PoolConnection<Postgres>,
    statement: Statement,
    deadline: Instant,
    tell: oneshot::Sender<Result<Vec<PgRow>, StoreError>>,
) {
    let run = timeout_at(deadline, statement.fetch_all(&mut *connection)).await;
    let result = run.map_or_else(|_| Err(late()), |rows| rows.map_err(store_error));
    let is_sound = matches!(result, Ok(_) | Err(StoreError::Conflict | StoreError::Full));
    let _ = tell.send(result);
    if is_sound {
        give_back(connection).await;
    } else {
        // It may be dead, or lead to a server that lets nobody write any more; the next one is looked for anew.
        drop(connection.detach());
    }
}

/// The pool tries a connection before it takes it back, and would wait for a server that has vanished for as long as TCP does.
async fn give_back(mut connection: PoolConnection<Postgres>) {
    let _ = timeout(CALL, connection.return_to_pool()).await;
}

fn late() -> StoreError {
    StoreError::unavailable("the database does not answer in time")
}
