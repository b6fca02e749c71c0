//! Single tables and schemas into a database that stays: all in one transaction, or nothing.
//!
//! What belongs to a table (its data, defaults, sequences, constraints, indexes, triggers, policies, comments, grants and
//! partitions) is found by the dependencies in the archive's table of contents, which `pg_restore --table` passes over.

use std::collections::{BTreeMap, HashSet};
use std::io::{Read, Write};
use std::process::Stdio;

use copal_core::{CheckReport, Content, EngineError, EngineErrorKind, EngineResult, RestoreRequest, Restored};

use super::{Archive, Target};
use crate::capture::believe;
use crate::properties::Properties;
use crate::session::Session;

/// Kinds of entries that belong to the table that they depend on.
const PARTS: [&str; 19] = [
    "TABLE DATA",
    "TABLE ATTACH",
    "TABLE",
    "COMMENT",
    "SEQUENCE OWNED BY",
    "SEQUENCE SET",
    "SEQUENCE",
    "DEFAULT ACL",
    "DEFAULT",
    "FK CONSTRAINT",
    "CHECK CONSTRAINT",
    "CONSTRAINT",
    "INDEX ATTACH",
    "INDEX",
    "TRIGGER",
    "RULE",
    "POLICY",
    "ROW SECURITY",
    "ACL",
];
const MORE_PARTS: [&str; 3] = ["STATISTICS DATA", "STATISTICS", "SECURITY LABEL"];

/// One line of the table of contents.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    id: u32,
    /// What comes behind the ids: kind, schema, name and owner, which only the expected names tell apart.
    text: String,
    depends: Vec<u32>,
}

/// Restores the chosen objects.
pub(super) fn restore(
    target: &Target<'_>,
    server: &mut Session,
    content: &dyn Content,
    properties: &Properties,
    request: &RestoreRequest,
    exists: bool,
) -> EngineResult<Restored> {
    let refuse = |kind, message: String, hint: &str| Err(EngineError::new(kind, message).hint(hint));
    if !exists {
        let message = format!("{} does not exist; tables are restored into a database that is there", target.shown);
        return refuse(EngineErrorKind::NotFound, message, "restore the whole database, or create it first");
    }
    let programs = target.programs.for_restore(server.major(), properties.dumped_by)?;
    if programs.major >= 17 && server.major() < 17 {
        let message =
            format!("pg_restore {} cannot restore single tables into PostgreSQL {}", programs.major, server.major());
        let hint = format!("install the package postgresql-client-{}", server.major());
        return refuse(EngineErrorKind::Unsupported, message, &hint);
    }
    let archive = Archive::stage(content, target.engine.temporary.as_deref(), 1, target.context)?;
    let list = |options: &[String]| -> EngineResult<String> {
        let mut list = Vec::new();
        let mut command = programs.offline("pg_restore");
        command.arg("--list").args(options).stdout(Stdio::piped());
        archive.feed(command, content, target.context, &mut |mut running| {
            if let Some(mut output) = running.output() {
                let read = output.read_to_end(&mut list);
                read.map_err(|e| EngineError::new(EngineErrorKind::Other, "pg_restore could not be read").because(e))?;
            }
            believe("pg_restore", running, &target.shown, &copal_core::Context::silent())
        })?;
        Ok(String::from_utf8_lossy(&list).into_owned())
    };
    let entries = parse(&list(&["--verbose".to_owned()])?);
    let chosen = choose(&entries, request, &mut |schema, table| {
        let option = |name: &str, value: Option<&str>| value.map(|value| format!("--{name}={value}"));
        let options: Vec<_> = option("schema", schema).into_iter().chain(option("table", table)).collect();
        Ok(parse(&list(&options)?).iter().map(|entry| entry.id).collect())
    })?;
    let mut notes = vec![format!("{} of {} entries of the archive", chosen.len(), entries.len())];
    if request.dry_run {
        let check = CheckReport::default();
        return Ok(Restored { target: target.shown.clone(), replaced: false, check, notes });
    }
    let failed =
        |e: std::io::Error| EngineError::new(EngineErrorKind::Other, "a temporary file could not be made").because(e);
    let mut file = tempfile::NamedTempFile::new().map_err(failed)?;
    for id in &chosen {
        writeln!(file, "{id};").map_err(failed)?;
    }
    file.flush().map_err(failed)?;
    target.context.phase("restoring", None);
    let mut command = programs.command("pg_restore", &target.address);
    command.args(["--single-transaction", "--exit-on-error"]).arg("--use-list").arg(file.path());
    archive.feed(command, content, target.context, &mut |running| {
        believe("pg_restore", running, &target.shown, target.context)
            .map_err(|error| error.hint("nothing was changed; a table that is there must be renamed or dropped first"))
    })?;
    notes.push("restored in one transaction".to_owned());
    let check = CheckReport::default();
    Ok(Restored { target: target.shown.clone(), replaced: false, check, notes })
}

