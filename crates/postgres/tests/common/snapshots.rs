//! Snapshots as the layers above ask for them.

use std::time::Duration;

use copal_core::{
    Context, EngineError, RewindOptions, Rewound, SnapshotId, SnapshotNote, SnapshotRequest, Snapshots, Source, Taken,
};
use copal_postgres::PostgresEngine;
use copal_postgres::testing::Server;

use super::databases;

pub const ODD: &str = "It's \"odd\"/ü \\ $1 :x";

pub fn text(error: &EngineError) -> String {
    let cause = error.source.as_ref().map(ToString::to_string).unwrap_or_default();
    format!("{error}: {cause} ({})", error.hint.as_deref().unwrap_or_default())
}

pub fn request(n: u32, spare: bool) -> SnapshotRequest {
    let id: SnapshotId = format!("20261121-1200{n:02}Z-7f3a").parse().unwrap();
    let note =
        SnapshotNote { name: format!("before {ODD} {n}"), label: Some("tests".into()), ..SnapshotNote::default() };
    SnapshotRequest { id, note, spare }
}

pub fn take(engine: &PostgresEngine, source: &Source, n: u32, spare: bool) -> Result<Taken, EngineError> {
    engine.take(source, &request(n, spare), &Context::silent())
}

pub fn rewind(engine: &PostgresEngine, source: &Source, n: u32, spare: bool) -> Result<Rewound, EngineError> {
    let options = RewindOptions { spare, ..RewindOptions::default() };
    let context = Context::silent();
    engine.prepare(source, &request(n, false).id, options, &context).and_then(|prepared| prepared.finish(&context))
}

/// The databases, once all that goes on behind has ended.
pub fn settled(server: &Server) -> String {
    let busy = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'";
    while server.psql("template1", busy) != "0" {
        std::thread::sleep(Duration::from_millis(20));
    }
    databases(server)
}

pub fn count(server: &Server, pattern: &str) -> String {
    server.psql("postgres", &format!("SELECT count(*) FROM pg_database WHERE datname ~ '^copal_{pattern}'"))
}
