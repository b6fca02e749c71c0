//! Names and labels of snapshots.

use jiff::Zoned;

use super::sets::Set;
use crate::{CopalError, ErrorKind, Result};

/// Bytes of the longest name; with its description it must fit into what servers keep with a database.
const LONGEST: usize = 200;

/// Refuses a name that could not be typed or shown.
pub(super) fn check(name: &str) -> Result<()> {
    let problem = match () {
        () if name.trim().is_empty() => "is empty",
        () if name.len() > LONGEST => "is longer than 200 bytes",
        () if name.trim() != name => "begins or ends with a space",
        () if name.starts_with('-') => "begins with a minus, like an option",
        () if name.chars().any(char::is_control) => "has characters that cannot be shown",
        () => return Ok(()),
    };
    Err(CopalError::new(ErrorKind::Usage, format!("the name of a snapshot {problem}: {name:?}")))
}

/// Refuses a label that is unsafe in the name of a file.
pub(super) fn check_label(label: &str) -> Result<()> {
    let is_safe = (1..=64).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        && !label.starts_with(['.', '-']);
    if is_safe {
        return Ok(());
    }
    let message = format!("{label:?} cannot be a label");
    Err(CopalError::new(ErrorKind::Usage, message)
        .with_hint("a label has 1 to 64 of A-Z a-z 0-9 . _ - and begins with a letter or digit"))
}

/// A name that is free: the local time.
pub(super) fn of_now(sets: &[Set]) -> String {
    let time = Zoned::now().strftime("%Y-%m-%d-%H%M%S").to_string();
    let numbered = (2..).map(|n| format!("{time}-{n}"));
    let is_free = |name: &String| sets.iter().all(|set| set.name() != name);
    std::iter::once(time.clone()).chain(numbered).find(is_free).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_be_anything_that_can_be_shown() {
        for good in ["before import", "a'b\"c", "größe/日本", "20261120", &"x".repeat(200)] {
            check(good).unwrap();
        }
        for bad in ["", " ", " a", "-d", "a\nb", "a\u{1b}[0m", &"x".repeat(201)] {
            assert_eq!(check(bad).unwrap_err().kind(), ErrorKind::Usage, "{bad:?}");
        }
    }

    #[test]
    fn labels_are_safe_in_names_of_files() {
        for good in ["pre-migrate", "v2.0_rc1", &"x".repeat(64)] {
            check_label(good).unwrap();
        }
        for bad in ["", ".", "..", "a/b", "a b", "-x", "ü", &"x".repeat(65)] {
            assert_eq!(check_label(bad).unwrap_err().kind(), ErrorKind::Usage, "{bad:?}");
        }
    }
}
