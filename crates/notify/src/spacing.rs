//! Who is told of an event, and how often. Pure logic: time is passed in.
//!
//! A trouble that stays is told at once, then after 1, 4 and every further 24 times `base` since it was last told. A
//! success of any kind ends failures, missed runs and staleness; drills and damage end with [`Spacing::over`].

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{Channel, Event, Notice};

/// What one notifier wants to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpacingOptions {
    /// The events.
    pub on: Vec<Event>,
    /// Failures are told from this one in a row on.
    pub after: u32,
    /// The pause before the first repeat; 1 h.
    pub base: Duration,
    /// Told every time, as a healthcheck must be: its silence is the alarm.
    pub every_time: bool,
}

impl Default for SpacingOptions {
    fn default() -> Self {
        Self { on: Event::DEFAULT.to_vec(), after: 1, base: Duration::from_secs(3600), every_time: false }
    }
}

impl SpacingOptions {
    /// The options of a channel: what stands under `on` (empty: the default ones) and `after`.
    pub fn for_channel(channel: &Channel, on: &[Event], after: Option<u32>) -> Self {
        let mut options = Self { every_time: channel.is_heartbeat(), after: after.unwrap_or(1), ..Self::default() };
        if !on.is_empty() {
            options.on = on.to_vec();
        }
        if options.every_time {
            // Without these the check would report the database as missing.
            options.on.extend([Event::Start, Event::Success, Event::Recovered]);
        }
        options
    }
}

/// What a notifier was told of each database; may be kept over a restart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Told(BTreeMap<String, ToldOfDatabase>);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct ToldOfDatabase(BTreeMap<Event, Repeats>);

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Repeats {
    times: u32,
    last: Timestamp,
}

impl Told {
    /// Takes back that this was told.
    pub fn forget(&mut self, database: &str, event: Event) {
        self.end(database, &[event]);
    }

    /// Whether any of these was told.
    fn end(&mut self, database: &str, events: &[Event]) -> bool {
        let Some(told) = self.0.get_mut(database) else { return false };
        let before = told.0.len();
        told.0.retain(|event, _| !events.contains(event));
        let ended = told.0.len() < before;
        if told.0.is_empty() {
            self.0.remove(database);
        }
        ended
    }
}

/// What a success of a backup ends.
const TROUBLES: [Event; 3] = [Event::Failure, Event::Missed, Event::Stale];

/// Decides for one notifier.
#[derive(Clone, Debug)]
pub struct Spacing {
    options: SpacingOptions,
    told: Told,
}

impl Spacing {
    /// A notifier that was told nothing yet.
    pub fn new(options: SpacingOptions) -> Self {
        Self::with_told(options, Told::default())
    }

    /// A notifier that was told before.
    pub fn with_told(options: SpacingOptions, told: Told) -> Self {
        Self { options, told }
    }

    /// What it was told, for keeping.
    pub fn told(&self) -> &Told {
        &self.told
    }

    /// Whether the notifier is to be told of this now; if so, it counts as told.
    pub fn decide(&mut self, notice: &Notice, now: Timestamp) -> bool {
        let (event, database) = (notice.event, notice.database.as_str());
        let wanted = self.options.on.contains(&event);
        match event {
            Event::Test => true,
            Event::Start => wanted && self.options.every_time,
            Event::Success | Event::Recovered => {
                let had_trouble = self.told.end(database, &TROUBLES);
                let as_success = self.options.every_time || self.options.on.contains(&Event::Success);
                as_success || (wanted && event == Event::Recovered && had_trouble)
            }
            Event::Failure if notice.consecutive_failures < self.options.after => false,
            Event::Failure | Event::Missed | Event::Stale | Event::DrillFailed | Event::Damage => {
                wanted && self.is_due(database, event, now)
            }
        }
    }

    /// Ends a trouble that no success of a backup ends: a drill succeeded, a verification found nothing. Answers whether it
    /// was told.
    pub fn over(&mut self, database: &str, event: Event) -> bool {
        self.told.end(database, &[event])
    }

    /// Whether it was told of a trouble that a success of a backup ends.
    pub fn is_in_trouble(&self, database: &str) -> bool {
        let told = self.told.0.get(database);
        told.is_some_and(|told| told.0.keys().any(|event| TROUBLES.contains(event)))
    }

    /// Whether the notifier wants to be told of such an event at all.
    pub fn wants(&self, event: Event) -> bool {
        self.options.on.contains(&event)
    }

    /// Forgets all but these databases.
    pub fn retain(&mut self, is_kept: impl Fn(&str) -> bool) {
        self.told.0.retain(|database, _| is_kept(database));
    }

    fn is_due(&mut self, database: &str, event: Event, now: Timestamp) -> bool {
        let told = &mut self.told.0.entry(database.to_owned()).or_default().0;
        let Some(repeats) = told.get_mut(&event) else {
            told.insert(event, Repeats { times: 1, last: now });
            return true;
        };
        if now < repeats.last {
            // The clock was put back: count from here, so that the pause does not grow by as much.
            repeats.last = now;
        }
        let factor = match repeats.times {
            0 | 1 => 1,
            2 => 4,
            _ => 24,
        };
        let pause = SignedDuration::try_from(self.options.base.saturating_mul(factor)).unwrap_or(SignedDuration::MAX);
        if !self.options.every_time && now.duration_since(repeats.last) < pause {
            return false;
        }
        *repeats = Repeats { times: repeats.times.saturating_add(1), last: now };
        true
    }
}

#[cfg(test)]
mod tests;
