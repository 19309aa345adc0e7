//! The directories of a layer: resolving parents below the root, making them, and giving them their times at the end.

use std::collections::HashMap;
use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{fchown, getegid, geteuid};

use super::{attributes, path, remove};
use crate::error::{Error, Refusal, Result, lossy};
use crate::limits;
use crate::protection::Protection;
use crate::sys;
use crate::tar_stream::Entry;

/// The attribute of a directory that is `y` if nothing of the layers below is seen in it.
const OPAQUE: &CStr = c"trusted.overlay.opaque";
/// The attribute of a directory that was copied from a layer below, and so may have whiteouts.
const ORIGIN: &CStr = c"trusted.overlay.origin";

/// A directory that was made here.
struct Made {
    /// How many directories it is below the root, links followed.
    depth: u64,
    /// The path it was made by, and the mode and time to set at the end, if the archive lists it.
    last: Option<(Vec<u8>, u32, (i64, u32))>,
}

pub(super) struct Dirs {
    root: Rc<OwnedFd>,
    /// The parent of the last entry: archives list a directory's files one after the other. Forgotten whenever
    /// something is removed, since the path may lead elsewhere then.
    cached: Option<(Vec<u8>, Rc<OwnedFd>)>,
    /// By inode number; all are on the root's file system.
    made: HashMap<u64, Made>,
    /// Those that the archive has not listed so far, by inode number, with the path they were made for.
    implied: HashMap<u64, Vec<u8>>,
    max_implied: u64,
    /// Those with a whiteout in them, by inode number, with a path.
    with_whiteouts: HashMap<u64, Vec<u8>>,
    /// Bytes of all paths that were ever put into these maps.
    path_bytes: u64,
}

fn refused(entry: &Entry, source: Refusal) -> Error {
    Error::Refused { entry: lossy(&entry.path), source }
}

fn unpack(entry: &Entry, action: &'static str) -> impl Fn(Errno) -> Error {
    move |source| Error::Unpack { entry: lossy(&entry.path), action, source }
}

impl Dirs {
    /// At most `max_implied` directories are made that the archive does not list.
    pub(super) fn new(root: OwnedFd, max_implied: u64) -> Result<Self> {
        let root_ino = fstat(&root).map_err(|source| Error::Unpack {
            entry: String::new(),
            action: "stat layer root",
            source,
        })?;
        let made = HashMap::from([(root_ino.st_ino, Made { depth: 0, last: None })]);
        Ok(Self {
            root: Rc::new(root),
            cached: None,
            made,
            implied: HashMap::new(),
            max_implied,
            with_whiteouts: HashMap::new(),
            path_bytes: 0,
        })
    }

