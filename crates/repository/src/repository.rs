//! Creating and opening a repository, and the wraps of its key.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use copal_core::{RepositoryId, Secret};
use copal_storage::{Clock, ObjectPath, Storage, StorageErrorKind, SystemClock};

use crate::config::{Config, Encryption, tampered};
use crate::error::{RepositoryError, RepositoryErrorKind, Result};
use crate::keys::Keys;
use crate::layout;
use crate::operation::Ground;
use crate::state::{KnownRepository, StateFolder};
use crate::wrap::{self, Opened, Unlock, WrapKind};

/// How a repository is worked with.
#[derive(Clone, Debug)]
pub struct RepositoryOptions {
    /// Where this machine remembers things.
    pub state: StateFolder,
    /// A lease that stands still for this long may be taken over.
    pub lease_ttl: Duration,
    /// The clocks; tests bring their own.
    pub clock: Arc<dyn Clock>,
}

impl Default for RepositoryOptions {
    fn default() -> Self {
        Self { state: StateFolder::none(), lease_ttl: Duration::from_secs(60), clock: Arc::new(SystemClock::new()) }
    }
}

/// What can be said about a repository without its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// Its id.
    pub id: RepositoryId,
    /// Whether it needs a passphrase or identity.
    pub is_encrypted: bool,
}

/// A wrap of the repository key, as a listing tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrap {
    /// Its id.
    pub id: String,
    /// What it is encrypted to; `None` if that cannot be told.
    pub kind: Option<WrapKind>,
    /// When it was added, by the store's clock.
    pub created: jiff::Timestamp,
    /// Whether it is the one that opened the repository.
    pub in_use: bool,
}

/// An open repository.
#[derive(Clone, Debug)]
pub struct Repository {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) keys: Keys,
    pub(crate) options: RepositoryOptions,
    id: RepositoryId,
    opened_with: Option<String>,
}

impl Repository {
    /// Looks whether there is a repository. `None`: there is none.
    pub async fn look(storage: &Arc<dyn Storage>) -> Result<Option<Look>> {
        match storage.get(&layout::config()).await {
            Ok(bytes) => {
                let config = Config::parse(&bytes)?;
                Ok(Some(Look { id: config.repository, is_encrypted: config.encryption != Encryption::None }))
            }
            Err(e) if e.kind() == StorageErrorKind::NotFound => require_nothing(storage).await.map(|()| None),
            Err(e) => Err(e.into()),
        }
    }

    /// Creates a repository. With a passphrase or recipients it is encrypted. Errors: `Exists`.
    pub async fn create(
        storage: Arc<dyn Storage>,
        passphrase: Option<&Secret>,
        recipients: &[String],
        options: RepositoryOptions,
    ) -> Result<Self> {
        let exists = || {
            RepositoryError::new(
                RepositoryErrorKind::Exists,
                format!("there is a repository at {} already", storage.url()),
            )
        };
        if Self::look(&storage).await?.is_some() {
            return Err(exists());
        }
        // Of an `init` that was killed, or of one that is under way at this moment and may yet be first.
        let leftovers = storage.list(&layout::keys()).await?;
        let is_encrypted = passphrase.is_some() || !recipients.is_empty();
        let (encryption, keys) =
            if is_encrypted { (Encryption::Aes256Gcm, Keys::random()) } else { (Encryption::None, Keys::none()) };
        let id = RepositoryId::random();
        let mut wraps = Vec::new();
        if let Some(passphrase) = passphrase {
            wraps.push(wrap::to_passphrase(&keys, &id, passphrase)?);
        }
        for recipient in recipients {
            wraps.push(wrap::to_recipient(&keys, &id, recipient)?);
        }
        let mut written = Vec::new();
        for wrap in wraps {
            written.push(write_wrap(&*storage, wrap).await?);
        }
        let config = Config::new(id, encryption, options.clock.wall(), &keys);
        let json = serde_json::to_vec_pretty(&config)
            .map_err(|e| RepositoryError::new(RepositoryErrorKind::Usage, "copal.json cannot be written").because(e))?;
        write_readme(&*storage).await?;
        if let Err(error) = storage.create(&layout::config(), json.into()).await {
            if error.kind() == StorageErrorKind::AlreadyExists {
                for id in &written {
                    let _ = storage.delete(&layout::key(id)).await;
                }
                return Err(exists());
            }
            return Err(error.into());
        }
        // Only now is it certain that these wrap no key that matters.
        for leftover in leftovers {
            storage.delete(&leftover.path).await?;
        }
        let repository = Self { storage, keys, options, id, opened_with: written.into_iter().next() };
        repository.remember(encryption);
        Ok(repository)
    }

