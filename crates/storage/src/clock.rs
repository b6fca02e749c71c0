//! The clocks that leases and retries go by, behind a trait so that tests can move them.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

/// Time as an operation sees it.
#[async_trait]
pub trait Clock: Debug + Send + Sync + 'static {
    /// The time of day; may jump in either direction.
    fn wall(&self) -> jiff::Timestamp;

    /// Time since some fixed moment; never goes back, and stands still while the machine sleeps.
    fn monotonic(&self) -> Duration;

    /// Time since the machine booted; never goes back, and goes on while the machine sleeps.
    fn boot(&self) -> Duration;

    /// Waits, by the monotonic clock.
    async fn sleep(&self, duration: Duration);
}

/// The clocks of this machine.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time begins now.
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Clock for SystemClock {
    fn wall(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }

    #[cfg(target_os = "linux")]
    fn boot(&self) -> Duration {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
    }

    #[cfg(not(target_os = "linux"))]
    fn boot(&self) -> Duration {
        self.monotonic()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// A moment on all clocks, to tell how much time went by at the most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    wall: jiff::Timestamp,
    monotonic: Duration,
    boot: Duration,
}

impl Moment {
    pub(crate) fn now(clock: &dyn Clock) -> Self {
        Self { wall: clock.wall(), monotonic: clock.monotonic(), boot: clock.boot() }
    }

    /// The time since then by the clock that shows the most, as a sleeping machine stops some of them.
    pub(crate) fn elapsed(&self, clock: &dyn Clock) -> Duration {
        let by_wall = Duration::try_from(clock.wall().duration_since(self.wall)).unwrap_or_default();
        let by_monotonic = clock.monotonic().saturating_sub(self.monotonic);
        by_wall.max(by_monotonic).max(clock.boot().saturating_sub(self.boot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_longest_clock_counts() {
        let clock = SystemClock::new();
        let begin = Moment::now(&clock);
        clock.sleep(Duration::from_secs(7)).await;
        assert!(begin.elapsed(&clock) >= Duration::from_secs(7));
        assert!(clock.boot() > Duration::ZERO);
    }
}
