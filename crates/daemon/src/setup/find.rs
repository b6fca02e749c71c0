//! Databases that are files, found by how they begin. A search is bounded in time, depth and number, follows no link, and leaves
//! out what is hidden, what belongs to programs, and what lies on another machine.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::fs::{self, DirEntry, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use copal::config::free_name;
use copal::{Copal, CopalError, ErrorKind, FolderName};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

/// The beginning of a file that tells its engine.
const BEGINNING: u64 = 4096;
/// No database is smaller.
const SMALLEST: u64 = 512;
/// Folders of this name hold what programs made or fetched.
const NO_DATA: [&str; 4] = ["node_modules", "target", "__pycache__", "lost+found"];
/// Folders of the system.
const OF_THE_SYSTEM: [&str; 4] = ["/proc", "/sys", "/dev", "/run"];
/// File systems that are the system's own, or where reading may take for ever.
const FAR: [&str; 13] =
    ["nfs", "cifs", "smb", "fuse", "9p", "afs", "ceph", "gluster", "lustre", "autofs", "proc", "sysfs", "cgroup"];

/// How far a search goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) time: Duration,
    /// Folders below the one that was named.
    pub(super) depth: usize,
    /// Entries of folders that are looked at.
    pub(super) entries: u64,
    /// Databases.
    pub(super) files: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { time: Duration::from_secs(10), depth: 12, entries: 1_000_000, files: 200 }
    }
}

/// A database that is a file.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FoundFile {
    /// Where it is.
    path: String,
    /// The same as a URL.
    url: String,
    /// A name that it could have.
    name: String,
    /// The engine's name.
    engine: String,
    /// Its size.
    bytes: u64,
    /// When it was changed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    modified: Option<Timestamp>,
}

/// What a search found.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// Sorted by path.
    pub(super) files: Vec<FoundFile>,
    /// Entries of folders that were looked at.
    pub(super) searched: u64,
    /// No bound was met and no folder was closed.
    pub(super) is_complete: bool,
}

/// The folders to search, as they really are called.
pub(super) fn folders(named: &[String]) -> copal::Result<Vec<PathBuf>> {
    let folder = |text: &String| {
        let refused = |what| CopalError::new(ErrorKind::Usage, format!("{text:?} {what}"));
        if !Path::new(text).is_absolute() {
            return Err(refused("is no absolute path"));
        }
        let found = fs::canonicalize(text).map_err(|error| refused("cannot be searched").because(error))?;
        if found.is_dir() { Ok(found) } else { Err(refused("is not a folder")) }
    };
    named.iter().map(folder).collect()
}

/// Searches folders and those in them; `closed` are left out.
pub(super) fn search(folders: Vec<PathBuf>, copal: &Copal, mut closed: HashSet<PathBuf>, bounds: Bounds) -> Search {
    let end = Instant::now() + bounds.time;
    closed.extend(OF_THE_SYSTEM.iter().map(PathBuf::from));
    closed.extend(far_away());
    let mut found = Search { is_complete: true, ..Search::default() };
    let (mut seen, mut names) = (HashSet::new(), BTreeSet::new());
    // The nearest first: where a bound is met, what is deepest is missing.
    let mut waiting: VecDeque<(PathBuf, usize)> = folders.into_iter().map(|folder| (folder, 0)).collect();
    'folders: while let Some((folder, depth)) = waiting.pop_front() {
        if !seen.insert(folder.clone()) {
            continue;
        }
        let Ok(entries) = fs::read_dir(&folder) else {
            found.is_complete = false;
            continue;
        };
        for entry in entries.filter_map(Result::ok) {
            if Instant::now() >= end || found.searched >= bounds.entries || found.files.len() >= bounds.files {
                found.is_complete = false;
                break 'folders;
            }
            found.searched += 1;
            // Of a link itself, not of what it leads to.
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_file() {
                found.files.extend(look_at(&entry, copal, &mut names));
            } else if kind.is_dir() && is_open(&entry, &closed) {
                match depth < bounds.depth {
                    true => waiting.push_back((entry.path(), depth + 1)),
                    false => found.is_complete = false,
                }
            }
        }
    }
    found.files.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn is_open(entry: &DirEntry, closed: &HashSet<PathBuf>) -> bool {
    let name = entry.file_name();
    let is_data = name.to_str().is_none_or(|name| !name.starts_with('.') && !NO_DATA.contains(&name));
    is_data && !closed.contains(&entry.path())
}

/// The file, if it is a database that can be read and has a name that can be written down.
fn look_at(entry: &DirEntry, copal: &Copal, names: &mut BTreeSet<FolderName>) -> Option<FoundFile> {
    let metadata = entry.metadata().ok().filter(|metadata| metadata.len() >= SMALLEST)?;
    let path = entry.path();
    let shown = path.to_str()?;
    let mut beginning = Vec::new();
    File::open(&path).ok()?.take(BEGINNING).read_to_end(&mut beginning).ok()?;
    let engine = copal.recognise(&beginning)?;
    let modified = metadata.modified().ok().and_then(|time| Timestamp::try_from(time).ok());
    let url = format!("{engine}:{shown}");
    Some(FoundFile {
        name: free_name(&url, names).to_string(),
        path: shown.to_owned(),
        url,
        engine: engine.to_owned(),
        bytes: metadata.len(),
        modified,
    })
}

