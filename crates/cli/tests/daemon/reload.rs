//! Another `copal.toml` while the daemon runs: a good one takes effect, a broken one is reported and changes nothing.

use std::fs::File;

use crate::home::Home;
use crate::process::{Daemon, until};

const HEAD: &str = "[daemon]\nlisten = \"127.0.0.1:0\"\n";

fn database(name: &str, schedule: &str) -> String {
    format!("[databases.{name}]\nurl = \"sqlite:{name}.db\"\nschedule = \"{schedule}\"\n")
}

/// Puts a text into `copal.toml` so that its length and its time stay the same: only who is told looks into it.
fn write_unseen(home: &Home, text: &str) {
    let path = home.path("copal.toml");
    let before = path.metadata().unwrap();
    let length = usize::try_from(before.len()).unwrap();
    assert!(text.len() < length);
    let new = home.write("new.toml", &format!("{text}#{}", "x".repeat(length - text.len() - 1)));
    File::options().write(true).open(&new).unwrap().set_modified(before.modified().unwrap()).unwrap();
    std::fs::rename(new, path).unwrap();
}

fn configuration_error(daemon: &Daemon) -> Option<String> {
    daemon.get("/api/status")["configuration_error"].as_str().map(str::to_owned)
}

#[test]
fn a_signal_or_another_file_puts_another_configuration_in_force() {
    let home = Home::new();
    for name in ["ash.db", "birch.db", "cedar.db"] {
        home.database(name, 10);
    }
    let first = format!("{HEAD}{}", database("ash", "every 1s"));
    home.write("copal.toml", &format!("{first}#{}\n", "x".repeat(300)));
    let daemon = Daemon::start(&home);
    daemon.backs_up("ash", 0);

    // A mistake, found when the signal tells to look.
    write_unseen(&home, &format!("{first}schedul = \"@daily\"\n"));
    daemon.signal("HUP");
    let error = until("the mistake is reported", || configuration_error(&daemon));
    assert!(error.contains("schedul"), "{error}");
    assert!(daemon.log().contains("schedul"), "{}", daemon.log());
    daemon.backs_up("ash", daemon.newest("ash"));

    write_unseen(&home, &format!("{first}{}", database("birch", "every 1s")));
    daemon.signal("HUP");
    daemon.backs_up("birch", 0);
    until("the mistake is over", || configuration_error(&daemon).is_none().then_some(()));

    // A mistake and its correction, found without a signal.
    home.write("copal.toml", &format!("{first}[databases.cedar]\nurl = 1\n"));
    until("the mistake is reported", || configuration_error(&daemon));
    daemon.backs_up("birch", daemon.newest("birch"));
    home.write("copal.toml", &format!("{HEAD}{}{}", database("ash", "@yearly"), database("cedar", "every 1s")));
    daemon.backs_up("cedar", 0);
    assert_eq!(configuration_error(&daemon), None);
    // The old schedule is over: what was due before may still run, and then nothing more.
    until("ash rests", || daemon.database("ash")["running"].is_null().then_some(()));
    let (ash, cedar) = (daemon.newest("ash"), daemon.newest("cedar"));
    let later = daemon.backs_up("cedar", cedar);
    daemon.backs_up("cedar", later["id"].as_i64().unwrap());
    assert_eq!(daemon.newest("ash"), ash);
    daemon.stop();
}
