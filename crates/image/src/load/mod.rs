//! Puts images into the store: OCI layouts, docker archives, root file systems.

mod docker;
mod oci;
mod source;
mod tree;

#[cfg(feature = "registry")]
pub(crate) use self::oci::choose;

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use self::source::Files;
use crate::config::{ConfigFile, ImageConfig};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::manifest::{Descriptor, Manifest, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, to_json};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::store::session::{Expected, Layer, Session};
use crate::store::{Loaded, Store, diff_ids};

/// How to load an archive or layout.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct LoadOptions {
    /// The name to give, instead of those in the archive; for an archive with one image.
    pub name: Option<Reference>,
    /// Takes names from other images that have them. Otherwise that is an error, so that an archive from somewhere
    /// cannot put itself in the place of an image that Pods use.
    pub replace: bool,
    /// Which image of several for different machines; this machine's by default.
    pub platform: Platform,
    /// Bounds on what the archive may need.
    pub limits: Limits,
}

/// How to make an image from a root file system.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ImportOptions {
    /// How to run the image. An empty operating system or architecture becomes this machine's.
    pub config: ImageConfig,
    /// When it was made (RFC 3339), if that is to be noted.
    pub created: Option<String>,
    /// Takes the name from another image that has it.
    pub replace: bool,
    /// Bounds on what the root file system may need.
    pub limits: Limits,
}

/// An image that is complete in the session.
pub(crate) struct Prepared {
    pub(crate) manifest: Descriptor,
    pub(crate) names: Vec<Reference>,
    /// The digests of the uncompressed layers, the lowest first.
    pub(crate) diff_ids: Vec<Digest>,
    /// `repository@digest` where it was pulled from.
    pub(crate) pulled: Vec<Reference>,
}

impl Store {
    /// Loads all images of `source`, an OCI image layout or a docker archive, each a directory or a tar file.
    ///
    /// Layers may be uncompressed, gzip or zstd. A tar file that is itself compressed (or a pipe) is first written out
    /// beside the store; everything else is read once. All images become visible together, or none does.
    ///
    /// Pods use loaded images with the pull policy `IfNotPresent` or `Never`.
    ///
    /// # Errors
    ///
    /// Any [`Error`]; the store is then as it was before.
    pub fn load(&self, source: &Path, options: &LoadOptions) -> Result<Vec<Loaded>> {
        let session = Session::begin(&self.layout, options.limits)?;
        let files = Files::open(source, session.scratch(), options.limits)?;
        let mut prepared = if files.has("oci-layout") && files.has("index.json") {
            oci::load(&session, &files, &options.platform)?
        } else if files.has("manifest.json") {
            docker::load(&session, &files, &options.platform)?
        } else {
            return Err(Error::NotAnImage(source.to_owned()));
        };
        if let Some(name) = &options.name {
            match prepared.as_mut_slice() {
                [one] => one.names = vec![name.clone()],
                several => {
                    return Err(Error::SeveralImages { path: source.to_owned(), count: several.len() });
                }
            }
        }
        self.publish(session, prepared, options.replace)
    }

    /// Makes an image with one layer from a root file system: a tar file, compressed or not, or a directory.
    ///
    /// The files of a directory keep their owners, hard links and the extended attributes that layers may have; other
    /// file systems mounted in it are left out.
    ///
    /// # Errors
    ///
    /// Any [`Error`]; the store is then as it was before.
    pub fn import(&self, source: &Path, name: &Reference, options: &ImportOptions) -> Result<Loaded> {
        let session = Session::begin(&self.layout, options.limits)?;
        // A FIFO is welcome, so no O_NONBLOCK; the caller chose this path, not an archive.
        let file = File::options()
            .read(true)
            .custom_flags(libc::O_CLOEXEC)
            .open(source)
            .map_err(Error::file("open", source))?;
        let is_dir = file.metadata().map_err(Error::file("stat", source))?.is_dir();
        let layer = if is_dir {
            import_tree(&session, file.into(), source)?
        } else {
            session.layer(file, Expected::default())?
        };
        let mut config = options.config.clone();
        let host = Platform::host();
        for (field, default) in [(&mut config.os, host.os), (&mut config.architecture, host.architecture)] {
            if field.is_empty() {
                *field = default;
            }
        }
        let config = ConfigFile::new(&config, options.created.clone(), layer.diff_id.to_string());
        let manifest = make_manifest(&session, &to_json(&config), &[layer])?;
        let (names, diff_ids) = (vec![name.clone()], vec![layer.diff_id]);
        let prepared = vec![Prepared { manifest, names, diff_ids, pulled: Vec::new() }];
        let mut loaded = self.publish(session, prepared, options.replace)?;
        loaded.pop().ok_or_else(|| Error::NoSuchImage(name.to_string()))
    }

