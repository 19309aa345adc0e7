//! Who uses which images.
//!
//! A container's layers must stay while it lives, also when the process is dead that started it. So whoever starts one
//! takes a lease first, in a name of its own: a file that lasts until the name's owner gives it back. A lease of before the
//! machine's last start counts nothing, since nothing can be mounted from then.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::SystemTime;

use nix::fcntl::Flock;
use serde::{Deserialize, Serialize};

use super::layout::Layout;
use super::{Image, Parts, Store};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest::{from_json, to_json};

/// Bytes that a name of a user may have.
const MAX_USER: usize = 200;
/// The end of the name of a lease that is being written.
const UNFINISHED: &str = ".new";

/// Keeps blobs and layers from being deleted, by this and all other processes, while it lives.
///
/// Between [`Store::resolve`] and the lease, a removal could take layers away: hold the store.
#[derive(Debug)]
pub struct Hold {
    layout: Layout,
    _lock: Flock<File>,
}

/// Images that are in use.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lease {
    /// Who uses them.
    pub user: String,
    /// The digests of their manifests.
    pub manifests: BTreeSet<Digest>,
    pub(super) parts: Vec<Parts>,
}

#[derive(Serialize, Deserialize)]
struct LeaseFile {
    boot: String,
    images: Vec<LeasedImage>,
}

#[derive(Serialize, Deserialize)]
struct LeasedImage {
    manifest: Digest,
    #[serde(flatten)]
    parts: Parts,
}

impl Hold {
    pub(super) fn new(layout: Layout, lock: Flock<File>) -> Self {
        Self { layout, _lock: lock }
    }

    /// Notes that `user` uses the image, until [`Store::release`]. Any number of images may be noted for a user.
    ///
    /// The lease survives this process and not the machine, so no disk is waited for.
    ///
    /// # Errors
    ///
    /// [`Error::User`] for a name that cannot be a file's; [`Error::File`] with `ENOSPC` and the like.
    pub fn lease(&self, user: &str, image: &Image) -> Result<()> {
        let path = path_of(&self.layout, user)?;
        let mut images = read(&path)?.map_or_else(Vec::new, |file| file.images);
        if !images.iter().any(|one| one.manifest == image.manifest) {
            images.push(LeasedImage { manifest: image.manifest, parts: image.parts.clone() });
            let unfinished = self.layout.leases().join(format!(".{user}{UNFINISHED}"));
            let content = to_json(&LeaseFile { boot: boot_id().to_owned(), images });
            OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&unfinished)
                .and_then(|mut file| file.write_all(&content))
                .map_err(Error::file("write", &unfinished))?;
            fs::rename(&unfinished, &path).map_err(Error::file("rename", &unfinished))?;
        }
        touch(&self.layout, &image.manifest)
    }
}

impl Store {
    /// Ends the use of all images by `user`; fine if there is none.
    ///
    /// # Errors
    ///
    /// [`Error::User`] for a name that cannot be a file's; [`Error::File`] with the errno of removing it.
    pub fn release(&self, user: &str) -> Result<()> {
        let path = path_of(&self.layout, user)?;
        // What a damaged one said ends with it all the same.
        if let Ok(Some(file)) = read(&path) {
            file.images.iter().try_for_each(|image| touch(&self.layout, &image.manifest))?;
        }
        remove_file(&path)
    }

    /// Returns who uses which images.
    ///
    /// # Errors
    ///
    /// [`Error::File`] if they cannot be read; [`Error::Document`] for one that is damaged.
    pub fn leases(&self) -> Result<Vec<Lease>> {
        let dir = self.layout.leases();
        let mut leases = Vec::new();
        for entry in fs::read_dir(&dir).map_err(Error::file("read", &dir))? {
            let entry = entry.map_err(Error::file("read", &dir))?;
            let Some(user) = entry.file_name().to_str().map(str::to_owned) else { continue };
            if user.starts_with('.') {
                continue;
            }
            let Some(file) = read(&entry.path())? else { continue };
            let manifests = file.images.iter().map(|image| image.manifest).collect();
            let parts = file.images.into_iter().map(|image| image.parts).collect();
            leases.push(Lease { user, manifests, parts });
        }
        leases.sort_unstable_by(|a, b| a.user.cmp(&b.user));
        Ok(leases)
    }

    /// Removes leases that count nothing any more, and unfinished ones; the caller keeps everybody else from the store.
    pub(super) fn sweep_leases(&self) -> Result<()> {
        let dir = self.layout.leases();
        for entry in fs::read_dir(&dir).map_err(Error::file("read", &dir))? {
            let entry = entry.map_err(Error::file("read", &dir))?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") || read(&entry.path())?.is_none() {
                remove_file(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Returns when the image was last used: leased, given back or loaded.
    pub(super) fn last_used(&self, manifest: &Digest) -> SystemTime {
        modified(&self.layout.used().join(manifest.hex())).max(self.loaded(manifest))
    }

    /// Returns when the image was last loaded or pulled.
    pub(super) fn loaded(&self, manifest: &Digest) -> SystemTime {
        modified(&self.layout.blob(manifest))
    }
}

fn modified(path: &Path) -> SystemTime {
    fs::metadata(path).and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Reads a lease of this boot.
fn read(path: &Path) -> Result<Option<LeaseFile>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::file("read", path)(error)),
    };
    // A lease is not waited for to reach the disk: one that was lost with the machine's power is empty or zeros.
    if bytes.iter().all(|&byte| byte == 0) {
        return Ok(None);
    }
    let file: LeaseFile = from_json(&bytes, &path.to_string_lossy())?;
    Ok((file.boot == boot_id()).then_some(file))
}

fn path_of(layout: &Layout, user: &str) -> Result<PathBuf> {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
    if user.is_empty() || user.len() > MAX_USER || user.starts_with('.') || !user.bytes().all(plain) {
        return Err(Error::User(user.chars().take(MAX_USER).collect()));
    }
    Ok(layout.leases().join(user))
}

/// Notes that an image is used now.
fn touch(layout: &Layout, manifest: &Digest) -> Result<()> {
    let path = layout.used().join(manifest.hex());
    let open = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    open.and_then(|file| file.set_modified(SystemTime::now())).map_err(Error::file("touch", &path))
}

pub(super) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::file("remove", path)(error)),
    }
}

/// Tells this run of the machine from all others; empty where there is no /proc.
fn boot_id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| {
        fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
    })
}
