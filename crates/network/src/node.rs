//! What all Pods of a machine share: the bridge with its addresses, the tables, and some kernel parameters.
//!
//! ```text
//! <run>/network/node.json       which subnets the bridge has; written before anything is made
//! ```
//!
//! It is made with the first Pod and goes with the last. What stays are `net.ipv4.ip_forward` and, with IPv6,
//! `net.ipv6.conf.all.forwarding`: others may rely on them by then.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use podrun_netlink::{
    BridgeOptions, Link, LinkChange, MacAddress, NewAddress, NewLink, Route, RouteFilter, Rtnetlink,
};
use podrun_plan::names::NodeNames;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::lease::{Leases, NodeLock};
use crate::mac;
use crate::nft::{Firewall, State};
use crate::subnet::Subnets;
use crate::sysctl::Sysctls;

/// The alias of a bridge that is complete.
pub(crate) const BRIDGE_ALIAS: &str = "podrun bridge";
const FILE: &str = "node.json";
const VERSION: u32 = 1;
/// Where no route leads out, and of links that say nothing else.
const MTU: u32 = 1500;

/// The network that the Pods below one state directory share, in the network namespace of the calling thread.
#[derive(Clone, Debug)]
pub struct Network {
    pub(crate) names: NodeNames,
    pub(crate) leases: Leases,
}

/// The bridge and its subnets.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) bridge: u32,
    pub(crate) subnets: Subnets,
    pub(crate) mtu: u32,
}

/// What is kept about the bridge.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    version: u32,
    boot: String,
    pub(crate) subnets: Subnets,
    mtu: u32,
}

impl Network {
    /// Opens the network of the Pods below a directory of live state, `/run/podrun`.
    ///
    /// # Errors
    ///
    /// As [`Leases::open`].
    pub fn open(run: &Path) -> Result<Self> {
        Ok(Self { names: NodeNames::of(run), leases: Leases::open(run)? })
    }

    /// Returns who has which address and port.
    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    /// Returns the subnets of the Pods, if there is a bridge.
    ///
    /// # Errors
    ///
    /// [`Error::File`] with any errno of reading what is kept about it; [`Error::Corrupt`].
    pub fn subnets(&self) -> Result<Option<Subnets>> {
        Ok(self.record()?.map(|record| record.subnets))
    }

    /// Returns the MTU of the Pods' links.
    pub(crate) fn mtu(&self) -> Result<u32> {
        Ok(self.record()?.map_or(MTU, |record| record.mtu))
    }

    /// Makes the bridge and the tables, or finds them made. `asked` is empty where any subnet will do.
    pub(crate) fn ensure(
        &self,
        _lock: &NodeLock,
        asked: &[IpNet],
        firewall: &mut Option<Firewall>,
    ) -> Result<Node> {
        let mut route = Rtnetlink::open()?;
        let record = self.record_for(&mut route, asked)?;
        let firewall = match firewall {
            Some(firewall) => firewall,
            none => none.insert(Firewall::open(&self.names, &record.subnets.list())?),
        };
        let bridge = match route.find_link(self.names.bridge.as_str())? {
            Some(link) if link.kind.as_deref() != Some("bridge") => {
                return Err(Error::NameTaken { name: link.name, kind: link.kind.unwrap_or_default() });
            }
            Some(link) if link.alias.as_deref() == Some(BRIDGE_ALIAS) => Ok(link.index),
            found => Err(self.make_bridge(&mut route, found, &record)?),
        };
        // Before any Pod can send anything.
        let installed = firewall.state()? == State::Installed;
        if !installed {
            firewall.install()?;
        }
        // Somebody may have taken it away from Pods that run.
        if !installed || bridge.is_err() {
            self.restore(&mut route, firewall, bridge.unwrap_or_else(|new| new), &record.subnets)?;
        }
        Ok(Node { bridge: bridge.unwrap_or_else(|new| new), subnets: record.subnets, mtu: record.mtu })
    }

    /// Removes bridge and tables if no Pod has an address. May be repeated.
    ///
    /// # Errors
    ///
    /// The first thing that could not be removed.
    pub fn remove_if_unused(&self) -> Result<bool> {
        self.remove_unused(&self.leases.lock()?)
    }

    /// As [`Network::remove_if_unused`], unless somebody else is changing the machine's network.
    ///
    /// # Errors
    ///
    /// The first thing that could not be removed.
    pub fn try_remove_if_unused(&self) -> Result<bool> {
        self.leases.try_lock()?.map_or(Ok(false), |lock| self.remove_unused(&lock))
    }

