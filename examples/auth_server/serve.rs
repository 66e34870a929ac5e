//! Connections, each held to a time. `axum::serve` waits for ever for a request that does not come, or comes a byte at a time: a few
//! hundred such connections, and a server has no files left for anybody else.

use std::{pin::pin, sync::Arc, time::Duration};

use axum::{Extension, Router, extract::ConnectInfo, serve::Listener};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Semaphore, time::timeout};
use tower::Layer as _;

/// How long the head of a request may take, the first as well as the next on the same connection. The endpoints do the same to
/// bodies. Answers that nobody takes are left to a proxy.
const HEAD: Duration = Duration::from_secs(10);
/// How long what is under way may take when the server is to end.
const GRACE: Duration = Duration::from_secs(20);
/// Connections at once, so that the stores have files left of the 1,024 that a process usually may open.
pub(crate) const CONNECTIONS: usize = 768;
/// Those of whoever fetches figures.
pub(crate) const SCRAPERS: usize = 16;

/// Serves HTTP/1.1 on so many connections until `stop` resolves, and then, for some seconds, what is under way.
pub(crate) async fn serve(mut listener: TcpListener, app: Router, connections: usize, stop: impl Future<Output = ()>) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD);
    let (graceful, places) = (GracefulShutdown::new(), Arc::new(Semaphore::new(connections)));
    let mut stop = pin!(stop);
    loop {
        let accept = async {
            let place = Arc::clone(&places).acquire_owned().await;
            // axum's own, which waits a little when there are no more files.
            (place, Listener::accept(&mut listener).await)
        };
        let (place, (stream, peer)) = tokio::select! {
            accepted = accept => accepted,
            () = &mut stop => break,
        };
        // With the peer's address, by which logins are limited, and for the list of sessions.
        let service = TowerToHyperService::new(Extension(ConnectInfo(peer)).layer(app.clone()));
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            // What goes wrong with a connection is its client's affair.
            let _ = connection.await;
            drop(place);
        });
    }
    drop(listener);
    // Whoever does not take their answer must not keep the server from ending.
    let _ = timeout(GRACE, graceful.shutdown()).await;
}
