//! Disks that are full, folders that cannot be written, links, and a repository that vanishes.

use std::process::Stdio;
use std::time::Duration;

use crate::disk::Disk;
use crate::home::Home;

#[test]
fn a_full_disk_under_the_repository_leaves_what_is_there() {
    let home = Home::new();
    let repository = home.path("small");
    let Some(disk) = Disk::mount(&repository, "size=700k,mode=700") else { return };
    home.database("app.db", 3000);
    home.good(&["init", "--no-encrypt", "--repository", "small/repo"]);
    home.good(&["backup", "app.db", "--repository", "small/repo"]);
    let db = rusqlite::Connection::open(home.path("app.db")).unwrap();
    db.execute_batch("CREATE TABLE noise AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n LIMIT 900) SELECT randomblob(1000) b FROM n").unwrap();
    let run = home.run(&["backup", "app.db", "--repository", "small/repo", "--json"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert_eq!(run.json()["error"]["kind"], "no-space");
    home.good(&["verify", "--backup", "all", "--drill", "--repository", "small/repo"]);
    disk.remount("size=20m");
    home.good(&["backup", "app.db", "--repository", "small/repo"]);
    home.good(&["verify", "--backup", "all", "--drill", "--repository", "small/repo"]);
}

#[test]
fn a_full_disk_under_the_target_leaves_the_old_database() {
    let home = Home::new();
    let Some(_disk) = Disk::mount(&home.path("small"), "size=400k") else { return };
    home.database("small/target.db", 10);
    home.database("app.db", 20_000);
    home.good(&["backup", "app.db"]);
    let before = std::fs::read(home.path("small/target.db")).unwrap();
    let run = home.run(&["restore", "app.db", "--to", "small/target.db", "--replace", "--json"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert_eq!(run.json()["error"]["kind"], "no-space");
    assert!(std::fs::read(home.path("small/target.db")).unwrap() == before);
    let left: Vec<_> = std::fs::read_dir(home.path("small")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["target.db"], "nothing half restored stays");
}

#[test]
fn a_full_temporary_folder_makes_a_drill_impossible_not_wrong() {
    let home = Home::new();
    let Some(_disk) = Disk::mount(&home.path("tmp"), "size=200k") else { return };
    home.database("app.db", 20_000);
    home.good(&["backup", "app.db"]);
    let temporary = home.path("tmp");
    let run = home.run_with(&[("TMPDIR", temporary.to_str().unwrap())], &["verify", "app.db", "--drill", "--json"]);
    assert_eq!(run.code, 3, "{}\n{}", run.stdout, run.stderr);
    assert_eq!(run.json()["results"][0]["drill"]["performed"], false);
}

#[test]
fn a_read_only_repository_can_be_read_and_says_no_to_writing() {
    let home = Home::new();
    let Some(disk) = Disk::mount(&home.path("disk"), "size=20m") else { return };
    home.database("app.db", 500);
    home.good(&["init", "--no-encrypt", "--repository", "disk/repo"]);
    home.good(&["backup", "app.db", "--repository", "disk/repo"]);
    disk.remount("ro");
    home.good(&["list", "--repository", "disk/repo"]);
    home.good(&["restore", "app.db", "--repository", "disk/repo", "--to", "out.db"]);
    assert_eq!(home.rows("out.db"), 500);
    home.good(&["verify", "--repository", "disk/repo"]);
    let run = home.run(&["backup", "app.db", "--repository", "disk/repo", "--json"]);
    assert_eq!(run.code, 1);
    assert_eq!(run.json()["error"]["kind"], "permission-denied");
}

#[test]
fn a_repository_that_vanishes_under_a_backup_is_an_error() {
    let home = Home::new();
    home.database("app.db", 200_000);
    home.good(&["init", "--no-encrypt", "--repository", "repo"]);
    let mut command = home.command(&["backup", "app.db", "--repository", "repo", "--json"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while !home.path("repo/leases").exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    while std::fs::remove_dir_all(home.path("repo")).is_err() {}
    let run = home.answer(&child.wait_with_output().unwrap());
    assert!(run.code == 1 || run.code == 4 || run.code == 5, "{}\n{}", run.stdout, run.stderr);
    assert_eq!(home.run(&["list", "--repository", "repo"]).code, 1);
}

#[test]
fn a_link_as_the_target_leads_to_what_is_replaced() {
    let home = Home::new();
    home.database("app.db", 100);
    home.good(&["backup", "app.db"]);
    std::fs::create_dir(home.path("elsewhere")).unwrap();
    home.database("elsewhere/real.db", 5);
    std::os::unix::fs::symlink("elsewhere/real.db", home.path("link.db")).unwrap();
    assert_eq!(home.run(&["restore", "app.db", "--to", "link.db"]).code, 1, "exists");
    home.good(&["restore", "app.db", "--to", "link.db", "--replace"]);
    assert!(std::fs::symlink_metadata(home.path("link.db")).unwrap().is_symlink());
    assert_eq!(home.rows("elsewhere/real.db"), 100);
}
