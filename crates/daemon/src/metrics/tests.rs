use copal::{BackupAge, BackupId, FolderName, StatusProblem};

use super::*;
use crate::run::{RunError, RunFacts, RunId};

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/metrics/sample.txt");

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Facts that own what they tell.
struct Told {
    now: Timestamp,
    started: Timestamp,
    databases: BTreeMap<String, Seen>,
    runs: Vec<DatabaseStatus>,
    live: Vec<LiveRun>,
    notifiers: BTreeMap<String, NotifierStatus>,
    history: HistoryStatus,
    configuration_is_good: bool,
}

impl Told {
    fn nothing() -> Self {
        Self {
            now: at("2026-11-20T15:30:00Z"),
            started: at("2026-11-01T00:00:00.25Z"),
            databases: BTreeMap::new(),
            runs: Vec::new(),
            live: Vec::new(),
            notifiers: BTreeMap::new(),
            history: HistoryStatus::default(),
            configuration_is_good: true,
        }
    }

    fn text(&self) -> String {
        render(&Facts {
            now: self.now,
            started: self.started,
            version: "1.2.3",
            databases: &self.databases,
            runs: &self.runs,
            live: &self.live,
            limit: 2,
            notifiers: &self.notifiers,
            history: &self.history,
            configuration_is_good: self.configuration_is_good,
        })
    }

    /// The lines of one family, without its head.
    fn samples(&self, family: &str) -> Vec<String> {
        let text = self.text();
        let is_it = |line: &&str| line.strip_prefix(family).is_some_and(|rest| rest.starts_with(['{', ' ']));
        text.lines().filter(is_it).map(|line| line[family.len()..].trim().to_owned()).collect()
    }
}

fn run(kind: TaskKind, started: &str, ending: Ending, seconds: u64) -> RunRecord {
    let started = at(started);
    RunRecord {
        id: RunId(started.as_millisecond()),
        database: "shop".into(),
        kind,
        reason: copal::schedule::RunReason::Scheduled,
        attempt: 1,
        due: started,
        started,
        ended: Some(started + Duration::from_secs(seconds)),
        ending: Some(ending),
        error: ending.is_failure().then(|| RunError { kind: "not-found".into(), message: "gone".into() }),
        duration_ms: Some(seconds * 1000),
        consecutive_failures: 0,
        facts: RunFacts::default(),
    }
}

fn lane(newest: RunRecord, newest_success: Option<RunRecord>, next: &str) -> LaneStatus {
    LaneStatus {
        consecutive_failures: newest.consecutive_failures,
        newest: Some(newest),
        newest_success,
        next: Some(at(next)),
    }
}

fn runs_of(name: &str) -> DatabaseStatus {
    let (backup, drill) = (LaneStatus::default(), LaneStatus::default());
    DatabaseStatus { name: name.into(), running: None, backup, drill }
}

fn status(name: &str, problems: &[StatusProblemKind], newest: Option<&str>) -> copal::DatabaseStatus {
    let problem = |kind: &_| StatusProblem { kind: *kind, message: "because".into() };
    let age = |time| BackupAge { id: BackupId::new(at(time)), time: at(time), age_seconds: 0 };
    copal::DatabaseStatus {
        database: FolderName::nearest(name, 64),
        name: name.into(),
        configured: true,
        protected: problems.is_empty(),
        problems: problems.iter().map(problem).collect(),
        notes: Vec::new(),
        engine: None,
        source: None,
        host: None,
        backups: usize::from(newest.is_some()),
        last_backup: newest.map(age),
        last_verified: None,
        schedule: None,
        max_age_seconds: None,
        stale_after: None,
        next_run: None,
    }
}

fn seen(status: copal::DatabaseStatus, repository_bytes: Option<u64>) -> Seen {
    Seen { status, repository_bytes }
}

