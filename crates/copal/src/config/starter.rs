//! The `copal.toml` of a beginning, as `copal init -d URL` and the first start of the daemon write it.
//!
//! It is written beside its place first and put there whole, so nobody ever reads half of it, and what exists is never overwritten.

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use copal_core::{FolderName, Source};
use tempfile::NamedTempFile;

use crate::{CopalError, ErrorKind, Result};

/// A configuration that is about to be written.
#[derive(Clone, Debug)]
pub struct Starter {
    file: PathBuf,
    databases: Vec<StarterDatabase>,
}

/// A database of it.
#[derive(Clone, Debug)]
pub struct StarterDatabase {
    /// Its name.
    pub name: FolderName,
    /// Its URL or path.
    pub url: String,
    /// When it is backed up, if that is to be said.
    pub schedule: Option<String>,
}

/// The repository of it.
#[derive(Clone, Copy, Debug)]
pub struct StarterRepository<'a> {
    /// Its URL or path; `None`: the local default.
    pub url: Option<&'a str>,
    /// Whether it is encrypted.
    pub encrypt: bool,
    /// The file with its passphrase.
    pub passphrase_file: Option<&'a str>,
}

/// A file that is written and not yet in its place; dropped, it is gone.
#[derive(Debug)]
pub struct PreparedStarter {
    written: NamedTempFile,
    file: PathBuf,
}

impl Starter {
    /// Finds names for the databases. A file that exists is refused.
    pub fn new(file: &Path, urls: &[String]) -> Result<Self> {
        let mut taken = BTreeSet::new();
        let database = |url: &String| {
            let name = free_name(url, &mut taken);
            StarterDatabase { name, url: located(url, file), schedule: None }
        };
        Self::named(file, urls.iter().map(database).collect())
    }

    /// Takes the databases as they are. A file that exists is refused.
    pub fn named(file: &Path, databases: Vec<StarterDatabase>) -> Result<Self> {
        if file.symlink_metadata().is_ok() {
            return Err(exists(file));
        }
        Ok(Self { file: file.to_owned(), databases })
    }

    /// Writes the file, only if it still does not exist. Without a repository it says nothing of one.
    pub fn write(&self, repository: Option<StarterRepository<'_>>) -> Result<()> {
        self.prepare(repository)?.commit()
    }

    /// Writes the file beside its place, which only its owner can read if there is a password in it.
    pub fn prepare(&self, repository: Option<StarterRepository<'_>>) -> Result<PreparedStarter> {
        let has_secret = self.databases.iter().any(|database| Source::shown(&database.url) != database.url);
        let mode = if has_secret { 0o600 } else { 0o644 };
        let folder = self.file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let create = || {
            let mut builder = tempfile::Builder::new();
            let mut written =
                builder.prefix(".copal-").permissions(Permissions::from_mode(mode)).tempfile_in(folder)?;
            written.write_all(self.text(repository).as_bytes())?;
            written.as_file().sync_all()?;
            Ok(written)
        };
        let written = create().map_err(|error| unwritable(&self.file, error))?;
        Ok(PreparedStarter { written, file: self.file.clone() })
    }

    /// The text of the file.
    pub fn text(&self, repository: Option<StarterRepository<'_>>) -> String {
        let mut lines =
            vec!["# Copal's configuration; docs/configuration.md explains every key.".to_owned(), String::new()];
        if let Some(repository) = repository {
            lines.extend(repository_lines(repository, &self.file));
        }
        for StarterDatabase { name, url, schedule } in &self.databases {
            if lines.len() > 2 {
                lines.push(String::new());
            }
            let key = if name.as_str().contains('.') { quote(name.as_str()) } else { name.to_string() };
            lines.push(format!("[databases.{key}]"));
            lines.push(format!("url = {}", quote(url)));
            if let Some(schedule) = schedule {
                lines.push(format!("schedule = {}", quote(schedule)));
            }
            lines.push(
                "keep = { last = 10, daily = 7, weekly = 4, monthly = 12 }    # what `copal prune` leaves".into(),
            );
        }
        lines.join("\n") + "\n"
    }
}

impl PreparedStarter {
    /// Puts the file in its place, only if there is still none.
    pub fn commit(self) -> Result<()> {
        let Self { written, file } = self;
        written.persist_noclobber(&file).map(drop).map_err(|error| match error.error.kind() {
            std::io::ErrorKind::AlreadyExists => exists(&file),
            _ => unwritable(&file, error.error),
        })
    }
}

fn repository_lines(repository: StarterRepository<'_>, file: &Path) -> [String; 3] {
    let url = match repository.url {
        Some(url) => format!("url = {}", quote(&located(url, file))),
        None => "# url = \"s3://bucket/prefix\"    # without it: ~/.local/share/copal/repository".into(),
    };
    let key = match (repository.encrypt, repository.passphrase_file) {
        (false, _) => "encryption = \"none\"".into(),
        (true, Some(path)) => format!("passphrase_file = {}", quote(&absolute(path))),
        (true, None) => "# passphrase_file = \"/etc/copal/passphrase\"    # for unattended backups; chmod 600".into(),
    };
    ["[repository]".into(), url, key]
}

fn exists(file: &Path) -> CopalError {
    CopalError::new(ErrorKind::Exists, format!("{} exists and is never overwritten", file.display()))
        .with_hint("add the database there, or leave out -d; without -d init only creates the repository")
}

