//! Finds where a MessagePack value ends, and refuses what is none, without decoding it.
//!
//! Everything that goes into a stream and comes out of one passes through here, so what was written can be read. Text must be
//! UTF-8. The content of extension types is not looked at. <https://github.com/msgpack/msgpack/blob/master/spec.md>

use rmp::Marker;

use crate::{MemoryError, MemoryResult};

/// The longest value in bytes.
pub(crate) const MAX_VALUE_BYTES: usize = 256 << 20;
/// How deep arrays and maps may lie in each other.
pub(crate) const MAX_DEPTH: usize = 512;

/// What a walk found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Walked {
    /// A whole value of so many bytes.
    Whole(usize),
    /// The bytes end before the value does, which has at least so many.
    Short(usize),
}

/// Walks over values; kept, so that its stack is made once.
#[derive(Debug, Default)]
pub(crate) struct Walker {
    /// For every array and map that is open: how many values it still wants.
    open: Vec<u64>,
}

impl Walker {
    /// Walks over the value at the beginning of `bytes`.
    pub(crate) fn value(&mut self, bytes: &[u8]) -> MemoryResult<Walked> {
        self.open.clear();
        let mut at = 0_usize;
        loop {
            let Some(&first) = bytes.get(at) else { return self.short(at + 1) };
            let head = Head::of(first)?;
            let body_at = at + 1 + head.length_bytes;
            let count = match head.length_bytes {
                0 => head.fixed,
                n => match bytes.get(at + 1..body_at) {
                    Some(length) => length.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
                    None => return self.short(at + 1 + n),
                },
            };
            at = match head.shape {
                Shape::Items(each) => {
                    let wanted = count * each;
                    if wanted > 0 {
                        if self.open.len() == MAX_DEPTH {
                            return Err(MemoryError::Malformed("it is nested too deeply"));
                        }
                        self.open.push(wanted);
                        at = body_at;
                        continue;
                    }
                    body_at
                }
                Shape::Bytes { extra } => {
                    let end =
                        body_at.saturating_add(usize::try_from(count).unwrap_or(usize::MAX)).saturating_add(extra);
                    if end > bytes.len() {
                        return self.short(end);
                    }
                    end
                }
                Shape::Text => {
                    let end = body_at.saturating_add(usize::try_from(count).unwrap_or(usize::MAX));
                    let Some(text) = bytes.get(body_at..end) else { return self.short(end) };
                    if std::str::from_utf8(text).is_err() {
                        return Err(MemoryError::Malformed("a text in it is not UTF-8"));
                    }
                    end
                }
            };
            // A value is complete, and perhaps what it is in.
            loop {
                match self.open.last_mut() {
                    None if at > MAX_VALUE_BYTES => return Err(TOO_LONG),
                    None => return Ok(Walked::Whole(at)),
                    Some(wanted) => {
                        *wanted -= 1;
                        if *wanted > 0 {
                            break;
                        }
                        self.open.pop();
                    }
                }
            }
        }
    }

    /// The length of the one value that `bytes` must be.
    pub(crate) fn only(&mut self, bytes: &[u8]) -> MemoryResult<()> {
        match self.value(bytes)? {
            Walked::Whole(length) if length == bytes.len() => Ok(()),
            Walked::Whole(_) => Err(MemoryError::Malformed("something follows it")),
            Walked::Short(_) => Err(MemoryError::Malformed("it is cut off")),
        }
    }

    /// The bytes end too early. Of what else is wanted, every value has a byte at least.
    fn short(&self, least: usize) -> MemoryResult<Walked> {
        let more = self.open.iter().fold(0_u64, |sum, wanted| sum.saturating_add(wanted - 1));
        let least = least.saturating_add(usize::try_from(more).unwrap_or(usize::MAX));
        if least > MAX_VALUE_BYTES { Err(TOO_LONG) } else { Ok(Walked::Short(least)) }
    }
}

const TOO_LONG: MemoryError = MemoryError::Malformed("it has more than 256 MiB");

/// What follows a first byte.
struct Head {
    /// Bytes of its length or count, behind the first byte.
    length_bytes: usize,
    /// The length or count where the first byte says it.
    fixed: u64,
    shape: Shape,
}

