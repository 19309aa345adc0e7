//! The system calls of the floor that nix does not wrap.

use std::convert::Infallible;
use std::fs;
use std::io::{self, Write as _};
use std::marker::PhantomData;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::ptr;

use nix::errno::Errno;

const CLONE_PIDFD: u64 = 0x1000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `struct clone_args` of include/uapi/linux/sched.h in its second version (Linux 5.7).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Evidence that this process has one thread, so that a cloned child may run any code. Stays with its thread.
#[derive(Debug)]
pub(crate) struct SingleThreaded(PhantomData<*const ()>);

impl SingleThreaded {
    /// Looks once. The floor starts no threads afterwards.
    pub(crate) fn check() -> io::Result<Self> {
        match fs::read_dir("/proc/self/task")?.count() {
            1 => Ok(Self(PhantomData)),
            count => {
                Err(io::Error::other(format!("the floor needs a process of one thread, not of {count}")))
            }
        }
    }
}

/// Runs `child` in a new process with namespaces of its own, inside a cgroup. Returns the child's pidfd.
#[doc(alias = "clone3")]
pub(crate) fn spawn(
    _: &SingleThreaded,
    namespaces: libc::c_int,
    cgroup: BorrowedFd<'_>,
    child: impl FnOnce() -> io::Result<Infallible>,
) -> io::Result<OwnedFd> {
    let mut pidfd: libc::c_int = -1;
    let mut args = CloneArgs {
        flags: u64::from(namespaces.cast_unsigned()) | CLONE_PIDFD | CLONE_INTO_CGROUP,
        pidfd: (&raw mut pidfd) as usize as u64,
        exit_signal: u64::from(libc::SIGCHLD.cast_unsigned()),
        cgroup: u64::from(cgroup.as_raw_fd().cast_unsigned()),
        ..CloneArgs::default()
    };
    // SAFETY: `args` is a live clone_args of the size passed along and `pidfd` a live int that the kernel writes to.
    // Without CLONE_VM the child goes on here on a copy of this memory, and as the process has one thread, no lock
    // in that copy is held by somebody who does not exist there.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    match Errno::result(pid)? {
        0 => {
            let Err(error) = child();
            // The one who waits sees that the child has ended; why it did can only be said here.
            let _ = writeln!(io::stderr(), "floor: {error}");
            // SAFETY: takes a number. The parent's exit handlers must not run in its copy.
            unsafe { libc::_exit(127) }
        }
        // SAFETY: after success the kernel has stored a new descriptor there that nobody else knows.
        _ => Ok(unsafe { OwnedFd::from_raw_fd(pidfd) }),
    }
}

/// Joins namespaces of the process behind `pidfd`.
pub(crate) fn setns(_: &SingleThreaded, pidfd: BorrowedFd<'_>, kinds: libc::c_int) -> io::Result<()> {
    // SAFETY: takes numbers only; the descriptor is open for the whole call.
    Errno::result(unsafe { libc::setns(pidfd.as_raw_fd(), kinds) })?;
    Ok(())
}

/// Kills the process behind `pidfd`.
pub(crate) fn kill(pidfd: BorrowedFd<'_>) -> io::Result<()> {
    let info = ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo is allowed; the rest are numbers and a descriptor open for the whole call.
    let done =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), libc::SIGKILL, info, 0) };
    Errno::result(done)?;
    Ok(())
}

/// Waits for a child and reaps it.
pub(crate) fn reap(pidfd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: a plain struct for which zeroes are a value.
    let mut info: libc::siginfo_t = unsafe { zeroed() };
    let id = pidfd.as_raw_fd().cast_unsigned();
    // SAFETY: `info` is live and writable, the descriptor open for the whole call.
    Errno::result(unsafe { libc::waitid(libc::P_PIDFD, id, &raw mut info, libc::WEXITED) })?;
    Ok(())
}

/// Brings up `lo` of the network namespace of `socket`.
pub(crate) fn loopback_up(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: a plain struct for which zeroes are a value.
    let mut request: libc::ifreq = unsafe { zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP).map_err(io::Error::other)?;
    // SAFETY: SIOCSIFFLAGS reads a live ifreq and nothing behind it.
    Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) })?;
    Ok(())
}
