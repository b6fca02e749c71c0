//! The databases that a command about snapshots is for, and work on all of them at once.

use std::sync::Arc;

use copal_core::{
    Context, Engine, EngineError, EngineErrorKind, EngineResult, Event, Progress, SnapshotId, Snapshots, Source,
};

use crate::usecases::{Copal, blocking};
use crate::{CopalError, ErrorKind, Result};

/// A database of which there are, or may be, snapshots.
#[derive(Clone)]
pub(super) struct Tracked {
    /// Its name for the user.
    pub(super) name: String,
    pub(super) source: Source,
    pub(super) engine: Arc<dyn Engine>,
}

impl Tracked {
    /// What its engine does about snapshots.
    pub(super) fn snapshots(&self) -> EngineResult<&dyn Snapshots> {
        self.engine.snapshots().ok_or_else(|| {
            let message = format!("{} has no snapshots", self.engine.name());
            EngineError::new(EngineErrorKind::Unsupported, message)
        })
    }

    /// Removes its part of a snapshot.
    pub(super) async fn remove(&self, id: &SnapshotId, context: &Context) -> Result<()> {
        let id = id.clone();
        of_one(self, context, move |one, context| one.snapshots()?.remove(&one.source, &id, context)).await
    }

    /// An error of one of `count` databases, which says of which.
    pub(super) fn blame(&self, error: CopalError, count: usize) -> CopalError {
        if count < 2 {
            return error;
        }
        let whose = CopalError::new(error.kind(), format!("nothing was done, because of {}: {error}", self.name));
        let whose = match error.hint() {
            Some(hint) => whose.with_hint(hint.to_owned()),
            None => whose,
        };
        whose.because(error)
    }
}

impl Copal {
    /// The databases that are named, or all of the configuration; each once, those of a whole server one by one.
    pub(super) async fn tracked(&self, named: &[String], context: &Context) -> Result<Vec<Tracked>> {
        let is_all = named.is_empty();
        let named = self.named_or_all(named);
        if named.is_empty() {
            return Err(CopalError::new(ErrorKind::Configuration, "no database is tracked")
                .with_hint("name one with -d URL, or write a copal.toml: copal init -d URL"));
        }
        let mut tracked: Vec<Tracked> = Vec::new();
        for database in &named {
            for member in self.members(database).await? {
                let one = self.tracked_one(&member)?;
                if one.engine.snapshots().is_none() {
                    let message = format!("{}: {} has no snapshots", one.name, one.engine.name());
                    match is_all {
                        true => context.warn(message),
                        false => return Err(CopalError::new(ErrorKind::Unsupported, message)),
                    }
                } else if !tracked.iter().any(|known| self.is_same_place(&known.source, &one.source)) {
                    tracked.push(one);
                }
            }
        }
        Ok(tracked)
    }

    fn tracked_one(&self, database: &str) -> Result<Tracked> {
        let name = Source::shown(self.named(database));
        match self.subject(database) {
            Ok(subject) => Ok(Tracked { name, source: subject.source, engine: subject.engine }),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // The file is gone, so it tells no engine any more; its snapshots do.
                let Ok(source) = Source::parse(self.url_of(database)) else { return Err(error) };
                let engine = self.engines.with_snapshots_of(&source);
                engine.map(|engine| Tracked { name, source, engine }).ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Those of the databases that are named (or configured) which are files that do not exist yet.
    pub async fn absent(&self, databases: &[String]) -> Result<Vec<String>> {
        let is_absent = |database: &String| {
            Source::parse(self.url_of(database)).is_ok_and(|source| {
                let missing = std::fs::symlink_metadata(source.file_path());
                self.is_file(&source) && missing.is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound)
            })
        };
        Ok(self.named_or_all(databases).into_iter().filter(is_absent).collect())
    }

    fn named_or_all(&self, named: &[String]) -> Vec<String> {
        if named.is_empty() { self.settings.databases.keys().cloned().collect() } else { named.to_vec() }
    }
}

/// Does something with one database on a thread of its own.
pub(super) async fn of_one<T: Send + 'static>(
    one: &Tracked,
    context: &Context,
    work: impl FnOnce(&Tracked, &Context) -> EngineResult<T> + Send + 'static,
) -> Result<T> {
    let (one, context) = (one.clone(), context.clone());
    Ok(blocking(move || work(&one, &context)).await??)
}

/// Does the same with all databases at the same time, each with what is meant for it.
pub(super) async fn on_each<A: Send + 'static, T: Send + 'static>(
    tracked: &[Tracked],
    with: impl IntoIterator<Item = A>,
    context: &Context,
    work: impl Fn(&Tracked, A, &Context) -> EngineResult<T> + Clone + Send + 'static,
) -> Vec<Result<T>> {
    let begin = |(one, with): (&Tracked, A)| {
        let (one, work) = (one.clone(), work.clone());
        let progress: Arc<dyn Progress> = match tracked.len() {
            1 => context.progress.clone(),
            _ => Arc::new(Named { name: one.name.clone(), inner: context.progress.clone() }),
        };
        let context = Context { cancel: context.cancel.clone(), progress };
        tokio::spawn(blocking(move || work(&one, with, &context)))
    };
    let running: Vec<_> = tracked.iter().zip(with).map(begin).collect();
    let mut done = Vec::with_capacity(running.len());
    for one in running {
        let stopped = |e| CopalError::new(ErrorKind::Failed, "the work stopped unexpectedly").because(e);
        done.push(one.await.map_err(stopped).and_then(|done| done?.map_err(CopalError::from)));
    }
    done
}

/// Says of which database an event is.
struct Named {
    name: String,
    inner: Arc<dyn Progress>,
}

impl Progress for Named {
    fn event(&self, event: Event) {
        let name = &self.name;
        self.inner.event(match event {
            // Bars of several at a time would only flicker.
            Event::Phase { .. } | Event::Advance(_) => return,
            Event::Note(text) => Event::Note(format!("{name}: {text}")),
            Event::Warning(text) => Event::Warning(format!("{name}: {text}")),
        });
    }
}
