//! The examples, as a user starts them.

use std::{
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    thread::JoinHandle,
    time::Duration,
};

use crate::{
    stores::Folder,
    support::{example, get, get_with, post, post_token, send},
};

/// A program that is stopped, by its own handle, when dropped.
pub struct Program {
    child: Child,
    pub address: SocketAddr,
    /// What it printed up to and with the line that has the address.
    printed: String,
    /// What it prints after that, and on stderr.
    rest: Option<[JoinHandle<Vec<String>>; 2]>,
}

impl Program {
    /// Asks it to end, as systems do. Whether it ended well and soon, and the lines of its stdout and stderr.
    pub fn terminate(mut self) -> (bool, Vec<String>, Vec<String>) {
        self.signal("-TERM");
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        let success = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status.success(),
                None => assert!(std::time::Instant::now() < deadline, "it runs"),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let [stdout, stderr] = self.rest.take().unwrap().map(|lines| lines.join().unwrap());
        (success, [self.printed.lines().map(str::to_owned).collect(), stdout].concat(), stderr)
    }
}

impl Program {
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn signal(&self, which: &str) {
        signal(&self.child, which);
    }
}

/// By its own id, which is nobody else's until it was waited for.
pub fn signal(child: &Child, which: &str) {
    assert!(Command::new("kill").args([which, &child.id().to_string()]).status().unwrap().success());
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Exit code and stderr of a program that must end by itself, and soon.
fn ended(mut command: Command) -> (bool, String) {
    let child = command.spawn().unwrap();
    until_ended(child, &command)
}

fn until_ended(mut child: Child, command: &Command) -> (bool, String) {
    let stderr = child.stderr.take().unwrap();
    let text = std::thread::spawn(move || std::io::read_to_string(stderr).unwrap());
    for _ in 0..200 {
        if let Some(status) = child.try_wait().unwrap() {
            return (status.success(), text.join().unwrap());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    panic!("it runs: {command:?} {}", text.join().unwrap());
}

/// What a program printed that must end well, and soon.
fn said(mut command: Command) -> String {
    let mut child = command.spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let (success, stderr) = until_ended(child, &command);
    assert!(success, "{stderr}");
    std::io::read_to_string(&mut stdout).unwrap()
}

pub fn command(name: &str, folder: &Folder, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(example(name));
    let keep = ["PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH"];
    command.env_clear().envs(std::env::vars().filter(|(name, _)| keep.contains(&name.as_str())));
    command.current_dir(folder.file(".")).env("LISTEN", "127.0.0.1:0").envs(variables.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub fn start(name: &str, folder: &Folder, variables: &[(&str, &str)]) -> Program {
    let mut child = command(name, folder, variables).spawn().unwrap();
    let mut printed = String::new();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = loop {
        let Some(line) = lines.next() else {
            let mut stderr = String::new();
            child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
            panic!("{name} ended: {printed}{stderr}");
        };
        printed += &(line.unwrap() + "\n");
        // What it prints for other programs is not for us.
        let said: String = printed.lines().filter(|line| !line.starts_with('{')).collect::<Vec<_>>().join("\n");
        let address = said.split("http://").nth(1).map(|rest| rest.split(['/', '\n']).next().unwrap());
        if let Some(address) = address {
            break address.parse().unwrap();
        }
    };
    // Keep reading, or the program would stop at a full pipe.
    let stdout = std::thread::spawn(move || lines.map_while(Result::ok).collect());
    let stderr = BufReader::new(child.stderr.take().unwrap()).lines();
    let stderr = std::thread::spawn(move || stderr.map_while(Result::ok).collect());
    Program { child, address, printed, rest: Some([stdout, stderr]) }
}

pub async fn token(program: &Program, username: &str, password: &str) -> String {
    let form = format!("grant_type=password&username={username}&password={password}");
    let reply = post_token(program.address, &form).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn quickstart_from_the_first_login_to_the_refusal() {
    let folder = Folder::new("quickstart");
    let program = start("quickstart", &folder, &[]);
    let password = program.printed.split("shown this once: ").nth(1).unwrap().lines().next().unwrap().to_owned();
    let token = token(&program, "demo", &password).await;
    for (path, status) in [("/users/me", 200), ("/users/me/items", 200), ("/admin/reports", 403)] {
        assert_eq!(get_with(program.address, path, &token).await.status, status, "{path}");
        assert_eq!(get(program.address, path, &[]).await.status, 401, "{path}");
    }
    assert_eq!(get_with(program.address, "/users/me", &token).await.json()["username"], "demo");
    assert_eq!(get(program.address, "/docs/", &[]).await.status, 200);
    let document = get(program.address, "/docs/openapi.json", &[]).await.json();
    let items = &document["paths"]["/users/me/items"]["get"]["security"];
    assert_eq!(*items, serde_json::json!([{ "OAuth2": ["items", "me"] }, { "bearer": ["items", "me"] }]));
    drop(program);
    let again = start("quickstart", &folder, &[]);
    assert!(!again.printed.contains("shown this once"), "{}", again.printed);
    self::token(&again, "demo", &password).await;
    assert_eq!(get_with(again.address, "/users/me", &token).await.status, 401, "the key died with the process");
}

#[test]
fn quickstart_says_what_is_wrong() {
    let folder = Folder::new("quickstart-mistakes");
    let (success, stderr) = ended(command("quickstart", &folder, &[("LISTEN", "nonsense")]));
    assert!(!success && stderr.starts_with("quickstart: LISTEN=nonsense: "), "{stderr}");
    std::fs::write(folder.file("quickstart.db"), vec![7; 8192]).unwrap();
    let (success, stderr) = ended(command("quickstart", &folder, &[]));
    assert!(!success && stderr.contains("quickstart.db: "), "{stderr}");
}

pub const USERS: &str = r#"[
    {"username": "alice", "password": "a long enough one", "scopes": ["me", "items", "admin"]},
    {"username": "bob", "password": "another long one", "scopes": []}
]"#;

#[tokio::test]
async fn auth_server_with_each_algorithm_and_store() {
    let folder = Folder::new("auth-server");
    let pem =
        |name: &str| std::fs::read_to_string(format!("{}/tests/keys/{name}.pem", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let (rsa, ec, one_line) = (pem("rsa"), pem("p256_sec1"), pem("ed25519").replace('\n', "\\n"));
    let secret = "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7\n";
    let database = format!("sqlite:{}", folder.file("users.db").display());
    for (algorithm, key) in [("RS256", &*rsa), ("ES256", &ec), ("EdDSA", &one_line), ("HS256", secret)] {
        let mut kept = None;
        // The second start finds the users in the file, and the key in the environment: tokens outlive the process.
        for users in [USERS, "[]"] {
            let variables = [
                ("ALGORITHM", algorithm),
                ("SIGNING_KEY", key),
                ("STORE", &database),
                ("USERS", users),
                ("ISSUER", "https://id.example"),
                ("AUDIENCE", "orders"),
                ("ACCESS_TTL", "60"),
            ];
            let program = start("auth_server", &folder, &variables);
            let token = token(&program, "alice", "a+long+enough+one").await;
            for token in [Some(&token), kept.as_ref()].into_iter().flatten() {
                for path in ["/users/me", "/users/me/items", "/admin/reports"] {
                    assert_eq!(get_with(program.address, path, token).await.status, 200, "{algorithm} {path}");
                }
            }
            let bob = self::token(&program, "bob", "another+long+one").await;
            assert_eq!(get_with(program.address, "/users/me", &bob).await.status, 403);
            kept = Some(token);
        }
    }
    let plain = start("auth_server", &folder, &[("USERS", USERS)]);
    let token = token(&plain, "alice", "a+long+enough+one").await;
    assert_eq!(get_with(plain.address, "/users/me", &token).await.status, 200, "every default");
}

/// A whole life over the wire: keys in the store, sessions, a service, a tool; and a restart in between.
#[tokio::test]
async fn auth_server_keeps_sessions_clients_and_keys_through_a_restart() {
    let folder = Folder::new("sessions");
    let database = format!("sqlite:{}", folder.file("a.db").display());
    let clients = r#"[
        {"client_id": "app", "grants": ["password"]},
        {"client_id": "reports", "client_secret": "4f0a6c1e9b7d3528a6e1c0f94b8d7325", "grants": ["client_credentials"],
         "scopes": ["admin"], "introspects": ["https://tool.example"]}
    ]"#;
    let variables = [
        ("STORE", database.as_str()),
        ("USERS", USERS),
        ("KEY_SECRET", "7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26"),
        ("CLIENTS", clients),
        ("RESOURCES", r#"[{"resource": "https://tool.example", "scopes": ["items"]}]"#),
        ("ISSUER", "http://localhost:1"),
    ];
    let service = "client_id=reports&client_secret=4f0a6c1e9b7d3528a6e1c0f94b8d7325";
    let login = "grant_type=password&client_id=app&username=alice&password=a+long+enough+one&device_name=Phone";
    let program = start("auth_server", &folder, &variables);
    let first = post_token(program.address, login).await.json();
    let own = post_token(program.address, &format!("grant_type=client_credentials&{service}")).await.json();
    drop(program);

    let program = start("auth_server", &folder, &variables);
    let text = |json: &serde_json::Value, name: &str| json[name].as_str().unwrap().to_owned();
    for token in [&first, &own] {
        let reply = get_with(program.address, "/admin/reports", &text(token, "access_token")).await;
        assert_eq!(reply.status, 200, "the key is still the same: {reply:?}");
    }
    let form = format!("client_id=app&refresh_token={}&resource=https://tool.example", text(&first, "refresh_token"));
    let tool = post(program.address, "/token/refresh", &form).await.json();
    let form = format!("{service}&token={}", text(&tool, "access_token"));
    let told = post(program.address, "/introspect", &form).await.json();
    assert_eq!((&told["active"], &told["scope"]), (&true.into(), &"items".into()), "{told}");
    let listed = get_with(program.address, "/sessions", &text(&first, "access_token")).await.json();
    let session = &listed["sessions"][0];
    assert_eq!((&session["device"], &session["network"]), (&"Phone".into(), &"127.0.0.0/24".into()));
    let revoke = format!("client_id=app&token={}", text(&tool, "refresh_token"));
    assert_eq!(post(program.address, "/revoke", &revoke).await.status, 200);
    drop(program);

    let program = start("auth_server", &folder, &variables);
    let after = get_with(program.address, "/admin/reports", &text(&first, "access_token")).await;
    assert_eq!(after.status, 401, "what was called back stays so");
    let metadata = get(program.address, "/.well-known/oauth-authorization-server", &[]).await;
    assert_eq!(metadata.json()["introspection_endpoint"], "http://localhost:1/introspect");
}

/// One server as the issuer, another that trusts it beside itself.
#[tokio::test]
async fn auth_server_as_a_resource_server_of_another() {
    let folder = Folder::new("foreign");
    let issuer = [("USERS", USERS), ("ISSUER", "https://id.example"), ("AUDIENCE", "theirs")];
    let theirs = start("auth_server", &folder, &issuer);
    let url = format!("http://{}/.well-known/jwks.json", theirs.address);
    let variables =
        [("USERS", USERS), ("JWKS_URL", &url), ("JWKS_ISSUER", "https://id.example"), ("JWKS_AUDIENCE", "theirs")];
    let ours = start("auth_server", &folder, &variables);
    let foreign = token(&theirs, "alice", "a+long+enough+one").await;
    let own = token(&ours, "alice", "a+long+enough+one").await;
    // The keys are fetched in the background; until then the answer is 503.
    let mut reply = get_with(ours.address, "/users/me", &foreign).await;
    for _ in 0..100 {
        if reply.status != 503 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        reply = get_with(ours.address, "/users/me", &foreign).await;
    }
    assert_eq!((reply.status, &reply.json()["issuer"]), (200, &"https://id.example".into()), "{reply:?}");
    for (path, expected) in [("/users/me", 200), ("/users/me/items", 200), ("/admin/reports", 403)] {
        assert_eq!(get_with(ours.address, path, &foreign).await.status, expected, "{path}");
        assert_eq!(get_with(ours.address, path, &own).await.status, 200, "{path}");
        assert_eq!(get_with(theirs.address, path, &own).await.status, 401, "trust goes one way");
    }
    // An outage of the issuer does not make its tokens bad.
    drop(theirs);
    assert_eq!(get_with(ours.address, "/users/me/items", &foreign).await.status, 200);
}

#[tokio::test]
async fn auth_server_limits_logins_as_it_is_told() {
    let folder = Folder::new("limited");
    let limits = [("LOGIN_FAILURES", "3"), ("LOGIN_WINDOW", "2"), ("LOGIN_PER_MINUTE", "8"), ("HASH_CONCURRENCY", "1")];
    let variables = [&[("USERS", USERS), ("TRUSTED_PROXIES", "127.0.0.1, ::1")][..], &limits].concat();
    let program = start("auth_server", &folder, &variables);
    let login = async |client: &str, name: &str, password: &str| {
        let form: &[u8] = b"content-type: application/x-www-form-urlencoded";
        let client = format!("x-forwarded-for: 1.2.3.4, {client}");
        let body = format!("grant_type=password&username={name}&password={}", password.replace(' ', "+"));
        send(program.address, "POST /token", &[form, client.as_bytes()], body.as_bytes()).await
    };
    let first = login("198.51.100.1", "alice", "a long enough one").await;
    let device = first.json()["device_token"].as_str().unwrap().to_owned();
    // The account, from wherever it is tried.
    let mut told = Vec::new();
    for n in 2..7 {
        told.push(login(&format!("198.51.100.{n}"), "alice", "guess").await.status);
    }
    assert_eq!(told, [400, 400, 400, 429, 429]);
    let locked = login("198.51.100.9", "alice", "a long enough one").await;
    assert_eq!((locked.status, locked.header("retry-after").is_some()), (429, true));
    let known = format!("a long enough one&device_token={device}");
    assert_eq!(login("198.51.100.9", "alice", &known).await.status, 200, "the owner");
    tokio::time::sleep(Duration::from_millis(3100)).await;
    assert_eq!(login("198.51.100.9", "alice", "a long enough one").await.status, 200, "failures are forgotten");
    // The address, whatever it tries.
    let mut told = Vec::new();
    for n in 0..10 {
        told.push(login("203.0.113.5", &format!("nobody{n}"), "guess").await.status);
    }
    assert_eq!(told, [400, 400, 400, 400, 400, 400, 400, 400, 429, 429]);
    assert_eq!(login("203.0.113.6", "alice", "a long enough one").await.status, 200);
}

#[tokio::test]
async fn req_148_auth_server_lets_pages_in_as_it_is_told() {
    let folder = Folder::new("cors");
    let cors = [
        ("CORS_ORIGINS", "https://app.example, https://*.shop.example"),
        ("CORS_METHODS", "GET,DELETE"),
        ("CORS_HEADERS", "authorization, content-type"),
        ("CORS_EXPOSE", "www-authenticate"),
        ("CORS_CREDENTIALS", "true"),
        ("CORS_MAX_AGE", "60"),
    ];
    let program = start("auth_server", &folder, &cors);
    let asks = async |origin: &str, method: &str| {
        let (origin, method) = (format!("origin: {origin}"), format!("access-control-request-method: {method}"));
        send(program.address, "OPTIONS /users/me", &[origin.as_bytes(), method.as_bytes()], b"").await
    };
    let granted = asks("https://a.shop.example", "DELETE").await;
    let said = |name: &str| granted.header(&format!("access-control-{name}"));
    assert_eq!((granted.status, said("allow-origin")), (204, Some("https://a.shop.example")));
    assert_eq!((said("allow-credentials"), said("max-age")), (Some("true"), Some("60")));
    assert_eq!(said("allow-methods"), Some("GET, DELETE"));
    assert_eq!(said("allow-headers"), Some("authorization, content-type"));
    for (origin, method) in [("https://evil.example", "GET"), ("https://app.example", "PUT"), ("null", "GET")] {
        let refused = asks(origin, method).await;
        assert_eq!((refused.status, refused.header("access-control-allow-origin")), (204, None), "{origin} {method}");
    }
    let unknown = get(program.address, "/users/me", &[b"origin: https://app.example"]).await;
    assert_eq!(unknown.status, 401);
    assert_eq!(unknown.header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(unknown.header("access-control-expose-headers"), Some("www-authenticate"));
    drop(program);
    let program = start("auth_server", &folder, &[]);
    let nothing = get(program.address, "/users/me", &[b"origin: https://app.example"]).await;
    assert_eq!(nothing.header("access-control-allow-origin"), None);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn a_bad_value_ends_auth_server_and_names_the_variable() {
    let folder = Folder::new("bad-values");
    let rsa = include_str!("../keys/rsa.pem");
    let public = include_str!("../keys/rsa_pub.pem");
    let weak = include_str!("../keys/rsa_1024.pem");
    for (variables, named) in [
        (&[("ALGORITHM", "none")][..], &["ALGORITHM"][..]),
        (&[("ALGORITHM", "rs256")], &["ALGORITHM"]),
        (&[("ALGORITHM", "RS256"), ("SIGNING_KEY", weak)], &["SIGNING_KEY"]),
        (&[("ALGORITHM", "ES256"), ("SIGNING_KEY", rsa)], &["SIGNING_KEY"]),
        (&[("ALGORITHM", "HS256"), ("SIGNING_KEY", "secret")], &["SIGNING_KEY"]),
        (&[("SIGNING_KEY", "")], &["SIGNING_KEY"]),
        (&[("SIGNING_KEY", "garbage")], &["SIGNING_KEY"]),
        (&[("ANSWER_STYLE", "django")], &["ANSWER_STYLE"]),
        (&[("ANSWER_STYLE", "FastApi")], &["ANSWER_STYLE"]),
        (&[("ANSWER_STYLE", "")], &["ANSWER_STYLE"]),
        (&[("STORE", "postgres://x")], &["STORE"]),
        (&[("STORE", "sqlite:")], &["STORE"]),
        (&[("STORE", "sqlite::memory:")], &["STORE"]),
        (&[("STORE", "sqlite://users.db")], &["STORE"]),
        (&[("STORE", "sqlite:file:users.db?mode=ro")], &["STORE"]),
        (&[("STORE", "sqlite:/no/such/folder/users.db")], &["STORE"]),
        (&[("USERS", "{}")], &["USERS"]),
        (&[("USERS", r#"[{"username":"a","password":"pa55word","scopes":["a b"]}]"#)], &["USERS"]),
        (&[("USERS", r#"[{"username":"","password":"pa55word","scopes":[]}]"#)], &["USERS"]),
        (&[("USERS", r#"[{"username":"a","password":"pa55word","scopes":["x"],"admin":true}]"#)], &["USERS"]),
        (&[("USERS", r#"[{"username":"a","password":"","scopes":[]}]"#)], &["USERS"]),
        (&[("REDIS_URL", "memory:")], &["REDIS_URL"]),
        (&[("KEY_SECRET", "short")], &["KEY_SECRET"]),
        (&[("KEY_SECRET", "short"), ("SIGNING_KEY", rsa)], &["KEY_SECRET"]),
        (&[("KEY_SECRET", &"correct horse battery staple ".repeat(3))], &["KEY_SECRET"]),
        (&[("KEY_SECRET", "short"), ("ACCESS_TTL", "0")], &["KEY_SECRET", "ACCESS_TTL"]),
        (&[("CLIENTS", r#"[{"client_id":"a","client_secret":"pa55word"}]"#)], &["CLIENTS"]),
        (&[("CLIENTS", r#"[{"client_id":"a","grants":["implicit"]}]"#)], &["CLIENTS"]),
        (&[("CLIENTS", r#"[{"client_id":"a b"}]"#)], &["CLIENTS or RESOURCES"]),
        (&[("RESOURCES", r#"[{"resource":"no uri"}]"#)], &["CLIENTS or RESOURCES"]),
        (
            &[("SESSION_IDLE", "59"), ("SESSION_TTL", "0"), ("REFRESH_GRACE", "61")],
            &["SESSION_IDLE", "SESSION_TTL", "REFRESH_GRACE"],
        ),
        (&[("LOGIN_FAILURES", "0"), ("LOGIN_WINDOW", "0")], &["LOGIN_FAILURES", "LOGIN_WINDOW"]),
        (&[("LOGIN_FAILURES", "101"), ("LOGIN_PER_MINUTE", "")], &["LOGIN_FAILURES", "LOGIN_PER_MINUTE"]),
        (&[("LOGIN_PER_MINUTE", "0"), ("HASH_CONCURRENCY", "0")], &["LOGIN_PER_MINUTE", "HASH_CONCURRENCY"]),
        (&[("HASH_CONCURRENCY", "257"), ("LOGIN_WINDOW", "1h")], &["HASH_CONCURRENCY", "LOGIN_WINDOW"]),
        (&[("TRUSTED_PROXIES", "10.0.0.1/8")], &["TRUSTED_PROXIES"]),
        (&[("TRUSTED_PROXIES", "127.0.0.1,localhost")], &["TRUSTED_PROXIES"]),
        (&[("TRUSTED_PROXIES", "0.0.0.0/0")], &["TRUSTED_PROXIES"]),
        (&[("TRUSTED_PROXIES", "-")], &["TRUSTED_PROXIES"]),
        (&[("AUDIT", "")], &["AUDIT"]),
        (&[("AUDIT", "store,store")], &["AUDIT"]),
        (&[("AUDIT", "jsonl:a,jsonl:./a")], &["AUDIT"]),
        (&[("AUDIT", "none,stdout")], &["AUDIT"]),
        (&[("AUDIT", "jsonl:")], &["AUDIT"]),
        (
            &[("AUDIT", "syslog"), ("AUDIT_DAYS", "-1"), ("AUDIT_ADMITTED", "all")],
            &["AUDIT", "AUDIT_DAYS", "AUDIT_ADMITTED"],
        ),
        (&[("AUDIT", "jsonl:/no/such/folder/a.jsonl")], &["AUDIT"]),
        (&[("CORS_ORIGINS", "")], &["CORS_ORIGINS"]),
        (&[("CORS_ORIGINS", "null")], &["CORS_ORIGINS"]),
        (&[("CORS_ORIGINS", "https://app.example/, https://*.co.uk")], &["CORS_ORIGINS"]),
        (&[("CORS_ORIGINS", "https://app.example,")], &["CORS_ORIGINS"]),
        (&[("CORS_METHODS", "GET")], &["CORS_ORIGINS"]),
        (&[("CORS_ORIGINS", "*"), ("CORS_CREDENTIALS", "true")], &["CORS_CREDENTIALS"]),
        (&[("CORS_ORIGINS", "http://app.example"), ("CORS_CREDENTIALS", "true")], &["CORS_CREDENTIALS"]),
        (&[("CORS_ORIGINS", "https://app.example"), ("CORS_CREDENTIALS", "yes")], &["CORS_CREDENTIALS"]),
        (&[("CORS_ORIGINS", "https://app.example"), ("CORS_MAX_AGE", "86401")], &["CORS_MAX_AGE"]),
        (&[("CORS_ORIGINS", "https://app.example"), ("CORS_MAX_AGE", "-1")], &["CORS_MAX_AGE"]),
        (&[("CORS_ORIGINS", "https://app.example"), ("CORS_HEADERS", "*")], &["CORS_HEADERS"]),
        (
            &[
                ("CORS_ORIGINS", "null, https://app.example:443"),
                ("CORS_METHODS", "get, TRACE"),
                ("CORS_HEADERS", "host"),
                ("CORS_EXPOSE", "set-cookie"),
                ("CORS_MAX_AGE", "86401"),
                ("ACCESS_TTL", "0"),
            ],
            &["CORS_ORIGINS", "CORS_METHODS", "CORS_HEADERS", "CORS_EXPOSE", "CORS_MAX_AGE", "ACCESS_TTL"],
        ),
        (&[("ACCESS_TTL", "0")], &["ACCESS_TTL"]),
        (&[("ACCESS_TTL", "3601")], &["ACCESS_TTL"]),
        (&[("ACCESS_TTL", "ten")], &["ACCESS_TTL"]),
        (&[("ALGORITHM", "HS256"), ("SIGNING_KEY", "correct horse battery staple & more")], &["SIGNING_KEY"]),
        (&[("ALGORITHM", "HS256"), ("SIGNING_KEY", public)], &["SIGNING_KEY"]),
        (&[("USERS", r#"[{"username":"a","password":"pa55word","scopes":[""]}]"#)], &["USERS"]),
        (&[("ISSUER", "a\nb")], &["ISSUER"]),
        (&[("ISSUER", "us")], &["ISSUER"]),
        (&[("ISSUER", "ftp://id.example")], &["ISSUER"]),
        (&[("ISSUER", "https://id.example?a=1")], &["ISSUER"]),
        (&[("LISTEN", "0.0.0.0:0")], &["ISSUER"]),
        (&[("AUDIENCE", "a\nb")], &["AUDIENCE"]),
        (
            &[("ISSUER", "a\nb"), ("AUDIENCE", "\t"), ("LISTEN", "x"), ("ACCESS_TTL", "-1")],
            &["ISSUER", "AUDIENCE", "LISTEN", "ACCESS_TTL"],
        ),
        (&[("AUDIENCE", "")], &["AUDIENCE"]),
        (&[("LISTEN", "nonsense")], &["LISTEN"]),
        (&[("JWKS_URL", "http://id.example/keys"), ("JWKS_ISSUER", "https://id.example")], &["JWKS_URL"]),
        (&[("JWKS_URL", "https://id.example/keys")], &["JWKS_ISSUER"]),
        (&[("JWKS_AUDIENCE", "a")], &["JWKS_URL", "JWKS_ISSUER"]),
        (&[("JWKS_URL", "https://x.example"), ("JWKS_ISSUER", "x"), ("JWKS_COOLDOWN", "0")], &["JWKS_COOLDOWN"]),
        (&[("JWKS_URL", "https://x.example"), ("JWKS_ISSUER", "https://x"), ("ISSUER", "https://x")], &["JWKS_ISSUER"]),
        (
            &[("ACCESS_TTL", "x"), ("ALGORITHM", "x"), ("STORE", "x"), ("USERS", "x")],
            &["ACCESS_TTL", "ALGORITHM", "STORE", "USERS"],
        ),
    ] {
        let (success, stderr) = ended(command("auth_server", &folder, variables));
        assert!(!success, "{variables:?}");
        for name in [
            "LISTEN",
            "ISSUER",
            "AUDIENCE",
            "STORE",
            "USERS",
            "ALGORITHM",
            "SIGNING_KEY",
            "ACCESS_TTL",
            "ANSWER_STYLE",
            "JWKS_URL",
            "JWKS_ISSUER",
            "JWKS_AUDIENCE",
            "JWKS_COOLDOWN",
            "REDIS_URL",
            "KEY_SECRET",
            "CLIENTS",
            "RESOURCES",
            "SESSION_IDLE",
            "SESSION_TTL",
            "REFRESH_GRACE",
            "LOGIN_FAILURES",
            "LOGIN_WINDOW",
            "LOGIN_PER_MINUTE",
            "TRUSTED_PROXIES",
            "HASH_CONCURRENCY",
            "AUDIT",
            "AUDIT_DAYS",
            "AUDIT_ADMITTED",
            "CORS_ORIGINS",
            "CORS_METHODS",
            "CORS_HEADERS",
            "CORS_EXPOSE",
            "CORS_CREDENTIALS",
            "CORS_MAX_AGE",
            "CLIENTS or RESOURCES",
        ] {
            let line = stderr.lines().any(|line| line.starts_with(&format!("auth_server: {name}: ")));
            assert_eq!(line, named.contains(&name), "{variables:?}: {stderr}");
        }
        assert!(!stderr.contains("pa55word") && !stderr.contains("PRIVATE KEY"), "{stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
}

/// What follows a name in what was printed.
fn printed<'p>(program: &'p Program, name: &str) -> &'p str {
    program.printed.split_once(name).unwrap().1.split_whitespace().next().unwrap()
}

/// Calls of each kind by the example's own client: code and message, or the answer.
fn called(folder: &Folder, program: &Program, token: &str) -> Vec<String> {
    let url = format!("http://{}", program.address);
    let mut client = command("tonic_api", folder, &[("URL", &url), ("TOKEN", token)]);
    client.arg("client");
    said(client).lines().map(|line| line.get(34..).unwrap().trim().to_owned()).collect()
}

#[tokio::test]
async fn tonic_api_takes_its_own_token_or_those_of_an_issuer() {
    let folder = Folder::new("tonic-api");
    let own = start("tonic_api", &folder, &[]);
    let users = r#"[{"username":"demo","password":"pa55word pa55word","scopes":["notes"]}]"#;
    let issuer = start("auth_server", &folder, &[("USERS", users)]);
    let url = format!("http://{}", issuer.address);
    let keys = format!("{url}/.well-known/jwks.json");
    let theirs = [("JWKS_URL", keys.as_str()), ("ISSUER", &url), ("AUDIENCE", "api")];
    let foreign = start("tonic_api", &folder, &theirs);
    let (first, second) = (printed(&own, "TOKEN=").to_owned(), token(&issuer, "demo", "pa55word pa55word").await);
    for (program, good, bad) in [(&own, &first, &second), (&foreign, &second, &first)] {
        let calls = called(&folder, program, good);
        assert_eq!(calls[..2], ["Count { notes: 1 }", "Count { notes: 3 }"]);
        assert!(calls[2].matches("Note {").count() == 3 && calls[3].contains("CALL HOME"), "{calls:?}");
        assert!(calls[4].starts_with("7: ") && calls[4].contains("scope=\"admin\""), "{calls:?}");
        assert_eq!(calls[5], "Empty");
        let calls = called(&folder, program, "");
        assert!(calls[..5].iter().all(|call| call == "16: Unauthorized (Bearer realm=\"api\")"), "{calls:?}");
        assert_eq!(calls[5], "Empty");
        let calls = called(&folder, program, bad);
        assert!(calls.iter().all(|call| call.starts_with("16: ") && call.contains("invalid_token")), "{calls:?}");
        // As its printed commands say.
        let text = [b"content-type: application/grpc-web".as_slice()];
        let web = send(program.address, "POST /notes.v1.Notes/Add", &text, b"\0\0\0\0\0").await;
        assert!(web.status == 200 && web.text().contains("grpc-status:16"), "{web:?}");
        assert_eq!(send(program.address, "POST /notes.v1.Notes/Add", &[], b"").await.status, 401);
    }
    for (variables, name) in [
        (&[("LISTEN", "nonsense")][..], "LISTEN=nonsense: "),
        (&[("JWKS_URL", "https://id.example/keys")], "ISSUER is needed"),
        (&[("JWKS_URL", "http://id.example/keys"), ("ISSUER", "a"), ("AUDIENCE", "b")], "JWKS_URL=http"),
    ] {
        let (success, stderr) = ended(command("tonic_api", &folder, variables));
        assert!(!success && stderr.starts_with(&format!("tonic_api: {name}")), "{stderr}");
    }
}

#[tokio::test]
async fn warp_api_lets_in_whom_its_layers_let_in() {
    let folder = Folder::new("warp-api");
    let program = start("warp_api", &folder, &[]);
    let (token, admin) = (printed(&program, "TOKEN=").to_owned(), printed(&program, "ADMIN=").to_owned());
    assert_eq!(get(program.address, "/health", &[]).await.text(), "up");
    assert_eq!(get(program.address, "/users/me", &[]).await.status, 401);
    assert_eq!(get_with(program.address, "/users/me", &token).await.json()["subject"], "demo");
    let refused = get_with(program.address, "/admin/reports", &token).await;
    assert!(refused.status == 403 && refused.header("www-authenticate").unwrap().ends_with("scope=\"me admin\""));
    assert_eq!(get_with(program.address, "/admin/reports", &admin).await.json()["visitors"], 42);
    // Paths that are not quite the one get nowhere, or are refused.
    for (path, status) in [
        ("/Users/me", 404),
        ("//users/me", 404),
        ("/users//me", 401),
        ("/users/me/", 401),
        ("/%75sers/me", 404),
        ("/admin/reports?x", 401),
        ("/health/../users/me", 404),
        ("/nothing", 404),
    ] {
        assert_eq!(get(program.address, path, &[]).await.status, status, "{path}");
    }
    let (success, stderr) = ended(command("warp_api", &folder, &[("LISTEN", "nonsense")]));
    assert!(!success && stderr.starts_with("warp_api: LISTEN=nonsense: "), "{stderr}");
}
