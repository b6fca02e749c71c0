//! Whether a state that a program knows is still the newest that the repository has.

use copal_core::{FolderName, Follows};
use copal_repository::{Repository, RepositoryError, RepositoryErrorKind};

use super::Copal;
use crate::{ErrorKind, JournalEnd, Result};

impl Copal {
    /// Whether `end`, the state that was saved last, is the newest of the repository that is open. False if its backup cannot be read, or is
    /// not there any more. Errors: storage errors; no lease is taken.
    pub async fn is_newest(&self, database: &str, end: &JournalEnd) -> Result<bool> {
        let subject = self.subject(database)?;
        let repository = match self.repository().await {
            Ok(repository) => repository,
            // The backup that follows creates it, or says that it is missing.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        match is_end(repository, &subject.name, &end.follows).await {
            Ok(is_newest) => Ok(is_newest),
            Err(error) if error.is_damage() => Ok(false),
            Err(error) if matches!(error.kind(), RepositoryErrorKind::Pruned | RepositoryErrorKind::NotFound) => {
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }
}

async fn is_end(
    repository: &Repository,
    folder: &FolderName,
    follows: &Follows,
) -> std::result::Result<bool, RepositoryError> {
    let Some(stored) = repository.database(folder).await? else { return Ok(false) };
    let catalog = repository.catalog(&stored.name).await?;
    if catalog.newest() != Some(&follows.base) {
        return Ok(false);
    }
    // Ids grow, so all segments behind the newest backup are its own.
    let segments = catalog.segments.keys().filter(|id| **id > follows.base).count();
    if segments as u64 != follows.sequence {
        return Ok(false);
    }
    let manifest = repository.manifest(&stored, &follows.base).await?;
    Ok(repository.journal(&stored, &manifest).await?.end() == *follows)
}
