//! Routes.

use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::error::{Action, Error, Malformed, Result};
use crate::exchange::Reply;
use crate::link::existed;
use crate::rtnetlink::Rtnetlink;
use crate::wire::{Message, attributes};

/// What an idempotent addition found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Nothing; it was added.
    New,
    /// The same; nothing was done.
    Same,
}

pub(crate) fn family_byte(family: i32) -> u8 {
    u8::try_from(family).expect("address families are small numbers")
}

pub(crate) fn family_of(ip: IpAddr) -> u8 {
    family_byte(if ip.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 })
}

/// The destination of default routes.
fn everywhere(is_ipv4: bool) -> IpNet {
    if is_ipv4 { Ipv4Net::default().into() } else { Ipv6Net::default().into() }
}

// include/uapi/linux/rtnetlink.h
const RTM_F_CLONED: u32 = 0x200;
const RTNH_F_ONLINK: u32 = 4;
const RTPROT_BOOT: u8 = 3;
const RTAX_MTU: u16 = 2;

/// What happens to packets that follow a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum RouteKind {
    /// They are sent on.
    #[default]
    Unicast,
    /// They are this machine's own.
    Local,
    /// They go to everybody on the link.
    Broadcast,
    /// They vanish.
    Blackhole,
    /// They are answered with "host unreachable".
    Unreachable,
    /// They are answered with "prohibited".
    Prohibit,
    /// Something else, by its number (`RTN_*`).
    Other(u8),
}

impl RouteKind {
    fn code(self) -> u8 {
        match self {
            Self::Unicast => 1,
            Self::Local => 2,
            Self::Broadcast => 3,
            Self::Blackhole => 6,
            Self::Unreachable => 7,
            Self::Prohibit => 8,
            Self::Other(code) => code,
        }
    }

    fn from_code(code: u8) -> Self {
        let known =
            [Self::Unicast, Self::Local, Self::Broadcast, Self::Blackhole, Self::Unreachable, Self::Prohibit];
        known.into_iter().find(|kind| kind.code() == code).unwrap_or(Self::Other(code))
    }

    /// Whether a route of the kind leads to a link.
    fn has_link(self) -> bool {
        !matches!(self, Self::Blackhole | Self::Unreachable | Self::Prohibit)
    }
}

/// A route, to be added or as the kernel tells it.
///
/// ```
/// use podrun_netlink::Route;
/// // Link 2 has no address in the gateway's network: `onlink` says that the gateway is on the link all the same.
/// let route = Route::default_via("169.254.1.1".parse()?).dev(2).onlink();
/// assert_eq!(route.to_string(), "0.0.0.0/0 via 169.254.1.1 dev 2 onlink");
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Route {
    /// Where to.
    pub destination: IpNet,
    /// The next hop; without one the destination is on the link itself.
    pub gateway: Option<IpAddr>,
    /// The link, by its index; without one the kernel takes that of the gateway.
    pub link: Option<u32>,
    /// Whether the gateway counts as being on the link, although no address of the link says so.
    pub is_onlink: bool,
    /// The metric: of two routes to the same destination the smaller one counts. `None` is the kernel's own: 0 with IPv4,
    /// 1024 with IPv6.
    pub metric: Option<u32>,
    /// The source address of packets of this machine.
    pub source: Option<IpAddr>,
    /// The MTU in bytes for this route.
    pub mtu: Option<u32>,
    /// The table; 254 is the main one, 255 the local one.
    pub table: u32,
    /// What happens to the packets.
    pub kind: RouteKind,
    /// Who made it (`RTPROT_*`): 2 the kernel, 3 an administrator's tool, 4 somebody who says so.
    pub protocol: u8,
    /// How far away the destination is (`RT_SCOPE_*`): 0 anywhere, 253 on the link, 254 on this machine.
    pub scope: u8,
}

impl Route {
    /// The main table.
    pub const MAIN: u32 = 254;

