//! Counts that prove a restored database complete.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a database contained at the moment of a backup, counted in the backup's own view of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// Single facts, for example `schema_digest` or `user_version`.
    pub facts: BTreeMap<String, String>,
    /// Tables in the order of their names.
    pub tables: Vec<TableCount>,
    /// Rows of tables that were not counted, as the database estimates them; proves nothing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub estimates: BTreeMap<String, u64>,
    /// Steps that counters have made, such as sequences, which no view of a database holds still: a restored one may be ahead.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counters: BTreeMap<String, i64>,
}

/// One table and its rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableCount {
    /// Full name, as the engine writes it.
    pub name: String,
    /// Exact number of rows; `None` where it was not counted.
    pub rows: Option<u64>,
}

/// Something that differs between two inventories.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The fact or table.
    pub what: String,
    /// Its value in the backup.
    pub expected: String,
    /// Its value in the restored database.
    pub found: String,
}

impl Inventory {
    /// Everything in which `found` differs from this inventory; rows that either side did not count are passed over.
    pub fn compare(&self, found: &Self) -> Vec<Difference> {
        let absent = || "absent".to_owned();
        let mut differences = Vec::new();
        let facts: std::collections::BTreeSet<_> = self.facts.keys().chain(found.facts.keys()).collect();
        for fact in facts {
            let (a, b) = (self.facts.get(fact), found.facts.get(fact));
            if a != b {
                differences.push(Difference {
                    what: fact.clone(),
                    expected: a.cloned().unwrap_or_else(absent),
                    found: b.cloned().unwrap_or_else(absent),
                });
            }
        }
        let rows = |i: &Self| i.tables.iter().map(|t| (t.name.clone(), t.rows)).collect::<BTreeMap<_, _>>();
        let (ours, theirs) = (rows(self), rows(found));
        let names: std::collections::BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
        for name in names {
            let text = |side: Option<&Option<u64>>| match side {
                None => absent(),
                Some(None) => "not counted".to_owned(),
                Some(Some(n)) => format!("{n} rows"),
            };
            let (a, b) = (ours.get(name), theirs.get(name));
            let differs = match (a, b) {
                (Some(Some(a)), Some(Some(b))) => a != b,
                (Some(_), Some(_)) => false,
                _ => true,
            };
            if differs {
                differences.push(Difference { what: format!("table {name}"), expected: text(a), found: text(b) });
            }
        }
        for (name, expected) in &self.counters {
            let found = found.counters.get(name);
            if found.is_none_or(|found| found < expected) {
                differences.push(Difference {
                    what: format!("counter {name}"),
                    expected: format!("{expected} or more"),
                    found: found.map_or_else(absent, ToString::to_string),
                });
            }
        }
        differences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inventory(rows: &[(&str, Option<u64>)]) -> Inventory {
        Inventory {
            counters: [("s".to_owned(), 3)].into(),
            tables: rows.iter().map(|(n, r)| TableCount { name: (*n).into(), rows: *r }).collect(),
            ..Inventory::default()
        }
    }

    #[test]
    fn differences_are_named() {
        let a = inventory(&[("a", Some(1)), ("b", None), ("c", Some(2))]);
        let b = inventory(&[("a", Some(2)), ("b", Some(7)), ("d", Some(0))]);
        let names: Vec<_> = a.compare(&b).into_iter().map(|d| d.what).collect();
        assert_eq!(names, ["table a", "table c", "table d"]);
        assert!(a.compare(&a).is_empty());
        let with = |steps| Inventory { counters: [("s".to_owned(), steps)].into(), ..a.clone() };
        assert!(a.compare(&with(4)).is_empty());
        assert_eq!(a.compare(&with(2)).len(), 1);
    }
}
