//! The engine: stores of this program behind Copal's contract.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use copal_core::{
    Capabilities, Capture, CheckLevel, CheckReport, Content, Context, Engine, EngineError, EngineErrorKind,
    EngineResult, Identity, Inventory, Journal, RestoreRequest, Restored, Scratch, Sink, Source,
};

use crate::view::inventory;
use crate::{MemoryError, MemoryErrorKind, MemoryResult, MemoryStore, Position, Store, View, encode, restore};

/// The version of the streams, as backups tell it.
const VERSION: &str = "1";

/// Backs up and restores the stores that are registered with it; clones share them.
#[derive(Clone, Default)]
pub struct MemoryEngine {
    stores: Arc<Mutex<BTreeMap<String, Entry>>>,
}

struct Entry {
    store: Arc<dyn Store>,
    /// How long the last view held up writers.
    held: Option<Duration>,
}

/// Keeps a store registered until it is dropped.
#[must_use = "the store is unregistered when this is dropped"]
pub struct Registration {
    stores: Arc<Mutex<BTreeMap<String, Entry>>>,
    name: String,
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let gone = self.stores.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
        // Behind the lock: the store may be the last of its kind, and large.
        drop(gone);
    }
}

impl Registration {
    /// The name under which the store is registered.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The store as a source: `memory:NAME`.
    pub fn source(&self) -> String {
        format!("memory:{}", self.name)
    }
}

impl fmt::Debug for MemoryEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryEngine").field("stores", &self.stores().keys()).finish()
    }
}

impl MemoryEngine {
    /// An engine with no stores.
    pub fn new() -> Self {
        Self::default()
    }

