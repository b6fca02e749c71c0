//! Tells people: takes the events of the runner, decides who is told, and sends with retries.
//!
//! Sending happens beside everything else, so a notifier that fails or hangs holds up no backup and no other notifier; its
//! status says how it does. What each was told is kept in the history, so that a restart repeats nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use copal::schedule::RunKind;
use copal_notify::{
    Channel, Event, Notice, NotifierStatus, NotifyError, Outbox, OutboxOptions, Spacing, SpacingOptions, Ticket, Told,
};
use jiff::Timestamp;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::events::notices;
use crate::runner::{RunEvent, Runner};

const LOOK_AGAIN: Duration = Duration::from_secs(30);
const COMMANDS: usize = 16;

/// One notifier.
#[derive(Clone, Debug)]
pub struct NotifierSettings {
    /// How it is reached.
    pub channel: Channel,
    /// What it wants to be told, and how often.
    pub spacing: SpacingOptions,
}

/// Who is told.
#[derive(Clone, Debug, Default)]
pub struct NotificationSettings {
    /// The host that tells.
    pub host: String,
    /// The notifiers by name.
    pub notifiers: BTreeMap<String, NotifierSettings>,
    /// The notifiers of each database.
    pub routes: BTreeMap<String, Vec<String>>,
    /// How failed sendings are repeated.
    pub outbox: OutboxOptions,
}

/// Why a trial was not delivered.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// There is no such notifier.
    #[error("there is no notifier {0:?}")]
    Unknown(String),
    /// It was sent in vain.
    #[error(transparent)]
    Failed(#[from] NotifyError),
    /// The daemon stops.
    #[error("the daemon is stopping")]
    Stopping,
}

enum Command {
    Reload(Box<NotificationSettings>),
    Channel(String, oneshot::Sender<Option<(Channel, String)>>),
    Stop(Duration, oneshot::Sender<()>),
}

/// The notifications of a daemon. Clones are for the same task, which ends with the last of them.
#[derive(Clone, Debug)]
pub struct Notifications {
    commands: mpsc::Sender<Command>,
    status: Arc<Mutex<BTreeMap<String, NotifierStatus>>>,
}

impl Notifications {
    /// Tells of what the runner does from now on; `told` is what is known of before.
    pub fn start(settings: NotificationSettings, runner: &Runner, told: BTreeMap<String, Told>) -> Self {
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let status = Arc::default();
        let mut task = Task {
            spacings: BTreeMap::new(),
            outbox: Outbox::new(settings.outbox.clone()),
            settings: NotificationSettings::default(),
            sendings: JoinSet::new(),
            runner: runner.clone(),
            status: Arc::clone(&status),
        };
        let events = runner.subscribe();
        task.configure(settings, told);
        tokio::spawn(task.run(events, inbox));
        Self { commands, status }
    }

    /// How each notifier does.
    pub fn status(&self) -> BTreeMap<String, NotifierStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts other settings in force; what waits for notifiers that stay is kept.
    pub async fn reload(&self, settings: NotificationSettings) {
        if self.commands.send(Command::Reload(Box::new(settings))).await.is_err() {
            tracing::debug!("the notifications have ended");
        }
    }

    /// Sends a trial at once.
    pub async fn test(&self, notifier: &str) -> Result<(), TrialError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Channel(notifier.to_owned(), reply);
        self.commands.send(command).await.map_err(|_| TrialError::Stopping)?;
        let found = answer.await.map_err(|_| TrialError::Stopping)?;
        let (channel, host) = found.ok_or_else(|| TrialError::Unknown(notifier.to_owned()))?;
        Ok(channel.send(&Notice::test(host, Timestamp::now())).await?)
    }

    /// Sends what there is for so long at most, and ends. To be called when the runner has stopped.
    pub async fn stop(&self, patience: Duration) {
        let (reply, answer) = oneshot::channel();
        if self.commands.send(Command::Stop(patience, reply)).await.is_ok() {
            // An error says that it has ended.
            let _ = answer.await;
        }
    }
}

type Sent = (Ticket, Result<(), NotifyError>);

struct Task {
    settings: NotificationSettings,
    spacings: BTreeMap<String, Spacing>,
    outbox: Outbox,
    sendings: JoinSet<Sent>,
    runner: Runner,
    status: Arc<Mutex<BTreeMap<String, NotifierStatus>>>,
}

