//! From what somebody wishes to a configuration that works: everything is looked at before anything is made, and `copal.toml` comes
//! last, so that it never promises what is not there.

use std::collections::BTreeSet;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use copal::config::{Configuration, Overrides, Starter, StarterDatabase, StarterRepository, check_schedule};
use copal::{Copal, CopalError, ErrorKind, FolderName, InitOptions, PassphraseSource, Secret, Settings, Source};
use futures::future::try_join_all;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Ground;
use super::undo::Undo;
use crate::assembly::Loaded;
use crate::tokens::{Role, TokenError, TokenFile};

/// A database may take so long to say what it is.
const LOOK: Duration = Duration::from_secs(15);
/// A repository may take so long to be made, or to be opened.
const MAKE: Duration = Duration::from_secs(35);
const SHORTEST_PASSPHRASE: usize = 8;
const LONGEST_PASSPHRASE: usize = 1024;
const MOST_DATABASES: usize = 200;
/// So many names are tried until one is free.
const MOST_NAMES: u32 = 100;

/// What somebody wants to have protected, and where.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wish {
    /// The repository: an absolute path or a URL; null: the local default.
    #[serde(default)]
    #[schema(example = "/srv/backups", max_length = 4096)]
    repository: Option<String>,
    /// Encrypt it.
    encrypt: bool,
    /// Its passphrase, which is kept in a file that only its owner can read. Null if it is not encrypted, or if the environment has it.
    #[serde(default)]
    #[schema(value_type = Option<String>, min_length = 8, max_length = 1024)]
    passphrase: Option<Secret>,
    /// The databases.
    #[schema(min_items = 1, max_items = 200)]
    databases: Vec<WishedDatabase>,
}

/// One of the databases.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WishedDatabase {
    /// Its name.
    #[schema(example = "shop", pattern = "^[a-z0-9_-][a-z0-9._-]{0,63}$")]
    name: String,
    /// Its URL, or the absolute path of its file.
    #[schema(example = "sqlite:/srv/shop.db", min_length = 1, max_length = 4096)]
    url: String,
    /// When it is backed up.
    #[serde(default)]
    #[schema(example = "@daily", max_length = 200)]
    schedule: Option<String>,
}

/// What was written. The token stands nowhere else.
#[derive(Serialize, ToSchema)]
pub(crate) struct Written {
    /// The configuration's file.
    configuration: String,
    /// What is in it, without passwords.
    text: String,
    /// The first token; its role is `admin`.
    token: String,
    /// Where the repository is.
    repository: String,
    /// The file with its passphrase.
    passphrase_file: Option<String>,
}

/// Why nothing was written.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The wish cannot be fulfilled as it is.
    Wish(CopalError),
    /// There is something already.
    Exists(CopalError),
    /// It should have been possible.
    Failed(CopalError),
}

fn unwished(kind: ErrorKind, message: impl Into<String>, hint: &str) -> Refusal {
    Refusal::Wish(CopalError::new(kind, message).with_hint(hint))
}

impl Ground {
    /// Fulfils a wish, as a whole or not at all. Only one at a time, and only while there is no configuration.
    pub(crate) async fn fulfil(&self, wish: Wish) -> Result<Written, Refusal> {
        let Ok(_writing) = self.writing.try_lock() else {
            return Err(Refusal::Exists(CopalError::new(ErrorKind::Busy, "this is being done already")));
        };
        // Whoever only looks whether something was written is soon done.
        let _turn = self.turn.lock().await;
        self.require_none()?;
        let plan = Plan::new(self, &wish)?;
        plan.look(self).await?;
        let written = plan.carry_out(self).await?;
        tracing::info!(file = written.configuration, repository = written.repository, "the set-up is done");
        self.look.notify_one();
        Ok(written)
    }
}

/// A wish that was looked at.
struct Plan {
    starter: Starter,
    /// The same without passwords.
    shown: Starter,
    /// As written into the file; `None`: the default.
    repository: Option<String>,
    encrypt: bool,
    /// To be kept in a file.
    passphrase: Option<Secret>,
    /// What will hold, but for the passphrase file.
    settings: Settings,
    urls: Vec<(FolderName, String)>,
}

