//! Unpacks one layer into one directory, in the form that overlayfs stacks.
//!
//! Nothing here opens a path of the host: every object is made by an `*at` call relative to a directory that was
//! opened below the layer's root with openat2(2) and `RESOLVE_IN_ROOT`, so that a symbolic link in the layer, absolute
//! or with `..`, leads at most to the layer's own root. Files are only ever created (`O_EXCL`), never opened through a
//! name that the archive chose.
//!
//! # What becomes of what
//!
//! | in the archive | in the directory |
//! |---|---|
//! | file, directory, symbolic link, FIFO | the same with owner, mode (set-id bits too) and modification time |
//! | hard link | a hard link, if its target is a file, link or FIFO of this layer |
//! | `.wh.NAME` | a character device 0:0 named `NAME`, overlayfs's whiteout, unless its directory is opaque |
//! | `.wh..wh..opq` | the attribute `trusted.overlay.opaque` of its directory |
//! | `security.capability` of a file, `user.*` except `user.overlay.*` | the same |
//! | every other extended attribute | dropped and counted: `trusted.*` and `user.overlay.*` would steer overlayfs, and other `security.*` belong to the host |
//! | device below `dev/` | dropped and counted: a runtime populates `/dev` itself |
//! | device elsewhere, unknown type, path with `..` | the layer is refused |
//!
//! A later entry replaces an earlier one at the same path. A directory in place of something else hides the layers below
//! it, because the something else had hidden them. A whiteout speaks about the layers below only, so beside a file of its
//! own layer it does nothing, and beside a directory it makes it opaque.
//!
//! A parent that the archive does not list is created with mode 0755, belongs to whoever unpacks (root) and is from 1970.
//! Above layers that have the directory it should look as it does there: the store sees to that, see `store/join.rs`.

mod attributes;
mod dirs;
pub(crate) mod implied;
pub(crate) mod path;
pub(crate) mod remove;

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstatat, mknodat};
use nix::unistd::{LinkatFlags, linkat, mkfifoat, symlinkat};

use self::dirs::Dirs;
use self::implied::Quota;
use self::path::Target;
use crate::error::{Error, Refusal, Result, lossy};
use crate::limits;
use crate::protection::Protection;
use crate::tar_stream::{Entry, Kind, Source, TarReader};

/// What was left out of a layer on purpose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Skipped {
    /// Device nodes below `dev/`.
    pub devices: u64,
    /// Extended attributes that are not kept, or that the store's file system cannot hold.
    pub xattrs: u64,
}

/// What one layer was found to have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stats {
    pub(crate) entries: u64,
    /// Bytes of files, holes included.
    pub(crate) bytes: u64,
    /// The layer hides all layers below it.
    pub(crate) opaque_root: bool,
    pub(crate) skipped: Skipped,
    /// Directories that have something in them and are not listed, parents first. Their attributes are those of the
    /// layers below.
    pub(crate) implied: Vec<Vec<u8>>,
}

/// Unpacks all entries of `tar` into the empty directory `root`; files may have `max_bytes` together, and directories that
/// are not listed what is left of `quota`.
pub(crate) fn unpack<S: Source>(
    tar: &mut TarReader<S>,
    root: OwnedFd,
    max_bytes: u64,
    quota: &Quota,
) -> Result<Stats> {
    let dirs = Dirs::new(root, quota)?;
    let mut unpacker = Unpacker { dirs, stats: Stats::default(), max_bytes };
    let mut buffer = vec![0; 128 << 10];
    while let Some(entry) = tar.next()? {
        unpacker.stats.entries += 1;
        unpacker.entry(&entry, tar, &mut buffer)?;
    }
    unpacker.stats.implied = unpacker.dirs.finish()?;
    Ok(unpacker.stats)
}

struct Unpacker<'q> {
    dirs: Dirs<'q>,
    stats: Stats,
    max_bytes: u64,
}

