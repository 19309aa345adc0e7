//! The store: images by name and ID, their unpacked layers, and what is removed when.

mod facts;
pub(crate) mod incoming;
pub(crate) mod index;
mod intake;
mod layout;
pub(crate) mod session;

use std::fs::File;
use std::path::{Path, PathBuf};

use nix::fcntl::Flock;

use self::facts::LayerFacts;
use self::layout::Layout;
use crate::config::{ConfigFile, ImageConfig};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::limits;
use crate::manifest::{Descriptor, Either, Manifest};
use crate::reference::Reference;
use crate::unpack::Skipped;

/// Images in a directory, shared by any number of processes.
///
/// Names change atomically: a reader sees an image whole or not at all, whatever happens to the process that loads it.
///
/// Unpacking needs root, or at least `CAP_CHOWN`, `CAP_MKNOD` and `CAP_SYS_ADMIN`, unless a layer has nobody else's
/// files, no removed file and no opaque directory.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) layout: Layout,
}

/// An image that is in the store, ready to be mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Image {
    /// The digest of the configuration: what `imageID` is for an image that was loaded, not pulled.
    pub id: Digest,
    /// The digest of the manifest.
    pub manifest: Digest,
    /// All names, sorted; empty if the names went to other images.
    pub references: Vec<Reference>,
    /// Where it was pulled from, each `repository@digest`, sorted; empty if it was loaded or imported. The digest is what
    /// the registry gave for the name: that of the manifest, or of an index with images for several machines.
    pub pulled: Vec<Reference>,
    /// Bytes of the manifest, the configuration and the layers as they came, mostly compressed.
    pub size: u64,
    /// Bytes of the unpacked files.
    pub unpacked_size: u64,
    /// When the image was built, as it says itself (RFC 3339).
    pub created: Option<String>,
    /// How to run it.
    pub config: ImageConfig,
    /// The unpacked layers, the topmost last, in overlayfs's format (`lowerdir` wants the topmost first).
    ///
    /// Layers that a later one hides completely are left out, since overlayfs has no opaque root.
    pub layers: Vec<PathBuf>,
}

impl Image {
    /// Returns the `imageID` of a container that uses this image by the name `reference`: `repository@digest` for an image
    /// that was pulled, the ID for one that was loaded.
    pub fn image_id(&self, reference: &Reference) -> String {
        let from_here = self.pulled.iter().find(|one| one.repository() == reference.repository());
        from_here.or(self.pulled.first()).map_or_else(|| self.id.to_string(), ToString::to_string)
    }

    /// Returns whether this is the image of a container with this `imageID`.
    pub fn has_image_id(&self, image_id: &str) -> bool {
        self.id.to_string() == image_id || self.pulled.iter().any(|one| one.to_string() == image_id)
    }
}

/// What a load or an import brought.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loaded {
    /// The image.
    pub image: Image,
    /// What all newly unpacked layers of the load had that is not kept.
    pub skipped: Skipped,
}

/// What a removal did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Removed {
    /// The names that mean nothing any more.
    pub references: Vec<Reference>,
    /// The image, if it is gone: it had no other name.
    pub image: Option<Digest>,
    /// Blobs and layers are still there, because somebody reads the store or loads into it right now. The next removal
    /// or [`Store::collect_garbage`] deletes them.
    pub deferred: bool,
}

/// Keeps blobs and layers from being deleted, by this and all other processes, while it lives.
///
/// Between [`Store::resolve`] and the mount that makes layers busy, a removal could take them away: hold the store.
#[derive(Debug)]
pub struct Hold {
    _lock: Flock<File>,
}

impl Store {
    /// Opens the store in `dir`; makes it, closed to other users, if it is not there yet.
    ///
    /// What processes that died while loading left behind is removed.
    ///
    /// # Errors
    ///
    /// [`Error::File`] with `EACCES`, `EROFS`, `ENOSPC` and the like; [`Error::StoreVersion`] for the store of a
    /// version that lays it out differently.
    pub fn open(dir: &Path) -> Result<Self> {
        Ok(Self { layout: Layout::open(dir)? })
    }

    /// Returns the store's directory, absolute.
    pub fn path(&self) -> &Path {
        &self.layout.root
    }

