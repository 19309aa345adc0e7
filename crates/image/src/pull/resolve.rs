//! From a name to a manifest and a configuration, through indexes and past mirrors and users that lead nowhere.

use super::run::PullOptions;
use crate::config::ConfigFile;
use crate::digest::Digest;
use crate::error::Error;
use crate::load::{check_config, choose};
use crate::manifest::{Descriptor, Either, Manifest, from_foreign_json, parse};
use crate::reference::Reference;
use crate::registry::{Client, RegistryError, Repository};

/// How many indexes may lead to each other before a manifest comes.
const MAX_INDEX_DEPTH: u32 = 4;

/// What a name means at the registry.
#[derive(Debug)]
pub(super) enum Meaning {
    /// The same as before: this digest.
    Unchanged(Digest),
    /// This image.
    Image(Box<Resolved>),
}

/// An image that may be pulled.
#[derive(Debug)]
pub(super) struct Resolved {
    /// What the name means: the digest of an index or a manifest.
    pub(super) digest: Digest,
    pub(super) descriptor: Descriptor,
    pub(super) manifest: Manifest,
    pub(super) manifest_bytes: Vec<u8>,
}

/// Why there is no manifest.
#[derive(Debug)]
pub(super) enum Unresolved {
    Registry(RegistryError),
    Image(Error),
}

impl From<RegistryError> for Unresolved {
    fn from(error: RegistryError) -> Self {
        Self::Registry(error)
    }
}

impl From<Error> for Unresolved {
    fn from(error: Error) -> Self {
        Self::Image(error)
    }
}

/// Finds out what a name means at one place. With digests in `known`, the registry is asked for the digest alone first.
pub(super) async fn resolve(
    client: &Client,
    place: &Repository,
    reference: &Reference,
    known: &[Digest],
    options: &PullOptions,
) -> Result<Meaning, Unresolved> {
    let wanted = reference.digest().or(reference.tag()).unwrap_or_default();
    if !known.is_empty()
        && let Some(digest) = client.head_manifest(place, wanted).await?
        && known.contains(&digest)
    {
        return Ok(Meaning::Unchanged(digest));
    }
    let fetched = client.manifest(place, wanted).await?;
    if known.contains(&fetched.digest) {
        return Ok(Meaning::Unchanged(fetched.digest));
    }
    let digest = fetched.digest;
    let mut descriptor = Descriptor::new(&fetched.media_type, digest, fetched.bytes.len() as u64);
    let mut bytes = fetched.bytes;
    for depth in 0.. {
        match parse(&bytes, &descriptor)? {
            Either::Manifest(manifest) => {
                if descriptor.media_type.is_empty() {
                    descriptor.media_type.clone_from(&manifest.media_type);
                }
                let descriptor = Descriptor::new(&descriptor.media_type, descriptor.digest, descriptor.size);
                let resolved = Resolved { digest, descriptor, manifest, manifest_bytes: bytes };
                return Ok(Meaning::Image(Box::new(resolved)));
            }
            Either::Index(index) if depth < MAX_INDEX_DEPTH => {
                descriptor = choose(&index.manifests, &options.platform)?.clone();
                let fetched = client.manifest(place, &descriptor.digest.to_string()).await?;
                if fetched.bytes.len() as u64 != descriptor.size {
                    let (expected, actual) = (descriptor.size, fetched.bytes.len() as u64);
                    return Err(Error::SizeMismatch { digest: descriptor.digest, expected, actual }.into());
                }
                bytes = fetched.bytes;
            }
            Either::Index(_) => break,
        }
    }
    let (document, reason) = (descriptor.digest.to_string(), "indexes lead to indexes without end");
    Err(Error::Contradiction { document, reason }.into())
}

/// Checks that a configuration fits its manifest; returns the digests of the uncompressed layers.
pub(super) fn diff_ids(
    bytes: &[u8],
    manifest: &Manifest,
    options: &PullOptions,
) -> Result<Vec<Digest>, Error> {
    let id = manifest.config.digest;
    let config: ConfigFile = from_foreign_json(bytes, &id.to_string())?;
    check_config(&config, &id, manifest.layers.len(), &options.platform)
}
