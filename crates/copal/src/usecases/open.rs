//! Creating the repository, and opening it on first use.

use std::sync::Arc;

use copal_core::{Secret, Source};
use copal_repository::{Repository, RepositoryOptions, StateFolder, Unlock};
use copal_storage::{Storage, StorageErrorKind, StorageOptions, StorageUrl};

use super::{Copal, InitOptions};
use crate::{CopalError, ErrorKind, InitOutcome, PassphraseSource, Result};

impl Copal {
    /// Creates the repository. Errors: `Exists`; `Passphrase` if it shall be encrypted and there is neither passphrase nor recovery key.
    pub async fn init(&self, options: InitOptions) -> Result<InitOutcome> {
        let url = self.storage_url()?;
        if !options.encrypt && !options.recovery_keys.is_empty() {
            let message = "a recovery key makes no sense for a repository that is not encrypted";
            return Err(CopalError::new(ErrorKind::Usage, message));
        }
        // Refused before anything is created, and before anybody is asked for a passphrase.
        if let Ok(storage) = copal_storage::open(&url, &self.storage_options()).await
            && Repository::look(&storage).await?.is_some()
        {
            let message = format!("there is a repository at {} already", storage.url());
            return Err(CopalError::new(ErrorKind::Exists, message).with_hint("see what is in it with: copal list"));
        }
        let passphrase = match (options.encrypt, self.passphrase("the new repository")?) {
            (false, _) => None,
            (true, None) if options.recovery_keys.is_empty() => {
                let message = "an encrypted repository needs a passphrase";
                return Err(CopalError::new(ErrorKind::Passphrase, message)
                    .with_hint("set COPAL_PASSPHRASE or COPAL_PASSPHRASE_FILE, or choose --no-encrypt"));
            }
            (true, passphrase) => passphrase,
        };
        let storage = copal_storage::create(&url, &self.storage_options()).await?;
        copal_storage::prove_conditional_writes(&*storage, &probe_folder()?).await?;
        let created =
            Repository::create(storage, passphrase.as_ref(), &options.recovery_keys, self.repository_options()).await?;
        let keys = if created.is_encrypted() {
            created.wraps().await?.into_iter().map(|w| w.id).collect()
        } else {
            Vec::new()
        };
        Ok(InitOutcome {
            repository: created.url().to_owned(),
            id: created.id().to_string(),
            encrypted: created.is_encrypted(),
            keys,
        })
    }

    /// Forgets a repository that was created here and is gone again.
    pub fn forget(&self, gone: &InitOutcome) {
        if let (Some(state), Ok(id)) = (&self.settings.state, gone.id.parse()) {
            StateFolder::at(state).forget(&gone.repository, &id);
        }
    }

    /// Opens the repository, to see that this can be done.
    pub async fn check_repository(&self) -> Result<()> {
        self.repository().await.map(drop)
    }

    /// Where the repository is, without secrets; it need not be there.
    pub fn repository_url(&self) -> String {
        self.storage_url().map_or_else(|_| Source::shown(&self.settings.repository), |url| url.to_string())
    }

    /// The repository, opened on first use.
    pub(super) async fn repository(&self) -> Result<&Repository> {
        self.repository.get_or_try_init(|| self.open(false)).await
    }

    /// The repository, which is created if it is the automatic local one and not there yet.
    pub(super) async fn repository_or_create(&self) -> Result<&Repository> {
        self.repository.get_or_try_init(|| self.open(self.settings.repository_is_default)).await
    }

    /// The same use cases, over the repository that is there now: somebody may have put another one in the place of the one
    /// that is open, and what would be sealed with the old one's key could not be read again.
    pub async fn current(&self) -> Result<Self> {
        let Some(open) = self.repository.get() else { return Ok(self.clone()) };
        match Repository::look(open.storage()).await? {
            Some(look) if look.id == *open.id() => Ok(self.clone()),
            _ => Ok(Self { repository: Arc::default(), ..self.clone() }),
        }
    }

    async fn open(&self, create: bool) -> Result<Repository> {
        let url = self.storage_url()?;
        let missing = || {
            let message = format!("there is no repository at {url}");
            let init = match self.settings.repository_is_default {
                true => "make a first backup with: copal backup FILE".to_owned(),
                false => format!("create it with: copal init --repository {url}"),
            };
            CopalError::new(ErrorKind::NotFound, message).with_hint(init)
        };
        let storage = match copal_storage::open(&url, &self.storage_options()).await {
            Ok(storage) => storage,
            Err(e) if e.kind() == StorageErrorKind::NotFound && create => {
                copal_storage::create(&url, &self.storage_options()).await?
            }
            Err(e) if e.kind() == StorageErrorKind::NotFound => return Err(missing().because(e)),
            Err(e) => return Err(e.into()),
        };
        match Repository::look(&storage).await? {
            None if create => {
                let passphrase = match &self.settings.passphrase {
                    PassphraseSource::Known(passphrase) => Some(passphrase.clone()),
                    _ => None,
                };
                Ok(Repository::create(storage, passphrase.as_ref(), &[], self.repository_options()).await?)
            }
            None => Err(missing()),
            Some(look) => {
                let unlock = self.unlock(&storage, look.is_encrypted)?;
                Ok(Repository::open(storage, unlock.as_ref(), self.repository_options()).await?)
            }
        }
    }

    /// What opens the repository. Asks only for an encrypted one.
    fn unlock(&self, storage: &Arc<dyn Storage>, is_encrypted: bool) -> Result<Option<Unlock>> {
        if let Some(identity) = &self.settings.identity {
            return Ok(Some(Unlock::Identity(identity.clone())));
        }
        if !is_encrypted && !self.settings.passphrase.is_known() {
            return Ok(None);
        }
        Ok(self.passphrase(&format!("the repository at {}", storage.url()))?.map(Unlock::Passphrase))
    }

    fn passphrase(&self, purpose: &str) -> Result<Option<Secret>> {
        let passphrase = match &self.settings.passphrase {
            PassphraseSource::None => return Ok(None),
            PassphraseSource::Known(passphrase) => passphrase.clone(),
            PassphraseSource::Ask(ask) => ask(purpose)?,
        };
        if passphrase.reveal().is_empty() {
            return Err(CopalError::new(ErrorKind::Passphrase, "the passphrase is empty"));
        }
        Ok(Some(passphrase))
    }

    pub(super) fn storage_url(&self) -> Result<StorageUrl> {
        Ok(self.settings.repository.parse()?)
    }

    pub(super) fn storage_options(&self) -> StorageOptions {
        StorageOptions { s3: self.settings.s3.clone(), ..StorageOptions::default() }
    }

    fn repository_options(&self) -> RepositoryOptions {
        RepositoryOptions {
            state: self.settings.state.as_ref().map_or_else(StateFolder::none, StateFolder::at),
            lease_ttl: self.settings.lease_ttl,
            ..RepositoryOptions::default()
        }
    }
}

/// Where it is tried whether the store honours conditional writes: leases are what may always be written and deleted.
pub(super) fn probe_folder() -> Result<copal_storage::ObjectPath> {
    copal_storage::ObjectPath::parse("leases")
        .map_err(|e| CopalError::new(ErrorKind::Failed, "no folder to try writes in").because(e))
}
