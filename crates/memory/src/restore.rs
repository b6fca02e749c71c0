//! Restores: everything is decoded and counted beside the target before the target is touched.

use std::path::PathBuf;

use copal_core::{CheckReport, Content, Context, EngineError, EngineErrorKind, EngineResult, RestoreRequest, Restored};

use crate::view::inventory;
use crate::{EncodedStore, Loader, MemoryEngine, MemoryError, Store, archive, decode};

/// Restores a backup and the segments behind it to `memory:NAME` or, as an archive, to `file:PATH`.
pub(crate) fn restore(
    engine: &MemoryEngine,
    content: &dyn Content,
    request: &RestoreRequest,
    context: &Context,
) -> EngineResult<Restored> {
    let unsupported = |what: &str| {
        Err(EngineError::new(EngineErrorKind::Unsupported, what)
            .hint("restore all of it to file:FOLDER and take from there what is wanted"))
    };
    if !request.objects.is_empty() {
        return unsupported("single tables cannot be restored into a store in memory");
    }
    if request.keep_old {
        return unsupported("a store in memory cannot be kept beside the one that replaces it");
    }
    if request.target.scheme() == Some("file") {
        return to_archive(request.target.file_path(), content, request, context);
    }
    let (name, store) = engine.find(&request.target)?;
    let has_rows = store.count(false).map_err(|error| error.of(&name))?.values().any(|rows| *rows > 0);
    if has_rows && !request.replace {
        return Err(MemoryError::NotEmpty.of(&name));
    }
    if request.dry_run {
        return Ok(restored(request, has_rows, CheckReport::default()));
    }
    context.phase("reading", None);
    let mut loader = store.load().map_err(|error| error.of(&name))?;
    load(content, loader.as_mut(), &name, request, context)?;
    // The last moment in which it can be stopped: what is there now is replaced in one step.
    context.cancel.check()?;
    let replaced = loader.commit(request.replace).map_err(|error| error.of(&name))?;
    Ok(restored(request, replaced, passed()))
}

fn to_archive(
    path: PathBuf,
    content: &dyn Content,
    request: &RestoreRequest,
    context: &Context,
) -> EngineResult<Restored> {
    let replaced = archive::is_there(&path, request.replace)?;
    if request.dry_run {
        return Ok(restored(request, replaced, CheckReport::default()));
    }
    context.phase("reading", None);
    let (store, name) = (EncodedStore::new(), "archive");
    let mut loader = store.load().map_err(|error| error.of(name))?;
    load(content, loader.as_mut(), name, request, context)?;
    loader.commit(true).map_err(|error| error.of(name))?;
    let loaded = store.take_loaded().unwrap_or_default();
    context.phase("writing", None);
    archive::write(&loaded, &path, request.replace, context)?;
    Ok(restored(request, replaced, passed()))
}

/// Decodes everything and compares it with what was counted when it was saved.
fn load(
    content: &dyn Content,
    loader: &mut dyn Loader,
    name: &str,
    request: &RestoreRequest,
    context: &Context,
) -> EngineResult<()> {
    decode::content(content, loader, name, context)?;
    let Some(expected) = &request.expected else { return Ok(()) };
    let differences = expected.compare(&inventory(&loader.counts()));
    let Some(first) = differences.first() else { return Ok(()) };
    let message = format!(
        "memory:{name}: the backup does not hold what was counted when it was made: {} ({} expected, {} found)",
        first.what, first.expected, first.found
    );
    Err(EngineError::new(EngineErrorKind::Corrupt, message))
}

fn passed() -> CheckReport {
    CheckReport { ran: vec!["decode".to_owned(), "count".to_owned()], ..CheckReport::default() }
}

fn restored(request: &RestoreRequest, replaced: bool, check: CheckReport) -> Restored {
    Restored { target: request.target.redacted(), replaced, check, notes: Vec::new() }
}
