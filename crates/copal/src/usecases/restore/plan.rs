//! What a restore would do, told before anything is done.
//!
//! Everything about a target is asked of its engine by a restore that only looks, on a thread that nobody waits for without end.
//! What stands in the way is part of the answer, so that all of it is told at once.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use copal_core::{CheckLevel, Context, Engine, RestoreRequest, Restored, Source};
use copal_repository::{BackupContent, Summary};
use copal_storage::local_file;
use tokio::sync::OwnedSemaphorePermit;

use super::command::shell_line;
use super::{parse, refuse_foreign, refuse_impossible};
use crate::outcome::{segment, summary};
use crate::usecases::find::Found;
use crate::usecases::list::marked;
use crate::usecases::point::Point;
use crate::usecases::{Copal, RestoreOptions, on_own_thread};
use crate::{CopalError, RestorePlan, Result, SpacePlan};

/// Options of `restore_plan`.
#[derive(Clone, Debug)]
pub struct PlanOptions {
    /// The restore; whether it may replace makes no difference.
    pub restore: RestoreOptions,
    /// How long the target has to answer.
    pub patience: Duration,
    /// Why nothing that is at the target may be told, if it may not.
    pub blind: Option<String>,
    /// The configuration that the command shall name.
    pub configuration: Option<PathBuf>,
    /// Held until the target was looked at, also if that takes longer than anybody waits.
    pub permit: Option<Arc<OwnedSemaphorePermit>>,
}

/// What was found at a target.
struct Look {
    restored: Result<Restored>,
    is_original: bool,
    at_place_of: String,
    /// Free bytes, where the target is on this machine.
    free: Option<Result<u64>>,
    /// Who has open what would be replaced.
    open_in: Vec<String>,
}

impl Copal {
    /// Tells what a restore would do, and changes nothing. Errors: only what the backup itself is about; the target's are in the plan.
    pub async fn restore_plan(&self, database: &str, options: PlanOptions) -> Result<RestorePlan> {
        let repository = self.repository().await?;
        let name = database;
        let Found { database, record_damage } = self.found(repository, name).await?;
        let point = self.point(repository, &database, &options.restore.backup).await?;
        let engine = self.engines.named(&point.manifest.body.engine)?;
        let original = self.source_of(&point.manifest)?;
        let to = options.restore.to.as_deref().map(parse).transpose()?;
        let brief = marked(repository, &database, Summary::of(&point.manifest)).await?;
        let target = to.clone().unwrap_or_else(|| original.clone());
        let is_on_this_machine = self.is_on_this_machine(&target);

        let mut plan = RestorePlan {
            backup: summary(&database.name, &brief),
            segment: point.segments.last().map(segment),
            target: shown(&target, is_on_this_machine),
            is_original: to.is_none(),
            exists: None,
            replaces: false,
            at_place_of: name.to_owned(),
            logical_bytes: point.logical_bytes(),
            read_bytes: read_bytes(&point, brief.stored_bytes),
            space: None,
            problems: Vec::new(),
            warnings: record_damage
                .map(|error| format!("{error}; the backup itself can be read"))
                .into_iter()
                .collect(),
            is_possible: false,
            command: String::new(),
        };
        let id = plan.segment.as_ref().map_or_else(|| plan.backup.id.to_string(), |segment| segment.id.to_string());
        let possible = refuse_foreign(&*engine, &target).and_then(|()| refuse_impossible(&*engine, &options.restore));
        match (possible, &options.blind) {
            (Err(error), _) => plan.problems.push(told(&error)),
            (Ok(()), Some(why)) => plan.problems.push(why.clone()),
            (Ok(()), None) => {
                let needed = point.manifest.body.files.iter().map(|file| file.length()).sum();
                let expected = Some(point.inventory().clone());
                let content = point.content(repository, &database);
                let request = RestoreRequest { expected, ..RestoreRequest::new(target) };
                match self.look_at_target(engine, content, request, original, name, &options).await? {
                    Some(look) => {
                        if to.is_none() && look.at_place_of != name {
                            let whose = Source::shown(&look.at_place_of);
                            plan.warnings.push(format!("the place that the backup was made of is that of {whose} now"));
                        }
                        found(&mut plan, look, needed);
                    }
                    None => {
                        let seconds = options.patience.as_secs_f32();
                        plan.problems.push(format!("{} did not answer within {seconds} s", plan.target));
                    }
                }
            }
        }
        plan.is_possible = plan.problems.is_empty();
        let secret = to.as_ref().filter(|to| !is_on_this_machine && to.redacted() != to.reveal());
        if secret.is_some() {
            plan.warnings.push("the command leaves the password of the target out: add it there".to_owned());
        }
        plan.command = self.command_line(name, &id, to.is_some(), &plan, &options);
        Ok(plan)
    }

