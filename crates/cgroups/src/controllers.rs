//! Controllers by name, and sets of them.

use std::fmt;
use std::str::FromStr;

use crate::error::ParseError;

/// A resource controller of cgroup v2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Controller {
    /// CPU time.
    Cpu,
    /// Which CPUs and memory nodes.
    Cpuset,
    /// Huge pages.
    Hugetlb,
    /// Block input and output.
    Io,
    /// Memory and swap.
    Memory,
    /// Scalar resources of the platform.
    Misc,
    /// The number of processes and threads.
    Pids,
    /// RDMA handles.
    Rdma,
}

impl Controller {
    /// Every controller this crate knows, in the order of their names.
    pub const ALL: [Self; 8] =
        [Self::Cpu, Self::Cpuset, Self::Hugetlb, Self::Io, Self::Memory, Self::Misc, Self::Pids, Self::Rdma];

    /// Returns the name in `cgroup.controllers`, which also begins the names of its files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cpuset => "cpuset",
            Self::Hugetlb => "hugetlb",
            Self::Io => "io",
            Self::Memory => "memory",
            Self::Misc => "misc",
            Self::Pids => "pids",
            Self::Rdma => "rdma",
        }
    }

    /// Returns the name in `/proc/cgroups` and in the options of a cgroup v1 mount.
    pub const fn v1_name(self) -> &'static str {
        match self {
            Self::Io => "blkio",
            other => other.name(),
        }
    }

    /// Returns the controller without which `file` does not exist.
    ///
    /// Pressure files and `cpu.stat` belong to the core and exist without a controller, so they have none.
    pub fn of_file(file: &str) -> Option<Self> {
        if file.ends_with(".pressure") || file.starts_with("cpu.stat") {
            return None;
        }
        file.split_once('.').and_then(|(name, _)| name.parse().ok())
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Controller {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::ALL
            .into_iter()
            .find(|controller| controller.name() == text)
            .ok_or_else(|| ParseError::new("the name of a controller", text))
    }
}

/// A set of controllers.
///
/// ```
/// use podrun_cgroups::{Controller, Controllers};
///
/// let offered = Controllers::parse("cpuset cpu io memory hugetlb pids rdma misc\n");
/// let wanted = Controllers::from([Controller::Cpu, Controller::Memory]);
/// assert!(offered.contains_all(wanted));
/// assert_eq!(wanted.to_string(), "cpu memory");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Controllers(u16);

impl Controllers {
    /// Returns the empty set.
    pub const fn empty() -> Self {
        Self(0)
    }

    /// Returns the controllers named in the text of `cgroup.controllers` or `cgroup.subtree_control`.
    ///
    /// Names that this crate does not know are left out: newer kernels have more of them.
    pub fn parse(text: &str) -> Self {
        text.split_ascii_whitespace().filter_map(|name| name.parse::<Controller>().ok()).collect()
    }

    /// Whether `controller` is in the set.
    pub const fn contains(self, controller: Controller) -> bool {
        self.0 & controller.bit() != 0
    }

    /// Whether every controller of `other` is in the set.
    pub const fn contains_all(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether no controller is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the controllers that are in this set but not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Returns the controllers that are in at least one of both sets.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns an iterator over the set, in the order of names.
    pub fn iter(self) -> impl Iterator<Item = Controller> {
        Controller::ALL.into_iter().filter(move |controller| self.contains(*controller))
    }
}

impl fmt::Display for Controllers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, controller) in self.iter().enumerate() {
            write!(f, "{}{controller}", if index == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

impl FromIterator<Controller> for Controllers {
    fn from_iter<I: IntoIterator<Item = Controller>>(iter: I) -> Self {
        Self(iter.into_iter().fold(0, |bits, controller| bits | controller.bit()))
    }
}

impl<const N: usize> From<[Controller; N]> for Controllers {
    fn from(controllers: [Controller; N]) -> Self {
        controllers.into_iter().collect()
    }
}

impl From<Controller> for Controllers {
    fn from(controller: Controller) -> Self {
        Self(controller.bit())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for controller in Controller::ALL {
            assert_eq!(controller.to_string().parse(), Ok(controller));
        }
    }

    #[test]
    fn unknown_names_are_left_out() {
        assert_eq!(Controllers::parse("cpu dmem pids\n").to_string(), "cpu pids");
        assert!(Controllers::parse("\n").is_empty());
    }

    #[test]
    fn files_tell_their_controller() {
        for (file, controller) in [
            ("cpu.max", Some(Controller::Cpu)),
            ("cpuset.cpus", Some(Controller::Cpuset)),
            ("hugetlb.2MB.max", Some(Controller::Hugetlb)),
            ("cgroup.procs", None),
            ("cpu.pressure", None),
            ("cpu.stat", None),
            ("cpu.stat.local", None),
            ("memory", None),
        ] {
            assert_eq!(Controller::of_file(file), controller, "{file}");
        }
    }

    #[test]
    fn set_operations() {
        let cpu_pids = Controllers::from([Controller::Pids, Controller::Cpu]);
        assert_eq!(cpu_pids.without(Controller::Cpu.into()).to_string(), "pids");
        assert_eq!(cpu_pids.union(Controller::Io.into()).to_string(), "cpu io pids");
        assert!(cpu_pids.contains_all(Controller::Pids.into()));
        assert!(!cpu_pids.contains_all(Controller::Io.into()));
    }
}
