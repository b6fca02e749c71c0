//! Taking a repository back that holds nothing yet: what `init` makes and nothing else, by the names of docs/format.md.
//!
//! Somebody else may use the same folder at any time, so whatever does not look exactly like our own beginning is left alone.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use copal::InitOutcome;

const CONFIG: &str = "copal.json";
const README: &str = "README.txt";
const KEYS: &str = "keys";
const LEASES: &str = "leases";
/// Files that are being written, and locks: no object has such a name.
const PASSING: [&str; 2] = [".staging~", ".lock~"];

/// Removes what `init` made in this folder, `made` if it came to its end. Answers whether it did; else nothing was touched.
pub(super) fn take_back(folder: &Path, made: Option<&InitOutcome>) -> io::Result<bool> {
    let config = match fs::read(folder.join(CONFIG)) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if config.is_some_and(|config| made.is_none_or(|made| !is_of(&config, &made.id))) {
        return Ok(false);
    }
    // An `init` that failed may have left a key; but one that nobody knows may be that of another `init`, which is under way.
    let keys: BTreeSet<_> = made.iter().flat_map(|made| &made.keys).map(|id| format!("{id}.age")).collect();
    let above = listed(folder, |name| [CONFIG, README, KEYS, LEASES].contains(&name))?;
    let keys = listed(&folder.join(KEYS), |name| keys.contains(name))?;
    let leases = listed(&folder.join(LEASES), |_| false)?;
    let (Some(above), Some(keys), Some(leases)) = (above, keys, leases) else { return Ok(false) };
    // Without it there is no repository any more, however far the rest comes.
    remove(fs::remove_file(folder.join(CONFIG)))?;
    for file in keys.into_iter().chain(leases) {
        remove(fs::remove_file(file))?;
    }
    for path in above {
        let is_folder = [KEYS, LEASES].iter().any(|name| path.ends_with(name));
        remove(if is_folder { fs::remove_dir(&path) } else { fs::remove_file(&path) })?;
    }
    Ok(true)
}

/// Whether this is the `copal.json` of that repository.
fn is_of(config: &[u8], id: &str) -> bool {
    let config = serde_json::from_slice::<serde_json::Value>(config);
    config.is_ok_and(|config| config.get("repository").and_then(|found| found.as_str()) == Some(id))
}

/// What is in a folder, which need not be there; `None` if anything in it is not ours.
fn listed(folder: &Path, is_ours: impl Fn(&str) -> bool) -> io::Result<Option<Vec<PathBuf>>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(Vec::new())),
        Err(error) => return Err(error),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let is_passing = |name: &str| PASSING.iter().any(|passing| name.starts_with(passing));
        if !name.to_str().is_some_and(|name| is_ours(name) || is_passing(name)) {
            return Ok(None);
        }
        paths.push(entry.path());
    }
    Ok(Some(paths))
}

/// What is gone already is as it shall be.
fn remove(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
