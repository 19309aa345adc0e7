//! One namespace, held by an open file.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{FsType, fstatfs};

use crate::pidfd::pid_of;
use crate::{Error, Kind, Kinds, Result, sys, threads};

/// Says that a file is one of nsfs, thus a namespace (include/uapi/linux/magic.h).
const NSFS_MAGIC: FsType = FsType(0x6e73_6673);

/// An open namespace, which lives at least as long as this.
///
/// The descriptor is close-on-exec.
#[derive(Debug)]
pub struct Namespace {
    fd: OwnedFd,
    id: NamespaceId,
}

impl Namespace {
    /// Opens the namespace of this kind that the calling thread is in.
    ///
    /// # Errors
    ///
    /// [`Error::Open`]: `ENOENT` if `/proc` is not mounted or the kernel lacks the kind.
    pub fn of_current(kind: Kind) -> Result<Self> {
        Self::open(format!("/proc/thread-self/ns/{kind}"))
    }

    /// Opens the namespace of this kind that new children of the calling thread are put into. It differs from the
    /// thread's own for [`Kind::Pid`] and [`Kind::Time`] after unshare and setns, and is the same for all others.
    ///
    /// # Errors
    ///
    /// [`Error::Open`]: also `ENOENT` for a pid namespace, made by unshare, that has no first process yet.
    #[doc(alias = "pid_for_children")]
    #[doc(alias = "time_for_children")]
    pub fn for_children_of_current(kind: Kind) -> Result<Self> {
        Self::open(format!("/proc/thread-self/ns/{}", kind.for_children_name().unwrap_or(kind.name())))
    }

    /// Opens the namespace of this kind that a process is in. The process must not have ended: a zombie has only its
    /// pid and user namespaces left.
    ///
    /// Kernels older than 6.11 need a `/proc` in which the process is visible.
    ///
    /// # Errors
    ///
    /// [`Error::OfProcess`]: `ESRCH` if the process has ended, `EACCES` or `EPERM` without the permission to inspect it
    /// (`PTRACE_MODE_READ_FSCREDS`).
    pub fn of_process(pidfd: BorrowedFd<'_>, kind: Kind) -> Result<Self> {
        let failed = |source| Error::OfProcess { kind, source };
        match sys::ioctl_fd(pidfd, pidfd_request(kind)) {
            Ok(fd) => Self::try_from(fd),
            // Both mean a kernel that does not know the request.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTTY | libc::EINVAL)) => {
                let gone = || failed(io::Error::from_raw_os_error(libc::ESRCH));
                let pid = pid_of(pidfd)?.ok_or_else(gone)?;
                let file = File::open(format!("/proc/{pid}/ns/{kind}")).map_err(failed)?;
                // The number could have been another's meanwhile, unless our process still exists now.
                sys::pidfd_send_signal(pidfd, 0).map_err(failed)?;
                Self::try_from(OwnedFd::from(file))
            }
            Err(source) => Err(failed(source)),
        }
    }

    /// Opens a namespace by path: one pinned by [`pin`](Self::pin) or by `ip netns add`, or a file of `/proc/PID/ns`.
    ///
    /// Another file is refused before it is opened for good, so that a device, a fifo or a socket at the path has no
    /// effect.
    ///
    /// # Errors
    ///
    /// [`Error::Open`]: `ENOENT` and its like; [`Error::NotNamespace`] for a file of another kind.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let open = |flags, path: &Path| File::options().read(true).custom_flags(flags).open(path);
        let failed = |source| Error::Open { path: path.to_owned(), source };
        let place = open(libc::O_PATH, path).map_err(failed)?;
        if !is_nsfs(place.as_fd())? {
            return Err(Error::NotNamespace { path: path.to_owned() });
        }
        let file = open(0, &proc_path(place.as_fd())).map_err(failed)?;
        Self::examined(file)
    }

    /// Knows the file to be one of nsfs.
    fn examined(file: File) -> Result<Self> {
        let examine = |source| Error::Examine { source };
        let nstype = sys::ioctl_number(file.as_fd(), libc::NS_GET_NSTYPE).map_err(examine)?;
        let kind = Kind::from_clone_flag(nstype).ok_or(Error::UnknownType { nstype })?;
        let metadata = file.metadata().map_err(examine)?;
        let id = NamespaceId { kind, dev: metadata.dev(), ino: metadata.ino() };
        Ok(Self { fd: file.into(), id })
    }

    /// Returns its kind.
    pub const fn kind(&self) -> Kind {
        self.id.kind
    }

    /// Returns what tells it from all other living namespaces.
    pub const fn id(&self) -> NamespaceId {
        self.id
    }

    /// Moves the calling thread into the namespace, and it alone.
    ///
    /// With [`Kind::Pid`] only children born later are in it.
    /// [`on_thread_in`](crate::on_thread_in) does it on a thread that ends afterwards.
    ///
    /// # Errors
    ///
    /// - [`Error::MultiThreaded`] for a user or time namespace if the process has other threads; for a mount namespace
    ///   if the thread shares its root and working directory with others;
    /// - [`Error::Enter`]: `EPERM` without `CAP_SYS_ADMIN` (in the owning user namespace, and for mount namespaces also
    ///   `CAP_SYS_CHROOT`); `EINVAL` for the user namespace the caller is already in, or a pid namespace that is not a
    ///   descendant of the caller's.
    #[doc(alias = "setns")]
    pub fn enter(&self) -> Result<()> {
        if matches!(self.kind(), Kind::User | Kind::Time) {
            threads::require_single_threaded(entering(self.kind()))?;
        }
        let flag = CloneFlags::from_bits_retain(self.kind().clone_flag());
        match setns(self.fd.as_fd(), flag) {
            Ok(()) => Ok(()),
            Err(errno) => {
                threads::explain_fs_sharing(errno, Kinds::only(self.kind()), entering(self.kind()))?;
                Err(Error::Enter { namespace: self.id, source: errno.into() })
            }
        }
    }

    /// Opens the user namespace that owns it, whose capabilities rule here.
    ///
    /// # Errors
    ///
    /// [`Error::Relation`]: `EPERM` if that is no descendant of the caller's own user namespace.
    #[doc(alias = "NS_GET_USERNS")]
    pub fn owner(&self) -> Result<Self> {
        self.related("owner", libc::NS_GET_USERNS)
    }

    /// Opens the parent of a user or pid namespace.
    ///
    /// # Errors
    ///
    /// [`Error::Relation`]: `EINVAL` for the kinds that have no parents, `EPERM` for the initial namespace or if the
    /// parent is out of the caller's sight.
    #[doc(alias = "NS_GET_PARENT")]
    pub fn parent(&self) -> Result<Self> {
        self.related("parent", libc::NS_GET_PARENT)
    }

    fn related(&self, relation: &'static str, request: libc::Ioctl) -> Result<Self> {
        let fd = sys::ioctl_fd(self.fd.as_fd(), request);
        fd.map_err(|source| Error::Relation { relation, namespace: self.id, source }).and_then(Self::try_from)
    }

    /// Returns another descriptor of the same namespace.
    ///
    /// # Errors
    ///
    /// [`Error::Examine`]: `EMFILE` if the caller has too many open files.
    pub fn try_clone(&self) -> Result<Self> {
        let fd = self.fd.try_clone().map_err(|source| Error::Examine { source })?;
        Ok(Self { fd, id: self.id })
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Namespace> for OwnedFd {
    fn from(namespace: Namespace) -> Self {
        namespace.fd
    }
}

impl TryFrom<OwnedFd> for Namespace {
    type Error = Error;

    /// Takes over a descriptor, for instance one received over a socket, if it is that of a namespace.
    fn try_from(fd: OwnedFd) -> Result<Self> {
        if is_nsfs(fd.as_fd())? { Self::examined(fd.into()) } else { Err(Error::NotNamespaceFd) }
    }
}

/// What tells a namespace from all others that are alive. The kernel may use the number again for a later one.
///
/// Displayed as `readlink /proc/PID/ns/net` prints it: `net:[4026531840]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespaceId {
    /// The kind.
    pub kind: Kind,
    /// The device number of nsfs.
    pub dev: u64,
    /// The inode number of the namespace.
    pub ino: u64,
}

