//! Measures snapshots: `snapshots FILE [ROUNDS]` takes one, lists, rewinds and removes it; docs/engines/sqlite.md has results.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::path::Path;
use std::time::Instant;

use copal_core::{Context, Engine, RewindOptions, SnapshotId, SnapshotNote, SnapshotRequest, Source};
use copal_sqlite::SqliteEngine;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let source = Source::path(Path::new(&arguments.next().expect("a database file")));
    let rounds: u32 = arguments.next().map_or(3, |n| n.parse().unwrap());
    let engine = SqliteEngine::default();
    let snapshots = engine.snapshots().unwrap();
    let context = Context::silent();
    let timed = |what: &str, started: Instant| println!("  {what:8} {:7.1} ms", started.elapsed().as_secs_f64() * 1e3);
    for round in 0..rounds {
        let id: SnapshotId = format!("20261120-15{:02}{:02}Z-0000", round / 60, round % 60).parse().unwrap();
        let request = SnapshotRequest { id: id.clone(), note: SnapshotNote::default(), spare: false };
        let started = Instant::now();
        let taken = snapshots.take(&source, &request, &context).unwrap();
        println!("{}", taken.snapshot.method);
        timed("take", started);
        let started = Instant::now();
        snapshots.list(&source, &context).unwrap();
        timed("list", started);
        let started = Instant::now();
        let options = RewindOptions { force: std::env::var_os("FORCE").is_some(), spare: false };
        if std::env::var_os("NO_REWIND").is_none() {
            let rewind = snapshots.prepare(&source, &id, options, &context).unwrap();
            timed("prepare", started);
            let started = Instant::now();
            rewind.finish(&context).unwrap();
            timed("finish", started);
        }
        let started = Instant::now();
        snapshots.remove(&source, &id, &context).unwrap();
        timed("remove", started);
    }
}
