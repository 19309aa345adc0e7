//! The store: images by name and ID, their unpacked layers, and what is removed when.

mod check;
mod compare;
mod facts;
mod gc;
pub(crate) mod incoming;
pub(crate) mod index;
mod intake;
mod join;
mod layout;
mod lease;
mod remove;
mod save;
pub(crate) mod session;

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use self::check::{CheckOptions, CheckReport, Finding, Outcome};
use self::facts::LayerFacts;
pub use self::gc::{Candidate, Collection, DiskThresholds, DiskUse, collect};
use self::index::Found;
use self::join::chain_id;
use self::layout::Layout;
pub use self::lease::{Hold, Lease};
pub use self::remove::{PruneOptions, Pruned, Removed};
pub use self::save::ArchiveFormat;
use crate::config::{ConfigFile, ImageConfig};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::limits;
use crate::manifest::{Descriptor, Either, Manifest};
use crate::protection::Protection;
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
    /// Layers that a later one hides completely are left out, since overlayfs has no opaque root. The last may be one that
    /// the store made, because layers have directories without saying how they look.
    pub layers: Vec<PathBuf>,
    pub(crate) parts: Parts,
}

/// What an image consists of, by digest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Parts {
    pub(crate) blobs: Vec<Digest>,
    /// Unpacked layers, the lowest first.
    pub(crate) layers: Vec<Digest>,
    /// The digest of the chain of layers.
    pub(crate) chain: Option<Digest>,
}

/// Images, and those of which something is lost.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Images {
    /// Those that can be used, sorted by their first name.
    pub images: Vec<Image>,
    /// Those that cannot be used. Loading them again or [`Store::check`] may repair them.
    pub damaged: Vec<Damaged>,
}

/// An image that cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub struct Damaged {
    /// The digest of its manifest.
    pub manifest: Digest,
    /// Its names.
    pub references: Vec<Reference>,
    /// What is wrong.
    pub error: Error,
}

impl Image {
    /// Returns the `imageID` of a container that uses this image by the name `reference`: `repository@digest` for an image
    /// that was pulled, the ID for one that was loaded.
    pub fn image_id(&self, reference: &Reference) -> String {
        let from_here = self.pulled.iter().find(|one| one.repository() == reference.repository());
        from_here.or(self.pulled.first()).map_or_else(|| self.id.to_string(), ToString::to_string)
    }

    /// Returns the digests of the uncompressed layers, the lowest first, as the image's configuration lists them.
    pub fn diff_ids(&self) -> &[Digest] {
        &self.parts.layers
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
        Ok(Hold::new(self.layout.clone(), self.layout.hold()?))
    }

    /// Returns all images. A damaged one hides no other.
    ///
    /// # Errors
    ///
    /// [`Error::File`] or [`Error::Document`] if the index cannot be read.
    pub fn list(&self) -> Result<Images> {
        let _hold = self.hold()?;
        Ok(self.images_of(&index::read(&self.layout)?))
    }

    fn images_of(&self, index: &index::StoreIndex) -> Images {
        let mut list = Images::default();
        for found in index.images() {
            let (manifest, references) = (found.manifest, found.references.clone());
            match self.image(found) {
                Ok(image) => list.images.push(image),
                Err(error) => list.damaged.push(Damaged { manifest, references, error }),
            }
        }
        list.images.sort_by(|a, b| (&a.references, a.id).cmp(&(&b.references, b.id)));
        list
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
        self.select(&index, what)?.map(|(found, _)| self.image(found)).transpose()
    }

    /// Gives the image `what` another name; with `replace` also one that another image has.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchImage`], [`Error::NameTaken`], and as [`Store::list`].
    pub fn tag(&self, what: &str, name: &Reference, replace: bool) -> Result<Image> {
        let _lock = self.layout.lock()?;
        let mut index = index::read(&self.layout)?;
        let (found, _) = self.select(&index, what)?.ok_or_else(|| no_such_image(what))?;
        let descriptor = index
            .descriptor(&found.manifest)
            .ok_or_else(|| Error::Missing(format!("image {}", found.manifest)))?;
        self.set_name(&mut index, name, descriptor, replace)?;
        index.write(&self.layout)?;
        self.image(index.image(&found.manifest))
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
            && Protection::NameTaken.is_on()
        {
            let id = self.manifest(&other)?.config.digest;
            return Err(Error::NameTaken { name: name.to_string(), id });
        }
        index.set_name(name, descriptor);
        Ok(())
    }