    /// Commits the session and gives the images their names.
    pub(crate) fn publish(
        &self,
        session: Session,
        prepared: Vec<Prepared>,
        replace: bool,
    ) -> Result<Vec<Loaded>> {
        let skipped = session.skipped();
        prepared.iter().try_for_each(|image| session.join(&image.diff_ids))?;
        let mut manifests = Vec::new();
        let name_images = || {
            let mut index = self.read_index()?;
            let mut seen = HashSet::new();
            for Prepared { manifest, names, pulled, .. } in prepared {
                if seen.insert(manifest.digest) {
                    manifests.push(manifest.digest);
                }
                index.add(manifest.clone());
                for name in names {
                    self.set_name(&mut index, &name, manifest.clone(), replace)?;
                }
                index.add_pulled(&manifest.digest, &pulled);
            }
            Ok(index)
        };
        let (index, _held) = session.commit(name_images, |index| index.write(&self.layout))?;
        manifests
            .iter()
            .map(|manifest| Ok(Loaded { image: self.image_of(&index, manifest)?, skipped }))
            .collect()
    }
}

/// Turns a directory into a tar stream in a thread of its own, and takes it in as any other.
fn import_tree(session: &Session, dir: OwnedFd, path: &Path) -> Result<Layer> {
    let (reader, writer) = std::io::pipe().map_err(Error::file("read", path))?;
    std::thread::scope(|scope| {
        let walk = scope.spawn(move || tree::write(dir, path, writer));
        let layer = session.layer(reader, Expected::default());
        // The reader is gone by now, so a walk that is not at its end fails with EPIPE instead of waiting.
        let walked = walk.join().expect("the walk does not panic");
        match (layer, walked) {
            // The walk's error is the cause of a stream that ends early; but a broken pipe is its consequence.
            (Err(error @ Error::Archive { .. }), Err(cause)) => {
                Err(if is_broken_pipe(&cause) { error } else { cause })
            }
            (Ok(_), Err(cause)) => Err(cause),
            (layer, _) => layer,
        }
    })
}

fn is_broken_pipe(error: &Error) -> bool {
    matches!(error, Error::File { source, .. } if source.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Writes configuration and manifest of an image whose layers are in the session.
fn make_manifest(session: &Session, config: &[u8], layers: &[Layer]) -> Result<Descriptor> {
    let manifest = Manifest {
        schema_version: 2,
        media_type: OCI_MANIFEST.to_owned(),
        config: Descriptor::new(OCI_CONFIG, session.document(config)?, config.len() as u64),
        layers: layers
            .iter()
            .map(|layer| {
                let media_type = format!("{OCI_LAYER}{}", layer.compression.suffix());
                Descriptor::new(&media_type, layer.blob, layer.blob_size)
            })
            .collect(),
    };
    let bytes = to_json(&manifest);
    Ok(Descriptor::new(OCI_MANIFEST, session.document(&bytes)?, bytes.len() as u64))
}

/// Checks that a configuration is for the wanted platform and has as many layers as its manifest.
pub(crate) fn check_config(
    config: &ConfigFile,
    id: &Digest,
    layers: usize,
    platform: &Platform,
) -> Result<Vec<Digest>> {
    let differs = |stated: &str, wanted: &str| !stated.is_empty() && stated != wanted;
    if differs(&config.os, &platform.os) || differs(&config.architecture, &platform.architecture) {
        let available = format!("{}/{}", config.os, config.architecture);
        return Err(Error::Platform { wanted: platform.to_string(), available });
    }
    let diff_ids = diff_ids(config, id)?;
    if diff_ids.len() != layers {
        let reason = "has another number of layers than its manifest";
        return Err(Error::Contradiction { document: id.to_string(), reason });
    }
    Ok(diff_ids)
}

#[cfg(test)]
mod tests;
