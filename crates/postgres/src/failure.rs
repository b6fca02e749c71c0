//! What a server or its client programs say, as errors with advice.

use copal_core::{EngineError, EngineErrorKind};

use crate::session::Refusal;

/// A statement was refused, or the connection was lost meanwhile.
pub(crate) fn refused(place: &str, refusal: &Refusal) -> EngineError {
    let (kind, hint) = class(&refusal.state, &refusal.message);
    let what = if refusal.state.is_empty() { "the connection was lost" } else { "the server refused" };
    with_hint(EngineError::new(kind, format!("{place}: {what}")).because(refusal.message.trim().to_owned()), hint)
}

/// No connection was made.
pub(crate) fn not_connected(place: &str, refusal: &Refusal) -> EngineError {
    let (kind, hint) = class(&refusal.state, &refusal.message);
    let message = format!("{place} cannot be reached");
    with_hint(EngineError::new(kind, message).because(told(&refusal.message)), hint)
}

/// A program ended with an error.
pub(crate) fn program_failed(program: &str, place: &str, words: &str) -> EngineError {
    let (kind, hint) = class("", words);
    with_hint(EngineError::new(kind, format!("{program} failed for {place}")).because(told(words)), hint)
}

/// The last lines of what a program said, without its own name in front of each.
pub(crate) fn told(words: &str) -> String {
    let lines: Vec<_> = words.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let from = lines.len().saturating_sub(12);
    let strip = |line: &&str| {
        let line = ["psql: ", "pg_dump: ", "pg_restore: ", "pg_dumpall: "]
            .iter()
            .find_map(|p| line.strip_prefix(p))
            .unwrap_or(line);
        line.strip_prefix("error: ").unwrap_or(line).to_owned()
    };
    let text: Vec<_> = lines.iter().skip(from).map(strip).collect();
    if text.is_empty() { "it said nothing".to_owned() } else { text.join("\n") }
}

fn with_hint(error: EngineError, hint: &str) -> EngineError {
    if hint.is_empty() { error } else { error.hint(hint) }
}

/// The class of an error, by SQLSTATE where there is one, else by libpq's words in the C locale.
fn class(state: &str, words: &str) -> (EngineErrorKind, &'static str) {
    use EngineErrorKind as Kind;
    match state {
        "28P01" | "28000" => return (Kind::PermissionDenied, PASSWORD),
        "3D000" => return (Kind::NotFound, ""),
        "42501" => return (Kind::PermissionDenied, GRANT),
        "53100" => return (Kind::NoSpace, ""),
        "53300" => return (Kind::Busy, "the server has no connection left; try again, or raise max_connections"),
        "55P03" => return (Kind::Busy, LOCKED),
        "57P03" => return (Kind::Busy, "the server is starting up or shutting down; try again"),
        _ => {}
    }
    let has = |text: &str| words.contains(text);
    match () {
        () if has("password authentication failed") || has("no password supplied") || has("fe_sendauth") => {
            (Kind::PermissionDenied, PASSWORD)
        }
        () if has("no pg_hba.conf entry") || has("authentication failed") => {
            (Kind::PermissionDenied, "the server's pg_hba.conf does not let this user in from here in this way")
        }
        () if has("permission denied") => (Kind::PermissionDenied, GRANT),
        () if has("row-level security") => (
            Kind::PermissionDenied,
            "a table has row security, which would hide rows: let the role bypass it (ALTER ROLE … BYPASSRLS)",
        ),
        () if has("No space left on device") || has("could not extend file") || has("disk full") => (Kind::NoSpace, ""),
        () if has("lock timeout") || has("statement timeout") && has("LOCK TABLE") => (Kind::Busy, LOCKED),
        () if has("could not translate host name") => (Kind::NotFound, "check the host's name"),
        () if has("Connection refused") || has("could not connect") || has("No such file or directory") => {
            (Kind::NotFound, "is the server running there? check host and port")
        }
        () if has("timeout expired") => (Kind::Busy, "the server does not answer; check host, port and firewall"),
        () if has("too many clients") || has("remaining connection slots") => {
            (Kind::Busy, "the server has no connection left; try again, or raise max_connections")
        }
        () if has("starting up") || has("shutting down") => (Kind::Busy, "try again in a moment"),
        () if has("role \"") && has("does not exist") => (
            Kind::NotFound,
            "create the role first; the roles of the backup are in globals.sql: copal restore … --to file:archive.pgdump",
        ),
        () if has("extension \"") && has("is not available") => {
            (Kind::Unsupported, "install the extension on the server first")
        }
        () if has("does not exist") => (Kind::NotFound, ""),
        () => (Kind::Other, ""),
    }
}

const PASSWORD: &str = "check user and password: in the URL, PGPASSWORD, ~/.pgpass or a service file";
const GRANT: &str =
    "the role needs more rights: GRANT pg_read_all_data TO it (docs/engines/postgres.md has all that is needed)";
const LOCKED: &str =
    "another session holds a lock, as ALTER TABLE does; try again later, or raise lock_wait under [postgres]";
