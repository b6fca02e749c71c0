//! Plain sinks and contents in memory, and stores to try them with.

use std::collections::BTreeMap;

use copal_core::{
    AnyError, Capture, Content, Context, Engine, EngineResult, FileEntry, FileHandle, Journal, PageFileSpec,
    RestoreRequest, Restored, Sink, Source, WriteAt,
};
use copal_memory::MemoryEngine;
use serde::{Deserialize, Serialize};

/// Takes streams; refuses a byte more than it may take.
#[derive(Default)]
pub(crate) struct Streams {
    pub(crate) streams: Vec<(String, Vec<u8>)>,
    open: Option<usize>,
    pub(crate) room: Option<usize>,
    /// Called before each run is taken.
    pub(crate) before: Option<Box<dyn FnMut()>>,
}

impl Streams {
    pub(crate) fn with_room(bytes: usize) -> Self {
        Self { room: Some(bytes), ..Self::default() }
    }

    pub(crate) fn saved(self) -> Saved {
        Saved::new(self.streams)
    }
}

impl Sink for Streams {
    fn begin(&mut self, _: &PageFileSpec) -> Result<FileHandle, AnyError> {
        Err("no pages here".into())
    }

    fn pages(&mut self, _: FileHandle, _: u64, _: &[u8]) -> Result<(), AnyError> {
        Err("no pages here".into())
    }

    fn finish(&mut self, _: FileHandle, _: u64, _: &[u8]) -> Result<(), AnyError> {
        Err("no pages here".into())
    }

    fn withdraw(&mut self, _: FileHandle) -> Result<(), AnyError> {
        Err("nothing is withdrawn here".into())
    }

    fn begin_stream(&mut self, name: &str) -> Result<FileHandle, AnyError> {
        assert!(self.open.is_none(), "one stream after the other");
        assert!(self.streams.iter().all(|(other, _)| other != name), "{name} twice");
        self.streams.push((name.to_owned(), Vec::new()));
        self.open = Some(self.streams.len() - 1);
        Ok(FileHandle(self.streams.len() as u32 - 1))
    }

    fn append(&mut self, stream: FileHandle, bytes: &[u8]) -> Result<(), AnyError> {
        assert_eq!(self.open, Some(stream.0 as usize));
        if let Some(before) = &mut self.before {
            before();
        }
        if let Some(room) = &mut self.room {
            *room = room.checked_sub(bytes.len()).ok_or("the disk is full")?;
        }
        self.streams[stream.0 as usize].1.extend_from_slice(bytes);
        Ok(())
    }

    fn finish_stream(&mut self, stream: FileHandle) -> Result<(), AnyError> {
        assert_eq!(self.open.take(), Some(stream.0 as usize));
        Ok(())
    }
}

/// A backup or segment in memory, given in pieces of any length.
pub(crate) struct Saved {
    pub(crate) streams: BTreeMap<String, Vec<u8>>,
    entries: Vec<FileEntry>,
    segments: Vec<Box<dyn Content>>,
    pub(crate) piece: usize,
}

impl Saved {
    pub(crate) fn new(streams: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let streams: BTreeMap<_, _> = streams.into_iter().collect();
        let entry = |(name, bytes): (&String, &Vec<u8>)| FileEntry::Stream {
            name: name.clone(),
            length: bytes.len() as u64,
            digest: [0; 32],
            branches: Vec::new(),
        };
        let entries = streams.iter().map(entry).collect();
        Self { streams, entries, segments: Vec::new(), piece: 4_096 }
    }

    pub(crate) fn copy(&self) -> Self {
        let copy = Self::new(self.streams.clone());
        Self { piece: self.piece, ..copy }
    }

    /// The same in other pieces.
    pub(crate) fn in_pieces(mut self, piece: usize) -> Self {
        self.piece = piece;
        self
    }

    pub(crate) fn followed_by<'a>(mut self, segments: impl IntoIterator<Item = &'a Saved>) -> Self {
        self.segments = segments.into_iter().map(|segment| Box::new(segment.copy()) as Box<dyn Content>).collect();
        self
    }
}

impl Content for Saved {
    fn files(&self) -> &[FileEntry] {
        &self.entries
    }

    fn write_file(&self, name: &str, _: &dyn WriteAt, _: &Context) -> Result<(), AnyError> {
        Err(format!("{name} is no page file").into())
    }

    fn write_stream(&self, name: &str, out: &mut dyn std::io::Write, _: &Context) -> Result<(), AnyError> {
        for piece in self.streams.get(name).ok_or("no such stream")?.chunks(self.piece) {
            out.write_all(piece)?;
        }
        Ok(())
    }

    fn segments(&self) -> &[Box<dyn Content>] {
        &self.segments
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct User {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) email: String,
    pub(crate) score: f64,
    pub(crate) active: bool,
}

pub(crate) fn user(id: u64) -> User {
    let (name, email) = (format!("user {id:07}"), format!("user{id:07}@example.com"));
    User { id, name, email, score: id as f64 / 3.0, active: !id.is_multiple_of(3) }
}

pub(crate) fn source(text: &str) -> Source {
    Source::parse(text).unwrap()
}

pub(crate) fn full(engine: &MemoryEngine, name: &str) -> (Saved, Capture) {
    let mut sink = Streams::default();
    let capture = engine.capture(&source(&format!("memory:{name}")), &mut sink, &Context::silent()).unwrap();
    (sink.saved(), capture)
}

pub(crate) fn delta(engine: &MemoryEngine, name: &str, since: &str) -> EngineResult<Option<(Saved, Capture)>> {
    let mut sink = Streams::default();
    let capture = engine.capture_since(&source(&format!("memory:{name}")), since, &mut sink, &Context::silent())?;
    Ok(capture.map(|capture| (sink.saved(), capture)))
}

pub(crate) fn restore(engine: &MemoryEngine, content: &Saved, target: &str, replace: bool) -> EngineResult<Restored> {
    let request = RestoreRequest { replace, ..RestoreRequest::new(source(target)) };
    engine.restore(content, &request, &Context::silent())
}
