//! What is still to be sent. Pure logic: time is passed in, the caller sends.
//!
//! Each notifier has a queue of its own, so that one that hangs holds up nobody else. A queue has one notice under way
//! at a time and one newest notice for each database and matter; while its notifier fails, one notice is tried at a time
//! with growing pauses.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::{Event, Notice, NotifyError};

/// The limits of an outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxOptions {
    /// Notices kept for each notifier.
    pub max_waiting: usize,
    /// The pause after the first failure; doubled after each one that follows.
    pub first_pause: Duration,
    /// The longest pause.
    pub max_pause: Duration,
    /// How long a notice is tried.
    pub max_age: Duration,
}

impl Default for OutboxOptions {
    fn default() -> Self {
        Self {
            max_waiting: 100,
            first_pause: Duration::from_secs(15),
            max_pause: Duration::from_secs(3600),
            max_age: Duration::from_secs(24 * 3600),
        }
    }
}

/// Names one sending; given back when it is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    notifier: String,
    number: u64,
}

impl Ticket {
    /// The notifier whose notice it is.
    pub fn notifier(&self) -> &str {
        &self.notifier
    }
}

/// A notice to send now.
#[derive(Clone, Debug, PartialEq)]
pub struct Parcel {
    /// For [`Outbox::sent`] or [`Outbox::failed`].
    pub ticket: Ticket,
    /// The notifier.
    pub notifier: String,
    /// The notice.
    pub notice: Notice,
}

/// How a notifier does.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct NotifierStatus {
    /// When a notice was last delivered.
    pub last_sent: Option<Timestamp>,
    /// What the last attempt failed with; none if it succeeded.
    pub last_error: Option<String>,
    /// When that was.
    pub last_error_time: Option<Timestamp>,
    /// Notices that wait or are under way.
    pub waiting: usize,
    /// No attempt before this.
    pub next_attempt: Option<Timestamp>,
    /// Notices that were never delivered: refused, too old or too many.
    pub lost: u64,
}

/// Notices on their way to all notifiers.
#[derive(Clone, Debug, Default)]
pub struct Outbox {
    options: OutboxOptions,
    queues: BTreeMap<String, Queue>,
    last_number: u64,
}

#[derive(Clone, Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    under_way: Option<(u64, Waiting)>,
    failures: u32,
    not_before: Option<Timestamp>,
    status: NotifierStatus,
}

#[derive(Clone, Debug)]
struct Waiting {
    notice: Notice,
    since: Timestamp,
}

/// What a newer notice about the same database makes pointless.
#[derive(PartialEq, Eq)]
enum Matter {
    Backups,
    Drills,
    Damage,
    Trial,
}

impl Matter {
    fn of(event: Event) -> Self {
        match event {
            Event::Start | Event::Failure | Event::Recovered | Event::Success | Event::Missed | Event::Stale => {
                Self::Backups
            }
            Event::DrillFailed => Self::Drills,
            Event::Damage => Self::Damage,
            Event::Test => Self::Trial,
        }
    }
}

impl Waiting {
    fn is_replaced_by(&self, newer: &Notice) -> bool {
        self.notice.database == newer.database && Matter::of(self.notice.event) == Matter::of(newer.event)
    }

    fn is_older_than(&self, age: Duration, now: Timestamp) -> bool {
        now.duration_since(self.since) > signed(age)
    }
}

impl Outbox {
    /// An empty one.
    pub fn new(options: OutboxOptions) -> Self {
        Self { options, ..Self::default() }
    }

    /// Adds a notice for a notifier. An unsent one about the same database and matter gives way to it.
    pub fn push(&mut self, notifier: &str, notice: Notice, now: Timestamp) {
        let queue = self.queues.entry(notifier.to_owned()).or_default();
        queue.waiting.retain(|waiting| !waiting.is_replaced_by(&notice));
        queue.waiting.push_back(Waiting { notice, since: now });
        queue.keep(self.options.max_waiting);
    }

    /// What is to be sent now, at most one notice a notifier; each is under way until it is reported.
    pub fn due(&mut self, now: Timestamp) -> Vec<Parcel> {
        let mut due = Vec::new();
        for (notifier, queue) in &mut self.queues {
            queue.drop_older_than(self.options.max_age, now);
            if queue.under_way.is_some() || queue.pause(&self.options, now).is_some() {
                continue;
            }
            let Some(next) = queue.waiting.pop_front() else { continue };
            self.last_number += 1;
            let ticket = Ticket { notifier: notifier.clone(), number: self.last_number };
            due.push(Parcel { ticket, notifier: notifier.clone(), notice: next.notice.clone() });
            queue.under_way = Some((self.last_number, next));
        }
        due
    }

