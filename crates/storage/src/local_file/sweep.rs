//! Removing what killed operations left beside a target.

use std::path::Path;
use std::time::{Duration, SystemTime};

use super::{folder_of, shortened};

/// Staging files of killed operations are removed when they are older than this.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// Removes staging files beside `target` that nobody touched for a day.
///
/// Theirs are the names that `StagingFile::beside` makes for the target itself and for the hidden file named after it with
/// one of `notes` behind (`.<name>.copal-restore`), with one of `suffixes` (or nothing) at their end.
pub fn sweep_abandoned(target: &Path, notes: &[&str], suffixes: &[&str]) {
    let Ok(entries) = std::fs::read_dir(folder_of(target)) else { return };
    let Some(name) = target.file_name() else { return };
    let kept = shortened(&name.to_string_lossy());
    let is_ours = |name: &str| {
        let rest = name.strip_prefix('.').map(|n| n.strip_prefix('.').unwrap_or(n)).unwrap_or_default();
        let random = rest.strip_prefix(&*kept).and_then(|rest| rest.rsplit_once(".copal~"));
        random.is_some_and(|(between, random)| {
            let (random, suffix) = random.split_at_checked(16).unwrap_or_default();
            (between.is_empty() || notes.contains(&between))
                && (suffix.is_empty() || suffixes.contains(&suffix))
                && random.len() == 16
                && random.bytes().all(|b| b.is_ascii_hexdigit())
        })
    };
    for entry in entries.flatten() {
        let is_ours = entry.file_name().to_str().is_some_and(is_ours);
        let age = entry.metadata().ok().filter(std::fs::Metadata::is_file).and_then(|m| m.modified().ok());
        let age = age.and_then(|at| SystemTime::now().duration_since(at).ok());
        if is_ours && age.is_some_and(|age| age > ABANDONED) {
            // Best effort: what cannot be removed is in nobody's way.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_staging_files_of_the_target_go() {
        let dir = tempfile::tempdir().unwrap();
        let old = SystemTime::now() - Duration::from_secs(2 * 24 * 3600);
        for (name, is_old) in [
            (".app.db.copal~00000000000000aa", true),
            (".app.db.copal~00000000000000aa.wal", true),
            ("..app.db.copal-restore.copal~00000000000000cc", true),
            (".app.db.copal~00000000000000bb", false),
            (".app.db.copal~00000000000000aa.log", true),
            (".app.db.copal~precious", true),
            (".app.db.copal~", true),
            (".other.db.copal~00000000000000dd", true),
        ] {
            let file = std::fs::File::create(dir.path().join(name)).unwrap();
            if is_old {
                file.set_modified(old).unwrap();
            }
        }
        sweep_abandoned(&dir.path().join("app.db"), &[".copal-restore"], &[".wal"]);
        let mut names: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        let kept = [
            ".app.db.copal~",
            ".app.db.copal~00000000000000aa.log",
            ".app.db.copal~00000000000000bb",
            ".app.db.copal~precious",
            ".other.db.copal~00000000000000dd",
        ];
        assert_eq!(names, kept);
    }
}
