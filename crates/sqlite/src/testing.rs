//! What the tests of this crate share: a backup in memory, databases of every kind, other processes.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use copal_core::{
    AnyError, Capture, CheckLevel, Content, Context, Engine, EngineResult, FileEntry, FileHandle, PageFileSpec,
    RestoreRequest, Restored, Sink, Source, WriteAt,
};
use rusqlite::Connection;

use crate::{Reader, SqliteEngine};

/// A backup in memory, as a sink takes it and a content gives it.
#[derive(Default)]
pub(crate) struct MemoryBackup {
    pub(crate) bytes: Vec<u8>,
    files: Vec<FileEntry>,
    spec: Option<PageFileSpec>,
}

impl Sink for MemoryBackup {
    fn begin(&mut self, spec: &PageFileSpec) -> Result<FileHandle, AnyError> {
        assert!(self.spec.is_none(), "one file at a time");
        assert_eq!((spec.name.as_str(), spec.head_length), ("main.db", 0));
        self.spec = Some(spec.clone());
        Ok(FileHandle(7))
    }

    fn pages(&mut self, file: FileHandle, first: u64, bytes: &[u8]) -> Result<(), AnyError> {
        assert_eq!(file, FileHandle(7));
        let page_size = u64::from(self.spec.as_ref().unwrap().page_size);
        assert_eq!(bytes.len() as u64 % page_size, 0);
        assert_eq!(first * page_size, self.bytes.len() as u64, "pages come in order");
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(&mut self, _file: FileHandle, length: u64, head: &[u8]) -> Result<(), AnyError> {
        assert_eq!((length, head), (self.bytes.len() as u64, &[][..]));
        let spec = self.spec.take().unwrap();
        self.set(length, spec.page_size);
        Ok(())
    }

    fn withdraw(&mut self, _file: FileHandle) -> Result<(), AnyError> {
        *self = Self::default();
        Ok(())
    }
}

impl MemoryBackup {
    /// A backup of these bytes.
    pub(crate) fn of(bytes: Vec<u8>) -> Self {
        let mut backup = Self::default();
        backup.set(bytes.len() as u64, 4096);
        Self { bytes, ..backup }
    }

    /// Pretends another length.
    pub(crate) fn set(&mut self, length: u64, page_size: u32) {
        let name = "main.db".to_owned();
        self.files =
            vec![FileEntry::Pages { name, length, page_size, head: vec![], digest: [0; 32], branches: vec![] }];
    }
}

impl Content for MemoryBackup {
    fn files(&self) -> &[FileEntry] {
        &self.files
    }

    fn write_file(&self, name: &str, out: &dyn WriteAt, context: &Context) -> Result<(), AnyError> {
        assert_eq!(name, "main.db");
        let runs: Vec<_> = self.bytes.chunks(100_000).enumerate().collect();
        for (n, run) in runs.into_iter().rev() {
            context.cancel.check()?;
            out.write_at(n as u64 * 100_000, run)?;
        }
        Ok(())
    }
}

/// An engine that does not wait long.
pub(crate) fn engine(reader: Reader) -> SqliteEngine {
    SqliteEngine { wait: Duration::from_millis(300), reader }
}

/// Captures with both readers, which must give the same.
pub(crate) fn capture_both(path: &Path) -> (MemoryBackup, Capture) {
    let (raw, captured) = capture(path, Reader::Raw).unwrap();
    let (dbpage, again) = capture(path, Reader::DbPage).unwrap();
    assert!(raw.bytes == dbpage.bytes, "the ways to read differ");
    assert_eq!(captured.inventory, again.inventory);
    (raw, captured)
}

/// Captures with one reader.
pub(crate) fn capture(path: &Path, reader: Reader) -> EngineResult<(MemoryBackup, Capture)> {
    let mut sink = MemoryBackup::default();
    let capture = engine(reader).capture(&Source::path(path), &mut sink, &Context::silent())?;
    assert!(sink.spec.is_none(), "finished");
    Ok((sink, capture))
}

/// Restores, replacing what is there if told.
pub(crate) fn restore(backup: &MemoryBackup, target: &Path, replace: bool) -> EngineResult<Restored> {
    let target = Source::path(target);
    let request = RestoreRequest { replace, check: CheckLevel::Full, ..RestoreRequest::new(target) };
    engine(Reader::Auto).restore(backup, &request, &Context::silent())
}

/// A folder with a database in it.
pub(crate) struct Scratch {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) path: PathBuf,
}