    /// Keeps layers from being deleted; see [`Hold`].
    ///
    /// # Errors
    ///
    /// [`Error::File`] if the lock cannot be opened.
    pub fn hold(&self) -> Result<Hold> {
        Ok(Hold { _lock: self.layout.hold()? })
    }

    /// Returns all images, sorted by their first name.
    ///
    /// # Errors
    ///
    /// [`Error::File`], [`Error::Document`], [`Error::DigestMismatch`] or [`Error::Missing`] if the store is damaged.
    pub fn list(&self) -> Result<Vec<Image>> {
        let _hold = self.hold()?;
        let index = index::read(&self.layout)?;
        let mut images =
            index.images().into_iter().map(|found| self.image(found)).collect::<Result<Vec<_>>>()?;
        images.sort_by(|a, b| (&a.references, a.id).cmp(&(&b.references, b.id)));
        Ok(images)
    }

    /// Returns the image that `reference` means, if the store has it.
    ///
    /// A digest in the reference is that of the manifest and decides alone; the tag beside it is not looked at.
    ///
    /// # Errors
    ///
    /// As [`Store::list`].
    pub fn resolve(&self, reference: &Reference) -> Result<Option<Image>> {
        let _hold = self.hold()?;
        let index = index::read(&self.layout)?;
        index.by_reference(reference).map(|found| self.image(found)).transpose()
    }

    /// Returns the image with this name or ID; an ID may be shortened and have `sha256:` in front. Names win.
    ///
    /// # Errors
    ///
    /// [`Error::AmbiguousId`], and as [`Store::list`].
    pub fn find(&self, what: &str) -> Result<Option<Image>> {
        let _hold = self.hold()?;
        let index = index::read(&self.layout)?;
        Ok(self.select(&index, what)?.map(|(image, _)| image))
    }

    /// Gives the image `what` another name; with `replace` also one that another image has.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchImage`], [`Error::NameTaken`], and as [`Store::list`].
    pub fn tag(&self, what: &str, name: &Reference, replace: bool) -> Result<Image> {
        let _lock = self.layout.lock()?;
        let mut index = index::read(&self.layout)?;
        let (image, _) =
            self.select(&index, what)?.ok_or_else(|| Error::NoSuchImage(what.chars().take(300).collect()))?;
        let descriptor = index
            .descriptor(&image.manifest)
            .ok_or_else(|| Error::Missing(format!("image {}", image.manifest)))?;
        self.set_name(&mut index, name, descriptor, replace)?;
        index.write(&self.layout)?;
        self.image(index.image(&image.manifest))
    }

    /// Removes a name, and the image if that was its last one; by ID, the image with all its names.
    ///
    /// `in_use` is asked, while nobody can load or remove, whether the image has a container; it is not asked if the
    /// image has other names and so stays.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchImage`], [`Error::InUse`], and as [`Store::list`].
    pub fn remove(&self, what: &str, in_use: impl FnOnce(&Image) -> bool) -> Result<Removed> {
        let _lock = self.layout.lock()?;
        let mut index = index::read(&self.layout)?;
        let (image, name) =
            self.select(&index, what)?.ok_or_else(|| Error::NoSuchImage(what.chars().take(300).collect()))?;
        // Two manifests may have one configuration, such as the same image compressed and not: one ID.
        let same_id = self.with_id(&index, &image.id)?;
        let (references, manifests) = match name {
            Some(name) if image.references.len() == 1 => (vec![name], vec![image.manifest]),
            Some(name) => (vec![name], Vec::new()),
            None => {
                let references = same_id.iter().flat_map(|found| found.references.clone()).collect();
                (references, same_id.iter().map(|found| found.manifest).collect())
            }
        };
        let gone = manifests.len() == same_id.len();
        if gone && in_use(&image) {
            return Err(Error::InUse { id: image.id });
        }
        index.remove_names(&references);
        for manifest in &manifests {
            index.remove_image(manifest);
        }
        index.write(&self.layout)?;
        let deferred = !manifests.is_empty() && !self.sweep(&index)?;
        Ok(Removed { references, image: gone.then_some(image.id), deferred })
    }

