//! What is removed when: by name, by age, and what nobody needs any more.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::index::{self, StoreIndex};
use super::{Found, Image, Parts, Store, no_such_image, session};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::reference::Reference;

/// What a removal did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Removed {
    /// The names that mean nothing any more.
    pub references: Vec<Reference>,
    /// The image, if it is gone: it had no other name.
    pub image: Option<Digest>,
    /// Bytes of blobs and unpacked files that were deleted.
    pub freed: u64,
    /// Blobs and layers are still there, because somebody reads the store or loads into it right now. The next removal
    /// or [`Store::collect_garbage`] deletes them.
    pub deferred: bool,
}

/// Which images to prune.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PruneOptions {
    /// All that are not in use, not just those without a name.
    pub all: bool,
    /// Only those that have not been used for so long.
    pub unused_for: Duration,
}

/// What a pruning did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pruned {
    /// The images that are gone.
    pub images: Vec<Image>,
    /// Bytes of blobs and unpacked files that were deleted, those that no image had included.
    pub freed: u64,
    /// As in [`Removed::deferred`].
    pub deferred: bool,
}

impl Store {
    /// Removes a name, and the image if that was its last one; by ID, the image with all its names.
    ///
    /// An image that is leased stays if this was its last name, unless `force`: then it is out of sight, and its files
    /// go when the last lease ends and somebody removes or prunes.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchImage`], [`Error::InUse`], [`Error::AmbiguousId`], and [`Error::File`].
    pub fn remove(&self, what: &str, force: bool) -> Result<Removed> {
        let _lock = self.layout.lock()?;
        let mut index = index::read(&self.layout)?;
        let (found, name) = self.select(&index, what)?.ok_or_else(|| no_such_image(what))?;
        let id = self.id_of(&found);
        // Two manifests may have one configuration, such as the same image compressed and not: one ID.
        let same_id: Vec<Found> = index.images().into_iter().filter(|one| self.id_of(one) == id).collect();
        let (references, manifests) = match name {
            Some(name) if found.references.len() == 1 => (vec![name], vec![found.manifest]),
            Some(name) => (vec![name], Vec::new()),
            None => {
                let references = same_id.iter().flat_map(|found| found.references.clone()).collect();
                (references, same_id.iter().map(|found| found.manifest).collect())
            }
        };
        if !force {
            self.refuse_in_use(id, &manifests)?;
        }
        let gone = manifests.len() == same_id.len();
        index.remove_names(&references);
        for manifest in &manifests {
            index.remove_image(manifest);
        }
        index.write(&self.layout)?;
        let freed = if manifests.is_empty() { Some(0) } else { self.sweep(&index, Leftovers::Keep)? };
        Ok(Removed {
            references,
            image: gone.then_some(id),
            freed: freed.unwrap_or(0),
            deferred: freed.is_none(),
        })
    }

    fn refuse_in_use(&self, id: Digest, manifests: &[Digest]) -> Result<()> {
        let leases = self.leases()?.into_iter();
        let users: Vec<String> = leases
            .filter(|lease| manifests.iter().any(|manifest| lease.manifests.contains(manifest)))
            .map(|lease| lease.user)
            .collect();
        if users.is_empty() { Ok(()) } else { Err(Error::InUse { id, users }) }
    }

    /// Removes images that nobody uses: those without a name (theirs went to newer ones), or all. Deletes what no image
    /// has: layers of removed images, and what was left of loads and pulls that did not come to their end.
    ///
    /// # Errors
    ///
    /// [`Error::File`] and [`Error::Document`]. A damaged image is none to prune; it keeps everything from being deleted
    /// until [`Store::check`] or [`Store::remove`] has dealt with it, since what it needs is not known.
    pub fn prune(&self, options: &PruneOptions) -> Result<Pruned> {
        let now = SystemTime::now();
        self.remove_chosen(|images, _| {
            let old = |image: &&Image| {
                let used = self.last_used(&image.manifest);
                now.duration_since(used).unwrap_or_default() >= options.unused_for
            };
            let chosen = images.iter().filter(|image| options.all || image.references.is_empty()).filter(old);
            chosen.map(|image| image.manifest).collect()
        })
    }

