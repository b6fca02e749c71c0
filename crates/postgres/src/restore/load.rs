//! The new database: created, filled by `pg_restore`, checked against the backup's inventory.

use std::time::Duration;

use copal_core::{CheckReport, Content, Difference, EngineErrorKind, EngineResult, RestoreRequest};

use super::{Archive, Target, UNFINISHED, drop_passing, hold};
use crate::engine::corrupt;
use crate::programs::{Installation, Running};
use crate::properties::Properties;
use crate::quote::{identifier, literal};
use crate::session::Session;
use crate::{check, failure, inventory};

/// What newer programs say to older servers; it has no consequences.
const UNKNOWN_SETTING: &str = "unrecognized configuration parameter \"transaction_timeout\"";
/// Rows of a restored database are counted for at least so long: the proof is worth it.
const LEAST_COUNT: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(20);

impl Target<'_> {
    /// Makes the database `passing` out of a backup; what is wrong with it is an error.
    pub(crate) fn load(
        &self,
        server: &mut Session,
        content: &dyn Content,
        properties: &Properties,
        passing: &str,
        request: &RestoreRequest,
    ) -> EngineResult<CheckReport> {
        let programs = self.programs.for_restore(server.major(), properties.dumped_by)?;
        let jobs = self.jobs();
        let archive = Archive::stage(content, self.engine.temporary.as_deref(), jobs, self.context)?;
        hold(server, passing)?;
        let address = self.address.with_database(passing);
        let mut jobs = if matches!(archive, Archive::Staged { .. }) { jobs } else { 1 };
        loop {
            self.create(server, properties, passing)?;
            self.context.phase("restoring into a new database", Some(properties.bytes));
            let mut command = programs.command("pg_restore", &address);
            if jobs > 1 {
                command.arg(format!("--jobs={jobs}"));
            }
            let mut watch = |running| self.watch(running, &programs, server.major());
            let Err(mut error) = archive.feed(command, content, self.context, &mut watch) else { break };
            if jobs == 1 || !matches!(error.kind, EngineErrorKind::Other | EngineErrorKind::PermissionDenied) {
                // A role or the like that this server lacks: not the database.
                error.kind = if error.kind == EngineErrorKind::NotFound { EngineErrorKind::Other } else { error.kind };
                return Err(error);
            }
            // Several connections heed the archive's dependencies, one its order, which is right even where those are
            // incomplete: a domain's NOT VALID check, a function that reads a table it does not name, or may not read yet.
            self.context.note("restoring once more, with one connection: several did not succeed");
            drop_passing(self.engine, &self.address, passing)?;
            jobs = 1;
        }
        let mut session = self.engine.connect(&address, self.context)?;
        self.context.phase("checking", None);
        let mut report = check::run(&mut session, request.check, self.context)?;
        if let Some(problem) = report.problems.first() {
            return Err(corrupt(format!("the restored database is not sound: {problem}")));
        }
        if let Some(expected) = &request.expected {
            report.ran.push("inventory".to_owned());
            let found = inventory::now(&mut session, self.engine.count.max(LEAST_COUNT), self.context)?;
            let differences = expected.compare(&found);
            if !differences.is_empty() {
                let told = |d: &Difference| format!("{}: {} in the backup, {} restored", d.what, d.expected, d.found);
                let told: Vec<_> = differences.iter().take(5).map(told).collect();
                return Err(corrupt(format!("the restored database is not complete: {}", told.join("; "))));
            }
        }
        Ok(report)
    }

    /// Gives the database `passing` what belongs to it as a database.
    pub(super) fn dress(&self, server: &mut Session, properties: &Properties, passing: &str) -> EngineResult<()> {
        server.run(&format!("GRANT CONNECT, TEMPORARY ON DATABASE {} TO PUBLIC", identifier(passing)))?;
        properties.apply(passing).iter().try_for_each(|statement| server.run(statement))
    }

    /// Creates the empty database.
    fn create(&self, server: &mut Session, properties: &Properties, passing: &str) -> EngineResult<()> {
        self.context.phase("creating the database", None);
        let database = identifier(passing);
        server.run(&properties.create(passing, server.major()))?;
        server.run(&format!("COMMENT ON DATABASE {database} IS {}", literal(UNFINISHED)))?;
        // Nobody is to write into it by mistake; its owner and superusers still can.
        server.run(&format!("REVOKE CONNECT ON DATABASE {database} FROM PUBLIC"))
    }

    /// Connections that restore at the same time.
    fn jobs(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        self.engine.jobs.max(cores.min(8))
    }

    /// Waits for `pg_restore`. It goes on after errors, so that a setting that an older server does not know is no end.
    fn watch(&self, mut running: Running, programs: &Installation, server: u32) -> EngineResult<()> {
        while !running.has_ended()? {
            self.context.cancel.check()?;
            std::thread::sleep(TICK);
        }
        let (status, words) = running.wait()?;
        let place = format!("{:?} on {}", self.name, self.address.server());
        let errors: Vec<_> = words.lines().filter(|line| line.contains("error: ")).collect();
        let is_harmless = |line: &&str| programs.major >= 17 && server < 17 && line.contains(UNKNOWN_SETTING);
        let grave: Vec<_> = errors.iter().filter(|line| !is_harmless(line)).collect();
        let ignored =
            words.lines().find_map(|line| line.rsplit_once("errors ignored on restore: ").map(|(_, n)| n.trim()));
        let all_told = ignored.is_none_or(|n| n.parse() == Ok(errors.len()));
        if grave.is_empty() && all_told && (status.success() || !errors.is_empty()) {
            return Ok(());
        }
        // One line each, the first ones: what follows is often their consequence.
        let told: Vec<_> = grave.iter().take(8).map(|line| **line).collect();
        let told = if told.is_empty() { words.clone() } else { told.join("\n") };
        Err(failure::program_failed("pg_restore", &place, &told))
    }
}