impl Unpacker<'_> {
    fn entry<S: Source>(&mut self, entry: &Entry, tar: &mut TarReader<S>, buffer: &mut [u8]) -> Result<()> {
        let path = path::clean(&entry.path)?;
        let refused = |source| Error::Refused { entry: lossy(&entry.path), source };
        match path::classify(&path).map_err(refused)? {
            Target::Root if entry.kind == Kind::Directory => {
                self.stats.skipped.xattrs += self.dirs.set_root(entry)?;
                Ok(())
            }
            Target::Root if Protection::Root.is_on() => Err(refused(Refusal::Root)),
            Target::Root => Ok(()),
            Target::Ignored => Ok(()),
            Target::Opaque { dir } => self.opaque(entry, dir),
            Target::Whiteout { parent, name } => self.whiteout(entry, parent, name),
            Target::Object { parent, name } => match entry.kind {
                Kind::Device if path.starts_with(b"dev/") => {
                    self.stats.skipped.devices += 1;
                    Ok(())
                }
                Kind::Device if Protection::DeviceNode.is_on() => Err(refused(Refusal::DeviceNode)),
                Kind::Device => self.device(entry, parent, name),
                Kind::Directory => {
                    self.stats.skipped.xattrs += self.dirs.make(entry, &path)?;
                    Ok(())
                }
                Kind::File => self.file(entry, parent, name, tar, buffer),
                Kind::HardLink => self.hard_link(entry, parent, name),
                Kind::Symlink => self.symlink(entry, parent, name),
                Kind::Fifo => self.fifo(entry, parent, name),
            },
        }
    }

    fn file<S: Source>(
        &mut self,
        entry: &Entry,
        parent: &[u8],
        name: &[u8],
        tar: &mut TarReader<S>,
        buffer: &mut [u8],
    ) -> Result<()> {
        self.stats.bytes = self.stats.bytes.saturating_add(entry.size);
        if self.stats.bytes > self.max_bytes && Protection::FileBytes.is_on() {
            return Err(Error::Limit {
                subject: lossy(&entry.path),
                unit: "unpacked bytes",
                max: self.max_bytes,
            });
        }
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = self.create(entry, parent, name, "create file", |dir| {
            let careless = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_CLOEXEC;
            let flags = if Protection::CreateExclusively.is_on() { flags } else { careless };
            openat(dir, name, flags, Mode::from_bits_truncate(0o600))
        })?;
        let mut file = std::fs::File::from(fd);
        let write = |error: std::io::Error| Error::Unpack {
            entry: lossy(&entry.path),
            action: "write file",
            source: Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)),
        };
        let mut position = 0;
        for &(offset, length) in &entry.segments {
            if offset != position {
                std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(offset)).map_err(write)?;
            }
            let mut left = length;
            while left > 0 {
                let want = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
                let read = tar.data(&mut buffer[..want])?;
                if read == 0 {
                    break;
                }
                file.write_all(&buffer[..read]).map_err(write)?;
                left -= read as u64;
            }
            position = offset + length;
        }
        if position != entry.size {
            file.set_len(entry.size).map_err(write)?;
        }
        self.stats.skipped.xattrs += attributes::apply_to_file(entry, file.as_fd())?;
        Ok(())
    }

    fn hard_link(&mut self, entry: &Entry, parent: &[u8], name: &[u8]) -> Result<()> {
        let bad_target = || Error::Refused { entry: lossy(&entry.path), source: Refusal::HardLinkTarget };
        let target = path::clean(&entry.link)?;
        if target.is_empty() {
            return Err(bad_target());
        }
        let (target_parent, target_name) = path::split(&target);
        let target_dir = self.dirs.existing(target_parent)?.ok_or_else(bad_target)?;
        // Whiteouts are devices and must not be multiplied; directories cannot be linked.
        let stat =
            fstatat(&target_dir, target_name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(|_| bad_target())?;
        let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
        let linkable = [SFlag::S_IFREG, SFlag::S_IFLNK, SFlag::S_IFIFO].contains(&kind);
        if !linkable && Protection::HardLinkTarget.is_on() {
            return Err(bad_target());
        }
        if self.same_object(parent, name, (stat.st_dev, stat.st_ino))? {
            return Ok(());
        }
        // No AT_SYMLINK_FOLLOW: a link to a symbolic link is a link to the symbolic link itself. The header's mode
        // and owner are those of the target and are not applied again.
        self.create(entry, parent, name, "link", |dir| {
            let follow = !Protection::LinkNotFollowed.is_on();
            let flags = if follow { LinkatFlags::AT_SYMLINK_FOLLOW } else { LinkatFlags::empty() };
            linkat(&target_dir, target_name, dir, name, flags)
        })
    }

    fn symlink(&mut self, entry: &Entry, parent: &[u8], name: &[u8]) -> Result<()> {
        if entry.link.len() as u64 > limits::MAX_PATH_BYTES {
            let (unit, max) = ("bytes of link target", limits::MAX_PATH_BYTES);
            return Err(Error::Limit { subject: lossy(&entry.path), unit, max });
        }
        if entry.link.contains(&0) || entry.link.is_empty() {
            let source = if entry.link.is_empty() { Refusal::EmptyPath } else { Refusal::Nul };
            return Err(Error::Refused { entry: lossy(&entry.path), source });
        }
        let dir = self.dirs.parent(parent, entry)?;
        self.create_in(&dir, entry, name, "create symbolic link", |dir| symlinkat(&*entry.link, dir, name))?;
        self.stats.skipped.xattrs += attributes::apply_by_name(entry, &dir, name)?;
        Ok(())
    }

    fn fifo(&mut self, entry: &Entry, parent: &[u8], name: &[u8]) -> Result<()> {
        let dir = self.dirs.parent(parent, entry)?;
        self.create_in(&dir, entry, name, "create FIFO", |dir| {
            mkfifoat(dir, name, Mode::from_bits_truncate(0o600))
        })?;
        self.stats.skipped.xattrs += attributes::apply_by_name(entry, &dir, name)?;
        Ok(())
    }

    /// Makes a device node, which only a test does that wants to see what was prevented.
    fn device(&mut self, entry: &Entry, parent: &[u8], name: &[u8]) -> Result<()> {
        self.create(entry, parent, name, "create device", |dir| {
            mknodat(dir, name, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), libc::makedev(1, 3))
        })
    }

    fn whiteout(&mut self, entry: &Entry, parent: &[u8], name: &[u8]) -> Result<()> {
        // Some writers remove what is below a removed directory too; there is nothing left to hide.
        if self.dirs.is_hidden(parent)? {
            return Ok(());
        }
        let dir = self.dirs.parent(parent, entry)?;
        self.dirs.whiteout(entry, &dir, name)
    }

    fn opaque(&mut self, entry: &Entry, dir: &[u8]) -> Result<()> {
        if self.dirs.is_hidden(dir)? {
            return Ok(());
        }
        // overlayfs merges the roots of all layers whatever their attributes, so the store has to leave the layers below
        // this one out.
        self.stats.opaque_root |= !self.dirs.make_opaque(entry, dir)?;
        Ok(())
    }

    /// Whether `name` in `parent` is the object with this device and inode number already.
    fn same_object(&mut self, parent: &[u8], name: &[u8], object: (u64, u64)) -> Result<bool> {
        let Some(dir) = self.dirs.existing(parent)? else { return Ok(false) };
        let stat = fstatat(&dir, name, AtFlags::AT_SYMLINK_NOFOLLOW);
        Ok(stat.is_ok_and(|stat| (stat.st_dev, stat.st_ino) == object))
    }

    /// Runs `make` in the directory `parent`, see [`Self::create_in`].
    fn create<T>(
        &mut self,
        entry: &Entry,
        parent: &[u8],
        name: &[u8],
        action: &'static str,
        make: impl Fn(BorrowedFd<'_>) -> nix::Result<T>,
    ) -> Result<T> {
        let dir = self.dirs.parent(parent, entry)?;
        self.create_in(&dir, entry, name, action, make)
    }

    /// Runs `make` in an open directory; if something is there already, removes it first. What is removed may be a part of
    /// the path that the directory was found by, so that path means nothing afterwards.
    fn create_in<T>(
        &mut self,
        dir: &OwnedFd,
        entry: &Entry,
        name: &[u8],
        action: &'static str,
        make: impl Fn(BorrowedFd<'_>) -> nix::Result<T>,
    ) -> Result<T> {
        let unpack = |source| Error::Unpack { entry: lossy(&entry.path), action, source };
        match make(dir.as_fd()) {
            Err(Errno::EEXIST) => {
                self.dirs.displace(dir, name).map_err(unpack)?;
                make(dir.as_fd()).map_err(unpack)
            }
            other => other.map_err(unpack),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
