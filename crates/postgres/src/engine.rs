//! The engine: PostgreSQL behind Copal's contract.

use std::path::{Path, PathBuf};
use std::time::Duration;

use copal_core::{
    Capabilities, Capture, CheckLevel, CheckReport, Content, Context, Engine, EngineError, EngineErrorKind,
    EngineResult, Identity, Inventory, Member, RestoreRequest, Restored, Scratch, Sink, Snapshots, Source,
};
use serde::Deserialize;

use crate::address::Address;
use crate::programs::Programs;
use crate::session::Session;
use crate::{capture, check, inventory, restore, snapshot};

/// Backs up and restores PostgreSQL databases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresEngine {
    /// The folder of the client programs; `None`: on `PATH` and where packages put them.
    pub bin: Option<PathBuf>,
    /// Connections that dump at the same time, through a temporary folder if there are several.
    pub jobs: usize,
    /// How long rows are counted; tables that are left are estimated.
    pub count: Duration,
    /// How long to wait for a lock that another session holds.
    pub lock_wait: Duration,
    /// Whether the hashed passwords of roles are backed up.
    pub role_passwords: bool,
    /// Where temporary files go; `None`: where the system puts them.
    pub temporary: Option<PathBuf>,
}

impl Default for PostgresEngine {
    fn default() -> Self {
        Self {
            bin: None,
            jobs: 1,
            count: Duration::from_secs(10),
            lock_wait: Duration::from_secs(30),
            role_passwords: false,
            temporary: None,
        }
    }
}

impl PostgresEngine {
    /// Connects to a database.
    pub(crate) fn connect(&self, address: &Address, context: &Context) -> EngineResult<Session> {
        Session::open(&Programs::find(self.bin.as_deref())?.newest()?, address, context)
    }

    /// Connects to some database of the server that is always there.
    pub(crate) fn connect_to_server(&self, address: &Address, context: &Context) -> EngineResult<Session> {
        // Whoever is in a database can neither rename nor drop it.
        let (first, other) = match address.database() {
            Some("postgres") => ("template1", "postgres"),
            _ => ("postgres", "template1"),
        };
        match self.connect(&address.with_database(first), context) {
            Err(e) if matches!(e.kind, EngineErrorKind::NotFound | EngineErrorKind::PermissionDenied) => {
                // Some servers have no such database, or let nobody into it.
                self.connect(&address.with_database(other), context).map_err(|_| e)
            }
            other => other,
        }
    }
}

impl Engine for PostgresEngine {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            schemes: &["postgres", "postgresql"],
            is_file: false,
            capture: true,
            restore: true,
            compression: 3,
            objects: true,
            keep_old: true,
            archives: true,
        }
    }

    fn recognises(&self, _: &[u8]) -> bool {
        false
    }

    fn identify(&self, source: &Source) -> EngineResult<Identity> {
        #[derive(Deserialize)]
        struct Found {
            bytes: Option<u64>,
        }
        let address = Address::of(source)?;
        let context = Context::silent();
        if address.is_whole_server() {
            let session = self.connect_to_server(&address, &context)?;
            let version = capture::version_text(session.version);
            return Ok(Identity { canonical: source.redacted(), short_name: address.server(), version, bytes: None });
        }
        let mut session = self.connect(&address, &context)?;
        let found: Found = session.row("SELECT pg_catalog.pg_database_size(pg_catalog.current_database()) AS bytes")?;
        Ok(Identity {
            canonical: source.redacted(),
            short_name: session.database.clone(),
            version: capture::version_text(session.version),
            bytes: found.bytes,
        })
    }

    fn members(&self, source: &Source) -> EngineResult<Option<Vec<Member>>> {
        #[derive(Deserialize)]
        struct Found {
            name: String,
        }
        let address = Address::of(source)?;
        if !address.is_whole_server() {
            return Ok(None);
        }
        let mut session = self.connect_to_server(&address, &Context::silent())?;
        let mut found: Vec<Found> = session.rows(
            "SELECT datname AS name FROM pg_catalog.pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1",
        )?;
        found.retain(|database| !restore::is_passing(&database.name) && !snapshot::is_ours(&database.name));
        let member =
            |found: Found| Ok(Member { source: address.with_database(&found.name).source()?, name: found.name });
        found.into_iter().map(member).collect::<EngineResult<Vec<_>>>().map(Some)
    }

    fn capture(&self, source: &Source, sink: &mut dyn Sink, context: &Context) -> EngineResult<Capture> {
        capture::capture(self, source, sink, context)
    }

    fn restore(&self, content: &dyn Content, request: &RestoreRequest, context: &Context) -> EngineResult<Restored> {
        restore::restore(self, content, request, context)
    }

    fn inventory(&self, source: &Source, context: &Context) -> EngineResult<Inventory> {
        let mut session = self.connect(&Address::of(source)?, context)?;
        context.phase("counting", None);
        inventory::now(&mut session, self.count, context)
    }

    fn check(&self, source: &Source, level: CheckLevel, context: &Context) -> EngineResult<CheckReport> {
        let mut session = self.connect(&Address::of(source)?, context)?;
        context.phase("checking", None);
        check::run(&mut session, level, context)
    }

    fn scratch(&self, source: &Source, _: &Path) -> EngineResult<Scratch> {
        let address = Address::of(source)?;
        let name = restore::passing_name("drill");
        let target = address.with_database(&name);
        let engine = self.clone();
        let mut holder = self.connect_to_server(&address, &Context::silent())?;
        restore::hold(&mut holder, &name)?;
        let discard = move || {
            let dropped = restore::drop_passing(&engine, &address, &name);
            drop(holder);
            dropped
        };
        Ok(Scratch { source: target.source()?, discard: Box::new(discard) })
    }

    fn snapshots(&self) -> Option<&dyn Snapshots> {
        Some(self)
    }
}

/// An error about a database that is not what the backup says.
pub(crate) fn corrupt(message: String) -> EngineError {
    EngineError::new(EngineErrorKind::Corrupt, message)
}
