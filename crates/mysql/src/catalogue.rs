//! All that is in a database, as the texts that make it again.

use copal_core::{EngineError, EngineErrorKind, EngineResult};
use serde::{Deserialize, Serialize};

use crate::definition::Definition;
use crate::names::{REWIND, SNAPSHOT, SPARE, is_hidden};
use crate::quote::{identifier, literal, table};
use crate::session::{Row, Session};

/// Storage engines whose tables can be copied within the server, with all that is in them.
const ENGINES: [&str; 4] = ["InnoDB", "MyISAM", "Aria", "MEMORY"];

/// A database with its objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Schema {
    pub(crate) charset: String,
    pub(crate) collation: String,
    pub(crate) comment: Option<String>,
    pub(crate) tables: Vec<Table>,
    /// Views, routines, triggers and events, in this order.
    pub(crate) objects: Vec<Object>,
}

/// A table or a sequence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) engine: String,
    pub(crate) create: String,
    pub(crate) is_sequence: bool,
    /// Whether it keeps what was deleted, too.
    pub(crate) is_versioned: bool,
    /// The columns that have values of their own.
    pub(crate) columns: Vec<String>,
}

/// What is no table, and is made by a text in certain settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Object {
    /// `VIEW`, `PROCEDURE`, `FUNCTION`, `PACKAGE`, `PACKAGE BODY`, `TRIGGER` or `EVENT`.
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) create: String,
    pub(crate) definer: String,
    pub(crate) sql_mode: Option<String>,
    pub(crate) charset: String,
    pub(crate) collation: String,
    pub(crate) time_zone: Option<String>,
    /// The table of a trigger.
    #[serde(default)]
    pub(crate) table: Option<String>,
}

impl Table {
    /// The text, taken apart.
    pub(crate) fn definition(&self) -> EngineResult<Definition> {
        Definition::parse(&self.create).ok_or_else(|| {
            EngineError::new(EngineErrorKind::Unsupported, format!("the text of table {:?} makes no sense", self.name))
        })
    }

    fn shape(&self) -> String {
        Definition::parse(&self.create).map_or_else(|| self.create.clone(), |definition| definition.without_counter())
    }
}

impl Schema {
    /// Reads a database; `None`: there is none of that name.
    pub(crate) fn read(session: &mut Session, name: &str) -> EngineResult<Option<Self>> {
        let Some(mut schema) = Self::bare(session, name)? else { return Ok(None) };
        session.run(&format!("USE {}", identifier(name)))?;
        schema.tables = tables(session, name)?;
        schema.objects = objects(session, name)?;
        Ok(Some(schema))
    }

    /// A database as if nothing were in it.
    pub(crate) fn bare(session: &mut Session, name: &str) -> EngineResult<Option<Self>> {
        let this = literal(name);
        let comment = if session.is_mariadb() { "schema_comment" } else { "NULL" };
        let found = session.ask(&format!(
            "SELECT default_character_set_name, default_collation_name, {comment} FROM information_schema.schemata \
             WHERE schema_name = {this}"
        ))?;
        // MariaDB has comments of schemas since 10.5.
        let found = match found {
            Ok(rows) => rows,
            Err(_) => session.rows(&format!(
                "SELECT default_character_set_name, default_collation_name FROM information_schema.schemata \
                 WHERE schema_name = {this}"
            ))?,
        };
        let Some(row) = found.into_iter().next() else { return Ok(None) };
        let (tables, objects) = (Vec::new(), Vec::new());
        let comment = cell(&row, 2);
        let comment = (!comment.is_empty()).then_some(comment);
        Ok(Some(Self { charset: cell(&row, 0), collation: cell(&row, 1), comment, tables, objects }))
    }

    /// The options of the statement that makes the database, or alters it.
    pub(crate) fn options(&self) -> String {
        let comment = self.comment.as_ref().map(|text| format!(" COMMENT {}", literal(text))).unwrap_or_default();
        format!("CHARACTER SET {} COLLATE {}{comment}", self.charset, self.collation)
    }

