//! A daemon in a process of its own, and what can be asked of it.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::home::Home;
use crate::http::{self, Answer};

/// What does not happen within this time does not happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);

/// Waits until there is something.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let late = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < late, "in vain: {what}");
        std::thread::sleep(PAUSE);
    }
}

/// `copal serve` in a home, by its `copal.toml`; killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
    address: Option<SocketAddr>,
}

impl Daemon {
    /// Starts it and waits until it listens.
    #[track_caller]
    pub(crate) fn start(home: &Home) -> Self {
        let mut daemon = Self::spawn(home);
        daemon.listens();
        daemon
    }

    /// Starts it.
    pub(crate) fn spawn(home: &Home) -> Self {
        let started = fs::read_dir(home.path("")).unwrap().map(|entry| entry.unwrap().file_name());
        let number = started.filter(|name| name.to_string_lossy().starts_with("daemon-")).count();
        let log = home.path(&format!("daemon-{number}.log"));
        let mut command = home.command(&["serve", "--config", "copal.toml"]);
        let errors = File::create(&log).unwrap();
        let child = command.stdout(Stdio::null()).stderr(errors).spawn().unwrap();
        Self { child, log, address: None }
    }

    /// The address of the API, once it says it.
    #[track_caller]
    pub(crate) fn listens(&mut self) -> SocketAddr {
        if let Some(address) = self.address {
            return address;
        }
        let address = until("the daemon listens", || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the daemon ended: {status}\n{}", self.log());
            }
            address_in(&self.log())
        });
        self.address = Some(address);
        address
    }

    /// All that it said.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned()
    }

    #[track_caller]
    pub(crate) fn ask(&self, method: &str, path: &str) -> Answer {
        let address = self.address.expect("it was waited for");
        http::ask(address, method, path).unwrap_or_else(|error| panic!("{method} {path}: {error}\n{}", self.log()))
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Value {
        let answer = self.ask("GET", path);
        assert_eq!(answer.status, 200, "GET {path}: {answer:?}\n{}", self.log());
        answer.json()
    }

    /// Asks for something that is then done without us.
    #[track_caller]
    pub(crate) fn accepts(&self, path: &str) {
        let answer = self.ask("POST", path);
        assert_eq!(answer.status, 202, "POST {path}: {answer:?}\n{}", self.log());
    }

    /// What `/api/databases` says of one.
    #[track_caller]
    pub(crate) fn database(&self, name: &str) -> Value {
        let all = self.get("/api/databases");
        let found = all["databases"].as_array().unwrap().iter().find(|database| database["name"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {all}")).clone()
    }

    /// The runs of a database, newest first.
    #[track_caller]
    pub(crate) fn runs(&self, database: &str) -> Vec<Value> {
        let answer = self.get(&format!("/api/runs?database={database}&limit=1000"));
        answer["runs"].as_array().unwrap().clone()
    }

    /// The number of the newest run, 0 if there is none.
    #[track_caller]
    pub(crate) fn newest(&self, database: &str) -> i64 {
        self.runs(database).first().map_or(0, |run| run["id"].as_i64().unwrap())
    }

    /// Waits for a successful backup by a run later than this one.
    #[track_caller]
    pub(crate) fn backs_up(&self, database: &str, after: i64) -> Value {
        let is_good =
            |run: &Value| run["id"].as_i64() > Some(after) && run["ending"] == "success" && run["kind"] == "backup";
        let look = || self.runs(database).into_iter().find(is_good);
        until(&format!("{database} is backed up by a run after {after}\n{}", self.log()), look)
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until it has ended.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> ExitStatus {
        until(&format!("the daemon ends\n{}", self.log()), || self.child.try_wait().unwrap())
    }

    /// Stops it as a service manager would.
    #[track_caller]
    pub(crate) fn stop(mut self) {
        self.signal("TERM");
        let status = self.ended();
        assert_eq!(status.code(), Some(0), "{}", self.log());
    }

    /// Kills it as `kill -9` does.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}:\n{}", self.log.display(), self.log());
        }
    }
}

fn address_in(log: &str) -> Option<SocketAddr> {
    let (_, after) = log.split_once("listening on http://")?;
    // What follows shows that the line is whole.
    let end = after.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':')?;
    after.get(..end)?.parse().ok()
}
