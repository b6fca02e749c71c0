//! The text of a table, as SHOW CREATE TABLE gives it, taken apart as far as copies need it.

/// A foreign key in the text of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ForeignKey {
    /// `CONSTRAINT … FOREIGN KEY … REFERENCES …`.
    pub(crate) text: String,
    /// The constraint's name, unquoted.
    pub(crate) name: String,
    /// Whether the table that it names is one of another schema.
    pub(crate) is_outward: bool,
}

/// The text of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Definition {
    /// Up to the opening parenthesis, which is included.
    head: String,
    items: Vec<String>,
    /// From the closing parenthesis, which is included.
    tail: String,
}

impl Definition {
    /// Takes a text apart; `None`: it is none of a table.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (mut depth, mut start, mut items, mut head) = (0_u32, 0, Vec::new(), None);
        for (at, c) in outside_quotes(text) {
            match c {
                '(' if depth == 0 && head.is_none() => {
                    head = Some(text.get(..=at)?.to_owned());
                    (depth, start) = (1, at + 1);
                }
                '(' => depth += 1,
                ',' if depth == 1 => {
                    items.push(text.get(start..at)?.trim().to_owned());
                    start = at + 1;
                }
                ')' if depth == 1 => {
                    items.push(text.get(start..at)?.trim().to_owned());
                    return Some(Self { head: head?, items, tail: text.get(at..)?.to_owned() });
                }
                ')' => depth = depth.checked_sub(1)?,
                _ => {}
            }
        }
        None
    }

    /// The foreign keys.
    pub(crate) fn foreign_keys(&self) -> Vec<ForeignKey> {
        self.items.iter().filter_map(|item| foreign_key(item)).collect()
    }

    /// The text, of the foreign keys those that are wanted.
    pub(crate) fn with_foreign_keys(&self, is_wanted: impl Fn(&ForeignKey) -> bool) -> String {
        let kept = self.items.iter().filter(|item| foreign_key(item).is_none_or(|key| is_wanted(&key)));
        let items: Vec<_> = kept.map(|item| format!("\n  {item}")).collect();
        format!("{}{}\n{}", self.head, items.join(","), self.tail)
    }

    /// What stays the same while rows come: the text without the table's counter.
    pub(crate) fn without_counter(&self) -> String {
        let mut words = self.tail.split(' ').filter(|word| !word.starts_with("AUTO_INCREMENT="));
        let mut tail = words.next().unwrap_or_default().to_owned();
        words.for_each(|word| {
            tail.push(' ');
            tail.push_str(word);
        });
        format!("{}{}{tail}", self.head, self.items.join(",\n"))
    }

    /// Options behind the columns.
    pub(crate) fn tail(&self) -> &str {
        &self.tail
    }
}

fn foreign_key(item: &str) -> Option<ForeignKey> {
    let rest = item.strip_prefix("CONSTRAINT ")?;
    let (name, rest) = name(rest)?;
    let columns = rest.trim_start().strip_prefix("FOREIGN KEY ")?;
    let references = outside_quotes(columns)
        .find_map(|(at, c)| columns.get(at..).filter(|_| c == 'R')?.strip_prefix("REFERENCES "))?;
    let (_, rest) = self::name(references)?;
    Some(ForeignKey { text: item.to_owned(), name, is_outward: rest.starts_with('.') })
}

/// A name in backticks at the beginning of a text, and what follows it.
fn name(text: &str) -> Option<(String, &str)> {
    let mut rest = text.strip_prefix('`')?;
    let mut name = String::new();
    loop {
        let (part, after) = rest.split_once('`')?;
        name.push_str(part);
        match after.strip_prefix('`') {
            Some(more) => {
                name.push('`');
                rest = more;
            }
            None => return Some((name, after)),
        }
    }
}

/// The characters that are in no quotes, with their places.
fn outside_quotes(text: &str) -> impl Iterator<Item = (usize, char)> + '_ {
    let (mut quote, mut is_escaped) = (None, false);
    text.char_indices().filter(move |&(_, c)| match quote {
        // A doubled quote ends the text and begins the next one, which comes to the same.
        Some(open) => {
            if !is_escaped && c == open {
                quote = None;
            }
            is_escaped = !is_escaped && c == '\\' && open != '`';
            false
        }
        None => {
            if matches!(c, '\'' | '"' | '`') {
                quote = Some(c);
            }
            quote.is_none()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "CREATE TABLE `a(b``,` (\n  `id` int(11) NOT NULL COMMENT 'it''s, (\\' x',\n  \
        `p` int DEFAULT (1 + (2)),\n  PRIMARY KEY (`id`),\n  CONSTRAINT `f``1` FOREIGN KEY (`p`) REFERENCES `par` (`id`) \
        ON DELETE CASCADE,\n  CONSTRAINT `f2` FOREIGN KEY (`p REFERENCES `) REFERENCES `o``s`.`par` (`id`),\n  \
        CONSTRAINT `c` CHECK (`id` <> ',)')\n) ENGINE=InnoDB AUTO_INCREMENT=7 DEFAULT CHARSET=utf8mb4 COMMENT='a ) b'\n \
        PARTITION BY HASH (`id`)";

    #[test]
    fn foreign_keys_are_found_and_left_out() {
        let definition = Definition::parse(TEXT).unwrap();
        let keys = definition.foreign_keys();
        let names: Vec<_> = keys.iter().map(|key| (key.name.as_str(), key.is_outward)).collect();
        assert_eq!(names, [("f`1", false), ("f2", true)]);
        assert_eq!(definition.with_foreign_keys(|_| true), TEXT);
        let without = definition.with_foreign_keys(|key| !key.is_outward);
        assert!(without.contains("`f``1`") && !without.contains("`f2`") && without.contains("`c` CHECK"), "{without}");
        assert!(definition.tail().starts_with(") ENGINE=InnoDB") && definition.tail().ends_with("(`id`)"));
    }

    #[test]
    fn the_counter_is_no_part_of_the_shape() {
        let other = TEXT.replace("AUTO_INCREMENT=7 ", "AUTO_INCREMENT=19 ");
        let shape = |text| Definition::parse(text).unwrap().without_counter();
        assert_eq!(shape(TEXT), shape(&other));
        assert_ne!(shape(TEXT), shape(&TEXT.replace("COMMENT='a", "COMMENT='b")));
        assert!(Definition::parse("CREATE SEQUENCE `s` start with 1").is_none());
    }
}
