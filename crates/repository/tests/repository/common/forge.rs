//! Repositories forged from docs/format.md alone: plain, every seal valid, every part open to be made nonsense of.

use std::sync::Arc;

use copal_storage::{MemoryStorage, ObjectPath};
use serde_json::{Value, json};

use super::file_bytes;

pub const PAGE: usize = 1024;
pub const PAGES: usize = 10;
pub const DATABASE: &str = "00112233445566778899aabbccddeeff";
pub const BACKUP: &str = "20261120-153000Z-7f3a";
pub const PACK: &str = "20261120-153000Z-7f3a-0-0123456789abcdef";

pub fn path(text: impl AsRef<str>) -> ObjectPath {
    ObjectPath::parse(text.as_ref()).unwrap()
}

pub fn seal(associated: &[u8], frame: &[u8]) -> Vec<u8> {
    let tag = *blake3::Hasher::new().update(associated).update(frame).finalize().as_bytes();
    [frame, &tag].concat()
}

pub fn digest(page: &[u8]) -> [u8; 16] {
    blake3::hash(page).as_bytes()[..16].try_into().unwrap()
}

/// A frame before sealing, with every field free.
#[derive(Clone, Debug)]
pub struct Frame {
    pub kind: u8,
    pub compression: u8,
    pub reserved: u16,
    pub raw_length: u32,
    pub body: Vec<u8>,
}

impl Frame {
    pub fn plain(kind: u8, content: &[u8]) -> Self {
        let raw_length = u32::try_from(content.len()).unwrap();
        Self { kind, compression: 0, reserved: 0, raw_length, body: content.to_vec() }
    }

    pub fn zstd(kind: u8, content: &[u8]) -> Self {
        let body = zstd::bulk::compress(content, 3).unwrap();
        Self { compression: 1, body, ..Self::plain(kind, &content[..0]) }.claiming(content.len())
    }

    pub fn claiming(self, raw_length: usize) -> Self {
        Self { raw_length: u32::try_from(raw_length).unwrap(), ..self }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = vec![self.kind, self.compression];
        out.extend_from_slice(&self.reserved.to_le_bytes());
        out.extend_from_slice(&self.raw_length.to_le_bytes());
        out.extend_from_slice(&self.body);
        out
    }
}

pub fn document(header: &[u8], frame: &[u8]) -> Vec<u8> {
    let mut out = b"COPALDC1".to_vec();
    out.extend_from_slice(&u32::try_from(header.len()).unwrap().to_le_bytes());
    out.extend_from_slice(header);
    let sealed = seal(&out, frame);
    out.extend_from_slice(&sealed);
    out
}

/// A reference as it stands in leaves and branches: index of the pack, frame, offset, length.
pub type Ref = (u16, u32, u32, u32);

#[derive(Clone, Debug)]
pub struct LeafParts {
    pub first: u64,
    pub count: u32,
    pub packs: Vec<String>,
    pub frame_count: u32,
    pub frames: Vec<Ref>,
    pub indexes: Vec<u32>,
    pub slots: Vec<u16>,
    pub digests: Vec<[u8; 16]>,
}

pub fn put_refs(out: &mut Vec<u8>, refs: &[Ref]) {
    for (pack, frame, offset, length) in refs {
        out.extend_from_slice(&pack.to_le_bytes());
        for n in [frame, offset, length] {
            out.extend_from_slice(&n.to_le_bytes());
        }
    }
}

pub fn put_packs(out: &mut Vec<u8>, packs: &[String]) {
    out.extend_from_slice(&(packs.len() as u16).to_le_bytes());
    for pack in packs {
        out.push(pack.len() as u8);
        out.extend_from_slice(pack.as_bytes());
    }
}

impl LeafParts {
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = self.first.to_le_bytes().to_vec();
        out.extend_from_slice(&self.count.to_le_bytes());
        put_packs(&mut out, &self.packs);
        out.extend_from_slice(&self.frame_count.to_le_bytes());
        put_refs(&mut out, &self.frames);
        self.indexes.iter().for_each(|n| out.extend_from_slice(&n.to_le_bytes()));
        self.slots.iter().for_each(|n| out.extend_from_slice(&n.to_le_bytes()));
        self.digests.iter().for_each(|d| out.extend_from_slice(d));
        out
    }
}

#[derive(Clone, Debug)]
pub struct BranchParts {
    pub first: u64,
    pub count: u32,
    pub packs: Vec<String>,
    pub leaves: Vec<Ref>,
}

impl BranchParts {
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = self.first.to_le_bytes().to_vec();
        out.extend_from_slice(&self.count.to_le_bytes());
        put_packs(&mut out, &self.packs);
        put_refs(&mut out, &self.leaves);
        out
    }
}

/// What a case may change, each thing before it is sealed into the next: pages, leaf, branch, manifest.
pub type Edit<T> = Arc<dyn Fn(&mut T) + Send + Sync>;

#[derive(Clone)]
pub struct Edits {
    pub pages: Edit<Frame>,
    pub leaf: Edit<LeafParts>,
    pub leaf_bytes: Edit<Vec<u8>>,
    pub leaf_frame: Edit<Frame>,
    pub branch: Edit<BranchParts>,
    pub branch_bytes: Edit<Vec<u8>>,
    pub branch_frame: Edit<Frame>,
    pub header: Edit<Value>,
    pub header_bytes: Edit<Vec<u8>>,
    pub body: Edit<Value>,
    pub body_bytes: Edit<Vec<u8>>,
    pub manifest_frame: Edit<Frame>,
    pub record_bytes: Edit<Vec<u8>>,
    pub config_bytes: Edit<Vec<u8>>,
}