impl fmt::Display for NamespaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:[{}]", self.kind, self.ino)
    }
}

pub(crate) fn is_nsfs(file: BorrowedFd<'_>) -> Result<bool> {
    let facts = fstatfs(file).map_err(|errno| Error::Examine { source: errno.into() })?;
    Ok(facts.filesystem_type() == NSFS_MAGIC)
}

/// Returns the path by which the calling process reaches an open file whatever its name.
pub(crate) fn proc_path(file: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

const fn entering(kind: Kind) -> &'static str {
    match kind {
        Kind::User => "entering a user namespace",
        Kind::Mnt => "entering a mount namespace",
        Kind::Time => "entering a time namespace",
        _ => "entering a namespace",
    }
}

const fn pidfd_request(kind: Kind) -> libc::Ioctl {
    match kind {
        Kind::User => libc::PIDFD_GET_USER_NAMESPACE,
        Kind::Mnt => libc::PIDFD_GET_MNT_NAMESPACE,
        Kind::Pid => libc::PIDFD_GET_PID_NAMESPACE,
        Kind::Net => libc::PIDFD_GET_NET_NAMESPACE,
        Kind::Ipc => libc::PIDFD_GET_IPC_NAMESPACE,
        Kind::Uts => libc::PIDFD_GET_UTS_NAMESPACE,
        Kind::Cgroup => libc::PIDFD_GET_CGROUP_NAMESPACE,
        Kind::Time => libc::PIDFD_GET_TIME_NAMESPACE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_print_as_the_links_of_proc() {
        let id = NamespaceId { kind: Kind::Net, dev: 4, ino: 4_026_531_840 };
        assert_eq!(id.to_string(), "net:[4026531840]");
    }

    #[test]
    fn ids_differ_by_kind_and_inode() {
        let id = NamespaceId { kind: Kind::Net, dev: 4, ino: 7 };
        assert_eq!(id, id);
        assert_ne!(id, NamespaceId { ino: 8, ..id });
        assert_ne!(id, NamespaceId { dev: 5, ..id });
    }
}
