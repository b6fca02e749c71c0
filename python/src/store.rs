//! Tables of a Python program as a database that Copal saves and restores: `memory:NAME` of one session.
//!
//! Rows are encoded on the thread of the program, before anything of a backup is begun; what works on threads of its own only ever
//! sees bytes.

mod loaded;
mod saved;
mod view;

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use copal::memory::{EncodedStore, Position, Registration};
use pyo3::prelude::*;

use crate::failure;
use crate::session::Session;
pub(crate) use loaded::LoadedTables;
use saved::{Changes, Saved};
pub(crate) use view::{PackedView, packed_digests};

/// A place for views that are to be saved and for what was restored, under a name that one session knows.
#[pyclass(frozen, module = "copal._copal")]
pub(crate) struct Store {
    name: String,
    session: Py<Session>,
    /// Locked under the interpreter's lock only.
    open: Mutex<Option<Open>>,
}

/// What belongs to one process.
struct Open {
    process: u32,
    store: EncodedStore,
    registration: Registration,
    /// The newest state that was offered.
    position: Position,
    /// What it changes.
    offered: Option<Changes>,
    saved: Saved,
}

impl Store {
    fn open(&self) -> PyResult<MutexGuard<'_, Option<Open>>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let process = std::process::id();
        if open.as_ref().is_none_or(|open| open.process != process) {
            // What a forked process has of its parent may be locked for ever.
            std::mem::forget(open.take());
            let store = EncodedStore::new();
            let registration =
                self.session.get().copal().register(&self.name, store.clone()).map_err(|e| failure::raise(&e))?;
            let position = Position { epoch: RandomState::new().build_hasher().finish(), commit: 0 };
            *open = Some(Open { process, store, registration, position, offered: None, saved: Saved::default() });
        }
        Ok(open)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let open = self.open.get_mut().unwrap_or_else(PoisonError::into_inner);
        if open.as_ref().is_some_and(|open| open.process != std::process::id()) {
            std::mem::forget(open.take());
        }
    }
}

#[pymethods]
impl Store {
    /// A store that the session's use cases know as `memory:NAME`.
    #[new]
    fn new(session: Py<Session>, name: String) -> PyResult<Self> {
        let store = Self { name, session, open: Mutex::new(None) };
        drop(store.open()?);
        Ok(store)
    }

    /// Its name for use cases: `memory:NAME`.
    #[getter]
    fn source(&self) -> PyResult<String> {
        Ok(self.open()?.as_ref().map(|open| open.registration.source()).unwrap_or_default())
    }

    /// Offers a view, which is empty afterwards, to the next backup; or, behind the state at `since`, to the next segment. False: it
    /// does not lead from what was saved last to as many rows as it says, and is not offered.
    #[pyo3(signature = (view, since = None))]
    fn offer(&self, view: &mut PackedView, since: Option<&str>) -> PyResult<bool> {
        // A state of somebody else: the engine will say that it does not know what happened since.
        let since = since.map(|since| since.parse().unwrap_or(Position { epoch: 0, commit: 0 }));
        let mut open = self.open()?;
        let Some(open) = open.as_mut() else { return Ok(false) };
        open.position.commit += 1;
        let (view, changes) = view.take(open.position, since);
        // A view of everything needs nothing under it.
        if since.is_some() && !open.saved.fits(&changes) {
            return Ok(false);
        }
        open.offered = Some(changes);
        open.store.offer(view);
        Ok(true)
    }

    /// Forgets what was offered. If it was saved, the next changes follow it.
    fn withdraw(&self, py: Python<'_>, is_saved: bool) -> PyResult<()> {
        let mut guard = self.open()?;
        let Some(open) = guard.as_mut() else { return Ok(()) };
        let withdrawn = open.store.withdraw();
        if let Some(changes) = open.offered.take().filter(|_| is_saved) {
            open.saved.apply(changes);
        }
        drop(guard);
        py.detach(|| drop(withdrawn));
        Ok(())
    }

    /// Takes what was restored last.
    fn take_loaded(&self) -> PyResult<Option<LoadedTables>> {
        Ok(self.open()?.as_ref().and_then(|open| open.store.take_loaded()).map(LoadedTables::new))
    }
}
