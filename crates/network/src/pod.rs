//! One Pod: its link, its addresses, its ports. Setup is one transaction, teardown needs nothing but the UID.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use podrun_netlink::{LinkChange, NewAddress, NewLink, Peer, PortOptions, Route, Rtnetlink};
use podrun_plan::model::{BridgePlan, PortMapping};
use podrun_plan::names::LinkNames;

use crate::error::{Error, Result};
use crate::lease::NodeLock;
use crate::nft::{Firewall, identity, ports};
use crate::node::{Network, Node};
use crate::{conntrack, mac};

/// What a Pod is to have.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The Pod's UID.
    pub uid: &'a str,
    /// Its place at the bridge.
    pub plan: &'a BridgePlan,
    /// Ports of the machine that lead to it.
    pub ports: &'a [PortMapping],
}

impl Network {
    /// Gives a Pod its addresses and ports, all or nothing. `netns` is its network namespace.
    ///
    /// What may be left of an attempt that was cut off is removed first by [`Network::teardown`].
    ///
    /// # Errors
    ///
    /// [`Error::PortTaken`], [`Error::NoFreeAddress`], [`Error::SubnetsInUse`]; otherwise what the kernel refused.
    /// [`Error::NotUndone`] if something is left.
    pub fn setup(&self, wanted: Wanted<'_>, netns: BorrowedFd<'_>) -> Result<Vec<IpAddr>> {
        self.build(wanted, netns).map_err(|first| {
            let mut undo = Vec::new();
            undo.extend(self.remove_link(wanted.uid).err());
            undo.extend(self.teardown(wanted.uid).err().into_iter().flatten());
            if undo.is_empty() { first } else { Error::NotUndone { first: Box::new(first), undo } }
        })
    }

    /// Keeps ports of the machine for a Pod that listens on them itself, in the host's network.
    ///
    /// # Errors
    ///
    /// [`Error::PortTaken`]; [`Error::File`].
    pub fn reserve(&self, uid: &str, ports: &[PortMapping]) -> Result<()> {
        if ports.is_empty() {
            return Ok(());
        }
        // They lead nowhere.
        let ports: Vec<_> = ports.iter().map(|port| PortMapping { container_port: 0, ..*port }).collect();
        let lock = self.leases.lock()?;
        self.leases.acquire_ports(&lock, uid, &ports)
    }

    /// The ordered procedure. What it leaves behind when it fails, [`Network::teardown`] finds by name.
    pub(crate) fn build(&self, wanted: Wanted<'_>, netns: BorrowedFd<'_>) -> Result<Vec<IpAddr>> {
        let names = self.link_names(wanted.uid);
        let mut firewall = None;
        let (node, address) = {
            // With an address the Pod keeps the bridge from being removed, so the lock need not be held for longer.
            let lock = self.leases.lock()?;
            let node = self.ensure(&lock, &wanted.plan.subnets, &mut firewall)?;
            let address = self.leases.acquire(&lock, wanted.uid, node.subnets.ipv4)?;
            self.leases.acquire_ports(&lock, wanted.uid, wanted.ports)?;
            if !wanted.ports.is_empty() {
                self.route_loopback(true)?;
            }
            (node, address)
        };
        let firewall = firewall.as_mut().expect("made with the bridge");
        let addresses = node.subnets.addresses(address);
        let mac = mac::of_address(address);

        // The filter of the port is there before the port is.
        firewall.add(wanted.uid, &identity(&names.host, mac, &addresses))?;
        let mut host = Rtnetlink::open()?;
        let peer = Peer::new(&wanted.plan.interface).in_netns(netns).mac(mac).mtu(node.mtu);
        let index = host.create_link(&NewLink::veth(&names.host, peer).mtu(node.mtu))?;
        let port = LinkChange::new().alias(&names.alias).no_link_local().master(node.bridge).up();
        host.change_link(index, &port)?;
        if !wanted.ports.is_empty() {
            host.change_link(index, &hairpin(true))?;
        }
        // Before the Pod's end can send anything.
        if let Some(bandwidth) = &wanted.plan.bandwidth {
            self.shape_with(&mut host, wanted.uid, Some(bandwidth))?;
        }
        configure(netns, &wanted.plan.interface, &node, &addresses)?;

        // Ports are opened last: nobody is led to a Pod that cannot answer.
        if !wanted.ports.is_empty() {
            firewall.add(wanted.uid, &ports(wanted.ports, &addresses))?;
            conntrack::forget_before(wanted.ports, &addresses)?;
        }
        Ok(addresses)
    }