    /// Looks at a target; `None` if it does not answer in time.
    async fn look_at_target(
        &self,
        engine: Arc<dyn Engine>,
        content: BackupContent,
        request: RestoreRequest,
        original: Source,
        name: &str,
        options: &PlanOptions,
    ) -> Result<Option<Look>> {
        let (copal, name, has_to) = (self.clone(), name.to_owned(), options.restore.to.is_some());
        let permit = options.permit.clone();
        let context = Context::silent();
        let _until_then = context.cancel.cancel_on_drop();
        // Room is looked at here, so that what is there is told also if there is too little.
        let request = RestoreRequest { replace: true, check: CheckLevel::None, dry_run: true, ..request };
        let is_on_this_machine = self.is_on_this_machine(&request.target);
        let look = on_own_thread(move || {
            let _held = permit;
            let is_original = !has_to || copal.is_same_place(&request.target, &original);
            let at_place_of = copal.at_place_of(&request.target, &name);
            let free = is_on_this_machine.then(|| Ok(local_file::free_space(&request.target.file_path())?));
            let restored = engine.restore(&content, &request, &context).map_err(CopalError::from);
            // All processes are looked at for that.
            let is_replaced = is_on_this_machine && restored.as_ref().is_ok_and(|restored| restored.replaced);
            let open_in = if is_replaced { open_in(&request.target) } else { Vec::new() };
            Look { restored, is_original, at_place_of, free, open_in }
        });
        tokio::time::timeout(options.patience, look).await.ok().transpose()
    }

    fn is_on_this_machine(&self, target: &Source) -> bool {
        target.scheme() == Some("file") || self.is_file(target)
    }

    fn command_line(
        &self,
        name: &str,
        id: &str,
        is_elsewhere: bool,
        plan: &RestorePlan,
        options: &PlanOptions,
    ) -> String {
        let is_like_an_option = name.starts_with('-');
        let mut arguments = vec!["copal".to_owned(), "restore".to_owned()];
        arguments.extend((!is_like_an_option).then(|| name.to_owned()));
        arguments.extend(["--backup".to_owned(), id.to_owned()]);
        if is_elsewhere {
            arguments.extend(["--to".to_owned(), plan.target.clone()]);
        }
        arguments.extend(plan.replaces.then(|| "--replace".to_owned()));
        arguments.extend(match &options.configuration {
            Some(path) => ["--config".to_owned(), path.display().to_string()],
            None => ["--repository".to_owned(), self.repository_url()],
        });
        if is_like_an_option {
            arguments.extend(["--".to_owned(), name.to_owned()]);
        }
        shell_line(arguments)
    }
}

/// What was found at the target, put into the plan.
fn found(plan: &mut RestorePlan, look: Look, needed: u64) {
    plan.is_original = look.is_original;
    plan.at_place_of = look.at_place_of;
    match look.restored {
        Ok(restored) => {
            plan.exists = Some(restored.replaced);
            plan.replaces = restored.replaced;
            plan.warnings.extend(restored.notes);
        }
        Err(error) => plan.problems.push(told(&error)),
    }
    match look.free {
        Some(Ok(free)) => {
            let space = SpacePlan::new(free, needed);
            if !space.is_enough {
                plan.problems.push(format!("not enough space: {needed} bytes are needed there, and {free} are free"));
            }
            plan.space = Some(space);
        }
        Some(Err(error)) if plan.problems.is_empty() => plan.problems.push(told(&error)),
        Some(Err(_)) | None => {}
    }
    plan.warnings.extend(look.open_in.into_iter().map(|who| format!("{who} has the target open")));
}

/// Who has the file open that is at the target. Links are followed to the file that would be replaced.
fn open_in(target: &Source) -> Vec<String> {
    let path = target.file_path();
    local_file::holders(&std::fs::canonicalize(&path).unwrap_or(path)).iter().map(ToString::to_string).collect()
}

/// A target as it may be shown and typed again: of a file all of it, since a path has no secrets, but no options of a driver.
fn shown(target: &Source, is_on_this_machine: bool) -> String {
    match (is_on_this_machine, target.scheme()) {
        (false, _) => target.redacted(),
        (true, Some(scheme)) => format!("{scheme}:{}", target.file_path().display()),
        (true, None) => target.file_path().display().to_string(),
    }
}

fn read_bytes(point: &Point, stored_bytes: u64) -> u64 {
    let of_segments: u64 = point.segments.iter().map(|segment| segment.body.added_bytes).sum();
    stored_bytes.saturating_add(of_segments)
}

/// An error as one line.
fn told(error: &CopalError) -> String {
    let mut text = error.to_string();
    for cause in error.causes() {
        text = format!("{text}: {cause}");
    }
    match error.hint() {
        Some(hint) => format!("{text} ({hint})"),
        None => text,
    }
}
