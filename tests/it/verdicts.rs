//! One table of requests, the same verdicts: on axum, tonic, warp and plain hyper over real sockets, and around mocks; each asked as
//! plain HTTP, as gRPC, and as gRPC-Web, over HTTP/1.1 and HTTP/2.

mod bad_input;
mod rows;
mod servers;

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use portcullis::rejection::Rejection;
use serde_json::Value;
use tokio::net::TcpStream;
use tower::ServiceExt as _;

use self::{
    rows::{PASSES, ROWS, Sentence},
    servers::{At, Host, World, hosts, path},
};

/// How it is asked: what the client says that it sends.
const WIRES: [(&str, Option<&str>); 4] = [
    ("http", None),
    ("grpc", Some("application/grpc")),
    ("grpc-web", Some("application/grpc-web+proto")),
    ("grpc-web-text", Some("application/grpc-web-text")),
];

/// An answer, as far as the one who refuses makes it.
#[derive(PartialEq)]
struct Answer {
    status: u16,
    headers: BTreeMap<String, Vec<String>>,
    body: Vec<u8>,
    /// Why it was refused, where that can be asked: in process.
    why: Option<Rejection>,
}

impl Answer {
    async fn of<B>(response: Response<B>) -> Self
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: std::fmt::Debug,
    {
        let (parts, body) = response.into_parts();
        // Trailers-only: the end of the headers is the end of the answer.
        let refused = parts.headers.contains_key("grpc-status") && !parts.headers.contains_key("x-caller");
        assert!(!refused || body.is_end_stream(), "{parts:?}");
        let body = body.collect().await.unwrap();
        assert_eq!(body.trailers(), None, "what is refused at once has no trailers");
        let mut headers = BTreeMap::<_, Vec<_>>::new();
        for (name, value) in &parts.headers {
            // What servers add by themselves.
            if !["date", "content-length", "connection", "transfer-encoding"].contains(&name.as_str()) {
                headers.entry(name.to_string()).or_default().push(value.to_str().unwrap().to_owned());
            }
        }
        let why = parts.extensions.get().copied();
        Self { status: parts.status.as_u16(), headers, body: body.to_bytes().to_vec(), why }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.first().map(String::as_str)
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {} {:?}", self.status, self.headers, self.body.escape_ascii(), self.why)
    }
}

/// A request without a body.
fn request(method: &str, path: &str, fields: &[(&str, &str)]) -> Request<()> {
    let request = Request::builder().method(method).uri(path);
    fields.iter().fold(request, |request, (name, value)| request.header(*name, *value)).body(()).unwrap()
}