    fn stores(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.stores.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a store known as `memory:NAME` until the registration is dropped. Errors: `NameTaken`.
    pub fn register(&self, name: &str, store: impl Store + 'static) -> MemoryResult<Registration> {
        self.register_shared(name, Arc::new(store))
    }

    /// The same for a store that is shared already.
    pub fn register_shared(&self, name: &str, store: Arc<dyn Store>) -> MemoryResult<Registration> {
        if name.is_empty() || name.contains('\0') {
            return Err(MemoryError::NotOffered(format!("{name:?} is no name for a store")));
        }
        let mut stores = self.stores();
        if stores.contains_key(name) {
            return Err(MemoryError::NameTaken(name.to_owned()));
        }
        stores.insert(name.to_owned(), Entry { store, held: None });
        Ok(Registration { stores: Arc::clone(&self.stores), name: name.to_owned() })
    }

    /// How long the last backup or segment of a store held up its writers.
    pub fn last_held(&self, name: &str) -> Option<Duration> {
        self.stores().get(name).and_then(|entry| entry.held)
    }

    /// The store that a source names.
    pub(crate) fn find(&self, source: &Source) -> EngineResult<(String, Arc<dyn Store>)> {
        let name = name_of(source)?;
        match self.stores().get(&name) {
            Some(entry) => Ok((name, Arc::clone(&entry.store))),
            None => Err(EngineError::new(
                EngineErrorKind::NotFound,
                format!("no store is registered as {name:?} in this process"),
            )
            .hint(
                "a store lives in the program that registers it: back it up and restore it there, or restore to file:FOLDER",
            )),
        }
    }

    fn view(&self, source: &Source, since: Option<Position>) -> EngineResult<(String, Option<View>)> {
        let (name, store) = self.find(source)?;
        let view = store.view(since).map_err(|error| error.of(&name))?;
        if let (Some(entry), Some(view)) = (self.stores().get_mut(&name), &view) {
            entry.held = Some(view.held);
        }
        Ok((name, view))
    }
}

/// The name in `memory:NAME`.
fn name_of(source: &Source) -> EngineResult<String> {
    let name = source.reveal_rest();
    let name = name.strip_prefix("//").unwrap_or(name);
    if source.scheme() == Some("memory") && !name.is_empty() {
        return Ok(name.to_owned());
    }
    Err(EngineError::new(EngineErrorKind::NotThisEngine, format!("{source} names no store in memory"))
        .hint("write memory:NAME, with the name under which the program registers the store"))
}

fn captured(view: &View) -> Capture {
    Capture {
        engine_version: VERSION.to_owned(),
        inventory: view.inventory(),
        position: Some(view.position.to_string()),
        notes: Vec::new(),
    }
}

impl Engine for MemoryEngine {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            schemes: &["memory"],
            is_file: false,
            capture: true,
            restore: true,
            // What is saved every few seconds must be quick, and rows have the names of their fields in them.
            compression: 1,
            objects: false,
            keep_old: false,
            archives: true,
        }
    }

    fn recognises(&self, _: &[u8]) -> bool {
        false
    }

    fn identify(&self, source: &Source) -> EngineResult<Identity> {
        let (name, _) = self.find(source)?;
        let (canonical, version) = (format!("memory:{name}"), VERSION.to_owned());
        Ok(Identity { canonical, short_name: name, version, bytes: None })
    }

    fn capture(&self, source: &Source, sink: &mut dyn Sink, context: &Context) -> EngineResult<Capture> {
        let (name, view) = self.view(source, None)?;
        let view = view.ok_or_else(|| MemoryError::NotOffered("the store gave no view".to_owned()).of(&name))?;
        context.phase("reading", None);
        encode::full(&view, &name, sink, context)?;
        Ok(captured(&view))
    }

    fn restore(&self, content: &dyn Content, request: &RestoreRequest, context: &Context) -> EngineResult<Restored> {
        restore::restore(self, content, request, context)
    }

    fn inventory(&self, source: &Source, _: &Context) -> EngineResult<Inventory> {
        let (name, store) = self.find(source)?;
        Ok(inventory(&store.count(false).map_err(|error| error.of(&name))?))
    }

    fn check(&self, source: &Source, level: CheckLevel, context: &Context) -> EngineResult<CheckReport> {
        let (name, store) = self.find(source)?;
        if level == CheckLevel::None {
            return Ok(CheckReport::default());
        }
        context.phase("checking", None);
        let problems = match store.count(true) {
            Ok(_) => Vec::new(),
            Err(error) if matches!(error.kind(), MemoryErrorKind::Mismatch | MemoryErrorKind::Damaged) => {
                vec![error.to_string()]
            }
            Err(error) => return Err(error.of(&name)),
        };
        Ok(CheckReport { ran: vec!["decode".to_owned()], problems, impossible: Vec::new() })
    }

    fn scratch(&self, _: &Source, _: &Path) -> EngineResult<Scratch> {
        // Nobody has opened its tables, so every row is decoded and kept as it came.
        let name = format!("drill-{:016x}", rand::random::<u64>());
        let registration = self.register(&name, MemoryStore::new()).map_err(|error| error.of(&name))?;
        let source = Source::parse(&registration.source())
            .map_err(|error| EngineError::new(EngineErrorKind::Other, error.to_string()))?;
        Ok(Scratch {
            source,
            discard: Box::new(move || {
                drop(registration);
                Ok(())
            }),
        })
    }

    fn journal(&self) -> Option<&dyn Journal> {
        Some(self)
    }
}

impl Journal for MemoryEngine {
    fn capture_since(
        &self,
        source: &Source,
        since: &str,
        sink: &mut dyn Sink,
        context: &Context,
    ) -> EngineResult<Option<Capture>> {
        let name = name_of(source)?;
        let since: Position = since.parse().map_err(|error: MemoryError| error.of(&name))?;
        let (name, view) = self.view(source, Some(since))?;
        let Some(view) = view else { return Ok(None) };
        context.phase("reading", None);
        encode::changes(&view, &name, sink, context)?;
        Ok(Some(captured(&view)))
    }
}
