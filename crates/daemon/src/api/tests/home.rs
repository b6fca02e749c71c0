//! A folder with databases, a repository and tokens, and the API over them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode, header};
use copal::config::{Configuration, Environment, Overrides};
use copal::{BackupOptions, Context, Copal, InitOptions};
use jiff::Timestamp;
use rusqlite::Connection;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::api::{Api, router};
use crate::assembly::Loaded;
use crate::history::Recorder;
use crate::notifier::Notifications;
use crate::protection::{Protection, ProtectionSettings};
use crate::runner::Runner;
use crate::server::Peer;
use crate::tokens::{Role, TokenFile, Tokens};

/// What does not happen within this time does not happen.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// The API over databases `shop`, with a backup, and `other`.
pub(super) struct Home {
    pub(super) folder: tempfile::TempDir,
    pub(super) runner: Runner,
    pub(super) copal: Copal,
    pub(super) tokens: TokenFile,
    router: Router,
    /// The tokens by role; none where there are none.
    presented: Vec<(Role, String)>,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Answer {
    #[track_caller]
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// Refused as JSON, with this status.
    #[track_caller]
    pub(super) fn refuses(&self, status: u16) -> &Self {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/json", "{self:?}");
        assert!(self.json()["error"]["message"].is_string(), "{self:?}");
        self
    }
}

impl Home {
    /// With a token for each role.
    pub(super) async fn new() -> Self {
        Self::with_tokens(true).await
    }

