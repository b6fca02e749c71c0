//! The two ways to read the pages of a view; docs/engines/sqlite.md compares them.

use std::sync::OnceLock;

use copal_core::{Context, EngineError, EngineErrorKind, EngineResult};
use rusqlite::Connection;

use crate::database::{Database, LogState, Storage, View};
use crate::failure::{damaged, failed, file_failed};
use crate::header::lock_page;
use crate::wal_index::WalState;

/// Bytes that are given to the sink at a time.
const RUN_BYTES: u64 = 1 << 20;

/// How pages are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reader {
    /// Raw pages where the state of the log can be known, else SQLite's `sqlite_dbpage`.
    #[default]
    Auto,
    /// Pages of the main file and frames of the log, through SQLite's own file handles.
    Raw,
    /// SQLite's virtual table `sqlite_dbpage`, if the library was compiled with it.
    DbPage,
}

/// Takes runs of pages: the number of the first one, from 0, and their bytes.
pub(crate) type Emit<'a> = dyn FnMut(u64, &[u8]) -> EngineResult<()> + 'a;

impl Reader {
    /// Whether this way of reading depends on the state of the log.
    pub(crate) fn log_state(self) -> LogState {
        match self {
            Self::Raw => LogState::Needed,
            Self::Auto if !has_dbpage() => LogState::Needed,
            Self::Auto | Self::DbPage => LogState::Wanted,
        }
    }

    /// Reads every page of `view` in order.
    pub(crate) fn read(
        self,
        database: &Database,
        view: &View,
        context: &Context,
        emit: &mut Emit<'_>,
    ) -> EngineResult<()> {
        let unknown = matches!(view.storage, Storage::Unknown);
        match self {
            Self::DbPage => read_dbpage(database, view, context, emit),
            Self::Auto if unknown && has_dbpage() => read_dbpage(database, view, context, emit),
            Self::Auto | Self::Raw if unknown => {
                let message = format!("the state of the log of {} cannot be told", database.place.path.display());
                Err(EngineError::new(EngineErrorKind::Busy, message).hint(
                    "it is written to without a pause, or its -shm cannot be used; builds with sqlite_dbpage read it",
                ))
            }
            Self::Auto | Self::Raw => read_raw(database, view, context, emit),
        }
    }
}

/// Whether SQLite was compiled with `sqlite_dbpage`.
fn has_dbpage() -> bool {
    static HAS_IT: OnceLock<bool> = OnceLock::new();
    let sql = "SELECT 1 FROM pragma_module_list WHERE name = 'sqlite_dbpage'";
    *HAS_IT.get_or_init(|| Connection::open_in_memory().and_then(|c| c.prepare(sql)?.exists([])).unwrap_or(false))
}

fn read_dbpage(database: &Database, view: &View, context: &Context, emit: &mut Emit<'_>) -> EngineResult<()> {
    let path = &database.place.path;
    if !has_dbpage() {
        let message = "this build of SQLite has no sqlite_dbpage";
        return Err(EngineError::new(EngineErrorKind::Unsupported, message)
            .hint("build with LIBSQLITE3_FLAGS=-DSQLITE_ENABLE_DBPAGE_VTAB, or read raw pages"));
    }
    let fail = |e| failed(path, "read", e);
    let page_size = view.page_size as usize;
    refuse_cut_off(database, view)?;
    let mut run = Vec::with_capacity(RUN_BYTES as usize);
    let mut first = 0_u64;
    let mut next = 0_u64;
    let mut statement = database.connection.prepare("SELECT data FROM sqlite_dbpage('main')").map_err(fail)?;
    let mut rows = statement.query([]).map_err(fail)?;
    while let Some(row) = rows.next().map_err(fail)? {
        let page = row.get_ref(0).map_err(fail)?;
        let page = page.as_blob().map_err(|_| damaged(path, &format!("page {} cannot be read", next + 1)))?;
        if page.len() != page_size {
            return Err(damaged(path, &format!("page {} is short", next + 1)));
        }
        run.extend_from_slice(page);
        next += 1;
        if run.len() as u64 >= RUN_BYTES {
            context.cancel.check()?;
            emit(first, &run)?;
            run.clear();
            first = next;
        }
    }
    if !run.is_empty() {
        emit(first, &run)?;
    }
    if next != u64::from(view.pages) {
        return Err(damaged(path, &format!("{next} of {} pages could be read", view.pages)));
    }
    Ok(())
}

