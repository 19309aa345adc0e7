//! Addresses of links.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::error::{Action, Error, Malformed, Result};
use crate::exchange::Reply;
use crate::link;
use crate::route::{Existing, family_byte, family_of};
use crate::rtnetlink::Rtnetlink;
use crate::wire::{Message, attributes};

/// An address of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Address {
    /// The link's index.
    pub link: u32,
    /// The address and the length of its prefix.
    pub network: IpNet,
    /// The other end of a point-to-point link.
    pub peer: Option<IpAddr>,
    /// `IFA_F_*`: such as tentative while IPv6 looks for duplicates, or permanent.
    pub flags: u32,
}

impl Address {
    /// Whether IPv6 is still looking for duplicates, so that the address cannot be used yet.
    pub fn is_tentative(&self) -> bool {
        self.flags & libc::IFA_F_TENTATIVE != 0
    }

    /// Whether IPv6 has found a duplicate, so that the address is not used.
    pub fn is_duplicate(&self) -> bool {
        self.flags & libc::IFA_F_DADFAILED != 0
    }

    fn read(reply: Reply<'_>) -> Result<Option<Self>, Malformed> {
        if reply.kind() != libc::RTM_NEWADDR {
            return Ok(None);
        }
        let (structure, rest) = reply.split::<8>("struct ifaddrmsg")?;
        let mut flags = u32::from(structure[2]);
        let link = u32::from_ne_bytes([structure[4], structure[5], structure[6], structure[7]]);
        let (mut local, mut address) = (None, None);
        for attribute in attributes(rest) {
            let attribute = attribute?;
            match attribute.kind() {
                libc::IFA_LOCAL => local = Some(attribute.ip()?),
                libc::IFA_ADDRESS => address = Some(attribute.ip()?),
                libc::IFA_FLAGS => flags = attribute.u32()?,
                _ => {}
            }
        }
        let malformed =
            Malformed { what: "the prefix length of an address", found: structure[1].into(), expected: 0 };
        let ip = local.or(address).ok_or(Malformed { what: "an address", found: 0, expected: 4 })?;
        let network = IpNet::new(ip, structure[1]).map_err(|_| malformed)?;
        let peer = address.filter(|address| *address != ip);
        Ok(Some(Self { link, network, peer, flags }))
    }
}

/// An address to be added.
///
/// ```no_run
/// use podrun_netlink::{NewAddress, Rtnetlink};
/// let mut here = Rtnetlink::open()?;
/// let link = here.link("eth0")?.index;
/// here.add_address(link, &NewAddress::new("10.1.2.3/24".parse().unwrap()))?;
/// here.add_address(link, &NewAddress::new("fd00::3/64".parse().unwrap()).no_dad())?;
/// # Ok::<(), podrun_netlink::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct NewAddress {
    network: IpNet,
    no_dad: bool,
    no_prefix_route: bool,
}

impl NewAddress {
    /// Returns an address with the length of its prefix. The kernel adds a route to the prefix, and IPv4's broadcast
    /// address is set where the prefix has one.
    pub fn new(network: IpNet) -> Self {
        Self { network, no_dad: false, no_prefix_route: false }
    }

    /// Does not look for duplicates first, which takes IPv6 a second or two.
    pub fn no_dad(self) -> Self {
        Self { no_dad: true, ..self }
    }

    /// Adds no route to the prefix.
    pub fn no_prefix_route(self) -> Self {
        Self { no_prefix_route: true, ..self }
    }

    fn message(&self, link: u32) -> Message {
        let ip = self.network.addr();
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        let structure = ifaddrmsg(Some(ip), self.network.prefix_len(), link);
        let mut message = Message::new(libc::RTM_NEWADDR, flags, &structure);
        message.body.ip(libc::IFA_LOCAL, ip).ip(libc::IFA_ADDRESS, ip);
        if let IpNet::V4(v4) = self.network
            && v4.prefix_len() <= 30
        {
            message.body.ip(libc::IFA_BROADCAST, v4.broadcast().into());
        }
        let mut bits = 0;
        if self.no_dad && ip.is_ipv6() {
            bits |= libc::IFA_F_NODAD;
        }
        if self.no_prefix_route {
            bits |= libc::IFA_F_NOPREFIXROUTE;
        }
        if bits != 0 {
            message.body.u32(libc::IFA_FLAGS, bits);
        }
        message
    }
}

/// `struct ifaddrmsg`
fn ifaddrmsg(ip: Option<IpAddr>, prefix_length: u8, link: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[0] = ip.map_or(family_byte(libc::AF_UNSPEC), family_of);
    bytes[1] = prefix_length;
    bytes[4..8].copy_from_slice(&link.to_ne_bytes());
    bytes
}

impl Rtnetlink {
    /// Adds an address to a link, given by its index; tells whether it is there for the first time.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if the link has the address with another prefix length. [`Error::Refused`]: `ENODEV`, `EPERM`,
    /// `EACCES` or `EOPNOTSUPP` if IPv6 is disabled.
    pub fn add_address(&mut self, link: u32, address: &NewAddress) -> Result<Existing> {
        let action = Action::new("add address", format!("{} to link {link}", address.network));
        match self.connection().execute(&action, &address.message(link)) {
            Ok(_) => Ok(Existing::New),
            Err(error) if error.already_exists() => {
                let ip = address.network.addr();
                let addresses = self.addresses(Some(link))?;
                let existing = addresses.into_iter().find(|existing| existing.network.addr() == ip);
                match existing {
                    Some(existing) if existing.network == address.network => Ok(Existing::Same),
                    Some(existing) => Err(Error::Conflict { action, existing: existing.network.to_string() }),
                    None => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Deletes an address of a link; tells whether there was one.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`]: `EPERM`.
    pub fn delete_address(&mut self, link: u32, network: IpNet) -> Result<bool> {
        let action = Action::new("delete address", format!("{network} of link {link}"));
        let ip = network.addr();
        let structure = ifaddrmsg(Some(ip), network.prefix_len(), link);
        let mut message = Message::new(libc::RTM_DELADDR, 0, &structure);
        message.body.ip(libc::IFA_LOCAL, ip);
        link::existed(self.connection().execute(&action, &message))
    }

    /// Lists the addresses of a link, given by its index, or of all.
    ///
    /// # Errors
    ///
    /// As [`Connection::dump`](crate::Connection::dump); `ENODEV` if there is no such link.
    pub fn addresses(&mut self, link: Option<u32>) -> Result<Vec<Address>> {
        let action =
            Action::new("list addresses", link.map(|link| format!("of link {link}")).unwrap_or_default());
        let message = Message::new(libc::RTM_GETADDR, 0, &ifaddrmsg(None, 0, link.unwrap_or(0)));
        self.connection().dump(&action, &message, |reply| {
            let address = Address::read(reply)?;
            Ok(address.filter(|address| link.is_none_or(|link| address.link == link)))
        })
    }
}
