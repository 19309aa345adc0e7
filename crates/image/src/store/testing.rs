//! Parts of the store for tests of other parts.

use std::path::{Path, PathBuf};

use super::facts::LayerFacts;
use crate::digest::Digest;
use crate::error::Result;
use crate::stream::Compression;
use crate::unpack::Stats;

fn facts(digest: Digest, stats: &Stats) -> LayerFacts {
    LayerFacts {
        diff_id: digest,
        entries: stats.entries,
        bytes: stats.bytes,
        tar_bytes: 0,
        opaque_root: stats.opaque_root,
        blob: digest,
        blob_size: 0,
        compression: Compression::None,
        implied: stats.implied.len() as u64,
    }
}

/// Writes what the store knows of a layer beside its `diff`.
pub(crate) fn write_facts(layer: &Path, digest: Digest, stats: &Stats) {
    facts(digest, stats).write(layer, &stats.implied).expect("write");
}

/// Joins layers that the store has.
pub(crate) fn join(layers: &[PathBuf], to: &Path) -> Result<()> {
    super::join::make(layers, to)
}

/// Returns the directories to stack, the lowest first, for layers on top of each other.
pub(crate) fn join_layers(layers: &[PathBuf], to: &Path) -> Vec<PathBuf> {
    join(layers, to).expect("join");
    let mut stack: Vec<PathBuf> = Vec::new();
    for layer in layers {
        let bytes = std::fs::read(layer.join("layer.json")).expect("read");
        let facts: LayerFacts = crate::manifest::from_json(&bytes, "layer.json").expect("facts");
        if facts.opaque_root {
            stack.clear();
        }
        stack.push(layer.join("diff"));
    }
    stack.extend(Some(to.join("diff")).filter(|diff| diff.exists()));
    stack
}