impl Plan {
    fn new(ground: &Ground, wish: &Wish) -> Result<Self, Refusal> {
        let databases = databases(&wish.databases)?;
        let passphrase = passphrase(wish, ground.settings.passphrase.is_known())?;
        let repository = wish.repository.as_deref().map(repository).transpose()?;
        let shown =
            databases.iter().map(|database| StarterDatabase { url: Source::shown(&database.url), ..database.clone() });
        let shown = Starter::named(&ground.file, shown.collect()).map_err(Refusal::Exists)?;
        let urls = databases.iter().map(|database| (database.name.clone(), database.url.clone())).collect();
        let starter = Starter::named(&ground.file, databases).map_err(Refusal::Exists)?;
        let mut plan = Self {
            starter,
            shown,
            repository,
            encrypt: wish.encrypt,
            passphrase,
            settings: ground.settings.clone(),
            urls,
        };
        let mut settings = plan.read(ground, None)?.settings;
        match (&plan.passphrase, &settings.passphrase) {
            (Some(wished), PassphraseSource::Known(known)) if wished != known => {
                let hint = "leave the passphrase empty to take that one, or start copal serve without the variable";
                let message =
                    "COPAL_PASSPHRASE or COPAL_PASSPHRASE_FILE says another passphrase, and goes before the file's";
                return Err(unwished(ErrorKind::Passphrase, message, hint));
            }
            (Some(wished), _) => settings.passphrase = PassphraseSource::Known(wished.clone()),
            (None, _) => {}
        }
        plan.settings = settings;
        Ok(plan)
    }

    fn repository<'a>(&'a self, passphrase_file: Option<&'a str>) -> StarterRepository<'a> {
        StarterRepository { url: self.repository.as_deref(), encrypt: self.encrypt, passphrase_file }
    }

    /// What the daemon will read.
    fn read(&self, ground: &Ground, passphrase_file: Option<&str>) -> Result<Loaded, Refusal> {
        let text = self.starter.text(Some(self.repository(passphrase_file)));
        let read = || {
            let configuration = Configuration::read(&ground.file, &text, &ground.environment)?;
            let settings = configuration.resolve(&Overrides::default(), &ground.environment)?.settings;
            Ok(Loaded { configuration, settings })
        };
        read().map_err(Refusal::Wish)
    }

    /// Whether the databases are there and can be read, and whether the place of the repository is one.
    async fn look(&self, ground: &Ground) -> Result<(), Refusal> {
        let copal = ground.copal();
        let looks = self.urls.iter().map(|(name, url)| look_at(&copal, name, url));
        try_join_all(looks).await.map(drop)
    }

    async fn carry_out(&self, ground: &Ground) -> Result<Written, Refusal> {
        let mut undo = Undo::default();
        let failed = |error: io::Error| {
            let message = format!("cannot write into the folder of {}", ground.file.display());
            Refusal::Failed(CopalError::new(ErrorKind::Failed, message).because(error))
        };
        let folder = ground.file.parent().unwrap_or(Path::new("/"));
        undo.make_folder(folder).map_err(failed)?;
        let kept = self.passphrase.as_ref().map(|passphrase| keep_passphrase(&mut undo, folder, passphrase));
        let passphrase_file = kept.transpose().map_err(failed)?.map(|file| file.display().to_string());
        // Written now, so that a full disk or a closed folder is known before the repository is made.
        let repository = self.repository(passphrase_file.as_deref());
        let prepared = self.starter.prepare(Some(repository)).map_err(Refusal::Failed)?;
        let loaded = self.read(ground, passphrase_file.as_deref())?;
        let url = self.make_repository(&mut undo, &loaded).await?;
        let token = make_token(&mut undo, &loaded)?;
        prepared.commit().map_err(|error| match error.kind() {
            ErrorKind::Exists => Refusal::Exists(error),
            _ => Refusal::Failed(error),
        })?;
        undo.keep();
        Ok(Written {
            configuration: ground.file.display().to_string(),
            text: self.shown.text(Some(repository)),
            token: token.reveal().to_owned(),
            repository: url,
            passphrase_file,
        })
    }

