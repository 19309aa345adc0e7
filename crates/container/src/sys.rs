//! The system calls that neither std nor nix has, or that the C library wraps in ways that a cloned child must not use.

use std::ffi::{CStr, c_char, c_int, c_long, c_ulong, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicI32, Ordering};

use libc::sock_filter;
use nix::errno::Errno;
use podrun_sandbox::protocol::ExitStatus;

fn done(result: c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Gives the calling process an anonymous session keyring of its own.
pub(crate) fn join_new_session_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: c_int = 1;
    let name = ptr::null::<c_char>();
    // SAFETY: a null name asks for an anonymous keyring.
    done(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name) })
}

pub(crate) fn install_filter(program: &[sock_filter]) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    let pointer = ptr::from_ref(&program);
    // SAFETY: the kernel copies `len` instructions from a live slice, and writes nothing.
    done(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, pointer) })
}

pub(crate) fn drop_from_bounding_set(capability: u8) -> io::Result<()> {
    // SAFETY: takes numbers only.
    done(c_long::from(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, c_ulong::from(capability), 0, 0, 0) }))
}

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: c_int,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilityWords {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Returns the permitted capabilities of this process.
pub(crate) fn permitted_capabilities() -> io::Result<u64> {
    let mut header = CapabilityHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let mut words = [CapabilityWords::default(); 2];
    // SAFETY: version 3 takes a header and two sets of words, all live and writable.
    done(unsafe { libc::syscall(libc::SYS_capget, ptr::from_mut(&mut header), words.as_mut_ptr()) })?;
    Ok(u64::from(words[1].permitted) << 32 | u64::from(words[0].permitted))
}

/// Sets permitted and effective capabilities, and empties the inheritable set and with it the ambient one.
pub(crate) fn set_capabilities(mask: u64) -> io::Result<()> {
    let word = |bits: u64| u32::try_from(bits & 0xffff_ffff).unwrap_or(0);
    let words = |bits| CapabilityWords { effective: bits, permitted: bits, inheritable: 0 };
    let mut header = CapabilityHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let sets = [words(word(mask)), words(word(mask >> 32))];
    // SAFETY: version 3 takes a header and two sets of words, all live.
    done(unsafe { libc::syscall(libc::SYS_capset, ptr::from_mut(&mut header), sets.as_ptr()) })
}

/// Sets the ids of this thread, which is the only one: the C library would look for others that the clone has not
/// copied.
pub(crate) fn set_identity(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    // SAFETY: the kernel reads `len` ids from a live slice.
    done(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })?;
    // SAFETY: takes numbers only.
    done(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    // SAFETY: takes numbers only.
    done(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) })
}

pub(crate) fn set_rlimit(resource: c_int, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    let (limit, old) = (ptr::from_ref(&limit), ptr::null_mut::<libc::rlimit64>());
    // SAFETY: reads a live struct and writes nothing, as `old` is null.
    done(unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, limit, old) })
}

/// Returns the hard limit of this process.
pub(crate) fn hard_rlimit(resource: c_int) -> io::Result<u64> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    let new = ptr::null::<libc::rlimit64>();
    // SAFETY: writes to a live struct and reads nothing, as `new` is null.
    done(unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, new, ptr::from_mut(&mut limit)) })?;
    Ok(limit.rlim_max)
}

/// Reads into the room that is left in a buffer, and returns how much. Where nothing is ever read to, no page becomes memory.
pub(crate) fn read(fd: BorrowedFd<'_>, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let room = buffer.spare_capacity_mut();
    // SAFETY: the kernel writes no more than there is room for.
    let count = unsafe { libc::read(fd.as_raw_fd(), room.as_mut_ptr().cast(), room.len()) };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel has just written these bytes.
    unsafe { buffer.set_len(buffer.len() + count) };
    Ok(count)
}

/// Gives free memory back to the kernel.
pub(crate) fn release_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes a number and may be called at any time; see malloc_trim(3).
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Lets this process have as many descriptors as it may.
pub(crate) fn raise_descriptor_limit() -> io::Result<()> {
    let resource = c_int::try_from(libc::RLIMIT_NOFILE).map_err(io::Error::other)?;
    let hard = hard_rlimit(resource)?;
    set_rlimit(resource, hard, hard)
}