/// Where file systems are mounted that are searched only if somebody names them.
fn far_away() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts.lines().filter_map(far_mount).collect()
}

fn far_mount(line: &str) -> Option<PathBuf> {
    let mut fields = line.split(' ');
    let (place, kind) = (fields.nth(1)?, fields.next()?);
    // What `fuseblk` mounts are disks of this machine.
    let is_far = FAR.iter().any(|far| kind.starts_with(far)) && kind != "fuseblk";
    is_far.then(|| PathBuf::from(unescaped(place)))
}

/// `\040` and the like, as fstab(5) writes what would end a field.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut done = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                done.push(char::from(code));
                done.push_str(part.get(3..).unwrap_or_default());
            }
            None => done.push_str(part),
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use copal::Settings;

    use super::*;

    fn database(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        rusqlite::Connection::open(path).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    }

    fn found(root: &Path, bounds: Bounds) -> (Vec<String>, bool) {
        let copal = Copal::new(Settings::new("/nowhere"));
        let closed = HashSet::from([root.join("closed")]);
        let search = search(vec![root.to_owned(), root.join("deep")], &copal, closed, bounds);
        let short = |file: &FoundFile| Path::new(&file.path).strip_prefix(root).unwrap().display().to_string();
        (search.files.iter().map(short).collect(), search.is_complete)
    }

    #[test]
    fn databases_are_found_by_their_beginning_and_only_where_data_is() {
        let home = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(home.path()).unwrap();
        for name in ["a.db", "no ending", "deep/er/b.sqlite", "deep/quote\"\nline ü.db"] {
            database(&root.join(name));
        }
        for name in [".hidden/x.db", "node_modules/x.db", "deep/target/x.db", "closed/x.db", "away/x.db"] {
            database(&root.join(name));
        }
        fs::write(root.join("text.db"), "SQLite format 4 ".repeat(100)).unwrap();
        fs::write(root.join("short.db"), "SQLite format 3\0").unwrap();
        let away = tempfile::tempdir().unwrap();
        fs::rename(root.join("away"), away.path().join("away")).unwrap();
        std::os::unix::fs::symlink(away.path().join("away"), root.join("link")).unwrap();
        std::os::unix::fs::symlink(away.path().join("away/x.db"), root.join("link.db")).unwrap();
        let all = ["a.db", "deep/er/b.sqlite", "deep/quote\"\nline ü.db", "no ending"].map(str::to_owned);
        assert_eq!(found(&root, Bounds::default()), (all.to_vec(), true));

        let shallow = Bounds { depth: 0, ..Bounds::default() };
        assert_eq!(found(&root, shallow), (vec![all[0].clone(), all[2].clone(), all[3].clone()], false));
        assert_eq!(found(&root, Bounds { files: 1, ..Bounds::default() }).0.len(), 1);
        for bounds in [
            Bounds { files: 1, ..Bounds::default() },
            Bounds { entries: 1, ..Bounds::default() },
            Bounds { time: Duration::ZERO, ..Bounds::default() },
        ] {
            assert!(!found(&root, bounds).1, "{bounds:?}");
        }
    }

    #[test]
    fn names_are_free_and_folders_must_be_there() {
        let home = tempfile::tempdir().unwrap();
        for name in ["app.db", "x/app.db"] {
            database(&home.path().join(name));
        }
        let copal = Copal::new(Settings::new("/nowhere"));
        let text = |path: PathBuf| path.display().to_string();
        let named = folders(&[text(home.path().to_owned())]).unwrap();
        let search = search(named, &copal, HashSet::new(), Bounds::default());
        let names: Vec<_> = search.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["app", "app-2"]);
        assert!(search.files.iter().all(|file| file.url == format!("sqlite:{}", file.path) && file.bytes > 0));
        for wrong in ["relative".to_owned(), text(home.path().join("nothing")), text(home.path().join("app.db"))] {
            assert_eq!(folders(&[wrong]).unwrap_err().kind(), ErrorKind::Usage);
        }
    }

    #[test]
    fn mounts_of_other_machines_are_known() {
        let mount = |line| far_mount(line).map(|path| path.display().to_string());
        assert_eq!(mount("host:/x /home/my\\040share nfs4 rw 0 0").as_deref(), Some("/home/my share"));
        assert_eq!(mount("sshfs /home/x/far fuse.sshfs rw 0 0").as_deref(), Some("/home/x/far"));
        assert_eq!(mount("/dev/sdb1 /media/disk fuseblk rw 0 0"), None);
        assert_eq!(mount("/dev/sda1 / ext4 rw 0 0"), None);
        assert_eq!(mount("nonsense"), None);
    }
}
