//! A sink that keeps nothing: for asking an engine whether anything happened.

use copal_core::{AnyError, FileHandle, PageFileSpec, Sink};

/// Takes streams and keeps nothing of them.
pub(super) struct Discard;

impl Sink for Discard {
    fn begin(&mut self, spec: &PageFileSpec) -> Result<FileHandle, AnyError> {
        Err(format!("a journal has streams only, not the page file {}", spec.name).into())
    }

    fn pages(&mut self, _: FileHandle, _: u64, _: &[u8]) -> Result<(), AnyError> {
        Ok(())
    }

    fn finish(&mut self, _: FileHandle, _: u64, _: &[u8]) -> Result<(), AnyError> {
        Ok(())
    }

    fn withdraw(&mut self, _: FileHandle) -> Result<(), AnyError> {
        Ok(())
    }

    fn begin_stream(&mut self, _: &str) -> Result<FileHandle, AnyError> {
        Ok(FileHandle(0))
    }

    fn append(&mut self, _: FileHandle, _: &[u8]) -> Result<(), AnyError> {
        Ok(())
    }

    fn finish_stream(&mut self, _: FileHandle) -> Result<(), AnyError> {
        Ok(())
    }
}
