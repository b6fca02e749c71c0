//! An SMTP server on loopback that speaks what a client needs, with or without TLS, and keeps what it is given.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Made for these tests, for `localhost` and 127.0.0.1; signed by itself.
pub(crate) const CERTIFICATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sinks/certificate.pem");

/// How the server behaves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Behaviour {
    /// It offers STARTTLS.
    pub(crate) starttls: bool,
    /// TLS from the start.
    pub(crate) implicit: bool,
    /// It wants this login, `user\0password`.
    pub(crate) login: Option<&'static str>,
    /// Answers to commands in place of its own, by their first word; `""` is the greeting, `.` the end of the mail.
    pub(crate) answers: Vec<(&'static str, &'static str)>,
    /// The command at which it falls silent.
    pub(crate) hang_at: Option<&'static str>,
}

/// A mail that arrived, and all commands before it.
#[derive(Clone, Debug)]
pub(crate) struct Mail {
    pub(crate) commands: Vec<String>,
    pub(crate) data: String,
    pub(crate) was_encrypted: bool,
}

impl Mail {
    /// The lines of the header, unfolded.
    pub(crate) fn headers(&self) -> Vec<String> {
        let head = self.data.split("\r\n\r\n").next().unwrap();
        head.replace("\r\n ", " ").lines().map(str::to_owned).collect()
    }

    pub(crate) fn header(&self, name: &str) -> String {
        let headers = self.headers();
        let found: Vec<_> = headers.iter().filter_map(|line| line.strip_prefix(&format!("{name}: "))).collect();
        assert_eq!(found.len(), 1, "{name} in {headers:?}");
        found[0].to_owned()
    }
}

/// The server.
pub(crate) struct SmtpSink {
    pub(crate) port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    mails: Vec<Mail>,
    commands: Vec<String>,
}

impl SmtpSink {
    pub(crate) async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State::default()));
        let sink = Self { port, state: state.clone() };
        let acceptor = acceptor();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let session = Session { behaviour: behaviour.clone(), state: state.clone(), commands: Vec::new() };
                tokio::spawn(session.serve(socket, acceptor.clone()));
            }
        });
        sink
    }

    pub(crate) fn one(&self) -> Mail {
        let mut mails = std::mem::take(&mut self.state.lock().unwrap().mails);
        assert_eq!(mails.len(), 1, "{mails:?}");
        mails.remove(0)
    }

    pub(crate) fn mails(&self) -> usize {
        self.state.lock().unwrap().mails.len()
    }

    /// All commands of all sessions.
    pub(crate) fn commands(&self) -> Vec<String> {
        self.state.lock().unwrap().commands.clone()
    }
}

fn acceptor() -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_file(CERTIFICATE).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("key.pem")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

struct Session {
    behaviour: Behaviour,
    state: Arc<Mutex<State>>,
    commands: Vec<String>,
}

enum End {
    Closed,
    StartTls,
}

impl Session {
    async fn serve(mut self, socket: tokio::net::TcpStream, acceptor: TlsAcceptor) {
        if self.behaviour.implicit {
            // A client that refuses the certificate ends it here.
            if let Ok(stream) = acceptor.accept(socket).await {
                self.talk(&mut BufReader::new(stream), true, true).await;
            }
            return;
        }
        let mut stream = BufReader::new(socket);
        if let End::StartTls = self.talk(&mut stream, false, true).await
            && let Ok(stream) = acceptor.accept(stream.into_inner()).await
        {
            self.talk(&mut BufReader::new(stream), true, false).await;
        }
    }

    async fn talk<S>(&mut self, stream: &mut BufReader<S>, is_encrypted: bool, greets: bool) -> End
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if greets {
            self.say(stream, "", "220 sink ESMTP").await;
        }
        let mut is_logged_in = self.behaviour.login.is_none();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                return End::Closed;
            }
            let line = line.trim_end_matches("\r\n").to_owned();
            self.commands.push(line.clone());
            self.state.lock().unwrap().commands.push(line.clone());
            let word = line.split([' ', ':']).next().unwrap().to_uppercase();
            match word.as_str() {
                "EHLO" => {
                    let mut answer = "250-sink\r\n250-8BITMIME\r\n".to_owned();
                    if self.behaviour.starttls && !is_encrypted {
                        answer += "250-STARTTLS\r\n";
                    }
                    if self.behaviour.login.is_some() {
                        answer += "250-AUTH PLAIN\r\n";
                    }
                    self.say(stream, "EHLO", &(answer + "250 SIZE 1000000")).await;
                }
                "STARTTLS" => {
                    self.say(stream, "STARTTLS", "220 go ahead").await;
                    return End::StartTls;
                }
                "AUTH" => {
                    let expected = format!("\0{}", self.behaviour.login.unwrap_or_default());
                    is_logged_in = line.strip_prefix("AUTH PLAIN ") == Some(&base64(expected.as_bytes()));
                    let answer = if is_logged_in { "235 welcome" } else { "535 5.7.8 wrong" };
                    self.say(stream, "AUTH", answer).await;
                }
                "MAIL" | "RCPT" if !is_logged_in => self.say(stream, &word, "530 5.7.0 log in first").await,
                "MAIL" | "RCPT" => self.say(stream, &word, "250 fine").await,
                "DATA" => {
                    self.say(stream, "DATA", "354 go on").await;
                    if self.behaviour.answers.iter().any(|(word, _)| *word == "DATA") {
                        continue;
                    }
                    let mut data = String::new();
                    while !data.ends_with("\r\n.\r\n") {
                        if stream.read_line(&mut data).await.unwrap_or(0) == 0 {
                            return End::Closed;
                        }
                    }
                    data.truncate(data.len() - ".\r\n".len());
                    let data = data.replace("\r\n..", "\r\n.");
                    let mail = Mail { commands: std::mem::take(&mut self.commands), data, was_encrypted: is_encrypted };
                    self.state.lock().unwrap().mails.push(mail);
                    self.say(stream, ".", "250 accepted").await;
                }
                "QUIT" => {
                    self.say(stream, "QUIT", "221 bye").await;
                    return End::Closed;
                }
                _ => self.say(stream, &word, "500 what").await,
            }
        }
    }

    async fn say<S>(&self, stream: &mut BufReader<S>, to: &str, answer: &str)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if self.behaviour.hang_at == Some(to) {
            std::future::pending::<()>().await;
        }
        let other = self.behaviour.answers.iter().find(|(word, _)| *word == to).map(|(_, answer)| *answer);
        // The client may be gone.
        let _ = stream.write_all(format!("{}\r\n", other.unwrap_or(answer)).as_bytes()).await;
        let _ = stream.flush().await;
    }
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
