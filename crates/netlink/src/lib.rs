//! Links, addresses, routes and neighbours over netlink: synchronous, one socket per network namespace.
//!
//! # What this does
//!
//! - [`Rtnetlink`] is a socket in one network namespace, the caller's or [another one](Rtnetlink::open_in), with
//!   functions for [links](Rtnetlink::create_link) (veth with its peer born elsewhere, bridge and its ports, ifb),
//!   [addresses](Rtnetlink::add_address), [routes](Rtnetlink::add_route) and
//!   [neighbours](Rtnetlink::set_neighbour), and for the [addresses behind the ports](Rtnetlink::set_fdb_entry) of a bridge.
//!   Additions and deletions may be repeated.
//! - [`Connection`] speaks any netlink protocol: requests, lists and transactions (nftables). Its [`Message`]s are written with
//!   [`Body`] and read with [`attributes`].
//! - Lists have any length, and begin anew when they changed while they were read.
//! - Every [`Error`] says what was attempted with which object and keeps the errno and the text of the kernel's extended
//!   ack.
//!
//! # What this does not do
//!
//! It starts no thread that outlives a call, needs no runtime, runs no programs, joins no multicast groups, prints nothing
//! and reads no environment. Queueing disciplines are in `podrun-tc`.
//!
//! # Example
//!
//! ```no_run
//! use std::fs::File;
//! use std::os::fd::AsFd as _;
//! use podrun_netlink::{NewAddress, NewLink, Peer, Route, Rtnetlink};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let netns = File::open("/run/netns/blue")?;
//! let mut here = Rtnetlink::open()?;
//! let veth = NewLink::veth("veth-blue", Peer::new("eth0").in_netns(netns.as_fd())).up();
//! here.create_link(&veth)?;
//!
//! let mut blue = Rtnetlink::open_in(&netns)?;
//! blue.set_up("lo")?;
//! let eth0 = blue.link("eth0")?.index;
//! blue.add_address(eth0, &NewAddress::new("10.1.2.3/24".parse()?))?;
//! blue.set_up(eth0)?;
//! blue.add_route(&Route::default_via("10.1.2.1".parse()?))?;
//! # Ok(())
//! # }
//! ```

#![deny(unsafe_code)]

mod address;
mod connection;
mod error;
mod exchange;
mod fdb;
mod link;
mod mac;
mod neighbour;
mod protocol;
mod route;
mod rtnetlink;
#[expect(unsafe_code, reason = "neli's sockets take and give descriptors as numbers")]
mod sys;
mod wire;

pub use address::{Address, NewAddress};
pub use connection::{Answer, Connection};
pub use error::{Action, Error, KernelError, Malformed, Result};
pub use exchange::Reply;
pub use fdb::FdbEntry;
pub use link::{
    BridgeOptions, Link, LinkChange, LinkFilter, LinkId, LinkKind, LinkStatistics, NewLink, OperState, Peer,
    PortOptions, check_name,
};
pub use mac::{MacAddress, ParseMacError};
pub use neighbour::Neighbour;
pub use protocol::Protocol;
pub use route::{Existing, Route, RouteFilter, RouteKind};
pub use rtnetlink::Rtnetlink;
pub use wire::{Attribute, Attributes, Body, Message, attributes};

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
