//! `kill -9` at random times: what was whole stays whole, nothing needs repair by hand, and space comes back.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use crate::home::Home;
use crate::rounds;
use crate::writer::Numbers;

/// Starts the program and kills it after a while; true if it was faster.
fn kill_after(home: &Home, arguments: &[&str], micros: u64) -> bool {
    let mut child = home.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_micros(micros));
    let finished = matches!(child.try_wait(), Ok(Some(_)));
    let _ = child.kill();
    let _ = child.wait();
    finished
}

fn change(home: &Home, numbers: &mut Numbers) {
    let db = rusqlite::Connection::open(home.path("app.db")).unwrap();
    let from = i64::try_from(numbers.below(3000)).unwrap();
    db.execute("UPDATE item SET name = name || ' x' WHERE id BETWEEN ?1 AND ?1 + 40", [from]).unwrap();
}

fn digest(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

#[test]
fn killed_backups_prunes_and_restores_harm_nothing() {
    let home = Home::new();
    home.database("app.db", 3000);
    home.good(&["backup", "app.db", "--pin", "--quiet"]);
    let first = home.ids("app.db").remove(0);
    let original = digest(&home.path("app.db"));
    let mut numbers = Numbers(42);
    let mut killed = 0;
    for round in 0..rounds(200) {
        change(&home, &mut numbers);
        let micros = numbers.below(25_000);
        let finished = match numbers.below(4) {
            0 => kill_after(&home, &["prune", "app.db", "--keep-last", "2"], micros),
            1 => kill_after(&home, &["restore", "app.db", "--backup", &first, "--to", "old.db", "--replace"], micros),
            _ => kill_after(&home, &["backup", "app.db"], micros),
        };
        killed += u64::from(!finished);
        if round % 20 == 19 {
            home.good(&["verify", "app.db", "--backup", "all", "--quiet"]);
            home.good(&["restore", "app.db", "--backup", &first, "--to", "old.db", "--replace", "--quiet"]);
            assert!(digest(&home.path("old.db")) == original, "round {round}: the first backup restores as it was");
            home.good(&["backup", "app.db", "--quiet"]);
        }
    }
    assert!(killed > rounds(200) / 4, "most of them were killed in the middle: {killed}");
    // The newest verified backup would stay beside the newest one.
    home.good(&["verify", "app.db", "--quiet"]);
    home.good(&["prune", "app.db", "--keep-last", "1", "--quiet"]);
    home.good(&["verify", "app.db", "--backup", "all", "--drill", "--quiet"]);
    // What is left is what the two remaining backups need, and no staging file.
    let left = home.objects("/packs/");
    let is_staging = |p: &PathBuf| p.file_name().unwrap().to_string_lossy().starts_with(".staging");
    assert!(!left.iter().any(is_staging), "{left:?}");
    let ids = home.ids("app.db");
    assert_eq!(ids.len(), 2, "the pinned one and the last one");
    let pack_owners = |id: &String| left.iter().any(|p| p.to_string_lossy().contains(id.as_str()));
    assert!(ids.iter().any(pack_owners));
    let again = home.good(&["prune", "app.db", "--keep-last", "1", "--json"]).json();
    assert_eq!(again["results"][0]["deleted_packs"], 0, "the prune before has left no garbage");
}

#[test]
fn a_killed_first_backup_leaves_a_repository_that_works() {
    let mut numbers = Numbers(7);
    for _ in 0..rounds(40) {
        let home = Home::new();
        home.database("app.db", 200);
        kill_after(&home, &["backup", "app.db"], numbers.below(25_000));
        home.good(&["backup", "app.db", "--quiet"]);
        home.good(&["verify", "--backup", "all", "--drill", "--quiet"]);
    }
}
