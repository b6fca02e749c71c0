//! Going back: all databases of a snapshot are prepared before the first of them is put back.

use std::collections::VecDeque;

use copal_core::{Context, RewindOptions};

use super::sets::{self, Set};
use super::tracked::{Tracked, of_one, on_each};
use crate::outcome::{DatabaseNote, RewindOutcome};
use crate::usecases::{Copal, blocking};
use crate::{CopalError, ErrorKind, Result};

/// Options of `rewind`.
#[derive(Clone, Debug, Default)]
pub struct RewindRequest {
    /// The snapshot's name, its id or the beginning of that (`20261120-1530` at least); `None`: the newest.
    pub snapshot: Option<String>,
    /// The databases, by name, URL or path; empty: all of the configuration that the snapshot has.
    pub databases: Vec<String>,
    /// Replace files although a process has them open, which goes on writing to what is gone.
    pub force: bool,
    /// Make a spare copy ready afterwards.
    pub spare: bool,
}

impl Copal {
    /// Puts databases back as they were in a snapshot. Nothing is touched before everything is prepared; if one of several can
    /// then not be put back, the error says which were, and the same call again does the rest.
    pub async fn rewind(&self, request: RewindRequest, context: &Context) -> Result<RewindOutcome> {
        let tracked = self.tracked(&request.databases, context).await?;
        let sets = sets::known(&tracked, context).await?;
        let set = sets::choose(&sets, request.snapshot.as_deref(), &tracked)?;
        let untouched = self.require_all(set, &tracked, !request.databases.is_empty())?;
        let parts: Vec<Tracked> = set.parts.iter().map(|(one, _)| one.clone()).collect();
        let options = parts.iter().map(|one| RewindOptions {
            force: request.force,
            spare: request.spare || self.policy(&one.name).is_some_and(|policy| policy.spare),
        });
        let options: Vec<_> = options.map(|options| (options, set.id.clone())).collect();
        let prepared = on_each(&parts, options, context, |one, (options, id), context| {
            one.snapshots()?.prepare(&one.source, &id, options, context)
        });
        let (mut ready, mut failure) = (VecDeque::new(), None);
        for (one, prepared) in parts.iter().zip(prepared.await) {
            match prepared {
                Ok(rewind) => ready.push_back((one.clone(), rewind)),
                Err(error) => failure = failure.or(Some(one.blame(error, parts.len()))),
            }
        }
        failure = failure.or_else(|| context.cancel.check().err().map(CopalError::from));
        let (mut done, mut notes) = (Vec::new(), Vec::new());
        while let (None, Some((one, rewind))) = (&failure, ready.pop_front()) {
            match of_one(&one, context, move |_, context| rewind.finish(context)).await {
                Ok(rewound) => {
                    let told = rewound.notes.into_iter();
                    notes.extend(told.map(|note| DatabaseNote { database: one.name.clone(), note }));
                    done.push(one.name);
                }
                Err(error) => failure = Some(half_way(&one, &done, &parts, error)),
            }
        }
        if let Some(error) = failure {
            // To drop what was prepared is work that blocks.
            blocking(move || drop(ready)).await?;
            return Err(error);
        }
        Ok(RewindOutcome { snapshot: set.summary(), untouched, notes })
    }

    /// Refuses a snapshot that lacks what the user means; answers the databases that it was taken without.
    fn require_all(&self, set: &Set, tracked: &[Tracked], are_named: bool) -> Result<Vec<String>> {
        let name = set.name();
        let others = tracked.iter().map(|one| one.name.as_str()).filter(|name| !set.databases().contains(name));
        let others: Vec<String> = others.map(str::to_owned).collect();
        if are_named && let Some(lacking) = others.first() {
            return Err(CopalError::new(
                ErrorKind::NotFound,
                format!("the snapshot {name:?} has no copy of {lacking}"),
            )
            .with_hint("see what it has: copal snaps"));
        }
        let gone = set.torn_from(tracked);
        if !are_named && !gone.is_empty() {
            let message =
                format!("the snapshot {name:?} has no copy of {}, of which it was taken, too", gone.join(", "));
            return Err(CopalError::new(ErrorKind::NotFound, message)
                .with_hint(format!("rewind the others alone: -d {}", set.databases().join(" -d "))));
        }
        Ok(others)
    }
}

/// The error of a database that could not be put back when others were already.
fn half_way(one: &Tracked, done: &[String], all: &[Tracked], error: CopalError) -> CopalError {
    if done.is_empty() {
        return one.blame(error, all.len());
    }
    let left: Vec<&str> =
        all.iter().map(|one| one.name.as_str()).filter(|name| !done.iter().any(|done| done == name)).collect();
    let message = format!("{} went back, {} did not: {error}", done.join(", "), left.join(", "));
    let hint = "the same command again puts all of them back";
    let hint = error.hint().map_or_else(|| hint.to_owned(), |first| format!("{first}; then {hint}"));
    CopalError::new(error.kind(), message).with_hint(hint).because(error)
}
