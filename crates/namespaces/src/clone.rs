//! The bare clone3.

use std::io;
use std::os::fd::BorrowedFd;

use crate::{Kinds, PidFd, sys};

/// What [`clone3`] is told. `SIGCHLD` is always the exit signal and a pidfd is always made.
#[derive(Clone, Copy, Debug, Default)]
#[doc(alias = "clone_args")]
pub struct CloneArgs<'fd> {
    kinds: Kinds,
    cgroup: Option<BorrowedFd<'fd>>,
    clear_signal_handlers: bool,
}

impl<'fd> CloneArgs<'fd> {
    /// Returns arguments for a child without new namespaces, in the caller's cgroup: a fork with a pidfd.
    pub const fn new() -> Self {
        Self { kinds: Kinds::EMPTY, cgroup: None, clear_signal_handlers: false }
    }

    /// Creates these namespaces for the child, which is in all of them from its first instruction.
    #[must_use]
    pub const fn namespaces(mut self, kinds: Kinds) -> Self {
        self.kinds = kinds;
        self
    }

    /// Starts the child in the cgroup of this open cgroup2 directory: it never runs anywhere else.
    #[doc(alias = "CLONE_INTO_CGROUP")]
    #[must_use]
    pub const fn into_cgroup(mut self, directory: BorrowedFd<'fd>) -> Self {
        self.cgroup = Some(directory);
        self
    }

    /// Resets the signal handlers of the child to the default. Ignored signals stay ignored.
    #[doc(alias = "CLONE_CLEAR_SIGHAND")]
    #[must_use]
    pub const fn clear_signal_handlers(mut self, clear: bool) -> Self {
        self.clear_signal_handlers = clear;
        self
    }

    pub(crate) const fn kinds(&self) -> Kinds {
        self.kinds
    }

    fn flags(&self) -> u64 {
        let handlers = if self.clear_signal_handlers { sys::CLONE_CLEAR_SIGHAND } else { 0 };
        u64::from(self.kinds.clone_flags().unsigned_abs()) | handlers
    }
}

/// Which of the two returned from [`clone3`].
#[derive(Debug)]
pub enum Cloned {
    /// The caller.
    Parent {
        /// The child's id in the caller's pid namespace.
        pid: libc::pid_t,
        /// The child.
        pidfd: PidFd,
    },
    /// The new process, on a copy of the caller's memory.
    Child,
}

/// Creates a process, in new namespaces and in a cgroup if `args` says so. Returns twice, like fork.
///
/// See [clone3(2)](https://man7.org/linux/man-pages/man2/clone3.2.html). [`Command`](crate::Command) is the safe way
/// to start a program.
///
/// The child should leave with `libc::_exit` or an exec: returning from the function that cloned runs the caller's
/// destructors a second time, and a panic in it must not unwind into the caller's frames.
///
/// The C library does not know about the call. In the child its `atfork` handlers have not run, and glibc's notion
/// of the thread's id is that of the parent: `raise` and `abort` signal the wrong thread, mutexes of the types
/// recursive, error-checking and robust mistake their owner. `getpid`, memory allocation, files and Rust's own locks
/// and threads work.
///
/// # Safety
///
/// If the calling process has more than one thread, the child must, until it calls exec or `_exit`, call only what
/// is safe in a signal handler ([signal-safety(7)](https://man7.org/linux/man-pages/man7/signal-safety.7.html)): a lock that
/// another thread held at this moment is never released in the child. That rules out memory allocation.
/// With one thread ([`threads::require_single_threaded`](crate::threads::require_single_threaded)) the child may run any code within the limits above.
///
/// Every object of the caller exists twice afterwards, descriptors included. The child must not use those whose
/// soundness rests on being the only one.
///
/// # Errors
///
/// `EPERM` without `CAP_SYS_ADMIN` for a new namespace other than a user namespace; `EINVAL` if the kernel lacks one
/// of the kinds; `ENOSPC` if a limit of `/proc/sys/user` or the nesting depth is reached; `EAGAIN` if a process limit
/// is. With a cgroup: `EBUSY` if controllers are enabled for its children, `EACCES` if it is not writable,
/// `EOPNOTSUPP` if it is of type "domain invalid", `EBADF` if the descriptor is no cgroup2 directory, `ENOENT` or
/// `ENODEV` if the cgroup was removed, `EAGAIN` if its `pids.max` is reached.
#[doc(alias = "fork")]
pub unsafe fn clone3(args: &CloneArgs<'_>) -> io::Result<Cloned> {
    // SAFETY: the caller keeps the promises of this function; the flags hold namespaces and signal handling only.
    let cloned = unsafe { sys::clone3(args.flags(), args.cgroup) }?;
    Ok(match cloned {
        Some((pid, pidfd)) => Cloned::Parent { pid, pidfd: PidFd::from_clone(pidfd) },
        None => Cloned::Child,
    })
}
