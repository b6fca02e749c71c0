//! Ctrl-C, and a reader that goes away.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::home::Home;

#[test]
fn an_interrupted_backup_ends_with_130_and_leaves_nothing() {
    let home = Home::new();
    home.database("app.db", 1000);
    home.good(&["backup", "app.db"]);
    // A holder makes the backup wait, so that there is something to interrupt.
    let holder = rusqlite::Connection::open(home.path("app.db")).unwrap();
    holder.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let mut command = home.command(&["backup", "app.db", "--json"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(2500));
    let began = Instant::now();
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let run = home.answer(&child.wait_with_output().unwrap());
    assert_eq!(run.code, 130, "{}", run.page());
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(run.json()["error"]["kind"], "interrupted");
    drop(holder);
    assert_eq!(home.ids("app.db").len(), 1);
    home.good(&["backup", "app.db"]);
}

#[test]
fn a_closed_pipe_is_quiet() {
    let home = Home::new();
    home.database("app.db", 10);
    home.good(&["backup", "app.db"]);
    let mut child = home.command(&["list"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let run = home.answer(&child.wait_with_output().unwrap());
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
}
