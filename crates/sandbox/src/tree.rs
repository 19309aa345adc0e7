//! Walks through directories that containers have filled: by descriptor, never through a link, never into a mount.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, fchmod, fchmodat, fstat, fstatat};
use nix::unistd::{Gid, UnlinkatFlags, fchown, fchownat, unlinkat};

use crate::SandboxError;

const DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// A directory on the way, and the names in it that are still to be visited.
///
/// Depth and names are the container's choice. One descriptor is held at a time, and `..` leads back up: as the tree is
/// only walked when nothing else writes in it, or not followed out of the mount, that is the directory we came from;
/// what it is is compared.
struct Level {
    id: (u64, u64),
    name: CString,
    pending: Vec<(CString, bool)>,
}

/// Removes the directory or file at `path` with everything below it. A path that does not exist is success.
///
/// # Errors
///
/// [`SandboxError::File`] for the first entry that stays, after everything that can be removed is: `EBUSY` for a mount
/// point, `EPERM` for an immutable file.
pub(crate) fn remove(path: &Path) -> Result<(), SandboxError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(SandboxError::file("remove", path)(Errno::EINVAL.into()));
    };
    let gone = |errno: &Errno| matches!(errno, Errno::ENOENT | Errno::ENOTDIR);
    let failed = |errno: Errno| SandboxError::file("remove", path)(errno.into());
    let parent = match openat(
        AT_FDCWD,
        parent,
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    ) {
        Err(errno) if gone(&errno) => return Ok(()),
        other => other.map_err(failed)?,
    };
    let mut current = match openat(&parent, name, DIRECTORY, Mode::empty()) {
        Err(Errno::ENOENT) => return Ok(()),
        // A file or a symbolic link.
        Err(Errno::ENOTDIR | Errno::ELOOP) => {
            return unlinkat(&parent, name, UnlinkatFlags::NoRemoveDir).map_err(failed);
        }
        other => other.map_err(failed)?,
    };
    let mut first_error = None;
    let mut keep = |path: PathBuf, errno: Errno| {
        first_error.get_or_insert_with(|| SandboxError::file("remove", path)(errno.into()));
    };
    let mut levels = vec![level(&current, OsStr::new(".")).map_err(failed)?];
    while let Some(top) = levels.last_mut() {
        let Some((name, is_directory)) = top.pending.pop() else {
            let Some(done) = levels.pop() else { break };
            let Some(above) = levels.last() else { break };
            current = up(&current, above.id).map_err(failed)?;
            if let Err(errno) = unlinkat(&current, done.name.as_c_str(), UnlinkatFlags::RemoveDir)
                && errno != Errno::ENOENT
            {
                keep(path_of(path, &levels, &done.name), errno);
            }
            continue;
        };
        if !is_directory {
            match unlinkat(&current, name.as_c_str(), UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => continue,
                // The type was unknown to the file system, or it is a directory by now.
                Err(Errno::EISDIR) => {}
                Err(errno) => {
                    keep(path_of(path, &levels, &name), errno);
                    continue;
                }
            }
        }
        match enter(&current, &name) {
            Ok(child) => {
                levels.push(level(&child, OsStr::from_bytes(name.to_bytes())).map_err(failed)?);
                current = child;
            }
            Err(Errno::ENOENT) => {}
            Err(Errno::ENOTDIR | Errno::ELOOP) => {
                if let Err(errno) = unlinkat(&current, name.as_c_str(), UnlinkatFlags::NoRemoveDir) {
                    keep(path_of(path, &levels, &name), errno);
                }
            }
            // A mount point: what is mounted is not ours to delete.
            Err(Errno::EXDEV) => keep(path_of(path, &levels, &name), Errno::EBUSY),
            Err(errno) => keep(path_of(path, &levels, &name), errno),
        }
    }
    match first_error {
        Some(error) => Err(error),
        None => match unlinkat(&parent, name, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(failed(errno)),
        },
    }
}

/// Gives everything at and below `path` to `group`, as the kubelet does for a volume with `fsGroup`: files become
/// readable and writable for the group, directories searchable too, and new files in them inherit the group. Links keep
/// their mode. The root goes last: with its new mode it tells that the walk was complete.
///
/// # Errors
///
/// [`SandboxError::File`] for the first entry that cannot be changed.
pub(crate) fn give_to_group(path: &Path, group: u32) -> Result<(), SandboxError> {
    let failed = |errno: Errno| SandboxError::file("give to the group", path)(errno.into());
    let group = Gid::from_raw(group);
    let mut current = openat(AT_FDCWD, path, DIRECTORY, Mode::empty()).map_err(failed)?;
    let mut levels = vec![level(&current, OsStr::new(".")).map_err(failed)?];
    while let Some(top) = levels.last_mut() {
        let Some((name, is_directory)) = top.pending.pop() else {
            give(&current, group).map_err(failed)?;
            levels.pop();
            if let Some(above) = levels.last() {
                current = up(&current, above.id).map_err(failed)?;
            }
            continue;
        };
        let entered = if is_directory { enter(&current, &name) } else { Err(Errno::ENOTDIR) };
        match entered {
            Ok(child) => {
                levels.push(level(&child, OsStr::from_bytes(name.to_bytes())).map_err(failed)?);
                current = child;
            }
            Err(Errno::ENOENT | Errno::EXDEV) => {}
            Err(Errno::ENOTDIR | Errno::ELOOP) => give_entry(&current, &name, group).map_err(failed)?,
            Err(errno) => return Err(failed(errno)),
        }
    }
    Ok(())
}

