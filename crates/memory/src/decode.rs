//! Reads the streams of docs/engines/memory.md into a loader, as their bytes come in.
//!
//! Nothing here touches a store: a loader is committed when everything was read and counted. Every command is checked against what the
//! streams before it said, so a loader sees only what is in order.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use copal_core::{Content, Context, EngineError, EngineErrorKind, EngineResult, FileEntry};

use crate::encode::{CHANGES, FORMAT_NAME, FORMAT_VERSION, TABLES};
use crate::packed::Taker;
use crate::walk::{Walked, Walker};
use crate::{Loader, MemoryError, MemoryResult, TableDescription};

/// Reads a backup and the segments behind it; `name` is the target's, for messages.
pub(crate) fn content(
    content: &dyn Content,
    loader: &mut dyn Loader,
    name: &str,
    context: &Context,
) -> EngineResult<()> {
    let damaged =
        |stream: &str, what: &str| MemoryError::Damaged { stream: stream.to_owned(), what: what.to_owned() }.of(name);
    let mut tables = stream(content, TABLES, Kind::Tables, BTreeSet::new(), loader, name, context)?;
    for entry in content.files() {
        let is_known = entry.name() == TABLES || tables.streams.contains_key(entry.name());
        if !is_known || !matches!(entry, FileEntry::Stream { .. }) {
            return Err(damaged(entry.name(), "no table has it"));
        }
    }
    let mut names: BTreeSet<String> = tables.names;
    for (rows, table) in std::mem::take(&mut tables.streams) {
        names = stream(content, &rows, Kind::Rows(table), names, loader, name, context)?.names;
    }
    if loader.counts() != tables.counts {
        return Err(damaged(TABLES, "it counts other rows than there are"));
    }
    for segment in content.segments() {
        if segment.files().len() != 1 {
            return Err(damaged(CHANGES, "a segment has other streams"));
        }
        let changes = stream(segment.as_ref(), CHANGES, Kind::Changes, names, loader, name, context)?;
        if loader.counts() != changes.counts {
            return Err(damaged(CHANGES, "it counts other rows than there are behind it"));
        }
        names = changes.names;
    }
    Ok(())
}

/// What a stream must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Tables,
    /// The rows of this table.
    Rows(String),
    Changes,
}

impl Kind {
    fn word(&self) -> &'static str {
        match self {
            Self::Tables => "tables",
            Self::Rows(_) => "rows",
            Self::Changes => "changes",
        }
    }
}

/// What a stream said.
pub(crate) struct Said {
    /// The tables behind it.
    pub(crate) names: BTreeSet<String>,
    /// Stream and table.
    pub(crate) streams: BTreeMap<String, String>,
    /// What its end counts.
    pub(crate) counts: BTreeMap<String, u64>,
}

fn stream(
    content: &dyn Content,
    stream: &str,
    kind: Kind,
    names: BTreeSet<String>,
    loader: &mut dyn Loader,
    name: &str,
    context: &Context,
) -> EngineResult<Said> {
    if !content.files().iter().any(|entry| entry.name() == stream) {
        let missing = MemoryError::Damaged { stream: stream.to_owned(), what: "it is missing".to_owned() };
        return Err(missing.of(name));
    }
    let mut decoder = Decoder::new(stream, kind, names, loader);
    let written = content.write_stream(stream, &mut decoder, context);
    if let Some(error) = decoder.failure.take() {
        return Err(error.of(name));
    }
    written.map_err(|error| {
        let failed = EngineError::repository(error);
        if context.cancel.is_cancelled() { EngineError { kind: EngineErrorKind::Cancelled, ..failed } } else { failed }
    })?;
    decoder.finish().map_err(|error| error.of(name))
}

/// Takes the bytes of one stream.
pub(crate) struct Decoder<'a> {
    stream: String,
    kind: Kind,
    loader: &'a mut dyn Loader,
    walker: Walker,
    at: At,
    said: Said,
    /// The beginning of something whose end has not come yet.
    held: Vec<u8>,
    /// As long as less is held, it is not looked at again.
    wanted: usize,
    /// The first error, which says more than what `io::Write` can.
    failure: Option<MemoryError>,
}

/// What comes next.
enum At {
    Header,
    Command,
    Entries { table: String, left: u64, does: Does },
    Ended,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Does {
    Insert,
    Upsert,
    Delete,
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(stream: &str, kind: Kind, names: BTreeSet<String>, loader: &'a mut dyn Loader) -> Self {
        Self {
            stream: stream.to_owned(),
            kind,
            loader,
            walker: Walker::default(),
            at: At::Header,
            said: Said { names, streams: BTreeMap::new(), counts: BTreeMap::new() },
            held: Vec::new(),
            wanted: 0,
            failure: None,
        }
    }

    /// The stream is complete.
    pub(crate) fn finish(mut self) -> MemoryResult<Said> {
        let held = std::mem::take(&mut self.held);
        let used = self.take(&held)?;
        match self.at {
            At::Ended if used == held.len() => Ok(self.said),
            _ => Err(self.damaged("it is cut off")),
        }
    }

    fn damaged(&self, what: &str) -> MemoryError {
        MemoryError::Damaged { stream: self.stream.clone(), what: what.to_owned() }
    }

    /// An error of a value, with the stream's name.
    fn here(&self, error: MemoryError) -> MemoryError {
        match error {
            MemoryError::Malformed(what) => self.damaged(what),
            other => other,
        }
    }

    /// Takes what is complete, and returns how many bytes that is.
    fn take(&mut self, bytes: &[u8]) -> MemoryResult<usize> {
        let mut used = 0;
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            if rest.is_empty() {
                self.wanted = 0;
                return Ok(used);
            }
            if matches!(self.at, At::Ended) {
                return Err(self.damaged("something follows its end"));
            }
            match self.next(rest).map_err(|error| self.here(error))? {
                Walked::Whole(length) => used += length,
                Walked::Short(least) => {
                    // Twice as much at least, so that a long value is not walked over again and again.
                    self.wanted = least.max(rest.len().saturating_mul(2));
                    return Ok(used);
                }
            }
        }
    }

