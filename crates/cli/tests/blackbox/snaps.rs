//! Snapshots of a SQLite file: taken, listed, rewound to, renamed, removed, and on their way to and from backups.

use rusqlite::Connection;

use crate::home::{Home, assert_page};

fn names(home: &Home) -> Vec<String> {
    let document = home.good(&["snaps", "--json"]).json();
    let results = document["results"].as_array().unwrap().iter();
    results.map(|snapshot| snapshot["name"].as_str().unwrap().to_owned()).collect()
}

fn tracked(rows: u32) -> Home {
    let home = Home::new();
    home.database("app.db", rows);
    home.write("copal.toml", "[databases.app]\nurl = \"sqlite:app.db\"\n");
    home
}

#[test]
fn a_database_goes_back_to_a_snapshot() {
    let home = tracked(10);
    assert_page!("snap_takes", home.good(&["snap", "first"]));
    home.add_rows("app.db", 5);
    assert_eq!(home.good(&["snap", "it's \"größe\""]).stderr, "");
    home.add_rows("app.db", 5);
    assert_page!("snap_rewinds", home.good(&["rewind", "first"]));
    assert_eq!(home.rows("app.db"), 10);
    assert_page!("snap_rewinds_to_the_newest", home.good(&["rewind"]));
    assert_eq!(home.rows("app.db"), 15);
    assert_page!("snap_lists", home.good(&["snaps"]));
    let json = home.good(&["snaps", "--json"]).json();
    assert_eq!(json["results"][0]["databases"][0]["database"], "app");
    assert_eq!(json["results"][1]["name"], "it's \"größe\"");
    assert_page!("snap_renames", home.good(&["snaps", "rename", "it's \"größe\"", "second"]));
    assert_page!("snap_removes", home.good(&["snaps", "remove", "first"]));
    assert_eq!(names(&home), ["second"]);
    assert_eq!(home.rows("app.db"), 15);
}

#[test]
fn without_any_setup_a_path_is_enough() {
    let home = Home::new();
    home.database("a b.db", 3);
    home.good(&["snap", "-d", "./a b.db"]);
    home.add_rows("a b.db", 3);
    home.good(&["rewind", "-d", "a b.db"]);
    assert_eq!(home.rows("a b.db"), 3);
    let nothing = home.run(&["snap"]);
    assert_eq!(nothing.code, 2);
    assert_page!("snap_of_nothing", nothing);
    assert!(!home.path("data").exists(), "a snapshot needs no repository");
}

#[test]
fn mistakes_are_told_and_change_nothing() {
    let home = tracked(4);
    assert_page!("rewind_without_snapshots", home.run(&["rewind"]));
    assert_page!("snaps_of_none", home.good(&["snaps"]));
    home.good(&["snap", "first"]);
    assert_page!("snap_exists", home.run(&["snap", "first"]));
    assert_page!("rewind_to_an_unknown_one", home.run(&["rewind", "frist"]));
    assert_page!("snap_with_an_unsafe_label", home.run(&["snap", "x", "--label", "../x"]));
    assert_page!("snap_with_a_bad_name", home.run(&["snap", "a\nb"]));
    assert_page!("rewind_without_that_database", home.run(&["rewind", "first", "-d", "missing.db"]));
    home.good(&["snap", "other"]);
    assert_page!("snaps_rename_to_one_that_exists", home.run(&["snaps", "rename", "other", "first"]));
    assert_eq!((names(&home).len(), home.rows("app.db")), (2, 4));
    home.add_rows("app.db", 1);
    home.good(&["snap", "first", "--replace"]);
    assert_eq!(names(&home), ["other", "first"]);
    home.good(&["rewind", "first"]);
    assert_eq!(home.rows("app.db"), 5);
}

#[test]
fn a_file_in_use_is_refused_and_force_replaces_it() {
    let home = tracked(6);
    home.good(&["snap", "first"]);
    let open = Connection::open(home.path("app.db")).unwrap();
    open.execute_batch("PRAGMA journal_mode = WAL; INSERT INTO item (name) VALUES ('later')").unwrap();
    // A snapshot does not mind.
    home.good(&["snap", "second"]);
    let refused = home.run(&["rewind", "first"]);
    assert_eq!(refused.code, 5, "{}", refused.page());
    assert!(refused.stderr.contains("--force"), "{}", refused.page());
    assert_eq!(home.rows("app.db"), 7);
    home.good(&["rewind", "first", "--force"]);
    assert_eq!(home.rows("app.db"), 6);
    drop(open);
    assert_eq!(home.rows("app.db"), 6, "what the other process closed with belongs to the old file");
    home.good(&["rewind", "second"]);
    assert_eq!(home.rows("app.db"), 7);
}

