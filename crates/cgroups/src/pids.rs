//! The pids controller.

use std::str::FromStr;

use crate::cgroup::Cgroup;
use crate::error::{ParseError, Result};
use crate::value::{CountLimit, Number, flat_value};

/// The content of `pids.events`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct PidsEvents {
    /// Forks that failed because of `pids.max`.
    pub max: u64,
}

impl FromStr for PidsEvents {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Ok(Self { max: flat_value(text, "max")? })
    }
}

/// The pids files of one cgroup, from [`Cgroup::pids`].
///
/// Every method fails with [`crate::Error::ControllerMissing`] without the controller.
#[derive(Debug, Clone, Copy)]
pub struct Pids<'a>(&'a Cgroup);

impl Cgroup {
    /// Returns the files of the pids controller.
    pub fn pids(&self) -> Pids<'_> {
        Pids(self)
    }
}

impl Pids<'_> {
    /// Reads `pids.max`: how many processes and threads there may be, descendants included.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::read_as`].
    pub fn max(&self) -> Result<CountLimit> {
        self.0.read_as("pids.max")
    }

    /// Reads `pids.current`.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::read_as`].
    pub fn current(&self) -> Result<u64> {
        self.0.read_as::<Number>("pids.current").map(|count| count.0)
    }

    /// Reads `pids.peak`; nothing before Linux 6.1.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::read_as`].
    pub fn peak(&self) -> Result<Option<u64>> {
        Ok(self.0.read_optional::<Number>("pids.peak")?.map(|count| count.0))
    }

    /// Reads `pids.events`.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::read_as`].
    pub fn events(&self) -> Result<PidsEvents> {
        self.0.read_as("pids.events")
    }

    /// Writes `pids.max`. Processes beyond it stay, new ones fail with `EAGAIN`.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::write`].
    pub fn set_max(&self, limit: CountLimit) -> Result<()> {
        self.0.write("pids.max", &limit.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stand_in::StandIn;

    #[test]
    fn every_file_is_read_and_written() {
        let stand_in = StandIn::new(&[
            ("pids.max", "max\n"),
            ("pids.current", "3\n"),
            ("pids.peak", "5\n"),
            ("pids.events", "max 7\n"),
        ]);
        let pids = stand_in.cgroup.pids();
        assert_eq!(pids.max().unwrap(), CountLimit::Max);
        assert_eq!(pids.current().unwrap(), 3);
        assert_eq!(pids.peak().unwrap(), Some(5));
        assert_eq!(pids.events().unwrap().max, 7);
        assert_eq!(stand_in.cgroup.pids_events_fd().unwrap().read().unwrap().max, 7);
        pids.set_max(CountLimit::Count(64)).unwrap();
        assert_eq!(stand_in.content("pids.max"), "64");
    }

    #[test]
    fn missing_and_broken_files_are_errors() {
        let stand_in = StandIn::new(&[]);
        let pids = stand_in.cgroup.pids();
        assert!(pids.max().is_err() && pids.current().is_err() && pids.events().is_err());
        assert_eq!(pids.peak().unwrap(), None);
        assert!(pids.set_max(CountLimit::Max).is_err() && stand_in.cgroup.pids_events_fd().is_err());
        let stand_in =
            StandIn::new(&[("pids.max", "many\n"), ("pids.current", "max\n"), ("pids.events", "max\n")]);
        let pids = stand_in.cgroup.pids();
        assert!(pids.max().is_err() && pids.current().is_err() && pids.events().is_err());
    }
}
