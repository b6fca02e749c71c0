//! Watches the files of databases with `on_change = true`: a change calls for a backup, and the planner's minimum interval folds
//! changes that follow each other.
//!
//! By polling: `stat` tells of writers on other hosts too, and works on every file system; inotify does neither. It needs no
//! watch for each file, nor care for files that are replaced. A look at 2,000 files takes some 10 ms.
//!
//! A change is told when two looks in a row have found it: by then the clock of the file system, which may be coarse, has gone
//! on, so whatever is written later shows. What goes on changing is told at each look. What a backup itself does to the files is
//! no change by the way stamps are made: an engine leaves a log with content alone, and an empty log is none. Only the
//! rollback of a transaction that a crash has left in a journal shows; it calls for one more backup, which has none to do.
//!
//! At the start, after a reload, and when a file comes back, the newest backup that the runner knows tells what has changed. A
//! change whose backup has failed for good is told again after a while: without a schedule nobody else would.

mod stamp;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use crate::run::Ending;
use crate::runner::{Refused, Runner};
use stamp::{Look, Stamp};

/// A change that was told and whose backup has failed since is told again after this time.
const TELL_AGAIN: Duration = Duration::from_secs(3600);

/// The watch over files. Clones are for the same thread, which ends with the last of them.
#[derive(Clone, Debug)]
pub struct FileWatch {
    files: Sender<BTreeMap<String, PathBuf>>,
}

impl FileWatch {
    /// Looks at the files, by the names of their databases, at once and then again and again.
    ///
    /// On a thread of its own: a file system that does not answer holds up nobody else, not even the end of the process.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn start(files: BTreeMap<String, PathBuf>, runner: Runner, every: Duration) -> Self {
        let (sender, inbox) = channel();
        let watch = Watch::new(files, runner, Handle::current());
        let spawned = std::thread::Builder::new().name("copal-watch".into()).spawn(move || run(watch, &inbox, every));
        if let Err(error) = spawned {
            tracing::error!(%error, "files are not watched: there is no thread for it");
        }
        Self { files: sender }
    }

    /// Watches these files from now on.
    pub fn reload(&self, files: BTreeMap<String, PathBuf>) {
        if self.files.send(files).is_err() {
            tracing::debug!("the thread that watches files has ended");
        }
    }
}

fn run(mut watch: Watch, inbox: &Receiver<BTreeMap<String, PathBuf>>, every: Duration) {
    loop {
        if watch.look().is_err() {
            return;
        }
        match inbox.recv_timeout(every) {
            Ok(files) => watch.reload(files),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// What the thread owns.
struct Watch {
    files: BTreeMap<String, File>,
    runner: Runner,
    runtime: Handle,
    tell_again: Duration,
}

/// The daemon stops.
#[derive(Debug)]
struct Ended;

impl Watch {
    fn new(files: BTreeMap<String, PathBuf>, runner: Runner, runtime: Handle) -> Self {
        let mut watch = Self { files: BTreeMap::new(), runner, runtime, tell_again: TELL_AGAIN };
        watch.reload(files);
        watch
    }

    /// A reload may have mended what kept a backup from being made, so nothing that was told before counts.
    fn reload(&mut self, files: BTreeMap<String, PathBuf>) {
        self.files = files.into_iter().map(|(name, path)| (name, File::new(path))).collect();
    }

    /// One look at every file; answers how many changes were told.
    fn look(&mut self) -> Result<usize, Ended> {
        let mut told = 0;
        for (name, file) in &mut self.files {
            let Some(seen) = file.look(name, &self.runner, self.tell_again) else { continue };
            match self.runtime.block_on(self.runner.changed(name)) {
                Ok(()) => {
                    tracing::debug!(database = name, "its file has changed");
                    file.told(seen);
                    told += 1;
                }
                Err(Refused::Stopping) => return Err(Ended),
                // It went away with a reload.
                Err(_) => {}
            }
        }
        Ok(told)
    }
}

/// One watched file.
#[derive(Debug)]
struct File {
    path: PathBuf,
    found: Found,
    /// As it was when nothing was to be told, or all was told that there was.
    known: Option<Stamp>,
    /// As the last look found it, if that was a change.
    differs: Option<Stamp>,
    /// When a change was told last; none once it is in a backup.
    told: Option<Instant>,
}

/// What the last look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// There was none yet.
    Unknown,
    There,
    Away,
}

impl File {
    fn new(path: PathBuf) -> Self {
        Self { path, found: Found::Unknown, known: None, differs: None, told: None }
    }

    /// Looks at the file; answers with what it found if that is to be told.
    fn look(&mut self, database: &str, runner: &Runner, tell_again: Duration) -> Option<Stamp> {
        let look = Look::at(&self.path).unwrap_or_else(|error| {
            tracing::debug!(database, %error, "its file cannot be looked at");
            None
        });
        let before = self.found;
        let Some(look) = look else {
            if before != Found::Away {
                tracing::warn!(database, path = %self.path.display(), "its file is away: no change of it is seen");
            }
            (self.found, self.differs) = (Found::Away, None);
            return None;
        };
        if before != Found::There {
            // Nobody has looked for a while, or what was told then may have come to nothing. A database that the runner does not
            // know yet has its first look when it does.
            let newest = runner.database(database)?.backup.newest_success;
            let is_as_known = before == Found::Unknown || self.known.as_ref() == Some(&look.stamp);
            let is_backed_up = !look.is_later_than(newest.map(|run| run.started));
            self.known = (is_as_known && is_backed_up).then(|| look.stamp.clone());
            self.found = Found::There;
        }
        if self.known.as_ref() == Some(&look.stamp) {
            self.differs = None;
            return self.came_to_nothing(database, runner, tell_again).then_some(look.stamp);
        }
        match self.differs {
            Some(_) => Some(look.stamp),
            None => {
                self.differs = Some(look.stamp);
                None
            }
        }
    }

    /// What was found is told. What still moved is told again after the next look: more may have been written at the same time
    /// by the file system's clock.
    fn told(&mut self, seen: Stamp) {
        self.told = Some(Instant::now());
        if self.differs.as_ref() == Some(&seen) {
            (self.known, self.differs) = (Some(seen), None);
        } else if self.known.as_ref() != Some(&seen) {
            self.differs = Some(seen);
        }
    }

    /// Whether the backup for what was told has failed, and nobody tries any more.
    fn came_to_nothing(&mut self, database: &str, runner: &Runner, tell_again: Duration) -> bool {
        if self.told.is_none_or(|told| told.elapsed() < tell_again) {
            return false;
        }
        self.told = None;
        let newest = runner.database(database).and_then(|status| status.backup.newest);
        newest.and_then(|run| run.ending).is_some_and(Ending::is_failure)
    }
}