    /// Removes images that have no name (their names went to newer ones) unless `in_use` says no; returns their IDs.
    ///
    /// # Errors
    ///
    /// As [`Store::list`].
    pub fn prune(&self, mut in_use: impl FnMut(&Image) -> bool) -> Result<Vec<Digest>> {
        let _lock = self.layout.lock()?;
        let mut index = index::read(&self.layout)?;
        let mut removed = Vec::new();
        for found in index.images() {
            if found.references.is_empty() {
                let image = self.image(found)?;
                if !in_use(&image) {
                    index.remove_image(&image.manifest);
                    removed.push(image.id);
                }
            }
        }
        index.write(&self.layout)?;
        self.sweep(&index)?;
        Ok(removed)
    }

    /// Deletes blobs and layers that no image uses; false if somebody relies on the store right now.
    ///
    /// # Errors
    ///
    /// As [`Store::list`].
    pub fn collect_garbage(&self) -> Result<bool> {
        let _lock = self.layout.lock()?;
        let index = index::read(&self.layout)?;
        self.sweep(&index)
    }

    pub(crate) fn read_index(&self) -> Result<index::StoreIndex> {
        index::read(&self.layout)
    }

    pub(crate) fn image_of(&self, index: &index::StoreIndex, manifest: &Digest) -> Result<Image> {
        self.image(index.image(manifest))
    }

    /// Gives the image of `descriptor` a name in `index`.
    pub(crate) fn set_name(
        &self,
        index: &mut index::StoreIndex,
        name: &Reference,
        descriptor: Descriptor,
        replace: bool,
    ) -> Result<()> {
        if let Some(other) = index.by_name(name)
            && other != descriptor.digest
            && !replace
        {
            let id = self.manifest(&other)?.config.digest;
            return Err(Error::NameTaken { name: name.to_string(), id });
        }
        index.set_name(name, descriptor);
        Ok(())
    }

    /// Finds an image by name or ID; with the name if it was one.
    fn select(&self, index: &index::StoreIndex, what: &str) -> Result<Option<(Image, Option<Reference>)>> {
        if let Ok(reference) = Reference::parse(what)
            && let Some(found) = index.by_reference(&reference)
        {
            let name = found.references.contains(&reference).then_some(reference);
            return Ok(Some((self.image(found)?, name)));
        }
        let prefix = what.strip_prefix("sha256:").unwrap_or(what);
        if prefix.is_empty() || prefix.len() > 64 {
            return Ok(None);
        }
        let mut matching: Option<(Digest, index::Found)> = None;
        for found in index.images() {
            let id = self.manifest(&found.manifest)?.config.digest;
            if !id.hex().starts_with(prefix) {
                continue;
            }
            match &matching {
                Some((first, _)) if *first != id => return Err(Error::AmbiguousId(what.to_owned())),
                Some(_) => {}
                None => matching = Some((id, found)),
            }
        }
        matching.map(|(_, found)| Ok((self.image(found)?, None))).transpose()
    }

    /// Returns all images with this ID.
    fn with_id(&self, index: &index::StoreIndex, id: &Digest) -> Result<Vec<index::Found>> {
        let mut same = Vec::new();
        for found in index.images() {
            if self.manifest(&found.manifest)?.config.digest == *id {
                same.push(found);
            }
        }
        Ok(same)
    }

    /// Reads what the documents of an image say.
    fn image(&self, found: index::Found) -> Result<Image> {
        let manifest = self.manifest(&found.manifest)?;
        let bytes = self.document(&manifest.config)?;
        let config: ConfigFile = crate::manifest::from_json(&bytes, &manifest.config.digest.to_string())?;
        let diff_ids = diff_ids(&config, &manifest.config.digest)?;
        let mut layers = Vec::with_capacity(diff_ids.len());
        let mut unpacked_size = 0;
        for diff_id in diff_ids {
            let facts = LayerFacts::read(&self.layout, &diff_id).map_err(|error| match error {
                Error::File { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                    Error::Missing(format!("layer {diff_id} of image {}", manifest.config.digest))
                }
                other => other,
            })?;
            if facts.opaque_root {
                layers.clear();
            }
            unpacked_size += facts.bytes;
            layers.push(self.layout.layer(&diff_id).join("diff"));
        }
        let parts = manifest.layers.iter().chain([&manifest.config]).map(|part| part.size);
        Ok(Image {
            id: manifest.config.digest,
            manifest: found.manifest,
            references: found.references,
            pulled: found.pulled,
            size: parts.fold(found.size, u64::saturating_add),
            unpacked_size,
            created: config.created.clone(),
            config: config.into(),
            layers,
        })
    }

