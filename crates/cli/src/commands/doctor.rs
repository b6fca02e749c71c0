//! `copal doctor`.

use clap::Args;
use copal::{CopalError, Diagnosis, ErrorKind, Finding, Result, Severity};

use crate::output::{Style, clean, plural};
use crate::session::Session;

/// Tell what is missing for good backups, with the remedy.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  copal doctor          configuration, repository and every configured database
  copal doctor ./app.db")]
pub(crate) struct Arguments {
    /// Names, URLs or paths; every configured database if left out.
    #[arg(value_name = "DATABASE")]
    databases: Vec<String>,
}

/// Runs the command.
pub(crate) async fn run(arguments: &Arguments, session: &Session) -> Result<()> {
    let copal = session.copal()?;
    let diagnoses = copal.doctor(&arguments.databases).await?;
    let output = &session.output;
    diagnoses.iter().for_each(|diagnosis| output.result(diagnosis));
    output.text(&diagnoses.iter().map(|diagnosis| render(diagnosis, output.style)).collect::<Vec<_>>().join("\n\n"));
    let findings = || diagnoses.iter().flat_map(|diagnosis| &diagnosis.findings);
    let count = |severity| findings().filter(|finding| finding.severity == severity).count();
    let (problems, warnings) = (count(Severity::Problem), count(Severity::Warning));
    if problems > 0 {
        output.found(&CopalError::new(ErrorKind::Failed, format!("{} found", plural(problems, "problem"))));
    } else if warnings > 0 {
        output.warning(&format!("{} should be looked at", plural(warnings, "thing")));
    }
    Ok(())
}

fn render(diagnosis: &Diagnosis, style: Style) -> String {
    let mut lines = vec![style.bold(&clean(&diagnosis.subject))];
    for Finding { severity, message, remedy } in &diagnosis.findings {
        let mark = match severity {
            Severity::Good => style.green("good   "),
            Severity::Warning => style.yellow("warning"),
            Severity::Problem => style.red("problem"),
        };
        lines.push(format!("  {mark}  {}", clean(message)));
        lines.extend(remedy.iter().map(|remedy| format!("           {}", clean(remedy))));
    }
    lines.join("\n")
}
