//! MAC addresses of Pods.

use std::net::{Ipv4Addr, Ipv6Addr};

use podrun_netlink::MacAddress;

/// Returns the locally administered address that goes with an IPv4 address: `0a:58` and its four bytes.
///
/// Whoever gets the address of a Pod that is gone gets its MAC address as well, so no neighbour's memory of it is ever
/// wrong.
pub(crate) fn of_address(address: Ipv4Addr) -> MacAddress {
    let [a, b, c, d] = address.octets();
    MacAddress::new([0x0a, 0x58, a, b, c, d])
}

/// Returns the address for the link that IPv6 makes of it (RFC 4291, appendix A).
pub(crate) fn link_local(mac: MacAddress) -> Ipv6Addr {
    let mac = mac.octets();
    let mut address = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, mac[0] ^ 2, 0, 0, 0xff, 0xfe, 0, 0, 0];
    address[9..11].copy_from_slice(&mac[1..3]);
    address[13..].copy_from_slice(&mac[3..]);
    address.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_follows_from_the_address_and_the_link_local_from_the_mac() {
        let mac = of_address(Ipv4Addr::new(10, 88, 0, 5));
        assert_eq!(mac.to_string(), "0a:58:0a:58:00:05");
        assert_eq!(link_local(mac).to_string(), "fe80::858:aff:fe58:5");
    }
}