    /// Returns a route to a destination; it needs a link or a gateway.
    pub fn to(destination: IpNet) -> Self {
        Self {
            destination: destination.trunc(),
            gateway: None,
            link: None,
            is_onlink: false,
            metric: None,
            source: None,
            mtu: None,
            table: Self::MAIN,
            kind: RouteKind::Unicast,
            protocol: RTPROT_BOOT,
            scope: 0,
        }
    }

    /// Returns the route to everywhere by way of a gateway.
    pub fn default_via(gateway: IpAddr) -> Self {
        Self::to(everywhere(gateway.is_ipv4())).via(gateway)
    }

    /// Sets the gateway.
    #[must_use]
    pub fn via(self, gateway: IpAddr) -> Self {
        Self { gateway: Some(gateway), ..self }
    }

    /// Sets the link, by its index.
    #[must_use]
    pub fn dev(self, link: u32) -> Self {
        Self { link: Some(link), ..self }
    }

    /// Lets the gateway count as being on the link.
    #[must_use]
    pub fn onlink(self) -> Self {
        Self { is_onlink: true, ..self }
    }

    /// Sets the metric.
    #[must_use]
    pub fn metric(self, metric: u32) -> Self {
        Self { metric: Some(metric), ..self }
    }

    /// Sets the source address of packets of this machine.
    #[must_use]
    pub fn source(self, source: IpAddr) -> Self {
        Self { source: Some(source), ..self }
    }

    /// Sets the MTU in bytes for this route.
    #[must_use]
    pub fn mtu(self, mtu: u32) -> Self {
        Self { mtu: Some(mtu), ..self }
    }

    /// Sets the table.
    #[must_use]
    pub fn table(self, table: u32) -> Self {
        Self { table, ..self }
    }

    /// Sets what happens to the packets.
    #[must_use]
    pub fn kind(self, kind: RouteKind) -> Self {
        Self { kind, ..self }
    }

    fn write(&self, kind: u16, flags: i32) -> Message {
        let ip = self.destination.addr();
        let mut structure = [0; 12];
        structure[0] = family_of(ip);
        structure[1] = self.destination.prefix_len();
        structure[4] = u8::try_from(self.table).unwrap_or(libc::RT_TABLE_UNSPEC);
        if kind == libc::RTM_DELROUTE {
            // Whoever made it, and however far it reaches.
            structure[6] = libc::RT_SCOPE_NOWHERE;
        } else {
            structure[5] = self.protocol;
            // As ip(8): a route without a gateway reaches no further than the link.
            let is_direct = self.kind == RouteKind::Unicast && self.gateway.is_none() && ip.is_ipv4();
            structure[6] = if is_direct { libc::RT_SCOPE_LINK } else { self.scope };
        }
        structure[7] = self.kind.code();
        if self.is_onlink {
            structure[8..12].copy_from_slice(&RTNH_F_ONLINK.to_ne_bytes());
        }
        let mut message = Message::new(kind, flags, &structure);
        let body = &mut message.body;
        body.u32(libc::RTA_TABLE, self.table);
        if self.destination.prefix_len() > 0 {
            body.ip(libc::RTA_DST, ip);
        }
        if let Some(gateway) = self.gateway {
            body.ip(libc::RTA_GATEWAY, gateway);
        }
        if let Some(link) = self.link {
            body.u32(libc::RTA_OIF, link);
        }
        if let Some(metric) = self.metric {
            body.u32(libc::RTA_PRIORITY, metric);
        }
        if let Some(source) = self.source {
            body.ip(libc::RTA_PREFSRC, source);
        }
        if let Some(mtu) = self.mtu {
            body.nest(libc::RTA_METRICS, |metrics| {
                metrics.u32(RTAX_MTU, mtu);
            });
        }
        message
    }

    /// Reads a route that somebody made; those of the route cache are none.
    fn read(reply: Reply<'_>) -> Result<Option<Self>, Malformed> {
        let (structure, _) = reply.split::<12>("struct rtmsg")?;
        let flags = u32::from_ne_bytes([structure[8], structure[9], structure[10], structure[11]]);
        if flags & RTM_F_CLONED != 0 { Ok(None) } else { Self::read_any(reply) }
    }

