//! A backup of a live database: one read transaction, pages in order, counts from the same view.

#[cfg(test)]
pub(crate) mod hammer_tests;
#[cfg(test)]
mod locking_tests;
#[cfg(test)]
mod tests;

use std::time::Duration;

use copal_core::{Capture, Context, EngineError, EngineErrorKind, EngineResult, Inventory, PageFileSpec, Sink};

use crate::database::{Database, Storage, View};
use crate::failure::damaged;
use crate::header::Header;
use crate::place::Place;
use crate::reader::{Emit, Reader};
use crate::watch::interruptible;
use crate::{MAIN_FILE, inventory};

/// Pages of an empty file have no size yet; SQLite would take this one.
const DEFAULT_PAGE_SIZE: u32 = 4096;
/// How often a database that changed where no lock could keep it from that is read again.
const ATTEMPTS: u32 = 3;

/// Whether a capture's inventory is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counting {
    Wanted,
    /// Left empty: nobody reads the tables.
    Spared,
}

/// Pushes the database into `sink`.
pub(crate) fn capture(
    place: Place,
    reader: Reader,
    counting: Counting,
    wait: Duration,
    sink: &mut dyn Sink,
    context: &Context,
) -> EngineResult<Capture> {
    if place.bytes == 0 {
        return capture_empty(&place, sink, context);
    }
    for _ in 0..ATTEMPTS {
        let (database, view) = Database::open_view(place.clone(), reader.log_state(), wait, context)?;
        let done =
            interruptible(&database.connection, context, || once(&database, &view, reader, counting, sink, context));
        if let Some(capture) = done? {
            return Ok(capture);
        }
    }
    let message = format!("{} changed again and again while it was read", place.path.display());
    Err(EngineError::new(EngineErrorKind::Busy, message))
}

/// One attempt; `None` if what was read does not belong to one state.
fn once(
    database: &Database,
    view: &View,
    reader: Reader,
    counting: Counting,
    sink: &mut dyn Sink,
    context: &Context,
) -> EngineResult<Option<Capture>> {
    let path = &database.place.path;
    let refused = |e| refused_by_sink(e, context);
    context.phase("reading", Some(view.bytes()));
    let spec = PageFileSpec { name: MAIN_FILE.to_owned(), page_size: view.page_size, head_length: 0 };
    let file = sink.begin(&spec).map_err(refused)?;
    let mut header = None;
    let mut emit = |first, bytes: &[u8]| {
        if first == 0 {
            let found = Header::parse(bytes).filter(|h| h.page_size == view.page_size);
            header = Some(found.ok_or_else(|| damaged(path, "its header is not one that SQLite writes"))?);
        }
        // The sink tells the progress: it knows what is done with the pages.
        sink.pages(file, first, bytes).map_err(refused)
    };
    let counted = match counting {
        Counting::Wanted => read_and_count(database, view, reader, context, &mut emit)?,
        Counting::Spared => reader.read(database, view, context, &mut emit).map(|()| Some(Inventory::default()))?,
    };
    let header: Header = header.ok_or_else(|| damaged(path, "it has no pages"))?;
    let inventory = match counted {
        Some(inventory) => inventory,
        None => inventory::take(database, view, context)?,
    };
    if !database.confirm(view, header.change_counter)? {
        sink.withdraw(file).map_err(refused)?;
        return Ok(None);
    }
    sink.finish(file, view.bytes(), &[]).map_err(refused)?;
    let mut position = format!("changes={}", header.change_counter);
    if let Storage::Log(state) = &view.storage {
        position.push_str(&format!(";wal={}", state.position()));
    }
    Ok(Some(Capture {
        engine_version: header.writer_version(),
        inventory,
        position: Some(position),
        notes: Vec::new(),
    }))
}

/// Reads all pages and, where a second connection sees the same state, counts meanwhile. What could not be counted
/// there is left to the caller, who then finds out why.
fn read_and_count(
    database: &Database,
    view: &View,
    reader: Reader,
    context: &Context,
    emit: &mut Emit<'_>,
) -> EngineResult<Option<Inventory>> {
    let Some(second) = database.second_look(view) else {
        reader.read(database, view, context, emit)?;
        context.phase("counting", None);
        return Ok(None);
    };
    let interrupt = second.connection.get_interrupt_handle();
    std::thread::scope(|scope| {
        let counting = scope
            .spawn(move || interruptible(&second.connection, context, || inventory::take(&second, view, context)).ok());
        let read = reader.read(database, view, context, emit);
        match &read {
            Ok(()) => context.phase("counting", None),
            Err(_) => interrupt.interrupt(),
        }
        let counted = counting.join().ok().flatten();
        read?;
        context.cancel.check()?;
        Ok(counted)
    })
}

/// SQLite takes an empty file for a database without tables, and so does a backup; but it says so.
fn capture_empty(place: &Place, sink: &mut dyn Sink, context: &Context) -> EngineResult<Capture> {
    if place.bytes_beside("-wal") > 0 {
        return Err(damaged(&place.path, "the file is empty, but a -wal with content stands beside it"));
    }
    context.warn(format!("{} is an empty file: backed up as a database without tables", place.path.display()));
    context.phase("reading", Some(0));
    let refused = |e| refused_by_sink(e, context);
    let spec = PageFileSpec { name: MAIN_FILE.to_owned(), page_size: DEFAULT_PAGE_SIZE, head_length: 0 };
    let file = sink.begin(&spec).map_err(refused)?;
    sink.finish(file, 0, &[]).map_err(refused)?;
    Ok(Capture {
        engine_version: "3".to_owned(),
        inventory: inventory::of_empty_file(),
        position: None,
        notes: vec!["the file was empty".to_owned()],
    })
}

/// What a sink's refusal means: a cancelled repository says so in its own words.
fn refused_by_sink(error: copal_core::AnyError, context: &Context) -> EngineError {
    match context.cancel.check() {
        Err(cancelled) => EngineError::from(cancelled).because(error),
        Ok(()) => EngineError::repository(error),
    }
}
