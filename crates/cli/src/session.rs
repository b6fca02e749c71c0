//! What every command has at hand: options, environment, output, and from them the library.

use std::sync::Arc;

use copal::config::{Configuration, Environment, Overrides};
use copal::{CancelToken, Context, Copal, PassphraseSource, Result, Settings};

use crate::arguments::GlobalOptions;
use crate::output::Output;
use crate::progress::Reporter;
use crate::prompt;

/// One run of the program.
pub(crate) struct Session {
    pub(crate) options: GlobalOptions,
    pub(crate) environment: Environment,
    pub(crate) output: Arc<Output>,
    pub(crate) cancel: CancelToken,
}

impl Session {
    /// Begins a run.
    pub(crate) fn new(options: GlobalOptions, environment: Environment, output: Arc<Output>) -> Self {
        Self { options, environment, output, cancel: CancelToken::default() }
    }

    /// The configuration that is in force, perhaps the empty one.
    pub(crate) fn configuration(&self) -> Result<Configuration> {
        Configuration::load(self.options.config.as_deref(), &self.environment)
    }

    /// The settings; without a passphrase somewhere, a terminal is asked when one is needed.
    pub(crate) fn settings(&self, configuration: &Configuration) -> Result<Settings> {
        let overrides = Overrides { repository: self.options.repository.clone() };
        let resolved = configuration.resolve(&overrides, &self.environment)?;
        for notice in &resolved.notices {
            self.output.notice(notice);
        }
        let mut settings = resolved.settings;
        let has_none = matches!(settings.passphrase, PassphraseSource::None) && settings.identity.is_none();
        if has_none && prompt::is_possible() {
            settings.passphrase = prompt::source();
        }
        Ok(settings)
    }

    /// The library, configured.
    pub(crate) fn copal(&self) -> Result<Copal> {
        Ok(Copal::new(self.settings(&self.configuration()?)?))
    }

    /// Runs one long operation with progress; phases are closed when it ends.
    pub(crate) async fn watch<T>(&self, what: &str, operation: impl AsyncFnOnce(&Context) -> Result<T>) -> Result<T> {
        let reporter = Arc::new(Reporter::new(&copal::Source::shown(what), self.output.clone()));
        let context = Context { cancel: self.cancel.clone(), progress: reporter.clone() };
        let result = operation(&context).await;
        reporter.finish();
        result
    }
}
