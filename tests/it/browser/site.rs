//! The example program, whoever asks it without a browser, and sites of this process.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use axum::{Router, http::Uri, response::Html, serve::ListenerExt as _};
use reqwest::{Certificate, Client, Method};
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinHandle};

use super::tls::Tls;
use crate::stores::Folder;

pub const PASSWORD: &str = "a lantern in the harbour";

/// The example, stopped by its own handle when dropped.
pub struct Program {
    child: Child,
    pub app: String,
    pub api: String,
    log: Arc<Mutex<String>>,
    client: Client,
    _folder: Folder,
}

impl Program {
    pub fn start(name: &str, access_ttl: &str) -> Self {
        let folder = Folder::new(&format!("spa-{name}"));
        let certificate = folder.file("spa.pem");
        let mut child = Command::new(example())
            .env_clear()
            .current_dir(folder.file("."))
            .envs([("APP_LISTEN", "127.0.0.1:0"), ("API_LISTEN", "127.0.0.1:0")])
            .envs([
                ("APP_ORIGIN", "https://app.portcullis.example:0"),
                ("API_ORIGIN", "https://api.portcullis.example:0"),
            ])
            .envs([("PASSWORD", PASSWORD), ("ACCESS_TTL", access_ttl)])
            .env("CERT_OUT", &certificate)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (to, stderr) = (Arc::clone(&log), child.stderr.take().unwrap());
        std::thread::spawn(move || {
            BufReader::new(stderr).lines().map_while(Result::ok).for_each(|line| *to.lock().unwrap() += &(line + "\n"));
        });
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut address = |name: &str| {
            let found = lines.find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()));
            found.unwrap_or_else(|| panic!("spa ended: {}", log.lock().unwrap()))
        };
        let (api, app) = (address("API "), address("page "));
        let _ = address("SHA-256 ");
        std::thread::spawn(move || lines.for_each(drop));
        // As a client does that trusts this certificate alone.
        let certificate = Certificate::from_pem(&fs::read(certificate).unwrap()).unwrap();
        let client = Client::builder().no_proxy().tls_certs_only([certificate]);
        let here = SocketAddr::from(([127, 0, 0, 1], 0));
        let client = ["app", "api"]
            .iter()
            .fold(client, |client, name| client.resolve(&format!("{name}.portcullis.example"), here));
        Self { child, app, api, log, client: client.build().unwrap(), _folder: folder }
    }

    /// Asks the API as a program does that is no browser.
    pub async fn ask(&self, method: Method, path: &str, token: &str) -> (u16, Value) {
        let request = self.client.request(method, format!("{}{path}", self.api)).bearer_auth(token);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
    }

    /// Headers of the answer to `GET`.
    pub async fn headers(&self, url: &str) -> reqwest::header::HeaderMap {
        self.client.get(url).send().await.unwrap().headers().clone()
    }

    /// An access token of a session of its own, for somebody who watches.
    pub async fn watcher(&self) -> String {
        let form = format!("grant_type=password&username=demo&password={}", PASSWORD.replace(' ', "+"));
        let request = self.client.post(format!("{}/token", self.api)).body(form);
        let answer = request.header("content-type", "application/x-www-form-urlencoded").send().await.unwrap();
        let answer: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        answer["access_token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    /// All sessions of the user, with the times of their last use, and whose token sees them as the current one.
    pub async fn sessions(&self, token: &str) -> Value {
        let (status, mut body) = self.ask(Method::GET, "/sessions", token).await;
        assert_eq!(status, 200, "{body}");
        body["sessions"].take()
    }

    /// How often the log has said this.
    pub fn logged(&self, text: &str) -> usize {
        self.log.lock().unwrap().matches(text).count()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `cargo test` builds the examples beside the tests; `cargo test --test it` does not.
fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("examples/spa");
    let changed = |path: &Path| fs::metadata(path).and_then(|file| file.modified());
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/spa");
    let files = [source.clone(), source.join("page")].into_iter().flat_map(|folder| fs::read_dir(folder).unwrap());
    let newest = files.map(|file| changed(&file.unwrap().path()).unwrap()).max().unwrap();
    let fresh = changed(&program).is_ok_and(|built| built >= newest);
    assert!(fresh, "spa is older than its source: run `cargo build --examples`");
    program
}

/// A web site of this process. Stops when dropped.
pub struct Site {
    pub origin: String,
    task: JoinHandle<()>,
}

impl Site {
    /// What `make` makes of the site's own origin.
    pub async fn serve(host: &str, make: impl FnOnce(&str) -> Router) -> Self {
        let tls = Tls::for_hosts(vec![host.to_owned()]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("https://{host}:{}", listener.local_addr().unwrap().port());
        let router = make(&origin).into_make_service_with_connect_info::<SocketAddr>();
        // axum tells the peer's address of its own listeners alone.
        let listener = tls.listen(listener).tap_io(|_| {});
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { origin, task }
    }

    /// An empty page at `/`, and at `/form/{n}` one that posts the n-th form as soon as it is there.
    pub async fn of_pages(host: &str, forms: Vec<String>) -> Self {
        let page = move |uri: Uri| async move {
            let form = uri.path().strip_prefix("/form/").and_then(|n| forms.get(n.parse::<usize>().ok()?));
            let post = form.map(|form| format!("{form}<script>document.forms[0].submit()</script>"));
            Html(format!("<!doctype html><title>A page</title><body>{}</body>", post.unwrap_or_default()))
        };
        Self::serve(host, |_| Router::new().fallback(page)).await
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.task.abort();
    }
}
