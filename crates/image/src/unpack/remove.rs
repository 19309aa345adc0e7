//! Removes a tree by descriptors, whatever its modes and links.

use std::os::fd::{AsFd, OwnedFd};

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::sys::DIRECTORY;

/// Removes `name` in `parent` and all below it; links are removed, not followed. What is absent already is fine.
///
/// It holds one descriptor per level; unpacking bounds the depth.
pub(crate) fn remove_tree(parent: impl AsFd, name: &[u8]) -> nix::Result<()> {
    let parent = parent.as_fd();
    match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(()),
        // POSIX has EPERM for a directory, Linux EISDIR.
        Err(Errno::EISDIR | Errno::EPERM) => {}
        Err(error) => return Err(error),
    }
    let opened = match Dir::openat(parent, name, DIRECTORY, Mode::empty()) {
        // Only without root's powers: a directory of ours that its own mode closes.
        Err(Errno::EACCES) => {
            fchmodat(parent, name, Mode::S_IRWXU, FchmodatFlags::FollowSymlink)?;
            Dir::openat(parent, name, DIRECTORY, Mode::empty())
        }
        other => other,
    };
    let mut dir = match opened {
        Ok(dir) => dir,
        Err(Errno::ENOENT) => return Ok(()),
        Err(error) => return Err(error),
    };
    let at = dir.as_fd().try_clone_to_owned().map_err(|_| Errno::last())?;
    // Removing while reading may make readdir(3) miss some, and names may be too many to be collected first.
    let mut removed = true;
    while std::mem::take(&mut removed) {
        for entry in dir.iter() {
            let entry = entry?;
            let child = entry.file_name().to_bytes();
            if child == b"." || child == b".." {
                continue;
            }
            removed = true;
            match unlinkat(&at, child, UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) if entry.file_type() != Some(Type::Directory) => {}
                Err(Errno::EACCES) => {
                    fchmodat(parent, name, Mode::S_IRWXU, FchmodatFlags::FollowSymlink)?;
                    remove_tree(&at, child)?;
                }
                _ => remove_tree(&at, child)?,
            }
        }
    }
    match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes the whiteouts in a directory, not below it.
pub(super) fn remove_whiteouts(at: &OwnedFd) -> nix::Result<()> {
    let mut dir = Dir::openat(at, ".", DIRECTORY, Mode::empty())?;
    // As above.
    let mut removed = true;
    while std::mem::take(&mut removed) {
        for entry in dir.iter() {
            let entry = entry?;
            if !matches!(entry.file_type(), None | Some(Type::CharacterDevice)) {
                continue;
            }
            let name = entry.file_name().to_bytes();
            let stat = match fstatat(at, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::ENOENT) => continue,
                Err(error) => return Err(error),
            };
            let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
            if kind == SFlag::S_IFCHR && stat.st_rdev == 0 {
                unlinkat(at, name, UnlinkatFlags::NoRemoveDir)?;
                removed = true;
            }
        }
    }
    Ok(())
}
