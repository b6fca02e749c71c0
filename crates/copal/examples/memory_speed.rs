//! How fast a store in memory is saved into an encrypted local repository, and how long its writers wait: one line of JSON.
//!
//! memory_speed FOLDER [ROWS [RUNS]]; FOLDER is made and has to be removed by the caller. `bench/run_memory.py` prints a table of it.

// A program for a terminal; a panic is how it fails.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use copal::memory::{MemoryStore, Table};
use copal::{BackupManager, Copal, InitOptions, PassphraseSource, RestoreOptions, Saved, Secret, Settings};
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
struct User {
    id: u64,
    name: String,
    email: String,
    score: f64,
    active: bool,
}

fn user(id: u64, score: f64) -> User {
    let (name, email) = (format!("user {id:07}"), format!("u{id:07}@example.org"));
    User { id, name, email, score, active: id.is_multiple_of(3) }
}

/// One kind of save, measured several times.
#[derive(Default, Serialize)]
struct Measured {
    /// Seconds from the call until it is saved.
    seconds: Vec<f64>,
    /// The longest time that an insert beside it took, in milliseconds.
    longest_insert_ms: Vec<f64>,
    /// How long the view held writers up, in milliseconds.
    held_ms: Vec<f64>,
    added_bytes: Vec<u64>,
}

#[derive(Serialize)]
struct Report {
    rows: u64,
    full: Measured,
    /// Another full backup, of which the repository has nearly all.
    full_again: Measured,
    delta_of_1000: Measured,
    /// Seconds to restore the newest state: the full backup and its journal.
    restore_seconds: f64,
}

fn copal(folder: &Path) -> Copal {
    let repository = folder.join("repository");
    Copal::new(Settings {
        state: Some(folder.join("state")),
        passphrase: PassphraseSource::Known(Secret::new("a passphrase")),
        ..Settings::new(repository.to_str().unwrap())
    })
}

/// Saves while another thread inserts into a table of its own, and in the table that is saved.
async fn measure(manager: &BackupManager, table: &Table<u64, User>, full: bool, into: &mut Measured) {
    let (stop, writer) = (Arc::new(AtomicBool::new(false)), table.clone());
    let is_over = Arc::clone(&stop);
    let inserts = std::thread::spawn(move || {
        let (mut longest, mut id) = (Duration::ZERO, 1 << 40);
        while !is_over.load(Ordering::SeqCst) {
            let began = Instant::now();
            writer.upsert(id, user(id, 0.5)).unwrap();
            longest = longest.max(began.elapsed());
            id += 1;
            std::thread::sleep(Duration::from_micros(200));
        }
        longest
    });
    let began = Instant::now();
    let saved = if full { manager.backup_full().await } else { manager.backup_delta().await };
    let seconds = began.elapsed().as_secs_f64();
    stop.store(true, Ordering::SeqCst);
    let longest = inserts.join().unwrap();
    let added = match saved.unwrap() {
        Saved::Full(outcome) => outcome.backup.added_bytes,
        Saved::Delta(outcome) => outcome.segment.added_bytes,
        Saved::Unchanged => 0,
    };
    into.seconds.push(seconds);
    into.longest_insert_ms.push(longest.as_secs_f64() * 1e3);
    into.held_ms.push(manager.last_hold().unwrap_or_default().as_secs_f64() * 1e3);
    into.added_bytes.push(added);
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let folder = Path::new(arguments.first().expect("memory_speed FOLDER [ROWS [RUNS]]"));
    let number = |at: usize, default: u64| arguments.get(at).map_or(default, |text| text.parse().unwrap());
    let (rows, runs) = (number(1, 1_000_000), number(2, 3));
    let (mut full, mut full_again, mut delta) = (Measured::default(), Measured::default(), Measured::default());
    let mut restore_seconds = 0.0;
    for run in 0..runs {
        let folder = folder.join(run.to_string());
        std::fs::create_dir_all(&folder).unwrap();
        let copal = copal(&folder);
        copal.init(InitOptions { encrypt: true, ..InitOptions::default() }).await.unwrap();
        let store = MemoryStore::new();
        let table: Table<u64, User> = store.table("users").unwrap();
        (0..rows).for_each(|id| table.insert(id, user(id, id as f64 / 7.0)).unwrap());
        let registered = copal.register("users", store.clone()).unwrap();
        let manager = BackupManager::builder(copal.clone(), registered.source()).incremental(true).build();
        measure(&manager, &table, true, &mut full).await;
        for number in 0..3 {
            let step = (rows / 1000).max(1);
            (0..rows).step_by(usize::try_from(step).unwrap()).for_each(|id| {
                table.upsert(id, user(id, number as f64)).unwrap();
            });
            measure(&manager, &table, false, &mut delta).await;
        }
        let other = self::copal(&folder);
        let restored = MemoryStore::new();
        let _registered = other.register("users", restored.clone()).unwrap();
        let began = Instant::now();
        other.restore("memory:users", RestoreOptions::default(), &copal::Context::silent()).await.unwrap();
        restore_seconds = began.elapsed().as_secs_f64();
        measure(&manager, &table, true, &mut full_again).await;
        drop(manager);
        std::fs::remove_dir_all(&folder).unwrap();
    }
    let report = Report { rows, full, full_again, delta_of_1000: delta, restore_seconds };
    println!("{}", serde_json::to_string(&report).unwrap());
}
