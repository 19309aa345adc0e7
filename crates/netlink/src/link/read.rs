//! Links as the kernel tells them.

use super::{BridgeOptions, LinkStatistics, PortOptions, UP};
use crate::error::Malformed;
use crate::exchange::Reply;
use crate::mac::MacAddress;
use crate::wire::{Attribute, attributes};

/// Whether a link can carry packets (RFC 2863); see `include/uapi/linux/if.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OperState {
    /// The driver does not tell; loopback and ifb for instance.
    #[default]
    Unknown,
    /// Something is missing: a component of the link is absent.
    NotPresent,
    /// It cannot: it is down, or the other end is.
    Down,
    /// The link below it is down.
    LowerLayerDown,
    /// It is being tested.
    Testing,
    /// It waits for something external.
    Dormant,
    /// It can.
    Up,
}

impl OperState {
    fn from_code(code: u8) -> Self {
        match code {
            1 => Self::NotPresent,
            2 => Self::Down,
            3 => Self::LowerLayerDown,
            4 => Self::Testing,
            5 => Self::Dormant,
            6 => Self::Up,
            _ => Self::Unknown,
        }
    }
}

/// A link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Link {
    /// The index, unique in its network namespace.
    pub index: u32,
    /// The name.
    pub name: String,
    /// The kind, such as `veth`; links of hardware and loopback have none.
    pub kind: Option<String>,
    /// Whether it was set up.
    pub is_up: bool,
    /// Whether it can carry packets.
    pub state: OperState,
    /// The flags (`IFF_*`).
    pub flags: u32,
    /// The MTU in bytes.
    pub mtu: u32,
    /// The length of the transmit queue in packets.
    pub tx_queue_length: u32,
    /// The hardware address, if it is an Ethernet one.
    pub mac: Option<MacAddress>,
    /// The alias.
    pub alias: Option<String>,
    /// The index of the bridge, bond or VRF it belongs to.
    pub master: Option<u32>,
    /// The index of the link it stands on; for a veth that of its peer, in the namespace that `peer_netns` names.
    pub peer: Option<u32>,
    /// The id by which this network namespace knows that of the peer; `None` if it is the same one.
    pub peer_netns: Option<i32>,
    /// The kind of the root queueing discipline.
    pub qdisc: Option<String>,
    /// The largest packet that may be handed to the link for segmentation, in bytes.
    pub gso_max_size: Option<u32>,
    /// The counters.
    pub statistics: LinkStatistics,
    /// The options, of a bridge.
    pub bridge: Option<BridgeOptions>,
    /// The options as the port, of a bridge.
    pub port: Option<PortOptions>,
}

impl Link {
    pub(crate) fn read(reply: Reply<'_>) -> Result<Option<Self>, Malformed> {
        if reply.kind() != libc::RTM_NEWLINK {
            return Ok(None);
        }
        let (structure, rest) = reply.split::<16>("struct ifinfomsg")?;
        let word = |at: usize| {
            u32::from_ne_bytes([structure[at], structure[at + 1], structure[at + 2], structure[at + 3]])
        };
        let flags = word(8);
        let mut link = Self { index: word(4), flags, is_up: flags & UP != 0, ..Self::default() };
        for attribute in attributes(rest) {
            link.read_attribute(&attribute?)?;
        }
        Ok(Some(link))
    }

    fn read_attribute(&mut self, attribute: &Attribute<'_>) -> Result<(), Malformed> {
        match attribute.kind() {
            libc::IFLA_IFNAME => self.name = attribute.text(),
            libc::IFLA_MTU => self.mtu = attribute.u32()?,
            libc::IFLA_TXQLEN => self.tx_queue_length = attribute.u32()?,
            libc::IFLA_ADDRESS => self.mac = attribute.payload().try_into().ok().map(MacAddress::new),
            libc::IFLA_IFALIAS => self.alias = Some(attribute.text()).filter(|alias| !alias.is_empty()),
            libc::IFLA_MASTER => self.master = Some(attribute.u32()?),
            libc::IFLA_LINK => self.peer = Some(attribute.u32()?).filter(|index| *index != 0),
            libc::IFLA_LINK_NETNSID => self.peer_netns = Some(attribute.i32()?),
            libc::IFLA_QDISC => self.qdisc = Some(attribute.text()),
            libc::IFLA_OPERSTATE => self.state = OperState::from_code(attribute.u8()?),
            libc::IFLA_GSO_MAX_SIZE => self.gso_max_size = Some(attribute.u32()?),
            libc::IFLA_STATS64 => self.statistics = LinkStatistics::read(attribute.payload())?,
            libc::IFLA_LINKINFO => self.read_info(attribute)?,
            _ => {}
        }
        Ok(())
    }

    fn read_info(&mut self, info: &Attribute<'_>) -> Result<(), Malformed> {
        let mut is_port = false;
        for attribute in info.nested() {
            let attribute = attribute?;
            match attribute.kind() {
                libc::IFLA_INFO_KIND => self.kind = Some(attribute.text()),
                // The kernel writes each kind before its data.
                libc::IFLA_INFO_DATA if self.kind.as_deref() == Some("bridge") => {
                    self.bridge = Some(BridgeOptions::read(attribute.nested())?);
                }
                libc::IFLA_INFO_SLAVE_KIND => is_port = attribute.text() == "bridge",
                libc::IFLA_INFO_SLAVE_DATA if is_port => {
                    self.port = Some(PortOptions::read(attribute.nested())?);
                }
                _ => {}
            }
        }
        Ok(())
    }
}
