//! A consistent copy of a live database: rounds of reading, until one of them is sealed.
//!
//! The first round hands blocks to the sink as it reads them, at the sink's pace, and goes on if it is lost: most blocks
//! will be as they were. Each further round reads everything again, at the pace of memory, and gives what has changed. A
//! database that gives no round the time it needs is cloned, where the file system can, or refused with advice. What
//! cannot be followed (encrypted, unknown, left behind in a checkpoint) is copied while it stands still: see `still`.

mod blocks;
mod clone;
mod observer;
mod round;
mod still;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use copal_core::{AnyError, Capture, Context, EngineError, EngineErrorKind, EngineResult, Sink};

use crate::LOG;
use crate::format::header::HeaderProblem;
use crate::format::log::LogProblem;
use crate::inventory;
use crate::owner::Owner;
use crate::place::Place;
use blocks::{Blocks, Read};
use observer::{Moment, Observer, Stamp, Trouble};
use round::Round;

/// How long the thread that looks rests between two looks. Missing a header ends a round.
const LOOK_PAUSE: Duration = Duration::from_millis(1);
/// The same while nothing happens.
const QUIET_LOOK_PAUSE: Duration = Duration::from_millis(4);
/// A database in an interrupted checkpoint that nothing was written to for so long is copied as it is.
const IDLE: Duration = Duration::from_secs(2);
/// What a deadline allows for reading, in bytes a second.
const READ_RATE: u64 = 100_000_000;

/// What an attempt came to.
enum Outcome {
    Captured(Capture),
    /// Nothing: another file has the name now, or what stood still has moved. To be tried anew.
    Again,
}

/// What came of waiting for a settled moment.
enum Begun {
    /// A round.
    Round(Arc<Round>),
    /// None, and time is up.
    Late,
    /// None, and nothing moves: a checkpoint was interrupted.
    Idle,
}

/// Pushes the database into `sink`.
pub(crate) fn capture(
    place: &Place,
    deadline: Duration,
    sink: &mut dyn Sink,
    context: &Context,
) -> EngineResult<Capture> {
    let limit = deadline + Duration::from_secs(place.bytes / READ_RATE);
    let mut place = place.clone();
    let begun = Instant::now();
    loop {
        match attempt(&place, limit, sink, context)? {
            Outcome::Captured(capture) => return Ok(capture),
            Outcome::Again if begun.elapsed() < limit => place = place.again()?,
            Outcome::Again => break,
        }
    }
    let message = format!("{} was replaced again and again while it was read", place.path.display());
    Err(EngineError::new(EngineErrorKind::Busy, message).hint("try again when it is quieter"))
}

/// Makes `main`, where nothing is, a settled clone of the database, with its log beside it; `false`: that cannot be had here, or
/// the database is one that only a copy of what stands still can be made of.
pub(crate) fn clone_to(place: &Place, deadline: Duration, main: &Path, context: &Context) -> EngineResult<bool> {
    if inventory::headers(place)?.is_err() {
        return Ok(false);
    }
    let observer = match Observer::open(place) {
        Ok(observer) => observer,
        Err(trouble) => return trouble_in(place, trouble).map(|_| false),
    };
    let live = Live { place, context, observer: Mutex::new(observer), trouble: Mutex::new(None), limit: deadline };
    live.watched(|| clone::make(&live, main))
}

fn attempt(place: &Place, limit: Duration, sink: &mut dyn Sink, context: &Context) -> EngineResult<Outcome> {
    context.phase("reading", Some(place.bytes));
    let headers = match inventory::headers(place)? {
        Ok(headers) => headers,
        Err(problem @ (HeaderProblem::Encrypted(_) | HeaderProblem::Unknown(_))) => {
            return still::capture(place, Some(problem), limit, sink, context);
        }
        Err(problem) => return Err(inventory::unreadable(&place.path, &problem)),
    };
    let observer = match Observer::open(place) {
        Ok(observer) => observer,
        Err(trouble) => return trouble_in(place, trouble),
    };
    let blocks = Blocks::begin(sink, headers.active.block_bytes, context)?;
    let live = Live { place, context, observer: Mutex::new(observer), trouble: Mutex::new(None), limit };
    live.watched(|| {
        // Only now: a new thread inherits the priority, and the one that looks must not be late.
        yield_to_others();
        live.run(blocks)
    })
}

