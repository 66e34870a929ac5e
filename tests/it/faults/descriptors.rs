//! Connections that take all files that the program may open, and connections that take their time.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{Asks, Crowd, Phase, SECOND, start};

const ALL: [Asks; 7] =
    [Asks::Token, Asks::User, Asks::Refresh, Asks::SignIn, Asks::SignOut, Asks::Register, Asks::Password];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn req_193_a_program_without_files_loses_nothing_lets_nobody_in_and_does_not_spin() {
    let mut program = start("files", &[("STORE", "sqlite:a.db")]);
    let crowd = Crowd::begin(program.address);
    let (address, mut used) = (program.address, Duration::ZERO);
    let mut most = 0;
    let fault = async {
        let limit = 64;
        program.limit_files(limit);
        let (begun, before) = (Instant::now(), program.processor_time());
        let mut idle = JoinSet::new();
        for _ in 0..200 {
            idle.spawn(async move {
                loop {
                    // Another one as soon as the program has ended it.
                    if let Ok(mut stream) = TcpStream::connect(address).await {
                        let _ = stream.read(&mut [0; 64]).await;
                    }
                    sleep(Duration::from_millis(20)).await;
                }
            });
        }
        while begun.elapsed() < 12 * SECOND {
            sleep(SECOND / 4).await;
            most = program.open_files().max(most);
        }
        idle.shutdown().await;
        used = program.processor_time().saturating_sub(before);
    };
    crowd.through(3 * SECOND / 2, fault, 2 * SECOND).await;
    assert!(program.is_running(), "{}", program.log());
    let ledger = crowd.settle().await;
    let test = "req_193_a_program_without_files_loses_nothing_lets_nobody_in_and_does_not_spin";
    ledger.told("no files left: 200 idle connections, 64 files, for 12 s", test);
    println!("{most} files open at most, {used:?} of processor time in 12 s");
    assert!(most >= 64, "{most} files");
    assert!(ledger.count(Phase::During, &ALL, 0) > 0, "some were kept out");
    assert!(used < 6 * SECOND, "{used:?}");
    // Those who were waiting in line when the attacker left are served first.
    assert!(ledger.recovery() < 3 * SECOND, "{:?}", ledger.recovery());
    assert!(program.open_files() < 40);
}

/// Ways to take one's time: what is sent at once, and what a byte at a time after it.
const SLOW: [(&str, &str, &str); 5] = [
    ("nothing at all", "", ""),
    (
        "a head by the byte",
        "",
        "POST /token HTTP/1.1\r\nhost: localhost\r\nx-padding: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ),
    ("half a body", "grant_type=password&user", ""),
    ("a body by the byte", "", "grant_type=password&username=owner0&password=guess+guess+guess+guess+guess"),
    ("no body", "", ""),
];

/// Opens one, and says how long it lasted and what it was answered.
async fn slow(address: SocketAddr, (way, first, rest): (&str, &str, &str)) -> (Duration, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let begun = Instant::now();
    let head = "POST /token HTTP/1.1\r\nhost: localhost\r\nx-forwarded-for: 10.200.0.1\r\ncontent-length: 4000\r\n\
        content-type: application/x-www-form-urlencoded\r\n\r\n";
    if way.contains("body") {
        stream.write_all(head.as_bytes()).await.unwrap();
    }
    stream.write_all(first.as_bytes()).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let dribble = async {
        for byte in rest.bytes() {
            sleep(Duration::from_millis(300)).await;
            if write.write_all(&[byte]).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let mut answer = Vec::new();
    tokio::select! {
        () = dribble => {}
        _ = read.read_to_end(&mut answer) => {}
    }
    let answer = String::from_utf8_lossy(&answer);
    (begun.elapsed(), answer.lines().next().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_requests_are_ended_and_nobody_else_notices() {
    const EACH: usize = 80;
    let mut program = start("slow", &[("STORE", "sqlite:a.db")]);
    let crowd = Crowd::begin(program.address);
    let (address, memory) = (program.address, program.memory());
    let mut grown = 0;
    let fault = async {
        let mut requests = JoinSet::new();
        for way in SLOW.iter().cycle().take(EACH * SLOW.len()) {
            requests.spawn(async move { (way.0, timeout(25 * SECOND, slow(address, *way)).await) });
            // The system has a line of 128 for those whom the program has not accepted yet; nobody is to stand in it.
            sleep(Duration::from_millis(3)).await;
        }
        sleep(5 * SECOND).await;
        grown = program.memory().saturating_sub(memory);
        while let Some(done) = requests.join_next().await {
            let (way, ended) = done.unwrap();
            let (lasted, answer) = ended.unwrap_or_else(|_| panic!("{way} was not ended"));
            assert!(lasted > 5 * SECOND && lasted < 20 * SECOND, "{way}: {lasted:?}");
            let expected = if way.contains("body") { "HTTP/1.1 400 Bad Request" } else { "" };
            assert_eq!(answer, expected, "{way}");
        }
    };
    crowd.through(3 * SECOND / 2, fault, SECOND).await;
    assert!(program.is_running());
    let ledger = crowd.settle().await;
    ledger.told(
        "400 slow requests at once: heads and bodies by the byte, halves, none",
        "slow_requests_are_ended_and_nobody_else_notices",
    );
    println!("{grown} KiB more memory");
    assert_eq!(ledger.count(Phase::During, &ALL, 0) + ledger.count(Phase::During, &ALL, 503), 0);
    assert!(ledger.slowest(Phase::During) < 5 * SECOND, "{:?}", ledger.slowest(Phase::During));
    assert!(grown < 60_000, "{grown} KiB");
    assert!(program.open_files() < 60);
}
