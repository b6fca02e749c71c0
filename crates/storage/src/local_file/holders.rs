//! Which other processes have a file open, as far as the operating system tells: on Linux, the same user's, or all
//! for root.

use std::ffi::OsStr;
use std::fmt;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A process that has a file open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its id.
    pub process: u32,
    /// The name of its program.
    pub program: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with process id {}", self.program, self.process)
    }
}

/// Other processes that have the file at `path` open. Nothing is opened: the links in `/proc` are looked at. Another process of
/// this very program counts only if it may write: a daemon keeps what it looked at open, and its work holds locks.
pub fn holders(path: &Path) -> Vec<Holder> {
    let (Ok(metadata), Some(name)) = (std::fs::metadata(path), path.file_name()) else { return Vec::new() };
    let wanted = (metadata.dev(), metadata.ino());
    let own = std::process::id();
    let is_of_interest = |process, file: &Path| !is_this_program(process) || is_for_writing(file);
    find(|process, file| process != own && leads_to(file, wanted, &[name]) && is_of_interest(process, file))
}

/// Who has the file with this device and inode open for writing, under one of `names`, which it has or had. This process
/// counts, too, but for its descriptor `mine`. Nobody is found where the system does not tell.
pub fn writers_of(wanted: (u64, u64), names: &[&OsStr], mine: RawFd) -> Vec<Holder> {
    let mine = format!("{mine}");
    let own = std::process::id();
    find(|process, file| {
        let is_mine = process == own && file.file_name().is_some_and(|number| number.to_str() == Some(&mine));
        !is_mine && leads_to(file, wanted, names) && is_for_writing(file)
    })
}

/// Processes with a descriptor, given as its link in `/proc`, that `is_meant`.
#[cfg(target_os = "linux")]
fn find(is_meant: impl Fn(u32, &Path) -> bool) -> Vec<Holder> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let mut found = Vec::new();
    for entry in processes.flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        let Ok(files) = std::fs::read_dir(entry.path().join("fd")) else { continue };
        if files.flatten().any(|file| is_meant(process, &file.path())) {
            let program = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            found.push(Holder { process, program: program.trim().to_owned() });
        }
    }
    found
}

/// Nobody: unknown on this system.
#[cfg(not(target_os = "linux"))]
fn find(_is_meant: impl Fn(u32, &Path) -> bool) -> Vec<Holder> {
    Vec::new()
}

/// Whether another process runs the same program as this one.
fn is_this_program(process: u32) -> bool {
    let program = |process: &str| std::fs::read_link(format!("/proc/{process}/exe")).ok();
    program("self").is_some_and(|own| program(&process.to_string()) == Some(own))
}

fn leads_to(file: &Path, wanted: (u64, u64), names: &[&OsStr]) -> bool {
    // Links that do not lead to a path would make a metadata call wait (pipes do not, but network files may).
    std::fs::read_link(file).is_ok_and(|to| is_one_of(&to, names))
        && std::fs::metadata(file).is_ok_and(|m| (m.dev(), m.ino()) == wanted)
}

/// The access mode is in the lowest two bits of the flags, which are octal: `flags:\t0100002`.
fn is_for_writing(file: &Path) -> bool {
    let (Some(number), Some(process)) = (file.file_name(), file.parent().and_then(Path::parent)) else { return true };
    let Ok(info) = std::fs::read_to_string(process.join("fdinfo").join(number)) else { return true };
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok()).is_none_or(|flags| flags & 3 != 0)
}

/// Whether an open file's link ends in one of the names, which the system marks if they were taken from the file.
fn is_one_of(link: &Path, names: &[&OsStr]) -> bool {
    let Some(found) = link.file_name().map(OsStrExt::as_bytes) else { return false };
    let plain = found.strip_suffix(b" (deleted)").unwrap_or(found);
    names.iter().any(|name| name.as_bytes() == found || name.as_bytes() == plain)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn another_process_is_found_by_any_name_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let (path, moved) = (dir.path().join("app.db"), dir.path().join("moved.db"));
        let file = std::fs::File::create(&path).unwrap();
        let reading = std::fs::File::open(&path).unwrap();
        let id = file.metadata().map(|m| (m.dev(), m.ino())).unwrap();
        let mine = file.as_raw_fd();
        let mut sleeper =
            std::process::Command::new("sleep").arg("60").stdin(file.try_clone().unwrap()).spawn().unwrap();
        let mut reader = std::process::Command::new("sleep").arg("60").stdin(reading).spawn().unwrap();
        let ids = |found: Vec<Holder>| found.into_iter().map(|holder| holder.process).collect::<Vec<_>>();
        let names = [OsStr::new("app.db"), OsStr::new("moved.db")];
        let mut seen = vec![ids(holders(&path)), ids(writers_of(id, &names, mine))];
        std::fs::rename(&path, &moved).unwrap();
        seen.push(ids(writers_of(id, &names, mine)));
        std::fs::remove_file(&moved).unwrap();
        seen.push(ids(writers_of(id, &names, mine)));
        seen.push(ids(writers_of(id, &names, -1)));
        let [writes, reads] = [&mut sleeper, &mut reader].map(|child| {
            child.kill().unwrap();
            child.wait().unwrap();
            child.id()
        });
        assert!(seen[0].contains(&writes) && seen[0].contains(&reads), "{seen:?}");
        assert_eq!(seen[1..4], [[writes], [writes], [writes]]);
        assert!(seen[4].contains(&std::process::id()), "{seen:?}");
    }
}