    fn remove_unused(&self, lock: &NodeLock) -> Result<bool> {
        if self.leases.all()?.iter().any(|lease| lease.current) {
            return Ok(false);
        }
        let Some(record) = self.record()? else { return Ok(false) };
        self.dismantle(lock, &record.subnets)?;
        Ok(true)
    }

    fn dismantle(&self, _lock: &NodeLock, subnets: &Subnets) -> Result<()> {
        let mut route = Rtnetlink::open()?;
        if self.find_bridge(&mut route)?.is_some() {
            route.delete_link(self.names.bridge.as_str())?;
        }
        Firewall::open(&self.names, &subnets.list())?.remove()?;
        let path = self.record_path();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::file("remove", path)(error)),
            _ => Ok(()),
        }
    }

    /// Returns the bridge, if it is one.
    pub(crate) fn find_bridge(&self, route: &mut Rtnetlink) -> Result<Option<Link>> {
        let link = route.find_link(self.names.bridge.as_str())?;
        Ok(link.filter(|link| link.kind.as_deref() == Some("bridge")))
    }

    /// Returns the record, made new where there is none that will do.
    fn record_for(&self, route: &mut Rtnetlink, asked: &[IpNet]) -> Result<Record> {
        let asked = if asked.is_empty() { None } else { Some(Subnets::asked(asked)?) };
        if let Some(record) = self.record()? {
            match asked {
                Some(asked) if asked != record.subnets => {
                    if self.leases.all()?.iter().any(|lease| lease.current) {
                        let (asked, used) = (asked.list(), record.subnets.list());
                        return Err(Error::SubnetsInUse { asked, used });
                    }
                    if let Some(bridge) = self.find_bridge(route)? {
                        route.delete_link(bridge.index)?;
                    }
                }
                _ => return Ok(record),
            }
        }
        let routes = route.routes(RouteFilter::new())?;
        let subnets = match asked {
            Some(asked) => asked,
            None => Subnets::choose(&destinations(&routes))?,
        };
        let record = Record {
            version: VERSION,
            boot: self.leases.boot().to_owned(),
            subnets,
            mtu: uplink_mtu(route, &routes)?,
        };
        self.keep(&record)?;
        Ok(record)
    }

    /// Makes the bridge, or of one that was found what it has to be.
    pub(crate) fn make_bridge(
        &self,
        route: &mut Rtnetlink,
        found: Option<Link>,
        record: &Record,
    ) -> Result<u32> {
        let name = self.names.bridge.as_str();
        // With a MAC address of its own it does not change it with its ports.
        let gateways = record.subnets.gateways();
        let mac = gateway_mac(&gateways);
        let index = match found {
            Some(link) => link.index,
            None => {
                let options = BridgeOptions::new().stp(false).multicast_snooping(false);
                route.create_link(&NewLink::bridge_with(name, options).mac(mac))?
            }
        };
        let sysctls = Sysctls::open()?;
        self.set_parameters(&sysctls, record.subnets.ipv6.is_some())?;
        for gateway in &gateways {
            route.add_address(index, &NewAddress::new(*gateway).no_dad())?;
        }
        route.change_link(index, &LinkChange::new().up())?;
        route.change_link(index, &LinkChange::new().alias(BRIDGE_ALIAS))?;
        Ok(index)
    }

    fn set_parameters(&self, sysctls: &Sysctls, ipv6: bool) -> Result<()> {
        let bridge = &self.names.bridge;
        sysctls.set("ipv4/ip_forward", "1")?;
        // Pods are told nothing about ways that the filter of their port does not let them go.
        sysctls.set(&format!("ipv4/conf/{bridge}/send_redirects"), "0")?;
        sysctls.set(&format!("ipv4/conf/{bridge}/accept_redirects"), "0")?;
        let own = |name: &str| format!("ipv6/conf/{bridge}/{name}");
        for name in ["accept_ra", "accept_redirects"] {
            sysctls.set_if_present(&own(name), "0")?;
        }
        if !ipv6 {
            return sysctls.set_if_present(&own("disable_ipv6"), "1");
        }
        if sysctls.read("ipv6/conf/all/forwarding")?.as_deref() == Some("0") {
            // A router takes no advertisements unless it is told to; whoever relied on them goes on getting them.
            for interface in sysctls.ipv6_interfaces()? {
                let name = format!("ipv6/conf/{interface}/accept_ra");
                if interface != *bridge && sysctls.read(&name)?.as_deref() == Some("1") {
                    sysctls.set_if_present(&name, "2")?;
                }
            }
            sysctls.set("ipv6/conf/all/forwarding", "1")?;
        }
        Ok(())
    }

    /// Lets the machine's own loopback addresses reach host ports, or ends that. Only the table's chain `raw` keeps Pods
    /// from the machine's loopback addresses meanwhile, so it is on no longer than there are ports.
    pub(crate) fn route_loopback(&self, on: bool) -> Result<()> {
        let name = format!("ipv4/conf/{}/route_localnet", self.names.bridge);
        Sysctls::open()?.set_if_present(&name, if on { "1" } else { "0" })
    }

    fn record_path(&self) -> PathBuf {
        self.leases.dir().join(FILE)
    }

    /// Returns what is kept of this boot.
    pub(crate) fn record(&self) -> Result<Option<Record>> {
        let path = self.record_path();
        let text = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            text => text.map_err(Error::file("read", &path))?,
        };
        let record: Record =
            serde_json::from_slice(&text).map_err(|source| Error::Corrupt { path, source })?;
        Ok((record.version == VERSION && record.boot == self.leases.boot()).then_some(record))
    }

    fn keep(&self, record: &Record) -> Result<()> {
        let path = self.record_path();
        let temporary = path.with_extension("json.tmp");
        let text = serde_json::to_vec(record).expect("plain data");
        let kept = write_and_rename(&temporary, &path, &text);
        if kept.is_err() {
            // On a full disk: nobody would take it away once no Pod needs the record any more.
            let _ = fs::remove_file(&temporary);
        }
        kept
    }
}

