//! Whether the user may do what is to be done, asked before anything is done.

use std::collections::BTreeSet;

use copal_core::{EngineError, EngineErrorKind, EngineResult};

use crate::session::Session;

/// On our schemas.
const OURS: [&str; 11] = [
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "CREATE",
    "DROP",
    "ALTER",
    "INDEX",
    "REFERENCES",
    "CREATE ROUTINE",
    "EXECUTE",
];
/// On the database, to see all that is in it: without EXECUTE not even the names of routines.
const TAKE: [&str; 5] = ["SELECT", "SHOW VIEW", "TRIGGER", "EVENT", "EXECUTE"];
/// On the database, to put something else in its place.
const REWIND: [&str; 8] =
    ["INSERT", "CREATE", "DROP", "ALTER", "REFERENCES", "CREATE VIEW", "CREATE ROUTINE", "ALTER ROUTINE"];

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Take a snapshot.
    Take,
    /// Rewind.
    Rewind,
}

/// What a user was granted.
#[derive(Clone, Debug, Default)]
struct Grants(Vec<(BTreeSet<String>, String)>);

/// An error that names the privileges that are missing, with the statements to type.
pub(crate) fn check(session: &mut Session, database: &str, deed: Deed) -> EngineResult<()> {
    let grants = Grants(session.texts("SHOW GRANTS")?.iter().filter_map(|line| parse(line)).collect());
    let wanted: Vec<_> = match deed {
        Deed::Take => TAKE.to_vec(),
        Deed::Rewind => TAKE.into_iter().chain(REWIND).collect(),
    };
    let lacks = |schema: &str, wanted: &[&'static str]| {
        wanted.iter().copied().filter(|privilege| !grants.has(privilege, schema)).collect::<Vec<_>>()
    };
    let user = session.text("SELECT current_user()")?.unwrap_or_default();
    let user = user.rsplit_once('@').map_or_else(|| user.clone(), |(name, host)| format!("'{name}'@'{host}'"));
    let (on_database, on_ours) = (lacks(database, &wanted), lacks("copal_snap_0123456789ab", &OURS));
    let mut statements = Vec::new();
    if !on_database.is_empty() {
        // In a GRANT the name is a pattern.
        let pattern = database.replace('_', "\\_").replace('%', "\\%").replace('`', "``");
        statements.push(format!("GRANT {} ON `{pattern}`.* TO {user};", on_database.join(", ")));
    }
    if !on_ours.is_empty() {
        statements.push(format!("GRANT ALL ON `copal\\_%`.* TO {user};"));
    }
    if statements.is_empty() {
        return Ok(());
    }
    let what = if deed == Deed::Take { "take a snapshot of" } else { "rewind" };
    let mut missing: Vec<_> = on_database.iter().map(|privilege| format!("{privilege} on it")).collect();
    missing.extend(on_ours.iter().map(|privilege| format!("{privilege} on the schemas copal_…")));
    let message = format!("{user} may not {what} the database {database:?}: it lacks {}", missing.join(", "));
    Err(EngineError::new(EngineErrorKind::PermissionDenied, message)
        .hint(format!("as an administrator: {}", statements.join(" "))))
}

/// An error if the user may not make objects in others' names, where there are such.
pub(crate) fn check_definers<'a>(
    session: &mut Session,
    database: &str,
    definers: impl Iterator<Item = &'a str>,
) -> EngineResult<()> {
    let me = session.text("SELECT current_user()")?.unwrap_or_default();
    let others: BTreeSet<_> = definers.filter(|definer| *definer != me).collect();
    let grants = Grants(session.texts("SHOW GRANTS")?.iter().filter_map(|line| parse(line)).collect());
    let may = ["SUPER", "SET USER", "SET_USER_ID", "SET_ANY_DEFINER"];
    if others.is_empty() || may.iter().any(|privilege| grants.has_everywhere(privilege)) {
        return Ok(());
    }
    let others: Vec<_> = others.into_iter().collect();
    let message = format!(
        "{me} may not rewind the database {database:?}: triggers, views or routines in it are of others ({})",
        others.join(", ")
    );
    let privilege = if session.is_mariadb() { "SET USER" } else { "SET_ANY_DEFINER (before 8.2: SET_USER_ID)" };
    let user = me.rsplit_once('@').map_or_else(|| me.clone(), |(name, host)| format!("'{name}'@'{host}'"));
    Err(EngineError::new(EngineErrorKind::PermissionDenied, message)
        .hint(format!("as an administrator: GRANT {privilege} ON *.* TO {user};")))
}

