//! Connections, each held to a time. `axum::serve` waits for ever for a request that does not come, or comes a byte at a time: a few
//! hundred such connections, and a server has no files left for anybody else.

use std::{
    io::ErrorKind,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Extension, Router, extract::ConnectInfo};
use futures::{StreamExt as _, stream::BoxStream};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_io_timeout::TimeoutStream;
use tower::Layer as _;

/// How long the head of a request may take, the first as well as the next on the same connection. The endpoints do the same to
/// bodies.
const HEAD: Duration = Duration::from_secs(10);
/// What a head may have, and what is read ahead: 768 of them are 24 MiB.
const HEAD_BYTES: usize = 32 * 1024;
/// How long a client may take nothing of its answer. One that takes a little now and then is left to a proxy.
const TAKE: Duration = Duration::from_secs(30);
/// For so long requests are still taken when the server is to end: those that were sent before, and have not arrived.
const DRAIN: Duration = Duration::from_millis(250);
/// How long what is under way may take then.
const GRACE: Duration = Duration::from_secs(20);
/// Connections at once, so that the stores have files left of the 1,024 that a process usually may open.
pub(crate) const CONNECTIONS: usize = 768;
/// Those of whoever fetches figures.
pub(crate) const SCRAPERS: usize = 16;
/// How often it is told that there are no more.
const TOLD: Duration = Duration::from_secs(60);

/// Each time that the program is told to end.
pub(crate) type Stop = BoxStream<'static, ()>;

/// Serves HTTP/1.1 on so many connections until `stop`, and then, for some seconds or until it comes again, what is under way.
pub(crate) async fn serve(listener: TcpListener, app: Router, connections: usize, mut stop: Stop) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_BYTES);
    let (graceful, places) = (GracefulShutdown::new(), Arc::new(Semaphore::new(connections)));
    {
        let mut told = None::<Instant>;
        let mut end = pin!(async {
            stop.next().await;
            sleep(DRAIN).await;
        });
        loop {
            if places.available_permits() == 0 && told.is_none_or(|told| told.elapsed() > TOLD) {
                tracing::warn!(connections, "no more connections are taken: there are as many as may be");
                told = Some(Instant::now());
            }
            let accepted = async { (Arc::clone(&places).acquire_owned().await, accept(&listener).await) };
            let (place, (stream, peer)) = tokio::select! {
                accepted = accepted => accepted,
                () = &mut end => break,
            };
            let mut stream = TimeoutStream::new(stream);
            stream.set_write_timeout(Some(TAKE));
            // With the peer's address, by which logins are limited, and for the list of sessions.
            let service = TowerToHyperService::new(Extension(ConnectInfo(peer)).layer(app.clone()));
            let connection = graceful.watch(http.serve_connection(TokioIo::new(Box::pin(stream)), service));
            tokio::spawn(async move {
                // What goes wrong with a connection is its client's affair.
                let _ = connection.await;
                drop(place);
            });
        }
    }
    drop(listener);
    tokio::select! {
        // Whoever does not take their answer must not keep the server from ending.
        _ = timeout(GRACE, graceful.shutdown()) => {}
        _ = stop.next() => {}
    }
}

/// The next connection. Where the system has none to give, for want of files above all, it is asked again a second later.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => match error.kind() {
                ErrorKind::ConnectionRefused | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset => {}
                _ => {
                    tracing::error!(%error, "no connection can be taken");
                    sleep(Duration::from_secs(1)).await;
                }
            },
        }
    }
}
