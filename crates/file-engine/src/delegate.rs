//! An engine of files takes snapshots by [`FileSnapshots`](crate::FileSnapshots).

/// Implements `copal_core::Snapshots` for an engine that is a [`FileEngine`](crate::FileEngine): the traits belong to other
/// crates, so no implementation for all such engines can stand here.
#[macro_export]
macro_rules! snapshots_of_files {
    ($engine:ty) => {
        const _: () = {
            use copal_core::{
                Capture, Content, Context, EngineResult, Inventory, Rewind, RewindOptions, Sink, Snapshot, SnapshotId,
                SnapshotNote, SnapshotRequest, Snapshots, Source, Taken,
            };
            use $crate::FileSnapshots;

            impl Snapshots for $engine {
                fn take(&self, source: &Source, request: &SnapshotRequest, context: &Context) -> EngineResult<Taken> {
                    FileSnapshots::beside(self).take(source, request, context)
                }

                fn list(&self, source: &Source, context: &Context) -> EngineResult<Vec<Snapshot>> {
                    FileSnapshots::beside(self).list(source, context)
                }

                fn prepare(
                    &self,
                    source: &Source,
                    id: &SnapshotId,
                    options: RewindOptions,
                    context: &Context,
                ) -> EngineResult<Box<dyn Rewind>> {
                    FileSnapshots::beside(self).prepare(source, id, options, context)
                }

                fn describe(
                    &self,
                    source: &Source,
                    id: &SnapshotId,
                    note: &SnapshotNote,
                    context: &Context,
                ) -> EngineResult<()> {
                    FileSnapshots::beside(self).describe(source, id, note, context)
                }

                fn remove(&self, source: &Source, id: &SnapshotId, context: &Context) -> EngineResult<()> {
                    FileSnapshots::beside(self).remove(source, id, context)
                }

                fn settle(&self, source: &Source, dry_run: bool, context: &Context) -> EngineResult<Vec<String>> {
                    FileSnapshots::beside(self).settle(source, dry_run, context)
                }

                fn capture(
                    &self,
                    source: &Source,
                    id: &SnapshotId,
                    sink: &mut dyn Sink,
                    context: &Context,
                ) -> EngineResult<Capture> {
                    FileSnapshots::beside(self).capture(source, id, sink, context)
                }

                fn restore(
                    &self,
                    source: &Source,
                    content: &dyn Content,
                    request: &SnapshotRequest,
                    expected: &Inventory,
                    context: &Context,
                ) -> EngineResult<Taken> {
                    FileSnapshots::beside(self).restore(source, content, request, expected, context)
                }
            }
        };
    };
}
