//! When a manager saves next: pure, so that it can be tried against any clock.

use std::time::Duration;

use tokio::time::Instant;

/// The pace of one manager.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// From one regular backup to the next.
    pub(super) interval: Duration,
    /// A change is saved no earlier than this after what was saved before it.
    pub(super) min_interval: Duration,
    /// When the newest backup was begun; `None`: there was none yet.
    pub(super) begun: Option<Instant>,
    /// Whether it failed: then the next try waits for the interval, however much changes meanwhile.
    pub(super) failed: bool,
}

impl Pace {
    /// When the next backup is due; it may be overdue.
    pub(super) fn due(&self, changed: bool, now: Instant) -> Instant {
        let Some(begun) = self.begun else { return now };
        let wait = match changed && !self.failed {
            true => self.min_interval.min(self.interval),
            false => self.interval,
        };
        // What lies beyond the clock's end never comes.
        begun.checked_add(wait).unwrap_or_else(|| now + Duration::from_secs(365 * 86_400))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(failed: bool) -> (Pace, Instant) {
        let begun = Instant::now();
        let (interval, min_interval) = (Duration::from_secs(300), Duration::from_secs(5));
        (Pace { interval, min_interval, begun: Some(begun), failed }, begun)
    }

    #[test]
    fn the_first_backup_comes_at_once() {
        let (pace, now) = pace(false);
        assert_eq!(Pace { begun: None, ..pace }.due(false, now), now);
        assert_eq!(Pace { begun: None, failed: true, ..pace }.due(true, now), now);
    }

    #[test]
    fn a_change_waits_for_the_minimum_interval_only() {
        let (pace, begun) = pace(false);
        for seconds in [0, 3, 100] {
            let now = begun + Duration::from_secs(seconds);
            assert_eq!(pace.due(false, now), begun + Duration::from_secs(300));
            assert_eq!(pace.due(true, now), begun + Duration::from_secs(5));
        }
        let odd = Pace { min_interval: Duration::from_secs(1000), ..pace };
        assert_eq!(odd.due(true, begun), begun + Duration::from_secs(300), "the interval is the longest wait");
    }

    #[test]
    fn a_failure_is_not_repeated_before_the_interval() {
        let (pace, begun) = pace(true);
        assert_eq!(pace.due(true, begun + Duration::from_secs(60)), begun + Duration::from_secs(300));
    }

    #[test]
    fn an_endless_interval_is_no_mistake() {
        let (pace, begun) = pace(false);
        let endless = Pace { interval: Duration::MAX, ..pace };
        assert!(endless.due(false, begun) > begun + Duration::from_secs(86_400));
    }
}
