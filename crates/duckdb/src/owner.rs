//! Who holds a database: DuckDB takes a POSIX lock on its main file for as long as it is open.
//!
//! Only Linux tells; elsewhere everything is `Unknown`. What is learnt here shortens waits and makes messages better;
//! no proof rests on it.

use std::path::{Path, PathBuf};

use copal_file_engine::descriptor::FileId;

use crate::LOG;

/// Whether somebody holds a file's lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The system does not tell.
    Unknown,
    /// Nobody.
    None,
    /// These processes, by id; this one may be among them.
    Processes(Vec<u32>),
}

impl Owner {
    /// Who holds a lock on the file now.
    pub(crate) fn of(file: FileId) -> Self {
        match std::fs::read_to_string("/proc/locks") {
            Ok(locks) if cfg!(target_os = "linux") => match holders(&locks, file) {
                holders if holders.is_empty() => Self::None,
                holders => Self::Processes(holders),
            },
            _ => Self::Unknown,
        }
    }

    /// Whether the file may be written through a memory map, which leaves its time stamps behind. `true` if unknown.
    pub(crate) fn may_map(&self, file: FileId) -> bool {
        match self {
            Self::Unknown => true,
            Self::None => false,
            Self::Processes(ids) => ids.iter().any(|id| maps(*id, file)),
        }
    }

    /// The names under which the holders opened the database at `real`, as far as their open logs tell.
    pub(crate) fn names(&self, real: &Path) -> Vec<PathBuf> {
        let Self::Processes(ids) = self else { return Vec::new() };
        let logs = ids.iter().filter_map(|id| std::fs::read_dir(format!("/proc/{id}/fd")).ok()).flatten().flatten();
        logs.filter_map(|entry| {
            let log = std::fs::read_link(entry.path()).ok()?;
            let name = PathBuf::from(log.to_str()?.strip_suffix(LOG)?);
            (name.canonicalize().ok()? == real).then_some(name)
        })
        .collect()
    }

    /// For messages: ` (held by python3, process 17)`, or nothing.
    pub(crate) fn shown(&self) -> String {
        let Self::Processes(ids) = self else { return String::new() };
        let one = |id: &u32| {
            let name = std::fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
            format!("{}, process {id}", name.trim())
        };
        format!(" (held by {})", ids.iter().map(one).collect::<Vec<_>>().join("; "))
    }
}

/// Lines read `1: POSIX  ADVISORY  WRITE 1234 08:01:131 0 EOF`.
fn holders(locks: &str, file: FileId) -> Vec<u32> {
    let mut found: Vec<u32> = locks
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            // Waiting locks have an arrow in front of their kind, and hold nothing.
            let (kind, _, _, id, place) = (words.next()?, words.next()?, words.next()?, words.next()?, words.next()?);
            if kind == "POSIX" && is_place_of(place, file) { id.parse().ok() } else { None }
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Whether a lock's place, `08:01:131` with the numbers of the device in hexadecimal digits, is this file.
pub(crate) fn is_place_of(place: &str, (device, inode): FileId) -> bool {
    // As Linux puts both numbers into one.
    let major = (device >> 8) & 0xfff | (device >> 32) & 0xffff_f000;
    let minor = device & 0xff | (device >> 12) & 0xffff_ff00;
    let mut parts = place.split(':');
    let mut number = || u64::from_str_radix(parts.next()?, 16).ok();
    let (Some(lock_major), Some(lock_minor)) = (number(), number()) else { return false };
    // File systems without a disk of their own give the lock another device than `stat` does: there the inode must do.
    let is_told = lock_major != 0 && major != 0;
    let is_same = (lock_major, lock_minor) == (major, minor);
    parts.next().and_then(|found| found.parse().ok()) == Some(inode) && (is_same || !is_told)
}

/// Lines read `7f00-7f01 rw-s 00000000 fe:00 9994253   /path`.
fn maps(process: u32, (_, inode): FileId) -> bool {
    let Ok(maps) = std::fs::read_to_string(format!("/proc/{process}/maps")) else { return true };
    maps.lines().any(|line| {
        let mut words = line.split_whitespace().skip(1);
        let rights = words.next().unwrap_or_default();
        rights.starts_with("rw") && rights.ends_with('s') && words.nth(2).and_then(|w| w.parse().ok()) == Some(inode)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_are_found_by_inode() {
        let locks = "1: POSIX  ADVISORY  WRITE 1234 08:01:131 0 EOF\n\
                     1: -> POSIX  ADVISORY  WRITE 99 08:01:131 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 55 08:01:131 0 EOF\n\
                     3: POSIX  ADVISORY  READ 77 00:2c:131 0 0\n";
        assert_eq!(holders(locks, (1, 131)), [77, 1234]);
        assert!(holders(locks, (1, 132)).is_empty());
        // Another file system may have a file of that number.
        assert_eq!(holders(locks, (0x801, 131)), [77, 1234]);
        assert_eq!(holders(locks, (0x700, 131)), [77]);
    }
}
