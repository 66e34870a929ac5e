//! Lines of JSON: through rotation, full disks and hung ones, and whatever clients send.

use std::{
    collections::HashSet,
    fs,
    io::{self, Write},
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, mpsc},
    time::Duration,
};

use axum::Router;
use http::Request;
use portcullis::{
    AuthorizationServer,
    audit::{AuditLayer, AuditSink as _, AuditTrail, Event, JsonLines, SinkError},
    jwt::{Algorithm, SigningKey},
    testing::EventLog,
};
use serde_json::Value;
use tower::Service as _;

use crate::{
    audit::refusing,
    login::{form, hasher, users},
    stores::Folder,
    support::{get, post_token, send, serve},
};

/// So many events, of so many requests.
async fn events(count: usize) -> Vec<Arc<Event>> {
    let log = EventLog::new();
    let trail = AuditTrail::builder().sink(log.clone()).queue(1 << 20).start().unwrap();
    let mut stack = refusing(&trail);
    for n in 0..count {
        stack.call(Request::get(format!("/{n}")).body(()).unwrap()).await.unwrap();
    }
    log.events(&trail).await
}

fn ids(events: &[Arc<Event>]) -> Vec<String> {
    events.iter().map(|event| event.id.to_string()).collect()
}

/// A line as strict readers want it: one object, no member twice, nothing around it.
fn parsed(line: &str) -> Value {
    let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
    assert!(value.is_object() && value.to_string().len() == line.len(), "{line}");
    value
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "the last line has its end");
    text.lines().map(parsed).collect()
}

fn ids_of(lines: &[Value]) -> Vec<String> {
    lines.iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn lines_go_on_in_a_new_file_where_the_old_one_was_moved_emptied_or_lost() {
    let folder = Folder::new("lines-rotated");
    let (path, moved) = (folder.file("log/audit.jsonl"), folder.file("log/audit.jsonl.1"));
    fs::create_dir(folder.file("log")).unwrap();
    let sink = JsonLines::append(&path).unwrap();
    let all = events(50).await;
    let batches: Vec<_> = all.chunks(10).collect();
    sink.write(batches[0]).await.unwrap();
    // As logrotate does.
    fs::rename(&path, &moved).unwrap();
    for _ in 0..2 {
        // The second time as for a caller who did not wait for the first.
        sink.write(batches[1]).await.unwrap();
        assert_eq!((ids_of(&lines(&moved)), ids_of(&lines(&path))), (ids(batches[0]), ids(batches[1])));
    }
    // As `copytruncate` does.
    fs::copy(&path, &moved).unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    sink.write(batches[2]).await.unwrap();
    assert_eq!(ids_of(&lines(&path)), ids(batches[2]), "from the start, without a hole");
    // The folder is gone, and comes back.
    fs::rename(folder.file("log"), folder.file("gone")).unwrap();
    for _ in 0..2 {
        let error = sink.write(batches[3]).await.unwrap_err();
        assert!(matches!(error, SinkError::Unavailable(_)), "{error}");
    }
    fs::create_dir(folder.file("log")).unwrap();
    sink.write(batches[3]).await.unwrap();
    assert_eq!(ids_of(&lines(&path)), ids(batches[3]));
    drop(sink);
    // Whoever wrote before may have died in the middle of a line.
    fs::write(&path, b"{\"id\":\"cut o").unwrap();
    let sink = JsonLines::append(&path).unwrap();
    sink.write(batches[4]).await.unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let (first, rest) = text.split_once('\n').unwrap();
    assert_eq!(first, "{\"id\":\"cut o");
    assert_eq!(ids_of(&rest.lines().map(parsed).collect::<Vec<_>>()), ids(batches[4]));
}

#[cfg(unix)]
#[tokio::test]
async fn a_new_file_is_private_and_what_is_there_keeps_its_mode() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let folder = Folder::new("lines-mode");
    let mode = |name: &str| fs::metadata(folder.file(name)).unwrap().permissions().mode() & 0o777;
    let log = crate::support::Log::default();
    let _guard = log.capture();
    let private = JsonLines::append(folder.file("new")).unwrap();
    assert_eq!((mode("new"), log.text()), (0o600, String::new()));
    fs::remove_file(folder.file("new")).unwrap();
    private.write(&events(1).await).await.unwrap();
    assert_eq!(mode("new"), 0o600, "the next one, too");
    fs::write(folder.file("shared"), "").unwrap();
    for (bits, is_told) in [(0o640, false), (0o660, true), (0o644, true)] {
        let log = crate::support::Log::default();
        let _guard = log.capture();
        fs::set_permissions(folder.file("shared"), fs::Permissions::from_mode(bits)).unwrap();
        JsonLines::append(folder.file("shared")).unwrap();
        assert_eq!((mode("shared"), log.text().contains("audit file")), (bits, is_told), "{bits:o}");
    }
    symlink(folder.file("target"), folder.file("link")).unwrap();
    let link = JsonLines::append(folder.file("link")).unwrap();
    link.write(&events(1).await).await.unwrap();
    assert_eq!((lines(&folder.file("target")).len(), mode("target")), (1, 0o600));
    for bad in ["no/such/folder/a", "."] {
        assert!(JsonLines::append(folder.file(bad)).is_err(), "{bad}");
    }
}

