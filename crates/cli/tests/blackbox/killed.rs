//! `kill -9` at any moment of a backup and of a restore of a live server.

use std::process::Stdio;
use std::time::Duration;

use copal_postgres::testing::Server;

use crate::home::Home;

const SUM: &str = "SELECT count(*) || md5(string_agg(name, ',' ORDER BY id)) FROM item";
/// How long the program lives, in milliseconds: through its beginning, its work and its end.
const LIVES: [u64; 7] = [20, 150, 300, 450, 600, 800, 1100];

fn kill_after(home: &Home, life: u64, arguments: &[&str]) {
    let mut command = home.command(arguments);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(life));
    // Of a process that has ended this is an error, which is fine.
    let _ = child.kill();
    child.wait().unwrap();
}

#[test]
fn a_killed_backup_or_restore_loses_nothing_and_the_next_one_works() {
    let (server, home) = (Server::start(15), Home::new());
    server.create_database("shop");
    server.psql("shop", "CREATE TABLE item AS SELECT g AS id, md5(g::text) AS name FROM generate_series(1, 200000) g");
    server.psql("shop", "ALTER TABLE item ADD PRIMARY KEY (id)");
    let before = server.psql("shop", SUM);
    home.write("copal.toml", &format!("[databases.shop]\nurl = \"{}\"\n", server.url("shop")));
    home.good(&["backup", "shop"]);
    for life in LIVES {
        kill_after(&home, life, &["backup", "shop"]);
        server.psql("shop", &format!("INSERT INTO item SELECT -{life}, 'new'"));
    }
    let after = server.psql("shop", SUM);
    home.good(&["backup", "shop"]);
    home.good(&["verify", "shop", "--backup", "all"]);
    for life in LIVES {
        kill_after(&home, life, &["restore", "shop", "--replace"]);
        // Nobody has to wait for those who were ended, nor to repair anything.
        assert_eq!(server.psql("shop", SUM), after, "killed after {life} ms");
    }
    server.psql("shop", "DELETE FROM item WHERE id < 0");
    home.good(&["restore", "shop", "--replace"]);
    assert_eq!(server.psql("shop", SUM), after);
    home.good(&["restore", "shop", "--backup", &home.ids("shop")[0], "--replace"]);
    assert_eq!(server.psql("shop", SUM), before);
    let left = "SELECT count(*) FROM pg_database WHERE datname LIKE 'copal_%' OR datname LIKE 'shop_before%'";
    for _ in 0..50 {
        if server.psql("postgres", left) == "0" {
            return;
        }
        // A server may need a moment to notice that a client is gone, and so may the sweep.
        home.good(&["restore", "shop", "--replace"]);
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("left: {}", server.psql("postgres", "SELECT string_agg(datname, ', ') FROM pg_database"));
}
