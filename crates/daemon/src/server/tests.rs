use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Extension;
use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use futures::{StreamExt, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;

/// Far longer than anything takes, so that who waits for it has found a fault.
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(300);

const PATIENT: Timeouts = Timeouts { handshake: LONG, header: LONG, write: LONG, pause: LONG, grace: LONG };

const HERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

fn options(listen: SocketAddr, tls: Option<TlsFiles>) -> ServerOptions {
    ServerOptions { listen, tls, has_tokens: false }
}

/// A server that serves.
struct Running {
    address: SocketAddr,
    handle: ServerHandle,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    async fn start(timeouts: Timeouts, tls: Option<TlsFiles>, app: Router) -> Self {
        let mut server = Server::bind(options(HERE, tls)).await.unwrap();
        server.timeouts = timeouts;
        let (stop, stopped) = oneshot::channel::<()>();
        let (address, handle) = (server.local_addr().unwrap(), server.handle());
        let task = tokio::spawn(server.serve(app, async { drop(stopped.await) }));
        Self { address, handle, stop, task }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends a request and answers the connection, its answer unread.
    async fn ask(&self, path: &str) -> TcpStream {
        let mut client = self.connect().await;
        client.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
        client
    }

    fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}/", self.address)
    }
}

fn hello() -> Router {
    Router::new().route("/", get(async || "hello"))
}

/// Everything that still comes, until the server closes the connection.
async fn rest(client: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is an end, too.
    let _ = tokio::time::timeout(LONG, client.read_to_end(&mut bytes)).await.expect("the connection stays open");
    String::from_utf8(bytes).unwrap()
}

