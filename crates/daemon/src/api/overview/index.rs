//! What it takes to choose among all databases, in little memory and without looking anything up.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use copal::StatusProblemKind;
use jiff::Timestamp;

use super::{MOST_WORST, Order, OverviewQuery, Sort, SummaryView, Which, WorstView};
use crate::protection::Seen;
use crate::runner::DatabaseBrief;

/// All databases, by name.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: Vec<Entry>,
}

/// One database.
#[derive(Debug, Default)]
pub(super) struct Entry {
    name: Box<str>,
    /// The whole server that it is on.
    server: Option<Box<str>>,
    engine: Option<Box<str>>,
    /// What is searched: name, engine and source in lower case.
    words: Box<str>,
    protected: Option<bool>,
    /// Why it is not protected.
    problem: Option<(StatusProblemKind, Box<str>)>,
    /// A whole server, which is as its databases are.
    is_server: bool,
    is_running: bool,
    is_failing: bool,
    last_backup: Option<Timestamp>,
    last_verified: Option<Timestamp>,
    next: Option<Timestamp>,
    bytes: Option<u64>,
}

impl Entry {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn server(&self) -> Option<&str> {
        self.server.as_deref()
    }

    fn matches(&self, query: &OverviewQuery, words: Option<&str>) -> bool {
        let is_state = match query.state {
            Which::All => true,
            Which::Protected => self.protected == Some(true),
            Which::Unprotected => self.protected == Some(false),
            Which::Running => self.is_running,
            Which::Failing => self.is_failing,
        };
        is_state
            && query.engine.as_deref().is_none_or(|engine| self.engine.as_deref() == Some(engine))
            && words.is_none_or(|words| self.words.contains(words))
    }
}

impl Index {
    /// Puts together what the runner, the repository and the configuration know.
    pub(super) fn new(
        briefs: Vec<DatabaseBrief>,
        busy: &BTreeSet<String>,
        seen: &BTreeMap<String, Seen>,
        server: impl Fn(&str) -> Option<String>,
        engine: impl Fn(&str) -> Option<&'static str>,
    ) -> Self {
        let mut all: BTreeMap<&str, (Option<&DatabaseBrief>, Option<&Seen>)> = BTreeMap::new();
        for brief in &briefs {
            all.entry(&brief.name).or_default().0 = Some(brief);
        }
        for (name, seen) in seen {
            all.entry(name).or_default().1 = Some(seen);
        }
        let failing: BTreeSet<&str> =
            briefs.iter().filter(|brief| brief.failures > 0).map(|brief| brief.name.as_str()).collect();
        let entries = all.into_iter().map(|(name, (brief, seen))| {
            // What is configured itself is on no other server.
            let server = if brief.is_some() { None } else { server(name) };
            let runs_as = server.as_deref().unwrap_or(name);
            let (is_running, is_failing) = (busy.contains(name) || busy.contains(runs_as), failing.contains(runs_as));
            let status = seen.map(|seen| &seen.status);
            let engine = status.and_then(|status| status.engine.as_deref()).or_else(|| engine(name));
            let source = status.and_then(|status| status.source.as_deref()).unwrap_or_default();
            Entry {
                words: format!("{name}\n{}\n{source}", engine.unwrap_or_default()).to_lowercase().into(),
                name: name.into(),
                server: server.map(Into::into),
                engine: engine.map(Into::into),
                protected: status.map(|status| status.protected),
                problem: status.and_then(|status| {
                    let problem = status.problems.first()?;
                    Some((problem.kind, problem.message.as_str().into()))
                }),
                is_server: false,
                is_running,
                is_failing,
                last_backup: status.and_then(|status| Some(status.last_backup.as_ref()?.time)),
                last_verified: status.and_then(|status| Some(status.last_verified.as_ref()?.time)),
                next: brief.and_then(|brief| brief.next_backup).or(status.and_then(|status| status.next_run)),
                bytes: seen.and_then(|seen| seen.repository_bytes),
            }
        });
        let mut index = Self { entries: entries.collect() };
        index.judge_servers();
        index
    }

