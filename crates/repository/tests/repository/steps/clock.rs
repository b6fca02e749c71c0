//! Clocks that move only when a test says so.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use copal_storage::Clock;
use copal_storage::stepped::Scheduler;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::oneshot;
use tokio::task::Id;

/// One actor's clocks. Sleepers wait until the test moves the time and wakes them.
#[derive(Clone, Debug)]
pub struct VirtualClock {
    state: Arc<Mutex<State>>,
    scheduler: Scheduler,
    retries: bool,
}

#[derive(Debug)]
struct State {
    wall: Timestamp,
    now: Duration,
    sleepers: Vec<Sleeper>,
    has_ended: bool,
}

#[derive(Debug)]
struct Sleeper {
    until: Duration,
    task: Option<Id>,
    retries: bool,
    wake: oneshot::Sender<()>,
}

impl VirtualClock {
    pub fn new(wall: Timestamp, scheduler: &Scheduler) -> Self {
        let state = State { wall, now: Duration::from_secs(1000), sleepers: Vec::new(), has_ended: false };
        Self { state: Arc::new(Mutex::new(state)), scheduler: scheduler.clone(), retries: false }
    }

    /// The same clock for pauses between attempts, which are part of an operation whatever task makes them.
    pub fn for_retries(&self) -> Self {
        Self { retries: true, ..self.clone() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap();
        state.sleepers.retain(|sleeper| !sleeper.wake.is_closed());
        state
    }

    /// Time goes by; nobody wakes up yet.
    pub fn advance(&self, by: Duration) {
        let mut state = self.state();
        state.now += by;
        state.wall += by;
    }

    /// Somebody sets the time of day.
    pub fn jump(&self, by: SignedDuration) {
        self.state().wall += by;
    }

    /// Wakes those whose time has come.
    pub fn wake(&self) {
        let mut state = self.state();
        let now = state.now;
        let (due, later) = std::mem::take(&mut state.sleepers).into_iter().partition(|s| s.until <= now);
        state.sleepers = later;
        let due: Vec<Sleeper> = due;
        for sleeper in due {
            let _ = sleeper.wake.send(());
        }
    }

    /// Wakes everybody now and later, so that no thread waits for a process that is over.
    pub fn end(&self) {
        let mut state = self.state();
        state.has_ended = true;
        state.sleepers.clear();
    }

    /// How long the operation, whose task this is, still sleeps.
    pub fn sleeps(&self, main: Id) -> Option<Duration> {
        let state = self.state();
        let until = state.sleepers.iter().filter(|s| s.retries || s.task == Some(main)).map(|s| s.until).min()?;
        Some(until.saturating_sub(state.now))
    }
}

#[async_trait::async_trait]
impl Clock for VirtualClock {
    fn wall(&self) -> Timestamp {
        self.state().wall
    }

    fn monotonic(&self) -> Duration {
        self.state().now
    }

    fn boot(&self) -> Duration {
        self.state().now
    }

    async fn sleep(&self, duration: Duration) {
        let (wake, woken) = oneshot::channel();
        {
            let mut state = self.state();
            if state.has_ended {
                return;
            }
            let until = state.now + duration;
            state.sleepers.push(Sleeper { until, task: tokio::task::try_id(), retries: self.retries, wake });
        }
        self.scheduler.note_change();
        let _ = woken.await;
    }
}

/// A clock for whoever is alone: the operation's own sleeping takes no time, and what runs beside it never wakes up.
#[derive(Clone, Debug)]
pub struct LonelyClock {
    state: Arc<Mutex<(Timestamp, Duration)>>,
    main: Option<Id>,
}

impl LonelyClock {
    pub fn new(wall: Timestamp) -> Self {
        Self { state: Arc::new(Mutex::new((wall, Duration::from_secs(1000)))), main: tokio::task::try_id() }
    }

    pub fn advance(&self, by: Duration) {
        let mut state = self.state.lock().unwrap();
        state.0 += by;
        state.1 += by;
    }
}

#[async_trait::async_trait]
impl Clock for LonelyClock {
    fn wall(&self) -> Timestamp {
        self.state.lock().unwrap().0
    }

    fn monotonic(&self) -> Duration {
        self.state.lock().unwrap().1
    }

    fn boot(&self) -> Duration {
        self.monotonic()
    }

    async fn sleep(&self, duration: Duration) {
        if tokio::task::try_id() == self.main {
            self.advance(duration);
        } else {
            std::future::pending().await
        }
    }
}
