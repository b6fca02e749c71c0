//! A connection that blocks, with settings under which texts of the server mean what they say.

use std::time::Duration;

use copal_core::{Cancelled, Context, EngineError, EngineErrorKind, EngineResult};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Error, Opts, Value};
use tokio::runtime::{Builder, Runtime};

use crate::address::Address;
use crate::failure::{self, Refusal};

/// A row: texts, or NULL.
pub(crate) type Row = Vec<Option<String>>;

const TICK: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(20);

/// Settings that every server has, and such as only some have.
const SETTINGS: [&str; 5] = [
    "NAMES utf8mb4",
    // A zero stays a zero; nothing else is refused that the table itself has taken.
    "SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO'",
    "SESSION foreign_key_checks = 0, unique_checks = 1, sql_quote_show_create = 1, autocommit = 1, completion_type = 0",
    "SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "SESSION wait_timeout = 31536000, lock_wait_timeout = 30, innodb_lock_wait_timeout = 30",
];
const SETTINGS_OF_SOME: [&str; 10] = [
    // Sizes as they are now.
    "SESSION information_schema_stats_expiry = 0",
    // Else reads would lock rows, so that replicas come to the same when they repeat them.
    "SESSION binlog_format = 'ROW'",
    "SESSION check_constraint_checks = 0",
    "SESSION max_statement_time = 0",
    "SESSION innodb_strict_mode = 0",
    "SESSION sql_require_primary_key = 0",
    "SESSION sql_generate_invisible_primary_key = 0",
    "SESSION explicit_defaults_for_timestamp = 1",
    "SESSION system_versioning_insert_history = 1",
    "SESSION net_read_timeout = 3600, net_write_timeout = 3600",
];

/// An open connection; ends when it is dropped.
pub(crate) struct Session {
    connection: Option<Conn>,
    /// There until the session is dropped.
    runtime: Option<Runtime>,
    options: Opts,
    context: Context,
    place: String,
    /// The server's version, as it says it.
    pub(crate) version: String,
}