/// Every family has a sample in it.
fn whole() -> Told {
    let mut told = Told::nothing();

    let mut shop = status("shop", &[], Some("2026-11-20T03:00:01Z"));
    shop.backups = 21;
    shop.last_verified = status("shop", &[], Some("2026-11-15T03:00:01Z")).last_backup;
    shop.max_age_seconds = Some(36 * 3600);
    shop.stale_after = Some(at("2026-11-21T15:00:01Z"));
    let mut made = run(TaskKind::Backup, "2026-11-20T03:00:00Z", Ending::Success, 61);
    made.duration_ms = Some(61_250);
    made.facts.logical_bytes = Some(1 << 30);
    made.facts.added_bytes = Some(20_000_000);
    made.facts.stored_bytes = Some(400_000_000);
    let drilled = run(TaskKind::Drill, "2026-11-15T04:00:00Z", Ending::Success, 120);
    let mut runs = runs_of("shop");
    runs.running = Some(RunId(1));
    runs.backup = lane(made.clone(), Some(made), "2026-11-21T03:00:00Z");
    runs.drill = lane(drilled.clone(), Some(drilled), "2026-11-22T04:00:00Z");
    told.runs.push(runs);
    told.live.push(LiveRun {
        id: RunId(1),
        database: "shop".into(),
        kind: TaskKind::Drill,
        reason: copal::schedule::RunReason::Requested,
        attempt: 1,
        due: at("2026-11-20T15:29:00Z"),
        started: at("2026-11-20T15:29:00.5Z"),
        phase: "reading".into(),
        done: 0,
        total: None,
        stopping: None,
    });

    // It failed three times, and its drill found damage.
    let problems = [StatusProblemKind::Stale, StatusProblemKind::Damage];
    let analytics = status("analytics", &problems, Some("2026-11-10T00:00:00Z"));
    let mut failed = run(TaskKind::Backup, "2026-11-20T12:00:00Z", Ending::PermanentFailure, 2);
    failed.consecutive_failures = 3;
    let mut drilled = run(TaskKind::Drill, "2026-11-20T13:00:00Z", Ending::PermanentFailure, 7);
    drilled.consecutive_failures = 1;
    drilled.facts.damaged = 2;
    let mut runs = runs_of("analytics");
    runs.backup = lane(failed, None, "2026-11-27T00:00:00Z");
    runs.drill = lane(drilled, None, "2026-11-27T04:00:00Z");
    told.runs.insert(0, runs);
    // What would read the text has to bear such a name.
    told.runs.push(runs_of("\"k\u{e4}se\" \\n\n{a=\"b\"} 1"));

    told.databases =
        [("shop".into(), seen(shop, Some(2_500_000_000))), ("analytics".into(), seen(analytics, Some(7)))].into();
    let well = NotifierStatus { last_sent: Some(at("2026-11-20T12:00:03Z")), ..NotifierStatus::default() };
    let ill = NotifierStatus { last_error: Some("refused".into()), waiting: 4, lost: 9, ..NotifierStatus::default() };
    told.notifiers = [("mail".into(), ill), ("ops".into(), well)].into();
    told.history = HistoryStatus { error: None, warning: None, pending: 1, lost: 2 };
    told
}

