//! A restore: into a new database beside the target, checked there, then swapped in by name.
//!
//! Until the swap commits, nothing of what the target's name stands for has been touched: whatever fails before, and
//! whoever is killed, leaves it serving. A database that is being restored, or was replaced and not dropped, has a name
//! that says so. Snapshots and rewinds are built of the same parts.

mod archive;
mod file;
mod load;
mod objects;
pub(crate) mod swap;

use copal_core::{CheckReport, Content, Context, EngineError, EngineErrorKind, EngineResult, RestoreRequest, Restored};
use serde::Deserialize;

use crate::address::Address;
use crate::engine::PostgresEngine;
use crate::programs::Programs;
use crate::properties::{Properties, set_template};
use crate::quote::{identifier, literal};
use crate::session::Session;
use crate::{PROPERTIES, capture};
use archive::Archive;

/// A new name for a database that is not there to stay.
pub(crate) fn passing_name(purpose: &str) -> String {
    format!("copal_{purpose}_{:012x}", rand::random::<u64>() >> 16)
}

/// Whether a database of this name is not there to stay: it is being restored, looked at or copied, or was replaced.
pub(crate) fn is_passing(name: &str) -> bool {
    ["restore", "drill", "new", "old"].iter().any(|purpose| is_named(name, purpose))
}

