//! Copies a DuckDB database that may be in use into a folder, without a repository: `copy DATABASE FOLDER`.
//!
//! For experiments: says how long it took and what was found.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use copal_core::{AnyError, Context, Engine, FileHandle, PageFileSpec, Sink, Source};
use copal_duckdb::DuckDbEngine;

/// Writes each page file of a capture into a folder.
struct Folder {
    path: PathBuf,
    files: HashMap<u32, (PageFileSpec, File)>,
    pages: u64,
}

impl Sink for Folder {
    fn begin(&mut self, spec: &PageFileSpec) -> Result<FileHandle, AnyError> {
        let handle = FileHandle(u32::try_from(self.files.len())?);
        self.files.insert(handle.0, (spec.clone(), File::create(self.path.join(&spec.name))?));
        Ok(handle)
    }

    fn pages(&mut self, file: FileHandle, first: u64, bytes: &[u8]) -> Result<(), AnyError> {
        let (spec, file) = self.files.get(&file.0).ok_or("no such file")?;
        self.pages += bytes.len().div_ceil(spec.page_size as usize) as u64;
        Ok(file.write_all_at(bytes, u64::from(spec.head_length) + first * u64::from(spec.page_size))?)
    }

    fn finish(&mut self, file: FileHandle, length: u64, head: &[u8]) -> Result<(), AnyError> {
        let (_, file) = self.files.get(&file.0).ok_or("no such file")?;
        file.set_len(length)?;
        Ok(file.write_all_at(head, 0)?)
    }

    fn withdraw(&mut self, file: FileHandle) -> Result<(), AnyError> {
        let (spec, _) = self.files.get(&file.0).ok_or("no such file")?;
        Ok(std::fs::remove_file(self.path.join(&spec.name))?)
    }
}

#[expect(clippy::print_stdout, reason = "an example talks to its user")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [database, folder] = arguments.as_slice() else { return Err("usage: copy DATABASE FOLDER".into()) };
    std::fs::create_dir_all(folder)?;
    let mut sink = Folder { path: Path::new(folder).to_owned(), files: HashMap::new(), pages: 0 };
    let begun = Instant::now();
    let capture = DuckDbEngine::default().capture(&Source::parse(database)?, &mut sink, &Context::silent())?;
    println!("{:.3} s, {} pages given, {:?}", begun.elapsed().as_secs_f64(), sink.pages, capture);
    Ok(())
}
