//! Packets: JSON with descriptors.

use std::io::{self, IoSlice, IoSliceMut, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::getsockopt;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recv, recvmsg, sendmsg, sockopt::PeerCredentials,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::sys;

/// Descriptors that one packet can carry: `SCM_MAX_FD` of the kernel.
pub const MAX_FDS: usize = 253;

/// Longer messages travel in a memfd: the socket's buffer, which the host may keep small, must hold a whole packet. The
/// usual ones have 1 to 6 KiB, and an init should stay small.
const MAX_INLINE: usize = 16 * 1024;

/// A supervisor's patience with an init that does not read. Init always does, so this is for one that is stopped.
const SEND_TIMEOUT_MS: u16 = 10_000;

/// A message that has been encoded and not been sent.
#[derive(Debug)]
pub struct Packet {
    inline: Vec<u8>,
    memfd: Option<OwnedFd>,
}

/// Encodes a message.
///
/// # Errors
///
/// `ENOMEM` or `ENOSPC` if a long message finds no room in a memfd.
pub fn encode<T: Serialize>(message: &T) -> io::Result<Packet> {
    let json = serde_json::to_vec(message)?;
    if json.len() <= MAX_INLINE {
        return Ok(Packet { inline: json, memfd: None });
    }
    let memfd = memfd_create(c"podrun-message", MFdFlags::MFD_CLOEXEC)?;
    let mut file = std::fs::File::from(memfd);
    file.write_all(&json)?;
    file.rewind()?;
    // The length stands where JSON would: a digit opens no message of ours.
    Ok(Packet { inline: json.len().to_string().into_bytes(), memfd: Some(file.into()) })
}

/// One end of the connection between a supervisor and an init.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
}

impl Channel {
    /// Takes over a connected socket, which should be non-blocking.
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Returns the user id of the peer at the time it connected.
    ///
    /// # Errors
    ///
    /// `EBADF` or `ENOTSOCK` for what is no Unix socket.
    pub fn peer_uid(&self) -> io::Result<u32> {
        Ok(getsockopt(&self.socket, PeerCredentials)?.uid())
    }

