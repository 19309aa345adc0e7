//! Copies a file or a directory from one root to another.
//!
//! A container changes its files while they are looked at, and wants the copy to go elsewhere. So paths that a user has
//! named are resolved below the container's root by the kernel, and from there on everything is done by name in a directory
//! that is open already, without following links.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, futimens, mkdirat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, ftruncate, symlinkat, unlinkat};

/// Directories in each other that are copied; each takes a descriptor on both sides.
const MAX_DEPTH: usize = 256;
/// To read or write, and never to wait for somebody at the other end of a FIFO.
const PLAIN: OFlag =
    OFlag::O_NOFOLLOW.union(OFlag::O_NONBLOCK).union(OFlag::O_NOCTTY).union(OFlag::O_CLOEXEC);
const DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Where something is copied from or to.
#[derive(Debug)]
pub(super) struct Side {
    /// The root of a container; none for this machine's own paths.
    root: Option<OwnedFd>,
}

/// What could not be done.
#[derive(Debug)]
pub(super) struct CopyError {
    pub(super) verb: &'static str,
    pub(super) path: PathBuf,
    pub(super) errno: Errno,
}

type Result<T> = std::result::Result<T, CopyError>;

fn failed(verb: &'static str, path: &Path) -> impl Fn(Errno) -> CopyError {
    move |errno| CopyError { verb, path: path.to_owned(), errno }
}

fn errno_of(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

impl Side {
    pub(super) const fn here() -> Self {
        Self { root: None }
    }

    /// `root` is resolved in; links in the container lead to nowhere else.
    pub(super) const fn in_container(root: OwnedFd) -> Self {
        Self { root: Some(root) }
    }

    /// Opens a path, following links.
    fn open(&self, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
        let flags = flags | OFlag::O_CLOEXEC;
        match &self.root {
            None => openat(AT_FDCWD, path, flags, Mode::empty()),
            Some(root) => {
                let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
                openat2(root, path, OpenHow::new().flags(flags).resolve(resolve))
            }
        }
    }

    /// Finds where to put something: in a directory that is there under its own name, else under the path's last name.
    fn place<'p>(
        &self,
        path: &'p Path,
        own_name: Option<&'p OsStr>,
        is_file: bool,
    ) -> Result<(OwnedFd, &'p OsStr)> {
        match (self.open(path, OFlag::O_PATH | OFlag::O_DIRECTORY), own_name) {
            (Ok(dir), Some(name)) => return Ok((dir, name)),
            (Ok(_), None) => {}
            (Err(Errno::ENOENT | Errno::ENOTDIR), _) => {}
            (Err(errno), _) => return Err(failed("open", path)(errno)),
        }
        // Somebody who says `x/` wants a directory and no file.
        let wants_directory = path.as_os_str().as_bytes().ends_with(b"/");
        let name = path.file_name().filter(|_| !(is_file && wants_directory));
        let name = name.ok_or_else(|| failed("open directory", path)(Errno::ENOENT))?;
        let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let dir = self.open(above, OFlag::O_PATH | OFlag::O_DIRECTORY);
        Ok((dir.map_err(failed("open directory", above))?, name))
    }
}

/// How to copy.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Copier {
    /// Whom copies belong to; none leaves them to the caller.
    pub(super) owner: Option<(Uid, Gid)>,
    /// Whether links are copied.
    pub(super) links: bool,
}

