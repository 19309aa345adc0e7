//! OCI image layouts: `index.json`, manifests and blobs.

use super::source::Files;
use super::{Prepared, check_config};
use crate::config::ConfigFile;
use crate::digest::Digest;
use crate::error::{Error, Result, lossy};
use crate::limits;
use crate::manifest::{
    CONTAINERD_NAME, Descriptor, Either, Index, Manifest, REF_NAME, from_foreign_json, parse,
};
use crate::platform::Platform;
use crate::protection::Protection;
use crate::reference::Reference;
use crate::store::session::{Expected, Session};

/// How many indexes may lead to each other before a manifest comes; tools write one, at most two.
const MAX_INDEX_DEPTH: u32 = 4;

pub(super) fn load(session: &Session, files: &Files, platform: &Platform) -> Result<Vec<Prepared>> {
    let bytes = files.document("index.json")?;
    let index: Index = from_foreign_json(&bytes, "index.json")?;
    if index.manifests.len() as u64 > limits::MAX_IMAGES && Protection::Images.is_on() {
        let (unit, max) = ("images", limits::MAX_IMAGES);
        return Err(Error::Limit { subject: "index.json".to_owned(), unit, max });
    }
    let mut prepared: Vec<Prepared> = Vec::new();
    for (name, candidates) in by_name(index.manifests)? {
        let (descriptor, manifest, bytes) = find_manifest(files, &candidates, platform, 0)?;
        let diff_ids = load_manifest(session, files, &manifest, &bytes, platform)?;
        session.document(&bytes)?;
        let manifest = Descriptor::new(&descriptor.media_type, descriptor.digest, descriptor.size);
        let names = name.into_iter().collect();
        prepared.push(Prepared { manifest, names, diff_ids, pulled: Vec::new() });
    }
    if prepared.is_empty() {
        return Err(Error::Missing("an image in index.json".to_owned()));
    }
    Ok(prepared)
}

/// Sorts the descriptors of a layout into images: those with one name, or with none but a platform, are one image for
/// several platforms.
fn by_name(descriptors: Vec<Descriptor>) -> Result<Vec<(Option<Reference>, Vec<Descriptor>)>> {
    let mut images: Vec<(Option<Reference>, Vec<Descriptor>)> = Vec::new();
    for descriptor in descriptors.into_iter().filter(|one| !one.is_attestation()) {
        let name = name_of(&descriptor)?;
        let joins = |(other, members): &&mut (Option<Reference>, Vec<Descriptor>)| {
            *other == name
                && (name.is_some() || members.iter().chain([&descriptor]).all(|one| one.platform.is_some()))
        };
        match images.iter_mut().find(joins) {
            Some((_, members)) => members.push(descriptor),
            None => images.push((name, vec![descriptor])),
        }
    }
    Ok(images)
}

/// Returns the name that an annotation gives. A bare word in `ref.name` is a tag within the layout, not a name.
fn name_of(descriptor: &Descriptor) -> Result<Option<Reference>> {
    let annotations = &descriptor.annotations;
    let name = annotations
        .get(CONTAINERD_NAME)
        .or_else(|| annotations.get(REF_NAME).filter(|name| name.contains(['/', ':'])));
    name.map(|name| {
        Reference::parse(name).map_err(|source| Error::Name { name: lossy(name.as_bytes()), source })
    })
    .transpose()
}

/// Follows indexes to the manifest for `platform`.
fn find_manifest(
    files: &Files,
    candidates: &[Descriptor],
    platform: &Platform,
    depth: u32,
) -> Result<(Descriptor, Manifest, Vec<u8>)> {
    let descriptor = choose(candidates, platform)?;
    let bytes = blob(files, descriptor)?;
    match parse(&bytes, descriptor)? {
        Either::Manifest(manifest) => Ok((descriptor.clone(), manifest, bytes)),
        Either::Index(_) if depth >= MAX_INDEX_DEPTH && Protection::IndexDepth.is_on() => {
            Err(Error::Contradiction {
                document: descriptor.digest.to_string(),
                reason: "indexes lead to indexes without end",
            })
        }
        Either::Index(index) => find_manifest(files, &index.manifests, platform, depth + 1),
    }
}

/// Returns the descriptor for `platform`; a lone one that states no platform is taken as it is.
pub(crate) fn choose<'d>(candidates: &'d [Descriptor], platform: &Platform) -> Result<&'d Descriptor> {
    let images: Vec<_> = candidates.iter().filter(|one| !one.is_attestation()).collect();
    if let [one] = images.as_slice()
        && one.platform.is_none()
    {
        return Ok(one);
    }
    let matching = images.iter().filter_map(|one| {
        let stated = one.platform.as_ref()?;
        let fits = stated.os == platform.os && stated.architecture == platform.architecture;
        Some((rank(&stated.architecture, &stated.variant).filter(|_| fits)?, one))
    });
    if let Some((_, best)) = matching.min_by_key(|(rank, _)| *rank) {
        return Ok(best);
    }
    let mut available: Vec<_> = images
        .iter()
        .filter_map(|one| one.platform.as_ref())
        .take(20)
        .map(|one| {
            let slash = if one.variant.is_empty() { "" } else { "/" };
            lossy(format!("{}/{}{slash}{}", one.os, one.architecture, one.variant).as_bytes())
        })
        .collect();
    if available.is_empty() {
        available.push("unstated platforms".to_owned());
    }
    Err(Error::Platform { wanted: platform.to_string(), available: available.join(", ") })
}

/// Ranks the variants that every machine of an architecture runs, the best first; `None` for others, such as amd64/v3.
fn rank(architecture: &str, variant: &str) -> Option<u32> {
    match (architecture, variant) {
        (_, "") | ("amd64", "v1") | ("arm64", "v8") => Some(0),
        ("arm", "v7") => Some(1),
        ("arm", "v6") => Some(2),
        ("arm", "v5") => Some(3),
        _ => None,
    }
}

/// Takes configuration and layers into the session.
fn load_manifest(
    session: &Session,
    files: &Files,
    manifest: &Manifest,
    document: &[u8],
    platform: &Platform,
) -> Result<Vec<Digest>> {
    let bytes = blob(files, &manifest.config)?;
    let id = manifest.config.digest;
    let config: ConfigFile = from_foreign_json(&bytes, &id.to_string())?;
    let diff_ids = check_config(&config, &id, manifest.layers.len(), platform)?;
    for (layer, &diff_id) in manifest.layers.iter().zip(&diff_ids) {
        let expected = Expected { blob: Some((layer.digest, layer.size)), diff_id: Some(diff_id) };
        if session.known_layer(expected).is_none() {
            session.layer(files.get(&path_of(&layer.digest))?, expected)?;
        }
    }
    session.document(&bytes)?;
    session.document(document)?;
    Ok(diff_ids)
}

fn path_of(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Reads a document and verifies it.
fn blob(files: &Files, descriptor: &Descriptor) -> Result<Vec<u8>> {
    let bytes = files.document(&path_of(&descriptor.digest))?;
    let (expected, actual) = (descriptor.digest, Digest::of(&bytes));
    if bytes.len() as u64 != descriptor.size && Protection::BlobDigest.is_on() {
        return Err(Error::SizeMismatch {
            digest: expected,
            expected: descriptor.size,
            actual: bytes.len() as u64,
        });
    }
    if actual != expected && Protection::BlobDigest.is_on() {
        return Err(Error::DigestMismatch { what: "blob", expected, actual });
    }
    Ok(bytes)
}
