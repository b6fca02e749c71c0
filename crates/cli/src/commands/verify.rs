//! `copal verify`.

use clap::Args;
use copal::{
    BackupChoice, Context, CopalError, DrillOutcome, ErrorKind, Result, VerifyOptions, VerifyOutcome, WhichBackups,
};

use crate::choice::{self, BackupArgument};
use crate::output::{Output, Style, bytes, clean, plural};
use crate::session::Session;
use crate::{databases, run};

/// Read backups back, all content, and prove them whole.
///
/// With --drill each backup is also restored to a scratch place, checked there by the engine's own means, and compared
/// with what the database contained when the backup was made.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  copal verify                      the newest backup of every database
  copal verify shop --backup all    every backup of one
  copal verify shop --drill         really restore it, and check")]
pub(crate) struct Arguments {
    /// A name, URL or path; all databases if left out.
    database: Option<String>,
    /// Which backups: `latest`, `all`, an id or the beginning of one (with DATABASE).
    #[arg(long, value_name = "ID", default_value = "latest", value_parser = which)]
    backup: Which,
    /// Restore to a scratch place and check there, too.
    #[arg(long)]
    drill: bool,
}

/// `--backup`.
#[derive(Clone, Debug)]
enum Which {
    All,
    One(BackupArgument),
}

fn which(text: &str) -> std::result::Result<Which, String> {
    if text == "all" {
        return Ok(Which::All);
    }
    choice::argument(text).map(Which::One)
}

/// Runs the command.
pub(crate) async fn run(arguments: &Arguments, session: &Session) -> Result<()> {
    let copal = session.copal()?;
    let backups = match (&arguments.backup, &arguments.database) {
        (Which::All, _) => WhichBackups::All,
        (Which::One(BackupArgument::Latest), _) => WhichBackups::Latest,
        (Which::One(_), None) => {
            let error = CopalError::new(ErrorKind::Usage, "--backup ID needs to know the database");
            return Err(error.with_hint("copal verify DATABASE --backup ID"));
        }
        (Which::One(argument), Some(database)) => match choice::resolve(&copal, database, argument).await? {
            BackupChoice::Id(id) => WhichBackups::Id(id),
            _ => WhichBackups::Latest,
        },
    };
    let databases = match &arguments.database {
        Some(database) => vec![database.clone()],
        None => databases::stored(&copal, &session.output).await?,
    };
    let mut outcomes = Vec::new();
    for database in &databases {
        run::check(&session.cancel)?;
        let options = VerifyOptions { backups: backups.clone(), drill: arguments.drill };
        let call = async |context: &Context| copal.verify(Some(database), options, context).await;
        match session.watch(database, call).await {
            Ok(found) => {
                report(&found, session);
                outcomes.extend(found);
            }
            Err(error) => {
                session.output.failure(Some(database), &error);
                if error.kind() == ErrorKind::Interrupted {
                    break;
                }
            }
        }
    }
    if databases.is_empty() {
        session.output.done("There is no backup to verify yet.");
    }
    report_damage(&outcomes, &session.output);
    Ok(())
}

fn report(outcomes: &[VerifyOutcome], session: &Session) {
    let output = &session.output;
    for outcome in outcomes {
        output.result(outcome);
        output.done(&render(outcome, output.style));
        let is_impossible = |drill: &&DrillOutcome| !drill.performed && outcome.damaged.is_empty();
        if let Some(drill) = outcome.drill.as_ref().filter(is_impossible) {
            let why = drill.problems.join("; ");
            output.warning(&format!("the drill of {} {} was impossible: {why}", outcome.database, outcome.id));
        }
    }
}

fn report_damage(outcomes: &[VerifyOutcome], output: &Output) {
    let broken: Vec<_> = outcomes.iter().filter(|outcome| !outcome.damaged.is_empty()).collect();
    let first =
        |outcomes: &[&VerifyOutcome]| outcomes.first().map(|o| format!("{} {}", o.database, o.id)).unwrap_or_default();
    if !broken.is_empty() {
        let objects = broken.iter().map(|outcome| outcome.damaged.len()).sum::<usize>();
        let what = if let [one] = broken.as_slice() { first(&[one]) } else { plural(broken.len(), "backup") };
        let message = format!("{what} cannot be restored: {} missing or damaged", plural(objects, "object"));
        let hint = "other backups are not affected unless named above; make a new backup now, then find out what harms the store";
        output.found(&CopalError::new(ErrorKind::Damage, message).with_hint(hint));
    }
    let is_failed = |drill: &DrillOutcome| drill.performed && !drill.is_good();
    let failed: Vec<_> = outcomes.iter().filter(|outcome| outcome.drill.as_ref().is_some_and(is_failed)).collect();
    if !failed.is_empty() {
        let what = if failed.len() == 1 { first(&failed) } else { plural(failed.len(), "backup") };
        output.found(&CopalError::new(ErrorKind::Damage, format!("the drill of {what} found differences or damage")));
    }
}

fn render(outcome: &VerifyOutcome, style: Style) -> String {
    let VerifyOutcome { database, id, .. } = outcome;
    let mut lines = vec![match (outcome.verified, outcome.damaged.is_empty()) {
        (true, _) => format!("{} {database} {id}: {} read back", style.green("Whole"), bytes(outcome.verified_bytes)),
        (false, false) => format!("{} {database} {id}", style.red("Damaged")),
        (false, true) => format!("{} {database} {id}", style.yellow("Not verified")),
    }];
    for object in &outcome.damaged {
        lines.push(format!("  {}: {}", clean(&object.object), clean(&object.problem)));
    }
    if let Some(drill) = outcome.drill.as_ref().filter(|drill| drill.performed) {
        let checks = drill.checks.join(", ");
        lines.push(match drill.is_good() {
            true => format!("  restored and checked: {checks}"),
            false => format!("  {} {checks}", style.red("restored, but not sound:")),
        });
        lines.extend(drill.problems.iter().map(|problem| format!("    {}", clean(problem))));
        for difference in &drill.differences {
            let (what, expected, found) = (&difference.what, &difference.expected, &difference.found);
            lines.push(clean(&format!("    {what}: {found}, and {expected} when it was backed up")));
        }
    }
    lines.join("\n")
}
