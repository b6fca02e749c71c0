//! A dump by several connections: into a temporary folder, each file of which goes into the sink as soon as it is finished.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use copal_core::{Context, EngineError, EngineErrorKind, EngineResult, FileHandle, Sink};
use copal_storage::local_file::{free_space, writers_of};

use crate::capture::{Dumped, Job, believe, pump, refused_by_sink};
use crate::programs::Running;
use crate::temporary::TemporaryFolder;
use crate::view::Seen;
use crate::{FOLDER, failure};

/// How long to wait between two looks into the folder.
const TICK: Duration = Duration::from_millis(50);
/// A table's text is rarely larger than its pages, but it may be.
const SPARE: f64 = 1.25;

/// Dumps what is seen with `jobs` connections. What the sink has it keeps: `may_give` tells whether the dump is proven, and
/// waits for the answer once it has ended (true).
pub(crate) fn dump(
    job: &Job<'_>,
    jobs: usize,
    seen: &Seen,
    may_give: &dyn Fn(bool) -> bool,
    sink: &mut dyn Sink,
) -> Result<Option<FileHandle>, Dumped> {
    let (context, place) = (job.context, job.place());
    let parent = job.engine.temporary.clone().unwrap_or_else(std::env::temp_dir);
    let failed = |e: std::io::Error| {
        let message = format!("the temporary folder {} cannot be used", parent.display());
        EngineError::new(EngineErrorKind::Other, message).because(e)
    };
    require_room(&parent, job.bytes, jobs, context)?;
    let folder = TemporaryFolder::make(&parent, "dump").map_err(failed)?;
    let target = folder.path().join("dump");
    let mut command = job.programs.command("pg_dump", job.address);
    job.put_options(&mut command, seen);
    command.args(["--format=directory", &format!("--jobs={jobs}")]).arg("--file").arg(&target).stdout(Stdio::null());
    let mut running = Running::start(command)?;
    let mut given = BTreeSet::new();
    while !running.has_ended()? {
        context.cancel.check().map_err(EngineError::from)?;
        if may_give(false) {
            give_finished(&target, false, &mut given, &place, sink, context)?;
        }
        std::thread::sleep(TICK);
    }
    believe("pg_dump", running, &place, context)?;
    if !may_give(true) {
        return Ok(None);
    }
    give_finished(&target, true, &mut given, &place, sink, context)?;
    if !given.contains("toc.dat") {
        return Err(failure::program_failed("pg_dump", &place, "it wrote no table of contents").into());
    }
    Ok(None)
}

/// Gives the files that are finished, and removes them.
fn give_finished(
    target: &Path,
    has_ended: bool,
    given: &mut BTreeSet<String>,
    place: &str,
    sink: &mut dyn Sink,
    context: &Context,
) -> EngineResult<()> {
    let failed = |e: std::io::Error| {
        EngineError::new(EngineErrorKind::Other, format!("{} cannot be used", target.display())).because(e)
    };
    for path in finished(target, has_ended).map_err(failed)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if given.insert(name.clone()) {
            give(sink, &path, &name, place, context)?;
            std::fs::remove_file(&path).map_err(failed)?;
        }
    }
    Ok(())
}

/// The space that is needed at most, asked for and told beforehand.
fn require_room(parent: &Path, bytes: u64, jobs: usize, context: &Context) -> EngineResult<()> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an estimate"
    )]
    let needed = (bytes as f64 * SPARE) as u64;
    let free = free_space(parent).map_err(|e| {
        EngineError::new(EngineErrorKind::Other, format!("the temporary folder {} cannot be used", parent.display()))
            .because(e)
    })?;
    if free < needed {
        let message = format!(
            "dumping with {jobs} jobs may need up to {} MiB in {}, where {} MiB are free",
            needed >> 20,
            parent.display(),
            free >> 20
        );
        return Err(EngineError::new(EngineErrorKind::NoSpace, message)
            .hint("name another folder (temporary under [postgres]), or dump with jobs = 1, which needs no space"));
    }
    context.note(format!("dumping with {jobs} jobs through {}: up to {} MiB", parent.display(), needed >> 20));
    Ok(())
}

/// Files that nobody writes to any more. `pg_dump` opens each once; the table of contents comes last.
fn finished(target: &Path, has_ended: bool) -> std::io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(target) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let is_data = path.extension().is_some_and(|e| e == "dat") && path.file_name().is_some_and(|n| n != "toc.dat");
        // Lists of large objects and the table of contents are written to until the end.
        if has_ended || is_data && is_closed(&path) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Whether no process has the file open for writing; where that cannot be told, only the end tells.
fn is_closed(path: &Path) -> bool {
    let (Ok(metadata), Some(name)) = (std::fs::metadata(path), path.file_name()) else { return false };
    cfg!(target_os = "linux")
        && metadata.len() > 0
        && writers_of((metadata.dev(), metadata.ino()), &[name], -1).is_empty()
}

fn give(sink: &mut dyn Sink, path: &Path, name: &str, place: &str, context: &Context) -> EngineResult<()> {
    let unreadable = |e: std::io::Error| {
        EngineError::new(EngineErrorKind::Other, format!("{} could not be read", path.display())).because(e)
    };
    let mut file = File::open(path).map_err(unreadable)?;
    let stream = sink.begin_stream(&format!("{FOLDER}{name}")).map_err(|e| refused_by_sink(e, context))?;
    pump(&mut |buffer| file.read(buffer), place, context, &mut |bytes| {
        sink.append(stream, bytes).map_err(|e| refused_by_sink(e, context))
    })?;
    sink.finish_stream(stream).map_err(|e| refused_by_sink(e, context))
}
