//! Snapshots of real servers.

mod kills;
mod load;
mod refusals;
mod torture;

use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use copal_core::{
    Context, EngineResult, Event, Progress, RewindOptions, Rewound, SnapshotId, SnapshotNote, SnapshotRequest,
    Snapshots as _, Source, Taken,
};

use crate::MysqlEngine;
use crate::testing::Server;

/// Keeps warnings.
#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl Progress for Warnings {
    fn event(&self, event: Event) {
        if let Event::Warning(text) = event {
            self.0.lock().unwrap().push(text);
        }
    }
}

impl Warnings {
    fn told(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// A context, and what it is warned of.
fn listening() -> (Context, Arc<Warnings>) {
    let warnings = Arc::new(Warnings::default());
    (Context { progress: warnings.clone(), ..Context::silent() }, warnings)
}

fn engine() -> MysqlEngine {
    MysqlEngine { lock_wait: Duration::from_secs(20) }
}

fn source(url: &str) -> Source {
    Source::parse(url).unwrap()
}

fn request(n: u32) -> SnapshotRequest {
    let note =
        SnapshotNote { name: format!("näme '{n}' \"`\\"), together: vec!["a".to_owned()], ..SnapshotNote::default() };
    SnapshotRequest { id: id(n), note, spare: false }
}

fn id(n: u32) -> SnapshotId {
    format!("20261120-{:06}Z-7f3a", 153_000 + n % 60).parse().unwrap()
}

fn take(url: &str, n: u32) -> EngineResult<Taken> {
    engine().take(&source(url), &request(n), &Context::silent())
}

fn rewind(url: &str, n: u32) -> EngineResult<Rewound> {
    let prepared = engine().prepare(&source(url), &id(n), RewindOptions::default(), &Context::silent())?;
    prepared.finish(&Context::silent())
}

fn listed(url: &str) -> Vec<SnapshotId> {
    engine().list(&source(url), &Context::silent()).unwrap().into_iter().map(|found| found.id).collect()
}

/// All of a database as the server's own dump program sees it.
fn dump(server: &Server, database: &str) -> String {
    let mut command = Command::new("mariadb-dump");
    command.args(["--no-defaults", "--user=root", "--routines", "--triggers", "--dump-history", "--skip-comments"]);
    command.args(["--default-character-set=utf8mb4", "--hex-blob", "--skip-extended-insert"]);
    let output = command
        .arg(format!("--socket={}", server.socket().display()))
        .args(["--databases", database])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // The program does not dump events of databases whose name has quotes.
    let events = server.sql(
        "",
        &format!(
            "SELECT event_name, definer, time_zone, event_definition, event_type, execute_at, interval_value, interval_field, sql_mode, starts, \
             ends, status, on_completion, event_comment, character_set_client, collation_connection, database_collation \
             FROM information_schema.events WHERE event_schema = {} ORDER BY 1",
            crate::quote::literal(database)
        ),
    );
    format!("{}{events}\n", String::from_utf8_lossy(&output.stdout))
}

/// The schemas of ours.
fn ours(server: &Server) -> Vec<String> {
    let found = server
        .sql("", "SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE 'copal\\_%' ORDER BY 1");
    found.lines().map(str::to_owned).collect()
}

#[track_caller]
fn assert_same(before: &str, after: &str) {
    for (i, (a, b)) in before.lines().zip(after.lines()).enumerate() {
        assert_eq!(a, b, "line {i} of\n{before}\nis other in\n{after}");
    }
    assert_eq!(before.len(), after.len());
}
