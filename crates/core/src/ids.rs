//! Identifiers, each a type of its own; their texts are part of the repository format.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A text that is no valid identifier of its kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a valid {kind}")]
pub struct IdError {
    /// What the text should have been.
    pub kind: &'static str,
    /// The text.
    pub text: String,
}

impl IdError {
    fn new(kind: &'static str, text: &str) -> Self {
        Self { kind, text: text.chars().take(100).collect() }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

macro_rules! random_id {
    ($name:ident, $kind:literal, $doc:literal) => {
        #[doc = $doc]
        #[doc = ""]
        #[doc = "16 random bytes, written as 32 lower-case hexadecimal digits."]
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; 16]);

        impl $name {
            /// A new random id.
            pub fn random() -> Self {
                Self(rand::random())
            }

            /// The 16 bytes, as they enter key derivation and associated data.
            pub fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let mut bytes = [0u8; 16];
                if text.len() != 32 || !is_hex(text) {
                    return Err(IdError::new($kind, text));
                }
                for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
                    let pair = std::str::from_utf8(pair).map_err(|_| IdError::new($kind, text))?;
                    *byte = u8::from_str_radix(pair, 16).map_err(|_| IdError::new($kind, text))?;
                }
                Ok(Self(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex(&self.0))
            }
        }

        text_id!($name);
    };
}

