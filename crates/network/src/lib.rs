//! A Pod's addresses: the machine's bridge, leases, host ports, and a filter that lets a Pod speak in its own name only.
//!
//! ```text
//!         the machine                                     a Pod's network namespace
//!   eth0 ──────── masquerade ──── podrun0 ─┬─ pr… ═ veth ═ eth0  10.88.5.6/20, default route
//!          host ports (nftables)           └─ pr… ═ veth ═ eth0  …
//! ```
//!
//! - [`Network::setup`] gives a Pod everything or nothing, [`Network::teardown`] takes it back and needs the UID alone.
//! - The first Pod makes the bridge and the tables; [`Network::remove_if_unused`] removes them after the last.
//! - [`Leases`] say who has which address and which port of the machine. They outlive a supervisor, not a boot.
//! - [`Network::verify_node`] and [`Network::verify_pod`] compare the kernel's state with what it should be.
//! - [`Network::repair_node`] and [`Network::repair_pod`] make it so again; the next Pod that is set up finds what is lost altogether.
//! - [`Network::collect`] removes what belongs to no Pod any more.
//! - [`Network::shape`] changes what a Pod may send and receive while it runs; [`Network::measure`] sees whether it is so.
//!
//! All is done in the network namespace of the calling thread; a Pod's own is given as a descriptor.
//!
//! What it does not do: it forms no `/etc/hosts` and no `/etc/resolv.conf`, which are part of the plan.
//!
//! ```no_run
//! use std::fs::File;
//! use std::os::fd::AsFd as _;
//! use std::path::Path;
//! use podrun_network::{Network, Wanted};
//!
//! fn attach(uid: &str, plan: &podrun_plan::model::BridgePlan) -> Result<(), Box<dyn std::error::Error>> {
//!     let network = Network::open(Path::new("/run/podrun"))?;
//!     let netns = File::open("/run/netns/pod")?;
//!     let addresses = network.setup(Wanted { uid, plan, ports: &[] }, netns.as_fd())?;
//!     assert!(network.verify_node()?.is_empty());
//!     println!("{addresses:?}");
//!     Ok(())
//! }
//! ```

#![forbid(unsafe_code)]

mod bandwidth;
mod collect;
mod conntrack;
mod difference;
mod error;
mod lease;
mod mac;
mod measure;
mod nft;
mod node;
mod pod;
mod repair;
mod state;
mod subnet;
mod sysctl;
mod trial;
mod verify;

pub use collect::Collected;
pub use difference::Difference;
pub use error::{Error, Result};
pub use lease::{Lease, Leases, NodeLock, PortLease};
pub use measure::{Measured, Throughput};
pub use node::{Network, host_addresses};
pub use pod::Wanted;
pub use state::{Direction, PodState, Shaped};
pub use subnet::Subnets;
pub use trial::{forward_policies, try_out};
