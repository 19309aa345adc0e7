//! One load or import: everything is prepared aside and becomes visible at once, or not at all.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::Flock;
use serde::{Deserialize, Serialize};

use super::layout::{Layout, lock_dir, sync_dir};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::stream::{Compression, Hashing, Streamed, Tee, decompress};
use crate::sys;
use crate::tar_stream::TarReader;
use crate::unpack::{self, Skipped, remove::remove_tree};

const BLOB_BYTES: &str = "bytes of blob";
const UNPACKED_BYTES: &str = "unpacked bytes";

/// What is known about an unpacked layer; `layer.json` beside its `diff`.
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
}

/// A layer that the session has or the store had already.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layer {
    pub(crate) blob: Digest,
    pub(crate) blob_size: u64,
    pub(crate) diff_id: Digest,
    pub(crate) compression: Compression,
}

/// What is announced about a layer and has to be true.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Expected {
    /// Digest and size of the bytes as they come.
    pub(crate) blob: Option<(Digest, u64)>,
    /// Digest of the uncompressed tar.
    pub(crate) diff_id: Option<Digest>,
}

pub(crate) struct Session<'s> {
    layout: &'s Layout,
    dir: PathBuf,
    /// New blobs and layers, by digest; they lie in `dir` under the digest's name.
    blobs: HashSet<Digest>,
    layers: HashSet<Digest>,
    /// Layers that this session has seen, by blob digest.
    seen: HashMap<Digest, Layer>,
    limits: Limits,
    /// Uncompressed bytes so far.
    spent: u64,
    pub(crate) skipped: Skipped,
    _hold: Flock<File>,
    _dir_lock: Flock<File>,
}

impl<'s> Session<'s> {
    pub(crate) fn begin(layout: &'s Layout, limits: Limits) -> Result<Self> {
        // Under the lock nobody can take the new directory for a leftover before it is locked.
        let _lock = layout.lock()?;
        let hold = layout.hold()?;
        let template = layout.tmp().join("load-XXXXXX");
        let dir = nix::unistd::mkdtemp(&template).map_err(Error::file("create directory", &template))?;
        let dir_lock = lock_dir(&dir)?;
        let session = Self {
            layout,
            dir,
            blobs: HashSet::new(),
            layers: HashSet::new(),
            seen: HashMap::new(),
            limits,
            spent: 0,
            skipped: Skipped::default(),
            _hold: hold,
            _dir_lock: dir_lock,
        };
        for kind in ["blobs", "layers"] {
            let path = session.dir.join(kind);
            fs::create_dir(&path).map_err(Error::file("create directory", &path))?;
        }
        Ok(session)
    }

