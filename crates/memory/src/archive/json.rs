//! MessagePack values as JSON. What JSON has not is written as an object with one key that begins with `$`.

use std::fmt::Write;

use rmp::Marker;

use crate::ext;
use crate::packed::Taker;

/// How deep values are looked into, extension types in each other included; what lies deeper is shown as bytes. More than a walk allows.
const MAX_DEPTH: u32 = 1_024;

/// One value.
pub(super) fn of(value: &[u8]) -> String {
    let mut out = String::new();
    put(value, &mut out);
    out
}

/// Text in quotes.
pub(super) fn text(text: &str) -> String {
    let mut out = String::new();
    put_text(text, &mut out);
    out
}

/// Appends one value, which was walked over when it was read.
pub(super) fn put(value: &[u8], out: &mut String) {
    let mut taker = Taker::new(value);
    if put_next(&mut taker, 0, out).is_none() {
        // Not reached with a value that was walked over.
        tagged("$raw", &quoted_hex(value), out);
    }
}

fn put_next(taker: &mut Taker<'_>, depth: u32, out: &mut String) -> Option<()> {
    if depth > MAX_DEPTH {
        return None;
    }
    match taker.marker()? {
        Marker::FixArray(_) | Marker::Array16 | Marker::Array32 => {
            let count = taker.array().ok()?;
            put_items(taker, count, depth, out)
        }
        Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => put_map(taker, depth, out),
        _ => put_leaf(taker.value().ok()?, depth, out),
    }
}

fn put_items(taker: &mut Taker<'_>, count: u32, depth: u32, out: &mut String) -> Option<()> {
    out.push('[');
    for number in 0..count {
        if number > 0 {
            out.push_str(", ");
        }
        put_next(taker, depth + 1, out)?;
    }
    out.push(']');
    Some(())
}

fn put_map(taker: &mut Taker<'_>, depth: u32, out: &mut String) -> Option<()> {
    let mut ahead = taker.clone();
    let count = taker.map().ok()?;
    let is_object = has_plain_keys(&mut ahead)?;
    out.push_str(if is_object { "{" } else { "{\"$map\": [" });
    for number in 0..count {
        if number > 0 {
            out.push_str(", ");
        }
        if !is_object {
            out.push('[');
        }
        put_next(taker, depth + 1, out)?;
        out.push_str(if is_object { ": " } else { ", " });
        put_next(taker, depth + 1, out)?;
        if !is_object {
            out.push(']');
        }
    }
    out.push_str(if is_object { "}" } else { "]}" });
    Some(())
}

/// Whether all keys are different texts of which none could be taken for one of ours.
fn has_plain_keys(taker: &mut Taker<'_>) -> Option<bool> {
    let count = taker.map().ok()?;
    let mut keys = std::collections::BTreeSet::new();
    for _ in 0..count {
        match taker.text() {
            Ok(key) if !key.starts_with('$') && keys.insert(key) => {}
            _ => return Some(false),
        }
        taker.value().ok()?;
    }
    Some(true)
}

fn put_leaf(value: &[u8], depth: u32, out: &mut String) -> Option<()> {
    let mut bytes = value;
    match Marker::from_u8(*value.first()?) {
        Marker::Null => out.push_str("null"),
        Marker::True => out.push_str("true"),
        Marker::False => out.push_str("false"),
        Marker::F32 => put_float(f64::from(rmp::decode::read_f32(&mut bytes).ok()?), out),
        Marker::F64 => put_float(rmp::decode::read_f64(&mut bytes).ok()?, out),
        Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => {
            put_text(Taker::new(value).text().ok()?, out);
        }
        Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => {
            rmp::decode::read_bin_len(&mut bytes).ok()?;
            tagged("$bytes", &quoted_hex(bytes), out);
        }
        Marker::FixPos(_) | Marker::U8 | Marker::U16 | Marker::U32 | Marker::U64 => {
            let number: u64 = rmp::decode::read_int(&mut bytes).ok()?;
            // Writing to a String cannot fail.
            let _ = write!(out, "{number}");
        }
        Marker::FixNeg(_) | Marker::I8 | Marker::I16 | Marker::I32 | Marker::I64 => {
            let number: i64 = rmp::decode::read_int(&mut bytes).ok()?;
            let _ = write!(out, "{number}");
        }
        _ => {
            let kind = rmp::decode::read_ext_meta(&mut bytes).ok()?.typeid;
            put_extension(kind, bytes, depth, out);
        }
    }
    Some(())
}