impl Default for Edits {
    fn default() -> Self {
        fn nothing<T>() -> Edit<T> {
            Arc::new(|_| {})
        }
        Self {
            pages: nothing(),
            leaf: nothing(),
            leaf_bytes: nothing(),
            leaf_frame: nothing(),
            branch: nothing(),
            branch_bytes: nothing(),
            branch_frame: nothing(),
            header: nothing(),
            header_bytes: nothing(),
            body: nothing(),
            body_bytes: nothing(),
            manifest_frame: nothing(),
            record_bytes: nothing(),
            config_bytes: nothing(),
        }
    }
}

pub fn content() -> Vec<u8> {
    file_bytes(3, PAGE * PAGES)
}

pub fn edited<T>(mut value: T, edit: &Edit<T>) -> T {
    edit(&mut value);
    value
}

/// A pack that is filled with whatever frames.
pub struct ForgedPack {
    pub bytes: Vec<u8>,
    number: u32,
}

impl Default for ForgedPack {
    fn default() -> Self {
        Self { bytes: b"COPALPK1".to_vec(), number: 0 }
    }
}

impl ForgedPack {
    /// Seals a frame in its place, and tells where that is.
    pub fn push(&mut self, frame: &Frame) -> Ref {
        let id: Vec<u8> = (0..16).map(|i| u8::from_str_radix(&DATABASE[i * 2..i * 2 + 2], 16).unwrap()).collect();
        let sealed = seal(&[&id, PACK.as_bytes(), &self.number.to_le_bytes()].concat(), &frame.bytes());
        self.bytes.extend_from_slice(&(sealed.len() as u32).to_le_bytes());
        let place = (0, self.number, self.bytes.len() as u32, sealed.len() as u32);
        self.bytes.extend_from_slice(&sealed);
        self.number += 1;
        place
    }
}

/// Forges a repository with one backup of one file.
pub fn forge(edits: &Edits) -> MemoryStorage {
    let memory = MemoryStorage::new();
    let config = json!({"format": 1, "repository": DATABASE, "encryption": "none", "created": "2026-11-20T00:00:00Z", "mac": null});
    memory.put(&path("copal.json"), edited(serde_json::to_vec(&config).unwrap(), &edits.config_bytes));
    let header = json!({"format": 1, "database": DATABASE}).to_string();
    let body = json!({"name": "a", "source": "x", "engine": "bytes", "created": "2026-11-20T00:00:00Z"}).to_string();
    let body = edited(body.into_bytes(), &edits.record_bytes);
    memory.put(&path("databases/a/database"), document(header.as_bytes(), &Frame::plain(17, &body).bytes()));

    let mut pack = ForgedPack::default();
    let mut push = |frame: &Frame| pack.push(frame);
    let bytes = content();
    let pages = push(&edited(Frame::zstd(1, &bytes), &edits.pages));
    let digests: Vec<[u8; 16]> = bytes.chunks(PAGE).map(digest).collect();
    let leaf = LeafParts {
        first: 0,
        count: PAGES as u32,
        packs: vec![PACK.into()],
        frame_count: 1,
        frames: vec![pages],
        indexes: vec![0; PAGES],
        slots: (0..PAGES as u16).collect(),
        digests: digests.clone(),
    };
    let leaf = edited(edited(leaf, &edits.leaf).bytes(), &edits.leaf_bytes);
    let leaf = push(&edited(Frame::plain(2, &leaf), &edits.leaf_frame));
    let branch = BranchParts { first: 0, count: 1, packs: vec![PACK.into()], leaves: vec![leaf] };
    let branch = edited(edited(branch, &edits.branch).bytes(), &edits.branch_bytes);
    let branch = push(&edited(Frame::plain(3, &branch), &edits.branch_frame));
    let size = pack.bytes.len();
    memory.put(&path(format!("databases/a/packs/{PACK}")), pack.bytes);

    let mut file = blake3::Hasher::new();
    file.update(&((PAGE * PAGES) as u64).to_le_bytes()).update(&(PAGE as u32).to_le_bytes()).update(&[0; 4]);
    digests.iter().for_each(|d| {
        file.update(d);
    });
    let header = json!({
        "format": 1, "database": DATABASE, "backup": BACKUP, "time": "2026-11-20T15:30:00Z", "predecessor": null,
        "packs": [[PACK, size]], "promise": {"schedule": null, "max_age_seconds": null},
    });
    let body = json!({
        "engine": "bytes", "engine_version": "", "copal_version": "", "host": "", "name": "a", "source": "x",
        "label": null, "captured_at": "2026-11-20T15:30:00Z", "base": null,
        "files": [{
            "name": "main.db", "kind": "pages", "length": PAGE * PAGES, "page_size": PAGE, "head": "",
            "digest": file.finalize().to_hex().to_string(), "branches": [[PACK, branch.1, branch.2, branch.3]],
        }],
        "pack_use": [[PAGE * PAGES, PAGE * PAGES]],
        "logical_bytes": PAGE * PAGES, "added_bytes": size, "stored_bytes": size,
        "inventory": {"facts": {}, "tables": []}, "position": null, "notes": [], "warnings": [],
    });
    let header = serde_json::to_vec(&edited(header, &edits.header)).unwrap();
    let header = edited(header, &edits.header_bytes);
    let body = edited(serde_json::to_vec(&edited(body, &edits.body)).unwrap(), &edits.body_bytes);
    let frame = edited(Frame::plain(16, &body), &edits.manifest_frame).bytes();
    memory.put(&path(format!("databases/a/backups/{BACKUP}")), document(&header, &frame));
    memory
}