    /// A notice was delivered.
    pub fn sent(&mut self, ticket: &Ticket, now: Timestamp) {
        if let Some((queue, _)) = self.take(ticket) {
            (queue.failures, queue.not_before) = (0, None);
            queue.status.last_sent = Some(now);
            (queue.status.last_error, queue.status.last_error_time) = (None, None);
        }
    }

    /// A notice was not delivered: it waits for another attempt, or is given up.
    pub fn failed(&mut self, ticket: &Ticket, error: &NotifyError, now: Timestamp) {
        let options = self.options.clone();
        let Some((queue, waiting)) = self.take(ticket) else { return };
        queue.status.last_error = Some(error.to_string());
        queue.status.last_error_time = Some(now);
        if !error.is_retryable() {
            queue.status.lost += 1;
            return;
        }
        queue.failures = queue.failures.saturating_add(1);
        let doubled = options.first_pause.saturating_mul(1 << (queue.failures - 1).min(20));
        let pause = doubled.max(error.retry_after.unwrap_or_default()).min(options.max_pause);
        queue.not_before = now.checked_add(signed(pause)).ok();
        let is_superseded = queue.waiting.iter().any(|newer| waiting.is_replaced_by(&newer.notice));
        // A beginning that nobody heard of in time is of no use.
        if waiting.notice.event == Event::Start || is_superseded {
            return;
        }
        // To the end: one notice that the other side chokes on does not hold up the others.
        queue.waiting.push_back(waiting);
        queue.keep(options.max_waiting);
        queue.drop_older_than(options.max_age, now);
    }

    /// When [`Outbox::due`] has something next, unless something is pushed or reported before.
    pub fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        let idle = self.queues.values().filter(|queue| queue.under_way.is_none() && !queue.waiting.is_empty());
        idle.map(|queue| queue.pause(&self.options, now).unwrap_or(now)).min()
    }

    /// What a notifier was not sent yet.
    pub fn unsent(&self, notifier: &str) -> impl Iterator<Item = &Notice> {
        let queue = self.queues.get(notifier);
        let waiting = queue.into_iter().flat_map(|queue| &queue.waiting);
        let under_way = queue.and_then(|queue| queue.under_way.as_ref()).map(|(_, waiting)| waiting);
        waiting.chain(under_way).map(|waiting| &waiting.notice)
    }

    /// How each notifier does that was ever used.
    pub fn status(&self) -> BTreeMap<String, NotifierStatus> {
        let status = self.queues.iter().map(|(notifier, queue)| {
            let waiting = queue.waiting.len() + usize::from(queue.under_way.is_some());
            (notifier.clone(), NotifierStatus { waiting, next_attempt: queue.not_before, ..queue.status.clone() })
        });
        status.collect()
    }

    /// Forgets all but these notifiers.
    pub fn retain(&mut self, is_kept: impl Fn(&str) -> bool) {
        self.queues.retain(|notifier, _| is_kept(notifier));
    }

    fn take(&mut self, ticket: &Ticket) -> Option<(&mut Queue, Waiting)> {
        let queue = self.queues.get_mut(&ticket.notifier)?;
        // The queue may have been forgotten and begun again meanwhile.
        let (_, waiting) = queue.under_way.take_if(|(number, _)| *number == ticket.number)?;
        Some((queue, waiting))
    }
}

impl Queue {
    /// Until when nothing is tried.
    fn pause(&self, options: &OutboxOptions, now: Timestamp) -> Option<Timestamp> {
        let until = self.not_before.filter(|until| *until > now)?;
        // Longer than any pause: the clock was put back.
        (until.duration_since(now) <= signed(options.max_pause)).then_some(until)
    }

    /// Loses the oldest good news first, then the oldest.
    fn keep(&mut self, most: usize) {
        while self.waiting.len() > most.max(1) {
            let good_news = self.waiting.iter().position(|waiting| !waiting.notice.event.is_trouble());
            self.waiting.remove(good_news.unwrap_or(0));
            self.status.lost += 1;
        }
    }

    fn drop_older_than(&mut self, age: Duration, now: Timestamp) {
        let before = self.waiting.len();
        self.waiting.retain(|waiting| !waiting.is_older_than(age, now));
        self.status.lost += (before - self.waiting.len()) as u64;
    }
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests;