    /// Makes the repository, or takes the one that is there; in the end it opens by what the configuration says.
    async fn make_repository(&self, undo: &mut Undo, loaded: &Loaded) -> Result<String, Refusal> {
        let path = Path::new(&self.settings.repository);
        let is_filled = path.is_absolute() && std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
        let make = async {
            // What others have put there is not to be touched, let alone taken back.
            if !is_filled {
                let begun = path.is_absolute().then(|| undo.repository_is_made(path));
                let options = InitOptions { encrypt: self.encrypt, recovery_keys: Vec::new() };
                let copal = Copal::new(self.settings.clone());
                match (copal.init(options).await, begun) {
                    (Ok(made), Some(begun)) => undo.repository_was_made(begun, copal, made),
                    (Ok(_), None) => {}
                    // Somebody else was first.
                    (Err(error), begun) if error.kind() == ErrorKind::Exists => undo.leave(begun),
                    (Err(error), _) => return Err(error),
                }
            }
            Copal::new(loaded.settings.clone()).check_repository().await
        };
        let shown = self.settings.repository.clone();
        match tokio::time::timeout(MAKE, make).await {
            Ok(Ok(())) => Ok(shown),
            Ok(Err(error)) if is_filled && error.kind() == ErrorKind::NotFound => Err(unwished(
                ErrorKind::Exists,
                format!("the folder {shown} is not empty, and it holds no repository"),
                "name a folder that is empty or does not exist yet",
            )),
            Ok(Err(error)) => Err(Refusal::Wish(error)),
            Err(_) => Err(unwished(
                ErrorKind::Unavailable,
                format!("the repository {shown} does not answer"),
                "look whether the place can be reached from this machine",
            )),
        }
    }
}

fn databases(wished: &[WishedDatabase]) -> Result<Vec<StarterDatabase>, Refusal> {
    if wished.is_empty() || wished.len() > MOST_DATABASES {
        let message = format!("a set-up has 1 to {MOST_DATABASES} databases");
        return Err(unwished(ErrorKind::Usage, message, "others can be added to copal.toml later"));
    }
    let mut names = BTreeSet::new();
    let database = |WishedDatabase { name, url, schedule }: &WishedDatabase| {
        let folder: FolderName = name.parse().map_err(|_| {
            let hint = "a name has 1 to 64 of a-z, 0-9, dots, dashes and underscores, and does not begin with a dot";
            unwished(ErrorKind::Usage, format!("{name:?} is no name for a database"), hint)
        })?;
        if !names.insert(folder.clone()) {
            let message = format!("two databases are called {folder}");
            return Err(unwished(ErrorKind::Usage, message, "give one of them another name"));
        }
        if let Some(Err(problem)) = schedule.as_deref().map(check_schedule) {
            let hint = "write cron (\"0 3 * * *\"), \"@daily\", \"@weekly\" or \"every 5m\"";
            return Err(unwished(ErrorKind::Usage, format!("the schedule of {folder}: {problem}"), hint));
        }
        Ok(StarterDatabase { name: folder, url: url.clone(), schedule: schedule.clone() })
    };
    wished.iter().map(database).collect()
}

/// The passphrase that has to be kept in a file, if any.
fn passphrase(wish: &Wish, is_in_environment: bool) -> Result<Option<Secret>, Refusal> {
    let refused = |message: String, hint| Err(unwished(ErrorKind::Passphrase, message, hint));
    match (wish.encrypt, &wish.passphrase) {
        (false, None) => Ok(None),
        (false, Some(_)) => {
            refused("a repository that is not encrypted has no passphrase".to_owned(), "encrypt it, or leave it out")
        }
        (true, None) if is_in_environment => Ok(None),
        (true, None) => refused("an encrypted repository needs a passphrase".to_owned(), "choose one"),
        (true, Some(passphrase)) => {
            let length = passphrase.reveal().chars().count();
            if !(SHORTEST_PASSPHRASE..=LONGEST_PASSPHRASE).contains(&length) {
                let message = format!("a passphrase has {SHORTEST_PASSPHRASE} to {LONGEST_PASSPHRASE} characters");
                return refused(message, "five random words are a good one");
            }
            if passphrase.reveal().chars().any(char::is_control) {
                return refused("a passphrase is one line of text".to_owned(), "leave out what is not visible");
            }
            Ok(Some(passphrase.clone()))
        }
    }
}

