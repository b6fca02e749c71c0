//! Rewinds: another copy of the snapshot, and one RENAME TABLE that puts it in the place of what is there.
//!
//! The table with the plan goes the same way as the database's own tables, in the same statement: in the working schema it says
//! that the renaming is still to come, in the aside schema that it is done. Whoever finds it does the rest ([`advance`]).

use copal_core::{Context, EngineError, EngineErrorKind, EngineResult, Rewind, RewindOptions, Rewound, SnapshotId};
use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::catalogue::{Object, Schema, refuse_foreign_references};
use crate::copy::{self, Purpose};
use crate::holders::insist;
use crate::names::{Kind, REWIND, SPARE};
use crate::objects;
use crate::privileges::{self, Deed};
use crate::quote::{identifier, literal, table};
use crate::session::Session;
use crate::snapshots::{Held, drop_after_failure};
use crate::step::step;
use crate::stored::{Stored, from_json, to_json};

/// What a rewind is about to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// The database's name.
    pub(crate) of: String,
    working: String,
    aside: String,
    /// Whether there was no database of the name.
    is_new: bool,
    wanted: Schema,
    /// The triggers and views that are dropped before the renaming.
    before: Vec<Object>,
}

/// A rewind of which the copy is made.
struct Prepared {
    held: Held,
    address: Address,
    stored: Stored,
    wanted: Schema,
    working: String,
    options: RewindOptions,
    is_finished: bool,
}

/// Makes the copy, or takes the spare one.
pub(crate) fn prepare(
    mut held: Held,
    address: &Address,
    id: &SnapshotId,
    options: RewindOptions,
    context: &Context,
) -> EngineResult<Box<dyn Rewind>> {
    let database = held.database.clone();
    let session = &mut held.session;
    let stored = Stored::find(session, &database, &held.key, id)?;
    privileges::check(session, &database, Deed::Rewind)?;
    refuse_foreign_references(session, &database)?;
    let wanted = stored.objects(session)?;
    let now = Schema::read(session, &database)?;
    let is_made = |o: &&Object| o.kind == "TRIGGER" || now.as_ref().is_none_or(|now| !now.objects.contains(o));
    let triggers = now.iter().flat_map(|now| now.of_kind("TRIGGER"));
    let definers = wanted.objects.iter().filter(is_made).chain(triggers).map(|object| object.definer.as_str());
    privileges::check_definers(session, &database, definers)?;
    let spare = Kind::Spare.beside(&stored.schema);
    let working = match stored.snapshot.has_spare {
        true => spare,
        false => Kind::Working.new_name(&held.key),
    };
    let is_spare = stored.snapshot.has_spare;
    let address = address.clone();
    let mut prepared = Prepared { held, address, stored, wanted, working, options, is_finished: is_spare };
    if !is_spare {
        prepared.copy(context)?;
    }
    // A spare copy that is not needed after all stays one.
    Ok(Box::new(prepared))
}

impl Prepared {
    fn copy(&mut self, context: &Context) -> EngineResult<()> {
        context.phase("copying", self.stored.snapshot.bytes);
        let name = self.working.clone();
        copy_snapshot(&mut self.held.session, &self.address, &self.stored, &self.wanted, &name)
    }

    fn spare(&mut self, context: &Context) -> EngineResult<()> {
        context.phase("making a spare copy", self.stored.snapshot.bytes);
        make_spare(&mut self.held.session, &self.address, &self.stored, &self.wanted)
    }
}

/// A copy of a snapshot in a new schema.
fn copy_snapshot(
    session: &mut Session,
    address: &Address,
    stored: &Stored,
    wanted: &Schema,
    to: &str,
) -> EngineResult<()> {
    step("before the working schema")?;
    session.run(&format!("CREATE DATABASE {} {}", identifier(to), wanted.options()))?;
    step("working schema made")?;
    copy::make_tables(session, wanted, to, Purpose::Replace)?;
    step("working tables made")?;
    copy::fill_from_rest(session, address, wanted, &stored.schema, to)?;
    copy::set_sequences(session, wanted, &stored.schema, to)?;
    copy::analyze(session, wanted, to)?;
    step("working tables filled")
}

/// Makes a copy that stands ready.
pub(crate) fn make_spare(
    session: &mut Session,
    address: &Address,
    stored: &Stored,
    wanted: &Schema,
) -> EngineResult<()> {
    let name = Kind::Spare.beside(&stored.schema);
    let made = copy_snapshot(session, address, stored, wanted, &name).and_then(|()| {
        // A table that is there is there as a whole: no row is needed.
        session.run(&format!("CREATE TABLE {} (id INT PRIMARY KEY)", table(&name, SPARE)))
    });
    if made.is_err() {
        drop_after_failure(address, &name);
    }
    made
}

