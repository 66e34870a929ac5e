//! A test authority's keys, published: in process, and on loopback.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::Full;
use tower_service::Service;

use super::authority::TestAuthority;

/// How long a client may take, from when it connects until it has its answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How much it may say.
const MOST: usize = 8 * 1024;

/// Answers every request with an authority's keys: from [`TestAuthority::key_service`].
#[derive(Clone, Debug)]
pub struct KeyService {
    authority: TestAuthority,
}

impl KeyService {
    pub(super) const fn new(authority: TestAuthority) -> Self {
        Self { authority }
    }
}

/// Status and body of the answer as of now.
fn answer(authority: &TestAuthority) -> (StatusCode, String) {
    match authority.key_document() {
        Some(keys) => (StatusCode::OK, keys.to_string()),
        None => (StatusCode::SERVICE_UNAVAILABLE, String::new()),
    }
}

impl<B> Service<Request<B>> for KeyService {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        let (status, body) = answer(&self.authority);
        let mut response = Response::new(Full::from(body));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        ready(Ok(response))
    }
}

/// A server of an authority's keys on loopback, from [`TestAuthority::serve_keys`]. It ends when dropped.
///
/// It has a thread of its own, and so needs no runtime; it answers one client after the other, each within two seconds.
#[derive(Debug)]
pub struct KeyServer {
    address: SocketAddr,
    requests: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
}

impl KeyServer {
    pub(super) fn start(authority: TestAuthority) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let server = Self { address: listener.local_addr()?, requests: Arc::default(), ended: Arc::default() };
        let (requests, ended) = (Arc::clone(&server.requests), Arc::clone(&server.ended));
        thread::Builder::new().name("test keys".to_owned()).spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                // A client that goes away is no concern of the server's.
                let _ = stream.and_then(|stream| serve(stream, &authority, &requests));
            }
        })?;
        Ok(server)
    }

    /// Where it is, for [`RemoteJwks::builder`](crate::jwt): `http://127.0.0.1:…/keys`.
    pub fn address(&self) -> String {
        format!("http://{}/keys", self.address)
    }

    /// How many requests it was sent.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes the thread up; where that fails it has ended already.
        let _ = TcpStream::connect_timeout(&self.address, PATIENCE);
    }
}

/// Reads one request and answers it.
fn serve(mut stream: TcpStream, authority: &TestAuthority, requests: &AtomicU64) -> io::Result<()> {
    let begin = Instant::now();
    // Zero is no timeout, for the system.
    let left = || Some(PATIENCE.saturating_sub(begin.elapsed())).filter(|left| !left.is_zero());
    let left = || left().ok_or_else(|| io::Error::from(io::ErrorKind::TimedOut));
    let (mut request, mut buffer) = (Vec::<u8>::new(), [0; 1024]);
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        stream.set_read_timeout(Some(left()?))?;
        let read = stream.read(&mut buffer)?;
        request.extend(buffer.iter().take(read));
        if read == 0 || request.len() > MOST {
            return Ok(());
        }
    }
    requests.fetch_add(1, Ordering::SeqCst);
    stream.set_write_timeout(Some(left()?))?;
    let (status, body) = answer(authority);
    let head = "content-type: application/json\r\nconnection: close";
    write!(stream, "HTTP/1.1 {status}\r\n{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}