    /// Takes everything back that a Pod has of the network. May be repeated, and needs nothing but the UID.
    ///
    /// The link is not waited for: it goes with the Pod's network namespace. [`Network::remove_link`] makes sure.
    ///
    /// # Errors
    ///
    /// All that could not be taken back.
    pub fn teardown(&self, uid: &str) -> Result<(), Vec<Error>> {
        let mut errors = Vec::new();
        errors.extend(self.close(uid).err());
        // The address goes last: as long as it is there, so may be the rest.
        if errors.is_empty() {
            let released = self.leases.lock().and_then(|lock| {
                self.leases.release(&lock, uid)?;
                self.settle_ports(&lock)
            });
            errors.extend(released.err());
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Takes a Pod out of the tables.
    fn close(&self, uid: &str) -> Result<()> {
        let Some(address) = self.leases.address_of(uid)? else { return Ok(()) };
        // Unlike the link it does not go with the Pod's namespace.
        self.remove_own(&mut Rtnetlink::open()?, &self.link_names(uid).shaper, uid)?;
        let Some(subnets) = self.subnets()? else { return Ok(()) };
        let mine = self.leases.ports()?.into_iter().filter(|lease| lease.uid == uid);
        let mine: Vec<PortMapping> = mine.map(|lease| lease.port).collect();
        let addresses = subnets.addresses(address);
        let mut firewall = Firewall::open(&self.names, &subnets.list())?;
        let mut elements = ports(&mine, &addresses);
        elements.extend(identity(&self.link_names(uid).host, mac::of_address(address), &addresses));
        firewall.delete(&elements)?;
        conntrack::forget_after(&mine, &addresses)
    }

    pub(crate) fn link_names(&self, uid: &str) -> LinkNames {
        LinkNames::of(uid, &self.names.bridge)
    }

    /// Ends what only host ports need when there are none left.
    fn settle_ports(&self, _lock: &NodeLock) -> Result<()> {
        if self.leases.ports()?.is_empty() { self.route_loopback(false) } else { Ok(()) }
    }

    /// Deletes a Pod's links if they are still there, and waits for that. May be repeated.
    ///
    /// # Errors
    ///
    /// What the kernel refused.
    pub fn remove_link(&self, uid: &str) -> Result<()> {
        let names = self.link_names(uid);
        let mut route = Rtnetlink::open()?;
        self.remove_own(&mut route, &names.host, uid)?;
        self.remove_own(&mut route, &names.shaper, uid)
    }

    /// Deletes a link by its name. Somebody else's of that name is none of our affair.
    fn remove_own(&self, route: &mut Rtnetlink, name: &str, uid: &str) -> Result<()> {
        let alias = self.link_names(uid).alias;
        let link = route.find_link(name)?;
        if link.is_some_and(|link| link.alias.is_none_or(|there| there == alias)) {
            route.delete_link(name)?;
        }
        Ok(())
    }
}

/// Where the kernel lets bridged packets through the tables (br_netfilter), one that a Pod sends to its own host port has to leave
/// by the port that it came by.
pub(crate) fn hairpin(has_ports: bool) -> LinkChange<'static> {
    LinkChange::new().port(PortOptions::new().hairpin(has_ports))
}

/// Gives the Pod's end its addresses and its way out. May be repeated.
pub(crate) fn configure(
    netns: BorrowedFd<'_>,
    interface: &str,
    node: &Node,
    addresses: &[IpAddr],
) -> Result<()> {
    let mut pod = Rtnetlink::open_in(netns)?;
    let index = pod.link(interface)?.index;
    pod.set_up(index)?;
    for network in node.subnets.with_prefixes(addresses) {
        // Nobody else may have it: there is no need to ask around.
        pod.add_address(index, &NewAddress::new(network).no_dad())?;
    }
    for gateway in node.subnets.gateways() {
        pod.add_route(&Route::default_via(gateway.addr()).dev(index))?;
    }
    Ok(())
}
