//! The few lines between clone3 and exec. Nothing here allocates, locks or panics: other threads of the parent may
//! have held any lock at the moment of the clone.

use std::ffi::{c_char, c_int, c_long, c_uint};
use std::mem::zeroed;
use std::os::fd::RawFd;
use std::ptr;

use crate::error::Step;
use crate::sys;

/// What the child tells the parent when it fails: the step and the errno.
pub(crate) const REPORT_LEN: usize = 5;

/// What the child needs, prepared by the parent. Pointers and descriptors are those of the copied process.
pub(crate) struct Plan<'a> {
    /// Where to report a failure; close-on-exec, so that its end tells of success.
    pub(crate) report: RawFd,
    /// Both ends of the pipe that says "the id maps are written": read end, write end.
    pub(crate) go: Option<(RawFd, RawFd)>,
    /// Whether to become id 0 of a new user namespace.
    pub(crate) become_root: bool,
    /// Whether supplementary groups can be given up, which a denied setgroups forbids.
    pub(crate) drop_groups: bool,
    pub(crate) setsid: bool,
    /// Entry `i` becomes descriptor `i`.
    pub(crate) fds: &'a mut [RawFd],
    /// The program's descriptor, or `None` to use the path.
    pub(crate) exe: Option<RawFd>,
    /// The program's path, empty with a descriptor.
    pub(crate) path: *const c_char,
    /// Null-terminated.
    pub(crate) argv: *const *const c_char,
    /// Null-terminated.
    pub(crate) envp: *const *const c_char,
}

/// Becomes the program, or reports why not and exits with 127.
///
/// # Safety
///
/// Only for the child of a clone3 that shares no memory with its parent. `path`, `argv` and `envp` must be
/// null-terminated and live.
pub(crate) unsafe fn run(plan: &mut Plan<'_>) -> ! {
    // SAFETY: as promised by the caller.
    let (step, errno) = match unsafe { become_program(plan) } {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    let errno = errno.to_ne_bytes();
    let report = [step as u8, errno[0], errno[1], errno[2], errno[3]];
    // SAFETY: reads from a live array. A parent that is gone has nobody to tell: the result does not matter.
    unsafe { libc::write(plan.report, report.as_ptr().cast(), report.len()) };
    exit()
}

enum Never {}

/// How many signals the kernel has (`_NSIG`).
#[cfg(not(any(target_arch = "mips", target_arch = "mips64")))]
const SIGNALS: usize = 64;
/// How many signals the kernel has (`_NSIG`).
#[cfg(any(target_arch = "mips", target_arch = "mips64"))]
const SIGNALS: usize = 128;

unsafe fn become_program(plan: &mut Plan<'_>) -> Result<Never, (Step, c_int)> {
    if let Some((read, write)) = plan.go {
        wait_for_go(read, write);
    }
    if plan.become_root {
        become_root(plan.drop_groups)?;
    }
    default_signals();
    if plan.setsid {
        // SAFETY: takes and touches no memory.
        check(Step::SetSid, unsafe { libc::setsid() })?;
    }
    place_fds(plan)?;
    // The mask goes last: a signal that was sent meanwhile meets default actions only.
    unblock_signals();
    // SAFETY: the strings and arrays are null-terminated and live, as the caller promises.
    unsafe { exec(plan) };
    Err((Step::Exec, errno()))
}

/// Waits until the parent has written the id maps; leaves if it has died or given up instead.
fn wait_for_go(read: RawFd, write: RawFd) {
    // SAFETY: this process's own copy of the write end, which nothing else here uses: without closing it the end of
    // the parent would go unnoticed.
    unsafe { libc::close(write) };
    let mut byte = 0_u8;
    loop {
        // SAFETY: one live byte to write to.
        match unsafe { libc::read(read, (&raw mut byte).cast(), 1) } {
            1 => return,
            -1 if errno() == libc::EINTR => {}
            _ => exit(),
        }
    }
}

/// Becomes id 0 by bare system calls: glibc's functions would signal the parent's threads, which do not exist here.
fn become_root(drop_groups: bool) -> Result<(), (Step, c_int)> {
    if drop_groups {
        // SAFETY: an empty list needs no memory.
        let done = unsafe { libc::syscall(libc::SYS_setgroups, 0, ptr::null::<libc::gid_t>()) };
        check_long(Step::SetGroups, done)?;
    }
    // SAFETY: takes numbers only.
    check_long(Step::SetGid, unsafe { libc::syscall(libc::SYS_setresgid, 0, 0, 0) })?;
    // SAFETY: takes numbers only.
    check_long(Step::SetUid, unsafe { libc::syscall(libc::SYS_setresuid, 0, 0, 0) })
}

/// Resets ignored signals too, which clone3's CLONE_CLEAR_SIGHAND leaves: Rust programs ignore SIGPIPE.
///
/// A bare call, because the C library's sigaction refuses the two real-time signals it uses itself, and a caller may
/// have been started with them ignored.
fn default_signals() {
    // The kernel's struct sigaction, whose members and size depend on the architecture, with room to spare: all zeroes
    // are SIG_DFL, no flags and an empty mask.
    let default = [0_u64; 8];
    // The size of the kernel's sigset_t: a bit for each signal.
    let set_size = SIGNALS / 8;
    for signal in 1..=SIGNALS {
        // SAFETY: reads less than the live array; a null pointer for the old action is allowed. It fails for SIGKILL
        // and SIGSTOP only, which cannot be ignored.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), ptr::null_mut::<u64>(), set_size);
        }
    }
}