/// Takes `GRANT a, b (c) ON d.* TO …` apart; `None`: it is about something else.
fn parse(line: &str) -> Option<(BTreeSet<String>, String)> {
    let (privileges, rest) = line.strip_prefix("GRANT ")?.split_once(" ON ")?;
    let place = rest.strip_prefix("*.*").map(|_| "*".to_owned()).or_else(|| {
        let mut name = String::new();
        let mut rest = rest.strip_prefix('`')?;
        loop {
            let (part, after) = rest.split_once('`')?;
            name.push_str(part);
            match after.strip_prefix('`') {
                Some(more) => {
                    name.push('`');
                    rest = more;
                }
                None => return after.starts_with(".*").then_some(name),
            }
        }
    })?;
    Some((privileges.split(", ").map(|privilege| privilege.trim().to_uppercase()).collect(), place))
}

impl Grants {
    fn has(&self, privilege: &str, schema: &str) -> bool {
        let is_it = |set: &BTreeSet<String>| set.contains(privilege) || set.contains("ALL PRIVILEGES");
        self.0.iter().any(|(set, place)| is_it(set) && (place == "*" || matches(place, schema)))
    }

    fn has_everywhere(&self, privilege: &str) -> bool {
        self.0.iter().any(|(set, place)| place == "*" && (set.contains(privilege) || set.contains("ALL PRIVILEGES")))
    }
}

/// Whether a name matches a pattern of LIKE.
fn matches(pattern: &str, name: &str) -> bool {
    let mut pattern_chars = pattern.chars();
    match pattern_chars.next() {
        None => name.is_empty(),
        Some('%') => {
            let rest = pattern_chars.as_str();
            name.char_indices()
                .map(|(at, _)| at)
                .chain([name.len()])
                .any(|at| matches(rest, name.get(at..).unwrap_or_default()))
        }
        Some(c) => {
            let literal = if c == '\\' { pattern_chars.next().unwrap_or(c) } else { c };
            let mut name_chars = name.chars();
            let is_same = name_chars.next().is_some_and(|found| c == '_' || found == literal);
            is_same && matches(pattern_chars.as_str(), name_chars.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_read() {
        let lines = [
            "GRANT USAGE ON *.* TO `u`@`%` IDENTIFIED BY PASSWORD '*X'",
            "GRANT SELECT, SHOW VIEW ON `sh\\_op`.* TO `u`@`%`",
            "GRANT ALL PRIVILEGES ON `copal\\_%`.* TO `u`@`%` WITH GRANT OPTION",
            "GRANT TRIGGER ON `a_c`.* TO `u`@`%`",
            "GRANT DROP ON `sh_op`.`t` TO `u`@`%`",
            "GRANT `role` TO `u`@`%`",
        ];
        let grants = Grants(lines.iter().filter_map(|line| parse(line)).collect());
        assert!(grants.has("SHOW VIEW", "sh_op") && !grants.has("SHOW VIEW", "shXop"));
        assert!(grants.has("ALTER", "copal_snap_1") && !grants.has("ALTER", "copalXsnap"));
        assert!(grants.has("TRIGGER", "abc") && !grants.has("TRIGGER", "abcd"));
        assert!(!grants.has("DROP", "sh_op") && !grants.has_everywhere("SELECT"));
    }
}
