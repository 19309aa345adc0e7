//! Changes to links.

use std::os::fd::{AsRawFd, BorrowedFd};

use super::{BridgeOptions, LinkId, PortOptions, UP, check_name, ifinfomsg};
use crate::error::{Action, Error, Result};
use crate::mac::MacAddress;
use crate::wire::{Body, Message};

/// The kernel's `IFALIASZ`, without the NUL.
const ALIAS_MAX: usize = 255;
// IFLA_AF_SPEC { AF_INET6 { IFLA_INET6_ADDR_GEN_MODE } }; include/uapi/linux/if_link.h
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;

/// What is to become different about a link; nothing at first. It is one request: all of it happens, or the error names
/// what the kernel did not like, and what came before in the kernel's own order stays done.
///
/// ```
/// use podrun_netlink::LinkChange;
/// let change = LinkChange::new().mtu(1450).alias("pod 4711").up();
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct LinkChange<'a> {
    is_up: Option<bool>,
    name: Option<&'a str>,
    pub(super) alias: Option<&'a str>,
    mtu: Option<u32>,
    tx_queue_length: Option<u32>,
    mac: Option<MacAddress>,
    master: Option<u32>,
    netns: Option<BorrowedFd<'a>>,
    no_link_local: bool,
    bridge: Option<BridgeOptions>,
    port: Option<PortOptions>,
}

impl<'a> LinkChange<'a> {
    /// Returns a change of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets it up.
    pub fn up(self) -> Self {
        Self { is_up: Some(true), ..self }
    }

    /// Sets it down.
    pub fn down(self) -> Self {
        Self { is_up: Some(false), ..self }
    }

    /// Renames it. Kernels before 6.2 (commit bd039b5ea2a9) want it to be down for that.
    pub fn name(self, name: &'a str) -> Self {
        Self { name: Some(name), ..self }
    }

    /// Sets the alias, a free text of at most 255 bytes; the empty text removes it.
    pub fn alias(self, alias: &'a str) -> Self {
        Self { alias: Some(alias), ..self }
    }

    /// Sets the MTU in bytes.
    pub fn mtu(self, mtu: u32) -> Self {
        Self { mtu: Some(mtu), ..self }
    }

    /// Sets the length of the transmit queue in packets. A queueing discipline that exists keeps its own.
    pub fn tx_queue_length(self, packets: u32) -> Self {
        Self { tx_queue_length: Some(packets), ..self }
    }

    /// Sets the hardware address.
    pub fn mac(self, mac: MacAddress) -> Self {
        Self { mac: Some(mac), ..self }
    }

    /// Makes it a port of a bridge, by the bridge's index.
    pub fn master(self, index: u32) -> Self {
        Self { master: Some(index), ..self }
    }

    /// Takes it out of its bridge.
    pub fn no_master(self) -> Self {
        self.master(0)
    }

    /// Moves it to another network namespace. Its index there is another one, and it arrives down and without addresses.
    pub fn netns(self, netns: BorrowedFd<'a>) -> Self {
        Self { netns: Some(netns), ..self }
    }

    /// Gives it no IPv6 link-local address of its own when it comes up.
    pub fn no_link_local(self) -> Self {
        Self { no_link_local: true, ..self }
    }

    /// Sets options of a bridge.
    pub fn bridge(self, options: BridgeOptions) -> Self {
        Self { bridge: Some(options), ..self }
    }

    /// Sets options of the port of a bridge.
    pub fn port(self, options: PortOptions) -> Self {
        Self { port: Some(options), ..self }
    }

    /// The flags and which of them count.
    pub(super) fn flags(&self) -> (u32, u32) {
        match self.is_up {
            Some(is_up) => (if is_up { UP } else { 0 }, UP),
            None => (0, 0),
        }
    }

    pub(super) fn check(&self, action: &Action) -> Result<()> {
        if let Some(name) = self.name {
            check_name(name)?;
        }
        if let Some(alias) = self.alias.filter(|alias| alias.len() > ALIAS_MAX || alias.contains('\0')) {
            let reason = format!("the alias has {} bytes or a NUL, at most 255 are possible", alias.len());
            return Err(Error::InvalidValue { action: action.clone(), reason });
        }
        Ok(())
    }

    /// Writes what a link that is being created may have too.
    pub(super) fn write_attributes(&self, body: &mut Body) {
        if let Some(mac) = self.mac {
            body.bytes(libc::IFLA_ADDRESS, &mac.octets());
        }
        if let Some(mtu) = self.mtu {
            body.u32(libc::IFLA_MTU, mtu);
        }
        if let Some(packets) = self.tx_queue_length {
            body.u32(libc::IFLA_TXQLEN, packets);
        }
        if let Some(master) = self.master {
            body.u32(libc::IFLA_MASTER, master);
        }
        if self.no_link_local {
            body.nest(libc::IFLA_AF_SPEC, |families| {
                families.nest(INET6, |inet6| {
                    inet6.u8(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
                });
            });
        }
    }

    pub(crate) fn message(&self, link: LinkId<'_>, action: &Action) -> Result<Message> {
        self.check(action)?;
        if self.name.is_some() && matches!(link, LinkId::Name(_)) {
            let reason =
                "a link that is named cannot be renamed in the same request, use its index".to_owned();
            return Err(Error::InvalidValue { action: action.clone(), reason });
        }
        let (flags, change) = self.flags();
        let structure = ifinfomsg(libc::AF_UNSPEC, link.index()?, flags, change);
        let mut message = Message::new(libc::RTM_NEWLINK, 0, &structure);
        let body = &mut message.body;
        link.put_name(body);
        if let Some(name) = self.name {
            body.text(libc::IFLA_IFNAME, name);
        }
        if let Some(alias) = self.alias {
            // No NUL: the kernel takes the length of the attribute for that of the text, and 0 for none.
            body.bytes(libc::IFLA_IFALIAS, alias.as_bytes());
        }
        self.write_attributes(body);
        if let Some(netns) = self.netns {
            body.i32(libc::IFLA_NET_NS_FD, netns.as_raw_fd());
        }
        if self.bridge.is_some() || self.port.is_some() {
            body.nest(libc::IFLA_LINKINFO, |info| {
                if let Some(options) = &self.bridge {
                    info.text(libc::IFLA_INFO_KIND, "bridge");
                    info.nest(libc::IFLA_INFO_DATA, |data| options.write(data));
                }
                if let Some(options) = &self.port {
                    info.text(libc::IFLA_INFO_SLAVE_KIND, "bridge");
                    info.nest(libc::IFLA_INFO_SLAVE_DATA, |data| options.write(data));
                }
            });
        }
        Ok(message)
    }
}

/// `AF_INET6` as the type of an attribute
const INET6: u16 = 10;
