//! The safety net of a program that migrates its own database file when it starts: one call before the migrations.

use std::path::{Path, PathBuf};

use copal_core::{Context, SnapshotNote, SnapshotRequest, Source};

use super::{name, new_id};
use crate::engines::Engines;
use crate::{CopalError, ErrorKind, Result, Settings};

/// Puts a copy of a SQLite or DuckDB file, which may be in use, into `directory`, and removes all but the newest `keep` that were
/// made by this call with the same label (0 removes none). Blocks.
///
/// Returns the copy's path: a plain database file; to go back, stop the program and `mv` it into the database's place. `None`: there
/// is no such database yet, and nothing was made; or no copy could be made, which is told as a `tracing` warning, since a program must
/// not fail to start for that. [`try_snapshot_before_migration`] answers the reason.
///
/// `url` is a path, `sqlite:…`, `duckdb:…`, or as SQLAlchemy writes it (`sqlite+aiosqlite:///app.db`); `label` is a word of
/// `[A-Za-z0-9._-]{1,64}` and part of the file's name.
pub fn snapshot_before_migration(url: &str, directory: &Path, label: &str, keep: u32) -> Option<PathBuf> {
    try_snapshot_before_migration(url, directory, label, keep).unwrap_or_else(|error| {
        let causes = error.causes().join(": ");
        tracing::warn!(database = %Source::shown(url), %error, causes, "no copy was made before the migration");
        None
    })
}

/// The same, but says why no copy could be made. Errors: `Usage` for an unsafe label, `Unsupported` for a database that is no
/// file, and those of reading the database and writing the copy.
pub fn try_snapshot_before_migration(url: &str, directory: &Path, label: &str, keep: u32) -> Result<Option<PathBuf>> {
    name::check_label(label)?;
    let source = Source::parse(url).map_err(|e| CopalError::new(ErrorKind::Usage, e.to_string()))?;
    let path = source.file_path();
    if path.as_os_str().is_empty() || path.as_os_str() == ":memory:" {
        return Ok(None);
    }
    // No repository is opened.
    let engines = Engines::new(&Settings::new(""));
    let engine = match engines.of(&source) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        engine => engine?,
    };
    let Some(snapshots) = engine.snapshots_in(directory) else {
        let message = format!("{source} is no file that could be copied to {}", directory.display());
        return Err(CopalError::new(ErrorKind::Unsupported, message).with_hint("run the migration by: copal migrate"));
    };
    let failed = |e| CopalError::new(ErrorKind::Failed, format!("{} cannot be looked at", path.display())).because(e);
    if !path.try_exists().map_err(failed)? {
        return Ok(None);
    }
    let context = Context::silent();
    let known = snapshots.list(&source, &context)?;
    let id = new_id(known.last().map(|snapshot| snapshot.id.clone()), &context);
    let note = SnapshotNote {
        name: format!("{label} {}", id.time()),
        label: Some(label.to_owned()),
        together: vec![source.redacted()],
        ..SnapshotNote::default()
    };
    snapshots.take(&source, &SnapshotRequest { id: id.clone(), note, spare: false }, &context)?;
    if keep > 0 {
        let mut ours = snapshots.list(&source, &context)?;
        ours.retain(|snapshot| snapshot.note.label.as_deref() == Some(label));
        let beyond = ours.len().saturating_sub(keep as usize);
        for old in ours.into_iter().take(beyond) {
            if let Err(error) = snapshots.remove(&source, &old.id, &context) {
                tracing::warn!(database = %source, snapshot = %old.id, %error, "an old copy was not removed");
            }
        }
    }
    Ok(snapshots.path(&source, &id)?)
}
