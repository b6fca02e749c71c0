//! The first start: `copal serve` where there is no configuration.

use std::io::IsTerminal;
use std::path::PathBuf;

use copal::Result;
use copal::config::{Configuration, DaemonConfiguration};
use copal_daemon::{Existing, Handover, Loaded, SetUp, SetUpOptions};

use super::{Hangups, Loader, has_work, nothing_to_protect};
use crate::session::Session;
use crate::signals::{self, Interrupted};

/// The configuration that somebody may write by the page; `None` where nobody is there to do it, or where something is said
/// already: a service must not wait for a person in silence. Somebody is there who has a terminal, or who says so.
pub(super) fn file(found: &Configuration, session: &Session, is_wanted: bool) -> Option<PathBuf> {
    // With --json the address would be printed nowhere.
    let is_read = (is_wanted || std::io::stdout().is_terminal()) && !session.output.is_json();
    let environment = &session.environment;
    let is_said = ["NOTIFY_SOCKET", "COPAL_REPOSITORY"].iter().any(|name| environment.get(name).is_some());
    if found.path.is_some() || is_said || !is_read {
        return None;
    }
    std::path::absolute(Configuration::user_file(environment)?).ok()
}

/// Waits until there is a configuration, which the loader then reads; `None` if the user stops it before.
pub(super) async fn run(
    file: PathBuf,
    loader: &mut Loader,
    session: &Session,
    hangups: &mut Hangups,
    interrupted: &mut Interrupted,
) -> Result<Option<(Loaded, Handover)>> {
    let listen = loader.listen.unwrap_or(DaemonConfiguration::default().listen);
    let environment = session.environment.clone();
    let set_up = SetUp::start(SetUpOptions { listen, file, environment, existing: existing(loader) }).await?;
    session.output.text(&format!(
        "There is no copal.toml yet. Set Copal up in a browser on this machine:\n\n  {}\n\n\
         Whoever opens this address can do it; its code holds until that is done. Without a browser: copal init",
        set_up.url()
    ));
    // The code is for whoever reads standard output, not for a log that is kept.
    tracing::info!("there is no configuration: the set-up waits at {}, and its code was printed", set_up.address());
    let mut loaded = loop {
        tokio::select! {
            loaded = set_up.done() => break loaded,
            () = hangups.next() => set_up.look_again(),
            () = signals::wait(interrupted) => {
                tracing::info!("stopping: nothing was set up");
                set_up.stop().await;
                return Ok(None);
            }
        }
    };
    let ends = set_up.stop().await;
    loader.options.config.clone_from(&loaded.configuration.path);
    // With the port that was given where any was asked for.
    if loader.listen.is_some() {
        loader.listen = Some(ends.address);
        loaded.configuration.daemon.listen = ends.address;
    }
    Ok(Some((loaded, ends)))
}

/// Finds a configuration as every command does.
fn existing(loader: &Loader) -> Existing {
    let loader = loader.clone();
    Box::new(move || {
        let configuration = Configuration::load(None, &loader.environment)?;
        match (&configuration.path, has_work(&configuration)) {
            (None, _) => Ok(None),
            (Some(_), false) => Err(nothing_to_protect()),
            (Some(_), true) => loader.resolve(configuration).map(Some),
        }
    })
}
