//! Fds of the leaf crates, registered with the runtime.

#![expect(unsafe_code, reason = "registering an fd is unsafe: see the SAFETY comment")]

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a copy of an fd, to be told when it is readable.
pub(super) fn readable(fd: BorrowedFd<'_>) -> io::Result<AsyncFd<OwnedFd>> {
    let copy = fd.try_clone_to_owned()?;
    // SAFETY: an OwnedFd names the same open fd for as long as it lives, and the AsyncFd owns it.
    Ok(unsafe { AsyncFd::register_with_interest(copy, Interest::READABLE) }?)
}
