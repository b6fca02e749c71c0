//! From a configuration to the settings of the daemon's parts.

use std::collections::BTreeMap;
use std::path::PathBuf;

use copal::config::{Configuration, Notifier};
use copal::{CopalError, ErrorKind, Result, Settings, Source};
use copal_notify::{Channel, OutboxOptions, SpacingOptions};

use crate::notifier::{NotificationSettings, NotifierSettings};
use crate::runner::RunnerSettings;

/// A configuration, resolved.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// As it stands in the file.
    pub configuration: Configuration,
    /// With everything that the environment says.
    pub settings: Settings,
}

impl Loaded {
    /// For the runner.
    pub(crate) fn runner(&self) -> Result<RunnerSettings> {
        Ok(RunnerSettings {
            settings: self.settings.clone(),
            policies: self.configuration.policies(&self.settings.timezone)?,
            limit: self.configuration.daemon.concurrency,
        })
    }

    /// For the notifications.
    pub(crate) fn notifications(&self, host: &str) -> Result<NotificationSettings> {
        let notifiers = self.configuration.notifiers.iter().map(|(name, notifier)| {
            let channel = channel(name, notifier)?;
            let spacing = SpacingOptions::for_channel(&channel, &notifier.on, notifier.after);
            Ok((name.clone(), NotifierSettings { channel, spacing }))
        });
        let routes =
            self.configuration.databases.iter().map(|(name, database)| (name.clone(), database.notify.clone()));
        Ok(NotificationSettings {
            host: host.to_owned(),
            notifiers: notifiers.collect::<Result<_>>()?,
            routes: routes.collect(),
            outbox: OutboxOptions::default(),
        })
    }

    /// The files that are watched for changes.
    pub(crate) fn watched(&self) -> BTreeMap<String, PathBuf> {
        let watched = self.configuration.databases.iter().filter(|(_, database)| database.on_change);
        let file = |url: &str| Source::parse(url).ok().map(|source| source.file_path());
        watched.filter_map(|(name, database)| Some((name.clone(), file(&database.settings.url)?))).collect()
    }

    /// The file of the API's tokens: the configured one, else one in the state folder.
    pub fn tokens_file(&self) -> Option<PathBuf> {
        let configured = self.configuration.daemon.tokens_file.clone();
        configured.or_else(|| Some(self.settings.state.as_ref()?.join("tokens.toml")))
    }
}

/// The channel of a notifier, ready to send.
pub fn channel(name: &str, notifier: &Notifier) -> Result<Channel> {
    Channel::parse(notifier.channel, &notifier.address)
        .map_err(|error| CopalError::new(ErrorKind::Configuration, format!("[notify.{name}]: {error}")))
}
