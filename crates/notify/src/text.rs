//! A notice as text for people: composed once, then escaped and shortened for each channel.

use jiff::tz::TimeZone;

use crate::Notice;

const ELLIPSIS: &str = "…";
/// Parts a mention from its sign: no chat reads `@` and a zero-width space as one.
const ZERO_WIDTH_SPACE: char = '\u{200b}';

/// The text of a notice, of which nothing is escaped yet but every field is on lines of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// One line.
    pub(crate) title: String,
    /// The details and the facts.
    pub(crate) body: String,
}

impl Message {
    pub(crate) fn new(notice: &Notice) -> Self {
        let mut lines: Vec<String> = Vec::new();
        let details = notice.details.trim();
        if !details.is_empty() {
            lines.extend(details.lines().map(one_line));
            lines.push(String::new());
        }
        let mut fact = |name: &str, value: String| lines.push(format!("{name}: {}", one_line(&value)));
        if !notice.database.is_empty() {
            fact("Database", notice.database.clone());
        }
        fact("Host", notice.host.clone());
        fact("Time", time(notice.time));
        if notice.consecutive_failures > 1 {
            fact("Failures in a row", notice.consecutive_failures.to_string());
        }
        if let Some(kind) = &notice.error_kind {
            fact("Error", kind.clone());
        }
        if let Some(backup) = &notice.backup {
            fact("Backup", backup.id.clone());
            for (name, size) in
                [("Size", backup.logical_bytes), ("Added", backup.added_bytes), ("Stored", backup.stored_bytes)]
            {
                if let Some(size) = size {
                    fact(name, bytes(size));
                }
            }
            if let Some(seconds) = backup.duration_seconds {
                fact("Duration", format!("{seconds:.1} s"));
            }
        }
        if let Some(next) = notice.next_run {
            fact("Next run", time(next));
        }
        Self { title: one_line(&notice.headline), body: lines.join("\n") }
    }

    /// Title and body as one text.
    pub(crate) fn whole(&self) -> String {
        format!("{}\n{}", self.title, self.body)
    }
}

fn time(time: jiff::Timestamp) -> String {
    time.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn bytes(size: u64) -> String {
    let (mut value, mut unit) = (size as f64, "B");
    for larger in ["KiB", "MiB", "GiB", "TiB", "PiB"] {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, larger);
    }
    if unit == "B" { format!("{size} B") } else { format!("{value:.1} {unit}") }
}

/// The text without line breaks, other control characters and those that turn the direction of writing.
pub(crate) fn one_line(text: &str) -> String {
    let plain = text.chars().map(|c| match c {
        '\u{2028}' | '\u{2029}' => ' ',
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => '\u{fffd}',
        c if c.is_control() => ' ',
        c => c,
    });
    plain.collect::<String>().trim().to_owned()
}

/// How lengths are counted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Count {
    /// UTF-16 units, as chats do.
    Utf16,
    /// Bytes of UTF-8.
    Bytes,
}

impl Count {
    fn of(self, text: &str) -> usize {
        match self {
            Self::Utf16 => text.encode_utf16().count(),
            Self::Bytes => text.len(),
        }
    }
}

/// Replaces each character by what `escape` makes of it and the one before it, up to `limit` in all; never cuts
/// within a replacement.
pub(crate) fn escape_within(
    text: &str,
    limit: usize,
    count: Count,
    escape: impl Fn(char, Option<char>) -> Option<String>,
) -> String {
    let (mut written, mut used, mut before) = (String::new(), 0, None);
    // Where to cut if the whole does not fit.
    let (mut cut, room) = (0, limit.saturating_sub(count.of(ELLIPSIS)));
    for c in text.chars() {
        let mut buffer = [0; 4];
        let escaped = escape(c, before);
        let unit = escaped.as_deref().unwrap_or_else(|| c.encode_utf8(&mut buffer));
        used += count.of(unit);
        if used > limit {
            written.truncate(cut);
            return written + ELLIPSIS;
        }
        written.push_str(unit);
        if used <= room {
            cut = written.len();
        }
        before = Some(c);
    }
    written
}

/// Plain text; mentions are broken.
pub(crate) fn plain(c: char, before: Option<char>) -> Option<String> {
    is_mention(c, before).then(|| format!("@{ZERO_WIDTH_SPACE}"))
}

