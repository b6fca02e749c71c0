//! A command that finds the facts in its environment.

use std::io::ErrorKind;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt as _;
use tokio::process::{ChildStderr, Command};

use crate::channel::keys::Keys;
use crate::text::one_line;
use crate::{Notice, NotifyError, NotifyErrorKind, Result};

const NAME: &str = "exec";
/// The most of one text in the environment, in bytes; Linux takes 128 KiB for one variable.
const MOST_TEXT: usize = 32 << 10;
/// What is kept of what the command says to its standard error.
const MOST_WORDS: usize = 4096;
/// How long its last words are waited for when something that it started holds its standard error open.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// Never a command's business, whatever it inherits otherwise.
const HIDDEN: [&str; 2] = ["COPAL_PASSPHRASE", "COPAL_PASSPHRASE_FILE"];

#[derive(Clone)]
pub(super) struct Exec {
    words: Vec<String>,
}

impl Exec {
    pub(super) fn read(keys: &mut Keys) -> Result<Self> {
        let value =
            keys.alone().or_else(|| keys.take("command")).ok_or_else(|| keys.error("\"command\" is missing"))?;
        let is_script = value.is_str();
        let words = keys.texts("command", value)?;
        let words = match words.as_slice() {
            [script] if is_script => vec!["/bin/sh".to_owned(), "-c".to_owned(), script.clone()],
            _ => words,
        };
        if words.iter().any(|word| word.contains('\0')) || words.first().is_none_or(|program| program.is_empty()) {
            return Err(keys.error("\"command\" names no program"));
        }
        Ok(Self { words })
    }

    /// The program's file name; its arguments may hold secrets.
    pub(super) fn program(&self) -> String {
        let program = self.words.first().map(Path::new).and_then(Path::file_name).unwrap_or_default();
        one_line(&program.to_string_lossy())
    }

    pub(super) async fn send(&self, notice: &Notice) -> Result<()> {
        let Some((program, arguments)) = self.words.split_first() else { return Ok(()) };
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        for name in HIDDEN {
            command.env_remove(name);
        }
        for (name, value) in facts(notice) {
            match value {
                Some(value) => command.env(name, in_environment(&value)),
                None => command.env_remove(name),
            };
        }
        let mut child = command.process_group(0).kill_on_drop(true).spawn().map_err(|error| {
            let kind = match error.kind() {
                ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::InvalidInput => NotifyErrorKind::Refused,
                // Too many processes, no memory: it may go away.
                _ => NotifyErrorKind::Unavailable,
            };
            NotifyError::new(kind, NAME, format!("the command could not be started: {error}"))
        })?;
        // Dropped before the child is, so while its id is still its own.
        let group = Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
        let mut words = LastWords { from: child.stderr.take(), kept: Vec::new() };
        let ended = loop {
            tokio::select! {
                ended = child.wait() => break ended,
                () = words.read(), if words.from.is_some() => {}
            }
        };
        // What it left running in the background may go on.
        group.release();
        let failed = |error: std::io::Error| {
            NotifyError::new(NotifyErrorKind::Unavailable, NAME, format!("the command was lost: {error}"))
        };
        let status = ended.map_err(failed)?;
        if status.success() {
            return Ok(());
        }
        let _ = tokio::time::timeout(LAST_WORDS, words.read()).await;
        Err(failure(status, &words.kept))
    }
}

fn failure(status: ExitStatus, words: &[u8]) -> NotifyError {
    let text = String::from_utf8_lossy(words);
    let last = text.lines().map(one_line).rfind(|line| !line.is_empty());
    let mut message = format!("the command failed, {status}");
    if let Some(last) = last {
        message += &format!(": {}", last.chars().take(200).collect::<String>());
    }
    let error = NotifyError::new(NotifyErrorKind::Unavailable, NAME, message);
    match status.code().and_then(|code| u16::try_from(code).ok()) {
        Some(code) => error.status(code),
        None => error,
    }
}

/// The end of what the command says to its standard error.
struct LastWords {
    from: Option<ChildStderr>,
    kept: Vec<u8>,
}

impl LastWords {
    /// Reads to the end; may be dropped and called again.
    async fn read(&mut self) {
        let mut buffer = [0; 1024];
        while let Some(from) = &mut self.from {
            match from.read(&mut buffer).await {
                Ok(read @ 1..) => self.kept.extend_from_slice(&buffer[..read]),
                Ok(_) | Err(_) => self.from = None,
            }
            self.kept.drain(..self.kept.len().saturating_sub(MOST_WORDS));
        }
    }
}

/// A process group that is killed when this is dropped.
struct Group(Option<Pid>);

impl Group {
    fn release(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // Gone already is as good.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

fn facts(notice: &Notice) -> Vec<(&'static str, Option<String>)> {
    let backup = notice.backup.as_ref();
    let number = |number: Option<u64>| number.map(|number| number.to_string());
    vec![
        ("COPAL_NOTICE", serde_json::to_string(&shortened(notice)).ok()),
        ("COPAL_EVENT", Some(notice.event.name().to_owned())),
        ("COPAL_DATABASE", Some(notice.database.clone())),
        ("COPAL_HOST", Some(notice.host.clone())),
        ("COPAL_TIME", Some(notice.time.to_string())),
        ("COPAL_HEADLINE", Some(notice.headline.clone())),
        ("COPAL_DETAILS", Some(notice.details.clone())),
        ("COPAL_CONSECUTIVE_FAILURES", Some(notice.consecutive_failures.to_string())),
        ("COPAL_BACKUP_ID", backup.map(|backup| backup.id.clone())),
        ("COPAL_LOGICAL_BYTES", number(backup.and_then(|backup| backup.logical_bytes))),
        ("COPAL_ADDED_BYTES", number(backup.and_then(|backup| backup.added_bytes))),
        ("COPAL_STORED_BYTES", number(backup.and_then(|backup| backup.stored_bytes))),
        ("COPAL_DURATION_SECONDS", backup.and_then(|backup| backup.duration_seconds).map(|s| s.to_string())),
        ("COPAL_ERROR_KIND", notice.error_kind.clone()),
        ("COPAL_NEXT_RUN", notice.next_run.map(|time| time.to_string())),
    ]
}

/// The notice with texts that fit into one variable, six bytes a byte if all of it has to be escaped.
fn shortened(notice: &Notice) -> Notice {
    let most = MOST_TEXT / 12;
    let mut short = notice.clone();
    for text in [&mut short.database, &mut short.headline, &mut short.details] {
        text.truncate(text.floor_char_boundary(most));
    }
    short
}

/// The text as a variable can hold it.
fn in_environment(text: &str) -> String {
    text[..text.floor_char_boundary(MOST_TEXT)].replace('\0', "")
}
