//! The mounts of a container, made in its own mount namespace.
//!
//! The root file system is the image's, and other containers may write in the volumes meanwhile. So every target is
//! found by a walk that cannot leave the root, and a mount is attached to what was found, by descriptor.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstat, major, makedev, minor, mkdirat, mknodat};
use nix::unistd::{Gid, Uid, chdir, fchdir, fchownat, pivot_root, symlinkat};
use podrun_plan::may_cover_in_proc;
use podrun_plan::model::{MountPlan, MountSource, Owner};
use podrun_sandbox::init::{PROC, ROOTFS, SCRATCH, SHM, VOLUMES};
use podrun_sandbox::mount::{self, Attributes, Filesystem, attach, attach_at, clone_tree};
use podrun_sandbox::path::{self, Walk, components, is_plain_name};
use podrun_sandbox::protocol::{DeviceNode, Failure, Stage, StartRequest};

use super::{Fds, at, failure};
use crate::volume;

/// The device nodes that every container has, by name and number.
const DEVICES: [(&str, u64, u64); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Symbolic links in /dev.
const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// The kernel's file systems of a container, by descriptor, as long as later mounts need them.
pub(super) struct System {
    pub(super) proc: OwnedFd,
    dev: OwnedFd,
}

impl System {
    /// Opens the null device that was made for this container, whatever is at that path by now.
    pub(super) fn open_null(&self) -> io::Result<OwnedFd> {
        path::open(self.dev.as_fd(), Path::new("null"), OFlag::O_RDWR, Walk::NoLinks)
    }
}

/// Attaches the root file system where init keeps a place for it.
pub(super) fn attach_root(root: BorrowedFd<'_>) -> io::Result<()> {
    attach_at(root, AT_FDCWD, &CString::new(ROOTFS)?)
}

/// Mounts /proc, /sys, /dev and what is in them.
pub(super) fn system(root: BorrowedFd<'_>, request: &StartRequest, fds: &Fds) -> Result<System, Failure> {
    let privileged = request.setup.security.privileged;
    let hardened = Attributes::NOSUID | Attributes::NODEV | Attributes::NOEXEC;
    let read_only = if privileged { hardened } else { hardened | Attributes::RDONLY };
    let stage =
        |what: &str, result: io::Result<OwnedFd>| at(Stage::SystemMounts, &format!("mount {what}"), result);

    let proc = match request.setup.namespaces.pid {
        // The caller is not in that namespace, whose /proc it would have to be to mount it.
        Owner::Pod => {
            CString::new(PROC).map_err(Into::into).and_then(|path| clone_tree(AT_FDCWD, &path, false))
        }
        Owner::Container | Owner::Host => new(c"proc", &[], hardened),
    };
    let proc = stage("/proc", mount_on(root, "/proc", proc))?;
    let sys = stage("/sys", mount_on(root, "/sys", new(c"sysfs", &[], read_only)))?;
    let cgroup = new(c"cgroup2", &[], read_only)
        .and_then(|cgroup| attach_at(cgroup.as_fd(), sys.as_fd(), c"fs/cgroup").map(|()| cgroup));
    stage("/sys/fs/cgroup", cgroup)?;
    let dev = stage("/dev", make_dev(request).and_then(|dev| mount_on(root, "/dev", Ok(dev))))?;
    let in_dev = |name: &CStr, mount: io::Result<OwnedFd>| {
        let mount = mount.and_then(|mount| attach_at(mount.as_fd(), dev.as_fd(), name).map(|()| mount));
        stage(&format!("/dev/{}", name.to_string_lossy()), mount)
    };
    let options = [(c"ptmxmode", c"0666"), (c"mode", c"0620"), (c"gid", c"5")];
    in_dev(c"pts", new(c"devpts", &options, Attributes::NOSUID | Attributes::NOEXEC))?;
    in_dev(c"shm", shm(fds))?;
    in_dev(c"mqueue", new(c"mqueue", &[], hardened))?;
    Ok(System { proc, dev })
}

fn new(kind: &CStr, options: &[(&CStr, &CStr)], attributes: Attributes) -> io::Result<OwnedFd> {
    let filesystem = Filesystem::new(kind)?;
    filesystem.set(c"source", kind)?;
    options.iter().try_for_each(|(key, value)| filesystem.set(key, value))?;
    filesystem.mount(attributes)
}

/// Attaches one of the kernel's file systems. Its place is a directory of the root itself: a symbolic link would send
/// later writes of podrun's own elsewhere.
fn mount_on(root: BorrowedFd<'_>, target: &str, mount: io::Result<OwnedFd>) -> io::Result<OwnedFd> {
    let mount = mount?;
    let target = path::make_plain_dir(root, Path::new(target)).map_err(|error| {
        let text = match error.raw_os_error() {
            Some(libc::ELOOP) => "it is a symbolic link in the image",
            Some(libc::ENOTDIR) => "it is no directory in the image",
            _ => return error,
        };
        io::Error::other(text)
    })?;
    attach(mount.as_fd(), target.as_fd())?;
    Ok(mount)
}

fn shm(fds: &Fds) -> io::Result<OwnedFd> {
    match &fds.host_shm {
        Some(shm) => shm.try_clone(),
        None => clone_tree(AT_FDCWD, &CString::new(SHM)?, false),
    }
}

/// Makes a /dev with its nodes, not attached yet.
fn make_dev(request: &StartRequest) -> io::Result<OwnedFd> {
    let options = [(c"mode", c"755"), (c"size", c"65536k")];
    let dev = new(c"tmpfs", &options, Attributes::NOSUID | Attributes::STRICTATIME)?;
    let everybody = Mode::from_bits_truncate(0o666);
    for (name, major, minor) in DEVICES {
        mknodat(&dev, name, SFlag::S_IFCHR, everybody, makedev(major, minor))?;
    }
    for (name, target) in LINKS {
        symlinkat(target, &dev, name)?;
    }
    for name in ["pts", "shm", "mqueue"] {
        mkdirat(&dev, name, Mode::from_bits_truncate(0o755))?;
    }
    for node in &request.devices {
        make_node(dev.as_fd(), node)?;
    }
    Ok(dev)
}

fn make_node(dev: BorrowedFd<'_>, node: &DeviceNode) -> io::Result<()> {
    let parts: Vec<&str> = node.path.split('/').collect();
    let Some((name, parents)) = parts.split_last().filter(|_| parts.iter().all(|part| is_plain_name(part)))
    else {
        return Err(Errno::EINVAL.into());
    };
    let parent = match parents {
        [] => dev.try_clone_to_owned()?,
        _ => path::make_plain_dir(dev, Path::new(&parents.join("/")))?,
    };
    let kind = SFlag::from_bits_truncate(node.mode & libc::S_IFMT);
    let mode = Mode::from_bits_truncate(node.mode & 0o7777);
    match mknodat(&parent, *name, kind, mode, node.rdev) {
        // One of the usual ones.
        Err(Errno::EEXIST) => return Ok(()),
        result => result?,
    }
    fchownat(
        &parent,
        *name,
        Some(Uid::from_raw(node.uid)),
        Some(Gid::from_raw(node.gid)),
        nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW,
    )?;
    Ok(fchmodat(&parent, *name, mode, FchmodatFlags::FollowSymlink)?)
}

/// Mounts volumes and files: parents before what is below them, otherwise in the order of the plan.
///
/// What a mount covers in /proc could hide from podrun what the kernel says, or lead its own writes elsewhere. So
/// nothing there is covered but the files that the plan knows to be harmless, whatever links an image has to it.
pub(super) fn volumes(
    root: BorrowedFd<'_>,
    request: &StartRequest,
    fds: &Fds,
    system: &System,
) -> Result<(), Failure> {
    let proc = at(Stage::Mounts, "look at /proc", fstat(&system.proc).map_err(io::Error::from))?.st_dev;
    for index in order(&request.setup.mounts) {
        let plan = &request.setup.mounts[index];
        let what =
            || format!("mount volume {:?} at {:?}", plan.volume.as_deref().unwrap_or("files"), plan.target);
        if components(&plan.target).next().is_none() {
            return Err(failure(Stage::Mounts, &what(), &io::Error::other("the target must not be /")));
        }
        let own;
        let mount = match (&fds.mounts[index], &plan.source) {
            (Some(mount), MountSource::Image { .. }) => match &plan.sub_path {
                Some(path) => {
                    own = part_of_image(mount.as_fd(), path, plan)?;
                    &own
                }
                None => mount,
            },
            (Some(mount), _) => mount,
            (None, MountSource::SandboxTmpfs(name)) => {
                own = from_sandbox(name, plan, &request.setup.name)?;
                &own
            }
            (None, MountSource::Path(_) | MountSource::Image { .. }) => {
                return Err(failure(Stage::Mounts, &what(), &Errno::EBADF.into()));
            }
        };
        let forbidden = (!may_cover_in_proc(&plan.target)).then_some(proc);
        let attached = place(root, mount.as_fd(), &plan.target, forbidden);
        at(Stage::Mounts, &what(), attached)?;
    }
    Ok(())
}

/// Returns the order in which to mount: by depth, so that no mount hides one that was made before it below its target.
/// Of equally deep ones the order of the plan stays.
fn order(mounts: &[MountPlan]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..mounts.len()).collect();
    order.sort_by_key(|index| components(&mounts[*index].target).count());
    order
}

