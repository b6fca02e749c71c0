//! Backups on changes: of a watched file, and as told by an application.

use crate::home::Home;
use crate::process::{Daemon, until};

#[test]
fn a_change_is_backed_up_also_if_it_was_made_while_the_daemon_was_down() {
    let home = Home::new();
    home.database("shop.db", 10);
    let database = "url = \"sqlite:shop.db\"\nmin_interval = \"0s\"\n";
    let told = "[databases.told]\nurl = \"sqlite:told.db\"\nmin_interval = \"0s\"\n";
    home.database("told.db", 10);
    let text = format!("[daemon]\nlisten = \"127.0.0.1:0\"\n[databases.shop]\n{database}on_change = true\n{told}");
    home.write("copal.toml", &text);
    let daemon = Daemon::start(&home);
    let first = daemon.backs_up("shop", 0);
    assert_eq!(first["reason"], "changed", "{first}");
    home.add_rows("shop.db", 5);
    let second = daemon.backs_up("shop", first["id"].as_i64().unwrap());
    assert_eq!(second["reason"], "changed", "{second}");
    assert!(daemon.runs("told").is_empty(), "nobody watches it");
    daemon.accepts("/api/databases/told/changed");
    assert_eq!(daemon.backs_up("told", 0)["reason"], "changed");
    daemon.stop();
    home.add_rows("shop.db", 5);
    let daemon = Daemon::start(&home);
    until("the newest backup has all rows", || {
        let newest = home.ids("shop").pop().unwrap();
        home.good(&["restore", "shop", "--backup", &newest, "--to", "out.db", "--replace", "--quiet"]);
        (home.rows("out.db") == 20).then_some(())
    });
    daemon.stop();
}
