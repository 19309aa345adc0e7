//! What one Pod adds to the sets and maps of the tables.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use podrun_netlink::{Body, MacAddress, Message};
use podrun_plan::model::PortMapping;
use podrun_spec::model::Protocol;

use super::ruleset::{
    BRIDGE, INET, LINKS, OWN_ARP, OWN4, OWN6, PORTS4, PORTS4_AT, PORTS6, PORTS6_AT, interface_bytes,
};
use super::wire::{Fields, NFTABLES, message, octets};
use crate::mac;

/// An entry of a set, or of a map where it has data.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Element {
    pub(crate) family: u8,
    pub(crate) set: &'static str,
    pub(crate) key: Vec<u8>,
    pub(crate) data: Option<Vec<u8>>,
}

/// Returns what lets a Pod speak on its port of the bridge: in its own name only.
pub(crate) fn identity(host_link: &str, mac: MacAddress, addresses: &[IpAddr]) -> Vec<Element> {
    let (link, ether) = (interface_bytes(host_link), mac.octets());
    let element = |set, parts: &[&[u8]]| {
        let key = std::iter::once(link.as_slice()).chain(parts.iter().copied()).flat_map(padded).collect();
        Element { family: BRIDGE, set, key, data: None }
    };
    let mut elements = vec![element(LINKS, &[])];
    for address in addresses {
        let octets = octets(*address);
        if address.is_ipv4() {
            elements.push(element(OWN_ARP, &[&ether, &ether, &octets]));
            elements.push(element(OWN4, &[&ether, &octets]));
        } else {
            elements.push(element(OWN6, &[&ether, &octets]));
        }
    }
    if addresses.iter().any(IpAddr::is_ipv6) {
        // Without an address a Pod asks whether one is free; and it has one for the link.
        for address in [Ipv6Addr::UNSPECIFIED, mac::link_local(mac)] {
            elements.push(element(OWN6, &[&ether, &address.octets()]));
        }
    }
    elements
}

/// Returns what redirects ports of the machine to a Pod.
///
/// A port without a host address is open on all addresses of the families that the Pod has.
pub(crate) fn ports(ports: &[PortMapping], addresses: &[IpAddr]) -> Vec<Element> {
    ports.iter().flat_map(|port| addresses.iter().filter_map(|address| of_port(port, *address))).collect()
}

fn of_port(port: &PortMapping, address: IpAddr) -> Option<Element> {
    let (any, at): (IpAddr, _) = match address {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED.into(), (PORTS4, PORTS4_AT)),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED.into(), (PORTS6, PORTS6_AT)),
    };
    let (set, host) = match port.host_ip {
        None => (at.0, Vec::new()),
        Some(host) if host == any => (at.0, Vec::new()),
        Some(host) if host.is_ipv4() == address.is_ipv4() => (at.1, octets(host)),
        Some(_) => return None,
    };
    let protocol = [number(port.protocol)];
    let (host_port, container_port) = (port.host_port.to_be_bytes(), port.container_port.to_be_bytes());
    let key = [host.as_slice(), &protocol, &host_port].into_iter().flat_map(padded).collect();
    let data = [octets(address).as_slice(), &container_port].into_iter().flat_map(padded).collect();
    Some(Element { family: INET, set, key, data: Some(data) })
}

/// Each part of a key begins with a register of 32 bits.
fn padded(part: &[u8]) -> impl Iterator<Item = u8> + use<> {
    let mut bytes = part.to_vec();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.into_iter()
}

const NEW_ELEMENT: u8 = 12;
pub(crate) const GET_ELEMENT: u8 = 13;
const DELETE_ELEMENT: u8 = 14;
const LIST_ELEM: u16 = 1;
const KEY: u16 = 1;
const DATA: u16 = 2;
const VALUE: u16 = 1;
const ELEMENTS: u16 = 3;
const USERDATA: u16 = 6;
/// `NFTNL_UDATA_SET_ELEM_COMMENT`
const COMMENT: u8 = 0;

/// Returns the number of a protocol in the IP header.
pub(crate) fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

impl Element {
    /// Returns the message that adds the element; one that is there already with the same data is no error.
    pub(crate) fn add(&self, table: &str, comment: &str) -> Message {
        add(self.family, table, self.set, &self.key, self.data.as_deref(), Some(comment))
    }

    /// Returns the message that deletes the element; ENOENT follows if it is not there.
    pub(crate) fn delete(&self, table: &str) -> Message {
        delete(self.family, table, self.set, &self.key)
    }
}

impl Listed {
    /// Returns the message that adds the element to a set of another table.
    pub(crate) fn add(&self, family: u8, table: &str, set: &str) -> Message {
        add(family, table, set, &self.key, self.data.as_deref(), self.comment.as_deref())
    }

    /// Returns the message that deletes the element.
    pub(crate) fn delete(&self, family: u8, table: &str, set: &str) -> Message {
        delete(family, table, set, &self.key)
    }
}

fn add(
    family: u8,
    table: &str,
    set: &str,
    key: &[u8],
    data: Option<&[u8]>,
    comment: Option<&str>,
) -> Message {
    about(NEW_ELEMENT, libc::NLM_F_CREATE, family, table, set, |element| {
        element.nest(KEY, |body| {
            body.bytes(VALUE, key);
        });
        if let Some(bytes) = data {
            element.nest(DATA, |body| {
                body.bytes(VALUE, bytes);
            });
        }
        if let Some(comment) = comment {
            element.bytes(USERDATA, &userdata_comment(comment));
        }
    })
}