enum Shape {
    /// So many values for every one that is counted.
    Items(u64),
    /// As many bytes as are counted, and so many more.
    Bytes { extra: usize },
    /// As many bytes of UTF-8 as are counted.
    Text,
}

impl Head {
    fn of(first: u8) -> MemoryResult<Self> {
        let head = |length_bytes, fixed, shape| Ok(Self { length_bytes, fixed, shape });
        let plain = |bytes| head(0, bytes, Shape::Bytes { extra: 0 });
        match Marker::from_u8(first) {
            Marker::FixPos(_) | Marker::FixNeg(_) | Marker::Null | Marker::True | Marker::False => plain(0),
            Marker::U8 | Marker::I8 => plain(1),
            Marker::U16 | Marker::I16 => plain(2),
            Marker::U32 | Marker::I32 | Marker::F32 => plain(4),
            Marker::U64 | Marker::I64 | Marker::F64 => plain(8),
            Marker::FixExt1 => plain(2),
            Marker::FixExt2 => plain(3),
            Marker::FixExt4 => plain(5),
            Marker::FixExt8 => plain(9),
            Marker::FixExt16 => plain(17),
            Marker::Bin8 => head(1, 0, Shape::Bytes { extra: 0 }),
            Marker::Bin16 => head(2, 0, Shape::Bytes { extra: 0 }),
            Marker::Bin32 => head(4, 0, Shape::Bytes { extra: 0 }),
            Marker::Ext8 => head(1, 0, Shape::Bytes { extra: 1 }),
            Marker::Ext16 => head(2, 0, Shape::Bytes { extra: 1 }),
            Marker::Ext32 => head(4, 0, Shape::Bytes { extra: 1 }),
            Marker::FixStr(n) => head(0, u64::from(n), Shape::Text),
            Marker::Str8 => head(1, 0, Shape::Text),
            Marker::Str16 => head(2, 0, Shape::Text),
            Marker::Str32 => head(4, 0, Shape::Text),
            Marker::FixArray(n) => head(0, u64::from(n), Shape::Items(1)),
            Marker::Array16 => head(2, 0, Shape::Items(1)),
            Marker::Array32 => head(4, 0, Shape::Items(1)),
            Marker::FixMap(n) => head(0, u64::from(n), Shape::Items(2)),
            Marker::Map16 => head(2, 0, Shape::Items(2)),
            Marker::Map32 => head(4, 0, Shape::Items(2)),
            Marker::Reserved => Err(MemoryError::Malformed("it has the byte 0xc1, which is never used")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walked(bytes: &[u8]) -> MemoryResult<Walked> {
        Walker::default().value(bytes)
    }

    #[test]
    fn values_end_where_they_end() {
        let value = (1_u64 << 40, -5_i8, 2.5_f64, "é".repeat(300), vec![Some(1_u8), None], [("a", ())], true);
        let bytes = rmp_serde::to_vec_named(&value).unwrap();
        assert_eq!(walked(&bytes).unwrap(), Walked::Whole(bytes.len()));
        for cut in 0..bytes.len() {
            let Walked::Short(least) = walked(&bytes[..cut]).unwrap() else { panic!("whole at {cut}") };
            assert!(least > cut && least <= bytes.len(), "{cut}: {least}");
        }
        assert!(Walker::default().only(&[1, 2]).is_err());
        assert!(Walker::default().only(&[]).is_err());
    }

    #[test]
    fn what_is_no_value_is_refused() {
        assert!(walked(&[0xc1]).is_err());
        assert!(walked(&[0x91, 0xc1]).is_err());
        assert!(walked(&[0xa1, 0xff]).is_err(), "not UTF-8");
        assert!(walked(&[0xdd, 0xff, 0xff, 0xff, 0xff]).is_err(), "four thousand million values");
        assert!(walked(&[0xc6, 0xff, 0xff, 0xff, 0xff]).is_err(), "4 GiB");
        let deep = [vec![0x91; MAX_DEPTH], vec![0xc0]].concat();
        assert_eq!(walked(&deep).unwrap(), Walked::Whole(deep.len()));
        assert!(walked(&[vec![0x91; MAX_DEPTH + 1], vec![0xc0]].concat()).is_err());
    }
}
