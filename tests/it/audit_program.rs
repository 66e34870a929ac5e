//! `auth_server` and its sinks: the same events everywhere, and none is lost when it is asked to end.
#![expect(clippy::print_stdout, reason = "figures, for whoever runs them")]

use std::{
    collections::HashSet,
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::task::JoinSet;

use crate::{
    login::form,
    programs::{USERS, start, token},
    stores::Folder,
    support::{get, get_with, post_token},
};

/// What lines of JSON say.
fn events<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<Value> {
    lines.into_iter().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

fn file(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    events(text.lines())
}

/// The rows of the table, as the guide says that they are asked for.
fn table(path: &Path, columns: &str) -> Vec<String> {
    let db = rusqlite::Connection::open(path).unwrap();
    let list = format!("SELECT {columns} FROM audit ORDER BY time_ms, id");
    let mut list = db.prepare(&list).unwrap();
    let rows = list.query_map([], |row| row.get::<_, String>(0)).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

fn texts(events: &[Value], field: &str) -> Vec<String> {
    events.iter().map(|event| event[field].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn req_191_req_194_auth_server_tells_the_same_to_each_sink_and_the_five_kinds_apart() {
    let folder = Folder::new("audit-sinks");
    let (lines, database) = (folder.file("audit.jsonl"), folder.file("a.db"));
    let store = format!("sqlite:{}", database.display());
    let audit = format!("store, jsonl:{}, stdout", lines.display());
    let variables = [("STORE", store.as_str()), ("USERS", USERS), ("AUDIT", &audit), ("AUDIT_ADMITTED", "1")];
    let proxies = [("TRUSTED_PROXIES", "127.0.0.1")];
    let program = start("auth_server", &folder, &[&variables[..], &proxies].concat());
    let alice = token(&program, "alice", "a+long+enough+one").await;
    let bob = token(&program, "bob", "another+long+one").await;
    assert_eq!(post_token(program.address, &form("alice", "wrong", "")).await.status, 400);
    assert_eq!(get(program.address, "/users/me", &[]).await.status, 401);
    assert_eq!(get_with(program.address, "/users/me", "garbage").await.status, 401);
    assert_eq!(get_with(program.address, "/users/me", &bob).await.status, 403);
    let bearer = format!("authorization: Bearer {alice}");
    let last: [&[u8]; 3] = [bearer.as_bytes(), b"x-forwarded-for: 198.51.100.7", b"x-request-id: last"];
    assert_eq!(get(program.address, "/users/me", &last).await.status, 200);
    // Without a pause: what was told is still on its way.
    let (success, stdout, stderr) = program.terminate();
    assert!(success, "{stderr:?}");

    let written = file(&lines);
    let kinds = texts(&written, "kind");
    for expected in [
        "configuration_loaded",
        "login_succeeded",
        "login_failed",
        "credential_missing",
        "credential_invalid",
        "authorization_denied",
        "request_admitted",
    ] {
        let count = kinds.iter().filter(|kind| *kind == expected).count();
        assert!(count >= 1, "{expected}: {kinds:?}");
    }
    let last = written.iter().find(|event| event["request_id"] == "last").unwrap();
    assert_eq!((&last["kind"], &last["client_ip"]), (&"request_admitted".into(), &"198.51.100.7".into()));
    let printed = events(stdout.iter().map(String::as_str).filter(|line| line.starts_with('{')));
    assert_eq!(printed, written);
    let ids: HashSet<_> = texts(&written, "id").into_iter().collect();
    assert_eq!((table(&database, "id").into_iter().collect::<HashSet<_>>(), ids.len()), (ids.clone(), written.len()));
    let mut times = texts(&written, "time");
    times.sort();
    assert_eq!(table(&database, "time"), times, "readable, and the same");
}

/// Many ask while it is told to end; whoever got an answer is in the file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_by_sigterm_loses_no_event() {
    let folder = Folder::new("audit-sigterm");
    let (lines, database) = (folder.file("audit.jsonl"), folder.file("a.db"));
    let (store, audit) = (format!("sqlite:{}", database.display()), format!("jsonl:{},store", lines.display()));
    let program = start("auth_server", &folder, &[("STORE", &store), ("AUDIT", &audit)]);
    let (address, mut clients) = (program.address, JoinSet::new());
    for client in 0..8 {
        clients.spawn(async move {
            let mut answered = Vec::new();
            for n in 0.. {
                let id = format!("c{client}-{n}");
                let field = format!("x-request-id: {id}");
                // None is answered any more once it has ended.
                let Ok(reply) = tokio::spawn(async move { get(address, "/users/me", &[field.as_bytes()]).await }).await
                else {
                    break;
                };
                assert_eq!(reply.status, 401);
                answered.push(id);
            }
            answered
        });
    }
    tokio::time::sleep(Duration::from_millis(700)).await;
    let (success, _, stderr) = tokio::task::spawn_blocking(move || program.terminate()).await.unwrap();
    assert!(success && !stderr.iter().any(|line| line.contains("could not be written")), "{stderr:?}");
    let answered = clients.join_all().await.concat();
    let written: HashSet<_> = texts(&file(&lines), "request_id").into_iter().collect();
    let kept: HashSet<_> = table(&database, "coalesce(request_id, '')").into_iter().collect();
    println!("{} requests answered, {} told", answered.len(), written.len());
    assert!(answered.len() > 50, "{}", answered.len());
    for id in answered {
        assert!(written.contains(&id) && kept.contains(&id), "{id} was answered, and is not told");
    }
}

/// From the line on that says where it listens, for which those wait who start programs and end them. Several at once, so that they
/// are slow to get on after that line.
#[test]
fn an_end_right_after_the_start_loses_no_event() {
    let end = |n: usize| {
        let folder = Folder::new(&format!("audit-start-{n}"));
        let lines = folder.file("audit.jsonl");
        let program = start("auth_server", &folder, &[("AUDIT", &format!("jsonl:{}", lines.display()))]);
        let (success, _, stderr) = program.terminate();
        assert!(success, "{stderr:?}");
        assert!(texts(&file(&lines), "kind").contains(&"configuration_loaded".to_owned()));
    };
    std::thread::scope(|scope| (0..16).for_each(|n| drop(scope.spawn(move || end(n)))));
}

/// A client that asks and asks and takes no answer holds up the server's end for so long, and no longer; nothing told is lost by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_takes_no_answer_does_not_keep_auth_server_from_ending() {
    let folder = Folder::new("audit-greedy");
    let lines = folder.file("audit.jsonl");
    let program = start("auth_server", &folder, &[("AUDIT", &format!("jsonl:{}", lines.display()))]);
    let mut greedy = std::net::TcpStream::connect(program.address).unwrap();
    greedy.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let ask = b"GET /openapi.json HTTP/1.1\r\nhost: a\r\n\r\n".repeat(1000);
    // Until nothing fits any more, on either side.
    while greedy.write(&ask).is_ok() {}
    assert_eq!(get(program.address, "/users/me", &[b"x-request-id: last"]).await.status, 401);
    let begun = Instant::now();
    let (success, _, stderr) = tokio::task::spawn_blocking(move || program.terminate()).await.unwrap();
    assert!(success && begun.elapsed() < Duration::from_secs(40), "{:?} {stderr:?}", begun.elapsed());
    assert!(begun.elapsed() > Duration::from_secs(15), "it held nothing up: {:?}", begun.elapsed());
    assert!(texts(&file(&lines), "request_id").contains(&"last".to_owned()));
    drop(greedy);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_sink_that_is_down_keeps_auth_server_neither_from_serving_nor_from_ending() {
    let folder = Folder::new("audit-down");
    let program = start("auth_server", &folder, &[("AUDIT", "jsonl:/dev/full")]);
    assert_eq!(get(program.address, "/users/me", &[]).await.status, 401);
    let begun = Instant::now();
    let (success, _, stderr) = program.terminate();
    assert!(success && begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    let said = |words: &str| stderr.iter().any(|line| line.contains(words));
    assert!(
        said("outage_begun") && said("json_lines") && said("AUDIT: some events could not be written"),
        "{stderr:?}"
    );
}