    fn read_any(reply: Reply<'_>) -> Result<Option<Self>, Malformed> {
        if reply.kind() != libc::RTM_NEWROUTE {
            return Ok(None);
        }
        let (structure, rest) = reply.split::<12>("struct rtmsg")?;
        let flags = u32::from_ne_bytes([structure[8], structure[9], structure[10], structure[11]]);
        if ![libc::AF_INET, libc::AF_INET6].contains(&i32::from(structure[0])) {
            return Ok(None);
        }
        let anywhere = everywhere(i32::from(structure[0]) == libc::AF_INET);
        let mut destination = anywhere.addr();
        let mut route = Self {
            table: u32::from(structure[4]),
            protocol: structure[5],
            scope: structure[6],
            kind: RouteKind::from_code(structure[7]),
            is_onlink: flags & RTNH_F_ONLINK != 0,
            ..Self::to(anywhere)
        };
        for attribute in attributes(rest) {
            let attribute = attribute?;
            match attribute.kind() {
                libc::RTA_DST => destination = attribute.ip()?,
                libc::RTA_GATEWAY => route.gateway = Some(attribute.ip()?),
                libc::RTA_OIF => route.link = Some(attribute.u32()?),
                libc::RTA_PRIORITY => route.metric = Some(attribute.u32()?),
                libc::RTA_PREFSRC => route.source = Some(attribute.ip()?),
                libc::RTA_TABLE => route.table = attribute.u32()?,
                libc::RTA_METRICS => {
                    for metric in attribute.nested() {
                        let metric = metric?;
                        if metric.kind() == RTAX_MTU {
                            route.mtu = Some(metric.u32()?);
                        }
                    }
                }
                _ => {}
            }
        }
        let malformed =
            Malformed { what: "the prefix length of a route", found: structure[1].into(), expected: 0 };
        route.destination = IpNet::new(destination, structure[1]).map_err(|_| malformed)?;
        Ok(Some(route))
    }

    /// Whether `existing` does what this route is to do, where this one leaves the choice to the kernel.
    fn is_met_by(&self, existing: &Self) -> bool {
        let default_metric = if self.destination.addr().is_ipv4() { 0 } else { 1024 };
        self.destination == existing.destination
            && self.table == existing.table
            && self.kind == existing.kind
            && self.gateway == existing.gateway
            && (self.link.is_none() || !self.kind.has_link() || self.link == existing.link)
            && self.metric.unwrap_or(default_metric) == existing.metric.unwrap_or(default_metric)
            && (self.source.is_none() || self.source == existing.source)
            && self.mtu == existing.mtu
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.destination)?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        if let Some(link) = self.link {
            write!(f, " dev {link}")?;
        }
        if self.is_onlink {
            f.write_str(" onlink")?;
        }
        if let Some(metric) = self.metric {
            write!(f, " metric {metric}")?;
        }
        if self.table != Self::MAIN {
            write!(f, " table {}", self.table)?;
        }
        Ok(())
    }
}

/// Which routes a list has; all that are set must hold. The kernel itself leaves the others out (Linux 4.20).
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct RouteFilter {
    table: Option<u32>,
    link: Option<u32>,
    family: i32,
}

impl Default for RouteFilter {
    fn default() -> Self {
        Self { table: None, link: None, family: libc::AF_UNSPEC }
    }
}

impl RouteFilter {
    /// Returns a filter that lets every route pass.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only routes of one table.
    pub fn table(self, table: u32) -> Self {
        Self { table: Some(table), ..self }
    }

    /// Only routes over one link, by its index.
    pub fn link(self, link: u32) -> Self {
        Self { link: Some(link), ..self }
    }

    /// Only routes of IPv4.
    pub fn ipv4(self) -> Self {
        Self { family: libc::AF_INET, ..self }
    }

    /// Only routes of IPv6.
    pub fn ipv6(self) -> Self {
        Self { family: libc::AF_INET6, ..self }
    }

    fn covers(&self, route: &Route) -> bool {
        let family = i32::from(family_of(route.destination.addr()));
        self.table.is_none_or(|table| route.table == table)
            && self.link.is_none_or(|link| route.link == Some(link))
            && (self.family == libc::AF_UNSPEC || self.family == family)
    }
}

