//! One connection, from the handshake to its end.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Request, Response};
use axum::middleware::map_response_with_state;
use futures::StreamExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::Watcher;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt;

use super::tls::Tls;
use super::{Peer, Timeouts};

/// A header of more bytes or lines is refused (status 431).
const MAX_HEADER_BYTES: usize = 32 * 1024;
const MAX_HEADERS: usize = 64;
/// How much of one connection's traffic lies in memory, in each direction.
const BUFFER: usize = 64 * 1024;

/// What all connections have in common; clones are cheap.
#[derive(Clone)]
pub(super) struct Connections {
    app: Router,
    tls: Option<Tls>,
    timeouts: Timeouts,
    stopped: watch::Receiver<bool>,
    http: Arc<http1::Builder>,
}

impl Connections {
    /// Connections to an application, until `stopped` is true.
    pub(super) fn new(app: Router, tls: Option<Tls>, timeouts: Timeouts, stopped: watch::Receiver<bool>) -> Self {
        let app = app.layer(map_response_with_state(stopped.clone(), end_events));
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(timeouts.header);
        http.max_headers(MAX_HEADERS).max_header_size(MAX_HEADER_BYTES).max_buf_size(BUFFER);
        Self { app, tls, timeouts, stopped, http: Arc::new(http) }
    }

    /// Serves one connection, which holds its slot until it ends.
    pub(super) async fn serve(self, stream: TcpStream, peer: SocketAddr, watcher: Watcher, slot: OwnedSemaphorePermit) {
        let _slot = slot;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, %peer, "answers may be slow");
        }
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(self.timeouts.write));
        let stream = Box::pin(stream);
        let Some(tls) = &self.tls else { return self.http(stream, peer, watcher).await };
        let mut stopped = self.stopped.clone();
        let handshake = tokio::time::timeout(self.timeouts.handshake, tls.acceptor().accept(stream));
        let stream = tokio::select! {
            stream = handshake => stream,
            _ = stopped.wait_for(|stopped| *stopped) => return,
        };
        match stream {
            Ok(Ok(stream)) => self.http(stream, peer, watcher).await,
            Ok(Err(error)) => tracing::debug!(%error, %peer, "no TLS with this client"),
            Err(_) => tracing::debug!(%peer, "the client takes too long to agree on TLS"),
        }
    }

    async fn http(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: SocketAddr,
        watcher: Watcher,
    ) {
        let app = self.app.clone().map_request(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            request
        });
        let connection = self.http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
        if let Err(error) = watcher.watch(connection).await {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            tracing::debug!(%error, cause, %peer, "a connection to the API broke off");
        }
    }
}

/// Ends streams of events when the server stops; they would go on for ever.
async fn end_events(State(mut stopped): State<watch::Receiver<bool>>, response: Response<Body>) -> Response<Body> {
    let kind = response.headers().get(CONTENT_TYPE).map(|kind| kind.as_bytes());
    if !kind.is_some_and(|kind| kind.starts_with(b"text/event-stream")) {
        return response;
    }
    let end = async move {
        // An error says that there is no server any more.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    response.map(|body| Body::from_stream(body.into_data_stream().take_until(end)))
}
