//! Links to be created.

use std::os::fd::{AsRawFd, BorrowedFd};

use super::{BridgeOptions, LinkChange, UP, check_name, ifinfomsg};
use crate::error::{Action, Error, Result};
use crate::mac::MacAddress;
use crate::wire::{Body, Message};

// enum in include/uapi/linux/veth.h
const VETH_INFO_PEER: u16 = 1;

/// What a new link is; see ip-link(8).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum LinkKind<'a> {
    /// A pair of links, of which each receives what the other sends.
    Veth(Peer<'a>),
    /// A switch.
    Bridge(BridgeOptions),
    /// An intermediate functional block: a link to redirect packets to, so that what comes in can be queued.
    Ifb,
    /// A link of a kind that needs no options, such as `dummy`.
    Other(&'a str),
}

impl LinkKind<'_> {
    /// Returns the kernel's name of the kind.
    pub fn name(&self) -> &str {
        match self {
            Self::Veth(_) => "veth",
            Self::Bridge(_) => "bridge",
            Self::Ifb => "ifb",
            Self::Other(kind) => kind,
        }
    }
}

/// The other end of a veth pair.
#[derive(Debug, Clone)]
pub struct Peer<'a> {
    name: &'a str,
    netns: Option<BorrowedFd<'a>>,
    set: LinkChange<'a>,
}

impl<'a> Peer<'a> {
    /// Returns a peer beside the first end.
    pub fn new(name: &'a str) -> Self {
        Self { name, netns: None, set: LinkChange::new() }
    }

    /// Lets the peer be born in a network namespace, where it never was anywhere else: no name can clash on the way, and
    /// no event tells of it here.
    #[must_use]
    pub fn in_netns(self, netns: BorrowedFd<'a>) -> Self {
        Self { netns: Some(netns), ..self }
    }

    /// Sets the address, else the kernel takes a random one.
    #[must_use]
    pub fn mac(self, mac: MacAddress) -> Self {
        Self { set: self.set.mac(mac), ..self }
    }

    /// Sets the MTU in bytes.
    #[must_use]
    pub fn mtu(self, mtu: u32) -> Self {
        Self { set: self.set.mtu(mtu), ..self }
    }

    fn write(&self, body: &mut Body) {
        body.raw(&ifinfomsg(libc::AF_UNSPEC, 0, 0, 0)).text(libc::IFLA_IFNAME, self.name);
        self.set.write_attributes(body);
        if let Some(netns) = self.netns {
            body.i32(libc::IFLA_NET_NS_FD, netns.as_raw_fd());
        }
    }
}

/// A link to be created.
///
/// ```no_run
/// use std::fs::File;
/// use std::os::fd::AsFd as _;
/// use podrun_netlink::{NewLink, Peer, Rtnetlink};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let netns = File::open("/run/netns/blue")?;
/// let mut host = Rtnetlink::open()?;
/// let bridge = host.create_link(&NewLink::bridge("br0").up())?;
/// let veth = NewLink::veth("veth-blue", Peer::new("eth0").in_netns(netns.as_fd())).master(bridge).up();
/// let index = host.create_link(&veth)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct NewLink<'a> {
    name: &'a str,
    kind: LinkKind<'a>,
    set: LinkChange<'a>,
    netns: Option<BorrowedFd<'a>>,
}

impl<'a> NewLink<'a> {
    /// Returns a link of any kind.
    pub fn new(name: &'a str, kind: LinkKind<'a>) -> Self {
        Self { name, kind, set: LinkChange::new(), netns: None }
    }

    /// Returns a veth pair. What is set here is set for the end with this name.
    pub fn veth(name: &'a str, peer: Peer<'a>) -> Self {
        Self::new(name, LinkKind::Veth(peer))
    }

    /// Returns a bridge with the kernel's defaults.
    pub fn bridge(name: &'a str) -> Self {
        Self::bridge_with(name, BridgeOptions::default())
    }

    /// Returns a bridge with options.
    pub fn bridge_with(name: &'a str, options: BridgeOptions) -> Self {
        Self::new(name, LinkKind::Bridge(options))
    }

    /// Returns an ifb.
    pub fn ifb(name: &'a str) -> Self {
        Self::new(name, LinkKind::Ifb)
    }

    /// Returns the name.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// Creates the link in another network namespace than that of the socket.
    #[must_use]
    pub fn in_netns(self, netns: BorrowedFd<'a>) -> Self {
        Self { netns: Some(netns), ..self }
    }

    /// Creates it up.
    #[must_use]
    pub fn up(self) -> Self {
        Self { set: self.set.up(), ..self }
    }

    /// Sets the MTU in bytes.
    #[must_use]
    pub fn mtu(self, mtu: u32) -> Self {
        Self { set: self.set.mtu(mtu), ..self }
    }

    /// Sets the length of the transmit queue in packets.
    #[must_use]
    pub fn tx_queue_length(self, packets: u32) -> Self {
        Self { set: self.set.tx_queue_length(packets), ..self }
    }

    /// Sets the address, else the kernel takes a random one.
    #[must_use]
    pub fn mac(self, mac: MacAddress) -> Self {
        Self { set: self.set.mac(mac), ..self }
    }

    /// Makes it a port of a bridge, by the bridge's index.
    #[must_use]
    pub fn master(self, index: u32) -> Self {
        Self { set: self.set.master(index), ..self }
    }

    /// Sets the alias, a free text of at most 255 bytes that `ip link` shows. The kernel takes it only of a link that
    /// exists: [`Rtnetlink::create_link`](crate::Rtnetlink::create_link) sends it in a second request and deletes the link
    /// if that fails.
    #[must_use]
    pub fn alias(self, alias: &'a str) -> Self {
        Self { set: self.set.alias(alias), ..self }
    }

    pub(crate) fn alias_text(&self) -> Option<&'a str> {
        self.set.alias
    }

    pub(crate) fn action(&self) -> Action {
        Action::new("create link", format!("{:?} of kind {}", self.name, self.kind.name()))
    }

    pub(crate) fn message(&self) -> Result<Message> {
        check_name(self.name)?;
        self.set.check(&self.action())?;
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL | libc::NLM_F_ECHO;
        let (up, change) = self.set.flags();
        let mut message =
            Message::new(libc::RTM_NEWLINK, flags, &ifinfomsg(libc::AF_UNSPEC, 0, up & UP, change));
        let body = &mut message.body;
        body.text(libc::IFLA_IFNAME, self.name);
        self.set.write_attributes(body);
        if let Some(netns) = self.netns {
            body.i32(libc::IFLA_NET_NS_FD, netns.as_raw_fd());
        }
        if let LinkKind::Veth(peer) = &self.kind {
            check_name(peer.name)?;
            if peer.name == self.name && peer.netns.is_none() && self.netns.is_none() {
                return Err(Error::InvalidName {
                    name: self.name.to_owned(),
                    reason: "is that of the peer in the same network namespace",
                });
            }
        }
        body.nest(libc::IFLA_LINKINFO, |info| {
            info.text(libc::IFLA_INFO_KIND, self.kind.name());
            match &self.kind {
                LinkKind::Veth(peer) => {
                    info.nest(libc::IFLA_INFO_DATA, |data| {
                        data.nest(VETH_INFO_PEER, |inner| peer.write(inner));
                    });
                }
                LinkKind::Bridge(options) if !options.is_empty() => {
                    info.nest(libc::IFLA_INFO_DATA, |data| options.write(data));
                }
                LinkKind::Bridge(_) | LinkKind::Ifb | LinkKind::Other(_) => {}
            }
        });
        Ok(message)
    }
}