/// What was passed over, and what it is.
type Skipped = Vec<(PathBuf, &'static str)>;

impl Copier {
    /// Copies a file, or a directory with all that is in it.
    pub(super) fn copy(
        self,
        (from, source): (&Side, &Path),
        (to, target): (&Side, &Path),
    ) -> Result<Skipped> {
        let seen = from.open(source, OFlag::O_PATH).map_err(failed("open", source))?;
        let kind = kind_of(&fstat(&seen).map_err(failed("stat", source))?);
        let contents_only = source.as_os_str().as_bytes().ends_with(b"/.");
        let own_name = source.components().next_back().and_then(|last| match last {
            Component::Normal(name) if !contents_only => Some(name),
            _ => None,
        });
        let mut skipped = Skipped::new();
        match kind {
            SFlag::S_IFDIR => {
                let dir = from.open(source, OFlag::O_RDONLY | OFlag::O_DIRECTORY);
                let dir = dir.map_err(failed("open", source))?;
                let into = match (own_name, to.open(target, OFlag::O_RDONLY | OFlag::O_DIRECTORY)) {
                    (None, Ok(into)) => into,
                    _ => {
                        let (above, name) = to.place(target, own_name, false)?;
                        self.make_directory(&dir, &above, name, target)?
                    }
                };
                self.entries(dir, &into, source, 0, &mut skipped)?;
            }
            SFlag::S_IFREG => {
                let (above, name) = to.place(target, source.file_name(), true)?;
                let file = from.open(source, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY);
                self.file(file.map_err(failed("open", source))?, source, &above, name)?;
            }
            kind => skipped.push((source.to_owned(), word(kind))),
        }
        Ok(skipped)
    }

    /// Copies what is in a directory.
    fn entries(
        self,
        from: OwnedFd,
        to: &OwnedFd,
        path: &Path,
        depth: usize,
        skipped: &mut Skipped,
    ) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(failed("copy more than 256 directories in each other", path)(Errno::ELOOP));
        }
        let at = from.try_clone().map_err(|error| failed("open", path)(errno_of(&error)))?;
        let mut dir = Dir::from_fd(from).map_err(failed("read", path))?;
        for entry in dir.iter() {
            let entry = entry.map_err(failed("read", path))?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let path = path.join(name);
            let stat = match fstatat(&at, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                // It was removed meanwhile.
                Err(Errno::ENOENT) => continue,
                Err(errno) => return Err(failed("stat", &path)(errno)),
            };
            match kind_of(&stat) {
                SFlag::S_IFDIR => {
                    let dir = openat(&at, name, DIRECTORY, Mode::empty()).map_err(failed("open", &path))?;
                    let into = self.make_directory(&dir, to, name, &path)?;
                    self.entries(dir, &into, &path, depth + 1, skipped)?;
                }
                SFlag::S_IFREG => {
                    let file = openat(&at, name, OFlag::O_RDONLY | PLAIN, Mode::empty());
                    self.file(file.map_err(failed("open", &path))?, &path, to, name)?;
                }
                SFlag::S_IFLNK if self.links => {
                    let link = readlinkat(&at, name).map_err(failed("read link", &path))?;
                    self.link(&link, &path, to, name)?;
                }
                kind => skipped.push((path, word(kind))),
            }
        }
        Ok(())
    }

    /// Makes a directory as another one is; one that is there stays as it is.
    fn make_directory(self, like: &OwnedFd, above: &OwnedFd, name: &OsStr, path: &Path) -> Result<OwnedFd> {
        let made = match mkdirat(above, name, Mode::S_IRWXU) {
            Ok(()) => true,
            Err(Errno::EEXIST) => false,
            Err(errno) => return Err(failed("make directory", path)(errno)),
        };
        let dir = openat(above, name, DIRECTORY, Mode::empty()).map_err(failed("open directory", path))?;
        if made {
            let stat = fstat(like).map_err(failed("stat", path))?;
            self.own(&dir, path)?;
            fchmod(&dir, Mode::from_bits_truncate(stat.st_mode & 0o777))
                .map_err(failed("set mode of", path))?;
        }
        Ok(dir)
    }

    /// Copies an open file, which may be none: it was found by a name that its owner can give to something else.
    fn file(self, from: OwnedFd, path: &Path, above: &OwnedFd, name: &OsStr) -> Result<()> {
        let stat = fstat(&from).map_err(failed("stat", path))?;
        if kind_of(&stat) != SFlag::S_IFREG {
            return Err(failed("read", path)(Errno::EINVAL));
        }
        let to = create(above, name).map_err(failed("create copy of", path))?;
        let (mut from, mut to) = (File::from(from), File::from(to));
        io::copy(&mut from, &mut to).map_err(|error| failed("copy", path)(errno_of(&error)))?;
        self.own(&to, path)?;
        // Set-id bits are no part of a copy.
        fchmod(&to, Mode::from_bits_truncate(stat.st_mode & 0o777))
            .map_err(failed("set mode of copy of", path))?;
        let time = TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec);
        futimens(&to, &time, &time).map_err(failed("set time of copy of", path))
    }

    fn link(self, target: &OsStr, path: &Path, above: &OwnedFd, name: &OsStr) -> Result<()> {
        let made = match symlinkat(target, above, name) {
            Err(Errno::EEXIST) => unlinkat(above, name, UnlinkatFlags::NoRemoveDir)
                .and_then(|()| symlinkat(target, above, name)),
            other => other,
        };
        made.map_err(failed("create copy of", path))?;
        if let Some((uid, gid)) = self.owner {
            fchownat(above, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
                .map_err(failed("set owner of copy of", path))?;
        }
        Ok(())
    }

    fn own(self, copy: impl AsFd, path: &Path) -> Result<()> {
        match self.owner {
            Some((uid, gid)) => {
                fchown(copy, Some(uid), Some(gid)).map_err(failed("set owner of copy of", path))
            }
            None => Ok(()),
        }
    }
}

/// Opens a new file, or an old one to write it anew: it may be a mount, which cannot be replaced. A link is replaced.
fn create(above: &OwnedFd, name: &OsStr) -> nix::Result<OwnedFd> {
    let new = || {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | PLAIN;
        openat(above, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)
    };
    match new() {
        Err(Errno::EEXIST) => {}
        other => return other,
    }
    match openat(above, name, OFlag::O_WRONLY | PLAIN, Mode::empty()) {
        Err(Errno::ELOOP) => {
            unlinkat(above, name, UnlinkatFlags::NoRemoveDir)?;
            new()
        }
        Ok(old) if kind_of(&fstat(&old)?) != SFlag::S_IFREG => Err(Errno::EEXIST),
        Ok(old) => ftruncate(&old, 0).map(|()| old),
        Err(errno) => Err(errno),
    }
}

fn kind_of(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

fn word(kind: SFlag) -> &'static str {
    match kind {
        SFlag::S_IFLNK => "symbolic link",
        SFlag::S_IFIFO => "FIFO",
        SFlag::S_IFSOCK => "socket",
        _ => "device",
    }
}
