//! All four kinds of call, by tonic's own client.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use http::{HeaderMap, Request as HttpRequest};
use http_body_util::{BodyExt as _, Empty as NoBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tonic::{
    Code, Request, Status, metadata::AsciiMetadataValue, service::interceptor::InterceptedService, transport::Channel,
};

use super::{
    Host, Place, authority,
    notes::{Empty, Note, health_client::HealthClient, notes_client::NotesClient, reports_client::ReportsClient},
    serve,
};
use crate::support::{Authority, now};

const STRANGER: &str = "Bearer realm=\"test\"";
const INVALID_TOKEN: &str = "Bearer realm=\"test\", error=\"invalid_token\", \
     error_description=\"the access token is expired, revoked, malformed or not valid here\"";
const NOTES_NEEDED: &str = "Bearer realm=\"test\", error=\"insufficient_scope\", \
     error_description=\"the access token does not carry the scope that is needed\", scope=\"notes\"";

/// Shows these credentials, one after the other.
#[derive(Clone)]
struct Show(Vec<AsciiMetadataValue>);

impl tonic::service::Interceptor for Show {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        for credential in &self.0 {
            request.metadata_mut().append("authorization", credential.clone());
        }
        Ok(request)
    }
}

type Shown = InterceptedService<Channel, Show>;

struct Clients {
    notes: NotesClient<Shown>,
    reports: ReportsClient<Shown>,
    health: HealthClient<Shown>,
}

async fn clients(host: &Host, tokens: &[String]) -> Clients {
    let channel = Channel::from_shared(host.url()).unwrap().connect().await.unwrap();
    let show = Show(tokens.iter().map(|token| format!("Bearer {token}").parse().unwrap()).collect());
    Clients {
        notes: NotesClient::with_interceptor(channel.clone(), show.clone()),
        reports: ReportsClient::with_interceptor(channel.clone(), show.clone()),
        health: HealthClient::with_interceptor(channel, show),
    }
}

fn challenge(status: &Status) -> Option<&str> {
    status.metadata().get("www-authenticate").map(|field| field.to_str().unwrap())
}

/// Notes without an end, and what became of them.
#[derive(Clone, Default)]
struct Endless {
    sent: Arc<AtomicUsize>,
    dropped: Arc<AtomicBool>,
}

impl Endless {
    fn stream(&self) -> impl Stream<Item = Note> + Send + 'static + use<> {
        struct OnDrop(Arc<AtomicBool>);
        impl Drop for OnDrop {
            fn drop(&mut self) {
                self.0.store(true, SeqCst);
            }
        }
        let (sent, guard) = (Arc::clone(&self.sent), OnDrop(Arc::clone(&self.dropped)));
        stream::repeat_with(move || {
            let _ = &guard;
            sent.fetch_add(1, SeqCst);
            Note { text: "x".repeat(1024) }
        })
    }
}

#[tokio::test]
async fn good_calls_of_all_four_kinds_pass() {
    let authority = authority();
    for place in [Place::Server, Place::Services] {
        let host = serve(&authority, place).await;
        let Clients { mut notes, mut reports, mut health } = clients(&host, &[authority.token("notes admin")]).await;
        let note = |text: &str| Note { text: text.to_owned() };
        assert_eq!(notes.add(note("a")).await.unwrap().get_ref().notes, 1, "{place:?}");
        let all = notes.add_all(stream::iter(["a", "b", "c"].map(note))).await;
        assert_eq!(all.unwrap().get_ref().notes, 3, "{place:?}");
        let listed: Vec<_> = notes.list(Empty {}).await.unwrap().into_inner().try_collect().await.unwrap();
        assert_eq!(listed, ["a", "b"].map(note), "{place:?}");
        // One after the other: each is answered before the next is sent.
        let (send, receive) = tokio::sync::mpsc::channel(1);
        let questions = tokio_stream::wrappers::ReceiverStream::new(receive);
        let mut answers = notes.shout(questions).await.unwrap().into_inner();
        for text in ["a", "b", "c"] {
            send.send(note(text)).await.unwrap();
            assert_eq!(answers.next().await.unwrap().unwrap(), note(&text.to_uppercase()), "{place:?}");
        }
        drop(send);
        assert!(answers.next().await.is_none(), "{place:?}");
        assert_eq!(reports.total(Empty {}).await.unwrap().get_ref().notes, 42, "{place:?}");
        health.check(Empty {}).await.unwrap();
        assert_eq!(host.calls(), 6, "{place:?}");
    }
}

