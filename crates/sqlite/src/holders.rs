//! Which other processes have a file open, as far as the operating system tells: on Linux, the same user's, or all
//! for root.

use std::fmt;
use std::path::Path;

/// A process that has a file open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    /// Its id.
    pub(crate) process: u32,
    /// The name of its program.
    pub(crate) program: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with process id {}", self.program, self.process)
    }
}

/// Other processes that have the file at `path` open. Nothing is opened: the links in `/proc` are looked at.
#[cfg(target_os = "linux")]
pub(crate) fn of(path: &Path) -> Vec<Holder> {
    use std::os::unix::fs::MetadataExt;
    let identity = |path: &Path| std::fs::metadata(path).ok().map(|m| (m.dev(), m.ino()));
    let (Some(wanted), Ok(processes)) = (identity(path), std::fs::read_dir("/proc")) else {
        return Vec::new();
    };
    let own = std::process::id();
    let mut found = Vec::new();
    for entry in processes.flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()).filter(|p| *p != own) else {
            continue;
        };
        let Ok(files) = std::fs::read_dir(entry.path().join("fd")) else { continue };
        // Links that do not lead to a path would make a metadata call wait (pipes do not, but network files may).
        let holds = files.flatten().any(|file| {
            let is_path = std::fs::read_link(file.path()).is_ok_and(|to| to.file_name() == path.file_name());
            is_path && identity(&file.path()) == Some(wanted)
        });
        if holds {
            let program = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            found.push(Holder { process, program: program.trim().to_owned() });
        }
    }
    found
}

/// Other processes that have the file open: unknown on this system.
#[cfg(not(target_os = "linux"))]
pub(crate) fn of(_path: &Path) -> Vec<Holder> {
    Vec::new()
}