fn write_and_rename(temporary: &Path, path: &Path, text: &[u8]) -> Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(temporary)
        .map_err(Error::file("create", temporary))?;
    file.write_all(text).map_err(Error::file("write", temporary))?;
    fs::rename(temporary, path).map_err(Error::file("write", path))
}

/// Returns the addresses by which this machine is known: those of the link by which packets leave it, one of each family.
///
/// # Errors
///
/// What could not be read.
pub fn host_addresses() -> Result<Vec<IpAddr>> {
    let mut route = Rtnetlink::open()?;
    let mut addresses = Vec::new();
    for filter in [RouteFilter::new().ipv4(), RouteFilter::new().ipv6()] {
        let routes = route.routes(filter.table(Route::MAIN))?;
        let Some(way_out) = way_out(&routes) else { continue };
        if let Some(source) = way_out.source {
            addresses.push(source);
            continue;
        }
        let all = route.addresses(way_out.link)?;
        let of_family = |ip: &IpAddr| ip.is_ipv4() == way_out.destination.addr().is_ipv4();
        let is_known =
            |ip: &IpAddr| !ip.is_loopback() && !matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        addresses
            .extend(all.iter().map(|found| found.network.addr()).find(|ip| of_family(ip) && is_known(ip)));
    }
    Ok(addresses)
}

/// Returns the route by which packets leave the machine.
fn way_out(routes: &[Route]) -> Option<&Route> {
    let leaves = |route: &&Route| route.destination.prefix_len() == 0 && route.link.is_some();
    routes.iter().filter(leaves).min_by_key(|route| route.metric.unwrap_or(0))
}

/// Returns what routes lead to, but for everywhere.
fn destinations(routes: &[Route]) -> Vec<IpNet> {
    let multicast = |net: &IpNet| net.addr().is_multicast();
    routes
        .iter()
        .map(|route| route.destination)
        .filter(|net| net.prefix_len() > 0 && !multicast(net))
        .collect()
}

/// Returns the MTU of the link by which packets leave the machine.
fn uplink_mtu(route: &mut Rtnetlink, routes: &[Route]) -> Result<u32> {
    let main: Vec<Route> = routes.iter().filter(|route| route.table == Route::MAIN).copied().collect();
    let link = way_out(&main).and_then(|route| route.link).map(|link| route.find_link(link)).transpose()?;
    Ok(link.flatten().map_or(MTU, |link| link.mtu))
}

fn gateway_mac(gateways: &[IpNet]) -> MacAddress {
    let ipv4 = gateways.iter().find_map(|gateway| match gateway.addr() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    });
    mac::of_address(ipv4.expect("there is always a subnet of IPv4"))
}
