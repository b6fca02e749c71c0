//! The engine: DuckDB behind Copal's contract.

use std::path::{Path, PathBuf};
use std::time::Duration;

use copal_core::{
    Capabilities, Capture, CheckLevel, CheckReport, Content, Context, Engine, EngineResult, Identity, Inventory,
    RestoreRequest, Restored, Scratch, Sink, Snapshots, Source,
};
use copal_file_engine::FileSnapshots;

use crate::format::header::MAGIC;
use crate::place::Place;
use crate::{MAIN_FILE, capture, check, inventory, restore};

/// Backs up and restores DuckDB databases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DuckDbEngine {
    /// How long a capture may take until it falls back or gives up; time for the database's size comes on top.
    pub deadline: Duration,
    /// The DuckDB that checks restored databases: a `duckdb` program, or a Python that has the module. `None`: the
    /// first suitable one on `PATH`.
    pub program: Option<PathBuf>,
}

impl Default for DuckDbEngine {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(60), program: None }
    }
}

impl Engine for DuckDbEngine {
    fn name(&self) -> &'static str {
        "duckdb"
    }

    fn capabilities(&self) -> Capabilities {
        // Columns are compressed already: level 3 would save 2 % more and take 1.4 times as long (docs/benchmarks.md).
        Capabilities::of_files(&["duckdb"], 1)
    }

    fn recognises(&self, beginning: &[u8]) -> bool {
        // A database whose restore was interrupted is told so.
        beginning.get(8..12) == Some(MAGIC) || restore::is_beginning_of_barrier(beginning)
    }

    fn identify(&self, source: &Source) -> EngineResult<Identity> {
        inventory::identify(&Place::find(source)?)
    }

    fn capture(&self, source: &Source, sink: &mut dyn Sink, context: &Context) -> EngineResult<Capture> {
        capture::capture(&Place::find(source)?, self.deadline, sink, context)
    }

    fn restore(&self, content: &dyn Content, request: &RestoreRequest, context: &Context) -> EngineResult<Restored> {
        restore::restore(content, request, self.program.as_deref(), context)
    }

    fn inventory(&self, source: &Source, context: &Context) -> EngineResult<Inventory> {
        inventory::take(&Place::find(source)?, context)
    }

    fn check(&self, source: &Source, level: CheckLevel, context: &Context) -> EngineResult<CheckReport> {
        check::check(&Place::find(source)?.path, level, self.program.as_deref(), context)
    }

    fn scratch(&self, _: &Source, folder: &Path) -> EngineResult<Scratch> {
        // The folder goes with all that is in it.
        Ok(Scratch { source: Source::path(&folder.join(MAIN_FILE)), discard: Box::new(|| Ok(())) })
    }

    fn snapshots(&self) -> Option<&dyn Snapshots> {
        Some(self)
    }

    fn snapshots_in(&self, folder: &Path) -> Option<Box<dyn Snapshots>> {
        Some(Box::new(FileSnapshots::in_folder(self, folder)))
    }
}
