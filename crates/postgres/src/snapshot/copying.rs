//! How a database is copied inside the server: the fastest way that it has.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use copal_core::EngineResult;
use rustix::fs::{Mode, OFlags};
use serde::Deserialize;

use crate::quote::{identifier, literal};
use crate::session::Session;

/// From this size on, FILE_COPY is faster: it writes everything once, but waits for two checkpoints; WAL_LOG writes everything
/// to the log as well. PostgreSQL 15, 2 cores, ext4, fsync on, 128 MB of shared buffers of which some were dirty, medians:
///
///     MiB          22    37    67   127   246   486   1503
///     wal_log    0.24  0.42  0.43  0.67  1.21  3.44    9.6 s
///     file_copy  1.37  1.46  1.35  1.57  2.57  3.87    5.8 s
const FILE_COPY_FROM: u64 = 512 << 20;

/// The word for copies that share their blocks with the original.
pub(super) const REFLINK: &str = "reflink";

/// A way of copying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Copying {
    /// As it is shown.
    pub(super) word: &'static str,
    strategy: &'static str,
}

impl Copying {
    /// The fastest way for this template of so many bytes; sets what the session needs for it.
    pub(super) fn choose(server: &mut Session, template: &str, bytes: u64) -> EngineResult<Self> {
        if server.major() < 15 {
            return Ok(Self { word: "file_copy", strategy: "" });
        }
        // Where it cannot be found out whether blocks are shared, the server is told to share them all the same: at worst it
        // copies, as otherwise.
        let clones = server.major() >= 18
            && cfg!(target_os = "linux")
            && server.try_run("SET file_copy_method = clone")?.is_ok()
            && shares_blocks(server, template)?;
        Ok(match (clones, bytes >= FILE_COPY_FROM) {
            (true, _) => Self { word: REFLINK, strategy: " STRATEGY FILE_COPY" },
            (_, true) => Self { word: "file_copy", strategy: " STRATEGY FILE_COPY" },
            (_, false) => Self { word: "wal_log", strategy: " STRATEGY WAL_LOG" },
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

/// Whether the template's files can be cloned. The server would not say: it copies silently where they cannot. So the folder
/// must be this machine's, which the number of its cluster tells, and be open to us; then it is tried with a file that has no name.
fn shares_blocks(server: &mut Session, template: &str) -> EngineResult<bool> {
    #[derive(Deserialize)]
    struct Place {
        data: String,
        tablespace: Option<String>,
        cluster: String,
    }
    // Not everybody may know where the data lies.
    let place: Vec<Place> = server
        .try_rows(&format!(
            "SELECT pg_catalog.current_setting('data_directory') AS data, \
               (SELECT nullif(pg_catalog.pg_tablespace_location(dattablespace), '') FROM pg_catalog.pg_database \
                WHERE datname = {}) AS tablespace, \
               (SELECT system_identifier::text FROM pg_catalog.pg_control_system()) AS cluster",
            literal(template)
        ))?
        .unwrap_or_default();
    let Some(Place { data, tablespace, cluster }) = place.into_iter().next() else { return Ok(false) };
    let folder = tablespace.as_deref().unwrap_or(&data);
    let tried = try_clone(Path::new(&data), Path::new(folder), cluster.parse().unwrap_or_default());
    tracing::debug!(folder, ?tried, "are blocks shared?");
    Ok(tried.is_ok_and(|shares| shares))
}

#[cfg(target_os = "linux")]
fn try_clone(data: &Path, folder: &Path, cluster: u64) -> std::io::Result<bool> {
    let mut number = [0; 8];
    File::open(data.join("global/pg_control"))?.read_exact_at(&mut number, 0)?;
    if u64::from_ne_bytes(number) != cluster {
        return Ok(false);
    }
    let nameless = || -> std::io::Result<File> {
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR)?))
    };
    let (from, to) = (nameless()?, nameless()?);
    from.write_all_at(&[1; 8192], 0)?;
    Ok(rustix::fs::ioctl_ficlone(&to, &from).is_ok())
}

#[cfg(not(target_os = "linux"))]
fn try_clone(_: &Path, _: &Path, _: u64) -> std::io::Result<bool> {
    Ok(false)
}