fn unblock_signals() {
    // SAFETY: a plain struct for which zeroes are a value, the empty set.
    let none: libc::sigset_t = unsafe { zeroed() };
    // SAFETY: reads a live set; cannot fail with these arguments.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut()) };
}

/// Makes descriptor `i` a copy of entry `i`, and marks everything above close-on-exec.
fn place_fds(plan: &mut Plan<'_>) -> Result<(), (Step, c_int)> {
    let Ok(count) = c_int::try_from(plan.fds.len()) else {
        return Err((Step::MapFds, libc::EMFILE));
    };
    // First out of the way: what lies below `count` would be overwritten before its turn.
    plan.report = lift(plan.report, count)?;
    if let Some(exe) = plan.exe {
        plan.exe = Some(lift(exe, count)?);
    }
    for fd in plan.fds.iter_mut() {
        *fd = lift(*fd, count)?;
    }
    for (place, fd) in (0..count).zip(plan.fds.iter()) {
        // SAFETY: takes numbers only; every descriptor below `count` has a copy above if it is still needed. The two
        // numbers differ, so that the copy is not close-on-exec.
        check(Step::MapFds, unsafe { libc::dup2(*fd, place) })?;
    }
    sys::close_range_cloexec(c_uint::try_from(count).unwrap_or(0)).map_err(|_| (Step::CloseFds, errno()))
}

/// Returns `fd`, or a copy of it at `floor` or above if it lies below.
fn lift(fd: RawFd, floor: c_int) -> Result<RawFd, (Step, c_int)> {
    if fd >= floor {
        return Ok(fd);
    }
    // SAFETY: takes numbers only.
    check(Step::MapFds, unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, floor) })
}

/// Returns only if it failed.
unsafe fn exec(plan: &Plan<'_>) {
    match plan.exe {
        // The bare call, as musl has no execveat.
        // SAFETY: as promised by the caller of `run`.
        Some(exe) => unsafe {
            libc::syscall(libc::SYS_execveat, exe, plan.path, plan.argv, plan.envp, libc::AT_EMPTY_PATH);
        },
        // SAFETY: as promised by the caller of `run`.
        None => unsafe {
            libc::execve(plan.path, plan.argv, plan.envp);
        },
    }
}

fn check(step: Step, result: c_int) -> Result<c_int, (Step, c_int)> {
    if result == -1 { Err((step, errno())) } else { Ok(result) }
}

fn check_long(step: Step, result: c_long) -> Result<(), (Step, c_int)> {
    if result == -1 { Err((step, errno())) } else { Ok(()) }
}

fn errno() -> c_int {
    // SAFETY: the C library returns a pointer to the calling thread's errno, always valid.
    let location = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    unsafe { *location }
}

fn exit() -> ! {
    // SAFETY: ends the process without running anything of it.
    unsafe { libc::_exit(127) }
}