    /// Opens a repository. `unlock` is a passphrase or identity if there is one.
    ///
    /// Errors: `NotFound`; `Passphrase` if none fits; `Tampering` if encryption was switched off or the MAC is wrong.
    pub async fn open(storage: Arc<dyn Storage>, unlock: Option<&Unlock>, options: RepositoryOptions) -> Result<Self> {
        let bytes = match storage.get(&layout::config()).await {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == StorageErrorKind::NotFound => {
                require_nothing(&storage).await?;
                let message = format!("there is no repository at {}", storage.url());
                return Err(
                    RepositoryError::new(RepositoryErrorKind::NotFound, message).hint("create one with: copal init")
                );
            }
            Err(e) => return Err(e.into()),
        };
        let config = Config::parse(&bytes)?;
        let wraps = storage.list(&layout::keys()).await?;
        let (keys, opened_with) = match config.encryption {
            Encryption::None => {
                let known = [storage.url(), &config.repository.to_string()].map(|key| options.state.known(key));
                if known.into_iter().flatten().any(|k| k.encryption != Encryption::None.as_str()) {
                    return Err(tampered("this machine knows the repository as encrypted, and it says it is not"));
                }
                if !wraps.is_empty() {
                    return Err(tampered("it says that the repository is not encrypted, but there are keys"));
                }
                if unlock.is_some() {
                    let message = "a passphrase is configured, but the repository is not encrypted";
                    return Err(RepositoryError::new(RepositoryErrorKind::Usage, message).hint(
                        "if that is as you want it, do not give a passphrase; else somebody may have replaced the repository",
                    ));
                }
                (Keys::none(), None)
            }
            Encryption::Aes256Gcm => {
                let (keys, id) = unwrap_key(&storage, &wraps, &config, unlock).await?;
                config.authenticate(&keys)?;
                (keys, Some(id))
            }
        };
        let repository = Self { storage, keys, options, id: config.repository, opened_with };
        repository.remember(config.encryption);
        Ok(repository)
    }

    fn remember(&self, encryption: Encryption) {
        let known = KnownRepository { repository: self.id, encryption: encryption.as_str().into() };
        self.options.state.remember(self.storage.url(), &known);
    }

    /// Its id, which copies of it share.
    pub fn id(&self) -> &RepositoryId {
        &self.id
    }

    /// Whether it is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.keys.is_encrypted()
    }

    /// Where it lies, without secrets.
    pub fn url(&self) -> &str {
        self.storage.url()
    }

    /// The storage underneath.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    pub(crate) fn ground(&self) -> Ground {
        Ground {
            storage: Arc::clone(&self.storage),
            clock: Arc::clone(&self.options.clock),
            ttl: self.options.lease_ttl,
        }
    }

    /// Lists the wraps of the key.
    pub async fn wraps(&self) -> Result<Vec<Wrap>> {
        let mut wraps = Vec::new();
        for info in self.storage.list(&layout::keys()).await? {
            let Some(id) = wrap_id(&info.path) else { continue };
            let kind = if info.size as usize <= wrap::MAX_WRAP_BYTES {
                WrapKind::of(&self.storage.get(&info.path).await?)
            } else {
                None
            };
            let in_use = self.opened_with.as_deref() == Some(&id);
            wraps.push(Wrap { id, kind, created: info.modified, in_use });
        }
        Ok(wraps)
    }

    /// Adds a wrap for a passphrase; returns its id.
    pub async fn add_passphrase(&self, passphrase: &Secret) -> Result<String> {
        write_wrap(&*self.storage, wrap::to_passphrase(&self.keys, &self.id, passphrase)?).await
    }

    /// Adds a wrap for an age recipient; returns its id.
    pub async fn add_recipient(&self, recipient: &str) -> Result<String> {
        write_wrap(&*self.storage, wrap::to_recipient(&self.keys, &self.id, recipient)?).await
    }

    /// Adds a wrap for the new passphrase, then removes the one that opened the repository, unless that is a recovery
    /// key; returns the new id.
    pub async fn change_passphrase(&self, passphrase: &Secret) -> Result<String> {
        let used = self.wraps().await?.into_iter().find(|wrap| wrap.in_use && wrap.kind == Some(WrapKind::Passphrase));
        let added = self.add_passphrase(passphrase).await?;
        if let Some(old) = used {
            self.storage.delete(&layout::key(&old.id)).await?;
        }
        Ok(added)
    }

    /// Removes a wrap. Errors: `NotFound`; `Usage` for the last one, without which nobody could open the repository.
    pub async fn remove_wrap(&self, id: &str) -> Result<()> {
        let wraps = self.wraps().await?;
        if !wraps.iter().any(|w| w.id == id) {
            let message = format!("there is no key {id:?}");
            return Err(RepositoryError::new(RepositoryErrorKind::NotFound, message).hint("see: copal key list"));
        }
        // What is no wrap that anybody could open does not count.
        if !wraps.iter().any(|w| w.id != id && w.kind.is_some()) {
            let message = "this is the last key; without it nobody could open the repository";
            return Err(
                RepositoryError::new(RepositoryErrorKind::Usage, message).hint("add another one first: copal key add")
            );
        }
        Ok(self.storage.delete(&layout::key(id)).await?)
    }
}