    /// Opens the directory `dir` below the root, following links within the root.
    fn open(&self, dir: &[u8]) -> nix::Result<OwnedFd> {
        let how = OpenHow::new().flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC).resolve(
            ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS | ResolveFlag::RESOLVE_NO_XDEV,
        );
        if !Protection::ResolveInRoot.is_on() {
            return openat(&self.root, dir, OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty());
        }
        openat2(&self.root, if dir.is_empty() { b".".as_slice() } else { dir }, how)
    }

    /// Returns the directory `dir` if it exists.
    pub(super) fn existing(&mut self, dir: &[u8]) -> Result<Option<Rc<OwnedFd>>> {
        if dir.is_empty() {
            return Ok(Some(Rc::clone(&self.root)));
        }
        if let Some((cached, fd)) = &self.cached
            && cached == dir
        {
            return Ok(Some(Rc::clone(fd)));
        }
        match self.open(dir) {
            Ok(fd) => {
                let fd = Rc::new(fd);
                self.cached = Some((dir.to_vec(), Rc::clone(&fd)));
                Ok(Some(fd))
            }
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
            Err(source) => Err(Error::Unpack { entry: lossy(dir), action: "open directory", source }),
        }
    }

    /// Returns the directory `dir`, made with all its parents if the archive did not list it.
    pub(super) fn parent(&mut self, dir: &[u8], entry: &Entry) -> Result<Rc<OwnedFd>> {
        if let Some(fd) = self.existing(dir)? {
            return Ok(fd);
        }
        let mut parent = Rc::clone(&self.root);
        let ends = dir.iter().enumerate().filter(|&(_, &byte)| byte == b'/').map(|(index, _)| index);
        for end in ends.chain([dir.len()]) {
            if let Some(fd) = self.existing(&dir[..end])? {
                parent = fd;
                continue;
            }
            let name = path::split(&dir[..end]).1;
            let Child { fd, ino, replaced } = self.make_in(entry, &parent, name, Existing::OnlyWhiteout)?;
            // One in the place of a removed one has nothing to do with what the layers below have there.
            if !replaced {
                self.count(end, entry)?;
                self.implied.insert(ino, dir[..end].to_vec());
            }
            let max = self.max_implied.saturating_mul(2);
            if self.made.len() as u64 > max && Protection::ImpliedDirectories.is_on() {
                let unit = "directories";
                return Err(Error::Limit { subject: lossy(&entry.path), unit, max });
            }
            // A parent with the set-group-id bit would hand its group and the bit down.
            fchown(&fd, Some(geteuid()), Some(getegid())).map_err(unpack(entry, "set owner"))?;
            fchmod(&fd, Mode::from_bits_truncate(0o755)).map_err(unpack(entry, "set mode"))?;
            parent = Rc::new(fd);
        }
        Ok(parent)
    }

    /// Counts a path that is remembered. An archive names it in a few bytes: thousands of long ones differ in their ends.
    fn count(&mut self, length: usize, entry: &Entry) -> Result<()> {
        self.path_bytes += length as u64;
        if self.path_bytes > limits::MAX_DIRECTORY_BYTES && Protection::DirectoryBytes.is_on() {
            let (unit, max) = ("bytes of directory paths", limits::MAX_DIRECTORY_BYTES);
            return Err(Error::Limit { subject: lossy(&entry.path), unit, max });
        }
        Ok(())
    }

    /// Makes the directory that `entry` describes, or gives an existing one its attributes; returns the number of
    /// dropped extended attributes.
    pub(super) fn make(&mut self, entry: &Entry, path: &[u8]) -> Result<u64> {
        let (parent, name) = path::split(path);
        let parent = self.parent(parent, entry)?;
        let Child { fd, ino, .. } = self.make_in(entry, &parent, name, Existing::Any)?;
        self.count(path.len(), entry)?;
        let last = Some((path.to_vec(), entry.mode, entry.mtime));
        self.made.entry(ino).and_modify(|made| made.last = last);
        self.implied.remove(&ino);
        // Others' permissions are final now; the owner keeps access until the end, for unpacking without root.
        attributes::set_owner_and_mode(entry, fd.as_fd(), (entry.uid, entry.gid), entry.mode | 0o700)?;
        attributes::set_xattrs(entry, fd.as_fd())
    }

    /// Gives the root what the archive says about it.
    pub(super) fn set_root(&mut self, entry: &Entry) -> Result<u64> {
        attributes::set_owner_and_mode(entry, self.root.as_fd(), (entry.uid, entry.gid), entry.mode | 0o700)?;
        if let Some(root) = self.made.values_mut().find(|made| made.depth == 0) {
            root.last = Some((Vec::new(), entry.mode, entry.mtime));
        }
        attributes::set_xattrs(entry, self.root.as_fd())
    }

    /// Makes the directory `name` in `parent`; what is in the way is replaced if `existing` says so.
    fn make_in(&mut self, entry: &Entry, parent: &OwnedFd, name: &[u8], existing: Existing) -> Result<Child> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let parent_ino = fstat(parent).map_err(unpack(entry, "stat directory"))?.st_ino;
        let depth = self.made.get(&parent_ino).map_or(0, |made| made.depth) + 1;
        if depth > limits::MAX_DEPTH && Protection::DepthThroughLinks.is_on() {
            let (unit, max) = ("directories in each other", limits::MAX_DEPTH);
            return Err(Error::Limit { subject: lossy(&entry.path), unit, max });
        }
        let mut replaced = false;
        match mkdirat(parent, name, Mode::S_IRWXU) {
            Ok(()) => {}
            Err(Errno::EEXIST) => match kind_of(parent, name).map_err(unpack(entry, "stat"))? {
                SFlag::S_IFDIR if existing == Existing::Any => {
                    let fd = openat(parent, name, flags, Mode::empty())
                        .map_err(unpack(entry, "open directory"))?;
                    let ino = fstat(&fd).map_err(unpack(entry, "stat directory"))?.st_ino;
                    return Ok(Child { fd, ino, replaced: false });
                }
                kind if existing == Existing::Any
                    || kind == SFlag::S_IFCHR
                    || !Protection::ParentNotDirectory.is_on() =>
                {
                    self.displace(parent, name).map_err(unpack(entry, "replace"))?;
                    mkdirat(parent, name, Mode::S_IRWXU).map_err(unpack(entry, "create directory"))?;
                    replaced = true;
                }
                _ => return Err(refused(entry, Refusal::ParentNotDirectory)),
            },
            Err(source) => return Err(unpack(entry, "create directory")(source)),
        }
        let fd = openat(parent, name, flags, Mode::empty()).map_err(unpack(entry, "open directory"))?;
        let ino = fstat(&fd).map_err(unpack(entry, "stat directory"))?.st_ino;
        // Inode numbers of what was removed come again.
        self.implied.remove(&ino);
        self.with_whiteouts.remove(&ino);
        self.made.insert(ino, Made { depth, last: None });
        if replaced {
            set_opaque(entry, &fd)?;
        }
        Ok(Child { fd, ino, replaced })
    }

    /// Removes what is at `name` in `parent`.
    pub(super) fn displace(&mut self, parent: &OwnedFd, name: &[u8]) -> nix::Result<()> {
        self.cached = None;
        remove::remove_tree(parent, name)
    }

    /// Whether a parent of `dir`, or `dir` itself, is a whiteout or a file of this layer.
    pub(super) fn is_hidden(&mut self, dir: &[u8]) -> Result<bool> {
        if self.existing(dir)?.is_some() {
            return Ok(false);
        }
        let ends = dir.iter().enumerate().filter(|&(_, &byte)| byte == b'/').map(|(index, _)| index);
        for end in ends.chain([dir.len()]) {
            let (parent, name) = path::split(&dir[..end]);
            let Some(parent) = self.existing(parent)? else { return Ok(false) };
            if kind_of(&parent, name).is_ok_and(|kind| kind != SFlag::S_IFDIR && kind != SFlag::S_IFLNK) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Notes that there is a whiteout in `dir`, which is open as `fd`.
    pub(super) fn note_whiteout(&mut self, dir: &[u8], fd: &OwnedFd) -> nix::Result<()> {
        // The root is merged with others always.
        if !self.is_root(fd)? {
            self.with_whiteouts.insert(fstat(fd)?.st_ino, dir.to_vec());
        }
        Ok(())
    }

    /// Whether this is the layer's root, by whatever path it was found.
    pub(super) fn is_root(&self, fd: &OwnedFd) -> nix::Result<bool> {
        Ok(fstat(fd)?.st_ino == fstat(&self.root)?.st_ino)
    }

    /// Sees to it that whiteouts are seen by nobody. Overlayfs shows a directory that only one layer has as it is, with the
    /// names of whiteouts that hide nothing. In an opaque directory there need not be any. Others look as if they had been
    /// copied up, from where is unknown: then overlayfs looks for whiteouts (`ovl_get_inode` in `fs/overlayfs/inode.c`).
    fn conceal_whiteouts(&mut self) -> nix::Result<()> {
        for (ino, path) in std::mem::take(&mut self.with_whiteouts) {
            let Ok(fd) = self.open(&path) else { continue };
            if fstat(&fd)?.st_ino != ino {
                continue;
            }
            match sys::fgetxattr(fd.as_fd(), OPAQUE) {
                Ok(value) if value == b"y" => remove::remove_whiteouts(fd)?,
                Ok(_) | Err(Errno::ENODATA) => sys::fsetxattr(fd.as_fd(), ORIGIN, b"")?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Makes the directory `dir` opaque; false if it is the root, which cannot be.
    pub(super) fn make_opaque(&mut self, entry: &Entry, dir: &[u8]) -> Result<bool> {
        let fd = self.parent(dir, entry)?;
        if self.is_root(&fd).map_err(unpack(entry, "stat directory"))? {
            return Ok(false);
        }
        set_opaque(entry, &fd).map(|()| true)
    }

    /// Gives every directory its mode and time; earlier, unpacking its files would have changed the time.
    ///
    /// Those that the archive does not list are from 1970, so that the same archive is always the same tree; their paths
    /// are returned, parents first.
    pub(super) fn finish(mut self) -> Result<Vec<Vec<u8>>> {
        self.conceal_whiteouts().map_err(|source| {
            let entry = String::new();
            Error::Unpack { entry, action: "conceal whiteouts", source }
        })?;
        let mut implied = Vec::new();
        let mut made: Vec<_> = self.made.drain().collect();
        // The deepest first: without root's powers a parent's final mode may close the way to its children.
        made.sort_unstable_by_key(|(_, made)| std::cmp::Reverse(made.depth));
        for (ino, Made { last, depth }) in made {
            let (path, mode, mtime) = match (last, self.implied.remove(&ino)) {
                (Some(last), _) => last,
                (None, Some(path)) => {
                    implied.push(path.clone());
                    (path, 0o755, (0, 0))
                }
                (None, None) if depth == 0 => {
                    implied.push(Vec::new());
                    (Vec::new(), 0o755, (0, 0))
                }
                (None, None) => continue,
            };
            // A directory that was replaced since, or whose path leads elsewhere now, keeps what it has.
            let Ok(fd) = self.open(&path) else {
                implied.pop_if(|last| *last == path);
                continue;
            };
            let error = |action| {
                let entry = lossy(&path);
                move |source| Error::Unpack { entry, action, source }
            };
            if fstat(&fd).map_err(error("stat directory"))?.st_ino == ino {
                attributes::finish_directory(&fd, mode, mtime)
                    .map_err(error("set mode and time of directory"))?;
            } else {
                implied.pop_if(|last| *last == path);
            }
        }
        implied.sort_unstable();
        Ok(implied)
    }
}

/// A directory that was made or found.
struct Child {
    fd: OwnedFd,
    ino: u64,
    /// It took the place of something else.
    replaced: bool,
}

/// What may be replaced by a directory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Existing {
    /// Whatever there is: the archive lists the directory.
    Any,
    /// Only a whiteout: the archive merely has something in it.
    OnlyWhiteout,
}

fn kind_of(parent: &OwnedFd, name: &[u8]) -> nix::Result<SFlag> {
    let stat = fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    Ok(SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT)
}

/// Makes `name` opaque if it is a directory; other objects hide what is below them anyway.
pub(super) fn make_opaque_if_directory(entry: &Entry, parent: &OwnedFd, name: &[u8]) -> Result<()> {
    if kind_of(parent, name).map_err(unpack(entry, "stat"))? != SFlag::S_IFDIR {
        return Ok(());
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let fd = openat(parent, name, flags, Mode::empty()).map_err(unpack(entry, "open directory"))?;
    set_opaque(entry, &fd)
}

fn set_opaque(entry: &Entry, dir: &OwnedFd) -> Result<()> {
    sys::fsetxattr(dir.as_fd(), OPAQUE, b"y").map_err(unpack(entry, "make directory opaque"))
}
