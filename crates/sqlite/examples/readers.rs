//! Measures the ways to read a database, and the counting: `readers FILE [ROUNDS]`; docs/engines/sqlite.md has results.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::path::Path;
use std::time::Instant;

use copal_core::{AnyError, Context, Engine, FileHandle, PageFileSpec, Sink, Source};
use copal_sqlite::{Reader, SqliteEngine};

/// Drops the pages and tells when the last one came.
struct Drain {
    started: Instant,
    bytes: u64,
    pages_seconds: f64,
    digest: Option<blake3::Hasher>,
}

impl Sink for Drain {
    fn begin(&mut self, _spec: &PageFileSpec) -> Result<FileHandle, AnyError> {
        Ok(FileHandle(0))
    }

    fn pages(&mut self, _file: FileHandle, _first: u64, bytes: &[u8]) -> Result<(), AnyError> {
        self.bytes += bytes.len() as u64;
        self.pages_seconds = self.started.elapsed().as_secs_f64();
        if let Some(digest) = &mut self.digest {
            digest.update(bytes);
        }
        Ok(())
    }

    fn finish(&mut self, _file: FileHandle, _length: u64, _head: &[u8]) -> Result<(), AnyError> {
        Ok(())
    }

    fn withdraw(&mut self, _file: FileHandle) -> Result<(), AnyError> {
        Ok(())
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().expect("FILE");
    let rounds: u32 = arguments.next().map_or(3, |n| n.parse().unwrap());
    let source = Source::path(Path::new(&file));
    let context = Context::silent();
    for round in 0..=rounds {
        for reader in [Reader::Raw, Reader::DbPage] {
            let engine = SqliteEngine { reader, ..SqliteEngine::default() };
            // The first round compares the content and warms the cache.
            let digest = (round == 0).then(blake3::Hasher::new);
            let mut sink = Drain { started: Instant::now(), bytes: 0, pages_seconds: 0.0, digest };
            let capture = engine.capture(&source, &mut sink, &context).unwrap();
            let whole = sink.started.elapsed().as_secs_f64();
            let digest = sink.digest.map(|d| d.finalize().to_hex().to_string()).unwrap_or_default();
            println!(
                "{reader:?}: {} bytes, pages {:.3} s, counts {:.3} s {} {digest}",
                sink.bytes,
                sink.pages_seconds,
                whole - sink.pages_seconds,
                capture.position.unwrap_or_default(),
            );
        }
    }
}
