//! The system calls that neither std nor nix has. Descriptor numbers live here and in `child.rs` only.

use std::ffi::{c_int, c_long, c_uint};
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use crate::ExitStatus;

// From include/uapi/linux/sched.h. The libc crate has them for some targets, as an int too narrow for two of them.
pub(crate) const CLONE_PIDFD: u64 = 0x1000;
pub(crate) const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
pub(crate) const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `struct clone_args` in its second version (Linux 5.7), which has the cgroup.
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

/// Returns the child's id and pidfd in the parent, `None` in the child.
///
/// # Safety
///
/// As for [`crate::clone3`]. `flags` must not hold `CLONE_VM`, `CLONE_VFORK`, `CLONE_THREAD` or `CLONE_SETTLS`.
pub(crate) unsafe fn clone3(
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
) -> io::Result<Option<(libc::pid_t, OwnedFd)>> {
    let mut pidfd: c_int = -1;
    let mut args = CloneArgs {
        flags: flags | CLONE_PIDFD,
        pidfd: (&raw mut pidfd) as usize as u64,
        exit_signal: u64::from(libc::SIGCHLD.unsigned_abs()),
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().unsigned_abs());
    }
    // SAFETY: `args` is a live clone_args of the size passed along, and `pidfd` a live int the kernel may write to.
    // Without CLONE_VM and a stack of its own the child returns here on a copy of this memory, as after fork.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    match check(pid)? {
        0 => Ok(None),
        pid => {
            // SAFETY: after success the kernel has stored a new descriptor there that nobody else knows.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Some((narrow(pid), pidfd)))
        }
    }
}

pub(crate) fn pidfd_open(pid: libc::pid_t) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers only.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    // SAFETY: after success it is a new descriptor that nobody else knows.
    check(fd).map(|fd| unsafe { OwnedFd::from_raw_fd(narrow(fd)) })
}

pub(crate) fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: c_int) -> io::Result<()> {
    let info = ptr::null_mut::<libc::siginfo_t>();
    // SAFETY: a null siginfo is allowed; the rest are numbers and a descriptor open for the whole call.
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, info, 0) }).map(drop)
}

pub(crate) fn pidfd_getfd(pidfd: BorrowedFd<'_>, fd: c_int) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers only.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0) };
    // SAFETY: after success it is a new descriptor that nobody else knows.
    check(fd).map(|fd| unsafe { OwnedFd::from_raw_fd(narrow(fd)) })
}

/// Waits for the end of the child behind `pidfd` and reaps it; `None` if it still runs and `flags` has `WNOHANG`.
///
/// nix has waitid, but fails with EINVAL on a death by a real-time signal: the exit would be lost.
pub(crate) fn waitid(pidfd: BorrowedFd<'_>, flags: c_int) -> io::Result<Option<ExitStatus>> {
    // SAFETY: siginfo_t is plain old data, for which zeroes are a value.
    let mut info: libc::siginfo_t = unsafe { zeroed() };
    let id = pidfd.as_raw_fd().unsigned_abs();
    loop {
        // SAFETY: `info` is live and writable, the descriptor open for the whole call.
        let done =
            unsafe { libc::waitid(libc::P_PIDFD, id, &raw mut info, libc::WEXITED | libc::__WALL | flags) };
        match check(c_long::from(done)) {
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    // SAFETY: waitid fills in the variant of SIGCHLD, or leaves the zeroes from above.
    let pid = unsafe { info.si_pid() };
    if pid == 0 {
        return Ok(None);
    }
    // SAFETY: as above.
    let status = unsafe { info.si_status() };
    Ok(Some(match info.si_code {
        libc::CLD_EXITED => ExitStatus::Exited(status),
        code => ExitStatus::Signaled { signal: status, core_dumped: code == libc::CLD_DUMPED },
    }))
}

/// An ioctl without argument that answers with a number.
pub(crate) fn ioctl_number(fd: BorrowedFd<'_>, request: libc::Ioctl) -> io::Result<c_int> {
    // SAFETY: the callers of this module pass requests of nsfs and pidfs only, which ignore the argument.
    check(c_long::from(unsafe { libc::ioctl(fd.as_raw_fd(), request, 0) })).map(narrow)
}

/// An ioctl without argument that answers with a new descriptor.
pub(crate) fn ioctl_fd(fd: BorrowedFd<'_>, request: libc::Ioctl) -> io::Result<OwnedFd> {
    // SAFETY: the requests used here answer with a descriptor that nobody else knows.
    ioctl_number(fd, request).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Blocks every signal for the calling thread until dropped, so that no handler of the parent runs in a new child.
pub(crate) struct SignalsBlocked {
    before: libc::sigset_t,
}

impl SignalsBlocked {
    pub(crate) fn new() -> Self {
        // SAFETY: sigset_t is plain old data, for which zeroes are a value.
        let (mut all, mut before): (libc::sigset_t, libc::sigset_t) = unsafe { zeroed() };
        // SAFETY: writes to a live set.
        unsafe { libc::sigfillset(&raw mut all) };
        // SAFETY: reads one live set, writes the other. With a valid first argument it cannot fail.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before) };
        Self { before }
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: reads a live set; a null pointer for the old one is allowed.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, ptr::null_mut()) };
    }
}

/// Marks all descriptors from `first` on as close-on-exec.
pub(crate) fn close_range_cloexec(first: c_uint) -> io::Result<()> {
    // SAFETY: takes numbers only, and closes nothing now.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) })
        .map(drop)
}

fn check(result: c_long) -> io::Result<c_long> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Narrows what the kernel documents as an int.
fn narrow(number: c_long) -> c_int {
    c_int::try_from(number).expect("the kernel returns ids and descriptors as int")
}