fn put_extension(kind: i8, payload: &[u8], depth: u32, out: &mut String) {
    let from = out.len();
    if put_known(kind, payload, depth, out).is_none() {
        out.truncate(from);
        let _ = write!(out, "{{\"$ext\": {kind}, \"data\": {}}}", quoted_hex(payload));
    }
}

/// One of the types of docs/engines/memory.md; `None`: another one, or not what it says.
fn put_known(kind: i8, payload: &[u8], depth: u32, out: &mut String) -> Option<()> {
    let name = ext::name(kind)?;
    match kind {
        ext::INTEGER => tagged(name, &quoted(&ext::hexadecimal(payload)?), out),
        ext::UUID => tagged(name, &quoted(&ext::uuid(payload)?), out),
        ext::DECIMAL => tagged(name, &text(std::str::from_utf8(payload).ok()?), out),
        ext::COMPLEX => {
            let (real, imaginary) = payload.split_at_checked(8)?;
            out.push_str("{\"$complex\": [");
            put_float(f64::from_be_bytes(real.try_into().ok()?), out);
            out.push_str(", ");
            put_float(f64::from_be_bytes(imaginary.try_into().ok()?), out);
            out.push_str("]}");
        }
        ext::SURROGATES | ext::BYTEARRAY => tagged(name, &quoted_hex(payload), out),
        _ => {
            // An array or a text by itself.
            crate::walk::Walker::default().only(payload).ok()?;
            let _ = write!(out, "{{\"{name}\": ");
            put_next(&mut Taker::new(payload), depth + 1, out)?;
            out.push('}');
        }
    }
    Some(())
}

fn put_float(value: f64, out: &mut String) {
    if value.is_finite() {
        out.push_str(&serde_json::to_string(&value).unwrap_or_default());
    } else if value.is_nan() {
        out.push_str("{\"$float\": \"nan\"}");
    } else {
        out.push_str(if value > 0.0 { "{\"$float\": \"inf\"}" } else { "{\"$float\": \"-inf\"}" });
    }
}

fn put_text(text: &str, out: &mut String) {
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

fn tagged(name: &str, json: &str, out: &mut String) {
    let _ = write!(out, "{{\"{name}\": {json}}}");
}

fn quoted(plain: &str) -> String {
    format!("\"{plain}\"")
}

fn quoted_hex(bytes: &[u8]) -> String {
    let mut hex = String::with_capacity(2 * bytes.len() + 2);
    hex.push('"');
    for byte in bytes {
        let _ = write!(hex, "{byte:02x}");
    }
    hex.push('"');
    hex
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::walk::{MAX_DEPTH as WALKED, Walked, Walker};

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn any_value_becomes_json(bytes in prop::collection::vec(prop_oneof![any::<u8>(), 0x80_u8..0xa4, Just(0xc7), Just(8)], 0..40)) {
            if let Ok(Walked::Whole(length)) = Walker::default().value(&bytes) {
                let json = of(&bytes[..length]);
                prop_assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok(), "{json}");
            }
        }
    }

    #[test]
    fn what_is_deep_ends() {
        // Tuples in tuples, each with arrays as deep as a walk allows.
        let mut value = vec![0xc0];
        for _ in 0..40 {
            value = [vec![0x91; WALKED], value].concat();
            let mut tuple = Vec::new();
            rmp::encode::write_ext_meta(&mut tuple, u32::try_from(value.len()).unwrap(), crate::ext::TUPLE).unwrap();
            value = [tuple, value].concat();
        }
        assert!(of(&value).contains("\"$ext\": 8"));
    }
}
