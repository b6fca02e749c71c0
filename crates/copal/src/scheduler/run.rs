//! What one run does, by the use cases.

use std::time::Duration;

use copal_core::{CancelToken, Context, Keep, Silent, Source};
use jiff::Timestamp;
use std::sync::Arc;

use super::event::RunResult;
use crate::schedule::RunKind;
use crate::{BackupOptions, Copal, CopalError, ErrorKind, PruneOptions, Result, VerifyOptions, VerifyOutcome};

/// What a run needs to know.
#[derive(Clone)]
pub(super) struct Assignment {
    pub(super) database: Arc<str>,
    pub(super) kind: RunKind,
    /// A backup that is at least this young makes it unnecessary.
    pub(super) since: Option<Timestamp>,
    pub(super) keep: Option<Keep>,
    pub(super) time_limit: Option<Duration>,
}

/// Does it; a panic is a failure like others.
pub(super) async fn work(copal: Copal, run: Assignment, cancel: CancelToken) -> Result<RunResult> {
    let (limit, token) = (run.time_limit, cancel.clone());
    let mut task = tokio::spawn(async move {
        let context = Context { cancel: token, progress: Arc::new(Silent) };
        // Somebody may have put another repository in the place of the one that is open.
        let copal = copal.current().await?;
        match run.kind {
            RunKind::Backup => back_up(&copal, &run, &context).await,
            RunKind::Drill => drill(&copal, &run.database, &context).await,
        }
    });
    let over = async {
        match limit {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    let (joined, is_over) = tokio::select! {
        joined = &mut task => (joined, false),
        () = over => {
            // It ends where it next looks at its token, and leaves nothing behind.
            cancel.cancel();
            (task.await, true)
        }
    };
    let result =
        joined.unwrap_or_else(|e| Err(CopalError::new(ErrorKind::Failed, "the run stopped unexpectedly").because(e)));
    match result {
        Err(error) if is_over && error.kind() == ErrorKind::Interrupted => {
            let message = format!("not done within the time limit of {:?}", limit.unwrap_or_default());
            Err(CopalError::new(ErrorKind::Unavailable, message))
        }
        other => other,
    }
}

/// Every database that the job's name stands for; one that fails keeps no other from its backup.
async fn back_up(copal: &Copal, run: &Assignment, context: &Context) -> Result<RunResult> {
    let (mut backups, mut prunes, mut unpruned, mut failure) = (Vec::new(), Vec::new(), Vec::new(), None);
    for database in copal.members(&run.database).await? {
        context.cancel.check()?;
        let made = match run.since {
            Some(since) => copal.backup_unless_since(&database, since, BackupOptions::default(), context).await,
            None => copal.backup(&database, BackupOptions::default(), context).await.map(Some),
        };
        match made {
            Ok(Some(outcome)) => backups.push(outcome),
            Ok(None) => continue,
            Err(error) => {
                failure.get_or_insert(error);
                continue;
            }
        }
        if let Some(keep) = &run.keep {
            let options = PruneOptions { keep: Some(keep.clone()), ..PruneOptions::default() };
            match copal.prune(&database, options, context).await {
                Ok(outcome) => prunes.push(outcome),
                // The backup exists, and the next run prunes again.
                Err(error) => {
                    tracing::warn!(database = %Source::shown(&database), %error, "the prune after the backup failed");
                    unpruned.push(Arc::new(error));
                }
            }
        }
    }
    match failure {
        Some(error) => Err(error),
        None if backups.is_empty() => Ok(RunResult::ByOthers),
        None => Ok(RunResult::Backups(backups, prunes, unpruned)),
    }
}

async fn drill(copal: &Copal, database: &str, context: &Context) -> Result<RunResult> {
    let mut outcomes = Vec::new();
    for database in copal.members(database).await? {
        let options = VerifyOptions { drill: true, ..VerifyOptions::default() };
        outcomes.extend(copal.verify(Some(&database), options, context).await?);
    }
    outcomes.iter().try_for_each(judge)?;
    Ok(RunResult::Drilled(outcomes))
}

fn judge(outcome: &VerifyOutcome) -> Result<()> {
    if let Some(object) = outcome.damaged.first() {
        let message = format!("backup {} is damaged: {}: {}", outcome.id, object.object, object.problem);
        return Err(CopalError::new(ErrorKind::Damage, message));
    }
    let Some(drill) = outcome.drill.as_ref().filter(|drill| !drill.is_good()) else { return Ok(()) };
    let differences = drill
        .differences
        .iter()
        .map(|difference| format!("{}: {} instead of {}", difference.what, difference.found, difference.expected));
    let found: Vec<_> = drill.problems.iter().cloned().chain(differences).take(10).collect();
    let (what, kind) = match drill.performed {
        true => ("is not sound", ErrorKind::Damage),
        false => ("could not be drilled", ErrorKind::Failed),
    };
    Err(CopalError::new(kind, format!("backup {} {what}: {}", outcome.id, found.join("; "))))
}
