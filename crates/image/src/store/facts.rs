//! What is known about an unpacked layer.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::intake::Taken;
use super::layout::Layout;
use super::session::Layer;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest::to_json;
use crate::stream::Compression;
use crate::unpack::Stats;

/// The file with the paths of implied directories, separated by NUL.
const IMPLIED: &str = "implied";

/// `layer.json` beside a layer's `diff`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LayerFacts {
    pub(crate) diff_id: Digest,
    pub(crate) entries: u64,
    /// Bytes of the layer's files.
    pub(crate) bytes: u64,
    /// Bytes of the uncompressed tar.
    #[serde(default)]
    pub(crate) tar_bytes: u64,
    /// Nothing of the layers below is visible.
    pub(crate) opaque_root: bool,
    /// The blob that this layer was unpacked from.
    pub(crate) blob: Digest,
    pub(crate) blob_size: u64,
    pub(crate) compression: Compression,
    /// How many directories it has without saying how they look; their paths are in a file of their own.
    #[serde(default)]
    pub(crate) implied: u64,
}

impl LayerFacts {
    pub(crate) fn read(layout: &Layout, diff_id: &Digest) -> Result<Self> {
        Self::read_in(&layout.layer(diff_id))
    }

    pub(super) fn read_in(layer: &Path) -> Result<Self> {
        let path = layer.join("layer.json");
        let bytes = fs::read(&path).map_err(Error::file("read", &path))?;
        crate::manifest::from_json(&bytes, &path.to_string_lossy())
    }

    pub(super) fn of(taken: &Taken, stats: &Stats) -> Self {
        Self {
            diff_id: taken.diff_id,
            entries: stats.entries,
            bytes: stats.bytes,
            tar_bytes: taken.tar_bytes,
            opaque_root: stats.opaque_root,
            blob: taken.blob,
            blob_size: taken.blob_size,
            compression: taken.compression,
            implied: stats.implied.len() as u64,
        }
    }

    /// Writes `layer.json`, and the paths of implied directories if there are any.
    pub(crate) fn write(&self, layer: &Path, implied: &[Vec<u8>]) -> Result<()> {
        if !implied.is_empty() {
            // Paths are any bytes but NUL.
            write_new(&layer.join(IMPLIED), &implied.join(&0))?;
        }
        write_new(&layer.join("layer.json"), &to_json(self))
    }

    pub(crate) fn layer(&self) -> Layer {
        let Self { diff_id, blob, blob_size, compression, .. } = *self;
        Layer { blob, blob_size, diff_id, compression }
    }
}

/// Returns the bytes of the files of an unpacked layer, if that is known.
pub(super) fn bytes(layer: &Path) -> Option<u64> {
    let facts: LayerFacts = serde_json::from_slice(&fs::read(layer.join("layer.json")).ok()?).ok()?;
    Some(facts.bytes)
}

/// Returns the paths of directories that the unpacked layer has without saying how they look, parents first.
pub(super) fn implied(layer: &Path) -> Result<Vec<Vec<u8>>> {
    let path = layer.join(IMPLIED);
    match fs::read(&path) {
        Ok(bytes) => Ok(bytes.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::file("read", &path)(error)),
    }
}

/// Writes a file that is not there yet.
pub(super) fn write_new(path: &Path, content: &[u8]) -> Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(Error::file("create", path))?;
    file.write_all(content).map_err(Error::file("write", path))
}