    pub(super) async fn with_tokens(has_tokens: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let text = format!(
            "database_wait = \"1s\"\n[repository]\nurl = \"{}\"\n\
             [databases.shop]\nurl = \"sqlite:{}\"\n[databases.other]\nurl = \"sqlite:{}\"\n",
            at("repository"),
            at("shop.db"),
            at("other.db"),
        );
        std::fs::write(folder.path().join("copal.toml"), text).unwrap();
        let environment: Environment = [("HOME", at("")), ("XDG_STATE_HOME", at("state"))].into_iter().collect();
        let path = folder.path().join("copal.toml");
        let configuration = Configuration::load(Some(&path), &environment).unwrap();
        let settings = configuration.resolve(&Overrides { repository: None }, &environment).unwrap().settings;
        let loaded = Loaded { configuration, settings };
        make(&folder.path().join("shop.db"), 200);
        make(&folder.path().join("other.db"), 10);
        let copal = Copal::new(loaded.settings.clone());
        copal.init(InitOptions::default()).await.unwrap();
        let tokens = TokenFile::new(loaded.tokens_file().unwrap());
        let mut presented = Vec::new();
        for role in Role::ALL.into_iter().filter(|_| has_tokens) {
            let token = tokens.add(role.as_str(), role, Timestamp::now()).unwrap();
            presented.push((role, token.reveal().to_owned()));
        }

        let (recorder, past) = Recorder::start(loaded.settings.state.as_deref(), Timestamp::now());
        let runner = Runner::start(loaded.runner().unwrap(), recorder, past);
        let notifications = Notifications::start(loaded.notifications("host").unwrap(), &runner, Default::default());
        let protection = Protection::start(ProtectionSettings::new(loaded.settings.clone()), runner.clone());
        runner.begin();
        let known = Tokens::load(tokens.path()).unwrap();
        let api = Api::new(runner.clone(), protection, notifications, known, &loaded);
        let home = Self { folder, runner, copal: copal.clone(), tokens, router: router(api), presented };
        home.back_up("shop").await;
        home
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes a backup; answers its id.
    pub(super) async fn back_up(&self, name: &str) -> String {
        let done = self.copal.backup(name, BackupOptions::default(), &Context::default()).await.unwrap();
        done.backup.id.to_string()
    }

    /// The token of a role, as a header says it.
    pub(super) fn bearer(&self, role: Role) -> String {
        let (_, token) = self.presented.iter().find(|(known, _)| *known == role).unwrap();
        format!("Bearer {token}")
    }

    /// Sends a request from an address; the answer's body is not read yet.
    pub(super) async fn open_from(&self, peer: &str, mut request: Request<Body>) -> axum::response::Response {
        let peer: SocketAddr = format!("{peer}:4711").parse().unwrap();
        request.extensions_mut().insert(Peer(peer));
        request.headers_mut().entry(header::HOST).or_insert("127.0.0.1:8467".parse().unwrap());
        let answer = self.router.clone().oneshot(request);
        tokio::time::timeout(PATIENCE, answer).await.expect("there is no answer").unwrap()
    }

    pub(super) async fn send_from(&self, peer: &str, request: Request<Body>) -> Answer {
        let answer = self.open_from(peer, request).await;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = tokio::time::timeout(PATIENCE, to_bytes(answer.into_body(), usize::MAX)).await.unwrap().unwrap();
        Answer { status, headers, body: String::from_utf8(body.to_vec()).unwrap() }
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Answer {
        self.send_from("127.0.0.1", request).await
    }

    /// Asks as a role, with a JSON body if there is one.
    pub(super) fn request(&self, role: Option<Role>, method: &str, path: &str, body: Option<Value>) -> Request<Body> {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(role) = role {
            request = request.header(header::AUTHORIZATION, self.bearer(role));
        }
        match body {
            Some(body) => request.header(header::CONTENT_TYPE, "application/json").body(body.to_string().into()),
            None => request.body(Body::empty()),
        }
        .unwrap()
    }

    pub(super) async fn ask(&self, role: Role, method: &str, path: &str) -> Answer {
        self.send(self.request(Some(role), method, path, None)).await
    }

    pub(super) async fn post(&self, role: Role, path: &str, body: Value) -> Answer {
        self.send(self.request(Some(role), "POST", path, Some(body))).await
    }

    /// Starts a run with a body; answers its number.
    #[track_caller]
    pub(super) fn started(answer: &Answer) -> i64 {
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.json()["run"].as_i64().unwrap()
    }

    /// Waits for the end of a run; answers its record.
    pub(super) async fn ended(&self, run: i64) -> Value {
        let wait = async {
            loop {
                let record = self.ask(Role::Viewer, "GET", &format!("/api/runs/{run}")).await.json()["run"].clone();
                if record["ending"].is_string() {
                    return record;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("the run does not end")
    }

    /// Restores and waits for the end.
    pub(super) async fn restore(&self, role: Role, name: &str, body: Value) -> Value {
        let answer = self.post(role, &format!("/api/databases/{name}/restore"), body).await;
        self.ended(Self::started(&answer)).await
    }

    /// All files but those of the state folder.
    pub(super) fn files(&self) -> BTreeSet<PathBuf> {
        let (mut found, mut folders) = (BTreeSet::new(), vec![self.folder.path().to_owned()]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() && path != self.path("state") {
                    folders.push(path);
                } else if path != self.path("state") {
                    found.insert(path);
                }
            }
        }
        found
    }
}

/// Makes a database with so many rows of 1 KiB.
pub(super) fn make(path: &Path, rows: u32) {
    let mut db = Connection::open(path).unwrap();
    let change = db.transaction().unwrap();
    change.execute_batch("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, body BLOB)").unwrap();
    for _ in 0..rows {
        change.execute("INSERT INTO t (body) VALUES (randomblob(1024))", []).unwrap();
    }
    change.commit().unwrap();
}

/// The rows of a database that is whole.
#[track_caller]
pub(super) fn rows(path: &Path) -> u32 {
    let db = Connection::open(path).unwrap();
    let check: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    db.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
}

/// A text as one segment of a path.
pub(super) fn encoded(text: &str) -> String {
    let keep = |b: u8| b.is_ascii_alphanumeric();
    text.bytes().map(|b| if keep(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// A body that says nothing.
pub(super) fn nothing() -> Value {
    json!({})
}
