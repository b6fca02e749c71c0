//! Numbers over time as one line of small bars.

use super::bytes;

const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Where the terminal or the locale has no such signs.
const PLAIN: [char; 8] = ['_', '.', '-', '~', '=', '+', '*', '#'];
/// More bars tell no more.
const WIDEST: usize = 60;
const NARROWEST: usize = 10;
/// What stands on the line beside the bars.
const BESIDE: usize = 62;

/// How bars are drawn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sparks {
    has_blocks: bool,
    width: usize,
}

impl Sparks {
    /// As the locale and the terminal have it.
    pub(crate) fn of_stdout() -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default();
        let columns = set("COLUMNS").and_then(|columns| columns.parse().ok()).or_else(columns_of_terminal);
        Self::new(&locale, &set("TERM").unwrap_or_default(), columns)
    }

    fn new(locale: &str, terminal: &str, columns: Option<usize>) -> Self {
        let locale = locale.to_ascii_lowercase();
        let has_blocks = terminal != "dumb" && (locale.contains("utf-8") || locale.contains("utf8"));
        // What is no terminal is as wide as it is asked to be.
        let width = columns.map_or(WIDEST, |columns| columns.saturating_sub(BESIDE).clamp(NARROWEST, WIDEST));
        Self { has_blocks, width }
    }

    /// Bars, the least and the greatest of the sizes, and the last; nothing without sizes.
    pub(crate) fn line(self, sizes: &[u64]) -> String {
        let (Some(least), Some(most), Some(last)) = (sizes.iter().min(), sizes.iter().max(), sizes.last()) else {
            return String::new();
        };
        let to = if self.has_blocks { "…" } else { ".." };
        format!("{}  {} {to} {}, newest {}", self.bars(sizes), bytes(*least), bytes(*most), bytes(*last))
    }

    /// A bar for each number; where there are more than fit, one for the greatest of several.
    fn bars(self, numbers: &[u64]) -> String {
        let (least, most) = (numbers.iter().min().copied().unwrap_or(0), numbers.iter().max().copied().unwrap_or(0));
        let signs = if self.has_blocks { BLOCKS } else { PLAIN };
        let sign = |number: u64| {
            let part = match most - least {
                // What never changes is neither low nor high.
                0 => 0.5,
                range => (number - least) as f64 / range as f64,
            };
            let level = (part * (signs.len() - 1) as f64).round() as usize;
            signs.get(level).copied().unwrap_or(' ')
        };
        let count = numbers.len().min(self.width);
        let share = |at: usize| at * numbers.len() / count;
        let greatest = |at| numbers.get(share(at)..share(at + 1))?.iter().max().copied();
        (0..count).filter_map(greatest).map(sign).collect()
    }
}

#[cfg(unix)]
fn columns_of_terminal() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

#[cfg(not(unix))]
fn columns_of_terminal() -> Option<usize> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(columns: Option<usize>) -> Sparks {
        Sparks::new("C.UTF-8", "xterm", columns)
    }

    #[test]
    fn bars_are_as_high_as_their_numbers() {
        assert_eq!(blocks(None).bars(&[0, 1, 2, 3, 4, 5, 6, 7]), "▁▂▃▄▅▆▇█");
        assert_eq!(blocks(None).bars(&[u64::MAX, 0, u64::MAX / 2]), "█▁▅");
        assert_eq!(blocks(None).bars(&[5, 5]), "▅▅");
        assert_eq!(blocks(None).bars(&[]), "");
        assert_eq!(blocks(None).line(&[1024, 4096, 2048]), "▁█▃  1.0 KiB … 4.0 KiB, newest 2.0 KiB");
        assert_eq!(blocks(None).line(&[]), "");
    }

    #[test]
    fn more_numbers_than_bars_keep_their_peaks() {
        let mut numbers = vec![0; 1000];
        numbers[501] = 9;
        let bars = blocks(None).bars(&numbers);
        assert_eq!((bars.chars().count(), bars.matches('█').count()), (WIDEST, 1), "{bars}");
        for (columns, width) in [(20, 10), (80, 18), (100, 38), (500, 60)] {
            assert_eq!(blocks(Some(columns)).bars(&numbers).chars().count(), width);
        }
        assert_eq!(blocks(Some(80)).bars(&numbers[490..508]).chars().count(), 18);
    }

    #[test]
    fn without_the_signs_there_are_plain_ones() {
        for (locale, terminal) in [("C", "xterm"), ("", ""), ("de_DE.ISO-8859-1", "xterm"), ("C.UTF-8", "dumb")] {
            let line = Sparks::new(locale, terminal, None).line(&[1, 2, 8]);
            assert_eq!(line, "_.#  1 B .. 8 B, newest 8 B", "{locale} {terminal}");
        }
        assert!(Sparks::new("en_GB.utf8", "", None).has_blocks);
    }
}
