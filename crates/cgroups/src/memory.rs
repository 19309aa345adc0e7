//! The memory controller.

use std::str::FromStr;

use crate::cgroup::Cgroup;
use crate::error::{ParseError, Result};
use crate::pressure::{Pressure, PressureResource};
use crate::value::{Limit, Number, Switch, flat_keyed};

/// The content of `memory.events`, with descendants, or of `memory.events.local`, without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct MemoryEvents {
    /// Memory was reclaimed although the cgroup was below its `memory.low`.
    pub low: u64,
    /// Processes were throttled and reclaimed because of `memory.high`.
    pub high: u64,
    /// `memory.max` was about to be exceeded.
    pub max: u64,
    /// An allocation was about to fail at the limit.
    pub oom: u64,
    /// Processes killed by the OOM killer.
    pub oom_kill: u64,
    /// Times that a whole group was killed, with `memory.oom.group`.
    pub oom_group_kill: u64,
}

impl FromStr for MemoryEvents {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut events = Self::default();
        flat_keyed(text, |key, value| {
            match key {
                "low" => events.low = value,
                "high" => events.high = value,
                "max" => events.max = value,
                "oom" => events.oom = value,
                "oom_kill" => events.oom_kill = value,
                "oom_group_kill" => events.oom_group_kill = value,
                _ => {}
            }
            Ok(())
        })?;
        Ok(events)
    }
}

/// The content of `memory.stat`: bytes by kind, and the counters that reports use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct MemoryStat {
    /// Anonymous memory.
    pub anon: u64,
    /// Page cache, tmpfs and shared memory included.
    pub file: u64,
    /// Kernel memory of all kinds.
    pub kernel: u64,
    /// Kernel stacks.
    pub kernel_stack: u64,
    /// Page tables.
    pub page_tables: u64,
    /// Network buffers.
    pub sock: u64,
    /// tmpfs, shared anonymous mappings and System V shared memory.
    pub shmem: u64,
    /// Page cache that has to be written to disk.
    pub file_dirty: u64,
    /// Kernel objects that can be reclaimed.
    pub slab_reclaimable: u64,
    /// Kernel objects that cannot.
    pub slab_unreclaimable: u64,
    /// Page cache that was not used lately. Usage without it is the working set that Kubernetes reports.
    pub inactive_file: u64,
    /// Page faults.
    pub page_faults: u64,
    /// Page faults that waited for a disk.
    pub major_page_faults: u64,
}

impl FromStr for MemoryStat {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut stat = Self::default();
        flat_keyed(text, |key, value| {
            match key {
                "anon" => stat.anon = value,
                "file" => stat.file = value,
                "kernel" => stat.kernel = value,
                "kernel_stack" => stat.kernel_stack = value,
                "pagetables" => stat.page_tables = value,
                "sock" => stat.sock = value,
                "shmem" => stat.shmem = value,
                "file_dirty" => stat.file_dirty = value,
                "slab_reclaimable" => stat.slab_reclaimable = value,
                "slab_unreclaimable" => stat.slab_unreclaimable = value,
                "inactive_file" => stat.inactive_file = value,
                "pgfault" => stat.page_faults = value,
                "pgmajfault" => stat.major_page_faults = value,
                _ => {}
            }
            Ok(())
        })?;
        Ok(stat)
    }
}

/// The memory files of one cgroup, from [`Cgroup::memory`].
///
/// Every method fails with [`crate::Error::ControllerMissing`] without the controller, except for
/// [`Memory::pressure`]. Limits are rounded down to whole pages by the kernel.
#[derive(Debug, Clone, Copy)]
pub struct Memory<'a>(&'a Cgroup);

impl Cgroup {
    /// Returns the files of the memory controller.
    pub fn memory(&self) -> Memory<'_> {
        Memory(self)
    }
}

