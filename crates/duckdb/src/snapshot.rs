//! What snapshots need of DuckDB: a sealed clone of main file and log, and the version that a file tells.

#[cfg(test)]
mod tests;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use copal_core::{Content, Context, Engine, EngineResult, RestoreRequest, Restored, Sink, Source};
use copal_file_engine::descriptor::id_of;
use copal_file_engine::{Described, FileEngine, io_failed};
use copal_storage::local_file::{Holder, holders, writers_of};

use crate::format::header::{HEADERS_LENGTH, Headers};
use crate::owner::Owner;
use crate::place::{Place, beside};
use crate::{CHECKPOINT_LOG, DuckDbEngine, LOG, MAIN_FILE, RECOVERY_LOG, capture, inventory, restore};

copal_file_engine::snapshots_of_files!(DuckDbEngine);

impl FileEngine for DuckDbEngine {
    fn main_file(&self) -> &'static str {
        MAIN_FILE
    }

    fn parts(&self) -> &'static [&'static str] {
        &[LOG, CHECKPOINT_LOG]
    }

    fn leavings(&self) -> &'static [&'static str] {
        &[LOG, CHECKPOINT_LOG, RECOVERY_LOG]
    }

    fn beside(&self, main: &Path, suffix: &str) -> PathBuf {
        beside(main, suffix)
    }

    fn clone_to(&self, source: &Source, main: &Path, context: &Context) -> EngineResult<bool> {
        capture::clone_to(&Place::find(source)?, self.deadline, main, context)
    }

    fn copy(&self, source: &Source, sink: &mut dyn Sink, context: &Context) -> EngineResult<()> {
        Engine::capture(self, source, sink, context).map(drop)
    }

    fn describe(&self, main: &Path) -> EngineResult<Described> {
        let failed = |e| io_failed("read", main, e);
        let file = File::open(main).map_err(failed)?;
        let length = usize::try_from(file.metadata().map_err(failed)?.len()).unwrap_or(usize::MAX);
        let mut raw = vec![0; HEADERS_LENGTH.min(length)];
        file.read_exact_at(&mut raw, 0).map_err(failed)?;
        let headers = Headers::parse(&raw);
        let engine_version = inventory::version_in(&headers).map_err(|problem| inventory::unreadable(main, problem))?;
        Ok(Described { engine_version, schema_version: None })
    }

    fn users(&self, main: &Path) -> Vec<Holder> {
        let Ok(metadata) = std::fs::metadata(main) else { return Vec::new() };
        let id = id_of(&metadata);
        let owners = match Owner::of(id) {
            Owner::Processes(ids) => ids,
            Owner::Unknown | Owner::None => Vec::new(),
        };
        let writers = writers_of(id, &[main.file_name().unwrap_or_default()], -1);
        // Not those who have it open without a lock of DuckDB's, to read: a Copal that has copied it is one.
        let is_user = |holder: &Holder| owners.contains(&holder.process) || writers.contains(holder);
        holders(main).into_iter().filter(is_user).collect()
    }

    fn rewind(&self, content: &dyn Content, request: &RestoreRequest, context: &Context) -> EngineResult<Restored> {
        Engine::restore(self, content, request, context)
    }

    fn settle(&self, target: &Source, dry_run: bool, context: &Context) -> EngineResult<Vec<String>> {
        restore::settle(target, dry_run, context)
    }
}
