//! `copal token`: made, shown once, listed and removed.

use std::fs;

use crate::home::{Home, assert_page};

#[test]
fn a_token_is_printed_alone_and_only_once() {
    let home = Home::new();
    let none = home.good(&["token", "list"]);
    assert_eq!(none.stdout, "");
    assert!(none.stderr.starts_with("Note: there is no token in "), "{}", none.stderr);
    let added = home.good(&["token", "add", "grafana", "--role", "viewer"]);
    let token = added.stdout.strip_suffix('\n').unwrap();
    assert!(token.starts_with("copal_") && !token.contains(char::is_whitespace), "{token:?}");
    assert!(added.stderr.contains("Authorization: Bearer") && added.stderr.contains("COPAL_TOKEN"), "{}", added.stderr);
    assert!(!added.stderr.contains(token));
    assert_eq!(home.good(&["token", "add", "ops", "--role", "admin", "--quiet"]).stderr, "");

    let file = fs::read_to_string(home.path("state/copal/tokens.toml")).unwrap();
    assert!(file.contains("[tokens.grafana]") && !file.contains(token.strip_prefix("copal_").unwrap()), "{file}");
    assert_page!("tokens_listed", home.good(&["token", "list"]));
    assert_page!("json_token_list", home.good(&["token", "list", "--json"]));
    assert_page!("a_token_removed", home.good(&["token", "remove", "grafana"]));
    assert_eq!(home.good(&["token", "list", "--json"]).json()["results"].as_array().unwrap().len(), 1);
    assert_page!("json_token_remove", home.good(&["token", "remove", "ops", "--json"]));
    assert_eq!(home.good(&["token", "list", "--json"]).json()["results"].as_array().unwrap().len(), 0);
}

#[test]
fn a_token_in_json_is_in_the_result() {
    let home = Home::new();
    let run = home.good(&["token", "add", "ci", "--role", "operator", "--json"]);
    let document = run.json();
    let token = document["results"][0]["token"].as_str().unwrap();
    assert!(token.starts_with("copal_"), "{token}");
    assert_eq!((document["results"][0]["role"].as_str(), run.stderr.as_str()), (Some("operator"), ""));
    let mut settings = insta::Settings::clone_current();
    settings.add_filter("copal_[0-9a-f]{64}", "<token>");
    settings.bind(|| assert_page!("json_token_add", run));
}

#[test]
fn the_configuration_says_where_tokens_are() {
    let home = Home::new();
    // Nothing but the tokens is looked at: a passphrase that cannot be read is no obstacle.
    home.write("copal.toml", "[repository]\npassphrase_file = \"missing\"\n[daemon]\ntokens_file = \"api/tokens\"\n");
    home.good(&["token", "add", "ops", "--role", "admin"]);
    assert!(home.path("api/tokens").exists() && !home.path("state").exists());
    assert_eq!(home.good(&["token", "list", "--json"]).json()["results"][0]["name"], "ops");
}

#[test]
fn what_cannot_be_is_said() {
    let home = Home::new();
    home.good(&["token", "add", "ops", "--role", "admin"]);
    let refused = |arguments: &[&str], code| {
        let run = home.run(arguments);
        assert_eq!((run.code, run.stdout.as_str()), (code, ""), "{}", run.page());
        run
    };
    assert_page!("a_token_that_exists", refused(&["token", "add", "ops", "--role", "viewer"], 1));
    assert_page!("a_token_that_is_unknown", refused(&["token", "remove", "opps"], 1));
    refused(&["token", "add", "o p s", "--role", "viewer"], 2);
    let role = refused(&["token", "add", "x", "--role", "root"], 2);
    assert!(role.stderr.contains("viewer, operator, admin"), "{}", role.stderr);
    refused(&["token", "add", "x"], 2);
    home.write("state/copal/tokens.toml", "[tokens.ops]\nrolle = \"admin\"\n");
    assert_page!("a_token_file_that_is_wrong", refused(&["token", "list"], 2));
}
