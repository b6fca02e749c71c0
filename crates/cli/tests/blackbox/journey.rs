//! What people do with one file and no setup: back up, look, restore, verify, prune.

use crate::home::{Home, assert_page};

#[test]
fn a_file_is_backed_up_without_any_setup_and_restored() {
    let home = Home::new();
    home.database("app.db", 1000);
    assert_page!("the_first_backup", home.good(&["backup", "./app.db"]));
    home.add_rows("app.db", 10);
    assert_page!("the_second_backup", home.good(&["backup", "app.db", "--label", "ten more", "--pin"]));
    assert_page!("two_backups_listed", home.good(&["list"]));
    assert_page!("a_backup_shown", home.good(&["show", "app.db"]));
    assert_page!("a_restore", home.good(&["restore", "app.db", "--to", "copy.db"]));
    assert_eq!(home.rows("copy.db"), 1010);
    let first = home.ids("app.db").remove(0);
    let dry = home.good(&["restore", "app.db", "--backup", &first, "--replace", "--dry-run"]);
    assert_page!("a_restore_that_is_only_looked_at", dry);
    assert_eq!(home.rows("app.db"), 1010);
    assert_page!("a_restore_in_place", home.good(&["restore", "app.db", "--backup", &first, "--replace"]));
    assert_eq!(home.rows("app.db"), 1000);
}

#[test]
fn every_command_has_a_json_document() {
    let home = Home::new();
    home.database("app.db", 100);
    assert_page!("json_list_of_nothing", home.run(&["list", "--json"]));
    assert_page!("json_backup", home.good(&["backup", "app.db", "--json"]));
    assert_page!("json_list", home.good(&["list", "--json"]));
    assert_page!("json_show", home.good(&["show", "app.db", "--json"]));
    assert_page!("json_restore", home.good(&["restore", "app.db", "--to", "copy.db", "--json"]));
    assert_page!("json_verify", home.good(&["verify", "--drill", "--json"]));
    assert_page!("json_pin", home.good(&["pin", "app.db", "latest", "--json"]));
    assert_page!("json_unpin", home.good(&["unpin", "app.db", "latest", "--json"]));
    assert_page!("json_prune", home.good(&["prune", "app.db", "--keep-last", "1", "--json"]));
    let doctor = home.run(&["doctor", "app.db", "--json"]).json();
    assert!(!doctor["results"].as_array().unwrap().is_empty());
}

#[test]
fn verify_and_drill_tell_what_they_proved() {
    let home = Home::new();
    home.database("app.db", 100);
    home.good(&["backup", "app.db"]);
    assert_page!("verified", home.good(&["verify"]));
    assert_page!("drilled", home.good(&["verify", "app.db", "--drill"]));
    assert!(home.good(&["list"]).stdout.contains("verified"));
}

#[test]
fn a_configured_database_without_a_backup_is_a_warning() {
    let home = Home::new();
    home.database("a.db", 10);
    home.write("copal.toml", "[databases.a]\nurl = \"a.db\"\n[databases.b]\nurl = \"b.db\"\n");
    home.good(&["backup", "a"]);
    for call in [&["verify"][..], &["prune", "--all"]] {
        let run = home.run(call);
        assert_eq!((run.code, run.stderr.as_str()), (3, "Warning: b is configured and has no backup yet\n"));
    }
    let document = home.run(&["verify", "--json"]).json();
    assert_eq!((document["ok"].as_bool(), document["warnings"].as_array().map(Vec::len)), (Some(true), Some(1)));
}

#[test]
fn prune_says_what_goes_and_why_the_rest_stays() {
    let home = Home::new();
    home.database("app.db", 100);
    for _ in 0..3 {
        home.good(&["backup", "app.db"]);
    }
    let first = home.ids("app.db").remove(0);
    home.good(&["pin", "app.db", &first]);
    assert_page!("prune_without_a_rule", home.good(&["prune", "app.db"]));
    assert_page!("prune_looked_at", home.good(&["prune", "app.db", "--keep-last", "1", "--dry-run"]));
    assert_eq!(home.ids("app.db").len(), 3);
    assert_page!("pruned", home.good(&["prune", "app.db", "--keep-last", "1"]));
    assert_eq!(home.ids("app.db").len(), 2);
    home.good(&["verify", "--backup", "all"]);
}

#[test]
fn the_beginning_of_an_id_is_enough() {
    let home = Home::new();
    home.database("app.db", 10);
    home.good(&["backup", "app.db"]);
    home.good(&["backup", "app.db"]);
    let ids = home.ids("app.db");
    assert_eq!(home.good(&["show", "app.db", &ids[1][..20], "--json"]).json()["results"][0]["id"], ids[1].as_str());
    let several = home.run(&["show", "app.db", &ids[0][..8]]);
    assert_eq!(several.code, 2);
    assert_page!("an_ambiguous_id", several);
    assert_page!("an_unknown_id", home.run(&["show", "app.db", "1999"]));
}

#[test]
fn the_newest_backup_that_is_not_later_is_restored() {
    let home = Home::new();
    home.database("app.db", 10);
    home.good(&["backup", "app.db"]);
    home.good(&["restore", "app.db", "--at", "now", "--to", "a.db"]);
    home.good(&["restore", "app.db", "--at", "today", "--to", "b.db"]);
    assert_page!("nothing_that_old", home.run(&["restore", "app.db", "--at", "3 days ago", "--to", "c.db"]));
}

#[test]
fn several_databases_are_each_tried() {
    let home = Home::new();
    home.database("a.db", 10);
    home.database("c.db", 10);
    let run = home.run(&["backup", "a.db", "b.db", "c.db", "--json"]);
    assert_eq!(run.code, 1);
    let results = run.json()["results"].as_array().unwrap().clone();
    assert_eq!(results.len(), 3);
    assert_eq!(results[1]["error"]["kind"], "not-found");
    assert!(results[2]["id"].is_string());
}

#[test]
fn quiet_is_quiet_and_verbose_tells_phases() {
    let home = Home::new();
    home.database("app.db", 10);
    let quiet = home.good(&["backup", "app.db", "--quiet"]);
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));
    let verbose = home.good(&["backup", "app.db", "-v"]);
    let phases: Vec<_> = verbose.stderr.lines().filter_map(|line| line.strip_prefix("phase ")).collect();
    assert!(!phases.is_empty(), "{}", verbose.stderr);
    for phase in phases {
        let (name, seconds) = phase.rsplit_once(' ').unwrap();
        assert!(!name.is_empty() && seconds.parse::<f64>().is_ok(), "{phase}");
    }
}

#[test]
fn doctor_finds_what_is_missing() {
    let home = Home::new();
    home.database("app.db", 10);
    home.write("copal.toml", "[databases.app]\nurl = \"app.db\"\n[databases.gone]\nurl = \"gone.db\"\n");
    home.good(&["backup", "app"]);
    let run = home.run(&["doctor"]);
    assert_eq!(run.code, 1, "{}", run.page());
    assert!(run.stdout.contains("gone"), "{}", run.stdout);
}
