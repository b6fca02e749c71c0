//! `copal status`: what is protected, what is not, and why.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use copal_postgres::testing::Server;
use serde_json::Value;

use crate::home::{Home, Run, assert_page};

/// The entry of a database, and the kinds of its problems.
#[track_caller]
fn entry(run: &Run, name: &str) -> (Value, Vec<String>) {
    let document = run.json();
    let results = document["results"].as_array().unwrap().clone();
    let entry = results.into_iter().find(|entry| entry["name"] == name).unwrap_or_else(|| panic!("{name}: {document}"));
    let problems = entry["problems"].as_array().unwrap().iter();
    let kinds = problems.map(|problem| problem["kind"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(entry["protected"], kinds.is_empty(), "{entry}");
    (entry, kinds)
}

#[test]
fn a_fresh_backup_protects() {
    let home = Home::new();
    home.database("app.db", 10);
    home.write("copal.toml", "[databases.app]\nurl = \"app.db\"\nschedule = \"every 1h\"\ndrill = \"@weekly\"\n");
    home.good(&["backup", "app"]);
    let run = home.good(&["status"]);
    assert!(run.stdout.lines().nth(1).unwrap().starts_with("protected  app "), "{}", run.stdout);
    assert_eq!((run.stderr.as_str(), run.stdout.contains('\u{1b}')), ("", false));
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r#""age_seconds":\d+"#, r#""age_seconds":"<n>""#);
    settings.bind(|| assert_page!("json_status", home.good(&["status", "app.db", "--json"])));
    let (before, _) = entry(&home.good(&["status", "--json"]), "app");
    assert!(before["last_verified"].is_null());
    home.good(&["verify", "app"]);
    let (after, _) = entry(&home.good(&["status", "--json"]), "app");
    assert_eq!(after["last_verified"]["id"], after["last_backup"]["id"]);
    assert_eq!(after["backups"], 1);
}

#[test]
fn an_old_backup_and_none_at_all_do_not() {
    let home = Home::new();
    home.database("app.db", 10);
    home.database("kept.db", 10);
    let text = "[databases.app]\nurl = \"app.db\"\nmax_age = \"1s\"\n[databases.kept]\nurl = \"kept.db\"\n\
                [databases.never]\nurl = \"never.db\"\nschedule = \"@daily\"\n";
    home.write("copal.toml", text);
    let run = home.run(&["status", "--json"]);
    assert_eq!((run.code, entry(&run, "app").1), (3, vec!["no-backup".to_owned()]));
    home.good(&["backup", "app", "kept"]);
    sleep(Duration::from_millis(2100));
    let run = home.run(&["status", "--json"]);
    assert_eq!(run.code, 3);
    assert_eq!(entry(&run, "app").1, ["stale"]);
    assert_eq!(entry(&run, "never").1, ["no-backup"]);
    assert!(entry(&run, "kept").1.is_empty());
    assert!(entry(&run, "never").0["next_run"].is_string());
    home.good(&["status", "kept"]);

    let text = home.run(&["status"]);
    assert_eq!(text.code, 3);
    assert_eq!(text.stderr, "Warning: 2 of 3 are not protected: app, never\n");
    let lines: Vec<_> = text.stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{}", text.stdout);
    let column = |line: &str, word: &str| line.find(word).unwrap_or_else(|| panic!("{word:?} in {line:?}"));
    for (line, name) in lines[1..].iter().zip(["app", "kept", "never"]) {
        assert_eq!(column(line, name), column(lines[0], "DATABASE"), "{}", text.stdout);
    }
    assert_eq!(column(lines[3], "there is no backup yet"), column(lines[0], "REMARKS"), "{}", text.stdout);
    assert!(
        lines[1].starts_with("not protected  app") && lines[1].contains(" old, and 1s is promised"),
        "{}",
        lines[1]
    );
}

#[test]
fn a_repository_is_enough() {
    let home = Home::new();
    home.database("app.db", 10);
    home.database("loose.db", 10);
    home.write("copal.toml", "[databases.app]\nurl = \"app.db\"\nmax_age = \"1s\"\nschedule = \"0 3 * * *\"\n");
    home.good(&["backup", "app", "loose.db"]);
    sleep(Duration::from_millis(2100));
    let elsewhere = Home::new();
    let repository = home.path("data/copal/repository").display().to_string();
    let run = elsewhere.run(&["status", "--json", "--repository", &repository]);
    assert_eq!(run.code, 3);
    let (app, problems) = entry(&run, "app");
    assert_eq!(problems, ["stale"]);
    assert_eq!((&app["max_age_seconds"], &app["schedule"]), (&1.into(), &"0 3 * * *".into()));
    assert_eq!((app["configured"].as_bool(), app["host"].is_string()), (Some(false), true));
    // Nothing is promised about what was backed up by hand.
    let document = run.json();
    let loose = document["results"].as_array().unwrap().iter().find(|entry| entry["name"] != "app").unwrap();
    assert_eq!(loose["protected"], true, "{loose}");
    // The configuration's word goes before the manifest's.
    elsewhere.write("copal.toml", "[databases.app]\nurl = \"app.db\"\nmax_age = \"1h\"\n");
    elsewhere.good(&["status", "--repository", &repository]);
}

#[test]
fn a_damaged_newest_backup_is_found_also_after_it_was_listed() {
    let home = Home::new();
    home.database("app.db", 10);
    home.write("copal.toml", "[databases.app]\nurl = \"app.db\"\nmax_age = \"1d\"\n");
    home.good(&["backup", "app"]);
    home.good(&["backup", "app"]);
    home.good(&["status"]);
    let first = home.ids("app").remove(0);
    let manifest = home.objects("/backups/").pop().unwrap();
    let whole = fs::read(&manifest).unwrap();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for bytes in [flipped.as_slice(), b"rubbish"] {
        fs::write(&manifest, bytes).unwrap();
        let run = home.run(&["status", "--json"]);
        assert_eq!(run.code, 3);
        let (app, problems) = entry(&run, "app");
        assert_eq!(problems, ["damage"], "{app}");
        assert_eq!(app["last_backup"]["id"], first.as_str());
    }
    fs::remove_file(&manifest).unwrap();
    assert_eq!(entry(&home.run(&["status", "--json"]), "app").1, ["damage"]);
    fs::write(&manifest, whole).unwrap();
    home.good(&["status"]);
    // Nothing left that can be read.
    for manifest in home.objects("/backups/") {
        fs::write(manifest, "rubbish").unwrap();
    }
    let run = home.run(&["status", "--json"]);
    assert_eq!((run.code, entry(&run, "app").1.contains(&"damage".to_owned())), (3, true), "{}", run.stdout);
}

#[test]
fn what_nobody_knows_is_an_error() {
    let home = Home::new();
    let run = home.run(&["status"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.starts_with("Error: there is no repository at "), "{}", run.stderr);
    home.good(&["init", "--no-encrypt"]);
    let run = home.run(&["status"]);
    assert_eq!((run.code, run.stdout.as_str()), (3, ""), "{}", run.page());
    home.database("app.db", 10);
    home.write("copal.toml", "[databases.app]\nurl = \"app.db\"\n");
    home.good(&["backup", "app"]);
    let run = home.run(&["status", "apq"]);
    assert_eq!(run.code, 1);
    assert_page!("status_of_an_unknown_database", run);
}

#[test]
fn a_whole_server_is_told_by_its_stored_databases() {
    let server = Server::start(15);
    for name in ["shop", "Odd One"] {
        server.create_database(name);
    }
    let home = Home::new();
    home.write("copal.toml", &format!("[databases.srv]\nurl = \"{}\"\nmax_age = \"1h\"\n", server.url("*")));
    home.good(&["init", "--no-encrypt"]);
    let before = home.run(&["status", "--json"]);
    assert_eq!((before.code, entry(&before, "srv").1), (3, vec!["no-backup".to_owned()]));
    home.good(&["backup", "srv"]);
    for call in [&["status", "--json"][..], &["status", "srv", "--json"]] {
        let run = home.good(call);
        for name in ["srv.shop", "srv.Odd One", "srv.postgres"] {
            let (member, _) = entry(&run, name);
            assert_eq!((&member["max_age_seconds"], &member["configured"]), (&3600.into(), &true.into()), "{member}");
        }
        assert_eq!(run.json()["results"].as_array().unwrap().len(), 3, "{}", run.stdout);
    }
    assert_eq!(home.good(&["status", "srv.Odd One", "--json"]).json()["results"].as_array().unwrap().len(), 1);
}
