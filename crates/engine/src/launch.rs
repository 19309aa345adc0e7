//! Starting a supervisor as a process of its own.

#![expect(unsafe_code, reason = "fork has no safe wrapper: see the SAFETY comments")]

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::unistd::{ForkResult, dup2_stderr, dup2_stdin, dup2_stdout, fork, pipe2, setsid};
use podrun_namespaces::threads;

use crate::error::{Error, Result};

/// A supervisor that has not taken up its work after this time is taken for stuck.
const READY_WITHIN_MS: u16 = 20_000;

/// A forked process that waits to be told which Pod is its own. Dropped, it ends.
///
/// There is no exec: the program is in memory already, which halves the time to the first container. Forked early, the
/// process has a small heap of its own, and gets ready while its parent still reads the manifest.
#[derive(Debug)]
pub(crate) struct Waiting {
    order: File,
    ready: OwnedFd,
}

/// What the child knows at first: where to hear its UID, and where to say that it has taken over.
const ORDER: RawFd = 3;
const READY: RawFd = 4;

/// Forks a process that belongs to no terminal and holds no fd of the caller, and that runs `supervise` once it has a
/// Pod. `supervise` gets a function that waits for the UID, and a fd for a byte when it has the Pod's lock and socket.
///
/// # Errors
/// The errno of pipe2(2) or fork(2); EBUSY where the calling process has several threads, whose locks a forked
/// child could not take.
pub(crate) fn fork_waiting(supervise: impl FnOnce(Order, OwnedFd) -> i32) -> Result<Waiting> {
    let launch = |source| Error::Launch { source };
    if !threads::is_single_threaded().map_err(Error::Threads)? {
        return Err(launch(io::Error::from_raw_os_error(libc::EBUSY)));
    }
    let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(|errno| launch(errno.into()));
    let ((order_rx, order_tx), (ready_rx, ready_tx)) = (pipe()?, pipe()?);
    // SAFETY: the process has one thread (checked above), so no lock is held by a thread that the child lacks,
    // and the child may go on as an ordinary process.
    match unsafe { fork() }.map_err(|errno| launch(errno.into()))? {
        ForkResult::Parent { .. } => Ok(Waiting { order: order_tx.into(), ready: ready_rx }),
        ForkResult::Child => {
            drop((order_tx, ready_rx));
            let code = match detach(order_rx, ready_tx) {
                Ok((order, ready)) => supervise(Order(order), ready),
                Err(_) => 1,
            };
            // SAFETY: _exit takes no pointer. The parent's exit handlers and buffers must not run in this child.
            unsafe { libc::_exit(code) }
        }
    }
}

/// Where a forked process hears which Pod is its own.
#[derive(Debug)]
pub(crate) struct Order(File);

impl Order {
    /// Waits for the UID; none if there is no Pod for this process after all.
    pub(crate) fn wait(mut self) -> Option<String> {
        let mut uid = String::new();
        // A parent that died in the middle of a UID has not given one: it ends with a newline.
        self.0.read_to_string(&mut uid).ok()?;
        uid.strip_suffix('\n').map(str::to_owned)
    }
}

/// Makes a file the standard error of this process: the supervisor's log.
pub(crate) fn log_to(path: &Path) -> Result<()> {
    let log = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    log.and_then(|log| Ok(dup2_stderr(log)?)).map_err(|source| Error::io("open", path, source))
}

impl Waiting {
    /// Gives the process its Pod, and returns when it has taken over.
    ///
    /// # Errors
    /// [`Error::SupervisorEnded`] where it ended before that; ETIMEDOUT where it does nothing.
    pub(crate) fn supervise(self, uid: &str, log: &Path) -> Result<()> {
        let Self { mut order, ready } = self;
        let told = order.write_all(format!("{uid}\n").as_bytes());
        drop(order);
        match told.and_then(|()| await_ready(ready)) {
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {
                Err(Error::SupervisorEnded { reason: last_line(log) })
            }
            result => result.map_err(|source| Error::Launch { source }),
        }
    }
}

/// Leaves the caller's session, standard streams, directory, signal mask and fds.
fn detach(order: OwnedFd, ready: OwnedFd) -> io::Result<(File, OwnedFd)> {
    setsid()?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    drop(null);
    std::env::set_current_dir("/")?;
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    close_all_but(order, ready)
}

/// Closes every fd from 3 on except two, which are returned under the numbers that follow the standard streams.
fn close_all_but(order: OwnedFd, ready: OwnedFd) -> io::Result<(File, OwnedFd)> {
    // Copies above both numbers, so that neither overwrites the other. No owner is dropped from here on: the numbers are
    // about to be closed behind their backs, and this process exits by _exit.
    let above = |fd: OwnedFd| -> io::Result<RawFd> {
        let copy = fcntl(&fd, FcntlArg::F_DUPFD_CLOEXEC(READY + 1))?;
        std::mem::forget(fd);
        Ok(copy)
    };
    let (order, ready) = (above(order)?, above(ready)?);
    for (from, to) in [(order, ORDER), (ready, READY)] {
        // SAFETY: dup3 takes two numbers; what was open under the second one is closed, and nobody in this child uses it.
        if unsafe { libc::dup3(from, to, libc::O_CLOEXEC) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // SAFETY: close_range takes numbers only. The owners of the closed fds live in frames of the parent's copy
    // that this child never returns to.
    if unsafe { libc::syscall(libc::SYS_close_range, READY + 1, libc::c_uint::MAX, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was opened by dup3 just now and has no other owner.
    let order = unsafe { File::from_raw_fd(ORDER) };
    // SAFETY: as above.
    let ready = unsafe { OwnedFd::from_raw_fd(READY) };
    Ok((order, ready))
}

/// Gives free memory back to the kernel.
///
/// A supervisor is busy while its Pod starts, and then waits most of its life.
pub(crate) fn release_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes a number and may be called at any time; see malloc_trim(3).
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Makes this process give large blocks of memory back to the kernel as soon as they are freed.
///
/// By itself malloc keeps blocks as large as the largest that was freed so far, for each thread: a few decoders, one after
/// the other, would take as much as all at once.
pub fn return_large_blocks() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes numbers and may be called at any time; see mallopt(3).
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 20);
    }
}

/// Returns what the supervisor said last.
fn last_line(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().last().unwrap_or("it left no reason").to_owned()
}

fn await_ready(ready: OwnedFd) -> io::Result<()> {
    let mut fds = [PollFd::new(ready.as_fd(), PollFlags::POLLIN)];
    // A signal of the caller's begins the time anew, which is long enough for either.
    let ready_fds = loop {
        match poll(&mut fds, PollTimeout::from(READY_WITHIN_MS)) {
            Err(Errno::EINTR) => {}
            polled => break polled?,
        }
    };
    if ready_fds == 0 {
        return Err(io::Error::from_raw_os_error(libc::ETIMEDOUT));
    }
    let mut byte = [0];
    match File::from(ready).read_exact(&mut byte) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(io::Error::from_raw_os_error(libc::EPIPE))
        }
        read => read,
    }
}
