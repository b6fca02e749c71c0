//! `[daemon]`: where `copal serve` listens, how much it does at once, and how it stops.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::document::{At, Table};
use super::place::Base;
use crate::Result;

/// The table `[daemon]`, or what holds without one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonConfiguration {
    /// The address of the HTTP API.
    pub listen: SocketAddr,
    /// At most so many runs at the same time, over all databases.
    pub concurrency: usize,
    /// How long running backups may take to finish when the daemon is stopped.
    pub grace: Duration,
    /// The certificate that the API is served with; `None`: plain HTTP.
    pub tls: Option<TlsFiles>,
    /// The file that holds the hashed tokens of the API.
    pub tokens_file: Option<PathBuf>,
    /// How log lines are written.
    pub log: LogFormat,
}

/// A certificate and its key, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and those of its issuers behind it.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for DaemonConfiguration {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8467)),
            concurrency: 2,
            grace: Duration::from_secs(60),
            tls: None,
            tokens_file: None,
            log: LogFormat::default(),
        }
    }
}

impl DaemonConfiguration {
    /// Reads the table, if there is one; paths become absolute.
    pub(super) fn read(top: &Table<'_>, base: &Base) -> Result<Self> {
        let default = Self::default();
        let Some(table) = top.table("daemon")? else { return Ok(default) };
        table.only(&["listen", "concurrency", "grace", "tls", "tokens_file", "log"])?;
        let concurrency = table.number("concurrency", 1..=64)?.and_then(|number| usize::try_from(number).ok());
        Ok(Self {
            listen: read_address(&table)?.unwrap_or(default.listen),
            concurrency: concurrency.unwrap_or(default.concurrency),
            grace: table.duration("grace")?.unwrap_or(default.grace),
            tls: read_tls(&table, base)?,
            tokens_file: table.text("tokens_file")?.map(|file| base.path(Path::new(&file.value))),
            log: read_log(&table)?.unwrap_or(default.log),
        })
    }
}

fn read_address(table: &Table<'_>) -> Result<Option<SocketAddr>> {
    let Some(At { value, offset }) = table.text("listen")? else { return Ok(None) };
    value.parse().map(Some).map_err(|_| {
        let error = table.error(offset, format!("\"listen\": \"{value}\" is no address with a port"));
        error.with_hint("write \"127.0.0.1:8467\", or \"[::]:8467\" for every address of this machine")
    })
}

fn read_tls(table: &Table<'_>, base: &Base) -> Result<Option<TlsFiles>> {
    let Some(tls) = table.table("tls")? else { return Ok(None) };
    tls.only(&["certificate", "key"])?;
    let file = |key: &str| -> Result<PathBuf> {
        let missing = || {
            let error = tls.error(tls.offset, format!("\"{key}\" is missing"));
            error.with_hint("tls = { certificate = \"cert.pem\", key = \"key.pem\" }, for example")
        };
        Ok(base.path(Path::new(&tls.text(key)?.ok_or_else(missing)?.value)))
    };
    Ok(Some(TlsFiles { certificate: file("certificate")?, key: file("key")? }))
}

fn read_log(table: &Table<'_>) -> Result<Option<LogFormat>> {
    let Some(At { value, offset }) = table.text("log")? else { return Ok(None) };
    match value.as_str() {
        "text" => Ok(Some(LogFormat::Text)),
        "json" => Ok(Some(LogFormat::Json)),
        _ => Err(table.error(offset, "\"log\" must be \"text\" or \"json\"")),
    }
}