impl Task {
    async fn run(mut self, mut events: broadcast::Receiver<RunEvent>, mut inbox: mpsc::Receiver<Command>) {
        loop {
            let sleep = self.send();
            tokio::select! {
                Some(sent) = self.sendings.join_next() => self.sent(sent),
                event = events.recv() => match event {
                    Ok(event) => self.hear(&event),
                    Err(broadcast::error::RecvError::Lagged(events)) => {
                        tracing::warn!(events, "too much happened at once to tell all of it");
                    }
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                command = inbox.recv() => match command {
                    Some(Command::Reload(settings)) => self.configure(*settings, BTreeMap::new()),
                    Some(Command::Channel(name, reply)) => {
                        let found = self.settings.notifiers.get(&name);
                        let found = found.map(|notifier| (notifier.channel.clone(), self.settings.host.clone()));
                        // Whoever asked may be gone.
                        let _ = reply.send(found);
                    }
                    Some(Command::Stop(patience, reply)) => {
                        self.hear_rest(&mut events);
                        self.finish(patience).await;
                        let _ = reply.send(());
                        return;
                    }
                    None => return,
                },
                () = tokio::time::sleep(sleep) => {}
            }
        }
    }

    fn configure(&mut self, settings: NotificationSettings, mut told: BTreeMap<String, Told>) {
        let mut old = std::mem::take(&mut self.spacings);
        for (name, notifier) in &settings.notifiers {
            let before = old.remove(name).map(|spacing| spacing.told().clone()).or_else(|| told.remove(name));
            let mut spacing = Spacing::with_told(notifier.spacing.clone(), before.unwrap_or_default());
            spacing.retain(|database| settings.routes.contains_key(database));
            self.spacings.insert(name.clone(), spacing);
        }
        for gone in old.keys().chain(told.keys()) {
            self.runner.recorder().record_told(gone, None);
        }
        self.outbox.retain(|name| settings.notifiers.contains_key(name));
        self.settings = settings;
        self.show();
    }

    fn hear(&mut self, event: &RunEvent) {
        let now = Timestamp::now();
        let database = match event {
            RunEvent::Started(run) | RunEvent::Ended(run, _) => run.database.as_str(),
            RunEvent::Missed(missed) => &missed.database,
            RunEvent::Stale { database, .. }
            | RunEvent::Damaged { database, .. }
            | RunEvent::Protected { database } => database,
            RunEvent::Reloaded => return,
        };
        let Some(route) = self.settings.routes.get(database).cloned() else { return };
        let next = self.runner.next_regular(database, RunKind::Backup);
        let what = notices(event, &self.settings.host, next);
        for name in &route {
            let Some(spacing) = self.spacings.get_mut(name) else { continue };
            let before = spacing.told().clone();
            let was_in_trouble = spacing.is_in_trouble(database);
            let mut is_over = false;
            for (database, event) in &what.over {
                is_over |= spacing.over(database, *event);
            }
            if let Some(notice) = what.recovered.as_ref().filter(|_| is_over && spacing.wants(Event::Recovered)) {
                self.outbox.push(name, notice.clone(), now);
            }
            for notice in &what.notices {
                let mut notice = notice.clone();
                if notice.event == Event::Success && was_in_trouble {
                    // It had not failed, but was missed or stale.
                    notice.event = Event::Recovered;
                }
                if spacing.decide(&notice, now) {
                    self.outbox.push(name, notice, now);
                }
            }
            if *spacing.told() != before {
                self.keep(name);
            }
        }
    }

    /// Keeps what a notifier was told. What waits to be sent may be lost with the daemon, so it is not kept as told.
    fn keep(&self, name: &str) {
        let Some(spacing) = self.spacings.get(name) else { return };
        let mut told = spacing.told().clone();
        for notice in self.outbox.unsent(name) {
            told.forget(&notice.database, notice.event);
        }
        self.runner.recorder().record_told(name, Some(told));
    }

    fn hear_rest(&mut self, events: &mut broadcast::Receiver<RunEvent>) {
        use broadcast::error::TryRecvError;
        loop {
            match events.try_recv() {
                Ok(event) => self.hear(&event),
                Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    /// Starts to send what is due; answers how long nothing else is.
    fn send(&mut self) -> Duration {
        let now = Timestamp::now();
        for parcel in self.outbox.due(now) {
            let Some(notifier) = self.settings.notifiers.get(&parcel.notifier) else { continue };
            let channel = notifier.channel.clone();
            self.sendings.spawn(async move { (parcel.ticket, channel.send(&parcel.notice).await) });
        }
        self.show();
        let next = self.outbox.next_due(now);
        let until = next.map(|next| Duration::try_from(next.duration_since(now)).unwrap_or_default());
        until.unwrap_or(LOOK_AGAIN).clamp(Duration::from_millis(10), LOOK_AGAIN)
    }

    fn sent(&mut self, sent: Result<Sent, tokio::task::JoinError>) {
        let now = Timestamp::now();
        match sent {
            Ok((ticket, Ok(()))) => {
                self.outbox.sent(&ticket, now);
                self.keep(ticket.notifier());
            }
            Ok((ticket, Err(error))) => {
                tracing::warn!(%error, "a notice was not delivered");
                self.outbox.failed(&ticket, &error, now);
            }
            Err(error) => tracing::error!(%error, "a sending was lost"),
        }
    }

    async fn finish(&mut self, patience: Duration) {
        let until = Instant::now() + patience;
        loop {
            let sleep = self.send();
            if self.sendings.is_empty() && self.outbox.next_due(Timestamp::now()).is_none() {
                break;
            }
            tokio::select! {
                Some(sent) = self.sendings.join_next() => self.sent(sent),
                () = tokio::time::sleep(sleep) => {}
                () = tokio::time::sleep_until(until) => break,
            }
        }
        self.show();
        self.runner.recorder().flush().await;
    }

    /// Shows how the notifiers do, also those that were never used.
    fn show(&self) {
        let mut status = self.outbox.status();
        for name in self.settings.notifiers.keys() {
            status.entry(name.clone()).or_default();
        }
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }
}
