//! What came out of many copies, as a table.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::places::say;

/// What came out of one copy.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// A committed state; whether the engine had to fall back to another way of reading.
    Good { fell_back: bool },
    /// The engine says that the database is too busy.
    Busy,
    /// Anything else, with its evidence.
    Bad { what: String, evidence: PathBuf },
}

/// Everything that came out, by version, pattern and place.
#[derive(Default)]
pub(crate) struct Report {
    rows: BTreeMap<(String, String, &'static str), Row>,
    /// Writers that failed by themselves.
    pub(crate) writers: Vec<String>,
    /// What is wrong, one line each.
    pub(crate) bad: Vec<String>,
}

#[derive(Default)]
struct Row {
    times: Vec<Duration>,
    bad: usize,
    busy: usize,
    fell_back: usize,
}

impl Report {
    pub(crate) fn add(&mut self, version: &str, pattern: &str, place: &'static str, took: Duration, outcome: Outcome) {
        let row = self.rows.entry((version.to_owned(), pattern.to_owned(), place)).or_default();
        row.times.push(took);
        match outcome {
            Outcome::Good { fell_back } => row.fell_back += usize::from(fell_back),
            Outcome::Busy => row.busy += 1,
            Outcome::Bad { what, evidence } => {
                row.bad += 1;
                self.bad.push(format!("{version} {pattern} {place}: {what} (see {})", evidence.display()));
            }
        }
    }

    /// How many copies were made.
    pub(crate) fn copies(&self) -> usize {
        self.rows.values().map(|row| row.times.len()).sum()
    }

    /// How many times the database was too busy.
    pub(crate) fn busy(&self) -> usize {
        self.rows.values().map(|row| row.busy).sum()
    }

    /// Prints the table.
    pub(crate) fn say(&self) {
        say("version  pattern           place  copies  median ms   max ms  bad  busy  fell back");
        for ((version, pattern, place), row) in &self.rows {
            say(&row.line(&format!("{version:7}  {pattern:16}  {place:5}")));
        }
        let mut all = Row::default();
        for row in self.rows.values() {
            all.times.extend(&row.times);
            all.bad += row.bad;
            all.busy += row.busy;
            all.fell_back += row.fell_back;
        }
        say(&all.line(&format!("{:32}", "all")));
        for line in self.writers.iter().chain(&self.bad) {
            say(line);
        }
    }
}

impl Row {
    fn line(&self, name: &str) -> String {
        let mut times = self.times.clone();
        times.sort_unstable();
        let millis = |time: Option<&Duration>| time.map_or(0, Duration::as_millis);
        let (median, max) = (millis(times.get((times.len() - 1) / 2)), millis(times.last()));
        let (copies, bad, busy, back) = (times.len(), self.bad, self.busy, self.fell_back);
        format!("{name}  {copies:6}  {median:9}  {max:7}  {bad:3}  {busy:4}  {back:9}")
    }
}
