//! Copies of files that stand still, for what cannot be followed: encrypted files, versions that are not known here,
//! and databases that were left behind in the middle of a checkpoint.
//!
//! Everything is read, then compared with what a second reading gives, and the copy counts only if the time stamps,
//! lengths and identities of all files are at its end what they were before its beginning. So it is what was on the disk in
//! one moment, which is all that DuckDB ever needs to recover. (What was equal in both readings was so in the moment between
//! them, whatever the time stamps say: writes through a memory map leave those behind.)

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use copal_core::{Capture, Context, EngineError, EngineErrorKind, EngineResult, PageFileSpec, Sink};
use copal_file_engine::descriptor;

use super::{LOOK_PAUSE, Outcome, Stamps, read_failed, refused_by_sink};
use crate::format::free_list::FreeList;
use crate::format::header::{HEADERS_LENGTH, HeaderProblem, Headers};
use crate::format::log::{LogProblem, LogState};
use crate::owner::Owner;
use crate::place::Place;
use crate::{CHECKPOINT_LOG, LOG, MAIN_FILE, inventory};

/// Bytes in a page where the size of blocks is not known; the default size of blocks.
const PAGE: usize = 256 * 1024;
/// Bytes read at a time.
const CHUNK: usize = 1 << 20;

/// Copies a database that stands still, waiting for that up to `limit`. `problem` says why it cannot be followed; none if a
/// checkpoint was interrupted, and then what moves is given back to the caller.
pub(super) fn capture(
    place: &Place,
    problem: Option<HeaderProblem>,
    limit: std::time::Duration,
    sink: &mut dyn Sink,
    context: &Context,
) -> EngineResult<Outcome> {
    let late = Instant::now() + limit;
    loop {
        context.cancel.check()?;
        let owner = Owner::of(descriptor::open(&place.path).map_err(|e| failed(&place.path, e))?.1);
        let before = Stamps::of(place);
        // The log of an encrypted file only grows, like others, and a torn end is cut off when it is replayed.
        let logs_may_grow = matches!(problem, Some(HeaderProblem::Encrypted(_)));
        if before.are_settled(logs_may_grow) && !place.has_other_log() {
            if let Some(capture) = once(place, problem.as_ref(), &before, logs_may_grow, sink, context)? {
                return Ok(Outcome::Captured(capture));
            }
            if problem.is_none() {
                return Ok(Outcome::Again);
            }
        }
        if Instant::now() >= late {
            let path = place.path.display();
            let (what, why) = match &problem {
                Some(problem) => (format!("{path} was written to all the time{}", owner.shown()), problem.to_string()),
                None => (format!("{path} stands in a checkpoint{}", owner.shown()), "it does not end".to_owned()),
            };
            return Err(EngineError::new(EngineErrorKind::Busy, format!("{what}, and {why}"))
                .hint("such a file is copied only while it stands still: back up in a quieter hour, or let the application close it"));
        }
        std::thread::sleep(LOOK_PAUSE * 10);
    }
}

/// One attempt; none if something moved.
fn once(
    place: &Place,
    problem: Option<&HeaderProblem>,
    before: &Stamps,
    logs_may_grow: bool,
    sink: &mut dyn Sink,
    context: &Context,
) -> EngineResult<Option<Capture>> {
    let (main, _) = descriptor::open(&place.path).map_err(|e| failed(&place.path, e))?;
    let mut raw = vec![0; HEADERS_LENGTH];
    main.read_exact_at(&mut raw, 0).map_err(|e| failed(&place.path, e))?;
    let headers = Headers::parse(&raw);
    let main_page = headers.as_ref().map_or(PAGE, |h| h.active.block_bytes as usize);
    let mut files = Vec::new();
    let names = [("", main_page), (LOG, PAGE), (CHECKPOINT_LOG, PAGE)];
    for ((suffix, page), stamp) in names.into_iter().zip(&before.0) {
        let Some(stamp) = stamp else { continue };
        let path = if suffix.is_empty() { place.path.clone() } else { place.beside(suffix) };
        let file = match descriptor::open(&path) {
            Ok((file, _)) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(&path, e)),
        };
        let head = if suffix.is_empty() { raw.clone() } else { Vec::new() };
        files.push(StillFile { name: format!("{MAIN_FILE}{suffix}"), file, page, head, length: stamp.length() });
    }
    let mut given = Vec::new();
    for file in &files {
        given.push(file.give(sink, context)?);
    }
    context.phase("reading again", None);
    let mut is_same = true;
    for (file, given) in files.iter().zip(&given) {
        is_same &= file.digest(|_, _| Ok(()), context)? == given.digest;
    }
    if !is_same
        || !before.still_hold(&Stamps::of(place), logs_may_grow)
        || !place.again().is_ok_and(|again| again.is_same_as(place))
    {
        for file in given {
            sink.withdraw(file.handle).map_err(|e| refused_by_sink(e, context))?;
        }
        return Ok(None);
    }
    for (file, given) in files.iter().zip(&given) {
        sink.finish(given.handle, file.length, &file.head).map_err(|e| refused_by_sink(e, context))?;
    }
    describe(place, &files, &headers, problem).map(Some)
}

