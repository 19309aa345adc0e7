//! A socket to the kernel: requests, dumps and transactions of any netlink protocol.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::panic;
use std::thread;

use neli::consts::socket::Msg;
use neli::err::SocketError;
use neli::socket::NlSocket;
use neli::socket::synchronous::NlSocketHandle;
use neli::utils::Groups;
use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::socket::{MsgFlags, NetlinkAddr, getsockname, recvmsg, setsockopt, sockopt};

use crate::error::{Action, Error, Malformed, Result};
use crate::exchange::{Datagrams, Reply, read_answer, read_batch};
use crate::protocol::Protocol;
use crate::sys;
use crate::wire::Message;

/// How often an interrupted dump is tried before giving up.
const DUMP_ATTEMPTS: u32 = 32;
// include/uapi/linux/netfilter/nfnetlink.h
const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;
/// The kernel packs a dump into datagrams of this size if the reader has the room.
const ROOM: usize = 32 * 1024;

/// A netlink socket, for one request at a time.
///
/// A socket belongs to the network namespace of the thread that opened it, and stays there: it may be used from anywhere
/// afterwards. The socket has extended acks and, where the kernel has it (4.20), strict checking, by which the kernel
/// itself filters dumps. It joins no multicast group.
///
/// Only what the kernel sends is read: another process may send to this socket too if it is in the same network namespace
/// with `CAP_NET_ADMIN`, as a container may be, and could otherwise forge answers.
///
/// ```
/// use podrun_netlink::{Action, Connection, Message, Protocol};
///
/// let mut route = Connection::open(Protocol::Route)?;
/// // struct ifinfomsg, all zero: any link.
/// let message = Message::new(libc::RTM_GETLINK, 0, &[0; 16]);
/// let links = route.dump(&Action::new("list links", ""), &message, |reply| Ok(Some(reply.payload().len())))?;
/// assert!(!links.is_empty());
/// # Ok::<(), podrun_netlink::Error>(())
/// ```
pub struct Connection {
    socket: NlSocket,
    protocol: Protocol,
    sequence: u32,
    buffer: Vec<u8>,
}

/// What came before the acknowledgement of a request.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer<T> {
    /// What was made of the messages.
    pub replies: Vec<T>,
    /// A warning that the kernel sent with its success.
    pub warning: Option<String>,
}

impl Connection {
    /// Opens a socket in the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// [`Error::Open`]: `EPROTONOSUPPORT`, `EMFILE`, `ENFILE`.
    pub fn open(protocol: Protocol) -> Result<Self> {
        let opened = NlSocketHandle::connect(protocol.family(), None, Groups::empty()).and_then(|handle| {
            handle.enable_ext_ack(true)?;
            if protocol == Protocol::Route {
                // Linux before 4.20 has no such option (ENOPROTOOPT) and answers with more than was asked for.
                handle.enable_strict_checking(true).or_else(tolerate(libc::ENOPROTOOPT))?;
            }
            Ok(handle)
        });
        match opened {
            Ok(handle) => Ok(Self::new(protocol, handle.into())),
            Err(error) => Err(Error::Open { protocol, source: io_error(error) }),
        }
    }

    /// Opens a socket in a network namespace, given by a descriptor of its file such as `/run/netns/blue` or
    /// `/proc/PID/ns/net`, or by a pidfd of a process in it.
    ///
    /// The namespace is entered on a thread of its own, which ends before this returns.
    ///
    /// # Errors
    ///
    /// [`Error::Enter`] if the namespace cannot be entered or no thread can be started, else as [`open`](Self::open).
    pub fn open_in(protocol: Protocol, netns: impl AsFd) -> Result<Self> {
        let netns = netns.as_fd();
        let inside = move || {
            nix::sched::setns(netns, CloneFlags::CLONE_NEWNET)
                .map_err(|errno| Error::Enter { protocol, source: errno.into() })?;
            Self::open(protocol)
        };
        thread::scope(|scope| {
            let thread = thread::Builder::new().spawn_scoped(scope, inside);
            let thread = thread.map_err(|source| Error::Enter { protocol, source })?;
            thread.join().unwrap_or_else(|payload| panic::resume_unwind(payload))
        })
    }

    /// Makes a connection of a bound netlink socket that somebody else opened, maybe another process in another network
    /// namespace.
    ///
    /// # Errors
    ///
    /// [`Error::Open`] if it is no netlink socket.
    pub fn from_socket(protocol: Protocol, socket: OwnedFd) -> Result<Self> {
        let open = |source| Error::Open { protocol, source };
        getsockname::<NetlinkAddr>(socket.as_raw_fd()).map_err(|errno| open(errno.into()))?;
        let socket = sys::adopt(socket);
        socket.block().map_err(open)?;
        socket.enable_ext_ack(true).map_err(open)?;
        Ok(Self::new(protocol, socket))
    }

    fn new(protocol: Protocol, socket: NlSocket) -> Self {
        Self { socket, protocol, sequence: 0, buffer: vec![0; ROOM] }
    }

