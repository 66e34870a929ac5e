//! Servers that stores are on: killed and started again, kept from doing anything and let go on.

use tokio::time::sleep;

use super::{Asks, Crowd, Phase, SECOND, ledger::Ledger, start};
use crate::servers::Private;

/// Kills the server and starts it again.
async fn killed(crowd: &Crowd, server: &mut Private) {
    let fault = async {
        server.stop();
        sleep(3 * SECOND).await;
        server.start().await;
    };
    crowd.through(2 * SECOND, fault, 4 * SECOND).await;
}

/// Keeps the server from answering for longer than what is known of revocations holds.
async fn frozen(crowd: &Crowd, server: &Private) {
    let fault = async {
        server.pause();
        sleep(8 * SECOND).await;
        server.resume();
    };
    crowd.through(2 * SECOND, fault, 4 * SECOND).await;
}

/// What every outage of a store is like to those who use the program meanwhile.
fn is_an_outage(ledger: &Ledger) {
    let writes = [Asks::Refresh, Asks::SignIn, Asks::SignOut];
    assert!(ledger.count(Phase::During, &writes, 503) > 0, "it is told");
    assert_eq!(
        ledger.count(Phase::During, &[Asks::Token, Asks::User, Asks::Refresh], 401),
        0,
        "and nobody else's fault"
    );
    assert!(ledger.count(Phase::During, &[Asks::Token], 200) > 0, "tokens go on while the copy of revocations is good");
    let (slowest, recovery) = (ledger.slowest(Phase::During), ledger.recovery());
    assert!(slowest < 8 * SECOND, "{slowest:?}");
    assert!(recovery < 8 * SECOND, "{recovery:?}");
    let after = ledger.count(Phase::After, &[Asks::SignIn, Asks::Refresh], 200);
    assert!(after > 10, "{after}");
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn req_193_a_postgres_that_is_killed_loses_nothing_and_lets_nobody_in() {
    let Some(mut server) = crate::servers::postgres().await else { return };
    let program = start("postgres-killed", &[("STORE", &server.url)]);
    let crowd = Crowd::begin(program.address);
    killed(&crowd, &mut server).await;
    let ledger = crowd.settle().await;
    ledger.told(
        "PostgreSQL is killed; back after 3 s",
        "req_193_a_postgres_that_is_killed_loses_nothing_and_lets_nobody_in",
    );
    is_an_outage(&ledger);
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn req_193_a_postgres_that_is_frozen_loses_nothing_and_lets_nobody_in() {
    let Some(server) = crate::servers::postgres().await else { return };
    let program = start("postgres-frozen", &[("STORE", &server.url)]);
    let crowd = Crowd::begin(program.address);
    frozen(&crowd, &server).await;
    let ledger = crowd.settle().await;
    ledger.told("PostgreSQL stops for 8 s", "req_193_a_postgres_that_is_frozen_loses_nothing_and_lets_nobody_in");
    is_an_outage(&ledger);
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn req_193_a_redis_that_is_killed_loses_nothing_and_lets_nobody_in() {
    let Some(mut server) = crate::servers::redis().await else { return };
    let program = start("redis-killed", &[("STORE", "sqlite:a.db"), ("REDIS_URL", &server.url)]);
    let crowd = Crowd::begin(program.address);
    killed(&crowd, &mut server).await;
    let ledger = crowd.settle().await;
    ledger.told("Redis is killed; back after 3 s", "req_193_a_redis_that_is_killed_loses_nothing_and_lets_nobody_in");
    is_an_outage(&ledger);
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn req_193_a_redis_that_is_frozen_loses_nothing_and_lets_nobody_in() {
    let Some(server) = crate::servers::redis().await else { return };
    let program = start("redis-frozen", &[("STORE", "sqlite:a.db"), ("REDIS_URL", &server.url)]);
    let crowd = Crowd::begin(program.address);
    frozen(&crowd, &server).await;
    let ledger = crowd.settle().await;
    ledger.told("Redis stops for 8 s", "req_193_a_redis_that_is_frozen_loses_nothing_and_lets_nobody_in");
    is_an_outage(&ledger);
}
