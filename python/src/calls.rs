//! The use cases by name. Arguments come as JSON; the answers are those of docs/json.md.

use std::time::Duration;

use copal::{
    BackupChoice, BackupOptions, CheckLevel, Context, Copal, CopalError, ErrorKind, GcOptions, InitOptions, JournalEnd,
    Keep, Objects, PruneOptions, RestoreOptions, Result, RewindRequest, SnapOptions, VerifyOptions, WhichBackups,
    parse_duration,
};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::failure;

/// Runs a use case; the answer is JSON.
pub(crate) async fn call(copal: Copal, name: String, arguments: Value, context: Context) -> Result<String> {
    // Another repository may stand in the place of the one that was opened.
    let copal = copal.current().await?;
    let stops_itself = [
        "backup",
        "save",
        "append",
        "restore",
        "verify",
        "prune",
        "snap",
        "rewind",
        "snapshots",
        "remove_snapshot",
        "gc_snapshots",
    ];
    let work = dispatch(&copal, &name, arguments, &context);
    if stops_itself.contains(&name.as_str()) {
        return work.await;
    }
    tokio::select! {
        answer = work => answer,
        () = cancelled(&context) => Err(CopalError::new(ErrorKind::Interrupted, "interrupted")),
    }
}

async fn cancelled(context: &Context) {
    while !context.cancel.is_cancelled() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn dispatch(copal: &Copal, name: &str, arguments: Value, context: &Context) -> Result<String> {
    match name {
        "init" => init(copal, read(name, arguments)?).await,
        "backup" => backup(copal, read(name, arguments)?, context).await,
        "save" => save(copal, read(name, arguments)?, context).await,
        "append" => append(copal, read(name, arguments)?, context).await,
        "list" => answer(&copal.list(read::<MaybeOne>(name, arguments)?.database.as_deref()).await?),
        "show" => {
            let One { database, backup } = read(name, arguments)?;
            answer(&copal.show(&database, choose(copal, &database, &backup).await?).await?)
        }
        "restore" => restore(copal, read(name, arguments)?, context).await,
        "verify" => verify(copal, read(name, arguments)?, context).await,
        "prune" => prune(copal, read(name, arguments)?, context).await,
        "pin" | "unpin" => {
            let One { database, backup } = read(name, arguments)?;
            let backup = choose(copal, &database, &backup).await?;
            answer(&copal.set_pinned(&database, backup, name == "pin").await?)
        }
        "status" => answer(&copal.status(&read::<Many>(name, arguments)?.databases).await?),
        "members" => {
            let One { database, .. } = read(name, arguments)?;
            answer(&copal.members(&database).await?)
        }
        "absent" => answer(&copal.absent(&read::<Many>(name, arguments)?.databases).await?),
        "snap" => snap(copal, read(name, arguments)?, context).await,
        "rewind" => rewind(copal, read(name, arguments)?, context).await,
        "snapshots" => snapshots(copal, read(name, arguments)?, context).await,
        "remove_snapshot" => {
            let NamedSnapshot { snapshot, databases } = read(name, arguments)?;
            answer(&copal.remove_snapshot(&snapshot, &databases, context).await?)
        }
        "gc_snapshots" => gc_snapshots(copal, read(name, arguments)?, context).await,
        _ => Err(CopalError::new(ErrorKind::Usage, format!("there is no use case {name:?}"))),
    }
}

fn read<T: DeserializeOwned>(name: &str, arguments: Value) -> Result<T> {
    serde_json::from_value(arguments).map_err(|e| failure::wrong_call(name, &e))
}

fn answer<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|e| CopalError::new(ErrorKind::Failed, "the answer cannot be written").because(e))
}

/// An error among results.
fn described(error: &CopalError) -> Value {
    serde_json::from_str(&failure::describe(error)).unwrap_or_default()
}

