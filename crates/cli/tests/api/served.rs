//! A daemon with tokens, in a process of its own.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::Value;

use crate::home::Home;

/// What does not happen within this time does not happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(50);

/// `copal serve -v` in a home; killed when dropped.
pub(crate) struct Served {
    child: Child,
    log: PathBuf,
    /// `http://address:port` or the same with `https`.
    pub(crate) url: String,
}

impl Served {
    /// Starts it and waits until it listens.
    #[track_caller]
    pub(crate) fn start(home: &Home, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::spawn(home, arguments, variables).listens()
    }

    /// Starts it in a folder with the configuration that is found from there, and waits until it listens.
    #[track_caller]
    pub(crate) fn start_found(home: &Home, folder: &str) -> Self {
        let log = home.path("found.log");
        let mut command = home.command(&["serve", "-v", "--listen", "127.0.0.1:0"]);
        command.current_dir(folder).stdout(Stdio::null()).stderr(File::create(&log).unwrap());
        Self { child: command.spawn().unwrap(), log, url: String::new() }.listens()
    }

    #[track_caller]
    fn listens(self) -> Self {
        let mut served = self;
        let late = Instant::now() + PATIENCE;
        loop {
            let log = served.log();
            if let Some((_, after)) = log.split_once("listening on ")
                && let Some((url, _)) = after.split_once('\n')
            {
                served.url = url.trim_end().to_owned();
                return served;
            }
            let ended = served.child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < late, "it does not listen: {ended:?}\n{log}");
            std::thread::sleep(PAUSE);
        }
    }

    /// Starts it.
    pub(crate) fn spawn(home: &Home, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let log = home.path("serve.log");
        let mut command = home.command(&["serve", "-v", "--config", "copal.toml"]);
        command.args(arguments).envs(variables.iter().copied());
        let child = command.stdout(Stdio::null()).stderr(File::create(&log).unwrap()).spawn().unwrap();
        Self { child, log, url: String::new() }
    }

    /// Starts it where there is no configuration, and waits until it has printed the address of the set-up; its code comes, too.
    #[track_caller]
    pub(crate) fn first_start(home: &Home, variables: &[(&str, &str)]) -> (Self, String) {
        let (printed, log) = (home.path("printed"), home.path("first.log"));
        let mut command = home.command(&["serve", "-v", "--setup", "--listen", "127.0.0.1:0"]);
        command.stdout(File::create(&printed).unwrap()).stderr(File::create(&log).unwrap());
        let child = command.envs(variables.iter().copied()).spawn().unwrap();
        let mut served = Self { child, log, url: String::new() };
        let late = Instant::now() + PATIENCE;
        loop {
            let text = fs::read_to_string(&printed).unwrap();
            // What follows shows that the line is whole.
            if let Some((before, after)) = text.split_once("/#/start?code=")
                && let Some((code, _)) = after.split_once('\n')
            {
                before.split_whitespace().last().unwrap().clone_into(&mut served.url);
                return (served, code.to_owned());
            }
            let ended = served.child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < late, "no address: {ended:?}\n{text}\n{}", served.log());
            std::thread::sleep(PAUSE);
        }
    }

    /// All that it said.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned()
    }

    /// Its address and port.
    pub(crate) fn address(&self) -> &str {
        self.url.split_once("://").unwrap().1
    }

    pub(crate) fn ask(&self, method: Method, path: &str, token: &str) -> RequestBuilder {
        client().request(method, format!("{}{path}", self.url)).bearer_auth(token)
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> Response {
        self.ask(Method::GET, path, token).send().await.unwrap()
    }

    /// Asks with a JSON body; the status and what came back.
    pub(crate) async fn post(&self, path: &str, token: &str, body: &str) -> (u16, Value) {
        let request = self.ask(Method::POST, path, token).header("content-type", "application/json");
        let answer = request.body(body.to_owned()).send().await.unwrap();
        (answer.status().as_u16(), serde_json::from_str(&answer.text().await.unwrap()).unwrap())
    }

    /// Waits for the first run of a database; answers the number of its newest.
    pub(crate) async fn newest_run(&self, database: &str, token: &str) -> Value {
        let late = Instant::now() + PATIENCE;
        let list =
            reqwest::Url::parse_with_params(&format!("{}/api/runs", self.url), [("database", database)]).unwrap();
        loop {
            let text = client().get(list.clone()).bearer_auth(token).send().await.unwrap().text().await.unwrap();
            let runs = serde_json::from_str::<Value>(&text).unwrap();
            if runs["runs"][0]["id"].is_number() {
                return runs["runs"][0]["id"].clone();
            }
            assert!(Instant::now() < late, "{database} did not run: {runs}");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits for the end of a run.
    pub(crate) async fn ended(&self, run: &Value, token: &str) -> Value {
        let late = Instant::now() + PATIENCE;
        loop {
            let text = self.get(&format!("/api/runs/{run}"), token).await.text().await.unwrap();
            let record = serde_json::from_str::<Value>(&text).unwrap()["run"].clone();
            if record["ending"].is_string() {
                return record;
            }
            assert!(Instant::now() < late, "{record}");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Tells it to stop, as a service manager would.
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Waits until it has ended.
    #[track_caller]
    pub(crate) fn ended_with(&mut self) -> ExitStatus {
        let late = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < late, "it does not end\n{}", self.log());
            std::thread::sleep(PAUSE);
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

pub(crate) fn client() -> Client {
    Client::builder().no_proxy().timeout(PATIENCE).build().unwrap()
}

/// A home with a database, its configuration, and whatever else the configuration says.
pub(crate) fn home(more: &str) -> Home {
    let home = Home::new();
    home.database("shop.db", 100);
    let text = format!(
        "[repository]\nurl = \"repository\"\n[databases.shop]\nurl = \"sqlite:shop.db\"\n\
         [daemon]\nlisten = \"127.0.0.1:0\"\n{more}"
    );
    home.write("copal.toml", &text);
    home
}

/// Makes a token.
#[track_caller]
pub(crate) fn token(home: &Home, name: &str, role: &str) -> String {
    let run = home.good(&["token", "add", name, "--role", role, "--quiet"]);
    run.stdout.trim_end().to_owned()
}

/// What the configuration says with [`certificate`].
pub(crate) const TLS: &str = "tls = { certificate = \"api.pem\", key = \"api.key\" }\n";

/// Makes a certificate for this machine; answers a client that trusts it and no other.
#[track_caller]
pub(crate) fn certificate(home: &Home) -> Client {
    let configuration = "[req]\ndistinguished_name = dn\nx509_extensions = v3\nprompt = no\n[dn]\nCN = copal test\n\
                         [v3]\nbasicConstraints = critical, CA:FALSE\nsubjectAltName = IP:127.0.0.1\n";
    home.write("openssl.cnf", configuration);
    let mut openssl = Command::new("openssl");
    openssl.current_dir(home.path("")).args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "30"]);
    openssl.args(["-pkeyopt", "ec_paramgen_curve:prime256v1", "-config", "openssl.cnf"]);
    let made = openssl.args(["-out", "api.pem", "-keyout", "api.key"]).output().expect("this test needs openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let certificate = reqwest::Certificate::from_pem(&fs::read(home.path("api.pem")).unwrap()).unwrap();
    Client::builder().no_proxy().timeout(PATIENCE).tls_certs_only([certificate]).build().unwrap()
}
