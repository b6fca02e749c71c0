//! Finding what the user means: a configured name, a database of the repository, a URL or a path.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use copal_core::{Engine, FolderName, Source};
use copal_repository::{Database, Manifest, Repository, RepositoryError};
use copal_storage::lease::Holder;

use super::names::member_folder;
use super::point::base_of;
use super::{BackupChoice, Copal};
use crate::engines::{FILE_SCHEMES, given_name};
use crate::{CopalError, ErrorKind, Result};

/// A database to back up.
pub(super) struct Subject {
    /// Its folder in the repository.
    pub(super) name: FolderName,
    /// Its display name.
    pub(super) display: String,
    /// Where it is.
    pub(super) source: Source,
    /// What reads it.
    pub(super) engine: Arc<dyn Engine>,
    /// Its place as it is written into manifests.
    pub(super) place: String,
}

/// A database that can be read.
pub(super) struct Found {
    pub(super) database: Database,
    /// What is wrong with its record; then the database's id comes from its manifests.
    pub(super) record_damage: Option<RepositoryError>,
}

/// Opens a database for reading, in spite of a damaged record if its manifests allow that. `None`: there is none.
pub(super) async fn open_or_salvage(repository: &Repository, name: &FolderName) -> Result<Option<Found>> {
    match repository.database(name).await {
        Ok(database) => Ok(database.map(|database| Found { database, record_damage: None })),
        Err(error) if error.is_damage() => match repository.salvage_database(name).await? {
            Some(database) => Ok(Some(Found { database, record_damage: Some(error) })),
            None => Err(error.into()),
        },
        Err(error) => Err(error.into()),
    }
}

/// The name of this machine, as it stands in backups.
pub fn host_name() -> String {
    Holder::current().host
}

impl Copal {
    /// The database that the user wants to back up.
    pub(super) fn subject(&self, database: &str) -> Result<Subject> {
        let database = self.named(database);
        if let Some(configured) = self.settings.databases.get(database) {
            let source = parse(&configured.url)?;
            let engine = self.engines.of(&source)?;
            let place = self.place(&source, &*engine)?;
            let name = database.parse().unwrap_or_else(|_| FolderName::nearest(database, 64));
            return Ok(Subject { name, display: database.to_owned(), source, engine, place });
        }
        if let Some(source) = self.member(database) {
            let engine = self.engines.of(&source)?;
            let place = self.place(&source, &*engine)?;
            return Ok(Subject { name: member_folder(database), display: database.to_owned(), source, engine, place });
        }
        let source = self.source_or_path(database)?;
        let engine = self.engines.of(&source).map_err(|e| match e.kind() {
            ErrorKind::NotFound => e.with_hint(self.known_names_hint()),
            _ => e,
        })?;
        let place = self.place(&source, &*engine)?;
        let display = short_name(&source);
        Ok(Subject { name: unconfigured_folder(&source, &place), display, source, engine, place })
    }

    fn known_names_hint(&self) -> String {
        let names: Vec<_> = self.settings.databases.keys().map(String::as_str).collect();
        match names.is_empty() {
            true => "give the path of a database, or configure it in copal.toml".to_owned(),
            false => format!("configured databases: {}", names.join(", ")),
        }
    }

    /// `scheme:` means a URL only if it is a scheme that an engine knows or no file has that name.
    fn source_or_path(&self, text: &str) -> Result<Source> {
        let source = parse(text)?;
        let is_odd_file_name =
            source.scheme().is_some() && self.engines.of(&source).is_err() && Path::new(text).is_file();
        Ok(if is_odd_file_name { Source::path(Path::new(text)) } else { source })
    }

    /// A source as it is written into manifests: canonical, without secrets.
    fn place(&self, source: &Source, engine: &dyn Engine) -> Result<String> {
        if !engine.capabilities().is_file {
            return Ok(self.server_place(source));
        }
        let path = canonical(&source.file_path());
        let text = path.to_str().ok_or_else(|| {
            let message = format!("the path {} is not valid UTF-8", path.display());
            CopalError::new(ErrorKind::Unsupported, message).with_hint("rename it, or use a link with another name")
        })?;
        Ok(format!("{}:{text}", engine.name()))
    }

    /// The database of the repository that the user means, which must be in order.
    pub(super) async fn stored(&self, repository: &Repository, database: &str) -> Result<Database> {
        match self.found(repository, database).await? {
            Found { record_damage: Some(error), .. } => Err(error.into()),
            Found { database, record_damage: None } => Ok(database),
        }
    }

