//! The engine: SQLite behind Copal's contract.

use std::path::Path;
use std::time::Duration;

use copal_core::{
    Capabilities, Capture, CheckLevel, CheckReport, Content, Context, Engine, EngineErrorKind, EngineResult, Identity,
    Inventory, RestoreRequest, Restored, Scratch, Sink, Snapshots, Source,
};
use copal_file_engine::FileSnapshots;

use crate::capture::Counting;
use crate::database::{Database, LogState};
use crate::failure::failed;
use crate::header::{HEADER_BYTES, Header, MAGIC};
use crate::place::Place;
use crate::reader::Reader;
use crate::watch::interruptible;
use crate::{MAIN_FILE, capture, check, inventory, restore};

/// Backs up and restores SQLite databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SqliteEngine {
    /// How long it waits for a database that another process has locked.
    pub wait: Duration,
    /// How it reads pages.
    pub reader: Reader,
}

impl Default for SqliteEngine {
    fn default() -> Self {
        Self { wait: Duration::from_secs(30), reader: Reader::Auto }
    }
}

impl Engine for SqliteEngine {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::of_files(&["sqlite"], 3)
    }

    fn recognises(&self, beginning: &[u8]) -> bool {
        beginning.starts_with(MAGIC)
    }

    fn identify(&self, source: &Source) -> EngineResult<Identity> {
        let place = Place::find(source)?;
        let short_name = place.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut identity = Identity {
            canonical: place.path.to_string_lossy().into_owned(),
            short_name,
            version: "3".to_owned(),
            bytes: Some(place.bytes),
        };
        if place.bytes > 0 {
            let database = Database::open(place)?;
            database.refuse_strangers()?;
            let mut beginning = [0; HEADER_BYTES];
            if database.handles().read_main(0, &mut beginning).is_ok() {
                identity.version = Header::parse(&beginning).map_or(identity.version, |h| h.writer_version());
            }
        }
        Ok(identity)
    }

    fn capture(&self, source: &Source, sink: &mut dyn Sink, context: &Context) -> EngineResult<Capture> {
        capture::capture(Place::find(source)?, self.reader, Counting::Wanted, self.wait, sink, context)
    }

    fn restore(&self, content: &dyn Content, request: &RestoreRequest, context: &Context) -> EngineResult<Restored> {
        restore::restore(content, request, self.wait, context)
    }

    fn inventory(&self, source: &Source, context: &Context) -> EngineResult<Inventory> {
        let place = Place::find(source)?;
        if place.bytes == 0 {
            return Ok(inventory::of_empty_file());
        }
        let (database, view) = Database::open_view(place, LogState::Ignored, self.wait, context)?;
        context.phase("counting", None);
        interruptible(&database.connection, context, || inventory::take(&database, &view, context))
    }

    fn check(&self, source: &Source, level: CheckLevel, context: &Context) -> EngineResult<CheckReport> {
        let place = Place::find(source)?;
        if place.bytes == 0 {
            return Ok(CheckReport { ran: vec!["empty file".to_owned()], ..CheckReport::default() });
        }
        let path = place.path.clone();
        match Database::open_view(place, LogState::Ignored, self.wait, context) {
            Ok((database, _view)) => {
                context.phase("checking", None);
                interruptible(&database.connection, context, || check::run(&database.connection, level))
                    .map_err(|e| failed(&path, "check", e))
            }
            Err(error) if error.kind == EngineErrorKind::Corrupt => Ok(CheckReport {
                ran: vec!["open".to_owned()],
                problems: vec![problem(&path, &error)],
                ..CheckReport::default()
            }),
            Err(error) => Err(error),
        }
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

fn problem(path: &Path, error: &copal_core::EngineError) -> String {
    match &error.source {
        Some(source) => format!("{error} ({source})"),
        None => format!("{}: {error}", path.display()),
    }
}
