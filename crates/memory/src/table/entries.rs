//! The rows and keys of a table as a view gives them.

use copal_core::AnyError;

use crate::rows::{LEAF_ROWS, Rows};
use crate::table::Codec;
use crate::{Entries, MemoryError, MemoryResult};

/// All rows of a table.
pub(crate) struct AllRows<K, V> {
    pub(crate) table: String,
    pub(crate) codec: Codec<K, V>,
    pub(crate) rows: Rows<K, V>,
}

impl<K: Ord + Send + Sync, V: Send + Sync> Entries for AllRows<K, V> {
    fn count(&self) -> u64 {
        self.rows.len() as u64
    }

    fn parts(&self) -> usize {
        self.rows.leaves()
    }

    fn write(&self, part: usize, out: &mut Vec<u8>) -> MemoryResult<u64> {
        let rows = self.rows.leaf(part);
        for (number, (key, row)) in (1..).zip(rows) {
            let from = out.len();
            let row_from = put(self.codec, key, Some(row), out).map_err(error(&self.table, number))?;
            if number == 1 {
                read_back(&self.table, self.codec, key, out, from, row_from)?;
            }
        }
        Ok(rows.len() as u64)
    }
}

/// Some rows of a table, or keys alone.
pub(crate) struct SomeRows<K, V> {
    pub(crate) table: String,
    pub(crate) codec: Codec<K, V>,
    /// Where the rows of the keys are; `None`: the keys alone are meant.
    pub(crate) rows: Option<Rows<K, V>>,
    pub(crate) keys: Vec<K>,
}

impl<K: Ord + Clone + Send + Sync, V: Clone + Send + Sync> Entries for SomeRows<K, V> {
    fn count(&self) -> u64 {
        self.keys.len() as u64
    }

    fn parts(&self) -> usize {
        self.keys.len().div_ceil(LEAF_ROWS)
    }

    fn write(&self, part: usize, out: &mut Vec<u8>) -> MemoryResult<u64> {
        let mut written = 0;
        for key in self.keys.chunks(LEAF_ROWS).nth(part).unwrap_or_default() {
            let row = match &self.rows {
                None => None,
                Some(rows) => match rows.get(key) {
                    Some((_, row)) => Some(row),
                    // Not counted: whoever writes it all compares the counts.
                    None => continue,
                },
            };
            let from = out.len();
            let row_from = put(self.codec, key, row, out).map_err(error(&self.table, written + 1))?;
            written += 1;
            if written == 1 && row.is_some() {
                read_back(&self.table, self.codec, key, out, from, row_from)?;
            }
        }
        Ok(written)
    }
}

/// Appends a key and its row, and returns where the row begins.
fn put<K, V>(codec: Codec<K, V>, key: &K, row: Option<&V>, out: &mut Vec<u8>) -> Result<usize, AnyError> {
    (codec.put_key)(key, out)?;
    let row_from = out.len();
    row.map_or(Ok(()), |row| (codec.put_row)(row, out))?;
    Ok(row_from)
}

/// Reads the row behind `from` as a restore would: serde may write what it cannot read, and keys may lose what tells them apart. To do so with every
/// row would take as long as all the rest, so it is done with the first one of each part.
fn read_back<K: Ord, V>(
    table: &str,
    codec: Codec<K, V>,
    key: &K,
    out: &[u8],
    from: usize,
    row_from: usize,
) -> MemoryResult<()> {
    let unreadable = |source| MemoryError::Unreadable { table: table.to_owned(), source };
    let read = (codec.take_key)(out.get(from..row_from).unwrap_or_default()).map_err(unreadable)?;
    if read != *key {
        return Err(unreadable("its key comes back as another one".into()));
    }
    (codec.take_row)(out.get(row_from..).unwrap_or_default()).map(drop).map_err(unreadable)
}

fn error(table: &str, row: u64) -> impl FnOnce(AnyError) -> MemoryError {
    let table = table.to_owned();
    move |source| MemoryError::Encode { table, row, source }
}
