//! The directories that an archive has something in and does not list: all that is remembered about directories.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result, lossy};
use crate::limits;
use crate::protection::Protection;

/// Bytes that a remembered path takes besides its own: a place in a map that is half empty, and the allocation.
const OF_EACH: u64 = 64;

/// What is bounded, for errors.
pub(crate) const UNIT: &str = "bytes for directories that are not listed";

/// What remembering a path costs.
pub(crate) fn cost(path: &[u8]) -> u64 {
    path.len() as u64 + OF_EACH
}

/// The memory that all layers of an image have for paths together.
///
/// It is needed until the last entry, and again when the layers are joined: an archive may list a directory at its end.
#[derive(Debug, Default)]
pub(crate) struct Quota(AtomicU64);

impl Quota {
    /// Takes what a path costs.
    ///
    /// # Errors
    /// [`Error::Limit`] if all paths cost more than [`limits::MAX_IMPLIED_BYTES`].
    pub(crate) fn spend(&self, path: &[u8]) -> Result<()> {
        let cost = cost(path);
        let before = self.0.fetch_add(cost, Ordering::Relaxed);
        if before.saturating_add(cost) > limits::MAX_IMPLIED_BYTES && Protection::ImpliedDirectories.is_on() {
            let (unit, max) = (UNIT, limits::MAX_IMPLIED_BYTES);
            return Err(Error::Limit { subject: lossy(path), unit, max });
        }
        Ok(())
    }

    fn give_back(&self, path: &[u8]) {
        self.0.fetch_sub(cost(path), Ordering::Relaxed);
    }
}

/// Those of one layer.
pub(super) struct Implied<'q> {
    pub(super) quota: &'q Quota,
    /// The path that each was made for, by inode number; all are on the root's file system.
    pub(super) paths: HashMap<u64, Vec<u8>>,
}

impl<'q> Implied<'q> {
    pub(super) fn new(quota: &'q Quota) -> Self {
        Self { quota, paths: HashMap::new() }
    }

    pub(super) fn insert(&mut self, ino: u64, path: &[u8]) -> Result<()> {
        self.quota.spend(path)?;
        self.paths.insert(ino, path.to_vec());
        Ok(())
    }

    /// Forgets one that is listed after all, or that was removed.
    pub(super) fn remove(&mut self, ino: u64) {
        if let Some(path) = self.paths.remove(&ino) {
            self.quota.give_back(&path);
        }
    }
}
