//! Every bound on what an image may ask of this machine, in one place.
//!
//! An archive is written by someone else. A few kilobytes of it can name terabytes of zeros, millions of files, or
//! a header that fills the memory; each such amount is bounded here before it is spent.

/// Uncompressed bytes of all layers of one load together, headers and holes included: 64 GiB.
pub const MAX_UNPACKED_BYTES: u64 = 64 << 30;
/// Entries of one layer: two million; the largest public images have a tenth of it.
pub const MAX_LAYER_ENTRIES: u64 = 2_000_000;
/// Layers of one image: overlayfs stacks 500 (`OVL_MAX_STACK` in `fs/overlayfs/params.h`), and the store may need one.
pub const MAX_LAYERS: u64 = 499;
/// Directories below each other, counted where they really are, links followed.
pub const MAX_DEPTH: u64 = 256;
/// Bytes of a path or of a symbolic link's target: `PATH_MAX` without the final NUL.
pub const MAX_PATH_BYTES: u64 = 4095;
/// Bytes of one path component: `NAME_MAX`.
pub const MAX_NAME_BYTES: u64 = 255;
/// Bytes of one extended tar header (pax record block, GNU long name): 1 MiB, as in Go's reader.
pub const MAX_HEADER_BYTES: u64 = 1 << 20;
/// Bytes of memory for the directories that an image's layers have something in and do not list, which are remembered: 12
/// MiB, enough for 80,000 with paths of as many bytes as is usual. Most writers of layers list every directory.
pub const MAX_IMPLIED_BYTES: u64 = 12 << 20;
/// Data segments of one sparse file.
pub const MAX_SPARSE_SEGMENTS: u64 = 1 << 16;
/// Bytes of a manifest, an index or an image configuration: 4 MiB, as registries have it.
pub const MAX_DOCUMENT_BYTES: u64 = 4 << 20;
/// Items of such a document, of all its arrays and objects together; the largest of public images have some hundreds.
pub const MAX_DOCUMENT_ITEMS: u64 = 100_000;
/// Layers that a pull fetches at the same time: each needs some megabytes.
pub const MAX_PARALLEL: u8 = 8;
/// Members of an outer archive (`docker save`, an OCI layout in a tar).
pub const MAX_ARCHIVE_MEMBERS: u64 = 100_000;
/// Images in one archive or layout.
pub const MAX_IMAGES: u64 = 1_000;
/// Logarithm of the largest zstd window: 32 MiB of memory for one decoder.
///
/// That is what the encoder of container tools written in Go uses at its best level, and zstd's own up to level 20. Only
/// `zstd --ultra` from level 21 on and `zstd --long` want more, which a pull could not give and stay below 64 MiB.
pub const MAX_ZSTD_WINDOW_LOG: u32 = 25;
/// Bytes that all zstd decoders of one pull or load have together: one with the largest window, or several with smaller
/// ones. A layer that finds not enough left waits.
pub const MAX_DECODER_BYTES: u64 = 33 << 20;

/// The bounds that a caller may change for one load; the others are constants of this module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Uncompressed bytes of all layers together; [`MAX_UNPACKED_BYTES`] by default.
    pub unpacked_bytes: u64,
    /// Entries of one layer; [`MAX_LAYER_ENTRIES`] by default.
    pub layer_entries: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { unpacked_bytes: MAX_UNPACKED_BYTES, layer_entries: MAX_LAYER_ENTRIES }
    }
}

impl Limits {
    /// Returns the limits with another bound on uncompressed bytes.
    #[must_use]
    pub fn with_unpacked_bytes(self, unpacked_bytes: u64) -> Self {
        Self { unpacked_bytes, ..self }
    }

    /// Returns the limits with another bound on entries of one layer.
    #[must_use]
    pub fn with_layer_entries(self, layer_entries: u64) -> Self {
        Self { layer_entries, ..self }
    }
}
