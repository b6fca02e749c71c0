//! Log lines of `copal serve`: text for people, or a JSON object a line.

use std::io::IsTerminal;

use copal::config::LogFormat;
use copal::{CopalError, ErrorKind, Result};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Begins to log to standard error.
///
/// What other crates tell below a warning stays out: they do not know what is secret here.
pub(crate) fn start(format: LogFormat, is_verbose: bool) -> Result<()> {
    let ours = if is_verbose { LevelFilter::DEBUG } else { LevelFilter::INFO };
    let filter = Targets::new().with_target("copal", ours).with_default(LevelFilter::WARN);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let layer = match format {
        LogFormat::Text => layer.with_ansi(colours).boxed(),
        LogFormat::Json => layer.with_ansi(false).json().flatten_event(true).boxed(),
    };
    let failed = |error| CopalError::new(ErrorKind::Failed, "the log cannot be started").because(error);
    tracing_subscriber::registry().with(layer.with_filter(filter)).try_init().map_err(failed)
}
