//! Error pages: each says what happened, why, and what to do.

use std::fs;

use crate::home::{Home, assert_page};

#[test]
fn no_repository_yet() {
    let home = Home::new();
    assert_page!("no_repository", home.run(&["list"]));
    assert_page!("no_repository_where_one_is_named", home.run(&["list", "--repository", "nowhere"]));
    assert_page!("nothing_to_restore", home.run(&["restore", "app.db"]));
}

#[test]
fn files_that_are_no_database() {
    let home = Home::new();
    home.write("text.db", &"not a database\n".repeat(100));
    home.write("empty.db", "");
    fs::create_dir(home.path("folder")).unwrap();
    for (name, page) in [
        ("missing.db", "backup_of_a_missing_file"),
        ("text.db", "backup_of_a_text_file"),
        ("empty.db", "backup_of_an_empty_file"),
        ("folder", "backup_of_a_folder"),
    ] {
        let run = home.run(&["backup", name]);
        assert_ne!(run.code, 0, "{name}");
        assert!(run.stderr.starts_with("Error: "), "{}", run.stderr);
        match page {
            "backup_of_a_missing_file" => assert_page!("backup_of_a_missing_file", run),
            "backup_of_a_text_file" => assert_page!("backup_of_a_text_file", run),
            "backup_of_an_empty_file" => assert_page!("backup_of_an_empty_file", run),
            _ => assert_page!("backup_of_a_folder", run),
        }
    }
}

#[test]
fn an_existing_target_is_not_touched() {
    let home = Home::new();
    home.database("app.db", 10);
    home.good(&["backup", "app.db"]);
    home.add_rows("app.db", 5);
    let run = home.run(&["restore", "app.db"]);
    assert_eq!(run.code, 1);
    assert_page!("a_target_that_exists", run);
    assert_eq!(home.rows("app.db"), 15);
    assert_eq!(home.run(&["restore", "app.db", "--json"]).json()["error"]["kind"], "exists");
}

#[test]
fn an_unknown_database_is_named() {
    let home = Home::new();
    home.database("app.db", 10);
    home.good(&["backup", "app.db"]);
    assert_page!("list_of_an_unknown_database", home.run(&["list", "other"]));
    assert_page!("restore_of_an_unknown_database", home.run(&["restore", "other", "--to", "x.db"]));
}

#[test]
fn another_database_under_the_same_name_is_refused() {
    let home = Home::new();
    home.database("a.db", 10);
    home.database("b.db", 10);
    home.write("copal.toml", "[databases.app]\nurl = \"a.db\"\n");
    home.good(&["backup", "app"]);
    home.write("copal.toml", "[databases.app]\nurl = \"b.db\"\n");
    let run = home.run(&["backup", "app"]);
    assert_eq!(run.code, 2, "{}", run.page());
    assert_page!("another_source_under_a_name", run);
    home.good(&["backup", "app", "--adopt"]);
}

#[test]
fn damage_is_found_and_named() {
    let home = Home::new();
    home.database("app.db", 1000);
    home.good(&["backup", "app.db"]);
    let pack = home.objects("/packs/").remove(0);
    let mut bytes = fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&pack, bytes).unwrap();
    let run = home.run(&["verify"]);
    assert_eq!(run.code, 4);
    assert_page!("damage_found_by_verify", run);
    let document = home.run(&["verify", "--json"]).json();
    assert_eq!(document["error"]["kind"], "damage");
    assert!(document["results"][0]["damaged"][0]["object"].as_str().unwrap().contains("packs"));
    let restore = home.run(&["restore", "app.db", "--to", "copy.db"]);
    assert_eq!(restore.code, 4);
    assert_page!("damage_is_not_restored", restore);
    assert!(!home.path("copy.db").exists());
}

#[test]
fn a_damaged_manifest_is_listed_as_damaged() {
    let home = Home::new();
    home.database("app.db", 10);
    home.good(&["backup", "app.db"]);
    home.good(&["backup", "app.db"]);
    let manifest = home.objects("/backups/").remove(0);
    fs::write(&manifest, "rubbish").unwrap();
    let run = home.run(&["list"]);
    assert_eq!(run.code, 4, "{}", run.page());
    assert_page!("a_list_with_damage", run);
    assert_page!("json_list_with_damage", home.run(&["list", "--json"]));
    home.good(&["restore", "app.db", "--to", "copy.db"]);
}
