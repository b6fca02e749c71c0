//! The code that lets one person set up Copal: whoever started it reads it, and nobody guesses it.

use std::fmt;

use aws_lc_rs::{constant_time, rand};
use copal::{CopalError, ErrorKind, Secret};

/// Digits and capitals without those that look like others; 32, so that each carries five bits.
const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// A hundred bits.
const LENGTH: usize = 20;
const GROUP: usize = 4;

/// A code of 100 random bits, `7QKD-…` in five groups. `Debug` does not show it.
pub(crate) struct Code(Secret);

impl Code {
    /// A new one.
    pub(super) fn random() -> copal::Result<Self> {
        let mut bytes = [0; LENGTH];
        let none = |_| CopalError::new(ErrorKind::Failed, "this system gives no random numbers to make a code of");
        rand::fill(&mut bytes).map_err(none)?;
        let mut text = String::with_capacity(LENGTH + LENGTH / GROUP);
        for (at, byte) in bytes.iter().enumerate() {
            if at > 0 && at.is_multiple_of(GROUP) {
                text.push('-');
            }
            let letter = LETTERS.get(usize::from(byte % 32)).copied().unwrap_or_default();
            text.push(char::from(letter));
        }
        Ok(Self(Secret::new(text)))
    }

    /// The code itself.
    pub(super) fn reveal(&self) -> &str {
        self.0.reveal()
    }

    /// Whether somebody has it; how it is grouped and whether in capitals does not matter. How long this takes tells nothing.
    pub(crate) fn is(&self, presented: &str) -> bool {
        let plain = |text: &str| -> Vec<u8> {
            text.bytes().filter(u8::is_ascii_alphanumeric).map(|byte| byte.to_ascii_uppercase()).collect()
        };
        constant_time::verify_slices_are_equal(&plain(self.reveal()), &plain(presented)).is_ok()
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_code_is_the_code() {
        let (code, other) = (Code::random().unwrap(), Code::random().unwrap());
        let text = code.reveal();
        assert_eq!((text.len(), text.split('-').count()), (24, 5), "{text}");
        assert!(code.is(text) && code.is(&text.to_lowercase()) && code.is(&text.replace('-', "")));
        let last = text.chars().last().unwrap();
        let nearly = format!("{}{}", &text[..23], if last == '0' { '1' } else { '0' });
        for wrong in ["", "-", &text[..23], &nearly, &format!("{text}0"), other.reveal()] {
            assert!(!code.is(wrong), "{wrong}");
        }
        assert!(!format!("{code:?}").contains(text));
    }
}
