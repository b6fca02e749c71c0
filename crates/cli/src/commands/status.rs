//! `copal status`.

use clap::Args;
use copal::{BackupAge, DatabaseStatus, Result};

use crate::output::{Align, Style, Table, local_time};
use crate::session::Session;

/// Tell whether everything is protected, and if not, why.
///
/// Looks at every database of the configuration and of the repository: is there a good backup as young as promised, was
/// it verified when a drill was due. Without a configuration the repository alone is enough, so one place can watch the
/// backups of many hosts. Ends with exit code 3 if something is not protected.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  copal status                                   everything
  copal status shop                              one database
  copal status --repository s3://backups/prod    whatever hosts write there
  copal status --json | jq -r '.results[] | select(.protected | not).name'")]
pub(crate) struct Arguments {
    /// Names, URLs or paths; every database if left out.
    #[arg(value_name = "DATABASE")]
    databases: Vec<String>,
}

/// What a line begins with.
const PROTECTED: &str = "protected";
const NOT_PROTECTED: &str = "not protected";

/// Runs the command.
pub(crate) async fn run(arguments: &Arguments, session: &Session) -> Result<()> {
    let copal = session.copal()?;
    let statuses = copal.status(&arguments.databases).await?;
    let output = &session.output;
    statuses.iter().for_each(|status| output.result(status));
    if statuses.is_empty() {
        output.warning("nothing is protected: no database is configured, and the repository has none");
        return Ok(());
    }
    output.text(&render(&statuses, output.style));
    let open: Vec<_> = statuses.iter().filter(|status| !status.protected).collect();
    if !open.is_empty() {
        let names: Vec<_> = open.iter().map(|status| status.name.as_str()).collect();
        let (count, all) = (open.len(), statuses.len());
        let verb = if count == 1 { "is" } else { "are" };
        output.warning(&format!("{count} of {all} {verb} not protected: {}", names.join(", ")));
    }
    Ok(())
}

fn render(statuses: &[DatabaseStatus], style: Style) -> String {
    let mut table = Table::new(&[
        ("STATE", Align::Left),
        ("DATABASE", Align::Left),
        ("LAST GOOD BACKUP", Align::Left),
        ("AGE", Align::Right),
        ("VERIFIED", Align::Right),
        ("NEXT RUN", Align::Left),
        ("HOST", Align::Left),
        ("REMARKS", Align::Left),
    ]);
    for status in statuses {
        let problems = status.problems.iter().map(|problem| problem.message.as_str());
        let remarks: Vec<_> = problems.chain(status.notes.iter().map(String::as_str)).collect();
        let last = status.last_backup.as_ref();
        table.row([
            if status.protected { PROTECTED } else { NOT_PROTECTED }.to_owned(),
            status.name.clone(),
            last.map(|backup| backup.id.to_string()).unwrap_or_default(),
            last.map(BackupAge::age_text).unwrap_or_default(),
            status.last_verified.as_ref().map(BackupAge::age_text).unwrap_or_default(),
            status.next_run.map(local_time).unwrap_or_default(),
            status.host.clone().unwrap_or_default(),
            remarks.join("; "),
        ]);
    }
    table.render(style).lines().map(|line| coloured(line, style)).collect::<Vec<_>>().join("\n")
}

/// A line of the table, its state in colour.
fn coloured(line: &str, style: Style) -> String {
    match (line.strip_prefix(NOT_PROTECTED), line.strip_prefix(PROTECTED)) {
        (Some(rest), _) => format!("{}{rest}", style.red(NOT_PROTECTED)),
        (None, Some(rest)) => format!("{}{rest}", style.green(PROTECTED)),
        (None, None) => line.to_owned(),
    }
}
