use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use copal::schedule::{Policy, RunKind, RunReason};
use copal::{Copal, DatabaseSettings, InitOptions, PassphraseSource, Secret, Settings};
use jiff::Timestamp;
use rusqlite::Connection;
use tokio::runtime::Runtime;
use tokio::sync::broadcast::Receiver;

use super::*;
use crate::history::Recorder;
use crate::run::RunRecord;
use crate::runner::{RunEvent, RunnerSettings};

const PATIENCE: Duration = Duration::from_secs(60);
const DUCKDB: &str = "1.4.5";

/// A folder with databases and a repository, and a daemon that is started over it, again and again if need be.
struct Home {
    runtime: Runtime,
    folder: tempfile::TempDir,
    settings: Settings,
}

struct Daemon<'a> {
    home: &'a Home,
    runner: Runner,
    events: Receiver<RunEvent>,
    watch: Watch,
}

impl Home {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let repository = folder.path().join("repository");
        let settings = Settings {
            state: Some(folder.path().join("state")),
            passphrase: PassphraseSource::Known(Secret::new("a passphrase")),
            ..Settings::new(repository.to_str().unwrap())
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let options = InitOptions { encrypt: true, ..InitOptions::default() };
        runtime.block_on(Copal::new(settings.clone()).init(options)).unwrap();
        Self { runtime, folder, settings }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Names a file, which need not be there, as a database of its own name.
    fn configure(&mut self, engine: &str, name: &str) {
        let url = format!("{engine}:{}", self.path(name).display());
        self.settings.databases.insert(name.to_owned(), DatabaseSettings { url, ..DatabaseSettings::default() });
    }

    /// Makes an SQLite database; the connection holds it open.
    fn database(&mut self, name: &str, journal_mode: &str) -> Connection {
        self.configure("sqlite", name);
        let db = Connection::open(self.path(name)).unwrap();
        db.pragma_update_and_check(None, "journal_mode", journal_mode, |_| Ok(())).unwrap();
        db.execute_batch("CREATE TABLE item (body BLOB)").unwrap();
        write(&db);
        db
    }

    fn files(&self) -> BTreeMap<String, PathBuf> {
        self.settings.databases.keys().map(|name| (name.clone(), self.path(name))).collect()
    }

    fn runner_settings(&self) -> RunnerSettings {
        let policies = self.settings.databases.keys().map(|name| (name.clone(), Policy::default())).collect();
        RunnerSettings { settings: self.settings.clone(), policies, limit: 2 }
    }

    fn daemon(&self) -> Daemon<'_> {
        let _entered = self.runtime.enter();
        let (recorder, past) = Recorder::start(self.settings.state.as_deref(), Timestamp::now());
        let runner = Runner::start(self.runner_settings(), recorder, past);
        let events = runner.subscribe();
        runner.begin();
        let watch = Watch::new(self.files(), runner.clone(), Handle::current());
        Daemon { home: self, runner, events, watch }
    }
}

impl Daemon<'_> {
    /// Two looks, which tell all that has settled.
    fn looks(&mut self) -> usize {
        self.watch.look().unwrap() + self.watch.look().unwrap()
    }

    fn ended(&mut self) -> RunRecord {
        next_run(self.home, &mut self.events)
    }

    #[track_caller]
    fn backed_up(&mut self, reason: RunReason) -> RunRecord {
        let run = self.ended();
        assert_eq!((run.ending, run.reason), (Some(Ending::Success), reason), "{run:?}");
        run
    }

    fn stop(self) {
        self.home.runtime.block_on(self.runner.stop(PATIENCE));
    }
}

fn next_run(home: &Home, events: &mut Receiver<RunEvent>) -> RunRecord {
    home.runtime.block_on(async {
        loop {
            let event = tokio::time::timeout(PATIENCE, events.recv()).await.expect("something happens").unwrap();
            if let RunEvent::Ended(run, _) = event {
                return run;
            }
        }
    })
}

fn write(db: &Connection) {
    db.execute("INSERT INTO item VALUES (randomblob(5000))", []).unwrap();
}