/// `contrib/` is checked against the file, so it has to be what the daemon says.
/// After an intended change: `COPAL_WRITE_SAMPLE=1 cargo test -p copal-daemon metrics`, then read the difference.
#[test]
fn the_sample_is_what_is_rendered() {
    let text = whole().text();
    if std::env::var_os("COPAL_WRITE_SAMPLE").is_some() {
        std::fs::write(SAMPLE, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(SAMPLE).unwrap(), text);
}

#[test]
fn each_family_has_one_head_and_its_samples_behind_it() {
    let text = whole().text();
    let mut lines = text.lines().peekable();
    let mut seen = std::collections::BTreeSet::new();
    while let Some(help) = lines.next() {
        let family = help.strip_prefix("# HELP ").unwrap().split(' ').next().unwrap();
        assert!(seen.insert(family), "{family} for the second time");
        let kind = lines.next().unwrap().strip_prefix(&format!("# TYPE {family} ")).unwrap();
        assert_eq!(kind == "counter", family.ends_with("_total"), "{family}");
        let mut samples = 0;
        while let Some(sample) = lines.next_if(|line| !line.starts_with('#')) {
            assert_eq!(sample.split(['{', ' ']).next(), Some(family));
            samples += 1;
        }
        assert!(samples > 0, "the sample says nothing of {family}");
    }
    assert!(text.ends_with('\n') && seen.len() > 30);
}

#[test]
fn what_is_not_known_has_no_sample() {
    let text = Told::nothing().text();
    let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let expected = [
        "copal_runs_under_way 0",
        "copal_runs_limit 2",
        "copal_build_info{version=\"1.2.3\"} 1",
        "copal_daemon_start_timestamp_seconds 1793491200.250",
        "copal_configuration_ok 1",
        "copal_history_ok 1",
        "copal_history_waiting 0",
        "copal_history_lost_total 0",
    ];
    assert_eq!(samples, expected);

    // Configured, never run, not looked at.
    let told = Told { runs: vec![runs_of("new")], ..Told::nothing() };
    let text = told.text();
    let samples: Vec<&str> = text.lines().filter(|line| line.contains("database=")).collect();
    let expected = [
        "copal_backup_consecutive_failures{database=\"new\"} 0",
        "copal_drill_consecutive_failures{database=\"new\"} 0",
        "copal_running{database=\"new\"} 0",
    ];
    assert_eq!(samples, expected);
}

#[test]
fn what_is_wrong_is_told() {
    let mut told = whole();
    told.history.error = Some("the disk is full".into());
    told.configuration_is_good = false;
    assert_eq!(told.samples("copal_history_ok"), ["0"]);
    assert_eq!(told.samples("copal_configuration_ok"), ["0"]);
    assert_eq!(told.samples("copal_protected"), [r#"{database="analytics"} 0"#, r#"{database="shop"} 1"#]);
    let problems = told.samples("copal_problem");
    assert_eq!(problems.len(), 10);
    let there: Vec<_> = problems.iter().filter(|sample| sample.ends_with(" 1")).collect();
    assert_eq!(there, [r#"{database="analytics",kind="stale"} 1"#, r#"{database="analytics",kind="damage"} 1"#]);
}

#[test]
fn the_newest_backup_is_the_repositorys_word() {
    const LAST: &str = "copal_backup_last_success_timestamp_seconds";
    let made = run(TaskKind::Backup, "2026-11-20T12:00:00Z", Ending::Success, 1);
    let mut runs = runs_of("a");
    runs.backup = lane(made.clone(), Some(made), "2026-11-21T12:00:00Z");
    let mut told = Told { runs: vec![runs], ..Told::nothing() };
    // Not looked at yet: the history's.
    assert_eq!(told.samples(LAST), [r#"{database="a"} 1795176000"#]);
    assert_eq!(told.samples("copal_backup_age_seconds"), [r#"{database="a"} 12600"#]);
    // Another host made one since.
    told.databases.insert("a".into(), seen(status("a", &[], Some("2026-11-20T13:00:00Z")), None));
    assert_eq!(told.samples(LAST), [r#"{database="a"} 1795179600"#]);
    // Somebody deleted it: what the history remembers protects nobody.
    told.databases.insert("a".into(), seen(status("a", &[StatusProblemKind::NoBackup], None), None));
    assert_eq!(told.samples(LAST), Vec::<String>::new());
    assert_eq!(told.samples("copal_backup_age_seconds"), Vec::<String>::new());
    // A clock that goes wrong makes no negative ages.
    told.databases
        .insert("a".into(), seen(status("a", &[StatusProblemKind::Clock], Some("2027-01-01T00:00:00Z")), None));
    assert_eq!(told.samples("copal_backup_age_seconds"), [r#"{database="a"} 0"#]);
}

#[test]
fn two_thousand_databases_are_written_without_growing_the_text() {
    let (whole, mut told) = (whole(), Told::nothing());
    for i in 0..2000 {
        let name = format!("customer-{i:04}-production");
        told.databases.insert(name.clone(), seen(whole.databases["shop"].status.clone(), Some(123_456_789_012)));
        told.runs.push(DatabaseStatus { name, ..whole.runs[1].clone() });
    }
    let text = told.text();
    assert!(text.len() < 2000 * BYTES_OF_DATABASE, "{} bytes", text.len());
    let lines = |text: &str, name: &str| text.lines().filter(|line| line.contains(name)).count();
    // All but the run under way.
    assert_eq!(lines(&text, "\"customer-1999-production\""), lines(&whole.text(), "\"shop\"") - 1);
}

#[test]
fn names_are_escaped() {
    let mut told = Told::nothing();
    for name in ["a\"b", "c\\d", "e\nf", "g\\\"\\n", "h\0i", "k\u{e4}se \u{1f9c0}", "{x=\"y\"} 1", ""] {
        told.runs.push(runs_of(name));
        told.notifiers.insert(name.into(), NotifierStatus::default());
    }
    let expected = [
        r#"="" 0"#,
        r#"="a\"b" 0"#,
        r#"="c\\d" 0"#,
        r#"="e\nf" 0"#,
        r#"="g\\\"\\n" 0"#,
        "=\"h\u{fffd}i\" 0",
        "=\"k\u{e4}se \u{1f9c0}\" 0",
        r#"="{x=\"y\"} 1" 0"#,
    ];
    let expected = |label: &str| expected.map(|rest| format!("{{{label}{}", rest.replace("\" 0", "\"} 0")));
    assert_eq!(told.samples("copal_running"), expected("database"));
    assert_eq!(told.samples("copal_notifier_lost_total"), expected("notifier"));
    assert!(told.text().lines().all(|line| line.starts_with("copal_") || line.starts_with("# ")));
}

#[test]
fn cancelled_runs_did_not_succeed() {
    let mut told = Told::nothing();
    for (name, ending) in [("a", Ending::Cancelled), ("b", Ending::TransientFailure), ("c", Ending::Success)] {
        let newest = run(TaskKind::Backup, "2026-11-20T12:00:00Z", ending, 1);
        told.runs.push(DatabaseStatus { backup: lane(newest, None, "2026-11-21T12:00:00Z"), ..runs_of(name) });
    }
    let expected = [r#"{database="a"} 0"#, r#"{database="b"} 0"#, r#"{database="c"} 1"#];
    assert_eq!(told.samples("copal_backup_last_run_success"), expected);
}

#[test]
fn only_a_run_that_looked_tells_of_damage() {
    let lanes = |backup: Ending, drill: Ending, damaged: u64| {
        let backup = run(TaskKind::Backup, "2026-11-20T12:00:00Z", backup, 1);
        let mut drill = run(TaskKind::Drill, "2026-11-20T13:00:00Z", drill, 1);
        drill.facts.damaged = damaged;
        let mut runs = runs_of("a");
        runs.backup = lane(backup, None, "2026-11-21T12:00:00Z");
        runs.drill = lane(drill, None, "2026-11-21T13:00:00Z");
        Told { runs: vec![runs], ..Told::nothing() }.samples("copal_damaged_objects")
    };
    assert_eq!(lanes(Ending::Success, Ending::PermanentFailure, 3), [r#"{database="a"} 3"#]);
    assert_eq!(lanes(Ending::TransientFailure, Ending::Success, 0), [r#"{database="a"} 0"#]);
    assert_eq!(lanes(Ending::TransientFailure, Ending::Interrupted, 0), Vec::<String>::new());
}

#[test]
fn kinds_are_called_as_everywhere_else() {
    for kind in PROBLEMS {
        assert_eq!(serde_json::to_value(kind).unwrap(), problem_word(kind));
    }
    for kind in [TaskKind::Backup, TaskKind::Drill] {
        assert_eq!(serde_json::to_value(kind).unwrap(), run_word(kind));
    }
}

#[test]
fn numbers_are_written_in_base_units() {
    let mut text = Text::with_capacity(0);
    let mut family = text.gauge("a", "A.");
    family.sample(&[], u64::MAX);
    family.sample(&[], Duration::from_millis(1_005));
    family.sample(&[], Duration::from_millis(70));
    family.sample(&[], at("1969-12-31T23:59:58.5Z"));
    family.sample(&["b=\"\"", "c=\"d\""], Duration::MAX);
    let expected = "# HELP a A.\n# TYPE a gauge\na 18446744073709551615\na 1.005\na 0.070\na -1.500\n\
                    a{b=\"\",c=\"d\"} 9223372036854775.807\n";
    assert_eq!(text.finish(), expected);
}