    /// The objects of one kind.
    pub(crate) fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Object> {
        self.objects.iter().filter(move |object| object.kind == kind)
    }

    /// Whether a table was altered while this was read: a server leaves its columns out of the list.
    pub(crate) fn is_blurred(&self) -> bool {
        let is_blurred = |table: &Table| table.columns.is_empty() || table.engine.contains("concurrent DDL");
        self.tables.iter().any(|table| !table.is_sequence && is_blurred(table))
    }

    /// Whether two databases have the same objects, whatever rows are in them.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        // The columns too: lists of them are not of one moment with the texts.
        let shapes = |schema: &Self| {
            let shape = |table: &Table| (table.name.clone(), table.shape(), table.columns.clone());
            schema.tables.iter().map(shape).collect::<Vec<_>>()
        };
        self.objects == other.objects && self.options() == other.options() && shapes(self) == shapes(other)
    }

    /// An error if there is something that cannot be carried.
    pub(crate) fn refuse_what_cannot_be_carried(&self, session: &mut Session, database: &str) -> EngineResult<()> {
        let has_history = session.ask("SELECT @@system_versioning_insert_history")?.is_ok();
        for found in &self.tables {
            let name = &found.name;
            let wrong = match found {
                _ if [SNAPSHOT, REWIND, SPARE].contains(&name.as_str()) => {
                    "has a name that Copal keeps for itself".to_owned()
                }
                _ if found.is_sequence => continue,
                _ if !ENGINES.iter().any(|engine| engine.eq_ignore_ascii_case(&found.engine)) => {
                    format!("is kept by the storage engine {:?}, whose tables Copal does not copy", found.engine)
                }
                _ if found.is_versioned && !has_history => {
                    "keeps its history, which only MariaDB 10.11 and later can copy".to_owned()
                }
                _ if found.is_versioned
                    && found.create.contains("GENERATED ALWAYS AS ROW")
                    && found.create.contains("bigint(20) unsigned GENERATED") =>
                {
                    "keeps its history by transactions, which cannot be copied".to_owned()
                }
                _ if found.definition()?.tail().contains(" DIRECTORY=") => {
                    "has files in a folder of its own (DATA DIRECTORY), which a copy could not share".to_owned()
                }
                _ => continue,
            };
            let message = format!("no snapshot of the database {database:?} can be taken: table {name:?} {wrong}");
            return Err(EngineError::new(EngineErrorKind::Unsupported, message).hint(
                "nothing was changed; move that table to another database, or convert it (ALTER TABLE … ENGINE=InnoDB)",
            ));
        }
        refuse_foreign_references(session, database)
    }
}

