//! A Chromium without a window, driven over `WebDriver`.

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::stores::Folder;

/// Runs chromedriver until its own input ends, and then ends all that it has started: they are one group. Nothing is left over,
/// however this program ends.
const KEEPER: &str = r#"
    trap : TERM
    "$@" </dev/null 2>/dev/null &
    read -r end
    kill -TERM 0; sleep 1; kill -KILL 0
"#;
/// What a browser is given to show something.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Driver {
    keeper: Child,
    input: Option<ChildStdin>,
    http: reqwest::Client,
    /// Of the one session.
    url: String,
    profile: Folder,
}

impl Driver {
    /// A browser with an empty profile, if one is installed.
    pub async fn start(name: &str) -> Option<Self> {
        let (chromium, chromedriver) = (installed("chromium")?, installed("chromedriver")?);
        let profile = Folder::new(&format!("browser-{name}"));
        let mut command = Command::new("sh");
        command.args(["-c", KEEPER, "sh"]).arg(chromedriver).arg("--port=0").process_group(0);
        command.env("HOME", profile.file(".")).env("TMPDIR", profile.file("."));
        let mut keeper = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (input, output) = (keeper.stdin.take(), keeper.stdout.take().unwrap());
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build().unwrap();
        let mut driver = Self { keeper, input, http, url: String::new(), profile };
        let mut lines = BufReader::new(output).lines();
        let port = lines.find_map(|line| {
            let line = line.unwrap();
            Some(line.split("started successfully on port ").nth(1)?.trim_end_matches('.').to_owned())
        });
        std::thread::spawn(move || lines.for_each(drop));
        driver.url = format!("http://127.0.0.1:{}/session", port.expect("chromedriver's port"));

        let own = format!("--user-data-dir={}", driver.profile.file("profile").display());
        let names = "--host-resolver-rules=MAP *.portcullis.example 127.0.0.1, MAP evil.example 127.0.0.1";
        let quiet =
            ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
        let headless = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage"];
        let size = "--window-size=900,1150";
        let args = [&headless[..], &quiet[..], &[size, names, &own]].concat();
        // The certificates are made anew by each program.
        let wanted = json!({ "browserName": "chrome", "acceptInsecureCerts": true,
            "goog:chromeOptions": { "binary": chromium, "args": args } });
        let session = driver.post("", &json!({ "capabilities": { "alwaysMatch": wanted } })).await;
        let id = session.expect("a session")["sessionId"].as_str().unwrap().to_owned();
        driver.url = format!("{}/{id}", driver.url);
        Some(driver)
    }