    /// Returns the protocol.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Sets the size of the receive buffer in bytes, which the kernel doubles. Without `CAP_NET_ADMIN` it is bounded by
    /// `net.core.rmem_max`. The default is enough
    /// for everything here.
    ///
    /// # Errors
    ///
    /// [`Error::Open`], hardly ever.
    pub fn set_receive_buffer(&self, bytes: usize) -> Result<()> {
        setsockopt(&self.as_fd(), sockopt::RcvBufForce, &bytes)
            .or_else(|_| setsockopt(&self.as_fd(), sockopt::RcvBuf, &bytes))
            .map_err(|errno| Error::Open { protocol: self.protocol, source: errno.into() })
    }

    /// Sends a request and waits for its acknowledgement. What the kernel sends before it, as it does for a request for
    /// one object or with `NLM_F_ECHO`, is read by `read`.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with the kernel's errno and text; [`Error::TooLarge`], [`Error::Send`], [`Error::Receive`],
    /// [`Error::Malformed`].
    pub fn ask<T>(
        &mut self,
        action: &Action,
        message: &Message,
        mut read: impl FnMut(Reply<'_>) -> Result<Option<T>, Malformed>,
    ) -> Result<Answer<T>> {
        let sequence = self.send(action, std::slice::from_ref(message), |_| libc::NLM_F_ACK)?;
        let mut replies = Vec::new();
        let end = read_answer(&mut self.datagrams(MsgFlags::empty()), sequence, false, |reply| {
            replies.extend(read(reply)?);
            Ok(())
        });
        let end = end.map_err(|failure| failure.of(action))?;
        Ok(Answer { replies, warning: end.warning })
    }

    /// Sends a request of which nothing is awaited but its acknowledgement. Returns the warning that the kernel may have
    /// sent with it.
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask).
    pub fn execute(&mut self, action: &Action, message: &Message) -> Result<Option<String>> {
        Ok(self.ask::<()>(action, message, |_| Ok(None))?.warning)
    }

