//! The wraps of the repository's key.

use copal_repository::WrapKind;

use super::{Copal, KeyChange};
use crate::{CopalError, ErrorKind, KeyInfo, Result};

impl Copal {
    /// Lists the wraps of the repository's key.
    pub async fn keys(&self) -> Result<Vec<KeyInfo>> {
        let keys = self.encryption().await?;
        keys.ok_or_else(|| {
            let url = self.repository_url();
            CopalError::new(ErrorKind::Usage, format!("the repository at {url} is not encrypted, so it has no keys"))
        })
    }

    /// The wraps of the repository's key; `None` if it is not encrypted.
    pub async fn encryption(&self) -> Result<Option<Vec<KeyInfo>>> {
        let repository = self.repository().await?;
        if !repository.is_encrypted() {
            return Ok(None);
        }
        let wraps = repository.wraps().await?;
        let kind = |kind| match kind {
            Some(WrapKind::Passphrase) => "passphrase",
            Some(WrapKind::RecoveryKey) => "recovery-key",
            None => "damaged",
        };
        let info = |w: copal_repository::Wrap| KeyInfo {
            id: w.id,
            kind: kind(w.kind).to_owned(),
            created: w.created,
            in_use: w.in_use,
        };
        Ok(Some(wraps.into_iter().map(info).collect()))
    }

    /// Adds, changes or removes a wrap; gives what there is afterwards.
    pub async fn change_keys(&self, change: KeyChange) -> Result<Vec<KeyInfo>> {
        let repository = self.repository().await?;
        match change {
            KeyChange::AddPassphrase(passphrase) => {
                require_text(passphrase.reveal())?;
                repository.add_passphrase(&passphrase).await?;
            }
            KeyChange::AddRecipient(recipient) => {
                repository.add_recipient(&recipient).await?;
            }
            KeyChange::ChangePassphrase(passphrase) => {
                require_text(passphrase.reveal())?;
                repository.change_passphrase(&passphrase).await?;
            }
            KeyChange::Remove(id) => repository.remove_wrap(&id).await?,
        }
        self.keys().await
    }
}

fn require_text(passphrase: &str) -> Result<()> {
    if passphrase.is_empty() { Err(CopalError::new(ErrorKind::Passphrase, "the passphrase is empty")) } else { Ok(()) }
}
