//! Ways to copy a live database: the engine's, one that cannot fail, and the usual ones.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use copal_core::{Context, Engine, EngineError, Source};
use copal_duckdb::DuckDbEngine;

use crate::places::copy_files;
use crate::sink::{FolderSink, Pace};
use crate::writer::Writer;

/// What a copier who compresses takes for each block.
const SLOW: Duration = Duration::from_millis(2);

/// Checkpoints of the owner beside one copy.
const CHECKPOINTS: u32 = 3;

const HEADERS: usize = 12288;
const BLOCK: u64 = 262_144;

/// The engine under test; whether it had to fall back.
pub(crate) fn engine(database: &Path, to: &Path, pace: Pace, deadline: Duration) -> Result<bool, EngineError> {
    let engine = DuckDbEngine { deadline, ..DuckDbEngine::default() };
    let mut sink = FolderSink::new(to, pace);
    let capture = engine.capture(&Source::path(database), &mut sink, &Context::silent())?;
    assert!(sink.is_settled(), "a file was begun and neither finished nor withdrawn");
    assert_eq!(sink.finished.first().map(String::as_str), Some("main.duckdb"), "{:?}", sink.finished);
    assert!(!capture.engine_version.is_empty() && capture.position.is_some(), "{capture:?}");
    Ok(!capture.notes.is_empty())
}

/// A recipe that is to be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recipe {
    /// The writer holds still while its files are copied: shows that the verification raises no false alarm.
    Held,
    /// The main file.
    MainOnly,
    /// The main file, then the log.
    MainThenLog,
    /// The application makes a checkpoint, then the main file is copied, then the log.
    CheckpointThenCopy,
    /// Rounds until no header changes; blocks are kept if the checksum in them is the same.
    KeptByChecksum,
}

impl Recipe {
    pub(crate) fn copy(self, writer: &mut Writer, to: &Path) -> Result<(), String> {
        let database = writer.database();
        std::fs::create_dir_all(to).unwrap();
        match self {
            Self::Held => {
                writer.hold()?;
                copy_files(database.parent().unwrap(), "app.duckdb", to, "main.duckdb");
                writer.go()?;
            }
            Self::MainOnly => slow_copy(&database, &to.join("main.duckdb"), || {}),
            Self::MainThenLog => main_then_log(&database, to),
            Self::CheckpointThenCopy => {
                writer.checkpoint()?;
                main_then_log(&database, to);
            }
            Self::KeptByChecksum => kept_by_checksum(&database, to),
        }
        Ok(())
    }
}

fn log_of(database: &Path) -> PathBuf {
    database.with_extension("duckdb.wal")
}

fn main_then_log(database: &Path, to: &Path) {
    slow_copy(database, &to.join("main.duckdb"), || wait_for_checkpoints(database));
    let _ = std::fs::copy(log_of(database), to.join("main.duckdb.wal"));
}

/// A copy at the pace of somebody who compresses, with a rest after the headers and the first block or two.
fn slow_copy(from: &Path, to: &Path, rest: impl FnOnce()) {
    let (mut from, mut to) = (File::open(from).unwrap(), File::create(to).unwrap());
    let mut buffer = vec![0; 1 << 19];
    let mut rest = Some(rest);
    loop {
        let amount = from.read(&mut buffer).unwrap();
        if amount == 0 {
            return;
        }
        to.write_all(&buffer[..amount]).unwrap();
        std::thread::sleep(SLOW);
        if let Some(rest) = rest.take() {
            rest();
        }
    }
}

/// Until the owner has made some checkpoints, as it would beside the copy of a larger database: the first one frees
/// the blocks that the copied header points to, later ones use them anew.
fn wait_for_checkpoints(database: &Path) {
    let main = File::open(database).unwrap();
    let headers = || {
        let mut headers = vec![0; HEADERS];
        main.read_exact_at(&mut headers, 0).unwrap();
        headers
    };
    let (mut last, mut seen) = (headers(), 0);
    let late = Instant::now() + Duration::from_secs(5);
    while seen < CHECKPOINTS && Instant::now() < late {
        std::thread::sleep(SLOW);
        let now = headers();
        seen += u32::from(now != last);
        last = now;
    }
}

/// Sound but for its belief that a checksum tells content.
fn kept_by_checksum(database: &Path, to: &Path) {
    let main = File::open(database).unwrap();
    let headers = || {
        let mut headers = vec![0; HEADERS];
        main.read_exact_at(&mut headers, 0).unwrap();
        let log = std::fs::metadata(log_of(database)).ok().map(|m| m.ino());
        (headers, log, database.with_extension("duckdb.wal.checkpoint").exists())
    };
    let mut kept: HashMap<u64, Vec<u8>> = HashMap::new();
    let late = Instant::now() + Duration::from_secs(20);
    loop {
        let before = headers();
        let log = std::fs::read(log_of(database)).unwrap_or_default();
        let blocks = (main.metadata().unwrap().len() - HEADERS as u64) / BLOCK;
        for block in 0..blocks {
            let offset = HEADERS as u64 + block * BLOCK;
            let mut checksum = [0; 8];
            let _ = main.read_at(&mut checksum, offset);
            if kept.get(&block).is_some_and(|bytes| bytes[..8] == checksum) {
                continue;
            }
            let mut bytes = vec![0; usize::try_from(BLOCK).unwrap()];
            if main.read_exact_at(&mut bytes, offset).is_err() {
                // The file has become shorter, which a header will tell.
                break;
            }
            kept.insert(block, bytes);
            std::thread::sleep(SLOW);
        }
        if (headers() == before && !before.2) || Instant::now() > late {
            let copy = File::create(to.join("main.duckdb")).unwrap();
            copy.write_all_at(&before.0, 0).unwrap();
            for (block, bytes) in kept.iter().filter(|(block, _)| **block < blocks) {
                copy.write_all_at(bytes, HEADERS as u64 + block * BLOCK).unwrap();
            }
            std::fs::write(to.join("main.duckdb.wal"), log).unwrap();
            return;
        }
    }
}