/// Over a connection of its own.
async fn ask(host: &Host, version: Version, request: &Request<()>) -> Answer {
    let asks = async {
        match &host.at {
            At::Process(places) => {
                let place = places.iter().find(|(place, _)| path(place) == request.uri().path()).unwrap().1;
                Answer::of(place.clone().oneshot(request.clone()).await.unwrap()).await
            }
            At::Socket(address) => {
                let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
                let mut request = request.clone().map(|()| Empty::<Bytes>::new());
                let response = if version == Version::HTTP_2 {
                    let uri = format!("http://{address}{}", request.uri());
                    *request.uri_mut() = uri.parse().unwrap();
                    let (mut client, connection) =
                        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
                    tokio::spawn(connection);
                    client.send_request(request).await
                } else {
                    request.headers_mut().insert("host", "localhost".parse().unwrap());
                    let (mut client, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
                    tokio::spawn(connection);
                    client.send_request(request).await
                };
                Answer::of(response.unwrap()).await
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), asks).await.expect("an answer in time")
}

/// What the sentence is over this wire, to the last header.
fn expected(says: Sentence, wire: &str) -> Answer {
    let mut headers = BTreeMap::new();
    let mut set = |name: &str, value: &str| drop(headers.insert(name.to_owned(), vec![value.to_owned()]));
    set("cache-control", "no-store");
    says.challenge.into_iter().for_each(|challenge| set("www-authenticate", challenge));
    let mut trailers = format!("grpc-status:{}\r\ngrpc-message:{}\r\n", says.code, says.message);
    if let Some(challenge) = says.challenge {
        write!(trailers, "www-authenticate:{challenge}\r\n").unwrap();
    }
    let length = u32::try_from(trailers.len()).unwrap().to_be_bytes();
    let frame = [&[0x80], &length[..], trailers.as_bytes()].concat();
    let (status, body) = match wire {
        "http" => {
            set("content-type", "application/problem+json");
            if says.retry {
                set("retry-after", "5");
            }
            let title = StatusCode::from_u16(says.status).unwrap().canonical_reason().unwrap();
            let mut body = format!(r#"{{"type":"about:blank","title":"{title}","status":{}"#, says.status);
            if let Some(error) = says.error {
                write!(body, r#","detail":"{}","error":"{error}""#, says.message).unwrap();
            }
            body.push('}');
            let read: Value = serde_json::from_str(&body).unwrap();
            assert_eq!((read["status"].as_u64(), read["error"].as_str()), (Some(says.status.into()), says.error));
            (says.status, body.into_bytes())
        }
        "grpc" => {
            set("content-type", "application/grpc");
            set("grpc-status", &says.code.to_string());
            set("grpc-message", says.message);
            (200, Vec::new())
        }
        "grpc-web" => {
            set("content-type", "application/grpc-web+proto");
            (200, frame)
        }
        _ => {
            set("content-type", "application/grpc-web-text+proto");
            (200, STANDARD.encode(frame).into_bytes())
        }
    };
    Answer { status, headers, body, why: None }
}

/// Whether `answer` is the sentence over this wire, and a handler ran for one that passes alone.
fn check(says: Sentence, wire: &str, answer: &Answer, calls: usize) -> Result<(), String> {
    if says != PASSES {
        let expected = Answer { why: answer.why, ..expected(says, wire) };
        return match calls {
            0 if *answer == expected => Ok(()),
            0 => Err(format!("{answer:?} and not {expected:?}")),
            calls => Err(format!("handlers ran {calls} times: {answer:?}")),
        };
    }
    let passed = answer.status == 200 && answer.body == b"ok" && answer.header("x-caller").is_some() && calls == 1;
    if passed { Ok(()) } else { Err(format!("handlers ran {calls} times: {answer:?}")) }
}

/// A word on an answer, for people.
fn word(answer: &Answer) -> String {
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let framed = || String::from_utf8(STANDARD.decode(&text).ok()?[5..].to_vec()).ok();
    let trailers = answer.header("grpc-status").map(|code| format!("grpc-status:{code}"));
    let trailers = trailers.or_else(|| text.get(5..).filter(|_| text.contains("grpc-status")).map(str::to_owned));
    match trailers.or_else(framed).filter(|trailers| trailers.contains("grpc-status:")) {
        Some(trailers) => trailers.split("grpc-status:").nth(1).unwrap().split('\r').next().unwrap().to_owned(),
        None => answer.status.to_string(),
    }
}

#[expect(clippy::print_stdout, reason = "the table is what the test is for")]
#[tokio::test]
async fn req_187_req_188_req_189_req_190_every_server_gives_the_same_verdicts() {
    let world = World::new().await;
    let hosts = hosts(&world).await;
    let (mut mistakes, mut asked) = (Vec::new(), 0);
    let mut table = format!("\n{:44}", "over HTTP, and over gRPC of any framing");
    for host in &hosts {
        write!(table, "{:^10}", host.name).unwrap();
    }
    for row in ROWS {
        let credentials = (row.credentials)(&world);
        write!(table, "\n{:44}", row.what).unwrap();
        for host in &hosts {
            let mut words = Vec::new();
            for (wire, content_type) in WIRES {
                let mut fields: Vec<_> = credentials.iter().map(|field| ("authorization", field.as_str())).collect();
                fields.extend(content_type.map(|content_type| ("content-type", content_type)));
                let request = request("POST", &path(row.place), &fields);
                for version in host.versions() {
                    let before = host.calls();
                    let answer = ask(host, *version, &request).await;
                    if let Err(error) = check(row.says, wire, &answer, host.calls() - before) {
                        mistakes.push(format!("{} on {}, {wire} {version:?}: {error}", row.what, host.name));
                    }
                    if let (At::Process(_), why) = (&host.at, answer.why.map(|why| why.to_string())) {
                        assert!(why.as_deref().unwrap_or("").starts_with(row.why), "{}: {why:?}", row.what);
                        assert_eq!(why.is_none(), row.why.is_empty(), "{}: {why:?}", row.what);
                    }
                    words.push(word(&answer));
                    asked += 1;
                }
            }
            words.dedup();
            write!(table, "{:^10}", words.join(" ")).unwrap();
        }
    }
    let (rows, wrong) = (ROWS.len(), mistakes.len());
    println!("{table}\n{rows} requests, each in four framings: {asked} answers, {wrong} not as they should be");
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
    assert_eq!(asked, rows * WIRES.len() * 9);
}
