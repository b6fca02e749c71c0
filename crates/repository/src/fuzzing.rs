//! The decoders of repository bytes, for fuzzing: each takes any bytes and panics only if a promise is broken.
//!
//! Not part of the API; behind the feature `fuzzing`. The targets in `fuzz/` and `tests/repository/hostile_corpus.rs` share it.

use copal_core::{ManifestBody, ManifestHeader, RepositoryId, Secret, SegmentBody, SegmentHeader};
use copal_storage::{MemoryStorage, ObjectPath};

use crate::config::Config;
use crate::document::Document;
use crate::frame::{Decoder, Kind};
use crate::keys::Keys;
use crate::page_map::{
    FANOUT, decode_branch, decode_leaf, decode_stream_leaf, encode_branch, encode_leaf, encode_stream_leaf,
};
use crate::plan::{Plan, PlanHeader};
use crate::seal::Cipher;
use crate::wrap::{self, Unlock, WrapKind};

/// A target: takes any bytes.
pub type Target = fn(&[u8]);

/// Name and function of every target.
pub const TARGETS: [(&str, Target); 8] = [
    ("leaf", leaf),
    ("stream_leaf", stream_leaf),
    ("branch", branch),
    ("frame", frame),
    ("document", document),
    ("config", config),
    ("lease", lease),
    ("wrap", wrap),
];

/// A leaf of a page map.
pub fn leaf(bytes: &[u8]) {
    let Ok(leaf) = decode_leaf(bytes) else { return };
    assert!((1..=FANOUT).contains(&leaf.entries.len()) && leaf.frames.len() <= FANOUT);
    assert!(leaf.entries.iter().all(|e| (e.frame as usize) < leaf.frames.len()));
    assert!(leaf.frames.iter().all(|f| u64::from(f.offset) + u64::from(f.length) <= crate::pack::MAX_BYTES));
    assert_eq!(decode_leaf(&encode_leaf(&leaf)).as_ref(), Ok(&leaf));
}

/// A leaf of a stream.
pub fn stream_leaf(bytes: &[u8]) {
    let Ok(leaf) = decode_stream_leaf(bytes) else { return };
    assert!((1..=FANOUT).contains(&leaf.chunks.len()) && leaf.frames.len() <= FANOUT);
    for chunk in &leaf.chunks {
        assert!(chunk.length > 0 && (chunk.frame as usize) < leaf.frames.len());
        assert!(u64::from(chunk.start) + u64::from(chunk.length) <= crate::frame::MAX_PACK_CONTENT as u64);
    }
    assert_eq!(decode_stream_leaf(&encode_stream_leaf(&leaf)).as_ref(), Ok(&leaf));
}

/// A branch of a page map.
pub fn branch(bytes: &[u8]) {
    let Ok(branch) = decode_branch(bytes) else { return };
    assert!((1..=FANOUT).contains(&branch.leaves.len()));
    assert_eq!(decode_branch(&encode_branch(&branch)).as_ref(), Ok(&branch));
}

/// A frame that authenticated.
pub fn frame(bytes: &[u8]) {
    let in_packs = [Kind::Pages, Kind::Leaf, Kind::Branch, Kind::Stream, Kind::StreamLeaf];
    for kind in in_packs.into_iter().chain([Kind::Manifest, Kind::Record, Kind::Plan, Kind::Segment]) {
        if let Ok(content) = Decoder::new().decode(kind, bytes) {
            assert_eq!(bytes.first(), Some(&(kind as u8)));
            let claim = bytes.get(4..8).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
            assert_eq!(claim, u32::try_from(content.len()).ok());
            assert!(content.len() <= crate::frame::MAX_DOCUMENT_CONTENT);
        }
    }
}

/// A document, as it comes and with the seal of a hostile writer behind it.
pub fn document(bytes: &[u8]) {
    let Ok(path) = ObjectPath::parse("databases/a/backups/x") else { return };
    let sealed = [bytes, blake3::hash(bytes).as_bytes()].concat();
    for bytes in [bytes.to_vec(), sealed] {
        if let Ok(document) = Document::<ManifestHeader>::parse(&path, bytes.clone().into())
            && let Ok(body) = document.open::<ManifestBody>(Kind::Manifest, &Cipher::Plain)
        {
            let _ = crate::manifest_rules::check(&path, &document.header, &body);
        }
        if let Ok(document) = Document::<SegmentHeader>::parse(&path, bytes.clone().into())
            && let Ok(body) = document.open::<SegmentBody>(Kind::Segment, &Cipher::Plain)
            && crate::manifest_rules::check_segment(&path, &document.header, &body).is_ok()
        {
            assert!(body.files.iter().all(copal_core::FileEntry::is_stream));
        }
        if let Ok(document) = Document::<PlanHeader>::parse(&path, bytes.clone().into()) {
            let _ = document.open::<Plan>(Kind::Plan, &Cipher::Plain);
        }
        if let Ok(document) = Document::<serde_json::Value>::parse(&path, bytes.into()) {
            let _ = document.open::<copal_core::DatabaseRecord>(Kind::Record, &Cipher::Plain);
            assert!(document.open::<serde_json::Value>(Kind::Manifest, &Cipher::aes(&[7; 32])).is_err());
        }
    }
}

/// `copal.json`.
pub fn config(bytes: &[u8]) {
    let Ok(config) = Config::parse(bytes) else { return };
    assert_eq!(config.format, copal_core::FORMAT_VERSION);
    assert!(config.authenticate(&Keys::random()).is_err(), "a MAC cannot fit a key made just now");
}

/// A lease.
pub fn lease(bytes: &[u8]) {
    let (Ok(path), memory) = (ObjectPath::parse("leases/a"), MemoryStorage::new()) else { return };
    memory.put(&path, bytes.to_vec());
    let Ok(observed) = futures::executor::block_on(copal_storage::lease::observe(&memory, &path)) else { return };
    assert!(observed.version.is_some());
    if let Some(lease) = observed.holder() {
        assert!(!observed.is_free());
        let _ = (lease.commit_path(), lease.holder.is_provably_dead());
    }
}

/// A wrap of the key; passphrases are not tried, as their work is asked for by the wrap.
pub fn wrap(bytes: &[u8]) {
    const IDENTITY: &str = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";
    let _ = WrapKind::of(bytes);
    let unlock = Unlock::Identity(Secret::new(IDENTITY));
    let opened = wrap::open(bytes, &RepositoryId::random(), &unlock);
    assert!(!matches!(opened, wrap::Opened::Keys(_)), "no wrap can be of an id made just now");
}
