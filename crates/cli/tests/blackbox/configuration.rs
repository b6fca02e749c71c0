//! Configurations: found, mistaken, written by `init`.

use crate::home::{Home, assert_page};

#[test]
fn an_unknown_key_is_named_with_the_nearest() {
    let home = Home::new();
    home.write("copal.toml", "[databases.shop]\nurl = \"app.db\"\nshedule = \"@daily\"\n");
    let run = home.run(&["list"]);
    assert_eq!(run.code, 2);
    assert_page!(run);
    assert_eq!(home.run(&["list", "--json"]).json()["error"]["kind"], "configuration");
}

#[test]
fn a_missing_variable_and_a_missing_file_are_named() {
    let home = Home::new();
    home.write("mine.toml", "[repository]\nurl = \"${BACKUPS}\"\n");
    assert_page!("a_missing_variable_is_named", home.run(&["list", "--config", "mine.toml"]));
    assert_page!("a_missing_configuration_is_named", home.run(&["list", "--config", "other.toml"]));
}

#[test]
fn configured_databases_go_by_their_names() {
    let home = Home::new();
    home.database("app.db", 10);
    home.write("copal.toml", "[databases.shop]\nurl = \"sqlite:app.db\"\nkeep = { last = 1 }\n");
    home.good(&["backup", "shop"]);
    home.good(&["backup", "--all"]);
    assert_eq!(home.ids("shop").len(), 2);
    let run = home.good(&["prune", "--all", "--json"]);
    assert_eq!(run.json()["results"][0]["deleted"].as_array().unwrap().len(), 1);
    assert_page!("an_unknown_database", home.run(&["backup", "shopp"]));
}

#[test]
fn init_writes_a_configuration_and_never_overwrites_one() {
    let home = Home::new();
    home.database("app.db", 10);
    assert_page!("init_writes_a_configuration", home.good(&["init", "--no-encrypt", "-d", "sqlite:app.db"]));
    let written = std::fs::read_to_string(home.path("copal.toml")).unwrap();
    insta::with_settings!({snapshot_path => "snapshots", prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!("the_first_configuration", written);
    });
    home.good(&["backup", "--all"]);
    assert_eq!(home.ids("app").len(), 1);
    let again = home.run(&["init", "--no-encrypt", "-d", "sqlite:app.db"]);
    assert_eq!(again.code, 1);
    assert_page!("init_never_overwrites", again);
    assert_eq!(std::fs::read_to_string(home.path("copal.toml")).unwrap(), written);
}

#[test]
fn init_without_a_repository_is_enough_for_snapshots() {
    let home = Home::new();
    home.database("app.db", 10);
    assert_page!("init_without_a_repository", home.good(&["init", "--no-repository", "-d", "app.db"]));
    assert!(!home.path("data").exists());
    let written = std::fs::read_to_string(home.path("copal.toml")).unwrap();
    assert!(written.contains("[databases.app]") && !written.contains("[repository]"), "{written}");
    home.good(&["snap"]);
    assert_page!("init_without_anything", Home::new().run(&["init", "--no-repository"]));
    let document = Home::new().run(&["init", "--no-repository", "-d", "sqlite:new.db", "--json"]).json();
    assert_eq!(document["results"][0]["configuration"], "copal.toml");
}

#[test]
fn init_lists_what_a_server_has() {
    let (server, home) = (copal_postgres::testing::Server::start(15), Home::new());
    server.create_database("shop");
    server.create_database("crm");
    let told = home.good(&["init", "--no-repository", "-d", &server.url("shop")]);
    assert!(told.stderr.contains("has: crm, ") && told.stderr.contains("shop"), "{}", told.page());
    assert!(!told.stderr.contains(copal_postgres::testing::PASSWORD), "{}", told.page());
    let unreached = Home::new().good(&["init", "--no-repository", "-d", "postgres://me@127.0.0.1:1/shop"]);
    assert!(unreached.stderr.contains("was not reached"), "{}", unreached.page());
}

#[test]
fn init_twice_is_refused() {
    let home = Home::new();
    home.good(&["init", "--no-encrypt"]);
    assert_page!(home.run(&["init", "--no-encrypt"]));
}

#[test]
fn a_configured_database_is_the_same_by_path_and_by_name() {
    let home = Home::new();
    home.database("app.db", 10);
    home.write("copal.toml", "[databases.\"My Shop\"]\nurl = \"app.db\"\nkeep = { last = 1 }\n");
    for database in ["My Shop", "app.db", "sqlite:./app.db", "my-shop"] {
        if database != "my-shop" {
            home.good(&["backup", database]);
        }
        home.good(&["show", database]);
    }
    assert_eq!(home.ids("app.db").len(), 3);
    home.good(&["prune", "app.db"]);
    assert_eq!(home.ids("My Shop").len(), 1);
    assert!(home.good(&["list"]).stdout.starts_with("my-shop  My Shop  sqlite:"));
}
