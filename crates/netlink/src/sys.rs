//! The raw edge of descriptors.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

use neli::socket::NlSocket;

/// Makes neli's socket of a descriptor that somebody else opened.
pub(crate) fn adopt(fd: OwnedFd) -> NlSocket {
    // SAFETY: the descriptor is owned, and its ownership goes over to the socket, which closes it once.
    unsafe { NlSocket::from_raw_fd(fd.into_raw_fd()) }
}

/// Borrows the descriptor of a socket, which neli hands out as a number alone.
pub(crate) fn borrow(socket: &NlSocket) -> BorrowedFd<'_> {
    // SAFETY: the socket owns the descriptor, keeps it open while it lives, and is borrowed as long as the result.
    unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) }
}
