//! The cpuset controller.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::cgroup::Cgroup;
use crate::error::{ParseError, Result};
use crate::value::number;

/// A set of CPUs or memory nodes, written as a list of ranges: `0-3,7`.
///
/// ```
/// use podrun_cgroups::IdSet;
///
/// let cpus: IdSet = "7,0-2,3".parse().unwrap();
/// assert_eq!(cpus.to_string(), "0-3,7");
/// assert!(cpus.contains(2));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct IdSet(BTreeSet<u32>);

impl IdSet {
    /// The largest id that is taken. The kernel's largest configuration has 8192 CPUs.
    const LAST: u64 = u16::MAX as u64;

    /// Whether `id` is in the set.
    pub fn contains(&self, id: u32) -> bool {
        self.0.contains(&id)
    }

    /// Returns an iterator over the ids, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().copied()
    }

    /// Returns how many ids are in the set.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no id is in the set: in `cpuset.cpus`, those of the parent count then.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<u32> for IdSet {
    fn from_iter<I: IntoIterator<Item = u32>>(ids: I) -> Self {
        Self(ids.into_iter().collect())
    }
}

impl fmt::Display for IdSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ids = self.iter().peekable();
        let mut separator = "";
        while let Some(first) = ids.next() {
            let mut last = first;
            while let Some(next) = ids.next_if_eq(&last.saturating_add(1)) {
                last = next;
            }
            match last - first {
                0 => write!(f, "{separator}{first}")?,
                _ => write!(f, "{separator}{first}-{last}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}

impl FromStr for IdSet {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        const EXPECTED: &str = "a list of ids and ranges, such as 0-3,7";
        let mut ids = BTreeSet::new();
        for range in text.trim().split(',').filter(|_| !text.trim().is_empty()) {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last) = (number(first, EXPECTED)?, number(last, EXPECTED)?);
            if first > last || last > Self::LAST {
                return Err(ParseError::new(EXPECTED, range));
            }
            ids.extend((first..=last).filter_map(|id| u32::try_from(id).ok()));
        }
        Ok(Self(ids))
    }
}

/// The cpuset files of one cgroup, from [`Cgroup::cpuset`].
///
/// Every method fails with [`crate::Error::ControllerMissing`] without the controller.
#[derive(Debug, Clone, Copy)]
pub struct Cpuset<'a>(&'a Cgroup);

impl Cgroup {
    /// Returns the files of the cpuset controller.
    pub fn cpuset(&self) -> Cpuset<'_> {
        Cpuset(self)
    }
}

impl Cpuset<'_> {
    /// Reads `cpuset.cpus`: the CPUs asked for.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::read_as`].
    pub fn cpus(&self) -> Result<IdSet> {
        self.0.read_as("cpuset.cpus")
    }

    /// Reads `cpuset.cpus.effective`: the CPUs given.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::read_as`].
    pub fn cpus_effective(&self) -> Result<IdSet> {
        self.0.read_as("cpuset.cpus.effective")
    }

    /// Reads `cpuset.mems`: the memory nodes asked for.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::read_as`].
    pub fn mems(&self) -> Result<IdSet> {
        self.0.read_as("cpuset.mems")
    }

    /// Reads `cpuset.mems.effective`: the memory nodes given.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::read_as`].
    pub fn mems_effective(&self) -> Result<IdSet> {
        self.0.read_as("cpuset.mems.effective")
    }

    /// Writes `cpuset.cpus`.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::write`]; `EINVAL` or `ERANGE` if the machine has no such CPU.
    pub fn set_cpus(&self, cpus: &IdSet) -> Result<()> {
        self.0.write("cpuset.cpus", &line(cpus))
    }

    /// Writes `cpuset.mems`.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::write`]; `EINVAL` or `ERANGE` if the machine has no such node.
    pub fn set_mems(&self, mems: &IdSet) -> Result<()> {
        self.0.write("cpuset.mems", &line(mems))
    }
}

/// A write of no bytes never reaches the kernel, so the empty set has to be an empty line.
fn line(ids: &IdSet) -> String {
    format!("{ids}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stand_in::StandIn;

    #[test]
    fn lists_round_trip() {
        for text in ["", "0", "0-3", "0-3,7", "1,3,5-6", "65535"] {
            assert_eq!(text.parse::<IdSet>().unwrap().to_string(), text);
        }
        assert_eq!("2,1,0\n".parse::<IdSet>().unwrap().to_string(), "0-2");
    }

    #[test]
    fn wrong_lists_are_refused() {
        for text in ["a", "3-1", "1-", "-1", "1,,2", "0-4294967295", "65536", "1 2"] {
            assert!(text.parse::<IdSet>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn every_file_is_read_and_written() {
        let stand_in = StandIn::new(&[
            ("cpuset.cpus", "\n"),
            ("cpuset.cpus.effective", "0-1\n"),
            ("cpuset.mems", "0\n"),
            ("cpuset.mems.effective", "0\n"),
        ]);
        let cpuset = stand_in.cgroup.cpuset();
        assert!(cpuset.cpus().unwrap().is_empty());
        assert_eq!(cpuset.cpus_effective().unwrap().len(), 2);
        assert!(cpuset.mems().unwrap().contains(0));
        assert!(cpuset.mems_effective().unwrap().contains(0));
        cpuset.set_cpus(&IdSet::from_iter([1, 0])).unwrap();
        cpuset.set_mems(&IdSet::default()).unwrap();
        assert_eq!(stand_in.content("cpuset.cpus"), "0-1\n");
        assert_eq!(stand_in.content("cpuset.mems"), "\n");
    }

    #[test]
    fn missing_files_are_errors() {
        let stand_in = StandIn::new(&[]);
        let cpuset = stand_in.cgroup.cpuset();
        assert!(cpuset.cpus().is_err() && cpuset.cpus_effective().is_err());
        assert!(cpuset.mems().is_err() && cpuset.mems_effective().is_err());
        assert!(cpuset.set_cpus(&IdSet::default()).is_err() && cpuset.set_mems(&IdSet::default()).is_err());
    }
}
