//! The engine: MySQL and MariaDB behind Copal's contract.

use std::path::Path;
use std::time::Duration;

use copal_core::{
    Capabilities, Capture, CheckLevel, CheckReport, Content, Context, Engine, EngineError, EngineErrorKind,
    EngineResult, Identity, Inventory, Member, RestoreRequest, Restored, Scratch, Sink, Snapshots, Source,
};

use crate::address::Address;
use crate::quote::literal;
use crate::session::Session;
use crate::{check, copy, inventory, names};

/// Takes snapshots of MySQL and MariaDB databases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MysqlEngine {
    /// How long to wait for another snapshot or rewind of the same database.
    pub lock_wait: Duration,
}

impl Default for MysqlEngine {
    fn default() -> Self {
        Self { lock_wait: Duration::from_secs(30) }
    }
}

/// The server's version as people say it.
pub(crate) fn version_text(version: &str) -> String {
    let number = version.split('-').next().unwrap_or(version);
    match version.contains("MariaDB") {
        true => format!("MariaDB {number}"),
        false => format!("MySQL {number}"),
    }
}

/// The session's database must be there.
fn found(session: &mut Session, address: &Address) -> EngineResult<()> {
    let query = format!("SELECT 1 FROM information_schema.schemata WHERE schema_name = {}", literal(&address.database));
    match session.text(&query)? {
        Some(_) => Ok(()),
        None => {
            let message = format!("there is no database {:?} on {}", address.database, address.server());
            Err(EngineError::new(EngineErrorKind::NotFound, message)
                .hint(format!("create it, or let {:?} see it: GRANT SELECT ON it", address.user())))
        }
    }
}

fn unsupported<T>() -> EngineResult<T> {
    Err(EngineError::new(EngineErrorKind::Unsupported, "copal can only take snapshots of MySQL and MariaDB so far")
        .hint("copal snap -d … takes one, copal rewind goes back to it"))
}

impl Engine for MysqlEngine {
    fn name(&self) -> &'static str {
        "mysql"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            schemes: &["mysql", "mariadb"],
            is_file: false,
            capture: false,
            restore: false,
            compression: 3,
            objects: false,
            keep_old: false,
            archives: false,
        }
    }

    fn recognises(&self, _: &[u8]) -> bool {
        false
    }

    fn identify(&self, source: &Source) -> EngineResult<Identity> {
        let address = Address::of(source)?;
        let mut session = Session::open(&address, &Context::silent())?;
        let (mut short_name, mut bytes) = (address.server(), None);
        if !address.is_whole_server() {
            found(&mut session, &address)?;
            short_name.clone_from(&address.database);
            bytes = copy::bytes(&mut session, &address.database)?;
        }
        Ok(Identity { canonical: source.redacted(), short_name, version: version_text(&session.version), bytes })
    }

    fn members(&self, source: &Source) -> EngineResult<Option<Vec<Member>>> {
        let address = Address::of(source)?;
        if !address.is_whole_server() {
            return Ok(None);
        }
        let mut session = Session::open(&address, &Context::silent())?;
        let found = session.texts("SELECT schema_name FROM information_schema.schemata ORDER BY binary schema_name")?;
        let databases = found.into_iter().filter(|name| !names::is_hidden(name));
        Ok(Some(databases.filter_map(|name| Some(Member { source: source.member(&name)?, name })).collect()))
    }

    fn capture(&self, _: &Source, _: &mut dyn Sink, _: &Context) -> EngineResult<Capture> {
        unsupported()
    }

    fn restore(&self, _: &dyn Content, _: &RestoreRequest, _: &Context) -> EngineResult<Restored> {
        unsupported()
    }

    fn inventory(&self, source: &Source, context: &Context) -> EngineResult<Inventory> {
        let address = Address::of(source)?;
        let mut session = Session::open(&address, context)?;
        found(&mut session, &address)?;
        context.phase("counting", None);
        inventory::now(&mut session, &address.database, context)
    }

    fn check(&self, source: &Source, level: CheckLevel, context: &Context) -> EngineResult<CheckReport> {
        let address = Address::of(source)?;
        let mut session = Session::open(&address, context)?;
        found(&mut session, &address)?;
        context.phase("checking", None);
        check::run(&mut session, &address.database, level, context)
    }

    fn scratch(&self, _: &Source, _: &Path) -> EngineResult<Scratch> {
        unsupported()
    }

    fn snapshots(&self) -> Option<&dyn Snapshots> {
        Some(self)
    }
}
