//! Between snapshots and the repository: a backup of a snapshot, and a snapshot of a backup.

use std::sync::Arc;

use copal_core::{Context, Engine, Snapshot, SnapshotNote, SnapshotRequest};
use copal_repository::{Database, Manifest, Repository, Summary};

use super::tracked::Tracked;
use super::{name, new_id, sets};
use crate::outcome::summary;
use crate::usecases::list::marked;
use crate::usecases::{Copal, blocking};
use crate::{CopalError, ErrorKind, RestoreOutcome, Result};

impl Copal {
    /// One database's part of a snapshot.
    pub(in crate::usecases) async fn snapshot_of(
        &self,
        database: &str,
        snapshot: &str,
        context: &Context,
    ) -> Result<Snapshot> {
        let tracked = self.tracked(&[database.to_owned()], context).await?;
        let sets = sets::known(&tracked, context).await?;
        let part = sets::choose(&sets, Some(snapshot), &tracked)?.parts.first().map(|(_, part)| part.clone());
        part.ok_or_else(|| CopalError::new(ErrorKind::NotFound, format!("there is no snapshot {snapshot:?}")))
    }

    /// Makes a snapshot of a backup, which then can be rewound to.
    pub(in crate::usecases) async fn restore_as_snapshot(
        &self,
        name: &str,
        engine: Arc<dyn Engine>,
        repository: &Repository,
        database: &Database,
        manifest: Manifest,
        context: &Context,
    ) -> Result<RestoreOutcome> {
        name::check(name)?;
        let source = self.source_of(&manifest)?;
        // As `snaps` calls it, if it is configured.
        let shown = self.named(&source.reveal()).to_owned();
        let one = Tracked { name: copal_core::Source::shown(&shown), source, engine };
        one.snapshots()?;
        let sets = sets::known(std::slice::from_ref(&one), context).await?;
        if sets.iter().any(|set| set.name() == name) {
            return Err(CopalError::new(ErrorKind::Exists, format!("there is a snapshot {name:?} of {}", one.name))
                .with_hint("take another name, or remove that one first: copal snaps remove"));
        }
        let brief = marked(repository, database, Summary::of(&manifest)).await?;
        let note = SnapshotNote { name: name.to_owned(), together: vec![one.name.clone()], ..SnapshotNote::default() };
        let id = new_id(sets.last().map(|set| set.id.clone()), context);
        let request = SnapshotRequest { id: id.clone(), note, spare: false };
        context.phase("restoring", Some(manifest.body.logical_bytes));
        let expected = manifest.body.inventory.clone();
        let content = repository.content(database, manifest);
        let (for_engine, target) = (context.clone(), format!("the snapshot {name:?} of {}", one.name));
        let taken = blocking(move || one.snapshots()?.restore(&one.source, &content, &request, &expected, &for_engine));
        let taken = taken.await??;
        Ok(RestoreOutcome {
            backup: summary(&database.name, &brief),
            segment: None,
            target,
            replaced: false,
            dry_run: false,
            checks: Vec::new(),
            notes: taken.notes,
        })
    }
}