    /// Sends a packet, at once or not at all.
    ///
    /// # Errors
    ///
    /// `EAGAIN` if the peer does not read, `EPIPE` or `ECONNRESET` if it is gone, `ETOOMANYREFS` if too many
    /// descriptors are on their way.
    pub fn try_send(&self, packet: &Packet, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let raw: Vec<RawFd> =
            fds.iter().map(AsRawFd::as_raw_fd).chain(packet.memfd.iter().map(AsRawFd::as_raw_fd)).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
        let data = [IoSlice::new(&packet.inline)];
        loop {
            match sendmsg::<UnixAddr>(self.socket.as_raw_fd(), &data, control, MsgFlags::MSG_NOSIGNAL, None) {
                Err(Errno::EINTR) => {}
                Ok(_) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Sends a message, waiting for room for up to ten seconds.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Self::try_send) and [`encode`]; `ETIMEDOUT` after the ten seconds.
    pub fn send<T: Serialize>(&self, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let packet = encode(message)?;
        loop {
            match self.try_send(&packet, fds) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut wait = [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)];
                    match poll(&mut wait, PollTimeout::from(SEND_TIMEOUT_MS)) {
                        Ok(0) => return Err(Errno::ETIMEDOUT.into()),
                        Ok(_) | Err(Errno::EINTR) => {}
                        Err(errno) => return Err(errno.into()),
                    }
                }
                result => return result,
            }
        }
    }

    /// Receives a message with its descriptors; none once the peer has closed.
    ///
    /// # Errors
    ///
    /// `EAGAIN` if nothing is there and the socket is non-blocking, `ECONNRESET` if the peer is gone with messages
    /// unread, `InvalidData` for a message that cannot be understood. Its descriptors are closed.
    pub fn recv<T: DeserializeOwned>(&mut self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let (inline, mut fds, flags) = self.receive()?;
        if inline.is_empty() && fds.is_empty() {
            return Ok(None);
        }
        if flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a packet was cut off"));
        }
        if !inline.first().is_some_and(u8::is_ascii_digit) {
            return Ok(Some((serde_json::from_slice(&inline)?, fds)));
        }
        let missing = || io::Error::new(io::ErrorKind::InvalidData, "a long packet came without its memory");
        let mut json = Vec::new();
        std::fs::File::from(fds.pop().ok_or_else(missing)?).read_to_end(&mut json)?;
        Ok(Some((serde_json::from_slice(&json)?, fds)))
    }

    fn receive(&mut self) -> io::Result<(Vec<u8>, Vec<OwnedFd>, MsgFlags)> {
        // The memfd of a long message comes on top of its descriptors, which are fewer than the most there can be.
        let mut control = nix::cmsg_space!([RawFd; MAX_FDS]);
        let socket = self.socket.as_raw_fd();
        // No longer than what comes: memory that is written to stays with a process, and is copied for each that it clones.
        let mut inline = vec![0; self.next_length()?.min(MAX_INLINE)];
        loop {
            let mut data = [IoSliceMut::new(&mut inline)];
            let received =
                recvmsg::<UnixAddr>(socket, &mut data, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC);
            match received {
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
                Ok(message) => {
                    let mut raw = Vec::new();
                    for control in message.cmsgs()? {
                        if let ControlMessageOwned::ScmRights(fds) = control {
                            raw.extend(fds);
                        }
                    }
                    let (length, flags) = (message.bytes, message.flags);
                    inline.truncate(length);
                    return Ok((inline, sys::received(raw), flags));
                }
            }
        }
    }

    /// Returns the length of the packet that comes next, without taking it.
    fn next_length(&self) -> io::Result<usize> {
        loop {
            match recv(self.socket.as_raw_fd(), &mut [], MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC) {
                Err(Errno::EINTR) => {}
                result => return Ok(result?),
            }
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::{Event, ExitStatus, Exited, InitSetup, Request};
    use podrun_spec::time::Timestamp;

    fn pair() -> (Channel, Channel) {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (a, b) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).expect("a socket pair");
        (Channel::new(a), Channel::new(b))
    }

    #[test]
    fn nothing_there_would_block_and_a_closed_peer_ends() {
        let (a, mut b) = pair();
        assert_eq!(b.recv::<Event>().expect_err("empty").kind(), io::ErrorKind::WouldBlock);
        drop(a);
        assert!(b.recv::<Event>().expect("closed").is_none());
    }

    #[test]
    fn messages_keep_their_borders_and_descriptors() {
        let (a, mut b) = pair();
        let file = File::open("/dev/null").expect("the null device");
        a.send(&Request::Hello, &[]).expect("send");
        a.send(&Request::Shutdown, &[file.as_fd(), file.as_fd()]).expect("send");
        let (first, fds) = b.recv::<Request>().expect("recv").expect("open");
        assert_eq!((first, fds.len()), (Request::Hello, 0));
        let (second, fds) = b.recv::<Request>().expect("recv").expect("open");
        assert_eq!((second, fds.len()), (Request::Shutdown, 2));
    }

    #[test]
    fn a_long_message_travels_in_memory() {
        let (a, mut b) = pair();
        let file = File::open("/dev/null").expect("the null device");
        let long = Request::Signal { id: "x".repeat(3 * MAX_INLINE), signal: 15 };
        a.send(&long, &[file.as_fd()]).expect("send");
        let (message, fds) = b.recv::<Request>().expect("recv").expect("open");
        assert_eq!(message, long);
        assert_eq!(fds.len(), 1, "the memory is not among the descriptors");
    }

    #[test]
    fn garbage_is_an_error_and_the_next_message_is_read() {
        let (a, mut b) = pair();
        for garbage in ["x", "{", "7", "{\"Signal\":{\"id\":1}}", "\"NoSuch\""] {
            let packet = Packet { inline: garbage.as_bytes().to_vec(), memfd: None };
            a.try_send(&packet, &[]).expect("send");
            assert!(b.recv::<Request>().is_err(), "{garbage}");
        }
        a.send(&Request::Hello, &[]).expect("send");
        assert_eq!(b.recv::<Request>().expect("recv").expect("open").0, Request::Hello);
    }

    proptest! {
        #[test]
        fn what_was_sent_is_what_is_received(
            id in ".*", code in any::<i32>(), at in any::<i64>(), names in proptest::collection::vec(".*", 0..5),
        ) {
            let (a, mut b) = pair();
            let status = if code % 2 == 0 { ExitStatus::Code(code) } else { ExitStatus::Signal(code) };
            let event = Event::Exited(Exited { id, status, finished_at: Timestamp(at) });
            a.send(&event, &[]).expect("send");
            prop_assert_eq!(b.recv::<Event>().expect("recv").expect("open").0, event);
            let setup = Request::Setup(InitSetup { volumes: names, ..InitSetup::default() });
            a.send(&setup, &[]).expect("send");
            prop_assert_eq!(b.recv::<Request>().expect("recv").expect("open").0, setup);
        }
    }
}
