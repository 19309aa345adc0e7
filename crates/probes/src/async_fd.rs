//! Descriptors that the tokio runtime watches: the only unsafe code here.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Returns a copy of `fd` that tells when it is readable.
pub(crate) fn readable(fd: BorrowedFd<'_>) -> io::Result<AsyncFd<OwnedFd>> {
    let copy = fd.try_clone_to_owned()?;
    #[expect(unsafe_code, reason = "tokio has no safe way to watch a descriptor that it knows nothing of")]
    // SAFETY: an OwnedFd names the same open file for as long as it lives, and the AsyncFd owns it.
    Ok(unsafe { AsyncFd::register_with_interest(copy, Interest::READABLE) }?)
}