impl Rtnetlink {
    /// Adds a route; tells whether it is there for the first time.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if another route to the destination with the same metric is there. [`Error::Refused`]:
    /// `ENETUNREACH` or `EHOSTUNREACH` if the gateway is on no link, `ENETDOWN` if the link is down, `ENODEV`, `EPERM`.
    pub fn add_route(&mut self, route: &Route) -> Result<Existing> {
        let action = Action::new("add route", route.to_string());
        let message = route.write(libc::RTM_NEWROUTE, libc::NLM_F_CREATE | libc::NLM_F_EXCL);
        let Err(error) = self.connection().execute(&action, &message) else { return Ok(Existing::New) };
        if !error.already_exists() {
            return Err(error);
        }
        let routes = self.routes(RouteFilter::new().table(route.table))?;
        let mut rivals = routes.into_iter().filter(|existing| existing.destination == route.destination);
        let Some(first) = rivals.next() else { return Err(error) };
        if route.is_met_by(&first) || rivals.any(|existing| route.is_met_by(&existing)) {
            return Ok(Existing::Same);
        }
        Err(Error::Conflict { action, existing: first.to_string() })
    }

    /// Adds a route in the place of one to the same destination with the same metric.
    ///
    /// # Errors
    ///
    /// As [`add_route`](Self::add_route), without the conflict.
    pub fn replace_route(&mut self, route: &Route) -> Result<()> {
        let action = Action::new("replace route", route.to_string());
        let message = route.write(libc::RTM_NEWROUTE, libc::NLM_F_CREATE | libc::NLM_F_REPLACE);
        self.connection().execute(&action, &message)?;
        Ok(())
    }

    /// Deletes a route; tells whether there was one.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`]: `EPERM`.
    pub fn delete_route(&mut self, route: &Route) -> Result<bool> {
        let action = Action::new("delete route", route.to_string());
        existed(self.connection().execute(&action, &route.write(libc::RTM_DELROUTE, 0)))
    }

    /// Returns the route that the kernel would take to an address: over which link, by which gateway, from which source.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`]: `ENETUNREACH` or `EHOSTUNREACH` if there is none.
    pub fn route_to(&mut self, destination: IpAddr) -> Result<Route> {
        let action = Action::new("look up the route", format!("to {destination}"));
        let mut structure = [0; 12];
        structure[0] = family_of(destination);
        structure[1] = if destination.is_ipv4() { 32 } else { 128 };
        let mut message = Message::new(libc::RTM_GETROUTE, 0, &structure);
        message.body.ip(libc::RTA_DST, destination);
        let answer = self.connection().ask(&action, &message, Route::read_any)?;
        answer.replies.into_iter().next().ok_or(Error::NoAnswer { action })
    }

    /// Lists the routes that pass a filter. Those of the route cache are left out.
    ///
    /// # Errors
    ///
    /// As [`Connection::dump`](crate::Connection::dump).
    pub fn routes(&mut self, filter: RouteFilter) -> Result<Vec<Route>> {
        let action = Action::new("list routes", "");
        // The kernel knows the filter only per family, and a table that does not exist is an error to it (ENOENT).
        let families = match filter.family {
            libc::AF_UNSPEC => vec![libc::AF_INET, libc::AF_INET6],
            family => vec![family],
        };
        let mut routes = Vec::new();
        for family in families {
            let mut structure = [0; 12];
            structure[0] = family_byte(family);
            let mut message = Message::new(libc::RTM_GETROUTE, 0, &structure);
            if let Some(table) = filter.table {
                message.body.u32(libc::RTA_TABLE, table);
            }
            if let Some(link) = filter.link {
                message.body.u32(libc::RTA_OIF, link);
            }
            let found = self.connection().dump(&action, &message, |reply| {
                Ok(Route::read(reply)?.filter(|route| filter.covers(route)))
            });
            match found {
                Ok(found) => routes.extend(found),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(routes)
    }
}
