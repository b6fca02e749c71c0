//! How the newest backup runs of every database ended, in memory: who looks at all databases sees them all.
//!
//! A run takes 24 bytes. The history fills this after the start; what ends meanwhile finds its place by its number.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::run::{Ending, RunId, RunRecord, TaskKind};

/// Runs kept of each database.
pub(crate) const MOST: usize = 30;
/// A duration that is not known.
const UNKNOWN: u32 = u32::MAX;

/// One backup run that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct StripRun {
    /// Its number.
    pub(crate) run: RunId,
    /// Always `backup`.
    pub(crate) kind: TaskKind,
    /// How it ended.
    pub(crate) ending: Ending,
    /// When it started.
    pub(crate) started: Timestamp,
    /// How long it took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) duration_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Brief {
    run: i64,
    started: i64,
    duration_ms: u32,
    ending: Ending,
}

/// The newest backup runs by database. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Strips(Arc<Mutex<HashMap<String, VecDeque<Brief>>>>);

impl Strips {
    /// Adds a run if it is a backup that is over.
    pub(crate) fn hear(&self, record: &RunRecord) {
        if let (TaskKind::Backup, Some(ending)) = (record.kind, record.ending) {
            let RunRecord { id, started, duration_ms, .. } = *record;
            self.add(&record.database, [StripRun { run: id, kind: TaskKind::Backup, ending, started, duration_ms }]);
        }
    }

    /// Adds runs of one database, in any order.
    pub(crate) fn add(&self, database: &str, runs: impl IntoIterator<Item = StripRun>) {
        let mut strips = self.lock();
        let strip = match strips.get_mut(database) {
            Some(strip) => strip,
            None => strips.entry(database.to_owned()).or_default(),
        };
        for StripRun { run, ending, started, duration_ms, .. } in runs {
            let duration = duration_ms.map_or(UNKNOWN, |ms| u32::try_from(ms).unwrap_or(UNKNOWN - 1));
            let brief = Brief { run: run.0, started: started.as_millisecond(), duration_ms: duration, ending };
            match strip.binary_search_by_key(&run.0, |known| known.run) {
                Ok(at) => strip.get_mut(at).into_iter().for_each(|known| *known = brief),
                // Older than all that are kept.
                Err(0) if strip.len() == MOST => {}
                Err(at) => {
                    if strip.len() == MOST {
                        strip.pop_front();
                        strip.insert(at - 1, brief);
                    } else {
                        strip.insert(at, brief);
                    }
                }
            }
        }
    }

    /// The newest runs of a database, oldest first.
    pub(crate) fn of(&self, database: &str) -> Vec<StripRun> {
        let strips = self.lock();
        let shown = |brief: &Brief| StripRun {
            run: RunId(brief.run),
            kind: TaskKind::Backup,
            ending: brief.ending,
            started: Timestamp::from_millisecond(brief.started).unwrap_or_default(),
            duration_ms: (brief.duration_ms != UNKNOWN).then_some(brief.duration_ms.into()),
        };
        strips.get(database).map(|strip| strip.iter().map(shown).collect()).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, VecDeque<Brief>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(id: i64) -> StripRun {
        let started = Timestamp::from_millisecond(1_800_000_000_000 + id).unwrap();
        let duration_ms = (id % 3 > 0).then_some(id.unsigned_abs());
        StripRun { run: RunId(id), kind: TaskKind::Backup, ending: Ending::Success, started, duration_ms }
    }

    #[test]
    fn the_newest_runs_stay_in_order_whichever_came_first() {
        let strips = Strips::default();
        strips.add("shop", [run(100), run(99)]);
        strips.add("shop", (1..=98).rev().map(run));
        strips.add("other", [run(1)]);
        strips.add("shop", [StripRun { ending: Ending::Cancelled, ..run(80) }]);
        let mut expected: Vec<_> = (71..=100).map(run).collect();
        expected[9].ending = Ending::Cancelled;
        assert_eq!(strips.of("shop"), expected);
        assert_eq!((strips.of("other"), strips.of("nobody")), (vec![run(1)], vec![]));
    }

    #[test]
    fn a_late_one_finds_its_place_among_many() {
        let strips = Strips::default();
        strips.add("shop", (0..100).filter(|id| id % 2 == 0).map(run));
        strips.add("shop", [run(61)]);
        let ids: Vec<_> = strips.of("shop").iter().map(|run| run.run.0).collect();
        let expected: Vec<_> = (42..100).filter(|id| id % 2 == 0 || *id == 61).collect();
        assert_eq!(ids, expected);
    }

    #[test]
    fn only_backups_that_are_over_are_heard() {
        let strips = Strips::default();
        let mut record = RunRecord::start(RunId(1), "shop", TaskKind::Backup, Timestamp::now());
        strips.hear(&record);
        record.ending = Some(Ending::PermanentFailure);
        strips.hear(&RunRecord { kind: TaskKind::Drill, ..record.clone() });
        assert_eq!(strips.of("shop"), []);
        strips.hear(&record);
        assert_eq!(strips.of("shop")[0].ending, Ending::PermanentFailure);
    }
}
