//! The JSON documents of OCI images and docker archives.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::nullable;
use crate::digest::Digest;
use crate::error::{Error, Result, lossy};
use crate::limits;
use crate::protection::Protection;

pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// The annotation of a descriptor in an `index.json` that names the image.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Where containerd and docker keep the whole name; their `REF_NAME` is the tag alone.
pub(crate) const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// Where this store keeps from which repositories an image was pulled, each `repository@digest`, separated by spaces.
pub(crate) const PULLED: &str = "io.podrun.image.pulled";
/// Marks the attestation manifests that BuildKit puts beside images.
const ATTESTATION: &str = "vnd.docker.reference.type";

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<DescribedPlatform>,
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct DescribedPlatform {
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) os: String,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) architecture: String,
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub(crate) variant: String,
}

impl Descriptor {
    pub(crate) fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self { media_type: media_type.to_owned(), digest, size, platform: None, annotations: BTreeMap::new() }
    }

    pub(crate) fn is_attestation(&self) -> bool {
        self.annotations.contains_key(ATTESTATION)
    }

    /// Whether this is a layer that can be unpacked; how it is compressed is read off its first bytes.
    pub(crate) fn is_layer(&self) -> bool {
        let plain = self.media_type.split_once('+').map_or(self.media_type.as_str(), |(plain, _)| plain);
        plain == OCI_LAYER
            || plain == "application/vnd.oci.image.layer.nondistributable.v1.tar"
            || self.media_type.starts_with(DOCKER_LAYER)
            || self.media_type.starts_with("application/vnd.docker.image.rootfs.foreign.diff.tar")
    }

    pub(crate) fn is_config(&self) -> bool {
        self.media_type == OCI_CONFIG || self.media_type == DOCKER_CONFIG
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    pub(crate) schema_version: u32,
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub(crate) media_type: String,
    pub(crate) manifests: Vec<Descriptor>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) schema_version: u32,
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub(crate) media_type: String,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// An entry of docker's `manifest.json`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DockerManifest {
    pub(crate) config: String,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) layers: Vec<String>,
}

/// What a digest in an index may lead to.
#[derive(Debug)]
pub(crate) enum Either {
    Index(Index),
    Manifest(Manifest),
}

/// Only what tells an index from a manifest.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    manifests: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    layers: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    config: Option<serde::de::IgnoredAny>,
}

/// Parses a document that is an index or a manifest, and refuses one that could be read as both.
///
/// Two programs that disagree about the kind of a document disagree about the content of the image
/// (CVE-2021-41190), so the fields, the document's own media type and the descriptor's must agree.
pub(crate) fn parse(bytes: &[u8], descriptor: &Descriptor) -> Result<Either> {
    let document = descriptor.digest.to_string();
    let contradiction = |reason| Error::Contradiction { document: document.clone(), reason };
    let shape: Shape = from_foreign_json(bytes, &document)?;
    let is_index = match (&shape.manifests, shape.layers.is_some() || shape.config.is_some()) {
        (Some(_), true) if Protection::OneKind.is_on() => {
            return Err(contradiction("has both manifests and layers"));
        }
        // Whoever announces it decides, and the next reader may decide otherwise.
        (Some(_), true) => descriptor.media_type != OCI_MANIFEST,
        (Some(_), false) => true,
        (None, true) => false,
        (None, false) => return Err(contradiction("is neither an index nor a manifest")),
    };
    for stated in [shape.media_type.as_deref().unwrap_or_default(), &descriptor.media_type] {
        let agrees = match stated {
            "" => true,
            OCI_INDEX | DOCKER_LIST => is_index,
            OCI_MANIFEST | DOCKER_MANIFEST => !is_index,
            _ if !Protection::MediaType.is_on() => true,
            other => {
                return Err(Error::MediaType {
                    digest: descriptor.digest,
                    media_type: lossy(other.as_bytes()),
                });
            }
        };
        if !agrees && Protection::MediaType.is_on() {
            return Err(contradiction("has fields that its media type does not have"));
        }
    }
    if is_index {
        return Ok(Either::Index(from_json(bytes, &document)?));
    }
    let manifest: Manifest = from_json(bytes, &document)?;
    if !manifest.config.is_config() && Protection::MediaType.is_on() {
        let Descriptor { digest, media_type, .. } = manifest.config;
        return Err(Error::MediaType { digest, media_type: lossy(media_type.as_bytes()) });
    }
    if let Some(layer) = manifest.layers.iter().find(|layer| !layer.is_layer())
        && Protection::MediaType.is_on()
    {
        return Err(Error::MediaType {
            digest: layer.digest,
            media_type: lossy(layer.media_type.as_bytes()),
        });
    }
    check_layer_count(manifest.layers.len(), &document)?;
    Ok(Either::Manifest(manifest))
}

