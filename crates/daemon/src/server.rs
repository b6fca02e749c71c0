//! The listener of the HTTP API: who may connect, and for how long one connection may hold up anything.
//!
//! A slow or silent client costs one of a bounded number of connections, and that only for a while: a header has to come within
//! seconds, and an answer that is not read ends the connection. Reading has no time limit once the header is there, since server-sent
//! events are silent in that direction. What the requests mean, and who may send them, is the application's affair.

mod connection;
#[cfg(test)]
mod tests;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use copal::config::TlsFiles;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use connection::Connections;
use tls::Tls;
pub use tls::TlsError;

const MAX_CONNECTIONS: usize = 256;

/// Where and how to listen.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// The address.
    pub listen: SocketAddr,
    /// The certificate; `None`: plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Whether there is a token. Without one, only this machine may be listened to.
    pub has_tokens: bool,
}

impl ServerOptions {
    /// Refuses what would let everybody in, and loads the certificate.
    fn admit(&self) -> Result<Option<Tls>, ServerError> {
        let listen = self.listen;
        let is_public = !listen.ip().to_canonical().is_loopback();
        if is_public && !self.has_tokens {
            return Err(ServerError::NoToken(listen));
        }
        let tls = self.tls.clone().map(Tls::load).transpose()?;
        if is_public && tls.is_none() {
            tracing::warn!(%listen, "other machines reach the API without TLS: whoever is on the way reads the tokens ([daemon] tls)");
        }
        Ok(tls)
    }
}

/// Why the API cannot be served. The texts say what to do.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Everybody could do everything.
    #[error(
        "other machines could reach {0}, and there is no token to know them by; make one with \
         `copal token add NAME --role admin`, or listen on 127.0.0.1"
    )]
    NoToken(SocketAddr),
    /// Somebody else listens there.
    #[error("another program listens on {0}; stop it, or listen on another port ([daemon] listen)")]
    Taken(SocketAddr),
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {0}; [daemon] listen must be an address of this machine and a port that its user may have"
    )]
    Listen(SocketAddr, #[source] io::Error),
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
struct Timeouts {
    /// To agree on TLS.
    handshake: Duration,
    /// To send the header of a request, and between two requests.
    header: Duration,
    /// Without the client taking anything of what is written to it.
    write: Duration,
    /// Before the next try when a connection could not be accepted.
    pause: Duration,
    /// For requests to be answered when the daemon stops.
    grace: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            header: Duration::from_secs(10),
            write: Duration::from_secs(30),
            pause: Duration::from_millis(500),
            grace: Duration::from_secs(5),
        }
    }
}

/// The address that a request came from, among the extensions of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// What can be told to a server while it serves. Clones are for the same server.
#[derive(Clone, Debug)]
pub struct ServerHandle {
    tls: Option<Tls>,
}

impl ServerHandle {
    /// Reads certificate and key again, for connections from now on. What cannot be used is logged, and the old ones stay.
    pub fn reload_tls(&self) {
        let Some(tls) = &self.tls else { return };
        match tls.reload() {
            Ok(()) => tracing::info!("the certificate of the API was read again"),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                tracing::error!(%error, cause, "the certificate of the API stays as it was");
            }
        }
    }
}

/// A listener that has its address.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    tls: Option<Tls>,
    timeouts: Timeouts,
}

impl Server {
    /// Takes the address; connections wait from now on.
    pub async fn bind(options: ServerOptions) -> Result<Self, ServerError> {
        let (listen, tls) = (options.listen, options.admit()?);
        let listener = TcpListener::bind(listen).await.map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => ServerError::Taken(listen),
            _ => ServerError::Listen(listen, error),
        })?;
        Ok(Self { listener, tls, timeouts: Timeouts::default() })
    }

    /// Goes on with a socket that listens already; `listen` is its address.
    pub fn take_over(listener: std::net::TcpListener, options: ServerOptions) -> Result<Self, ServerError> {
        let tls = options.admit()?;
        let taken = listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener));
        let listener = taken.map_err(|error| ServerError::Listen(options.listen, error))?;
        Ok(Self { listener, tls, timeouts: Timeouts::default() })
    }

    /// A second hold on the socket: as long as it is there, connections wait also while nobody serves them.
    ///
    /// Errors: the system has no file descriptor left.
    pub(crate) fn socket(self) -> io::Result<(Self, std::net::TcpListener)> {
        let Self { listener, tls, timeouts } = self;
        let listener = listener.into_std()?;
        let second = listener.try_clone()?;
        Ok((Self { listener: TcpListener::from_std(listener)?, tls, timeouts }, second))
    }

    /// The address, with the port that was given where any was asked for.
    ///
    /// Errors: the system's, of which none is known for a socket that listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// For whoever reloads while this serves.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle { tls: self.tls.clone() }
    }

    /// Serves until `stop` is ready. Then nobody can connect, event streams end, and other requests have a few seconds to be
    /// answered.
    pub async fn serve(self, app: Router, stop: impl Future<Output = ()>) {
        let Self { listener, tls, timeouts } = self;
        let (stopping, stopped) = watch::channel(false);
        let connections = Connections::new(app, tls, timeouts, stopped);
        let (graceful, slots) = (GracefulShutdown::new(), Arc::new(Semaphore::new(MAX_CONNECTIONS)));
        let mut running = JoinSet::new();
        let mut stop = pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                (stream, peer, slot) = accept(&listener, &slots, timeouts.pause) => {
                    running.spawn(connections.clone().serve(stream, peer, graceful.watcher(), slot));
                }
                // A panic was told already, where it happened.
                Some(_) = running.join_next() => {}
            }
        }
        drop(listener);
        stopping.send_replace(true);
        if tokio::time::timeout(timeouts.grace, graceful.shutdown()).await.is_err() {
            tracing::warn!(connections = running.len(), "connections of the API are cut off, since the daemon stops");
        }
        running.shutdown().await;
    }
}

/// The next connection; while there are as many as there may be, new ones wait in the system's queue.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
    pause: Duration,
) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    loop {
        let Ok(slot) = Arc::clone(slots).acquire_owned().await else {
            // Nobody closes it.
            std::future::pending().await
        };
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer, slot),
            Err(error) if is_of_the_client(&error) => {}
            Err(error) => {
                // Too many open files, for example: it passes when others end.
                tracing::warn!(%error, "a connection to the API cannot be accepted");
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// Whether the connection went away before it was accepted.
fn is_of_the_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
