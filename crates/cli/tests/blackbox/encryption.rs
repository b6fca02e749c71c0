//! Passphrases and keys.

use crate::home::{Home, Run, assert_page};

const GOOD: &[(&str, &str)] = &[("COPAL_PASSPHRASE", "correct horse")];
const WRONG: &[(&str, &str)] = &[("COPAL_PASSPHRASE", "battery staple")];

/// A pair of keys made for this test only.
const RECIPIENT: &str = "age1z7ess7zh3znyry5cvanda3pjs5fgd8gmmmkxfwjf7le98z4y040qrxlnly";
const IDENTITY: &str = "AGE-SECRET-KEY-1MXEUSWKQCLEVTKZGV933ZLRKXE42G3LFJ9HANQC90U5TR5WS9W6QNLF5H4";

fn encrypted() -> Home {
    let home = Home::new();
    home.database("app.db", 10);
    assert_eq!(home.run_with(GOOD, &["init"]).code, 0);
    assert_eq!(home.run_with(GOOD, &["backup", "app.db"]).code, 0);
    home
}

#[track_caller]
fn refused(run: &Run) {
    assert_eq!(run.code, 2, "{}", run.page());
    assert!(!run.page().contains("horse") && !run.page().contains("staple"), "{}", run.page());
}

#[test]
fn a_repository_is_encrypted_unless_told_otherwise() {
    let home = Home::new();
    let missing = home.run(&["init"]);
    refused(&missing);
    assert_page!("init_without_a_passphrase", missing);
    assert_page!("init_encrypted", home.run_with(GOOD, &["init"]));
    assert!(!home.objects("/keys/").is_empty());
}

#[test]
fn wrong_and_missing_passphrases_are_told_apart() {
    let home = encrypted();
    let wrong = home.run_with(WRONG, &["list"]);
    refused(&wrong);
    assert_page!("a_wrong_passphrase", wrong);
    let missing = home.run(&["list"]);
    refused(&missing);
    assert_page!("a_missing_passphrase", missing);
    assert_eq!(home.run_with(WRONG, &["backup", "app.db", "--json"]).json()["error"]["kind"], "passphrase");
}

#[test]
fn a_passphrase_comes_from_a_file() {
    let home = encrypted();
    let file = home.write("passphrase", "correct horse\n");
    let path = file.display().to_string();
    let run = home.run_with(&[("COPAL_PASSPHRASE_FILE", &path)], &["list"]);
    assert_eq!(run.code, 0, "{}", run.page());
    home.write("copal.toml", "[repository]\npassphrase_file = \"passphrase\"\n");
    assert!(home.good(&["list"]).stdout.contains("app"));
}

#[test]
fn passphrases_are_added_changed_and_removed() {
    let home = encrypted();
    home.write("new", "battery staple\n");
    let changed = home.run_with(GOOD, &["key", "change", "--new-passphrase-file", "new"]);
    assert_eq!(changed.code, 0, "{}", changed.page());
    refused(&home.run_with(GOOD, &["list"]));
    assert_eq!(home.run_with(WRONG, &["list"]).code, 0);
    assert_page!("keys_listed", home.run_with(WRONG, &["key", "list"]));
    let keys = home.run_with(WRONG, &["key", "list", "--json"]);
    assert_page!("json_key_list", keys);
    let keys = keys.json();
    let id = keys["results"][0]["id"].as_str().unwrap().to_owned();
    let last = home.run_with(WRONG, &["key", "remove", &id]);
    assert_ne!(last.code, 0);
    assert_page!("the_last_key_stays", last);
    refused(&home.run_with(WRONG, &["key", "add"]));
}

#[test]
fn an_automatic_repository_is_encrypted_if_there_is_a_passphrase() {
    let home = Home::new();
    home.database("app.db", 10);
    let run = home.run_with(GOOD, &["backup", "app.db"]);
    assert_eq!(run.code, 0, "{}", run.page());
    assert!(run.stderr.contains("encrypted repository"), "{}", run.stderr);
    refused(&home.run(&["list"]));
}

#[test]
fn a_recovery_key_opens_the_repository_without_the_passphrase() {
    let home = encrypted();
    home.write("recovery.txt", &format!("# made for a test\n{IDENTITY}\n"));
    let identity = &[("COPAL_IDENTITY_FILE", "recovery.txt")];
    refused(&home.run_with(identity, &["list"]));
    let added = home.run_with(GOOD, &["key", "add", "--recovery-key", RECIPIENT]);
    assert_eq!(added.code, 0, "{}", added.page());
    let restored = home.run_with(identity, &["restore", "app.db", "--to", "copy.db"]);
    assert_eq!(restored.code, 0, "{}", restored.page());
    assert_eq!(home.rows("copy.db"), 10);
    home.write("wrong.txt", "age1public\n");
    let wrong = home.run_with(&[("COPAL_IDENTITY_FILE", "wrong.txt")], &["list"]);
    refused(&wrong);
    assert_page!("an_identity_file_without_an_identity", wrong);
    let mistyped = home.run_with(GOOD, &["key", "add", "--recovery-key", "age1mistyped"]);
    refused(&mistyped);
    assert_page!("a_mistyped_recovery_key", mistyped);
}
