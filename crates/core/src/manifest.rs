//! The documents of a repository as types; docs/format.md is the normative text.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{BackupId, DatabaseId, Inventory, PackId};

/// The version of the repository format that this code writes and the newest it reads.
pub const FORMAT_VERSION: u32 = 1;
/// The smallest page of a page file, in bytes.
pub const MIN_PAGE_SIZE: u32 = 512;
/// The largest page of a page file, in bytes.
pub const MAX_PAGE_SIZE: u32 = 1 << 20;
/// The largest head of a page file, in bytes.
pub const MAX_HEAD_BYTES: u32 = 1 << 16;

/// The body of a database record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseRecord {
    /// The name as the user wrote it.
    pub name: String,
    /// Where the database was first found, without secrets.
    pub source: String,
    /// The engine's name.
    pub engine: String,
    /// When the record was written.
    pub created: Timestamp,
}

/// What the policy promises about a database, in clear so that `status` needs the repository alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    /// The schedule, as configured.
    pub schedule: Option<String>,
    /// The age in seconds that the newest backup should not exceed.
    pub max_age_seconds: Option<u64>,
}

/// The clear header of a manifest; the seal of the body binds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestHeader {
    /// Always [`FORMAT_VERSION`].
    pub format: u32,
    /// The database's id.
    pub database: DatabaseId,
    /// The backup's id, which is also the object's name.
    pub backup: BackupId,
    /// The time in the backup's id.
    pub time: Timestamp,
    /// The newest backup when this one began.
    pub predecessor: Option<BackupId>,
    /// Every pack that restoring needs, with its size in bytes.
    pub packs: Vec<(PackId, u64)>,
    /// What the policy promises.
    #[serde(default)]
    pub promise: Promise,
}

/// The sealed body of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestBody {
    /// The engine's name.
    pub engine: String,
    /// Version of the database's format or server.
    pub engine_version: String,
    /// Version of the program that wrote the backup.
    pub copal_version: String,
    /// The machine that wrote the backup.
    pub host: String,
    /// The database's display name.
    pub name: String,
    /// Where the database was, without secrets.
    pub source: String,
    /// The user's label.
    pub label: Option<String>,
    /// When the captured view was opened.
    pub captured_at: Timestamp,
    /// The backup whose unchanged pages this one shares.
    pub base: Option<BackupId>,
    /// The files.
    pub files: Vec<FileEntry>,
    /// For each pack of the header, in its order: how much is in it and how much of that this backup uses.
    pub pack_use: Vec<PackUse>,
    /// Size of the database's files in bytes.
    pub logical_bytes: u64,
    /// Bytes of the packs that this backup wrote.
    pub added_bytes: u64,
    /// Bytes of all packs that this backup needs.
    pub stored_bytes: u64,
    /// What the database contained.
    pub inventory: Inventory,
    /// Where the backup stands in the database's own history.
    pub position: Option<String>,
    /// The end of the journal that was saved before it, if its writer knew one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<Follows>,
    /// Remarks of the engine.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Warnings while the backup was made.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// The state that a segment, or a new backup, goes on from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Follows {
    /// The backup under the journal.
    pub base: BackupId,
    /// The number of the last segment, from 1; 0: the backup itself.
    pub sequence: u64,
    /// BLAKE3 of that object, the manifest or the segment, as 64 hexadecimal digits.
    pub hash: String,
}

/// The clear header of a segment of the journal; the seal of the body binds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentHeader {
    /// Always [`FORMAT_VERSION`].
    pub format: u32,
    /// The database's id.
    pub database: DatabaseId,
    /// The segment's id, which is also the object's name.
    pub segment: BackupId,
    /// When the captured view was opened: up to here the segment tells what happened.
    pub time: Timestamp,
    /// The state it goes on from; its own number is the next one.
    pub follows: Follows,
    /// Every pack that reading it needs, with its size in bytes.
    pub packs: Vec<(PackId, u64)>,
}