fn give(directory: &OwnedFd, group: Gid) -> nix::Result<()> {
    let stat = fstat(directory)?;
    if stat.st_gid != group.as_raw() {
        fchown(directory, None, Some(group))?;
    }
    let mode = stat.st_mode & 0o7777 | 0o2770;
    if stat.st_mode & 0o7777 == mode { Ok(()) } else { fchmod(directory, Mode::from_bits_truncate(mode)) }
}

fn give_entry(directory: &OwnedFd, name: &CStr, group: Gid) -> nix::Result<()> {
    let stat: FileStat = match fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Err(Errno::ENOENT) => return Ok(()),
        stat => stat?,
    };
    fchownat(directory, name, None, Some(group), AtFlags::AT_SYMLINK_NOFOLLOW)?;
    if stat.st_mode & libc::S_IFMT == libc::S_IFLNK {
        return Ok(());
    }
    let mode = Mode::from_bits_truncate(stat.st_mode & 0o7777 | 0o660);
    fchmodat(directory, name, mode, FchmodatFlags::NoFollowSymlink)
}

/// Enters a directory of this very mount.
fn enter(directory: &OwnedFd, name: &CStr) -> nix::Result<OwnedFd> {
    let resolve = ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_SYMLINKS;
    openat2(directory, name, OpenHow::new().flags(DIRECTORY).resolve(resolve))
}

/// Returns to the directory above, if it still is the one that was left.
fn up(directory: &OwnedFd, id: (u64, u64)) -> nix::Result<OwnedFd> {
    let above = openat(directory, "..", DIRECTORY, Mode::empty())?;
    let stat = fstat(&above)?;
    if (stat.st_dev, stat.st_ino) == id { Ok(above) } else { Err(Errno::ESTALE) }
}

fn level(directory: &OwnedFd, name: &OsStr) -> nix::Result<Level> {
    let stat = fstat(directory)?;
    // A stream of its own: reading moves the offset that copies of the descriptor share.
    let mut stream = Dir::openat(directory.as_fd(), ".", DIRECTORY, Mode::empty())?;
    let mut pending = Vec::new();
    for entry in stream.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            pending.push((name.to_owned(), matches!(entry.file_type(), None | Some(Type::Directory))));
        }
    }
    let name = CString::new(name.as_bytes()).map_err(|_| Errno::EINVAL)?;
    Ok(Level { id: (stat.st_dev, stat.st_ino), name, pending })
}

fn path_of(root: &Path, levels: &[Level], name: &CStr) -> PathBuf {
    let mut path = root.to_owned();
    for level in levels.iter().skip(1) {
        path.push(OsStr::from_bytes(level.name.to_bytes()));
    }
    path.join(OsStr::from_bytes(name.to_bytes()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use podrun_testkit::TempRoot;

    use super::*;

    #[test]
    fn everything_goes_and_links_are_not_followed() {
        let root = TempRoot::new();
        let canary = root.path().join("canary");
        fs::create_dir(&canary).expect("mkdir");
        fs::write(canary.join("precious"), "x").expect("write");
        let tree = root.path().join("tree");
        fs::create_dir_all(tree.join("a/b")).expect("mkdir");
        fs::write(tree.join("a/name\nwith newline"), "x").expect("write");
        symlink(&canary, tree.join("a/link")).expect("symlink");
        symlink("../../canary", tree.join("a/b/link")).expect("symlink");
        let mut deep = tree.clone();
        for _ in 0..300 {
            deep.push("deep");
            fs::create_dir(&deep).expect("mkdir");
        }
        remove(&tree).expect("removed");
        assert!(!tree.exists());
        assert!(canary.join("precious").exists());
        remove(&tree).expect("removing twice is fine");
        remove(&root.path().join("no/such/path")).expect("nothing there");
        root.close();
    }

    #[test]
    fn a_link_in_place_of_the_tree_is_removed_itself() {
        let root = TempRoot::new();
        let canary = root.path().join("canary");
        fs::create_dir(&canary).expect("mkdir");
        symlink(&canary, root.path().join("tree")).expect("symlink");
        remove(&root.path().join("tree")).expect("removed");
        assert!(canary.exists() && !root.path().join("tree").is_symlink());
        root.close();
    }

    #[test]
    fn the_group_gets_everything_but_what_links_lead_to() {
        podrun_testkit::require!(root);
        let root = TempRoot::new();
        let outside = root.path().join("outside");
        fs::write(&outside, "").expect("write");
        fs::set_permissions(&outside, fs::Permissions::from_mode(0o600)).expect("chmod");
        let volume = root.path().join("volume");
        fs::create_dir_all(volume.join("sub")).expect("mkdir");
        fs::write(volume.join("sub/file"), "").expect("write");
        fs::set_permissions(volume.join("sub/file"), fs::Permissions::from_mode(0o400)).expect("chmod");
        symlink(&outside, volume.join("sub/link")).expect("symlink");
        give_to_group(&volume, 4321).expect("given");
        let facts = |path: &Path| {
            let stat = fs::symlink_metadata(path).expect("there");
            (stat.gid(), stat.mode() & 0o7777)
        };
        assert_eq!(facts(&volume.join("sub/file")), (4321, 0o660));
        assert_eq!(facts(&volume.join("sub")).0, 4321);
        assert_eq!(facts(&volume.join("sub")).1 & 0o2770, 0o2770);
        assert_eq!(facts(&volume).1 & 0o2770, 0o2770);
        assert_eq!(facts(&volume.join("sub/link")).0, 4321);
        assert_eq!(facts(&outside), (0, 0o600));
        root.close();
    }
}