/// SQLite reads zeros where a main file was cut off, so that is looked for here.
fn refuse_cut_off(database: &Database, view: &View) -> EngineResult<()> {
    let path = &database.place.path;
    let handles = database.handles();
    let fail = |e| file_failed(path, "read", e);
    // First the length, which only grows while the view is open, then the frames of pages behind it.
    let there = handles.main_size().map_err(fail)? / u64::from(view.page_size);
    if there >= u64::from(view.pages) {
        return Ok(());
    }
    let frames = match &view.storage {
        Storage::MainFile => Vec::new(),
        Storage::Log(state) => match state.frames(handles).map_err(fail)? {
            Some(frames) => frames,
            None => return Err(damaged(path, "its -wal does not fit its -shm")),
        },
        // Which pages the log has is not known; the counts and SQLite itself find most of such damage.
        Storage::Unknown => return Ok(()),
    };
    match absent_page(there..u64::from(view.pages), &frames, view.page_size) {
        Some(number) => Err(damaged(path, &format!("it ends before page {} of {}", number + 1, view.pages))),
        None => Ok(()),
    }
}

/// The first of these pages, numbered from 0, that has no frame in the log and is not the one that is never used.
fn absent_page(mut numbers: std::ops::Range<u64>, frames: &[(u32, u32)], page_size: u32) -> Option<u64> {
    numbers.find(|number| {
        *number != lock_page(page_size)
            && frames.binary_search_by_key(&(number + 1), |(page, _)| u64::from(*page)).is_err()
    })
}

fn read_raw(database: &Database, view: &View, context: &Context, emit: &mut Emit<'_>) -> EngineResult<()> {
    let path = &database.place.path;
    let handles = database.handles();
    let fail = |e| file_failed(path, "read", e);
    let page_size = u64::from(view.page_size);
    let lock_page = lock_page(view.page_size);
    let (log, frames): (Option<&WalState>, _) = match &view.storage {
        Storage::Log(state) => {
            let frames = state.frames(handles).map_err(fail)?;
            (Some(state), frames.ok_or_else(|| damaged(path, "its -wal does not fit its -shm"))?)
        }
        Storage::MainFile | Storage::Unknown => (None, Vec::new()),
    };
    let mut frames = frames.as_slice();
    let pages = u64::from(view.pages);
    let per_run = (RUN_BYTES / page_size).max(1);
    let mut buffer = vec![0; (per_run * page_size) as usize];
    let mut first = 0_u64;
    while first < pages {
        context.cancel.check()?;
        let count = per_run.min(pages - first);
        let run = buffer.get_mut(..(count * page_size) as usize).unwrap_or_default();
        // Pages of the log are numbered from 1.
        let (in_log, later) = frames.split_at(frames.partition_point(|(page, _)| u64::from(*page) <= first + count));
        frames = later;
        let there = match in_log.len() as u64 == count {
            true => 0,
            false => handles.read_main(first * page_size, run).map_err(fail)? as u64,
        };
        for (page, frame) in in_log {
            let at = ((u64::from(*page).saturating_sub(1) - first) * page_size) as usize;
            let slot = run.get_mut(at..at + page_size as usize).unwrap_or_default();
            if !log.map_or(Ok(false), |log| log.read_page(handles, *frame, slot)).map_err(fail)? {
                return Err(damaged(path, &format!("frame {frame} of its -wal is cut off")));
            }
        }
        if (first..first + count).contains(&lock_page) {
            // As sqlite_dbpage does: what lies there means nothing.
            let at = ((lock_page - first) * page_size) as usize;
            run.get_mut(at..at + page_size as usize).unwrap_or_default().fill(0);
        }
        // What the main file does not reach must have come from the log.
        let absent = absent_page(first + there / page_size..first + count, in_log, view.page_size);
        if let Some(number) = absent {
            return Err(damaged(path, &format!("it ends before page {} of {pages}", number + 1)));
        }
        emit(first, run)?;
        first += count;
    }
    Ok(())
}