/// An error if tables of other databases refer to tables of this one: they would follow those that a rewind puts aside.
pub(crate) fn refuse_foreign_references(session: &mut Session, database: &str) -> EngineResult<()> {
    let this = literal(database);
    let mut found = Vec::new();
    // One by one: a server looks at all tables of all schemas if it is asked for several, ours included.
    for other in session.texts("SELECT schema_name FROM information_schema.schemata ORDER BY binary schema_name")? {
        if other != database && !is_hidden(&other) {
            found.extend(session.texts(&format!(
                "SELECT DISTINCT concat(table_schema, '.', table_name) FROM information_schema.key_column_usage \
                 WHERE table_schema = {} AND referenced_table_schema = {this} LIMIT 5",
                literal(&other)
            ))?);
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    let message = format!(
        "the database {database:?} cannot be rewound: foreign keys of other databases refer to its tables ({})",
        found.join(", ")
    );
    Err(EngineError::new(EngineErrorKind::Unsupported, message)
        .hint("nothing was changed; keep such tables in one database, or drop those foreign keys"))
}

fn cell(row: &Row, at: usize) -> String {
    row.get(at).cloned().flatten().unwrap_or_default()
}

fn tables(session: &mut Session, schema: &str) -> EngineResult<Vec<Table>> {
    let this = literal(schema);
    // Names first: reading all of a table's entry opens it.
    let found = session.rows(&format!(
        "SELECT table_name, table_type, coalesce(engine, ''), coalesce(table_comment, '') FROM information_schema.tables \
         WHERE table_schema = {this} AND table_type NOT LIKE '%VIEW' ORDER BY binary table_name"
    ))?;
    let columns = session.rows(&format!(
        "SELECT table_name, column_name, coalesce(generation_expression, ''), extra FROM information_schema.columns \
         WHERE table_schema = {this} ORDER BY table_name, ordinal_position"
    ))?;
    let mut tables = Vec::new();
    for row in found {
        let (name, kind, mut engine) = (cell(&row, 0), cell(&row, 1), cell(&row, 2));
        let is_sequence = kind == "SEQUENCE";
        let what = if is_sequence { "SEQUENCE" } else { "TABLE" };
        let create = session.rows(&format!("SHOW CREATE {what} {}", table(schema, &name)))?;
        let create = create.first().map(|row| cell(row, 1)).unwrap_or_default();
        let is_versioned = kind == "SYSTEM VERSIONED";
        if engine.is_empty() {
            // What the server cannot open has no engine, but a remark.
            engine = cell(&row, 3);
        }
        let own = columns.iter().filter(|column| cell(column, 0) == name);
        let is_kept = |column: &&Row| {
            let expression = cell(column, 2);
            expression.is_empty() || is_versioned && matches!(expression.as_str(), "ROW START" | "ROW END")
        };
        let mut columns: Vec<_> = own.filter(is_kept).map(|column| cell(column, 1)).collect();
        if is_versioned && !create.contains("PERIOD FOR SYSTEM_TIME") {
            columns.extend(["row_start".to_owned(), "row_end".to_owned()]);
        }
        tables.push(Table { name, engine, create, is_sequence, is_versioned, columns });
    }
    Ok(tables)
}

fn objects(session: &mut Session, schema: &str) -> EngineResult<Vec<Object>> {
    let this = literal(schema);
    let lists = [
        format!("SELECT 'VIEW', table_name, definer, NULL FROM information_schema.views WHERE table_schema = {this}"),
        format!(
            "SELECT routine_type, routine_name, definer, NULL FROM information_schema.routines WHERE routine_schema = {this}"
        ),
        format!(
            "SELECT 'TRIGGER', trigger_name, definer, event_object_table FROM information_schema.triggers WHERE trigger_schema = {this}"
        ),
        format!("SELECT 'EVENT', event_name, definer, NULL FROM information_schema.events WHERE event_schema = {this}"),
    ];
    let mut objects = Vec::new();
    for (list, order) in
        lists.iter().zip(["2", "1 DESC, 2", "event_object_table, event_manipulation, action_timing, action_order", "2"])
    {
        for row in session.rows(&format!("{list} ORDER BY {order}"))? {
            let (kind, name, definer) = (cell(&row, 0), cell(&row, 1), cell(&row, 2));
            let shown = session.rows(&format!("SHOW CREATE {kind} {}", table(schema, &name)))?;
            let shown = shown.into_iter().next().unwrap_or_default();
            // Where the texts stand among the columns of SHOW CREATE.
            let (sql_mode, time_zone, text, charset) = match kind.as_str() {
                "VIEW" => (None, None, 1, 2),
                "EVENT" => (Some(cell(&shown, 1)), Some(cell(&shown, 2)), 3, 4),
                _ => (Some(cell(&shown, 1)), None, 2, 3),
            };
            let create = cell(&shown, text);
            if create.is_empty() {
                let message =
                    format!("the text of {} {name:?} in the database {schema:?} may not be read", kind.to_lowercase());
                let right = if session.is_mariadb() {
                    "GRANT SELECT ON mysql.proc TO …"
                } else {
                    "GRANT SHOW_ROUTINE ON *.* TO …"
                };
                return Err(EngineError::new(EngineErrorKind::PermissionDenied, message)
                    .hint(format!("as an administrator: {right}")));
            }
            let (charset, collation) = (cell(&shown, charset), cell(&shown, charset + 1));
            let table = row.get(3).cloned().flatten();
            objects.push(Object { kind, name, create, definer, sql_mode, charset, collation, time_zone, table });
        }
    }
    Ok(objects)
}
