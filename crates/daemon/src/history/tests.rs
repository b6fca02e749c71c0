use copal::schedule::RunReason;
use copal_notify::{Event, Notice, Spacing, SpacingOptions};

use super::*;
use crate::log::{KeptLog, LogLevel, RunLog};
use crate::run::{RunError, RunFacts};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn started(id: i64, database: &str, kind: TaskKind) -> RunRecord {
    let start = RunRecord::start(RunId(id), database, kind, at(id));
    RunRecord { reason: RunReason::CaughtUp, due: at(id - 1), attempt: 2, ..start }
}

fn ended(id: i64, database: &str, ending: Ending) -> RunRecord {
    let error = ending.is_failure().then(|| RunError::new("busy", "somebody else's"));
    let facts = RunFacts {
        backup: Some("20261120-153000Z-7f3a".to_owned()),
        logical_bytes: Some(1 << 40),
        warnings: vec!["\"quoted\"".to_owned()],
        damaged: 1,
        target: Some("/tmp/\"new\".db".to_owned()),
        ..RunFacts::default()
    };
    let start = started(id, database, TaskKind::Backup);
    RunRecord {
        ended: Some(at(id + 1)),
        ending: Some(ending),
        error,
        duration_ms: Some(17),
        consecutive_failures: 3,
        facts,
        ..start
    }
}

fn open(folder: &Path) -> Opened {
    History::open(folder, at(1000)).unwrap()
}

#[test]
fn runs_are_kept_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let runs = [
        ended(1, "shop", Ending::Success),
        ended(2, "shop", Ending::TransientFailure),
        ended(3, "söme \"name'", Ending::PermanentFailure),
        ended(4, "shop", Ending::Cancelled),
    ];
    let mut history = open(folder.path()).history;
    history.save(&[started(2, "shop", TaskKind::Backup)]).unwrap();
    history.save(&runs).unwrap();
    drop(history);
    let Opened { mut history, warning, interrupted } = open(folder.path());
    assert_eq!((warning, interrupted), (None, vec![]));
    let newest_first: Vec<_> = runs.iter().rev().cloned().collect();
    assert_eq!(history.runs(&RunFilter::default()).unwrap(), newest_first);
    let of_shop = RunFilter { database: Some("shop".into()), before: Some(RunId(4)), most: 1, ..RunFilter::default() };
    assert_eq!(history.runs(&of_shop).unwrap(), [runs[1].clone()]);
    let newest = history.newest().unwrap();
    let shop = &newest[&("shop".to_owned(), TaskKind::Backup)];
    assert_eq!((shop.run.as_ref(), shop.success.as_ref()), (Some(&runs[3]), Some(&runs[0])));
    assert_eq!(history.last_id().unwrap(), Some(RunId(4)));
    assert_eq!(History::look(folder.path()).unwrap().runs(&of_shop).unwrap().len(), 1);
}

#[test]
fn runs_of_a_kind_that_a_newer_copal_knows_are_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let runs = [ended(1, "shop", Ending::Success), ended(2, "shop", Ending::Success)];
    open(folder.path()).history.save(&runs).unwrap();
    let file = Connection::open(folder.path().join(FILE_NAME)).unwrap();
    file.execute_batch(
        "UPDATE runs SET kind = 'teleport', ending = NULL, ended = NULL WHERE id = 2;
         UPDATE lanes SET newest = 1, newest_success = 1;
         INSERT INTO lanes VALUES ('shop', 'teleport', 2, 2);",
    )
    .unwrap();
    drop(file);
    let Opened { mut history, warning, interrupted } = open(folder.path());
    assert_eq!((warning, interrupted), (None, vec![]));
    assert_eq!(history.runs(&RunFilter::default()).unwrap(), [runs[0].clone()]);
    assert_eq!(history.newest().unwrap().keys().collect::<Vec<_>>(), [&("shop".to_owned(), TaskKind::Backup)]);
    assert_eq!(history.last_id().unwrap(), Some(RunId(2)), "its number stays taken");
}

#[test]
fn runs_that_were_cut_off_are_closed_once() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).history.save(&[started(1, "a", TaskKind::Drill), ended(2, "a", Ending::Success)]).unwrap();
    let own = History::open_again(folder.path(), at(1000), RunId(1)).unwrap();
    assert_eq!(own.interrupted, [], "a daemon does not close its own");
    let interrupted = open(folder.path()).interrupted;
    assert_eq!(
        interrupted.iter().map(|run| (run.id, run.ending)).collect::<Vec<_>>(),
        [(RunId(1), Some(Ending::Interrupted))]
    );
    let mut again = open(folder.path());
    assert_eq!(again.interrupted, []);
    assert_eq!(again.history.newest().unwrap()[&("a".to_owned(), TaskKind::Drill)].success, None);
}

