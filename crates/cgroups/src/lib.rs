//! cgroup v2 on directory fds: requests and limits, freeze, kill, events, pressure, statistics, device filter.

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
