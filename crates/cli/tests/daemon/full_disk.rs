//! A full disk under the state folder: backups go on, and the history catches up.

use crate::disk::Disk;
use crate::home::Home;
use crate::process::{Daemon, until};

fn configure(home: &Home) {
    home.database("shop.db", 100);
    let database = "[databases.shop]\nurl = \"sqlite:shop.db\"\nschedule = \"every 1s\"\n";
    home.write("copal.toml", &format!("[daemon]\nlisten = \"127.0.0.1:0\"\n{database}"));
}

#[test]
fn a_daemon_starts_on_a_full_disk_and_backs_up() {
    let home = Home::new();
    let Some(disk) = Disk::mount(&home.path("state"), "size=2m") else { return };
    configure(&home);
    disk.fill();
    let daemon = Daemon::start(&home);
    until("the history cannot be opened", || daemon.get("/api/status")["history"]["error"].is_string().then_some(()));
    until("there are backups", || {
        let listed = home.run(&["list", "shop", "--json"]);
        (listed.code == 0 && listed.json()["results"].as_array().unwrap().len() > 1).then_some(())
    });
    until("it is protected", || (daemon.database("shop")["protected"] == true).then_some(()));
    disk.make_room();
    until("there is a history", || daemon.get("/api/status")["history"]["error"].is_null().then_some(()));
    daemon.backs_up("shop", daemon.newest("shop"));
    daemon.stop();
    home.good(&["verify", "shop", "--backup", "all", "--quiet"]);
}

#[test]
fn a_full_disk_under_the_history_stops_no_backup() {
    let home = Home::new();
    let Some(disk) = Disk::mount(&home.path("state"), "size=2m") else { return };
    configure(&home);
    let daemon = Daemon::start(&home);
    daemon.backs_up("shop", 0);
    let history = || daemon.get("/api/status")["history"].clone();
    assert_eq!(history()["error"], serde_json::Value::Null);
    let error = until("the history cannot be written", || {
        // What little room comes back in between is taken again.
        disk.fill();
        history()["error"].as_str().map(str::to_owned)
    });
    assert!(error.contains("history") && error.contains("full"), "{error}");
    let before = home.ids("shop").len();
    until("backups go on", || {
        disk.fill();
        (home.ids("shop").len() > before + 2 && history()["error"].is_string()).then_some(())
    });
    assert_eq!(daemon.database("shop")["consecutive_failures"], 0);
    disk.make_room();
    until("the history catches up", || {
        let now = history();
        (now["error"].is_null() && now["pending"] == 0 && now["lost"] == 0).then_some(())
    });
    daemon.backs_up("shop", daemon.newest("shop"));
    // Every backup has its run, those of the time without room too.
    let ids = home.ids("shop");
    let runs = daemon.runs("shop");
    for id in ids.iter().take(ids.len() - 1) {
        assert!(runs.iter().any(|run| run["backup"] == id.as_str() && run["ending"] == "success"), "{id} in {runs:?}");
    }
    daemon.stop();
    home.good(&["verify", "shop", "--backup", "all", "--quiet"]);
}
