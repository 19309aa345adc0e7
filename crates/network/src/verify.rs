//! The kernel's state, compared with what it should be, field by field.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use podrun_netlink::{Link, RouteFilter, Rtnetlink};

use crate::difference::Difference;
use crate::error::Result;
use crate::mac;
use crate::nft::{Element, Elements, Firewall, family_name, identity, ports};
use crate::node::{BRIDGE_ALIAS, Network};
use crate::pod::Wanted;
use crate::subnet::Subnets;
use crate::sysctl::Sysctls;

impl Network {
    /// Compares what all Pods share with what it should be: bridge, kernel parameters, every rule of the tables.
    ///
    /// Nothing is expected while no Pod has an address.
    ///
    /// # Errors
    ///
    /// What could not be read.
    pub fn verify_node(&self) -> Result<Vec<Difference>> {
        let mut differences = Vec::new();
        let Some(subnets) = self.subnets()? else { return Ok(differences) };
        let mut route = Rtnetlink::open()?;
        self.verify_bridge(&mut route, &subnets, &mut differences)?;
        self.verify_parameters(&subnets, &mut differences)?;
        differences.extend(Firewall::open(&self.names, &subnets.list())?.differences()?);
        Ok(differences)
    }

    /// Compares what is a Pod's with what it should be: its link on both sides, its addresses and routes, its entries in
    /// the tables. `netns` is its network namespace.
    ///
    /// # Errors
    ///
    /// What could not be read.
    pub fn verify_pod(&self, wanted: Wanted<'_>, netns: BorrowedFd<'_>) -> Result<Vec<Difference>> {
        let mut differences = Vec::new();
        let (Some(subnets), Some(address)) = (self.subnets()?, self.leases.address_of(wanted.uid)?) else {
            return Ok(vec![Difference::missing("address of the pod")]);
        };
        let addresses = subnets.addresses(address);
        let mut route = Rtnetlink::open()?;
        let bridge = self.find_bridge(&mut route)?;
        let mtu = self.mtu()?;
        self.verify_host_link(&mut route, &wanted, bridge.as_ref(), mtu, &mut differences)?;
        let shaper = self.shaper(wanted.uid, wanted.plan.bandwidth.as_ref());
        differences.extend(shaper.verify(&mut route)?.into_iter().map(Difference::from));
        let mut pod = Rtnetlink::open_in(netns)?;
        verify_inside(&mut pod, &wanted.plan.interface, mtu, &subnets, &addresses, &mut differences)?;

        let mut elements = identity(&self.link_names(wanted.uid).host, mac::of_address(address), &addresses);
        elements.extend(ports(wanted.ports, &addresses));
        let there = Firewall::open(&self.names, &subnets.list())?.elements()?;
        verify_elements(wanted.uid, &elements, &there, &mut differences);
        Ok(differences)
    }

    fn verify_bridge(
        &self,
        route: &mut Rtnetlink,
        subnets: &Subnets,
        differences: &mut Vec<Difference>,
    ) -> Result<()> {
        let name = format!("link {:?}", self.names.bridge);
        let Some(bridge) = self.find_bridge(route)? else {
            differences.push(Difference::missing(name));
            return Ok(());
        };
        check(differences, format!("{name}, up"), true, bridge.is_up);
        check(differences, format!("{name}, alias"), Some(BRIDGE_ALIAS), bridge.alias.as_deref());
        let addresses = route.addresses(Some(bridge.index))?;
        for gateway in subnets.gateways() {
            if !addresses.iter().any(|address| address.network == gateway) {
                differences.push(Difference::missing(format!("{name}, address {gateway}")));
            }
        }
        Ok(())
    }

    fn verify_parameters(&self, subnets: &Subnets, differences: &mut Vec<Difference>) -> Result<()> {
        let sysctls = Sysctls::open()?;
        let mut parameter = |name: String, value: &str| -> Result<()> {
            let found = sysctls.read(&name)?;
            let name = format!("net.{}", name.replace('/', "."));
            check(differences, name, Some(value), found.as_deref());
            Ok(())
        };
        parameter("ipv4/ip_forward".to_owned(), "1")?;
        let loopback = if self.leases.ports()?.is_empty() { "0" } else { "1" };
        parameter(format!("ipv4/conf/{}/route_localnet", self.names.bridge), loopback)?;
        if subnets.ipv6.is_some() {
            parameter("ipv6/conf/all/forwarding".to_owned(), "1")?;
            parameter(format!("ipv6/conf/{}/accept_ra", self.names.bridge), "0")?;
        }
        Ok(())
    }

