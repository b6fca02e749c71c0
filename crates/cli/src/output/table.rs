//! Columns that line up.

use unicode_width::UnicodeWidthStr;

use super::style::{Style, clean};

/// On which side of its column a text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Rows of texts under a heading.
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
    indent: usize,
}

impl Table {
    /// A table with these columns.
    pub(crate) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new(), indent: 0 }
    }

    /// Moves the table to the right.
    pub(crate) fn indented(mut self, indent: usize) -> Self {
        self.indent = indent;
        self
    }

    /// Adds a row, one text per column.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| clean(&cell).replace(['\n', '\t'], " ")).collect());
    }

    /// The text, without a line end behind it. A column that is empty in every row is left out.
    pub(crate) fn render(&self, style: Style) -> String {
        let width = |index: usize| self.rows.iter().filter_map(|row| row.get(index)).map(|cell| cell.width()).max();
        let widths: Vec<usize> = (0..self.columns.len()).map(|index| width(index).unwrap_or(0)).collect();
        let widths: Vec<usize> = self
            .columns
            .iter()
            .zip(widths)
            .map(|((name, _), width)| if width == 0 { 0 } else { width.max(name.width()) })
            .collect();
        let heading: Vec<String> = self.columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        let heading = style.dim(&self.line(&heading, &widths));
        let rows = self.rows.iter().map(|row| self.line(row, &widths));
        std::iter::once(heading).chain(rows).collect::<Vec<_>>().join("\n")
    }

    fn line(&self, cells: &[String], widths: &[usize]) -> String {
        let shown = self.columns.iter().zip(cells).zip(widths).filter(|(_, width)| **width > 0);
        let padded = shown.map(|(((_, align), cell), width)| {
            let space = " ".repeat(width.saturating_sub(cell.width()));
            if *align == Align::Left { format!("{cell}{space}") } else { format!("{space}{cell}") }
        });
        let line = padded.collect::<Vec<_>>().join("  ");
        format!("{}{}", " ".repeat(self.indent), line.trim_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_empty_ones_vanish() {
        let mut table =
            Table::new(&[("NAME", Align::Left), ("EMPTY", Align::Left), ("SIZE", Align::Right)]).indented(1);
        table.row(["größe".into(), String::new(), "1 B".into()]);
        table.row(["日本".into(), String::new(), "10.0 KiB".into()]);
        table.row(["a\u{1b}[31m\nb".into(), String::new(), String::new()]);
        let expected = " NAME          SIZE\n größe          1 B\n 日本      10.0 KiB\n a\u{fffd}[31m b";
        assert_eq!(table.render(Style::default()), expected);
    }
}
