//! What is in a database, in one view of it: proves a restored one complete.

use std::time::{Duration, Instant};

use copal_core::{Context, EngineResult, Inventory, TableCount};
use serde::Deserialize;

use crate::relations::{self, Relation};
use crate::session::Session;

/// The condition for what belongs to the database's users: not to the system, nor to an extension.
fn own(catalog: &str, alias: &str, namespace: &str) -> String {
    format!(
        "{alias}.{namespace} IN (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema') \
         AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.{catalog}'::regclass AND d.objid = {alias}.oid AND d.deptype = 'e')"
    )
}

/// Counts everything but rows; the session is in the view that counts.
pub(crate) fn facts(session: &mut Session, relations: &[Relation]) -> EngineResult<Inventory> {
    let in_schema = |catalog, namespace, more: &str| {
        format!("(SELECT count(*) FROM pg_catalog.{catalog} x WHERE {}{more})", own(catalog, "x", namespace))
    };
    let of_relation = |catalog, relation, more: &str| {
        format!(
            "(SELECT count(*) FROM pg_catalog.{catalog} x JOIN pg_catalog.pg_class c ON c.oid = x.{relation} WHERE {}{more})",
            own("pg_class", "c", "relnamespace")
        )
    };
    let unowned = |catalog: &str| {
        format!(
            "(SELECT count(*) FROM pg_catalog.{catalog} x WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_depend d \
             WHERE d.classid = 'pg_catalog.{catalog}'::regclass AND d.objid = x.oid AND d.deptype = 'e') AND x.oid >= 16384)"
        )
    };
    let counts = [
        ("schemas", "(SELECT count(*) FROM pg_catalog.pg_namespace x WHERE nspname !~ '^pg_' AND nspname <> 'information_schema')".to_owned()),
        ("functions", in_schema("pg_proc", "pronamespace", "")),
        ("types", in_schema("pg_type", "typnamespace", " AND (x.typtype IN ('d', 'e', 'r') OR x.typtype = 'c' \
            AND EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = x.typrelid AND c.relkind = 'c'))")),
        ("operators", in_schema("pg_operator", "oprnamespace", "")),
        ("collations", in_schema("pg_collation", "collnamespace", "")),
        ("statistics", in_schema("pg_statistic_ext", "stxnamespace", "")),
        ("text search configurations", in_schema("pg_ts_config", "cfgnamespace", "")),
        ("views", in_schema("pg_class", "relnamespace", " AND x.relkind = 'v'")),
        // Those that a dump has: one whose concurrent creation failed is none.
        ("indexes", of_relation("pg_index", "indrelid", " AND x.indisready AND (x.indisvalid OR c.relkind = 'p')")),
        ("constraints", of_relation("pg_constraint", "conrelid", " AND x.contype IN ('c', 'f', 'p', 'u', 'x')")),
        ("defaults", of_relation("pg_attrdef", "adrelid", "")),
        ("triggers", of_relation("pg_trigger", "tgrelid", " AND NOT x.tgisinternal")),
        ("rules", of_relation("pg_rewrite", "ev_class", " AND x.rulename <> '_RETURN'")),
        ("policies", of_relation("pg_policy", "polrelid", "")),
        ("event triggers", unowned("pg_event_trigger")),
        ("publications", unowned("pg_publication")),
        ("foreign servers", unowned("pg_foreign_server")),
        ("casts", unowned("pg_cast")),
        ("large objects", "(SELECT count(*) FROM pg_catalog.pg_largeobject_metadata)".to_owned()),
        ("encoding", "pg_catalog.getdatabaseencoding()".to_owned()),
        ("extensions", "(SELECT coalesce(string_agg(extname, ', ' ORDER BY extname), '') FROM pg_catalog.pg_extension)".to_owned()),
    ];
    let mut inventory = Inventory::default();
    let names: Vec<_> = counts.iter().enumerate().map(|(i, (_, count))| format!("{count}::text AS c{i}")).collect();
    let row: std::collections::BTreeMap<String, String> = session.row(&format!("SELECT {}", names.join(", ")))?;
    for (i, (name, _)) in counts.iter().enumerate() {
        inventory.facts.insert((*name).to_owned(), row.get(&format!("c{i}")).cloned().unwrap_or_default());
    }
    let views = relations.iter().filter(|relation| relation.kind == 'm').count();
    inventory.facts.insert("materialised views".to_owned(), views.to_string());
    for sequence in sequences(session)? {
        inventory.counters.insert(format!("sequence {}", sequence.name), sequence.steps.unwrap_or(0));
    }
    Ok(inventory)
}