fn delete(family: u8, table: &str, set: &str, key: &[u8]) -> Message {
    about(DELETE_ELEMENT, 0, family, table, set, |element| {
        element.nest(KEY, |body| {
            body.bytes(VALUE, key);
        });
    })
}

fn about(kind: u8, bits: i32, family: u8, table: &str, set: &str, fill: impl FnOnce(&mut Body)) -> Message {
    let mut message = message(NFTABLES, kind, bits, family);
    message.body.text(1, table).text(2, set).nest(ELEMENTS, |list| {
        list.nest(LIST_ELEM, fill);
    });
    message
}

/// Returns a comment as `nft` keeps it in user data: kind, length, text with its zero.
pub(crate) fn userdata_comment(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len() + 1).expect("comments are short");
    [&[COMMENT, length], text.as_bytes(), &[0]].concat()
}

/// An element as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) key: Vec<u8>,
    pub(crate) data: Option<Vec<u8>>,
    /// The UID of the Pod whose it is.
    pub(crate) comment: Option<String>,
}

/// Returns the elements in a message of a dump.
pub(crate) fn listed(attributes: Fields<'_>) -> Vec<Listed> {
    let of = |element: Fields<'_>| {
        let value = |kind| element.nested(kind).get(VALUE).map(<[u8]>::to_vec);
        Some(Listed { key: value(KEY)?, data: value(DATA), comment: comment(element.get(USERDATA)) })
    };
    attributes.nested(ELEMENTS).iter().filter_map(|(_, element)| of(Fields(element))).collect()
}

/// Reads the comment in the user data of an element: kind, length, value, one after the other.
fn comment(userdata: Option<&[u8]>) -> Option<String> {
    let mut rest = userdata?;
    loop {
        let (kind, length) = (*rest.first()?, usize::from(*rest.get(1)?));
        let value = rest.get(2..2 + length)?;
        if kind == COMMENT {
            let text = value.strip_suffix(&[0]).unwrap_or(value);
            return String::from_utf8(text.to_vec()).ok();
        }
        rest = rest.get(2 + length..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft::golden;

    fn port(protocol: Protocol, host_ip: Option<&str>, host_port: u16, container_port: u16) -> PortMapping {
        PortMapping { protocol, host_ip: host_ip.map(|ip| ip.parse().unwrap()), host_port, container_port }
    }

    fn addresses() -> Vec<IpAddr> {
        ["10.88.0.5", "fd00:88::5"].map(|address| address.parse().unwrap()).to_vec()
    }

    #[test]
    fn elements_are_byte_for_byte_what_nft_sends() {
        let golden = golden::read(include_str!("../../tests/golden/elements.hex"));
        let wanted = [
            ports(&[port(Protocol::Tcp, None, 8080, 80)], &addresses()[..1]),
            ports(&[port(Protocol::Udp, Some("192.0.2.1"), 53, 53)], &addresses()),
            ports(&[port(Protocol::Sctp, Some("::"), 9, 9)], &addresses()),
        ];
        let ours: Vec<_> = wanted.concat().iter().map(|element| element.add("podrun", "7f3c")).collect();
        golden::check(&ours, &golden, INET);

        let mac = MacAddress::new([0x0a, 0x58, 10, 88, 0, 5]);
        let all = identity("pr0123456789abc", mac, &addresses());
        let order = [LINKS, OWN4, OWN_ARP, OWN6];
        let of = |set: &&str| all.iter().find(|element| element.set == *set).unwrap();
        let ours: Vec<_> = order.iter().map(|set| of(set).add("podrun", "7f3c")).collect();
        golden::check(&ours, &golden, BRIDGE);
    }

    #[test]
    fn a_port_is_open_on_the_addresses_that_it_names() {
        let sets = |host_ip: Option<&str>, addresses: &[IpAddr]| {
            let elements = ports(&[port(Protocol::Tcp, host_ip, 80, 8080)], addresses);
            elements.iter().map(|element| element.set).collect::<Vec<_>>()
        };
        let both = addresses();
        assert_eq!(sets(None, &both), [PORTS4, PORTS6]);
        assert_eq!(sets(None, &both[..1]), [PORTS4]);
        assert_eq!(sets(Some("0.0.0.0"), &both), [PORTS4]);
        assert_eq!(sets(Some("::"), &both), [PORTS6]);
        assert_eq!(sets(Some("127.0.0.1"), &both), [PORTS4_AT]);
        assert_eq!(sets(Some("fd00::1"), &both), [PORTS6_AT]);
        assert!(sets(Some("fd00::1"), &both[..1]).is_empty());
    }

    #[test]
    fn a_pod_without_ipv6_may_not_speak_it() {
        let mac = MacAddress::new([0x0a, 0x58, 10, 88, 0, 5]);
        let sets = |addresses: &[IpAddr]| {
            identity("pr0", mac, addresses).iter().map(|element| element.set).collect::<Vec<_>>()
        };
        assert_eq!(sets(&addresses()[..1]), [LINKS, OWN_ARP, OWN4]);
        assert_eq!(sets(&addresses()), [LINKS, OWN_ARP, OWN4, OWN6, OWN6, OWN6]);
    }

    #[test]
    fn comments_are_found_behind_other_user_data() {
        assert_eq!(comment(Some(&[0, 3, b'a', b'b', 0])), Some("ab".to_owned()));
        assert_eq!(comment(Some(&[7, 1, 9, 0, 2, b'x', 0])), Some("x".to_owned()));
        assert_eq!(comment(Some(&[0, 9, b'x'])), None);
        assert_eq!(comment(Some(&[])), None);
        assert_eq!(comment(None), None);
    }
}
