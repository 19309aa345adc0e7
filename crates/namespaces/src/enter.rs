//! Moving the calling thread into several namespaces at once.

use std::os::fd::BorrowedFd;

use nix::sched::{CloneFlags, setns};

use crate::{Error, Kind, Kinds, Result, threads};

/// Moves the calling thread into the namespaces of these kinds that a process is in: all of them or none.
///
/// With [`Kind::Pid`] only children born later are in it. With [`Kind::User`] the kernel enters the user namespace
/// first, so that its capabilities count for the others.
///
/// # Errors
///
/// - [`Error::MultiThreaded`] as [`Namespace::enter`](crate::Namespace::enter);
/// - [`Error::EnterProcess`]: `EPERM` without `CAP_SYS_ADMIN` in the owning user namespaces or the permission to inspect
///   the process; `ESRCH` if it has ended; `EINVAL` for the user namespace the caller is already in, an empty set, or
///   a kernel older than 5.8.
#[doc(alias = "setns")]
pub fn enter_process(pidfd: BorrowedFd<'_>, kinds: Kinds) -> Result<()> {
    const WHAT: &str = "entering the user, mount or time namespace of a process";
    if kinds.contains(Kind::User) || kinds.contains(Kind::Time) {
        threads::require_single_threaded(WHAT)?;
    }
    setns(pidfd, CloneFlags::from_bits_retain(kinds.clone_flags())).or_else(|errno| {
        threads::explain_fs_sharing(errno, kinds, WHAT)?;
        Err(Error::EnterProcess { kinds, source: errno.into() })
    })
}

/// Moves the calling thread into new namespaces, and it alone.
///
/// - [`Kind::Pid`] and [`Kind::Time`]: only children born later are in them. Until then the thread can start no other
///   thread (`EINVAL`).
/// - [`Kind::Mnt`]: the thread also gets a root, working directory and umask of its own, which it shared with the
///   process's other threads before.
/// - [`Kind::User`] needs a process with a single thread.
///
/// # Errors
///
/// - [`Error::MultiThreaded`] for [`Kind::User`] if the process has other threads;
/// - [`Error::Unshare`]: `EPERM` without `CAP_SYS_ADMIN` for all other kinds (with [`Kind::User`] the new namespace gives
///   it), or for a user namespace in a chroot; `EINVAL` for a kind the kernel lacks or a second pid namespace before
///   the first has a process; `ENOSPC` if a limit of `/proc/sys/user` is reached.
pub fn unshare(kinds: Kinds) -> Result<()> {
    if kinds.contains(Kind::User) {
        threads::require_single_threaded("creating a user namespace")?;
    }
    nix::sched::unshare(CloneFlags::from_bits_retain(kinds.clone_flags()))
        .map_err(|errno| Error::Unshare { kinds, source: errno.into() })
}
