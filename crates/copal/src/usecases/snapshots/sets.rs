//! What was taken together: the parts that have one id.

use std::collections::BTreeMap;

use copal_core::{Context, Snapshot, SnapshotId};

use super::tracked::{Tracked, on_each};
use crate::outcome::{SnapshotPart, SnapshotSummary};
use crate::{CopalError, ErrorKind, Result};

/// The parts of one snapshot that were found; at least one.
#[derive(Clone)]
pub(super) struct Set {
    pub(super) id: SnapshotId,
    pub(super) parts: Vec<(Tracked, Snapshot)>,
}

impl Set {
    /// Its name; after an interrupted renaming the newer one.
    pub(super) fn name(&self) -> &str {
        let newest = self.parts.iter().map(|(_, snapshot)| &snapshot.note).max_by_key(|note| note.revision);
        newest.map_or("", |note| &note.name)
    }

    /// The databases that it is of.
    pub(super) fn databases(&self) -> Vec<&str> {
        self.parts.iter().map(|(one, _)| one.name.as_str()).collect()
    }

    /// The databases that were taken together and of which no part was found. One that has another name now is not among
    /// them if all parts are there.
    pub(super) fn missing(&self) -> Vec<String> {
        let Some((_, first)) = self.parts.first() else { return Vec::new() };
        let together = &first.note.together;
        if together.len() <= self.parts.len() {
            return Vec::new();
        }
        together.iter().filter(|name| !self.databases().contains(&name.as_str())).cloned().collect()
    }

    /// Those of `tracked` that were taken together with these, and of which no part was found: somebody removed it, or the
    /// snapshot is being taken, or was when its process was killed.
    pub(super) fn torn_from(&self, tracked: &[Tracked]) -> Vec<String> {
        let mut missing = self.missing();
        missing.retain(|name| tracked.iter().any(|one| one.name == *name));
        missing
    }

    /// What is told about it.
    pub(super) fn summary(&self) -> SnapshotSummary {
        let note = self.parts.first().map(|(_, snapshot)| snapshot.note.clone()).unwrap_or_default();
        let part = |(one, snapshot): &(Tracked, Snapshot)| SnapshotPart {
            database: one.name.clone(),
            engine: one.engine.name().to_owned(),
            engine_version: snapshot.engine_version.clone(),
            schema_version: snapshot.schema_version.clone(),
            bytes: snapshot.bytes,
            used_bytes: snapshot.used_bytes,
            method: snapshot.method.clone(),
            spare: snapshot.has_spare,
        };
        SnapshotSummary {
            name: self.name().to_owned(),
            id: self.id.clone(),
            time: self.id.time(),
            label: note.label,
            git_branch: note.git_branch,
            databases: self.parts.iter().map(part).collect(),
            missing: self.missing(),
        }
    }
}

/// The snapshots of every database.
pub(super) async fn look(tracked: &[Tracked], context: &Context) -> Vec<Result<Vec<Snapshot>>> {
    on_each(tracked, std::iter::repeat(()), context, |one, (), context| one.snapshots()?.list(&one.source, context))
        .await
}

/// All sets of these databases, oldest first. A database that cannot be asked is an error.
pub(super) async fn known(tracked: &[Tracked], context: &Context) -> Result<Vec<Set>> {
    let mut parts = Vec::new();
    for (one, found) in tracked.iter().zip(look(tracked, context).await) {
        let found = found.map_err(|error| one.blame(error, tracked.len()))?;
        parts.extend(found.into_iter().map(|snapshot| (one.clone(), snapshot)));
    }
    Ok(group(parts))
}

/// Puts together what has the same id.
pub(super) fn group(parts: Vec<(Tracked, Snapshot)>) -> Vec<Set> {
    let mut sets: BTreeMap<SnapshotId, Vec<(Tracked, Snapshot)>> = BTreeMap::new();
    for (one, snapshot) in parts {
        sets.entry(snapshot.id.clone()).or_default().push((one, snapshot));
    }
    sets.into_iter().map(|(id, parts)| Set { id, parts }).collect()
}

/// The one that is meant: by its id, its name or the beginning of its id; without any, the newest that has all its parts.
pub(super) fn choose<'a>(sets: &'a [Set], wanted: Option<&str>, tracked: &[Tracked]) -> Result<&'a Set> {
    let Some(wanted) = wanted else {
        let whole = sets.iter().rev().find(|set| set.torn_from(tracked).is_empty());
        return whole.or(sets.last()).ok_or_else(|| {
            CopalError::new(ErrorKind::NotFound, "there is no snapshot yet").with_hint("take one with: copal snap")
        });
    };
    let by_id = sets.iter().find(|set| set.id.as_str() == wanted);
    if let Some(set) = by_id.or_else(|| sets.iter().rev().find(|set| set.name() == wanted)) {
        return Ok(set);
    }
    // `20261120-1530`: the shortest beginning that says a minute.
    let begins = |set: &&Set| wanted.len() >= 13 && set.id.as_str().starts_with(wanted);
    match sets.iter().filter(begins).collect::<Vec<_>>().as_slice() {
        [only] => Ok(only),
        [] => {
            let names: Vec<&str> = sets.iter().map(Set::name).collect();
            let hint = match crate::config::nearest(wanted, names.iter().copied()) {
                Some(near) => format!("did you mean {near:?}? see: copal snaps"),
                None if names.is_empty() => "there is none yet; take one with: copal snap".to_owned(),
                None => "see: copal snaps".to_owned(),
            };
            Err(CopalError::new(ErrorKind::NotFound, format!("there is no snapshot {wanted:?}")).with_hint(hint))
        }
        several => {
            let ids: Vec<&str> = several.iter().map(|set| set.id.as_str()).collect();
            Err(CopalError::new(ErrorKind::Usage, format!("{} snapshots begin with {wanted}", several.len()))
                .with_hint(format!("write more of it: {}", ids.join(", "))))
        }
    }
}
