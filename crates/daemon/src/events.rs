//! From what happened to what people are told.

use copal_notify::{BackupFacts, Event, Notice};
use jiff::Timestamp;

use crate::run::{Ending, RunRecord, TaskKind};
use crate::runner::RunEvent;

/// What is told of an event, and the troubles of the database that are over by it.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) notices: Vec<Notice>,
    pub(crate) over: Vec<(String, Event)>,
    /// For those who were told of a trouble that is over now.
    pub(crate) recovered: Option<Notice>,
}

/// Puts an event into words. Cancelled runs are nobody's news.
pub(crate) fn notices(event: &RunEvent, host: &str, next_run: Option<Timestamp>) -> Told {
    let mut told = Told::default();
    match event {
        RunEvent::Started(run) if run.kind == TaskKind::Backup => {
            let headline = format!("The backup of {} begins", run.database);
            told.notices.push(Notice::new(Event::Start, &run.database, host, run.started, headline));
        }
        RunEvent::Ended(run, before) => match run.kind {
            TaskKind::Backup => told.notices.extend(backup(run, *before, host, next_run)),
            TaskKind::Drill => drill(run, host, &mut told),
            TaskKind::Verify => verification(run, host, &mut told),
            // Whoever asked for it looks at it.
            TaskKind::Restore | TaskKind::Prune | TaskKind::Snapshot | TaskKind::Rewind => {}
        },
        RunEvent::Missed(missed) => {
            let what = if missed.kind == copal::schedule::RunKind::Backup { "backup" } else { "drill" };
            let headline = format!("The {what} of {} did not run", missed.database);
            let mut notice = Notice::new(Event::Missed, &*missed.database, host, Timestamp::now(), headline);
            notice.details = format!("It was due at {} and is not made up for: nobody was awake.", missed.since);
            notice.next_run = next_run;
            told.notices.push(notice);
        }
        RunEvent::Stale { database, newest, why } => {
            let headline = format!("{database} has no backup as young as promised");
            let mut notice = Notice::new(Event::Stale, database, host, Timestamp::now(), headline);
            notice.details = match newest {
                Some(newest) => format!("The newest is of {newest}: {why}."),
                None => format!("There is none at all: {why}."),
            };
            notice.next_run = next_run;
            told.notices.push(notice);
        }
        RunEvent::Damaged { database, problem } => {
            let headline = format!("The repository's backups of {database} are damaged");
            let mut notice = Notice::new(Event::Damage, database, host, Timestamp::now(), headline);
            notice.details.clone_from(problem);
            told.notices.push(notice);
        }
        RunEvent::Protected { database } => {
            let headline = format!("{database} is protected again");
            let mut notice = Notice::new(Event::Recovered, database, host, Timestamp::now(), headline);
            notice.next_run = next_run;
            told.recovered = Some(notice);
            told.over = [Event::Stale, Event::Damage].map(|event| (database.clone(), event)).to_vec();
        }
        RunEvent::Started(_) | RunEvent::Reloaded => {}
    }
    told
}

fn backup(run: &RunRecord, before: u32, host: &str, next_run: Option<Timestamp>) -> Vec<Notice> {
    let name = &run.database;
    let (event, headline) = match run.ending {
        Some(Ending::Success) if before > 0 => (Event::Recovered, format!("The backup of {name} succeeded again")),
        Some(Ending::Success) => (Event::Success, format!("The backup of {name} was made")),
        Some(ending) if ending.is_failure() => (Event::Failure, format!("The backup of {name} failed")),
        _ => return Vec::new(),
    };
    let mut notice = about(run, event, host, headline);
    notice.next_run = next_run;
    let mut notices = vec![notice];
    if run.facts.damaged > 0 {
        let headline = format!("The repository's backups of {name} are damaged");
        notices.push(about(run, Event::Damage, host, headline));
    }
    notices
}

fn drill(run: &RunRecord, host: &str, told: &mut Told) {
    let name = &run.database;
    match run.ending {
        Some(Ending::Success) => {
            told.over = [Event::DrillFailed, Event::Damage].map(|event| (name.clone(), event)).to_vec();
            told.recovered = Some(about(run, Event::Recovered, host, format!("The drill of {name} succeeded again")));
        }
        Some(ending) if ending.is_failure() && run.facts.damaged > 0 => {
            told.notices.push(about(run, Event::Damage, host, format!("A backup of {name} is damaged")));
        }
        Some(ending) if ending.is_failure() => {
            told.notices.push(about(run, Event::DrillFailed, host, format!("The drill of {name} failed")));
        }
        _ => {}
    }
}

fn verification(run: &RunRecord, host: &str, told: &mut Told) {
    if run.facts.damaged > 0 {
        told.notices.push(about(run, Event::Damage, host, format!("A backup of {} is damaged", run.database)));
    }
}

fn about(run: &RunRecord, event: Event, host: &str, headline: String) -> Notice {
    let mut notice = Notice::new(event, &run.database, host, run.ended.unwrap_or(run.started), headline);
    let error = run.error.as_ref();
    let lines = error.map(|error| &error.message).into_iter().chain(&run.facts.warnings);
    notice.details = lines.cloned().collect::<Vec<_>>().join("\n");
    notice.consecutive_failures = run.consecutive_failures;
    notice.error_kind = error.map(|error| error.kind.clone());
    notice.backup = run.facts.backup.as_ref().map(|id| BackupFacts {
        id: id.clone(),
        logical_bytes: run.facts.logical_bytes,
        added_bytes: run.facts.added_bytes,
        stored_bytes: run.facts.stored_bytes,
        duration_seconds: run.duration_ms.map(|ms| std::time::Duration::from_millis(ms).as_secs_f64()),
    });
    notice
}
