//! Where things are in a store, and the locks that its processes share.
//!
//! ```text
//! version                  "1"
//! oci-layout, index.json   the store is itself an OCI image layout; names are annotations of the index
//! index.json.copy          the same again, for when a disk forgets
//! blobs/sha256/HEX         manifests, configurations and layers as they came
//! layers/HEX/diff          a layer unpacked, by the digest of its uncompressed tar ("diff id")
//! layers/HEX/layer.json    what is known about it
//! joins/HEX/diff           how directories look that layers have without saying so, by the digest of a chain of layers
//! leases/NAME              which images somebody uses
//! used/HEX                 its time is when the image with this manifest was last used
//! incoming/HEX             what a pull has of a blob so far; locked by its process, and kept if that dies
//! tmp/XXXXXX/              what a load has so far; locked by its process, so that leftovers are recognised
//! lock                     held exclusively while names change, and to begin and to clean
//! gc.lock                  held shared by whoever relies on blobs and layers, exclusively to delete some
//! ```
//!
//! `lock` is always taken before `gc.lock`, and `gc.lock` exclusively only without waiting.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::unpack::remove::remove_tree;

const VERSION: &str = "1";
pub(super) const OCI_LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// The paths of a store.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) root: PathBuf,
}

impl Layout {
    /// Makes what is missing of the tree and checks its version.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        make_dir(dir)?;
        let root = fs::canonicalize(dir).map_err(Error::file("resolve", dir))?;
        let layout = Self { root };
        for dir in ["blobs", "blobs/sha256", "layers", "joins", "leases", "used", "incoming", "tmp"] {
            make_dir(&layout.root.join(dir))?;
        }
        if !layout.check_version()? {
            let _lock = layout.lock()?;
            if !layout.check_version()? {
                layout.replace(&layout.root.join("oci-layout"), OCI_LAYOUT.as_bytes())?;
                layout.replace(&layout.root.join("version"), format!("{VERSION}\n").as_bytes())?;
            }
        }
        // Whoever has the lock may take long; leftovers can wait for the next one who opens the store.
        if let Some(_lock) = layout.try_lock()? {
            layout.clean_leftovers()?;
        }
        Ok(layout)
    }

    /// Returns whether the store has a version, which is then the one that is known here.
    fn check_version(&self) -> Result<bool> {
        let path = self.root.join("version");
        match fs::read_to_string(&path) {
            Ok(found) if found.trim() == VERSION => Ok(true),
            Ok(found) => Err(Error::StoreVersion {
                path: self.root.clone(),
                found: found.trim().chars().take(40).collect(),
                supported: VERSION,
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::file("read", &path)(error)),
        }
    }

    pub(crate) fn index(&self) -> PathBuf {
        self.root.join("index.json")
    }

    pub(crate) fn index_copy(&self) -> PathBuf {
        self.root.join("index.json.copy")
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    pub(crate) fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    pub(crate) fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// Where a blob grows that comes over a network.
    pub(crate) fn incoming(&self, digest: &Digest) -> PathBuf {
        self.root.join("incoming").join(digest.hex())
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    pub(crate) fn joins(&self) -> PathBuf {
        self.root.join("joins")
    }

    pub(crate) fn join(&self, chain: &Digest) -> PathBuf {
        self.joins().join(chain.hex())
    }

    pub(crate) fn leases(&self) -> PathBuf {
        self.root.join("leases")
    }

    pub(crate) fn used(&self) -> PathBuf {
        self.root.join("used")
    }

    pub(crate) fn layer(&self, diff_id: &Digest) -> PathBuf {
        self.layers().join(diff_id.hex())
    }

    /// Waits for the lock under which names change.
    pub(crate) fn lock(&self) -> Result<Flock<File>> {
        let path = self.root.join("lock");
        let file = open_lock(&path)?;
        flock(file, FlockArg::LockExclusive).map_err(Error::file("lock", &path))
    }

    /// Returns `None` if somebody has the lock.
    fn try_lock(&self) -> Result<Option<Flock<File>>> {
        try_exclusive(&self.root.join("lock"))
    }

    /// Waits until nobody deletes, and keeps everybody from it.
    pub(crate) fn hold(&self) -> Result<Flock<File>> {
        let path = self.root.join("gc.lock");
        let file = open_lock(&path)?;
        flock(file, FlockArg::LockShared).map_err(Error::file("lock", &path))
    }

    /// Returns `None` if somebody relies on blobs and layers at the moment.
    pub(crate) fn try_exclusive(&self) -> Result<Option<Flock<File>>> {
        try_exclusive(&self.root.join("gc.lock"))
    }

    /// Removes what processes that are gone left in `tmp`; the caller holds the lock.
    fn clean_leftovers(&self) -> Result<()> {
        let tmp = self.tmp();
        let dir = File::open(&tmp).map_err(Error::file("open", &tmp))?;
        for entry in fs::read_dir(&tmp).map_err(Error::file("read", &tmp))? {
            let entry = entry.map_err(Error::file("read", &tmp))?;
            let path = entry.path();
            // The owner holds a lock on the directory itself. A symbolic link cannot be one of ours.
            let opened =
                OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(&path);
            let owner_lives = match opened {
                Ok(dir) => matches!(flock(dir, FlockArg::LockExclusiveNonblock), Err(Errno::EWOULDBLOCK)),
                Err(_) => false,
            };
            if !owner_lives {
                let name = entry.file_name();
                remove_tree(&dir, name.as_encoded_bytes()).map_err(Error::file("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Replaces a small file so that it has either the old or the new content, also after a crash.
    pub(crate) fn replace(&self, path: &Path, content: &[u8]) -> Result<()> {
        let temporary = path.with_extension("new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(Error::file("create", &temporary))?;
        file.write_all(content).map_err(Error::file("write", &temporary))?;
        file.sync_all().map_err(Error::file("sync", &temporary))?;
        fs::rename(&temporary, path).map_err(Error::file("rename", &temporary))?;
        sync_dir(&self.root)
    }
}

pub(crate) fn sync_dir(path: &Path) -> Result<()> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(Error::file("sync", path))
}

fn open_lock(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(Error::file("open", path))
}

fn try_exclusive(path: &Path) -> Result<Option<Flock<File>>> {
    match flock(open_lock(path)?, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err(Errno::EWOULDBLOCK) => Ok(None),
        Err(error) => Err(Error::file("lock", path)(error)),
    }
}

/// flock(2) that is not disturbed by signals.
pub(super) fn flock(mut file: File, how: FlockArg) -> Result<Flock<File>, Errno> {
    loop {
        match Flock::lock(file, how) {
            Ok(lock) => return Ok(lock),
            Err((same, Errno::EINTR)) => file = same,
            Err((_, error)) => return Err(error),
        }
    }
}

/// Locks the directory of a load for as long as the returned value lives.
pub(crate) fn lock_dir(path: &Path) -> Result<Flock<File>> {
    let dir = File::open(path).map_err(Error::file("open", path))?;
    flock(dir, FlockArg::LockExclusiveNonblock).map_err(Error::file("lock", path))
}

/// Makes a directory that only its owner may enter: layers have set-id programs, which must not be reachable by path.
fn make_dir(path: &Path) -> Result<()> {
    match DirBuilder::new().recursive(true).mode(0o700).create(path) {
        Ok(()) => {}
        Err(error) => return Err(Error::file("create directory", path)(error)),
    }
    let metadata = fs::metadata(path).map_err(Error::file("stat", path))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(Error::file("chmod", path))?;
    }
    Ok(())
}
