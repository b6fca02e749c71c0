//! A configured library: settings once, then any number of calls.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use copal::config::{Configuration, Environment, Overrides};
use copal::{
    Copal, CopalError, DatabaseSettings, ErrorKind, PassphraseSource, Result, S3Options, Secret, Settings, Source,
};
use pyo3::prelude::*;
use serde::Deserialize;

use crate::work::Work;
use crate::{calls, failure};

/// The schemes of databases that are files, and of archives.
const FILES: [&str; 3] = ["sqlite", "duckdb", "file"];

/// What a program says; the rest comes from the environment and `copal.toml`.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Given {
    config: Option<PathBuf>,
    repository: Option<String>,
    passphrase: Option<Secret>,
    identity: Option<Secret>,
    s3: Option<S3Options>,
    /// Databases by name, as URL or path; one that is configured keeps its policy.
    databases: BTreeMap<String, String>,
    /// A Python with the module `duckdb`, for checks of restored databases, if nothing else is said.
    duckdb_program: Option<PathBuf>,
}

impl Given {
    fn settings(self) -> Result<(Settings, Vec<String>)> {
        let environment = Environment::of_process();
        let configuration = Configuration::load(self.config.as_deref(), &environment)?;
        let mut resolved = configuration.resolve(&Overrides { repository: self.repository }, &environment)?;
        let settings = &mut resolved.settings;
        if let Some(passphrase) = self.passphrase {
            settings.passphrase = PassphraseSource::Known(passphrase);
        }
        settings.identity = self.identity.or(settings.identity.take());
        settings.s3 = self.s3.unwrap_or(std::mem::take(&mut settings.s3));
        settings.duckdb.program = settings.duckdb.program.take().or(self.duckdb_program);
        for (name, url) in self.databases {
            settings.databases.entry(name).or_insert_with(DatabaseSettings::default).url = url;
        }
        Ok((resolved.settings, resolved.notices))
    }
}

/// The use cases over one repository, made of settings as JSON: config, repository, passphrase, identity, s3, databases,
/// duckdb_program. Raises `Failure`.
#[pyclass(frozen, module = "copal._copal")]
pub(crate) struct Session {
    settings: Settings,
    notices: Vec<String>,
    /// With the process that it belongs to: an open repository has connections, which a fork does not share.
    /// Locked under the interpreter's lock only.
    copal: Mutex<(u32, Copal)>,
}

impl Session {
    /// The use cases of this process.
    pub(crate) fn copal(&self) -> Copal {
        let mut copal = self.copal.lock().unwrap_or_else(PoisonError::into_inner);
        let process = std::process::id();
        if copal.0 != process {
            let new = Copal::new(self.settings.clone());
            // Dropping the old one could wait for threads that are not here.
            std::mem::forget(std::mem::replace(&mut *copal, (process, new)));
        }
        copal.1.clone()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let copal = self.copal.get_mut().unwrap_or_else(PoisonError::into_inner);
        if copal.0 != std::process::id() {
            std::mem::forget(std::mem::replace(&mut copal.1, Copal::new(Settings::new(""))));
        }
    }
}

#[pymethods]
impl Session {
    #[new]
    fn new(settings: &str) -> PyResult<Self> {
        let wrong = |e| failure::raise(&failure::wrong_call("the settings", &e));
        let given: Given = serde_json::from_str(settings).map_err(wrong)?;
        let (settings, notices) = given.settings().map_err(|e| failure::raise(&e))?;
        let copal = Mutex::new((std::process::id(), Copal::new(settings.clone())));
        Ok(Self { settings, notices, copal })
    }

    /// Remarks about the settings, each one line.
    #[getter]
    fn notices(&self) -> Vec<String> {
        self.notices.clone()
    }

    /// The repository's URL or path.
    #[getter]
    fn repository(&self) -> String {
        self.settings.repository.clone()
    }

    /// The names of the configured databases, sorted.
    #[getter]
    fn databases(&self) -> Vec<String> {
        self.settings.databases.keys().cloned().collect()
    }

    /// Whether a database (a name, URL or path) is known to be on a server, so that no file of it can be opened here.
    fn is_server(&self, database: &str) -> bool {
        let copal = self.copal();
        let named = copal.configured_name(database);
        let server = copal.server_of(named).map_or(named, |(server, _)| server);
        let text = self.settings.databases.get(server).map_or(named, |configured| configured.url.as_str());
        let source = Source::parse(text).ok();
        source.as_ref().and_then(Source::scheme).is_some_and(|scheme| !FILES.contains(&scheme))
    }

    /// Begins a use case with its arguments as JSON.
    fn start(&self, name: String, arguments: &str) -> PyResult<Work> {
        let arguments = serde_json::from_str(arguments)
            .map_err(|e| CopalError::new(ErrorKind::Usage, "the arguments are no JSON").because(e))
            .map_err(|e| failure::raise(&e))?;
        let copal = self.copal();
        Work::begin(|context| calls::call(copal, name, arguments, context)).map_err(|e| failure::raise(&e))
    }
}
