//! What can be told about a database without a DuckDB: version, checkpoint, blocks, and transactions in the log.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use copal_core::{Context, EngineError, EngineErrorKind, EngineResult, Identity, Inventory};
use copal_file_engine::descriptor;

use crate::format::free_list::FreeList;
use crate::format::header::{HEADERS_LENGTH, HeaderProblem, Headers, MainHeader};
use crate::format::log::LogState;
use crate::place::{Place, cannot_reach};
use crate::restore::is_beginning_of_barrier;

/// How often a database that changes while it is looked at is looked at again.
const ATTEMPTS: u32 = 50;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(3);

/// Who a database is.
pub(crate) fn identify(place: &Place) -> EngineResult<Identity> {
    let version = version_in(&headers(place)?).map_err(|problem| unreadable(&place.path, problem))?;
    let log = std::fs::metadata(place.log()).map_or(0, |m| m.len());
    Ok(Identity {
        canonical: place.path.to_string_lossy().into_owned(),
        short_name: place.path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        version,
        bytes: Some(place.bytes + log),
    })
}

/// The version that headers tell, for people. Errors: they tell nothing.
pub(crate) fn version_in(headers: &Result<Headers, HeaderProblem>) -> Result<String, &HeaderProblem> {
    match headers {
        Ok(headers) => Ok(version(&headers.main, &headers.storage_version())),
        Err(HeaderProblem::Encrypted(main)) => Ok(version(main, &main.version.to_string())),
        Err(HeaderProblem::Unknown(storage)) => Ok(format!("storage version {storage}")),
        Err(problem) => Err(problem),
    }
}

/// Counts what is there now; the numbers of a database that is written to may belong to two moments.
pub(crate) fn take(place: &Place, context: &Context) -> EngineResult<Inventory> {
    for attempt in 0..ATTEMPTS {
        context.cancel.check()?;
        if attempt > 0 {
            std::thread::sleep(PAUSE);
        }
        let headers = match headers(place)? {
            Ok(headers) => headers,
            Err(HeaderProblem::Encrypted(main)) => return Ok(of_encrypted(&main)),
            Err(HeaderProblem::Unknown(version)) => return Ok(of_unknown(version)),
            Err(problem) => return Err(unreadable(&place.path, &problem)),
        };
        let (main, _) = descriptor::open(&place.path).map_err(|e| cannot_reach(&place.path, e))?;
        let list = FreeList::read(&headers, |block, into| {
            let offset = headers.offset_of(block).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
            main.read_exact_at(into, offset)
        });
        let Ok(list) = list else { continue };
        let log = match descriptor::open(&place.log()) {
            Ok((file, _)) => {
                let mut state = LogState::default();
                state.advance(&file).ok().map(|()| state)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Some(LogState::default()),
            Err(e) => return Err(cannot_reach(&place.log(), e)),
        };
        let Some(log) = log else { continue };
        return Ok(of(&headers, &list, log.transactions));
    }
    Err(EngineError::new(EngineErrorKind::Busy, format!("{} changes too fast to be counted", place.path.display())))
}

/// The inventory of a state.
pub(crate) fn of(headers: &Headers, list: &FreeList, log_transactions: u64) -> Inventory {
    facts([
        ("storage_version", headers.storage_version()),
        ("written_by", headers.main.library.clone()),
        ("checkpoint", headers.active.iteration.to_string()),
        ("block_size", headers.active.block_bytes.to_string()),
        ("blocks", headers.active.block_count.to_string()),
        ("free_blocks", list.free.len().to_string()),
        ("log_transactions", log_transactions.to_string()),
    ])
}

/// What an encrypted database shows.
pub(crate) fn of_encrypted(main: &MainHeader) -> Inventory {
    facts([
        ("storage_version", main.version.to_string()),
        ("written_by", main.library.clone()),
        ("encrypted", "yes".to_owned()),
    ])
}

/// What a database of an unknown version shows.
pub(crate) fn of_unknown(version: u64) -> Inventory {
    facts([("storage_version", version.to_string())])
}

/// The version for people: who wrote it, in which format.
pub(crate) fn version(main: &MainHeader, storage: &str) -> String {
    match main.library.as_str() {
        "" => format!("storage version {storage}"),
        library => format!("{}, storage version {storage}", library.trim_start_matches('v')),
    }
}

/// The headers, read again while one is being written. The outer error is about reaching the file.
pub(crate) fn headers(place: &Place) -> EngineResult<Result<Headers, HeaderProblem>> {
    let (main, _) = descriptor::open(&place.path).map_err(|e| cannot_reach(&place.path, e))?;
    let mut found = Err(HeaderProblem::NotDuckDb);
    for _ in 0..ATTEMPTS {
        let length = usize::try_from(main.metadata().map_or(0, |m| m.len())).unwrap_or(usize::MAX);
        let mut raw = vec![0; HEADERS_LENGTH.min(length)];
        main.read_exact_at(&mut raw, 0).map_err(|e| cannot_reach(&place.path, e))?;
        if is_beginning_of_barrier(&raw) {
            let message = format!("a restore of {} was interrupted", place.path.display());
            return Err(EngineError::new(EngineErrorKind::Busy, message)
                .hint("run the same `copal restore` again: it first puts back what was there"));
        }
        found = Headers::parse(&raw);
        match found {
            Err(HeaderProblem::Unsound(_)) => std::thread::sleep(PAUSE),
            _ => break,
        }
    }
    Ok(found)
}

/// The error for headers that tell nothing.
pub(crate) fn unreadable(path: &Path, problem: &HeaderProblem) -> EngineError {
    let path = path.display();
    match problem {
        HeaderProblem::NotDuckDb => {
            EngineError::new(EngineErrorKind::NotThisEngine, format!("{path} is not a DuckDB database: {problem}"))
        }
        HeaderProblem::Encrypted(_) => EngineError::new(EngineErrorKind::Encrypted, format!("{path} is encrypted")),
        HeaderProblem::Unknown(_) => EngineError::new(EngineErrorKind::Unsupported, format!("{path}: {problem}")),
        HeaderProblem::Unsound(_) => {
            EngineError::new(EngineErrorKind::Corrupt, format!("{path} is damaged: {problem}"))
                .hint("DuckDB itself refuses such a file; an earlier backup is not touched")
        }
    }
}

fn facts<const N: usize>(facts: [(&str, String); N]) -> Inventory {
    let facts: BTreeMap<String, String> = facts.into_iter().map(|(name, fact)| (name.to_owned(), fact)).collect();
    Inventory { facts, ..Inventory::default() }
}
