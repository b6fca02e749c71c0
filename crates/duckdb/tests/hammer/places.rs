//! Where things are: the installed DuckDBs, the folders to write in, and room for two writers at a time.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Condvar, Mutex, PoisonError};

/// The versions that `tools/prepare.sh` installs.
pub(crate) const VERSIONS: [&str; 5] = ["1.1.3", "1.3.2", "1.4.5", "1.5.6", "2.0.0"];
/// Those that write `.wal.checkpoint`.
pub(crate) const WITH_CHECKPOINT_LOG: [&str; 2] = ["1.5.6", "2.0.0"];

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/writers");
const ENVIRONMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.venv");
/// Writers and captures at a time: more would only be in each other's way.
const SLOTS: u32 = 2;

/// A line for people, also from a test that passes.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Whether all DuckDBs are installed; says it loudly if not, and fails where continuous integration runs.
pub(crate) fn are_duckdbs_here() -> bool {
    let missing: Vec<_> = VERSIONS.iter().filter(|version| !library(version).join("duckdb").is_dir()).collect();
    if missing.is_empty() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "DuckDB {missing:?} is missing: tools/prepare.sh");
    say(&format!("SKIPPED: DuckDB {missing:?} is missing: run tools/prepare.sh"));
    false
}

fn library(version: &str) -> PathBuf {
    Path::new(ENVIRONMENT).join("duckdb").join(version)
}

/// One of the scripts, to be run by a Python that has this version of DuckDB.
pub(crate) fn script(version: &str, name: &str) -> Command {
    let mut command = Command::new(Path::new(ENVIRONMENT).join("bin/python"));
    command.arg(Path::new(SCRIPTS).join(name));
    command.env("PYTHONPATH", library(version)).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// A kind of file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Memory,
    Disk,
}

impl Place {
    /// All that are here; says loudly what is not.
    pub(crate) fn all() -> Vec<Self> {
        if tempfile::tempdir_in("/dev/shm").is_ok() {
            return vec![Self::Memory, Self::Disk];
        }
        say("SKIPPED: /dev/shm cannot be written to, so nothing is tried on a tmpfs");
        vec![Self::Disk]
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "tmpfs",
            Self::Disk => "disk",
        }
    }

    /// A folder that is removed when dropped.
    pub(crate) fn scratch(self) -> tempfile::TempDir {
        let root = match self {
            Self::Memory => "/dev/shm",
            Self::Disk => env!("CARGO_TARGET_TMPDIR"),
        };
        tempfile::Builder::new().prefix("copal-hammer-").tempdir_in(root).unwrap()
    }
}

/// The right to run a writer.
pub(crate) struct Slot(());

static TAKEN: Mutex<u32> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

impl Slot {
    pub(crate) fn take() -> Self {
        let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        *FREED.wait_while(taken, |taken| *taken >= SLOTS).unwrap_or_else(PoisonError::into_inner) += 1;
        Self(())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        FREED.notify_one();
    }
}

/// Copies the files of a folder whose names begin with `prefix`, to names that begin with `new_prefix` instead.
pub(crate) fn copy_files(from: &Path, prefix: &str, to: &Path, new_prefix: &str) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if let Some(rest) = name.strip_prefix(prefix).filter(|_| entry.path().is_file()) {
            // It may go away, if somebody still writes there.
            let _ = std::fs::copy(entry.path(), to.join(format!("{new_prefix}{rest}")));
        }
    }
}
