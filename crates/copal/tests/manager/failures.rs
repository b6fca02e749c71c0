//! Destinations that fail, callbacks that panic, databases that somebody else holds.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use copal::{BackupManager, Copal, ErrorKind, InitOptions, Job, Saved, Scheduler, Settings};
use tokio::runtime::Handle;

use crate::home::{Home, insert, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_are_counted_told_and_tried_again_at_the_interval() {
    let home = Home::new();
    let copal = home.copal(true).await;
    let file = home.text("app.db");
    let db = home.database("app.db", 10);
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let manager = BackupManager::builder(copal.clone(), &file)
        .backup_interval(Duration::from_millis(200))
        .min_backup_interval(Duration::from_millis(1))
        .on_backup_failure(move |error, failures| {
            tell.lock().unwrap().push((error.kind(), failures));
            panic!("callbacks may panic");
        })
        .build();
    manager.start().unwrap();
    until("a first backup", || manager.status().last_success.is_some()).await;
    // The disk is gone.
    let (repository, away) = (home.path("repository"), home.path("away"));
    std::fs::rename(&repository, &away).unwrap();
    insert(&db, 10);
    manager.notify_change();
    until("three failures", || manager.consecutive_failures() >= 3).await;
    let status = manager.status();
    assert!(status.changed && status.last_failure.is_some(), "{status:?}");
    std::fs::remove_dir_all(&repository).unwrap_or_default();
    std::fs::rename(&away, &repository).unwrap();
    until("a backup again", || manager.consecutive_failures() == 0).await;
    manager.stop().await.unwrap();
    let told = told.lock().unwrap().clone();
    let counts: Vec<u32> = told.iter().map(|(_, failures)| *failures).collect();
    assert!(counts.starts_with(&[1, 2, 3]), "{told:?}");
    assert!(told.iter().all(|(kind, _)| *kind != ErrorKind::Interrupted), "{told:?}");
    assert_eq!(home.restored_rows(&copal, &file).await, 20, "what could not be saved then is saved now");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_is_no_folder_is_a_failure_until_it_is_one() {
    let home = Home::new();
    std::fs::write(home.path("repository"), "in the way").unwrap();
    let copal = Copal::new(home.settings());
    let file = home.text("app.db");
    let _db = home.database("app.db", 10);
    let manager = BackupManager::builder(copal.clone(), &file).build();
    for n in 1..=3 {
        manager.backup_now().await.unwrap_err();
        assert_eq!(manager.consecutive_failures(), n);
    }
    std::fs::remove_file(home.path("repository")).unwrap();
    copal.init(InitOptions { encrypt: true, ..InitOptions::default() }).await.unwrap();
    manager.backup_now().await.unwrap();
    assert_eq!(manager.consecutive_failures(), 0);
    assert!(manager.status().last_failure.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_else_at_work_is_waited_for() {
    let home = Home::new();
    home.copal(true).await;
    let copal = Copal::new(Settings { database_wait: Duration::from_millis(50), ..home.settings() });
    let file = home.text("app.db");
    let db = home.database("app.db", 10);
    db.execute_batch("PRAGMA journal_mode=DELETE; BEGIN EXCLUSIVE").unwrap();
    let failures = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&failures);
    let builder = BackupManager::builder(copal, &file).on_backup_failure(move |_, _| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let impatient = builder.clone().busy_wait(Duration::ZERO).build();
    assert_eq!(impatient.backup_now().await.unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(failures.load(Ordering::SeqCst), 1);
    let manager = Arc::new(builder.busy_wait(Duration::from_secs(200)).build());
    let patient = Arc::clone(&manager);
    let saving = tokio::spawn(async move { patient.backup_now().await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(manager.status().running);
    db.execute_batch("COMMIT").unwrap();
    assert!(matches!(saving.await.unwrap(), Ok(Saved::Full(_))));
    assert_eq!(failures.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_goes_on_when_nobody_waits_for_it_and_the_next_one_does() {
    let home = Home::new();
    home.copal(true).await;
    let copal = Copal::new(Settings { database_wait: Duration::from_millis(50), ..home.settings() });
    let file = home.text("app.db");
    let db = home.database("app.db", 10);
    let manager = BackupManager::builder(copal.clone(), &file).busy_wait(Duration::from_secs(200)).build();
    let manager = Arc::new(manager);
    manager.start().unwrap();
    until("a first backup", || manager.status().last_success.is_some()).await;
    db.execute_batch("PRAGMA journal_mode=DELETE; BEGIN EXCLUSIVE; INSERT INTO t (body) VALUES (x'00')").unwrap();
    let stop = || {
        let manager = Arc::clone(&manager);
        tokio::spawn(async move { manager.stop().await })
    };
    let first = stop();
    until("the last backup is tried", || manager.status().running).await;
    first.abort();
    let second = stop();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!second.is_finished(), "the last backup is not made yet");
    db.execute_batch("COMMIT").unwrap();
    second.await.unwrap().unwrap();
    assert_eq!(home.restored_rows(&copal, &file).await, 11);
    let made = manager.list().await.unwrap().backups.len();
    manager.stop().await.unwrap();
    assert_eq!(manager.list().await.unwrap().backups.len(), made, "it was stopped already");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_saves_what_was_told_after_another_one() {
    let home = Home::new();
    let copal = home.copal(false).await;
    let file = home.text("app.db");
    let db = home.database("app.db", 10);
    let manager = BackupManager::builder(copal.clone(), &file).build();
    manager.start().unwrap();
    manager.stop().await.unwrap();
    insert(&db, 1);
    manager.notify_change();
    manager.stop().await.unwrap();
    assert_eq!(home.restored_rows(&copal, &file).await, 11);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starts_and_stops_may_race() {
    let home = Home::new();
    let copal = home.copal(false).await;
    let file = home.text("app.db");
    let _db = home.database("app.db", 10);
    let manager = Arc::new(BackupManager::builder(copal, &file).build());
    manager.notify_change();
    let starting = Arc::clone(&manager);
    let starts = tokio::spawn(async move {
        for _ in 0..20 {
            starting.start().unwrap();
            tokio::task::yield_now().await;
        }
    });
    while !starts.is_finished() {
        manager.stop().await.unwrap();
    }
    manager.stop().await.unwrap();
    assert!(!manager.status().started && !manager.status().running);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_is_shown_has_a_password_in_it() {
    let home = Home::new();
    let copal = home.copal(false).await;
    let url = "postgres://u:secret@127.0.0.1:1/app";
    let builder = BackupManager::builder(copal.clone(), url);
    let mut shown = format!("{builder:?}");
    let manager = builder.build();
    shown += &format!("{manager:?} {:?}", manager.list().await.unwrap_err());
    let job = Job::new(url, "every 1s").unwrap();
    shown += &format!("{job:?}");
    let events = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&events);
    let scheduler = Scheduler::builder(copal)
        .job(job)
        .on_event(move |event| keep.lock().unwrap().push(format!("{event:?}")))
        .build();
    scheduler.start().unwrap();
    until("a run", || events.lock().unwrap().len() >= 2).await;
    scheduler.stop(Duration::from_secs(100)).await;
    shown += &format!("{scheduler:?} {:?} {:?}", scheduler.status(), events.lock().unwrap());
    assert!(!shown.contains("secret"), "{shown}");
    assert!(shown.matches("postgres://").count() >= 5, "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callbacks_may_use_the_manager_and_panic() {
    let home = Home::new();
    let copal = home.copal(false).await;
    let file = home.text("app.db");
    let _db = home.database("app.db", 10);
    let (own, calls): (Arc<Mutex<Option<Arc<BackupManager>>>>, _) = (Arc::default(), Arc::new(AtomicU64::new(0)));
    let (inside, count) = (Arc::clone(&own), Arc::clone(&calls));
    let manager = Arc::new(
        BackupManager::builder(copal.clone(), &file)
            .backup_interval(Duration::from_millis(50))
            .on_backup_success(move |_| {
                let manager = inside.lock().unwrap().clone();
                let call = count.fetch_add(1, Ordering::SeqCst);
                let Some(manager) = manager else { return };
                manager.notify_change();
                match call {
                    2 => panic!("callbacks may panic"),
                    4 => drop(Handle::current().block_on(manager.backup_full()).unwrap()),
                    8 => Handle::current().block_on(manager.stop()).unwrap(),
                    _ => {}
                }
            })
            .build(),
    );
    *own.lock().unwrap() = Some(Arc::clone(&manager));
    manager.start().unwrap();
    until("it was stopped from a callback", || calls.load(Ordering::SeqCst) > 8 && !manager.status().started).await;
    own.lock().unwrap().take();
    assert!(manager.list().await.unwrap().backups.len() >= 9);
}
