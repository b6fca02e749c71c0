//! What happens, as it happens: server-sent events.
//!
//! Names of events: `progress` (a run's [`LiveRun`], at most twice a second), `run-started` and `run-ended` (its record), `missed`,
//! `stale`, `damaged`, `protected`, `reloaded`, and `lagged` for a client that was too slow and has to read the state again.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::Stream;
use serde::Serialize;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior};

use super::Api;
use super::access::Viewer;
use super::answer::Problem;
use super::extract::Path;
use crate::run::RunId;
use crate::runner::{LiveRun, RunEvent, Runner};

/// Streams at once; each holds a connection.
pub(super) const MOST_STREAMS: usize = 64;
const PROGRESS: Duration = Duration::from_millis(500);

/// Follows one run: `progress` events, then `run-ended`, and the stream ends.
#[utoipa::path(get, path = "/api/runs/{id}/events", tag = "runs", params(("id" = i64, Path, description = "its number")),
    responses((status = 200, content_type = "text/event-stream", body = String)))]
pub(crate) async fn of_run(
    _: Viewer,
    State(api): State<Api>,
    Path(id): Path<i64>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let place = place(&api)?;
    // Before it is looked whether the run goes on, so that its end is not missed.
    let events = api.runner.subscribe();
    let run = api.run(RunId(id)).await?;
    let live = api.runner.watch(run.id);
    let mut waiting = VecDeque::new();
    if live.is_none() {
        let ended = api.run(run.id).await?;
        waiting.push_back(named("run-ended", &ended));
    }
    let state = OfRun { id: run.id, live, events, waiting, progress: ticks(), place };
    let stream = futures::stream::unfold(state, |mut state| async move { Some((Ok(state.next().await?), state)) });
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()))
}

/// Follows everything. Read the state first, and again after `lagged` or a lost connection.
#[utoipa::path(get, path = "/api/events", tag = "runs",
    responses((status = 200, content_type = "text/event-stream", body = String)))]
pub(crate) async fn all(
    _: Viewer,
    State(api): State<Api>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let place = place(&api)?;
    let state = All {
        events: api.runner.subscribe(),
        runner: api.runner.clone(),
        told: BTreeMap::new(),
        waiting: VecDeque::new(),
        progress: ticks(),
        _place: place,
    };
    let stream = futures::stream::unfold(state, |mut state| async move { Some((Ok(state.next().await?), state)) });
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()))
}

/// One of the places for streams, for as long as it is held.
struct Place(Api);

fn place(api: &Api) -> Result<Place, Problem> {
    let permit = api.shared.streams.try_acquire();
    permit.map_err(|_| Problem::unavailable("too many streams of events are open"))?.forget();
    Ok(Place(api.clone()))
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.shared.streams.add_permits(1);
    }
}

fn ticks() -> Interval {
    let mut ticks = tokio::time::interval(PROGRESS);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

fn named(name: &str, data: &impl Serialize) -> Event {
    let event = Event::default().event(name);
    event.json_data(data).unwrap_or_else(|_| Event::default().event("lagged").data("{}"))
}

struct OfRun {
    id: RunId,
    live: Option<watch::Receiver<LiveRun>>,
    events: broadcast::Receiver<RunEvent>,
    waiting: VecDeque<Event>,
    progress: Interval,
    place: Place,
}

impl OfRun {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            // Nothing comes after the end.
            let live = self.live.as_mut()?;
            tokio::select! {
                _ = self.progress.tick() => {
                    if live.has_changed().unwrap_or(false) {
                        let now = live.borrow_and_update().clone();
                        return Some(named("progress", &now));
                    }
                }
                event = self.events.recv() => match event {
                    Ok(RunEvent::Ended(record, _)) if record.id == self.id => {
                        self.live = None;
                        return Some(named("run-ended", &record));
                    }
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) if self.place.0.runner.watch(self.id).is_some() => {}
                    Err(RecvError::Lagged(_)) => {
                        self.live = None;
                        let ended = self.place.0.run(self.id).await.ok()?;
                        return Some(named("run-ended", &ended));
                    }
                    Err(RecvError::Closed) => return None,
                }
            }
        }
    }
}

struct All {
    runner: Runner,
    events: broadcast::Receiver<RunEvent>,
    /// What was told of each run last.
    told: BTreeMap<RunId, (String, u64)>,
    waiting: VecDeque<Event>,
    progress: Interval,
    _place: Place,
}

impl All {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            tokio::select! {
                _ = self.progress.tick() => self.look(),
                event = self.events.recv() => match event {
                    Ok(event) => return Some(shown(&event)),
                    Err(RecvError::Lagged(_)) => return Some(Event::default().event("lagged").data("{}")),
                    Err(RecvError::Closed) => return None,
                }
            }
        }
    }

    /// Tells of the runs that are further than they were.
    fn look(&mut self) {
        let live = self.runner.live();
        self.told.retain(|id, _| live.iter().any(|live| live.id == *id));
        for live in live {
            let now = (live.phase.clone(), live.done);
            if self.told.get(&live.id) != Some(&now) {
                self.waiting.push_back(named("progress", &live));
                self.told.insert(live.id, now);
            }
        }
    }
}

fn shown(event: &RunEvent) -> Event {
    match event {
        RunEvent::Started(run) => named("run-started", run),
        RunEvent::Ended(run, _) => named("run-ended", run),
        RunEvent::Missed(missed) => {
            let (database, since) = (missed.database.as_ref(), missed.since);
            named("missed", &serde_json::json!({ "database": database, "kind": missed.kind, "since": since }))
        }
        RunEvent::Stale { database, newest, why } => {
            named("stale", &serde_json::json!({ "database": database, "newest": newest, "why": why }))
        }
        RunEvent::Damaged { database, problem } => {
            named("damaged", &serde_json::json!({ "database": database, "problem": problem }))
        }
        RunEvent::Protected { database } => named("protected", &serde_json::json!({ "database": database })),
        RunEvent::Reloaded => named("reloaded", &serde_json::json!({})),
    }
}