#[test]
fn a_database_that_is_gone_comes_back() {
    let home = Home::new();
    home.database("app.db", 8);
    home.good(&["snap", "-d", "app.db"]);
    std::fs::remove_file(home.path("app.db")).unwrap();
    home.good(&["snaps", "-d", "app.db"]);
    home.good(&["rewind", "-d", "app.db"]);
    assert_eq!(home.rows("app.db"), 8);
}

#[test]
fn limits_clear_up_and_nothing_else_does() {
    let home = tracked(1);
    for n in 1..=5 {
        home.good(&["snap", &format!("number {n}"), "--label", if n % 2 == 0 { "even" } else { "odd" }]);
    }
    home.good(&["snaps", "gc"]);
    assert_eq!(names(&home).len(), 5);
    assert_page!("snaps_gc_would", home.good(&["snaps", "gc", "--keep", "2", "--dry-run"]));
    assert_eq!(names(&home).len(), 5);
    home.good(&["snaps", "gc", "--keep", "1", "--label", "odd"]);
    assert_eq!(names(&home), ["number 2", "number 4", "number 5"]);
    home.good(&["snaps", "gc", "--older-than", "1h"]);
    assert_eq!(names(&home).len(), 3);
    home.good(&["snaps", "gc", "--keep", "2"]);
    assert_eq!(names(&home), ["number 4", "number 5"]);
    assert_eq!(home.run(&["snaps", "gc", "--keep", "0"]).code, 2);
}

#[test]
fn snapshots_become_backups_and_backups_snapshots() {
    let home = tracked(10);
    home.good(&["snap", "ten"]);
    home.add_rows("app.db", 10);
    home.good(&["backup", "app", "--from-snapshot", "ten"]);
    home.good(&["restore", "app", "--to", "copy.db"]);
    assert_eq!(home.rows("copy.db"), 10);
    home.good(&["snaps", "remove", "ten"]);
    home.good(&["restore", "app", "--as-snapshot", "from the backup"]);
    assert_eq!(home.rows("app.db"), 20, "the database itself is not touched");
    home.good(&["rewind", "from the backup"]);
    assert_eq!(home.rows("app.db"), 10);
    let twice = home.run(&["restore", "app", "--as-snapshot", "from the backup"]);
    assert!(twice.code == 1 && twice.stderr.contains("there is a snapshot"), "{}", twice.page());
    assert_eq!(home.run(&["restore", "app", "--as-snapshot", "x", "--replace"]).code, 2);
    let missing = home.run(&["backup", "app", "--from-snapshot", "ten"]);
    assert!(missing.code == 1 && missing.stderr.contains("there is no snapshot"), "{}", missing.page());
}

#[test]
fn a_snapshot_is_a_plain_file() {
    let home = tracked(12);
    home.good(&["snap", "plain"]);
    home.add_rows("app.db", 1);
    let folder = home.path(".copal/snapshots/app.db");
    let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let snapshot = files.into_iter().find(|path| path.extension().is_some_and(|e| e == "db")).unwrap();
    std::fs::rename(snapshot, home.path("app.db")).unwrap();
    assert_eq!(home.rows("app.db"), 12);
    assert_eq!(names(&home), Vec::<String>::new());
    home.good(&["snaps", "gc"]);
}

#[test]
fn the_branch_and_the_version_of_the_schema_are_noted() {
    let home = tracked(1);
    let db = Connection::open(home.path("app.db")).unwrap();
    db.execute_batch(
        "CREATE TABLE alembic_version (version_num TEXT); INSERT INTO alembic_version VALUES ('ae1027a6acf')",
    )
    .unwrap();
    drop(db);
    std::fs::create_dir(home.path(".git")).unwrap();
    home.write(".git/HEAD", "ref: refs/heads/feature/x\n");
    home.good(&["snap", "noted"]);
    let json = home.good(&["snaps", "--json"]).json();
    assert_eq!(json["results"][0]["git_branch"], "feature/x");
    assert_eq!(json["results"][0]["databases"][0]["schema_version"], "ae1027a6acf");
}
