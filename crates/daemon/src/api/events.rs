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
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::Api;
use super::access::{Access, Viewer};
use super::answer::Problem;
use super::extract::Path;
use crate::run::RunId;
use crate::runner::{LiveRun, RunEvent, Runner};

/// Streams at once; each holds a connection.
pub(super) const MOST_STREAMS: usize = 64;
const PROGRESS: Duration = Duration::from_millis(500);
/// How long the end of a run is waited for that is no longer under way and has not ended yet.
const MOMENT: Duration = Duration::from_secs(5);

/// Follows one run: `progress` events, then `run-ended`, and the stream ends.
#[utoipa::path(get, path = "/api/runs/{id}/events", tag = "runs", params(("id" = i64, Path, description = "its number")),
    responses((status = 200, content_type = "text/event-stream", body = String)))]
pub(crate) async fn of_run(
    Viewer(access): Viewer,
    State(api): State<Api>,
    Path(id): Path<i64>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let place = place(&api, access)?;
    // Before it is looked whether the run goes on, so that its end is not missed.
    let events = api.runner.subscribe();
    let run = api.run(RunId(id)).await?;
    let live = api.runner.watch(run.id);
    let mut waiting = VecDeque::new();
    let mut is_over = false;
    if live.is_none() {
        let ended = api.run(run.id).await?;
        is_over = ended.ending.is_some();
        if is_over {
            waiting.push_back(named("run-ended", &ended));
        }
    }
    let give_up = live.is_none().then(|| Instant::now() + MOMENT);
    let state = OfRun { id: run.id, live, give_up, is_over, events, waiting, progress: ticks(), place };
    let stream = futures::stream::unfold(state, |mut state| async move { Some((Ok(state.next().await?), state)) });
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()))
}

/// Follows everything. Read the state first, and again after `lagged` or a lost connection.
#[utoipa::path(get, path = "/api/events", tag = "runs",
    responses((status = 200, content_type = "text/event-stream", body = String)))]
pub(crate) async fn all(
    Viewer(access): Viewer,
    State(api): State<Api>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let place = place(&api, access)?;
    let state = All {
        events: api.runner.subscribe(),
        runner: api.runner.clone(),
        told: BTreeMap::new(),
        waiting: VecDeque::new(),
        progress: ticks(),
        place,
    };
    let stream = futures::stream::unfold(state, |mut state| async move { Some((Ok(state.next().await?), state)) });
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()))
}

/// One of the places for streams, for as long as it is held, and who holds it.
struct Place {
    api: Api,
    access: Access,
}

impl Place {
    /// Whether whoever holds it may still listen.
    fn is_good(&self) -> bool {
        self.access.is_in_force(&self.api)
    }
}

fn place(api: &Api, access: Access) -> Result<Place, Problem> {
    let permit = api.shared.streams.try_acquire();
    permit.map_err(|_| Problem::unavailable("too many streams of events are open"))?.forget();
    Ok(Place { api: api.clone(), access })
}

impl Drop for Place {
    fn drop(&mut self) {
        self.api.shared.streams.add_permits(1);
    }
}

fn ticks() -> Interval {
    let mut ticks = tokio::time::interval(PROGRESS);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn named(name: &str, data: &impl Serialize) -> Event {
    let event = Event::default().event(name);
    event.json_data(data).unwrap_or_else(|_| Event::default().event("lagged").data("{}"))
}

struct OfRun {
    id: RunId,
    /// None for one that is about to end.
    live: Option<watch::Receiver<LiveRun>>,
    /// Until when its end is waited for.
    give_up: Option<Instant>,
    is_over: bool,
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
            if self.is_over || !self.place.is_good() {
                return None;
            }
            tokio::select! {
                _ = self.progress.tick(), if self.live.is_some() => {
                    let Some(live) = self.live.as_mut() else { continue };
                    if live.has_changed().unwrap_or(false) {
                        let now = live.borrow_and_update().clone();
                        return Some(named("progress", &now));
                    }
                }
                () = until(self.give_up) => return self.end().await,
                event = self.events.recv() => match event {
                    Ok(RunEvent::Ended(record, _)) if record.id == self.id => {
                        self.is_over = true;
                        return Some(named("run-ended", &record));
                    }
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) if self.place.api.runner.watch(self.id).is_some() => {}
                    Err(RecvError::Lagged(_)) => return self.end().await,
                    Err(RecvError::Closed) => return None,
                }
            }
        }
    }

    /// The end as the history has it.
    async fn end(&mut self) -> Option<Event> {
        self.is_over = true;
        let ended = self.place.api.run(self.id).await.ok()?;
        Some(named("run-ended", &ended))
    }
}

struct All {
    runner: Runner,
    events: broadcast::Receiver<RunEvent>,
    /// What was told of each run last.
    told: BTreeMap<RunId, (String, u64)>,
    waiting: VecDeque<Event>,
    progress: Interval,
    place: Place,
}

impl All {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            if !self.place.is_good() {
                return None;
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
