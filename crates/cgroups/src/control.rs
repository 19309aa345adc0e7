//! Kill, freeze and thaw, and the size of a subtree.

use std::str::FromStr;
use std::time::Instant;

use crate::cgroup::Cgroup;
use crate::error::{ParseError, Result};
use crate::value::{CountLimit, Switch, flat_keyed};

/// The content of `cgroup.stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CgroupStat {
    /// Cgroups below this one.
    pub descendants: u64,
    /// Removed cgroups below this one that the kernel still keeps, because something in them is still charged.
    pub dying_descendants: u64,
}

impl FromStr for CgroupStat {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut stat = Self::default();
        flat_keyed(text, |key, value| {
            match key {
                "nr_descendants" => stat.descendants = value,
                "nr_dying_descendants" => stat.dying_descendants = value,
                _ => {}
            }
            Ok(())
        })?;
        Ok(stat)
    }
}

impl Cgroup {
    /// Sends `SIGKILL` to every process of the cgroup and its descendants, those that are being forked included.
    ///
    /// Frozen processes die as well. See [`Cgroup::wait_empty`] to learn when all are gone.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Write`]: `ENOENT` before Linux 5.14, `EOPNOTSUPP` in a threaded cgroup.
    #[doc(alias = "cgroup.kill")]
    pub fn kill(&self) -> Result<()> {
        self.write("cgroup.kill", "1")
    }

    /// Waits until no process lives in the cgroup and its descendants. A cgroup that was removed is empty.
    ///
    /// # Errors
    ///
    /// [`crate::Error::TimedOut`] at the deadline.
    pub fn wait_empty(&self, deadline: Instant) -> Result<()> {
        let result = self
            .events_fd()
            .and_then(|events| events.wait_until("populated 0", deadline, |now| !now.populated));
        match result {
            Err(error) if error.is_gone() => Ok(()),
            other => other.map(drop),
        }
    }

    /// Stops every process of the cgroup and its descendants, and returns when all have stopped.
    ///
    /// At the deadline the cgroup is left freezing; [`Cgroup::thaw`] takes it back.
    ///
    /// # Errors
    ///
    /// [`crate::Error::TimedOut`] if a process did not stop in time (it may be in uninterruptible sleep); [`crate::Error::Write`].
    #[doc(alias = "cgroup.freeze")]
    pub fn freeze(&self, deadline: Instant) -> Result<()> {
        self.set_frozen(true, "frozen 1", deadline)
    }

    /// Lets the processes of the cgroup run again, and returns when it is no longer frozen.
    ///
    /// # Errors
    ///
    /// [`crate::Error::TimedOut`] if an ancestor is frozen too; [`crate::Error::Write`].
    #[doc(alias = "cgroup.freeze")]
    pub fn thaw(&self, deadline: Instant) -> Result<()> {
        self.set_frozen(false, "frozen 0", deadline)
    }

    fn set_frozen(&self, frozen: bool, state: &'static str, deadline: Instant) -> Result<()> {
        let events = self.events_fd()?;
        self.write("cgroup.freeze", &Switch(frozen).to_string())?;
        events.wait_until(state, deadline, |now| now.frozen == frozen).map(drop)
    }

    /// Returns how many cgroups are below this one.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Read`].
    pub fn stat(&self) -> Result<CgroupStat> {
        self.read_as("cgroup.stat")
    }

    /// Limits how many cgroups may be created below this one.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Write`].
    #[doc(alias = "cgroup.max.descendants")]
    pub fn set_max_descendants(&self, limit: CountLimit) -> Result<()> {
        self.write("cgroup.max.descendants", &limit.to_string())
    }

    /// Limits how deep cgroups may be nested below this one.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Write`].
    #[doc(alias = "cgroup.max.depth")]
    pub fn set_max_depth(&self, limit: CountLimit) -> Result<()> {
        self.write("cgroup.max.depth", &limit.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::stand_in::StandIn;

    #[test]
    fn kill_writes_one() {
        let stand_in = StandIn::new(&[("cgroup.kill", "")]);
        stand_in.cgroup.kill().unwrap();
        assert_eq!(stand_in.content("cgroup.kill"), "1");
        assert!(StandIn::new(&[]).cgroup.kill().unwrap_err().is_gone());
    }

    #[test]
    fn freeze_waits_for_the_event_and_not_for_the_write() {
        let running = "populated 1\nfrozen 0\n";
        let stand_in = StandIn::new(&[("cgroup.freeze", "0"), ("cgroup.events", running)]);
        let error = stand_in.cgroup.freeze(Instant::now()).unwrap_err();
        assert!(matches!(error, Error::TimedOut { state: "frozen 1", .. }), "{error}");
        assert_eq!(stand_in.content("cgroup.freeze"), "1");
        stand_in.cgroup.thaw(Instant::now()).unwrap();
        assert_eq!(stand_in.content("cgroup.freeze"), "0");
    }

    #[test]
    fn a_cgroup_that_is_gone_is_empty() {
        StandIn::new(&[]).cgroup.wait_empty(Instant::now()).unwrap();
    }

    #[test]
    fn subtree_size_and_its_limits() {
        let stat = "nr_descendants 3\nnr_subsys_memory 1\nnr_dying_descendants 2\n";
        let files = [("cgroup.stat", stat), ("cgroup.max.depth", "max"), ("cgroup.max.descendants", "max")];
        let stand_in = StandIn::new(&files);
        let expected = CgroupStat { descendants: 3, dying_descendants: 2 };
        assert_eq!(stand_in.cgroup.stat().unwrap(), expected);
        stand_in.cgroup.set_max_depth(CountLimit::Count(4)).unwrap();
        stand_in.cgroup.set_max_descendants(CountLimit::Max).unwrap();
        assert_eq!(stand_in.content("cgroup.max.depth"), "4");
        assert_eq!(stand_in.content("cgroup.max.descendants"), "max");
        assert!(StandIn::new(&[]).cgroup.stat().is_err());
        assert!(StandIn::new(&[("cgroup.stat", "nr_descendants x")]).cgroup.stat().is_err());
    }
}
