//! A process that owns a database and writes to it: started, held, asked, killed.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::places::script;

/// How long a writer may take for an answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// A writer ends by itself after so many seconds, should nobody end it.
const LIFETIME: u32 = 240;
/// Streams of transactions that a writer may have.
const STREAMS: usize = 8;

/// Numbers of the transactions that each stream has committed and acknowledged.
pub(crate) type Acks = [i64; STREAMS];

/// A running writer, killed when dropped.
pub(crate) struct Writer {
    child: Child,
    input: ChildStdin,
    answers: Receiver<String>,
    folder: PathBuf,
}

impl Writer {
    /// Starts a writer and waits until it writes. Error: what it said.
    pub(crate) fn start(version: &str, pattern: &str, folder: &Path, seed: usize) -> Result<Self, String> {
        let errors = std::fs::File::create(folder.join("errors")).unwrap();
        let mut child = script(version, "write.py")
            .args([folder.join("app.duckdb").to_str().unwrap(), pattern, folder.join("acks").to_str().unwrap()])
            .args([seed.to_string(), LIFETIME.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let writer = Self { child, input, answers, folder: folder.to_owned() };
        writer.expect("ready")?;
        Ok(writer)
    }

    /// The database.
    pub(crate) fn database(&self) -> PathBuf {
        self.folder.join("app.duckdb")
    }

    /// What is committed.
    pub(crate) fn acks(&self) -> Acks {
        acks(&self.folder)
    }

    /// No transaction is under way, and none begins.
    pub(crate) fn hold(&mut self) -> Result<(), String> {
        self.ask("hold", "held")
    }

    /// Goes on writing.
    pub(crate) fn go(&mut self) -> Result<(), String> {
        self.input.write_all(b"go\n").map_err(|_| self.last_words())
    }

    /// Has the application make a checkpoint.
    pub(crate) fn checkpoint(&mut self) -> Result<(), String> {
        self.ask("checkpoint", "done")
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn ask(&mut self, question: &str, answer: &str) -> Result<(), String> {
        self.input.write_all(format!("{question}\n").as_bytes()).map_err(|_| self.last_words())?;
        self.expect(answer)
    }

    fn expect(&self, answer: &str) -> Result<(), String> {
        match self.answers.recv_timeout(PATIENCE) {
            Ok(line) if line == answer => Ok(()),
            Ok(line) => Err(format!("the writer says {line}, not {answer}")),
            Err(_) => Err(self.last_words()),
        }
    }

    fn last_words(&self) -> String {
        let words = std::fs::read_to_string(self.folder.join("errors")).unwrap_or_default();
        format!("the writer has died or hangs: {}", words.trim())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a writer that may be dead has acknowledged.
pub(crate) fn acks(folder: &Path) -> Acks {
    let bytes = std::fs::read(folder.join("acks")).unwrap();
    let mut acks = [0; STREAMS];
    for (ack, bytes) in acks.iter_mut().zip(bytes.chunks_exact(8)) {
        *ack = i64::from_ne_bytes(bytes.try_into().unwrap());
    }
    acks
}
