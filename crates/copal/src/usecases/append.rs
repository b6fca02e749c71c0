//! Appending to the journal of a database: what happened since the state that was saved last.

use std::sync::Arc;

use copal_core::{Capture, Context, Engine, Sink, Source};
use copal_repository::SegmentFacts;

use super::discard::Discard;
use super::find::{Subject, host_name};
use super::{Copal, blocking, on_own_thread};
use crate::outcome::segment;
use crate::{AppendOutcome, CopalError, ErrorKind, JournalEnd, Result};

impl Copal {
    /// Whether the engine of a database can tell what happened since a backup. False for a database that cannot be found now.
    pub fn has_journal(&self, database: &str) -> bool {
        self.subject(database).is_ok_and(|subject| subject.engine.journal().is_some())
    }

    /// Saves what happened since `end`, the state that was saved last, as the next segment of the journal; `None`: nothing happened.
    ///
    /// `end` comes from the outcome of the backup or segment before. Errors: `Gap` if that is not the newest state of the repository, or if
    /// the engine does not know any more what happened since: a backup helps. `Unsupported` for an engine without a journal.
    pub async fn append(&self, database: &str, end: &JournalEnd, context: &Context) -> Result<Option<AppendOutcome>> {
        let subject = self.subject(database)?;
        let position = position(&subject, end)?;
        let repository = self.repository().await?;
        let stored = repository.database(&subject.name).await?.ok_or_else(|| {
            CopalError::new(ErrorKind::Gap, format!("the repository has no backup of {} any more", subject.display))
        })?;
        context.phase("reading", None);
        let options = self.write_options(&*subject.engine)?;
        let (session, mut sink) = repository.begin_segment(&stored, &end.follows, &options, context).await?;
        let captured_at = jiff::Timestamp::now();
        let (engine, source, for_engine) = (Arc::clone(&subject.engine), subject.source.clone(), context.clone());
        let captured = on_own_thread(move || {
            let capture = capture_since(&*engine, &source, &position, &mut sink, &for_engine);
            (capture, sink)
        });
        let (capture, sink) = match captured.await {
            Ok((Ok(Some(capture)), sink)) => (capture, sink),
            Ok((Ok(None), sink)) => {
                session.abandon(Some(sink)).await;
                return Ok(None);
            }
            Ok((Err(error), sink)) => {
                session.abandon(Some(sink)).await;
                return Err(error);
            }
            Err(error) => {
                session.abandon(None).await;
                return Err(error);
            }
        };
        context.phase("storing", None);
        let facts = SegmentFacts {
            engine: subject.engine.name().to_owned(),
            engine_version: capture.engine_version,
            copal_version: env!("CARGO_PKG_VERSION").to_owned(),
            host: host_name(),
            captured_at,
            inventory: capture.inventory,
            position: capture.position.clone(),
            notes: capture.notes,
        };
        let committed = session.commit(sink, facts, context).await?;
        Ok(Some(AppendOutcome {
            base: committed.end.base.clone(),
            segment: segment(&committed.segment),
            end: JournalEnd { follows: committed.end, position: capture.position },
            held: self.engines.held(&subject.source),
        }))
    }

    /// Whether anything happened since `end`, the state that was saved last. Errors: as [`append`](Self::append); the repository is not asked.
    pub async fn has_changed(&self, database: &str, end: &JournalEnd, context: &Context) -> Result<bool> {
        let subject = self.subject(database)?;
        let position = position(&subject, end)?;
        let context = context.clone();
        let asked =
            blocking(move || capture_since(&*subject.engine, &subject.source, &position, &mut Discard, &context));
        Ok(asked.await??.is_some())
    }
}

fn position(subject: &Subject, end: &JournalEnd) -> Result<String> {
    let name = subject.engine.name();
    if subject.engine.journal().is_none() {
        let message = format!("{name} has no journal that could be appended to");
        return Err(
            CopalError::new(ErrorKind::Unsupported, message).with_hint("make a backup, which shares what is unchanged")
        );
    }
    let unknown = || CopalError::new(ErrorKind::Gap, format!("{name} did not say where its last backup stands"));
    end.position.clone().ok_or_else(unknown)
}

fn capture_since(
    engine: &dyn Engine,
    source: &Source,
    position: &str,
    sink: &mut dyn Sink,
    context: &Context,
) -> Result<Option<Capture>> {
    let journal = engine
        .journal()
        .ok_or_else(|| CopalError::new(ErrorKind::Unsupported, format!("{} has no journal", engine.name())))?;
    Ok(journal.capture_since(source, position, sink, context)?)
}