fn describe(
    place: &Place,
    files: &[StillFile],
    headers: &Result<Headers, HeaderProblem>,
    problem: Option<&HeaderProblem>,
) -> EngineResult<Capture> {
    let mut capture = Capture::default();
    match headers {
        Ok(headers) => {
            let Some(main) = files.first() else { return Ok(capture) };
            let list = FreeList::read(headers, |block, into| {
                let offset = headers.offset_of(block).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
                main.file.read_exact_at(into, offset)
            });
            let list = list.map_err(|e| damaged(place, &e))?;
            let log = match files.get(1) {
                Some(log) => log.state().map_err(|e| damaged(place, &e))?,
                None => LogState::default(),
            };
            capture.engine_version = inventory::version(&headers.main, &headers.storage_version());
            capture.inventory = inventory::of(headers, &list, log.transactions);
            capture.position = Some(format!("checkpoint={}", headers.active.iteration));
            if log.ends_in_marker {
                let note = "a checkpoint was interrupted; DuckDB completes or undoes it when the copy is opened";
                capture.notes.push(note.to_owned());
            }
        }
        Err(HeaderProblem::Encrypted(main)) => {
            capture.engine_version = inventory::version(main, &main.version.to_string());
            capture.inventory = inventory::of_encrypted(main);
        }
        Err(HeaderProblem::Unknown(version)) => {
            capture.engine_version = format!("storage version {version}");
            capture.inventory = inventory::of_unknown(*version);
        }
        Err(problem) => return Err(inventory::unreadable(&place.path, problem)),
    }
    if let Some(problem) = problem {
        let why = match problem {
            HeaderProblem::Encrypted(_) => "the database is encrypted, so its blocks could not be checked".to_owned(),
            problem => problem.to_string(),
        };
        capture.notes.push(format!("{why}; it was copied while it stood still, and read twice"));
    }
    Ok(capture)
}

fn damaged(place: &Place, problem: &dyn std::fmt::Display) -> EngineError {
    EngineError::new(EngineErrorKind::Corrupt, format!("{} is damaged: {problem}", place.path.display()))
        .hint("DuckDB itself would not open it; an earlier backup is not touched")
}

/// A file that should not move.
struct StillFile {
    name: String,
    file: Arc<File>,
    page: usize,
    head: Vec<u8>,
    /// As it was before anything was read; what comes behind is left out.
    length: u64,
}

/// A file that was handed to the sink.
struct Given {
    handle: copal_core::FileHandle,
    digest: blake3::Hash,
}

impl StillFile {
    fn state(&self) -> Result<LogState, LogProblem> {
        LogState::of_prefix(&self.file, self.length)
    }

    fn give(&self, sink: &mut dyn Sink, context: &Context) -> EngineResult<Given> {
        let refused = |e| refused_by_sink(e, context);
        let spec = PageFileSpec {
            name: self.name.clone(),
            page_size: u32::try_from(self.page).unwrap_or(u32::MAX),
            head_length: u32::try_from(self.head.len()).unwrap_or(u32::MAX),
        };
        let handle = sink.begin(&spec).map_err(refused)?;
        let per_chunk = (CHUNK / self.page) as u64;
        let digest =
            self.digest(|chunk, bytes| sink.pages(handle, chunk * per_chunk, bytes).map_err(refused), context)?;
        Ok(Given { handle, digest })
    }

    /// Digest of the whole file, each chunk behind the head handed to `take` with its number.
    fn digest(
        &self,
        mut take: impl FnMut(u64, &[u8]) -> EngineResult<()>,
        context: &Context,
    ) -> EngineResult<blake3::Hash> {
        let failed = |e| read_failed(&self.name, e);
        let mut hasher = blake3::Hasher::new();
        let mut head = vec![0; self.head.len()];
        self.file.read_exact_at(&mut head, 0).map_err(failed)?;
        hasher.update(&head);
        let mut buffer = vec![0; CHUNK];
        let (mut at, mut chunk) = (head.len() as u64, 0);
        while at < self.length {
            context.cancel.check()?;
            let amount = usize::try_from(self.length - at).unwrap_or(CHUNK).min(CHUNK);
            let bytes = buffer.get_mut(..amount).unwrap_or_default();
            match self.file.read_exact_at(bytes, at) {
                // Cut off meanwhile: its stamp will tell.
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => bytes.fill(0),
                read => read.map_err(failed)?,
            }
            hasher.update(bytes);
            take(chunk, bytes)?;
            at += amount as u64;
            chunk += 1;
        }
        Ok(hasher.finalize())
    }
}

fn failed(path: &Path, error: io::Error) -> EngineError {
    read_failed(&path.display().to_string(), error)
}
