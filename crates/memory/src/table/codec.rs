//! How the keys and rows of a table become MessagePack and come back.

use copal_core::AnyError;
use serde::Serialize;

use super::{Key, Row};

/// Writes and reads one table's keys and rows.
pub(crate) struct Codec<K, V> {
    pub(crate) put_key: fn(&K, &mut Vec<u8>) -> Result<(), AnyError>,
    pub(crate) put_row: fn(&V, &mut Vec<u8>) -> Result<(), AnyError>,
    pub(crate) take_key: fn(&[u8]) -> Result<K, AnyError>,
    pub(crate) take_row: fn(&[u8]) -> Result<V, AnyError>,
}

impl<K, V> Clone for Codec<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for Codec<K, V> {}

impl<K: Key, V: Row> Codec<K, V> {
    /// By serde.
    pub(crate) fn typed() -> Self {
        Self {
            put_key: put,
            put_row: put,
            take_key: |bytes| Ok(rmp_serde::from_slice(bytes)?),
            take_row: |bytes| Ok(rmp_serde::from_slice(bytes)?),
        }
    }
}

fn put<T: Serialize>(value: &T, out: &mut Vec<u8>) -> Result<(), AnyError> {
    // Maps with the names of fields: a struct that changed still reads what it wrote before.
    Ok(value.serialize(&mut rmp_serde::Serializer::new(out).with_struct_map())?)
}

/// A key of a table whose types nobody has told; in the order of its bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RawKey(pub(crate) Box<[u8]>);

/// A row of such a table.
#[derive(Clone)]
pub(crate) struct RawRow(pub(crate) Box<[u8]>);

impl Codec<RawKey, RawRow> {
    /// As they are.
    pub(crate) fn raw() -> Self {
        Self {
            put_key: |key, out| copied(&key.0, out),
            put_row: |row, out| copied(&row.0, out),
            take_key: |bytes| Ok(RawKey(bytes.into())),
            take_row: |bytes| Ok(RawRow(bytes.into())),
        }
    }
}

fn copied(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), AnyError> {
    out.extend_from_slice(bytes);
    Ok(())
}