/// Slack's `mrkdwn`: entities for `&`, `<` and `>`, without which there are no links, mentions or `<!channel>`; what
/// would be formatting gets a zero-width space in front, which ends it.
pub(crate) fn slack(c: char, before: Option<char>) -> Option<String> {
    match c {
        '&' => Some("&amp;".to_owned()),
        '<' => Some("&lt;".to_owned()),
        '>' => Some("&gt;".to_owned()),
        '*' | '~' | '`' => Some(format!("{ZERO_WIDTH_SPACE}{c}")),
        '_' if !before.is_some_and(char::is_alphanumeric) => Some(format!("{ZERO_WIDTH_SPACE}{c}")),
        c => plain(c, before),
    }
}

/// Discord's Markdown: a backslash before whatever has a meaning.
pub(crate) fn discord(c: char, before: Option<char>) -> Option<String> {
    match c {
        '\\' | '*' | '_' | '~' | '`' | '|' | '>' | '<' | '#' | '[' | ']' | '(' | ')' | '-' | '+' | ':' => {
            Some(format!("\\{c}"))
        }
        c => plain(c, before),
    }
}

/// An `@` inside of a word belongs to an address, not to a mention.
fn is_mention(c: char, before: Option<char>) -> bool {
    c == '@' && !before.is_some_and(char::is_alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Event;

    fn message(database: &str, details: &str) -> Message {
        let time = "2026-11-20T15:30:00Z".parse().unwrap();
        let mut notice = Notice::new(Event::Failure, database, "db1", time, format!("{database} failed"));
        notice.details = details.to_owned();
        Message::new(&notice)
    }

    #[test]
    fn a_name_cannot_add_lines() {
        let message = message("a\nHost: evil\r\u{2028}\u{202e}x\0", "first\r\nsecond\x1b[31m");
        assert_eq!(message.title, "a Host: evil  \u{fffd}x  failed");
        let lines: Vec<_> = message.body.lines().collect();
        assert_eq!(
            lines,
            [
                "first",
                "second [31m",
                "",
                "Database: a Host: evil  \u{fffd}x",
                "Host: db1",
                "Time: 2026-11-20 15:30:00 UTC"
            ]
        );
    }

    #[test]
    fn facts_are_listed() {
        let mut notice = Notice::new(Event::Success, "shop", "db1", jiff::Timestamp::UNIX_EPOCH, "done");
        notice.backup = Some(crate::BackupFacts {
            id: "b".to_owned(),
            logical_bytes: Some(1_503_238_553),
            added_bytes: Some(1023),
            stored_bytes: None,
            duration_seconds: Some(12.34),
        });
        let body = Message::new(&notice).body;
        assert!(body.ends_with("Backup: b\nSize: 1.4 GiB\nAdded: 1023 B\nDuration: 12.3 s"), "{body}");
    }

    #[test]
    fn slack_gets_no_markup() {
        let escaped =
            escape_within("<!channel> & <https://x|y> *b* @everyone app@db _i_ a_b", 3000, Count::Utf16, slack);
        assert_eq!(
            escaped,
            "&lt;!channel&gt; &amp; &lt;https://x|y&gt; \u{200b}*b\u{200b}* @\u{200b}everyone app@db \u{200b}_i_ a_b"
        );
    }

    #[test]
    fn discord_gets_no_markup() {
        let escaped = escape_within("**b** <@1> @here [x](y) # a\\", 2000, Count::Utf16, discord);
        assert_eq!(escaped, "\\*\\*b\\*\\* \\<@\u{200b}1\\> @\u{200b}here \\[x\\]\\(y\\) \\# a\\\\");
    }

    #[test]
    fn shortened_texts_keep_the_limit_and_whole_escapes() {
        for limit in 1..40 {
            for (text, count) in
                [("<<<<<<<<<<<<", Count::Utf16), ("😀😀é😀😀😀", Count::Utf16), ("😀é😀", Count::Bytes)]
            {
                let short = escape_within(text, limit, count, slack);
                assert!(count.of(&short) <= limit.max(count.of(ELLIPSIS)), "{short:?} at {limit}");
                let rest = short.strip_suffix(ELLIPSIS).unwrap_or(&short).replace("&lt;", "<");
                assert!(text.starts_with(&rest), "{rest:?} at {limit}");
            }
        }
        assert_eq!(escape_within("abc", 3, Count::Utf16, plain), "abc");
        assert_eq!(escape_within("abcd", 3, Count::Utf16, plain), "ab…");
    }
}
