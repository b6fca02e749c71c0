//! What a dump will contain: the relations of a database, and what of them may be read.

use copal_core::{EngineError, EngineErrorKind, EngineResult};
use serde::Deserialize;

use crate::session::Session;

/// A table, sequence or the like that belongs to no extension, unless its rows are dumped as the extension's configuration.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Relation {
    pub(crate) oid: u32,
    /// `r` table, `p` partitioned table, `f` foreign table, `m` materialised view, `S` sequence.
    pub(crate) kind: char,
    /// Quoted, with its schema.
    pub(crate) name: String,
    /// Whether this role may select from it and use its schema.
    pub(crate) is_readable: bool,
    /// Whether row security would hide rows from this role.
    pub(crate) is_hidden: bool,
    /// The number of the file in which it is stored, another one after it was rewritten; 0 for some kinds.
    pub(crate) file: u32,
    /// Rows as the last analysis estimated them; negative if there was none.
    pub(crate) estimate: f64,
    /// Whether only an extension's configuration rows are dumped, which is not all of it.
    pub(crate) is_configuration: bool,
}

impl Relation {
    /// Whether a dump takes an ACCESS SHARE lock on it at its beginning.
    pub(crate) fn is_locked(&self) -> bool {
        matches!(self.kind, 'r' | 'p') && !self.is_configuration
    }

    /// Whether it has rows of its own, all of which a dump contains.
    pub(crate) fn has_rows(&self) -> bool {
        self.kind == 'r' && !self.is_configuration
    }
}

const OWN_SCHEMA: &str = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'";

/// All relations of the database, the smallest first. Takes no lock on any of them, so it never waits for one.
pub(crate) fn of(session: &mut Session) -> EngineResult<Vec<Relation>> {
    session.rows(&format!(
        "SELECT c.oid::bigint AS oid, c.relkind AS kind, format('%I.%I', n.nspname, c.relname) AS name, \
           coalesce(pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND CASE c.relkind \
             WHEN 'S' THEN pg_catalog.has_sequence_privilege(c.oid, 'SELECT') \
             ELSE pg_catalog.has_table_privilege(c.oid, 'SELECT') END, true) AS is_readable, \
           c.relkind IN ('r', 'p') AND coalesce(pg_catalog.row_security_active(c.oid), false) AS is_hidden, \
           c.relfilenode::bigint AS file, c.reltuples AS estimate, e.oid IS NOT NULL AS is_configuration \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
           LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid \
             AND d.objsubid = 0 AND d.deptype = 'e' \
           LEFT JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid AND c.oid = ANY (e.extconfig) \
         WHERE c.relkind IN ('r', 'p', 'f', 'm', 'S') AND {OWN_SCHEMA} AND (d.objid IS NULL OR e.oid IS NOT NULL) \
         ORDER BY c.relpages, name"
    ))
}

/// Refuses what a dump would leave out or fail at.
pub(crate) fn require_readable(relations: &[Relation], place: &str) -> EngineResult<()> {
    let refuse = |relations: Vec<&Relation>, what: &str, hint: &str| {
        let names: Vec<_> = relations.iter().take(5).map(|relation| relation.name.as_str()).collect();
        let more = relations.len().saturating_sub(5);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let message = format!("{place}: {what} {}{more}", names.join(", "));
        Err(EngineError::new(EngineErrorKind::PermissionDenied, message).hint(hint))
    };
    let unreadable: Vec<_> =
        relations.iter().filter(|relation| relation.kind != 'f' && !relation.is_readable).collect();
    if !unreadable.is_empty() {
        return refuse(
            unreadable,
            "the role may not read",
            "GRANT pg_read_all_data TO the role (docs/engines/postgres.md has all that is needed)",
        );
    }
    let hidden: Vec<_> = relations.iter().filter(|relation| relation.is_hidden).collect();
    if !hidden.is_empty() {
        return refuse(
            hidden,
            "row security hides rows from the role in",
            "let the role bypass it: ALTER ROLE … BYPASSRLS",
        );
    }
    Ok(())
}
