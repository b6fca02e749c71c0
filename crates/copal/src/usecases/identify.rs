//! What a URL, a path or the beginning of a file is, before it is configured.

use std::sync::Arc;

use super::{Copal, blocking};
use crate::Result;

/// What a database, or a whole server, turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identified {
    /// The engine's name.
    pub engine: &'static str,
    /// Version of the file's format or of the server.
    pub version: String,
    /// Size in bytes, where it is known.
    pub bytes: Option<u64>,
    /// Whether it is a file.
    pub is_file: bool,
}

impl Copal {
    /// Looks whether a database, or the server that a URL names as a whole, can be read, and what it is.
    pub async fn identify(&self, database: &str) -> Result<Identified> {
        let subject = self.subject(database)?;
        let (engine, source) = (Arc::clone(&subject.engine), subject.source);
        let identity = blocking(move || engine.identify(&source)).await??;
        let is_file = subject.engine.capabilities().is_file;
        Ok(Identified { engine: subject.engine.name(), version: identity.version, bytes: identity.bytes, is_file })
    }

    /// The engine of a file that begins like this, if it is one that is built in.
    pub fn recognise(&self, beginning: &[u8]) -> Option<&'static str> {
        self.engines.recognise(beginning)
    }

    /// The names of the engines that are built in, but for the one of what lives in a program.
    pub fn engine_names(&self) -> Vec<&'static str> {
        self.engines.names()
    }
}
