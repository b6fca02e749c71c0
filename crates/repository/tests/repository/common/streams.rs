//! Backups of streams, and what comes back.

use std::sync::Mutex;

use copal_core::{AnyError, Content, Context, PageFileSpec, Sink};
use copal_repository::{BackupFacts, Database, Manifest, Repository, RepositoryError, WriteOptions};

pub use super::Push;
use super::Target;

/// Gives a stream to a sink in parts of this size.
pub fn push_stream(sink: &mut dyn Sink, name: &str, bytes: &[u8], part: usize) -> Result<(), AnyError> {
    let stream = sink.begin_stream(name)?;
    for part in bytes.chunks(part) {
        sink.append(stream, part)?;
    }
    sink.finish_stream(stream)
}

/// Gives a page file of pages of 4 KiB to a sink.
pub fn push_pages(sink: &mut dyn Sink, name: &str, bytes: &[u8]) -> Result<(), AnyError> {
    let file = sink.begin(&PageFileSpec { name: name.into(), page_size: 4096, head_length: 0 })?;
    sink.pages(file, 0, bytes)?;
    sink.finish(file, bytes.len() as u64, &[])
}

pub fn streams(streams: &[(&str, &[u8])]) -> Push {
    let streams: Vec<_> = streams.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect();
    Box::new(move |sink| streams.iter().try_for_each(|(name, bytes)| push_stream(sink, name, bytes, 100_000)))
}

pub async fn backup_pushed(
    repository: &Repository,
    database: &Database,
    options: &WriteOptions,
    push: Push,
) -> Result<Manifest, RepositoryError> {
    let (facts, context) = (BackupFacts::default(), Context::silent());
    super::backup_pushed(repository, database, options, facts, push, &context).await.map(|made| made.manifest)
}

/// The bytes of a stream, which come the same in order and by offsets; an error is the same both ways, too.
pub async fn read_stream(
    repository: &Repository,
    database: &Database,
    manifest: &Manifest,
    name: &str,
) -> Result<Vec<u8>, RepositoryError> {
    let content = repository.content(database, manifest.clone());
    let name = name.to_owned();
    tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        let target = Target(Mutex::default());
        let in_order = content.write_stream(&name, &mut bytes, &Context::silent());
        let by_offset = content.write_file(&name, &target, &Context::silent());
        assert_eq!(in_order.is_ok(), by_offset.is_ok());
        assert!(bytes == target.0.into_inner().unwrap());
        in_order.map(|()| bytes).map_err(|e| *e.downcast::<RepositoryError>().unwrap())
    })
    .await
    .unwrap()
}