/// Lets everybody else go first, above all the program whose database this is; costs nothing on an idle machine.
fn yield_to_others() {
    const NICE: i32 = 10;
    // On Linux a thread has a priority of its own; elsewhere this would concern the whole process.
    #[cfg(target_os = "linux")]
    if rustix::process::getpriority_process(None).is_ok_and(|nice| nice < NICE) {
        let _ = rustix::process::setpriority_process(None, NICE);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = NICE;
}

/// A live database being captured.
struct Live<'a> {
    place: &'a Place,
    context: &'a Context,
    observer: Mutex<Observer>,
    trouble: Mutex<Option<Trouble>>,
    limit: Duration,
}

impl Live<'_> {
    fn observer(&self) -> MutexGuard<'_, Observer> {
        self.observer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `work` while another thread looks.
    fn watched<T>(&self, work: impl FnOnce() -> T) -> T {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // Before anything is read: a pause for making a thread is long enough to miss a header.
            scope.spawn(|| self.watch(&done));
            let outcome = work();
            done.store(true, Ordering::SeqCst);
            outcome
        })
    }

    /// Looks until it is done.
    fn watch(&self, done: &AtomicBool) {
        let mut met = (0, Instant::now());
        while !done.load(Ordering::SeqCst) {
            let mut observer = self.observer();
            if let Err(trouble) = observer.look() {
                observer.give_up();
                drop(observer);
                *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble);
                return;
            }
            if observer.met != met.0 {
                met = (observer.met, Instant::now());
            }
            drop(observer);
            let is_quiet = met.1.elapsed() > Duration::from_secs(1);
            std::thread::sleep(if is_quiet { QUIET_LOOK_PAUSE } else { LOOK_PAUSE });
        }
    }

    /// Round after round.
    fn run(&self, mut blocks: Blocks<'_>) -> EngineResult<Outcome> {
        let mut late = None;
        let mut rounds = 0;
        loop {
            let round = match self.begin_round(late)? {
                Begun::Round(round) => round,
                Begun::Late => return clone::capture(self, blocks, rounds),
                Begun::Idle => {
                    let sink = blocks.withdraw()?;
                    return still::capture(self.place, None, self.limit, sink, self.context);
                }
            };
            if round.headers.active.block_bytes as usize != blocks.block_bytes() {
                return blocks.withdraw().map(|_| Outcome::Again);
            }
            let is_first = rounds == 0;
            rounds += 1;
            let read = self.read(&round, &mut blocks, is_first)?;
            // Time counts from here: how long the first round takes is the sink's affair.
            let late = *late.get_or_insert_with(|| Instant::now() + self.limit);
            self.wait_for_seal(&round, late)?;
            self.observer().attend(None);
            if let Some(trouble) = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take() {
                blocks.withdraw()?;
                return trouble_in(self.place, trouble);
            }
            if let (true, Some(unsound)) = (round.is_complete(), read) {
                tracing::debug!(rounds, "sealed");
                return self.finish(&round, blocks, unsound, Vec::new());
            }
            if Instant::now() >= late {
                return clone::capture(self, blocks, rounds);
            }
        }
    }

    /// Begins a round as soon as the database is in a settled moment.
    fn begin_round(&self, late: Option<Instant>) -> EngineResult<Begun> {
        let late = late.unwrap_or_else(|| Instant::now() + self.limit.max(2 * IDLE));
        let owner = Owner::of(self.observer().main_id);
        let may_map = owner.may_map(self.observer().main_id);
        let mut still: Option<(Stamps, Instant)> = None;
        loop {
            self.context.cancel.check()?;
            let mut observer = self.observer();
            let looked = observer.look();
            if let Ok(Moment::Settled) = looked {
                let round = Round::begin(&observer, may_map).map_err(|e| self.read_failed(e))?.map(Arc::new);
                if let Some(round) = round {
                    observer.attend(Some(Arc::clone(&round)));
                    return Ok(Begun::Round(round));
                }
            }
            drop(observer);
            if let Err(trouble) = looked {
                return Err(self.failed(trouble));
            }
            let stamps = Stamps::of(self.place);
            match &still {
                Some((before, since)) if *before == stamps => {
                    let enough = if owner == Owner::None { 20 * LOOK_PAUSE } else { IDLE };
                    if since.elapsed() > enough {
                        return Ok(Begun::Idle);
                    }
                }
                _ => still = Some((stamps, Instant::now())),
            }
            if Instant::now() >= late {
                return Ok(Begun::Late);
            }
            std::thread::sleep(LOOK_PAUSE);
        }
    }

    /// Reads the round's blocks and gives them to the sink; the number of unsound ones, none if the round is lost.
    fn read(&self, round: &Round, blocks: &mut Blocks<'_>, is_first: bool) -> EngineResult<Option<u64>> {
        let main = Arc::clone(&self.observer().main);
        let mut order = VecDeque::from(round.take_order());
        let (mut done, mut unsound) = (0, 0);
        blocks.forget_suspects();
        while let Some(block) = order.pop_front() {
            self.context.cancel.check()?;
            if !round.is_lost() {
                match blocks.read(&main, &round.headers, block).map_err(|e| self.read_failed(e))? {
                    Read::Sound => {}
                    Read::Unsound => unsound += 1,
                    Read::Torn => {
                        round.put_off(block);
                        order.push_back(block);
                        done += 1;
                        round.note_read(done);
                        continue;
                    }
                    Read::Moving => round.lose(),
                }
                done += 1;
                round.note_read(done);
            } else if is_first {
                // Most of what is read now will be as it is in the round that succeeds.
                blocks.fill(&main, &round.headers, block).map_err(|e| self.read_failed(e))?;
            } else {
                return Ok(None);
            }
            blocks.give(block, is_first)?;
        }
        blocks.release()?;
        Ok(Some(unsound).filter(|_| !round.is_lost()))
    }

    /// Waits until all of the round is sealed, or lost.
    fn wait_for_seal(&self, round: &Round, late: Instant) -> EngineResult<()> {
        let begun = Instant::now();
        while !round.is_complete() && !round.is_lost() {
            self.context.cancel.check()?;
            if Instant::now() >= late || begun.elapsed() > IDLE {
                round.lose();
            }
            std::thread::sleep(LOOK_PAUSE / 4);
        }
        Ok(())
    }

    /// Whether the database is still that of the round, and its log begins as it did.
    fn holds(&self, round: &Round) -> EngineResult<bool> {
        let is_same = self.place.again().is_ok_and(|again| again.is_same_as(self.place));
        // A log that did not only grow: nobody who follows DuckDB's rules does that.
        Ok(is_same
            && self.observer().is_in_place().map_err(|e| self.read_failed(e))?
            && round.log.as_ref().is_none_or(blocks::is_still_there))
    }

    /// Ends the files of a complete round.
    fn finish(&self, round: &Round, blocks: Blocks<'_>, unsound: u64, notes: Vec<String>) -> EngineResult<Outcome> {
        if !self.holds(round)? {
            return blocks.withdraw().map(|_| Outcome::Again);
        }
        let suspects = unsound + round.missing;
        if suspects > 0 {
            self.context.warn(format!(
                "{suspects} blocks of {} have wrong checksums or are missing: it may be damaged. Look with \
                 `copal verify --drill`, or export it with DuckDB",
                self.place.path.display()
            ));
        }
        let sink = blocks.finish(&round.headers, round.end)?;
        let (mut transactions, mut length) = (0, 0);
        if let Some(log) = &round.log {
            blocks::give_prefix(sink, LOG, &log.file, log.state.committed, self.context)?;
            (transactions, length) = (log.state.transactions, log.state.committed);
        }
        Ok(Outcome::Captured(Capture {
            engine_version: inventory::version(&round.headers.main, &round.headers.storage_version()),
            inventory: inventory::of(&round.headers, &round.list, transactions),
            position: Some(format!("checkpoint={};wal={length}", round.headers.active.iteration)),
            notes,
        }))
    }

    fn read_failed(&self, error: io::Error) -> EngineError {
        read_failed(&self.place.path.display().to_string(), error)
    }

    fn failed(&self, trouble: Trouble) -> EngineError {
        match trouble_in(self.place, trouble) {
            Err(error) => error,
            Ok(_) => EngineError::new(EngineErrorKind::Busy, format!("{} was replaced", self.place.path.display())),
        }
    }
}

