//! Neighbours: the link-layer addresses behind IP addresses.

use std::net::IpAddr;

use crate::error::{Action, Malformed, Result};
use crate::exchange::Reply;
use crate::link::existed;
use crate::mac::MacAddress;
use crate::route::{family_byte, family_of};
use crate::rtnetlink::Rtnetlink;
use crate::wire::{Message, attributes};

/// A neighbour: an entry of the ARP or NDP table of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Neighbour {
    /// The link's index.
    pub link: u32,
    /// The IP address.
    pub ip: IpAddr,
    /// The hardware address, if it is known and an Ethernet one.
    pub mac: Option<MacAddress>,
    /// `NUD_*`: permanent, reachable, stale, failed and others.
    pub state: u16,
    /// `NTF_*`
    pub flags: u8,
}

impl Neighbour {
    /// Returns a neighbour that stays until it is deleted and is never asked for its address.
    pub fn permanent(link: u32, ip: IpAddr, mac: MacAddress) -> Self {
        Self { link, ip, mac: Some(mac), state: libc::NUD_PERMANENT, flags: 0 }
    }

    /// Whether it stays until it is deleted.
    pub fn is_permanent(&self) -> bool {
        self.state & libc::NUD_PERMANENT != 0
    }

    fn write(&self, kind: u16, flags: i32) -> Message {
        let mut structure = [0; 12];
        structure[0] = family_of(self.ip);
        structure[4..8].copy_from_slice(&self.link.to_ne_bytes());
        structure[8..10].copy_from_slice(&self.state.to_ne_bytes());
        structure[10] = self.flags;
        let mut message = Message::new(kind, flags, &structure);
        message.body.ip(libc::NDA_DST, self.ip);
        if let Some(mac) = self.mac {
            message.body.bytes(libc::NDA_LLADDR, &mac.octets());
        }
        message
    }

    fn read(reply: Reply<'_>) -> Result<Option<Self>, Malformed> {
        if reply.kind() != libc::RTM_NEWNEIGH {
            return Ok(None);
        }
        let (structure, rest) = reply.split::<12>("struct ndmsg")?;
        let (mut ip, mut mac) = (None, None);
        for attribute in attributes(rest) {
            let attribute = attribute?;
            match attribute.kind() {
                libc::NDA_DST => ip = attribute.ip().ok(),
                libc::NDA_LLADDR => mac = attribute.payload().try_into().ok().map(MacAddress::new),
                _ => {}
            }
        }
        let link = u32::from_ne_bytes([structure[4], structure[5], structure[6], structure[7]]);
        let state = u16::from_ne_bytes([structure[8], structure[9]]);
        Ok(ip.map(|ip| Self { link, ip, mac, state, flags: structure[10] }))
    }
}

impl Rtnetlink {
    /// Sets a neighbour, in the place of one with the same link and address.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`](crate::Error::Refused): `ENODEV`, `ENETDOWN`, `EPERM`.
    pub fn set_neighbour(&mut self, neighbour: &Neighbour) -> Result<()> {
        let action = Action::new("set neighbour", format!("{} on link {}", neighbour.ip, neighbour.link));
        let message = neighbour.write(libc::RTM_NEWNEIGH, libc::NLM_F_CREATE | libc::NLM_F_REPLACE);
        self.connection().execute(&action, &message)?;
        Ok(())
    }

    /// Deletes a neighbour; tells whether there was one.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`](crate::Error::Refused): `EPERM`.
    pub fn delete_neighbour(&mut self, link: u32, ip: IpAddr) -> Result<bool> {
        let action = Action::new("delete neighbour", format!("{ip} on link {link}"));
        let neighbour = Neighbour { link, ip, mac: None, state: 0, flags: 0 };
        existed(self.connection().execute(&action, &neighbour.write(libc::RTM_DELNEIGH, 0)))
    }

    /// Lists the neighbours on a link, given by its index, or on all.
    ///
    /// # Errors
    ///
    /// As [`Connection::dump`](crate::Connection::dump).
    pub fn neighbours(&mut self, link: Option<u32>) -> Result<Vec<Neighbour>> {
        let action =
            Action::new("list neighbours", link.map(|link| format!("on link {link}")).unwrap_or_default());
        let mut structure = [0; 12];
        structure[0] = family_byte(libc::AF_UNSPEC);
        let mut message = Message::new(libc::RTM_GETNEIGH, 0, &structure);
        if let Some(link) = link {
            message.body.u32(libc::NDA_IFINDEX, link);
        }
        self.connection().dump(&action, &message, |reply| {
            let neighbour = Neighbour::read(reply)?;
            Ok(neighbour.filter(|neighbour| link.is_none_or(|link| neighbour.link == link)))
        })
    }
}
