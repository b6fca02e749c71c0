//! Whether a database is sound: every block that its state uses, its log, and, if a DuckDB is at hand, everything read by it.

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use copal_core::{CheckLevel, CheckReport, Context, EngineError, EngineErrorKind, EngineResult};

use crate::format::checksum;
use crate::format::free_list::FreeList;
use crate::format::header::{HEADERS_LENGTH, HeaderProblem, Headers};
use crate::format::log::{LogProblem, LogState};
use crate::place::beside;
use crate::program::{self, Answer};
use crate::{CHECKPOINT_LOG, LOG, MAIN_FILE};

/// The files of a database, wherever they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Files<'a> {
    /// The main file.
    pub(crate) main: &'a Path,
    /// Its log.
    pub(crate) log: Option<&'a Path>,
    /// The log of the time of a checkpoint.
    pub(crate) checkpoint_log: Option<&'a Path>,
}

/// Checks the database at a path, which nobody may be writing to.
pub(crate) fn check(
    path: &Path,
    level: CheckLevel,
    program: Option<&Path>,
    context: &Context,
) -> EngineResult<CheckReport> {
    let [log, checkpoint_log] =
        [LOG, CHECKPOINT_LOG].map(|suffix| Some(beside(path, suffix)).filter(|log| log.exists()));
    let files = Files { main: path, log: log.as_deref(), checkpoint_log: checkpoint_log.as_deref() };
    of(&files, level, program, context)
}

/// Checks the database that these files are.
pub(crate) fn of(
    files: &Files<'_>,
    level: CheckLevel,
    program: Option<&Path>,
    context: &Context,
) -> EngineResult<CheckReport> {
    let mut report = CheckReport::default();
    let headers = check_blocks(files.main, &mut report, context)?;
    for log in [files.log, files.checkpoint_log].into_iter().flatten() {
        check_log(log, &mut report)?;
    }
    if level == CheckLevel::Full && report.problems.is_empty() {
        match headers {
            Some(headers) => read_by_duckdb(files, &headers, program, &mut report, context)?,
            None => report.impossible.push("an encrypted or unknown database cannot be opened for a drill".to_owned()),
        }
    }
    Ok(report)
}

/// Reads every block in use; the headers, if they can be read.
fn check_blocks(path: &Path, report: &mut CheckReport, context: &Context) -> EngineResult<Option<Headers>> {
    let failed = |e| unreadable(path, e);
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    context.phase("checking", Some(length));
    let mut raw = vec![0; HEADERS_LENGTH.min(usize::try_from(length).unwrap_or(usize::MAX))];
    file.read_exact_at(&mut raw, 0).map_err(failed)?;
    let headers = match Headers::parse(&raw) {
        Ok(headers) => headers,
        Err(HeaderProblem::Encrypted(_)) => {
            report.ran.push("encrypted: the checksums of its blocks cannot be compared".to_owned());
            return Ok(None);
        }
        Err(problem @ HeaderProblem::Unknown(_)) => {
            report.ran.push(format!("{problem}: the checksums of its blocks were not compared"));
            return Ok(None);
        }
        Err(problem) => {
            report.problems.push(problem.to_string());
            return Ok(None);
        }
    };
    let read = |block, into: &mut [u8]| {
        let offset = headers.offset_of(block).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        file.read_exact_at(into, offset)
    };
    let list = match FreeList::read(&headers, read) {
        Ok(list) => list,
        Err(problem) => {
            report.problems.push(problem.to_string());
            return Ok(Some(headers));
        }
    };
    let mut buffer = vec![0; headers.active.block_bytes as usize];
    let (mut sound, mut wrong) = (0u64, 0u64);
    for block in (0..headers.active.block_count).filter(|block| !list.free.contains(block)) {
        context.cancel.check()?;
        let is_sound = match read(block, &mut buffer) {
            Ok(()) => checksum::is_sound(&buffer),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => false,
            Err(e) => return Err(failed(e)),
        };
        *(if is_sound { &mut sound } else { &mut wrong }) += 1;
        context.advance(buffer.len() as u64);
    }
    // Not a refusal: the backup was authenticated, and a block that nothing uses can look used.
    report.ran.push(match wrong {
        0 => format!("checksums of {sound} blocks"),
        _ => format!("checksums of {} blocks, {wrong} of them wrong", sound + wrong),
    });
    Ok(Some(headers))
}

fn check_log(path: &Path, report: &mut CheckReport) -> EngineResult<()> {
    let file = File::open(path).map_err(|e| unreadable(path, e))?;
    let mut state = LogState::default();
    match state.advance(&file) {
        Ok(()) => report.ran.push(format!("log of {} transactions", state.transactions)),
        Err(LogProblem::Io(error)) => return Err(unreadable(path, error)),
        Err(problem @ LogProblem::Unknown(_)) => report.ran.push(format!("log not followed: {problem}")),
        Err(problem @ LogProblem::Damaged(_)) => report.problems.push(format!("its log: {problem}")),
    }
    Ok(())
}

/// Lets a DuckDB open the files, which stay as they are, and read all tables.
fn read_by_duckdb(
    files: &Files<'_>,
    headers: &Headers,
    program: Option<&Path>,
    report: &mut CheckReport,
    context: &Context,
) -> EngineResult<()> {
    let scratch = Scratch::of(files)?;
    match program::read_everything(&scratch.main, program, context)? {
        Answer::Read { version, tables, rows } => {
            report.ran.push(format!("opened and read by DuckDB {version}: {tables} tables, {rows} rows"));
        }
        Answer::Refused { version, problem } => report.problems.push(format!("DuckDB {version}: {problem}")),
        Answer::Impossible(why) => {
            let wanted = match headers.main.library.trim_start_matches('v') {
                "" => "duckdb".to_owned(),
                version => format!("duckdb=={version}"),
            };
            report.impossible.push(format!(
                "no DuckDB that can read it was found ({why}), so it was not opened; blocks and log were checked. Install one, \
                 for example with `pip install {wanted}`, or name it: [duckdb] program in copal.toml, or COPAL_DUCKDB"
            ));
        }
    }
    Ok(())
}

/// The files under the names by which DuckDB finds them, in a folder of their own, removed when dropped.
struct Scratch {
    folder: PathBuf,
    main: PathBuf,
}

impl Scratch {
    fn of(files: &Files<'_>) -> EngineResult<Self> {
        let name: String = files.main.file_name().unwrap_or_default().to_string_lossy().chars().take(64).collect();
        let folder = files.main.with_file_name(format!("{name}.drill"));
        std::fs::create_dir(&folder).map_err(|e| unreadable(&folder, e))?;
        let scratch = Self { main: folder.join(MAIN_FILE), folder };
        // DuckDB opens them read-only; a second name is as good as a copy.
        let link = |from: &Path, to: &Path| {
            std::fs::hard_link(from, to).or_else(|_| std::fs::copy(from, to).map(drop)).map_err(|e| unreadable(to, e))
        };
        link(files.main, &scratch.main)?;
        for (log, suffix) in [(files.log, LOG), (files.checkpoint_log, CHECKPOINT_LOG)] {
            if let Some(log) = log {
                link(log, &beside(&scratch.main, suffix))?;
            }
        }
        Ok(scratch)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Best effort: its content has other names.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn unreadable(path: &Path, error: io::Error) -> EngineError {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => EngineErrorKind::NotFound,
        io::ErrorKind::PermissionDenied => EngineErrorKind::PermissionDenied,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => EngineErrorKind::NoSpace,
        _ => EngineErrorKind::Other,
    };
    EngineError::new(kind, format!("cannot check {}", path.display())).because(error)
}