impl Scratch {
    /// Creates the database with a script.
    pub(crate) fn new(script: &str) -> Self {
        Self::within(&std::env::temp_dir(), "app.db", script)
    }

    /// Creates it under this name, in a new folder within another one.
    pub(crate) fn within(folder: &Path, name: &str, script: &str) -> Self {
        let dir = tempfile::tempdir_in(folder).unwrap();
        let path = dir.path().join(name);
        let scratch = Self { dir, path };
        if !script.is_empty() {
            scratch.run(script);
        }
        scratch
    }

    /// Runs a script in a connection of its own.
    pub(crate) fn run(&self, script: &str) {
        self.connect().execute_batch(script).unwrap();
    }

    /// A connection as a program has it.
    pub(crate) fn connect(&self) -> Connection {
        let connection = Connection::open(&self.path).unwrap();
        connection.busy_timeout(Duration::from_secs(10)).unwrap();
        connection
    }

    /// Names and contents of all files in the folder, but for the wal-index.
    pub(crate) fn listing(&self) -> Vec<(String, Vec<u8>)> {
        let mut files: Vec<_> = std::fs::read_dir(self.dir.path())
            .unwrap()
            .map(|e| e.unwrap().path())
            .map(|p| (p.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&p).unwrap()))
            .filter(|(name, _)| !name.ends_with("-shm"))
            .collect();
        files.sort();
        files
    }

    /// Names of all files in the folder.
    pub(crate) fn names(&self) -> Vec<String> {
        self.listing().into_iter().map(|(name, _)| name).collect()
    }

    /// Leaves the files behind as a crash would: main file and log, while a connection has uncommitted plans.
    pub(crate) fn crashed_copy(&self) -> Self {
        let copy = Self::new("");
        for suffix in ["", "-wal", "-journal"] {
            let from = crate::place::beside(&self.path, suffix);
            if from.exists() {
                std::fs::copy(from, crate::place::beside(&copy.path, suffix)).unwrap();
            }
        }
        copy
    }
}

impl Deref for Scratch {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

/// What the `sqlite3` program of this machine, another version of SQLite, answers.
pub(crate) fn shell(path: &Path, command: &str) -> String {
    let out = Command::new("sqlite3").arg(path).arg(command).output().expect("the sqlite3 program is needed for tests");
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

/// The test `name` of this program, run in another process with `arguments` in its environment.
pub(crate) fn child(name: &str, arguments: &[(&str, &str)]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).stdout(Stdio::null()).stderr(Stdio::null());
    command.envs(arguments.iter().copied());
    command
}

/// A running process, killed at the end.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process that runs a script in `sqlite3` and then stays, connected.
pub(crate) fn holder(path: &Path, script: &str) -> Running {
    use std::io::{BufRead, BufReader, Write};
    let mut child =
        Command::new("sqlite3").arg(path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("sqlite3");
    writeln!(child.stdin.as_mut().unwrap(), "{script}\n.print ready").unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while lines.next().unwrap().unwrap() != "ready" {}
    Running(child)
}

/// A sink that calls back before it takes each run.
pub(crate) struct Between<F: FnMut(u64)> {
    pub(crate) backup: MemoryBackup,
    pub(crate) call: F,
}

impl<F: FnMut(u64)> Sink for Between<F> {
    fn begin(&mut self, spec: &PageFileSpec) -> Result<FileHandle, AnyError> {
        self.backup.begin(spec)
    }

    fn pages(&mut self, file: FileHandle, first: u64, bytes: &[u8]) -> Result<(), AnyError> {
        (self.call)(first);
        self.backup.pages(file, first, bytes)
    }

    fn finish(&mut self, file: FileHandle, length: u64, head: &[u8]) -> Result<(), AnyError> {
        self.backup.finish(file, length, head)
    }

    fn withdraw(&mut self, file: FileHandle) -> Result<(), AnyError> {
        self.backup.withdraw(file)
    }
}

/// Remembers phases, and may cancel in one of them.
pub(crate) struct Phases {
    pub(crate) seen: Mutex<Vec<String>>,
    pub(crate) cancel_in: Option<(&'static str, copal_core::CancelToken)>,
}

impl copal_core::Progress for Phases {
    fn event(&self, event: copal_core::Event) {
        if let copal_core::Event::Phase { name, .. } = event {
            if let Some((_, token)) = self.cancel_in.as_ref().filter(|(phase, _)| *phase == name) {
                token.cancel();
            }
            self.seen.lock().unwrap().push(name);
        }
    }
}
