//! What is known about an unpacked layer.

use std::fs;

use serde::{Deserialize, Serialize};

use super::layout::Layout;
use super::session::Layer;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::stream::Compression;

/// `layer.json` beside a layer's `diff`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LayerFacts {
    pub(crate) diff_id: Digest,
    pub(crate) entries: u64,
    /// Bytes of the layer's files.
    pub(crate) bytes: u64,
    /// Nothing of the layers below is visible.
    pub(crate) opaque_root: bool,
    /// The blob that this layer was unpacked from.
    pub(crate) blob: Digest,
    pub(crate) blob_size: u64,
    pub(crate) compression: Compression,
}

impl LayerFacts {
    pub(crate) fn read(layout: &Layout, diff_id: &Digest) -> Result<Self> {
        let path = layout.layer(diff_id).join("layer.json");
        let bytes = fs::read(&path).map_err(Error::file("read", &path))?;
        crate::manifest::from_json(&bytes, &path.to_string_lossy())
    }

    pub(crate) fn layer(&self) -> Layer {
        let Self { diff_id, blob, blob_size, compression, .. } = *self;
        Layer { blob, blob_size, diff_id, compression }
    }
}
