//! Runs as a daemon would do them: real SQLite databases, a real repository in a local folder.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use copal::schedule::{Policy, Retries, RunKind, RunReason};
use copal::{Copal, ErrorKind, InitOptions, PassphraseSource, Settings};
use copal_daemon::{
    Ending, HISTORY_FILE, History, Job, Recorder, Refused, RunEvent, RunFilter, Runner, Stopped, TaskKind,
};
use jiff::Timestamp;

use crate::home::{Home, PATIENCE, ended, every_second, next, started};

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_made_pruned_drilled_and_written_down() {
    let mut home = Home::new().await;
    home.add("shop", 300, Policy { retention: true, ..Policy::default() });
    let (runner, mut events) = home.start(2);
    for _ in 0..3 {
        runner.request("shop", RunKind::Backup).await.unwrap();
        let run = ended(&mut events).await;
        assert_eq!((run.ending, run.reason), (Some(Ending::Success), RunReason::Requested), "{run:?}");
        assert!(run.facts.logical_bytes > Some(300_000) && run.facts.backup.is_some() && run.error.is_none());
        assert!(run.duration_ms.is_some() && run.facts.warnings.is_empty(), "{run:?}");
    }
    assert_eq!(home.backups("shop").await, 2, "a prune follows");
    runner.request("shop", RunKind::Drill).await.unwrap();
    let drill = ended(&mut events).await;
    assert_eq!((drill.kind, drill.ending), (TaskKind::Drill, Some(Ending::Success)), "{drill:?}");
    let kept = runner.recorder().runs(RunFilter::default()).await.unwrap();
    assert_eq!((kept.len(), &kept[0]), (4, &drill));
    let status = runner.database("shop").unwrap();
    assert_eq!((status.running, status.backup.newest.as_ref()), (None, Some(&kept[1])));
    assert_eq!(status.drill.newest_success, Some(drill));
    assert_eq!(runner.request("shpo", RunKind::Backup).await, Err(Refused::UnknownDatabase));
    assert_eq!(runner.changed("shpo").await, Err(Refused::UnknownDatabase));
    assert_eq!(runner.cancel(kept[0].id).await, Err(Refused::UnknownRun));
    assert_eq!(runner.stop(PATIENCE).await, Stopped::default());
    assert_eq!(runner.request("shop", RunKind::Backup).await, Err(Refused::Stopping));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_goes_away_and_comes_back() {
    let mut home = Home::new().await;
    let retries = Retries { most: 100, first: Duration::from_millis(50), cap: Duration::from_millis(50) };
    home.add("shop", 10, Policy { retries, ..Policy::default() });
    let away = home.path("away");
    std::fs::rename(home.path("shop"), &away).unwrap();
    let (runner, mut events) = home.start(2);
    runner.changed("shop").await.unwrap();
    for failures in 1..=3 {
        let run = ended(&mut events).await;
        assert_eq!((run.ending, run.consecutive_failures), (Some(Ending::TransientFailure), failures), "{run:?}");
        assert_eq!((run.attempt, run.error.unwrap().kind.as_str()), (failures, ErrorKind::NotFound.as_str()));
    }
    std::fs::rename(&away, home.path("shop")).unwrap();
    let (run, before) = loop {
        match next(&mut events).await {
            RunEvent::Ended(run, before) if run.ending == Some(Ending::Success) => break (run, before),
            _ => {}
        }
    };
    assert!(before >= 3 && run.consecutive_failures == 0 && run.reason == RunReason::Retry, "{before} {run:?}");
    assert_eq!(runner.database("shop").unwrap().backup.consecutive_failures, 0);
    runner.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_cancelled_leaves_nothing_behind() {
    let mut home = Home::new().await;
    home.add("shop", 60_000, Policy::default());
    let (runner, mut events) = home.start(2);
    runner.request("shop", RunKind::Backup).await.unwrap();
    let run = started(&mut events).await;
    let mut live = runner.watch(run.id).unwrap();
    tokio::time::timeout(PATIENCE, live.wait_for(|live| live.phase == "reading" && live.done > 0))
        .await
        .unwrap()
        .unwrap();
    let now = runner.live().remove(0);
    assert!(now.id == run.id && now.total > Some(60_000_000), "{now:?}");
    assert_eq!(runner.database("shop").unwrap().running, Some(run.id));
    runner.cancel(run.id).await.unwrap();
    let run = ended(&mut events).await;
    assert_eq!((run.ending, run.consecutive_failures), (Some(Ending::Cancelled), 0), "{run:?}");
    assert_eq!(home.backups("shop").await, 0);
    assert!(runner.watch(run.id).is_none() && runner.live().is_empty());
    // The lease was given back.
    runner.request("shop", RunKind::Backup).await.unwrap();
    assert_eq!(ended(&mut events).await.ending, Some(Ending::Success));
    runner.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_takes_too_long_is_ended_and_counted() {
    let mut home = Home::new().await;
    let time_limit = Some(Duration::from_millis(1));
    home.add("shop", 60_000, Policy { time_limit, ..Policy::default() });
    let (runner, mut events) = home.start(2);
    runner.request("shop", RunKind::Backup).await.unwrap();
    let run = ended(&mut events).await;
    assert_eq!((run.ending, run.consecutive_failures), (Some(Ending::TransientFailure), 1), "{run:?}");
    assert_eq!(run.error.unwrap().kind, "timed-out");
    assert_eq!(runner.stop(PATIENCE).await, Stopped::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_panics_has_failed_and_gives_its_place_back() {
    let mut home = Home::new().await;
    home.add("a", 1, Policy::default());
    home.add("b", 1, Policy::default());
    let encrypted = home.folder.path().join("encrypted");
    let passphrase = PassphraseSource::Known(copal::Secret::new("a passphrase"));
    home.settings = Settings { repository: encrypted.to_str().unwrap().to_owned(), passphrase, ..home.settings };
    Copal::new(home.settings.clone()).init(InitOptions { encrypt: true, ..InitOptions::default() }).await.unwrap();
    let good = home.settings.passphrase.clone();
    home.settings.passphrase = PassphraseSource::Ask(Arc::new(|_| panic!("on purpose")));
    let (runner, mut events) = home.start(1);
    for name in ["a", "b", "a"] {
        runner.request(name, RunKind::Backup).await.unwrap();
        let run = ended(&mut events).await;
        assert_eq!((run.database.as_str(), run.ending), (name, Some(Ending::PermanentFailure)), "{run:?}");
        assert_eq!(run.error.unwrap().kind, "panicked");
    }
    assert_eq!(runner.database("a").unwrap().backup.consecutive_failures, 2);
    home.settings.passphrase = good;
    runner.reload(home.runner_settings(1)).await.unwrap();
    runner.request("a", RunKind::Backup).await.unwrap();
    assert_eq!(ended(&mut events).await.ending, Some(Ending::Success));
    runner.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_waits_for_what_runs_and_then_cancels_it() {
    for (grace, expected) in [
        (PATIENCE, Stopped { finished: 1, ..Stopped::default() }),
        (Duration::ZERO, Stopped { cancelled: 1, ..Stopped::default() }),
    ] {
        let mut home = Home::new().await;
        home.add("shop", 60_000, Policy::default());
        let (runner, mut events) = home.start(1);
        runner.request("shop", RunKind::Backup).await.unwrap();
        let run = started(&mut events).await;
        let mut live = runner.watch(run.id).unwrap();
        let is_reading = live.wait_for(|live| live.phase == "reading" && live.done > 0);
        drop(tokio::time::timeout(PATIENCE, is_reading).await.unwrap().unwrap());
        assert_eq!(runner.stop(grace).await, expected);
        assert_eq!(home.backups("shop").await, expected.finished);
        let ending = History::look(home.state()).unwrap().runs(&RunFilter::default()).unwrap()[0].ending;
        let as_expected = if expected.finished == 1 { Ending::Success } else { Ending::Cancelled };
        assert_eq!(ending, Some(as_expected));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_is_kept_and_no_database_has_two_runs() {
    let mut home = Home::new().await;
    for n in 0..6 {
        home.add(&format!("d{n}"), 20, every_second());
    }
    let (runner, mut events) = home.start(2);
    let (mut under_way, mut most, mut done) = (Vec::new(), 0, BTreeMap::new());
    while done.len() < 6 || done.values().any(|runs| *runs < 2) {
        match next(&mut events).await {
            RunEvent::Started(run) => {
                assert!(!under_way.contains(&run.database), "{run:?}");
                under_way.push(run.database);
                most = most.max(under_way.len());
            }
            RunEvent::Ended(run, _) => {
                assert_eq!(run.ending, Some(Ending::Success), "{run:?}");
                under_way.retain(|database| *database != run.database);
                *done.entry(run.database).or_insert(0) += 1;
            }
            _ => {}
        }
    }
    assert_eq!(most, 2);
    runner.stop(PATIENCE).await;
}

#[test]
fn a_killed_daemon_knows_what_was_cut_off_and_does_it_again() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let first = runtime();
    let (home, id) = first.block_on(async {
        let mut home = Home::new().await;
        home.settings.lease_ttl = Duration::from_secs(5);
        home.add("shop", 100_000, Policy::default());
        let (runner, mut events) = home.start(1);
        runner.request("shop", RunKind::Backup).await.unwrap();
        let run = started(&mut events).await;
        runner.recorder().flush().await;
        (home, run.id)
    });
    // Everything that it did ends in the middle.
    first.shutdown_background();
    // Its thread has let go of the file once the last of its tasks is gone.
    std::thread::sleep(Duration::from_millis(300));
    runtime().block_on(async {
        let (recorder, past) = Recorder::start(Some(home.state()), Timestamp::now());
        let interrupted: Vec<_> = past.interrupted.iter().map(|run| (run.id, run.ending)).collect();
        assert_eq!(interrupted, [(id, Some(Ending::Interrupted))]);
        let runner = Runner::start(home.runner_settings(1), recorder, past);
        let mut events = runner.subscribe();
        runner.begin();
        let run = ended(&mut events).await;
        assert_eq!((run.ending, run.reason, run.id > id), (Some(Ending::Success), RunReason::Retry, true), "{run:?}");
        assert_eq!(home.backups("shop").await, 1);
        runner.stop(PATIENCE).await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_history_stops_nothing() {
    let mut home = Home::new().await;
    home.add("shop", 10, every_second());
    std::fs::create_dir_all(home.state()).unwrap();
    std::fs::write(home.state().join(HISTORY_FILE), "no database").unwrap();
    let (runner, mut events) = home.start(1);
    assert!(runner.recorder().status().warning.is_some());
    assert_eq!(ended(&mut events).await.ending, Some(Ending::Success));
    // Nor does one that cannot be written at all.
    runner.stop(PATIENCE).await;
    std::fs::remove_dir_all(home.state()).unwrap();
    std::fs::write(home.state(), "").unwrap();
    let (runner, mut events) = home.start(1);
    assert_eq!(ended(&mut events).await.ending, Some(Ending::Success));
    assert!(runner.recorder().status().error.is_some());
    runner.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reported_change_waits_until_a_backup_has_it() {
    let mut home = Home::new().await;
    let retries = Retries { most: 0, ..Retries::default() };
    home.add("shop", 10, Policy { catch_up: false, retries, ..Policy::default() });
    let away = home.path("shop.away");
    std::fs::rename(home.path("shop"), &away).unwrap();
    let (runner, mut events) = home.start(2);
    runner.changed("shop").await.unwrap();
    assert_eq!(ended(&mut events).await.ending, Some(Ending::TransientFailure));
    assert_eq!(runner.stop(PATIENCE).await, Stopped::default());

    // Neither the failure nor the end of the daemon has made it undone.
    std::fs::rename(&away, home.path("shop")).unwrap();
    let (runner, mut events) = home.start(2);
    let run = ended(&mut events).await;
    assert_eq!((run.reason, run.ending), (RunReason::Changed, Some(Ending::Success)), "{run:?}");
    runner.stop(PATIENCE).await;
    let (_, past) = Recorder::start(Some(home.state()), Timestamp::now());
    assert!(past.changed.is_empty(), "{past:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_was_replaced_is_noticed() {
    let mut home = Home::new().await;
    home.settings.passphrase = PassphraseSource::Known(copal::Secret::new("first"));
    let repository = std::path::PathBuf::from(&home.settings.repository);
    std::fs::remove_dir_all(&repository).unwrap();
    let encrypt = || InitOptions { encrypt: true, ..InitOptions::default() };
    Copal::new(home.settings.clone()).init(encrypt()).await.unwrap();
    home.add("shop", 10, Policy::default());
    let (runner, mut events) = home.start(2);
    runner.request("shop", RunKind::Backup).await.unwrap();
    assert_eq!(ended(&mut events).await.ending, Some(Ending::Success));
    // Another one in its place, with another key.
    std::fs::remove_dir_all(&repository).unwrap();
    Copal::new(home.settings.clone()).init(encrypt()).await.unwrap();
    runner.request("shop", RunKind::Backup).await.unwrap();
    let run = ended(&mut events).await;
    assert_eq!(run.ending, Some(Ending::Success), "{run:?}");
    let all = copal::VerifyOptions::default();
    let outcomes =
        Copal::new(home.settings.clone()).verify(Some("shop"), all, &copal::Context::silent()).await.unwrap();
    assert!(outcomes[0].verified && outcomes[0].damaged.is_empty(), "{outcomes:?}");
    runner.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verification_and_a_restore_run_beside_the_planner() {
    let mut home = Home::new().await;
    home.add("shop", 10, Policy::default());
    let (runner, mut events) = home.start(1);
    runner.request("shop", RunKind::Backup).await.unwrap();
    ended(&mut events).await;
    let id = runner.job("shop", Job::Verify(copal::VerifyOptions::default())).await.unwrap();
    let run = ended(&mut events).await;
    assert_eq!((run.id, run.kind, run.ending), (id, TaskKind::Verify, Some(Ending::Success)), "{run:?}");
    let to = home.path("copy");
    let options = copal::RestoreOptions { to: Some(to.display().to_string()), ..copal::RestoreOptions::default() };
    runner.job("shop", Job::Restore { options: Box::new(options.clone()), over: None }).await.unwrap();
    let run = ended(&mut events).await;
    assert_eq!((run.kind, run.ending), (TaskKind::Restore, Some(Ending::Success)), "{run:?}");
    assert!(run.facts.target.unwrap().ends_with("copy.db") && to.exists());
    // A target that is there stays as it is.
    std::fs::write(&to, "mine").unwrap();
    runner.job("shop", Job::Restore { options: Box::new(options), over: None }).await.unwrap();
    let run = ended(&mut events).await;
    let error = run.error.unwrap();
    assert!(error.kind == "exists" && error.message.contains("\"replace\": true"), "{error:?}");
    assert_eq!(std::fs::read(&to).unwrap(), b"mine");
    runner.stop(PATIENCE).await;
}