/// Takes so many bytes, then says that the disk is full.
#[derive(Clone, Default)]
struct Disk(Arc<Mutex<(Vec<u8>, usize)>>);

impl Disk {
    fn state(&self) -> MutexGuard<'_, (Vec<u8>, usize)> {
        self.0.lock().unwrap()
    }
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (written, room) = &mut *self.state();
        let fits = bytes.len().min(*room).min(700);
        if fits == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        written.extend_from_slice(&bytes[..fits]);
        *room -= fits;
        Ok(fits)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whole lines, and how many were cut off; whatever was cut off is no JSON.
fn whole(text: &str) -> (Vec<String>, usize) {
    let (mut found, mut cut) = (Vec::new(), 0);
    for line in text.lines() {
        match serde_json::from_str::<Value>(line) {
            Ok(_) => found.push(parsed(line)),
            Err(_) => cut += 1,
        }
    }
    (ids_of(&found), cut)
}

#[tokio::test]
async fn a_write_that_stops_half_way_joins_no_two_lines_and_doubles_none() {
    let all = events(12).await;
    let length: usize = all.iter().map(|event| serde_json::to_string(event).unwrap().len() + 1).sum();
    // At each place: within a line, at its end, before any.
    for room in 0..=length {
        let disk = Disk::default();
        disk.state().1 = room;
        let sink = JsonLines::to(disk.clone()).unwrap();
        let first = sink.write(&all[..8]).await;
        if let Err(error) = first {
            assert!(matches!(error, SinkError::Unavailable(_)), "{error}");
            assert!(sink.write(&all[..8]).await.is_err(), "no room yet");
            // Three bytes may be what lacked, and are little otherwise.
            disk.state().1 = 3;
            if sink.write(&all[..8]).await.is_err() {
                disk.state().1 = usize::MAX;
                sink.write(&all[..8]).await.unwrap();
            }
        }
        disk.state().1 = usize::MAX;
        sink.write(&all[8..]).await.unwrap();
        let text = String::from_utf8(disk.state().0.clone()).unwrap();
        let (found, cut) = whole(&text);
        assert_eq!(found, ids(&all), "room for {room}: each once, in order");
        assert!(cut <= 2, "{text}");
    }
}

const LIMITED: &str = "PORTCULLIS_TEST_LIMITED_FILE";

