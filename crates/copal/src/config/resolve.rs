//! From a configuration, the environment and what was said on the command line to [`Settings`].

use std::path::Path;

use copal_core::Secret;

use super::{Configuration, Environment};
use crate::{CopalError, ErrorKind, PassphraseSource, Result, Settings};

/// What a front end was told explicitly; it goes before everything else.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// The repository's URL or path.
    pub repository: Option<String>,
}

/// Settings, and what somebody should know about how they came to be.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The settings.
    pub settings: Settings,
    /// Remarks, each one line.
    pub notices: Vec<String>,
}

impl Configuration {
    /// Resolves the repository (`overrides`, `COPAL_REPOSITORY`, the configuration, else the local default), the passphrase
    /// (`COPAL_PASSPHRASE`, `COPAL_PASSPHRASE_FILE`, the configuration's file, else none) and the identity
    /// (`COPAL_IDENTITY_FILE`, the configuration's file, else none).
    pub fn resolve(&self, overrides: &Overrides, environment: &Environment) -> Result<Resolved> {
        let explicit = overrides.repository.clone().or_else(|| environment.get("COPAL_REPOSITORY").map(str::to_owned));
        let is_explicit = explicit.is_some();
        let named = explicit.or_else(|| self.repository.url.clone());
        let is_default = named.is_none();
        let repository = named.or_else(|| default_repository(environment)).ok_or_else(|| {
            CopalError::new(
                ErrorKind::Configuration,
                "no repository is named, and without HOME there is no default one",
            )
            .with_hint("name one with --repository or COPAL_REPOSITORY")
        })?;
        let mut settings = Settings::new(repository);
        self.apply(&mut settings);
        settings.repository_is_default = is_default;
        settings.s3 = self.repository.s3.clone();
        if let Some(program) = environment.get("COPAL_DUCKDB") {
            settings.duckdb.program = Some(program.into());
        }
        if let Some(folder) = environment.get("COPAL_POSTGRES_BIN") {
            settings.postgres.bin = Some(folder.into());
        }
        settings.state = environment.xdg("XDG_STATE_HOME", ".local/state").map(|folder| folder.join("copal"));
        let mut notices = Vec::new();
        // Said to be plain, and it is that repository: a passphrase meant for others does not make it a surprise.
        let is_plain = self.repository.encrypt == Some(false) && !is_explicit;
        if !is_plain {
            settings.passphrase = self.passphrase(environment, &mut notices)?;
            settings.identity = self.identity(environment, &mut notices)?;
        }
        Ok(Resolved { settings, notices })
    }

    fn passphrase(&self, environment: &Environment, notices: &mut Vec<String>) -> Result<PassphraseSource> {
        if let Some(passphrase) = environment.get("COPAL_PASSPHRASE") {
            return Ok(PassphraseSource::Known(Secret::new(passphrase)));
        }
        let named = environment.get("COPAL_PASSPHRASE_FILE").map(Path::new);
        let Some(path) = named.or(self.repository.passphrase_file.as_deref()) else {
            return Ok(PassphraseSource::None);
        };
        notices.extend(exposure("passphrase file", path));
        read_passphrase_file(path).map(PassphraseSource::Known)
    }

    fn identity(&self, environment: &Environment, notices: &mut Vec<String>) -> Result<Option<Secret>> {
        let named = environment.get("COPAL_IDENTITY_FILE").map(Path::new);
        let Some(path) = named.or(self.repository.identity_file.as_deref()) else { return Ok(None) };
        notices.extend(exposure("identity file", path));
        let text = read_secret("identity file", path)?;
        if text.reveal().lines().any(|line| line.trim().starts_with("AGE-SECRET-KEY-")) {
            return Ok(Some(text));
        }
        let message = format!("the identity file {} holds no age identity", path.display());
        let hint = "it is a text file with a line that begins with AGE-SECRET-KEY-, as age-keygen writes it";
        Err(CopalError::new(ErrorKind::Passphrase, message).with_hint(hint))
    }
}

fn default_repository(environment: &Environment) -> Option<String> {
    let folder = environment.xdg("XDG_DATA_HOME", ".local/share")?;
    Some(folder.join("copal").join("repository").display().to_string())
}

/// Reads a passphrase: the file's text without one line end behind it.
pub fn read_passphrase_file(path: &Path) -> Result<Secret> {
    let text = read_secret("passphrase file", path)?;
    let line = text.reveal().strip_suffix('\n').unwrap_or(text.reveal());
    let passphrase = line.strip_suffix('\r').unwrap_or(line);
    if passphrase.is_empty() {
        return Err(CopalError::new(ErrorKind::Passphrase, format!("the passphrase file {} is empty", path.display())));
    }
    Ok(Secret::new(passphrase))
}

fn read_secret(what: &str, path: &Path) -> Result<Secret> {
    std::fs::read_to_string(path).map(Secret::new).map_err(|error| {
        CopalError::new(ErrorKind::Passphrase, format!("cannot read the {what} {}", path.display())).because(error)
    })
}

#[cfg(unix)]
fn exposure(what: &str, path: &Path) -> Option<String> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(path).ok()?.permissions().mode();
    let shown = path.display();
    (mode & 0o004 != 0)
        .then(|| format!("every user of this machine can read the {what} {shown}; run: chmod go-rwx {shown}"))
}

#[cfg(not(unix))]
fn exposure(_what: &str, _path: &Path) -> Option<String> {
    None
}
