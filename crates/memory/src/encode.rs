//! Writes views as the streams of docs/engines/memory.md.
//!
//! A thread encodes runs of a megabyte while the caller gives earlier ones to the sink. Whatever a store writes is walked over
//! before it is given away, so that a backup that can be made can be read.

use std::sync::mpsc::{channel, sync_channel};

use copal_core::{Context, EngineError, EngineResult, FileHandle, Sink};

use crate::packed::{put_array, put_map, put_number, put_text};
use crate::walk::{Walked, Walker};
use crate::{Change, Entries, MemoryError, MemoryResult, View};

/// The first text of every stream.
pub(crate) const FORMAT_NAME: &str = "copal-memory";
/// The version of the streams.
pub(crate) const FORMAT_VERSION: u64 = 1;
/// The stream that says which tables there are.
pub(crate) const TABLES: &str = "tables";
/// The stream of a segment.
pub(crate) const CHANGES: &str = "changes";

const RUN_BYTES: usize = 1 << 20;
/// With fewer parts no thread is worth its while.
const PARTS_FOR_THREAD: usize = 16;

/// The stream with the rows of the table of that number.
pub(crate) fn rows_stream(number: usize) -> String {
    format!("rows/{number}")
}

/// Writes everything; `name` is the store's, for messages.
pub(crate) fn full(view: &View, name: &str, sink: &mut dyn Sink, context: &Context) -> EngineResult<()> {
    let mut stream = Stream::begin(TABLES, "tables", name, sink, context)?;
    if let Some(metadata) = view.metadata.as_ref().filter(|metadata| !metadata.is_nil()) {
        stream.command("store", 1);
        stream.buffer.extend_from_slice(metadata.as_bytes());
    }
    for (number, table) in view.tables.iter().enumerate() {
        stream.command("table", 2);
        table.description.put(&mut stream.buffer);
        put_text(&mut stream.buffer, &rows_stream(number));
    }
    stream.end(view.counts.iter().map(|(name, rows)| (name.as_str(), *rows)))?;
    for (number, table) in view.tables.iter().enumerate() {
        let mut stream = Stream::begin(&rows_stream(number), "rows", name, sink, context)?;
        let table_name = table.description.name.as_str();
        stream.entries("rows", table_name, table.upserts.as_ref(), 2)?;
        stream.end([(table_name, table.upserts.count())].into_iter())?;
    }
    Ok(())
}

/// Writes what changed.
pub(crate) fn changes(view: &View, name: &str, sink: &mut dyn Sink, context: &Context) -> EngineResult<()> {
    let mut stream = Stream::begin(CHANGES, "changes", name, sink, context)?;
    if let Some(metadata) = &view.metadata {
        stream.command("store", 1);
        stream.buffer.extend_from_slice(metadata.as_bytes());
    }
    for table in &view.dropped {
        stream.command("drop", 1);
        put_text(&mut stream.buffer, table);
    }
    for table in &view.tables {
        match table.change {
            Change::Whole => stream.command("create", 1),
            Change::Described => stream.command("describe", 1),
            Change::Kept => continue,
        }
        table.description.put(&mut stream.buffer);
    }
    for table in &view.tables {
        stream.entries("upsert", &table.description.name, table.upserts.as_ref(), 2)?;
        stream.entries("delete", &table.description.name, table.deletes.as_ref(), 1)?;
    }
    stream.end(view.counts.iter().map(|(name, rows)| (name.as_str(), *rows)))
}

/// One stream that is being written.
struct Stream<'a> {
    handle: FileHandle,
    store: &'a str,
    sink: &'a mut dyn Sink,
    context: &'a Context,
    /// What was not given to the sink yet.
    buffer: Vec<u8>,
}

impl<'a> Stream<'a> {
    fn begin(
        stream: &str,
        kind: &str,
        store: &'a str,
        sink: &'a mut dyn Sink,
        context: &'a Context,
    ) -> EngineResult<Self> {
        let handle = sink.begin_stream(stream).map_err(EngineError::repository)?;
        let mut buffer = Vec::new();
        put_array(&mut buffer, 3);
        put_text(&mut buffer, FORMAT_NAME);
        put_number(&mut buffer, FORMAT_VERSION);
        put_text(&mut buffer, kind);
        Ok(Self { handle, store, sink, context, buffer })
    }

    /// Begins a command, behind which come so many values.
    fn command(&mut self, name: &str, values: u32) {
        put_array(&mut self.buffer, 1 + values);
        put_text(&mut self.buffer, name);
    }

    fn give(&mut self, run: &[u8]) -> EngineResult<()> {
        for piece in run.chunks(RUN_BYTES) {
            self.context.cancel.check()?;
            self.sink.append(self.handle, piece).map_err(EngineError::repository)?;
            self.context.advance(piece.len() as u64);
        }
        Ok(())
    }

    fn flush(&mut self) -> EngineResult<()> {
        let buffer = std::mem::take(&mut self.buffer);
        self.give(&buffer)
    }