    fn verify_host_link(
        &self,
        route: &mut Rtnetlink,
        wanted: &Wanted<'_>,
        bridge: Option<&Link>,
        mtu: u32,
        differences: &mut Vec<Difference>,
    ) -> Result<()> {
        let names = self.link_names(wanted.uid);
        let name = format!("link {:?}", names.host);
        let Some(link) = route.find_link(names.host.as_str())? else {
            differences.push(Difference::missing(name));
            return Ok(());
        };
        check(differences, format!("{name}, kind"), Some("veth"), link.kind.as_deref());
        check(differences, format!("{name}, alias"), Some(names.alias.as_str()), link.alias.as_deref());
        check(differences, format!("{name}, up"), true, link.is_up);
        check(differences, format!("{name}, mtu"), mtu, link.mtu);
        check(differences, format!("{name}, bridge"), bridge.map(|bridge| bridge.index), link.master);
        let hairpin = link.port.and_then(|port| port.hairpin).unwrap_or(false);
        check(differences, format!("{name}, hairpin"), !wanted.ports.is_empty(), hairpin);
        Ok(())
    }
}

fn verify_inside(
    pod: &mut Rtnetlink,
    interface: &str,
    mtu: u32,
    subnets: &Subnets,
    addresses: &[IpAddr],
    differences: &mut Vec<Difference>,
) -> Result<()> {
    let name = format!("link {interface:?} of the pod");
    let Some(link) = pod.find_link(interface)? else {
        differences.push(Difference::missing(name));
        return Ok(());
    };
    let ipv4 = addresses.iter().find_map(|ip| if let IpAddr::V4(ip) = ip { Some(*ip) } else { None });
    check(differences, format!("{name}, up"), true, link.is_up);
    check(differences, format!("{name}, mtu"), mtu, link.mtu);
    check(differences, format!("{name}, mac"), ipv4.map(mac::of_address), link.mac);
    let found = pod.addresses(Some(link.index))?;
    for network in subnets.with_prefixes(addresses) {
        if !found.iter().any(|there| there.network == network) {
            differences.push(Difference::missing(format!("{name}, address {network}")));
        }
    }
    let routes = pod.routes(RouteFilter::new().link(link.index))?;
    for gateway in subnets.gateways() {
        let leads = |route: &&podrun_netlink::Route| {
            route.destination.prefix_len() == 0 && route.gateway == Some(gateway.addr())
        };
        if !routes.iter().any(|route| leads(&route)) {
            let gateway = gateway.addr();
            differences.push(Difference::missing(format!("{name}, default route by way of {gateway}")));
        }
    }
    Ok(())
}

/// Compares entries of sets; those that name the Pod and should not be there count too.
fn verify_elements(uid: &str, wanted: &[Element], there: &Elements, differences: &mut Vec<Difference>) {
    for element in wanted {
        let set = there.get(&(element.family, element.set.to_owned()));
        let name = element_name(element.family, element.set, &element.key);
        match set.into_iter().flatten().find(|found| found.key == element.key) {
            None => differences.push(Difference::missing(name)),
            Some(found) => {
                check(differences, format!("{name}, pod"), Some(uid), found.comment.as_deref());
                if found.data != element.data {
                    differences.push(Difference::of(
                        format!("{name}, where it leads"),
                        &element.data,
                        &found.data,
                    ));
                }
            }
        }
    }
    for ((family, set), elements) in there {
        for found in elements.iter().filter(|found| found.comment.as_deref() == Some(uid)) {
            let is_wanted = |element: &Element| {
                (element.family, element.set, &element.key) == (*family, set.as_str(), &found.key)
            };
            if !wanted.iter().any(is_wanted) {
                differences.push(Difference::unexpected(element_name(*family, set, &found.key)));
            }
        }
    }
}

fn element_name(family: u8, set: &str, key: &[u8]) -> String {
    let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("table {}, set {set}, element {key}", family_name(family))
}

fn check<T: PartialEq + std::fmt::Debug>(
    differences: &mut Vec<Difference>,
    what: String,
    wanted: T,
    found: T,
) {
    if wanted != found {
        differences.push(Difference::of(what, &wanted, &found));
    }
}