/// Whether this is a name that was made for this purpose.
pub(crate) fn is_named(name: &str, purpose: &str) -> bool {
    let number = name.strip_prefix("copal_").and_then(|rest| rest.strip_prefix(purpose)?.strip_prefix('_'));
    number.is_some_and(|n| n.len() == 12 && n.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

/// Holds a passing name until the session ends, so that nobody takes the database for one that was left.
pub(crate) fn hold(server: &mut Session, passing: &str) -> EngineResult<()> {
    #[derive(Deserialize)]
    struct Locked {}
    server.rows::<Locked>(&format!("SELECT pg_catalog.pg_advisory_lock({})", lock_of(passing))).map(|_| ())
}

/// Where the restored database goes.
pub(crate) struct Target<'a> {
    pub(crate) engine: &'a PostgresEngine,
    pub(crate) programs: Programs,
    pub(crate) address: Address,
    pub(crate) name: String,
    pub(crate) shown: String,
    pub(crate) context: &'a Context,
}

/// Restores to a server, or writes the plain archive to a file.
pub(crate) fn restore(
    engine: &PostgresEngine,
    content: &dyn Content,
    request: &RestoreRequest,
    context: &Context,
) -> EngineResult<Restored> {
    if request.target.scheme() == Some("file") {
        return file::write(content, request, context);
    }
    let address = Address::of(&request.target)?;
    let properties = properties_in(content, context)?;
    let programs = Programs::find(engine.bin.as_deref())?;
    let name = match address.database() {
        Some("*") | None => properties.name.clone(),
        Some(name) => name.to_owned(),
    };
    let address = address.with_database(&name);
    let shown = address.source()?.redacted();
    let target = Target { engine, programs, address, name, shown, context };
    let mut server = engine.connect_to_server(&target.address, context)?;
    let exists = target.exists(&mut server)?;
    if !request.objects.is_empty() {
        return objects::restore(&target, &mut server, content, &properties, request, exists);
    }
    if exists && !request.replace {
        let message = format!("{} exists", target.shown);
        return Err(EngineError::new(EngineErrorKind::Exists, message)
            .hint("restore to another name with --to, or replace it with --replace"));
    }
    target.require_rights(&mut server, exists)?;
    let mut notes = sweep(engine, &target.address, &mut server, request.dry_run)?;
    if request.dry_run {
        let check = CheckReport::default();
        return Ok(Restored { target: target.shown, replaced: exists, check, notes });
    }
    let passing = passing_name("restore");
    let loaded = target.load(&mut server, content, &properties, &passing, request);
    let check = match loaded.and_then(|check| target.dress(&mut server, &properties, &passing).map(|()| check)) {
        Ok(check) => check,
        Err(error) => return Err(target.give_up(&passing, error)),
    };
    let then = target.then(&properties);
    let placed = match exists {
        true => swap::swap(&target, &mut server, &passing, then, request.keep_old),
        false => swap::name(&target, &mut server, &passing, &then),
    };
    match placed {
        Ok(note) => notes.extend(note),
        Err(error) => return Err(target.give_up(&passing, error)),
    }
    Ok(Restored { target: target.shown, replaced: exists, check, notes })
}

impl Target<'_> {
    pub(crate) fn exists(&self, server: &mut Session) -> EngineResult<bool> {
        #[derive(Deserialize)]
        struct Found {
            count: u32,
        }
        let name = literal(&self.name);
        let found: Found =
            server.row(&format!("SELECT count(*) FROM pg_catalog.pg_database WHERE datname = {name}"))?;
        Ok(found.count > 0)
    }

    /// What is needed is asked for before anything is done.
    pub(crate) fn require_rights(&self, server: &mut Session, exists: bool) -> EngineResult<()> {
        #[derive(Deserialize)]
        struct Rights {
            may_create: bool,
            may_replace: Option<bool>,
            owner: Option<String>,
            role: String,
        }
        let rights: Rights = server.row(&format!(
            "SELECT (SELECT rolcreatedb OR rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) AS may_create, \
             pg_catalog.pg_has_role(d.datdba, 'USAGE') AS may_replace, pg_catalog.pg_get_userbyid(d.datdba) AS owner, \
             current_user::text AS role FROM (SELECT) AS one LEFT JOIN pg_catalog.pg_database d ON d.datname = {}",
            literal(&self.name)
        ))?;
        let refuse = |what: &str, hint: String| {
            let message = format!("{}: the role {:?} {what}", self.shown, rights.role);
            Err(EngineError::new(EngineErrorKind::PermissionDenied, message).hint(hint))
        };
        if !rights.may_create {
            return refuse("may not create databases", format!("ALTER ROLE {} CREATEDB", identifier(&rights.role)));
        }
        if exists && rights.may_replace != Some(true) {
            let owner = identifier(rights.owner.as_deref().unwrap_or_default());
            let hint = format!("connect as its owner or a superuser, or GRANT {owner} TO {}", identifier(&rights.role));
            return refuse("does not own the database", hint);
        }
        Ok(())
    }

    /// What the database gets with its name: its own comment, but for one that is not there to stay, and whether it is a template.
    fn then(&self, properties: &Properties) -> Vec<String> {
        let comment = match is_passing(&self.name) {
            true => Some(UNFINISHED),
            false => properties.comment.as_deref(),
        };
        let comment = comment.map_or_else(|| "NULL".to_owned(), literal);
        let mut then = vec![format!("COMMENT ON DATABASE {} IS {comment}", identifier(&self.name))];
        then.extend((properties.is_template && !is_passing(&self.name)).then(|| set_template(&self.name, true)));
        then
    }

    /// Removes what was restored so far; the error that led here is what counts.
    fn give_up(&self, passing: &str, error: EngineError) -> EngineError {
        // With a connection of its own: the other may be lost, or its operation cancelled.
        let dropped = drop_passing(self.engine, &self.address, passing);
        if let Err(left) = dropped {
            self.context.warn(format!(
                "the unfinished database {passing} could not be dropped ({left}); the next restore on this server drops it"
            ));
        }
        error
    }
}