/// The sealed body of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentBody {
    /// The engine's name.
    pub engine: String,
    /// Version of the database's format or server.
    pub engine_version: String,
    /// Version of the program that wrote it.
    pub copal_version: String,
    /// The machine that wrote it.
    pub host: String,
    /// Streams, as in a manifest.
    pub files: Vec<FileEntry>,
    /// As in a manifest.
    pub pack_use: Vec<PackUse>,
    /// Bytes of all files.
    pub logical_bytes: u64,
    /// Bytes of the packs that it wrote.
    pub added_bytes: u64,
    /// What the database contained when it was captured.
    pub inventory: Inventory,
    /// Where it ends in the database's own history.
    pub position: Option<String>,
    /// Remarks of the engine.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// Uncompressed bytes in a pack, and how many of them a backup uses; written as `[total, used]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u64, u64)", into = "(u64, u64)")]
pub struct PackUse {
    /// Uncompressed bytes of all frames of the pack.
    pub total_bytes: u64,
    /// Uncompressed bytes that the backup refers to.
    pub used_bytes: u64,
}

impl From<(u64, u64)> for PackUse {
    fn from((total_bytes, used_bytes): (u64, u64)) -> Self {
        Self { total_bytes, used_bytes }
    }
}

impl From<PackUse> for (u64, u64) {
    fn from(r#use: PackUse) -> Self {
        (r#use.total_bytes, r#use.used_bytes)
    }
}

/// Where one sealed frame lies; written as `[pack id, frame, offset, sealed length]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "(PackId, u32, u32, u32)", into = "(PackId, u32, u32, u32)")]
pub struct FrameRef {
    /// The pack.
    pub pack: PackId,
    /// The frame's number in the pack.
    pub frame: u32,
    /// Offset of the sealed bytes in the pack.
    pub offset: u32,
    /// Length of the sealed bytes.
    pub length: u32,
}

impl From<(PackId, u32, u32, u32)> for FrameRef {
    fn from((pack, frame, offset, length): (PackId, u32, u32, u32)) -> Self {
        Self { pack, frame, offset, length }
    }
}

impl From<FrameRef> for (PackId, u32, u32, u32) {
    fn from(r: FrameRef) -> Self {
        (r.pack, r.frame, r.offset, r.length)
    }
}

/// One file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum FileEntry {
    /// A head and pages, each page stored by itself.
    Pages {
        /// Relative name.
        name: String,
        /// Length in bytes, head included.
        length: u64,
        /// Bytes in a page.
        page_size: u32,
        /// The bytes in front of the first page, as hexadecimal digits.
        #[serde(with = "hex_bytes")]
        head: Vec<u8>,
        /// BLAKE3 over length, page size, head and page digests, as 64 hexadecimal digits.
        #[serde(with = "hex_digest")]
        digest: [u8; 32],
        /// The top of the page map.
        branches: Vec<FrameRef>,
    },
    /// Bytes in order, cut into chunks by their content.
    Stream {
        /// Relative name.
        name: String,
        /// Length in bytes.
        length: u64,
        /// BLAKE3 of all bytes, as 64 hexadecimal digits.
        #[serde(with = "hex_digest")]
        digest: [u8; 32],
        /// The top of the list of chunks; empty if the stream is.
        branches: Vec<FrameRef>,
    },
}

impl FileEntry {
    /// Relative name of the file.
    pub fn name(&self) -> &str {
        match self {
            Self::Pages { name, .. } | Self::Stream { name, .. } => name,
        }
    }

    /// Length in bytes.
    pub fn length(&self) -> u64 {
        match self {
            Self::Pages { length, .. } | Self::Stream { length, .. } => *length,
        }
    }

    /// Whether it is a stream rather than a page file.
    pub fn is_stream(&self) -> bool {
        matches!(self, Self::Stream { .. })
    }

    /// BLAKE3 of its content, as docs/format.md defines it for this kind.
    pub fn digest(&self) -> &[u8; 32] {
        match self {
            Self::Pages { digest, .. } | Self::Stream { digest, .. } => digest,
        }
    }

    /// The top of the tree that says where its content lies.
    pub fn branches(&self) -> &[FrameRef] {
        match self {
            Self::Pages { branches, .. } | Self::Stream { branches, .. } => branches,
        }
    }
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    text.as_bytes().chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

mod hex_bytes {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&bytes.iter().map(|b| format!("{b:02x}")).collect::<String>())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::decode_hex(&text).ok_or_else(|| D::Error::custom("not hexadecimal"))
    }
}

mod hex_digest {
    use serde::{Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        super::hex_bytes::serialize(bytes, serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        super::hex_bytes::deserialize(deserializer)?.try_into().map_err(|_| D::Error::custom("not 32 bytes"))
    }
}
