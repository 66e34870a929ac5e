//! gRPC by tonic at both ends: every kind of call, layers on the server and around single services, callers in handlers, gRPC-Web.

mod calls;
mod handlers;
#[path = "../../examples/tonic_api/notes.rs"]
#[allow(missing_docs, clippy::pedantic, reason = "generated")]
mod notes;
mod web;

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use futures::{Stream, StreamExt as _, stream};
use portcullis::{
    ResourceServer,
    authz::{DenyUndecidedLayer, Public, SignedIn},
    jwt::Algorithm,
    principal::{ScopeName, Scoped},
    tonic::CallerExt as _,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming, async_trait, service::Routes, transport::Server};
use tonic_web::GrpcWebLayer;
use tower::{Layer as _, layer::util::Stack};

use self::notes::{
    Count, Empty, Note,
    health_server::{Health, HealthServer},
    notes_server::{Notes, NotesServer},
    reports_server::{Reports, ReportsServer},
};
use crate::support::Authority;

/// What the layers let in.
#[derive(Clone, Default)]
struct Book {
    calls: Arc<AtomicUsize>,
}

struct Admin;

impl ScopeName for Admin {
    const SCOPE: &'static str = "admin";
}

type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[async_trait]
impl Notes for Book {
    async fn add(&self, request: Request<Note>) -> Result<Response<Count>, Status> {
        self.calls.fetch_add(1, SeqCst);
        assert_eq!(request.caller()?.subject(), "user:7");
        Ok(Response::new(Count { notes: 1 }))
    }

    async fn add_all(&self, request: Request<Streaming<Note>>) -> Result<Response<Count>, Status> {
        self.calls.fetch_add(1, SeqCst);
        let notes = request.into_inner().fold(0, async |notes, note| notes + u64::from(note.is_ok())).await;
        Ok(Response::new(Count { notes }))
    }

    type ListStream = Replies<Note>;

    async fn list(&self, _: Request<Empty>) -> Result<Response<Self::ListStream>, Status> {
        self.calls.fetch_add(1, SeqCst);
        let notes = ["a", "b"].map(|text| Ok(Note { text: text.to_owned() }));
        Ok(Response::new(stream::iter(notes).boxed()))
    }

    type ShoutStream = Replies<Note>;

    async fn shout(&self, request: Request<Streaming<Note>>) -> Result<Response<Self::ShoutStream>, Status> {
        self.calls.fetch_add(1, SeqCst);
        let shout = |note: Result<Note, Status>| note.map(|note| Note { text: note.text.to_uppercase() });
        Ok(Response::new(request.into_inner().map(shout).boxed()))
    }
}

#[async_trait]
impl Reports for Book {
    /// Demands a scope by itself.
    async fn total(&self, request: Request<Empty>) -> Result<Response<Count>, Status> {
        let _: Scoped<Admin> = request.scoped()?;
        self.calls.fetch_add(1, SeqCst);
        Ok(Response::new(Count { notes: 42 }))
    }
}

#[async_trait]
impl Health for Book {
    async fn check(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        self.calls.fetch_add(1, SeqCst);
        Ok(Response::new(Empty {}))
    }
}

/// A server, and how often its handlers ran.
struct Host {
    address: SocketAddr,
    book: Book,
    task: JoinHandle<()>,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Host {
    fn calls(&self) -> usize {
        self.book.calls.load(SeqCst)
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Where the layers are.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// On the server, around everything: who is calling, and the scope `notes`.
    Server,
    /// Who is calling on the server, strangers let pass; demands around each service.
    Services,
}

fn api(authority: &Authority) -> ResourceServer {
    authority.api().realm("test").unwrap()
}

async fn serve(authority: &Authority, place: Place) -> Host {
    let (api, book) = (api(authority), Book::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, incoming) = (listener.local_addr().unwrap(), TcpListenerStream::new(listener));
    let (notes, reports, health) =
        (NotesServer::new(book.clone()), ReportsServer::new(book.clone()), HealthServer::new(book.clone()));
    let last = Stack::new(GrpcWebLayer::new(), DenyUndecidedLayer);
    let mut routes = Routes::builder();
    let task = match place {
        Place::Server => {
            routes.add_service(last.layer(notes)).add_service(last.layer(reports)).add_service(last.layer(health));
            let server = Server::builder().accept_http1(true).layer(api.authenticate());
            let server = server.layer(api.require(["notes"]).unwrap()).add_routes(routes.routes());
            tokio::spawn(async move { server.serve_with_incoming(incoming).await.unwrap() })
        }
        Place::Services => {
            routes
                .add_service(api.require(["notes"]).unwrap().layer(last.layer(notes)))
                .add_service(api.authorize(SignedIn).layer(last.layer(reports)))
                .add_service(Public.layer(last.layer(health)));
            let mut server = Server::builder().accept_http1(true).layer(api.authenticate_optional());
            let server = server.add_routes(routes.routes());
            tokio::spawn(async move { server.serve_with_incoming(incoming).await.unwrap() })
        }
    };
    Host { address, book, task }
}

fn authority() -> Authority {
    Authority::new(Algorithm::EdDsa)
}