/// Drops a database that was not there to stay. A subscription that was restored into it, which never was connected, goes
/// first: it would hold the database.
pub(crate) fn drop_passing(engine: &PostgresEngine, address: &Address, name: &str) -> EngineResult<()> {
    #[derive(Deserialize)]
    struct Subscription {
        name: String,
    }
    let context = Context::silent();
    let mut server = engine.connect_to_server(address, &context)?;
    let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", identifier(name));
    let Err(refusal) = server.try_run(&drop)? else { return Ok(()) };
    let mut session = engine.connect(&address.with_database(name), &context).map_err(|_| server.refused(&refusal))?;
    let found: Vec<Subscription> = session.rows(
        "SELECT subname AS name FROM pg_catalog.pg_subscription WHERE NOT subenabled \
         AND subdbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())",
    )?;
    for Subscription { name } in found {
        session.run(&format!("ALTER SUBSCRIPTION {} SET (slot_name = NONE)", identifier(&name)))?;
        session.run(&format!("DROP SUBSCRIPTION {}", identifier(&name)))?;
    }
    std::mem::drop(session);
    server.run(&drop)
}

/// Drops databases that killed restores and drills have left: those whose maker's lock is free, and which bear no comment of
/// somebody else's. One may have been killed before it gave its own.
pub(crate) fn sweep(
    engine: &PostgresEngine,
    address: &Address,
    server: &mut Session,
    dry_run: bool,
) -> EngineResult<Vec<String>> {
    #[derive(Deserialize)]
    struct Left {
        name: String,
    }
    let mut notes = Vec::new();
    let left: Vec<Left> = server.rows(&format!(
        "SELECT datname AS name FROM pg_catalog.pg_database d WHERE pg_catalog.pg_has_role(datdba, 'USAGE') \
         AND coalesce(pg_catalog.shobj_description(d.oid, 'pg_database') IN ({}, {}), true) \
         AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_activity a WHERE a.datname = d.datname)",
        literal(UNFINISHED),
        literal(PASSING)
    ))?;
    for Left { name } in left.into_iter().filter(|left| is_passing(&left.name)) {
        #[derive(Deserialize)]
        struct Taken {
            is_taken: bool,
        }
        let lock = lock_of(&name);
        let taken: Taken = server.row(&format!("SELECT pg_catalog.pg_try_advisory_lock({lock}) AS is_taken"))?;
        if taken.is_taken {
            // A lock is its database's own; whoever made this may have been in another one.
            let elsewhere: Taken = server.row(&format!(
                "SELECT EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND granted \
                 AND pid <> pg_catalog.pg_backend_pid() AND (classid::bigint << 32 | objid::bigint) = {lock}) AS is_taken"
            ))?;
            if !elsewhere.is_taken && dry_run {
                notes.push(format!("{name}, which a killed process left, would be dropped"));
            } else if !elsewhere.is_taken && drop_passing(engine, address, &name).is_ok() {
                notes.push(format!("dropped {name}, which a killed process had left"));
            }
            let _: Vec<Taken> = server.rows(&format!("SELECT pg_catalog.pg_advisory_unlock({lock}) AS is_taken"))?;
        }
    }
    Ok(notes)
}

/// The comment of a database that is being restored.
const UNFINISHED: &str = "copal: being restored; dropped by the next restore if its maker is gone";

/// The comment of a database that is being copied, or was replaced.
pub(crate) const PASSING: &str =
    "copal: not there to stay; dropped by the next snapshot, rewind or restore if its maker is gone";

/// The advisory lock that the maker of a database holds while it makes it.
pub(crate) fn lock_of(name: &str) -> String {
    format!("pg_catalog.hashtextextended({}, 6734)", literal(name))
}

/// The properties in a backup.
pub(crate) fn properties_in(content: &dyn Content, context: &Context) -> EngineResult<Properties> {
    let mut text = Vec::new();
    // Some kilobytes, however many settings and grants there are.
    content.write_stream(PROPERTIES, &mut text, context).map_err(|e| from_content(e, context))?;
    Properties::from_json(&text)
}

/// An error of the repository while it is read.
fn from_content(error: copal_core::AnyError, context: &Context) -> EngineError {
    capture::refused_by_sink(error, context)
}
