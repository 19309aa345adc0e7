//! Keeping a namespace alive under a path.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::namespace::{is_nsfs, proc_path};
use crate::{Error, Namespace, Result};

impl Namespace {
    /// Keeps the namespace alive under `path`, a name not yet taken, until [`unpin`] or a reboot, whatever becomes of
    /// the processes in it. [`Namespace::open`] opens it again.
    ///
    /// The path is a bind mount of the namespace file on a new empty file. If the mount it lies on is shared, the pin
    /// propagates to the peers, and so does its removal; in a mount namespace that copied it and does not receive the
    /// removal it lives on.
    ///
    /// If the process dies half-way an empty file is left, which [`unpin`] removes.
    ///
    /// # Errors
    ///
    /// [`Error::Pin`]: `EEXIST` if the name is taken, `ENOENT` if its directory is missing, `EPERM` without
    /// `CAP_SYS_ADMIN`, `EINVAL` for a mount namespace that is the caller's own or newer than the caller's: the kernel
    /// refuses loops. Nothing is left behind.
    pub fn pin(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let failed = |source: io::Error| Error::Pin { namespace: self.id(), path: path.to_owned(), source };
        let file = File::options().write(true).create_new(true).mode(0o400).open(path).map_err(failed)?;
        // Through /proc the mount lands on the very file just created, wherever the name leads by now.
        let (source, target) = (proc_path(self.as_fd()), proc_path(file.as_fd()));
        let none = None::<&str>;
        mount(Some(&source), &target, none, MsFlags::MS_BIND, none).map_err(|errno| {
            // The mount's error is the one to tell; an empty file that stays is what unpin expects.
            drop(fs::remove_file(path));
            failed(errno.into())
        })
    }
}

/// Removes what [`Namespace::pin`] made at `path`; the namespace ends if nothing else holds it. Returns whether
/// there was anything to remove: it may be repeated.
///
/// # Errors
///
/// [`Error::NotPin`] if the path holds anything but a pin or the empty file of half a pin; [`Error::Unpin`]: `EPERM`
/// without `CAP_SYS_ADMIN`.
pub fn unpin(path: impl AsRef<Path>) -> Result<bool> {
    let path = path.as_ref();
    let failed = |source: io::Error| Error::Unpin { path: path.to_owned(), source };
    // More than once if pins were stacked on the same path.
    loop {
        let place = match File::options().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path)
        {
            Ok(place) => place,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(failed(error)),
        };
        if !is_nsfs(place.as_fd())? {
            let metadata = place.metadata().map_err(failed)?;
            if !metadata.is_file() || metadata.len() > 0 {
                return Err(Error::NotPin { path: path.to_owned() });
            }
            break;
        }
        drop(place);
        umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
            .map_err(|errno| failed(errno.into()))?;
    }
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        // Somebody else has been faster.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed(error)),
    }
}
