//! PostgreSQL's client programs: where they are, which version, and how they are started.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::SystemTime;

use copal_core::{EngineError, EngineErrorKind, EngineResult};

use crate::address::Address;

/// What is kept of what a program says to its standard error, in bytes.
const MOST_WORDS: usize = 64 << 10;
const NEEDED: [&str; 4] = ["pg_dump", "pg_restore", "pg_dumpall", "psql"];

/// Installations of the client programs by their major versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Programs(BTreeMap<u32, PathBuf>);

/// One installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Installation {
    pub(crate) major: u32,
    folder: PathBuf,
}

impl Programs {
    /// Looks in the configured folder, or on `PATH` and where packages put them.
    pub(crate) fn find(configured: Option<&Path>) -> EngineResult<Self> {
        let (mut found, mut seen) = (BTreeMap::new(), HashSet::new());
        for folder in candidates(configured) {
            // Folders have several names, as /bin and /usr/bin; Debian's wrapper only starts what was found before it.
            let Ok(program) = folder.join("pg_dump").canonicalize() else { continue };
            let is_wrapper = configured.is_none() && program.file_name().is_some_and(|name| name == "pg_wrapper");
            if !is_wrapper
                && seen.insert(program.clone())
                && NEEDED.iter().all(|name| folder.join(name).is_file())
                && let Some(major) = known_major_of(&program)
            {
                found.entry(major).or_insert(folder);
            }
        }
        if !found.is_empty() {
            return Ok(Self(found));
        }
        let place = match configured {
            Some(folder) => format!("in {}", folder.display()),
            None => "on PATH or in /usr/lib/postgresql".to_owned(),
        };
        let message = format!("PostgreSQL's client programs ({}) were not found {place}", NEEDED.join(", "));
        Err(EngineError::new(EngineErrorKind::Unsupported, message)
            .hint("install the package postgresql-client, or name their folder: bin under [postgres] in copal.toml"))
    }

    /// The newest.
    pub(crate) fn newest(&self) -> EngineResult<Installation> {
        let newest = self.0.last_key_value();
        let (major, folder) =
            newest.ok_or_else(|| EngineError::new(EngineErrorKind::Unsupported, "no client programs"))?;
        Ok(Installation { major: *major, folder: folder.clone() })
    }

    /// The newest, if it is not older than the server.
    pub(crate) fn for_dump(&self, server: u32) -> EngineResult<Installation> {
        let newest = self.newest()?;
        if newest.major >= server {
            return Ok(newest);
        }
        let message = format!("the server is PostgreSQL {server}, but the newest pg_dump here is {}", newest.major);
        Err(EngineError::new(EngineErrorKind::Unsupported, message)
            .hint(format!("install the package postgresql-client-{server} (or newer)")))
    }

    /// The server's own version if it can read an archive written by `dumped_by`, else the newest.
    pub(crate) fn for_restore(&self, server: u32, dumped_by: u32) -> EngineResult<Installation> {
        if let Some(folder) = self.0.get(&server).filter(|_| server >= dumped_by) {
            return Ok(Installation { major: server, folder: folder.clone() });
        }
        let newest = self.newest()?;
        if newest.major >= dumped_by {
            return Ok(newest);
        }
        let message = format!(
            "the archive was written by pg_dump {dumped_by}, but the newest pg_restore here is {}",
            newest.major
        );
        Err(EngineError::new(EngineErrorKind::Unsupported, message)
            .hint(format!("install the package postgresql-client-{dumped_by} (or newer)")))
    }
}

impl Installation {
    /// A program that connects to `address`, without a prompt; the password goes through its environment.
    pub(crate) fn command(&self, program: &str, address: &Address) -> Command {
        self.connecting(Command::new(self.folder.join(program)), address)
    }

    /// The same for one that writes much to its standard output: a pipe gets 4 KiB at a time from it, and each wakes the
    /// reader. With `stdbuf`, of GNU's coreutils, it is 256 KiB, which takes a tenth off a dump.
    pub(crate) fn streaming(&self, program: &str, address: &Address) -> Command {
        match stdbuf() {
            Some(stdbuf) => {
                let mut command = Command::new(stdbuf);
                command.arg("--output=256K").arg(self.folder.join(program));
                self.connecting(command, address)
            }
            None => self.command(program, address),
        }
    }

    fn connecting(&self, mut command: Command, address: &Address) -> Command {
        command.arg("--no-password").arg(format!("--dbname={}", address.connection_string()));
        if let Some(password) = &address.password {
            command.env("PGPASSWORD", password.reveal());
        }
        command
            .env("PGAPPNAME", "copal")
            .env("LC_ALL", "C.UTF-8")
            .env_remove("LANGUAGE")
            .env_remove("PGCLIENTENCODING");
        if std::env::var_os("PGCONNECT_TIMEOUT").is_none() {
            command.env("PGCONNECT_TIMEOUT", "15");
        }
        command
    }

    /// A program that does not connect.
    pub(crate) fn offline(&self, program: &str) -> Command {
        let mut command = Command::new(self.folder.join(program));
        command.env("LC_ALL", "C.UTF-8").env_remove("LANGUAGE");
        command
    }
}

/// A program that runs; killed when it is dropped.
pub(crate) struct Running {
    name: String,
    child: Child,
    words: Option<JoinHandle<String>>,
}

