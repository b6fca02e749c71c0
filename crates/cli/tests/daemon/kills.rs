//! `kill -9` of a daemon that backs up all the time, at random moments.

use std::path::{Path, PathBuf};
use std::time::Duration;

use copal_daemon::{Ending, History, RunFilter};
use rusqlite::Connection;
use serde_json::Value;

use crate::home::Home;
use crate::process::{Daemon, PATIENCE, until};
use crate::rounds;
use crate::writer::{self, Numbers, Writers};

const NAMES: [&str; 3] = ["ash", "birch", "cedar"];
/// So that there is something to read.
const NOISE: &str = "CREATE TABLE noise AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 5000) \
                     SELECT randomblob(1000) AS body FROM n";

#[test]
fn a_daemon_that_is_killed_again_and_again_goes_on_where_it_was() {
    let home = Home::new();
    let mut configuration = "lease_ttl = \"5s\"\n[daemon]\nlisten = \"127.0.0.1:0\"\n".to_owned();
    let mut writers = Vec::new();
    for (name, mode) in NAMES.iter().zip(["wal", "wal", "delete"]) {
        configuration.push_str(&format!("[databases.{name}]\nurl = \"sqlite:{name}.db\"\nschedule = \"every 1s\"\n"));
        let path = home.path(&format!("{name}.db"));
        writer::create(&path, mode);
        Connection::open(&path).unwrap().execute_batch(NOISE).unwrap();
        writers.push(Writers::start(&path, 1));
    }
    home.write("copal.toml", &configuration);
    home.good(&["init", "--no-encrypt"]);
    let mut numbers = Numbers(11);
    for round in 0..rounds(6) {
        let mut daemon = Daemon::spawn(&home);
        // A third is killed perhaps while it starts, a third whatever it does, and a third surely in the middle of a backup.
        if round % 3 > 0 {
            daemon.listens();
        }
        let _holder = (round % 3 == 2).then(|| {
            let holder = hold(&home.path("cedar.db"));
            let is_under_way = || daemon.runs("cedar").first().is_some_and(|run| run["ending"].is_null());
            until("cedar is being backed up", || is_under_way().then_some(()));
            holder
        });
        std::thread::sleep(Duration::from_millis(numbers.below(if round % 3 == 2 { 300 } else { 3_000 })));
        assert!(daemon.is_running(), "{}", daemon.log());
        daemon.kill();
    }
    let daemon = Daemon::start(&home);
    // Something that the kills may have left must not keep anybody waiting: twice, so that what was cut off is behind them.
    for name in NAMES {
        let first = daemon.backs_up(name, daemon.newest(name));
        daemon.backs_up(name, first["id"].as_i64().unwrap());
    }
    for name in NAMES {
        no_two_at_once(&daemon.runs(name));
        assert_eq!(daemon.database(name)["consecutive_failures"], 0);
    }
    assert!(writers.iter_mut().all(Writers::are_alive));
    daemon.stop();
    drop(writers);
    let filter = RunFilter { most: 10_000, ..RunFilter::default() };
    let runs = History::look(&home.path("state/copal")).unwrap().runs(&filter).unwrap();
    assert!(runs.iter().all(|run| run.ending.is_some()), "{runs:?}");
    let cut_off = runs.iter().filter(|run| run.ending == Some(Ending::Interrupted)).count() as u64;
    assert!(cut_off >= rounds(6) / 3, "{runs:?}");
    every_backup_is_good(&home);
    nothing_is_left_over(&home);
}

/// Keeps everybody from reading it.
fn hold(path: &Path) -> Connection {
    let holder = Connection::open(path).unwrap();
    holder.busy_timeout(PATIENCE).unwrap();
    holder.execute_batch("BEGIN EXCLUSIVE").unwrap();
    holder
}

/// Whatever the kills cut off, a run of a database begins after the one before it has ended.
fn no_two_at_once(runs: &[Value]) {
    let time = |run: &Value, key: &str| run[key].as_str().map(|text| text.parse::<jiff::Timestamp>().unwrap());
    assert!(runs.len() > 1);
    for pair in runs.windows(2) {
        let [later, earlier] = pair else { unreachable!() };
        let ended = time(earlier, "ended").unwrap_or_else(|| panic!("under way before {later}: {earlier}"));
        assert!(ended <= time(later, "started").unwrap(), "{earlier}\n{later}");
    }
}

fn every_backup_is_good(home: &Home) {
    let listed = home.good(&["list", "--json"]).json();
    let listed = listed["results"].as_array().unwrap();
    assert!(NAMES.iter().all(|name| listed.iter().any(|backup| backup["database"] == *name)), "{listed:?}");
    home.good(&["verify", "--backup", "all", "--quiet"]);
    for name in NAMES {
        let ids = home.ids(name);
        for (n, id) in [ids.first(), ids.get(ids.len() / 2), ids.last()].into_iter().flatten().enumerate() {
            let to = format!("{name}-{n}.restored");
            home.good(&["restore", name, "--backup", id, "--to", &to, "--quiet"]);
            writer::check(&home.path(&to));
        }
    }
}

/// After a prune every pack is named by a manifest, and nothing else lies around.
fn nothing_is_left_over(home: &Home) {
    home.good(&["prune", "--all", "--keep-last", "1", "--quiet"]);
    home.good(&["verify", "--backup", "all", "--drill", "--quiet"]);
    for name in NAMES {
        assert_eq!(home.ids(name).len(), 1, "the newest is the newest verified one");
    }
    // The names of packs stand in clear in manifests: docs/format.md. A pruned manifest is an empty tombstone.
    let manifests: Vec<_> = home.objects("/backups/").into_iter().map(|path| std::fs::read(path).unwrap()).collect();
    let is_named =
        |name: &str| manifests.iter().any(|bytes| bytes.windows(name.len()).any(|part| part == name.as_bytes()));
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    // What has a `~` in its name is no object, but a lock.
    let packs: Vec<_> = home.objects("/packs/").into_iter().filter(|path| !name(path).ends_with(".lock~")).collect();
    let left: Vec<_> = packs.iter().filter(|path| !is_named(&name(path))).collect();
    assert!(!packs.is_empty() && left.is_empty(), "{left:?}");
    assert!(home.objects("/plans/").iter().all(|plan| plan.metadata().unwrap().len() == 0), "a plan was not finished");
}
