//! `copal prune`.

use clap::Args;
use copal::{Copal, ErrorKind, Keep, PruneOptions, PruneOutcome, Reason, Result};
use jiff::SignedDuration;

use crate::output::{Align, Output, Table, bytes, plural};
use crate::session::Session;
use crate::{databases, run};

/// Drop the backups that no rule wants.
///
/// A backup stays if any rule wants it; pinned ones, the newest and the newest verified one always stay. Without any
/// rule nothing goes. Rules on the command line replace those of copal.toml for this run.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  copal prune shop --dry-run                           what would go, and why the rest stays
  copal prune --all                                    by the rules of copal.toml
  copal prune ./app.db --keep-last 10 --keep-daily 7   by these rules")]
pub(crate) struct Arguments {
    /// Names, URLs or paths.
    #[arg(value_name = "DATABASE", required_unless_present = "all")]
    databases: Vec<String>,
    /// Every database of the repository.
    #[arg(long, conflicts_with = "databases")]
    all: bool,
    /// Only say what would be deleted.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    keep: KeepArguments,
    /// Apply rules of time although the newest backup is suspiciously far from the one before.
    #[arg(long)]
    trust_clock: bool,
}

/// Rules of retention.
#[derive(Debug, Args)]
#[command(next_help_heading = "Rules")]
struct KeepArguments {
    /// Keep the last N.
    #[arg(long, value_name = "N", value_parser = count)]
    keep_last: Option<u32>,
    /// Keep all that are at most this much older than the newest: 36h, 5d, 2w.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    keep_within: Option<SignedDuration>,
    /// Keep the newest of each of the last N hours that have one.
    #[arg(long, value_name = "N", value_parser = count)]
    keep_hourly: Option<u32>,
    /// Keep the newest of each of the last N days that have one.
    #[arg(long, value_name = "N", value_parser = count)]
    keep_daily: Option<u32>,
    /// Keep the newest of each of the last N weeks that have one.
    #[arg(long, value_name = "N", value_parser = count)]
    keep_weekly: Option<u32>,
    /// Keep the newest of each of the last N months that have one.
    #[arg(long, value_name = "N", value_parser = count)]
    keep_monthly: Option<u32>,
    /// Keep the newest of each of the last N years that have one.
    #[arg(long, value_name = "N", value_parser = count)]
    keep_yearly: Option<u32>,
}

fn count(text: &str) -> std::result::Result<u32, String> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| "a number from 1 on is needed".into())
}

fn duration(text: &str) -> std::result::Result<SignedDuration, String> {
    copal::parse_duration(text).map_err(|error| error.to_string())
}

impl KeepArguments {
    /// The rules, if there is any.
    fn keep(&self) -> Option<Keep> {
        let keep = Keep {
            last: self.keep_last,
            within: self.keep_within,
            hourly: self.keep_hourly,
            daily: self.keep_daily,
            weekly: self.keep_weekly,
            monthly: self.keep_monthly,
            yearly: self.keep_yearly,
        };
        (keep != Keep::default()).then_some(keep)
    }
}

/// Runs the command.
pub(crate) async fn run(arguments: &Arguments, session: &Session) -> Result<()> {
    let copal = session.copal()?;
    let databases =
        if arguments.all { databases::stored(&copal, &session.output).await? } else { arguments.databases.clone() };
    let output = &session.output;
    if databases.is_empty() {
        output.done("There is no database to prune yet.");
    }
    for database in &databases {
        run::check(&session.cancel)?;
        match prune(&copal, database, arguments, session).await {
            Ok(outcome) => {
                output.result(&outcome);
                output.done(&render(&outcome, output));
            }
            Err(error) => {
                output.failure(Some(database), &error);
                if error.kind() == ErrorKind::Interrupted {
                    break;
                }
            }
        }
    }
    Ok(())
}

async fn prune(copal: &Copal, database: &str, arguments: &Arguments, session: &Session) -> Result<PruneOutcome> {
    let Arguments { dry_run, ref keep, trust_clock, .. } = *arguments;
    let options = PruneOptions { dry_run, keep: keep.keep(), trust_clock, only: None };
    session.watch(database, async |context| copal.prune(database, options, context).await).await
}

fn render(outcome: &PruneOutcome, output: &Output) -> String {
    let PruneOutcome { database, kept, deleted, deleted_segments, freed_bytes, .. } = outcome;
    let has_no_rule = kept.iter().any(|backup| backup.reasons.contains(&Reason::NoRule));
    let verb = if outcome.dry_run { "would go" } else { "gone" };
    let freed = if deleted.is_empty() { String::new() } else { format!(" ({})", bytes(*freed_bytes)) };
    let rules = if has_no_rule { "; there is no rule, so nothing goes" } else { "" };
    let journal = match deleted_segments.len() {
        0 => String::new(),
        segments => format!(" with {} of journals", plural(segments, "segment")),
    };
    let gone = plural(deleted.len(), "backup");
    let summary = format!("{database}: {gone}{journal} {verb}{freed}, {} kept{rules}", kept.len());
    if !outcome.dry_run && !output.is_verbose() {
        return summary;
    }
    let mut table = Table::new(&[("BACKUP", Align::Left), ("", Align::Left), ("WHY", Align::Left)]).indented(2);
    let mut rows: Vec<_> = deleted.iter().map(|id| (id, verb, String::new())).collect();
    rows.extend(kept.iter().map(|backup| {
        let reasons: Vec<_> = backup.reasons.iter().map(|reason| word(*reason)).collect();
        (&backup.id, "stays", reasons.join(", "))
    }));
    rows.sort();
    for (id, what, why) in rows {
        table.row([id.to_string(), what.to_owned(), why]);
    }
    format!("{summary}\n{}", table.render(output.style))
}

fn word(reason: Reason) -> &'static str {
    match reason {
        Reason::NoRule => "no rule",
        Reason::Newest => "newest",
        Reason::NewestVerified => "newest verified",
        Reason::Pinned => "pinned",
        Reason::Last => "last",
        Reason::Within => "within",
        Reason::Hourly => "hourly",
        Reason::Daily => "daily",
        Reason::Weekly => "weekly",
        Reason::Monthly => "monthly",
        Reason::Yearly => "yearly",
    }
}