/// What a crash would leave: the files as they are, with nobody who has them open.
fn crash(from: &Path, to: &Path) {
    for suffix in ["", "-wal", "-journal"] {
        let beside = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
        if beside(from).exists() {
            fs::copy(beside(from), beside(to)).unwrap();
        }
    }
}

/// So that what was written before is older than what follows, by the coarsest clock.
fn let_time_pass() {
    std::thread::sleep(Duration::from_millis(2100));
}

#[test]
fn a_change_is_told_once_when_it_has_settled() {
    let mut home = Home::new();
    let db = home.database("app.db", "wal");
    let mut daemon = home.daemon();
    assert_eq!((daemon.watch.look().unwrap(), daemon.watch.look().unwrap()), (0, 1), "there is no backup yet");
    daemon.backed_up(RunReason::Changed);
    assert_eq!(daemon.looks(), 0);
    write(&db);
    assert_eq!((daemon.watch.look().unwrap(), daemon.watch.look().unwrap()), (0, 1));
    daemon.backed_up(RunReason::Changed);
    assert_eq!(daemon.looks() + daemon.looks(), 0);
    // What goes on is told all the same, and once more when it is over.
    write(&db);
    assert_eq!(daemon.watch.look().unwrap(), 0);
    for _ in 0..3 {
        write(&db);
        assert_eq!(daemon.watch.look().unwrap(), 1);
    }
    assert_eq!((daemon.watch.look().unwrap(), daemon.looks()), (1, 0));
    daemon.stop();
}

#[test]
fn a_backup_is_no_change_of_what_it_reads() {
    let mut home = Home::new();
    let in_use = home.database("wal-in-use.db", "wal");
    let with_crash = home.database("wal-then-crash.db", "wal");
    drop(home.database("wal-closed.db", "wal"));
    drop(home.database("journal.db", "delete"));
    home.configure("sqlite", "crash.db");
    crash(&home.path("wal-then-crash.db"), &home.path("crash.db"));
    assert!(fs::metadata(home.path("crash.db-wal")).unwrap().len() > 0);
    // An empty log that somebody left.
    fs::write(home.path("wal-closed.db-wal"), "").unwrap();
    let mut daemon = home.daemon();
    assert_eq!(daemon.looks(), 5);
    (0..5).for_each(|_| drop(daemon.backed_up(RunReason::Changed)));
    assert_eq!(daemon.looks() + daemon.looks(), 0, "{:?}", daemon.watch.files);
    // Nor is one that nobody asked the watch for.
    for name in home.settings.databases.keys() {
        home.runtime.block_on(daemon.runner.request(name, RunKind::Backup)).unwrap();
        daemon.backed_up(RunReason::Requested);
    }
    assert_eq!(daemon.looks(), 0, "{:?}", daemon.watch.files);
    daemon.stop();
    drop((in_use, with_crash));
}

#[test]
fn a_change_during_a_backup_counts_after_it() {
    let mut home = Home::new();
    let db = home.database("app.db", "wal");
    db.execute_batch("INSERT INTO item VALUES (randomblob(50000000))").unwrap();
    let mut daemon = home.daemon();
    assert_eq!(daemon.looks(), 1);
    let has_run = || daemon.runner.database("app.db").unwrap().backup.newest.is_some();
    while daemon.runner.live().is_empty() && !has_run() {
        std::thread::yield_now();
    }
    write(&db);
    assert_eq!(daemon.looks(), 1);
    daemon.backed_up(RunReason::Changed);
    daemon.backed_up(RunReason::Changed);
    assert_eq!(daemon.looks(), 0);
    daemon.stop();
}

#[test]
fn a_rollback_by_the_backup_calls_for_one_more_and_not_for_ever() {
    let mut home = Home::new();
    let mut db = home.database("live.db", "delete");
    db.pragma_update(None, "cache_size", 2).unwrap();
    let transaction = db.transaction().unwrap();
    (0..100).for_each(|_| write(&transaction));
    home.settings.databases.clear();
    home.configure("sqlite", "app.db");
    crash(&home.path("live.db"), &home.path("app.db"));
    assert!(fs::metadata(home.path("app.db-journal")).unwrap().len() > 0);
    let mut daemon = home.daemon();
    assert_eq!(daemon.looks(), 1);
    daemon.backed_up(RunReason::Changed);
    assert!(!home.path("app.db-journal").exists(), "the backup had to roll back");
    assert_eq!(daemon.looks(), 1);
    daemon.backed_up(RunReason::Changed);
    assert_eq!(daemon.looks() + daemon.looks(), 0);
    daemon.stop();
}

