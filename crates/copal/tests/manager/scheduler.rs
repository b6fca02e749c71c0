//! Schedules inside a program, and of several programs over one repository.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use copal::schedule::{Retries, RunKind};
use copal::{
    BackupChoice, Copal, DatabaseSettings, ErrorKind, Job, Keep, RunResult, Scheduler, SchedulerEvent, Settings,
};

use crate::home::{Home, insert, until};

type Events = Arc<Mutex<Vec<SchedulerEvent>>>;

fn kept(events: &Events) -> impl Fn(&SchedulerEvent) + Send + Sync + 'static {
    let events = Arc::clone(events);
    move |event| events.lock().unwrap().push(event.clone())
}

fn count(events: &Events, which: impl Fn(&SchedulerEvent) -> bool) -> usize {
    events.lock().unwrap().iter().filter(|event| which(event)).count()
}

fn is_made(event: &SchedulerEvent) -> bool {
    matches!(event, SchedulerEvent::Succeeded(_, RunResult::Backups(..)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_configured_runs_and_is_pruned() {
    let home = Home::new();
    home.copal(true).await;
    let db = home.database("app.db", 10);
    let settings = DatabaseSettings {
        url: home.text("app.db"),
        schedule: Some("every 1s".into()),
        keep: Keep { last: Some(2), ..Keep::default() },
        ..DatabaseSettings::default()
    };
    let unscheduled = DatabaseSettings { url: home.text("other.db"), ..DatabaseSettings::default() };
    let databases = [("app".to_owned(), settings), ("other".to_owned(), unscheduled)].into();
    let copal = Copal::new(Settings { databases, ..home.settings() });
    let events = Events::default();
    let scheduler = Scheduler::builder(copal.clone()).jobs_of_settings().unwrap().on_event(kept(&events)).build();
    scheduler.start().unwrap();
    until("four backups", || count(&events, is_made) >= 4).await;
    let status = scheduler.status();
    assert_eq!((status.len(), status[0].database.as_str()), (1, "app"));
    assert!(status[0].last_success.is_some() && status[0].next_backup.is_some(), "{status:?}");
    assert!(scheduler.run_now("app", RunKind::Drill) && !scheduler.run_now("other", RunKind::Backup));
    let is_drilled = |event: &SchedulerEvent| matches!(event, SchedulerEvent::Succeeded(_, RunResult::Drilled(_)));
    until("a drill", || count(&events, is_drilled) == 1).await;
    scheduler.stop(Duration::from_secs(300)).await;
    drop(db);
    let listed = copal.list(Some("app")).await.unwrap().remove(0);
    assert!((2..=3).contains(&listed.backups.len()), "the last two, and the verified one: {listed:?}");
    let after = count(&events, is_made);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(count(&events, is_made), after, "it was stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_with_one_schedule_make_each_backup_once() {
    let home = Home::new();
    let first = home.copal(true).await;
    let file = home.text("app.db");
    let db = home.database("app.db", 10);
    let retries = Retries { first: Duration::from_millis(200), ..Retries::default() };
    let events: Vec<Events> = (0..3).map(|_| Events::default()).collect();
    let schedulers: Vec<_> = events
        .iter()
        .map(|events| {
            // Each as in a process of its own: nothing is shared but the repository.
            let copal = Copal::new(home.settings());
            let job = Job::new(&file, "every 2s").unwrap().retries(retries);
            Scheduler::builder(copal).job(job).on_event(kept(events)).build()
        })
        .collect();
    schedulers.iter().for_each(|scheduler| scheduler.start().unwrap());
    until("four backups", || {
        insert(&db, 1);
        events.iter().map(|events| count(events, is_made)).sum::<usize>() >= 4
    })
    .await;
    for scheduler in &schedulers {
        scheduler.stop(Duration::from_secs(300)).await;
    }
    let by_others = |event: &SchedulerEvent| matches!(event, SchedulerEvent::Succeeded(_, RunResult::ByOthers));
    assert!(events.iter().map(|events| count(events, by_others)).sum::<usize>() > 0);
    let is_failed = |event: &SchedulerEvent| matches!(event, SchedulerEvent::Failed(..));
    assert_eq!(events.iter().map(|events| count(events, is_failed)).sum::<usize>(), 0);
    let listed = first.list(Some(&file)).await.unwrap().remove(0);
    let mut occurrences = BTreeSet::new();
    for backup in &listed.backups {
        let shown = first.show(&file, BackupChoice::Id(backup.id.clone())).await.unwrap();
        let is_new = occurrences.insert(shown.captured_at.as_second().div_euclid(2));
        assert!(is_new, "two backups of one occurrence: {:?}", listed.backups);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_fails_is_told_and_the_next_one_comes() {
    let home = Home::new();
    let copal = home.copal(false).await;
    let events = Events::default();
    let job = Job::new(home.text("app.db"), "every 1s").unwrap();
    let panics = kept(&events);
    let scheduler = Scheduler::builder(copal)
        .job(job)
        .on_event(move |event| {
            panics(event);
            panic!("callbacks may panic");
        })
        .build();
    scheduler.start().unwrap();
    let is_missing = |event: &SchedulerEvent| match event {
        SchedulerEvent::Failed(_, error, failures) => error.kind() == ErrorKind::NotFound && *failures == 2,
        _ => false,
    };
    until("two failures", || count(&events, is_missing) == 1).await;
    let _db = home.database("app.db", 10);
    until("a backup", || count(&events, is_made) >= 1).await;
    assert_eq!(scheduler.status()[0].consecutive_failures, 0);
    assert!(Job::new("x", "every now and then").is_err());
}

#[tokio::test]
async fn starts_and_stops_may_race() {
    let home = Home::new();
    let copal = home.copal(false).await;
    let _db = home.database("app.db", 10);
    let job = Job::new(home.text("app.db"), "every 1s").unwrap();
    let events = Events::default();
    let scheduler = Scheduler::builder(copal).job(job).on_event(kept(&events)).build();
    scheduler.start().unwrap();
    // On one thread: the start comes before the loop has heard of the stop.
    tokio::join!(scheduler.stop(Duration::from_secs(300)), async { scheduler.start().unwrap() });
    until("the loop that was started last works", || count(&events, is_made) >= 1).await;
    tokio::join!(scheduler.stop(Duration::from_secs(300)), scheduler.stop(Duration::from_secs(300)));
    let made = count(&events, is_made);
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(count(&events, is_made), made, "it was stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_stops_second_waits_too_and_a_stop_goes_on_when_nobody_waits_for_it() {
    let home = Home::new();
    home.copal(true).await;
    let copal = Copal::new(Settings { database_wait: Duration::from_secs(600), ..home.settings() });
    let db = home.database("app.db", 10);
    db.execute_batch("PRAGMA journal_mode=DELETE; BEGIN EXCLUSIVE").unwrap();
    let job = Job::new(home.text("app.db"), "@yearly").unwrap();
    let events = Events::default();
    let scheduler = Arc::new(Scheduler::builder(copal).job(job).on_event(kept(&events)).build());
    scheduler.start().unwrap();
    until("it is planned", || scheduler.run_now(&home.text("app.db"), RunKind::Backup)).await;
    until("it waits for the database", || scheduler.status()[0].running.is_some()).await;
    let stop = |grace| {
        let scheduler = Arc::clone(&scheduler);
        tokio::spawn(async move { scheduler.stop(grace).await })
    };
    let first = stop(Duration::from_secs(1));
    tokio::time::sleep(Duration::from_millis(100)).await;
    first.abort();
    assert!(scheduler.status()[0].running.is_some(), "it has a second: {:?}", scheduler.status());
    stop(Duration::from_secs(300)).await.unwrap();
    assert_eq!(scheduler.status()[0].running, None, "the first one's grace period ended it");
    assert_eq!(count(&events, is_made), 0);
}
