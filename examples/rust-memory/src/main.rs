//! A service that keeps its sessions in memory, and has them again when it starts after a crash.
//!
//! Needs COPAL_PASSPHRASE. Every half second a visitor comes; Ctrl-C stops it, `kill -9` costs a second of visits at most.

use std::time::Duration;

use copal::memory::{MemoryStore, Table};
use copal::{BackupManager, Context, Copal, ErrorKind, InitOptions, Keep, PassphraseSource, RestoreOptions, Secret, Settings};
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
struct Session {
    user: String,
    visits: u64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let passphrase = PassphraseSource::Known(Secret::new(std::env::var("COPAL_PASSPHRASE")?));
    let copal = Copal::new(Settings { passphrase, ..Settings::new("./backups") });
    match copal.init(InitOptions { encrypt: true, ..InitOptions::default() }).await {
        Err(error) if error.kind() != ErrorKind::Exists => return Err(error.into()),
        _ => {}
    }

    let store = MemoryStore::new();
    let sessions: Table<u64, Session> = store.table("sessions")?;
    let registered = copal.register("sessions", store.clone())?;
    match copal.restore("memory:sessions", RestoreOptions::default(), &Context::silent()).await {
        Ok(restored) => println!("{} sessions of {}", sessions.len(), restored.backup.time),
        Err(error) if error.kind() == ErrorKind::NotFound => println!("no sessions yet"),
        Err(error) => return Err(error.into()),
    }

    let manager = BackupManager::builder(copal, registered.source())
        .backup_interval(Duration::from_secs(60))
        .min_backup_interval(Duration::from_secs(1))
        .incremental(true)
        .keep(Keep { last: Some(10), ..Keep::default() })
        .on_backup_failure(|error, failures| eprintln!("backup failed ({failures} in a row): {error}"))
        .build();
    manager.start()?;

    let mut clock = tokio::time::interval(Duration::from_millis(500));
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => break,
            _ = clock.tick() => {
                let id = sessions.len() as u64;
                sessions.upsert(id, Session { user: format!("user {id}"), visits: 1 })?;
                manager.notify_change();
                println!("{} sessions, {:?}", sessions.len(), manager.status());
            }
        }
    }
    manager.stop().await?;
    Ok(())
}
