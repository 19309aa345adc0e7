//! What a cgroup uses, in one look.

use std::collections::BTreeMap;

use crate::cgroup::{Cgroup, absent};
use crate::control::CgroupStat;
use crate::cpu::CpuStat;
use crate::error::{Error, Result};
use crate::io::{BlockDevice, IoStat};
use crate::memory::{MemoryEvents, MemoryStat};
use crate::pids::PidsEvents;
use crate::pressure::Pressure;

/// Everything a cgroup reports; nothing where the controller or the kernel's support is missing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// `cgroup.stat`
    pub cgroup: CgroupStat,
    /// `cpu.stat`
    pub cpu: CpuStat,
    /// `cpu.pressure`
    pub cpu_pressure: Option<Pressure>,
    /// The memory files.
    pub memory: Option<MemoryUsage>,
    /// `memory.pressure`
    pub memory_pressure: Option<Pressure>,
    /// The pids files.
    pub pids: Option<PidsUsage>,
    /// `io.stat`
    pub io: Option<BTreeMap<BlockDevice, IoStat>>,
    /// `io.pressure`
    pub io_pressure: Option<Pressure>,
}

/// What a cgroup uses of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct MemoryUsage {
    /// `memory.current`
    pub current: u64,
    /// `memory.peak`
    pub peak: Option<u64>,
    /// `memory.swap.current`
    pub swap: Option<u64>,
    /// `memory.stat`
    pub stat: MemoryStat,
    /// `memory.events`
    pub events: MemoryEvents,
}

impl MemoryUsage {
    /// Returns usage without the page cache that was not used lately: what Kubernetes calls the working set.
    pub fn working_set(&self) -> u64 {
        self.current.saturating_sub(self.stat.inactive_file)
    }
}

/// How many processes and threads a cgroup has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct PidsUsage {
    /// `pids.current`
    pub current: u64,
    /// `pids.peak`
    pub peak: Option<u64>,
    /// `pids.events`
    pub events: PidsEvents,
}

impl Cgroup {
    /// Reads all statistics. They are read one after the other, so they are not of the same instant.
    ///
    /// # Errors
    ///
    /// [`Error::Read`], with `ENODEV` or `ENOENT` if the cgroup is gone ([`Error::is_gone`]); [`Error::Parse`].
    pub fn stats(&self) -> Result<Stats> {
        let memory = if_present(self.memory().current().and_then(|current| {
            Ok(MemoryUsage {
                current,
                peak: self.memory().peak()?,
                swap: self.memory().swap_current()?,
                stat: self.memory().stat()?,
                events: self.memory().events()?,
            })
        }))?;
        let pids = if_present(self.pids().current().and_then(|current| {
            Ok(PidsUsage { current, peak: self.pids().peak()?, events: self.pids().events()? })
        }))?;
        Ok(Stats {
            // This file is in every cgroup, so it tells an absent controller from an absent cgroup.
            cgroup: self.stat()?,
            cpu: if_present(self.cpu().stat())?.unwrap_or_default(),
            cpu_pressure: if_present(self.cpu().pressure())?,
            memory,
            memory_pressure: if_present(self.memory().pressure())?,
            pids,
            io: if_present(self.io().stat())?,
            io_pressure: if_present(self.io().pressure())?,
        })
    }
}

fn if_present<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Err(Error::ControllerMissing { .. }) => Ok(None),
        // EOPNOTSUPP is pressure information that was switched off.
        Err(Error::Read { source, .. })
            if absent(&source) || source.raw_os_error() == Some(libc::EOPNOTSUPP) =>
        {
            Ok(None)
        }
        other => other.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stand_in::StandIn;

    #[test]
    fn what_is_missing_is_nothing() {
        let stand_in = StandIn::new(&[("cgroup.stat", "nr_descendants 1\n"), ("pids.current", "2\n")]);
        // Half of a controller's files is no kernel that exists, but no reason to fail either.
        let stats = stand_in.cgroup.stats().unwrap();
        assert_eq!(stats.cgroup.descendants, 1);
        assert_eq!((stats.memory, stats.pids, stats.io, stats.cpu_pressure), (None, None, None, None));
    }

    #[test]
    fn what_is_there_is_read() {
        let stand_in = StandIn::new(&[
            ("cgroup.stat", "nr_descendants 0\n"),
            ("cpu.stat", "usage_usec 5\n"),
            ("memory.current", "100\n"),
            ("memory.stat", "inactive_file 30\n"),
            ("memory.events", "oom_kill 1\n"),
            ("pids.current", "2\n"),
            ("pids.events", "max 3\n"),
            ("io.stat", "8:0 rbytes=9\n"),
        ]);
        let stats = stand_in.cgroup.stats().unwrap();
        let memory = stats.memory.unwrap();
        assert_eq!((memory.working_set(), memory.peak, memory.events.oom_kill), (70, None, 1));
        assert_eq!(stats.pids.unwrap().events.max, 3);
        assert_eq!(stats.cpu.usage.0, 5);
        assert_eq!(stats.io.unwrap().len(), 1);
    }

    #[test]
    fn a_cgroup_that_is_gone_is_an_error() {
        assert!(StandIn::new(&[]).cgroup.stats().unwrap_err().is_gone());
        let broken = StandIn::new(&[("cgroup.stat", ""), ("memory.current", "x")]);
        assert!(matches!(broken.cgroup.stats().unwrap_err(), Error::Parse { .. }));
    }
}
