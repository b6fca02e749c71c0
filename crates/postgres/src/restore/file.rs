//! The plain archive in a file, for `pg_restore` by hand.

use std::io::{BufWriter, Write};

use copal_core::{
    AnyError, CheckReport, Content, Context, EngineError, EngineErrorKind, EngineResult, RestoreRequest, Restored,
};
use copal_storage::local_file::{FileTarget, StagingFile, require_space};

use super::from_content;
use crate::{ARCHIVE, GLOBALS};

/// Writes the archive, and beside it the roles as SQL.
pub(super) fn write(content: &dyn Content, request: &RestoreRequest, context: &Context) -> EngineResult<Restored> {
    let path = request.target.file_path();
    if !request.objects.is_empty() {
        let message = "single tables cannot be chosen for an archive; choose them with pg_restore";
        return Err(EngineError::new(EngineErrorKind::Unsupported, message));
    }
    let Some(archive) = content.files().iter().find(|file| file.name() == ARCHIVE) else {
        let message = "this backup was dumped by several connections: it is no single archive";
        return Err(EngineError::new(EngineErrorKind::Unsupported, message).hint("restore it to a server"));
    };
    let failed = |e: AnyError| {
        EngineError::new(EngineErrorKind::Other, format!("{} cannot be written", path.display())).because(e)
    };
    let mut replaced = false;
    let mut written = Vec::new();
    let mut globals = path.clone().into_os_string();
    globals.push(".globals.sql");
    for (name, path) in [(ARCHIVE, path.clone()), (GLOBALS, globals.into())] {
        if !content.files().iter().any(|file| file.name() == name) {
            continue;
        }
        let target = FileTarget::resolve(&path).map_err(|e| failed(e.into()))?;
        let exists = target.metadata().map_err(|e| failed(e.into()))?.is_some();
        if exists && !request.replace {
            let message = format!("{} exists", path.display());
            return Err(EngineError::new(EngineErrorKind::Exists, message).hint("replace it with --replace"));
        }
        target.require_writable_folder().map_err(|e| failed(e.into()))?;
        replaced |= exists;
        written.push((name, target, exists));
    }
    if !request.dry_run {
        context.phase("writing", Some(archive.length()));
        for (name, target, exists) in &written {
            require_space(&target.path, archive.length()).map_err(|e| {
                EngineError::new(EngineErrorKind::NoSpace, format!("no room for {}", target.path.display())).because(e)
            })?;
            let staging = StagingFile::beside(&target.path).map_err(|e| failed(e.into()))?;
            let mut out = BufWriter::with_capacity(1 << 20, staging.file());
            content.write_stream(name, &mut out, context).map_err(|e| from_content(e, context))?;
            out.flush().map_err(|e| failed(e.into()))?;
            drop(out);
            let placed = if *exists { staging.replace(&target.path) } else { staging.place_new(&target.path) };
            placed.map_err(|e| failed(e.into()))?;
        }
    }
    let mut notes = Vec::new();
    if written.len() > 1 && !request.dry_run {
        notes.push(format!("the server's roles are in {}.globals.sql", path.display()));
    }
    Ok(Restored { target: request.target.redacted(), replaced, check: CheckReport::default(), notes })
}
