//! The names of our schemas and locks.
//!
//! A schema of ours is called `copal_<kind>_<12 hex digits>`. The first six digits are a hash of the database's name, so that
//! even one that was killed before anything was in it is known to be this database's; the others are random. The lock of a
//! database has the same hash in its name: two names with one hash share the lock, and nothing else.

use copal_core::EngineResult;

use crate::quote::{like, literal};
use crate::session::Session;

/// The table in which a snapshot says what it is; complete once its row is there.
pub(crate) const SNAPSHOT: &str = "copal_snapshot";
/// The table with the plan of a rewind; it is in the working schema before the renaming, and in the aside schema after it.
pub(crate) const REWIND: &str = "copal_rewind";
/// The table of a spare copy; complete once its row is there.
pub(crate) const SPARE: &str = "copal_spare";

/// What a schema of ours is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A snapshot.
    Snapshot,
    /// A copy of a snapshot that is about to take the database's place.
    Working,
    /// What was in the database before a rewind.
    Aside,
    /// A copy of a snapshot that stands ready; has its digits.
    Spare,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Snapshot, Self::Working, Self::Aside, Self::Spare];

    fn prefix(self) -> &'static str {
        match self {
            Self::Snapshot => "copal_snap_",
            Self::Working => "copal_rewind_",
            Self::Aside => "copal_aside_",
            Self::Spare => "copal_spare_",
        }
    }

    /// A new name for a schema of a database.
    pub(crate) fn new_name(self, key: &str) -> String {
        format!("{}{key}{:06x}", self.prefix(), rand::random::<u32>() >> 8)
    }

    /// The name with the digits of another schema of ours.
    pub(crate) fn beside(self, other: &str) -> String {
        format!("{}{}", self.prefix(), digits(other).unwrap_or_default())
    }

    /// What a schema is for; `None`: it is none of ours.
    pub(crate) fn of(schema: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| schema.starts_with(kind.prefix()) && digits(schema).is_some())
    }

    /// All schemas of this kind that belong to a database.
    pub(crate) fn all(self, session: &mut Session, key: &str) -> EngineResult<Vec<String>> {
        let pattern = literal(&format!("{}%", like(&format!("{}{key}", self.prefix()))));
        let found = session.texts(&format!(
            "SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE {pattern} ORDER BY 1"
        ))?;
        Ok(found.into_iter().filter(|name| Self::of(name) == Some(self)).collect())
    }
}

fn digits(schema: &str) -> Option<&str> {
    let (_, digits) = schema.rsplit_once('_')?;
    let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    (digits.len() == 12 && digits.bytes().all(is_hex)).then_some(digits)
}

/// The six digits of a database.
pub(crate) fn key(database: &str) -> String {
    blake3::hash(database.as_bytes()).to_hex().chars().take(6).collect()
}

/// The lock that excludes two calls for one database.
pub(crate) fn lock(key: &str) -> String {
    format!("copal_{key}")
}

/// Whether a name is that of a schema which is no database of a user's.
pub(crate) fn is_hidden(schema: &str) -> bool {
    const SYSTEM: [&str; 4] = ["information_schema", "performance_schema", "mysql", "sys"];
    SYSTEM.iter().any(|system| schema.eq_ignore_ascii_case(system)) || Kind::of(schema).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_they_are() {
        let key = key("shöp");
        let name = Kind::Working.new_name(&key);
        assert_eq!(Kind::of(&name), Some(Kind::Working));
        assert_eq!(Kind::of(&Kind::Aside.beside(&name)), Some(Kind::Aside));
        assert!(name.starts_with(&format!("copal_rewind_{key}")) && name.len() == 25, "{name}");
        for other in ["copal_snap_", "copal_snap_0123456789aB", "copal_snapshots_0123456789ab", "shop"] {
            assert_eq!(Kind::of(other), None, "{other}");
        }
    }
}