impl Running {
    /// Starts it with its standard error collected.
    pub(crate) fn start(mut command: Command) -> EngineResult<Self> {
        let name =
            Path::new(command.get_program()).file_name().map(OsStr::to_string_lossy).unwrap_or_default().into_owned();
        let failed = |e: std::io::Error| {
            EngineError::new(EngineErrorKind::Other, format!("{name} could not be started")).because(e)
        };
        let mut child = command.stderr(Stdio::piped()).spawn().map_err(failed)?;
        let words = child.stderr.take().map(|stderr| std::thread::spawn(move || tail_of(stderr)));
        Ok(Self { name, child, words })
    }

    /// One that was started otherwise.
    pub(crate) fn adopt(name: &str, child: Child) -> Self {
        Self { name: name.to_owned(), child, words: None }
    }

    /// Its standard output, once.
    pub(crate) fn output(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Its standard input, once.
    pub(crate) fn input(&mut self) -> Option<std::process::ChildStdin> {
        self.child.stdin.take()
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> EngineResult<bool> {
        self.child.try_wait().map(|status| status.is_some()).map_err(|e| self.lost(e))
    }

    /// Waits for its end: how it ended, and the last it said.
    pub(crate) fn wait(mut self) -> EngineResult<(ExitStatus, String)> {
        drop(self.child.stdin.take());
        let status = self.child.wait().map_err(|e| self.lost(e))?;
        let words = self.words.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        Ok((status, words))
    }

    fn lost(&self, error: std::io::Error) -> EngineError {
        EngineError::new(EngineErrorKind::Other, format!("{} cannot be waited for", self.name)).because(error)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn tail_of(mut stderr: impl Read) -> String {
    let mut words = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = stderr.read(&mut buffer) {
        words.extend_from_slice(buffer.get(..n).unwrap_or_default());
        if words.len() > 2 * MOST_WORDS {
            words.drain(..words.len() - MOST_WORDS);
        }
    }
    String::from_utf8_lossy(&words).into_owned()
}

fn candidates(configured: Option<&Path>) -> Vec<PathBuf> {
    if let Some(folder) = configured {
        return vec![folder.to_path_buf()];
    }
    // Before PATH, where Debian has a wrapper that chooses a version by itself.
    let mut folders = Vec::new();
    for parent in
        ["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt", "/Applications/Postgres.app/Contents/Versions"]
    {
        let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
        let versions = entries.map(|entry| entry.path()).filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            !parent.ends_with("opt") || name.starts_with("postgresql") || name == "libpq"
        });
        folders.extend(versions.map(|path| path.join("bin")));
    }
    let usr = std::fs::read_dir("/usr").into_iter().flatten().flatten().map(|entry| entry.path());
    let red_hat = usr.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("pgsql-")));
    folders.extend(red_hat.map(|path| path.join("bin")));
    folders.sort();
    folders.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    folders
}

/// Where `stdbuf` is, on Linux.
fn stdbuf() -> Option<PathBuf> {
    let places = std::env::var_os("PATH").filter(|_| cfg!(target_os = "linux"))?;
    std::env::split_paths(&places).map(|folder| folder.join("stdbuf")).find(|program| program.is_file())
}

/// The same, asked once for each file that a program is: it takes as long as a connection does.
fn known_major_of(program: &Path) -> Option<u32> {
    static KNOWN: Mutex<BTreeMap<(PathBuf, u64, SystemTime), u32>> = Mutex::new(BTreeMap::new());
    let metadata = program.metadata().ok()?;
    let key = (program.to_path_buf(), metadata.len(), metadata.modified().ok()?);
    let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
    known.or_else(|| {
        let major = major_of(program)?;
        KNOWN.lock().unwrap_or_else(PoisonError::into_inner).insert(key, major);
        Some(major)
    })
}

/// The major version of a program, by its own word.
fn major_of(program: &Path) -> Option<u32> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
    major_in(&String::from_utf8_lossy(&output.stdout))
}

/// The major version in `pg_dump (PostgreSQL) 18.4 (Debian …)` or `17beta1`.
fn major_in(text: &str) -> Option<u32> {
    let after = text.split_once(") ").map_or(text, |(_, after)| after);
    let digits: String = after.trim_start().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_chosen() {
        assert_eq!(major_in("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(major_in("pg_dump (PostgreSQL) 18beta1"), Some(18));
        let programs = Programs([(15, "/a".into()), (17, "/b".into())].into());
        assert_eq!(programs.for_dump(16).unwrap().major, 17);
        let error = programs.for_dump(18).unwrap_err();
        assert!(error.message.contains("18") && error.message.contains("17"), "{error}");
        assert!(error.hint.unwrap().contains("postgresql-client-18"));
        assert_eq!(programs.for_restore(15, 15).unwrap().major, 15);
        assert_eq!(programs.for_restore(15, 17).unwrap().major, 17);
        assert_eq!(programs.for_restore(16, 15).unwrap().major, 17);
        assert!(programs.for_restore(18, 18).is_err());
    }

    #[test]
    fn a_missing_folder_is_named() {
        let error = Programs::find(Some(Path::new("/nowhere"))).unwrap_err();
        assert!(error.message.contains("/nowhere"), "{error}");
    }
}