/// Attaches a mount on what it finds or makes at `target`, unless that is on the device `forbidden`.
fn place(
    root: BorrowedFd<'_>,
    mount: BorrowedFd<'_>,
    target: &str,
    forbidden: Option<u64>,
) -> io::Result<()> {
    let is_directory = fstat(mount)?.st_mode & libc::S_IFMT == libc::S_IFDIR;
    let target = if is_directory {
        path::make_dir(root, Path::new(target), Mode::from_bits_truncate(0o755))?
    } else {
        path::make_file(root, Path::new(target))?
    };
    if forbidden == Some(fstat(&target)?.st_dev) {
        return Err(io::Error::other("the target must not be in /proc"));
    }
    attach(mount, target.as_fd())
}

/// Copies the mount of a tmpfs volume, which init has in its own root.
fn from_sandbox(name: &str, plan: &MountPlan, container: &str) -> Result<OwnedFd, Failure> {
    let open = || {
        if !is_plain_name(name) {
            return Err(Errno::EINVAL.into());
        }
        path::open(AT_FDCWD, Path::new(&format!("{VOLUMES}/{name}")), OFlag::O_PATH, Walk::InRoot)
    };
    let mut source = at(Stage::Mounts, &format!("find volume {name:?}"), open())?;
    if let Some(sub_path) = &plan.sub_path {
        let what = format!("failed to prepare subPath for volumeMount {name:?} of container {container:?}");
        source = at(Stage::SubPath, &what, volume::sub_path(source.as_fd(), sub_path))?;
    }
    at(Stage::Mounts, &format!("copy volume {name:?}"), volume::detach(source.as_fd(), plan))
}

