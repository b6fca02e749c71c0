//! The engine's side of streams: bytes come in, runs of chunks go to the workers.

use copal_core::{FileEntry, FileHandle};

use super::chunker::OpenStream;
use super::workers::{Job, StreamRun};
use super::{FinishedFile, Message, Writer};
use crate::error::{RepositoryError, RepositoryErrorKind, Result};
use crate::manifest_rules::is_safe_name;

impl Writer {
    pub(super) fn open_stream(&mut self, name: &str) -> Result<FileHandle> {
        self.check()?;
        let is_taken = self.streams.values().any(|s| s.name == name)
            || self.files.values().any(|f| f.spec.name == name)
            || self.finished.iter().any(|f| f.entry.name() == name);
        if is_taken || !is_safe_name(name) {
            let message = format!("a stream cannot have the name {name:?}, or it has been given before");
            return Err(RepositoryError::new(RepositoryErrorKind::Usage, message));
        }
        let handle = self.new_handle();
        let seq = self.seq();
        self.send(Message::BeginStream { seq, file: handle.0 })?;
        self.streams.insert(handle.0, OpenStream::new(name));
        Ok(handle)
    }

    pub(super) fn append_bytes(&mut self, handle: FileHandle, mut bytes: &[u8]) -> Result<()> {
        loop {
            let (rest, is_full) = self.stream(handle)?.take(bytes);
            if is_full {
                self.flush_stream(handle, false)?;
            }
            if rest.is_empty() {
                return Ok(());
            }
            bytes = rest;
        }
    }

    pub(super) fn end_stream(&mut self, handle: FileHandle) -> Result<()> {
        self.check()?;
        while !self.stream(handle)?.is_empty() {
            self.flush_stream(handle, true)?;
        }
        let Some(OpenStream { name, .. }) = self.streams.remove(&handle.0) else { return Err(super::stopped()) };
        let (reply, answer) = std::sync::mpsc::channel();
        let seq = self.seq();
        self.send(Message::FinishStream { seq, file: handle.0, name, reply })?;
        let entry: FileEntry = self.wait(&answer)?;
        self.finished.push(FinishedFile { entry, map: None });
        Ok(())
    }

    fn stream(&mut self, handle: FileHandle) -> Result<&mut OpenStream> {
        let unknown = || RepositoryError::new(RepositoryErrorKind::Usage, "the engine used a stream that is not open");
        self.streams.get_mut(&handle.0).ok_or_else(unknown)
    }

    /// Cuts a run off and hands it to the workers.
    fn flush_stream(&mut self, handle: FileHandle, is_end: bool) -> Result<()> {
        self.check()?;
        let spare = self.wait(&self.spare)?;
        let (bytes, lengths) = self.stream(handle)?.cut(spare, is_end);
        let (seq, amount) = (self.seq(), bytes.len() as u64);
        self.workers.send(Job::Hash(StreamRun { seq, file: handle.0, bytes, lengths }));
        self.context.advance(amount);
        Ok(())
    }
}
