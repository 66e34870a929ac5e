//! A clock that is set an hour forward, right again, an hour back, and right again, as the program sees it.

use std::{collections::HashSet, env, fs, net::SocketAddr, path::PathBuf, time::Duration};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::Value;
use tokio::time::sleep;

use super::{Asks, Crowd, Phase, Program, SECOND, crowd, prepare};
use crate::{
    stores::Folder,
    support::{Reply, get, now, try_send},
};

const HOUR: i64 = 3600;

/// The clock of one process.
struct Clock {
    folder: Folder,
    library: PathBuf,
}

impl Clock {
    /// `None` where the library that steps clocks is not installed.
    fn new(name: &str) -> Option<Self> {
        let folders = fs::read_dir("/usr/lib").into_iter().flatten().filter_map(Result::ok);
        let library =
            folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1")).find(|path| path.is_file());
        let Some(library) = library else {
            let required = env::var("PORTCULLIS_TEST_SERVERS").is_ok_and(|value| value == "required");
            assert!(!required, "faketime is not installed");
            eprintln!("skipped: faketime is not installed");
            return None;
        };
        let clock = Self { folder: Folder::new(name), library };
        clock.set(0);
        Some(clock)
    }

    /// Sets it this many seconds before or after the right time. Timers go on as they were.
    fn set(&self, offset: i64) {
        fs::write(self.folder.file("new"), format!("{offset:+}")).unwrap();
        fs::rename(self.folder.file("new"), self.folder.file("offset")).unwrap();
    }

