//! The list of known passwords, asked over a real socket of a server that misbehaves on demand.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use portcullis::{
    AuthorizationServer,
    config::{ConfigError, ConfigErrors},
    endpoint::Registration,
    ident::LoginName,
    jwt::{Algorithm, SigningKey},
    password::{BreachClient, BreachList as _, Breaches, PasswordRefusal, WhenDown},
    session::SessionPolicy,
    store::MemoryStore,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

use crate::{
    login::{PASSWORD, form, hasher, refused, users},
    support::{Log, get, post, post_token, send, serve},
};

/// Its SHA-1 is 40 digits, of which the first five are asked for.
const KNOWN: &str = "correct horse battery staple";
const PREFIX: &str = "ABF7A";
const SUFFIX: &str = "AD6438836DBE526AA231ABDE2D0EEF74D42";
const PADDING: &str = "0000000000000000000000000000000000A";

/// What the server does with a request.
#[derive(Clone)]
enum Behaviour {
    /// Status and header lines, body.
    Answer(String, Vec<u8>),
    Hang,
    /// The beginning of a good answer, and then nothing.
    Stall,
    HangUp,
}

fn answer(body: impl Into<Vec<u8>>) -> Behaviour {
    Behaviour::Answer("200 OK".to_owned(), body.into())
}

/// A server that keeps the heads of its requests and stops when dropped.
struct List {
    address: SocketAddr,
    behaviour: Arc<Mutex<Behaviour>>,
    heads: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for List {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn list() -> List {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let behaviour = Arc::new(Mutex::new(Behaviour::Hang));
    let heads = Arc::new(Mutex::new(Vec::new()));
    let task = tokio::spawn({
        let (behaviour, heads) = (Arc::clone(&behaviour), Arc::clone(&heads));
        async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (behaviour, heads) = (Arc::clone(&behaviour), Arc::clone(&heads));
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        match stream.read_u8().await {
                            Ok(byte) => head.push(byte),
                            Err(_) => return,
                        }
                    }
                    heads.lock().unwrap().push(String::from_utf8(head).unwrap());
                    let behaviour = behaviour.lock().unwrap().clone();
                    match behaviour {
                        Behaviour::Answer(head, body) => {
                            let head = format!(
                                "HTTP/1.1 {head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                                body.len()
                            );
                            let _ = stream.write_all(head.as_bytes()).await;
                            let _ = stream.write_all(&body).await;
                        }
                        Behaviour::Hang => std::future::pending().await,
                        Behaviour::Stall => {
                            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n0000").await;
                            std::future::pending::<()>().await;
                        }
                        Behaviour::HangUp => {}
                    }
                });
            }
        }
    });
    List { address, behaviour, heads, task }
}

