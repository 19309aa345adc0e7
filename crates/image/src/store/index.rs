//! `index.json`: which names there are and which manifest each means.

use std::fs;
use std::io;

use super::layout::Layout;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest::{Descriptor, Index, OCI_INDEX, REF_NAME, from_json, to_json};
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
}

/// Reads the index; a store without one has no image.
pub(crate) fn read(layout: &Layout) -> Result<StoreIndex> {
    let path = layout.index();
    match fs::read(&path) {
        Ok(bytes) => Ok(StoreIndex(from_json(&bytes, &path.to_string_lossy())?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(StoreIndex(Index {
            schema_version: 2,
            media_type: OCI_INDEX.to_owned(),
            manifests: Vec::new(),
        })),
        Err(error) => Err(Error::file("read", &path)(error)),
    }
}

fn name_of(descriptor: &Descriptor) -> Option<Reference> {
    Reference::parse(descriptor.annotations.get(REF_NAME)?).ok()
}

impl StoreIndex {
    pub(crate) fn write(&self, layout: &Layout) -> Result<()> {
        layout.replace(&layout.index(), &to_json(&self.0))
    }

    /// Returns every image once, in the order of the index.
    pub(crate) fn images(&self) -> Vec<Found> {
        let mut images: Vec<Found> = Vec::new();
        for descriptor in &self.0.manifests {
            let Descriptor { digest, size, .. } = *descriptor;
            let position = images.iter().position(|found| found.manifest == digest).unwrap_or_else(|| {
                images.push(Found { manifest: digest, size, references: Vec::new() });
                images.len() - 1
            });
            images[position].references.extend(name_of(descriptor));
        }
        for found in &mut images {
            found.references.sort_unstable();
        }
        images
    }

    /// Returns the image with this manifest, which the index has.
    pub(crate) fn image(&self, manifest: &Digest) -> Found {
        let found = self.images().into_iter().find(|found| found.manifest == *manifest);
        found.unwrap_or(Found { manifest: *manifest, size: 0, references: Vec::new() })
    }

    /// Returns the image that a reference means: by its digest if it has one, in a repository where it has a name.
    pub(crate) fn by_reference(&self, reference: &Reference) -> Option<Found> {
        self.images().into_iter().find(|found| match reference.digest() {
            None => found.references.contains(reference),
            Some(digest) => {
                found.manifest.to_string() == digest
                    && found.references.iter().any(|name| name.repository() == reference.repository())
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
        self.remove_names(std::slice::from_ref(name));
        // A name makes the nameless entry of the same image superfluous.
        self.0.manifests.retain(|one| one.digest != descriptor.digest || name_of(one).is_some());
        descriptor.annotations.insert(REF_NAME.to_owned(), name.to_string());
        self.0.manifests.push(descriptor);
    }

    /// Takes names away; an image whose last name goes stays without one.
    pub(crate) fn remove_names(&mut self, names: &[Reference]) {
        let (named, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.0.manifests)
            .into_iter()
            .partition(|one| name_of(one).is_some_and(|name| names.contains(&name)));
        self.0.manifests = kept;
        for one in named {
            self.add(Descriptor::new(&one.media_type, one.digest, one.size));
        }
    }

    /// Takes an image away with all its names.
    pub(crate) fn remove_image(&mut self, manifest: &Digest) {
        self.0.manifests.retain(|one| one.digest != *manifest);
    }
}
