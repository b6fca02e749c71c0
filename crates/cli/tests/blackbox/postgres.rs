//! The same journey with a PostgreSQL server.

use copal_postgres::testing::{PASSWORD, Server};

use crate::home::Home;

fn shop(server: &Server) {
    server.create_database("shop");
    server.psql("shop", "CREATE TABLE item (id serial PRIMARY KEY, name text); INSERT INTO item (name) SELECT 'item ' || g FROM generate_series(1, 1000) g");
}

/// Nothing that the program says or stores in clear shows the password.
fn assert_is_secret(home: &Home, texts: &[&str]) {
    for text in texts {
        assert!(!text.contains(PASSWORD) && !text.contains("p%40ss"), "{text}");
    }
    for object in if home.path("data/copal/repository").is_dir() { home.objects("") } else { Vec::new() } {
        let bytes = std::fs::read(&object).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("p%40ss"), "{}", object.display());
    }
}

#[test]
fn a_postgres_database_is_backed_up_and_restored() {
    let server = Server::start(15);
    shop(&server);
    let home = Home::new();
    home.write("copal.toml", &format!("[databases.shop]\nurl = \"{}\"\n", server.url("shop")));
    home.good(&["backup", "shop", "--label", "the first"]);
    let again = home.good(&["backup", "shop"]);
    assert_eq!(home.ids("shop").len(), 2);
    let listing = home.good(&["list", "shop", "--json"]).json();
    let added = listing["results"][1]["added_bytes"].as_u64().unwrap();
    assert!(added < 20_000, "an unchanged database added {added} bytes");
    let shown = home.good(&["show", "shop"]);
    assert!(shown.stdout.contains("public.item") && shown.stdout.contains("1000"), "{}", shown.stdout);
    server.psql("shop", "DELETE FROM item WHERE id > 10");
    let refused = home.run(&["restore", "shop"]);
    assert!(refused.code != 0 && refused.stderr.contains("--replace"), "{}", refused.stderr);
    home.good(&["restore", "shop", "--replace", "--keep-old"]);
    assert_eq!(server.psql("shop", "SELECT count(*) FROM item"), "1000");
    server.psql("shop", "DROP TABLE item");
    home.good(&["restore", "shop", "--table", "item"]);
    assert_eq!(server.psql("shop", "SELECT count(*) FROM item"), "1000");
    home.good(&["restore", "shop", "--to", &server.url("other")]);
    assert_eq!(server.psql("other", "SELECT count(*) FROM item"), "1000");
    home.good(&["restore", "shop", "--to", "file:shop.pgdump"]);
    assert!(home.path("shop.pgdump").metadata().unwrap().len() > 1000);
    let drilled = home.good(&["verify", "shop", "--drill", "--json"]).json();
    assert_eq!(drilled["results"][0]["drill"]["performed"].as_bool(), Some(true), "{drilled}");
    let doctor = home.good(&["doctor"]);
    assert_is_secret(&home, &[&again.stdout, &again.stderr, &shown.stdout, &refused.stderr, &doctor.stdout]);
    let left = server.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE 'copal_%'");
    assert_eq!(left, "0");
}

#[test]
fn every_database_of_a_server_is_backed_up() {
    let server = Server::start(15);
    for name in ["shop", "Shop", "it's \"odd\"/ü", "-d"] {
        server.create_database(name);
        server.psql(name, "CREATE TABLE item AS SELECT generate_series(1, 10) AS id");
    }
    let home = Home::new();
    home.write("copal.toml", &format!("[databases.srv]\nurl = \"{}\"\nkeep = {{ last = 1 }}\n", server.url("*")));
    home.good(&["backup", "--all"]);
    home.good(&["backup", "srv"]);
    let listing = home.good(&["list", "--json"]).json();
    assert_eq!(listing["results"].as_array().unwrap().len(), 10, "{listing}");
    assert_eq!(home.ids("srv.shop").len(), 2);
    let verified = home.good(&["verify"]);
    assert!(!verified.stderr.contains("no backup yet"), "{}", verified.stderr);
    let doctor = home.good(&["doctor"]);
    assert!(doctor.stdout.contains("srv.shop\n") && !doctor.stdout.contains("no backup yet"), "{}", doctor.stdout);
    let typed = home.run(&["doctor", &server.url("*")]);
    assert_is_secret(&home, &[&typed.stdout, &typed.stderr]);
    home.good(&["prune", "srv.shop"]);
    assert_eq!((home.ids("srv.shop").len(), home.ids("srv.Shop").len()), (1, 2));
    server.psql("it's \"odd\"/ü", "DELETE FROM item");
    home.good(&["restore", "srv.it's \"odd\"/ü", "--replace"]);
    assert_eq!(server.psql("it's \"odd\"/ü", "SELECT count(*) FROM item"), "10");
    home.good(&["verify", "srv.-d", "--drill"]);
    let url = server.url("*");
    let direct = home.good(&["backup", &url]);
    assert_is_secret(&home, &[&direct.stdout, &direct.stderr]);
    home.good(&["list", &server.url("shop")]);
}

#[test]
fn what_goes_wrong_is_told_and_no_backup_is_listed() {
    let server = Server::start(15);
    shop(&server);
    let home = Home::new();
    let wrong = home.run(&["backup", &server.url_as("postgres", Some("secret"), "shop")]);
    assert_eq!(wrong.code, 1, "{}", wrong.stderr);
    assert!(wrong.stderr.contains("password") && !wrong.stderr.contains("secret"), "{}", wrong.stderr);
    let missing = home.run(&["backup", &server.url("nothing")]);
    assert!(missing.stderr.contains("nothing") && missing.code == 1, "{}", missing.stderr);
    assert!(!home.path("data/copal/repository").exists() || home.objects("/backups/").is_empty());
    let unknown = home.run(&["list", &server.url("shop")]);
    assert_is_secret(&home, &[&wrong.stderr, &missing.stderr, &unknown.stderr]);
    home.database("app.db", 3);
    home.good(&["backup", "app.db"]);
    for arguments in [["--table", "item"], ["--schema", "x"], ["--to", "postgres://h/x"]] {
        let refused = home.run(&[&["restore", "app.db"], &arguments[..]].concat());
        assert_eq!(refused.code, 2, "{}", refused.stderr);
    }
    assert_eq!(home.run(&["restore", "app.db", "--replace", "--keep-old"]).code, 2);
}
