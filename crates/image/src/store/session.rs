//! One load, import or pull: everything is prepared aside and becomes visible at once, or not at all.
//!
//! There are two ways for a layer to come in. [`Session::layer`] keeps it aside until [`Session::commit`], so that a load
//! that fails leaves nothing. [`Session::fetch`] is for bytes that are dear, because they come over a network: what has
//! come of a blob survives the process, a layer is the store's as soon as it is whole, and of several processes that want
//! the same one only one fetches it. No name leads to it until the commit, and the next removal deletes what none led to.
//!
//! A session may be shared by threads; each layer has two of them, see [`super::intake`].

use std::collections::{HashMap, HashSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::fcntl::Flock;

use super::facts::{LayerFacts, write_new};
use super::incoming::{Fetch, Incoming};
use super::intake::{self, Budget, Taken};
use super::join::{self, chain_id};
use super::layout::{Layout, lock_dir, sync_dir};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::stream::Compression;
use crate::sys;
use crate::unpack::{Skipped, Stats, remove::remove_tree};

/// A layer that the session has or the store had already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// Where one load, import or pull prepares what it brings.
#[derive(Debug)]
pub(crate) struct Session {
    layout: Layout,
    dir: PathBuf,
    limits: Limits,
    budget: Budget,
    /// Numbers the things that have no digest yet.
    incoming: AtomicU64,
    state: Mutex<State>,
    hold: Mutex<Option<Flock<File>>>,
    _dir_lock: Flock<File>,
}

#[derive(Debug, Default)]
struct State {
    /// New blobs and layers, by digest; they lie in the session's directory under the digest's name.
    blobs: HashSet<Digest>,
    layers: HashSet<Digest>,
    /// New joins, by chain.
    joins: HashSet<Digest>,
    /// Layers that this session has seen, by blob digest.
    seen: HashMap<Digest, Layer>,
    skipped: Skipped,
}

impl Session {
    pub(crate) fn begin(layout: &Layout, limits: Limits) -> Result<Self> {
        // Under the lock nobody can take the new directory for a leftover before it is locked.
        let _lock = layout.lock()?;
        let hold = layout.hold()?;
        let template = layout.tmp().join("load-XXXXXX");
        let dir = nix::unistd::mkdtemp(&template).map_err(Error::file("create directory", &template))?;
        let dir_lock = lock_dir(&dir)?;
        let session = Self {
            layout: layout.clone(),
            dir,
            limits,
            budget: Budget::new(limits.unpacked_bytes),
            incoming: AtomicU64::new(0),
            state: Mutex::default(),
            hold: Mutex::new(Some(hold)),
            _dir_lock: dir_lock,
        };
        for kind in ["blobs", "layers", "joins"] {
            let path = session.dir.join(kind);
            fs::create_dir(&path).map_err(Error::file("create directory", &path))?;
        }
        Ok(session)
    }

    /// Returns a directory of the session's own, for files that are not to be kept.
    pub(crate) fn scratch(&self) -> &Path {
        &self.dir
    }

    /// Returns what all newly unpacked layers had that is not kept.
    pub(crate) fn skipped(&self) -> Skipped {
        self.state().skipped
    }

    /// Lets go of the store and takes it for this process alone; nothing if somebody else relies on it. The caller has the
    /// lock, so that nobody deletes anything in between.
    pub(super) fn alone(&self) -> Result<Option<Flock<File>>> {
        drop(self.hold.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.layout.try_exclusive()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics halfway through a change of the state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_blob(&self, digest: &Digest) -> bool {
        self.state().blobs.contains(digest) || self.layout.blob(digest).exists()
    }

    fn has_layer(&self, diff_id: &Digest) -> bool {
        self.state().layers.contains(diff_id) || self.layout.layer(diff_id).exists()
    }

    /// Takes a document into the store; returns its digest. Documents are small, so one that is there already is
    /// written again: that repairs it if it was damaged.
    pub(crate) fn document(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        let mut state = self.state();
        if !state.blobs.contains(&digest) {
            let path = self.dir.join("blobs").join(digest.hex());
            write_new(&path, bytes)?;
            state.blobs.insert(digest);
        }
        Ok(digest)
    }

    /// Returns the layer if both its bytes and its files are here already, so that its source need not be opened.
    pub(crate) fn known_layer(&self, expected: Expected) -> Option<Layer> {
        let diff_id = expected.diff_id?;
        // A docker archive does not announce digests of its blobs; uncompressed ones have the layer's own.
        let blob = expected.blob.map_or(diff_id, |(digest, _)| digest);
        if let Some(layer) = self.state().seen.get(&blob) {
            return (layer.diff_id == diff_id).then_some(*layer);
        }
        // The layer is known to come from just this blob. Another pairing, even of known digests, has to be verified.
        let facts = LayerFacts::read(&self.layout, &diff_id).ok()?;
        let same = facts.blob == blob && expected.blob.is_none_or(|(_, size)| size == facts.blob_size);
        (same && self.has_blob(&blob)).then_some(facts.layer())
    }

    /// Takes a layer into the session: in one pass copies its bytes, verifies both digests and unpacks it.
    pub(crate) fn layer(&self, source: impl Read + Send, expected: Expected) -> Result<Layer> {
        let number = self.incoming.fetch_add(1, Ordering::Relaxed);
        let blob_path = self.dir.join("blobs").join(format!("incoming-{number}"));
        let blob_file = create(&blob_path)?;
        let (taken, layer_path) = self.take_in(source, &blob_file, expected)?;
        let mut state = self.state();
        if state.blobs.contains(&taken.blob) || self.layout.blob(&taken.blob).exists() {
            fs::remove_file(&blob_path).map_err(Error::file("remove", &blob_path))?;
        } else {
            let path = self.dir.join("blobs").join(taken.blob.hex());
            fs::rename(&blob_path, &path).map_err(Error::file("rename", &blob_path))?;
            state.blobs.insert(taken.blob);
        }
        let layer = taken.layer();
        if let Some(path) = layer_path {
            let to = self.dir.join("layers").join(layer.diff_id.hex());
            if to.exists() || self.layout.layer(&layer.diff_id).exists() {
                remove(&path)?;
            } else {
                fs::rename(&path, &to).map_err(Error::file("rename", &path))?;
                state.layers.insert(layer.diff_id);
            }
        }
        state.seen.insert(layer.blob, layer);
        Ok(layer)
    }

    /// Returns the layer if it is here, or what has come of it so far and the right to fetch the rest.
    ///
    /// Waits for a process that fetches the same blob just now.
    #[cfg_attr(not(any(test, feature = "registry")), expect(dead_code, reason = "only pulls fetch"))]
    pub(crate) fn fetch(&self, blob: (Digest, u64), diff_id: Digest) -> Result<Fetch> {
        let expected = Expected { blob: Some(blob), diff_id: Some(diff_id) };
        if let Some(layer) = self.known_layer(expected) {
            return Ok(Fetch::Here(layer));
        }
        let mut incoming = Incoming::lock(&self.layout, expected, blob)?;
        // It may have been completed while this process waited; or the blob is here, and only the files are not.
        if let Some(layer) = self.known_layer(expected) {
            incoming.discard()?;
            return Ok(Fetch::Here(layer));
        }
        if self.layout.blob(&blob.0).exists() {
            incoming.begin_with(&self.layout.blob(&blob.0))?;
        }
        Ok(Fetch::Wanted(incoming))
    }

    /// Takes in a layer of which `incoming` has the beginning and `rest` the remainder; it is the store's then, durably.
    ///
    /// If `rest` fails, what has come stays for the next [`Session::fetch`]. Content that does not have its digest is
    /// thrown away.
    #[cfg_attr(not(any(test, feature = "registry")), expect(dead_code, reason = "only pulls fetch"))]
    pub(crate) fn complete(&self, mut incoming: Incoming, rest: impl Read + Send) -> Result<Layer> {
        let expected = incoming.expected();
        let result = {
            let (source, copy) = incoming.reader(rest)?;
            self.take_in(source, copy, expected)
        };
        let (taken, layer_path) = match result {
            Ok(taken) => taken,
            Err(error) => {
                incoming.keep_if_cut_off()?;
                return Err(error);
            }
        };
        let layer = taken.layer();
        sys::syncfs(incoming.file().as_fd()).map_err(Error::file("sync", &self.dir))?;
        if let Some(path) = layer_path {
            let to = self.layout.layer(&layer.diff_id);
            let state = self.state();
            if to.exists() {
                remove(&path)?;
            } else {
                fs::rename(&path, &to).map_err(Error::file("rename", &path))?;
                sync_dir(&self.layout.layers())?;
            }
            drop(state);
        }
        // Last, since with it the lock goes: whoever has waited finds the layer too.
        incoming.publish(&self.layout.blob(&layer.blob))?;
        self.state().seen.insert(layer.blob, layer);
        Ok(layer)
    }

    /// Reads `source` to its end into `copy`, verifies it and unpacks it, unless the layer is unpacked already. Returns
    /// where its files are, in the session's directory.
    fn take_in(
        &self,
        source: impl Read + Send,
        copy: &File,
        expected: Expected,
    ) -> Result<(Taken, Option<PathBuf>)> {
        let number = self.incoming.fetch_add(1, Ordering::Relaxed);
        let layer_path = self.dir.join("layers").join(format!("incoming-{number}"));
        // What is unpacked already is only verified.
        let unpack_to = match expected.diff_id {
            Some(diff_id) if self.has_layer(&diff_id) => None,
            _ => Some(make_layer_dir(&layer_path)?),
        };
        let taken = intake::take_in(source, copy, unpack_to, expected, &self.budget, self.limits)?;
        match &taken.stats {
            None => Ok((taken, None)),
            Some(stats) => {
                self.note(&taken, stats, &layer_path)?;
                Ok((taken, Some(layer_path)))
            }
        }
    }

    /// Writes down what is known about a layer that was just unpacked.
    fn note(&self, taken: &Taken, stats: &Stats, layer_path: &Path) -> Result<()> {
        let mut state = self.state();
        state.skipped.devices += stats.skipped.devices;
        state.skipped.xattrs += stats.skipped.xattrs;
        drop(state);
        LayerFacts::of(taken, stats).write(layer_path, &stats.implied)
    }

    /// Makes the layers of an image fit together: see [`super::join`]. Both the session and the store may have them.
    pub(crate) fn join(&self, diff_ids: &[Digest]) -> Result<()> {
        let Some(chain) = chain_id(diff_ids) else { return Ok(()) };
        let mut state = self.state();
        let path = |diff_id: &Digest| {
            let new = state.layers.contains(diff_id);
            if new { self.dir.join("layers").join(diff_id.hex()) } else { self.layout.layer(diff_id) }
        };
        let layers: Vec<_> = diff_ids.iter().map(path).collect();
        if !state.joins.contains(&chain) && !self.layout.join(&chain).exists() {
            join::make(&layers, &self.dir.join("joins").join(chain.hex()))?;
            state.joins.insert(chain);
        }
        Ok(())
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
        {
            let state = self.state();
            for digest in &state.blobs {
                let from = self.dir.join("blobs").join(digest.hex());
                fs::rename(&from, self.layout.blob(digest)).map_err(Error::file("rename", &from))?;
            }
            let layers = state.layers.iter().map(|id| ("layers", id, self.layout.layer(id)));
            let joins = state.joins.iter().map(|id| ("joins", id, self.layout.join(id)));
            for (kind, id, to) in layers.chain(joins) {
                // Another process may have made the same meanwhile; its copy stays, ours goes with the session.
                if !to.exists() {
                    let from = self.dir.join(kind).join(id.hex());
                    fs::rename(&from, &to).map_err(Error::file("rename", &from))?;
                }
            }
        }
        sync_dir(&self.layout.blobs())?;
        sync_dir(&self.layout.layers())?;
        sync_dir(&self.layout.joins())?;
        publish(&index)?;
        let held = self.layout.hold()?;
        Ok((index, held))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // A failure is not lost: what stays is invisible, and the next Store::open removes it.
        drop(remove(&self.dir));
    }
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
pub(super) fn make_layer_dir(path: &Path) -> Result<OwnedFd> {
    let diff = path.join("diff");
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(&diff)
        .map_err(Error::file("create directory", &diff))?;
    let dir = File::open(&diff).map_err(Error::file("open", &diff))?;
    dir.set_permissions(fs::Permissions::from_mode(0o755)).map_err(Error::file("chmod", &diff))?;
    Ok(dir.into())
}

pub(super) fn remove(path: &Path) -> Result<()> {
    let parent = path.parent().expect("paths in a store have a parent");
    let name = path.file_name().expect("paths in a store have a name");
    let dir = File::open(parent).map_err(Error::file("open", parent))?;
    remove_tree(&dir, name.as_encoded_bytes()).map_err(Error::file("remove", path))
}
