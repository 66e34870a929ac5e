//! A server on loopback, a client that sends exactly the bytes it is given, and tokens right and wrong.

use std::{
    fs,
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, SystemTime},
};

use axum::Router;
use portcullis::{
    ResourceServer,
    jwt::{Algorithm, ClaimsPolicy, KeySet, SigningKey, Verifier},
    rejection::Answers,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

pub const ISSUER: &str = "https://id.example";
pub const AUDIENCE: &str = "orders";

pub fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

/// Signs tokens, and makes the things that accept them.
pub struct Authority(pub SigningKey);

impl Authority {
    pub fn new(algorithm: Algorithm) -> Self {
        Self(SigningKey::generate(algorithm).unwrap())
    }

    /// A good token with these scopes.
    pub fn token(&self, scope: &str) -> String {
        self.token_with(|claims| claims["scope"] = scope.into())
    }

    /// A good token, changed.
    pub fn token_with(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": "user:7", "client_id": "app", "jti": "t-1",
            "iat": now(), "exp": now() + 600,
        });
        change(&mut claims);
        self.0.sign(&claims).unwrap()
    }

    pub fn keys(&self) -> KeySet {
        KeySet::new([self.0.verifying_key()]).unwrap()
    }

    pub fn verifier(&self) -> Verifier {
        Verifier::new(ClaimsPolicy::builder(ISSUER, AUDIENCE).build().unwrap(), self.keys())
    }

    pub fn api(&self) -> ResourceServer {
        ResourceServer::new(ClaimsPolicy::builder(ISSUER, AUDIENCE).build().unwrap(), self.keys())
    }
}

pub fn answers() -> Answers {
    Answers::for_realm("test").unwrap()
}

/// A server that stops when dropped.
pub struct Server {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub async fn serve(app: Router) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    Server { address, task }
}

/// An answer, as it came.
#[derive(Debug, PartialEq)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_str());
        let value = values.next();
        assert!(values.next().is_none(), "{name} comes twice");
        value
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// All of it but the date.
    pub fn without_date(mut self) -> Self {
        self.headers.retain(|(name, _)| name != "date");
        self
    }
}

/// Sends a request with these header lines and this body, and reads the answer to its end.
pub async fn send(address: SocketAddr, line: &str, headers: &[&[u8]], body: &[u8]) -> Reply {
    let exchange = exchange(address, request(line, headers, body));
    let reply = tokio::time::timeout(Duration::from_secs(30), exchange).await.expect("an answer in time").unwrap();
    parse(&reply).expect("an answer with a head")
}

/// As [`send`], where there may be no server: nothing unless a whole answer comes within `most`.
pub async fn try_send(
    address: SocketAddr,
    line: &str,
    headers: &[&[u8]],
    body: &[u8],
    most: Duration,
) -> Option<Reply> {
    let reply = tokio::time::timeout(most, exchange(address, request(line, headers, body))).await.ok()?.ok()?;
    let reply = parse(&reply)?;
    let length = reply.header("content-length").and_then(|length| length.parse().ok());
    length.is_none_or(|length: usize| length == reply.body.len()).then_some(reply)
}

fn request(line: &str, headers: &[&[u8]], body: &[u8]) -> Vec<u8> {
    let mut request = format!("{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n").into_bytes();
    if !body.is_empty() {
        request.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
    }
    for header in headers {
        request.extend_from_slice(header);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    request.extend_from_slice(body);
    request
}

async fn exchange(address: SocketAddr, request: Vec<u8>) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(&request).await?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).await?;
    Ok(reply)
}

fn parse(reply: &[u8]) -> Option<Reply> {
    let end = reply.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8(reply[..end].to_vec()).expect("a head in ASCII");
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let header = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_ascii_lowercase(), value.to_owned())
    };
    Some(Reply { status, headers: lines.map(header).collect(), body: reply[end + 4..].to_vec() })
}

/// `GET path` with these header lines.
pub async fn get(address: SocketAddr, path: &str, headers: &[&[u8]]) -> Reply {
    send(address, &format!("GET {path}"), headers, b"").await
}

/// `GET path` with this token.
pub async fn get_with(address: SocketAddr, path: &str, token: &str) -> Reply {
    get(address, path, &[format!("authorization: Bearer {token}").as_bytes()]).await
}

/// `POST /token` with this form.
pub async fn post_token(address: SocketAddr, form: &str) -> Reply {
    post(address, "/token", form).await
}

/// Posts a form.
pub async fn post(address: SocketAddr, path: &str, form: &str) -> Reply {
    let form_type = b"content-type: application/x-www-form-urlencoded";
    send(address, &format!("POST {path}"), &[form_type], form.as_bytes()).await
}

/// The program of an example. `cargo test` and `cargo nextest run` build the examples beside the tests; `cargo test --test it` does
/// not.
pub fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("examples").join(name);
    let changed = |path: &Path| fs::metadata(path).and_then(|file| file.modified());
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let (mut files, mut folders) = (vec![source.join(name).with_extension("rs")], vec![source.join(name)]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    // Of what is beside the programs, none is made.
    files.retain(|file| !["json", "py", "svg", "yml"].iter().any(|beside| file.extension() == Some(beside.as_ref())));
    let newest = files.iter().filter_map(|file| changed(file).ok()).max().unwrap();
    let fresh = changed(&program).is_ok_and(|built| built >= newest);
    assert!(fresh, "{name} is older than its source: run `cargo build --examples`");
    program
}

/// Everything that is logged, at the finest level.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Collects what this thread logs until the guard is dropped.
    pub fn capture(&self) -> tracing::subscriber::DefaultGuard {
        // With a single dispatcher, `tracing` asks the one of the thread that comes first to a place in the code whether
        // anybody listens there, and that thread may have none.
        static OTHERS: OnceLock<[tracing::Dispatch; 2]> = OnceLock::new();
        let other = || tracing::Dispatch::new(tracing_subscriber::fmt().with_writer(std::io::sink).finish());
        OTHERS.get_or_init(|| [other(), other()]);
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(move || log.clone())
            .finish();
        tracing::subscriber::set_default(subscriber)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
