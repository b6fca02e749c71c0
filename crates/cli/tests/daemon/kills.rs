//! `kill -9` of a daemon that backs up all the time, at random moments.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use copal_daemon::{History, RunFilter};
use serde_json::Value;

use crate::home::Home;
use crate::process::Daemon;
use crate::rounds;
use crate::writer::{self, Numbers, Writers};

const NAMES: [&str; 3] = ["ash", "birch", "cedar"];

#[test]
fn a_daemon_that_is_killed_again_and_again_goes_on_where_it_was() {
    let home = Home::new();
    let mut configuration = "lease_ttl = \"5s\"\n[daemon]\nlisten = \"127.0.0.1:0\"\n".to_owned();
    let mut writers = Vec::new();
    for (name, mode) in NAMES.iter().zip(["wal", "wal", "delete"]) {
        configuration.push_str(&format!("[databases.{name}]\nurl = \"sqlite:{name}.db\"\nschedule = \"every 1s\"\n"));
        writer::create(&home.path(&format!("{name}.db")), mode);
        writers.push(Writers::start(&home.path(&format!("{name}.db")), 1));
    }
    home.write("copal.toml", &configuration);
    home.good(&["init", "--no-encrypt"]);
    let mut numbers = Numbers(11);
    for round in 0..rounds(6) {
        let mut daemon = Daemon::spawn(&home);
        // Some are killed while they start.
        if round % 3 > 0 {
            daemon.listens();
        }
        std::thread::sleep(Duration::from_millis(numbers.below(3_000)));
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
    let runs =
        History::look(&home.path("state/copal")).unwrap().runs(&RunFilter { most: 10_000, ..RunFilter::default() });
    let under_way: Vec<_> = runs.unwrap().into_iter().filter(|run| run.ending.is_none()).collect();
    assert!(under_way.is_empty(), "{under_way:?}");
    every_backup_is_good(&home);
    nothing_is_left_over(&home);
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
    let named =
        |name: &str| manifests.iter().any(|bytes| bytes.windows(name.len()).any(|part| part == name.as_bytes()));
    let packs = home.objects("/packs/");
    let left: BTreeSet<PathBuf> =
        packs.iter().filter(|path| !named(path.file_name().unwrap().to_str().unwrap())).cloned().collect();
    assert!(!packs.is_empty() && left.is_empty(), "{left:?}");
    assert!(home.objects("/plans/").iter().all(|plan| plan.metadata().unwrap().len() == 0), "a plan was not finished");
    assert!(home.objects(".staging").is_empty());
}