#[tokio::test]
async fn req_187_req_188_req_189_refused_calls_of_all_four_kinds_end_at_once() {
    let authority = authority();
    let expired = authority.token_with(|claims| claims["exp"] = (now() - 3600).into());
    let good = authority.token("notes");
    for (tokens, code, message, expected) in [
        (vec![], Code::Unauthenticated, "Unauthorized", STRANGER),
        (
            vec![expired],
            Code::Unauthenticated,
            "the access token is expired, revoked, malformed or not valid here",
            INVALID_TOKEN,
        ),
        (
            vec![authority.token("admin")],
            Code::PermissionDenied,
            "the access token does not carry the scope that is needed",
            NOTES_NEEDED,
        ),
        (
            vec![good.clone(), good],
            Code::Unauthenticated,
            "the request must carry exactly one well-formed bearer credential",
            "Bearer realm=\"test\", error=\"invalid_request\", \
             error_description=\"the request must carry exactly one well-formed bearer credential\"",
        ),
    ] {
        for place in [Place::Server, Place::Services] {
            let host = serve(&authority, place).await;
            let mut notes = clients(&host, &tokens).await.notes;
            let (collected, both) = (Endless::default(), Endless::default());
            let began = Instant::now();
            let answers = [
                notes.add(Note::default()).await.map(drop),
                notes.add_all(collected.stream()).await.map(drop),
                notes.list(Empty {}).await.map(drop),
                notes.shout(both.stream()).await.map(drop),
                // Neither does the server wait for a stream in which nothing comes.
                notes.add_all(stream::pending()).await.map(drop),
                notes.shout(stream::pending()).await.map(drop),
            ];
            assert!(began.elapsed() < Duration::from_secs(10), "{place:?}");
            for answer in answers {
                let status = answer.unwrap_err();
                assert_eq!((status.code(), status.message()), (code, message), "{place:?}");
                assert_eq!(challenge(&status), Some(expected), "{place:?}");
                assert_eq!(status.metadata().get("cache-control").unwrap(), "no-store");
            }
            assert_eq!(host.calls(), 0, "{place:?}");
            for endless in [collected, both] {
                // What fits the windows of HTTP/2 may be under way; nobody asks for more.
                assert!(endless.sent.load(SeqCst) < 4096, "{place:?}");
                for _ in 0..200 {
                    if endless.dropped.load(SeqCst) {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                assert!(endless.dropped.load(SeqCst), "{place:?}: the client goes on");
            }
        }
    }
}

#[tokio::test]
async fn what_is_public_is_so_for_strangers_and_for_no_bad_token() {
    let authority = authority();
    let host = serve(&authority, Place::Services).await;
    clients(&host, &[]).await.health.check(Empty {}).await.unwrap();
    let bad = clients(&host, &["abc".to_owned()]).await.health.check(Empty {}).await.unwrap_err();
    assert_eq!((bad.code(), challenge(&bad)), (Code::Unauthenticated, Some(INVALID_TOKEN)));
    assert_eq!(host.calls(), 1);
}

/// The demand of the handler adds to that of the layers.
#[tokio::test]
async fn req_188_req_189_a_handler_that_refuses_answers_as_layers_do() {
    let authority = authority();
    for (place, needed) in [(Place::Server, "admin notes"), (Place::Services, "admin")] {
        let host = serve(&authority, place).await;
        let status = clients(&host, &[authority.token("notes")]).await.reports.total(Empty {}).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{place:?}");
        assert_eq!(status.message(), "the access token does not carry the scope that is needed");
        let expected = NOTES_NEEDED.replace("\"notes\"", &format!("\"{needed}\""));
        assert_eq!(challenge(&status), Some(expected.as_str()), "{place:?}");
        assert_eq!(host.calls(), 0);
    }
}

/// Status, headers and trailers of a call without a message, as they come.
async fn raw(host: &Host, path: &str, token: Option<&str>) -> (u16, HeaderMap) {
    let stream = TokioIo::new(TcpStream::connect(host.address).await.unwrap());
    let (mut client, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let request = HttpRequest::post(format!("{}{path}", host.url())).header("content-type", "application/grpc");
    let request = token.into_iter().fold(request, |request, token| {
        request.header("te", "trailers").header("authorization", format!("Bearer {token}"))
    });
    let response = client.send_request(request.body(NoBody::<Bytes>::new()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = tokio::time::timeout(Duration::from_secs(10), body.collect()).await.unwrap().unwrap();
    let mut headers = parts.headers;
    headers.extend(body.trailers().cloned().unwrap_or_default());
    (parts.status.as_u16(), headers)
}

/// Slashes, escapes and cases that no client of tonic sends: the layers decide first, and whom they let pass is told that there is
/// no such method.
#[tokio::test]
async fn req_187_odd_paths_get_a_sentence_of_grpc_and_no_handler() {
    // With whether it is below the name of the service that demands a scope, as routers read it.
    const ODD: &[(&str, bool)] = &[
        ("/", false),
        ("//", false),
        ("/notes.v1.Notes", false),
        ("/notes.v1.Notes/", false),
        ("/notes.v1.Notes//Add", true),
        ("//notes.v1.Notes/Add", false),
        ("/notes.v1.Notes/Add/", true),
        ("/notes.v1.Notes/add", true),
        ("/Notes.v1.notes/Add", false),
        ("/notes.v1.Notes/%41dd", true),
        ("/notes.v1.Notes%2FAdd", false),
        ("/notes%2Ev1.Notes/Add", false),
        ("/notes.v1.Notes/./Add", true),
        ("/notes.v1.Health/../notes.v1.Notes/Add", false),
        ("/notes.v1.Health/..%2fnotes.v1.Notes/Add", false),
        ("/notes.v1.Health/Check/../../notes.v1.Notes/Add", false),
        ("/notes.v1.Notes/Add%00", true),
        ("/notes.v1.Notes/Add;x", true),
        ("/notes.v1.Notes/Nothing", true),
        ("/notes.v1.Nothing/Add", false),
        ("/notes.v1.Health/Nothing", false),
    ];
    let authority = authority();
    let (good, other) = (authority.token("notes"), authority.token("admin"));
    for place in [Place::Server, Place::Services] {
        let host = serve(&authority, place).await;
        for (path, below) in ODD {
            // 16: who are you? 7: not you. 12: there is no such method.
            let demanded = *below || matches!(place, Place::Server);
            let (stranger, without) = if demanded { ("16", "7") } else { ("12", "12") };
            for (token, code) in [(None, stranger), (Some(&other), without), (Some(&good), "12")] {
                let (status, headers) = raw(&host, path, token.map(String::as_str)).await;
                let answered =
                    (status, headers["content-type"].to_str().unwrap(), headers["grpc-status"].to_str().unwrap());
                assert_eq!(answered, (200, "application/grpc", code), "{place:?} {path} {headers:?}");
            }
        }
        assert_eq!(host.calls(), 0, "{place:?}");
        // What is spelled rightly passes: what is missing there is the message.
        let (_, headers) = raw(&host, "/notes.v1.Notes/Add", Some(&good)).await;
        assert_eq!(headers["grpc-status"], "13", "{headers:?}");
    }
}

/// gRPC's metadata of bytes is not where credentials are.
#[tokio::test]
async fn a_credential_in_authorization_bin_is_none() {
    let authority: Authority = authority();
    let host = serve(&authority, Place::Server).await;
    let channel = Channel::from_shared(host.url()).unwrap().connect().await.unwrap();
    let mut request = Request::new(Empty {});
    let credential = format!("Bearer {}", authority.token("notes"));
    request
        .metadata_mut()
        .insert_bin("authorization-bin", tonic::metadata::BinaryMetadataValue::from_bytes(credential.as_bytes()));
    let status = HealthClient::new(channel).check(request).await.unwrap_err();
    assert_eq!((status.code(), challenge(&status)), (Code::Unauthenticated, Some(STRANGER)));
    assert_eq!(host.calls(), 0);
}
