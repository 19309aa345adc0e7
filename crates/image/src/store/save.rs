//! Writes images for other programs: OCI image layouts, as a directory or a tar file, and docker archives.
//!
//! Everything is verified while it is read, so that a damaged blob is never passed on. The same images give the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::facts::LayerFacts;
use super::layout::{OCI_LAYOUT, sync_dir};
use super::{Image, Store, no_such_image};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest::{CONTAINERD_NAME, Descriptor, DockerManifest, Index, OCI_INDEX, REF_NAME, to_json};
use crate::memory::Memory;
use crate::reference::Reference;
use crate::stream::{Hashing, decompress};

/// How archives are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ArchiveFormat {
    /// An OCI image layout in a tar file: `index.json`, and blobs as they came.
    Oci,
    /// What `docker save` writes and `docker load` reads: layers are uncompressed.
    Docker,
}

/// An image to write and the names to give it.
struct Chosen {
    image: Image,
    names: BTreeSet<Reference>,
    media_type: String,
}

impl Store {
    /// Writes images, each by name or ID, to `out` as a tar file. One that is meant by its ID is written without a name.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchImage`]; [`Error::DigestMismatch`] and [`Error::SizeMismatch`] for a blob that is damaged;
    /// [`Error::File`] with the errno of writing. What has been written then is of no use.
    pub fn save(&self, images: &[&str], format: ArchiveFormat, out: impl Write) -> Result<()> {
        let _hold = self.hold()?;
        let chosen = self.choose(images)?;
        let mut archive = Archive(tar::Builder::new(out));
        match format {
            ArchiveFormat::Oci => self.write_layout(&chosen, &mut archive)?,
            ArchiveFormat::Docker => self.write_docker(&chosen, &mut archive)?,
        }
        archive
            .0
            .into_inner()
            .and_then(|mut out| out.flush())
            .map_err(Error::file("write", Path::new("archive")))
    }

    /// Writes images as an OCI image layout into the directory `dir`, which is made and must not be there.
    ///
    /// # Errors
    ///
    /// As [`Store::save`]; [`Error::File`] with `EEXIST`.
    pub fn save_layout(&self, images: &[&str], dir: &Path) -> Result<()> {
        let _hold = self.hold()?;
        let chosen = self.choose(images)?;
        for path in [dir.to_owned(), dir.join("blobs"), dir.join("blobs/sha256")] {
            fs::create_dir(&path).map_err(Error::file("create directory", &path))?;
        }
        self.write_layout(&chosen, &mut Directory(dir))?;
        sync_dir(&dir.join("blobs/sha256")).and_then(|()| sync_dir(dir))
    }

    fn choose(&self, images: &[&str]) -> Result<Vec<Chosen>> {
        let index = self.read_index()?;
        let mut chosen: Vec<Chosen> = Vec::new();
        for what in images {
            let (found, name) = self.select(&index, what)?.ok_or_else(|| no_such_image(what))?;
            let manifest = found.manifest;
            let position = match chosen.iter().position(|one| one.image.manifest == manifest) {
                Some(position) => position,
                None => {
                    let descriptor = index.descriptor(&manifest);
                    let media_type = descriptor.map(|one| one.media_type).unwrap_or_default();
                    chosen.push(Chosen { image: self.image(found)?, names: BTreeSet::new(), media_type });
                    chosen.len() - 1
                }
            };
            chosen[position].names.extend(name);
        }
        Ok(chosen)
    }

    fn write_layout(&self, chosen: &[Chosen], target: &mut impl Target) -> Result<()> {
        let mut manifests = Vec::new();
        let mut blobs: BTreeMap<Digest, u64> = BTreeMap::new();
        for one in chosen {
            let size = self.blob_size(&one.image.manifest)?;
            let plain = Descriptor::new(&one.media_type, one.image.manifest, size);
            if one.names.is_empty() {
                manifests.push(plain.clone());
            }
            for name in &one.names {
                let mut named = plain.clone();
                // Readers differ in which they look at.
                for key in [REF_NAME, CONTAINERD_NAME] {
                    named.annotations.insert(key.to_owned(), name.to_string());
                }
                manifests.push(named);
            }
            for blob in &one.image.parts.blobs {
                blobs.insert(*blob, self.blob_size(blob)?);
            }
        }
        let index = Index { schema_version: 2, media_type: OCI_INDEX.to_owned(), manifests };
        target.document("oci-layout", OCI_LAYOUT.as_bytes())?;
        target.document("index.json", &to_json(&index))?;
        for (digest, size) in blobs {
            self.copy_blob(&digest, size, &format!("blobs/sha256/{}", digest.hex()), target)?;
        }
        Ok(())
    }