#[test]
fn duckdb_logs_are_watched_and_a_backup_changes_nothing() {
    const SCRIPT: &str = "import sys, duckdb\n\
        c = duckdb.connect(sys.argv[1])\n\
        c.execute('CREATE TABLE IF NOT EXISTS item (n INTEGER)')\n\
        for _ in sys.stdin:\n \
            c.execute('INSERT INTO item VALUES (1)'); print('ok', flush=True)";
    let environment = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv");
    let mut home = Home::new();
    home.configure("duckdb", "app.duckdb");
    let path = home.path("app.duckdb");
    let mut owner = Command::new(environment.join("bin/python"))
        .args(["-c", SCRIPT])
        .arg(&path)
        .env("PYTHONPATH", environment.join("duckdb").join(DUCKDB))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut answers = BufReader::new(owner.stdout.take().unwrap());
    let mut insert = || {
        use std::io::Write as _;
        writeln!(owner.stdin.as_mut().unwrap()).unwrap();
        let mut answer = String::new();
        answers.read_line(&mut answer).unwrap();
        assert_eq!(answer, "ok\n");
    };
    insert();
    let mut daemon = home.daemon();
    for _ in 0..3 {
        assert_eq!(daemon.looks(), 1);
        daemon.backed_up(RunReason::Changed);
        assert_eq!(daemon.looks() + daemon.looks(), 0);
        insert();
    }
    // A crash leaves the log.
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert!(fs::metadata(home.path("app.duckdb.wal")).unwrap().len() > 0);
    assert_eq!(daemon.looks(), 1);
    daemon.backed_up(RunReason::Changed);
    assert_eq!(daemon.looks() + daemon.looks(), 0);
    daemon.stop();
}

#[test]
fn what_changed_while_the_daemon_was_down_counts() {
    let mut home = Home::new();
    let (a, _b) = (home.database("a.db", "wal"), home.database("b.db", "wal"));
    drop(home.database("c.db", "delete"));
    drop(home.database("old.db", "delete"));
    home.settings.databases.remove("old.db");
    let_time_pass();
    let mut daemon = home.daemon();
    assert_eq!(daemon.looks(), 3);
    (0..3).for_each(|_| drop(daemon.backed_up(RunReason::Changed)));
    daemon.stop();
    let mut daemon = home.daemon();
    assert_eq!(daemon.looks(), 0, "all is in a backup");
    daemon.stop();
    write(&a);
    // Another file, though its content is older than the backup.
    fs::rename(home.path("old.db"), home.path("c.db")).unwrap();
    let mut daemon = home.daemon();
    assert_eq!(daemon.looks(), 2);
    let mut changed = [(); 2].map(|()| daemon.backed_up(RunReason::Changed).database);
    changed.sort();
    assert_eq!(changed, ["a.db", "c.db"]);
    daemon.stop();
}

#[test]
fn a_file_that_is_away_has_not_changed_but_may_have_when_it_is_back() {
    let mut home = Home::new();
    let db = home.database("app.db", "delete");
    drop(db);
    let_time_pass();
    let mut daemon = home.daemon();
    assert_eq!(daemon.looks(), 1);
    daemon.backed_up(RunReason::Changed);
    fs::rename(home.path("app.db"), home.path("away")).unwrap();
    assert_eq!(daemon.looks() + daemon.looks(), 0);
    fs::copy(home.path("away"), home.path("app.db")).unwrap();
    assert_eq!(daemon.looks(), 1, "another file");
    daemon.backed_up(RunReason::Changed);
    daemon.stop();
}

