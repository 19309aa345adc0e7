//! cgroup v2 on directory fds: requests and limits, freeze, kill, events, pressure, statistics, device filter.

#![deny(unsafe_code)]

mod availability;
mod cgroup;
mod control;
mod controllers;
mod cpu;
mod delegate;
mod error;
mod events;
mod hierarchy;
mod hugetlb;
mod memory;
mod pids;
mod pressure;
mod remove;
pub mod resources;
#[cfg(test)]
mod stand_in;
mod value;

pub use availability::{Availability, Facts, Level, availability};
pub use cgroup::Cgroup;
pub use control::CgroupStat;
pub use controllers::{Controller, Controllers};
pub use cpu::{Cpu, CpuMax, CpuStat, CpuWeight};
pub use error::{Error, ParseError, Result};
pub use events::{CgroupEvents, EventsFd};
pub use hierarchy::{Hierarchy, V1Mount};
pub use hugetlb::{HugePageSize, Hugetlb, HugetlbEvents};
pub use memory::{Memory, MemoryEvents, MemoryStat};
pub use pids::{Pids, PidsEvents};
pub use pressure::{
    Pressure, PressureKind, PressureLine, PressureResource, PressureThreshold, PressureTrigger, Share,
};
pub use value::{CountLimit, Limit, Micros};
