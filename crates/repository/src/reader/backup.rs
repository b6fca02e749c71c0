//! A backup that is open for reading, alone or with segments of its journal.

use copal_core::{AnyError, Content, Context, FileEntry, WriteAt};

use super::content::{Damaged, Owner, PackedContent};
use crate::catalog::{Database, Manifest};
use crate::error::Result;
use crate::journal::Segment;
use crate::layout;
use crate::repository::Repository;

/// A backup that is open for reading. Its methods block and must be called outside of async code, within a runtime.
pub struct BackupContent {
    manifest: Manifest,
    own: PackedContent,
    segments: Vec<PackedContent>,
    /// The same for engines.
    contents: Vec<Box<dyn Content>>,
}

impl BackupContent {
    /// Opens a backup whose manifest was read. Must be called within a tokio runtime.
    pub fn new(repository: &Repository, database: &Database, manifest: Manifest) -> Self {
        Self::with_segments(repository, database, manifest, &[])
    }

    pub(crate) fn with_segments(
        repository: &Repository,
        database: &Database,
        manifest: Manifest,
        segments: &[Segment],
    ) -> Self {
        let backup = &manifest.header.backup;
        let own = Owner {
            object: layout::backup(&database.name, backup),
            what: format!("backup {backup}"),
            backup: backup.clone(),
            packs: manifest.header.packs.clone(),
            files: manifest.body.files.clone(),
        };
        let of_segment = |segment: &Segment| Owner {
            object: layout::segment(&database.name, segment.id()),
            what: format!("segment {}", segment.id()),
            backup: segment.header.follows.base.clone(),
            packs: segment.header.packs.clone(),
            files: segment.body.files.clone(),
        };
        let open = |owner| PackedContent::new(repository, database, owner);
        let segments: Vec<_> = segments.iter().map(of_segment).map(open).collect();
        let contents = segments.iter().map(|s| Box::new(s.clone()) as Box<dyn Content>).collect();
        Self { own: open(own), manifest, segments, contents }
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Reads all files, those of the segments too, and compares everything; gives what is damaged, each object once.
    pub fn verify(&self, context: &Context) -> Result<Vec<Damaged>> {
        let (mut damaged, of_segments) = self.verify_apart(context)?;
        damaged.extend(of_segments);
        Ok(damaged)
    }

    /// What is damaged of the backup itself, and what of the segments.
    pub(crate) fn verify_apart(&self, context: &Context) -> Result<(Vec<Damaged>, Vec<Damaged>)> {
        let own = self.own.verify(context)?;
        let mut of_segments = Vec::new();
        for segment in &self.segments {
            of_segments.extend(segment.verify(context)?);
        }
        Ok((own, of_segments))
    }
}

impl Content for BackupContent {
    fn files(&self) -> &[FileEntry] {
        self.own.files()
    }

    fn write_file(&self, name: &str, out: &dyn WriteAt, context: &Context) -> std::result::Result<(), AnyError> {
        self.own.write_file(name, out, context)
    }

    fn write_stream(
        &self,
        name: &str,
        out: &mut dyn std::io::Write,
        context: &Context,
    ) -> std::result::Result<(), AnyError> {
        self.own.write_stream(name, out, context)
    }

    fn segments(&self) -> &[Box<dyn Content>] {
        &self.contents
    }
}