/// Not a test: what the process does whose files must not grow beyond a limit.
#[tokio::test]
async fn a_process_whose_files_are_limited() {
    let Ok(path) = std::env::var(LIMITED) else { return };
    let all = events(100).await;
    let sink = JsonLines::append(&path).unwrap();
    let error = sink.write(&all).await.unwrap_err();
    assert!(matches!(error, SinkError::Unavailable(_)), "{error}");
    // Somebody makes room.
    fs::rename(&path, format!("{path}.1")).unwrap();
    for batch in all.chunks(10) {
        // What is there already of the first hundred is not known to be so by another batch.
        while sink.write(batch).await.is_err() {
            fs::rename(&path, format!("{path}.{}", ids(batch)[0])).unwrap();
        }
    }
    fs::write(format!("{path}-ids"), ids(&all).join("\n")).unwrap();
}

/// A real file, and a system that stops in the middle of a `write`.
#[cfg(unix)]
#[test]
fn a_file_that_may_not_grow_loses_no_event() {
    let folder = Folder::new("lines-limited");
    let path = folder.file("a.jsonl");
    let script = "trap '' XFSZ; ulimit -f 16; exec \"$@\"";
    let own = std::env::current_exe().unwrap();
    let process = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(own)
        .args(["--exact", "audit_lines::a_process_whose_files_are_limited"])
        .env(LIMITED, &path)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(process.status.success(), "{}", String::from_utf8_lossy(&process.stdout));
    let (mut seen, mut cut, mut files) = (HashSet::new(), 0, 0);
    for entry in fs::read_dir(folder.file(".")).unwrap() {
        let name = entry.unwrap().path();
        if name.to_string_lossy().ends_with("-ids") {
            continue;
        }
        let text = fs::read_to_string(&name).unwrap();
        assert!(text.len() <= 16 * 512, "the limit is one");
        let (found, more) = whole(&text);
        seen.extend(found);
        (cut, files) = (cut + more, files + 1);
    }
    let expected: HashSet<_> =
        fs::read_to_string(folder.file("a.jsonl-ids")).unwrap().lines().map(str::to_owned).collect();
    assert_eq!((expected.len(), &seen), (100, &expected));
    assert!((1..=files).contains(&cut) && files > 1, "{cut} cut off in {files} files");
}

/// Hangs until it is told to go on.
struct Hung(mpsc::Receiver<()>, Disk);

