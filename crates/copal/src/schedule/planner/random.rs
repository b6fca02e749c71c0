//! Random lives of a planner beside a slow model of what it owes to each database.

use jiff::tz::TimeZone;

use super::super::{Past, Retries, Schedule};
use super::*;

const NAMES: [&str; 12] = ["ada", "bob", "cleo", "dora", "emil", "fritz", "gina", "hugo", "iris", "jan", "kira", "leo"];
const LIMIT: usize = 3;
const KINDS: [RunKind; 2] = [RunKind::Backup, RunKind::Drill];

/// SplitMix64: small, and the same sequence for ever.
struct Random(u64);

impl Random {
    fn number(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }

    fn pick<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.number(choices.len() as u64)).unwrap()].clone()
    }

    fn seconds(&mut self, below: u64) -> Duration {
        Duration::from_millis(self.number(below * 1000))
    }

    fn policy(&mut self) -> Policy {
        let mut schedule = |choices: &[&str]| match self.pick(choices) {
            "" => None,
            text => Some(Schedule::parse(text).unwrap()),
        };
        Policy {
            schedule: schedule(&["", "*/5 * * * *", "@hourly", "30 2 * * *", "every 7m", "@daily", "0 9-17 * * *"]),
            drill: schedule(&["", "", "@daily", "every 3h"]),
            zone: TimeZone::get(self.pick(&["UTC", "Europe/Berlin"])).unwrap(),
            jitter: Duration::from_secs(self.pick(&[0, 0, 180, 7200])),
            min_interval: Duration::from_secs(self.pick(&[0, 300, 3600])),
            retries: Retries {
                most: self.pick(&[0, 3, 10]),
                first: Duration::from_secs(self.pick(&[5, 60])),
                cap: Duration::from_secs(600),
            },
            ..Policy::default()
        }
    }
}

/// What is owed to one kind of runs of one database.
#[derive(Default)]
struct Debt {
    /// The next regular start, by the schedule alone.
    due: Option<Timestamp>,
    requested: bool,
    changed: Option<Timestamp>,
    failed: bool,
    last_start: Option<Timestamp>,
    starts: usize,
}

struct World {
    random: Random,
    planner: Planner,
    now: Timestamp,
    policies: BTreeMap<String, Policy>,
    debts: BTreeMap<(String, RunKind), Debt>,
    /// Runs under way, with when they end.
    running: BTreeMap<String, (RunKind, Timestamp)>,
    wake_at: Option<Timestamp>,
}

fn schedule(policy: &Policy, kind: RunKind) -> Option<&Schedule> {
    if kind == RunKind::Backup { policy.schedule.as_ref() } else { policy.drill.as_ref() }
}

