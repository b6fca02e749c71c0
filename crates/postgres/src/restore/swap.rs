//! The swap: both renames in one transaction of the server, so that whoever is killed leaves either name as it was.
//!
//! `ALTER DATABASE … RENAME` takes a lock that keeps new connections waiting, and then waits up to five seconds for the
//! present ones to go. Those are ended meanwhile from a second connection, so the moment is as long as that takes.

use copal_core::{EngineError, EngineErrorKind, EngineResult};
use serde::Deserialize;

use super::Target;
use crate::others::{self, Ended};
use crate::properties::set_template;
use crate::quote::{identifier, literal};
use crate::session::{Refusal, Session};
use crate::step::step;

/// The longest name that PostgreSQL takes, in bytes.
const MOST_NAME: usize = 63;
/// How often the swap is tried when it is kept from it.
const TRIES: u32 = 3;

/// Gives `passing` the target's name, which no database has. The database says what it is until it has its name.
pub(super) fn name(
    target: &Target<'_>,
    server: &mut Session,
    passing: &str,
    then: &[String],
) -> EngineResult<Option<String>> {
    server.run("BEGIN")?;
    let rename = format!("ALTER DATABASE {} RENAME TO {}", identifier(passing), identifier(&target.name));
    let named = server.run(&rename).and_then(|()| then.iter().try_for_each(|statement| server.run(statement)));
    if named.is_err() {
        // Its locks would be in the way of dropping what was restored; a session that is lost has none.
        let _ = server.try_run("ROLLBACK");
    }
    named.and_then(|()| commit(target, server, passing)).map(|()| None)
}

/// Gives `passing` the target's name, and the old database another; a note about what became of that.
pub(super) fn swap(
    target: &Target<'_>,
    server: &mut Session,
    passing: &str,
    mut then: Vec<String>,
    keep_old: bool,
) -> EngineResult<Option<String>> {
    let old = old_name(&target.name);
    // A template cannot be dropped.
    then.extend((!keep_old).then(|| set_template(&old, false)));
    target.context.phase("swapping", None);
    let mut second = target.engine.connect_to_server(&target.address, target.context)?;
    exchange(target, server, &mut second, passing, Some(&old), &then, &mut Ended::default())?;
    after(target, server, &old, keep_old)
}

/// Gives `passing` the target's name and the database that has it the name `old`, if there is one; whoever is in one of them
/// is ended. What is to be true in the same moment is in `then`.
pub(crate) fn exchange(
    target: &Target<'_>,
    server: &mut Session,
    second: &mut Session,
    passing: &str,
    old: Option<&str>,
    then: &[String],
    ended: &mut Ended,
) -> EngineResult<()> {
    let mut refusal = String::new();
    for _ in 0..TRIES {
        target.context.cancel.check()?;
        let renamed = rename_both(target, server, second, passing, old, then, ended).and_then(|renamed| {
            step("before the commit")?;
            Ok(renamed)
        });
        match renamed {
            Ok(Ok(())) => return commit(target, server, passing),
            Ok(Err(found)) => {
                server.run("ROLLBACK")?;
                // object_in_use, lock_not_available, deadlock_detected
                let may_go = matches!(found.state.as_str(), "55006" | "55P03" | "40P01");
                refusal = found.message.trim().to_owned();
                if !may_go {
                    break;
                }
            }
            Err(error) => {
                let _ = server.try_run("ROLLBACK");
                return Err(error);
            }
        }
    }
    let message = format!("{} could not be replaced; it is as it was", target.shown);
    let hint = "end what uses it (other sessions, prepared transactions, replication) and try again";
    Err(EngineError::new(EngineErrorKind::Busy, message).because(refusal).hint(hint))
}

/// A transaction that is left open: the renamings, and what else is to be true then.
fn rename_both(
    target: &Target<'_>,
    server: &mut Session,
    second: &mut Session,
    passing: &str,
    old: Option<&str>,
    then: &[String],
    ended: &mut Ended,
) -> EngineResult<Result<(), Refusal>> {
    server.run("BEGIN")?;
    server.run("SET LOCAL lock_timeout = '20s'")?;
    let aside = old.map(|old| (target.name.as_str(), old));
    let pid = server.pid;
    for (from, to) in aside.into_iter().chain([(passing, target.name.as_str())]) {
        step("before a renaming")?;
        let rename = format!("ALTER DATABASE {} RENAME TO {}", identifier(from), identifier(to));
        let renamed = server.run_while(&rename, &mut || others::end(second, from, pid, ended))?;
        if renamed.is_err() {
            return Ok(renamed);
        }
    }
    for statement in then {
        let done = server.try_run(statement)?;
        if done.is_err() {
            return Ok(done);
        }
    }
    Ok(Ok(()))
}

/// Commits; if the answer is lost, the names tell what came of it.
fn commit(target: &Target<'_>, server: &mut Session, passing: &str) -> EngineResult<()> {
    let Err(error) = server.run("COMMIT") else { return Ok(()) };
    *server = target.engine.connect_to_server(&target.address, &copal_core::Context::silent())?;
    #[derive(Deserialize)]
    struct Found {
        count: u32,
    }
    let query = format!("SELECT count(*) FROM pg_catalog.pg_database WHERE datname = {}", literal(passing));
    let found: Found = server.row(&query)?;
    if found.count == 0 { Ok(()) } else { Err(error) }
}

fn after(target: &Target<'_>, server: &mut Session, old: &str, keep_old: bool) -> EngineResult<Option<String>> {
    if keep_old {
        return Ok(Some(format!("the old database is kept as {old:?}")));
    }
    // The new one serves already: from here on nothing is an error.
    match server.try_run(&format!("DROP DATABASE {} WITH (FORCE)", identifier(old)))? {
        Ok(()) => Ok(None),
        Err(refusal) => {
            let text = format!("the old database is left as {old:?}: {}", refusal.message.trim());
            target.context.warn(text.clone());
            Ok(Some(text))
        }
    }
}

/// A name for the old database that says what it is and when it was replaced.
fn old_name(name: &str) -> String {
    let suffix = format!("_before_{}_{:04x}", jiff::Timestamp::now().strftime("%Y%m%d_%H%M%S"), rand::random::<u16>());
    let mut end = name.len().min(MOST_NAME - suffix.len());
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}", name.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_names_fit() {
        for name in ["shop", &"x".repeat(63), &"ä".repeat(31)] {
            let old = old_name(name);
            assert!(old.len() <= MOST_NAME && old.contains("_before_2"), "{old}");
        }
    }
}
