//! Subnets of Pods: which one to take, and which address of it is whose.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What is chosen from: private addresses that few others take. A bridge has 1023 ports at most, which a /20 is enough for.
const POOL: [(Ipv4Addr, u8); 2] = [(Ipv4Addr::new(10, 88, 0, 0), 13), (Ipv4Addr::new(172, 28, 0, 0), 14)];
const CHOSEN: u8 = 20;
/// Network, gateway, broadcast, and room for some Pods.
const LONGEST: u8 = 29;
const SHORTEST: u8 = 8;

/// The subnets of a machine's Pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnets {
    /// IPv4.
    pub ipv4: Ipv4Net,
    /// IPv6, where it is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6Net>,
}

impl Subnets {
    /// Takes what somebody asks for: one subnet of IPv4, and perhaps one of IPv6 that has as many addresses.
    ///
    /// ```
    /// use podrun_network::Subnets;
    /// let subnets = Subnets::asked(&["10.1.0.0/16".parse()?, "fd00:1::/64".parse()?])?;
    /// let addresses = subnets.addresses("10.1.2.3".parse()?);
    /// assert_eq!(addresses, ["10.1.2.3".parse::<std::net::IpAddr>()?, "fd00:1::203".parse()?]);
    /// assert!(Subnets::asked(&["10.1.0.0/30".parse()?]).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Subnets`].
    pub fn asked(subnets: &[IpNet]) -> Result<Self> {
        let wrong = |why| Error::Subnets { subnets: subnets.to_vec(), why };
        let mut ipv4 =
            subnets.iter().filter_map(|net| if let IpNet::V4(net) = net { Some(net.trunc()) } else { None });
        let mut ipv6 =
            subnets.iter().filter_map(|net| if let IpNet::V6(net) = net { Some(net.trunc()) } else { None });
        let first = ipv4.next().ok_or_else(|| wrong("one of IPv4 is needed"))?;
        let second = ipv6.next();
        if ipv4.next().is_some() || ipv6.next().is_some() {
            return Err(wrong("at most one of IPv4 and one of IPv6 can be used"));
        }
        if !(SHORTEST..=LONGEST).contains(&first.prefix_len()) {
            return Err(wrong("the prefix of IPv4 has to be from /8 to /29"));
        }
        if second.is_some_and(|second| 128 - second.prefix_len() < 32 - first.prefix_len()) {
            return Err(wrong("that of IPv6 has fewer addresses than that of IPv4"));
        }
        Ok(Self { ipv4: first, ipv6: second })
    }

    /// Takes a subnet that nothing in `taken` overlaps with.
    ///
    /// # Errors
    ///
    /// [`Error::NoFreeSubnet`].
    pub fn choose(taken: &[IpNet]) -> Result<Self> {
        let is_free = |subnet: &Ipv4Net| !taken.iter().any(|other| overlap(&IpNet::V4(*subnet), other));
        let pool = POOL.iter().map(|(base, prefix)| Ipv4Net::new_assert(*base, *prefix));
        let mut subnets = pool.filter_map(|pool| pool.subnets(CHOSEN).ok()).flatten();
        subnets.find(is_free).map(|ipv4| Self { ipv4, ipv6: None }).ok_or(Error::NoFreeSubnet)
    }

    /// Returns both.
    pub fn list(&self) -> Vec<IpNet> {
        std::iter::once(IpNet::V4(self.ipv4)).chain(self.ipv6.map(IpNet::V6)).collect()
    }

    /// Returns the gateways with the length of their prefixes: the first address of each subnet.
    pub fn gateways(&self) -> Vec<IpNet> {
        let gateway = Ipv4Addr::from(u32::from(self.ipv4.network()) + 1);
        self.with_prefixes(&self.addresses(gateway))
    }

    /// Returns addresses of both subnets, in the order of [`Subnets::list`], with the length of their prefixes.
    pub(crate) fn with_prefixes(&self, addresses: &[IpAddr]) -> Vec<IpNet> {
        let pairs = addresses.iter().zip(self.list());
        // A prefix that was one fits the other addresses of its family too.
        pairs.filter_map(|(address, subnet)| IpNet::new(*address, subnet.prefix_len()).ok()).collect()
    }

    /// Returns the addresses of the Pod that has this one: in the subnet of IPv6 it has the same place.
    pub fn addresses(&self, ipv4: Ipv4Addr) -> Vec<IpAddr> {
        let place = u32::from(ipv4).wrapping_sub(u32::from(self.ipv4.network()));
        let ipv6 = self.ipv6.map(|subnet| Ipv6Addr::from(u128::from(subnet.network()) | u128::from(place)));
        std::iter::once(IpAddr::V4(ipv4)).chain(ipv6.map(IpAddr::V6)).collect()
    }
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_first_subnet_that_no_route_leads_to_is_chosen() {
        let chosen = |taken: &[&str]| Subnets::choose(&nets(taken)).map(|subnets| subnets.ipv4.to_string());
        assert_eq!(chosen(&[]).unwrap(), "10.88.0.0/20");
        assert_eq!(chosen(&["192.0.2.0/24", "fd00::/8"]).unwrap(), "10.88.0.0/20");
        assert_eq!(chosen(&["10.88.3.0/24"]).unwrap(), "10.88.16.0/20");
        assert_eq!(chosen(&["10.88.0.0/16", "10.89.0.1/32"]).unwrap(), "10.89.16.0/20");
        assert_eq!(chosen(&["10.0.0.0/8"]).unwrap(), "172.28.0.0/20");
        assert!(matches!(chosen(&["10.0.0.0/8", "172.16.0.0/12"]), Err(Error::NoFreeSubnet)));
    }

    #[test]
    fn subnets_that_cannot_serve_are_refused() {
        let why = |subnets: &[&str]| Subnets::asked(&nets(subnets)).unwrap_err().to_string();
        for (subnets, text) in [
            (&["fd00::/64"][..], "one of IPv4 is needed"),
            (&[], "one of IPv4 is needed"),
            (&["10.0.0.0/8", "10.1.0.0/16"], "at most one"),
            (&["10.0.0.0/16", "fd00::/64", "fd01::/64"], "at most one"),
            (&["10.0.0.0/30"], "from /8 to /29"),
            (&["0.0.0.0/0"], "from /8 to /29"),
            (&["10.0.0.0/16", "fd00::/120"], "fewer addresses"),
        ] {
            assert!(why(subnets).contains(text), "{subnets:?}: {}", why(subnets));
        }
    }

    #[test]
    fn gateways_are_the_first_addresses() {
        let subnets = Subnets::asked(&nets(&["10.88.0.7/20", "fd00:88::9/112"])).unwrap();
        assert_eq!(subnets.gateways(), nets(&["10.88.0.1/20", "fd00:88::1/112"]));
    }
}