/// Where databases are and `copal.json` is not, there is a damaged repository and not none.
async fn require_nothing(storage: &Arc<dyn Storage>) -> Result<()> {
    match storage.list_folders(Some(&layout::databases())).await {
        Ok(names) if names.is_empty() => Ok(()),
        Ok(_) => {
            let problem = format!("is missing, but there are databases: {} is a damaged repository", storage.url());
            Err(RepositoryError::damage(&layout::config(), problem)
                .hint("bring copal.json back from another copy; creating a new one would not open these backups"))
        }
        Err(e) if e.kind() == StorageErrorKind::NotFound && !e.is_storage_gone() => Ok(()),
        Err(e) => Err(e.into()),
    }
}

fn wrap_id(path: &ObjectPath) -> Option<String> {
    let id = path.file_name().strip_suffix(".age")?;
    (id.len() == 8 && id.bytes().all(|b| b.is_ascii_hexdigit())).then(|| id.to_owned())
}

async fn write_wrap(storage: &dyn Storage, wrap: Vec<u8>) -> Result<String> {
    let id = format!("{:08x}", rand::random::<u32>());
    storage.create(&layout::key(&id), wrap.into()).await?;
    Ok(id)
}

async fn write_readme(storage: &dyn Storage) -> Result<()> {
    match storage.create(&layout::readme(), Bytes::from_static(include_bytes!("readme.txt"))).await {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == StorageErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(e.into()),
    }
}

async fn unwrap_key(
    storage: &Arc<dyn Storage>,
    wraps: &[copal_storage::ObjectInfo],
    config: &Config,
    unlock: Option<&Unlock>,
) -> Result<(Keys, String)> {
    let Some(unlock) = unlock else {
        let message = format!("the repository at {} is encrypted and no passphrase was given", storage.url());
        return Err(RepositoryError::new(RepositoryErrorKind::Passphrase, message)
            .hint("set COPAL_PASSPHRASE or COPAL_PASSPHRASE_FILE, or passphrase_file in copal.toml"));
    };
    let wraps: Vec<_> = wraps.iter().filter_map(|info| Some((wrap_id(&info.path)?, info))).collect();
    if wraps.is_empty() {
        let error =
            RepositoryError::damage(&layout::keys(), "all keys are missing, without which nobody can read anything");
        return Err(error.hint("bring the folder keys back from another copy of the repository"));
    }
    let (mut candidates, mut other_repository) = (0, false);
    let mut damaged: Option<RepositoryError> = None;
    for (id, info) in wraps {
        let mut damage = |problem: &str| damaged = Some(RepositoryError::damage(&info.path, problem));
        if info.size as usize > wrap::MAX_WRAP_BYTES {
            damage("is no wrapped key: it is too large");
            continue;
        }
        let bytes = storage.get(&info.path).await?;
        match (WrapKind::of(&bytes), unlock) {
            (Some(WrapKind::Passphrase), Unlock::Passphrase(_))
            | (Some(WrapKind::RecoveryKey), Unlock::Identity(_)) => {}
            (Some(_), _) => continue,
            (None, _) => {
                damage(
                    "is no wrapped key: it is not an age file, or one for something that this program does not know",
                );
                continue;
            }
        }
        candidates += 1;
        let (repository, unlock) = (config.repository, unlock.clone());
        // scrypt takes a quarter of a second and 64 MiB: not on a thread that serves others.
        let opened = tokio::task::spawn_blocking(move || wrap::open(&bytes, &repository, &unlock));
        let failed = |e| RepositoryError::new(RepositoryErrorKind::Local, "a key could not be tried").because(e);
        match opened.await.map_err(failed)? {
            Opened::Keys(keys) => return Ok((keys, id)),
            Opened::Wrong => {}
            Opened::OtherRepository => other_repository = true,
            Opened::Damaged(problem) => damage(&format!("is damaged: {problem}")),
        }
    }
    if other_repository {
        return Err(tampered("the key that opens with this is another repository's; one of the two was exchanged"));
    }
    if let Some(error) = damaged {
        return Err(
            error.hint("no other key opens with this passphrase or identity; bring this one back, or use another")
        );
    }
    let (article, what, hint) = match unlock {
        Unlock::Passphrase(_) => {
            ("a", "passphrase", "is it the passphrase of another repository? a recovery key works too")
        }
        Unlock::Identity(_) => {
            ("an", "identity", "is it the recovery key of another repository? a passphrase works too")
        }
    };
    let message = match candidates {
        0 => format!("the repository at {} has no key for {article} {what}", storage.url()),
        _ => format!("this is not the {what} of the repository at {}", storage.url()),
    };
    Err(RepositoryError::new(RepositoryErrorKind::Passphrase, message).hint(hint))
}