impl List {
    fn does(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    fn client(&self) -> BreachClient {
        BreachClient::new(format!("http://{}/range/", self.address)).unwrap()
    }
}

fn server(breaches: Breaches, users: Arc<MemoryStore>) -> AuthorizationServer {
    let key = SigningKey::generate(Algorithm::EdDsa).unwrap();
    let builder = AuthorizationServer::builder("https://id.example", "orders", key)
        .first_party_login(Arc::clone(&users) as _, hasher())
        .sessions(users, SessionPolicy::default());
    builder.registration(Registration::new()).breaches(breaches).build().unwrap()
}

#[tokio::test]
async fn req_165_passwords_that_became_known_are_refused_and_the_list_learns_twenty_bits() {
    let list = list().await;
    let client = list.client();
    for (body, known) in [
        (format!("{SUFFIX}:216\r\n{PADDING}:0"), true),
        (format!("{PADDING}:7\r\n{}:1\r\n", SUFFIX.to_lowercase()), true),
        (format!("{PADDING}:7\r\n{PADDING}:0"), false),
        (format!("{PADDING}:7\r\n{SUFFIX}:0"), false),
    ] {
        list.does(answer(body.clone()));
        assert_eq!(client.contains(&KNOWN.into()).await.unwrap(), known, "{body}");
    }
    let heads = list.heads.lock().unwrap().clone();
    assert_eq!(heads.len(), 4);
    for head in heads {
        assert!(head.starts_with(&format!("GET /range/{PREFIX} HTTP/1.1\r\n")), "{head}");
        let head = head.to_ascii_lowercase();
        assert!(head.contains("\r\nadd-padding: true\r\n") && head.contains("\r\nuser-agent: portcullis/"), "{head}");
        assert!(!head.contains(&SUFFIX.to_ascii_lowercase()) && !head.contains("horse"), "{head}");
    }
}

#[tokio::test]
async fn req_193_a_list_that_does_not_answer_is_an_outage_and_the_program_says_what_follows() {
    let log = Log::default();
    let _guard = log.capture();
    let list = list().await;
    let wait = Duration::from_millis(300);
    let refuse = server(Breaches::new(list.client()).when_down(WhenDown::Refuse).wait(wait), Arc::default());
    let accept = server(Breaches::new(list.client()).wait(wait), Arc::default());
    let (name, known) = (LoginName::parse("carol").unwrap(), KNOWN.into());
    let good = format!("{SUFFIX}:216\r\n");
    let elsewhere = format!("302 Found\r\nlocation: http://{}/range/{PREFIX}", list.address);
    for (behaviour, what) in [
        (Behaviour::Hang, "hangs"),
        (Behaviour::Stall, "stalls"),
        (Behaviour::HangUp, "hangs up"),
        (answer("<html>please sign in to this network</html>"), "garbage"),
        (answer(format!("{good}<html>")), "garbage after a hit"),
        (answer([0xff; 1000]), "bytes"),
        (answer(""), "nothing"),
        (answer(format!("{PADDING}:0\r\n").repeat(10_000)), "too long"),
        (Behaviour::Answer("500 Internal Server Error".to_owned(), good.clone().into()), "500"),
        (Behaviour::Answer("404 Not Found".to_owned(), good.clone().into()), "404"),
        (Behaviour::Answer(elsewhere, good.clone().into()), "redirect"),
        (Behaviour::Answer("200 OK\r\ncontent-encoding: gzip".to_owned(), good.clone().into()), "compressed"),
    ] {
        list.does(behaviour);
        let begin = Instant::now();
        let refusals = refuse.check_password(&name, &known).await.unwrap_err();
        assert_eq!(refusals.iter().collect::<Vec<_>>(), [PasswordRefusal::NotCompared], "{what}");
        assert_eq!(accept.check_password(&name, &known).await, Ok(()), "{what}");
        assert!(begin.elapsed() < Duration::from_secs(5), "{what}");
    }
    list.does(answer(good));
    for server in [&refuse, &accept] {
        let refusals = server.check_password(&name, &known).await.unwrap_err();
        assert_eq!(refusals.iter().collect::<Vec<_>>(), [PasswordRefusal::Breached]);
    }
    let asked = list.heads.lock().unwrap().len();
    assert!(accept.check_password(&name, &"short".into()).await.is_err());
    assert_eq!(list.heads.lock().unwrap().len(), asked, "asked only about what the policy lets pass");
    let text = log.text();
    assert_eq!(text.matches("password accepted without the list").count(), 12, "{text}");
    let ours = text.lines().filter(|line| line.contains("portcullis::audit")).collect::<String>();
    assert!(!ours.contains(PREFIX) && !ours.contains("horse"), "{ours}");
}

#[tokio::test]
async fn req_165_endpoints_compare_new_passwords_with_the_list() {
    let list = list().await;
    let wait = Duration::from_millis(300);
    let breaches = Breaches::new(list.client()).when_down(WhenDown::Refuse).wait(wait);
    let server = serve(server(breaches, users().await).routes()).await;
    let known = format!("username=carol&password={}", KNOWN.replace(' ', "+"));
    list.does(answer(format!("{SUFFIX}:216\r\n")));
    let reply = post(server.address, "/register", &known).await;
    assert_eq!((reply.status, reply.json()["reasons"][0]["code"].as_str()), (400, Some("password_breached")));
    let login = post_token(server.address, &form("alice", PASSWORD, "")).await;
    let bearer = format!("authorization: Bearer {}", login.json()["access_token"].as_str().unwrap());
    let headers = [b"content-type: application/x-www-form-urlencoded".as_slice(), bearer.as_bytes()];
    let change = async |current: &str| {
        let body = form("", current, "").replace("&password=", "&current_password=");
        let body = format!("{body}&new_password={}", KNOWN.replace(' ', "+"));
        send(server.address, "POST /password", &headers, body.as_bytes()).await
    };
    let reply = change(PASSWORD).await;
    assert_eq!((reply.status, reply.json()["reasons"][0]["code"].as_str()), (400, Some("password_breached")));
    let asked = list.heads.lock().unwrap().len();
    refused(&change("wrong").await, 400, "invalid_grant");
    assert_eq!(list.heads.lock().unwrap().len(), asked, "not asked for those who do not know the current one");
    list.does(Behaviour::Hang);
    for reply in [change(PASSWORD).await, post(server.address, "/register", &known).await] {
        refused(&reply, 503, "temporarily_unavailable");
        assert!(reply.header("retry-after").is_some());
    }
    list.does(answer(format!("{PADDING}:3\r\n")));
    assert_eq!(post(server.address, "/register", &known).await.status, 201);
    assert_eq!(change(PASSWORD).await.status, 204);
    assert_eq!(get(server.address, "/password", &[bearer.as_bytes()]).await.status, 405);
}

#[test]
fn addresses_and_waits_are_checked() {
    for address in ["http://breaches.example", "https://breaches.example/range?a", "ftp://127.0.0.1", ""] {
        let error = BreachClient::new(address).unwrap_err();
        assert_eq!(error, ConfigErrors::from(ConfigError::ListAddress(address.to_owned())));
    }
    let key = SigningKey::generate(Algorithm::EdDsa).unwrap();
    let client = BreachClient::new("https://breaches.example/range").unwrap();
    let builder = AuthorizationServer::builder("https://id.example", "orders", key)
        .first_party_login(Arc::new(MemoryStore::new()), hasher())
        .breaches(Breaches::new(client).wait(Duration::from_secs(60)));
    assert_eq!(builder.build().unwrap_err().iter().count(), 1);
}