/// The table of contents as `pg_restore --list --verbose` writes it.
fn parse(text: &str) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for line in text.lines() {
        if let Some(ids) = line.strip_prefix(";\tdepends on: ") {
            if let Some(entry) = entries.last_mut() {
                entry.depends = ids.split_whitespace().filter_map(|id| id.parse().ok()).collect();
            }
            continue;
        }
        // `216; 1259 16391 TABLE public orders owner`
        let mut parts = line.splitn(4, ' ');
        let id = parts.next().and_then(|id| id.strip_suffix(';')).and_then(|id| id.parse().ok());
        if let (Some(id), Some(text)) = (id, parts.nth(2)) {
            entries.push(Entry { id, text: text.to_owned(), depends: Vec::new() });
        }
    }
    entries
}

/// Ids of the entries that `pg_restore` finds for a schema, a table, or both: names in its table of contents are not
/// quoted, so only the program itself can tell them from what is beside them.
type Find<'a> = &'a mut dyn FnMut(Option<&str>, Option<&str>) -> EngineResult<HashSet<u32>>;

/// The ids of the chosen entries, in the archive's order.
fn choose(entries: &[Entry], request: &RestoreRequest, find: Find<'_>) -> EngineResult<Vec<u32>> {
    let kinds = |kind: &str| {
        let kind = format!("{kind} ");
        move |entry: &&Entry| entry.text.starts_with(&kind)
    };
    let is_table = |entry: &Entry| {
        entry.text.starts_with("TABLE ")
            && !entry.text.starts_with("TABLE DATA ")
            && !entry.text.starts_with("TABLE ATTACH ")
    };
    let mut chosen = HashSet::new();
    for schema in &request.objects.schemas {
        let found = find(Some(schema), None)?;
        let inside: Vec<_> = entries
            .iter()
            .filter(|entry| found.contains(&entry.id))
            .filter(|entry| PARTS.iter().chain(&MORE_PARTS).chain(&KINDS_IN_SCHEMAS).any(|kind| kinds(kind)(entry)))
            .collect();
        let own = format!("SCHEMA - {schema} ");
        // What is inside depends on its schema; an empty one has just an owner behind its name.
        let is_own = |entry: &&Entry| {
            entry.text.strip_prefix(&own).is_some_and(|owner| {
                inside.iter().any(|other| other.depends.contains(&entry.id))
                    || inside.is_empty() && !owner.contains(' ')
            })
        };
        let before = chosen.len();
        chosen.extend(entries.iter().filter(is_own).chain(inside.iter().copied()).map(|entry| entry.id));
        if chosen.len() == before {
            return Err(missing("schema", schema));
        }
    }
    let mut tables = HashSet::new();
    for table in &request.objects.tables {
        let mut found = find(None, Some(&unquoted(table)))?;
        for (at, _) in table.match_indices('.') {
            let (schema, name) = (table.get(..at).unwrap_or_default(), table.get(at + 1..).unwrap_or_default());
            found.extend(find(Some(&unquoted(schema)), Some(&unquoted(name)))?);
        }
        let found: Vec<_> = entries.iter().filter(|entry| is_table(entry) && found.contains(&entry.id)).collect();
        match found.as_slice() {
            [one] => tables.insert(one.id),
            [] => return Err(missing("table", table)),
            _ => {
                let message = format!("the backup has several tables {table}");
                return Err(
                    EngineError::new(EngineErrorKind::NotFound, message).hint("name the schema too: schema.table")
                );
            }
        };
    }
    let by_id: BTreeMap<u32, &Entry> = entries.iter().map(|entry| (entry.id, entry)).collect();
    let mut parts = tables;
    loop {
        let before = parts.len();
        for entry in entries {
            let is_part = PARTS.iter().chain(&MORE_PARTS).any(|kind| kinds(kind)(&entry));
            if !is_part || parts.contains(&entry.id) || !entry.depends.iter().any(|id| parts.contains(id)) {
                continue;
            }
            let needs: Vec<_> =
                entry.depends.iter().filter_map(|id| by_id.get(id)).filter(|other| is_table(other)).collect();
            let is_own = match entry.text.strip_prefix("FK CONSTRAINT ") {
                // Of the table that refers, whatever it refers to.
                Some(rest) => needs.iter().any(|table| {
                    parts.contains(&table.id) && place_of(table).is_some_and(|place| rest.starts_with(place))
                }),
                None => needs.iter().all(|table| parts.contains(&table.id)) || is_table(entry),
            };
            if is_own {
                parts.insert(entry.id);
            }
        }
        if parts.len() == before {
            break;
        }
    }
    chosen.extend(parts);
    Ok(entries.iter().map(|entry| entry.id).filter(|id| chosen.contains(id)).collect())
}

