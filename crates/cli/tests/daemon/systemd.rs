//! What systemd is told: that the daemon is ready, alive, reloading and stopping.

use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::home::Home;
use crate::process::PATIENCE;

/// Reads messages until one has this line.
#[track_caller]
fn until_told(socket: &UnixDatagram, line: &str) -> String {
    let late = Instant::now() + PATIENCE;
    let mut buffer = [0; 4096];
    while Instant::now() < late {
        if let Ok(length) = socket.recv(&mut buffer) {
            let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if message.lines().any(|told| told == line) {
                return message;
            }
        }
    }
    panic!("in vain: {line}");
}

#[test]
fn systemd_knows_how_the_daemon_does() {
    let home = Home::new();
    home.database("app.db", 10);
    home.write("copal.toml", "[daemon]\nlisten = \"127.0.0.1:0\"\n[databases.app]\nurl = \"app.db\"\n");
    let path = home.path("notify.socket");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut command = home.command(&["serve", "--config", "copal.toml"]);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "600000");
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let pid = child.id().to_string();
    let signal = |name: &str| {
        assert!(std::process::Command::new("kill").args([name, &pid]).status().unwrap().success());
    };
    until_told(&socket, "READY=1");
    for _ in 0..3 {
        until_told(&socket, "WATCHDOG=1");
    }
    signal("-HUP");
    let reloading = until_told(&socket, "RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    until_told(&socket, "READY=1");
    signal("-TERM");
    until_told(&socket, "STOPPING=1");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
