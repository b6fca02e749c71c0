//! Texts and floating-point numbers as Python's json module writes them.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

/// Appends a text in quotes with everything outside of printable ASCII escaped.
pub(super) fn write(out: &mut Vec<u8>, text: &Bound<'_, PyString>) -> PyResult<()> {
    out.push(b'"');
    match text.to_cow() {
        Ok(utf8) => escape(out, utf8.as_bytes()),
        // Halves of surrogate pairs are no UTF-8; Python keeps them, and so does JSON's \u notation.
        Err(_) => {
            let encoded = text.call_method1("encode", ("utf-8", "surrogatepass"))?;
            escape(out, encoded.cast::<PyBytes>()?.as_bytes());
        }
    }
    out.push(b'"');
    Ok(())
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

/// Escapes UTF-8 whose surrogates may stand alone.
fn escape(out: &mut Vec<u8>, mut rest: &[u8]) {
    loop {
        let plain = rest.iter().position(|byte| !is_plain(*byte)).unwrap_or(rest.len());
        let (before, after) = rest.split_at(plain);
        out.extend_from_slice(before);
        let Some(first) = after.first() else { return };
        let length = match first {
            0..0x80 => 1,
            0x80..0xE0 => 2,
            0xE0..0xF0 => 3,
            0xF0.. => 4,
        };
        let (bytes, next) = after.split_at(length.min(after.len()));
        match first {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0C => out.extend_from_slice(b"\\f"),
            _ => escape_character(out, code_point(bytes)),
        }
        rest = next;
    }
}

fn code_point(bytes: &[u8]) -> u32 {
    let (first, rest) = bytes.split_first().map_or((0, bytes), |(first, rest)| (u32::from(*first), rest));
    let head = match rest.len() {
        0 => first,
        1 => first & 0x1F,
        2 => first & 0x0F,
        _ => first & 0x07,
    };
    rest.iter().fold(head, |code, byte| code << 6 | u32::from(byte & 0x3F))
}

fn escape_character(out: &mut Vec<u8>, code: u32) {
    if code < 0x1_0000 {
        escape_unit(out, code);
    } else {
        let above = code - 0x1_0000;
        escape_unit(out, 0xD800 | above >> 10);
        escape_unit(out, 0xDC00 | above & 0x3FF);
    }
}

fn escape_unit(out: &mut Vec<u8>, unit: u32) {
    out.extend_from_slice(b"\\u");
    for shift in [12, 8, 4, 0] {
        out.push(b"0123456789abcdef"[(unit >> shift & 0xF) as usize]);
    }
}

/// Appends a number as `repr` writes it: the shortest digits that read back as the same number, with an exponent below 1e-4 and
/// from 1e16 on.
pub(super) fn write_float(out: &mut Vec<u8>, number: f64) {
    if number.is_nan() {
        return out.extend_from_slice(b"NaN");
    }
    if number.is_sign_negative() {
        out.push(b'-');
    }
    if number.is_infinite() {
        return out.extend_from_slice(b"Infinity");
    }
    if number == 0.0 {
        return out.extend_from_slice(b"0.0");
    }
    let mut buffer = zmij::Buffer::new();
    let shortest = buffer.format_finite(number.abs()).as_bytes();
    if (1e-4..1e16).contains(&number.abs()) && !shortest.contains(&b'e') {
        return out.extend_from_slice(shortest);
    }
    let (digits, point) = digits(shortest);
    write_digits(out, &digits, point);
}

/// The significant digits of a shortest decimal, and how many of them stand before the decimal point (below zero: zeros after it).
fn digits(shortest: &[u8]) -> (Vec<u8>, i32) {
    let (mantissa, exponent) = match shortest.iter().position(|byte| *byte == b'e') {
        None => (shortest, 0),
        Some(at) => (&shortest[..at], parse(&shortest[at + 1..])),
    };
    let whole = mantissa.iter().position(|byte| *byte == b'.').unwrap_or(mantissa.len());
    let mut digits: Vec<u8> = mantissa.iter().copied().filter(u8::is_ascii_digit).collect();
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    digits.drain(..zeros);
    while digits.last() == Some(&b'0') {
        digits.pop();
    }
    let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    (digits, count(whole) - count(zeros) + exponent)
}

fn parse(exponent: &[u8]) -> i32 {
    let (sign, digits) = match exponent.split_first() {
        Some((b'-', rest)) => (-1, rest),
        Some((b'+', rest)) => (1, rest),
        _ => (1, exponent),
    };
    sign * digits.iter().fold(0, |number, digit| number * 10 + i32::from(digit - b'0'))
}

fn write_digits(out: &mut Vec<u8>, digits: &[u8], point: i32) {
    let count = digits.len();
    if point > -4 && point <= 16 {
        let before = usize::try_from(point).unwrap_or(0);
        if before == 0 {
            out.extend_from_slice(b"0.");
            out.extend(std::iter::repeat_n(b'0', usize::try_from(-point).unwrap_or(0)));
            return out.extend_from_slice(digits);
        }
        if before >= count {
            out.extend_from_slice(digits);
            out.extend(std::iter::repeat_n(b'0', before - count));
            return out.extend_from_slice(b".0");
        }
        out.extend_from_slice(&digits[..before]);
        out.push(b'.');
        return out.extend_from_slice(&digits[before..]);
    }
    let (first, rest) = digits.split_at(count.min(1));
    out.extend_from_slice(first);
    if !rest.is_empty() {
        out.push(b'.');
        out.extend_from_slice(rest);
    }
    let exponent = point - 1;
    out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
    if exponent.abs() < 10 {
        out.push(b'0');
    }
    out.extend_from_slice(itoa::Buffer::new().format(exponent.abs()).as_bytes());
}