/// Puts copies of `stdio` at 0, 1 and 2 and `report` at 3, close-on-exec, and closes everything else.
///
/// # Safety
///
/// Every other owner of a descriptor in this process is left with a dangling number: nothing but the returned
/// descriptor may be used, or dropped, afterwards.
pub(crate) unsafe fn keep_only(stdio: [BorrowedFd<'_>; 3], report: OwnedFd) -> io::Result<OwnedFd> {
    const FREE: RawFd = 4;
    let lift = |fd: RawFd| -> io::Result<RawFd> {
        // SAFETY: takes numbers only.
        let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, FREE) };
        done(c_long::from(copy)).map(|()| copy)
    };
    // Copies out of the way of the places, so that none is overwritten before its turn.
    let [stdin, stdout, stderr] = stdio.map(|fd| lift(fd.as_raw_fd()));
    // Forgotten, not dropped: its number may be one of those that get another meaning.
    let report = lift(report.into_raw_fd())?;
    let (stdin, stdout, stderr) = (stdin?, stdout?, stderr?);
    for (from, to, flags) in [(stdin, 0, 0), (stdout, 1, 0), (stderr, 2, 0), (report, 3, libc::O_CLOEXEC)] {
        // SAFETY: takes numbers only.
        done(c_long::from(unsafe { libc::dup3(from, to, flags) }))?;
    }
    // SAFETY: takes numbers only; the caller promises that nothing above is used any more.
    done(unsafe { libc::syscall(libc::SYS_close_range, FREE, u32::MAX, 0) })?;
    // SAFETY: dup3 has made it, and what the number meant before is forgotten.
    Ok(unsafe { OwnedFd::from_raw_fd(3) })
}

/// Resets all signals to their default action, but for SIGPIPE, which is ignored: to write to nobody is an error to be told
/// of. So what this process clones has one signal to reset, where to reset each of them takes a call for each.
pub(crate) fn ignore_broken_pipes_alone() {
    for signal in 1..=64 {
        // It fails for SIGKILL and SIGSTOP, which cannot be changed, and for the two that the C library keeps for itself.
        set_signal_handler(signal, libc::SIG_DFL);
    }
    set_signal_handler(libc::SIGPIPE, libc::SIG_IGN);
}

/// Resets all signals to their default action and blocks none, as a program expects to be started. For clones of a
/// process that [ignores broken pipes alone](ignore_broken_pipes_alone).
pub(crate) fn reset_signals() {
    reset_signal_handlers();
    unblock_signals();
}

/// Resets all signals to their default action, as [`reset_signals`].
pub(crate) fn reset_signal_handlers() {
    set_signal_handler(libc::SIGPIPE, libc::SIG_DFL);
}

fn set_signal_handler(signal: c_int, handler: libc::sighandler_t) {
    // SAFETY: a plain struct for which zeroes are a value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    // SAFETY: reads a live struct. Both handlers that are passed are the kernel's own.
    unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) };
}

/// Blocks all signals that can be blocked, except for one.
pub(crate) fn block_signals(except: Option<c_int>) {
    // SAFETY: a plain struct for which zeroes are a value.
    let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: writes to a live set.
    unsafe { libc::sigfillset(&raw mut all) };
    if let Some(signal) = except {
        // SAFETY: writes to a live set.
        unsafe { libc::sigdelset(&raw mut all, signal) };
    }
    // SAFETY: reads a live set; cannot fail with these arguments.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const all, ptr::null_mut()) };
}

/// Blocks no signal.
pub(crate) fn unblock_signals() {
    // SAFETY: a plain struct for which zeroes are a value, the empty set.
    let none: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: reads a live set; cannot fail with these arguments.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut()) };
}

/// Executes a program. Returns the error number, and only if that failed.
///
/// # Safety
///
/// Both arrays must be of pointers to live, NUL-terminated strings, and end with a null pointer.
pub(crate) unsafe fn exec(path: &CStr, argv: &[*const c_char], envp: &[*const c_char]) -> i32 {
    // SAFETY: as promised by the caller.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    Errno::last_raw()
}

