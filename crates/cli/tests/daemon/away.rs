//! Databases that go away and come back: failures are counted and told, and so is the recovery.

use copal_postgres::testing::{Server, Stop};

use crate::home::Home;
use crate::process::{Daemon, until};

/// Backs up a database that is there, goes and comes.
fn goes_and_comes(home: &Home, url: &str, mut go: impl FnMut(), mut come: impl FnMut()) {
    home.write(
        "copal.toml",
        &format!(
            "[daemon]\nlisten = \"127.0.0.1:0\"\n\
             [databases.shop]\nurl = \"{url}\"\nschedule = \"every 1s\"\nretries = 2\nnotify = [\"file\"]\n\
             [notify.file]\nexec = 'echo \"$COPAL_EVENT $COPAL_CONSECUTIVE_FAILURES\" >> {}'\non = [\"failure\", \"recovered\"]\n",
            home.path("told").display()
        ),
    );
    let told = || std::fs::read_to_string(home.path("told")).unwrap_or_default();
    let daemon = Daemon::start(home);
    daemon.backs_up("shop", 0);
    assert_eq!(told(), "", "nothing to tell");
    go();
    let failures = || daemon.database("shop")["consecutive_failures"].as_u64().unwrap();
    until("failures are counted", || (failures() >= 3).then_some(()));
    until("a failure is told", || told().contains("failure").then_some(()));
    let failed = daemon.runs("shop").into_iter().find(|run| run["ending"] == "transient-failure").unwrap();
    assert!(failed["error"]["message"].as_str().is_some_and(|text| !text.is_empty()), "{failed}");
    come();
    daemon.backs_up("shop", daemon.newest("shop"));
    until("all is well", || (failures() == 0).then_some(()));
    until("the recovery is told", || told().contains("recovered").then_some(()));
    let told = told();
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(lines.first(), Some(&"failure 1"), "{told}");
    assert_eq!(lines.iter().filter(|line| line.starts_with("recovered")).count(), 1, "{told}");
    assert!(lines.last().unwrap().starts_with("recovered"), "{told}");
    daemon.stop();
    home.good(&["verify", "shop", "--backup", "all", "--quiet"]);
}

#[test]
fn a_file_that_goes_away_and_comes_back() {
    let home = Home::new();
    let (path, away) = (home.database("shop.db", 100), home.path("away"));
    let go = || std::fs::rename(&path, &away).unwrap();
    goes_and_comes(&home, "sqlite:shop.db", go, || std::fs::rename(&away, &path).unwrap());
}

#[test]
fn a_server_that_goes_away_and_comes_back() {
    let server = Server::start(15);
    server.create_database("shop");
    server.psql("shop", "CREATE TABLE item AS SELECT generate_series(1, 10) AS id");
    let (url, server) = (server.url("shop"), std::cell::RefCell::new(server));
    let home = Home::new();
    goes_and_comes(&home, &url, || server.borrow_mut().stop(Stop::Fast), || server.borrow_mut().restart());
}
