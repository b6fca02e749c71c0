//! Places written in a configuration: relative ones are relative to the configuration's own folder.

use std::path::{Path, PathBuf};

use copal_core::Source;

use crate::engines::FILE_SCHEMES;

/// What relative places are relative to.
pub(super) struct Base {
    /// The folder of the configuration file.
    pub(super) folder: PathBuf,
    /// The user's home, for `~/`.
    pub(super) home: Option<PathBuf>,
}

impl Base {
    /// The absolute form of a path.
    pub(super) fn path(&self, path: &Path) -> PathBuf {
        match (path.strip_prefix("~"), &self.home) {
            (Ok(rest), Some(home)) => home.join(rest),
            _ => self.folder.join(path.strip_prefix("./").unwrap_or(path)),
        }
    }

    /// The absolute form of a repository's path; URLs stay as they are.
    pub(super) fn repository(&self, text: &str) -> String {
        if text.contains("://") || text.starts_with("file:") {
            return text.to_owned();
        }
        self.path(Path::new(text)).display().to_string()
    }

    /// The absolute form of a database's path or of a URL that names a file; other URLs stay as they are.
    pub(super) fn url(&self, text: &str) -> String {
        let Ok(source) = Source::parse(text) else { return text.to_owned() };
        let path = source.file_path();
        match text.split_once(':') {
            Some(_) if source.scheme().is_some_and(|scheme| !FILE_SCHEMES.contains(&scheme)) => text.to_owned(),
            Some((scheme, rest)) if source.scheme().is_some() => {
                // `//` followed by a name is the engine's own affair; `:memory:` and the like are no files.
                let has_host = rest.starts_with("//") && !rest.starts_with("///");
                if has_host || path.is_absolute() || rest.is_empty() || rest.starts_with(':') {
                    return text.to_owned();
                }
                format!("{scheme}:{}", self.path(&path).display())
            }
            _ => self.path(&path).display().to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_places_lie_beside_the_configuration() {
        let base = Base { folder: "/etc/copal".into(), home: Some("/home/x".into()) };
        for (text, expected) in [
            ("app.db", "/etc/copal/app.db"),
            ("./app.db", "/etc/copal/app.db"),
            ("/var/app.db", "/var/app.db"),
            ("~/app.db", "/home/x/app.db"),
            ("sqlite:app.db", "sqlite:/etc/copal/app.db"),
            ("sqlite:///app.db", "sqlite:/etc/copal/app.db"),
            ("sqlite+aiosqlite:///app.db", "sqlite+aiosqlite:/etc/copal/app.db"),
            ("sqlite:////var/app.db", "sqlite:////var/app.db"),
            ("sqlite:~/app.db", "sqlite:/home/x/app.db"),
            ("postgres://u@h/db", "postgres://u@h/db"),
            ("postgres:///db?host=/run/pg", "postgres:///db?host=/run/pg"),
            ("postgres:service=prod", "postgres:service=prod"),
            ("postgresql+asyncpg:///db", "postgresql+asyncpg:///db"),
        ] {
            assert_eq!(base.url(text), expected, "{text}");
        }
        for (text, expected) in [
            ("backups", "/etc/copal/backups"),
            ("/srv/backups", "/srv/backups"),
            ("file:///srv/backups", "file:///srv/backups"),
            ("s3://bucket/prefix", "s3://bucket/prefix"),
        ] {
            assert_eq!(base.repository(text), expected, "{text}");
        }
    }
}