    /// Writes entries of so many values each, if there are any; a full has the command also for none.
    fn entries(&mut self, command: &str, table: &str, entries: &dyn Entries, values: u64) -> EngineResult<()> {
        if entries.count() == 0 && command != "rows" {
            return self.encode(&mut Run::new(entries, table, values));
        }
        self.command(command, 2);
        put_text(&mut self.buffer, table);
        put_number(&mut self.buffer, entries.count());
        let mut run = Run::new(entries, table, values);
        if entries.parts() < PARTS_FOR_THREAD {
            return self.encode(&mut run);
        }
        self.flush()?;
        std::thread::scope(|scope| {
            let (full, taken) = sync_channel::<Vec<u8>>(4);
            let (spare, emptied) = channel::<Vec<u8>>();
            let encoder = std::thread::Builder::new().name("copal-memory-encode".to_owned());
            let encoder = encoder.spawn_scoped(scope, move || {
                loop {
                    let mut buffer =
                        emptied.try_recv().unwrap_or_else(|_| Vec::with_capacity(RUN_BYTES + RUN_BYTES / 4));
                    let is_more = run.fill(&mut buffer)?;
                    // Nobody takes it: the caller has an error of its own.
                    if full.send(buffer).is_err() || !is_more {
                        return Ok::<(), MemoryError>(());
                    }
                }
            });
            let encoder = match encoder {
                Ok(encoder) => encoder,
                Err(error) => return Err(MemoryError::Store(error.into()).of(self.store)),
            };
            // An error drops `taken`, which ends the encoder.
            for mut buffer in &taken {
                self.give(&buffer)?;
                buffer.clear();
                // The encoder may have ended.
                let _ = spare.send(buffer);
            }
            match encoder.join() {
                Ok(encoded) => encoded.map_err(|error| error.of(self.store)),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Writes them on this thread.
    fn encode(&mut self, run: &mut Run<'_>) -> EngineResult<()> {
        loop {
            let mut buffer = std::mem::take(&mut self.buffer);
            let is_more = run.fill(&mut buffer).map_err(|error| error.of(self.store))?;
            self.buffer = buffer;
            if !is_more {
                return Ok(());
            }
            self.flush()?;
        }
    }

    fn end<'n>(mut self, counts: impl ExactSizeIterator<Item = (&'n str, u64)>) -> EngineResult<()> {
        self.command("end", 1);
        put_map(&mut self.buffer, u32::try_from(counts.len()).unwrap_or(u32::MAX));
        for (table, rows) in counts {
            put_text(&mut self.buffer, table);
            put_number(&mut self.buffer, rows);
        }
        self.flush()?;
        self.sink.finish_stream(self.handle).map_err(EngineError::repository)
    }
}

/// Entries on their way into runs.
struct Run<'a> {
    entries: &'a dyn Entries,
    table: &'a str,
    values: u64,
    part: usize,
    written: u64,
    walker: Walker,
    /// Whether every key is there once, and so never twice in a row.
    is_unique: bool,
    /// The bytes of the last key.
    last_key: Vec<u8>,
}

impl<'a> Run<'a> {
    fn new(entries: &'a dyn Entries, table: &'a str, values: u64) -> Self {
        let (walker, last_key) = (Walker::default(), Vec::new());
        Self { entries, table, values, part: 0, written: 0, walker, is_unique: values == 2, last_key }
    }

    /// Appends parts until there is a run; whether there are more. With the last one all must be what the store counted.
    fn fill(&mut self, buffer: &mut Vec<u8>) -> MemoryResult<bool> {
        while self.part < self.entries.parts() {
            let from = buffer.len();
            let written = self.entries.write(self.part, buffer)?;
            self.walk(buffer.get(from..).unwrap_or_default(), written)?;
            self.written += written;
            self.part += 1;
            if buffer.len() >= RUN_BYTES {
                return Ok(true);
            }
        }
        let (expected, found) = (self.entries.count(), self.written);
        if expected != found {
            return Err(MemoryError::Miscounted { table: self.table.to_owned(), expected, found });
        }
        Ok(false)
    }

    fn walk(&mut self, mut bytes: &[u8], entries: u64) -> MemoryResult<()> {
        let unfit =
            |source: MemoryError, row| MemoryError::Encode { table: self.table.to_owned(), row, source: source.into() };
        for number in 0..entries.saturating_mul(self.values) {
            let row = 1 + number / self.values;
            let length = match self.walker.value(bytes).map_err(|error| unfit(error, row))? {
                Walked::Whole(length) => length,
                Walked::Short(_) => return Err(unfit(MemoryError::Malformed("it is cut off"), row)),
            };
            let (value, rest) = bytes.split_at_checked(length).unwrap_or((bytes, &[]));
            bytes = rest;
            if self.is_unique && number.is_multiple_of(self.values) {
                if self.last_key == value {
                    let source = "two keys next to each other have the same bytes".into();
                    return Err(MemoryError::Unreadable { table: self.table.to_owned(), source });
                }
                self.last_key.clear();
                self.last_key.extend_from_slice(value);
            }
        }
        if bytes.is_empty() { Ok(()) } else { Err(unfit(MemoryError::Malformed("something follows it"), entries)) }
    }
}