/// The regular start of the first occurrence after `time`.
fn due_after(name: &str, policy: &Policy, kind: RunKind, time: Timestamp) -> Option<Timestamp> {
    let schedule = schedule(policy, kind)?;
    Some(schedule.spread(name, schedule.next_after(time, &policy.zone)?, &policy.zone, policy.jitter))
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            random: Random(seed),
            planner: Planner::new(LIMIT),
            now: "2024-03-30T20:00:00Z".parse().unwrap(),
            policies: BTreeMap::new(),
            debts: BTreeMap::new(),
            running: BTreeMap::new(),
            wake_at: None,
        };
        for name in NAMES {
            world.add(name);
        }
        world.reload();
        world
    }

    fn add(&mut self, name: &str) {
        let policy = self.random.policy();
        for kind in KINDS {
            let debt = Debt { due: due_after(name, &policy, kind, self.now), ..Debt::default() };
            self.debts.insert((name.to_owned(), kind), debt);
        }
        self.policies.insert(name.to_owned(), policy);
    }

    fn reload(&mut self) {
        let databases = self.policies.iter().map(|(name, policy)| (name.clone(), (policy.clone(), History::default())));
        self.planner.configure(databases.collect(), LIMIT, self.now);
    }

    fn debt(&mut self, name: &str, kind: RunKind) -> &mut Debt {
        self.debts.get_mut(&(name.to_owned(), kind)).unwrap()
    }

    /// Something happens, or nothing.
    fn act(&mut self) {
        let name = self.random.pick(&NAMES);
        let known = self.policies.contains_key(name);
        let now = self.now;
        match self.random.number(20) {
            0 | 1 => {
                assert_eq!(self.planner.changed(name, now), known);
                if known {
                    self.debt(name, RunKind::Backup).changed.get_or_insert(now);
                }
            }
            2 => {
                let kind = self.random.pick(&KINDS);
                assert_eq!(self.planner.request(name, kind, now), known);
                if known {
                    self.debt(name, kind).requested = true;
                }
            }
            3 if !self.running.contains_key(name) => {
                if known {
                    self.policies.remove(name);
                    self.debts.retain(|(other, _), _| other != name);
                } else {
                    self.add(name);
                }
                self.reload();
            }
            4 => self.reload(),
            _ => {}
        }
    }

    /// Ends the runs whose time has come.
    fn end_runs(&mut self) {
        let ended: Vec<_> =
            self.running.iter().filter(|(_, (_, end))| *end <= self.now).map(|(name, _)| name.clone()).collect();
        for name in ended {
            use RunOutcome::{Cancelled, PermanentFailure, Success, TransientFailure};
            let (kind, _) = self.running.remove(&name).unwrap();
            let outcome = self.random.pick(&[Success, Success, Success, TransientFailure, PermanentFailure, Cancelled]);
            self.debt(&name, kind).failed = outcome == TransientFailure;
            self.planner.ended(&name, outcome, self.now);
        }
    }

    /// Lets the planner decide and looks at every promise. `steady` means that no clock was set so far.
    fn tick(&mut self, steady: bool) {
        let now = self.now;
        let tick = self.planner.tick(now);
        for run in tick.runs {
            let (name, kind) = (run.database.to_string(), run.kind);
            assert!(!self.running.contains_key(&name), "two runs of {name}");
            let end = now + self.random.seconds(900);
            self.running.insert(name.clone(), (kind, end));
            let policy = self.policies[&name].clone();
            let debt = self.debt(&name, kind);
            if steady {
                let regular = debt.due.filter(|due| *due <= now);
                match run.reason {
                    RunReason::Requested => assert!(debt.requested),
                    RunReason::Scheduled => assert!(regular.is_some(), "{name} has run already"),
                    RunReason::Retry => assert!(debt.failed && regular.is_none()),
                    RunReason::Changed => {
                        assert!(debt.changed.is_some() && regular.is_none());
                        let distance = debt.last_start.map(|start| now.duration_since(start).unsigned_abs());
                        assert!(
                            distance.is_none_or(|distance| distance >= policy.min_interval),
                            "{name}: {distance:?}"
                        );
                    }
                    RunReason::CaughtUp => panic!("{name} was not asleep"),
                }
                if regular.is_some() {
                    debt.due = due_after(&name, &policy, kind, now);
                }
            }
            let starts = debt.starts + 1;
            *debt = Debt { due: debt.due, last_start: Some(now), starts, ..Debt::default() };
        }
        assert!(self.running.len() <= LIMIT);
        assert_eq!(self.planner.running(), self.running.len());
        assert!(tick.wake_at.is_none_or(|wake| wake > now));
        assert_eq!(tick.missed, [], "all want to be caught up");
        self.wake_at = tick.wake_at;
        if steady {
            self.nothing_is_lost();
        }
    }

    /// Whoever is owed a run has one, or all places are taken, or the planner will wake up for it.
    fn nothing_is_lost(&self) {
        for ((name, kind), debt) in &self.debts {
            let policy = &self.policies[name];
            if self.running.contains_key(name) || self.running.len() == LIMIT {
                continue;
            }
            let changed = debt
                .changed
                .map(|changed| debt.last_start.map_or(changed, |start| changed.max(start + policy.min_interval)));
            // After a transient failure, the retry covers the change; its backoff is at most the cap.
            let changed = changed.map(|due| if debt.failed { due.max(self.now + policy.retries.cap) } else { due });
            let due = [debt.due, changed, debt.requested.then_some(self.now)].into_iter().flatten().min();
            assert!(due.is_none_or(|due| due > self.now), "{name} waits for its {kind:?} without need");
            assert!(due.is_none_or(|due| self.wake_at.is_some_and(|wake| wake <= due)), "nobody wakes up for {name}");
        }
    }

    /// Goes to the next moment at which anything happens.
    fn pass_time(&mut self) {
        let ends = self.running.values().map(|(_, end)| *end);
        let some_time = self.now + self.random.seconds(600);
        self.now = ends.chain(self.wake_at).chain([some_time]).min().unwrap().max(self.now);
    }
}

