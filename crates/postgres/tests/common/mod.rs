//! Backups in memory, and restores as the layers above ask for them.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod memory;
pub mod snapshots;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use copal_core::{CheckLevel, Context, Engine, EngineError, Event, Progress, RestoreRequest, Restored, Source};
use copal_postgres::PostgresEngine;
use copal_postgres::testing::Server;
use memory::MemoryBackup;

pub fn engine() -> PostgresEngine {
    PostgresEngine { lock_wait: Duration::from_secs(3), ..PostgresEngine::default() }
}

/// With the client programs of the server's version, or the next one's.
pub fn engine_for(server: &Server) -> PostgresEngine {
    let program = server.installation().program("pg_dump");
    PostgresEngine { bin: program.parent().map(Into::into), ..engine() }
}

pub fn source(server: &Server, database: &str) -> Source {
    Source::parse(&server.url(database)).unwrap()
}

pub fn backup(engine: &PostgresEngine, server: &Server, database: &str) -> MemoryBackup {
    let mut backup = MemoryBackup::default();
    let capture = engine.capture(&source(server, database), &mut backup, &Context::silent()).unwrap();
    backup.capture = capture;
    backup
}

pub fn restore(
    engine: &PostgresEngine,
    backup: &MemoryBackup,
    server: &Server,
    database: &str,
    change: impl FnOnce(&mut RestoreRequest),
) -> Result<Restored, EngineError> {
    let mut request = RestoreRequest::new(source(server, database));
    request.check = CheckLevel::Full;
    request.expected = Some(backup.capture.inventory.clone());
    change(&mut request);
    engine.restore(backup, &request, &Context::silent())
}

pub fn databases(server: &Server) -> String {
    server.psql("postgres", "SELECT string_agg(datname, ',' ORDER BY datname) FROM pg_database WHERE NOT datistemplate")
}

/// What an operation tells.
#[derive(Default)]
pub struct Told(Mutex<Vec<Event>>);

impl Progress for Told {
    fn event(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

impl Told {
    pub fn warnings(&self) -> Vec<String> {
        let warning = |event: &Event| if let Event::Warning(text) = event { Some(text.clone()) } else { None };
        self.0.lock().unwrap().iter().filter_map(warning).collect()
    }

    pub fn phases(&self) -> Vec<String> {
        let phase = |event: &Event| if let Event::Phase { name, .. } = event { Some(name.clone()) } else { None };
        self.0.lock().unwrap().iter().filter_map(phase).collect()
    }
}

/// A context, and what is told to it.
pub fn told() -> (Context, Arc<Told>) {
    let told = Arc::new(Told::default());
    (Context { progress: told.clone(), ..Context::silent() }, told)
}
