//! The `.env` file beside a configuration: `NAME=value` lines as docker and foreman read them.
//!
//! Lines that are nothing of the kind are passed over: the file belongs to the user's application, not to Copal.

use std::collections::BTreeMap;

/// Reads the variables of a `.env` file; of a name that is set twice the last one counts.
pub(super) fn parse(text: &str) -> BTreeMap<String, String> {
    text.lines().filter_map(variable).collect()
}

fn variable(line: &str) -> Option<(String, String)> {
    let line = line.trim();
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, value) = line.split_once('=')?;
    let name = name.trim_end();
    super::substitute::is_variable_name(name).then(|| (name.to_owned(), unquote(value.trim())))
}

fn unquote(value: &str) -> String {
    if let Some(rest) = value.strip_prefix('\'') {
        return rest.split('\'').next().unwrap_or_default().to_owned();
    }
    let Some(rest) = value.strip_prefix('"') else {
        // Unquoted: a comment begins at a `#` after white space.
        let comment = value.char_indices().find(|(i, c)| *c == '#' && (*i == 0 || value[..*i].ends_with([' ', '\t'])));
        return value[..comment.map_or(value.len(), |(i, _)| i)].trim_end().to_owned();
    };
    let (mut text, mut escaped) = (String::new(), false);
    for c in rest.chars() {
        match (escaped, c) {
            (false, '"') => break,
            (false, '\\') => escaped = true,
            (true, 'n') => (text.push('\n'), escaped = false).1,
            (_, c) => (text.push(c), escaped = false).1,
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_usual() {
        let text = "# comment\nA=1\nexport B = two words # why\nC='a # b'\nD=\"x \\\"y\\\"\\n\"\nnot a line\nE=\n1F=x\nG=a#b\n";
        let found = parse(text);
        let expected = [("A", "1"), ("B", "two words"), ("C", "a # b"), ("D", "x \"y\"\n"), ("E", ""), ("G", "a#b")];
        assert_eq!(found.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect::<Vec<_>>(), expected);
    }
}
