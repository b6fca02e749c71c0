//! A manager of a SQLite file that is written to.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use copal::{BackupManager, BackupOptions, Context, Keep, Saved};

use crate::home::{Home, insert, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_database_is_saved_at_the_interval_and_when_the_manager_stops() {
    let home = Home::new();
    let copal = home.copal(true).await;
    let file = home.text("app.db");
    let db = home.database("app.db", 100);
    let saved = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&saved);
    let manager = BackupManager::builder(copal.clone(), &file)
        .backup_interval(Duration::from_millis(300))
        .min_backup_interval(Duration::from_millis(100))
        .keep(Keep { last: Some(3), ..Keep::default() })
        .on_backup_success(move |saved| {
            assert!(matches!(saved, Saved::Full(_)));
            count.fetch_add(1, Ordering::SeqCst);
        })
        .build();
    manager.start().unwrap();
    manager.start().unwrap();
    let (stop, notifier) = (Arc::new(AtomicBool::new(false)), manager.notifier());
    let is_over = Arc::clone(&stop);
    let writer = std::thread::spawn(move || {
        while !is_over.load(Ordering::SeqCst) {
            insert(&db, 10);
            notifier.notify_change();
            std::thread::sleep(Duration::from_millis(5));
        }
        crate::home::rows(&db)
    });
    until("five backups", || saved.load(Ordering::SeqCst) >= 5).await;
    stop.store(true, Ordering::SeqCst);
    let rows = tokio::task::spawn_blocking(|| writer.join().unwrap()).await.unwrap();
    manager.stop().await.unwrap();
    let status = manager.status();
    assert!(!status.started && !status.running && !status.changed && status.next_run.is_none(), "{status:?}");
    assert!(status.last_success.is_some() && status.consecutive_failures == 0, "{status:?}");
    assert_eq!(home.restored_rows(&copal, &file).await, rows, "what was written before the stop is saved");
    assert_eq!(manager.list().await.unwrap().backups.len(), 3, "the rules were applied");
    let before = saved.load(Ordering::SeqCst);
    manager.stop().await.unwrap();
    assert_eq!(saved.load(Ordering::SeqCst), before, "nothing changed since");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_many_threads_are_neither_lost_nor_saved_one_by_one() {
    let home = Home::new();
    let copal = home.copal(false).await;
    let file = home.text("app.db");
    let db = Arc::new(Mutex::new(home.database("app.db", 10)));
    let min = Duration::from_millis(200);
    let manager = Arc::new(
        BackupManager::builder(copal.clone(), &file)
            .backup_interval(Duration::from_secs(3600))
            .min_backup_interval(min)
            .build(),
    );
    let began = Instant::now();
    manager.start().unwrap();
    let threads = (0..32).map(|_| {
        let (manager, db) = (Arc::clone(&manager), Arc::clone(&db));
        std::thread::spawn(move || {
            for _ in 0..20 {
                insert(&db.lock().unwrap(), 1);
                manager.notify_change();
            }
        })
    });
    let threads: Vec<_> = threads.collect();
    tokio::task::spawn_blocking(|| threads.into_iter().for_each(|thread| thread.join().unwrap())).await.unwrap();
    until("everything is saved", || !manager.status().changed && !manager.status().running).await;
    let most = began.elapsed().as_millis() / min.as_millis() + 2;
    let made = manager.list().await.unwrap().backups.len();
    assert!(made as u128 <= most, "{made} backups, at most {most}");
    // Without a stop: the last notification alone has to lead to a backup.
    assert_eq!(home.restored_rows(&copal, &file).await, 10 + 32 * 20);
    let status = manager.status();
    let next = status.next_run.unwrap().duration_since(jiff::Timestamp::now());
    assert!(next > jiff::SignedDuration::from_mins(5), "{status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_waits_for_the_backup_under_way() {
    let home = Home::new();
    let copal = home.copal(true).await;
    let file = home.text("big.db");
    let db = home.database("big.db", 1);
    insert(&db, 60_000);
    let manager = BackupManager::builder(copal.clone(), &file).build();
    manager.start().unwrap();
    until("it runs", || manager.status().running || manager.status().last_success.is_some()).await;
    manager.stop().await.unwrap();
    assert!(!manager.status().running);
    assert_eq!(home.restored_rows(&copal, &file).await, 60_001);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_manager_leaves_nothing_behind() {
    let home = Home::new();
    let copal = home.copal(true).await;
    let file = home.text("big.db");
    let db = home.database("big.db", 1);
    insert(&db, 60_000);
    let told = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&told);
    let manager = BackupManager::builder(copal.clone(), &file)
        .on_backup_failure(move |_, _| {
            count.fetch_add(1, Ordering::SeqCst);
        })
        .build();
    let notifier = manager.notifier();
    manager.start().unwrap();
    until("it runs", || manager.status().running || manager.status().last_success.is_some()).await;
    drop(manager);
    // The lease is given back as soon as the cancelled backup has seen it.
    let began = Instant::now();
    while let Err(error) = copal.backup(&file, BackupOptions::default(), &Context::silent()).await {
        assert_eq!(error.kind(), copal::ErrorKind::Busy, "{error}");
        assert!(began.elapsed() < Duration::from_secs(50), "the lease was left behind");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    notifier.notify_change();
    assert_eq!(home.restored_rows(&copal, &file).await, 60_001);
    assert_eq!(told.load(Ordering::SeqCst), 0, "what is cancelled by its owner is no failure");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_can_be_asked_without_being_started() {
    let home = Home::new();
    let copal = home.copal(true).await;
    let file = home.text("app.db");
    let _db = home.database("app.db", 5);
    let manager = BackupManager::builder(copal.clone(), &file).incremental(true).build();
    assert!(manager.list().await.is_err());
    // Backups of an engine without a journal are complete, and share what is unchanged.
    let Saved::Full(first) = manager.backup_now().await.unwrap() else { panic!("a full backup") };
    let Saved::Full(second) = manager.backup_delta().await.unwrap() else { panic!("a full backup") };
    assert!(second.backup.added_bytes < first.backup.added_bytes, "{second:?}");
    assert_eq!((manager.deltas_since_full(), manager.list().await.unwrap().backups.len()), (0, 2));
    let verified = manager.verify(copal::VerifyOptions { drill: true, ..Default::default() }, &Context::silent()).await;
    assert!(verified.unwrap().iter().all(|v| v.verified && v.drill.as_ref().unwrap().is_good()));
    manager.stop().await.unwrap();
    assert!(std::thread::spawn(move || manager.start()).join().unwrap().is_err(), "there is no runtime");
}
