//! The directories of a layer: resolving parents below the root, making them, and keeping their times.

use std::collections::HashMap;
use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat, fstatat, futimens, mkdirat, mknodat};
use nix::sys::time::TimeSpec;
use nix::unistd::{fchown, getegid, geteuid};

use super::implied::{Implied, Quota};
use super::{attributes, path, remove};
use crate::error::{Error, Refusal, Result, lossy};
use crate::limits;
use crate::protection::Protection;
use crate::sys::{self, DIRECTORY};
use crate::tar_stream::Entry;

/// The attribute of a directory that is `y` if nothing of the layers below is seen in it.
const OPAQUE: &CStr = c"trusted.overlay.opaque";
/// The attribute of a directory that was copied from a layer below, and so may have whiteouts.
const ORIGIN: &CStr = c"trusted.overlay.origin";

/// The directory that entries are put into at the moment.
struct Current {
    /// How it was found; nothing once something was removed, since the path may lead elsewhere then.
    path: Option<Vec<u8>>,
    fd: Rc<OwnedFd>,
    /// How many directories it is below the root, links followed.
    depth: u64,
    /// Its time before anything was put into it.
    mtime: TimeSpec,
    changed: bool,
}

/// The directories of a layer.
///
/// What an archive says about a directory is done at once and not remembered, whatever the number of directories: putting
/// something into one changes its time, so it gets back the time that it had as soon as the next one is opened. Archives
/// list what is in a directory one after the other.
pub(super) struct Dirs<'q> {
    root: Rc<OwnedFd>,
    root_ino: u64,
    root_is_listed: bool,
    current: Option<Current>,
    implied: Implied<'q>,
    /// Without root's powers, those that their own mode would close to us until the end, with path, depth and mode.
    closed: HashMap<u64, (Vec<u8>, u64, u32)>,
    /// An opaque directory may have whiteouts in it.
    superfluous_whiteouts: bool,
}

fn refused(entry: &Entry, source: Refusal) -> Error {
    Error::Refused { entry: lossy(&entry.path), source }
}

fn unpack(entry: &Entry, action: &'static str) -> impl Fn(Errno) -> Error {
    move |source| Error::Unpack { entry: lossy(&entry.path), action, source }
}

impl<'q> Dirs<'q> {
    pub(super) fn new(root: OwnedFd, quota: &'q Quota) -> Result<Self> {
        let failed = |action| move |source| Error::Unpack { entry: String::new(), action, source };
        let root_ino = fstat(&root).map_err(failed("stat layer root"))?.st_ino;
        attributes::set_time(&root, (0, 0)).map_err(failed("set time of layer root"))?;
        Ok(Self {
            root: Rc::new(root),
            root_ino,
            root_is_listed: false,
            current: None,
            implied: Implied::new(quota),
            closed: HashMap::new(),
            superfluous_whiteouts: false,
        })
    }

    /// Opens the directory `dir` below the root, following links within the root if `resolve` does not forbid it.
    fn open(&self, dir: &[u8], resolve: ResolveFlag) -> nix::Result<OwnedFd> {
        let always =
            ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS | ResolveFlag::RESOLVE_NO_XDEV;
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(always | resolve);
        let dir = if dir.is_empty() { b".".as_slice() } else { dir };
        if !Protection::ResolveInRoot.is_on() {
            return openat(&self.root, dir, OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty());
        }
        openat2(&self.root, dir, how)
    }

