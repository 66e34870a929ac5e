//! The program itself, killed in the middle of whatever it does and started again.

use std::time::{Duration, Instant};

use proptest::{
    bits,
    strategy::{Strategy as _, ValueTree as _},
    test_runner::TestRunner,
};
use tokio::time::sleep;

use super::{Asks, Crowd, Phase, SECOND, start};

const KILLS: usize = 6;

/// Kills it at random moments.
async fn killed_on(store: &str, name: &str, test: &str, variables: &[(&str, &str)]) {
    let mut program = start(name, variables);
    let crowd = Crowd::begin(program.address);
    let mut runner = TestRunner::default();
    let fault = async {
        for _ in 0..KILLS {
            let random = bits::u64::ANY.new_tree(&mut runner).unwrap().current();
            sleep(Duration::from_millis(300 + random % 500)).await;
            program.kill();
            tokio::task::block_in_place(|| program.begin());
        }
    };
    let begun = Instant::now();
    crowd.through(3 * SECOND / 2, fault, 3 * SECOND / 2).await;
    assert!(begun.elapsed() < 60 * SECOND);
    let ledger = crowd.settle().await;
    ledger.told(&format!("`kill -9` and a restart, {KILLS} times, on {store}"), test);
    let all = [Asks::Token, Asks::User, Asks::Refresh, Asks::SignIn, Asks::SignOut, Asks::Register, Asks::Password];
    assert!(ledger.count(Phase::During, &all, 0) > 0, "it was in the middle of something");
    assert!(ledger.recovery() < 2 * SECOND, "{:?}", ledger.recovery());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_is_killed_on_sqlite_loses_nothing_and_lets_nobody_in() {
    let test = "a_program_that_is_killed_on_sqlite_loses_nothing_and_lets_nobody_in";
    killed_on("SQLite", "killed-sqlite", test, &[("STORE", "sqlite:a.db")]).await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_is_killed_on_postgres_loses_nothing_and_lets_nobody_in() {
    let Some(server) = crate::servers::postgres().await else { return };
    let test = "a_program_that_is_killed_on_postgres_loses_nothing_and_lets_nobody_in";
    killed_on("PostgreSQL", "killed-postgres", test, &[("STORE", &server.url)]).await;
}

#[cfg(all(feature = "postgres", feature = "redis"))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_is_killed_on_postgres_and_redis_loses_nothing_and_lets_nobody_in() {
    let Some(server) = crate::servers::postgres().await else { return };
    let Some(sessions) = crate::servers::redis().await else { return };
    let test = "a_program_that_is_killed_on_postgres_and_redis_loses_nothing_and_lets_nobody_in";
    let variables = [("STORE", server.url.as_str()), ("REDIS_URL", sessions.url.as_str())];
    killed_on("PostgreSQL and Redis", "killed-redis", test, &variables).await;
}