    fn manifest(&self, digest: &Digest) -> Result<Manifest> {
        let path = self.layout.blob(digest);
        let size = std::fs::metadata(&path).map_err(Error::file("stat", &path))?.len();
        let descriptor = Descriptor::new("", *digest, size);
        match crate::manifest::parse(&self.document(&descriptor)?, &descriptor)? {
            Either::Manifest(manifest) => Ok(manifest),
            Either::Index(_) => Err(Error::Contradiction {
                document: digest.to_string(),
                reason: "an index stands for an image",
            }),
        }
    }

    /// Reads a small blob and verifies it: disks and people change files.
    pub(crate) fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let path = self.layout.blob(&descriptor.digest);
        let file = File::open(&path).map_err(Error::file("open", &path))?;
        let bytes = read_document(file, &path)?;
        let actual = Digest::of(&bytes);
        if actual != descriptor.digest {
            return Err(Error::DigestMismatch { what: "stored blob", expected: descriptor.digest, actual });
        }
        Ok(bytes)
    }

    /// Deletes what `index` does not lead to; the caller holds the lock. False if somebody holds the store.
    fn sweep(&self, index: &index::StoreIndex) -> Result<bool> {
        let Some(_exclusive) = self.layout.try_exclusive()? else { return Ok(false) };
        let mut blobs = std::collections::HashSet::new();
        let mut layers = std::collections::HashSet::new();
        for found in index.images() {
            let manifest = self.manifest(&found.manifest)?;
            let bytes = self.document(&manifest.config)?;
            let config: ConfigFile = crate::manifest::from_json(&bytes, &manifest.config.digest.to_string())?;
            layers.extend(diff_ids(&config, &manifest.config.digest)?.iter().map(Digest::hex));
            blobs.extend(manifest.layers.iter().map(|layer| layer.digest.hex()));
            blobs.extend([found.manifest.hex(), manifest.config.digest.hex()]);
        }
        for (dir, wanted) in [(self.layout.blobs(), blobs), (self.layout.layers(), layers)] {
            for entry in std::fs::read_dir(&dir).map_err(Error::file("read", &dir))? {
                let entry = entry.map_err(Error::file("read", &dir))?;
                if entry.file_name().to_str().is_some_and(|name| wanted.contains(name)) {
                    continue;
                }
                // First out of sight in one step, so that a crash cannot leave a layer that lacks files.
                let aside = self.layout.tmp().join(format!("garbage-{}", entry.file_name().display()));
                session::remove(&aside)?;
                std::fs::rename(entry.path(), &aside).map_err(Error::file("rename", &entry.path()))?;
                session::remove(&aside)?;
            }
        }
        Ok(true)
    }
}

/// Reads a document that must not be large.
pub(crate) fn read_document(source: impl std::io::Read, path: &Path) -> Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    source.take(limits::MAX_DOCUMENT_BYTES + 1).read_to_end(&mut bytes).map_err(Error::file("read", path))?;
    if bytes.len() as u64 > limits::MAX_DOCUMENT_BYTES {
        let subject = path.display().to_string();
        return Err(Error::Limit { subject, unit: "bytes of document", max: limits::MAX_DOCUMENT_BYTES });
    }
    Ok(bytes)
}

/// Returns the digests of an image's uncompressed layers.
pub(crate) fn diff_ids(config: &ConfigFile, id: &Digest) -> Result<Vec<Digest>> {
    crate::manifest::check_layer_count(config.rootfs.diff_ids.len(), &id.to_string())?;
    let parse = |text: &String| {
        text.parse().map_err(|source| Error::Digest { digest: crate::error::lossy(text.as_bytes()), source })
    };
    config.rootfs.diff_ids.iter().map(parse).collect()
}

#[cfg(test)]
mod tests;
