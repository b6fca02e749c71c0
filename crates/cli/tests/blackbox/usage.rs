//! Help, version and what wrong calls are answered with.

use crate::home::{Home, assert_page};

#[test]
fn copal_alone_prints_short_help() {
    assert_page!(Home::new().run(&[]));
}

#[test]
fn commands_explain_themselves() {
    assert_page!(Home::new().run(&["restore", "--help"]));
}

#[test]
fn the_version_is_told() {
    let run = Home::new().good(&["--version"]);
    assert_eq!(run.stdout, format!("copal {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_calls_are_answered_in_a_few_lines() {
    let home = Home::new();
    let calls: [&[&str]; 12] = [
        &["bakcup", "x"],
        &["backup"],
        &["backup", "x", "--all"],
        &["backup", "x", "--labell", "y"],
        &["restore", "x", "--at", "soon"],
        &["restore", "x", "--backup", "newest"],
        &["restore", "x", "--at", "now", "--backup", "latest"],
        &["prune", "x", "--keep-last", "0"],
        &["prune", "x", "--keep-within", "long"],
        &["verify", "--backup", "20261120-153000Z-7f3a"],
        &["key"],
        &["list", "-q", "-v"],
    ];
    let pages = calls.map(|call| {
        let run = home.run(call);
        assert_eq!(run.code, 2, "{call:?}: {}", run.stderr);
        format!("$ copal {}\n{}", call.join(" "), run.page())
    });
    insta::with_settings!({snapshot_path => "snapshots", prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!(pages.join("\n"));
    });
}

#[test]
fn wrong_calls_are_json_too() {
    let home = Home::new();
    let run = home.run(&["backup", "--json", "--labell", "x"]);
    let document = run.json();
    assert_eq!((run.code, document["error"]["kind"].as_str()), (2, Some("usage")));
    assert_eq!(document["command"], "backup");
    assert_page!(run);
    for call in [&["--json"][..], &["nonsense", "--json"], &["completions", "bash", "--json"], &["key", "--json"]] {
        let document = home.run(call).json();
        assert_eq!(document["error"]["kind"], "usage", "{call:?}");
    }
}

#[test]
fn global_options_stand_anywhere() {
    let home = Home::new();
    for call in
        [&["--json", "list"][..], &["list", "--json"], &["--repository", "r", "list", "--json", "--no-progress"]]
    {
        assert_eq!(home.run(call).json()["command"], "list");
    }
}

#[test]
fn completions_are_printed_and_a_closed_pipe_is_no_error() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(home.good(&["completions", shell]).stdout.contains("copal"));
    }
    let mut child = home.command(&["completions", "bash"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn the_reference_does_not_depend_on_the_terminal() {
    let home = Home::new();
    let narrow = home.run_with(&[("COLUMNS", "40")], &["generate-docs"]);
    let wide = home.run_with(&[("COLUMNS", "400"), ("LANG", "de_DE.UTF-8")], &["generate-docs"]);
    assert_eq!(narrow.stdout, wide.stdout);
    assert_eq!(std::fs::read_to_string("../../docs/cli.md").unwrap(), narrow.stdout, "make docs/cli.md");
}