/// Reaps a child that has ended, if there is one, and tells its id and how it ended.
pub(crate) fn reap_any() -> io::Result<Option<(i32, ExitStatus)>> {
    reap(libc::WNOHANG)
}

/// Waits for the end of a child, reaps it, and tells its id and how it ended. `ECHILD` if there is none.
pub(crate) fn reap_next() -> io::Result<(i32, ExitStatus)> {
    loop {
        if let Some(ended) = reap(0)? {
            return Ok(ended);
        }
    }
}

/// nix has waitid, but fails with `EINVAL` on a death by a real-time signal, after the child has been reaped: its end
/// would be lost.
fn reap(flags: c_int) -> io::Result<Option<(i32, ExitStatus)>> {
    // SAFETY: siginfo_t is plain old data, for which zeroes are a value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: writes to a live struct; the rest are numbers.
        let result = unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, libc::WEXITED | flags) };
        match done(c_long::from(result)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => break result?,
        }
    }
    // SAFETY: waitid fills in the variant of SIGCHLD, or leaves the zeroes from above.
    let pid = unsafe { info.si_pid() };
    // SAFETY: as above.
    let status = unsafe { info.si_status() };
    let status = match info.si_code {
        libc::CLD_EXITED => ExitStatus::Code(status),
        _ => ExitStatus::Signal(status),
    };
    Ok((pid != 0).then_some((pid, status)))
}

/// Returns whether a process is an unreaped child of this one.
pub(crate) fn is_child(pid: i32) -> bool {
    let Ok(pid) = libc::id_t::try_from(pid) else { return false };
    // SAFETY: siginfo_t is plain old data, for which zeroes are a value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: writes to a live struct; the rest are numbers.
    unsafe { libc::waitid(libc::P_PID, pid, &raw mut info, flags) == 0 }
}

/// Sends a signal to a child that has not been reaped, whose number is therefore still its own.
pub(crate) fn signal_child(pid: i32, signal: c_int) {
    // SAFETY: takes numbers only. It could fail only for a child that is none.
    unsafe { libc::syscall(libc::SYS_kill, pid, signal) };
}

/// Closes every descriptor and lets the kernel reap the children of this process until something kills it.
///
/// # Safety
///
/// Every owner of a descriptor in this process is left with a dangling number: nothing else of it may run any more.
pub(crate) unsafe fn reap_for_ever() -> ! {
    reset_signals();
    // SAFETY: takes numbers only. Children of a process that ignores their ends leave no zombies (waitpid(2)).
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    // SAFETY: takes numbers only; the caller promises that nothing uses a descriptor any more.
    unsafe { libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0) };
    loop {
        // SAFETY: it has no preconditions.
        unsafe { libc::pause() };
    }
}

/// Leaves the process without running anything of it.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: it has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Which of the two returned from [`fork_sibling`].
pub(crate) enum Forked {
    /// The caller.
    Parent,
    /// The new process.
    Child,
}

/// Makes a copy of this process that is a child of its parent. Returns twice.
///
/// By the older call: the system call filter knows no clone3.
///
/// # Safety
///
/// The process must have one thread. Both copies must leave by `_exit` or exec.
pub(crate) unsafe fn fork_sibling() -> io::Result<Forked> {
    let flags = c_long::from(libc::CLONE_PARENT | libc::SIGCHLD);
    // SAFETY: without CLONE_VM the child returns here on a copy of this memory, as after fork. The other arguments are
    // zero, in whatever order the architecture takes them.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    done(pid).map(|()| if pid == 0 { Forked::Child } else { Forked::Parent })
}

/// As [`fork_sibling`]. The kernel writes the id of the new process, as this process sees it, to `number` before the new
/// process can run, or end.
///
/// # Safety
///
/// As for [`fork_sibling`].
pub(crate) unsafe fn fork_noted_sibling(number: &SharedNumber) -> io::Result<Forked> {
    let flags = c_long::from(libc::CLONE_PARENT | libc::CLONE_PARENT_SETTID | libc::SIGCHLD);
    // SAFETY: as above; the kernel writes an int to memory that is mapped as long as `number` lives. These three come
    // first on every architecture that there is a filter for.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, number.0.as_ptr(), 0, 0) };
    done(pid).map(|()| if pid == 0 { Forked::Child } else { Forked::Parent })
}

