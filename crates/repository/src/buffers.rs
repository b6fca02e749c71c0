//! Buffers that are used again: fresh ones cost a page fault for every 4 KiB.

use std::sync::{Arc, Mutex, PoisonError};

/// A bounded stock of buffers; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Buffers {
    stock: Arc<Mutex<Vec<Vec<u8>>>>,
    most: usize,
}

impl Buffers {
    /// A stock that keeps at most so many.
    pub(crate) fn new(most: usize) -> Self {
        Self { stock: Arc::default(), most }
    }

    /// An empty buffer, with room where one was given back.
    pub(crate) fn take(&self) -> Vec<u8> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Gives a buffer back.
    pub(crate) fn give(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut stock = self.stock.lock().unwrap_or_else(PoisonError::into_inner);
        if stock.len() < self.most {
            stock.push(buffer);
        }
    }
}
