//! What a run does, by the use cases: a backup and the prune after it, or a drill; for a whole server, of each database.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use copal::{
    BackupId, BackupOptions, Context, Copal, CopalError, DamagedObject, Difference, DrillOutcome, ErrorKind,
    PruneOptions, RestoreOptions, RewindRequest, SnapOptions, VerifyOptions, VerifyOutcome,
};

use super::Job;
use super::live::{Live, Stopping};
use crate::log::LogLevel;
use crate::run::{Ending, RunError, RunFacts, is_transient};

/// Warnings kept of one run.
const MOST_WARNINGS: usize = 10;

/// What a run has to do.
#[derive(Debug)]
pub(super) struct Assignment {
    pub(super) database: String,
    pub(super) task: Task,
    pub(super) time_limit: Option<Duration>,
}

#[derive(Debug)]
pub(super) enum Task {
    Backup { then_prune: bool },
    Drill,
    Job(Job),
}

/// How a run ended, and what it made or found until then.
#[derive(Debug)]
pub(super) struct Worked {
    pub(super) ending: Ending,
    pub(super) error: Option<RunError>,
    pub(super) facts: RunFacts,
}

/// Something failed.
struct Failure {
    ending: Ending,
    error: RunError,
}

impl Failure {
    fn permanent(kind: &str, message: impl Into<String>) -> Self {
        Self { ending: Ending::PermanentFailure, error: RunError::new(kind, message) }
    }

    fn of(error: &CopalError) -> Self {
        let ending = match error.kind() {
            ErrorKind::Interrupted => Ending::Cancelled,
            kind if is_transient(kind) => Ending::TransientFailure,
            _ => Ending::PermanentFailure,
        };
        Self { ending, error: RunError::of(error) }
    }
}

/// Does the run within its time limit. A panic is a failure like others.
pub(super) async fn work(copal: Copal, assignment: Assignment, live: Arc<Live>) -> Worked {
    let limit = assignment.time_limit;
    let context = Context { cancel: live.cancel.clone(), progress: live.clone() };
    let mut task = tokio::spawn(async move {
        let mut facts = RunFacts::default();
        let result = all(&copal, &assignment, &context, &mut facts).await;
        (facts, result)
    });
    let joined = tokio::select! {
        joined = &mut task => joined,
        () = over(limit) => {
            live.stop(Stopping::TimeLimit);
            // It ends where it next looks at its token, and leaves nothing behind.
            task.await
        }
    };
    let (mut facts, result) = match joined {
        Ok(done) => done,
        Err(error) if error.is_panic() => {
            let message = "the run stopped unexpectedly; this is a mistake in copal";
            (RunFacts::default(), Err(Failure::permanent("panicked", message)))
        }
        // The runtime ends, and this with it: the history finds the run cut off.
        Err(_) => std::future::pending().await,
    };
    let (ending, error) = match result {
        Ok(()) => (Ending::Success, None),
        Err(Failure { ending: Ending::Cancelled, .. }) if live.stopping() == Some(Stopping::TimeLimit) => {
            let message = format!("not done within the time limit of {:?}", limit.unwrap_or_default());
            (Ending::TransientFailure, Some(RunError::new("timed-out", message)))
        }
        Err(Failure { ending, error }) => (ending, Some(error)),
    };
    facts.checks.drain(..).for_each(|check| live.say(LogLevel::Check, &check));
    facts.warnings.iter().for_each(|text| live.say(LogLevel::Warning, text));
    error.iter().for_each(|error| live.say(LogLevel::Error, &error.message));
    Worked { ending, error, facts }
}

