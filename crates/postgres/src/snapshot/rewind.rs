//! Rewinding: a working copy of the snapshot takes the database's name.

use copal_core::{Context, EngineResult, Rewind, RewindOptions, Rewound, SnapshotId, Source};

use super::copying::Copying;
use super::kept::Description;
use super::opened;
use super::operation::{Operation, Work, allow, comment, rename, spare_of_passing};
use crate::engine::PostgresEngine;
use crate::others::Ended;
use crate::properties::{Properties, set_template};
use crate::quote::identifier;
use crate::restore::{PASSING, hold, passing_name, swap};
use crate::session::Session;
use crate::step::step;

/// A working copy that is ready. The lock of the operation is held as long as this lives.
struct Prepared {
    /// None once it is finished.
    operation: Option<Operation>,
    /// The working copy.
    passing: String,
    /// The snapshot's database.
    snapshot: String,
    comment: Option<String>,
    is_template: bool,
    exists: bool,
    /// Whether the working copy is a spare one if it is not used.
    keeps_spare: bool,
    /// How the next spare copy is made, if one is wanted.
    next: Option<Copying>,
    notes: Vec<String>,
}

/// Makes the working copy: the spare one, or one that is made now.
pub(super) fn prepare(
    engine: &PostgresEngine,
    source: &Source,
    id: &SnapshotId,
    options: RewindOptions,
    context: &Context,
) -> EngineResult<Box<dyn Rewind>> {
    let mut operation = Operation::begin(engine, source, false, context)?;
    let place = operation.place.clone();
    let mut kept = operation.find(id)?;
    let exists = place.target().exists(&mut operation.server)?;
    place.target().require_rights(&mut operation.server, exists)?;
    operation.require_free(true)?;
    if kept.spares.is_empty() {
        operation.wait_for_spare(&kept.database)?;
        kept = operation.find(id)?;
    }
    let is_backed_up = operation.is_backed_up(&kept.database)?;
    if is_backed_up && kept.spares.is_empty() {
        // A copy would end the backup's sessions.
        return Err(opened::is_backed_up(
            &place,
            "wait for the backup's end; snapshots with a spare copy can go back meanwhile",
        ));
    }
    let Description { snapshot, properties, .. } = kept.description;
    let bytes = snapshot.bytes.unwrap_or_default();
    let copying = Copying::choose(&mut operation.server, &kept.database, bytes);
    let passing = passing_name("new");
    let is_spare = !kept.spares.is_empty();
    step("before a working copy")?;
    let (made, copying) = match (kept.spares.first(), copying) {
        (Some(spare), copying) => {
            let named = [rename(spare, &passing), comment(&passing, PASSING)];
            // Without room for another one, this one is still there.
            (hold(&mut operation.server, &passing).and_then(|()| operation.transaction(&named)), copying.ok())
        }
        (None, copying) => {
            context.phase("copying", Some(bytes));
            let copying = copying?;
            (operation.copy(&kept.database, &passing, copying, &mut Ended::default()), Some(copying))
        }
    };
    let is_free = copying.is_some_and(Copying::is_free);
    let mut notes = std::mem::take(&mut operation.notes);
    let dressed = made.and_then(|()| {
        step("when the working copy is made")?;
        dress(&mut operation.server, &properties, &passing, context)
    });
    dressed.map_err(|error| operation.give_up(&passing, error))?;
    let mut next = copying.filter(|_| options.spare || is_free);
    if is_backed_up && next.take().is_some() {
        notes.push("no spare copy is made, since the snapshot is being backed up".to_owned());
    }
    Ok(Box::new(Prepared {
        operation: Some(operation),
        passing,
        snapshot: kept.database,
        comment: properties.comment,
        is_template: properties.is_template,
        exists,
        keeps_spare: is_spare || options.spare || is_free,
        next,
        notes,
    }))
}

/// Gives the working copy what the database had; what belongs to a role that is gone is left out, with a warning.
fn dress(server: &mut Session, properties: &Properties, passing: &str, context: &Context) -> EngineResult<()> {
    for statement in properties.apply(passing) {
        match server.try_run(&statement)? {
            Ok(()) => {}
            // undefined_object: a role, or the setting of an extension that is gone.
            Err(refusal) if refusal.state == "42704" => {
                context.warn(format!("left out, since {}: {statement}", refusal.message.trim()));
            }
            Err(refusal) => return Err(server.refused(&refusal)),
        }
    }
    Ok(())
}

impl Rewind for Prepared {
    fn finish(mut self: Box<Self>, context: &Context) -> EngineResult<Rewound> {
        let Some(mut operation) = self.operation.take() else { return Ok(Rewound::default()) };
        context.phase("swapping", None);
        let place = operation.place.clone();
        let old = self.exists.then(|| passing_name("old"));
        let mut then = vec![
            match &self.comment {
                Some(text) => comment(&place.name, text),
                None => format!("COMMENT ON DATABASE {} IS NULL", identifier(&place.name)),
            },
            allow(&place.name, true),
            set_template(&place.name, self.is_template),
        ];
        if let Some(old) = &old {
            // A template cannot be dropped.
            then.extend([comment(old, PASSING), allow(old, false), set_template(old, false)]);
        }
        let mut ended = Ended::default();
        let Operation { server, second, .. } = &mut operation;
        let exchanged =
            swap::exchange(&place.target(), server, second, &self.passing, old.as_deref(), &then, &mut ended);
        if let Err(error) = exchanged {
            self.operation = Some(operation);
            return Err(error);
        }
        // Nothing is an error from here on. The old database's name says that it may go.
        let dropping = old.map(|old| Work {
            statements: vec![format!("DROP DATABASE {} WITH (FORCE)", identifier(&old))],
            held: vec![old],
        });
        let spare = self.next.map(|copying| operation.spare(&self.snapshot, copying));
        // The spare copy first where it takes no room.
        let works = if self.next.is_some_and(Copying::is_free) { [spare, dropping] } else { [dropping, spare] };
        operation.leave(works.into_iter().flatten());
        self.notes.extend(ended.note(&place.name));
        Ok(Rewound { notes: std::mem::take(&mut self.notes) })
    }
}

impl Drop for Prepared {
    /// The working copy is a spare one again, or goes.
    fn drop(&mut self) {
        let Some(operation) = self.operation.take() else { return };
        let statements = match self.keeps_spare {
            true => spare_of_passing(&self.passing, &operation.place.name, &self.snapshot).to_vec(),
            false => vec![format!("DROP DATABASE {} WITH (FORCE)", identifier(&self.passing))],
        };
        // Its lock is held already, by the session that does it.
        operation.leave([Work { held: Vec::new(), statements }]);
    }
}