#[test]
fn what_cannot_be_used_is_set_aside() {
    let newer = |folder: &Path| {
        let connection = Connection::open(folder.join(FILE_NAME)).unwrap();
        connection.pragma_update(None, "user_version", SCHEMA + 1).unwrap();
    };
    let garbage = |folder: &Path| fs::write(folder.join(FILE_NAME), vec![7; 9000]).unwrap();
    let torn = |folder: &Path| {
        let path = folder.join(FILE_NAME);
        let mut bytes = fs::read(&path).unwrap();
        let end = bytes.len();
        bytes[4096..end].fill(0xa5);
        fs::write(path, bytes).unwrap();
    };
    let others = |folder: &Path| {
        fs::remove_file(folder.join(FILE_NAME)).unwrap();
        Connection::open(folder.join(FILE_NAME)).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    };
    for (name, spoil) in
        [("newer", &newer as &dyn Fn(&Path)), ("garbage", &garbage), ("torn", &torn), ("another's", &others)]
    {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path()).history.save(&[ended(1, "a", Ending::Success)]).unwrap();
        spoil(folder.path());
        let mut opened = open(folder.path());
        let warning = opened.warning.unwrap_or_else(|| panic!("{name}"));
        assert!(warning.contains("history.unusable.sqlite"), "{name}: {warning}");
        assert!(folder.path().join("history.unusable.sqlite").exists(), "{name}");
        assert_eq!(opened.history.runs(&RunFilter::default()).unwrap(), [], "{name}");
        opened.history.save(&[ended(2, "a", Ending::Success)]).unwrap();
        assert_eq!(open(folder.path()).warning, None, "{name}");
    }
}

#[test]
fn old_runs_go_and_what_schedules_need_stays() {
    let folder = tempfile::tempdir().unwrap();
    let mut history = open(folder.path()).history;
    let mut runs = vec![ended(1, "yearly", Ending::Success), ended(2, "yearly", Ending::PermanentFailure)];
    runs.extend((3..20).map(|id| ended(id, "a", Ending::Success)));
    history.save(&runs).unwrap();
    assert_eq!(history.trim_to(at(1000), 5).unwrap(), 12);
    let ids = |history: &mut History| {
        history.runs(&RunFilter::default()).unwrap().iter().map(|run| run.id.0).collect::<Vec<_>>()
    };
    assert_eq!(ids(&mut history), [19, 18, 17, 16, 15, 2, 1]);
    let later = at(1000).checked_add(KEEP_FOR).unwrap();
    assert_eq!(history.trim(later).unwrap(), 4);
    assert_eq!(ids(&mut history), [19, 2, 1]);
    assert_eq!(history.trim(at(1000).checked_add(FORGET_AFTER).unwrap()).unwrap(), 3);
    assert!(history.newest().unwrap().is_empty());
}

#[test]
fn what_notifiers_were_told_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut spacing = Spacing::new(SpacingOptions::default());
    let mut notice = Notice::new(Event::Failure, "shop", "host", at(0), "it failed");
    notice.consecutive_failures = 1;
    assert!(spacing.decide(&notice, at(0)));
    let mut history = open(folder.path()).history;
    history.save_told("ops", Some(spacing.told())).unwrap();
    history.save_told("gone", Some(spacing.told())).unwrap();
    history.save_told("gone", None).unwrap();
    let told = open(folder.path()).history.told().unwrap();
    assert_eq!(told, BTreeMap::from([("ops".to_owned(), spacing.told().clone())]));
}

#[tokio::test]
async fn a_history_that_cannot_be_written_is_said_and_written_later() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("state");
    // A file stands where the folder should be.
    fs::write(&folder, "").unwrap();
    let (recorder, past) = Recorder::start(Some(&folder), at(0));
    assert!(past.newest.is_empty());
    recorder.record(ended(1, "a", Ending::Success));
    recorder.flush().await;
    let status = recorder.status();
    assert!(status.error.is_some() && status.pending == 1, "{status:?}");
    recorder.runs(RunFilter::default()).await.unwrap_err();
    fs::remove_file(&folder).unwrap();
    recorder.record(ended(2, "a", Ending::Success));
    assert_eq!(recorder.runs(RunFilter::default()).await.unwrap().len(), 2);
    assert_eq!(recorder.status(), HistoryStatus::default());
}