    /// Opens `dir`, and finds out how many directories it is below the root.
    fn open_and_measure(&self, dir: &[u8]) -> nix::Result<(OwnedFd, u64)> {
        // Without links that is what the path says.
        match self.open(dir, ResolveFlag::RESOLVE_NO_SYMLINKS) {
            Ok(fd) => {
                let depth = dir.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).count();
                Ok((fd, depth as u64))
            }
            Err(Errno::ELOOP) => {
                let fd = self.open(dir, ResolveFlag::empty())?;
                let depth = self.depth_of(&fd)?;
                Ok((fd, depth))
            }
            Err(error) => Err(error),
        }
    }

    fn depth_of(&self, dir: &OwnedFd) -> nix::Result<u64> {
        let mut ino = fstat(dir)?.st_ino;
        let mut above: Option<OwnedFd> = None;
        let mut depth = 0;
        // Nothing deeper was made.
        while ino != self.root_ino && depth <= limits::MAX_DEPTH {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            let next = openat(above.as_ref().unwrap_or(dir), "..", flags, Mode::empty())?;
            ino = fstat(&next)?.st_ino;
            above = Some(next);
            depth += 1;
        }
        Ok(depth)
    }

    /// Returns the directory `dir` if it exists.
    pub(super) fn existing(&mut self, dir: &[u8]) -> Result<Option<Rc<OwnedFd>>> {
        if let Some(current) = &self.current
            && current.path.as_deref() == Some(dir)
        {
            return Ok(Some(Rc::clone(&current.fd)));
        }
        let failed = |action| move |source| Error::Unpack { entry: lossy(dir), action, source };
        let (fd, depth) = match self.open_and_measure(dir) {
            Ok(opened) => opened,
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(None),
            Err(source) => return Err(failed("open directory")(source)),
        };
        // Before the time of the next one is read: it may be the same by another path.
        self.leave()?;
        let stat = fstat(&fd).map_err(failed("stat directory"))?;
        let fd = Rc::new(fd);
        self.current = Some(Current {
            path: Some(dir.to_vec()),
            fd: Rc::clone(&fd),
            depth,
            mtime: TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec),
            changed: false,
        });
        Ok(Some(fd))
    }

    /// Gives the current directory the time back that it had.
    fn leave(&mut self) -> Result<()> {
        if let Some(Current { fd, mtime, path, changed: true, .. }) = self.current.take() {
            futimens(&*fd, &mtime, &mtime).map_err(|source| Error::Unpack {
                entry: lossy(&path.unwrap_or_default()),
                action: "set time of directory",
                source,
            })?;
        }
        Ok(())
    }

    /// Returns the directory `dir` to put something into it, made with all its parents if the archive did not list it.
    pub(super) fn parent(&mut self, dir: &[u8], entry: &Entry) -> Result<Rc<OwnedFd>> {
        if self.existing(dir)?.is_none() {
            let ends = dir.iter().enumerate().filter(|&(_, &byte)| byte == b'/').map(|(index, _)| index);
            for end in ends.chain([dir.len()]) {
                // The root is there always.
                if end > 0 && self.existing(&dir[..end])?.is_none() {
                    self.imply(&dir[..end], entry)?;
                }
            }
        }
        match (self.existing(dir)?, &mut self.current) {
            (Some(fd), Some(current)) => {
                current.changed = true;
                Ok(fd)
            }
            _ => Err(unpack(entry, "open directory")(Errno::ENOENT)),
        }
    }

    /// Makes the directory `path`, which the archive has something in and does not list so far.
    fn imply(&mut self, path: &[u8], entry: &Entry) -> Result<()> {
        let (above, name) = path::split(path);
        let parent = self.parent(above, entry)?;
        let Child { fd, ino, replaced } = self.make_in(entry, &parent, name, Existing::OnlyWhiteout)?;
        // One in the place of a removed one has nothing to do with what the layers below have there.
        if !replaced {
            self.implied.insert(ino, path)?;
        }
        // A parent with the set-group-id bit would hand its group and the bit down.
        fchown(&fd, Some(geteuid()), Some(getegid())).map_err(unpack(entry, "set owner"))?;
        fchmod(&fd, Mode::from_bits_truncate(0o755)).map_err(unpack(entry, "set mode"))?;
        // The same archive is always the same tree.
        attributes::set_time(&fd, (0, 0)).map_err(unpack(entry, "set time"))
    }

    /// Makes the directory that `entry` describes, or gives an existing one its attributes; returns the number of
    /// dropped extended attributes.
    pub(super) fn make(&mut self, entry: &Entry, path: &[u8]) -> Result<u64> {
        let (parent, name) = path::split(path);
        let parent = self.parent(parent, entry)?;
        let Child { fd, ino, .. } = self.make_in(entry, &parent, name, Existing::Any)?;
        self.implied.remove(ino);
        self.describe(entry, path, &fd, ino)
    }

    /// Gives the root what the archive says about it.
    pub(super) fn set_root(&mut self, entry: &Entry) -> Result<u64> {
        self.leave()?;
        self.root_is_listed = true;
        let root = Rc::clone(&self.root);
        self.describe(entry, b"", &root, self.root_ino)
    }

    /// Gives a directory what the archive says about it, once and for all.
    fn describe(&mut self, entry: &Entry, path: &[u8], fd: &OwnedFd, ino: u64) -> Result<u64> {
        let mut mode = entry.mode;
        if mode & 0o700 != 0o700 && !geteuid().is_root() {
            let depth = self.depth_of(fd).map_err(unpack(entry, "stat directory"))?;
            self.implied.quota.spend(path)?;
            self.closed.insert(ino, (path.to_vec(), depth, mode));
            mode |= 0o700;
        }
        attributes::set_owner_and_mode(entry, fd.as_fd(), (entry.uid, entry.gid), mode)?;
        let dropped = attributes::set_xattrs(entry, fd.as_fd())?;
        attributes::set_time(fd, entry.mtime).map_err(unpack(entry, "set time"))?;
        Ok(dropped)
    }

    /// Makes the directory `name` in `parent`, the current one; what is in the way is replaced if `existing` says so.
    fn make_in(&mut self, entry: &Entry, parent: &OwnedFd, name: &[u8], existing: Existing) -> Result<Child> {
        let depth = self.current.as_ref().map_or(0, |current| current.depth) + 1;
        if depth > limits::MAX_DEPTH && Protection::DepthThroughLinks.is_on() {
            let (unit, max) = ("directories in each other", limits::MAX_DEPTH);
            return Err(Error::Limit { subject: lossy(&entry.path), unit, max });
        }
        let mut replaced = false;
        match mkdirat(parent, name, Mode::S_IRWXU) {
            Ok(()) => {}
            Err(Errno::EEXIST) => match kind_of(parent, name).map_err(unpack(entry, "stat"))? {
                SFlag::S_IFDIR if existing == Existing::Any => {
                    let fd = openat(parent, name, DIRECTORY, Mode::empty())
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
        let fd = openat(parent, name, DIRECTORY, Mode::empty()).map_err(unpack(entry, "open directory"))?;
        let ino = fstat(&fd).map_err(unpack(entry, "stat directory"))?.st_ino;
        // Inode numbers of what was removed come again.
        self.implied.remove(ino);
        self.closed.remove(&ino);
        if replaced {
            self.hide_below(entry, &fd)?;
        }
        Ok(Child { fd, ino, replaced })
    }

    /// Removes what is at `name` in `parent`.
    pub(super) fn displace(&mut self, parent: &OwnedFd, name: &[u8]) -> nix::Result<()> {
        if let Some(current) = &mut self.current {
            current.path = None;
        }
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

    /// Puts a whiteout for `name` into `dir`, the current one. Beside a directory of this layer it makes that opaque; other
    /// objects hide what is below them anyway.
    pub(super) fn whiteout(&mut self, entry: &Entry, dir: &OwnedFd, name: &[u8]) -> Result<()> {
        match mknodat(dir, name, SFlag::S_IFCHR, Mode::empty(), 0) {
            Ok(()) => self.show_whiteouts(dir).map_err(unpack(entry, "mark directory of whiteout")),
            Err(Errno::EEXIST) => {
                if kind_of(dir, name).map_err(unpack(entry, "stat"))? != SFlag::S_IFDIR {
                    return Ok(());
                }
                let fd =
                    openat(dir, name, DIRECTORY, Mode::empty()).map_err(unpack(entry, "open directory"))?;
                self.hide_below(entry, &fd)
            }
            Err(source) => Err(unpack(entry, "create whiteout")(source)),
        }
    }

    /// Sees to it that overlayfs looks for whiteouts in `dir`. It shows a directory that only one layer has as it is, with
    /// the names of whiteouts that hide nothing; but not one that looks as if it had been copied up, from where is unknown
    /// (`ovl_get_inode` in `fs/overlayfs/inode.c`). In an opaque directory there need not be any.
    fn show_whiteouts(&mut self, dir: &OwnedFd) -> nix::Result<()> {
        // The root is merged with others always.
        if self.is_root(dir)? {
            return Ok(());
        }
        if sys::xattr_is(dir.as_fd(), OPAQUE, b"y")? {
            self.superfluous_whiteouts = true;
            return Ok(());
        }
        sys::fsetxattr(dir.as_fd(), ORIGIN, b"")
    }

    /// Makes the directory `dir` opaque; false if it is the root, which cannot be.
    pub(super) fn make_opaque(&mut self, entry: &Entry, dir: &[u8]) -> Result<bool> {
        let fd = self.parent(dir, entry)?;
        if self.is_root(&fd).map_err(unpack(entry, "stat directory"))? {
            return Ok(false);
        }
        self.hide_below(entry, &fd).map(|()| true)
    }

    /// Makes an open directory opaque.
    fn hide_below(&mut self, entry: &Entry, dir: &OwnedFd) -> Result<()> {
        let failed = unpack(entry, "make directory opaque");
        sys::fsetxattr(dir.as_fd(), OPAQUE, b"y").map_err(&failed)?;
        match sys::fremovexattr(dir.as_fd(), ORIGIN) {
            // It has whiteouts.
            Ok(()) => self.superfluous_whiteouts = true,
            Err(Errno::ENODATA) => {}
            Err(error) => return Err(failed(error)),
        }
        Ok(())
    }

    /// Whether this is the layer's root, by whatever path it was found.
    fn is_root(&self, fd: &OwnedFd) -> nix::Result<bool> {
        Ok(fstat(fd)?.st_ino == self.root_ino)
    }

    /// Does what can only be done after the last entry; returns the paths of directories that the archive does not list,
    /// parents first.
    pub(super) fn finish(mut self) -> Result<Vec<Vec<u8>>> {
        self.leave()?;
        let failed = |entry: &[u8], action| {
            let entry = lossy(entry);
            move |source| Error::Unpack { entry, action, source }
        };
        if self.superfluous_whiteouts {
            let root = self.open(b"", ResolveFlag::empty()).map_err(failed(b"", "open directory"))?;
            remove_superfluous_whiteouts(root).map_err(failed(b"", "remove whiteouts"))?;
        }
        let mut closed: Vec<_> = std::mem::take(&mut self.closed).into_iter().collect();
        // The deepest first: a parent's mode may close the way to its children.
        closed.sort_unstable_by_key(|(_, (_, depth, _))| std::cmp::Reverse(*depth));
        for (ino, (path, _, mode)) in closed {
            if let Some(fd) = self.still_at(&path, ino) {
                fchmod(&fd, Mode::from_bits_truncate(mode & 0o7777)).map_err(failed(&path, "set mode"))?;
            }
        }
        let mut implied = std::mem::take(&mut self.implied.paths);
        implied.retain(|&ino, path| self.still_at(path, ino).is_some());
        let mut implied: Vec<_> = implied.into_values().collect();
        if !self.root_is_listed {
            implied.push(Vec::new());
        }
        implied.sort_unstable();
        Ok(implied)
    }

    /// Opens the directory if it was not replaced since, and its path leads nowhere else.
    fn still_at(&self, path: &[u8], ino: u64) -> Option<OwnedFd> {
        let fd = self.open(path, ResolveFlag::empty()).ok()?;
        fstat(&fd).is_ok_and(|stat| stat.st_ino == ino).then_some(fd)
    }
}

/// Removes all whiteouts in opaque directories, in `dir` and below it. It holds one descriptor per level.
fn remove_superfluous_whiteouts(dir: OwnedFd) -> nix::Result<()> {
    if sys::xattr_is(dir.as_fd(), OPAQUE, b"y")? {
        let stat = fstat(&dir)?;
        let mtime = TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec);
        remove::remove_whiteouts(&dir)?;
        futimens(&dir, &mtime, &mtime)?;
    }
    let mut dir = Dir::from_fd(dir)?;
    let at = dir.as_fd().try_clone_to_owned().map_err(|_| Errno::last())?;
    for entry in dir.iter() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(entry.file_type(), None | Some(Type::Directory)) && name != b"." && name != b".." {
            match openat(&at, name, DIRECTORY, Mode::empty()) {
                Ok(child) => remove_superfluous_whiteouts(child)?,
                // A file system that does not tell kinds.
                Err(Errno::ENOTDIR | Errno::ELOOP) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
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