/// What `stat` says about all files of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamps([Option<Stamp>; 3]);

impl Stamps {
    fn of(place: &Place) -> Self {
        let suffixes = ["", LOG, crate::CHECKPOINT_LOG];
        Self(suffixes.map(|suffix| {
            let path = if suffix.is_empty() { place.path.clone() } else { place.beside(suffix) };
            Stamp::at(&path).ok()
        }))
    }

    /// Whether the main file's is old enough to be evidence; unless logs may grow, theirs, too.
    fn are_settled(&self, logs_may_grow: bool) -> bool {
        let count = if logs_may_grow { 1 } else { 3 };
        self.0.iter().take(count).flatten().all(Stamp::is_settled)
    }

    /// Whether nothing was written since, except behind the logs' ends if they may grow.
    fn still_hold(&self, now: &Self, logs_may_grow: bool) -> bool {
        let [main, logs @ ..] = &self.0;
        let [main_now, logs_now @ ..] = &now.0;
        let has_grown = |(before, now): (&Option<Stamp>, &Option<Stamp>)| match (before, now) {
            (Some(before), Some(now)) => before.may_have_grown_to(now),
            (None, None) => true,
            _ => false,
        };
        match logs_may_grow {
            true => main == main_now && logs.iter().zip(logs_now).all(has_grown),
            false => self == now,
        }
    }
}

