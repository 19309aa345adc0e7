//! `index.json`: which names there are and which manifest each means.

use std::fs;
use std::io;

use super::layout::Layout;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest::{Descriptor, Index, OCI_INDEX, PULLED, REF_NAME, from_json, to_json};
use crate::reference::Reference;

/// The names of a store. An image with several names has a descriptor for each; one without has one without a name.
#[derive(Debug)]
pub(crate) struct StoreIndex(Index);

/// An image in the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) manifest: Digest,
    /// Bytes of the manifest.
    pub(crate) size: u64,
    pub(crate) references: Vec<Reference>,
    /// `repository@digest` for each repository that it was pulled from; the digest may be that of an index.
    pub(crate) pulled: Vec<Reference>,
}

/// Reads the index; a store without one has no image.
pub(crate) fn read(layout: &Layout) -> Result<StoreIndex> {
    let path = layout.index();
    match fs::read(&path) {
        Ok(bytes) => Ok(StoreIndex(from_json(&bytes, &path.to_string_lossy())?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(StoreIndex::empty()),
        Err(error) => Err(Error::file("read", &path)(error)),
    }
}

/// Reads the copy of the index that was written with it, for when the index itself is damaged.
pub(crate) fn read_copy(layout: &Layout) -> Option<StoreIndex> {
    let path = layout.index_copy();
    Some(StoreIndex(from_json(&fs::read(&path).ok()?, &path.to_string_lossy()).ok()?))
}

fn name_of(descriptor: &Descriptor) -> Option<Reference> {
    Reference::parse(descriptor.annotations.get(REF_NAME)?).ok()
}

fn pulled_of(descriptor: &Descriptor) -> impl Iterator<Item = Reference> {
    let text = descriptor.annotations.get(PULLED).map(String::as_str).unwrap_or_default();
    text.split(' ').filter_map(|reference| Reference::parse(reference).ok())
}

impl StoreIndex {
    pub(crate) fn empty() -> Self {
        Self(Index { schema_version: 2, media_type: OCI_INDEX.to_owned(), manifests: Vec::new() })
    }

    pub(crate) fn write(&self, layout: &Layout) -> Result<()> {
        let content = to_json(&self.0);
        layout.replace(&layout.index(), &content)?;
        // The copy is of use only if it can be had.
        drop(fs::write(layout.index_copy(), &content));
        Ok(())
    }

    /// Returns every image once, in the order of the index.
    pub(crate) fn images(&self) -> Vec<Found> {
        let mut images: Vec<Found> = Vec::new();
        for descriptor in &self.0.manifests {
            let Descriptor { digest, size, .. } = *descriptor;
            let position = images.iter().position(|found| found.manifest == digest).unwrap_or_else(|| {
                images.push(Found { manifest: digest, size, references: Vec::new(), pulled: Vec::new() });
                images.len() - 1
            });
            images[position].references.extend(name_of(descriptor));
            images[position].pulled.extend(pulled_of(descriptor));
        }
        for found in &mut images {
            found.references.sort_unstable();
            found.pulled.sort_unstable();
            found.pulled.dedup();
        }
        images
    }

    /// Returns the image with this manifest, which the index has.
    pub(crate) fn image(&self, manifest: &Digest) -> Found {
        let found = self.images().into_iter().find(|found| found.manifest == *manifest);
        found.unwrap_or(Found { manifest: *manifest, size: 0, references: Vec::new(), pulled: Vec::new() })
    }

    /// Returns the image that a reference means: by its digest if it has one, in a repository where it has a name or
    /// that it was pulled from.
    pub(crate) fn by_reference(&self, reference: &Reference) -> Option<Found> {
        self.images().into_iter().find(|found| match reference.digest() {
            None => found.references.contains(reference),
            Some(digest) => {
                let known = found.references.iter().chain(&found.pulled);
                let mut from_here = known.filter(|name| name.repository() == reference.repository());
                let is_manifest = found.manifest.to_string() == digest;
                is_manifest && from_here.clone().next().is_some()
                    || from_here.any(|name| name.digest() == Some(digest))
            }
        })
    }

    pub(crate) fn by_name(&self, name: &Reference) -> Option<Digest> {
        self.0.manifests.iter().find(|one| name_of(one).as_ref() == Some(name)).map(|one| one.digest)
    }

    /// Returns a descriptor of the manifest, without a name.
    pub(crate) fn descriptor(&self, manifest: &Digest) -> Option<Descriptor> {
        let one = self.0.manifests.iter().find(|one| one.digest == *manifest)?;
        Some(Descriptor::new(&one.media_type, one.digest, one.size))
    }

    /// Adds an image without a name, unless it is there.
    pub(crate) fn add(&mut self, descriptor: Descriptor) {
        if self.descriptor(&descriptor.digest).is_none() {
            self.0.manifests.push(descriptor);
        }
    }

    /// Gives the name to this image. Another that had it stays, without a name if it was its only one.
    pub(crate) fn set_name(&mut self, name: &Reference, mut descriptor: Descriptor) {
        let pulled = self.image(&descriptor.digest).pulled;
        let manifest = descriptor.digest;
        self.take_names(std::slice::from_ref(name));
        // A name makes the nameless entry of the same image superfluous.
        self.0.manifests.retain(|one| one.digest != descriptor.digest || name_of(one).is_some());
        descriptor.annotations.insert(REF_NAME.to_owned(), name.to_string());
        self.0.manifests.push(descriptor);
        self.set_pulled(&manifest, pulled);
    }

    /// Notes where an image of the index was pulled from. Another digest of the same repository stays known.
    pub(crate) fn add_pulled(&mut self, manifest: &Digest, pulled: &[Reference]) {
        let mut all = self.image(manifest).pulled;
        all.extend(pulled.iter().cloned());
        self.set_pulled(manifest, all);
    }

    /// Every descriptor of an image says where it was pulled from, so that any of them may go.
    fn set_pulled(&mut self, manifest: &Digest, mut pulled: Vec<Reference>) {
        pulled.sort_unstable();
        pulled.dedup();
        let text = pulled.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        for one in self.0.manifests.iter_mut().filter(|one| one.digest == *manifest) {
            if text.is_empty() {
                one.annotations.remove(PULLED);
            } else {
                one.annotations.insert(PULLED.to_owned(), text.clone());
            }
        }
    }

    /// Takes names away, and with the last name of a repository what is known of pulls from there. An image whose last
    /// name goes stays without one.
    pub(crate) fn remove_names(&mut self, names: &[Reference]) {
        let changed = self.take_names(names);
        for manifest in changed {
            let Found { references, mut pulled, .. } = self.image(&manifest);
            pulled.retain(|from| {
                let same = |name: &Reference| name.repository() == from.repository();
                !names.iter().any(same) || references.iter().any(same)
            });
            self.set_pulled(&manifest, pulled);
        }
    }

    /// Takes names away from whatever image has them; returns these images.
    fn take_names(&mut self, names: &[Reference]) -> Vec<Digest> {
        let (named, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.0.manifests)
            .into_iter()
            .partition(|one| name_of(one).is_some_and(|name| names.contains(&name)));
        self.0.manifests = kept;
        for one in &named {
            let mut nameless = one.clone();
            nameless.annotations.remove(REF_NAME);
            self.add(nameless);
        }
        named.into_iter().map(|one| one.digest).collect()
    }

    /// Takes an image away with all its names.
    pub(crate) fn remove_image(&mut self, manifest: &Digest) {
        self.0.manifests.retain(|one| one.digest != *manifest);
    }
}
