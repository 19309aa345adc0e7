//! Connections that the kernel remembers: see `include/uapi/linux/netfilter/nfnetlink_conntrack.h`.
//!
//! A connection keeps the way that its first packet took. With UDP, where nobody says goodbye, a client that goes on
//! sending would for ever reach what was there before: the machine itself before a port was opened, or a Pod that is gone.

use std::net::IpAddr;

use podrun_netlink::{Action, Connection, Message, Protocol as Netlink};
use podrun_plan::model::PortMapping;
use podrun_spec::model::Protocol;

use crate::error::Result;
use crate::nft::number;
use crate::nft::wire::{CONNTRACK, Fields, message, octets};

const GET: u8 = 1;
const DELETE: u8 = 2;
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
const FILTER: u16 = 25;
// Of a tuple.
const ADDRESSES: u16 = 1;
const TRANSPORT: u16 = 2;
// Of a transport.
const NUMBER: u16 = 1;
const DESTINATION_PORT: u16 = 3;
// Of a filter, and its bits.
const ORIGINAL_FLAGS: u16 = 1;
const BY_NUMBER: u32 = 1 << 3;
const BY_DESTINATION_PORT: u32 = 1 << 5;

/// Which connections to forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    /// Those to a port of the machine.
    To(u16),
    /// Those to it that were redirected to a Pod.
    Redirected(u16, IpAddr),
}

/// Forgets what goes to ports that are about to lead to a Pod.
pub(crate) fn forget_before(ports: &[PortMapping], addresses: &[IpAddr]) -> Result<()> {
    forget(ports, addresses, |port, _| Which::To(port))
}

/// Forgets what was redirected to a Pod that is about to go.
pub(crate) fn forget_after(ports: &[PortMapping], addresses: &[IpAddr]) -> Result<()> {
    forget(ports, addresses, Which::Redirected)
}

fn forget(ports: &[PortMapping], addresses: &[IpAddr], which: impl Fn(u16, IpAddr) -> Which) -> Result<()> {
    let mut udp = ports.iter().filter(|port| port.protocol == Protocol::Udp).peekable();
    if udp.peek().is_none() {
        return Ok(());
    }
    let mut connection = Connection::open(Netlink::Netfilter)?;
    for port in udp {
        for address in addresses {
            let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
            let family = u8::try_from(family).expect("2 or 10");
            forget_one(&mut connection, family, which(port.host_port, *address))?;
        }
    }
    Ok(())
}

fn forget_one(connection: &mut Connection, family: u8, which: Which) -> Result<()> {
    let port = match which {
        Which::To(port) | Which::Redirected(port, _) => port,
    };
    let action = Action::new("list connections to UDP port", port.to_string());
    let found = connection.dump(&action, &list(family, port), |reply| {
        let fields = Fields::of_message(reply.payload());
        Ok(is_meant(fields, which).then(|| deletion(family, fields)))
    })?;
    let action = Action::new("forget a connection to UDP port", port.to_string());
    for message in found {
        match connection.execute(&action, &message) {
            // It ended in between.
            Err(error) if error.is_not_found() => {}
            done => drop(done?),
        }
    }
    Ok(())
}

/// The kernel filters since Linux 5.8; older ones send everything.
fn list(family: u8, port: u16) -> Message {
    let mut message = message(CONNTRACK, GET, 0, family);
    message
        .body
        .nest(ORIGINAL, |tuple| {
            tuple.nest(TRANSPORT, |transport| {
                transport.u8(NUMBER, number(Protocol::Udp)).be16(DESTINATION_PORT, port);
            });
        })
        .nest(FILTER, |filter| {
            filter.u32(ORIGINAL_FLAGS, BY_NUMBER | BY_DESTINATION_PORT);
        });
    message
}

fn is_meant(connection: Fields<'_>, which: Which) -> bool {
    let transport = connection.nested(ORIGINAL).nested(TRANSPORT);
    let is_to = |port: u16| {
        transport.get(NUMBER) == Some(&[number(Protocol::Udp)])
            && transport.get(DESTINATION_PORT) == Some(&port.to_be_bytes())
    };
    match which {
        Which::To(port) => is_to(port),
        Which::Redirected(port, address) => {
            // Whoever answers is where it went; sources have the odd numbers.
            let kind = if address.is_ipv4() { 1 } else { 3 };
            let from = connection.nested(REPLY).nested(ADDRESSES).get(kind);
            is_to(port) && from == Some(octets(address).as_slice())
        }
    }
}

/// Names the connection as the kernel did. With its id, one that took its place is not meant.
fn deletion(family: u8, connection: Fields<'_>) -> Message {
    let mut message = message(CONNTRACK, DELETE, 0, family);
    for kind in [ORIGINAL, ZONE, ID] {
        if let Some(value) = connection.get(kind) {
            let nested = if kind == ORIGINAL { 0x8000 } else { 0 };
            message.body.bytes(kind | nested, value);
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use podrun_netlink::Body;

    use super::*;

    fn connection(port: u16, answers: [u8; 4]) -> Body {
        let mut body = Body::new();
        body.nest(ORIGINAL, |tuple| {
            tuple.nest(TRANSPORT, |transport| {
                transport.u8(NUMBER, 17).be16(DESTINATION_PORT, port);
            });
        })
        .nest(REPLY, |tuple| {
            tuple.nest(ADDRESSES, |addresses| {
                addresses.bytes(1, &answers);
            });
        })
        .be32(ID, 9);
        body
    }

    #[test]
    fn connections_are_told_apart_by_port_and_by_who_answers() {
        let body = connection(53, [10, 88, 0, 5]);
        let fields = Fields(body.as_bytes());
        let pod = |text: &str| text.parse().unwrap();
        assert!(is_meant(fields, Which::To(53)));
        assert!(!is_meant(fields, Which::To(54)));
        assert!(is_meant(fields, Which::Redirected(53, pod("10.88.0.5"))));
        assert!(!is_meant(fields, Which::Redirected(53, pod("10.88.0.6"))));
        assert!(!is_meant(fields, Which::Redirected(53, pod("fd00::5"))));
        let deletion = deletion(2, fields);
        assert_eq!(Fields::of_message(deletion.body.as_bytes()).u32(ID), Some(9));
    }
}
