//! The `copal.toml` that `copal init -d URL` writes.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use copal::{CopalError, ErrorKind, FolderName, Result, Source};

/// A configuration that is about to be written.
pub(crate) struct Starter {
    file: PathBuf,
    databases: Vec<(FolderName, String)>,
}

impl Starter {
    /// Finds names for the databases. A file that exists is refused.
    pub(crate) fn new(file: &Path, urls: &[String]) -> Result<Self> {
        if file.symlink_metadata().is_ok() {
            return Err(exists(file));
        }
        let mut taken = BTreeSet::new();
        let databases = urls.iter().map(|url| (free_name(url, &mut taken), located(url, file))).collect();
        Ok(Self { file: file.to_owned(), databases })
    }

    /// Writes the file, only if it still does not exist.
    ///
    /// `encrypt`: of the repository; `None`: there is none.
    pub(crate) fn write(
        &self,
        repository: Option<&str>,
        encrypt: Option<bool>,
        passphrase_file: Option<&str>,
    ) -> Result<()> {
        let text = self.render(repository, encrypt, passphrase_file);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        if self.databases.iter().any(|(_, url)| Source::shown(url) != *url) {
            // There is a password in it.
            options.mode(0o600);
        }
        let created = options.open(&self.file);
        created.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => exists(&self.file),
            _ => CopalError::new(ErrorKind::Failed, format!("cannot write {}", self.file.display())).because(error),
        })
    }

    fn render(&self, repository: Option<&str>, encrypt: Option<bool>, passphrase_file: Option<&str>) -> String {
        let mut lines =
            vec!["# Copal's configuration; docs/configuration.md explains every key.".to_owned(), String::new()];
        if let Some(encrypt) = encrypt {
            lines.extend(repository_lines(repository, encrypt, passphrase_file, &self.file));
        }
        for (name, url) in &self.databases {
            if lines.len() > 2 {
                lines.push(String::new());
            }
            let key = if name.as_str().contains('.') { quote(name.as_str()) } else { name.to_string() };
            lines.push(format!("[databases.{key}]"));
            lines.push(format!("url = {}", quote(url)));
            lines.push(
                "keep = { last = 10, daily = 7, weekly = 4, monthly = 12 }    # what `copal prune` leaves".into(),
            );
        }
        lines.join("\n") + "\n"
    }
}

fn repository_lines(
    repository: Option<&str>,
    encrypt: bool,
    passphrase_file: Option<&str>,
    file: &Path,
) -> [String; 3] {
    let url = match repository {
        Some(url) => format!("url = {}", quote(&located(url, file))),
        None => "# url = \"s3://bucket/prefix\"    # without it: ~/.local/share/copal/repository".into(),
    };
    let key = match (encrypt, passphrase_file) {
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

/// A name after the file or the database at the end of the URL.
fn free_name(url: &str, taken: &mut BTreeSet<FolderName>) -> FolderName {
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
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use copal::config::{Configuration, Environment};

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
        starter.write(Some("s3://bucket/prefix"), Some(true), Some("/etc/copal/passphrase")).unwrap();
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
}
