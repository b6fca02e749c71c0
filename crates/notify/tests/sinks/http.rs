//! An HTTP receiver on loopback that records what arrives and answers as it is told.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpListener;

/// How it answers.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// Status, headers and body.
    With(u16, Vec<(&'static str, String)>, String),
    /// Never.
    Hang,
    /// The connection is closed before an answer.
    Close,
}

impl Answer {
    pub(crate) fn status(status: u16) -> Self {
        Self::With(status, Vec::new(), String::new())
    }
}

/// What arrived.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Arrived {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// The receiver.
pub(crate) struct HttpSink {
    pub(crate) port: u16,
    arrived: Arc<Mutex<Vec<Arrived>>>,
}

impl HttpSink {
    pub(crate) async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let arrived = Arc::new(Mutex::new(Vec::new()));
        let sink = Self { port, arrived: arrived.clone() };
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (arrived, answer) = (arrived.clone(), answer.clone());
                tokio::spawn(async move {
                    let service = service_fn(move |request| reply(request, arrived.clone(), answer.clone()));
                    // Ends with an error where it closes on purpose.
                    let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        sink
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// The one request that arrived since the last call.
    pub(crate) fn one(&self) -> Arrived {
        let mut arrived = self.all();
        assert_eq!(arrived.len(), 1, "{arrived:?}");
        arrived.remove(0)
    }

    pub(crate) fn all(&self) -> Vec<Arrived> {
        std::mem::take(&mut self.arrived.lock().unwrap())
    }
}

async fn reply(
    request: Request<Incoming>,
    arrived: Arc<Mutex<Vec<Arrived>>>,
    answer: Answer,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let (method, target) = (head.method.to_string(), head.uri.to_string());
    arrived.lock().unwrap().push(Arrived { method, target, headers: head.headers, body });
    match answer {
        Answer::With(status, headers, body) => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            Ok(response.body(Full::new(body.into())).unwrap())
        }
        Answer::Hang => {
            std::future::pending::<Infallible>().await;
            unreachable!("it hangs")
        }
        Answer::Close => Err(std::io::Error::other("closed on purpose")),
    }
}