/// Mounts a /proc of the caller's pid namespace where containers take theirs from.
pub(super) fn shared_proc() -> io::Result<()> {
    let proc = new(c"proc", &[], Attributes::NOSUID | Attributes::NODEV | Attributes::NOEXEC)?;
    attach_at(proc.as_fd(), AT_FDCWD, &CString::new(PROC)?)
}

/// Copies the mount of a part of an image. Links lead where they would in the image, and nothing can be made in it.
fn part_of_image(image: BorrowedFd<'_>, part: &str, plan: &MountPlan) -> Result<OwnedFd, Failure> {
    let volume = plan.volume.as_deref().unwrap_or_default();
    let what = || format!("find subPath {part:?} in the image of volume {volume:?}");
    // A detached mount cannot be copied before Linux 6.15. This namespace ends with the mount that is left at this place.
    let attached = CString::new(SCRATCH).map_err(io::Error::from);
    let attached = attached.and_then(|place| attach_at(image, AT_FDCWD, &place));
    at(Stage::Mounts, "attach the image", attached)?;
    let found = path::open(image, Path::new(part), OFlag::O_PATH, Walk::InRoot);
    let source = at(Stage::ImageSubPath, &what(), found)?;
    at(Stage::Mounts, &what(), volume::detach(source.as_fd(), plan))
}

/// Returns a detached mount of an empty directory that stays empty.
pub(super) fn empty() -> io::Result<OwnedFd> {
    let options = [(c"mode", c"755"), (c"size", c"4k"), (c"nr_inodes", c"1")];
    let attributes = Attributes::NOSUID | Attributes::NODEV | Attributes::NOEXEC | Attributes::RDONLY;
    new(c"tmpfs", &options, attributes)
}