/// What trouble means for the user.
fn trouble_in(place: &Place, trouble: Trouble) -> EngineResult<Outcome> {
    let path = place.path.display();
    Err(match trouble {
        Trouble::Replaced => return Ok(Outcome::Again),
        Trouble::Header(problem) => inventory::unreadable(&place.path, &problem),
        Trouble::Log(LogProblem::Io(error)) => read_failed(&place.log().display().to_string(), error),
        Trouble::Log(problem @ LogProblem::Damaged(_)) => EngineError::new(
            EngineErrorKind::Corrupt,
            format!("the log of {path} is damaged: {problem}"),
        )
        .hint("DuckDB itself would not open this database once it is closed; CHECKPOINT or export it while it is open"),
        Trouble::Log(problem @ LogProblem::Unknown(_)) => {
            EngineError::new(EngineErrorKind::Unsupported, format!("the log of {path} cannot be followed: {problem}"))
                .hint("run CHECKPOINT in the application, or close it, and try again")
        }
        Trouble::Io(error) => read_failed(&path.to_string(), error),
    })
}

/// The error for a file that cannot be read.
fn read_failed(what: &str, error: io::Error) -> EngineError {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => EngineErrorKind::NotFound,
        io::ErrorKind::PermissionDenied => EngineErrorKind::PermissionDenied,
        _ => EngineErrorKind::Other,
    };
    EngineError::new(kind, format!("cannot read {what}")).because(error)
}

/// What a sink's refusal means: a cancelled repository says so in its own words.
fn refused_by_sink(error: AnyError, context: &Context) -> EngineError {
    match context.cancel.check() {
        Err(cancelled) => EngineError::from(cancelled).because(error),
        Ok(()) => EngineError::repository(error),
    }
}