/// A number in memory that is shared with the next clone of this process alone. It is zero at first.
#[derive(Debug)]
pub(crate) struct SharedNumber(NonNull<AtomicI32>);

impl SharedNumber {
    const SIZE: usize = size_of::<AtomicI32>();

    pub(crate) fn new() -> io::Result<Self> {
        let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: new memory where the kernel likes it; nothing else is touched.
        let memory = unsafe { libc::mmap(ptr::null_mut(), Self::SIZE, access, flags, -1, 0) };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(memory.cast()).map(Self).ok_or_else(|| Errno::ENOMEM.into())
    }

    /// Keeps it from every further clone of this process: one that may be taken over could write to it.
    pub(crate) fn keep(&self) -> io::Result<()> {
        // SAFETY: the mapping is this object's own, and stays where it is.
        done(c_long::from(unsafe { libc::madvise(self.0.as_ptr().cast(), Self::SIZE, libc::MADV_DONTFORK) }))
    }

    pub(crate) fn get(&self) -> i32 {
        // SAFETY: it is mapped, aligned to a page and initialised to zeroes; the other process writes it whole.
        unsafe { self.0.as_ref() }.load(Ordering::Acquire)
    }
}

impl Drop for SharedNumber {
    fn drop(&mut self) {
        // SAFETY: `new` has mapped it, and nobody has a reference to it any more.
        unsafe { libc::munmap(self.0.as_ptr().cast(), Self::SIZE) };
    }
}

/// Runs `child` with `argument` in a new process in the memory of this one, which is halted until the child has executed
/// a program or has ended. Returns the id of the child.
///
/// # Safety
///
/// The process must have one thread. `child` must make system calls only, and leave nothing in memory that the caller
/// does not expect to change.
pub(crate) unsafe fn vfork(
    child: extern "C" fn(*mut c_void) -> c_int,
    argument: *mut c_void,
) -> io::Result<i32> {
    // 16 KiB, more than the few calls need, in units that keep it aligned. Neither malloc nor zeroes: in a process that is a
    // copy of another, each page that is written to has to be copied.
    let mut stack = [MaybeUninit::<u128>::uninit(); 1024];
    let top = stack.as_mut_ptr_range().end.cast::<c_void>();
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the stack is live memory that grows down from its end and outlives the child, for which this process waits.
    let pid = unsafe { libc::clone(child, top, flags, argument) };
    done(c_long::from(pid)).map(|()| pid)
}

/// Begins a new session, on the terminal of standard input if there is one. Returns the error number.
pub(crate) fn new_session(on_terminal: bool) -> Result<(), i32> {
    // SAFETY: it has no preconditions.
    if unsafe { libc::setsid() } < 0 {
        return Err(Errno::last_raw());
    }
    // SAFETY: takes numbers only.
    if on_terminal && unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) } < 0 {
        return Err(Errno::last_raw());
    }
    Ok(())
}

/// Closes standard input, output and error.
pub(crate) fn close_stdio() -> io::Result<()> {
    // SAFETY: takes numbers only; std opens these again or fails when it uses them, and nothing here does.
    done(unsafe { libc::syscall(libc::SYS_close_range, 0, 2, 0) })
}

/// Unlocks the terminal of a multiplexer and opens it, without a path.
pub(crate) fn open_terminal(master: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let (fd, unlock): (RawFd, c_int) = (master.as_raw_fd(), 0);
    // SAFETY: the kernel reads a live int.
    done(c_long::from(unsafe { libc::ioctl(fd, libc::TIOCSPTLCK, &raw const unlock) }))?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: takes numbers only.
    let terminal = unsafe { libc::ioctl(fd, libc::TIOCGPTPEER, flags) };
    done(c_long::from(terminal))?;
    // SAFETY: the kernel has just made this descriptor, which nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(terminal) })
}
