//! Going back beside a daemon that protects the same file.

use crate::home::Home;
use crate::process::{Daemon, until};

#[test]
fn a_file_that_a_daemon_protects_can_be_rewound_and_restored() {
    let home = Home::new();
    home.database("shop.db", 10);
    // A path without a scheme: the daemon has to look into the file to know what it is.
    home.write("copal.toml", "[daemon]\nlisten = \"127.0.0.1:0\"\n[databases.shop]\nurl = \"shop.db\"\n");
    let daemon = Daemon::start(&home);
    daemon.accepts("/api/databases/shop/backup");
    until("there is a backup", || {
        daemon.runs("shop").first().is_some_and(|run| run["ending"] == "success").then_some(())
    });
    home.good(&["snap"]);
    home.add_rows("shop.db", 5);
    home.good(&["rewind"]);
    assert_eq!(home.rows("shop.db"), 10);
    home.add_rows("shop.db", 5);
    home.good(&["restore", "shop", "--replace"]);
    assert_eq!(home.rows("shop.db"), 10);
}
