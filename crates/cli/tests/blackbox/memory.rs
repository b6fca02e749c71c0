//! Backups that a program made of its store in memory, and their journal, without that program.

use copal::memory::{MemoryStore, Table};
use copal::{BackupManager, Copal, InitOptions, Saved, Settings};

use crate::home::{Home, assert_page};

/// What a program leaves: a full backup with two segments, another one with one; answers the time behind the first segment.
fn leave_backups(home: &Home) -> String {
    let repository = home.path("data/copal/repository");
    std::fs::create_dir_all(&repository).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let copal = Copal::new(Settings::new(repository.to_str().unwrap()));
        copal.init(InitOptions::default()).await.unwrap();
        let store = MemoryStore::new();
        let table: Table<u64, String> = store.table("users").unwrap();
        let registered = copal.register("sessions", store.clone()).unwrap();
        let manager = BackupManager::builder(copal, registered.source()).incremental(true).build();
        let mut moment = String::new();
        for n in 0..5 {
            table.insert(n, format!("user {n}")).unwrap();
            let saved = if n == 3 { manager.backup_full().await } else { manager.backup_now().await };
            match saved.unwrap() {
                Saved::Delta(delta) if n == 1 => moment = delta.segment.time.to_string(),
                _ => {}
            }
        }
        moment
    })
}

#[test]
fn a_store_in_memory_is_listed_and_restored_as_an_archive() {
    let home = Home::new();
    let moment = leave_backups(&home);
    assert_page!("memory_list", home.good(&["list"]));
    assert_page!("memory_show", home.good(&["show", "sessions"]));
    assert_page!("memory_verify", home.good(&["verify", "sessions", "--backup", "all", "--drill"]));
    let listed = home.good(&["list", "sessions", "--json"]).json();
    let segments = |at: usize| listed["results"][at]["journal"].as_array().unwrap().clone();
    assert_eq!((segments(0).len(), segments(1).len()), (2, 1));
    assert_page!("memory_restore", home.good(&["restore", "sessions", "--to", "file:newest"]));
    home.good(&["restore", "memory:sessions", "--at", &moment, "--to", "file:then"]);
    let segment = segments(0)[1]["id"].as_str().unwrap().to_owned();
    home.good(&["restore", "sessions", "--backup", &segment, "--to", "file:segment"]);
    let rows = |folder: &str| -> usize {
        let files = std::fs::read_dir(home.path(folder)).unwrap().map(|entry| entry.unwrap().path());
        let rows = files.filter(|path| path.extension().is_some_and(|end| end == "jsonl"));
        rows.map(|path| std::fs::read_to_string(path).unwrap().lines().count()).sum()
    };
    assert_eq!((rows("newest"), rows("then"), rows("segment")), (5, 2, 3));
    assert_page!("memory_no_store", home.run(&["restore", "sessions"]));
    assert_page!("memory_prune", home.good(&["prune", "sessions", "--keep-last", "1"]));
}
