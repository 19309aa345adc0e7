//! Traffic control over netlink: queueing disciplines, classes, filters, and shaping that is read back and compared.
//!
//! # What this does
//!
//! - [`TrafficControl`] adds, changes, deletes and lists disciplines ([`Tbf`], [`Htb`], [`FqCodel`], [`Netem`], `pfifo`,
//!   `bfifo`, `ingress`, `clsact`), classes ([`HtbClass`]) and filters ([`U32`], `matchall`, [`Bpf`], [`Flower`]) with
//!   redirection to other links ([`Mirred`]), and returns their [`Statistics`].
//! - [`Rate`] and [`Bytes`] are types of their own, and a constructor of a rate says whether it means bits: 8 times too much
//!   does not compile. Rates above 34 Gbit/s are passed in 64 bits.
//! - What is written can be compared with what is read: [`QdiscKind::differences`], [`HtbClass::differences`],
//!   [`Filter::differences`] return each [`Field`] that differs, and know what the kernel rounds.
//! - [`Shaper`] is the intent for one link: a rate in each direction, networks that are left alone. It is applied as often as
//!   one likes, changed in place, read back and compared, removed without a trace.
//!
//! # What this does not do
//!
//! It knows no other link attributes than a rate needs, does not choose names, keeps no state, starts no threads, runs no
//! programs (`tc` least of all), prints nothing and reads no environment.
//!
//! # Example
//!
//! ```no_run
//! use podrun_netlink::Rtnetlink;
//! use podrun_tc::{Limit, Rate, Shaper};
//!
//! # fn main() -> podrun_tc::Result<()> {
//! let mut netlink = Rtnetlink::open()?;
//! let shaper = Shaper::new("veth-blue").to_peer(Limit::new(Rate::from_bits_per_second(10_000_000)));
//! shaper.apply(&mut netlink)?;
//! assert!(shaper.verify(&mut netlink)?.is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! # The same bytes as tc
//!
//! Every message is tested against what `tc` of iproute2 sends for the same thing, byte by byte; the captures are in
//! `src/golden/tc.txt`. The one known deviation is deliberate: where `tc` lets a number of ticks overflow, ours stays at the
//! largest one.

#![forbid(unsafe_code)]

mod control;
mod difference;
mod error;
mod filter;
#[cfg(test)]
mod golden;
mod handle;
mod psched;
mod qdisc;
mod shaper;
mod statistics;
mod units;
mod wire;

pub use control::TrafficControl;
pub use difference::{Difference, Field};
pub use error::{Error, Result};
pub use filter::{
    Action, Bpf, Classifier, Filter, Flower, FoundFilter, Instruction, Mirred, Mirroring, Protocol, U32,
    U32Key,
};
pub use handle::Handle;
pub use psched::Psched;
pub use qdisc::{FoundClass, FoundQdisc, FqCodel, Htb, HtbClass, Netem, Peak, Qdisc, QdiscKind, Tbf};
pub use shaper::{
    DirectionStatistics, Facts, Limit, Plan, Queue, Redirect, Shaper, ShaperStatistics, Style, Tree,
};
pub use statistics::Statistics;
pub use units::{Bytes, Rate};

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
