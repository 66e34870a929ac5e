//! TLS under `axum::serve`, with a certificate that is made at start.

use std::{
    error::Error,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_lc_rs::digest::{SHA256, digest};
use axum::serve::Listener;
use rcgen::{CertificateParams, KeyPair};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto, pki_types::PrivateKeyDer},
    server::TlsStream,
};

/// Connections that may be in their handshake at once, and how long each may take. Whoever holds all of them open keeps others
/// waiting for so long: where that matters, bound them by address, or leave TLS to a proxy.
const HANDSHAKES: usize = 256;
const HANDSHAKE: Duration = Duration::from_secs(10);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A certificate that signs itself, for three months, and what serves with it.
pub(crate) struct Tls {
    acceptor: TlsAcceptor,
    pub(crate) pem: String,
    pub(crate) sha256: String,
}

impl Tls {
    pub(crate) fn for_hosts(hosts: Vec<String>) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let mut parameters = CertificateParams::new(hosts)?;
        let now = SystemTime::now();
        (parameters.not_before, parameters.not_after) = ((now - DAY).into(), (now + 90 * DAY).into());
        let key = KeyPair::generate()?;
        let certificate = parameters.self_signed(&key)?;
        let sha256 = digest(&SHA256, certificate.der());
        // As browsers show it.
        let sha256 = sha256.as_ref().iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":");
        let mut config = ServerConfig::builder_with_provider(Arc::new(crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), pem: certificate.pem(), sha256 })
    }

    pub(crate) fn listen(&self, tcp: TcpListener) -> TlsListener {
        TlsListener { tcp, acceptor: self.acceptor.clone(), handshakes: JoinSet::new() }
    }
}

/// Yields connections once their handshake is done. Handshakes are tasks of their own, so that a slow one holds up no other.
pub(crate) struct TlsListener {
    tcp: TcpListener,
    acceptor: TlsAcceptor,
    handshakes: JoinSet<Option<(TlsStream<TcpStream>, SocketAddr)>>,
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            tokio::select! {
                // axum's own, which waits a little when there are no more file descriptors.
                (stream, peer) = Listener::accept(&mut self.tcp), if self.handshakes.len() < HANDSHAKES => {
                    let handshake = self.acceptor.accept(stream);
                    self.handshakes.spawn(async move { Some((timeout(HANDSHAKE, handshake).await.ok()?.ok()?, peer)) });
                }
                Some(done) = self.handshakes.join_next() => {
                    if let Ok(Some(connection)) = done {
                        return connection;
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}