impl Session {
    /// Connects to the server. A cancelled context ends whatever the session waits for.
    pub(crate) fn open(address: &Address, context: &Context) -> EngineResult<Self> {
        let place = match address.is_whole_server() {
            true => format!("the server {}", address.server()),
            false => format!("the database {:?} on {}", address.database, address.server()),
        };
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| EngineError::new(EngineErrorKind::Other, "no thread can wait").because(e))?;
        let mut failed = None;
        for options in address.options() {
            let tried = runtime.block_on(async { tokio::time::timeout(PATIENCE, Conn::new(options.clone())).await });
            let refusal = match tried {
                Ok(Ok(connection)) => {
                    let (connection, runtime) = (Some(connection), Some(runtime));
                    let version = String::new();
                    let mut session = Self { connection, runtime, options, context: context.clone(), place, version };
                    session.set_up()?;
                    return Ok(session);
                }
                Ok(Err(error)) => refusal_of(&error),
                Err(_) => Refusal { code: 0, message: "no answer in time".to_owned() },
            };
            // Only a server without TLS is asked again, without TLS.
            let is_last = !refusal.message.contains("does not have this capability");
            failed = Some(refusal);
            if is_last {
                break;
            }
        }
        let refusal = failed.unwrap_or(Refusal { code: 0, message: "there is no way to connect".to_owned() });
        Err(failure::not_connected(&place, &refusal))
    }

    fn set_up(&mut self) -> EngineResult<()> {
        for setting in SETTINGS {
            self.run(&format!("SET {setting}"))?;
        }
        for setting in SETTINGS_OF_SOME {
            let _ = self.try_run(&format!("SET {setting}"))?;
        }
        self.version = self.text("SELECT version()")?.unwrap_or_default();
        Ok(())
    }

    /// Another session like this one.
    pub(crate) fn another(&self, address: &Address) -> EngineResult<Self> {
        Self::open(address, &self.context)
    }

    /// Whether the server is MariaDB.
    pub(crate) fn is_mariadb(&self) -> bool {
        self.version.contains("MariaDB")
    }

    /// From now on waits for others' locks on tables so long.
    pub(crate) fn wait_for_locks(&mut self, seconds: u32) -> EngineResult<()> {
        self.run(&format!("SET SESSION lock_wait_timeout = {seconds}"))
    }

    /// Rows of a query.
    pub(crate) fn rows(&mut self, query: &str) -> EngineResult<Vec<Row>> {
        self.ask(query)?.map_err(|refusal| failure::refused(&self.place, &refusal))
    }

    /// The first column of each row, NULLs left out.
    pub(crate) fn texts(&mut self, query: &str) -> EngineResult<Vec<String>> {
        Ok(self.rows(query)?.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
    }

    /// The first column of the first row.
    pub(crate) fn text(&mut self, query: &str) -> EngineResult<Option<String>> {
        Ok(self.texts(query)?.into_iter().next())
    }

    /// A number in the first column of the first row.
    pub(crate) fn number(&mut self, query: &str) -> EngineResult<Option<u64>> {
        Ok(self.text(query)?.and_then(|text| text.parse().ok()))
    }

    /// Runs a statement.
    pub(crate) fn run(&mut self, statement: &str) -> EngineResult<()> {
        self.rows(statement).map(drop)
    }

    /// The same, but the caller looks at a refusal.
    pub(crate) fn try_run(&mut self, statement: &str) -> EngineResult<Result<(), Refusal>> {
        Ok(self.ask(statement)?.map(drop))
    }

    /// An error for a refusal.
    pub(crate) fn refused(&self, refusal: &Refusal) -> EngineError {
        failure::refused(&self.place, refusal)
    }

    /// Rows of a query; the caller looks at a refusal.
    pub(crate) fn ask(&mut self, query: &str) -> EngineResult<Result<Vec<Row>, Refusal>> {
        let (Some(connection), Some(runtime)) = (self.connection.as_mut(), &self.runtime) else {
            return Err(Cancelled.into());
        };
        let context = &self.context;
        let answer = runtime.block_on(async {
            let asked = connection.query::<mysql_async::Row, _>(query);
            let mut asked = std::pin::pin!(asked);
            loop {
                match tokio::time::timeout(TICK, &mut asked).await {
                    Ok(answer) => return Some(answer),
                    Err(_) if context.cancel.is_cancelled() => return None,
                    Err(_) => {}
                }
            }
        });
        match answer {
            Some(Ok(rows)) => Ok(Ok(rows.into_iter().map(texts_of).collect())),
            Some(Err(error)) => Ok(Err(refusal_of(&error))),
            None => {
                self.abandon();
                Err(Cancelled.into())
            }
        }
    }

    /// Ends the connection with what it does, which a server else finishes though nobody waits for it.
    fn abandon(&mut self) {
        let (Some(connection), Some(runtime)) = (self.connection.take(), &self.runtime) else { return };
        let (id, options) = (connection.id(), self.options.clone());
        runtime.block_on(async {
            let kill = async {
                let mut other = Conn::new(options).await?;
                other.query_drop(format!("KILL {id}")).await?;
                other.disconnect().await
            };
            let _ = tokio::time::timeout(PATIENCE, kill).await;
            drop(connection);
        });
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let (connection, Some(runtime)) = (self.connection.take(), self.runtime.take()) else { return };
        let goodbye = move || {
            // The server gives up locks when it has heard this; a dropped socket it may notice later.
            if let Some(connection) = connection {
                let goodbye = async { tokio::time::timeout(TICK * 40, connection.disconnect()).await };
                let _ = runtime.block_on(goodbye);
            }
            drop(runtime);
        };
        // On a thread of its own: in an async function, neither may a runtime wait nor be dropped.
        let _ = std::thread::spawn(goodbye).join();
    }
}

fn texts_of(row: mysql_async::Row) -> Row {
    let text = |value: Value| match value {
        Value::NULL => None,
        Value::Bytes(bytes) => {
            Some(String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
        }
        other => Some(other.as_sql(true)),
    };
    row.unwrap().into_iter().map(text).collect()
}

fn refusal_of(error: &Error) -> Refusal {
    match error {
        Error::Server(error) => Refusal { code: error.code, message: error.message.clone() },
        // None of these says a password; what an I/O error says, it says of the connection.
        Error::Io(error) => Refusal { code: 0, message: error.to_string() },
        Error::Driver(error) => Refusal { code: 0, message: error.to_string() },
        _ => Refusal { code: 0, message: "the connection failed".to_owned() },
    }
}
