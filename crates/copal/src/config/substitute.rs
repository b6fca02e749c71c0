//! `${VAR}` in the texts of a configuration.

/// Why a text could not be completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SubstituteError {
    /// The variable is set nowhere.
    Missing(String),
    /// What stands between the braces is no name.
    NotAName(String),
    /// There is no closing brace.
    Unclosed,
}

/// Whether environment variables can have this name.
pub(super) fn is_variable_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Replaces each `${NAME}` by what `lookup` knows; `$${` stands for `${` itself. Values are not looked into again.
pub(super) fn substitute(text: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<String, SubstituteError> {
    let (mut done, mut rest) = (String::new(), text);
    while let Some(start) = rest.find("${") {
        let (before, after) = (&rest[..start], &rest[start + 2..]);
        if let Some(before) = before.strip_suffix('$') {
            done.push_str(before);
            done.push_str("${");
            rest = after;
            continue;
        }
        done.push_str(before);
        let (name, behind) = after.split_once('}').ok_or(SubstituteError::Unclosed)?;
        if !is_variable_name(name) {
            return Err(SubstituteError::NotAName(name.to_owned()));
        }
        done.push_str(&lookup(name).ok_or_else(|| SubstituteError::Missing(name.to_owned()))?);
        rest = behind;
    }
    done.push_str(rest);
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str) -> Result<String, SubstituteError> {
        substitute(text, |name| match name {
            "A" => Some("1".into()),
            "TRICKY" => Some("${A}".into()),
            _ => None,
        })
    }

    #[test]
    fn variables_are_replaced_once() {
        for (text, expected) in [
            ("plain $A $", "plain $A $"),
            ("x${A}y${A}", "x1y1"),
            ("$${A} ${A}", "${A} 1"),
            ("${TRICKY}", "${A}"),
            ("", ""),
        ] {
            assert_eq!(run(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_missing_or_malformed_is_named() {
        assert_eq!(run("${NOPE}"), Err(SubstituteError::Missing("NOPE".into())));
        assert_eq!(run("${A:-x}"), Err(SubstituteError::NotAName("A:-x".into())));
        assert_eq!(run("a${A"), Err(SubstituteError::Unclosed));
    }
}