    async fn command(&self, request: reqwest::RequestBuilder) -> Result<Value, String> {
        let answer = request.send().await.unwrap();
        let succeeded = answer.status().is_success();
        let mut body: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        let value = body["value"].take();
        if succeeded { Ok(value) } else { Err(format!("{}: {}", value["error"], value["message"])) }
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value, String> {
        self.command(self.http.post(format!("{}{path}", self.url)).body(body.to_string())).await
    }

    async fn get(&self, path: &str) -> Value {
        self.command(self.http.get(format!("{}{path}", self.url))).await.unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    pub async fn open(&self, url: &str) {
        self.post("/url", &json!({ "url": url })).await.unwrap_or_else(|e| panic!("{url}: {e}"));
    }

    /// Runs a script at the beginning of every page from now on.
    pub async fn before_pages(&self, script: &str) {
        let params = json!({ "source": script });
        let command = json!({ "cmd": "Page.addScriptToEvaluateOnNewDocument", "params": params });
        self.post("/goog/cdp/execute", &command).await.unwrap();
    }

    pub async fn reload(&self) {
        self.post("/refresh", &json!({})).await.unwrap();
    }

    /// Opens a tab beside the others, which go on, and goes there.
    pub async fn new_tab(&self) -> String {
        let tab = self.post("/window/new", &json!({ "type": "tab" })).await.unwrap();
        let tab = tab["handle"].as_str().unwrap().to_owned();
        self.switch_to(&tab).await;
        tab
    }

    pub async fn tab(&self) -> String {
        self.get("/window").await.as_str().unwrap().to_owned()
    }

    pub async fn switch_to(&self, tab: &str) {
        self.post("/window", &json!({ "handle": tab })).await.unwrap();
    }

    async fn find(&self, selector: &str) -> Result<String, String> {
        let found = self.post("/element", &json!({ "using": "css selector", "value": selector })).await?;
        // One member, with a name that the standard fixes.
        Ok(found.as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned())
    }

    /// Clicks what is or becomes visible.
    pub async fn click(&self, selector: &str) {
        self.visible(selector).await;
        let element = self.find(selector).await.unwrap();
        self.post(&format!("/element/{element}/click"), &json!({})).await.unwrap_or_else(|e| panic!("{selector}: {e}"));
    }

    pub async fn type_into(&self, selector: &str, text: &str) {
        let element = self.find(selector).await.unwrap();
        self.post(&format!("/element/{element}/clear"), &json!({})).await.unwrap();
        self.post(&format!("/element/{element}/value"), &json!({ "text": text })).await.unwrap();
    }

    /// Visible text.
    pub async fn text(&self, selector: &str) -> String {
        let element = self.find(selector).await.unwrap_or_else(|e| panic!("{selector}: {e}"));
        self.get(&format!("/element/{element}/text")).await.as_str().unwrap().to_owned()
    }

    /// The value of an expression in the page.
    pub async fn value(&self, expression: &str) -> Result<Value, String> {
        self.post("/execute/sync", &json!({ "script": format!("return {expression}"), "args": [] })).await
    }

    /// The value of an expression in a page within the page.
    pub async fn value_in_frame(&self, selector: &str, expression: &str) -> Value {
        let frame = self.find(selector).await.unwrap();
        // One member, with a name that the standard fixes.
        let frame = json!({ "element-6066-11e4-a52e-4f735466cecf": frame });
        self.post("/frame", &json!({ "id": frame })).await.unwrap();
        let value = self.value(expression).await.unwrap();
        self.post("/frame/parent", &json!({})).await.unwrap();
        value
    }

    /// What an async function of the page makes of its arguments, `$`.
    pub async fn run(&self, body: &str, arguments: &Value) -> Value {
        let script = format!(
            "const done = arguments[1];
             (async ($) => {{ {body} }})(arguments[0]).then(done, (error) => done({{ thrown: String(error) }}));"
        );
        self.post("/execute/async", &json!({ "script": script, "args": [arguments] })).await.unwrap()
    }

    /// Waits until an expression is true. A page that is on its way has none.
    pub async fn until(&self, expression: &str) {
        let deadline = Instant::now() + PATIENCE;
        let mut last = self.value(expression).await;
        while last != Ok(Value::Bool(true)) {
            assert!(
                Instant::now() < deadline,
                "{expression}: {last:?}\n{:?}",
                self.value("document.body.innerText").await
            );
            sleep(Duration::from_millis(50)).await;
            last = self.value(expression).await;
        }
    }

    pub async fn visible(&self, selector: &str) {
        self.until(&format!("document.querySelector({selector:?})?.checkVisibility() === true")).await;
    }

    /// The page's cookies, with those that scripts do not see.
    pub async fn cookies(&self) -> Vec<Value> {
        self.get("/cookie").await.as_array().unwrap().clone()
    }

    /// Ends the session, and the browser with it.
    pub async fn quit(self) {
        self.command(self.http.delete(&self.url)).await.unwrap();
    }

    /// Writes what is to be seen to `target/browser`.
    pub async fn screenshot(&self, name: &str) {
        let image = BASE64_STANDARD.decode(self.get("/screenshot").await.as_str().unwrap()).unwrap();
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("browser");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{name}.png")), image).unwrap();
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.keeper.wait();
    }
}

/// Where a program is.
fn installed(program: &str) -> Option<PathBuf> {
    let folders = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&folders).map(|folder| folder.join(program)).find(|path| path.is_file());
    if found.is_none() {
        let required = env::var("PORTCULLIS_TEST_BROWSER").is_ok_and(|value| value == "required");
        assert!(!required, "{program} is not installed");
        eprintln!("skipped: {program} is not installed");
    }
    found
}
