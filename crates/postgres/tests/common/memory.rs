//! A backup of streams in memory.

use std::io::Write;

use copal_core::{AnyError, Capture, Content, Context, FileEntry, FileHandle, PageFileSpec, Sink, WriteAt};

/// Takes a backup's streams and gives them back.
#[derive(Default)]
pub struct MemoryBackup {
    pub capture: Capture,
    pub streams: Vec<(String, Vec<u8>)>,
    files: Vec<FileEntry>,
}

impl Sink for MemoryBackup {
    fn begin(&mut self, spec: &PageFileSpec) -> Result<FileHandle, AnyError> {
        Err(format!("{} is a page file", spec.name).into())
    }

    fn pages(&mut self, _: FileHandle, _: u64, _: &[u8]) -> Result<(), AnyError> {
        Err("no page files".into())
    }

    fn finish(&mut self, _: FileHandle, _: u64, _: &[u8]) -> Result<(), AnyError> {
        Err("no page files".into())
    }

    fn withdraw(&mut self, stream: FileHandle) -> Result<(), AnyError> {
        let (name, bytes) = &mut self.streams[stream.0 as usize];
        assert!(self.files.iter().all(|file| file.name() != name), "{name} was finished");
        *name = format!("withdrawn {}", stream.0);
        bytes.clear();
        Ok(())
    }

    fn begin_stream(&mut self, name: &str) -> Result<FileHandle, AnyError> {
        assert!(self.streams.iter().all(|(known, _)| known != name), "{name} twice");
        self.streams.push((name.to_owned(), Vec::new()));
        Ok(FileHandle(self.streams.len() as u32 - 1))
    }

    fn append(&mut self, stream: FileHandle, bytes: &[u8]) -> Result<(), AnyError> {
        self.streams[stream.0 as usize].1.extend_from_slice(bytes);
        Ok(())
    }

    fn finish_stream(&mut self, stream: FileHandle) -> Result<(), AnyError> {
        let (name, bytes) = &self.streams[stream.0 as usize];
        let (name, length) = (name.clone(), bytes.len() as u64);
        self.files.push(FileEntry::Pages {
            name,
            length,
            page_size: 0,
            head: vec![],
            digest: [0; 32],
            branches: Vec::new(),
        });
        Ok(())
    }
}

impl Content for MemoryBackup {
    fn files(&self) -> &[FileEntry] {
        &self.files
    }

    fn write_file(&self, name: &str, _: &dyn WriteAt, _: &Context) -> Result<(), AnyError> {
        Err(format!("{name} is a stream").into())
    }

    fn write_stream(&self, name: &str, out: &mut dyn Write, _: &Context) -> Result<(), AnyError> {
        let (_, bytes) = self.streams.iter().find(|(known, _)| known == name).ok_or("no such stream")?;
        for chunk in bytes.chunks(100_000) {
            out.write_all(chunk)?;
        }
        Ok(())
    }
}
