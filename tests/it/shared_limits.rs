//! Limits on logins that several processes share, on a Redis that the tests start.
#![expect(clippy::print_stdout, reason = "processes talk to each other, and tests tell what they have seen")]

use std::{
    env,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use portcullis::{
    client_ip::ClientIp,
    ident::LoginName,
    login::{Lockout, LoginLimiter, LoginOutcome, Quota, Who},
    rejection::Rejection,
    store::Store,
};
use tokio::task::JoinSet;

use crate::servers::{PASSWORD, shared_redis};

const SECOND: &str = "PORTCULLIS_TEST_SECOND_LIMITER";
const SECRET: &str = "5f3c1a9e7b2d4068c5f3e1a97b2d40685f3c1a9e7b2d4068c5f3e1a97b2d4068";

async fn limiter(url: &str) -> LoginLimiter {
    let store = Store::connect(url).await.unwrap().attempts().unwrap();
    LoginLimiter::builder()
        .store(store)
        .secret(SECRET.into())
        .per_address(Quota::new(20, Duration::from_secs(24 * 3600)))
        .build()
        .unwrap()
}

fn who<'a>(address: u8, account: &'a str, device_token: Option<&'a str>) -> Who<'a> {
    let address = ClientIp([203, 0, 113, address].into());
    Who { address: Some(address), account: Some(account), device_token, headers: None }
}

/// How many of `guesses` at once are let through; `{}` in `account` is their number.
async fn guess(limiter: &LoginLimiter, address: u8, account: &str, guesses: usize) -> usize {
    let through = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for number in 0..guesses {
        let (limiter, through) = (limiter.clone(), Arc::clone(&through));
        let account = account.replace("{}", &number.to_string());
        tasks.spawn(async move {
            match limiter.begin(who(address, &account, None)).await {
                Ok(_) => drop(through.fetch_add(1, Ordering::SeqCst)),
                Err(Rejection::TooManyAttempts { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        });
    }
    tasks.join_all().await;
    through.load(Ordering::SeqCst)
}

/// Not a test: what the second process does, for each line that the first one sends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_limiter() {
    let Ok(url) = env::var(SECOND) else { return };
    let limiter = limiter(&url).await;
    println!("\n@ready");
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let [address, account, guesses] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        println!("@{}", guess(&limiter, address.parse().unwrap(), account, guesses.parse().unwrap()).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn req_171_req_173_two_processes_let_through_what_one_would() {
    let Some(shared) = shared_redis().await else { return };
    let mut second = Command::new(env::current_exe().unwrap())
        .args(["--exact", "shared_limits::the_second_limiter", "--nocapture"])
        .env(SECOND, &shared.server.url)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = second.stdin.take().unwrap();
    let mut lines = BufReader::new(second.stdout.take().unwrap()).lines();
    let mut answer = || lines.find_map(|line| line.unwrap().strip_prefix('@').map(str::to_owned)).unwrap();
    assert_eq!(answer(), "ready");
    let limiter = limiter(&shared.server.url).await;
    let (mut accounts, mut addresses) = (Vec::new(), Vec::new());
    for round in 0..20 {
        // One account, from an address of each process; then one address, on as many accounts.
        let name = format!("victim{round}");
        for (address, account, guesses, told) in
            [(2 * round, name, 100, &mut accounts), (2 * round + 1, format!("user{round}-{{}}"), 100, &mut addresses)]
        {
            let there = if guesses == 100 && account.contains('{') { address } else { address + 100 };
            let theirs = account.replace("{}", "other{}");
            writeln!(input, "{there} {theirs} {guesses}").unwrap();
            let here = guess(&limiter, address, &account, guesses).await;
            let there: usize = tokio::task::block_in_place(&mut answer).parse().unwrap();
            told.push((here, there));
        }
    }
    println!("let through by each process: {accounts:?} {addresses:?}");
    assert!(accounts.iter().all(|(here, there)| here + there == 5), "free failures of an account: {accounts:?}");
    assert!(addresses.iter().all(|(here, there)| here + there == 20), "of an address: {addresses:?}");
    // A device that has signed in at one is known at the other; a success clears what both have counted.
    let attempt = limiter.begin(who(250, "owner", None)).await.unwrap();
    attempt.settle(LoginOutcome::Succeeded).await;
    let token = attempt.device_token().unwrap();
    let other = self::limiter(&shared.server.url).await;
    assert_eq!(guess(&other, 251, "owner", 10).await, 5);
    let known = other.begin(who(251, "owner", Some(token.expose()))).await.unwrap();
    assert!(known.is_known_device());
    assert!(limiter.begin(who(252, "owner", None)).await.is_err());
    assert!(other.unlock(&LoginName::parse("Owner").unwrap()).await.unwrap());
    assert!(limiter.begin(who(252, "owner", None)).await.is_ok());
    drop(input);
    assert!(second.wait().unwrap().success());
}

/// A command, and what the server says to it.
fn ask(url: &str, command: &str) -> String {
    let address = url.rsplit('@').next().unwrap().trim_end_matches("/0");
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    write!(stream, "AUTH {PASSWORD}\r\n{command}\r\nQUIT\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// How many scripts the server has run.
fn scripts(url: &str) -> u64 {
    let stats = ask(url, "INFO commandstats");
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_is_one_round_trip_and_leaves_neither_name_nor_address() {
    let Some(shared) = shared_redis().await else { return };
    let url = &shared.server.url;
    let limiter = limiter(url).await;
    limiter.begin(who(240, "warm-up", None)).await.unwrap();
    let before = scripts(url);
    for _ in 0..50 {
        // Granted or refused, of the address and the account together.
        let _ = limiter.begin(who(241, "Telltale-Name", None)).await;
    }
    assert_eq!(scripts(url) - before, 50);
    let keys = ask(url, "KEYS *attempts*");
    assert!(keys.contains("{portcullis}:attempts:1:") && keys.contains("{portcullis}:attempts:4:"), "{keys}");
    assert!(!keys.to_lowercase().contains("telltale") && !keys.contains("203.0.113"), "{keys}");
    for key in keys.lines().filter(|line| line.starts_with("{portcullis}")) {
        let ttl = ask(url, &format!("TTL {key}"));
        let seconds: i64 = ttl.lines().find_map(|line| line.strip_prefix(':')).unwrap().parse().unwrap();
        assert!((1..=31 * 24 * 3600).contains(&seconds), "{key} goes by itself, in {seconds} s");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_beyond_what_a_day_may_bring_are_counted_together() {
    let Some(shared) = shared_redis().await else { return };
    let url = &shared.server.url;
    let limiter = limiter(url).await;
    limiter.begin(who(220, "first", None)).await.unwrap();
    let keys = |pattern: &str| ask(url, &format!("KEYS *attempts{pattern}")).matches("{portcullis}").count();
    let before = keys(":4:*");
    ask(url, "SET {portcullis}:attempts:new 262144 EX 86400");
    for round in 0..6_u8 {
        for n in 0..20 {
            let refused = limiter.begin(who(221 + round, &format!("flood{n}"), None)).await.is_err();
            assert_eq!(refused, round == 5, "{round} {n}: five each");
        }
    }
    assert_eq!((keys(":4:*"), keys(":others:4:*")), (before, 20));
    let attempt = limiter.begin(who(230, "other", None)).await.unwrap();
    attempt.settle(LoginOutcome::NotTried).await;
    assert_eq!(keys(":others:4:*"), 20, "what is taken back is taken back there");
    assert!(limiter.begin(who(231, "first", None)).await.is_ok(), "who was there before has a count of their own");
    assert!(limiter.unlock(&LoginName::parse("flood7").unwrap()).await.unwrap());
    assert!(limiter.begin(who(231, "flood7", None)).await.is_ok(), "and an administrator can let others in");
    ask(url, "DEL {portcullis}:attempts:new");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn req_193_a_server_that_dies_or_hangs_lets_nobody_guess_for_free() {
    let Some(mut shared) = shared_redis().await else { return };
    let store = Store::connect(&shared.server.url).await.unwrap().attempts().unwrap();
    let lockout = Lockout::default().free(3);
    let limiter = LoginLimiter::builder().store(store).per_account(lockout).build().unwrap();
    for (how, address) in [("dies", 30), ("hangs", 31)] {
        let account = format!("{how}-victim");
        assert_eq!(guess(&limiter, address, &account, 2).await, 2);
        if how == "dies" {
            shared.server.stop();
        } else {
            shared.server.pause();
        }
        let begun = Instant::now();
        for n in 0..200 {
            let refused = limiter.begin(who(address, &account, None)).await.unwrap_err();
            let waited = begun.elapsed();
            // Nobody knows what was counted of the account; of the address it is counted here.
            let expected = if n < 30 { "StoreUnavailable" } else { "TooManyAttempts { limit: Address" };
            assert!(format!("{refused:?}").starts_with(expected), "{how}, {n}: {refused:?}");
            assert!(waited < Duration::from_secs(20), "{how}, {n}: {waited:?}");
        }
        println!("{how}: 200 attempts answered in {:?}", begun.elapsed());
        assert!(begun.elapsed() < Duration::from_secs(3), "it is not asked for each of them");
        if how == "dies" {
            shared.server.start().await;
        } else {
            shared.server.resume();
        }
        // As soon as it is back, it counts on where it was: the third at the most, if none that it was sent has been counted.
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut through = 0;
        loop {
            match limiter.begin(who(address + 50, &account, None)).await {
                Err(Rejection::StoreUnavailable) => tokio::time::sleep(Duration::from_millis(200)).await,
                Err(Rejection::TooManyAttempts { .. }) => break,
                Err(other) => panic!("{how}: {other}"),
                Ok(_) => through += 1,
            }
            assert!(Instant::now() < deadline, "{how}: it is back");
        }
        assert!(through <= 1, "{how}: {through} more");
    }
}