#[tokio::test]
async fn a_history_that_is_damaged_while_it_is_used_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (recorder, _) = Recorder::start(Some(folder.path()), at(0));
    recorder.record(ended(1, "a", Ending::Success));
    recorder.flush().await;
    for name in [FILE_NAME, "history.sqlite-wal", "history.sqlite-shm"] {
        fs::remove_file(folder.path().join(name)).unwrap();
    }
    drop(recorder);
    fs::write(folder.path().join(FILE_NAME), vec![7; 9000]).unwrap();
    let (recorder, past) = Recorder::start(Some(folder.path()), at(0));
    assert!(past.newest.is_empty() && recorder.status().warning.is_some());
    recorder.record(ended(2, "a", Ending::Success));
    assert_eq!(recorder.runs(RunFilter::default()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn without_a_folder_nothing_is_kept() {
    let (recorder, _) = Recorder::start(None, at(0));
    recorder.record(ended(1, "a", Ending::Success));
    recorder.flush().await;
    assert_eq!(recorder.status(), HistoryStatus::default());
    recorder.runs(RunFilter::default()).await.unwrap_err();
}

#[test]
fn a_change_waits_for_its_backup() {
    let folder = tempfile::tempdir().unwrap();
    let mut history = open(folder.path()).history;
    history.save_changed("shop", Some(at(1))).unwrap();
    history.save_changed("shop", Some(at(2))).unwrap();
    history.save_changed("done", Some(at(1))).unwrap();
    history.save_changed("done", None).unwrap();
    drop(history);
    let changed = open(folder.path()).history.changed().unwrap();
    assert_eq!(changed, BTreeMap::from([("shop".to_owned(), at(1))]), "since the first of them");
}

#[test]
fn runs_are_found_by_kind_and_by_failure() {
    let folder = tempfile::tempdir().unwrap();
    let mut history = open(folder.path()).history;
    let drill = RunRecord { kind: TaskKind::Drill, ..ended(4, "shop", Ending::PermanentFailure) };
    let runs = [
        ended(1, "shop", Ending::TransientFailure),
        ended(2, "shop", Ending::Success),
        ended(3, "other", Ending::Cancelled),
        drill,
        RunRecord { kind: TaskKind::Restore, ..ended(5, "shop", Ending::Success) },
        started(6, "shop", TaskKind::Restore),
    ];
    history.save(&runs).unwrap();
    let mut found = |database: Option<&str>, kind, failed, before: Option<i64>| {
        let (database, before) = (database.map(str::to_owned), before.map(RunId));
        let filter = RunFilter { database, kind, failed, before, most: 0 };
        history.runs(&filter).unwrap().iter().map(|run| run.id.0).collect::<Vec<_>>()
    };
    assert_eq!(found(None, None, Some(true), None), [4, 1]);
    assert_eq!(found(None, None, Some(false), None), [6, 5, 3, 2]);
    assert_eq!(found(None, Some(TaskKind::Backup), None, None), [3, 2, 1]);
    assert_eq!(found(None, Some(TaskKind::Restore), None, Some(6)), [5]);
    assert_eq!(found(Some("shop"), Some(TaskKind::Backup), Some(false), None), [2]);
    assert_eq!(found(Some("shop"), Some(TaskKind::Drill), Some(true), None), [4]);
    assert_eq!(found(Some("it's"), Some(TaskKind::Drill), None, None), [0; 0]);
}

#[test]
fn questions_about_few_of_many_runs_read_few() {
    let folder = tempfile::tempdir().unwrap();
    let mut history = open(folder.path()).history;
    for (question, index) in [
        ("id < 9 AND ending IN ('transient-failure', 'permanent-failure')", "runs_failed"),
        ("id < 9 AND kind = ? AND kind <> 'backup'", "runs_beside_backups"),
        ("id < 9 AND database = ?", "runs_of_database"),
    ] {
        let plan = format!("EXPLAIN QUERY PLAN SELECT * FROM runs WHERE {question} ORDER BY id DESC LIMIT 100");
        let told: String = history
            .ask(|connection| {
                connection.query_row(&plan, params_from_iter(question.contains('?').then_some("x")), |row| row.get(3))
            })
            .unwrap();
        assert!(told.contains(index), "{question}: {told}");
    }
}

fn said(text: &str) -> KeptLog {
    let mut log = RunLog::default();
    log.add(at(0), LogLevel::Note, text);
    log.to_kept()
}

#[test]
fn what_a_run_said_goes_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut history = open(folder.path()).history;
    let runs: Vec<_> = (1..=4).map(|id| ended(id, "a", Ending::Success)).collect();
    history.save(&runs).unwrap();
    let logs: Vec<_> = runs.iter().map(|run| (run.id, said(&format!("it's {}", run.id)))).collect();
    history.save_logs(logs.iter().map(|(id, log)| (id, log))).unwrap();
    // The end of a run is written when its log is there already.
    history.save(&runs).unwrap();
    drop(history);
    let mut history = open(folder.path()).history;
    assert_eq!(history.log(RunId(3)).unwrap(), logs[2].1);
    assert_eq!(history.log(RunId(7)).unwrap(), KeptLog::default());
    history.trim_to(at(1000), 2).unwrap();
    let left = history.ask(|connection| {
        connection.query_row("SELECT group_concat(run) FROM logs", [], |row| row.get::<_, String>(0))
    });
    assert_eq!(left.unwrap(), "3,4");
}

#[test]
fn a_history_of_an_older_program_is_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let mut history = open(folder.path()).history;
    history.save(&[ended(1, "a", Ending::Success)]).unwrap();
    let older =
        "DROP TRIGGER logs_go_with_runs; DROP TABLE logs; DROP INDEX runs_failed; DROP INDEX runs_beside_backups";
    history.ask(|connection| connection.execute_batch(older)).unwrap();
    drop(history);
    let Opened { mut history, warning, .. } = open(folder.path());
    assert_eq!((warning, history.log(RunId(1)).unwrap()), (None, KeptLog::default()));
    history.save_logs([(&RunId(1), &said("more"))]).unwrap();
    assert_eq!(history.runs(&RunFilter::default()).unwrap().len(), 1);
    // What the older one does with a newer one's file.
    history.ask(|connection| connection.execute("DELETE FROM runs", [])).unwrap();
    assert_eq!(history.log(RunId(1)).unwrap(), KeptLog::default());
}