/// The place of the repository, as it is written into the file.
fn repository(text: &str) -> Result<String, Refusal> {
    let is_remote = ["s3://", "gs://", "az://"].iter().any(|scheme| text.starts_with(scheme));
    // `..` is resolved by whoever follows it, and not before the folders on the way are made: it could lead anywhere.
    let is_plain = !Path::new(text).components().any(|part| part == Component::ParentDir) && !text.contains('\0');
    if is_remote || (Path::new(text).is_absolute() && is_plain) {
        return Ok(text.to_owned());
    }
    let hint = "write an absolute path without .., or s3://bucket/prefix";
    Err(unwished(ErrorKind::Usage, format!("{:?} is no place for a repository", Source::shown(text)), hint))
}

async fn look_at(copal: &Copal, name: &FolderName, url: &str) -> Result<(), Refusal> {
    let wrong = |error: CopalError| {
        let mut about = CopalError::new(error.kind(), format!("the database {name}: {error}"));
        if let Some(hint) = error.hint() {
            about = about.with_hint(hint);
        }
        Refusal::Wish(about.because(error))
    };
    let source = Source::parse(url).map_err(|error| wrong(CopalError::new(ErrorKind::Usage, error.to_string())))?;
    let identified = tokio::time::timeout(LOOK, copal.identify(url)).await;
    let unanswered = |_| CopalError::new(ErrorKind::Unavailable, format!("{source} does not answer"));
    let identified = identified.map_err(unanswered).and_then(|identified| identified).map_err(wrong)?;
    // What is relative would be relative to the configuration, which is not where it was found.
    if identified.is_file && !source.file_path().is_absolute() {
        let error = CopalError::new(ErrorKind::Usage, format!("{source} is no absolute path"));
        return Err(wrong(error.with_hint("write the whole path")));
    }
    Ok(())
}

/// Writes the passphrase beside the configuration, into a file of its own.
fn keep_passphrase(undo: &mut Undo, folder: &Path, passphrase: &Secret) -> io::Result<PathBuf> {
    let mut number = 1;
    loop {
        let name = if number == 1 { "passphrase".to_owned() } else { format!("passphrase-{number}") };
        let file = folder.join(name);
        match undo.write_secret(&file, passphrase) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < MOST_NAMES => number += 1,
            done => return done.map(|()| file),
        }
    }
}

/// Makes the first token, for the admin.
fn make_token(undo: &mut Undo, loaded: &Loaded) -> Result<Secret, Refusal> {
    let failed = |error: TokenError| {
        Refusal::Failed(CopalError::new(ErrorKind::Failed, "no token could be made").because(error))
    };
    let Some(path) = loaded.tokens_file() else {
        return Err(Refusal::Failed(CopalError::new(ErrorKind::Failed, "there is no state folder for the token")));
    };
    undo.file_is_made(&path);
    undo.file_is_made(&TokenFile::lock_of(&path));
    let file = TokenFile::new(path);
    let now = Timestamp::now();
    let created = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let mut number = 1;
    loop {
        let name = if number == 1 { "admin".to_owned() } else { format!("admin-{number}") };
        match file.add(&name, Role::Admin, created) {
            Ok(token) => {
                undo.token_was_made(file, name);
                return Ok(token);
            }
            Err(TokenError::Exists { .. }) if number < MOST_NAMES => number += 1,
            Err(error) => return Err(failed(error)),
        }
    }
}

#[cfg(test)]
mod tests;