    /// Returns a directory of the session's own, for files that are not to be kept.
    pub(crate) fn scratch(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn has_blob(&self, digest: &Digest) -> bool {
        self.blobs.contains(digest) || self.layout.blob(digest).exists()
    }

    fn has_layer(&self, diff_id: &Digest) -> bool {
        self.layers.contains(diff_id) || self.layout.layer(diff_id).exists()
    }

    /// Takes a document into the store; returns its digest. Documents are small, so one that is there already is
    /// written again: that repairs it if it was damaged.
    pub(crate) fn document(&mut self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if !self.blobs.contains(&digest) {
            let path = self.dir.join("blobs").join(digest.hex());
            let mut file = create(&path)?;
            file.write_all(bytes).map_err(Error::file("write", &path))?;
            self.blobs.insert(digest);
        }
        Ok(digest)
    }

    /// Returns the layer if both its bytes and its files are here already, so that its source need not be opened.
    pub(crate) fn known_layer(&self, expected: Expected) -> Option<Layer> {
        let diff_id = expected.diff_id?;
        // A docker archive does not announce digests of its blobs; uncompressed ones have the layer's own.
        let blob = expected.blob.map_or(diff_id, |(digest, _)| digest);
        if let Some(layer) = self.seen.get(&blob) {
            return (layer.diff_id == diff_id).then_some(*layer);
        }
        // The layer is known to come from just this blob. Another pairing, even of known digests, has to be verified.
        let facts = LayerFacts::read(self.layout, &diff_id).ok()?;
        let same = facts.blob == blob && expected.blob.is_none_or(|(_, size)| size == facts.blob_size);
        (same && self.has_blob(&blob)).then_some(Layer {
            blob,
            blob_size: facts.blob_size,
            diff_id,
            compression: facts.compression,
        })
    }

    /// Takes a layer into the store: in one pass copies its bytes, verifies both digests and unpacks it.
    pub(crate) fn layer(&mut self, source: impl Read, expected: Expected) -> Result<Layer> {
        let number = self.blobs.len() + self.layers.len() + self.seen.len();
        let blob_path = self.dir.join("blobs").join(format!("incoming-{number}"));
        let layer_path = self.dir.join("layers").join(format!("incoming-{number}"));
        // What is unpacked already is only verified.
        let unpack_to = match expected.diff_id {
            Some(diff_id) if self.has_layer(&diff_id) => None,
            _ => Some(make_layer_dir(&layer_path)?),
        };
        let blob_file = create(&blob_path)?;

        let max_blob = expected.blob.map_or(self.limits.unpacked_bytes, |(_, size)| size);
        let mut blob = Hashing::new(Tee { inner: source, copy: &blob_file }, max_blob, BLOB_BYTES);
        let result = self.read_layer(&mut blob, unpack_to);
        let announced = |error| match (error, expected.blob) {
            (Error::Limit { unit: BLOB_BYTES, .. }, Some((digest, size))) => {
                Error::SizeMismatch { digest, expected: size, actual: size.saturating_add(1) }
            }
            (error, _) => error,
        };
        let (compression, diff_id, stats) = result.map_err(announced)?;
        let (digest, blob_size) = blob.finish().map_err(|e| announced(Error::from_reader(e, b"")))?;
        let digest = digest.expect("this reader hashes");
        if let Some((expected, size)) = expected.blob {
            if blob_size != size {
                return Err(Error::SizeMismatch { digest: expected, expected: size, actual: blob_size });
            }
            check("blob", expected, digest)?;
        }
        // The hash of an uncompressed layer is the blob's, so it is computed once.
        let diff_id = diff_id.unwrap_or(digest);
        if let Some(expected) = expected.diff_id {
            check("layer after decompression", expected, diff_id)?;
        }

        if self.has_blob(&digest) {
            fs::remove_file(&blob_path).map_err(Error::file("remove", &blob_path))?;
        } else {
            let path = self.dir.join("blobs").join(digest.hex());
            fs::rename(&blob_path, &path).map_err(Error::file("rename", &blob_path))?;
            self.blobs.insert(digest);
        }
        if let Some(stats) = stats {
            self.skipped.devices += stats.skipped.devices;
            self.skipped.xattrs += stats.skipped.xattrs;
            if self.has_layer(&diff_id) {
                remove(&layer_path)?;
            } else {
                let facts = LayerFacts {
                    diff_id,
                    entries: stats.entries,
                    bytes: stats.bytes,
                    opaque_root: stats.opaque_root,
                    blob: digest,
                    blob_size,
                    compression,
                };
                let path = layer_path.join("layer.json");
                create(&path)?
                    .write_all(&crate::manifest::to_json(&facts))
                    .map_err(Error::file("write", &path))?;
                let path = self.dir.join("layers").join(diff_id.hex());
                fs::rename(&layer_path, &path).map_err(Error::file("rename", &layer_path))?;
                self.layers.insert(diff_id);
            }
        }
        let layer = Layer { blob: digest, blob_size, diff_id, compression };
        self.seen.insert(digest, layer);
        Ok(layer)
    }

    /// Decompresses, hashes and unpacks; reads the uncompressed stream to its end. Without a directory it only hashes.
    fn read_layer(
        &mut self,
        blob: &mut impl Read,
        unpack_to: Option<OwnedFd>,
    ) -> Result<(Compression, Option<Digest>, Option<unpack::Stats>)> {
        let io = |error| Error::from_reader(error, b"");
        let (compression, stream) = decompress(blob).map_err(io)?;
        let left = self.limits.unpacked_bytes.saturating_sub(self.spent);
        let counted = match compression {
            Compression::None => Hashing::counting(stream, left, UNPACKED_BYTES),
            Compression::Gzip | Compression::Zstd => Hashing::new(stream, left, UNPACKED_BYTES),
        };
        let (stats, rest) = match unpack_to {
            Some(dir) => {
                let mut tar = TarReader::new(Streamed(counted), self.limits.layer_entries);
                let stats = unpack::unpack(&mut tar, dir, left).map_err(|error| self.of_limit(error))?;
                (Some(stats), tar.into_source().0)
            }
            None => (None, counted),
        };
        let (diff_id, bytes) = rest.finish().map_err(|error| self.of_limit(io(error)))?;
        // A sparse file has more bytes than its archive.
        self.spent = self.spent.saturating_add(bytes.max(stats.map_or(0, |stats| stats.bytes)));
        Ok((compression, diff_id, stats))
    }

    /// Names the limit on all layers together, of which a reader knows only what was left.
    fn of_limit(&self, error: Error) -> Error {
        match error {
            Error::Limit { subject, unit: UNPACKED_BYTES, .. } => {
                let subject = if subject.is_empty() { "image".to_owned() } else { subject };
                Error::Limit { subject, unit: UNPACKED_BYTES, max: self.limits.unpacked_bytes }
            }
            other => other,
        }
    }

    /// Makes everything durable, moves it into the store and writes the names.
    ///
    /// Under the lock, `prepare` changes the index in memory and may still refuse; then all is moved; then `publish`
    /// writes the index, and only that makes anything visible. A process that dies in between, or a disk that is full
    /// just then, leaves blobs that nothing refers to, which the next removal deletes.
    ///
    /// Returns the index, and a hold so that what was committed can still be read.
    pub(crate) fn commit<I>(
        self,
        prepare: impl FnOnce() -> Result<I>,
        publish: impl FnOnce(&I) -> Result<()>,
    ) -> Result<(I, Flock<File>)> {
        let dir = File::open(&self.dir).map_err(Error::file("open", &self.dir))?;
        // One call for thousands of files; after it, the renames below cannot show anything unwritten.
        sys::syncfs(dir.as_fd()).map_err(Error::file("sync", &self.dir))?;
        let _lock = self.layout.lock()?;
        let index = prepare()?;
        for digest in &self.blobs {
            let from = self.dir.join("blobs").join(digest.hex());
            fs::rename(&from, self.layout.blob(digest)).map_err(Error::file("rename", &from))?;
        }
        for diff_id in &self.layers {
            let to = self.layout.layer(diff_id);
            // Another process may have unpacked the same layer meanwhile; its copy stays, ours goes with the session.
            if !to.exists() {
                let from = self.dir.join("layers").join(diff_id.hex());
                fs::rename(&from, &to).map_err(Error::file("rename", &from))?;
            }
        }
        sync_dir(&self.layout.blobs())?;
        sync_dir(&self.layout.layers())?;
        publish(&index)?;
        let held = self.layout.hold()?;
        Ok((index, held))
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        // A failure is not lost: what stays is invisible, and the next Store::open removes it.
        drop(remove(&self.dir));
    }
}

fn check(what: &'static str, expected: Digest, actual: Digest) -> Result<()> {
    if expected == actual { Ok(()) } else { Err(Error::DigestMismatch { what, expected, actual }) }
}

fn create(path: &Path) -> Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(Error::file("create", path))
}

/// Makes a layer's directory with its `diff`, whose mode is that of a root directory nothing is said about.
fn make_layer_dir(path: &Path) -> Result<OwnedFd> {
    let diff = path.join("diff");
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(&diff)
        .map_err(Error::file("create directory", &diff))?;
    let dir = File::open(&diff).map_err(Error::file("open", &diff))?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    dir.set_permissions(mode).map_err(Error::file("chmod", &diff))?;
    Ok(dir.into())
}

pub(super) fn remove(path: &Path) -> Result<()> {
    let parent = path.parent().expect("paths in a store have a parent");
    let name = path.file_name().expect("paths in a store have a name");
    let dir = File::open(parent).map_err(Error::file("open", parent))?;
    remove_tree(&dir, name.as_encoded_bytes()).map_err(Error::file("remove", path))
}
