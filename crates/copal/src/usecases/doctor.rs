//! Looking at everything that backups need, before they need it.

use std::sync::Arc;

use copal_core::Source;
use copal_repository::Repository;

use super::open::probe_folder;
use super::{Copal, blocking};
use crate::{Diagnosis, ErrorKind, Finding, Result, Severity};

fn good(message: impl Into<String>) -> Finding {
    Finding { severity: Severity::Good, message: message.into(), remedy: None }
}

fn warning(message: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { severity: Severity::Warning, message: message.into(), remedy: Some(remedy.into()) }
}

fn problem(error: &crate::CopalError) -> Finding {
    let mut message = error.to_string();
    for cause in error.causes() {
        message = format!("{message}: {cause}");
    }
    Finding { severity: Severity::Problem, message, remedy: error.hint().map(str::to_owned) }
}

impl Copal {
    /// Looks at everything that a backup of each configured database (or of those named) needs. Problems are findings, not errors.
    pub async fn doctor(&self, databases: &[String]) -> Result<Vec<Diagnosis>> {
        let mut diagnoses = vec![self.diagnose_state()];
        let repository = match self.repository().await {
            Ok(repository) => {
                diagnoses.push(diagnose_repository(repository).await?);
                Some(repository)
            }
            Err(error) => {
                let finding = match (error.kind(), self.settings.repository_is_default) {
                    (ErrorKind::NotFound, true) => good("the local repository will be created with the first backup"),
                    _ => problem(&error),
                };
                diagnoses.push(Diagnosis { subject: "repository".into(), findings: vec![finding] });
                None
            }
        };
        let names: Vec<String> = match databases.is_empty() {
            true => self.settings.databases.keys().cloned().collect(),
            false => databases.to_vec(),
        };
        if names.is_empty() {
            let finding = warning("no databases are configured", "copal init -d URL writes a copal.toml to begin with");
            diagnoses.push(Diagnosis { subject: "configuration".into(), findings: vec![finding] });
        }
        for name in names {
            let members = match self.members(&name).await {
                Ok(members) => members,
                Err(error) => {
                    diagnoses.push(Diagnosis { subject: Source::shown(&name), findings: vec![problem(&error)] });
                    continue;
                }
            };
            for name in members {
                let findings = self.diagnose_database(repository, &name).await;
                diagnoses.push(Diagnosis { subject: Source::shown(&name), findings });
            }
        }
        Ok(diagnoses)
    }

    fn diagnose_state(&self) -> Diagnosis {
        let finding = match &self.settings.state {
            None => warning("there is no state folder, so nothing is cached", "set XDG_STATE_HOME or HOME"),
            Some(folder) => match std::fs::create_dir_all(folder).and_then(|()| tempfile::tempfile_in(folder)) {
                Ok(_) => good(format!("{} can be written", folder.display())),
                Err(e) => warning(
                    format!(
                        "{} cannot be written: {e}; backups work, but page maps are read from the repository",
                        folder.display()
                    ),
                    "let the user who runs copal own the folder",
                ),
            },
        };
        Diagnosis { subject: "state folder".into(), findings: vec![finding] }
    }

    async fn diagnose_database(&self, repository: Option<&Repository>, name: &str) -> Vec<Finding> {
        let subject = match self.subject(name) {
            Ok(subject) => subject,
            Err(error) => return vec![problem(&error)],
        };
        let (engine, source) = (Arc::clone(&subject.engine), subject.source.clone());
        let identity = match blocking(move || engine.identify(&source)).await {
            Ok(Ok(identity)) => identity,
            Ok(Err(error)) => return vec![problem(&error.into())],
            Err(error) => return vec![problem(&error)],
        };
        let mut findings =
            vec![good(format!("{} can be read ({} {})", subject.place, subject.engine.name(), identity.version))];
        let Some(repository) = repository else { return findings };
        let newest = async {
            match repository.database(&subject.name).await? {
                Some(database) => repository.listing(&database).await.map(Some),
                None => Ok(None),
            }
        };
        match newest.await {
            Err(error) => findings.push(problem(&error.into())),
            Ok(listing) => {
                let listing = listing.unwrap_or_default();
                for damaged in &listing.damaged {
                    findings.push(Finding {
                        severity: Severity::Problem,
                        message: format!("{} {}", damaged.object, damaged.problem),
                        remedy: Some("see what is unharmed with: copal verify --backup all".into()),
                    });
                }
                match listing.backups.last() {
                    None => findings
                        .push(warning("there is no backup yet", format!("copal backup {}", Source::shown(name)))),
                    Some(newest) => findings.push(good(format!(
                        "{} backups, the newest is {}{}",
                        listing.backups.len(),
                        newest.id,
                        if newest.verified { ", verified" } else { "" }
                    ))),
                }
                if !listing.backups.is_empty() && !listing.backups.iter().any(|b| b.verified) {
                    findings.push(warning(
                        "no backup was ever verified",
                        format!("copal verify {} --drill", Source::shown(name)),
                    ));
                }
            }
        }
        findings
    }
}

async fn diagnose_repository(repository: &Repository) -> Result<Diagnosis> {
    let lock = if repository.is_encrypted() { "encrypted" } else { "not encrypted" };
    let mut findings = vec![good(format!("{} can be opened ({lock})", repository.url()))];
    match copal_storage::prove_conditional_writes(&**repository.storage(), &probe_folder()?).await {
        Ok(()) => findings.push(good("it can be written, and it honours conditional writes")),
        Err(error) => findings.push(problem(&error.into())),
    }
    if repository.is_encrypted() && repository.wraps().await?.len() == 1 {
        findings.push(warning(
            "there is one key only: whoever loses it loses all backups",
            "add a recovery key and keep it elsewhere: copal key add --recovery-key age1…",
        ));
    }
    Ok(Diagnosis { subject: "repository".into(), findings })
}
