//! The frozen repositories of every released format restore for ever.

// Everything here is a test; a panic is how a test fails.
#![allow(clippy::unwrap_used, dead_code, unused_macros, unused_imports)]

#[path = "blackbox/home.rs"]
mod home;

use std::path::{Path, PathBuf};
use std::process::Command;

use home::Home;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-r").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().to_owned()
}

#[test]
fn no_released_format_is_forgotten() {
    // Written by hand: a new format adds its number here and its folder there.
    for format in [1] {
        for kind in ["plain", "encrypted"] {
            assert!(fixtures().join(format!("format-{format}/{kind}/expected.json")).is_file());
        }
    }
}

#[test]
fn every_frozen_backup_restores_byte_for_byte() {
    let mut restored = 0;
    // Streams are of no engine's that could restore them here: crates/repository/tests/frozen_streams.rs.
    let is_format = |p: &PathBuf| p.file_name().unwrap().to_str().unwrap().starts_with("format-");
    for format in std::fs::read_dir(fixtures()).unwrap().map(|e| e.unwrap().path()).filter(is_format) {
        for folder in std::fs::read_dir(format).unwrap().map(|e| e.unwrap().path()) {
            let expected = std::fs::read_to_string(folder.join("expected.json")).unwrap();
            let expected: serde_json::Value = serde_json::from_str(&expected).unwrap();
            let home = Home::new();
            copy(&folder.join("repository"), &home.path("repository"));
            let mut openers = vec![Vec::new()];
            if let Some(passphrase) = expected["passphrase"].as_str() {
                let identity = home.write("identity", expected["identity"].as_str().unwrap());
                openers = vec![
                    vec![("COPAL_PASSPHRASE", passphrase.to_owned())],
                    vec![("COPAL_IDENTITY_FILE", identity.to_str().unwrap().to_owned())],
                ];
            }
            let database = expected["database"].as_str().unwrap();
            for variables in openers {
                let variables: Vec<_> = variables.iter().map(|(k, v)| (*k, v.as_str())).collect();
                for (id, hash) in expected["backups"].as_object().unwrap() {
                    let arguments =
                        ["--repository", "repository", "restore", database, "--backup", id, "--to", "out.db"];
                    let run = home.run_with(&variables, &arguments);
                    assert_eq!(run.code, 0, "{}: {id}: {}", folder.display(), run.stderr);
                    assert_eq!(sha256(&home.path("out.db")), hash.as_str().unwrap(), "{}: {id}", folder.display());
                    std::fs::remove_file(home.path("out.db")).unwrap();
                    restored += 1;
                }
                let run =
                    home.run_with(&variables, &["--repository", "repository", "verify", "--backup", "all", "--drill"]);
                assert_eq!(run.code, 0, "{}", run.stderr);
            }
        }
    }
    assert!(restored >= 9);
}
