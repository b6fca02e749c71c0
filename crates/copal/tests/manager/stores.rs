//! Stores in memory: managers of them, and what is left when they are restored.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use copal::memory::{MemoryStore, Table};
use copal::{
    BackupManager, BackupOptions, Context, Copal, ErrorKind, Keep, PruneOptions, RestoreOptions, Saved, VerifyOptions,
};
use serde::{Deserialize, Serialize};

use crate::home::{Home, until};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Session {
    user: String,
    hits: u64,
}

fn session(hits: u64) -> Session {
    Session { user: format!("user {hits}"), hits }
}

/// The sessions of what is restored with these options into a store of its own.
async fn sessions(copal: &Copal, options: RestoreOptions) -> Vec<(u64, Session)> {
    // As a new process does it: another store, of the same name.
    let other = Copal::new(copal.settings().clone());
    let store = MemoryStore::new();
    let _registered = other.register("sessions", store.clone()).unwrap();
    other.restore("memory:sessions", options, &Context::silent()).await.unwrap();
    let table: Table<u64, Session> = store.table("sessions").unwrap();
    table.snapshot().iter().map(|(id, session)| (*id, session.clone())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_is_kept_by_fulls_and_deltas() {
    let home = Home::new();
    let copal = home.copal(true).await;
    let store = MemoryStore::new();
    let table: Table<u64, Session> = store.table("sessions").unwrap();
    let registered = copal.register("sessions", store.clone()).unwrap();
    assert_eq!(copal.register("sessions", MemoryStore::new()).unwrap_err().kind(), ErrorKind::Exists);
    let manager = BackupManager::builder(copal.clone(), registered.source())
        .backup_interval(Duration::from_secs(3600))
        .incremental(true)
        .max_deltas_before_full(3)
        .build();
    (0..1000).for_each(|id| table.insert(id, session(id)).unwrap());
    assert!(matches!(manager.backup_now().await.unwrap(), Saved::Full(_)), "the first one");
    assert!(manager.last_hold().is_some());
    assert!(matches!(manager.backup_now().await.unwrap(), Saved::Unchanged));
    for n in 1..=3 {
        table.upsert(n, session(n + 5000)).unwrap();
        let saved = manager.backup_now().await.unwrap();
        let Saved::Delta(delta) = saved else { panic!("{saved:?}") };
        assert_eq!((delta.segment.sequence, manager.deltas_since_full()), (n, u32::try_from(n).unwrap()));
        assert!(delta.segment.added_bytes < 2000, "{delta:?}");
    }
    assert!(matches!(manager.backup_now().await.unwrap(), Saved::Unchanged), "no full backup of what is saved");
    table.remove(&999).unwrap();
    assert!(matches!(manager.backup_now().await.unwrap(), Saved::Full(_)), "after three deltas");
    table.remove(&998).unwrap();
    assert!(matches!(manager.backup_delta().await.unwrap(), Saved::Delta(_)));

    let listing = manager.list().await.unwrap();
    assert_eq!((listing.database.as_str(), listing.backups.len()), ("sessions", 2));
    let lengths: Vec<usize> = listing.journal.values().map(Vec::len).collect();
    assert_eq!(lengths, [3, 1]);
    let details = copal.show("sessions", copal::BackupChoice::Latest).await.unwrap();
    assert_eq!(details.journal, listing.journal[&listing.backups[1].id]);
    let status = copal.status(&["sessions".to_owned()]).await.unwrap().remove(0);
    assert!(status.problems.is_empty() && status.last_backup.is_some(), "{status:?}");
    let newest = sessions(&copal, RestoreOptions::default()).await;
    assert_eq!(newest, table.snapshot().iter().map(|(id, row)| (*id, row.clone())).collect::<Vec<_>>());

    // The backup alone, and a segment.
    let first = &listing.backups[0].id;
    let by_id = |id: &copal::BackupId| RestoreOptions {
        backup: copal::BackupChoice::Id(id.clone()),
        ..RestoreOptions::default()
    };
    assert_eq!(sessions(&copal, by_id(first)).await[1].1, session(1));
    let second = &listing.journal[first][1];
    let then = sessions(&copal, by_id(&second.id)).await;
    assert_eq!([&then[1].1, &then[2].1, &then[3].1], [&session(5001), &session(5002), &session(3)]);

    let all = VerifyOptions { backups: copal::WhichBackups::All, drill: true };
    let verified = manager.verify(all, &Context::silent()).await.unwrap();
    let good = verified.iter().all(|v| v.verified && v.drill.as_ref().unwrap().is_good());
    assert!(good && verified.iter().map(|v| v.segments).collect::<Vec<_>>() == [3, 1], "{verified:?}");

    // On an empty machine, without the program.
    let bare = Copal::new(copal.settings().clone());
    let error = bare.restore("sessions", RestoreOptions::default(), &Context::silent()).await.unwrap_err();
    assert!(error.hint().is_some(), "{error}");
    let archive = home.path("archive");
    let to = RestoreOptions { to: Some(format!("file:{}", archive.display())), ..RestoreOptions::default() };
    let restored = bare.restore("sessions", to, &Context::silent()).await.unwrap();
    assert_eq!(restored.segment.map(|segment| segment.sequence), Some(1));
    assert!(archive.join("tables.json").exists());

    let keep = PruneOptions { keep: Some(Keep { last: Some(1), ..Keep::default() }), ..PruneOptions::default() };
    let pruned = copal.prune("sessions", keep, &Context::silent()).await.unwrap();
    assert_eq!((pruned.deleted.len(), pruned.deleted_segments.len()), (1, 3));
    assert_eq!(sessions(&copal, RestoreOptions::default()).await, newest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_somebody_else_went_on_with_leads_to_a_full_backup() {
    let home = Home::new();
    let copal = home.copal(false).await;
    let store = MemoryStore::new();
    let table: Table<u64, Session> = store.table("sessions").unwrap();
    let registered = copal.register("sessions", store.clone()).unwrap();
    let manager = BackupManager::builder(copal.clone(), registered.source()).incremental(true).build();
    table.insert(1, session(1)).unwrap();
    let Saved::Full(first) = manager.backup_now().await.unwrap() else { panic!("a full backup") };
    table.insert(2, session(2)).unwrap();
    copal.backup("memory:sessions", BackupOptions::default(), &Context::silent()).await.unwrap();
    table.insert(3, session(3)).unwrap();
    let error = copal.append("memory:sessions", &first.end, &Context::silent()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gap, "{error}");
    assert!(matches!(manager.backup_delta().await.unwrap(), Saved::Full(_)));
    assert_eq!(manager.consecutive_failures(), 0);
    table.insert(4, session(4)).unwrap();
    assert!(matches!(manager.backup_delta().await.unwrap(), Saved::Delta(_)));
    // What is restored into the store is another life of it.
    let replace = RestoreOptions { replace: true, ..RestoreOptions::default() };
    manager.restore(replace, &Context::silent()).await.unwrap();
    assert!(manager.status().changed);
    table.insert(5, session(5)).unwrap();
    assert!(matches!(manager.backup_delta().await.unwrap(), Saved::Full(_)));
    assert_eq!(sessions(&copal, RestoreOptions::default()).await.len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_saves_what_changed_though_nobody_told() {
    let home = Home::new();
    let copal = home.copal(false).await;
    let store = MemoryStore::new();
    let table: Table<u64, Session> = store.table("sessions").unwrap();
    let registered = copal.register("sessions", store.clone()).unwrap();
    for incremental in [false, true] {
        let manager = BackupManager::builder(copal.clone(), registered.source()).incremental(incremental).build();
        manager.start().unwrap();
        until("a first backup", || manager.status().last_success.is_some()).await;
        let before = table.len() as u64;
        table.insert(before, session(before)).unwrap();
        manager.stop().await.unwrap();
        assert_eq!(sessions(&copal, RestoreOptions::default()).await.len() as u64, before + 1);
        let listed = manager.list().await.unwrap();
        manager.start().unwrap();
        manager.stop().await.unwrap();
        let again = manager.list().await.unwrap();
        assert_eq!(again.journal, listed.journal, "nothing changed since");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unchanged_store_is_not_saved_if_the_repository_is_gone_or_another() {
    let home = Home::new();
    let copal = home.copal(false).await;
    let store = MemoryStore::new();
    let table: Table<u64, Session> = store.table("sessions").unwrap();
    table.insert(1, session(1)).unwrap();
    let registered = copal.register("sessions", store.clone()).unwrap();
    let manager = BackupManager::builder(copal.clone(), registered.source());
    let manager = manager.incremental(true).max_deltas_before_full(0).build();
    assert!(matches!(manager.backup_now().await.unwrap(), Saved::Full(_)));
    assert!(matches!(manager.backup_now().await.unwrap(), Saved::Unchanged));
    std::fs::rename(home.path("repository"), home.path("away")).unwrap();
    manager.backup_now().await.unwrap_err();
    std::fs::remove_dir_all(home.path("repository")).unwrap_or_default();
    let other = home.copal(false).await;
    assert!(matches!(manager.backup_now().await.unwrap(), Saved::Full(_)));
    assert!(matches!(manager.backup_now().await.unwrap(), Saved::Unchanged));
    assert_eq!(sessions(&other, RestoreOptions::default()).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_saves_at_once_and_what_is_unchanged_is_not_told() {
    let home = Home::new();
    let copal = home.copal(false).await;
    let store = MemoryStore::new();
    let table: Table<u64, Session> = store.table("sessions").unwrap();
    table.insert(1, session(1)).unwrap();
    let registered = copal.register("sessions", store.clone()).unwrap();
    let told = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&told);
    let manager = BackupManager::builder(copal.clone(), registered.source()).incremental(true);
    let manager = manager
        .on_backup_success(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
        })
        .build();
    manager.backup_now().await.unwrap();
    for saved in 1..=2 {
        let before = manager.status().last_success;
        manager.start().unwrap();
        until("a look at once", || manager.status().last_success > before).await;
        assert_eq!(told.load(Ordering::SeqCst), saved);
        table.insert(saved + 1, session(1)).unwrap();
        manager.stop().await.unwrap();
    }
    assert_eq!(told.load(Ordering::SeqCst), 3);
}

/// Writers that change two tables together while managers save: whatever is restored fits together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn busy_writers_are_saved_consistently() {
    let home = Home::new();
    let copal = home.copal(true).await;
    let store = MemoryStore::new();
    let (debit, credit): (Table<u64, i64>, Table<u64, i64>) =
        (store.table("debit").unwrap(), store.table("credit").unwrap());
    (0..64).for_each(|id| {
        debit.insert(id, 0).unwrap();
        credit.insert(id, 0).unwrap();
    });
    let registered = copal.register("ledger", store.clone()).unwrap();
    let saves = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&saves);
    let manager = BackupManager::builder(copal.clone(), registered.source())
        .backup_interval(Duration::from_millis(20))
        .incremental(true)
        .max_deltas_before_full(4)
        .on_backup_success(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
        })
        .build();
    let stop = Arc::new(AtomicBool::new(false));
    let writers = (0..4).map(|n: u64| {
        let (store, debit, credit, stop) = (store.clone(), debit.clone(), credit.clone(), Arc::clone(&stop));
        std::thread::spawn(move || {
            let mut at = n;
            while !stop.load(Ordering::SeqCst) {
                at = (at * 7 + 5) % 64;
                store.atomically(|| {
                    debit.update(&at, |sum| *sum += 1).unwrap();
                    credit.update(&(63 - at), |sum| *sum -= 1).unwrap();
                });
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    manager.start().unwrap();
    until("a dozen saves", || saves.load(Ordering::SeqCst) >= 12).await;
    stop.store(true, Ordering::SeqCst);
    tokio::task::spawn_blocking(|| writers.into_iter().for_each(|writer| writer.join().unwrap())).await.unwrap();
    manager.stop().await.unwrap();
    let listing = manager.list().await.unwrap();
    let points = listing.backups.iter().map(|backup| backup.id.clone());
    let points: Vec<_> = points.chain(listing.journal.values().flatten().map(|segment| segment.id.clone())).collect();
    assert!(points.len() >= 12, "{listing:?}");
    for id in points {
        let other = Copal::new(copal.settings().clone());
        let store = MemoryStore::new();
        let _registered = other.register("ledger", store.clone()).unwrap();
        let options = RestoreOptions { backup: copal::BackupChoice::Id(id), ..RestoreOptions::default() };
        other.restore("memory:ledger", options, &Context::silent()).await.unwrap();
        let sum = |name: &str| -> i64 {
            let table: Table<u64, i64> = store.table(name).unwrap();
            table.snapshot().iter().map(|(_, sum)| *sum).sum()
        };
        assert_eq!(sum("debit") + sum("credit"), 0, "two tables of one moment");
    }
}
