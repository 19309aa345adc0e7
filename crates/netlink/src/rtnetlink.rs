//! The socket for links, addresses, routes and neighbours.

use std::os::fd::{AsFd, BorrowedFd};

use crate::connection::Connection;
use crate::error::Result;
use crate::protocol::Protocol;

/// Links, addresses, routes and neighbours of one network namespace; see
/// [rtnetlink(7)](https://man7.org/linux/man-pages/man7/rtnetlink.7.html).
///
/// ```
/// use podrun_netlink::Rtnetlink;
///
/// let mut here = Rtnetlink::open()?;
/// let loopback = here.link("lo")?;
/// assert_eq!(loopback.index, 1);
/// # Ok::<(), podrun_netlink::Error>(())
/// ```
#[derive(Debug)]
pub struct Rtnetlink(Connection);

impl Rtnetlink {
    /// Opens a socket in the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// As [`Connection::open`].
    pub fn open() -> Result<Self> {
        Connection::open(Protocol::Route).map(Self)
    }

    /// Opens a socket in a network namespace, given by a descriptor of its file or by a pidfd.
    ///
    /// # Errors
    ///
    /// As [`Connection::open_in`].
    pub fn open_in(netns: impl AsFd) -> Result<Self> {
        Connection::open_in(Protocol::Route, netns).map(Self)
    }

    /// Uses a connection of [`Protocol::Route`].
    pub fn from_connection(connection: Connection) -> Self {
        Self(connection)
    }

    /// Returns the connection, for requests that this crate has no function for.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.0
    }
}

impl AsFd for Rtnetlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