#[test]
fn a_file_that_is_away_and_comes_back_as_it_was_has_not_changed() {
    let mut home = Home::new();
    // A link that leads nowhere for a while: nothing about the file itself changes.
    fs::create_dir(home.path("folder")).unwrap();
    drop(home.database("folder/real.db", "delete"));
    home.settings.databases.clear();
    home.configure("sqlite", "link.db");
    symlink("folder/real.db", home.path("link.db")).unwrap();
    let_time_pass();
    let mut daemon = home.daemon();
    assert_eq!(daemon.looks(), 1);
    daemon.backed_up(RunReason::Changed);
    fs::rename(home.path("folder"), home.path("gone")).unwrap();
    assert_eq!(daemon.looks(), 0);
    assert_eq!(daemon.watch.files["link.db"].found, Found::Away);
    fs::rename(home.path("gone"), home.path("folder")).unwrap();
    assert_eq!(daemon.looks(), 0, "it is as it was");
    assert_eq!(daemon.watch.files["link.db"].found, Found::There);
    daemon.stop();
}

#[test]
fn the_log_of_a_linked_database_is_found() {
    let mut home = Home::new();
    fs::create_dir(home.path("data")).unwrap();
    let db = home.database("data/real.db", "wal");
    home.settings.databases.clear();
    home.configure("sqlite", "link.db");
    symlink("data/real.db", home.path("link.db")).unwrap();
    let mut daemon = home.daemon();
    assert_eq!(daemon.looks(), 1);
    daemon.backed_up(RunReason::Changed);
    assert_eq!(daemon.looks(), 0);
    write(&db);
    assert_eq!(daemon.looks(), 1);
    daemon.backed_up(RunReason::Changed);
    daemon.stop();
}

#[test]
fn a_change_whose_backup_failed_for_good_is_told_again() {
    let mut home = Home::new();
    let _db = home.database("app.db", "wal");
    let good = std::mem::replace(&mut home.settings.passphrase, PassphraseSource::Known(Secret::new("a wrong one")));
    let mut daemon = home.daemon();
    assert_eq!(daemon.looks(), 1);
    assert_eq!(daemon.ended().ending, Some(Ending::PermanentFailure));
    assert_eq!(daemon.looks(), 0, "not at once");
    daemon.watch.tell_again = Duration::ZERO;
    assert_eq!(daemon.looks(), 2);
    daemon.ended();
    daemon.watch.tell_again = TELL_AGAIN;
    // A reload may have mended it.
    let settings =
        RunnerSettings { settings: Settings { passphrase: good, ..home.settings.clone() }, ..home.runner_settings() };
    home.runtime.block_on(daemon.runner.reload(settings)).unwrap();
    daemon.watch.reload(home.files());
    assert_eq!(daemon.looks(), 1);
    while daemon.ended().ending != Some(Ending::Success) {}
    daemon.watch.tell_again = Duration::ZERO;
    assert_eq!(daemon.looks(), 0, "it is in a backup");
    daemon.stop();
}

#[test]
fn the_thread_looks_by_itself_and_ends_with_its_handle() {
    let mut home = Home::new();
    let db = home.database("app.db", "wal");
    let Daemon { runner, mut events, watch: unused, .. } = home.daemon();
    drop(unused);
    let watch = {
        let _entered = home.runtime.enter();
        // A file that the runner does not know yet holds up no other.
        let files = home.files().into_iter().chain([("a".to_owned(), home.path("app.db"))]).collect();
        FileWatch::start(files, runner.clone(), Duration::from_millis(20))
    };
    assert_eq!(next_run(&home, &mut events).reason, RunReason::Changed);
    write(&db);
    assert_eq!(next_run(&home, &mut events).reason, RunReason::Changed);
    drop(db);
    let other = home.database("other.db", "wal");
    let settings = home.runner_settings();
    home.runtime.block_on(runner.reload(settings)).unwrap();
    watch.reload([("other.db".to_owned(), home.path("other.db"))].into());
    while next_run(&home, &mut events).database != "other.db" {}
    drop((other, watch, runner));
    // Nobody holds the runner any more, so its loop ends.
    let closed = home.runtime.block_on(async {
        let closed =
            async { while !matches!(events.recv().await, Err(tokio::sync::broadcast::error::RecvError::Closed)) {} };
        tokio::time::timeout(PATIENCE, closed).await
    });
    assert!(closed.is_ok());
}