#[tokio::test]
async fn strips_have_what_was_and_what_is_new() {
    let folder = tempfile::tempdir().unwrap();
    let databases: Vec<_> = (0..250).map(|n| format!("database-{n}")).collect();
    let mut runs: Vec<_> = (1..).zip(&databases).map(|(id, name)| ended(id, name, Ending::Success)).collect();
    runs.extend((300..340).map(|id| ended(id, "many", Ending::PermanentFailure)));
    runs.push(RunRecord { kind: TaskKind::Drill, ..ended(400, "many", Ending::Success) });
    open(folder.path()).history.save(&runs).unwrap();
    let (recorder, _) = Recorder::start(Some(folder.path()), at(1000));
    recorder.record(ended(500, "many", Ending::Success));
    let ids = |name: &str| recorder.strips().of(name).iter().map(|run| run.run.0).collect::<Vec<_>>();
    assert_eq!(ids("many").last(), Some(&500), "at once");
    let late = std::time::Instant::now() + Duration::from_secs(60);
    while databases.iter().any(|name| ids(name).is_empty()) || ids("many").len() < 30 {
        assert!(std::time::Instant::now() < late);
        recorder.flush().await;
    }
    assert_eq!(ids("many"), (311..340).chain([500]).collect::<Vec<_>>());
    let newest = recorder.ended("many", at(330), 5).await.unwrap();
    assert_eq!(newest.iter().map(|run| run.started).collect::<Vec<_>>(), [500, 339, 338, 337, 336].map(at));
}

#[tokio::test]
async fn a_log_that_waits_for_its_disk_can_be_read() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("state");
    fs::write(&folder, "").unwrap();
    let (recorder, _) = Recorder::start(Some(&folder), at(0));
    let mut log = RunLog::default();
    recorder.record_log(RunId(1), &log);
    log.add(at(0), LogLevel::Error, "the disk is full");
    recorder.record_log(RunId(2), &log);
    assert_eq!(recorder.log(RunId(2)).await.unwrap().into_lines(), log.lines());
    recorder.log(RunId(1)).await.unwrap_err();
    fs::remove_file(&folder).unwrap();
    recorder.record(ended(2, "a", Ending::Success));
    assert_eq!(recorder.log(RunId(2)).await.unwrap().into_lines(), log.lines());
    assert_eq!(recorder.status(), HistoryStatus::default());
}