    /// Asks for a list of any length and returns what `read` makes of its messages, leaving out those of which it makes
    /// nothing. A list that changed while it was read is read again from its beginning.
    ///
    /// # Errors
    ///
    /// [`Error::DumpInterrupted`] if it changed 32 times in a row, else as [`ask`](Self::ask).
    pub fn dump<T>(
        &mut self,
        action: &Action,
        message: &Message,
        mut read: impl FnMut(Reply<'_>) -> Result<Option<T>, Malformed>,
    ) -> Result<Vec<T>> {
        for _ in 0..DUMP_ATTEMPTS {
            let sequence = self.send(action, std::slice::from_ref(message), |_| libc::NLM_F_DUMP)?;
            let mut items = Vec::new();
            let end = read_answer(&mut self.datagrams(MsgFlags::empty()), sequence, true, |reply| {
                items.extend(read(reply)?);
                Ok(())
            });
            let end = end.map_err(|failure| failure.of(action))?;
            if !end.interrupted {
                return Ok(items);
            }
        }
        Err(Error::DumpInterrupted { action: action.clone(), attempts: DUMP_ATTEMPTS })
    }

    /// Sends messages to a subsystem of nfnetlink as one transaction: all of them happen, or none. They are put between
    /// `NFNL_MSG_BATCH_BEGIN` and `NFNL_MSG_BATCH_END`; the last one is acknowledged, and a refusal of any is reported with
    /// its place. Replies to messages with `NLM_F_ECHO` are read by `read`.
    ///
    /// ```no_run
    /// use podrun_netlink::{Action, Connection, Message, Protocol};
    ///
    /// const NFNL_SUBSYS_NFTABLES: u16 = 10;
    /// let mut netfilter = Connection::open(Protocol::Netfilter)?;
    /// // NFT_MSG_NEWTABLE with struct nfgenmsg { NFPROTO_INET, NFNETLINK_V0, 0 } and NFTA_TABLE_NAME
    /// let mut table = Message::new(NFNL_SUBSYS_NFTABLES << 8, libc::NLM_F_CREATE, &[1, 0, 0, 0]);
    /// table.body.text(1, "example");
    /// let action = Action::new("create table", "example");
    /// netfilter.transaction(&action, NFNL_SUBSYS_NFTABLES, &[table], |_| Ok(None::<()>))?;
    /// # Ok::<(), podrun_netlink::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::TransactionRefused`] with the place of the first message that was refused, or without one if the commit
    /// failed. [`Error::NoAnswer`] if nothing was acknowledged. Else as [`ask`](Self::ask).
    pub fn transaction<T>(
        &mut self,
        action: &Action,
        subsystem: u16,
        messages: &[Message],
        mut read: impl FnMut(Reply<'_>) -> Result<Option<T>, Malformed>,
    ) -> Result<Vec<T>> {
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        // struct nfgenmsg, which names the subsystem in network order.
        let [high, low] = subsystem.to_be_bytes();
        let border = |kind| Message::new(kind, 0, &[0, 0, high, low]);
        let mut all = Vec::with_capacity(messages.len() + 2);
        all.push(border(NFNL_MSG_BATCH_BEGIN));
        all.extend_from_slice(messages);
        all.push(border(NFNL_MSG_BATCH_END));
        let bits = |index| if index == messages.len() { libc::NLM_F_ACK } else { 0 };
        let first = self.send(action, &all, bits)?;
        let mut replies = Vec::new();
        let end = read_batch(&mut self.datagrams(MsgFlags::MSG_DONTWAIT), first, all.len(), |reply| {
            replies.extend(read(reply)?);
            Ok(())
        });
        let end = end.map_err(|failure| failure.of(action))?;
        if let Some((place, source)) = end.refused {
            let index = place.checked_sub(1).filter(|index| *index < messages.len());
            return Err(Error::TransactionRefused { action: action.clone(), index, source });
        }
        if end.acknowledged { Ok(replies) } else { Err(Error::NoAnswer { action: action.clone() }) }
    }

    /// Sends messages in one datagram and returns the sequence number of the first; the others follow it.
    fn send(&mut self, action: &Action, messages: &[Message], bits: impl Fn(usize) -> i32) -> Result<u32> {
        if messages.iter().any(|message| message.body.is_too_large()) {
            return Err(Error::TooLarge { action: action.clone() });
        }
        let first = self.sequence.wrapping_add(1);
        let mut datagram = Vec::new();
        for (index, message) in messages.iter().enumerate() {
            self.sequence = self.sequence.wrapping_add(1);
            message.write(&mut datagram, self.sequence, bits(index));
        }
        loop {
            match self.socket.send(&datagram, Msg::empty()) {
                Ok(_) => return Ok(first),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) && self.grow(datagram.len()) => {}
                Err(source) => return Err(Error::Send { action: action.clone(), source }),
            }
        }
    }

    /// Makes room for a datagram in the send buffer; tells whether there is more than before.
    fn grow(&self, length: usize) -> bool {
        let size = || nix::sys::socket::getsockopt(&self.as_fd(), sockopt::SndBuf).unwrap_or(0);
        let before = size();
        // The kernel doubles it for its own overhead.
        if setsockopt(&self.as_fd(), sockopt::SndBufForce, &length).is_err() {
            // Without CAP_NET_ADMIN it is bounded by net.core.wmem_max; if that is too little, sending fails.
            let _ = setsockopt(&self.as_fd(), sockopt::SndBuf, &length);
        }
        size() > before
    }

    fn datagrams(&mut self, flags: MsgFlags) -> Receiver<'_> {
        Receiver { socket: sys::borrow(&self.socket), buffer: &mut self.buffer, flags }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        sys::borrow(&self.socket)
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("protocol", &self.protocol)
            .field("fd", &self.socket.as_raw_fd())
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

/// Reads from the socket itself: neli's own receiving tells neither who the sender is nor whether a datagram was cut.
struct Receiver<'a> {
    socket: BorrowedFd<'a>,
    buffer: &'a mut Vec<u8>,
    flags: MsgFlags,
}

impl Receiver<'_> {
    /// Returns the length of a datagram, which may be more than what was put into the buffer, and whether the kernel
    /// sent it.
    fn receive(&mut self, flags: MsgFlags) -> nix::Result<(usize, bool)> {
        loop {
            let mut room = [IoSliceMut::new(self.buffer)];
            let flags = self.flags | flags | MsgFlags::MSG_TRUNC;
            match recvmsg::<NetlinkAddr>(self.socket.as_raw_fd(), &mut room, None, flags) {
                Ok(message) => {
                    let from_kernel = message.address.is_some_and(|address| address.pid() == 0);
                    return Ok((message.bytes, from_kernel));
                }
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

impl Datagrams for Receiver<'_> {
    fn next(&mut self) -> io::Result<&[u8]> {
        loop {
            let (length, _) = self.receive(MsgFlags::MSG_PEEK)?;
            if length > self.buffer.len() {
                self.buffer.resize(length, 0);
            }
            let (length, from_kernel) = self.receive(MsgFlags::empty())?;
            if from_kernel {
                return Ok(&self.buffer[..length.min(self.buffer.len())]);
            }
        }
    }
}

/// Turns one errno into a success.
fn tolerate(errno: i32) -> impl FnOnce(SocketError) -> std::result::Result<(), SocketError> {
    move |error| match error {
        SocketError::Io(error) if error.raw_os_error() == Some(errno) => Ok(()),
        other => Err(other),
    }
}

fn io_error(error: SocketError) -> io::Error {
    match error {
        SocketError::Io(error) => match error.raw_os_error() {
            Some(errno) => io::Error::from_raw_os_error(errno),
            None => io::Error::from(error.kind()),
        },
        other => io::Error::other(other.to_string()),
    }
}