impl Rewind for Prepared {
    fn finish(mut self: Box<Self>, context: &Context) -> EngineResult<Rewound> {
        context.phase("rewinding", None);
        let mut notes = std::mem::take(&mut self.held.notes);
        let database = self.held.database.clone();
        refuse_foreign_references(&mut self.held.session, &database)?;
        let now = Schema::read(&mut self.held.session, &database)?;
        let is_in_the_way =
            |o: &Object| o.kind == "TRIGGER" || o.kind == "VIEW" && self.wanted.tables.iter().any(|t| t.name == o.name);
        let before = now.iter().flat_map(|now| &now.objects).filter(|o| is_in_the_way(o)).cloned().collect();
        let plan = Plan {
            of: database,
            working: self.working.clone(),
            aside: Kind::Aside.beside(&self.working),
            is_new: now.is_none(),
            wanted: self.wanted.clone(),
            before,
        };
        let session = &mut self.held.session;
        step("before the plan")?;
        plan.write(session)?;
        if let Err(error) = step("plan written").and_then(|()| plan.rename(session, &mut notes)) {
            // A new session: the other may be the one that failed, or was told to stop.
            let undone = Session::open(&self.address, &Context::silent()).and_then(|mut session| {
                let is_renamed = plan.is_renamed(&mut session)?;
                if is_renamed { Ok(false) } else { plan.undo(&mut session).map(|()| true) }
            });
            if !undone.is_ok_and(|is_undone| is_undone) {
                // The next call goes on with it.
                self.is_finished = true;
            }
            return Err(error);
        }
        self.is_finished = true;
        plan.complete(&mut self.held.session, &mut notes)?;
        if self.options.spare
            && let Err(error) = self.spare(context)
        {
            notes.push(format!("no spare copy could be made: {error}"));
        }
        Ok(Rewound { notes })
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if !self.is_finished {
            drop_after_failure(&self.address, &self.working);
        }
    }
}

impl Plan {
    /// Makes the plan durable: from now on the next call goes on with it.
    fn write(&self, session: &mut Session) -> EngineResult<()> {
        let place = table(&self.working, REWIND);
        session.run(&format!("DROP TABLE IF EXISTS {place}"))?;
        session.run(&format!(
            "CREATE TABLE {place} (id INT PRIMARY KEY, plan LONGTEXT NOT NULL) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4"
        ))?;
        session.run(&format!("INSERT INTO {place} VALUES (1, {})", literal(&to_json(self))))
    }

    /// The plan in a working or aside schema.
    pub(crate) fn find(session: &mut Session, schema: &str) -> EngineResult<Option<Self>> {
        match session.ask(&format!("SELECT plan FROM {}", table(schema, REWIND)))? {
            Ok(rows) => {
                let text = rows.into_iter().next().and_then(|row| row.into_iter().next().flatten());
                text.map(|text| from_json(&text, schema)).transpose()
            }
            Err(refusal) if refusal.is_absence() => Ok(None),
            Err(refusal) => Err(session.refused(&refusal)),
        }
    }

    /// Goes on where an earlier process was killed.
    pub(crate) fn advance(&self, session: &mut Session, notes: &mut Vec<String>) -> EngineResult<()> {
        if !self.is_renamed(session)? {
            self.rename(session, notes)?;
        }
        self.complete(session, notes)
    }

    fn is_renamed(&self, session: &mut Session) -> EngineResult<bool> {
        Ok(tables_of(session, &self.aside)?.iter().any(|name| name == REWIND))
    }

