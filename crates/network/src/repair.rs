//! Making good what somebody else has changed or taken away: `nft flush ruleset` for one takes away all tables, whosever they are.
//!
//! All that the tables say of Pods follows from the leases, so they can be made anew without asking anybody about the Pods.

use std::net::IpAddr;
use std::os::fd::{AsFd as _, BorrowedFd};

use podrun_netlink::{LinkChange, LinkFilter, Rtnetlink};
use podrun_plan::model::PortMapping;
use podrun_plan::names::LinkNames;

use crate::error::Result;
use crate::nft::{Element, Firewall, identity, ports};
use crate::node::Network;
use crate::pod::{Wanted, configure, hairpin};
use crate::subnet::Subnets;
use crate::{conntrack, mac};

impl Network {
    /// Makes what all Pods share as it should be: bridge, kernel parameters, every rule of the tables, and in them what is of
    /// Pods that have an address. Connections go on, but for those whose packets were lost meanwhile.
    ///
    /// Nothing is done while no Pod has an address.
    ///
    /// # Errors
    ///
    /// What the kernel refused; [`Error::NameTaken`](crate::Error::NameTaken).
    pub fn repair_node(&self) -> Result<()> {
        let lock = self.leases.lock()?;
        let Some(record) = self.record()? else { return Ok(()) };
        if !self.leases.all()?.iter().any(|lease| lease.current) {
            return Ok(());
        }
        let node = self.ensure(&lock, &[], &mut None)?;
        let mut firewall = Firewall::open(&self.names, &record.subnets.list())?;
        let mut route = Rtnetlink::open()?;
        let found = self.find_bridge(&mut route)?;
        self.make_bridge(&mut route, found, &record)?;
        if !firewall.differences()?.is_empty() {
            firewall.replace()?;
        }
        self.restore(&mut route, &mut firewall, node.bridge, &record.subnets)
    }

    /// Makes what is a Pod's as it should be: its link on both sides, its addresses and routes, its limits, its entries in the
    /// tables. A link that is gone is made again. `netns` is its network namespace.
    ///
    /// Nothing is done for a Pod that has no address: it is being set up, or taken down.
    ///
    /// # Errors
    ///
    /// What the kernel refused. What was mended before stays so.
    pub fn repair_pod(&self, wanted: Wanted<'_>, netns: BorrowedFd<'_>) -> Result<()> {
        let Some(address) = self.leases.address_of(wanted.uid)? else { return Ok(()) };
        let names = self.link_names(wanted.uid);
        let mut route = Rtnetlink::open()?;
        let Some(link) = route.find_link(names.host.as_str())? else {
            // Its other end is gone with it, so nothing is in the way.
            return self.build(wanted, netns).map(drop);
        };
        let node = self.ensure(&self.leases.lock()?, &[], &mut None)?;
        let addresses = node.subnets.addresses(address);
        let host = LinkChange::new().alias(&names.alias).mtu(node.mtu).master(node.bridge).up();
        route.change_link(link.index, &host)?;
        route.change_link(link.index, &hairpin(!wanted.ports.is_empty()))?;
        self.shape_with(&mut route, wanted.uid, wanted.plan.bandwidth.as_ref())?;
        let inside = LinkChange::new().mac(mac::of_address(address)).mtu(node.mtu);
        Rtnetlink::open_in(netns.as_fd())?.change_link(wanted.plan.interface.as_str(), &inside)?;
        configure(netns, &wanted.plan.interface, &node, &addresses)?;
        let elements = elements(&names, wanted.ports, &addresses);
        let mut firewall = Firewall::open(&self.names, &node.subnets.list())?;
        let there = firewall.elements()?;
        if firewall.mend(&there, wanted.uid, &elements)? {
            conntrack::forget_before(wanted.ports, &addresses)?;
        }
        Ok(())
    }

    /// Puts back what of Pods is in the tables and at the bridge, as far as leases and links tell.
    pub(crate) fn restore(
        &self,
        route: &mut Rtnetlink,
        firewall: &mut Firewall,
        bridge: u32,
        subnets: &Subnets,
    ) -> Result<()> {
        let current: Vec<_> = self.leases.all()?.into_iter().filter(|lease| lease.current).collect();
        if current.is_empty() {
            return Ok(());
        }
        let held = self.leases.ports()?;
        self.route_loopback(!held.is_empty())?;
        let there = firewall.elements()?;
        for lease in &current {
            let addresses = subnets.addresses(lease.address);
            let own = held.iter().filter(|port| port.uid == lease.uid && port.port.container_port != 0);
            let own: Vec<PortMapping> = own.map(|lease| lease.port).collect();
            let elements = elements(&self.link_names(&lease.uid), &own, &addresses);
            if firewall.mend(&there, &lease.uid, &elements)? {
                conntrack::forget_before(&own, &addresses)?;
            }
        }
        for link in route.links(LinkFilter::new().kind("veth"))? {
            let alias = link.alias.as_deref().unwrap_or_default();
            let Some(uid) = LinkNames::owner(alias, &self.names.bridge) else { continue };
            if link.master != Some(bridge) && current.iter().any(|lease| lease.uid == uid) {
                route.change_link(link.index, &LinkChange::new().master(bridge))?;
                route.change_link(link.index, &hairpin(held.iter().any(|port| port.uid == uid)))?;
            }
        }
        Ok(())
    }
}

/// Returns all that the tables say of a Pod.
fn elements(names: &LinkNames, own: &[PortMapping], addresses: &[IpAddr]) -> Vec<Element> {
    let ipv4 = addresses.iter().find_map(|ip| if let IpAddr::V4(ip) = ip { Some(*ip) } else { None });
    let mut elements = ipv4.map_or_else(Vec::new, |ip| identity(&names.host, mac::of_address(ip), addresses));
    elements.extend(ports(own, addresses));
    elements
}
