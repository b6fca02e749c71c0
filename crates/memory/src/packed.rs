//! One MessagePack value as bytes, and what takes small ones apart.

use std::fmt;

use rmp::Marker;
use rmp::decode::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::walk::{Walked, Walker};
use crate::{MemoryError, MemoryResult};

/// One whole MessagePack value, as docs/engines/memory.md has them. `Debug` shows its length only.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Packed(Box<[u8]>);

impl Packed {
    /// The value `nil`.
    pub fn nil() -> Self {
        Self(Box::new([Marker::Null.to_u8()]))
    }

    /// What serde makes of a value; structs become maps with the names of their fields.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> MemoryResult<Self> {
        let bytes = rmp_serde::to_vec_named(value).map_err(|error| MemoryError::Store(error.into()))?;
        Self::new(bytes)
    }

    /// Takes the bytes of exactly one value. Errors: `Malformed`.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> MemoryResult<Self> {
        let bytes = bytes.into();
        Walker::default().only(&bytes)?;
        Ok(Self(bytes))
    }

    /// What serde reads from it.
    pub fn to<T: DeserializeOwned>(&self) -> MemoryResult<T> {
        rmp_serde::from_slice(&self.0).map_err(|error| MemoryError::Store(error.into()))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether it is `nil`.
    pub fn is_nil(&self) -> bool {
        *self.0 == [Marker::Null.to_u8()]
    }
}

impl Default for Packed {
    fn default() -> Self {
        Self::nil()
    }
}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Packed({} bytes)", self.0.len())
    }
}

/// Takes values one after the other from bytes that are whole values.
#[derive(Clone)]
pub(crate) struct Taker<'a> {
    rest: &'a [u8],
}

const UNEXPECTED: MemoryError = MemoryError::Malformed("it is of another kind than it must be here");

impl<'a> Taker<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether nothing is left.
    pub(crate) fn is_done(&self) -> bool {
        self.rest.is_empty()
    }

    /// What the next value is.
    pub(crate) fn marker(&self) -> Option<Marker> {
        self.rest.first().map(|first| Marker::from_u8(*first))
    }

    /// The count of an array, whose values follow.
    pub(crate) fn array(&mut self) -> MemoryResult<u32> {
        let mut bytes = Bytes::new(self.rest);
        let count = rmp::decode::read_array_len(&mut bytes).map_err(|_| UNEXPECTED)?;
        self.rest = bytes.remaining_slice();
        Ok(count)
    }

    /// The count of a map, whose keys and values follow.
    pub(crate) fn map(&mut self) -> MemoryResult<u32> {
        let mut bytes = Bytes::new(self.rest);
        let count = rmp::decode::read_map_len(&mut bytes).map_err(|_| UNEXPECTED)?;
        self.rest = bytes.remaining_slice();
        Ok(count)
    }

    pub(crate) fn text(&mut self) -> MemoryResult<&'a str> {
        let (text, rest) = rmp::decode::read_str_from_slice(self.rest).map_err(|_| UNEXPECTED)?;
        self.rest = rest;
        Ok(text)
    }

    pub(crate) fn number(&mut self) -> MemoryResult<u64> {
        let mut bytes = Bytes::new(self.rest);
        let number = rmp::decode::read_int(&mut bytes).map_err(|_| UNEXPECTED)?;
        self.rest = bytes.remaining_slice();
        Ok(number)
    }

    /// The next value as it is.
    pub(crate) fn value(&mut self) -> MemoryResult<&'a [u8]> {
        let Walked::Whole(length) = Walker::default().value(self.rest)? else { return Err(UNEXPECTED) };
        let (value, rest) = self.rest.split_at(length);
        self.rest = rest;
        Ok(value)
    }

    /// The next value by itself.
    pub(crate) fn packed(&mut self) -> MemoryResult<Packed> {
        Ok(Packed(self.value()?.into()))
    }
}

/// Appends the count of an array.
pub(crate) fn put_array(out: &mut Vec<u8>, count: u32) {
    // Writing to a Vec cannot fail.
    let _ = rmp::encode::write_array_len(out, count);
}

/// Appends the count of a map.
pub(crate) fn put_map(out: &mut Vec<u8>, count: u32) {
    let _ = rmp::encode::write_map_len(out, count);
}

/// Appends a text.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    let _ = rmp::encode::write_str(out, text);
}

/// Appends a number in its shortest form.
pub(crate) fn put_number(out: &mut Vec<u8>, number: u64) {
    let _ = rmp::encode::write_uint(out, number);
}
