//! Mounts as descriptors: made detached, adjusted, and only then attached somewhere.
//!
//! A detached mount is in nobody's mount table. It vanishes when its last descriptor is closed, so that a supervisor
//! that dies half-way leaves no mount behind, and it can be sent over a socket to the process that attaches it.
//! See [fsopen(2)](https://man7.org/linux/man-pages/man2/fsopen.2.html) and
//! [open_tree(2)](https://man7.org/linux/man-pages/man2/open_tree.2.html).

use std::ffi::CStr;
use std::io;
use std::ops::BitOr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::sys::{self, FsConfig};

/// Attributes of a mount: `MOUNT_ATTR_*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes(u64);

impl Attributes {
    /// No attribute.
    pub const NONE: Self = Self(0);
    /// Nothing can be written through this mount.
    pub const RDONLY: Self = Self(libc::MOUNT_ATTR_RDONLY);
    /// Set-user-ID bits and file capabilities have no effect.
    pub const NOSUID: Self = Self(libc::MOUNT_ATTR_NOSUID);
    /// Device nodes cannot be opened.
    pub const NODEV: Self = Self(libc::MOUNT_ATTR_NODEV);
    /// Programs cannot be executed.
    pub const NOEXEC: Self = Self(libc::MOUNT_ATTR_NOEXEC);
    /// Access times are always updated.
    pub const STRICTATIME: Self = Self(libc::MOUNT_ATTR_STRICTATIME);

    /// Returns whether no attribute is set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for Attributes {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// How mounts and unmounts below a mount travel between its copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// Not at all.
    Private,
    /// From the original to the copy.
    Slave,
    /// Both ways.
    Shared,
}

/// A file system being configured.
#[derive(Debug)]
#[doc(alias = "fsopen")]
pub struct Filesystem {
    context: OwnedFd,
}

impl Filesystem {
    /// Starts a file system of this kind: `tmpfs`, `overlay`.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the kernel does not have it, `EPERM` without `CAP_SYS_ADMIN`.
    pub fn new(kind: &CStr) -> io::Result<Self> {
        Ok(Self { context: sys::fsopen(kind)? })
    }

    /// Sets `key=value`. The kernel takes at most 255 bytes of value.
    ///
    /// # Errors
    ///
    /// `EINVAL` for an option or value that the file system does not know or that is too long.
    pub fn set(&self, key: &CStr, value: &CStr) -> io::Result<()> {
        sys::fsconfig(self.context.as_fd(), FsConfig::String, Some(key), Some(value))
            .map_err(|e| self.explain(e))
    }

    /// Sets an option without a value.
    ///
    /// # Errors
    ///
    /// `EINVAL` for an option that the file system does not know.
    pub fn flag(&self, key: &CStr) -> io::Result<()> {
        sys::fsconfig(self.context.as_fd(), FsConfig::Flag, Some(key), None).map_err(|e| self.explain(e))
    }

    /// Creates the file system and returns a detached mount of it.
    ///
    /// # Errors
    ///
    /// Whatever the file system answers; the kernel's own words are in the error where it has said any.
    pub fn mount(self, attributes: Attributes) -> io::Result<OwnedFd> {
        sys::fsconfig(self.context.as_fd(), FsConfig::Create, None, None).map_err(|e| self.explain(e))?;
        sys::fsmount(self.context.as_fd(), attributes.0).map_err(|e| self.explain(e))
    }

    /// Adds what the kernel has logged in the context: each message is one read, `e ` before an error. An error that it
    /// has nothing to say about keeps its number.
    fn explain(&self, error: io::Error) -> io::Error {
        let mut buffer = [0; 512];
        match nix::unistd::read(&self.context, &mut buffer) {
            Ok(count) if count > 2 => {
                let message = String::from_utf8_lossy(&buffer[2..count]);
                io::Error::new(error.kind(), Explained { error, message: message.trim_end().to_owned() })
            }
            _ => error,
        }
    }
}

/// An error with the kernel's own words.
#[derive(Debug, thiserror::Error)]
#[error("{error}: {message}")]
struct Explained {
    error: io::Error,
    message: String,
}

/// Returns the error number of an error, also if words of the kernel are around it.
pub fn errno(error: &io::Error) -> Option<i32> {
    let explained = error.get_ref().and_then(|inner| inner.downcast_ref::<Explained>());
    explained.map_or_else(|| error.raw_os_error(), |explained| explained.error.raw_os_error())
}

/// Returns a detached copy of the mount at `path`, below `dir` if it is relative; with an empty path of what `dir`
/// itself is, which may be a file.
///
/// # Errors
///
/// `EINVAL` if the mount belongs to another mount namespace, `EPERM` without `CAP_SYS_ADMIN`, and those of a path walk.
#[doc(alias = "open_tree")]
pub fn clone_tree(dir: BorrowedFd<'_>, path: &CStr, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    if path.is_empty() {
        flags |= libc::AT_EMPTY_PATH.cast_unsigned();
    }
    if recursive {
        flags |= libc::AT_RECURSIVE.cast_unsigned();
    }
    sys::open_tree(dir, path, flags)
}

/// Attaches a detached mount on `target`.
///
/// # Errors
///
/// `ENOTDIR` if one of the two is a directory and the other is not, `EINVAL` if the target is in another mount
/// namespace or the mount is attached already, `ELOOP` if the target lies in the mount itself.
#[doc(alias = "move_mount")]
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    sys::move_mount(mount, target, c"", libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH)
}

/// Attaches a detached mount on the directory or file at `path` below `dir`. The last component is not followed.
///
/// # Errors
///
/// As [`attach`], and those of a path walk.
pub fn attach_at(mount: BorrowedFd<'_>, dir: BorrowedFd<'_>, path: &CStr) -> io::Result<()> {
    sys::move_mount(mount, dir, path, libc::MOVE_MOUNT_F_EMPTY_PATH)
}

/// Adds attributes to a mount, and sets its propagation if one is given.
///
/// # Errors
///
/// `EINVAL` if `mount` is not the root of a mount, `EBUSY` if a mount to become read-only has files open for writing,
/// `ENOSYS` before Linux 5.12.
#[doc(alias = "mount_setattr")]
pub fn adjust(
    mount: BorrowedFd<'_>,
    set: Attributes,
    propagation: Option<Propagation>,
    recursive: bool,
) -> io::Result<()> {
    let mut flags = libc::AT_EMPTY_PATH.cast_unsigned();
    if recursive {
        flags |= libc::AT_RECURSIVE.cast_unsigned();
    }
    let propagation = match propagation {
        None => 0,
        Some(Propagation::Private) => libc::MS_PRIVATE,
        Some(Propagation::Slave) => libc::MS_SLAVE,
        Some(Propagation::Shared) => libc::MS_SHARED,
    };
    let attr = libc::mount_attr { attr_set: set.0, attr_clr: 0, propagation, userns_fd: 0 };
    sys::mount_setattr(mount, flags, &attr)
}