    fn write_docker(&self, chosen: &[Chosen], target: &mut impl Target) -> Result<()> {
        let mut documents = Vec::new();
        let mut layers = BTreeSet::new();
        let path_of = |diff_id: &Digest| format!("{}.tar", diff_id.hex());
        for Chosen { image, names, .. } in chosen {
            let config = format!("{}.json", image.id.hex());
            documents.push(DockerManifest {
                config: config.clone(),
                // Docker itself reads short names only in their short form.
                repo_tags: names
                    .iter()
                    .filter(|name| name.digest().is_none())
                    .map(Reference::familiar)
                    .collect(),
                layers: image.parts.layers.iter().map(path_of).collect(),
            });
            if documents[..documents.len() - 1].iter().all(|other| other.config != config) {
                self.copy_blob(&image.id, self.blob_size(&image.id)?, &config, target)?;
            }
            let manifest = self.manifest(&image.manifest)?;
            for (diff_id, blob) in image.parts.layers.iter().zip(&manifest.layers) {
                if layers.insert(*diff_id) {
                    self.copy_uncompressed(diff_id, blob, &path_of(diff_id), target)?;
                }
            }
        }
        target.document("manifest.json", &to_json(&documents))
    }

    fn blob_size(&self, digest: &Digest) -> Result<u64> {
        let path = self.layout.blob(digest);
        Ok(fs::metadata(&path).map_err(Error::file("stat", &path))?.len())
    }

    fn copy_blob(&self, digest: &Digest, size: u64, to: &str, target: &mut impl Target) -> Result<()> {
        let path = self.layout.blob(digest);
        let file = File::open(&path).map_err(Error::file("open", &path))?;
        let mut verified = Hashing::new(file, size, "bytes of blob");
        target.file(to, size, &mut verified)?;
        expect("stored blob", *digest, verified)
    }

    fn copy_uncompressed(
        &self,
        diff_id: &Digest,
        blob: &Descriptor,
        to: &str,
        target: &mut impl Target,
    ) -> Result<()> {
        let path = self.layout.blob(&blob.digest);
        let memory = Memory::default();
        let open = || -> Result<_> {
            let file = File::open(&path).map_err(Error::file("open", &path))?;
            let (_, stream) = decompress(file, &memory).map_err(|error| Error::from_reader(error, b""))?;
            Ok(Hashing::new(stream, u64::MAX, "unpacked bytes"))
        };
        // A header comes before its data and says how long that is.
        let size = match LayerFacts::read(&self.layout, diff_id).map_or(0, |facts| facts.tar_bytes) {
            0 => open()?.finish().map_err(|error| Error::from_reader(error, b""))?.1,
            known => known,
        };
        let mut verified = open()?;
        target.file(to, size, &mut verified)?;
        expect("layer after decompression", *diff_id, verified)
    }
}

/// Checks what was read to its end.
fn expect(what: &'static str, expected: Digest, verified: Hashing<impl Read>) -> Result<()> {
    let (actual, _) = verified.finish().map_err(|error| Error::from_reader(error, b""))?;
    match actual {
        Some(actual) if actual != expected => Err(Error::DigestMismatch { what, expected, actual }),
        _ => Ok(()),
    }
}

/// Where files go.
trait Target {
    /// Adds a file of exactly `size` bytes.
    fn file(&mut self, path: &str, size: u64, content: &mut dyn Read) -> Result<()>;

    fn document(&mut self, path: &str, content: &[u8]) -> Result<()> {
        self.file(path, content.len() as u64, &mut &*content)
    }
}

struct Archive<W: Write>(tar::Builder<W>);

impl<W: Write> Target for Archive<W> {
    fn file(&mut self, path: &str, size: u64, content: &mut dyn Read) -> Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(size);
        header.set_mode(0o644);
        // Of no time and nobody's, so that the same image is the same archive.
        let (uid, gid, mtime) = (0, 0, 0);
        header.set_uid(uid);
        header.set_gid(gid);
        header.set_mtime(mtime);
        let result = self.0.append_data(&mut header, path, Exactly { inner: content, left: size });
        result.map_err(|error| of_copy(error, path))
    }
}

struct Directory<'d>(&'d Path);

impl Target for Directory<'_> {
    fn file(&mut self, path: &str, size: u64, content: &mut dyn Read) -> Result<()> {
        let path = self.0.join(path);
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&path)
            .map_err(Error::file("create", &path))?;
        io::copy(&mut Exactly { inner: content, left: size }, &mut file)
            .and_then(|_| file.sync_all())
            .map_err(|error| of_copy(error, &path.to_string_lossy()))
    }
}

fn of_copy(error: io::Error, path: &str) -> Error {
    match error.downcast::<Error>() {
        Ok(ours) => ours,
        Err(error) => Error::file("write", Path::new(path))(error),
    }
}

/// Reads as many bytes as were announced; fewer are an error, and more are left to be found.
struct Exactly<'c> {
    inner: &'c mut dyn Read,
    left: u64,
}

impl Read for Exactly<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.inner.read(&mut buffer[..want])?;
        if read == 0 && want > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= read as u64;
        Ok(read)
    }
}
