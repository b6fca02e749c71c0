//! Rewinds: another copy of the snapshot, and one RENAME TABLE that puts it in the place of what is there.
//!
//! The table with the plan goes the same way as the database's own tables, in the same statement: in the working schema it says
//! that the renaming is still to come, in the aside schema that it is done. Whoever finds it undoes or finishes the rewind
//! ([`Plan::advance`]).

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
        if let Err(error) = step("plan written").and_then(|()| plan.rename(session, &mut notes, context)) {
            // A new session: the other may be the one that failed, or was told to stop.
            let undone = Session::open(&self.address, &Context::silent()).and_then(|mut session| {
                if plan.is_begun(&mut session)? {
                    return Ok(false);
                }
                plan.undo(&mut session, &mut notes)?;
                plan.drop_new_database(&mut session).map(|()| true)
            });
            if let Err(error) = &undone {
                context.warn(format!("{error}; the next command for the database tries again"));
            }
            if !undone.is_ok_and(|is_undone| is_undone) {
                // The next call goes on with it.
                self.is_finished = true;
            }
            return Err(error);
        }
        self.is_finished = true;
        plan.complete(&mut self.held.session, &mut notes, context)?;
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
    /// Makes the plan durable: from now on the next call undoes or finishes it.
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

    /// Puts right what an earlier process was killed in: undone before the renaming, since clients have written to the database
    /// since then; finished after it.
    pub(crate) fn advance(
        &self,
        session: &mut Session,
        notes: &mut Vec<String>,
        context: &Context,
    ) -> EngineResult<()> {
        if !self.is_begun(session)? {
            return self.undo(session, notes);
        }
        if !self.is_renamed(session)? {
            self.rename(session, notes, context)?;
        }
        self.complete(session, notes, context)
    }

    /// Whether tables were put aside: perhaps not all, if a server without atomic renaming died; then there is only one way.
    pub(crate) fn is_begun(&self, session: &mut Session) -> EngineResult<bool> {
        Ok(!tables_of(session, &self.aside)?.is_empty())
    }

    fn is_renamed(&self, session: &mut Session) -> EngineResult<bool> {
        Ok(tables_of(session, &self.aside)?.iter().any(|name| name == REWIND))
    }

    /// Puts the tables of the working schema in the place of the database's, all in one statement.
    fn rename(&self, session: &mut Session, notes: &mut Vec<String>, context: &Context) -> EngineResult<()> {
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
        // Tables with triggers cannot leave their schema. What is written meanwhile goes aside. The last of a table first, so that
        // those that are put back if this is undone stand where they stood.
        let triggers = format!(
            "SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = {} ORDER BY action_order DESC",
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
        let ready = tables_of(session, &self.working)?;
        let is_wanted = |name: &String| self.wanted.tables.iter().any(|table| table.name == *name);
        for name in tables_of(session, database)? {
            // What is wanted and not ready is there already: a server without atomic renaming died in between.
            if ready.contains(&name) || !is_wanted(&name) {
                moves.push(format!("{} TO {}", table(database, &name), table(&self.aside, &name)));
            }
        }
        for name in ready.iter().filter(|name| *name != REWIND && *name != SPARE) {
            moves.push(format!("{} TO {}", table(&self.working, name), table(database, name)));
        }
        // Last: if a server without atomic renaming dies in between, the plan is still where it says so.
        moves.push(format!("{} TO {}", table(&self.working, REWIND), table(&self.aside, REWIND)));
        step("before the renaming")?;
        insist(session, database, &format!("RENAME TABLE {}", moves.join(", ")), notes)?;
        let mut late = tables_of(session, database)?;
        late.retain(|name| !is_wanted(name));
        if !late.is_empty() {
            let names = late.join(", ");
            context.warn(format!(
                "tables were made at the moment of the rewind, and are left beside the snapshot's: {names}"
            ));
        }
        Ok(())
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
    fn complete(&self, session: &mut Session, notes: &mut Vec<String>, context: &Context) -> EngineResult<()> {
        step("renamed")?;
        for refused in objects::put(session, &self.of, &self.wanted, notes)? {
            context.warn(refused);
        }
        step("objects put")?;
        session.run(&format!("DROP DATABASE IF EXISTS {}", identifier(&self.working)))?;
        step("working schema dropped")?;
        session.run(&format!("DROP DATABASE IF EXISTS {}", identifier(&self.aside)))?;
        step("aside schema dropped")
    }

    /// Before the renaming: the database as it is now, with what was dropped of it, and no plan.
    fn undo(&self, session: &mut Session, notes: &mut Vec<String>) -> EngineResult<()> {
        let missing = self.missing(session)?;
        let refused = objects::make_all(session, &self.of, missing.into_iter(), notes)?;
        step("dropped objects put back")?;
        // The plan has their texts: it stays until they are there.
        let missing = self.missing(session)?;
        if !missing.is_empty() {
            let names: Vec<_> = missing.iter().map(|o| format!("{} {:?}", o.kind.to_lowercase(), o.name)).collect();
            let names = names.join(", ");
            let message = format!("a rewind of the database {:?} cannot be undone: {names} is missing", self.of);
            return Err(EngineError::new(EngineErrorKind::Other, message)
                .hint(format!("make it by hand and try again; its text is in {}", table(&self.working, REWIND)))
                .because(refused.join("; ")));
        }
        session.run(&format!("DELETE FROM {}", table(&self.working, REWIND)))?;
        step("plan deleted")?;
        session.run(&format!("DROP DATABASE IF EXISTS {}", identifier(&self.aside)))
    }

    /// What was dropped before the renaming and is not there, nor anything else of its name.
    fn missing(&self, session: &mut Session) -> EngineResult<Vec<&Object>> {
        if Schema::bare(session, &self.of)?.is_none() {
            return Ok(Vec::new());
        }
        let mut names = |kind: &str| {
            let of = literal(&self.of);
            session.texts(&format!("SELECT {kind}_name FROM information_schema.{kind}s WHERE {kind}_schema = {of}"))
        };
        let (triggers, tables) = (names("trigger")?, names("table")?);
        // A trigger went with its table.
        let is_needed = |o: &Object| o.table.as_ref().is_none_or(|table| tables.contains(table));
        let is_there = |o: &Object| if o.kind == "TRIGGER" { &triggers } else { &tables }.contains(&o.name);
        Ok(self.before.iter().filter(|object| is_needed(object) && !is_there(object)).collect())
    }

    /// Drops the database if the rewind has made it, and nothing is in it.
    fn drop_new_database(&self, session: &mut Session) -> EngineResult<()> {
        let now = if self.is_new { Schema::read(session, &self.of)? } else { None };
        if now.is_some_and(|now| now.tables.is_empty() && now.objects.is_empty()) {
            session.run(&format!("DROP DATABASE IF EXISTS {}", identifier(&self.of)))?;
        }
        Ok(())
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
