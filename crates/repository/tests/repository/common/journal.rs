//! Segments of a journal, and what comes back.

use copal_core::{Content, Context, Follows};
use copal_repository::{
    CommittedSegment, Database, Journal, Manifest, Repository, RepositoryError, SegmentFacts, WriteOptions,
};

use super::Push;
use super::streams::streams;

/// What was captured at this second.
pub fn facts_at(second: i64) -> SegmentFacts {
    let captured_at = jiff::Timestamp::from_second(second).unwrap();
    SegmentFacts { engine: "bytes".into(), captured_at, position: Some(second.to_string()), ..Default::default() }
}

pub async fn append_pushed(
    repository: &Repository,
    database: &Database,
    follows: &Follows,
    facts: SegmentFacts,
    push: Push,
    context: &Context,
) -> Result<CommittedSegment, RepositoryError> {
    let options = WriteOptions { workers: Some(1), ..WriteOptions::default() };
    let (session, mut sink) = repository.begin_segment(database, follows, &options, context).await?;
    let pushed = tokio::task::spawn_blocking(move || (push(&mut sink), sink)).await.unwrap();
    match pushed {
        (Ok(()), sink) => session.commit(sink, facts, context).await,
        (Err(error), sink) => {
            session.abandon(Some(sink)).await;
            Err(*error.downcast::<RepositoryError>().unwrap())
        }
    }
}

/// Appends a segment of one stream, `delta`.
pub async fn append(
    repository: &Repository,
    database: &Database,
    follows: &Follows,
    bytes: &[u8],
) -> Result<CommittedSegment, RepositoryError> {
    let facts = SegmentFacts { captured_at: jiff::Timestamp::now(), ..facts_at(0) };
    let push = streams(&[("delta", bytes)]);
    append_pushed(repository, database, follows, facts, push, &Context::silent()).await
}

/// The bytes of every stream of every segment, in order.
pub async fn read_journal(
    repository: &Repository,
    database: &Database,
    base: &Manifest,
) -> Result<Vec<Vec<Vec<u8>>>, RepositoryError> {
    let journal = repository.journal(database, base).await?;
    read_segments(repository, database, base, &journal).await
}

pub async fn read_segments(
    repository: &Repository,
    database: &Database,
    base: &Manifest,
    journal: &Journal,
) -> Result<Vec<Vec<Vec<u8>>>, RepositoryError> {
    let content = repository.content_with(database, base.clone(), &journal.segments);
    let read = move || -> Result<_, copal_core::AnyError> {
        let mut all = Vec::new();
        for segment in content.segments() {
            let mut files = Vec::new();
            for file in segment.files() {
                let mut bytes = Vec::new();
                segment.write_stream(file.name(), &mut bytes, &Context::silent())?;
                files.push(bytes);
            }
            all.push(files);
        }
        Ok(all)
    };
    tokio::task::spawn_blocking(read).await.unwrap().map_err(|e| *e.downcast::<RepositoryError>().unwrap())
}
