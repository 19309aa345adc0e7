//! cgroup v2 on directory fds: requests and limits, freeze, kill, events, pressure, statistics, device filter.
//!
//! # What this does
//!
//! - [`Hierarchy`] finds the cgroup2 mount; [`Cgroup`] is one directory of it by fd, checked to be what it claims.
//! - One type per controller reads and writes its files: [`Cpu`], [`Memory`], [`Pids`], [`Io`], [`Cpuset`], [`Hugetlb`].
//!   Values print and parse as the kernel writes them.
//! - [`Availability`] says who holds a controller that is missing; an attempt to use it fails with
//!   [`Error::ControllerMissing`].
//! - [`Cgroup::enable`] and [`Cgroup::ensure_path_with`] pass controllers on to children.
//! - [`Cgroup::kill`], [`Cgroup::freeze`], [`Cgroup::remove_tree`] act on whole trees; waiting ends at a deadline.
//! - [`EventsFd`] and [`PressureTrigger`] are fds to poll.
//! - [`resources`] turns Kubernetes' requests and limits into values, writes them and compares what the kernel holds.
//! - [`devices`] attaches a device filter.
//!
//! # What this does not do
//!
//! It does not use cgroup v1 hierarchies, talk to systemd, start processes or threads, print, or read the environment. It
//! keeps no state: everything is in the kernel.
//!
//! # Example
//!
//! ```no_run
//! use std::time::{Duration, Instant};
//! use podrun_cgroups::{Controller, CountLimit, Hierarchy};
//!
//! # fn main() -> podrun_cgroups::Result<()> {
//! let root = Hierarchy::find()?.open_root()?;
//! let cgroup = root.ensure_path_with("example/a", Controller::Pids.into())?;
//! cgroup.pids().set_max(CountLimit::Count(64))?;
//! cgroup.add_process(std::process::id())?;
//! println!("{:?}", cgroup.stats()?);
//! # Ok(())
//! # }
//! ```
//!
//! # Parsing apart from reading
//!
//! Decisions are functions of texts and facts: [`Hierarchy::from_mountinfo`], [`availability()`], every `FromStr`,
//! [`devices::assemble`], [`resources::container_values`], [`resources::compare`]. They need no kernel. What reads files
//! can be tested with a directory that [stands in](Cgroup::open_unchecked_fs) for a cgroup.

#![deny(unsafe_code)]

mod availability;
mod cgroup;
mod control;
mod controllers;
mod cpu;
mod cpuset;
mod delegate;
pub mod devices;
mod error;
mod events;
mod hierarchy;
mod hugetlb;
mod io;
mod memory;
mod pids;
mod pressure;
mod remove;
pub mod resources;
#[cfg(test)]
mod stand_in;
mod stats;
#[expect(unsafe_code, reason = "bpf(2) takes pointers in its attributes and has no safe wrapper")]
mod sys;
mod value;

pub use availability::{Availability, Facts, Level, availability};
pub use cgroup::Cgroup;
pub use control::CgroupStat;
pub use controllers::{Controller, Controllers};
pub use cpu::{Cpu, CpuMax, CpuStat, CpuWeight};
pub use cpuset::{Cpuset, IdSet};
pub use error::{Error, ParseError, Result};
pub use events::{CgroupEvents, EventsFd};
pub use hierarchy::{Hierarchy, V1Mount};
pub use hugetlb::{HugePageSize, Hugetlb, HugetlbEvents};
pub use io::{BlockDevice, Io, IoMax, IoStat, IoWeight, IoWeights};
pub use memory::{Memory, MemoryEvents, MemoryStat};
pub use pids::{Pids, PidsEvents};
pub use pressure::{
    Pressure, PressureKind, PressureLine, PressureResource, PressureThreshold, PressureTrigger, Share,
};
pub use stats::{MemoryUsage, PidsUsage, Stats};
pub use value::{CountLimit, Limit, Micros};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