macro_rules! text_id {
    ($name:ident) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

random_id!(RepositoryId, "repository id", "Names a repository, wherever it is copied to.");
random_id!(
    DatabaseId,
    "database id",
    "Names a database inside a repository; what seals bind, so that a database can be renamed."
);

macro_rules! timed_id {
    ($name:ident, $kind:literal, $doc:literal) => {
        #[doc = $doc]
        #[doc = ""]
        #[doc = "`20261120-153000Z-7f3a`: UTC to the second and four random hex digits. Sorts by time."]
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// A new id for this time (cut to the second), which must lie in the years 1000 to 9999.
            pub fn new(time: Timestamp) -> Self {
                let random: u16 = rand::random();
                let utc = time.to_zoned(TimeZone::UTC);
                Self(format!("{}-{random:04x}", utc.strftime("%Y%m%d-%H%M%SZ")))
            }

            /// The time in the id, to the second.
            pub fn time(&self) -> Timestamp {
                parse_time(&self.0).unwrap_or(Timestamp::UNIX_EPOCH)
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The id right behind this one: of the same second, or a new one of the next.
            fn next(&self) -> Option<Self> {
                let (stamp, digits) = self.0.split_at_checked(17)?;
                match u16::from_str_radix(digits, 16).ok()?.checked_add(1) {
                    Some(number) => Some(Self(format!("{stamp}{number:04x}"))),
                    None => self.time().checked_add(jiff::SignedDuration::from_secs(1)).ok().map(Self::new),
                }
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let bytes = text.as_bytes();
                let good = bytes.len() == 21
                    && bytes.iter().enumerate().all(|(i, b)| match i {
                        8 | 16 => *b == b'-',
                        15 => *b == b'Z',
                        17.. => matches!(b, b'0'..=b'9' | b'a'..=b'f'),
                        _ => b.is_ascii_digit(),
                    });
                let good = good && parse_time(text).is_some();
                if good { Ok(Self(text.to_owned())) } else { Err(IdError::new($kind, text)) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        text_id!($name);
    };
}

fn parse_time(text: &str) -> Option<Timestamp> {
    let stamp = text.get(..16)?;
    let civil = jiff::civil::DateTime::strptime("%Y%m%d-%H%M%SZ", stamp).ok()?;
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

timed_id!(BackupId, "backup id", "Names a backup (or a plan, or a segment of the journal).");
timed_id!(
    SnapshotId,
    "snapshot id",
    "Names a snapshot; those of several databases that were taken together have one id."
);

impl SnapshotId {
    /// A new id for this time that sorts behind `newest`: of the same second, or the next one, if that is of this second or later.
    pub fn behind(newest: &Self, time: Timestamp) -> Self {
        let id = Self::new(time);
        if id > *newest { id } else { newest.next().unwrap_or(id) }
    }
}

impl BackupId {
    /// A new id for this time that sorts behind `newest`: the very next one, if that is of this second or later, so that a
    /// second is enough for tens of thousands.
    pub fn behind(newest: &Self, time: Timestamp) -> Self {
        let id = Self::new(time);
        let is_later = id.time() > newest.time();
        if is_later { id } else { newest.next().unwrap_or(id) }
    }
}

/// Names a pack: `<backup id>-<n>-<16 hex digits>`, n counting from 0 within its backup. Never reused.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PackId(String);

impl PackId {
    /// A new id for the `n`th pack of a backup.
    pub fn new(backup: &BackupId, n: u32) -> Self {
        let random: u64 = rand::random();
        Self(format!("{backup}-{n}-{random:016x}"))
    }

    /// The backup that wrote the pack.
    pub fn backup(&self) -> BackupId {
        BackupId(self.0.get(..21).unwrap_or_default().to_owned())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PackId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let error = || IdError::new("pack id", text);
        let (backup, rest) = text.split_at_checked(21).ok_or_else(error)?;
        backup.parse::<BackupId>().map_err(|_| error())?;
        let (n, random) = rest.strip_prefix('-').and_then(|r| r.split_once('-')).ok_or_else(error)?;
        let plain = !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()) && (n == "0" || !n.starts_with('0'));
        if plain && n.parse::<u32>().is_ok() && random.len() == 16 && is_hex(random) {
            Ok(Self(text.to_owned()))
        } else {
            Err(error())
        }
    }
}

impl fmt::Display for PackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_id!(PackId);

/// The name of a database's folder: `[a-z0-9._-]{1,64}`, no leading dot.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FolderName(String);

impl FolderName {
    /// The nearest folder name to any text: lower case, other characters become `-`, cut to `max` bytes (at most 64).
    pub fn nearest(text: &str, max: usize) -> Self {
        let mut name: String = text
            .to_lowercase()
            .chars()
            .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c) { c } else { '-' })
            .take(max.min(64))
            .collect();
        if name.is_empty() || name.starts_with('.') {
            name.insert(0, '_');
            name.truncate(64);
        }
        Self(name)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for FolderName {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let good = (1..=64).contains(&text.len())
            && !text.starts_with('.')
            && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'));
        if good { Ok(Self(text.to_owned())) } else { Err(IdError::new("database name", text)) }
    }
}

impl fmt::Display for FolderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_id!(FolderName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_sort_in_the_order_in_which_they_are_taken() {
        let id = |text: &str| text.parse::<SnapshotId>().unwrap();
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        let newest = id("20261120-153000Z-7f3a");
        assert!(SnapshotId::behind(&newest, time("2026-11-20T15:30:01Z")).as_str().starts_with("20261120-153001Z-"));
        for earlier in ["2026-11-20T15:29:00Z", "2001-01-01T00:00:00Z"] {
            assert_eq!(SnapshotId::behind(&newest, time(earlier)), id("20261120-153000Z-7f3b"));
        }
        let mut last = id("20261120-153000Z-fffe");
        for _ in 0..3 {
            let next = SnapshotId::behind(&last, time("2026-11-20T15:30:00Z"));
            assert!(next > last);
            last = next;
        }
        assert!(last.as_str().starts_with("20261120-153001Z-"), "{last}");
    }

    #[test]
    fn many_backup_ids_of_one_second_stay_in_it() {
        let now = "2026-11-20T15:30:00Z".parse().unwrap();
        let first: BackupId = "20261120-153000Z-0003".parse().unwrap();
        let mut last = first.clone();
        for number in 0..60_000u32 {
            let next = BackupId::behind(&last, now);
            assert!(next > last && next.time() == now, "{number}: {next}");
            last = next;
        }
        assert!(BackupId::behind(&first, "2001-01-01T00:00:00Z".parse().unwrap()) > first);
        let end: BackupId = "20261120-153000Z-ffff".parse().unwrap();
        assert!(BackupId::behind(&end, now).as_str().starts_with("20261120-153001Z-"));
        assert!(
            BackupId::behind(&end, "2026-11-20T16:00:00Z".parse().unwrap()).as_str().starts_with("20261120-160000Z-")
        );
    }

    #[test]
    fn backup_ids_carry_their_time_and_sort_by_it() {
        let early: Timestamp = "2026-11-20T15:30:00Z".parse().unwrap();
        let late: Timestamp = "2026-11-20T15:30:01Z".parse().unwrap();
        let (a, b) = (BackupId::new(early), BackupId::new(late));
        assert!(a < b);
        assert_eq!(a.time(), early);
        assert_eq!(a.as_str().parse::<BackupId>().unwrap(), a);
        assert!(a.as_str().starts_with("20261120-153000Z-"));
    }

    #[test]
    fn malformed_ids_are_refused() {
        for bad in
            ["", "20261120-153000Z-7f3", "20261320-153000Z-7f3a", "20261120-153000Z-7F3A", "20261120-153000Z-7f3é"]
        {
            assert!(bad.parse::<BackupId>().is_err(), "{bad}");
        }
        let pack = PackId::new(&"20261120-153000Z-7f3a".parse().unwrap(), 12);
        assert_eq!(pack.as_str().parse::<PackId>().unwrap().backup().as_str(), "20261120-153000Z-7f3a");
        for bad in [
            "20261120-153000Z-7f3a-01-0123456789abcdef",
            "20261120-153000Z-7f3a-1-0123",
            "x",
            "20261120-153000Z-7f3a-1-../../etc/pass",
        ] {
            assert!(bad.parse::<PackId>().is_err(), "{bad}");
        }
        assert!("0123".parse::<DatabaseId>().is_err());
        assert!("é".repeat(16).parse::<DatabaseId>().is_err());
    }

    #[test]
    fn any_text_has_a_folder_name() {
        for text in ["", ".", "..", "Größe 'x'", "a/b", &"x".repeat(200), "-v"] {
            let name = FolderName::nearest(text, 57);
            assert_eq!(name.as_str().parse::<FolderName>().unwrap(), name, "{text}");
        }
    }
}
