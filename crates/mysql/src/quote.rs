//! Names and texts in SQL.

/// An identifier, quoted.
pub(crate) fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A table of a schema.
pub(crate) fn table(schema: &str, name: &str) -> String {
    format!("{}.{}", identifier(schema), identifier(name))
}

/// A text, quoted; right in sessions of ours, which have no `NO_BACKSLASH_ESCAPES`.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// A text as a pattern of LIKE that matches only itself.
pub(crate) fn like(text: &str) -> String {
    text.replace('\\', "\\\\").replace('_', "\\_").replace('%', "\\%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_doubled() {
        assert_eq!(table("a`b", "c"), "`a``b`.`c`");
        assert_eq!((literal("it's"), literal("a\\'")), ("'it''s'".to_owned(), "'a\\\\'''".to_owned()));
        assert_eq!(like("a_b"), "a\\_b");
    }
}