/// Reads until the answer contains a text.
async fn read_until(client: &mut TcpStream, text: &str) -> String {
    let mut answer = Vec::new();
    while !String::from_utf8_lossy(&answer).contains(text) {
        let read = tokio::time::timeout(LONG, client.read_buf(&mut answer)).await.expect("nothing comes").unwrap();
        assert_ne!(read, 0, "ends without {text:?}: {}", String::from_utf8_lossy(&answer));
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn an_address_is_taken_only_where_that_is_safe_and_possible() {
    let public: SocketAddr = "0.0.0.0:0".parse().unwrap();
    for listen in [public, "[::]:0".parse().unwrap()] {
        let error = Server::bind(options(listen, None)).await.unwrap_err().to_string();
        assert!(error.contains("copal token add NAME --role admin") && error.contains("127.0.0.1"), "{error}");
    }
    Server::bind(ServerOptions { has_tokens: true, ..options(public, None) }).await.unwrap();
    let first = Server::bind(options(HERE, None)).await.unwrap();
    let address = first.local_addr().unwrap();
    let error = Server::bind(options(address, None)).await.unwrap_err();
    assert!(matches!(error, ServerError::Taken(taken) if taken == address), "{error}");
    let elsewhere = ServerOptions { has_tokens: true, ..options("192.0.2.1:80".parse().unwrap(), None) };
    let error = Server::bind(elsewhere).await.unwrap_err();
    assert!(matches!(error, ServerError::Listen(..)) && error.source().is_some(), "{error}");
}

#[tokio::test]
async fn the_application_knows_who_asks() {
    let app = Router::new().route("/", get(async |Extension(Peer(peer)): Extension<Peer>| peer.to_string()));
    let server = Running::start(PATIENT, None, app).await;
    let mut client = server.ask("/").await;
    let own = client.local_addr().unwrap().to_string();
    read_until(&mut client, &own).await;
}

#[tokio::test]
async fn a_header_that_does_not_come_ends_the_connection() {
    let server = Running::start(Timeouts { header: SHORT, ..PATIENT }, None, hello()).await;
    assert_eq!(rest(&mut server.connect().await).await, "");
    // One byte after the other keeps nobody.
    let (mut reader, mut writer) = server.connect().await.into_split();
    let drip = tokio::spawn(async move {
        writer.write_all(b"GET / HTTP/1.1\r\nSlow: ").await?;
        loop {
            writer.write_all(b"x").await?;
            tokio::time::sleep(SHORT / 20).await;
        }
        #[allow(unreachable_code)]
        io::Result::Ok(())
    });
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(LONG, reader.read_to_end(&mut answer)).await.expect("the connection stays open");
    assert!(tokio::time::timeout(LONG, drip).await.unwrap().unwrap().is_err());
    // Nor does silence after an answer.
    assert!(rest(&mut server.ask("/").await).await.ends_with("hello"));
}

/// An answer without end, and what tells that nobody writes it any more.
fn endless() -> (Router, oneshot::Receiver<()>) {
    let (guard, dropped) = oneshot::channel::<()>();
    let guard = Arc::new(std::sync::Mutex::new(Some(guard)));
    let endless = get(async move || {
        let guard = guard.lock().unwrap().take();
        Body::from_stream(stream::repeat_with(move || {
            let _ = &guard;
            io::Result::Ok(vec![0_u8; 64 * 1024])
        }))
    });
    (Router::new().route("/", endless), dropped)
}

#[tokio::test]
async fn an_answer_that_nobody_reads_ends_the_connection() {
    let timeouts = Timeouts { write: SHORT, ..PATIENT };
    let (app, dropped) = endless();
    let server = Running::start(timeouts, None, app).await;
    let unread = server.ask("/").await;
    assert!(tokio::time::timeout(LONG, dropped).await.expect("the answer is still written").is_err());
    drop(unread);

    let home = tempfile::tempdir().unwrap();
    let files = certificate(home.path(), "used");
    let (app, dropped) = endless();
    let server = Running::start(timeouts, Some(files.clone()), app).await;
    let unread = client(&files).get(server.url("https")).send().await.unwrap();
    assert!(tokio::time::timeout(LONG, dropped).await.expect("the answer is still written").is_err());
    drop(unread);
}

#[tokio::test]
async fn events_may_be_silent_for_long() {
    let late = stream::once(async {
        tokio::time::sleep(5 * SHORT).await;
        io::Result::Ok("data: late\n\n")
    });
    let late = Arc::new(std::sync::Mutex::new(Some(late)));
    let events = get(async move || {
        let late = late.lock().unwrap().take().unwrap();
        ([(CONTENT_TYPE, "text/event-stream")], Body::from_stream(late))
    });
    let timeouts = Timeouts { write: SHORT, header: SHORT, ..PATIENT };
    let server = Running::start(timeouts, None, Router::new().route("/", events)).await;
    read_until(&mut server.ask("/").await, "data: late").await;
}

#[tokio::test]
async fn more_connections_than_there_may_be_wait_for_their_turn() {
    let inside = Arc::new(AtomicUsize::new(0));
    let (open, opened) = watch::channel(false);
    let count = Arc::clone(&inside);
    let wait = get(async move || {
        count.fetch_add(1, Ordering::SeqCst);
        let mut opened = opened.clone();
        opened.wait_for(|open| *open).await.unwrap();
        "done"
    });
    let server = Running::start(PATIENT, None, Router::new().route("/", wait)).await;
    let mut clients = JoinSet::new();
    for _ in 0..300 {
        let address = server.address;
        clients.spawn(async move {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
            rest(&mut client).await
        });
    }
    tokio::time::timeout(LONG, async {
        while inside.load(Ordering::SeqCst) < MAX_CONNECTIONS {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    tokio::time::sleep(SHORT).await;
    assert_eq!(inside.load(Ordering::SeqCst), MAX_CONNECTIONS);
    open.send_replace(true);
    let answers = tokio::time::timeout(LONG, clients.join_all()).await.unwrap();
    assert!(answers.iter().all(|answer| answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("done")));
    assert_eq!((answers.len(), inside.load(Ordering::SeqCst)), (300, 300));
}

/// Runs itself again where a process may have few files open only.
#[cfg(unix)]
#[tokio::test]
async fn too_many_open_files_pass() {
    const FEW: &str = "COPAL_TEST_HAS_FEW_FILES";
    if std::env::var_os(FEW).is_none() {
        let mut again = tokio::process::Command::new("sh");
        again.args(["-c", "ulimit -n 40 && exec \"$0\" --exact server::tests::too_many_open_files_pass"]);
        let output = again.arg(std::env::current_exe().unwrap()).env(FEW, "1").kill_on_drop(true).output();
        let output = tokio::time::timeout(2 * LONG, output).await.unwrap().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    let server = Running::start(Timeouts { pause: SHORT / 10, ..PATIENT }, None, hello()).await;
    let mut clients = Vec::new();
    let error = loop {
        match TcpStream::connect(server.address).await {
            Ok(client) => clients.push(client),
            Err(error) => break error,
        }
    };
    assert_eq!(error.raw_os_error(), Some(24), "EMFILE: {error}");
    assert!(clients.len() < 40);
    // Some of them could not be accepted, and the server has tried.
    tokio::time::sleep(SHORT).await;
    assert!(!server.task.is_finished());
    clients.clear();
    let connect = async {
        loop {
            match TcpStream::connect(server.address).await {
                Ok(client) => break client,
                // The server notices one after the other that they are gone.
                Err(_) => tokio::time::sleep(SHORT / 10).await,
            }
        }
    };
    let mut client = tokio::time::timeout(LONG, connect).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    read_until(&mut client, "hello").await;
}

#[tokio::test]
async fn a_header_has_a_size() {
    let server = Running::start(PATIENT, None, hello()).await;
    let header = |lines: usize, length: usize| {
        let line = |n| format!("X-{n}: {}\r\n", "x".repeat(length));
        format!("GET / HTTP/1.1\r\n{}Connection: close\r\n\r\n", (0..lines).map(line).collect::<String>())
    };
    for (header, status) in [
        (header(60, 10), "200"),
        (header(70, 10), "431"),
        (header(2, 10_000), "200"),
        (header(2, 20_000), "431"),
        (header(1, 1_000_000), "431"),
        ("\u{16}\u{3}\u{1} this is no HTTP\r\n\r\n".to_owned(), "400"),
    ] {
        let (mut reader, mut writer) = server.connect().await.into_split();
        // It may be refused before it is written.
        let write = async { drop(writer.write_all(header.as_bytes()).await) };
        let mut answer = [0; 12];
        let read = async { reader.read_exact(&mut answer).await };
        let (read, ()) = tokio::time::timeout(LONG, async { tokio::join!(read, write) }).await.unwrap();
        read.unwrap();
        assert_eq!(answer, *format!("HTTP/1.1 {status}").as_bytes());
    }
}

#[tokio::test]
async fn a_stop_waits_for_answers_but_not_for_events_nor_for_silence() {
    let (asked, mut was_asked) = tokio::sync::mpsc::channel(1);
    let slow = get(async move || {
        asked.send(()).await.unwrap();
        tokio::time::sleep(2 * SHORT).await;
        "slow but whole"
    });
    let events = get(async || {
        let first = stream::once(async { io::Result::Ok("data: first\n\n") });
        ([(CONTENT_TYPE, "text/event-stream")], Body::from_stream(first.chain(stream::pending())))
    });
    let app = hello().route("/slow", slow).route("/events", events);
    let server = Running::start(PATIENT, None, app).await;
    let _silent = server.connect().await;
    let mut idle = server.ask("/").await;
    read_until(&mut idle, "hello").await;
    let mut events = server.ask("/events").await;
    read_until(&mut events, "data: first").await;
    let mut slow = server.ask("/slow").await;
    was_asked.recv().await.unwrap();
    server.stop.send(()).unwrap();
    assert!(rest(&mut slow).await.ends_with("slow but whole"));
    // The end of the body was said: it is whole and not cut off.
    assert!(rest(&mut events).await.ends_with("0\r\n\r\n"));
    tokio::time::timeout(LONG / 2, server.task).await.expect("stopping takes too long").unwrap();
    TcpStream::connect(server.address).await.unwrap_err();
}

#[tokio::test]
async fn a_stop_cuts_off_what_takes_too_long() {
    let app = Router::new().route("/", get(async || Body::from_stream(stream::pending::<io::Result<String>>())));
    let server = Running::start(Timeouts { grace: SHORT, ..PATIENT }, None, app).await;
    let mut client = server.ask("/").await;
    read_until(&mut client, "200 OK").await;
    server.stop.send(()).unwrap();
    tokio::time::timeout(LONG, server.task).await.expect("stopping takes too long").unwrap();
    rest(&mut client).await;
}

/// Makes a certificate for this machine, with its key, as `NAME.pem` and `NAME.key`.
fn certificate(folder: &Path, name: &str) -> TlsFiles {
    let files = TlsFiles { certificate: folder.join(format!("{name}.pem")), key: folder.join(format!("{name}.key")) };
    let config = folder.join("openssl.cnf");
    let text = "[req]\ndistinguished_name = dn\nx509_extensions = v3\nprompt = no\n[dn]\nCN = copal test\n\
                [v3]\nbasicConstraints = critical, CA:FALSE\nsubjectAltName = IP:127.0.0.1\n";
    fs::write(&config, text).unwrap();
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
    openssl.args(["-days", "30", "-config"]).arg(config).arg("-out").arg(&files.certificate);
    let output = openssl.arg("-keyout").arg(&files.key).output().expect("these tests need openssl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    files
}

/// A client that knows one certificate only.
fn client(files: &TlsFiles) -> reqwest::Client {
    let certificate = reqwest::Certificate::from_pem(&fs::read(&files.certificate).unwrap()).unwrap();
    reqwest::Client::builder().no_proxy().timeout(LONG).tls_certs_only([certificate]).build().unwrap()
}

async fn hears_hello(client: &reqwest::Client, url: &str) -> bool {
    match client.get(url).send().await {
        Ok(answer) => answer.text().await.unwrap() == "hello",
        Err(error) => {
            assert!(error.is_connect(), "{error:?}");
            false
        }
    }
}

#[tokio::test]
async fn https_is_spoken_and_its_certificate_changes_while_connections_go_on() {
    let home = tempfile::tempdir().unwrap();
    let (used, next) = (certificate(home.path(), "used"), certificate(home.path(), "next"));
    let server = Running::start(PATIENT, Some(used.clone()), hello()).await;
    let url = server.url("https");
    let (old, new) = (client(&used), client(&next));
    assert!(hears_hello(&old, &url).await);
    assert!(!hears_hello(&new, &url).await);
    let mut plain = server.ask("/").await;
    assert!(!rest(&mut plain).await.contains("hello"), "plain HTTP is no way around TLS");

    let former = client(&used);
    fs::copy(&next.certificate, &used.certificate).unwrap();
    server.handle.reload_tls();
    assert!(hears_hello(&former, &url).await, "without its key, the new certificate is not used");
    fs::copy(&next.key, &used.key).unwrap();
    server.handle.reload_tls();
    assert!(hears_hello(&old, &url).await, "a connection that is there goes on");
    assert!(hears_hello(&new, &url).await);
    let another = reqwest::Client::builder().no_proxy().timeout(LONG).build().unwrap();
    assert!(!hears_hello(&another, &url).await);

    fs::write(&used.certificate, "rubbish").unwrap();
    server.handle.reload_tls();
    assert!(hears_hello(&client(&next), &url).await);
    server.stop.send(()).unwrap();
    tokio::time::timeout(LONG / 2, server.task).await.expect("stopping takes too long").unwrap();
}

#[tokio::test]
async fn a_handshake_that_stalls_ends_the_connection_and_holds_up_no_stop() {
    let home = tempfile::tempdir().unwrap();
    let files = certificate(home.path(), "used");
    let timeouts = Timeouts { handshake: SHORT, ..PATIENT };
    let server = Running::start(timeouts, Some(files.clone()), hello()).await;
    assert_eq!(rest(&mut server.connect().await).await, "");
    let mut begun = server.connect().await;
    begun.write_all(&[0x16, 3, 1, 2, 0]).await.unwrap();
    rest(&mut begun).await;
    assert!(hears_hello(&client(&files), &server.url("https")).await);

    let server = Running::start(PATIENT, Some(files), hello()).await;
    let mut silent = server.connect().await;
    server.stop.send(()).unwrap();
    tokio::time::timeout(LONG / 2, server.task).await.expect("stopping takes too long").unwrap();
    rest(&mut silent).await;
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_named() {
    let home = tempfile::tempdir().unwrap();
    let (good, other) = (certificate(home.path(), "good"), certificate(home.path(), "other"));
    let file = |name: &str, text: &str| {
        fs::write(home.path().join(name), text).unwrap();
        home.path().join(name)
    };
    let missing = home.path().join("missing");
    let half = file("half", "-----BEGIN CERTIFICATE-----\nAAAA\n");
    let rubbish = file("rubbish", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let locked = file("locked", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
    for (certificate, key, named, problem) in [
        (&missing, &good.key, &missing, "cannot read "),
        (&good.certificate, &missing, &missing, "cannot read "),
        (&good.key, &good.key, &good.key, "holds no certificate"),
        (&half, &good.key, &half, "is no PEM file"),
        (&rubbish, &good.key, &rubbish, "cannot be used with the key in "),
        (&good.certificate, &good.certificate, &good.certificate, "holds no private key"),
        (&good.certificate, &locked, &locked, "a key with a password cannot"),
        (&good.certificate, &half, &half, "is no PEM file"),
        (&good.certificate, &other.key, &other.key, "is not that of the first certificate in "),
    ] {
        let tls = TlsFiles { certificate: certificate.clone(), key: key.clone() };
        let error = Server::bind(options(HERE, Some(tls))).await.unwrap_err().to_string();
        assert!(error.contains(&named.display().to_string()) && error.contains(problem), "{problem:?} in {error}");
    }
}
