//! The usual recipes fail under the hammer: so it is known to bite.

use std::time::Duration;

use crate::copiers::Recipe;
use crate::places::{Place, Slot, are_duckdbs_here, say};
use crate::verify::problems;
use crate::writer::Writer;

/// Tries a recipe until a copy is bad in the way that `is_it` describes; panics if none is.
fn fails(recipe: Recipe, version: &str, pattern: &str, tries: u32, is_it: impl Fn(&str) -> bool) {
    if !are_duckdbs_here() {
        return;
    }
    let _slot = Slot::take();
    let scratch = Place::all()[0].scratch();
    let mut writer = Writer::start(version, pattern, scratch.path(), 1).unwrap();
    let mut others = Vec::new();
    for attempt in 1..=tries {
        std::thread::sleep(Duration::from_millis(u64::from(attempt) * 17 % 60));
        let copy = scratch.path().join("copy");
        let before = writer.acks();
        recipe.copy(&mut writer, &copy).unwrap();
        let after = writer.acks();
        writer.hold().unwrap();
        let found = problems(version, pattern, &copy, &before, Some(&after), false);
        std::fs::remove_dir_all(&copy).unwrap();
        if found.iter().any(|problem| is_it(problem)) {
            say(&format!("{recipe:?} fails at attempt {attempt} on {version} {pattern}: {}", found[0]));
            return;
        }
        others.extend(found);
        writer.go().unwrap();
    }
    panic!("{recipe:?} was good {tries} times on {version} {pattern}, or bad in other ways: {others:?}");
}

#[test]
fn the_main_file_alone_loses_commits() {
    fails(Recipe::MainOnly, "1.5.6", "bank", 5, |problem| problem.starts_with("LOST"));
}

#[test]
fn the_main_file_and_then_the_log_are_no_copy() {
    fails(Recipe::MainThenLog, "1.5.6", "auto_1mb", 80, |_| true);
}

#[test]
fn a_checkpoint_and_then_a_copy_is_no_copy() {
    fails(Recipe::CheckpointThenCopy, "2.0.0", "auto_1mb", 80, |_| true);
}

#[test]
fn blocks_with_the_same_checksum_are_not_the_same() {
    fails(Recipe::KeptByChecksum, "1.5.6", "permute", 120, |problem| problem.starts_with("content: Permute"));
}