/// Hides paths: files below the null device, directories below an empty tmpfs. Missing ones are skipped.
pub(super) fn mask(root: BorrowedFd<'_>, system: &System, paths: &[String]) -> Result<(), Failure> {
    let mut empty: Option<OwnedFd> = None;
    let null = at(Stage::MaskedPaths, "find /dev/null", null_device(system))?;
    for path in paths {
        let mut hide = || {
            let Some(target) = existing(root, path)? else { return Ok(()) };
            if fstat(&target)?.st_mode & libc::S_IFMT != libc::S_IFDIR {
                return attach(clone_tree(null.as_fd(), c"", false)?.as_fd(), target.as_fd());
            }
            // One tmpfs serves them all. Copies are taken from where it is attached: a detached mount cannot be
            // copied before Linux 6.15.
            if let Some(empty) = &empty {
                return attach(clone_tree(empty.as_fd(), c"", false)?.as_fd(), target.as_fd());
            }
            let tmpfs = self::empty()?;
            attach(tmpfs.as_fd(), target.as_fd())?;
            empty = Some(tmpfs);
            Ok(())
        };
        at(Stage::MaskedPaths, &format!("hide {path}"), hide())?;
    }
    Ok(())
}

/// Makes paths read-only, with everything that is mounted below them. Missing ones are skipped.
pub(super) fn protect(root: BorrowedFd<'_>, paths: &[String]) -> Result<(), Failure> {
    for path in paths {
        let protect = || {
            let Some(target) = existing(root, path)? else { return Ok(()) };
            let copy = clone_tree(target.as_fd(), c"", true)?;
            mount::adjust(copy.as_fd(), Attributes::RDONLY, None, true)?;
            attach(copy.as_fd(), target.as_fd())
        };
        at(Stage::MaskedPaths, &format!("make {path} read-only"), protect())?;
    }
    Ok(())
}

fn existing(root: BorrowedFd<'_>, path: &str) -> io::Result<Option<OwnedFd>> {
    match path::open(root, Path::new(path), OFlag::O_PATH, Walk::NoLinks) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(None),
        result => result.map(Some),
    }
}

/// Returns the null device that was made for this container. What hides a file must be nothing else: a mask with another
/// file below it would be a way to write there.
fn null_device(system: &System) -> io::Result<OwnedFd> {
    let null = path::open(system.dev.as_fd(), Path::new("null"), OFlag::O_PATH, Walk::NoLinks)?;
    let stat = fstat(&null)?;
    let is_null =
        stat.st_mode & libc::S_IFMT == libc::S_IFCHR && (major(stat.st_rdev), minor(stat.st_rdev)) == (1, 3);
    if is_null { Ok(null) } else { Err(Errno::ENXIO.into()) }
}

/// Makes the root file system the root, and drops init's mounts.
pub(super) fn pivot(root: BorrowedFd<'_>) -> io::Result<()> {
    fchdir(root)?;
    pivot_root(".", ".")?;
    // The old root is now on top of the new one, and `.` is still the new one.
    umount2(".", MntFlags::MNT_DETACH)?;
    Ok(chdir("/")?)
}

/// Reads a file of the image that must be a regular one; nothing if it is missing.
pub(super) fn read_regular(root: BorrowedFd<'_>, path: &str, max: u64) -> io::Result<Vec<u8>> {
    use std::io::Read;
    // Without O_NONBLOCK a pipe in its place would hold us for ever.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = match path::open(root, Path::new(path), flags, Walk::InRoot) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {
            return Ok(Vec::new());
        }
        file => File::from(file?),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    if metadata.len() > max {
        return Err(Errno::EFBIG.into());
    }
    let mut content = Vec::new();
    file.take(max).read_to_end(&mut content)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use podrun_spec::model::{MountPropagation, RecursiveReadOnly};

    use super::*;

    fn at_path(target: &str) -> MountPlan {
        MountPlan {
            volume: None,
            source: MountSource::SandboxTmpfs("v".to_owned()),
            target: target.to_owned(),
            sub_path: None,
            sub_path_expr: None,
            read_only: false,
            recursive_read_only: RecursiveReadOnly::Disabled,
            propagation: MountPropagation::None,
            restricted: true,
        }
    }

    #[test]
    fn parents_are_mounted_before_what_is_below_them() {
        let table: [(&[&str], &[usize]); 4] = [
            (&["/a/b", "/a"], &[1, 0]),
            (&["/b", "/a", "/c"], &[0, 1, 2]),
            (&["/a/b/c", "//a///b/", "/x/./y", "/a"], &[3, 1, 2, 0]),
            (&[], &[]),
        ];
        for (targets, expected) in table {
            let mounts: Vec<_> = targets.iter().map(|target| at_path(target)).collect();
            assert_eq!(order(&mounts), expected, "{targets:?}");
        }
    }
}