    /// Finds an image by name or ID; with the name if it was one.
    fn select(&self, index: &index::StoreIndex, what: &str) -> Result<Option<(Found, Option<Reference>)>> {
        if let Ok(reference) = Reference::parse(what)
            && let Some(found) = index.by_reference(&reference)
        {
            let name = found.references.contains(&reference).then_some(reference);
            return Ok(Some((found, name)));
        }
        let prefix = what.strip_prefix("sha256:").unwrap_or(what);
        if prefix.is_empty() || prefix.len() > 64 {
            return Ok(None);
        }
        let mut matching: Option<(Digest, Found)> = None;
        for found in index.images() {
            let id = self.id_of(&found);
            if !id.hex().starts_with(prefix) {
                continue;
            }
            match &matching {
                Some((first, _)) if *first != id => return Err(Error::AmbiguousId(what.to_owned())),
                Some(_) => {}
                None => matching = Some((id, found)),
            }
        }
        Ok(matching.map(|(_, found)| (found, None)))
    }

    /// Returns an image's ID; the manifest's digest stands in for one whose manifest is damaged.
    fn id_of(&self, found: &Found) -> Digest {
        self.manifest(&found.manifest).map_or(found.manifest, |manifest| manifest.config.digest)
    }

    /// Reads what the documents of an image say.
    fn image(&self, found: Found) -> Result<Image> {
        let manifest = self.manifest(&found.manifest)?;
        let id = manifest.config.digest;
        let bytes = self.document(&manifest.config)?;
        let config: ConfigFile = crate::manifest::from_json(&bytes, &id.to_string())?;
        let diff_ids = diff_ids(&config, &id)?;
        let missing = |what: &str, digest: &Digest| Error::Missing(format!("{what} {digest} of image {id}"));
        let (mut layers, mut unpacked_size, mut implied) = (Vec::with_capacity(diff_ids.len()), 0, 0);
        for diff_id in &diff_ids {
            let facts = LayerFacts::read(&self.layout, diff_id).map_err(|error| match error {
                Error::File { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                    missing("layer", diff_id)
                }
                other => other,
            })?;
            if facts.opaque_root {
                layers.clear();
            }
            unpacked_size += facts.bytes;
            implied += facts.implied;
            layers.push(self.layout.layer(diff_id).join("diff"));
        }
        let chain = chain_id(&diff_ids);
        if let Some(chain) = chain.filter(|_| implied > 0) {
            let join = self.layout.join(&chain);
            if join.join("diff").exists() {
                layers.push(join.join("diff"));
            } else if !join.exists() {
                return Err(missing("what joins the layers", &chain));
            }
        }
        let size = manifest.layers.iter().chain([&manifest.config]).map(|part| part.size);
        let size = size.fold(found.size, u64::saturating_add);
        let blobs = manifest.layers.iter().chain([&manifest.config]).map(|part| part.digest);
        let parts = Parts { blobs: blobs.chain([found.manifest]).collect(), layers: diff_ids, chain };
        Ok(Image {
            id,
            manifest: found.manifest,
            references: found.references,
            pulled: found.pulled,
            size,
            unpacked_size,
            created: config.created.clone(),
            config: config.into(),
            layers,
            parts,
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
}

fn no_such_image(what: &str) -> Error {
    Error::NoSuchImage(what.chars().take(300).collect())
}

/// Reads a document that must not be large.
pub(crate) fn read_document(source: impl std::io::Read, path: &Path) -> Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let most = if Protection::DocumentBytes.is_on() { limits::MAX_DOCUMENT_BYTES + 1 } else { u64::MAX };
    source.take(most).read_to_end(&mut bytes).map_err(Error::file("read", path))?;
    if bytes.len() as u64 > limits::MAX_DOCUMENT_BYTES && Protection::DocumentBytes.is_on() {
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
pub(crate) mod testing;
#[cfg(test)]
mod tests;