fn unwritable(file: &Path, error: std::io::Error) -> CopalError {
    CopalError::new(ErrorKind::Failed, format!("cannot write {}", file.display())).because(error)
}

/// A TOML string; `${` is escaped so that it stays what it is.
fn quote(text: &str) -> String {
    let escaped: String = text
        .chars()
        .flat_map(|c| match c {
            '"' | '\\' => vec!['\\', c],
            c if c.is_control() => format!("\\u{:04X}", u32::from(c)).chars().collect(),
            c => vec![c],
        })
        .collect();
    format!("\"{}\"", escaped.replace("${", "$${"))
}

fn absolute(path: &str) -> String {
    std::path::absolute(path).map_or_else(|_| path.to_owned(), |path| path.display().to_string())
}

/// A place as it is written into the file: relative to it if it lies in the current folder, else absolute.
fn located(url: &str, file: &Path) -> String {
    let is_here = file.parent().is_none_or(|folder| folder.as_os_str().is_empty());
    let (scheme, path) = match url.split_once(':') {
        Some((_, rest)) if rest.starts_with("//") => return url.to_owned(),
        Some((scheme, rest)) if scheme.len() > 1 && !scheme.contains(['/', '.']) => (format!("{scheme}:"), rest),
        _ => (String::new(), url),
    };
    if is_here || Path::new(path).is_absolute() || path.is_empty() {
        return url.to_owned();
    }
    format!("{scheme}{}", absolute(path))
}

/// A name after the file or the database at the end of the URL, which becomes taken.
pub fn free_name(url: &str, taken: &mut BTreeSet<FolderName>) -> FolderName {
    // Without a password, which names are shown without.
    let shown = Source::shown(url);
    let without_query = shown.split('?').next().unwrap_or(&shown);
    let last = without_query.trim_end_matches('/').rsplit(['/', ':', '\\', '@']).next().unwrap_or_default();
    let stem = Path::new(last).file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let name = FolderName::nearest(&stem, 60);
    let mut candidate = name.clone();
    let mut number = 2;
    while !taken.insert(candidate.clone()) {
        candidate = FolderName::nearest(&format!("{name}-{number}"), 64);
        number += 1;
    }
    candidate
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Configuration, Environment};

    const REPOSITORY: StarterRepository<'_> = StarterRepository {
        url: Some("s3://bucket/prefix"),
        encrypt: true,
        passphrase_file: Some("/etc/copal/passphrase"),
    };

    #[test]
    fn what_is_written_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("copal.toml");
        let urls = [
            "sqlite:/srv/app.db",
            "/srv/other/App.db",
            "postgres://u@h/shop?x=1",
            "/srv/we\"ird ${x}.db",
            "postgres://u:secret@db1",
        ];
        let starter = Starter::new(&file, &urls.map(str::to_owned)).unwrap();
        starter.write(Some(REPOSITORY)).unwrap();
        let configuration = Configuration::load(Some(&file), &Environment::default()).unwrap();
        let found: Vec<_> = configuration
            .databases
            .iter()
            .map(|(name, database)| (name.as_str(), database.settings.url.as_str()))
            .collect();
        let expected = [
            ("app", "sqlite:/srv/app.db"),
            ("app-2", "/srv/other/App.db"),
            ("db1", "postgres://u:secret@db1"),
            ("shop", "postgres://u@h/shop?x=1"),
            ("we-ird---x-", "/srv/we\"ird ${x}.db"),
        ];
        assert_eq!(found, expected);
        assert_eq!(configuration.repository.url.as_deref(), Some("s3://bucket/prefix"));
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o077, 0, "there is a password in it");
        assert_eq!(Starter::new(&file, &[]).err().map(|error| error.kind()), Some(ErrorKind::Exists));
    }

    #[test]
    fn names_and_schedules_are_written_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("copal.toml");
        let hostile = "/srv/\"]\n[daemon]\nlisten = \"0.0.0.0:1\"\u{7f}\\ \u{1f4a5}.db";
        let database = |name: &str, schedule: Option<&str>| StarterDatabase {
            name: name.parse().unwrap(),
            url: hostile.to_owned(),
            schedule: schedule.map(str::to_owned),
        };
        let databases =
            vec![database("a.b", Some("@daily")), database("-c", Some("30 3 * * 1-5")), database("d", None)];
        let starter = Starter::named(&file, databases).unwrap();
        let text = starter.text(None);
        starter.write(None).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
        let read = Configuration::load(Some(&file), &Environment::default()).unwrap();
        let of = |name: &str| read.databases[name].settings.clone();
        assert_eq!(of("a.b").schedule.as_deref(), Some("@daily"));
        assert_eq!(of("-c").schedule.as_deref(), Some("30 3 * * 1-5"));
        assert_eq!((of("d").schedule, of("d").url.as_str()), (None, hostile));
        assert_eq!(read.daemon, crate::config::DaemonConfiguration::default());
        assert_eq!(read.repository.url, None);
    }

    #[test]
    fn what_came_into_being_meanwhile_stays_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("copal.toml");
        let prepared = Starter::new(&file, &["/srv/app.db".to_owned()]).unwrap().prepare(None).unwrap();
        std::fs::write(&file, "of somebody else").unwrap();
        assert_eq!(prepared.commit().unwrap_err().kind(), ErrorKind::Exists);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "of somebody else");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
