//! One file per command: its arguments, its help, the call into the library, and how the answer reads.

pub(crate) mod backup;
pub(crate) mod changed;
pub(crate) mod completions;
pub(crate) mod doctor;
pub(crate) mod init;
pub(crate) mod key;
pub(crate) mod list;
pub(crate) mod migrate;
pub(crate) mod notify;
pub(crate) mod pin;
pub(crate) mod prune;
pub(crate) mod restore;
pub(crate) mod rewind;
pub(crate) mod serve;
pub(crate) mod show;
pub(crate) mod snap;
pub(crate) mod snaps;
pub(crate) mod status;
pub(crate) mod token;
pub(crate) mod verify;

use copal::{BackupSummary, DamagedObject};

use crate::output::{Style, clean};

/// What is special about a backup: `pinned, verified`.
fn marks(backup: &BackupSummary) -> String {
    let marks = [(backup.pinned, "pinned"), (backup.verified, "verified")];
    marks.iter().filter(|(is_set, _)| *is_set).map(|(_, word)| *word).collect::<Vec<_>>().join(", ")
}

/// Lines of `name  value`, the values lined up.
fn facts(style: Style, lines: &[(&str, String)]) -> String {
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let line = |(name, value): &(&str, String)| {
        let value = clean(value).replace('\n', &format!("\n{}", " ".repeat(width + 2)));
        format!("{}  {value}", style.dim(&format!("{name:width$}")))
    };
    lines.iter().filter(|(_, value)| !value.is_empty()).map(line).collect::<Vec<_>>().join("\n")
}

/// One line for each object that is missing or changed, naming the backup where it is known.
fn damage_lines(damaged: &[DamagedObject], style: Style) -> String {
    let line = |DamagedObject { backup, object, problem, .. }: &DamagedObject| {
        let backup = backup.as_ref().map(|id| format!("{id}  ")).unwrap_or_default();
        format!("  {} {backup}{}: {}", style.red("DAMAGED"), clean(object), clean(problem))
    };
    damaged.iter().map(line).collect::<Vec<_>>().join("\n")
}