    /// Puts the tables of the working schema in the place of the database's, all in one statement.
    fn rename(&self, session: &mut Session, notes: &mut Vec<String>) -> EngineResult<()> {
        let database = &self.of;
        let options = self.wanted.options();
        for name in [database, &self.aside] {
            // Asked first: to make what is there already, a server would wait for all who use it.
            let is_there = format!("SELECT 1 FROM information_schema.schemata WHERE schema_name = {}", literal(name));
            if session.text(&is_there)?.is_none() {
                session.run(&format!("CREATE DATABASE {} {options}", identifier(name)))?;
            }
        }
        step("aside schema made")?;
        self.add_outward_keys(session)?;
        // Tables with triggers cannot leave their schema. What is written meanwhile goes aside.
        let triggers = format!(
            "SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = {}",
            literal(database)
        );
        for name in session.texts(&triggers)? {
            insist(session, database, &format!("DROP TRIGGER IF EXISTS {}", table(database, &name)), notes)?;
            step("trigger dropped")?;
        }
        let views =
            format!("SELECT table_name FROM information_schema.views WHERE table_schema = {}", literal(database));
        for name in session.texts(&views)? {
            if self.wanted.tables.iter().any(|table| table.name == name) {
                insist(session, database, &format!("DROP VIEW IF EXISTS {}", table(database, &name)), notes)?;
            }
        }
        let mut moves = Vec::new();
        for name in tables_of(session, database)? {
            moves.push(format!("{} TO {}", table(database, &name), table(&self.aside, &name)));
        }
        for name in tables_of(session, &self.working)?.iter().filter(|name| *name != REWIND && *name != SPARE) {
            moves.push(format!("{} TO {}", table(&self.working, name), table(database, name)));
        }
        // Last: if a server without atomic renaming dies in between, the plan is still where it says so.
        moves.push(format!("{} TO {}", table(&self.working, REWIND), table(&self.aside, REWIND)));
        step("before the renaming")?;
        insist(session, database, &format!("RENAME TABLE {}", moves.join(", ")), notes)
    }

    /// Foreign keys to other databases: not before, so that the copy keeps nobody from anything.
    fn add_outward_keys(&self, session: &mut Session) -> EngineResult<()> {
        let there = tables_of(session, &self.working)?;
        for found in self.wanted.tables.iter().filter(|table| !table.is_sequence && there.contains(&table.name)) {
            let place = table(&self.working, &found.name);
            let known = session.texts(&format!(
                "SELECT constraint_name FROM information_schema.table_constraints WHERE table_schema = {} \
                 AND table_name = {} AND constraint_type = 'FOREIGN KEY'",
                literal(&self.working),
                literal(&found.name)
            ))?;
            let missing = |key: &crate::definition::ForeignKey| key.is_outward && !known.contains(&key.name);
            for key in found.definition()?.foreign_keys().into_iter().filter(missing) {
                session.run(&format!("ALTER TABLE {place} ADD {}", key.text))?;
            }
        }
        Ok(())
    }

    /// Makes the rest as it was, after the renaming, and drops what was there.
    fn complete(&self, session: &mut Session, notes: &mut Vec<String>) -> EngineResult<()> {
        step("renamed")?;
        objects::put(session, &self.of, &self.wanted, notes)?;
        step("objects put")?;
        session.run(&format!("DROP DATABASE IF EXISTS {}", identifier(&self.working)))?;
        step("working schema dropped")?;
        session.run(&format!("DROP DATABASE IF EXISTS {}", identifier(&self.aside)))?;
        step("aside schema dropped")
    }

    /// Before the renaming: the database as it was, and no plan.
    fn undo(&self, session: &mut Session) -> EngineResult<()> {
        let there = |kind: &str| {
            format!("SELECT {kind}_name FROM information_schema.{kind}s WHERE {kind}_schema = {}", literal(&self.of))
        };
        let mut known = session.texts(&there("trigger"))?;
        known.extend(session.texts(&there("table"))?);
        let missing = self.before.iter().filter(|object| !known.contains(&object.name));
        let mut refused = Vec::new();
        objects::make_all(session, &self.of, missing, &mut refused)?;
        if let Some(refused) = refused.pop() {
            return Err(EngineError::new(EngineErrorKind::Other, refused));
        }
        if self.is_new && known.is_empty() {
            session.run(&format!("DROP DATABASE IF EXISTS {}", identifier(&self.of)))?;
        }
        session.run(&format!("DELETE FROM {}", table(&self.working, REWIND)))?;
        session.run(&format!("DROP DATABASE IF EXISTS {}", identifier(&self.aside)))
    }
}

/// The tables and sequences of a schema.
fn tables_of(session: &mut Session, schema: &str) -> EngineResult<Vec<String>> {
    session.texts(&format!(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = {} AND table_type NOT LIKE '%VIEW' \
         ORDER BY binary table_name",
        literal(schema)
    ))
}

/// Drops a snapshot's spare copy.
pub(crate) fn drop_spare(session: &mut Session, stored: &Stored) -> EngineResult<()> {
    session.run(&format!("DROP DATABASE IF EXISTS {}", identifier(&Kind::Spare.beside(&stored.schema))))
}
