//! Makes an encrypted repository with many backups of one small file, for benchmarks. The passphrase is `COPAL_PASSPHRASE`.

use std::collections::HashSet;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use copal_core::{Context, DatabaseRecord, PageFileSpec, Secret, Sink};
use copal_repository::{BackupFacts, Repository, RepositoryOptions, WriteOptions};
use copal_storage::{MemoryStorage, Storage};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(folder), Some(count)) = (arguments.next(), arguments.next()) else {
        return Err("usage: many_backups FOLDER COUNT".into());
    };
    let passphrase = Secret::new(std::env::var("COPAL_PASSPHRASE")?);
    // Made in memory and written out: ten thousand durable backups take too long to wait for.
    let memory = MemoryStorage::new();
    let storage = Arc::new(memory.clone());
    let repository = Repository::create(storage, Some(&passphrase), &[], RepositoryOptions::default()).await?;
    let record = DatabaseRecord {
        name: "many".into(),
        source: "sqlite:/many.db".into(),
        engine: "sqlite".into(),
        created: jiff::Timestamp::now(),
    };
    let database = repository.create_database(&"many".parse()?, &record).await?;
    let context = Context::silent();
    for i in 0..count.parse::<u32>()? {
        let options = WriteOptions { workers: Some(1), ..WriteOptions::default() };
        let (session, mut sink) = repository.begin_backup(&database, &options, &context).await?;
        let sink = tokio::task::spawn_blocking(move || -> Result<_, Box<dyn Error + Send + Sync>> {
            let spec = PageFileSpec { name: "main.db".into(), page_size: 4096, head_length: 0 };
            let file = sink.begin(&spec)?;
            sink.pages(file, 0, &[i.to_le_bytes().repeat(1024), vec![7; 8192]].concat())?;
            sink.finish(file, 12288, &[])?;
            Ok(sink)
        });
        let facts = BackupFacts { engine: "sqlite".into(), source: record.source.clone(), ..BackupFacts::default() };
        let newest = session.commit(sink.await??, facts, &context).await?.manifest.header;
        if i % 100 == 99 {
            write_out(&memory, folder.as_ref())?;
            // Every backup lists those before it: only what the next one needs stays in memory.
            let packs: HashSet<&str> = newest.packs.iter().map(|(pack, _)| pack.as_str()).collect();
            for path in memory.contents().into_keys() {
                let name = path.file_name();
                let is_old = path.as_str().contains("/backups/") && name != newest.backup.as_str()
                    || path.as_str().contains("/packs/") && !packs.contains(name);
                if is_old {
                    memory.delete(&path).await?;
                }
            }
        }
    }
    write_out(&memory, folder.as_ref())
}

fn write_out(memory: &MemoryStorage, folder: &Path) -> Result<(), Box<dyn Error + Send + Sync>> {
    for (path, bytes) in memory.contents() {
        let target = folder.join(path.as_str());
        std::fs::create_dir_all(target.parent().ok_or("no folder")?)?;
        std::fs::write(target, bytes)?;
    }
    Ok(())
}
