//! The command line of a restore, for a POSIX shell.
//!
//! Names and paths are other people's text: each argument is one word to the shell whatever is in it, and no control character
//! goes through the terminal that it is pasted into, but for line breaks.

use std::fmt::Write as _;

/// Arguments as one line that a POSIX shell takes apart into exactly these.
pub(super) fn shell_line<S: AsRef<str>>(arguments: impl IntoIterator<Item = S>) -> String {
    let words: Vec<String> = arguments.into_iter().map(|argument| word(argument.as_ref())).collect();
    words.join(" ")
}

fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    let mut quoted = String::from("'");
    for c in text.chars() {
        match c {
            '\'' => quoted.push_str("'\\''"),
            // `$(…)` takes line breaks from the end, and they do no harm as they are.
            '\n' => quoted.push(c),
            c if c.is_control() => {
                quoted.push_str("'\"$(printf '");
                for byte in c.to_string().bytes() {
                    // A `String` takes everything.
                    let _ = write!(quoted, "\\{byte:03o}");
                }
                quoted.push_str("')\"'");
            }
            c => quoted.push(c),
        }
    }
    quoted.push('\'');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `sh` makes of a line.
    fn taken_apart(line: &str) -> Vec<String> {
        let script = format!("for a in {line}; do printf '%s\\0' \"$a\"; done");
        let output = std::process::Command::new("sh").arg("-c").arg(script).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_terminator('\0').map(str::to_owned).collect()
    }

    #[test]
    fn a_shell_takes_it_apart_as_it_was() {
        let arguments = [
            "copal",
            "",
            "it's \"odd\"",
            "$(touch /tmp/x) `id` ; rm -rf ~ & | > <",
            "a\nb\n",
            "\n",
            "\r\t\u{1b}[31m\u{7f}\u{85}end\r",
            "größe 日本 \\n \\",
            "*?[a]{b,c}!#",
            "~root",
            "-x=1",
            "'",
            "''",
        ];
        let line = shell_line(arguments);
        assert_eq!(taken_apart(&line), arguments);
        assert!(!line.chars().any(|c| c.is_control() && c != '\n'), "{line:?}");
    }

    #[test]
    fn what_needs_no_quotes_has_none() {
        let line = shell_line(["copal", "restore", "shop", "--to", "sqlite:/tmp/copy.db"]);
        assert_eq!(line, "copal restore shop --to sqlite:/tmp/copy.db");
    }
}
