//! The floor of a Pod's network: the least that the kernel has to be asked for over netlink, message by message.
//!
//! It leaves out what makes the network safe and usable: who may say what, leases, host ports, limits, an alias by which the link
//! is found again, a look at what is there already.

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::thread;

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

const REQUEST: u16 = 1;
const ACK: u16 = 4;
const EXCLUSIVE: u16 = 0x200;
const CREATE: u16 = 0x400;
const NESTED: u16 = 0x8000;

/// The index that the Pod's end gets: the first after loopback.
const PEER: u32 = 2;

/// Where the floor's Pods are.
pub(crate) struct Floor {
    bridge: u32,
    gateway: Ipv4Addr,
    prefix: u8,
    host: OwnedFd,
}

impl Floor {
    /// Takes a bridge that is there, in the network namespace of the calling thread.
    pub(crate) fn new(bridge: u32, gateway: Ipv4Addr, prefix: u8) -> io::Result<Self> {
        Ok(Self { bridge, gateway, prefix, host: netlink()? })
    }

    /// Joins a network namespace to the bridge: a veth pair, an address, a default route.
    pub(crate) fn setup(&self, name: &str, netns: &File, address: Ipv4Addr) -> io::Result<()> {
        // Born as a port of the bridge and up; its other end in the namespace.
        let mut create = Request::new(libc::RTM_NEWLINK, CREATE | EXCLUSIVE, &link(0, true));
        create.text(libc::IFLA_IFNAME, name).u32(libc::IFLA_MASTER, self.bridge);
        create.nest(libc::IFLA_LINKINFO, |info| {
            info.text(libc::IFLA_INFO_KIND, "veth");
            info.nest(libc::IFLA_INFO_DATA, |data| {
                // VETH_INFO_PEER
                data.nest(1, |peer| {
                    peer.raw(&link(PEER, false)).text(libc::IFLA_IFNAME, "eth0");
                    peer.u32(libc::IFLA_NET_NS_FD, netns.as_raw_fd().cast_unsigned());
                });
            });
        });
        ask(&self.host, create)?;
        let inside = || -> io::Result<()> {
            setns(netns.as_fd(), CloneFlags::CLONE_NEWNET)?;
            let pod = netlink()?;
            ask(&pod, Request::new(libc::RTM_NEWLINK, 0, &link(PEER, true)))?;
            let family = u8::try_from(libc::AF_INET).expect("2");
            let [a, b, c, d] = PEER.to_ne_bytes();
            let header = [family, self.prefix, 0, 0, a, b, c, d];
            let mut add = Request::new(libc::RTM_NEWADDR, CREATE | EXCLUSIVE, &header);
            add.attribute(libc::IFA_LOCAL, &address.octets()).attribute(libc::IFA_ADDRESS, &address.octets());
            ask(&pod, add)?;
            let header = [
                family,
                0,
                0,
                0,
                libc::RT_TABLE_MAIN,
                libc::RTPROT_STATIC,
                libc::RT_SCOPE_UNIVERSE,
                libc::RTN_UNICAST,
                0,
                0,
                0,
                0,
            ];
            let mut route = Request::new(libc::RTM_NEWROUTE, CREATE | EXCLUSIVE, &header);
            route.attribute(libc::RTA_GATEWAY, &self.gateway.octets());
            ask(&pod, route)
        };
        // On a thread, as podrun does it: a process that comes back to its own namespace has to name it.
        thread::scope(|scope| scope.spawn(inside).join().expect("no panic"))
    }

    /// Deletes the pair and waits for that.
    pub(crate) fn teardown(&self, name: &str) -> io::Result<()> {
        let mut delete = Request::new(libc::RTM_DELLINK, 0, &link(0, false));
        delete.text(libc::IFLA_IFNAME, name);
        ask(&self.host, delete)
    }
}

fn netlink() -> io::Result<OwnedFd> {
    let protocol = SockProtocol::NetlinkRoute;
    Ok(socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?)
}

/// `struct ifinfomsg`
fn link(index: u32, up: bool) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    if up {
        let up = libc::IFF_UP.cast_unsigned().to_ne_bytes();
        bytes[8..12].copy_from_slice(&up);
        bytes[12..].copy_from_slice(&up);
    }
    bytes
}

/// Sends a request and waits for its acknowledgement.
fn ask(socket: &OwnedFd, mut request: Request) -> io::Result<()> {
    let length = u32::try_from(request.0.len()).map_err(io::Error::other)?;
    request.0[..4].copy_from_slice(&length.to_ne_bytes());
    let kernel = NetlinkAddr::new(0, 0);
    sendto(socket.as_raw_fd(), &request.0, &kernel, MsgFlags::empty())?;
    let mut answer = [0; 1024];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    // struct nlmsgerr behind the header
    let error = answer[..length].get(16..20).ok_or(io::ErrorKind::UnexpectedEof)?;
    match i32::from_ne_bytes(error.try_into().expect("four bytes")) {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(-errno)),
    }
}

/// A message, of which all but its length is written.
struct Request(Vec<u8>);

impl Request {
    fn new(kind: u16, flags: u16, header: &[u8]) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((REQUEST | ACK | flags).to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(header);
        Self(bytes)
    }

    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend(bytes);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(value.len() + 4).expect("short");
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.raw(value)
    }

    fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attribute(kind, &value.to_ne_bytes())
    }

    fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        self.attribute(kind, &[value.as_bytes(), b"\0"].concat())
    }

    fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.attribute(kind | NESTED, &[]);
        fill(self);
        let length = u16::try_from(self.0.len() - start).expect("short");
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }
}
