//! Views, routines, triggers and events: made again as they were.

use copal_core::EngineResult;

use crate::catalogue::{Object, Schema};
use crate::failure::Refusal;
use crate::holders::{insist, try_to_insist};
use crate::quote::{identifier, literal, table};
use crate::session::Session;

/// Makes the objects and options of a database what they were; what is so already stays untouched, with the grants on it.
/// What the server refuses is left out, so that the rest is done, and returned in words.
pub(crate) fn put(
    session: &mut Session,
    database: &str,
    wanted: &Schema,
    notes: &mut Vec<String>,
) -> EngineResult<Vec<String>> {
    // Objects remember the options of their database.
    if Schema::bare(session, database)?.is_some_and(|bare| bare.options() != wanted.options()) {
        let alter = format!("ALTER DATABASE {} {}", identifier(database), wanted.options());
        insist(session, database, &alter, notes)?;
    }
    // Triggers first: without them, what clients write now would not be what it should be.
    let mut refused = make_all(session, database, wanted.of_kind("TRIGGER"), notes)?;
    let Some(now) = Schema::read(session, database)? else { return Ok(refused) };
    for object in &now.objects {
        if !wanted.objects.iter().any(|other| (&other.kind, &other.name) == (&object.kind, &object.name)) {
            let statement = drop_statement(database, object);
            if let Err(refusal) = try_to_insist(session, database, &statement, notes)? {
                let kind = object.kind.to_lowercase();
                refused.push(format!("the {kind} {:?} is left: {}", object.name, refusal.message));
            }
        }
    }
    let missing = |kind: &'static str| {
        wanted.objects.iter().filter(move |o| o.kind.starts_with(kind)).filter(|o| !now.objects.contains(o))
    };
    // Views may use functions, and packages have bodies after them.
    for kind in ["PROCEDURE", "FUNCTION", "PACKAGE", "VIEW", "EVENT"] {
        refused.extend(make_all(session, database, missing(kind), notes)?);
    }
    session.run("SET time_zone = @@global.time_zone")?;
    Ok(refused)
}

/// Makes objects in any order in which they can be made: views may need each other. What the server refuses is returned in words.
pub(crate) fn make_all<'a>(
    session: &mut Session,
    database: &str,
    objects: impl Iterator<Item = &'a Object>,
    notes: &mut Vec<String>,
) -> EngineResult<Vec<String>> {
    let mut left: Vec<_> = objects.collect();
    loop {
        let mut refused = Vec::new();
        for object in &left {
            if let Err(refusal) = make(session, database, object, notes)? {
                refused.push((*object, refusal));
            }
        }
        if refused.is_empty() {
            return Ok(Vec::new());
        }
        if refused.len() == left.len() {
            return Ok(refused.iter().map(|(object, refusal)| told(object, refusal)).collect());
        }
        left = refused.into_iter().map(|(object, _)| object).collect();
    }
}

fn told(object: &Object, refusal: &Refusal) -> String {
    format!("the {} {:?} could not be put back: {}", object.kind.to_lowercase(), object.name, refusal.message)
}

/// Makes one object in the settings that it was made in.
fn make(
    session: &mut Session,
    database: &str,
    object: &Object,
    notes: &mut Vec<String>,
) -> EngineResult<Result<(), Refusal>> {
    session.run(&format!("USE {}", identifier(database)))?;
    // The text is sent as UTF-8: what was written in another character set keeps its own only if that is the same.
    let is_same = object.create.is_ascii() || object.charset.starts_with("utf8");
    if is_same && !object.charset.is_empty() {
        let (charset, collation) = (&object.charset, &object.collation);
        let _ =
            session.try_run(&format!("SET character_set_client = {charset}, collation_connection = {collation}"))?;
    }
    if let Some(mode) = &object.sql_mode {
        session.run(&format!("SET sql_mode = {}", literal(mode)))?;
    }
    if let Some(zone) = &object.time_zone {
        session.run(&format!("SET time_zone = {}", literal(zone)))?;
    }
    let replaces = object.kind == "VIEW" || session.is_mariadb();
    let statement = match (replaces, object.create.strip_prefix("CREATE ")) {
        (true, Some(rest)) => format!("CREATE OR REPLACE {rest}"),
        _ => {
            let _ = session.try_run(&drop_statement(database, object))?;
            object.create.clone()
        }
    };
    // A trigger needs its table for itself; who holds that already is ended.
    let done = try_to_insist(session, database, &statement, notes)?;
    session.run("SET NAMES utf8mb4")?;
    session.run("SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO'")?;
    Ok(done)
}

/// The statement that drops an object.
pub(crate) fn drop_statement(database: &str, object: &Object) -> String {
    format!("DROP {} IF EXISTS {}", object.kind, table(database, &object.name))
}
