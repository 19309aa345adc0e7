//! From a volume to the detached mount that a container gets.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fstat, mkdirat};
use podrun_plan::model::{MountPlan, MountSource};
use podrun_sandbox::mount::{Attributes, Propagation, adjust, clone_tree};
use podrun_sandbox::path::{Walk, open};
use podrun_spec::model::{MountPropagation, RecursiveReadOnly};

/// Opens the sub path of a volume. What is missing of it is made, as directories with the mode of the volume.
///
/// # Errors
///
/// `EXDEV` if the path or a link in it leads out of the volume, `EINVAL` for `..`.
pub(crate) fn sub_path(volume: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    let path = Path::new(path);
    if !path.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir)) {
        return Err(Errno::EINVAL.into());
    }
    let found = open(volume, path, OFlag::O_PATH, Walk::Beneath);
    if found.as_ref().err().and_then(io::Error::raw_os_error) != Some(libc::ENOENT) {
        return found;
    }
    let mode = Mode::from_bits_truncate(fstat(volume)?.st_mode & 0o777);
    make_beneath(volume, path, mode)
}

fn make_beneath(volume: BorrowedFd<'_>, path: &Path, mode: Mode) -> io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    match open(volume, path, flags, Walk::Beneath) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
        result => return result,
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::ENOENT.into());
    };
    let parent = make_beneath(volume, parent, mode)?;
    match mkdirat(&parent, name, mode) {
        Ok(()) => {
            // The umask must not take bits that the volume has.
            let made =
                open(parent.as_fd(), Path::new(name), OFlag::O_RDONLY | OFlag::O_DIRECTORY, Walk::NoLinks)?;
            nix::sys::stat::fchmod(&made, mode)?;
        }
        // Made by another container meanwhile, or a dangling link, which the walk below refuses.
        Err(Errno::EEXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    open(volume, path, flags, Walk::Beneath)
}

/// Returns a detached copy of the mount at `source`, with the attributes and the propagation of the plan.
pub(crate) fn detach(source: BorrowedFd<'_>, plan: &MountPlan) -> io::Result<OwnedFd> {
    let mount = clone_tree(source, c"", true)?;
    dress(mount.as_fd(), plan)?;
    Ok(mount)
}

/// Gives a detached mount the attributes and the propagation of the plan.
pub(crate) fn dress(mount: BorrowedFd<'_>, plan: &MountPlan) -> io::Result<()> {
    let propagation = match plan.propagation {
        MountPropagation::None => Propagation::Private,
        MountPropagation::HostToContainer => Propagation::Slave,
        MountPropagation::Bidirectional => Propagation::Shared,
    };
    let mut all = Attributes::NONE;
    if plan.restricted {
        all = all | Attributes::NOSUID | Attributes::NODEV;
    }
    if matches!(plan.source, MountSource::Image { .. }) {
        all = all | Attributes::NOEXEC;
    }
    let recursive = plan.recursive_read_only != RecursiveReadOnly::Disabled;
    if plan.read_only && recursive {
        all = all | Attributes::RDONLY;
    }
    adjust(mount, all, Some(propagation), true)?;
    if plan.read_only && !recursive {
        adjust(mount, Attributes::RDONLY, None, false)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use podrun_testkit::TempRoot;

    use super::*;

    #[test]
    fn sub_paths_stay_in_the_volume() {
        let root = TempRoot::new();
        let volume = root.path().join("volume");
        fs::create_dir_all(volume.join("dir")).expect("mkdir");
        fs::write(volume.join("file"), "").expect("write");
        symlink("dir", volume.join("inside")).expect("symlink");
        symlink("/etc", volume.join("absolute")).expect("symlink");
        symlink("..", volume.join("up")).expect("symlink");
        symlink("../outside", volume.join("dangling")).expect("symlink");
        symlink("/proc/self/root", volume.join("magic")).expect("symlink");
        let dir = File::open(&volume).expect("open");
        let table = [
            ("dir", None),
            ("dir/", None),
            ("./dir", None),
            ("file", None),
            ("inside", None),
            ("inside/new/er", None),
            ("made/by/us", None),
            ("absolute", Some(libc::EXDEV)),
            ("absolute/passwd", Some(libc::EXDEV)),
            ("up/volume", Some(libc::EXDEV)),
            ("up/new", Some(libc::EXDEV)),
            ("dangling", Some(libc::EXDEV)),
            ("dangling/x", Some(libc::EXDEV)),
            ("magic", Some(libc::EXDEV)),
            ("../volume", Some(libc::EINVAL)),
            ("dir/../../x", Some(libc::EINVAL)),
            ("/dir", Some(libc::EINVAL)),
            ("file/x", Some(libc::ENOTDIR)),
        ];
        for (path, expected) in table {
            let errno = sub_path(dir.as_fd(), path).err().and_then(|error| error.raw_os_error());
            assert_eq!(errno, expected, "{path}");
        }
        assert!(!root.path().join("outside").exists(), "nothing was made outside");
        root.close();
    }

    #[test]
    fn what_is_made_has_the_mode_of_the_volume() {
        let root = TempRoot::new();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o777)).expect("chmod");
        let dir = File::open(root.path()).expect("open");
        sub_path(dir.as_fd(), "a/b").expect("made");
        for path in ["a", "a/b"] {
            let mode = fs::metadata(root.path().join(path)).expect("there").mode();
            assert_eq!(mode & 0o7777, 0o777, "{path}");
        }
        root.close();
    }
}
