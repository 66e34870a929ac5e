//! `auth_server` in the hands of whoever runs it: logs that nobody reads, signals at any time, clients that take nothing.
#![cfg(target_os = "linux")]

use std::{
    io::{BufRead as _, BufReader, ErrorKind, PipeReader, PipeWriter, Read as _, Write as _, pipe},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use crate::{
    programs::{command, signal, start},
    stores::Folder,
    support::{get, post_token},
};

/// Ends it as systems do. Whether it ended well, and within what time.
fn end(mut child: Child) -> (bool, Duration) {
    let begun = Instant::now();
    signal(&child, "-TERM");
    while begun.elapsed() < Duration::from_secs(60) {
        if let Some(status) = child.try_wait().unwrap() {
            return (status.success(), begun.elapsed());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    panic!("it runs");
}

/// A pipe that nobody empties, and that nothing fits into any more.
fn full() -> (PipeReader, PipeWriter) {
    let ((reader, writer), written) = (pipe().unwrap(), Arc::new(AtomicUsize::new(0)));
    let (mut filler, count) = (writer.try_clone().unwrap(), Arc::clone(&written));
    // It stands still until the reader is gone.
    std::thread::spawn(move || {
        while filler.write_all(&[b'-'; 512]).is_ok() {
            count.fetch_add(1, SeqCst);
        }
    });
    let mut before = 0;
    loop {
        std::thread::sleep(Duration::from_millis(200));
        match written.swap(0, SeqCst) {
            0 if before > 0 => return (reader, writer),
            more => before += more,
        }
    }
}

#[tokio::test]
async fn a_log_that_nobody_reads_holds_up_neither_requests_nor_the_end() {
    let (folder, (reader, writer)) = (Folder::new("operators-log"), full());
    let mut child = command("auth_server", &folder, &[]).stderr(Stdio::from(writer)).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address: SocketAddr = line.trim().split_once("http://").unwrap().1.parse().unwrap();
    for _ in 0..200 {
        assert_eq!(get(address, "/users/me", &[]).await.status, 401);
        assert_eq!(post_token(address, "grant_type=none").await.status, 400);
    }
    let (success, took) = end(child);
    assert!(success && took < Duration::from_secs(10), "{took:?}");
    drop(reader);
}

#[tokio::test]
async fn whoever_started_it_may_not_want_to_hear_where_it_listens() {
    let (folder, (reader, writer)) = (Folder::new("operators-stdout"), pipe().unwrap());
    drop(reader);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = format!("127.0.0.1:{port}");
    let variables = [("LISTEN", listen.as_str()), ("METRICS_LISTEN", "127.0.0.1:0"), ("AUDIT", "jsonl:a.jsonl")];
    let child = command("auth_server", &folder, &variables).stdout(writer).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    // It listens before it is ready.
    while TcpStream::connect(&listen).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(get(listen.parse().unwrap(), "/health", &[]).await.status, 200);
    assert!(end(child).0);
    assert!(std::fs::read_to_string(folder.file("a.jsonl")).unwrap().contains("configuration_loaded"));
}

/// As the first process of a container it would not be ended by a signal that it does not listen for.
#[test]
fn an_end_while_it_starts_is_a_good_one_and_loses_no_event() {
    let folder = Folder::new("operators-start");
    let user = |n: usize| format!(r#"{{"username":"user{n}","password":"a long enough one","scopes":[]}}"#);
    let users = format!("[{}]", (0..400).map(user).collect::<Vec<_>>().join(","));
    let secret = "7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26";
    let variables = [("STORE", "sqlite:a.db"), ("USERS", &users), ("KEY_SECRET", secret), ("AUDIT", "jsonl:a.jsonl")];
    let mut child = command("auth_server", &folder, &variables).spawn().unwrap();
    // Keys are told of before users are added.
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(log.any(|line| line.unwrap().contains("keys_fetched")));
    let mut stdout = child.stdout.take().unwrap();
    let (success, took) = end(child);
    assert!(success && took < Duration::from_secs(10), "{took:?}");
    let mut printed = String::new();
    stdout.read_to_string(&mut printed).unwrap();
    assert_eq!(printed, "", "it was not ready yet");
    assert!(std::fs::read_to_string(folder.file("a.jsonl")).unwrap().contains("keys_fetched"));
}

#[test]
fn what_is_sent_as_it_is_told_to_end_is_answered() {
    let folder = Folder::new("operators-sent");
    for _ in 0..3 {
        let program = start("auth_server", &folder, &[]);
        let connect = |_| TcpStream::connect(program.address).unwrap();
        let mut clients: Vec<_> = (0..20).map(connect).collect();
        let ended = std::thread::spawn(move || program.terminate());
        for client in &mut clients {
            client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            client.write_all(b"GET /health HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
            std::thread::sleep(Duration::from_millis(3));
        }
        for client in &mut clients {
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
        }
        assert!(ended.join().unwrap().0);
    }
}

#[test]
fn who_asks_twice_does_not_wait_for_what_is_under_way() {
    let folder = Folder::new("operators-twice");
    let mut program = start("auth_server", &folder, &[]);
    let mut slow = TcpStream::connect(program.address).unwrap();
    // A body that does not come is waited for ten seconds.
    slow.write_all(b"POST /token HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: 9\r\n\r\na")
        .unwrap();
    std::thread::sleep(Duration::from_millis(300));
    program.signal("-TERM");
    std::thread::sleep(Duration::from_secs(1));
    let begun = Instant::now();
    assert!(program.is_running());
    assert!(program.terminate().0);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn who_takes_nothing_of_an_answer_is_cut_off() {
    let folder = Folder::new("operators-greedy");
    let program = start("auth_server", &folder, &[]);
    let mut greedy = TcpStream::connect(program.address).unwrap();
    greedy.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let (begun, ask) = (Instant::now(), b"GET /docs/openapi.json HTTP/1.1\r\nhost: a\r\n\r\n".repeat(1000));
    let error = loop {
        match greedy.write(&ask) {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => break error,
        }
        assert!(begun.elapsed() < Duration::from_secs(90), "its place is never free");
    };
    assert!(begun.elapsed() > Duration::from_secs(20), "{error}: who is slow is not cut off at once");
    assert!(program.terminate().0);
}

#[tokio::test]
async fn heads_that_do_not_end_take_little_memory() {
    let folder = Folder::new("operators-heads");
    let program = start("auth_server", &folder, &[]);
    let mut client = TcpStream::connect(program.address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut head = b"GET /health HTTP/1.1\r\nhost: a\r\n".to_vec();
    for n in 0..40 {
        head.extend(format!("x-{n}: {}\r\n", "a".repeat(1000)).bytes());
    }
    // It may hang up before it has all.
    let _ = client.write_all(&head);
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer);
    assert!(answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(get(program.address, "/health", &[]).await.status, 200);
}