    /// The repository says nothing of a whole server, so it is as its databases are.
    fn judge_servers(&mut self) {
        let mut servers: BTreeMap<Box<str>, Entry> = BTreeMap::new();
        for member in self.entries.iter().filter(|entry| entry.server.is_some()) {
            let Some(name) = &member.server else { continue };
            let of = servers.entry(name.clone()).or_insert_with(|| Entry { protected: Some(true), ..Entry::default() });
            if member.protected == Some(false) && of.protected == Some(true) {
                of.protected = Some(false);
                let told = |(kind, problem): &(_, Box<str>)| (*kind, format!("{}: {problem}", member.name).into());
                of.problem = member.problem.as_ref().map(told);
            }
            of.last_backup = of.last_backup.max(member.last_backup);
            of.last_verified = of.last_verified.max(member.last_verified);
            of.bytes = member.bytes.map(|bytes| of.bytes.unwrap_or(0).saturating_add(bytes)).or(of.bytes);
        }
        for entry in self.entries.iter_mut().filter(|entry| entry.protected.is_none()) {
            let Some(of) = servers.remove(&entry.name) else { continue };
            let Entry { protected, problem, last_backup, last_verified, bytes, .. } = of;
            (entry.protected, entry.problem, entry.is_server) = (protected, problem, true);
            (entry.last_backup, entry.last_verified, entry.bytes) = (last_backup, last_verified, bytes);
        }
    }

    /// How a whole server does by its databases, and what is wrong with the first that is not protected; `None` for other databases.
    pub(super) fn of_server(&self, name: &str) -> Option<(bool, Option<(StatusProblemKind, &str)>)> {
        let at = self.entries.binary_search_by(|entry| (*entry.name).cmp(name)).ok()?;
        let entry = self.entries.get(at).filter(|entry| entry.is_server)?;
        Some((entry.protected?, entry.problem.as_ref().map(|(kind, problem)| (*kind, &**problem))))
    }

    /// Those that are asked for, in order.
    pub(super) fn select(&self, query: &OverviewQuery) -> Vec<&Entry> {
        let words = query.search.as_deref().map(str::to_lowercase);
        let mut found: Vec<&Entry> =
            self.entries.iter().filter(|entry| entry.matches(query, words.as_deref())).collect();
        let is_desc = query.order == Order::Desc;
        let turned = |order: Ordering| if is_desc { order.reverse() } else { order };
        // What is not known comes last either way; names are in order already, and stay so where nothing else decides.
        fn known<T: Ord>(a: Option<T>, b: Option<T>, turned: impl Fn(Ordering) -> Ordering) -> Ordering {
            match (a, b) {
                (Some(a), Some(b)) => turned(a.cmp(&b)),
                (a, b) => b.is_some().cmp(&a.is_some()),
            }
        }
        let rank = |entry: &Entry| match entry.protected {
            Some(false) => 0,
            None => 1,
            Some(true) => 2,
        };
        match query.sort {
            Sort::Name if is_desc => found.reverse(),
            Sort::Name => {}
            Sort::State => found.sort_by(|a, b| turned(rank(a).cmp(&rank(b)))),
            // The later, the younger.
            Sort::Age => found.sort_by(|a, b| known(a.last_backup, b.last_backup, |order| turned(order.reverse()))),
            Sort::Drill => {
                found.sort_by(|a, b| known(a.last_verified, b.last_verified, |order| turned(order.reverse())));
            }
            Sort::Size => found.sort_by(|a, b| known(a.bytes, b.bytes, turned)),
            Sort::Next => found.sort_by(|a, b| known(a.next, b.next, turned)),
        }
        found
    }

    /// About all of them; what the index does not know is empty.
    pub(super) fn summary(&self) -> SummaryView {
        let count = |state: Option<bool>| self.entries.iter().filter(|entry| entry.protected == state).count();
        SummaryView {
            databases: self.entries.len(),
            protected: count(Some(true)),
            not_protected: count(Some(false)),
            unknown: count(None),
            newest_backup: self.entries.iter().filter_map(|entry| entry.last_backup).max(),
            running: 0,
            repository_error: None,
            configuration_error: None,
        }
    }

    /// The first that are not protected, and why.
    pub(super) fn worst(&self) -> Vec<WorstView> {
        let worst = self.entries.iter().filter(|entry| entry.protected == Some(false)).take(MOST_WORST);
        let view = |entry: &Entry| WorstView {
            name: entry.name.clone().into(),
            message: entry.problem.as_ref().map(|(_, problem)| problem.to_string()).unwrap_or_default(),
        };
        worst.map(view).collect()
    }

    /// The engines of all of them.
    pub(super) fn engines(&self) -> Vec<String> {
        let engines: BTreeSet<&str> = self.entries.iter().filter_map(|entry| entry.engine.as_deref()).collect();
        engines.into_iter().map(str::to_owned).collect()
    }
}
