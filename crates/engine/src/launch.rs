//! Starting a supervisor as a process of its own.

#![expect(unsafe_code, reason = "fork has no safe wrapper: see the SAFETY comments")]

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::unistd::{ForkResult, dup2_stderr, dup2_stdin, dup2_stdout, fork, pipe2, setsid};
use podrun_namespaces::threads;

use crate::error::{Error, Result};

/// A supervisor that has not taken up its work after this time is taken for stuck.
const READY_WITHIN_MS: u16 = 20_000;

/// Forks and runs `supervise` in the child, which belongs to no terminal and holds no fd of the caller.
///
/// Returns when the child has written a byte to the fd that it is given: it has the Pod's lock and socket.
/// There is no exec in between: the program is in memory already, which halves the time to the first container.
///
/// # Errors
/// The errno of pipe2(2) or fork(2); EBUSY where the calling process has several threads, whose locks a forked
/// child could not take. [`Error::SupervisorEnded`] where the child ended before it was ready.
pub(crate) fn fork_supervisor(log: &Path, supervise: impl FnOnce(OwnedFd) -> i32) -> Result<()> {
    let launch = |source| Error::Launch { source };
    if !threads::is_single_threaded().map_err(Error::Threads)? {
        return Err(launch(io::Error::from_raw_os_error(libc::EBUSY)));
    }
    let stderr = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(log)
        .map_err(|source| Error::io("open", log, source))?;
    let (ready_rx, ready_tx) = pipe2(OFlag::O_CLOEXEC).map_err(|errno| launch(errno.into()))?;
    // SAFETY: the process has one thread (checked above), so no lock is held by a thread that the child lacks,
    // and the child may go on as an ordinary process.
    match unsafe { fork() }.map_err(|errno| launch(errno.into()))? {
        ForkResult::Parent { .. } => {
            drop(ready_tx);
            match await_ready(ready_rx) {
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {
                    Err(Error::SupervisorEnded { reason: last_line(log) })
                }
                result => result.map_err(launch),
            }
        }
        ForkResult::Child => {
            drop(ready_rx);
            let code = match detach(&stderr, ready_tx) {
                Ok(ready) => supervise(ready),
                Err(_) => 1,
            };
            // SAFETY: _exit takes no pointer. The parent's exit handlers and buffers must not run in this child.
            unsafe { libc::_exit(code) }
        }
    }
}

/// Leaves the caller's session, standard streams, directory, signal mask and fds.
fn detach(stderr: &File, ready: OwnedFd) -> io::Result<OwnedFd> {
    setsid()?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(stderr)?;
    drop(null);
    std::env::set_current_dir("/")?;
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    close_all_but(ready)
}

/// Closes every fd from 3 on except one, which is returned as fd 3.
fn close_all_but(keep: OwnedFd) -> io::Result<OwnedFd> {
    const KEPT: libc::c_int = 3;
    let raw = keep.as_raw_fd();
    // Forget every owner: the numbers are about to be closed behind their backs, and this process exits by _exit.
    std::mem::forget(keep);
    if raw != KEPT {
        // SAFETY: dup3 takes two numbers; fd 3 is closed by it if it was open, and nobody in this child uses it.
        if unsafe { libc::dup3(raw, KEPT, libc::O_CLOEXEC) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // SAFETY: close_range takes numbers only. The owners of the closed fds live in frames of the parent's copy
    // that this child never returns to.
    if unsafe { libc::syscall(libc::SYS_close_range, KEPT + 1, libc::c_uint::MAX, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: fd 3 is open (dup3 or `keep` itself) and has no other owner.
    Ok(unsafe { std::os::fd::FromRawFd::from_raw_fd(KEPT) })
}

/// Gives free memory back to the kernel.
///
/// A supervisor begins with the heap of the program that read the manifest, and then waits most of its life.
pub(crate) fn release_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes a number and may be called at any time; see malloc_trim(3).
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Returns what the supervisor said last.
fn last_line(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().last().unwrap_or("it left no reason").to_owned()
}

fn await_ready(ready: OwnedFd) -> io::Result<()> {
    let mut fds = [PollFd::new(ready.as_fd(), PollFlags::POLLIN)];
    if poll(&mut fds, PollTimeout::from(READY_WITHIN_MS))? == 0 {
        return Err(io::Error::from_raw_os_error(libc::ETIMEDOUT));
    }
    let mut byte = [0];
    match File::from(ready).read(&mut byte)? {
        0 => Err(io::Error::from_raw_os_error(libc::EPIPE)),
        _ => Ok(()),
    }
}