fn latest() -> String {
    "latest".to_owned()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    database: String,
    #[serde(default = "latest")]
    backup: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MaybeOne {
    database: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Many {
    databases: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedSnapshot {
    snapshot: String,
    databases: Vec<String>,
}

/// The one backup that is meant: `latest`, an id, or the beginning of one that fits no other.
async fn choose(copal: &Copal, database: &str, backup: &str) -> Result<BackupChoice> {
    if backup == "latest" {
        return Ok(BackupChoice::Latest);
    }
    if let Ok(id) = backup.parse() {
        return Ok(BackupChoice::Id(id));
    }
    let fits = |c: char| c.is_ascii_digit() || matches!(c, '-' | 'Z' | 'a'..='f');
    if !(4..21).contains(&backup.len())
        || !backup.starts_with(|c: char| c.is_ascii_digit())
        || !backup.chars().all(fits)
    {
        let message = format!("{backup:?} names no backup");
        return Err(CopalError::new(ErrorKind::Usage, message)
            .with_hint("give an id, the beginning of one (at least four characters), or \"latest\""));
    }
    let listings = copal.list(Some(database)).await?;
    let ids = listings.iter().flat_map(|listing| &listing.backups).map(|backup| &backup.id);
    let found: Vec<_> = ids.filter(|id| id.as_str().starts_with(backup)).collect();
    match found.as_slice() {
        [only] => Ok(BackupChoice::Id((*only).clone())),
        [] => Err(CopalError::new(ErrorKind::NotFound, format!("no backup begins with {backup}"))),
        several => {
            let newest: Vec<_> = several.iter().rev().take(4).map(|id| id.as_str()).collect();
            let message = format!("{} backups begin with {backup}", several.len());
            Err(CopalError::new(ErrorKind::Usage, message)
                .with_hint(format!("write more of it: {}", newest.join(", "))))
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Init {
    encrypt: bool,
    #[serde(default)]
    recovery_keys: Vec<String>,
}

async fn init(copal: &Copal, Init { encrypt, recovery_keys }: Init) -> Result<String> {
    answer(&copal.init(InitOptions { encrypt, recovery_keys }).await?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Backup {
    database: String,
    label: Option<String>,
    #[serde(default)]
    pin: bool,
    #[serde(default)]
    adopt: bool,
    from_snapshot: Option<String>,
    /// What to read instead: a copy of the database.
    copy: Option<String>,
    /// Make none if there is one from then on.
    unless_since: Option<Timestamp>,
}

/// The backup; null if there is one already.
async fn backup(copal: &Copal, arguments: Backup, context: &Context) -> Result<String> {
    let Backup { database, label, pin, adopt, from_snapshot, copy, unless_since } = arguments;
    let options = BackupOptions { label, pin, adopt, from_snapshot };
    match (copy, unless_since) {
        (Some(copy), _) => answer(&copal.backup_copy(&database, &copy, options, context).await?),
        (None, Some(since)) => answer(&copal.backup_unless_since(&database, since, options, context).await?),
        (None, None) => answer(&copal.backup(&database, options, context).await?),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Save {
    database: String,
    /// The state that was saved before, as `save` or `append` told it.
    end: Option<JournalEnd>,
}

/// A backup, and what the next segment goes on from.
async fn save(copal: &Copal, Save { database, end }: Save, context: &Context) -> Result<String> {
    let options = BackupOptions::default();
    let outcome = match &end {
        Some(end) => copal.backup_following(&database, end, options, context).await?,
        None => copal.backup(&database, options, context).await?,
    };
    answer(&json!({"backup": outcome, "end": outcome.end}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Append {
    database: String,
    end: JournalEnd,
}

/// A segment, and what the next one goes on from; null if nothing happened.
async fn append(copal: &Copal, Append { database, end }: Append, context: &Context) -> Result<String> {
    let outcome = copal.append(&database, &end, context).await?;
    answer(&outcome.map(|outcome| json!({"appended": outcome, "end": outcome.end})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Restore {
    database: String,
    #[serde(default = "latest")]
    backup: String,
    at: Option<Timestamp>,
    to: Option<String>,
    as_snapshot: Option<String>,
    #[serde(default)]
    replace: bool,
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    check: Check,
    #[serde(default)]
    keep_old: bool,
    #[serde(default)]
    tables: Vec<String>,
    #[serde(default)]
    schemas: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Check {
    None,
    #[default]
    Quick,
    Full,
}

async fn restore(copal: &Copal, arguments: Restore, context: &Context) -> Result<String> {
    let database = &arguments.database;
    let backup = match arguments.at {
        Some(at) => BackupChoice::At(at),
        None => choose(copal, database, &arguments.backup).await?,
    };
    let options = RestoreOptions {
        backup,
        to: arguments.to,
        as_snapshot: arguments.as_snapshot,
        replace: arguments.replace,
        dry_run: arguments.dry_run,
        check: match arguments.check {
            Check::None => CheckLevel::None,
            Check::Quick => CheckLevel::Quick,
            Check::Full => CheckLevel::Full,
        },
        keep_old: arguments.keep_old,
        objects: Objects { tables: arguments.tables, schemas: arguments.schemas },
    };
    answer(&copal.restore(database, options, context).await?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Verify {
    database: Option<String>,
    #[serde(default = "latest")]
    backup: String,
    #[serde(default)]
    drill: bool,
}

async fn verify(copal: &Copal, arguments: Verify, context: &Context) -> Result<String> {
    let backups = match (arguments.backup.as_str(), &arguments.database) {
        ("all", _) => WhichBackups::All,
        ("latest", _) => WhichBackups::Latest,
        (_, None) => {
            return Err(CopalError::new(ErrorKind::Usage, "to verify one backup, name its database too"));
        }
        (backup, Some(database)) => match choose(copal, database, backup).await? {
            BackupChoice::Id(id) => WhichBackups::Id(id),
            _ => WhichBackups::Latest,
        },
    };
    let options = VerifyOptions { backups, drill: arguments.drill };
    answer(&copal.verify(arguments.database.as_deref(), options, context).await?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Prune {
    database: String,
    #[serde(default)]
    dry_run: bool,
    keep: Option<Rules>,
    #[serde(default)]
    trust_clock: bool,
}

/// Rules of retention as `copal.toml` has them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    last: Option<u32>,
    within: Option<String>,
    hourly: Option<u32>,
    daily: Option<u32>,
    weekly: Option<u32>,
    monthly: Option<u32>,
    yearly: Option<u32>,
}

impl Rules {
    fn keep(self) -> Result<Keep> {
        let Self { last, within, hourly, daily, weekly, monthly, yearly } = self;
        let counts = [("last", last), ("hourly", hourly), ("daily", daily), ("weekly", weekly), ("monthly", monthly)];
        if let Some((name, _)) = counts.iter().chain(&[("yearly", yearly)]).find(|(_, count)| *count == Some(0)) {
            return Err(CopalError::new(ErrorKind::Usage, format!("keep: {name} must be 1 or more")));
        }
        let within = within.as_deref().map(parse_duration).transpose();
        let within = within.map_err(|e| CopalError::new(ErrorKind::Usage, format!("keep: within: {e}")))?;
        Ok(Keep { last, within, hourly, daily, weekly, monthly, yearly })
    }
}

async fn prune(copal: &Copal, arguments: Prune, context: &Context) -> Result<String> {
    let Prune { database, dry_run, keep, trust_clock } = arguments;
    let options = PruneOptions { dry_run, keep: keep.map(Rules::keep).transpose()?, trust_clock, only: None };
    answer(&copal.prune(&database, options, context).await?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Snap {
    name: Option<String>,
    databases: Vec<String>,
    label: Option<String>,
    #[serde(default)]
    spare: bool,
    #[serde(default)]
    replace: bool,
}

async fn snap(copal: &Copal, arguments: Snap, context: &Context) -> Result<String> {
    let Snap { name, databases, label, spare, replace } = arguments;
    let folder = std::env::current_dir().ok();
    answer(&copal.snap(SnapOptions { name, databases, label, spare, replace, folder }, context).await?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rewind {
    snapshot: Option<String>,
    databases: Vec<String>,
    #[serde(default)]
    force: bool,
    #[serde(default)]
    spare: bool,
}

async fn rewind(copal: &Copal, arguments: Rewind, context: &Context) -> Result<String> {
    let Rewind { snapshot, databases, force, spare } = arguments;
    answer(&copal.rewind(RewindRequest { snapshot, databases, force, spare }, context).await?)
}

async fn snapshots(copal: &Copal, Many { databases }: Many, context: &Context) -> Result<String> {
    let listing = copal.snapshots(&databases, context).await?;
    let failure = |(database, error): &(String, CopalError)| json!({"database": database, "error": described(error)});
    let failures: Vec<_> = listing.failures.iter().map(failure).collect();
    answer(&json!({"snapshots": listing.snapshots, "failures": failures}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Gc {
    databases: Vec<String>,
    older_than: Option<String>,
    keep: Option<u32>,
    label: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

async fn gc_snapshots(copal: &Copal, arguments: Gc, context: &Context) -> Result<String> {
    let Gc { databases, older_than, keep, label, dry_run } = arguments;
    let older_than = older_than.as_deref().map(parse_duration).transpose();
    let older_than = older_than.map_err(|e| CopalError::new(ErrorKind::Usage, format!("older_than: {e}")))?;
    let outcomes = copal.gc_snapshots(&GcOptions { databases, older_than, keep, label, dry_run }, context).await?;
    let one = |(database, outcome): (String, Result<copal::GcOutcome>)| match outcome {
        Ok(outcome) => json!(outcome),
        Err(error) => json!({"database": database, "error": described(&error)}),
    };
    answer(&outcomes.into_iter().map(one).collect::<Vec<_>>())
}