async fn over(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

/// Every database that the run's name stands for; one that fails keeps no other from its backup.
async fn all(copal: &Copal, run: &Assignment, context: &Context, facts: &mut RunFacts) -> Result<(), Failure> {
    let database = run.database.as_str();
    let then_prune = match &run.task {
        Task::Job(job) => return asked_for(copal, database, job, context, facts).await,
        Task::Backup { then_prune } => Some(*then_prune),
        Task::Drill => None,
    };
    let copal = &current(copal).await?;
    let members = copal.members(database).await.map_err(|error| Failure::of(&error))?;
    let mut failures: Vec<(&str, Failure)> = Vec::new();
    for member in &members {
        let done = match context.cancel.check() {
            Err(cancelled) => Err(Failure::of(&cancelled.into())),
            Ok(()) => match then_prune {
                Some(then_prune) => back_up(copal, member, then_prune, context, facts).await,
                None => drill(copal, member, context, facts).await,
            },
        };
        match done {
            Err(failure) if failure.ending == Ending::Cancelled => return Err(failure),
            Err(failure) => failures.push((member, failure)),
            Ok(()) => {}
        }
    }
    summed_up(failures, members.len())
}

/// The use cases over the repository that is there now.
async fn current(copal: &Copal) -> Result<Copal, Failure> {
    copal.current().await.map_err(|error| Failure::of(&error))
}

async fn asked_for(
    copal: &Copal,
    database: &str,
    job: &Job,
    context: &Context,
    facts: &mut RunFacts,
) -> Result<(), Failure> {
    match job {
        Job::Verify(options) => verify(&current(copal).await?, database, options.clone(), context, facts).await,
        Job::Restore { options, .. } => restore(&current(copal).await?, database, options, context, facts).await,
        Job::Prune { only } => prune(&current(copal).await?, database, only, context).await,
        // These need no repository.
        Job::Snapshot(options) => snapshot(copal, options, context).await,
        Job::Rewind(request) => rewind(copal, request, context).await,
    }
}

/// One failure of several: it may pass if all of them may.
fn summed_up(mut failures: Vec<(&str, Failure)>, of: usize) -> Result<(), Failure> {
    if of == 1 {
        return failures.pop().map_or(Ok(()), |(_, failure)| Err(failure));
    }
    let Some(worst) = failures.iter().find(|(_, f)| f.ending == Ending::PermanentFailure).or(failures.first()) else {
        return Ok(());
    };
    let (ending, kind) = (worst.1.ending, worst.1.error.kind.clone());
    let texts: Vec<_> = failures.iter().map(|(name, failure)| format!("{name}: {}", failure.error.message)).collect();
    let message = format!("{} of {of} databases failed: {}", failures.len(), texts.join("; "));
    Err(Failure { ending, error: RunError { kind, message } })
}

async fn back_up(
    copal: &Copal,
    database: &str,
    then_prune: bool,
    context: &Context,
    facts: &mut RunFacts,
) -> Result<(), Failure> {
    let outcome = copal.backup(database, BackupOptions::default(), context).await;
    let outcome = outcome.map_err(|error| Failure::of(&error))?;
    let backup = outcome.backup;
    facts.backup = Some(backup.id.to_string());
    add(&mut facts.logical_bytes, backup.logical_bytes);
    add(&mut facts.added_bytes, backup.added_bytes);
    add(&mut facts.stored_bytes, backup.stored_bytes);
    damage(facts, &outcome.damaged);
    if then_prune && let Err(error) = copal.prune(database, PruneOptions::default(), context).await {
        // The backup exists, and the next run prunes again.
        let text = RunError::of(&error).message;
        tracing::warn!(database, error = %text, "the prune after the backup failed");
        warn(facts, format!("the prune after the backup failed: {text}"));
    }
    Ok(())
}

async fn restore(
    copal: &Copal,
    database: &str,
    options: &RestoreOptions,
    context: &Context,
    facts: &mut RunFacts,
) -> Result<(), Failure> {
    let outcome = copal.restore(database, options.clone(), context).await.map_err(|error| match error.kind() {
        ErrorKind::Exists => Failure::of(&error.with_hint("\"replace\": true replaces it")),
        _ => Failure::of(&error),
    })?;
    facts.backup = Some(outcome.backup.id.to_string());
    // How long a look takes says nothing about restores.
    facts.logical_bytes = (!outcome.dry_run).then_some(outcome.backup.logical_bytes);
    facts.target = Some(outcome.target);
    facts.checks = outcome.checks;
    outcome.notes.into_iter().for_each(|note| context.note(note));
    Ok(())
}

async fn prune(copal: &Copal, database: &str, only: &BTreeSet<BackupId>, context: &Context) -> Result<(), Failure> {
    let options = PruneOptions { only: Some(only.clone()), ..PruneOptions::default() };
    let outcome = copal.prune(database, options, context).await;
    let outcome = outcome.map_err(|error| Failure::of(&error))?;
    let (gone, kept, bytes) = (outcome.deleted.len(), outcome.kept.len(), outcome.freed_bytes);
    context.note(format!("backups deleted: {gone}, kept: {kept}; bytes freed: {bytes}"));
    Ok(())
}

async fn snapshot(copal: &Copal, options: &SnapOptions, context: &Context) -> Result<(), Failure> {
    let outcome = copal.snap(options.clone(), context).await.map_err(|error| Failure::of(&error))?;
    outcome.notes.iter().for_each(|note| context.note(format!("{}: {}", note.database, note.note)));
    context.note(format!("the snapshot {:?} was taken: {}", outcome.snapshot.name, outcome.snapshot.id));
    Ok(())
}

async fn rewind(copal: &Copal, request: &RewindRequest, context: &Context) -> Result<(), Failure> {
    let outcome = copal.rewind(request.clone(), context).await.map_err(|error| Failure::of(&error))?;
    outcome.notes.iter().for_each(|note| context.note(format!("{}: {}", note.database, note.note)));
    context.note(format!("back at the snapshot {:?} of {}", outcome.snapshot.name, outcome.snapshot.time));
    Ok(())
}

async fn drill(copal: &Copal, database: &str, context: &Context, facts: &mut RunFacts) -> Result<(), Failure> {
    let options = VerifyOptions { drill: true, ..VerifyOptions::default() };
    verify(copal, database, options, context, facts).await
}

async fn verify(
    copal: &Copal,
    database: &str,
    options: VerifyOptions,
    context: &Context,
    facts: &mut RunFacts,
) -> Result<(), Failure> {
    let outcomes = copal.verify(Some(database), options, context).await.map_err(|error| Failure::of(&error))?;
    let Some(newest) = outcomes.last() else {
        return Err(Failure::permanent("not-found", format!("{database} has no backup to read")));
    };
    facts.backup = Some(newest.id.to_string());
    add(&mut facts.logical_bytes, newest.verified_bytes);
    for outcome in &outcomes {
        damage(facts, &outcome.damaged);
        facts.checks.extend(checks(outcome));
    }
    outcomes.iter().try_for_each(judge)
}

fn judge(outcome: &VerifyOutcome) -> Result<(), Failure> {
    if let Some(object) = outcome.damaged.first() {
        let message = format!("backup {} is damaged: {}: {}", outcome.id, object.object, object.problem);
        return Err(Failure::permanent(ErrorKind::Damage.as_str(), message));
    }
    let Some(drill) = outcome.drill.as_ref().filter(|drill| !drill.is_good()) else { return Ok(()) };
    let found = findings(drill);
    match drill.performed {
        true => Err(Failure::permanent("drill-failed", format!("backup {}: {found}", outcome.id))),
        false => {
            Err(Failure::permanent("drill-impossible", format!("backup {} could not be drilled: {found}", outcome.id)))
        }
    }
}

/// What was checked and found good.
fn checks(outcome: &VerifyOutcome) -> Vec<String> {
    let read = outcome.verified.then(|| format!("all content of {} was read back", outcome.id));
    let drill = outcome.drill.as_ref();
    let by_engine = drill.map(|drill| drill.checks.clone()).unwrap_or_default();
    let compared = drill.filter(|drill| drill.is_good()).map(|_| "it holds what the backup says it holds".to_owned());
    read.into_iter().chain(by_engine).chain(compared).collect()
}

fn findings(drill: &DrillOutcome) -> String {
    let differences = drill.differences.iter().map(|difference| {
        let Difference { what, expected, found } = difference;
        format!("{what}: {found} instead of {expected}")
    });
    let all: Vec<_> = drill.problems.iter().cloned().chain(differences).take(MOST_WARNINGS).collect();
    all.join("; ")
}

fn damage(facts: &mut RunFacts, damaged: &[DamagedObject]) {
    facts.damaged = facts.damaged.saturating_add(damaged.len() as u64);
    for object in damaged {
        warn(facts, format!("{}: {}", object.object, object.problem));
    }
}

fn warn(facts: &mut RunFacts, text: String) {
    if facts.warnings.len() < MOST_WARNINGS {
        facts.warnings.push(text);
    }
}

fn add(sum: &mut Option<u64>, bytes: u64) {
    *sum = Some(sum.unwrap_or(0).saturating_add(bytes));
}
