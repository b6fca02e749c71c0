//! The end of a daemon, and that there is one for one state folder.

use std::time::{Duration, Instant};

use copal_daemon::{Ending, History, RunFilter, RunRecord};
use rusqlite::Connection;

use crate::home::Home;
use crate::process::{Daemon, until};

fn configured(grace: &str) -> Home {
    let home = Home::new();
    home.database("shop.db", 10);
    let text = "[databases.shop]\nurl = \"sqlite:shop.db\"\n";
    home.write("copal.toml", &format!("[daemon]\nlisten = \"127.0.0.1:0\"\ngrace = \"{grace}\"\n{text}"));
    home
}

/// Begins a backup that waits for somebody who holds the database.
fn begin_a_long_backup(home: &Home, daemon: &Daemon) -> Connection {
    let holder = Connection::open(home.path("shop.db")).unwrap();
    holder.execute_batch("BEGIN EXCLUSIVE").unwrap();
    daemon.accepts("/api/databases/shop/backup");
    until("the backup runs", || daemon.database("shop")["running"].is_number().then_some(()));
    holder
}

fn last_run(home: &Home) -> RunRecord {
    History::look(&home.path("state/copal")).unwrap().runs(&RunFilter::default()).unwrap().remove(0)
}

#[test]
fn a_backup_under_way_may_finish() {
    let home = configured("10m");
    let mut daemon = Daemon::start(&home);
    let holder = begin_a_long_backup(&home, &daemon);
    daemon.signal("TERM");
    std::thread::sleep(Duration::from_secs(1));
    assert!(daemon.is_running(), "{}", daemon.log());
    drop(holder);
    assert_eq!(daemon.ended().code(), Some(0), "{}", daemon.log());
    assert_eq!(last_run(&home).ending, Some(Ending::Success));
    assert_eq!(home.ids("shop").len(), 1);
    home.good(&["verify", "shop", "--drill", "--quiet"]);
}

#[test]
fn a_backup_that_outlasts_the_grace_is_cancelled_and_leaves_nothing() {
    let home = configured("1s");
    home.good(&["backup", "shop", "--quiet"]);
    let mut daemon = Daemon::start(&home);
    let holder = begin_a_long_backup(&home, &daemon);
    daemon.signal("TERM");
    assert_eq!(daemon.ended().code(), Some(0), "{}", daemon.log());
    drop(holder);
    assert_eq!(last_run(&home).ending, Some(Ending::Cancelled));
    assert_eq!(home.ids("shop").len(), 1);
    // Nobody waits for a lease that was left behind.
    let began = Instant::now();
    home.good(&["backup", "shop", "--quiet"]);
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
}

#[test]
fn a_backup_that_reads_when_the_daemon_stops_is_whole_or_not_there() {
    let home = configured("0s");
    let db = Connection::open(home.path("shop.db")).unwrap();
    db.execute_batch("CREATE TABLE noise AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 60000) SELECT randomblob(1000) b FROM n").unwrap();
    let mut daemon = Daemon::start(&home);
    daemon.accepts("/api/databases/shop/backup");
    until("the backup runs", || (!daemon.runs("shop").is_empty()).then_some(()));
    daemon.signal("TERM");
    assert_eq!(daemon.ended().code(), Some(0), "{}", daemon.log());
    let run = last_run(&home);
    assert!(matches!(run.ending, Some(Ending::Success | Ending::Cancelled)), "{run:?}");
    let document = home.run(&["list", "--json"]).json();
    let listed = document["results"].as_array().unwrap().len();
    assert_eq!(listed, usize::from(run.ending == Some(Ending::Success)), "{run:?} {document}");
    home.good(&["backup", "shop", "--quiet"]);
    home.good(&["verify", "shop", "--backup", "all", "--quiet"]);
}

#[test]
fn a_state_folder_has_one_daemon() {
    let home = configured("1s");
    let daemon = Daemon::start(&home);
    let run = home.run(&["serve", "--config", "copal.toml"]);
    assert_eq!(run.code, 5, "{}", run.page());
    assert!(run.stderr.contains("another copal daemon works with the state folder"), "{}", run.stderr);
    assert!(run.stderr.contains("Hint"), "{}", run.stderr);
    daemon.accepts("/api/databases/shop/backup");
    daemon.backs_up("shop", 0);
    daemon.stop();
    // The folder is free again.
    Daemon::start(&home).stop();
}

#[test]
fn metrics_and_a_log_for_machines() {
    let home = configured("1s");
    let text = std::fs::read_to_string(home.path("copal.toml")).unwrap();
    home.write("copal.toml", &text.replace("[daemon]\n", "[daemon]\nlog = \"json\"\n"));
    let daemon = Daemon::start(&home);
    daemon.accepts("/api/databases/shop/backup");
    daemon.backs_up("shop", 0);
    let metrics = daemon.ask("GET", "/metrics");
    assert_eq!(metrics.status, 200, "{metrics:?}");
    assert!(metrics.body.lines().any(|line| line.starts_with("copal_") && line.contains("shop")), "{}", metrics.body);
    for line in daemon.log().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["level"].is_string() && line["timestamp"].is_string(), "{line}");
    }
    daemon.stop();
}
