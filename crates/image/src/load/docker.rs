//! Docker archives: `manifest.json`, a configuration and layers per image, without digests of their own.

use super::source::Files;
use super::{Prepared, check_config, make_manifest};
use crate::config::ConfigFile;
use crate::digest::Digest;
use crate::error::{Error, Result, lossy};
use crate::limits;
use crate::manifest::{DockerManifest, check_layer_count, from_foreign_json};
use crate::platform::Platform;
use crate::protection::Protection;
use crate::reference::Reference;
use crate::store::session::{Expected, Session};

pub(super) fn load(session: &Session, files: &Files, platform: &Platform) -> Result<Vec<Prepared>> {
    let bytes = files.document("manifest.json")?;
    let images: Vec<DockerManifest> = from_foreign_json(&bytes, "manifest.json")?;
    if images.len() as u64 > limits::MAX_IMAGES && Protection::Images.is_on() {
        let (unit, max) = ("images", limits::MAX_IMAGES);
        return Err(Error::Limit { subject: "manifest.json".to_owned(), unit, max });
    }
    if images.is_empty() {
        return Err(Error::Missing("an image in manifest.json".to_owned()));
    }
    images.iter().map(|image| load_image(session, files, image, platform)).collect()
}

fn load_image(
    session: &Session,
    files: &Files,
    image: &DockerManifest,
    platform: &Platform,
) -> Result<Prepared> {
    let bytes = files.document(&image.config)?;
    let id = Digest::of(&bytes);
    // The configuration is named by its digest, which is the image's ID: nothing else vouches for it.
    if let Some(expected) = digest_in(&image.config)
        && expected != id
        && Protection::ConfigDigest.is_on()
    {
        return Err(Error::DigestMismatch { what: "image configuration", expected, actual: id });
    }
    check_layer_count(image.layers.len(), "manifest.json")?;
    let config: ConfigFile = from_foreign_json(&bytes, &lossy(image.config.as_bytes()))?;
    let diff_ids = check_config(&config, &id, image.layers.len(), platform)?;
    let mut layers = Vec::with_capacity(diff_ids.len());
    for (path, &diff_id) in image.layers.iter().zip(&diff_ids) {
        let expected = Expected { blob: None, diff_id: Some(diff_id) };
        layers.push(match session.known_layer(expected) {
            Some(layer) => layer,
            None => session.layer(files.get(path)?, expected)?,
        });
    }
    let names = image.repo_tags.iter().map(|name| {
        Reference::parse(name).map_err(|source| Error::Name { name: lossy(name.as_bytes()), source })
    });
    let names = names.collect::<Result<_>>()?;
    let manifest = make_manifest(session, &bytes, &layers)?;
    Ok(Prepared { manifest, names, diff_ids, pulled: Vec::new() })
}

/// Returns the digest in `HEX.json` or `blobs/sha256/HEX`.
fn digest_in(path: &str) -> Option<Digest> {
    let name = path.rsplit('/').next()?;
    Digest::from_hex(name.strip_suffix(".json").unwrap_or(name))
}
