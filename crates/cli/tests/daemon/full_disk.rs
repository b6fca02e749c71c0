//! A full disk under the state folder: backups go on, and the history catches up.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::home::Home;
use crate::process::{Daemon, until};

/// A small file system in memory, unmounted when dropped.
struct Disk(PathBuf);

impl Disk {
    /// `None`, said loudly, where mounting is not allowed.
    fn mount(at: &Path, options: &str) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(at.to_owned())),
            _ => {
                eprintln!("SKIPPED: a small disk cannot be mounted here (needs root)");
                None
            }
        }
    }

    /// Takes all room that is left.
    fn fill(&self) {
        let mut file = File::options().create(true).append(true).open(self.0.join("filler")).unwrap();
        while file.write(&[0; 4096]).is_ok_and(|written| written > 0) {}
    }

    fn make_room(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

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