    fn start(&self, name: &str, more: &[(&str, &str)]) -> Program {
        let offset = self.folder.file("offset");
        let variables = [
            ("LD_PRELOAD", self.library.to_str().unwrap()),
            ("FAKETIME_TIMESTAMP_FILE", offset.to_str().unwrap()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("STORE", "sqlite:a.db"),
        ];
        let mut program = prepare(name, &[&variables[..], more].concat());
        program.begin();
        program
    }
}

/// By how much the program's clock is off, from a token that it has just issued.
fn offset(token: &str) -> i64 {
    let claims = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    claims["iat"].as_i64().unwrap() - i64::try_from(now()).unwrap()
}

async fn key_ids(address: SocketAddr) -> HashSet<String> {
    let keys = get(address, "/.well-known/jwks.json", &[]).await.json();
    keys["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_stepped_by_an_hour_loses_nothing_and_lets_nobody_in() {
    let Some(clock) = Clock::new("fault-clock-of-all") else { return };
    let mut program = clock.start("clock", &[]);
    let address = program.address;
    let keys = key_ids(address).await;
    let crowd = Crowd::with_clock(address, true);
    let fault = async {
        for step in [HOUR, 0, -HOUR, 0] {
            clock.set(step);
            sleep(5 * SECOND / 2).await;
            assert_eq!(key_ids(address).await, keys, "{step}: no key takes its turn for that");
            if step == 0 {
                // Nothing that it knows is in its memory alone.
                program.kill();
                tokio::task::block_in_place(|| program.begin());
            }
        }
    };
    crowd.through(SECOND, fault, SECOND).await;
    let ledger = crowd.settle().await;
    let test = "a_clock_that_is_stepped_by_an_hour_loses_nothing_and_lets_nobody_in";
    ledger.told("the clock is set 1 h forward, right, 1 h back, right; two restarts", test);
    let count = |status| ledger.count(Phase::During, &[Asks::Token, Asks::User], status);
    let (good, refused) = (count(200), count(401));
    // Each client is refused once for each step, and again only where its token is of the time before the step before.
    assert!(refused > 0 && refused < 60 && good > 5 * refused, "{good} good, {refused} refused");
}

/// One client at one address.
struct One {
    address: SocketAddr,
    from: &'static str,
}

impl One {
    async fn send(&self, line: &str, token: Option<&str>, form: &str) -> Reply {
        let from = format!("x-forwarded-for: {}", self.from);
        let token = token.map(|token| format!("authorization: Bearer {token}"));
        let mut headers = vec![from.as_bytes()];
        headers.extend(token.iter().map(String::as_bytes));
        if !form.is_empty() {
            headers.push(b"content-type: application/x-www-form-urlencoded");
        }
        try_send(self.address, line, &headers, form.as_bytes(), 10 * SECOND).await.unwrap()
    }

    async fn guess(&self, name: &str, password: &str) -> Reply {
        let password = password.replace(' ', "+");
        self.send("POST /token", None, &format!("grant_type=password&username={name}&password={password}")).await
    }

    /// Access and refresh token of a new session.
    async fn sign_in(&self) -> (String, String) {
        let reply = self.guess("owner0", &crowd::own_password("owner0")).await;
        let json = reply.json();
        let text = |name: &str| json[name].as_str().unwrap_or_else(|| panic!("{json}")).to_owned();
        (text("access_token"), text("refresh_token"))
    }

    async fn revoke(&self, token: &str) {
        assert_eq!(self.send("POST /revoke", None, &format!("token={token}")).await.status, 200);
    }

    async fn opens(&self, token: &str) -> bool {
        self.send("GET /users/me", Some(token), "").await.status == 200
    }

    /// With each entry, a store clears away some that have run out.
    async fn others_sign_out(&self) {
        for _ in 0..4 {
            let (access, _) = self.sign_in().await;
            // A machine that is busy with other tests may say "try again", and have done it all the same.
            let mut tried = 0;
            loop {
                match self.send("POST /logout", Some(&access), "").await.status {
                    204 => break,
                    401 if tried > 0 => break,
                    503 if tried < 50 => tried += 1,
                    status => panic!("{status}, after {tried} times 503"),
                }
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Starts the program again, so that it knows what is in its store and no more.
fn again(program: &mut Program) {
    program.kill();
    tokio::task::block_in_place(|| program.begin());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_called_back_under_a_wrong_clock_stays_so() {
    let Some(clock) = Clock::new("fault-clock-of-revocations") else { return };
    let mut program = clock.start("clock-revocations", &[]);
    let one = One { address: program.address, from: "198.51.100.1" };
    let (kept, _) = one.sign_in().await;

    // Called back in time; then the clock is ahead for a while, and others sign out.
    let (early, _) = one.sign_in().await;
    let (signed_out, refresh) = one.sign_in().await;
    one.revoke(&early).await;
    one.revoke(&refresh).await;
    // Called back while the clock is ahead, where it has expired already.
    let (late, _) = one.sign_in().await;
    clock.set(HOUR);
    let (ahead, _) = one.sign_in().await;
    assert!((offset(&ahead) - HOUR).abs() < 10, "{}", offset(&ahead));
    assert!(!one.opens(&kept).await && one.opens(&ahead).await);
    one.revoke(&late).await;
    one.others_sign_out().await;
    clock.set(0);
    again(&mut program);
    assert!(one.opens(&kept).await, "it was never called back");
    let opened =
        [one.opens(&early).await, one.opens(&signed_out).await, one.opens(&late).await, one.opens(&ahead).await];
    assert_eq!(opened, [false; 4], "called back before, with its session, meanwhile; not of this time");

    // Called back while the clock is behind, where it was not issued yet.
    let (single, _) = one.sign_in().await;
    let (of_session, refresh) = one.sign_in().await;
    clock.set(-HOUR);
    one.revoke(&single).await;
    one.revoke(&refresh).await;
    clock.set(360);
    one.others_sign_out().await;
    again(&mut program);
    assert!(one.opens(&kept).await);
    assert_eq!([one.opens(&single).await, one.opens(&of_session).await], [false; 2], "alone, and with its session");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waits_after_failed_logins_stay_bounded_whatever_the_clock_does() {
    let Some(clock) = Clock::new("fault-clock-of-waits") else { return };
    let program = clock.start("clock-waits", &[("LOGIN_FAILURES", "5"), ("HASH_CONCURRENCY", "2")]);
    let wait = |reply: &Reply| reply.header("retry-after").map(|wait| wait.parse::<u64>().unwrap());
    // An account, from addresses without failures.
    let strangers = ["203.0.113.1", "203.0.113.2"].map(|from| One { address: program.address, from });
    for n in 0..8 {
        strangers[n % 2].guess("victim0", "a guess of eight").await;
    }
    let busy = One { address: program.address, from: "203.0.113.9" };
    for n in 0..40 {
        busy.guess(&format!("nobody{n}"), "a guess of forty").await;
    }
    for (step, locked) in [(0, true), (-HOUR, true), (0, true), (HOUR, false), (0, false), (-HOUR, false)] {
        clock.set(step);
        // Waits of a minute at the most for an address, and of a quarter of an hour for an account.
        let reply = strangers[0].guess("victim0", "another guess").await;
        assert!(reply.status == 400 || wait(&reply).is_some_and(|wait| wait <= 900), "{step}: {reply:?}");
        if locked && step == 0 {
            assert_eq!(reply.status, 429, "{step}: {reply:?}");
        }
        let reply = busy.guess("nobody", "another guess").await;
        assert!(reply.status == 400 || wait(&reply).is_some_and(|wait| wait <= 120), "{step}: {reply:?}");
        // Whoever was never wrong is let in at once.
        let owner = One { address: program.address, from: "203.0.113.77" };
        let (access, _) = owner.sign_in().await;
        assert!(owner.opens(&access).await, "{step}");
        sleep(Duration::from_millis(200)).await;
    }
    // Whoever signs out everywhere while the clock is ahead is out of all that there was, and in again once it has come so far.
    let owner = One { address: program.address, from: "203.0.113.78" };
    clock.set(HOUR);
    let (before, _) = owner.sign_in().await;
    assert_eq!(owner.send("DELETE /sessions", Some(&before), "").await.status, 204);
    clock.set(0);
    let (early, _) = owner.sign_in().await;
    assert!(!owner.opens(&before).await && !owner.opens(&early).await);
    clock.set(HOUR + 10);
    let (access, _) = owner.sign_in().await;
    assert!(owner.opens(&access).await && !owner.opens(&before).await);
}