    /// Removes the images that `choose` picks of those that nobody uses; it sees the others too.
    pub(super) fn remove_chosen(
        &self,
        choose: impl FnOnce(&[Image], &[Image]) -> Vec<Digest>,
    ) -> Result<Pruned> {
        let _lock = self.layout.lock()?;
        let mut index = index::read(&self.layout)?;
        let used: HashSet<Digest> = self.leases()?.into_iter().flat_map(|lease| lease.manifests).collect();
        let all = self.images_of(&index).images.into_iter();
        let (staying, mut images): (Vec<_>, Vec<_>) = all.partition(|image| used.contains(&image.manifest));
        let chosen = choose(&images, &staying);
        images.retain(|image| chosen.contains(&image.manifest));
        for image in &images {
            index.remove_image(&image.manifest);
        }
        index.write(&self.layout)?;
        let freed = self.sweep(&index, Leftovers::Remove)?;
        Ok(Pruned { images, freed: freed.unwrap_or(0), deferred: freed.is_none() })
    }

    /// Deletes blobs and layers that no image has; false if somebody relies on the store right now.
    ///
    /// # Errors
    ///
    /// As [`Store::prune`].
    pub fn collect_garbage(&self) -> Result<bool> {
        let _lock = self.layout.lock()?;
        let index = index::read(&self.layout)?;
        Ok(self.sweep(&index, Leftovers::Keep)?.is_some())
    }

    /// Deletes what neither `index` nor a lease leads to; the caller holds the lock. Returns the bytes that were freed, or
    /// nothing if somebody holds the store.
    pub(super) fn sweep(&self, index: &StoreIndex, leftovers: Leftovers) -> Result<Option<u64>> {
        let Some(exclusive) = self.layout.try_exclusive()? else { return Ok(None) };
        self.sweep_leases()?;
        let mut parts = Vec::new();
        for found in index.images() {
            parts.push(self.parts_of(&found)?);
        }
        parts.extend(self.leases()?.into_iter().flat_map(|lease| lease.parts));
        let (mut garbage, layout) = (Vec::new(), &self.layout);
        let all = |of: fn(&Parts) -> &[Digest]| parts.iter().flat_map(of).map(Digest::hex).collect();
        self.set_aside(&layout.blobs(), &all(|parts| &parts.blobs), &mut garbage)?;
        self.set_aside(&layout.layers(), &all(|parts| &parts.layers), &mut garbage)?;
        self.set_aside(&layout.joins(), &all(|parts| parts.chain.as_slice()), &mut garbage)?;
        self.set_aside(&layout.used(), &all(|parts| &parts.blobs), &mut garbage)?;
        if leftovers == Leftovers::Remove {
            self.set_aside(&layout.root.join("incoming"), &HashSet::new(), &mut garbage)?;
        }
        // It is out of sight. Deleting it may take long, and nobody has to wait.
        drop(exclusive);
        let mut freed = 0;
        for path in garbage {
            freed += size_of(&path);
            session::remove(&path)?;
        }
        Ok(Some(freed))
    }

    /// Returns what an image needs, also if its layers are lost.
    pub(super) fn parts_of(&self, found: &Found) -> Result<Parts> {
        let manifest = self.manifest(&found.manifest)?;
        let bytes = self.document(&manifest.config)?;
        let config = crate::manifest::from_json(&bytes, &manifest.config.digest.to_string())?;
        let layers = super::diff_ids(&config, &manifest.config.digest)?;
        let blobs = manifest.layers.iter().map(|layer| layer.digest);
        Ok(Parts {
            blobs: blobs.chain([found.manifest, manifest.config.digest]).collect(),
            chain: super::chain_id(&layers),
            layers,
        })
    }

    /// Moves what is in `dir` and not `wanted` out of sight, each in one step, so that a crash cannot leave a layer that
    /// lacks files.
    fn set_aside(&self, dir: &Path, wanted: &HashSet<String>, garbage: &mut Vec<PathBuf>) -> Result<()> {
        for entry in fs::read_dir(dir).map_err(Error::file("read", dir))? {
            let entry = entry.map_err(Error::file("read", dir))?;
            if entry.file_name().to_str().is_some_and(|name| wanted.contains(name)) {
                continue;
            }
            let aside = self.layout.tmp().join(format!("garbage-{}", garbage.len()));
            session::remove(&aside)?;
            fs::rename(entry.path(), &aside).map_err(Error::file("rename", &entry.path()))?;
            garbage.push(aside);
        }
        Ok(())
    }
}

/// What becomes of blobs that were cut off on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leftovers {
    /// The next pull goes on with them.
    Keep,
    Remove,
}

/// Returns the bytes of a blob or of the files of a layer.
pub(super) fn size_of(path: &Path) -> u64 {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_file() => meta.len(),
        Ok(_) => super::facts::bytes(path).unwrap_or(0),
        Err(_) => 0,
    }
}
