//! A program with a store in memory that is killed again and again: what it was told is saved is there when it starts again.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use copal::memory::{MemoryStore, Table};
use copal::{BackupManager, Context, Copal, ErrorKind, InitOptions, RestoreOptions};

use crate::home::{Home, settings};
use crate::rounds;

const FOLDER: &str = "COPAL_TEST_KILLED_FOLDER";

/// The rows are numbers from 0 without a gap, and each is its own double: so any state that was really there can be told.
async fn restored(folder: &Path) -> (Copal, MemoryStore, copal::memory::Registration, u64) {
    let mut settings = settings(folder);
    // What killed programs leave is taken over as soon as their death is seen; other machines would wait for this.
    settings.lease_ttl = Duration::from_secs(5);
    let copal = Copal::new(settings);
    let store = MemoryStore::new();
    let registered = copal.register("numbers", store.clone()).unwrap();
    match copal.restore("memory:numbers", RestoreOptions::default(), &Context::silent()).await {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => panic!("{error}: {:?}", error.causes()),
    }
    let table: Table<u64, u64> = store.table("numbers").unwrap();
    let snapshot = table.snapshot();
    for (expected, (number, double)) in snapshot.iter().enumerate() {
        assert_eq!((*number, *double), (expected as u64, expected as u64 * 2), "a state that was never there");
    }
    let count = snapshot.len() as u64;
    (copal, store, registered, count)
}

/// The program that is killed: goes on where it was, and says what is saved.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program_that_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let (copal, store, registered, mut count) = restored(Path::new(&folder)).await;
    let table: Table<u64, u64> = store.table("numbers").unwrap();
    let manager =
        BackupManager::builder(copal, registered.source()).incremental(true).max_deltas_before_full(5).build();
    say(&format!("restored {count}"));
    loop {
        for _ in 0..50 {
            table.insert(count, count * 2).unwrap();
            count += 1;
        }
        manager.backup_now().await.unwrap();
        say(&format!("saved {count}"));
    }
}

/// Tells the one who kills; whoever is gone needs nothing more.
fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "copal: {text}").and_then(|()| std::io::stdout().flush());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_acknowledged_is_lost() {
    let home = Home::new();
    Copal::new(home.settings()).init(InitOptions { encrypt: true, ..InitOptions::default() }).await.unwrap();
    let mut acknowledged = 0;
    for round in 0..rounds(6) {
        let folder = home.folder.path().to_owned();
        let saved = tokio::task::spawn_blocking(move || run_and_kill(&folder, round)).await.unwrap();
        let (.., count) = restored(home.folder.path()).await;
        assert!(count >= saved.max(acknowledged), "round {round}: {count} rows, {saved} were acknowledged");
        acknowledged = count;
    }
    assert!(acknowledged > 0);
}

/// Runs the program until it has said something so many times, kills it a little later, and returns what it said was saved.
fn run_and_kill(folder: &Path, round: u64) -> u64 {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "killed::the_program_that_is_killed", "--nocapture", "--test-threads=1"]);
    command.env(FOLDER, folder).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut saved, mut said) = (0, 0);
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut killer = None;
    for line in lines {
        let Some((_, text)) = line.split_once("copal: ") else { continue };
        said += 1;
        let (what, number) = text.split_once(' ').unwrap();
        if what == "saved" {
            saved = number.parse().unwrap();
        }
        if said == 2 + round % 8 && killer.is_none() {
            let pid = child.id().to_string();
            let pause = Duration::from_millis(round * 13 % 60);
            killer = Some(std::thread::spawn(move || {
                std::thread::sleep(pause);
                Command::new("kill").args(["-9", &pid]).status().unwrap();
            }));
        }
    }
    if let Some(killer) = killer {
        killer.join().unwrap();
    }
    let status = child.wait().unwrap();
    assert!(!status.success(), "it never ends by itself");
    assert!(said >= 2, "it got nowhere: {status}");
    saved
}
