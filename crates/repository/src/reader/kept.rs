//! Decoded frames of which more will be wanted soon.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use copal_core::{FrameRef, PackId};

use crate::error::Result;

/// Frames kept decoded because more of them will be wanted; 1 to 2 MiB each as they are written, never above 4 MiB.
const KEPT_FRAMES: usize = 32;

/// The decoded content of a frame, made by whoever needs it first.
pub(super) type Kept = Arc<Mutex<Option<Arc<Vec<u8>>>>>;

/// The content of a kept frame, which `open_into` decodes if nobody did.
pub(super) fn content_of(kept: &Kept, open_into: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<Arc<Vec<u8>>> {
    let mut slot = kept.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(content) = &*slot {
        return Ok(Arc::clone(content));
    }
    let mut content = Vec::new();
    open_into(&mut content)?;
    Ok(Arc::clone(slot.insert(Arc::new(content))))
}

/// The frames that were wanted last and may be wanted again, least recently wanted first out.
#[derive(Default)]
pub(super) struct KeptFrames {
    frames: HashMap<(PackId, u32), (u64, Kept)>,
    clock: u64,
}

impl KeptFrames {
    /// The place of a frame's content.
    pub(super) fn get(&mut self, place: &FrameRef) -> Kept {
        self.clock += 1;
        let entry = self.frames.entry((place.pack.clone(), place.frame)).or_default();
        entry.0 = self.clock;
        let kept = Arc::clone(&entry.1);
        if self.frames.len() > KEPT_FRAMES {
            let oldest = self.frames.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| key.clone());
            oldest.map(|key| self.frames.remove(&key));
        }
        kept
    }
}
