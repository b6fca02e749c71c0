//! The extension types that stand for what MessagePack has not; docs/engines/memory.md describes them.
//!
//! Numbers 0 to 63 are Copal's, 64 to 127 a program's own. Nothing in this crate looks into them but the archive for people.

/// An integer outside of -2^63 to 2^64-1: two's complement, little-endian, without needless bytes.
pub const INTEGER: i8 = 1;
/// A decimal number: its text.
pub const DECIMAL: i8 = 2;
/// A date: its ISO 8601 text, as a MessagePack text.
pub const DATE: i8 = 3;
/// A time of day: an array of ISO 8601 text, fold, name of the time zone or nil.
pub const TIME: i8 = 4;
/// A date and time: the same array.
pub const DATETIME: i8 = 5;
/// A span of time: an array of days, seconds, microseconds.
pub const TIMEDELTA: i8 = 6;
/// A UUID: its 16 bytes.
pub const UUID: i8 = 7;
/// A tuple: an array.
pub const TUPLE: i8 = 8;
/// A set: an array.
pub const SET: i8 = 9;
/// A set that does not change: an array.
pub const FROZENSET: i8 = 10;
/// A complex number: two binary64, big-endian.
pub const COMPLEX: i8 = 11;
/// A text with surrogates that stand alone: UTF-8 as if they were characters.
pub const SURROGATES: i8 = 12;
/// Bytes that may be changed.
pub const BYTEARRAY: i8 = 13;

/// The key of a type in archives.
pub(crate) fn name(kind: i8) -> Option<&'static str> {
    Some(match kind {
        INTEGER => "$int",
        DECIMAL => "$decimal",
        DATE => "$date",
        TIME => "$time",
        DATETIME => "$datetime",
        TIMEDELTA => "$timedelta",
        UUID => "$uuid",
        TUPLE => "$tuple",
        SET => "$set",
        FROZENSET => "$frozenset",
        COMPLEX => "$complex",
        SURROGATES => "$surrogates",
        BYTEARRAY => "$bytearray",
        _ => return None,
    })
}

/// An integer's payload in hexadecimal digits, such as `-0x1f`.
pub(crate) fn hexadecimal(payload: &[u8]) -> Option<String> {
    let is_negative = payload.last()? & 0x80 != 0;
    let mut bytes = payload.to_vec();
    if is_negative {
        // Its complement and one more.
        let mut carry = true;
        for byte in &mut bytes {
            (*byte, carry) = (!*byte).overflowing_add(u8::from(carry));
        }
    }
    let digits: String = bytes.iter().rev().map(|byte| format!("{byte:02x}")).collect();
    let digits = digits.trim_start_matches('0');
    let digits = if digits.is_empty() { "0" } else { digits };
    Some(format!("{}0x{digits}", if is_negative { "-" } else { "" }))
}

/// A UUID's payload as people write it.
pub(crate) fn uuid(payload: &[u8]) -> Option<String> {
    let bytes: [u8; 16] = payload.try_into().ok()?;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [hex.get(..8)?, hex.get(8..12)?, hex.get(12..16)?, hex.get(16..20)?, hex.get(20..)?];
    Some(parts.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_any_size() {
        let cases: [(&[u8], &str); 5] =
            [(&[0], "0x0"), (&[0x1f], "0x1f"), (&[0xe1], "-0x1f"), (&[0, 0x80], "-0x8000"), (&[0, 0, 1], "0x10000")];
        for (payload, expected) in cases {
            assert_eq!(hexadecimal(payload).as_deref(), Some(expected));
        }
        assert_eq!(hexadecimal(&[]), None);
        let big = (-(1_i128 << 100)).to_le_bytes();
        assert_eq!(hexadecimal(&big).as_deref(), Some("-0x10000000000000000000000000"));
    }

    #[test]
    fn uuids_as_people_write_them() {
        let payload: Vec<u8> = (0..16).collect();
        assert_eq!(uuid(&payload).as_deref(), Some("00010203-0405-0607-0809-0a0b0c0d0e0f"));
        assert_eq!(uuid(&payload[1..]), None);
    }
}