#[derive(Deserialize)]
struct Sequence {
    name: String,
    steps: Option<i64>,
}

/// How many steps every sequence has made since its start. One that cycles has none: it may be anywhere.
fn sequences(session: &mut Session) -> EngineResult<Vec<Sequence>> {
    session.rows(&format!(
        "SELECT format('%I.%I', n.nspname, c.relname) AS name, CASE WHEN s.seqcycle THEN 0 ELSE \
           ((pg_catalog.pg_sequence_last_value(c.oid)::numeric - s.seqstart) / s.seqincrement + 1)::bigint END AS steps \
         FROM pg_catalog.pg_sequence s JOIN pg_catalog.pg_class c ON c.oid = s.seqrelid \
           JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE {} ORDER BY 1",
        own("pg_class", "c", "relnamespace")
    ))
}

/// Extensions with their versions, for people.
pub(crate) fn extensions(session: &mut Session) -> EngineResult<String> {
    #[derive(Deserialize)]
    struct Extension {
        text: String,
    }
    let found: Vec<Extension> = session
        .rows("SELECT extname || ' ' || extversion AS text FROM pg_catalog.pg_extension WHERE extname <> 'plpgsql' ORDER BY 1")?;
    Ok(found.into_iter().map(|extension| extension.text).collect::<Vec<_>>().join(", "))
}

/// Counts rows, the smallest tables first, until `effort` is spent; what is not counted is estimated.
pub(crate) fn count(
    session: &mut Session,
    relations: &[Relation],
    effort: Duration,
    inventory: &mut Inventory,
    context: &Context,
) -> EngineResult<()> {
    #[derive(Deserialize)]
    struct Count {
        rows: u64,
    }
    let ends = Instant::now() + effort;
    let mut is_spent = false;
    for relation in relations.iter().filter(|relation| relation.kind != 'S') {
        context.cancel.check()?;
        let mut rows = None;
        let left = ends.saturating_duration_since(Instant::now()).as_millis();
        is_spent |= left == 0;
        if relation.has_rows() && !is_spent {
            session.run("SAVEPOINT counted")?;
            // Not to wait behind somebody who waits for the dump, and would be first: what is not locked is not counted.
            let lock = format!("LOCK TABLE ONLY {} IN ACCESS SHARE MODE NOWAIT", relation.name);
            if session.try_run(&lock)?.is_err() || !is_as_seen(session, relation)? {
                session.run("ROLLBACK TO SAVEPOINT counted")?;
                inventory.tables.push(TableCount { name: relation.name.clone(), rows });
                continue;
            }
            session.run(&format!("SET LOCAL statement_timeout = {}", left.clamp(1, 2_000_000_000)))?;
            match session.try_rows::<Count>(&format!("SELECT count(*) AS rows FROM ONLY {}", relation.name))? {
                Ok(found) => rows = found.first().map(|count| count.rows),
                // query_canceled
                Err(refusal) if refusal.state == "57014" => is_spent = true,
                Err(refusal) => return Err(session.refused(&refusal)),
            }
            session.run("ROLLBACK TO SAVEPOINT counted")?;
        }
        if rows.is_none() && relation.has_rows() && relation.estimate >= 0.0 {
            // Rows are counted in whole numbers, and f64 holds them as far as there are any.
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an estimate, not negative")]
            inventory.estimates.insert(relation.name.clone(), relation.estimate as u64);
        }
        inventory.tables.push(TableCount { name: relation.name.clone(), rows });
    }
    inventory.tables.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(())
}

/// Whether a table that is locked is still stored where the view says: one that was rewritten may look empty in it.
fn is_as_seen(session: &mut Session, relation: &Relation) -> EngineResult<bool> {
    #[derive(Deserialize)]
    struct Node {
        file: Option<u32>,
    }
    let query = format!("SELECT pg_catalog.pg_relation_filenode({}::oid)::bigint AS file", relation.oid);
    Ok(session.row::<Node>(&query)?.file == Some(relation.file))
}

/// The inventory of a database as it is now.
pub(crate) fn now(session: &mut Session, effort: Duration, context: &Context) -> EngineResult<Inventory> {
    session.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
    let relations = relations::of(session)?;
    let mut inventory = facts(session, &relations)?;
    count(session, &relations, effort, &mut inventory, context)?;
    session.run("ROLLBACK")?;
    Ok(inventory)
}