pub(crate) fn check_layer_count(count: usize, document: &str) -> Result<()> {
    if count as u64 > limits::MAX_LAYERS && Protection::Layers.is_on() {
        return Err(Error::Limit { subject: document.to_owned(), unit: "layers", max: limits::MAX_LAYERS });
    }
    Ok(())
}

pub(crate) fn from_json<'a, T: Deserialize<'a>>(bytes: &'a [u8], document: &str) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|source| Error::Document { document: document.to_owned(), source })
}

/// Parses a document that somebody else has written.
///
/// # Errors
/// [`Error::Limit`] if it has more than [`limits::MAX_DOCUMENT_ITEMS`] items: `"",` is three bytes here and a string of
/// twenty-four in memory.
pub(crate) fn from_foreign_json<'a, T: Deserialize<'a>>(bytes: &'a [u8], document: &str) -> Result<T> {
    if items(bytes) > limits::MAX_DOCUMENT_ITEMS && Protection::DocumentItems.is_on() {
        let (unit, max) = ("items of a document", limits::MAX_DOCUMENT_ITEMS);
        return Err(Error::Limit { subject: document.to_owned(), unit, max });
    }
    from_json(bytes, document)
}

/// Counts the commas outside of strings: no array or object has more items than there are, and one.
fn items(json: &[u8]) -> u64 {
    let (mut count, mut in_string, mut escaped) = (0, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b',' if !in_string => count += 1,
            _ => {}
        }
    }
    count
}

pub(crate) fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain structs with string keys always serialise")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, media_type: &str) -> Result<Either> {
        parse(text.as_bytes(), &Descriptor::new(media_type, Digest::of(text.as_bytes()), text.len() as u64))
    }

    #[test]
    fn ambiguous_documents_are_refused() {
        let d = Digest::of(b"");
        let config = format!(r#""config":{{"mediaType":"{OCI_CONFIG}","digest":"{d}","size":0}}"#);
        let manifest = format!(r#"{{"schemaVersion":2,{config},"layers":[]}}"#);
        let index = r#"{"schemaVersion":2,"manifests":[]}"#;
        assert!(matches!(check(&manifest, OCI_MANIFEST), Ok(Either::Manifest(_))));
        assert!(matches!(check(&manifest, ""), Ok(Either::Manifest(_))));
        assert!(matches!(check(index, DOCKER_LIST), Ok(Either::Index(_))));

        let both = format!(r#"{{"schemaVersion":2,{config},"layers":[],"manifests":[]}}"#);
        let lies = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}",{config},"layers":[]}}"#);
        for (text, media_type) in [
            (both.as_str(), OCI_MANIFEST),
            (&both, OCI_INDEX),
            (&manifest, OCI_INDEX),
            (index, OCI_MANIFEST),
            (&lies, OCI_MANIFEST),
            (&lies, ""),
            ("{}", OCI_MANIFEST),
        ] {
            assert!(
                matches!(check(text, media_type), Err(Error::Contradiction { .. })),
                "{text} as {media_type}"
            );
        }
        for (text, media_type) in [
            (manifest.as_str(), "text/html"),
            (&manifest.replace(OCI_CONFIG, "application/vnd.oci.empty.v1+json"), OCI_MANIFEST),
            (
                &manifest.replace(
                    "[]",
                    &format!(r#"[{{"mediaType":"application/vnd.oci.image.layer.v1.tar.enc","digest":"{d}","size":1}}]"#),
                ),
                OCI_MANIFEST,
            ),
        ] {
            assert!(matches!(check(text, media_type), Err(Error::MediaType { .. })), "{text} as {media_type}");
        }
    }

    #[test]
    fn hostile_json_is_refused_without_a_panic() {
        let d = Digest::of(b"");
        let layer = format!(r#"{{"mediaType":"{OCI_LAYER}","digest":"{d}","size":1}},"#);
        let layers = layer.repeat(501);
        let many = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"{OCI_CONFIG}","digest":"{d}","size":0}},"layers":[{}]}}"#,
            layers.trim_end_matches(',')
        );
        assert!(matches!(check(&many, ""), Err(Error::Limit { unit: "layers", .. })));
        for text in [
            "[".repeat(100_000),
            format!("{{\"manifests\":{}", "[".repeat(100_000)),
            r#"{"schemaVersion":2,"manifests":[],"manifests":[]}"#.to_owned(),
            r#"{"schemaVersion":2,"manifests":[{"digest":"sha256:../../x","size":1}]}"#.to_owned(),
            format!(r#"{{"schemaVersion":2,"manifests":[{{"digest":"{d}","size":-1}}]}}"#),
        ] {
            assert!(
                matches!(check(&text, ""), Err(Error::Document { .. })),
                "{}",
                &text[..60.min(text.len())]
            );
        }
    }
}
