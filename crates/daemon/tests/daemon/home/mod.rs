//! A folder with databases, a repository and a state folder, and a runner over them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use copal::schedule::{Policy, Schedule};
use copal::{Copal, DatabaseSettings, InitOptions, Keep, Settings};
use copal_daemon::{Recorder, RunEvent, RunRecord, Runner, RunnerSettings};
use jiff::Timestamp;
use rusqlite::Connection;
use tokio::sync::broadcast::Receiver;

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with databases, a repository and a state folder.
pub(crate) struct Home {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) policies: BTreeMap<String, Policy>,
    pub(crate) settings: Settings,
}

impl Home {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let repository = folder.path().join("repository");
        let settings = Settings {
            state: Some(folder.path().join("state")),
            database_wait: Duration::from_millis(100),
            ..Settings::new(repository.to_str().unwrap())
        };
        Copal::new(settings.clone()).init(InitOptions::default()).await.unwrap();
        Self { folder, policies: BTreeMap::new(), settings }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.db"))
    }

    /// Configures a database and makes it, with so many rows of 1 KiB.
    pub(crate) fn add(&mut self, name: &str, rows: u32, policy: Policy) {
        let url = format!("sqlite:{}", self.path(name).display());
        let keep = Keep { last: Some(2), ..Keep::default() };
        self.settings.databases.insert(name.to_owned(), DatabaseSettings { url, keep, ..DatabaseSettings::default() });
        self.policies.insert(name.to_owned(), policy);
        let mut db = Connection::open(self.path(name)).unwrap();
        let change = db.transaction().unwrap();
        change.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)").unwrap();
        for _ in 0..rows {
            change.execute("INSERT INTO t (body) VALUES (randomblob(1024))", []).unwrap();
        }
        change.commit().unwrap();
    }

    pub(crate) fn runner_settings(&self, limit: usize) -> RunnerSettings {
        RunnerSettings { settings: self.settings.clone(), policies: self.policies.clone(), limit }
    }

    pub(crate) fn state(&self) -> &Path {
        self.settings.state.as_deref().unwrap()
    }

    pub(crate) fn start(&self, limit: usize) -> (Runner, Receiver<RunEvent>) {
        let (recorder, past) = Recorder::start(Some(self.state()), Timestamp::now());
        let runner = Runner::start(self.runner_settings(limit), recorder, past);
        let events = runner.subscribe();
        runner.begin();
        (runner, events)
    }

    pub(crate) async fn backups(&self, database: &str) -> usize {
        Copal::new(self.settings.clone()).list(Some(database)).await.unwrap()[0].backups.len()
    }
}

pub(crate) fn every_second() -> Policy {
    Policy { schedule: Some(Schedule::parse("every 1s").unwrap()), ..Policy::default() }
}

pub(crate) async fn next(events: &mut Receiver<RunEvent>) -> RunEvent {
    tokio::time::timeout(PATIENCE, events.recv()).await.expect("something happens").unwrap()
}

pub(crate) async fn started(events: &mut Receiver<RunEvent>) -> RunRecord {
    loop {
        if let RunEvent::Started(record) = next(events).await {
            return record;
        }
    }
}

pub(crate) async fn ended(events: &mut Receiver<RunEvent>) -> RunRecord {
    loop {
        if let RunEvent::Ended(record, _) = next(events).await {
            return record;
        }
    }
}
