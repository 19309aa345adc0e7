//! Owner, mode, time and extended attributes of unpacked objects.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FchmodatFlags, Mode, UtimensatFlags, fchmod, fchmodat, futimens, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat};

use crate::error::{Error, Result, lossy};
use crate::protection::Protection;
use crate::sys;
use crate::tar_stream::{Entry, Kind};

fn unpack(entry: &Entry, action: &'static str) -> impl Fn(Errno) -> Error {
    move |source| Error::Unpack { entry: lossy(&entry.path), action, source }
}

fn mode_of(mode: u32) -> Mode {
    Mode::from_bits_truncate(mode & 0o7777)
}

/// Access times are set to the modification time: archives rarely have them, and the same archive is then the same tree.
fn time_of((seconds, nanoseconds): (i64, u32)) -> TimeSpec {
    TimeSpec::new(seconds, i64::from(nanoseconds))
}

/// Owner first: chown(2) clears set-id bits and file capabilities.
pub(super) fn set_owner_and_mode(
    entry: &Entry,
    fd: BorrowedFd<'_>,
    (uid, gid): (u32, u32),
    mode: u32,
) -> Result<()> {
    fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(unpack(entry, "set owner"))?;
    fchmod(fd, mode_of(mode)).map_err(unpack(entry, "set mode"))
}

/// Applies everything to a file that was just created; returns the number of dropped extended attributes.
pub(super) fn apply_to_file(entry: &Entry, fd: BorrowedFd<'_>) -> Result<u64> {
    set_owner_and_mode(entry, fd, (entry.uid, entry.gid), entry.mode)?;
    let dropped = set_xattrs(entry, fd)?;
    set_time(fd, entry.mtime).map_err(unpack(entry, "set time"))?;
    Ok(dropped)
}

/// Applies owner, mode and time to a symbolic link or FIFO that was just created and must not be opened.
pub(super) fn apply_by_name(entry: &Entry, parent: &OwnedFd, name: &[u8]) -> Result<u64> {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    fchownat(parent, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
        .map_err(unpack(entry, "set owner"))?;
    if entry.kind == Kind::Fifo {
        // chmod has no form that refuses links on older kernels; the name was created as a FIFO just now, in a
        // directory that only this process reaches.
        fchmodat(parent, name, mode_of(entry.mode), FchmodatFlags::FollowSymlink)
            .map_err(unpack(entry, "set mode"))?;
    }
    let time = time_of(entry.mtime);
    utimensat(parent, name, &time, &time, UtimensatFlags::NoFollowSymlink)
        .map_err(unpack(entry, "set time"))?;
    Ok(entry.xattrs.len() as u64)
}

/// Sets the modification time of an open file or directory.
pub(super) fn set_time(fd: impl AsFd, mtime: (i64, u32)) -> nix::Result<()> {
    let time = time_of(mtime);
    futimens(fd, &time, &time)
}

/// Sets the extended attributes that are kept; returns the number of the others.
pub(super) fn set_xattrs(entry: &Entry, fd: BorrowedFd<'_>) -> Result<u64> {
    let mut dropped = 0;
    for (name, value) in &entry.xattrs {
        let user = match fate(name, entry.kind) {
            Fate::Drop if Protection::Attributes.is_on() => {
                dropped += 1;
                continue;
            }
            Fate::User => true,
            Fate::Capability | Fate::Drop => false,
        };
        let name = CString::new(name.as_slice()).expect("the pax reader refuses names with NUL");
        match sys::fsetxattr(fd, &name, value) {
            Ok(()) => {}
            // tmpfs has no user.* before Linux 6.6, and the space for attributes is small elsewhere; programs must
            // live without them. A lost capability would be another image.
            Err(Errno::EOPNOTSUPP | Errno::ENOSPC | Errno::E2BIG) if user => dropped += 1,
            Err(source) => return Err(unpack(entry, "set extended attribute")(source)),
        }
    }
    Ok(dropped)
}

#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Drop,
    User,
    Capability,
}

fn fate(name: &[u8], kind: Kind) -> Fate {
    match name {
        b"security.capability" if kind == Kind::File => Fate::Capability,
        name if name.starts_with(b"user.overlay.") => Fate::Drop,
        name if name.starts_with(b"user.") && matches!(kind, Kind::File | Kind::Directory) => Fate::User,
        _ => Fate::Drop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_capabilities_and_user_attributes_are_kept() {
        for (name, kind, expected) in [
            ("security.capability", Kind::File, Fate::Capability),
            ("security.capability", Kind::Directory, Fate::Drop),
            ("security.selinux", Kind::File, Fate::Drop),
            ("security.ima", Kind::File, Fate::Drop),
            ("trusted.overlay.opaque", Kind::Directory, Fate::Drop),
            ("trusted.overlay.redirect", Kind::Directory, Fate::Drop),
            ("trusted.x", Kind::File, Fate::Drop),
            ("user.overlay.opaque", Kind::Directory, Fate::Drop),
            ("user.overlay.", Kind::File, Fate::Drop),
            ("user.overlayed", Kind::File, Fate::User),
            ("user.x", Kind::Directory, Fate::User),
            ("user.x", Kind::Symlink, Fate::Drop),
            ("system.posix_acl_access", Kind::File, Fate::Drop),
            ("", Kind::File, Fate::Drop),
        ] {
            assert_eq!(fate(name.as_bytes(), kind), expected, "{name} of {kind:?}");
        }
    }
}
