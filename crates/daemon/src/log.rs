//! What a run said while it went on: its phases, notes, warnings and checks, and the error that it ended with.
//!
//! Bounded, whatever a run says: of too many lines those in the middle go, since the first say what was done and the last why it ended.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Lines that are kept from the beginning, and as many from the end.
const HALF: usize = 100;
/// Bytes of a line.
const LONGEST: usize = 500;
/// Bytes of all lines of each half: there are hundreds of thousands of runs.
const MOST_BYTES: usize = 8_000;

/// What kind of line it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogLevel {
    /// A phase began.
    Phase,
    /// Good to know.
    Note,
    /// Somebody should know.
    Warning,
    /// A check that passed.
    Check,
    /// Why the run failed.
    Error,
}

/// One line of a run's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct LogLine {
    /// When it was said.
    pub(crate) time: Timestamp,
    /// What kind of line it is.
    pub(crate) level: LogLevel,
    /// The line, at most 500 bytes.
    pub(crate) text: String,
}

/// What a run said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RunLog {
    first: Vec<LogLine>,
    last: VecDeque<LogLine>,
    first_bytes: usize,
    last_bytes: usize,
    left_out: u64,
}

impl RunLog {
    /// Adds a line; one phase is told once, however often it begins in a row.
    pub(crate) fn add(&mut self, time: Timestamp, level: LogLevel, text: &str) {
        let time = crate::run::to_millisecond(time);
        let line = LogLine { time, level, text: one_line(text) };
        let before = self.last.back().or(self.first.last());
        if level == LogLevel::Phase && before.is_some_and(|before| (before.level, &before.text) == (level, &line.text))
        {
            return;
        }
        if self.last.is_empty() && self.first.len() < HALF && self.first_bytes < MOST_BYTES {
            self.first_bytes += line.text.len();
            self.first.push(line);
            return;
        }
        self.last_bytes += line.text.len();
        self.last.push_back(line);
        // With the line that says so there are no more than twice the half.
        while self.last.len() == HALF || self.last_bytes > MOST_BYTES {
            let Some(gone) = self.last.pop_front() else { break };
            self.last_bytes -= gone.text.len();
            self.left_out += 1;
        }
    }

    /// All lines, with one in the place of those that were left out.
    pub(crate) fn lines(&self) -> Vec<LogLine> {
        let gap = self.last.front().filter(|_| self.left_out > 0).map(|next| LogLine {
            time: next.time,
            level: LogLevel::Note,
            text: format!("{} lines are left out here", self.left_out),
        });
        self.first.iter().cloned().chain(gap).chain(self.last.iter().cloned()).collect()
    }

    /// Whether lines are missing.
    pub(crate) fn is_truncated(&self) -> bool {
        self.left_out > 0
    }

    /// Whether nothing was said.
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// As the history keeps it: lines as `[milliseconds since the first, level, text]`.
    pub(crate) fn to_kept(&self) -> KeptLog {
        let start = self.first.first().map_or(0, |line| line.time.as_millisecond());
        let kept = |line: LogLine| KeptLine(line.time.as_millisecond() - start, line.level, line.text);
        KeptLog { start, truncated: self.is_truncated(), lines: self.lines().into_iter().map(kept).collect() }
    }
}

/// A log in few bytes: there are hundreds of thousands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptLog {
    start: i64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) truncated: bool,
    lines: Vec<KeptLine>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct KeptLine(i64, LogLevel, String);

impl KeptLog {
    /// The lines again.
    pub(crate) fn into_lines(self) -> Vec<LogLine> {
        let time = |after: i64| Timestamp::from_millisecond(self.start.saturating_add(after)).unwrap_or_default();
        let line = |KeptLine(after, level, text)| LogLine { time: time(after), level, text };
        self.lines.into_iter().map(line).collect()
    }
}

/// The text on one line and not too long; what is no text might do something to whoever shows it.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(LONGEST));
    for c in text.trim().chars() {
        let c = if c.is_control() { ' ' } else { c };
        if line.len() + c.len_utf8() > LONGEST - '…'.len_utf8() {
            line.push('…');
            break;
        }
        line.push(c);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn texts(log: &RunLog) -> Vec<String> {
        log.lines().into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn of_too_many_lines_those_in_the_middle_go() {
        let mut log = RunLog::default();
        for n in 0..199 {
            log.add(at(n), LogLevel::Note, &n.to_string());
        }
        assert_eq!((log.lines().len(), log.is_truncated()), (199, false));
        for n in 199..1_000 {
            log.add(at(n), LogLevel::Note, &n.to_string());
        }
        let texts = texts(&log);
        assert_eq!((texts.len(), log.is_truncated()), (200, true));
        assert_eq!(
            [&texts[99], &texts[100], &texts[101], &texts[199]],
            ["99", "801 lines are left out here", "901", "999"]
        );
        assert!(log.lines().is_sorted_by_key(|line| line.time));
    }

    #[test]
    fn a_line_is_one_line_of_at_most_500_bytes() {
        let mut log = RunLog::default();
        for (text, shown) in [("a\nb\u{1b}[31mc\r\n", "a b [31mc"), ("", ""), ("<b>&\u{fc}", "<b>&\u{fc}")] {
            log.add(at(0), LogLevel::Warning, text);
            assert_eq!(log.lines().pop().unwrap().text, shown);
        }
        for long in ["x".repeat(501), "\u{1f4be}".repeat(200)] {
            log.add(at(0), LogLevel::Error, &long);
            let text = log.lines().pop().unwrap().text;
            assert!((495..=500).contains(&text.len()) && text.ends_with('…'), "{}", text.len());
        }
    }

    #[test]
    fn long_lines_fill_no_more_than_so_many_bytes() {
        let mut log = RunLog::default();
        for n in 0..1_000 {
            log.add(at(n), LogLevel::Warning, &format!("{n} {}", "x".repeat(490)));
        }
        let texts = texts(&log);
        assert!(texts.iter().map(String::len).sum::<usize>() <= 2 * MOST_BYTES + LONGEST, "{}", texts.len());
        assert!(texts[0].starts_with("0 ") && texts[texts.len() - 1].starts_with("999 "));
        let left_out = 1_001 - texts.len();
        assert!(texts.contains(&format!("{left_out} lines are left out here")), "{left_out} {texts:?}");
    }

    #[test]
    fn a_phase_is_told_once_in_a_row() {
        let mut log = RunLog::default();
        for (level, text) in
            [(LogLevel::Phase, "counting"), (LogLevel::Phase, "counting"), (LogLevel::Note, "counting")]
        {
            log.add(at(0), level, text);
        }
        log.add(at(1), LogLevel::Phase, "counting");
        assert_eq!(log.lines().len(), 3);
    }

    #[test]
    fn what_is_kept_is_what_was_said() {
        let mut log = RunLog::default();
        assert_eq!(log.to_kept().into_lines(), []);
        for n in 0..300 {
            log.add(at(n), LogLevel::Check, "\"quoted\" \u{fc}");
        }
        let text = serde_json::to_string(&log.to_kept()).unwrap();
        let kept: KeptLog = serde_json::from_str(&text).unwrap();
        assert!(kept.truncated);
        assert_eq!(kept.into_lines(), log.lines());
    }
}