    /// The same for reading: backups can be read although the database's record is damaged.
    pub(super) async fn found(&self, repository: &Repository, database: &str) -> Result<Found> {
        let unknown = |names: &[String]| {
            let shown = Source::shown(database);
            let message = format!("the repository has no database {shown:?}");
            let nearest = crate::config::nearest(database, names.iter().map(String::as_str));
            let hint = match (nearest, names.len()) {
                (Some(near), _) => format!("did you mean {near}? see: copal list"),
                (None, 0) => "it has none yet; make a backup with: copal backup FILE".to_owned(),
                (None, n) => format!("it has {n}; see: copal list"),
            };
            CopalError::new(ErrorKind::NotFound, message).with_hint(hint)
        };
        let mut candidates: Vec<FolderName> = Vec::new();
        let named = self.named(database);
        if self.settings.databases.contains_key(named) {
            candidates.push(FolderName::nearest(named, 64));
        } else if self.member(named).is_some() {
            candidates.push(member_folder(named));
        } else if let Ok(name) = database.to_lowercase().parse() {
            candidates.push(name);
        }
        if let Ok(source) = self.source_or_path(database) {
            // The file may be gone: that is when one wants its backups. Without a scheme it can be any engine's.
            let engines = match source.scheme() {
                Some(scheme) => vec![scheme],
                None => self.engines.of_files().collect(),
            };
            let is_server = self.engines.of(&source).is_ok_and(|engine| !engine.capabilities().is_file);
            if is_server && source.scheme().is_some() {
                let name = short_name(&source);
                candidates.push(unconfigured_folder(&source, &self.server_place(&source)));
                // Or it is one of a server that is configured as a whole.
                let parents = self.settings.databases.keys().map(|parent| format!("{parent}.{name}"));
                let is_it = |name: &String| {
                    self.member(name).is_some_and(|known| self.server_place(&known) == self.server_place(&source))
                };
                candidates.extend(parents.filter(is_it).map(|name| member_folder(&name)));
            } else if let Some(path) = canonical(&source.file_path()).to_str() {
                let name = |engine| automatic_name(&short_name(&source), &format!("{engine}:{path}"));
                candidates.extend(engines.into_iter().map(name));
            }
        }
        for name in candidates {
            if let Some(found) = open_or_salvage(repository, &name).await? {
                return Ok(found);
            }
        }
        if let Some(left_out) = self.source_or_path(database).ok().and_then(|source| self.engines.left_out(&source)) {
            return Err(left_out);
        }
        let names: Vec<String> = repository.database_names().await?.iter().map(ToString::to_string).collect();
        Err(unknown(&names))
    }

    /// Where a backup comes from: as configured, if the database is, since a manifest knows no password.
    pub(super) fn source_of(&self, manifest: &Manifest) -> Result<Source> {
        let name = &manifest.body.name;
        let configured = self.settings.databases.get(name).map(|database| parse(&database.url)).transpose()?;
        let recorded = parse(&manifest.body.source)?;
        let known = configured.or_else(|| self.member(name)).filter(|known| {
            let is_server = self.engines.of(known).is_ok_and(|engine| !engine.capabilities().is_file);
            is_server && self.server_place(known) == self.server_place(&recorded)
        });
        Ok(known.unwrap_or(recorded))
    }

    /// One backup of a database: also the one under a segment, if that is named.
    pub(super) async fn choose(
        &self,
        repository: &Repository,
        database: &Database,
        choice: &BackupChoice,
    ) -> Result<Manifest> {
        let none = |what: String, hint: &str| {
            CopalError::new(ErrorKind::NotFound, format!("{} has {what}", database.name)).with_hint(hint)
        };
        let id = match choice {
            BackupChoice::Id(id) => base_of(repository, database, id).await?.unwrap_or_else(|| id.clone()),
            BackupChoice::Latest => {
                let newest = repository.catalog(&database.name).await?.newest().cloned();
                newest.ok_or_else(|| none("no backups".to_owned(), "make one with: copal backup"))?
            }
            BackupChoice::At(time) => {
                let found = self.newest_until(repository, database, *time).await?;
                let what = format!("no backup from {time} or before");
                return found.ok_or_else(|| none(what, "copal list shows them all"));
            }
        };
        Ok(repository.manifest(database, &id).await?)
    }
}

fn parse(text: &str) -> Result<Source> {
    Source::parse(text).map_err(|e| CopalError::new(ErrorKind::Usage, e.to_string()))
}

/// The path with links resolved; of a file that is not there, at least its folder.
pub(super) fn canonical(path: &Path) -> PathBuf {
    std::fs::canonicalize(path)
        .or_else(|_| {
            let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            Ok::<_, std::io::Error>(std::fs::canonicalize(parent)?.join(path.file_name().unwrap_or_default()))
        })
        .or_else(|_| std::path::absolute(path))
        .unwrap_or_else(|_| path.to_path_buf())
}

pub(super) fn short_name(source: &Source) -> String {
    let text = source.redacted();
    if let Some(name) = given_name(source) {
        return name.to_owned();
    }
    let path = match text.split_once("://") {
        // A server's: what the last slash is in front of, without parameters.
        Some((_, rest)) if source.scheme().is_some_and(|scheme| !FILE_SCHEMES.contains(&scheme)) => {
            let path = rest.split_once('?').map_or(rest, |(path, _)| path);
            PathBuf::from(
                path.rsplit_once('/').map_or("database", |(_, name)| if name.is_empty() { "database" } else { name }),
            )
        }
        _ => source.file_path(),
    };
    path.file_stem().map_or_else(|| "database".to_owned(), |stem| stem.to_string_lossy().into_owned())
}

/// The folder of a database that is not configured. What a program gave a name has that on every machine.
fn unconfigured_folder(source: &Source, place: &str) -> FolderName {
    match given_name(source) {
        Some(name) => member_folder(name),
        None => automatic_name(&short_name(source), place),
    }
}

/// The stem and six digits that tell equal stems on this and other machines apart.
fn automatic_name(stem: &str, place: &str) -> FolderName {
    let hash = blake3::hash(format!("{}\0{place}", host_name()).as_bytes()).to_hex();
    let stem = FolderName::nearest(stem, 57);
    let digits = hash.get(..6).unwrap_or_default();
    format!("{stem}-{digits}").parse().unwrap_or(stem)
}
