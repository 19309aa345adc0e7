//! Entries of the forwarding database of bridges: which hardware address is behind which port.

use crate::error::{Action, Malformed, Result};
use crate::exchange::Reply;
use crate::link::existed;
use crate::mac::MacAddress;
use crate::route::family_byte;
use crate::rtnetlink::Rtnetlink;
use crate::wire::{Message, attributes};

// enum in include/uapi/linux/neighbour.h
const NDA_MASTER: u16 = 9;

/// A hardware address behind the port of a bridge; see bridge(8).
///
/// A port that does not learn needs an entry for whoever is behind it, else what is sent there goes out of every port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FdbEntry {
    /// The port's index; that of the bridge for its own addresses.
    pub port: u32,
    /// The address.
    pub mac: MacAddress,
    /// The VLAN it is for, if the bridge respects VLAN tags; an entry without one is there too.
    pub vlan: Option<u16>,
    /// `NUD_*`: static entries have `NUD_NOARP`, the bridge's own ones `NUD_PERMANENT`, learnt ones neither.
    pub state: u16,
}

impl FdbEntry {
    /// Returns an entry that stays until it is deleted, for every VLAN of the port.
    pub fn fixed(port: u32, mac: MacAddress) -> Self {
        Self { port, mac, vlan: None, state: libc::NUD_NOARP }
    }

    fn write(&self, kind: u16, flags: i32) -> Message {
        let mut structure = [0; 12];
        structure[0] = family_byte(libc::AF_BRIDGE);
        structure[4..8].copy_from_slice(&self.port.to_ne_bytes());
        structure[8..10].copy_from_slice(&self.state.to_ne_bytes());
        structure[10] = libc::NTF_MASTER;
        let mut message = Message::new(kind, flags, &structure);
        message.body.bytes(libc::NDA_LLADDR, &self.mac.octets());
        if let Some(vlan) = self.vlan {
            message.body.u16(libc::NDA_VLAN, vlan);
        }
        message
    }

    fn read(reply: Reply<'_>) -> Result<Option<Self>, Malformed> {
        if reply.kind() != libc::RTM_NEWNEIGH {
            return Ok(None);
        }
        let (structure, rest) = reply.split::<12>("struct ndmsg")?;
        let (mut mac, mut vlan) = (None, None);
        for attribute in attributes(rest) {
            let attribute = attribute?;
            match attribute.kind() {
                libc::NDA_LLADDR => mac = attribute.payload().try_into().ok().map(MacAddress::new),
                libc::NDA_VLAN => vlan = Some(attribute.u16()?),
                _ => {}
            }
        }
        let port = u32::from_ne_bytes([structure[4], structure[5], structure[6], structure[7]]);
        let state = u16::from_ne_bytes([structure[8], structure[9]]);
        Ok(mac.map(|mac| Self { port, mac, vlan, state }))
    }
}

impl Rtnetlink {
    /// Sets an entry, in the place of one with the same address on the same bridge.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`](crate::Error::Refused): `EINVAL` or `EOPNOTSUPP` if the link is no port of a bridge, `ENODEV`,
    /// `EPERM`.
    pub fn set_fdb_entry(&mut self, entry: &FdbEntry) -> Result<()> {
        let action = Action::new("set fdb entry", format!("{} at port {}", entry.mac, entry.port));
        let message = entry.write(libc::RTM_NEWNEIGH, libc::NLM_F_CREATE | libc::NLM_F_REPLACE);
        self.connection().execute(&action, &message)?;
        Ok(())
    }

    /// Deletes an entry; tells whether there was one.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`](crate::Error::Refused): `EPERM`.
    pub fn delete_fdb_entry(&mut self, port: u32, mac: MacAddress) -> Result<bool> {
        let action = Action::new("delete fdb entry", format!("{mac} at port {port}"));
        existed(self.connection().execute(&action, &FdbEntry::fixed(port, mac).write(libc::RTM_DELNEIGH, 0)))
    }

    /// Lists the entries of a bridge, given by its index.
    ///
    /// # Errors
    ///
    /// As [`Connection::dump`](crate::Connection::dump); `ENODEV` if there is no such link.
    pub fn fdb(&mut self, bridge: u32) -> Result<Vec<FdbEntry>> {
        let action = Action::new("list fdb entries", format!("of bridge {bridge}"));
        let mut structure = [0; 12];
        structure[0] = family_byte(libc::AF_BRIDGE);
        let mut message = Message::new(libc::RTM_GETNEIGH, 0, &structure);
        message.body.u32(NDA_MASTER, bridge);
        self.connection().dump(&action, &message, FdbEntry::read)
    }
}
