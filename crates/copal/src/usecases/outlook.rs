//! Why backups stay, and until when, as far as the configuration tells; what databases of a kind can do.

use std::collections::BTreeMap;

use copal_core::{BackupId, Candidate, Decision, Expected, KeptUntil, Reason, Source, decide, kept_until};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Copal;
use crate::schedule::Schedule;
use crate::{Abilities, BackupSummary, DatabaseSettings, Outlook};

/// Backups and drills that are looked ahead at most.
const AHEAD: usize = 3_000;

impl Copal {
    /// The settings that the database of this name goes by: its own, or those of the server that it is on. Looks at no file.
    pub fn settings_of(&self, name: &str) -> Option<&DatabaseSettings> {
        self.settings.databases.get(name).or_else(|| self.parent(name).map(|(server, _)| server))
    }

    /// The time zone of a database's schedule.
    pub fn zone_of(&self, database: &str) -> &TimeZone {
        let own = self.settings_of(database).and_then(|settings| settings.timezone.as_ref());
        own.unwrap_or(&self.settings.timezone)
    }

    /// What databases of an engine can do; `None` for an engine that this program does not have.
    pub fn abilities(&self, engine: &str) -> Option<Abilities> {
        let engine = self.engines.named(engine).ok()?;
        let can = engine.capabilities();
        Some(Abilities {
            drill: can.restore,
            snapshots: engine.snapshots().is_some(),
            journal: engine.journal().is_some(),
            objects: can.objects,
        })
    }

    /// The engine of a configured database, if its URL says so.
    pub fn configured_engine(&self, database: &str) -> Option<&'static str> {
        let source = Source::parse(&self.settings_of(database)?.url).ok()?;
        // Of a path without a scheme the file would have to be read.
        source.scheme()?;
        self.engines.of(&source).ok().map(|engine| engine.name())
    }

    /// Tells why each backup of a database stays, and until when if its schedule goes on and its drills find it sound.
    ///
    /// Of a database that is not configured here the rules are not known, so nothing ends.
    pub fn outlook(&self, database: &str, backups: &[BackupSummary], now: Timestamp) -> BTreeMap<BackupId, Outlook> {
        let candidate = |backup: &BackupSummary| Candidate {
            id: backup.id.clone(),
            time: backup.time,
            pinned: backup.pinned,
            verified: backup.verified,
        };
        let candidates: Vec<_> = backups.iter().map(candidate).collect();
        let Some(settings) = self.settings_of(database) else {
            return candidates
                .into_iter()
                .map(|candidate| (candidate.id, Outlook::unknown(candidate.pinned)))
                .collect();
        };
        let (keep, zone) = (&settings.keep, &self.settings.timezone);
        let needs_future = keep.has_rules() && !candidates.is_empty();
        let (backups, drills) = match needs_future {
            true => self.expected(database, settings, now),
            false => Default::default(),
        };
        let until = kept_until(&candidates, keep, zone, Expected { backups: &backups, drills: &drills });
        // With a clock in doubt nothing is refused: no rule stops wanting a backup by it.
        let reasons = decide(&candidates, keep, zone, true).unwrap_or_default();
        let of_one = |(decision, (id, until)): (Decision, _)| (id, Outlook { reasons: decision.reasons, until });
        reasons.into_iter().zip(until).map(of_one).collect()
    }

    /// When regular backups and drills start from now on.
    fn expected(
        &self,
        database: &str,
        settings: &DatabaseSettings,
        now: Timestamp,
    ) -> (Vec<Timestamp>, Vec<Timestamp>) {
        let zone = self.zone_of(database);
        let name = self.server_of(database).map_or(database, |(server, _)| server);
        let times = |text: &Option<String>, until: Timestamp| -> Vec<Timestamp> {
            let Some(schedule) = text.as_deref().and_then(|text| Schedule::parse(text).ok()) else { return Vec::new() };
            let occurrences =
                std::iter::successors(schedule.next_after(now, zone), |at| schedule.next_after(*at, zone));
            let all = occurrences.take(AHEAD).map(|at| schedule.spread(name, at, zone, settings.jitter));
            all.take_while(|at| *at <= until).collect()
        };
        let backups = times(&settings.schedule, Timestamp::MAX);
        let drills = backups.last().map(|last| times(&settings.drill, *last)).unwrap_or_default();
        (backups, drills)
    }
}

impl Outlook {
    /// Where the rules are not known.
    fn unknown(pinned: bool) -> Self {
        match pinned {
            true => Self { reasons: vec![Reason::Pinned], until: KeptUntil::ForEver },
            false => Self { reasons: Vec::new(), until: KeptUntil::Unknown },
        }
    }
}

#[cfg(test)]
mod tests;