impl Write for Hung {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        self.1.write_all(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_takes_one_thread_and_what_it_took_comes_once() {
    let ((go, wait), disk) = (mpsc::channel(), Disk::default());
    disk.state().1 = usize::MAX;
    let sink = JsonLines::to(Hung(wait, disk.clone())).unwrap();
    let trail = AuditTrail::builder().sink(sink).start().unwrap();
    let mut stack = refusing(&trail);
    for n in 0..20 {
        stack.call(Request::get(format!("/{n}")).body(()).unwrap()).await.unwrap();
    }
    let threads = || fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    let before = threads();
    // Ten minutes, in which it is handed over again and again.
    assert!(!trail.flush(Duration::from_secs(600)).await);
    assert!(threads() <= before + 8, "other tests have threads as well, but not as many as it was handed over");
    drop(go);
    tokio::time::resume();
    assert!(trail.flush(Duration::from_secs(30)).await);
    let text = String::from_utf8(disk.state().0.clone()).unwrap();
    let paths: Vec<_> = text.lines().map(|line| parsed(line)["path"].as_str().unwrap().to_owned()).collect();
    assert_eq!(paths, (0..20).map(|n| format!("/{n}")).collect::<Vec<_>>());
}

/// Panics at the second batch.
struct Panics(usize, Disk);

impl Write for Panics {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += 1;
        assert_ne!(self.0, 2, "a writer of somebody's own");
        self.1.write_all(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_writer_that_panics_loses_what_it_was_given_and_not_what_comes_after() {
    let disk = Disk::default();
    disk.state().1 = usize::MAX;
    let trail = AuditTrail::builder().sink(JsonLines::to(Panics(0, disk.clone())).unwrap()).start().unwrap();
    let mut stack = refusing(&trail);
    for n in 0..3 {
        stack.call(Request::get(format!("/{n}")).body(()).unwrap()).await.unwrap();
        assert!(trail.flush(Duration::from_secs(10)).await);
    }
    let text = String::from_utf8(disk.state().0.clone()).unwrap();
    let told: Vec<_> = text.lines().filter(|line| !line.is_empty()).map(parsed).collect();
    let paths: Vec<_> = told.iter().filter_map(|line| line["path"].as_str()).collect();
    assert_eq!(paths, ["/0", "/2"], "{text}");
    let lost: Vec<_> = told.iter().filter(|line| line["kind"] == "events_dropped").map(|line| &line["count"]).collect();
    assert_eq!((lost.len(), trail.dropped().next().unwrap().1), (1, 1), "{text}");
}

#[tokio::test]
async fn req_191_req_192_what_clients_send_begins_no_line_and_no_secret_is_in_one() {
    let folder = Folder::new("lines-injected");
    let path = folder.file("audit.jsonl");
    let trail = AuditTrail::builder().sink(JsonLines::append(&path).unwrap()).admitted_one_in(1).start().unwrap();
    let key = SigningKey::generate(Algorithm::EdDsa).unwrap();
    let server = AuthorizationServer::builder("https://id.example", "orders", key)
        .first_party_login(users().await, hasher())
        .build()
        .unwrap();
    let api = server.resource_server();
    let me = Router::new().fallback(|| async { "me" }).layer(api.authenticate());
    let app = me.merge(server.routes()).layer(AuditLayer::new(trail.clone()));
    let server = serve(app).await;
    let forged = "x\",\"kind\":\"login_succeeded\"}\r\n{\"kind\":\"login_succeeded\",\"subject\":\"user:1\"}\n";
    let encoded = percent_encoding::utf8_percent_encode(forged, percent_encoding::NON_ALPHANUMERIC).to_string();
    let mut sent = 0;
    for line in [
        format!("GET /{encoded}"),
        "GET /\u{1b}[2J\"\\".to_owned(),
        "GET /\u{85}a\u{2028}b\u{2029}c\u{202e}d\u{2066}e".to_owned(),
        format!("GET /?{encoded}"),
    ] {
        let reply = send(server.address, &line, &[b"authorization: Bearer secret-one"], b"").await;
        sent += usize::from(reply.status == 401);
    }
    for header in [
        "x-request-id: a\"}{\"kind\":\"login_succeeded\"",
        "x-request-id: a\tb",
        "authorization: Bearer a\"}{\"kind\"",
        "authorization: Basic c2VjcmV0LXR3bw==",
        "user-agent: \"}\\n{\"",
    ] {
        assert_eq!(get(server.address, "/me", &[header.as_bytes()]).await.status / 100, 4, "{header}");
        sent += 1;
    }
    for form in [
        form(forged, "secret-three", ""),
        form("alice", forged, ""),
        form("alice\0\n", "secret-four", ""),
        form("alice", "secret-five", &format!("&client_id={encoded}")),
        form("alice", "secret-six", &format!("&scope={encoded}")),
    ] {
        assert_eq!(post_token(server.address, &form).await.status / 100, 4);
        sent += 1;
    }
    assert_eq!(sent, 13, "one path is none of HTTP's");
    assert!(trail.flush(Duration::from_secs(10)).await);
    let text = fs::read_to_string(&path).unwrap();
    let told: Vec<Value> = text.lines().map(parsed).collect();
    assert_eq!(told.len(), sent, "{text}");
    let moves = |c: char| c.is_control() || "\u{2028}\u{2029}\u{202e}\u{2066}".contains(c);
    let control = |text: &str| text.chars().any(moves);
    for event in &told {
        assert_ne!(event["kind"], "login_succeeded", "{event}");
        for (name, value) in event.as_object().unwrap() {
            assert!(!value.as_str().is_some_and(|text| control(text) || text.len() > 260), "{name}: {value}");
        }
        for field in ["id", "time", "kind", "reason", "request_id", "method", "path", "client_ip"] {
            assert!(event[field].is_string(), "{field}: {event}");
        }
    }
    for secret in ["secret", "c2VjcmV0", "Bearer"] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
}
