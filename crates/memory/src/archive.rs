//! Archives for people: a folder with one JSON Lines file per table and `tables.json`, as docs/engines/memory.md says.

mod json;

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use copal_core::{Context, EngineError, EngineErrorKind, EngineResult};
use copal_storage::local_file::{durable_place, fsync_folder, io_failed, write_failed};
use copal_storage::{StorageError, StorageErrorKind};
use rustix::fs::{CWD, RenameFlags};

use crate::{Loaded, LoadedTable, Packed, TableDescription};

/// The file that says which tables there are.
const TABLES_FILE: &str = "tables.json";

fn failed(error: StorageError) -> EngineError {
    let kind = match error.kind() {
        StorageErrorKind::NoSpace => EngineErrorKind::NoSpace,
        StorageErrorKind::AlreadyExists => EngineErrorKind::Exists,
        StorageErrorKind::PermissionDenied => EngineErrorKind::PermissionDenied,
        StorageErrorKind::NotFound => EngineErrorKind::NotFound,
        _ => EngineErrorKind::Other,
    };
    EngineError::new(kind, error.message.clone()).because(error)
}

/// Whether something is at `path` that would be replaced. Errors: `Exists` if it may not be, or is no archive.
pub(crate) fn is_there(path: &Path, replace: bool) -> EngineResult<bool> {
    let exists = |message: String| EngineError::new(EngineErrorKind::Exists, message);
    if path.file_name().is_none() {
        return Err(exists(format!("{} cannot be the folder of an archive", path.display()))
            .hint("name a folder that is not there yet"));
    }
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed(io_failed("look at", path, error))),
        Ok(metadata) if !metadata.is_dir() => {
            return Err(exists(format!("{} is there and is no folder", path.display())));
        }
        Ok(_) => {}
    }
    let mut names = fs::read_dir(path).map_err(|error| failed(io_failed("read", path, error)))?;
    if names.next().is_none() {
        return Ok(false);
    }
    if !path.join(TABLES_FILE).is_file() {
        return Err(exists(format!("{} has other files than an archive's", path.display())).hint("name another folder"));
    }
    if !replace {
        return Err(exists(format!("{} is there already", path.display())).hint("add --replace to replace it"));
    }
    Ok(true)
}

/// A folder beside the target that is removed unless it took its place.
struct Staging(PathBuf);

impl Drop for Staging {
    fn drop(&mut self) {
        // Best effort: its name says what it is. After an exchange it is what was replaced.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Writes an archive; what is at `path` is whole or what it was.
pub(crate) fn write(loaded: &Loaded, path: &Path, replace: bool, context: &Context) -> EngineResult<()> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name: String = path.file_name().unwrap_or_default().to_string_lossy().chars().take(48).collect();
    let staging = Staging(folder.join(format!(".{name}.copal~{:016x}", rand::random::<u64>())));
    fs::create_dir(&staging.0).map_err(|error| failed(io_failed("create", &staging.0, error)))?;
    let mut entries = Vec::new();
    for (number, table) in (1..).zip(loaded.tables.values()) {
        let file = file_name(number, &table.description.name);
        write_table(&staging.0.join(&file), path, table, context)?;
        entries.push(entry(&table.description, &file, table.len()));
    }
    let metadata = json::of(loaded.metadata.as_bytes());
    let text = format!(
        "{{\"format\": \"copal memory archive\", \"version\": 1, \"metadata\": {metadata}, \"tables\": [{}\n]}}\n",
        entries.iter().map(|entry| format!("\n  {entry}")).collect::<Vec<_>>().join(",")
    );
    write_file(&staging.0.join(TABLES_FILE), path, |out| out.write_all(text.as_bytes()))?;
    fsync_folder(&staging.0).map_err(failed)?;
    // Again: something may have come meanwhile.
    if is_there(path, replace)? {
        exchange(&staging.0, path).map_err(|error| failed(io_failed("replace", path, error)))?;
        return fsync_folder(folder).map_err(failed);
    }
    if path.is_dir() {
        // It is empty.
        fs::remove_dir(path).map_err(|error| failed(io_failed("replace", path, error)))?;
    }
    durable_place(&staging.0, path).map_err(failed)
}

/// Lets two folders change places, in one step where the file system can.
fn exchange(staging: &Path, path: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    match rustix::fs::renameat_with(CWD, staging, CWD, path, RenameFlags::EXCHANGE) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::OPNOTSUPP) => {}
        other => return other.map_err(io::Error::from),
    }
    let mut aside = staging.as_os_str().to_owned();
    aside.push(".old");
    fs::rename(path, &aside)?;
    fs::rename(staging, path).inspect_err(|_| {
        // Put back what was there; if that fails too, it stays under its other name.
        let _ = fs::rename(&aside, path);
    })?;
    fs::rename(&aside, staging)
}

/// A name that every file system takes, whatever the table is called.
fn file_name(number: usize, table: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c.to_ascii_lowercase() } else { '_' };
    let shown: String = table.chars().map(safe).take(40).collect();
    format!("{number:03}-{shown}.jsonl")
}

fn entry(description: &TableDescription, file: &str, rows: usize) -> String {
    let json = |value: &Packed| json::of(value.as_bytes());
    format!(
        "{{\"name\": {}, \"file\": {}, \"rows\": {rows}, \"primary_key\": {}, \"schema\": {}, \"indexes\": {}, \"next_key\": {}, \"metadata\": {}}}",
        json::text(&description.name),
        json::text(file),
        json(&description.primary_key),
        json(&description.schema),
        json(&description.indexes),
        json(&description.next_key),
        json(&description.metadata),
    )
}

fn write_table(file: &Path, target: &Path, table: &LoadedTable, context: &Context) -> EngineResult<()> {
    let mut cancelled = Ok(());
    let mut line = String::new();
    write_file(file, target, |out| {
        for (number, (key, row)) in table.iter().enumerate() {
            if number % 1_024 == 0 {
                cancelled = context.cancel.check();
                if cancelled.is_err() {
                    return Ok(());
                }
            }
            line.clear();
            line.push_str("{\"key\": ");
            json::put(key, &mut line);
            line.push_str(", \"row\": ");
            json::put(row, &mut line);
            line.push_str("}\n");
            out.write_all(line.as_bytes())?;
        }
        Ok(())
    })?;
    Ok(cancelled?)
}

fn write_file(
    file: &Path,
    target: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> EngineResult<()> {
    let written = File::create_new(file).and_then(|created| {
        let mut out = BufWriter::with_capacity(256 << 10, created);
        write(&mut out)?;
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    });
    written.map_err(|error| failed(write_failed(target, 0, error)))
}