#[test]
fn steady_clocks() {
    let mut starts = 0;
    for seed in 0..12 {
        let mut world = World::new(seed);
        for _ in 0..1500 {
            world.act();
            world.end_runs();
            world.tick(true);
            world.pass_time();
        }
        starts += world.debts.values().map(|debt| debt.starts).sum::<usize>();
    }
    assert!(starts > 2000, "only {starts} runs");
}

#[test]
fn clocks_that_jump() {
    for seed in 100..116 {
        let mut world = World::new(seed);
        for _ in 0..1000 {
            world.act();
            world.end_runs();
            world.tick(false);
            world.pass_time();
            if world.random.number(25) == 0 {
                let scale = world.random.pick(&[60, 3600, 86_400, 40 * 86_400]);
                let jump = Duration::from_secs(2) + world.random.seconds(scale);
                let before = world.now;
                world.now = if world.random.number(2) == 0 { before + jump } else { before - jump };
                // Runs go on by real time.
                for (_, end) in world.running.values_mut() {
                    *end = world.now + end.duration_since(before);
                }
            }
        }
        keeps_its_schedules(&mut world);
    }
}

/// Whatever the clock did, within two quiet days every schedule does what it says, but for one occurrence passed over.
fn keeps_its_schedules(world: &mut World) {
    let (start, end) = (world.now, world.now + Duration::from_secs(2 * 86_400));
    world.debts.values_mut().for_each(|debt| debt.starts = 0);
    while world.now < end {
        for (name, _) in std::mem::take(&mut world.running) {
            world.planner.ended(&name, RunOutcome::Success, world.now);
        }
        world.tick(false);
        let soon = world.now + Duration::from_secs(1);
        world.now = if world.running.is_empty() { world.wake_at.unwrap_or(end).max(soon) } else { soon };
    }
    for ((name, kind), debt) in &world.debts {
        let policy = &world.policies[name];
        let Some(schedule) = schedule(policy, *kind) else { continue };
        let times = || {
            std::iter::successors(schedule.next_after(start, &policy.zone), |at| schedule.next_after(*at, &policy.zone))
        };
        let least = times().take_while(|at| *at + policy.jitter + Duration::from_secs(3600) < end).count();
        let most = times().take_while(|at| *at < end).count();
        let starts = debt.starts;
        // One may be passed over; what was pending before, once for each reason, runs in addition.
        assert!(starts + 1 >= least && starts <= most + 3, "{name}: {starts} of {least} to {most} by {schedule}");
    }
}

/// Kills the daemon at random moments: what started before, and what succeeded, is all it remembers.
#[test]
fn restarts_lose_nothing_and_repeat_nothing() {
    for seed in 200..220 {
        let mut random = Random(seed);
        let daily = Schedule::parse(random.pick(&["@hourly", "*/30 * * * *", "15 2 * * *"])).unwrap();
        let policy = Policy {
            schedule: Some(daily.clone()),
            zone: TimeZone::get("Europe/Berlin").unwrap(),
            ..Policy::default()
        };
        let mut now: Timestamp = "2024-10-26T20:00:00Z".parse().unwrap();
        let mut past = Past { last_start: Some(now), last_success: Some(now) };
        for _ in 0..200 {
            let mut planner = Planner::new(1);
            let history = History { backup: past, drill: Past::default() };
            planner.configure(BTreeMap::from([("shop".to_owned(), (policy.clone(), history))]), 1, now);
            let killed_at = now + random.seconds(7200);
            let mut run_ends = None;
            loop {
                let tick = planner.tick(now);
                let owed = past.last_start > past.last_success
                    || daily.next_after(past.last_start.unwrap(), &policy.zone).unwrap() <= now;
                assert_eq!(!tick.runs.is_empty(), owed && run_ends.is_none(), "at {now} after {past:?}");
                if !tick.runs.is_empty() {
                    past.last_start = Some(now);
                    run_ends = Some(now + random.seconds(600));
                }
                let next = run_ends.or(tick.wake_at).unwrap();
                if next > killed_at {
                    now = killed_at + random.seconds(3600);
                    break;
                }
                now = next;
                if run_ends.take().is_some() {
                    planner.ended("shop", RunOutcome::Success, now);
                    past.last_success = past.last_start;
                }
            }
        }
    }
}
