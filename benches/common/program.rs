//! The floor of an exec: a program that is forked, executed and reaped, by this process itself.

use std::convert::Infallible;
use std::ffi::CStr;
use std::io;
use std::time::{Duration, Instant};

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, execve, fork};

/// Runs a program to its end, which must be a good one; returns how long that took.
pub(crate) fn fork_and_execute(path: &CStr, arguments: &[&CStr]) -> io::Result<Duration> {
    let begin = Instant::now();
    // SAFETY: the child makes two system calls, of which the second ends it.
    match unsafe { fork() }? {
        ForkResult::Child => {
            let Err::<Infallible, _>(_) = execve(path, arguments, &[] as &[&CStr]);
            // SAFETY: takes a number. The parent's exit handlers must not run in its copy.
            unsafe { libc::_exit(127) }
        }
        ForkResult::Parent { child } => match waitpid(child, None)? {
            WaitStatus::Exited(_, 0) => Ok(begin.elapsed()),
            other => Err(io::Error::other(format!("{other:?}"))),
        },
    }
}
