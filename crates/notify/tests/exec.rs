//! Commands that really run: what they find, and what becomes of those that hang.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use copal_notify::{BackupFacts, Channel, Event, Notice, NotifyErrorKind};

const HOSTILE: &str = "shöp\"'; touch evil; $(touch evil) `touch evil`\n-rf @everyone";

fn command(words: &[&str]) -> Channel {
    let words = words.iter().map(|word| toml::Value::String((*word).to_owned())).collect();
    Channel::parse("exec", &toml::Value::Array(words)).unwrap()
}

fn script(text: &str) -> Channel {
    Channel::parse("exec", &toml::Value::String(text.to_owned())).unwrap()
}

fn notice() -> Notice {
    let time = "2026-11-20T15:30:00Z".parse().unwrap();
    let mut notice = Notice::new(Event::Failure, HOSTILE, "db1", time, "It failed");
    notice.details = "with\0out end ".repeat(100_000);
    notice.consecutive_failures = 2;
    notice.error_kind = Some("storage".to_owned());
    notice
}

fn environment(file: &Path) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(file).unwrap();
    let pairs = text.split('\0').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[tokio::test]
async fn facts_are_in_the_environment_only() {
    let folder = tempfile::tempdir().unwrap();
    let (out, arguments) = (folder.path().join("environment"), folder.path().join("arguments"));
    let text = format!(
        "cd '{}'; tr '\\0' '\\n' </proc/$$/cmdline >'{}'; env -0 >'{}'",
        folder.path().display(),
        arguments.display(),
        out.display()
    );
    script(&text).send(&notice()).await.unwrap();
    let found = environment(&out);
    assert_eq!(found["COPAL_DATABASE"], HOSTILE);
    assert_eq!((found["COPAL_EVENT"].as_str(), found["COPAL_HOST"].as_str()), ("failure", "db1"));
    assert_eq!(found["COPAL_TIME"], "2026-11-20T15:30:00Z");
    assert_eq!((found["COPAL_CONSECUTIVE_FAILURES"].as_str(), found["COPAL_ERROR_KIND"].as_str()), ("2", "storage"));
    assert!(found["COPAL_DETAILS"].starts_with("without end without end"));
    for unknown in ["COPAL_BACKUP_ID", "COPAL_NEXT_RUN", "COPAL_STORED_BYTES", "COPAL_PASSPHRASE"] {
        assert_eq!(found.get(unknown), None, "{unknown}");
    }
    let json: serde_json::Value = serde_json::from_str(&found["COPAL_NOTICE"]).unwrap();
    assert_eq!((&json["format"], &json["database"]), (&1.into(), &HOSTILE.into()));
    let arguments = std::fs::read_to_string(&arguments).unwrap();
    assert!(!arguments.contains("rf @everyone") && !arguments.contains("It failed"), "{arguments}");
    assert!(!folder.path().join("evil").exists());
}

#[tokio::test]
async fn what_is_known_of_a_backup_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("environment");
    let mut notice = notice();
    notice.event = Event::Success;
    notice.next_run = Some("2026-11-21T00:00:00Z".parse().unwrap());
    notice.backup = Some(BackupFacts {
        id: "20261120-153000Z-7f3a".to_owned(),
        logical_bytes: Some(3),
        added_bytes: Some(2),
        stored_bytes: Some(1),
        duration_seconds: Some(0.5),
    });
    command(&["/bin/sh", "-c", "env -0 >\"$0\"", out.to_str().unwrap()]).send(&notice).await.unwrap();
    let found = environment(&out);
    for (name, value) in [
        ("COPAL_BACKUP_ID", "20261120-153000Z-7f3a"),
        ("COPAL_LOGICAL_BYTES", "3"),
        ("COPAL_ADDED_BYTES", "2"),
        ("COPAL_STORED_BYTES", "1"),
        ("COPAL_DURATION_SECONDS", "0.5"),
        ("COPAL_NEXT_RUN", "2026-11-21T00:00:00Z"),
    ] {
        assert_eq!(found[name], value, "{name}");
    }
}

#[tokio::test]
async fn a_failure_carries_status_and_last_words() {
    let error = script("echo first >&2; echo 'it is broken' >&2; exit 3").send(&notice()).await.unwrap_err();
    assert_eq!((error.kind(), error.status, error.is_retryable()), (NotifyErrorKind::Unavailable, Some(3), true));
    assert_eq!(error.to_string(), "exec (sh): the command failed, exit status: 3: it is broken");
    let error = command(&["/nowhere/tell", "hush"]).send(&notice()).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (NotifyErrorKind::Refused, false));
    assert!(error.to_string().starts_with("exec (tell): the command could not be started"), "{error}");
    // More words than a pipe holds do not block it.
    let error =
        script("head -c 1000000 /dev/zero | tr '\\0' x >&2; echo >&2; echo end >&2; exit 1").send(&notice()).await;
    assert!(error.unwrap_err().to_string().ends_with(": end"));
}

#[tokio::test]
async fn a_command_that_hangs_is_killed_with_its_children() {
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    let text = format!("trap '' TERM; (sleep 60; true) & echo $$ $! >'{}'; sleep 60", pids.display());
    let begin = Instant::now();
    let error = script(&text).with_timeout(Duration::from_millis(1500)).send(&notice()).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (NotifyErrorKind::TimedOut, true));
    let pids = std::fs::read_to_string(&pids).unwrap();
    assert_eq!(pids.split_whitespace().count(), 2, "{pids}");
    for pid in pids.split_whitespace() {
        while is_running(pid) {
            assert!(begin.elapsed() < Duration::from_secs(20), "{pid} runs on");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn what_is_left_in_the_background_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let done = folder.path().join("done");
    let begin = Instant::now();
    script(&format!("(sleep 4; touch '{}') & exit 0", done.display())).send(&notice()).await.unwrap();
    let failed = script("sleep 4 & echo no >&2; exit 1").send(&notice()).await.unwrap_err();
    assert!(begin.elapsed() < Duration::from_millis(3500), "{:?}", begin.elapsed());
    assert!(failed.to_string().ends_with(": no"), "{failed}");
    while !done.exists() {
        assert!(begin.elapsed() < Duration::from_secs(20), "it was killed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Runs the test of the environment in a process that has what no command may inherit.
#[test]
fn neither_a_passphrase_nor_stale_facts_are_inherited() {
    let inner = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "facts_are_in_the_environment_only"])
        .envs([("COPAL_PASSPHRASE", "hush"), ("COPAL_BACKUP_ID", "stale"), ("COPAL_NEXT_RUN", "stale")])
        .output()
        .unwrap();
    assert!(inner.status.success() && String::from_utf8_lossy(&inner.stdout).contains("1 passed"), "{inner:?}");
}

/// Neither gone nor waiting to be reaped.
fn is_running(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
}
