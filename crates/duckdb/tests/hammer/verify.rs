//! Has a fresh process of the same version open a copy and compare it with what was committed.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::places::{copy_files, script};
use crate::writer::Acks;

/// How long a verification may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is wrong with the copy in `folder`, which is left as it is; nothing if it is good. `is_used`: it is also written to.
pub(crate) fn problems(
    version: &str,
    pattern: &str,
    folder: &Path,
    before: &Acks,
    after: Option<&Acks>,
    is_used: bool,
) -> Vec<String> {
    let opened = folder.with_extension("opened");
    let _ = std::fs::remove_dir_all(&opened);
    copy_files(folder, "main.duckdb", &opened, "main.duckdb");
    let mut command = script(version, "verify.py");
    command.arg(opened.join("main.duckdb")).args([pattern, &list(before), &after.map_or("-".to_owned(), list)]);
    if is_used {
        command.arg("write");
    }
    let (is_good, output) = run(command, &opened.join("output"));
    let _ = std::fs::remove_dir_all(&opened);
    let mut problems: Vec<String> = output.lines().map(str::to_owned).collect();
    if !is_good && problems.is_empty() {
        problems.push("UNREADABLE: DuckDB crashed, or did not come to an end".to_owned());
    }
    problems
}

/// Runs a command, its output by way of a file; whether it succeeded in time, and what it said.
pub(crate) fn run(mut command: Command, output: &Path) -> (bool, String) {
    let file = File::create(output).unwrap();
    let mut child = command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
    let begun = Instant::now();
    let is_good = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status.success(),
            None if begun.elapsed() > PATIENCE => {
                let _ = child.kill();
                let _ = child.wait();
                break false;
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    (is_good, std::fs::read_to_string(output).unwrap_or_default())
}

fn list(acks: &Acks) -> String {
    acks.map(|n| n.to_string()).join(",")
}