/// Kinds of entries with a schema that belong to no table.
const KINDS_IN_SCHEMAS: [&str; 17] = [
    "VIEW",
    "MATERIALIZED VIEW DATA",
    "MATERIALIZED VIEW",
    "FUNCTION",
    "PROCEDURE",
    "AGGREGATE",
    "TYPE",
    "SHELL TYPE",
    "DOMAIN",
    "OPERATOR CLASS",
    "OPERATOR FAMILY",
    "OPERATOR",
    "COLLATION",
    "CONVERSION",
    "FOREIGN TABLE",
    "TEXT SEARCH CONFIGURATION",
    "TEXT SEARCH DICTIONARY",
];

/// Schema and name of a table, with the space behind them.
fn place_of(entry: &Entry) -> Option<&str> {
    let rest = entry.text.strip_prefix("TABLE ")?;
    let (place, _owner) = rest.rsplit_once(' ')?;
    rest.get(..=place.len())
}

/// A name as SQL or people write it.
fn unquoted(name: &str) -> String {
    let inside = name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inside.map_or_else(|| name.to_owned(), |inside| inside.replace("\"\"", "\""))
}

fn missing(what: &str, name: &str) -> EngineError {
    EngineError::new(EngineErrorKind::NotFound, format!("the backup has no {what} {name}"))
        .hint("copal show lists the tables of a backup")
}

#[cfg(test)]
mod tests {
    use copal_core::{Objects, Source};

    use super::*;

    const LIST: &str = ";
6; 2615 16389 SCHEMA - odd schema postgres
216; 1259 16391 TABLE odd schema T a b postgres
;\tdepends on: 6
3386; 0 0 COMMENT odd schema COLUMN \"T a b\".x postgres
;\tdepends on: 216
215; 1259 16390 SEQUENCE odd schema T a b_id_seq postgres
;\tdepends on: 6 216
220; 1259 16417 TABLE public gen postgres
221; 1259 16420 TABLE public gen1 postgres
;\tdepends on: 220
217; 1259 16402 TABLE public p postgres
3215; 0 0 TABLE ATTACH public gen1 postgres
;\tdepends on: 221 220
3216; 2604 16394 DEFAULT odd schema T a b id postgres
;\tdepends on: 216 215 216
3375; 0 16391 TABLE DATA odd schema T a b postgres
;\tdepends on: 216
3376; 0 16402 TABLE DATA public p postgres
;\tdepends on: 217
3389; 0 0 SEQUENCE SET odd schema T a b_id_seq postgres
;\tdepends on: 215
3227; 2606 16407 FK CONSTRAINT public p p_t_fkey postgres
;\tdepends on: 217 216 3220
";

    fn chosen(tables: &[&str], schemas: &[&str]) -> EngineResult<Vec<u32>> {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let objects = Objects { tables: owned(tables), schemas: owned(schemas) };
        let request = RestoreRequest { objects, ..RestoreRequest::new(Source::parse("postgres:x").unwrap()) };
        choose(&parse(LIST), &request, &mut |schema, table| {
            let ids: &[u32] = match (schema, table) {
                (Some("odd schema"), None) => &[216, 3386, 215, 3216, 3375, 3389],
                (Some("odd schema") | None, Some("T a b")) => &[216, 3375],
                (None, Some("p")) => &[217, 3376],
                (Some("public"), Some("gen")) => &[220],
                _ => &[],
            };
            Ok(ids.iter().copied().collect())
        })
    }

    #[test]
    fn all_that_belongs_to_a_table_is_chosen() {
        let whole = [216, 3386, 215, 3216, 3375, 3389];
        assert_eq!(chosen(&["odd schema.T a b"], &[]).unwrap(), whole);
        assert_eq!(chosen(&["\"odd schema\".\"T a b\""], &[]).unwrap(), whole);
        assert_eq!(chosen(&["p"], &[]).unwrap(), [217, 3376, 3227]);
        assert_eq!(chosen(&["public.gen"], &[]).unwrap(), [220, 221, 3215]);
        assert_eq!(chosen(&[], &["odd schema"]).unwrap(), [6, 216, 3386, 215, 3216, 3375, 3389]);
        assert!(chosen(&["nothing"], &[]).is_err() && chosen(&[], &["odd"]).is_err());
    }
}
