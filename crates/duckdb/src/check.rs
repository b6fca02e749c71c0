//! Whether a database is sound: every block that its state uses, its log, and, if a DuckDB is at hand, everything read by it.

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use copal_core::{CheckLevel, CheckReport, Context, EngineError, EngineErrorKind, EngineResult};
use copal_file_engine::descriptor;

use crate::format::checksum;
use crate::format::free_list::FreeList;
use crate::format::header::{HEADERS_LENGTH, HeaderProblem, Headers};
use crate::format::log::{LogProblem, LogState};
use crate::place::beside;
use crate::program::{self, Answer};
use crate::{CHECKPOINT_LOG, LOG};

/// Checks the database at a path, whose logs are beside it. If somebody has it open, it is not opened by a DuckDB.
pub(crate) fn check(
    path: &Path,
    level: CheckLevel,
    program: Option<&Path>,
    context: &Context,
) -> EngineResult<CheckReport> {
    // To close a descriptor could end locks that this process has.
    run(path, level, program, context, &|path| descriptor::open(path).map(|(file, _)| file))
}

/// Checks a database that nobody else knows of yet.
pub(crate) fn check_private(
    path: &Path,
    level: CheckLevel,
    program: Option<&Path>,
    context: &Context,
) -> EngineResult<CheckReport> {
    run(path, level, program, context, &|path| File::open(path).map(Arc::new))
}

type Open<'a> = &'a dyn Fn(&Path) -> io::Result<Arc<File>>;

fn run(
    path: &Path,
    level: CheckLevel,
    program: Option<&Path>,
    context: &Context,
    open: Open<'_>,
) -> EngineResult<CheckReport> {
    let mut report = CheckReport::default();
    if level == CheckLevel::None {
        return Ok(report);
    }
    let kind = check_blocks(path, &mut report, context, open)?;
    for log in [LOG, CHECKPOINT_LOG].map(|suffix| beside(path, suffix)) {
        check_log(&log, &mut report, open)?;
    }
    if level == CheckLevel::Full && report.problems.is_empty() {
        match kind {
            Kind::Known(library) => read_by_duckdb(path, &library, program, &mut report, context)?,
            // A DuckDB of that version may well be there.
            Kind::Unknown => read_by_duckdb(path, "", program, &mut report, context)?,
            Kind::Encrypted => {
                report.impossible.push("an encrypted database cannot be opened without its key".to_owned());
            }
        }
    }
    Ok(report)
}

/// What could be told about a database.
enum Kind {
    /// Made by this DuckDB, if it says.
    Known(String),
    /// Of a storage version that is not known here.
    Unknown,
    Encrypted,
}

/// Reads every block in use.
fn check_blocks(path: &Path, report: &mut CheckReport, context: &Context, open: Open<'_>) -> EngineResult<Kind> {
    let failed = |e| unreadable(path, e);
    let file = open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    context.phase("checking", Some(length));
    let mut raw = vec![0; HEADERS_LENGTH.min(usize::try_from(length).unwrap_or(usize::MAX))];
    file.read_exact_at(&mut raw, 0).map_err(failed)?;
    let headers = match Headers::parse(&raw) {
        Ok(headers) => headers,
        Err(HeaderProblem::Encrypted(_)) => {
            report.ran.push("encrypted: the checksums of its blocks cannot be compared".to_owned());
            return Ok(Kind::Encrypted);
        }
        Err(problem @ HeaderProblem::Unknown(_)) => {
            report.ran.push(format!("{problem}: the checksums of its blocks were not compared"));
            return Ok(Kind::Unknown);
        }
        Err(problem) => {
            report.problems.push(problem.to_string());
            return Ok(Kind::Unknown);
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
            return Ok(Kind::Known(headers.main.library));
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
    Ok(Kind::Known(headers.main.library))
}

/// Follows a log, if it is there.
fn check_log(path: &Path, report: &mut CheckReport, open: Open<'_>) -> EngineResult<()> {
    let file = match open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(unreadable(path, e)),
    };
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
    path: &Path,
    library: &str,
    program: Option<&Path>,
    report: &mut CheckReport,
    context: &Context,
) -> EngineResult<()> {
    match program::read_everything(path, library, program, context)? {
        Answer::Read { version, tables, rows } => {
            report.ran.push(format!("opened and read by DuckDB {version}: {tables} tables, {rows} rows"));
        }
        Answer::Refused { version, problem } => report.problems.push(format!("DuckDB {version}: {problem}")),
        Answer::Unreadable(why) => report.impossible.push(format!("{why}; blocks and log were checked")),
        Answer::Impossible(why) => {
            let wanted = match library.trim_start_matches('v') {
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

fn unreadable(path: &Path, error: io::Error) -> EngineError {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => EngineErrorKind::NotFound,
        io::ErrorKind::PermissionDenied => EngineErrorKind::PermissionDenied,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => EngineErrorKind::NoSpace,
        _ => EngineErrorKind::Other,
    };
    EngineError::new(kind, format!("cannot check {}", path.display())).because(error)
}
