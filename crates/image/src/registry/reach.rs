//! How far an address reaches: keeps servers from steering this machine into networks that they cannot reach themselves.
//!
//! A registry answers with URLs: redirects to blob stores and the realm of its token server. If it could name any, a
//! stranger's registry would make this machine fetch from its own loopback, its private network or a cloud's metadata
//! service. So a URL from a server may lead only to where the server itself is reached, or further out.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How far an address reaches; the order is that of inclusion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// This machine.
    Loopback,
    /// A network of one's own (RFC 1918, RFC 4193, RFC 6598, RFC 2544).
    Private,
    /// The Internet.
    Global,
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "this machine",
            Self::Private => "a private network",
            Self::Global => "the Internet",
        })
    }
}

/// Returns how far an address reaches; `None` for those that no registry has: link-local ones (where clouds keep their
/// metadata services), multicast, unspecified and reserved ones.
pub(crate) fn reach(address: IpAddr) -> Option<Reach> {
    match address {
        IpAddr::V4(address) => reach_v4(address),
        IpAddr::V6(address) => reach_v6(address),
    }
}

fn reach_v4(address: Ipv4Addr) -> Option<Reach> {
    // Metadata services outside the link-local block.
    const METADATA: [[u8; 4]; 2] = [[100, 100, 100, 200], [192, 0, 0, 192]];
    let octets = address.octets();
    if METADATA.contains(&octets) {
        return None;
    }
    match octets {
        [127, ..] => Some(Reach::Loopback),
        [0 | 224..=255, ..] | [169, 254, ..] => None,
        [10, ..]
        | [172, 16..=31, ..]
        | [192, 168, ..]
        | [100, 64..=127, ..]
        | [198, 18 | 19, ..]
        | [192, 0, 0, _] => Some(Reach::Private),
        _ => Some(Reach::Global),
    }
}

fn reach_v6(address: Ipv6Addr) -> Option<Reach> {
    /// The metadata service of AWS.
    const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    if let Some(v4) = address.to_ipv4_mapped() {
        return reach_v4(v4);
    }
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Some(Reach::Loopback),
        // Unspecified, and the deprecated IPv4-compatible addresses.
        [0, 0, 0, 0, 0, 0, _, _] => None,
        // Translated by NAT64 into the IPv4 address in the last 32 bits (RFC 6052).
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            reach_v4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)))
        }
        // 6to4 (RFC 3056) likewise.
        [0x2002, high, low, ..] => reach_v4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low))),
        [0xfe80..=0xffff, ..] => None,
        [0xfc00..=0xfdff, ..] if address != METADATA => Some(Reach::Private),
        [0xfc00..=0xfdff, ..] => None,
        _ => Some(Reach::Global),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_reach_as_far_as_their_blocks() {
        for (address, expected) in [
            ("127.0.0.1", Some(Reach::Loopback)),
            ("127.255.0.9", Some(Reach::Loopback)),
            ("::1", Some(Reach::Loopback)),
            ("::ffff:127.0.0.1", Some(Reach::Loopback)),
            ("64:ff9b::7f00:1", Some(Reach::Loopback)),
            ("10.1.2.3", Some(Reach::Private)),
            ("172.16.0.1", Some(Reach::Private)),
            ("172.32.0.1", Some(Reach::Global)),
            ("192.168.1.1", Some(Reach::Private)),
            ("100.64.0.1", Some(Reach::Private)),
            ("2002:c0a8:101::1", Some(Reach::Private)),
            ("fd12::1", Some(Reach::Private)),
            ("8.8.8.8", Some(Reach::Global)),
            ("2606:4700::1111", Some(Reach::Global)),
            ("169.254.169.254", None),
            ("::ffff:169.254.169.254", None),
            ("100.100.100.200", None),
            ("fd00:ec2::254", None),
            ("fe80::1", None),
            ("0.0.0.0", None),
            ("::", None),
            ("224.0.0.1", None),
            ("255.255.255.255", None),
            ("ff02::1", None),
        ] {
            assert_eq!(reach(address.parse().expect("an address")), expected, "{address}");
        }
    }
}