impl Memory<'_> {
    /// Reads `memory.min`: what is never reclaimed.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::read_as`].
    pub fn min(&self) -> Result<Limit> {
        self.0.read_as("memory.min")
    }

    /// Reads `memory.low`: what is reclaimed only if nothing unprotected is left.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::read_as`].
    pub fn low(&self) -> Result<Limit> {
        self.0.read_as("memory.low")
    }

    /// Reads `memory.high`: above it, processes are slowed down and reclaimed.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::read_as`].
    pub fn high(&self) -> Result<Limit> {
        self.0.read_as("memory.high")
    }

    /// Reads `memory.max`: above it, the OOM killer is called.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::read_as`].
    pub fn max(&self) -> Result<Limit> {
        self.0.read_as("memory.max")
    }

    /// Reads `memory.swap.max`; nothing if the kernel does not account for swap.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::read_as`].
    pub fn swap_max(&self) -> Result<Option<Limit>> {
        self.0.read_optional("memory.swap.max")
    }

    /// Reads `memory.oom.group`: whether the OOM killer takes all processes of the cgroup or one.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::read_as`].
    pub fn oom_group(&self) -> Result<bool> {
        self.0.read_as::<Switch>("memory.oom.group").map(|switch| switch.0)
    }

    /// Reads `memory.current`: what the cgroup and its descendants use now.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::read_as`].
    pub fn current(&self) -> Result<u64> {
        self.0.read_as::<Number>("memory.current").map(|bytes| bytes.0)
    }

    /// Reads `memory.swap.current`; nothing if the kernel does not account for swap.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::read_as`].
    pub fn swap_current(&self) -> Result<Option<u64>> {
        Ok(self.0.read_optional::<Number>("memory.swap.current")?.map(|bytes| bytes.0))
    }

    /// Reads `memory.peak`: the most that was used at any time; nothing before Linux 5.19.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::read_as`].
    pub fn peak(&self) -> Result<Option<u64>> {
        Ok(self.0.read_optional::<Number>("memory.peak")?.map(|bytes| bytes.0))
    }

    /// Reads `memory.events`, descendants included.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::read_as`].
    pub fn events(&self) -> Result<MemoryEvents> {
        self.0.read_as("memory.events")
    }

    /// Reads `memory.events.local`, of this cgroup alone.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::read_as`].
    pub fn events_local(&self) -> Result<MemoryEvents> {
        self.0.read_as("memory.events.local")
    }

    /// Reads `memory.stat`.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::read_as`].
    pub fn stat(&self) -> Result<MemoryStat> {
        self.0.read_as("memory.stat")
    }

    /// Reads `memory.pressure`.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::pressure`].
    pub fn pressure(&self) -> Result<Pressure> {
        self.0.pressure(PressureResource::Memory)
    }

    /// Writes `memory.min`.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::write`].
    pub fn set_min(&self, limit: Limit) -> Result<()> {
        self.0.write("memory.min", &limit.to_string())
    }

    /// Writes `memory.low`.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::write`].
    pub fn set_low(&self, limit: Limit) -> Result<()> {
        self.0.write("memory.low", &limit.to_string())
    }

    /// Writes `memory.high`.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::write`].
    pub fn set_high(&self, limit: Limit) -> Result<()> {
        self.0.write("memory.high", &limit.to_string())
    }

    /// Writes `memory.max`. If more is in use, the kernel reclaims and then kills, all within this call.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::write`].
    pub fn set_max(&self, limit: Limit) -> Result<()> {
        self.0.write("memory.max", &limit.to_string())
    }

    /// Writes `memory.swap.max`.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::write`]; `ENOENT` if the kernel does not account for swap.
    pub fn set_swap_max(&self, limit: Limit) -> Result<()> {
        self.0.write("memory.swap.max", &limit.to_string())
    }

    /// Writes `memory.oom.group`.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::write`].
    pub fn set_oom_group(&self, group: bool) -> Result<()> {
        self.0.write("memory.oom.group", &Switch(group).to_string())
    }

    /// Reclaims `bytes` from the cgroup, through `memory.reclaim` (Linux 5.19).
    ///
    /// # Errors
    ///
    /// As [`Cgroup::write`]; `EAGAIN` if less could be reclaimed.
    pub fn reclaim(&self, bytes: u64) -> Result<()> {
        self.0.write("memory.reclaim", &bytes.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stand_in::StandIn;

    // `cat memory.events` after an OOM kill (Linux 6.1).
    const EVENTS: &str = "low 0\nhigh 4\nmax 51\noom 2\noom_kill 1\noom_group_kill 1\n";
    // `cat memory.stat` (Linux 6.1), shortened.
    const STAT: &str =
        "anon 4096\nfile 8192\nkernel 100\npagetables 5\ninactive_file 12\npgfault 9\npgmajfault 1\n";

    #[test]
    fn events_and_stat_parse() {
        let events: MemoryEvents = EVENTS.parse().unwrap();
        let expected = MemoryEvents { low: 0, high: 4, max: 51, oom: 2, oom_kill: 1, oom_group_kill: 1 };
        assert_eq!(events, expected);
        let stat: MemoryStat = STAT.parse().unwrap();
        assert_eq!((stat.anon, stat.file, stat.page_tables, stat.inactive_file), (4096, 8192, 5, 12));
        assert!("oom many".parse::<MemoryEvents>().is_err());
        assert!("anon".parse::<MemoryStat>().is_err());
    }

    #[test]
    fn every_file_is_read() {
        let stand_in = StandIn::new(&[
            ("memory.min", "0\n"),
            ("memory.low", "4096\n"),
            ("memory.high", "8192\n"),
            ("memory.max", "max\n"),
            ("memory.swap.max", "0\n"),
            ("memory.oom.group", "1\n"),
            ("memory.current", "77\n"),
            ("memory.swap.current", "6\n"),
            ("memory.peak", "99\n"),
            ("memory.events", EVENTS),
            ("memory.events.local", "oom_kill 1\n"),
            ("memory.stat", STAT),
            ("memory.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=3\n"),
        ]);
        let memory = stand_in.cgroup.memory();
        assert_eq!(memory.min().unwrap(), Limit::Bytes(0));
        assert_eq!(memory.low().unwrap(), Limit::Bytes(4096));
        assert_eq!(memory.high().unwrap(), Limit::Bytes(8192));
        assert_eq!(memory.max().unwrap(), Limit::Max);
        assert_eq!(memory.swap_max().unwrap(), Some(Limit::Bytes(0)));
        assert!(memory.oom_group().unwrap());
        assert_eq!(memory.current().unwrap(), 77);
        assert_eq!(memory.swap_current().unwrap(), Some(6));
        assert_eq!(memory.peak().unwrap(), Some(99));
        assert_eq!(memory.events().unwrap().max, 51);
        assert_eq!(memory.events_local().unwrap().oom_kill, 1);
        assert_eq!(memory.stat().unwrap().page_faults, 9);
        assert_eq!(memory.pressure().unwrap().full, None);
        assert_eq!(stand_in.cgroup.memory_events_fd().unwrap().read().unwrap().oom, 2);
    }

    #[test]
    fn every_file_is_written() {
        let names = [
            "memory.min",
            "memory.low",
            "memory.high",
            "memory.max",
            "memory.swap.max",
            "memory.oom.group",
            "memory.reclaim",
        ];
        let stand_in = StandIn::new(&names.map(|name| (name, "before")));
        let memory = stand_in.cgroup.memory();
        memory.set_min(Limit::Bytes(1)).unwrap();
        memory.set_low(Limit::Bytes(2)).unwrap();
        memory.set_high(Limit::Bytes(3)).unwrap();
        memory.set_max(Limit::Max).unwrap();
        memory.set_swap_max(Limit::Bytes(5)).unwrap();
        memory.set_oom_group(false).unwrap();
        memory.reclaim(7).unwrap();
        assert_eq!(names.map(|name| stand_in.content(name)), ["1", "2", "3", "max", "5", "0", "7"]);
    }

    #[test]
    fn missing_files_are_errors_unless_the_kernel_may_lack_them() {
        let stand_in = StandIn::new(&[]);
        let memory = stand_in.cgroup.memory();
        assert!(memory.min().is_err() && memory.low().is_err() && memory.high().is_err());
        assert!(memory.max().is_err() && memory.oom_group().is_err() && memory.current().is_err());
        assert!(memory.events().is_err() && memory.events_local().is_err() && memory.stat().is_err());
        assert!(memory.pressure().is_err() && stand_in.cgroup.memory_events_fd().is_err());
        assert_eq!(memory.peak().unwrap(), None);
        assert_eq!(memory.swap_max().unwrap(), None);
        assert_eq!(memory.swap_current().unwrap(), None);
        let max = Limit::Max;
        assert!(
            memory.set_min(max).is_err() && memory.set_low(max).is_err() && memory.set_high(max).is_err()
        );
        assert!(memory.set_max(max).is_err() && memory.set_swap_max(max).is_err());
        assert!(memory.set_oom_group(true).is_err() && memory.reclaim(1).is_err());
    }
}
