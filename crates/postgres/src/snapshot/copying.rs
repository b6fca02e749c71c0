//! How a database is copied inside the server: the fastest way that it has.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use copal_core::{EngineError, EngineErrorKind, EngineResult};
use copal_storage::local_file::free_space;
use serde::Deserialize;

use crate::quote::{identifier, literal};
use crate::session::Session;

/// From this size on, FILE_COPY is faster: it writes everything once, but waits for two checkpoints; WAL_LOG writes everything
/// to the log as well. PostgreSQL 15, 2 cores, ext4, fsync on, 128 MB of shared buffers of which some were dirty, medians:
///
/// ```text
/// MiB          22    37    67   127   246   486   1503
/// wal_log    0.24  0.42  0.43  0.67  1.21  3.44    9.6 s
/// file_copy  1.37  1.46  1.35  1.57  2.57  3.87    5.8 s
/// ```
const FILE_COPY_FROM: u64 = 512 << 20;

/// The word for copies that share their blocks with the original.
pub(super) const REFLINK: &str = "reflink";

/// A copy of the files.
pub(super) const FILE_COPY: Copying = Copying { word: "file_copy", strategy: " STRATEGY FILE_COPY" };

/// A way of copying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Copying {
    /// As it is shown.
    pub(super) word: &'static str,
    strategy: &'static str,
}

impl Copying {
    /// The fastest way for this template of so many bytes; sets what the session needs for it. Refuses if there is no room.
    pub(super) fn choose(server: &mut Session, template: &str, bytes: u64) -> EngineResult<Self> {
        let folder = folder_of(server, template)?;
        // Where it cannot be found out whether blocks are shared, the server is told to share them all the same: at worst it
        // copies, as otherwise.
        let may_clone = server.major() >= 18
            && cfg!(target_os = "linux")
            && server.try_run("SET file_copy_method = clone")?.is_ok();
        if may_clone && folder.as_ref().is_some_and(|folder| can_clone(folder).is_ok_and(|can| can)) {
            return Ok(Self { word: REFLINK, strategy: " STRATEGY FILE_COPY" });
        }
        // WAL_LOG would not notice: it leaves holes in the files, which a later checkpoint cannot fill.
        if let Some(folder) = folder
            && let Ok(free) = free_space(&folder)
            && free < bytes
        {
            let place = folder.display();
            let message = format!("no room for a copy of {template:?} in {place}: {bytes} bytes needed, {free} free");
            return Err(EngineError::new(EngineErrorKind::NoSpace, message)
                .hint("free space on this disk; copal snaps remove and copal snaps gc drop snapshots"));
        }
        Ok(match bytes >= FILE_COPY_FROM {
            _ if server.major() < 15 => Self { word: "file_copy", strategy: "" },
            true => FILE_COPY,
            false => Self { word: "wal_log", strategy: " STRATEGY WAL_LOG" },
        })
    }

    /// Whether copies take no space, so that a spare one may always be made.
    pub(super) fn is_free(self) -> bool {
        self.word == REFLINK
    }

    /// The statement. Nobody is let into the copy, not by mistake either: programs that go through all databases, such as
    /// `pg_dumpall` and `vacuumdb --all`, pass over it.
    pub(super) fn statement(self, template: &str, copy: &str) -> String {
        format!(
            "CREATE DATABASE {} TEMPLATE {} ALLOW_CONNECTIONS false{}",
            identifier(copy),
            identifier(template),
            self.strategy
        )
    }
}

/// The folder in which the template's files lie, if it is this machine's, which the number of its cluster tells, and if we may
/// look into it.
fn folder_of(server: &mut Session, template: &str) -> EngineResult<Option<PathBuf>> {
    #[derive(Deserialize)]
    struct Place {
        data: PathBuf,
        tablespace: Option<PathBuf>,
        cluster: String,
    }
    // Not everybody may know where the data lies.
    let places: Vec<Place> = server
        .try_rows(&format!(
            "SELECT pg_catalog.current_setting('data_directory') AS data, \
               (SELECT nullif(pg_catalog.pg_tablespace_location(dattablespace), '') FROM pg_catalog.pg_database \
                WHERE datname = {}) AS tablespace, \
               (SELECT system_identifier::text FROM pg_catalog.pg_control_system()) AS cluster",
            literal(template)
        ))?
        .unwrap_or_default();
    let is_here = |place: &Place| {
        let mut number = [0; 8];
        let control = File::open(place.data.join("global/pg_control"));
        let read = control.and_then(|control| control.read_exact_at(&mut number, 0));
        read.is_ok() && place.cluster.parse() == Ok(u64::from_ne_bytes(number))
    };
    Ok(places.into_iter().find(is_here).map(|place| place.tablespace.unwrap_or(place.data)))
}

/// Whether files in this folder can be cloned, tried with two that have no name. The server would not say: it copies silently
/// where they cannot.
#[cfg(target_os = "linux")]
fn can_clone(folder: &Path) -> std::io::Result<bool> {
    use rustix::fs::{Mode, OFlags};
    let nameless = || -> std::io::Result<File> {
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR)?))
    };
    let (from, to) = (nameless()?, nameless()?);
    from.write_all_at(&[1; 8192], 0)?;
    Ok(rustix::fs::ioctl_ficlone(&to, &from).is_ok())
}

#[cfg(not(target_os = "linux"))]
fn can_clone(_: &Path) -> std::io::Result<bool> {
    Ok(false)
}