    /// Takes one value, or a key and its row.
    fn next(&mut self, bytes: &[u8]) -> MemoryResult<Walked> {
        let first = match self.walker.value(bytes)? {
            Walked::Whole(first) => first,
            short => return Ok(short),
        };
        let (value, rest) = bytes.split_at(first);
        let At::Entries { table, left, does } = &mut self.at else {
            match self.at {
                At::Header => self.header(value)?,
                _ => self.command(value)?,
            }
            return Ok(Walked::Whole(first));
        };
        let mut length = first;
        let is_new = if *does == Does::Delete {
            self.loader.delete(table, value)?;
            true
        } else {
            let second = match self.walker.value(rest)? {
                Walked::Whole(second) => second,
                Walked::Short(least) => return Ok(Walked::Short(first.saturating_add(least))),
            };
            length += second;
            self.loader.upsert(table, value, rest.get(..second).unwrap_or_default())? || *does == Does::Upsert
        };
        *left -= 1;
        if *left == 0 {
            self.at = At::Command;
        }
        if is_new { Ok(Walked::Whole(length)) } else { Err(MemoryError::Malformed("a key is there twice")) }
    }

    fn header(&mut self, value: &[u8]) -> MemoryResult<()> {
        let mut taker = Taker::new(value);
        let is_ours = taker.array().is_ok_and(|count| count >= 2) && taker.text().is_ok_and(|text| text == FORMAT_NAME);
        if !is_ours {
            return Err(MemoryError::Malformed("it does not begin as one of copal's"));
        }
        let version = taker.number()?;
        if version != FORMAT_VERSION {
            return Err(MemoryError::Newer { stream: self.stream.clone(), version });
        }
        if taker.text()? != self.kind.word() || !taker.is_done() {
            return Err(MemoryError::Malformed("it is of another kind than it must be here"));
        }
        self.at = At::Command;
        Ok(())
    }

    fn command(&mut self, value: &[u8]) -> MemoryResult<()> {
        let mut taker = Taker::new(value);
        let count = taker.array()?;
        let name = taker.text()?;
        match (&self.kind, name, count) {
            (_, "end", 2) => {
                for _ in 0..taker.map()? {
                    let table = taker.text()?.to_owned();
                    let rows = taker.number()?;
                    if self.said.counts.insert(table, rows).is_some() {
                        return Err(MemoryError::Malformed("a table is there twice"));
                    }
                }
                self.at = At::Ended;
            }
            (Kind::Tables | Kind::Changes, "store", 2) => self.loader.set_metadata(taker.packed()?)?,
            (Kind::Tables, "table", 3) => {
                let description = TableDescription::take(&mut taker)?;
                let stream = taker.text()?.to_owned();
                let table = description.name.clone();
                let is_new = self.said.names.insert(table.clone());
                if !is_new || stream == TABLES || self.said.streams.insert(stream, table).is_some() {
                    return Err(MemoryError::Malformed("a table or its stream is there twice"));
                }
                self.loader.create(description)?;
            }
            (Kind::Rows(expected), "rows", 3) => {
                let table = taker.text()?;
                if table != expected {
                    return Err(MemoryError::Malformed("it has the rows of another table"));
                }
                let table = table.to_owned();
                self.entries(table, taker.number()?, Does::Insert);
            }
            (Kind::Changes, "drop", 2) => {
                let table = self.known(taker.text()?)?;
                self.loader.drop_table(&table)?;
                self.said.names.remove(&table);
            }
            (Kind::Changes, "create", 2) => {
                let description = TableDescription::take(&mut taker)?;
                self.said.names.insert(description.name.clone());
                self.loader.create(description)?;
            }
            (Kind::Changes, "describe", 2) => {
                let description = TableDescription::take(&mut taker)?;
                self.known(&description.name)?;
                self.loader.describe(description)?;
            }
            (Kind::Changes, "upsert" | "delete", 3) => {
                let table = self.known(taker.text()?)?;
                let does = if name == "upsert" { Does::Upsert } else { Does::Delete };
                self.entries(table, taker.number()?, does);
            }
            _ => return Err(MemoryError::Malformed("it has a command that is unknown here")),
        }
        if taker.is_done() { Ok(()) } else { Err(MemoryError::Malformed("a command has too much in it")) }
    }

    fn entries(&mut self, table: String, left: u64, does: Does) {
        if left > 0 {
            self.at = At::Entries { table, left, does };
        }
    }

    fn known(&self, table: &str) -> MemoryResult<String> {
        match self.said.names.contains(table) {
            true => Ok(table.to_owned()),
            false => Err(MemoryError::Malformed("it changes a table that is not there")),
        }
    }
}

impl io::Write for Decoder<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = if self.failure.is_some() {
            return Err(io::ErrorKind::InvalidData.into());
        } else if self.held.is_empty() {
            self.take(bytes).map(|used| self.held.extend_from_slice(bytes.get(used..).unwrap_or_default()))
        } else {
            self.held.extend_from_slice(bytes);
            if self.held.len() < self.wanted {
                return Ok(bytes.len());
            }
            let mut held = std::mem::take(&mut self.held);
            self.take(&held).map(|used| {
                held.drain(..used);
                self.held = held;
            })
        };
        match taken {
            Ok(()) => Ok(bytes.len()),
            Err(error) => {
                let told = io::Error::new(io::ErrorKind::InvalidData, error.to_string());
                self.failure = Some(error);
                Err(told)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
