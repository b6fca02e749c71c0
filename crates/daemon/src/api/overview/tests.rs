use std::collections::{BTreeMap, BTreeSet};

use copal::{BackupAge, BackupId, DatabaseStatus, FolderName, StatusProblem, StatusProblemKind};

use super::*;
use crate::protection::Seen;
use crate::runner::DatabaseBrief;

fn at(hours: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + hours * 3600).unwrap()
}

/// What the repository says: its newest backup is so many hours old, and there may be a problem.
fn seen(name: &str, age: i64, problem: Option<&str>) -> (String, Seen) {
    let told = |time: Timestamp| BackupAge { id: BackupId::new(time), time, age_seconds: 0 };
    let told_problem = |text: &str| StatusProblem { kind: StatusProblemKind::Stale, message: text.to_owned() };
    let status = DatabaseStatus {
        database: FolderName::nearest(name, 64),
        name: name.to_owned(),
        configured: true,
        protected: problem.is_none(),
        problems: problem.map(told_problem).into_iter().collect(),
        notes: Vec::new(),
        engine: Some(if age % 2 == 0 { "sqlite" } else { "postgres" }.to_owned()),
        source: Some(format!("sqlite:/Data/{name}.db")),
        host: None,
        backups: 1,
        last_backup: Some(told(at(-age))),
        last_verified: (age % 3 == 0).then(|| told(at(-2 * age))),
        schedule: None,
        max_age_seconds: None,
        stale_after: None,
        next_run: None,
    };
    (name.to_owned(), Seen { status, repository_bytes: (age % 4 != 0).then_some(age.unsigned_abs() * 100) })
}

fn brief(name: &str, failures: u32, next: Option<i64>) -> DatabaseBrief {
    DatabaseBrief { name: name.to_owned(), failures, next_backup: next.map(at) }
}

/// Configured `a` to `e`, of which the repository knows all but `e`; `f` is another host's.
fn index() -> Index {
    let briefs = vec![
        brief("a", 0, Some(9)),
        brief("b", 2, Some(7)),
        brief("c", 0, None),
        brief("d", 0, Some(8)),
        brief("e", 1, Some(1)),
    ];
    let seen = BTreeMap::from([
        seen("a", 2, None),
        seen("b", 30, Some("too old")),
        seen("c", 1, None),
        seen("d", 28, Some("old")),
        seen("f", 3, None),
    ]);
    let busy = BTreeSet::from(["c".to_owned()]);
    Index::new(briefs, &busy, &seen, |_| None, |name| (name == "e").then_some("duckdb"))
}

fn query(text: &str) -> OverviewQuery {
    let uri: axum::http::Uri = format!("/?{text}").parse().unwrap();
    axum::extract::Query::try_from_uri(&uri).unwrap().0
}

/// The names that a query selects, in order.
fn names(index: &Index, text: &str) -> String {
    index.select(&query(text)).iter().map(|entry| entry.name()).collect::<Vec<_>>().join(" ")
}

#[test]
fn sorted_by_any_column_with_what_is_unknown_last() {
    let index = index();
    for (text, expected) in [
        ("", "b d e a c f"),
        ("sort=state&order=desc", "a c f e b d"),
        ("sort=name", "a b c d e f"),
        ("sort=name&order=desc", "f e d c b a"),
        ("sort=age", "c a f d b e"),
        ("sort=age&order=desc", "b d f a c e"),
        ("sort=size", "c a f b d e"),
        ("sort=size&order=desc", "b f a c d e"),
        ("sort=next", "e b d a c f"),
        ("sort=next&order=desc", "a d b e c f"),
        ("sort=drill", "f b a c d e"),
        ("sort=drill&order=desc", "b f a c d e"),
    ] {
        assert_eq!(names(&index, text), expected, "{text}");
    }
}

#[test]
fn selected_by_state_engine_and_text() {
    let index = index();
    for (text, expected) in [
        ("state=protected", "a c f"),
        ("state=unprotected", "b d"),
        ("state=running", "c"),
        ("state=failing", "b e"),
        ("engine=postgres", "c f"),
        ("engine=duckdb", "e"),
        ("engine=nothing", ""),
        ("search=DATA/B", "b"),
        ("search=postgres", "c f"),
        ("search=.db&state=failing", "b"),
        ("search=%2F%25%27%22%3Cscript%3E", ""),
        ("search=", "b d e a c f"),
    ] {
        assert_eq!(names(&index, text), expected, "{text}");
    }
}

#[test]
fn the_summary_is_of_all_of_them() {
    let index = index();
    let SummaryView { databases, protected, not_protected, unknown, newest_backup, .. } = index.summary();
    assert_eq!((databases, protected, not_protected, unknown), (6, 3, 2, 1));
    assert_eq!(newest_backup, Some(at(-1)));
    assert_eq!(index.engines(), ["duckdb", "postgres", "sqlite"]);
    let worst = index.worst().into_iter().map(|worst| (worst.name, worst.message));
    assert_eq!(worst.collect::<Vec<_>>(), [("b", "too old"), ("d", "old")].map(|(a, b)| (a.to_owned(), b.to_owned())));
    assert_eq!(Index::default().summary().newest_backup, None);
}

#[test]
fn a_whole_server_is_as_its_databases_are() {
    let briefs = || vec![brief("good", 0, None), brief("pg", 1, Some(3)), brief("new", 0, None)];
    let seen = BTreeMap::from([seen("good.x", 1, None), seen("pg.a", 1, None), seen("pg.b", 3, Some("too old"))]);
    let busy = BTreeSet::from(["good".to_owned()]);
    let server = |name: &str| name.split_once('.').map(|(server, _)| server.to_owned());
    let index = Index::new(briefs(), &busy, &seen, server, |_| None);
    assert_eq!(names(&index, ""), "pg pg.b new good good.x pg.a");
    assert_eq!(index.of_server("pg"), Some((false, Some((StatusProblemKind::Stale, "pg.b: too old")))));
    assert_eq!(
        (index.of_server("good"), index.of_server("new"), index.of_server("pg.a")),
        (Some((true, None)), None, None)
    );
    // Runs are the server's.
    assert_eq!(names(&index, "state=failing&sort=name"), "pg pg.a pg.b");
    assert_eq!(names(&index, "state=running&sort=name"), "good good.x");
    assert_eq!(names(&index, "sort=size&search=pg"), "pg.a pg.b pg");
}
