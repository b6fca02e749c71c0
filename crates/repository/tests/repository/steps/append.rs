//! Actors that append to the journal, and what must be in it.

use copal_core::{BackupId, Context, Follows};
use copal_repository::{
    Database, Manifest, Repository, RepositoryError, RepositoryErrorKind, SegmentFacts, WriteOptions,
};
use jiff::Timestamp;

use super::{Contents, Told, World, noon};
use crate::common::streams::push_stream;
use crate::common::{file_bytes, journal};

pub(super) fn facts(captured_at: Timestamp) -> SegmentFacts {
    SegmentFacts { engine: "bytes".into(), captured_at, ..SegmentFacts::default() }
}

/// Appends to the state that somebody was told of last; if that is not the end any more, to the end that is there.
pub(super) async fn append(
    number: usize,
    repository: &Repository,
    database: &Database,
    contents: &Contents,
    newest: &Told,
) -> Result<BackupId, RepositoryError> {
    let told = newest.lock().unwrap().clone();
    match append_to(number, repository, database, &told, contents, newest).await {
        Err(error) if error.kind() == RepositoryErrorKind::Gap => {
            let catalog = repository.catalog(&database.name).await?;
            let base = repository.manifest(database, catalog.newest().unwrap()).await?;
            let end = repository.journal(database, &base).await?.end();
            append_to(number, repository, database, &end, contents, newest).await
        }
        other => other,
    }
}

async fn append_to(
    number: usize,
    repository: &Repository,
    database: &Database,
    follows: &Follows,
    contents: &Contents,
    newest: &Told,
) -> Result<BackupId, RepositoryError> {
    let context = Context::silent();
    let options = WriteOptions { workers: Some(1), uploads: 1, ..WriteOptions::default() };
    let bytes = file_bytes(200 + number as u64, 500);
    let (session, mut sink) = repository.begin_segment(database, follows, &options, &context).await?;
    let id = session.id().clone();
    contents.lock().unwrap().insert(id.clone(), bytes.clone());
    let pushing = tokio::task::spawn_blocking(move || (push_stream(&mut sink, "delta", &bytes, 500), sink));
    let (pushed, sink) = pushing.await.unwrap();
    if let Err(error) = pushed {
        session.abandon(Some(sink)).await;
        return Err(*error.downcast::<RepositoryError>().unwrap());
    }
    let appended = session.commit(sink, facts(noon()), &context).await?;
    *newest.lock().unwrap() = appended.end;
    Ok(id)
}

impl World {
    /// The journal of a backup is a chain, and every segment of it gives its bytes.
    pub(super) async fn check_journal(&self, repository: &Repository, base: &Manifest) -> Result<(), String> {
        let (database, backup) = (&self.start.database, &base.header.backup);
        let found = repository.journal(database, base).await.map_err(|e| format!("the journal of {backup}: {e:?}"))?;
        let read = journal::read_segments(repository, database, base, &found).await;
        let read = read.map_err(|e| format!("the journal of {backup} does not restore: {e:?}"))?;
        for (segment, files) in found.segments.iter().zip(read) {
            let wanted = self.contents.lock().unwrap().get(segment.id()).cloned();
            if Some(files.concat()) != wanted {
                return Err(format!("segment {} restores to something else", segment.id()));
            }
        }
        Ok(())
    }
}
