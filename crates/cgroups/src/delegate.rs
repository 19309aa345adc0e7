//! Passing controllers on to children.

use std::path::Path;

use crate::cgroup::{Cgroup, names};
use crate::controllers::Controllers;
use crate::error::{Error, Result};

const SUBTREE_CONTROL: &str = "cgroup.subtree_control";

impl Cgroup {
    /// Returns the controllers that the children of this cgroup have.
    ///
    /// # Errors
    ///
    /// [`Error::Read`].
    pub fn subtree_control(&self) -> Result<Controllers> {
        Ok(Controllers::parse(&self.read(SUBTREE_CONTROL)?))
    }

    /// Gives `controllers` to the children of this cgroup; those that they have already stay.
    ///
    /// The kernel allows it only where no process is in the cgroup itself ("no internal processes", see
    /// [cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html)); the root of the hierarchy is exempt.
    ///
    /// # Errors
    ///
    /// [`Error::ControllerMissing`] if the cgroup does not have one of them itself, [`Error::HasProcesses`] if
    /// processes are in the way; nothing is changed then. Otherwise [`Error::Write`].
    #[doc(alias = "cgroup.subtree_control")]
    pub fn enable(&self, controllers: Controllers) -> Result<()> {
        let wanted = controllers.without(self.subtree_control()?);
        if wanted.is_empty() {
            return Ok(());
        }
        if let Some(controller) = wanted.without(self.controllers()?).iter().next() {
            let availability = self.availability(controller)?;
            let path = self.path().join(SUBTREE_CONTROL);
            return Err(Error::ControllerMissing { controller, path, availability });
        }
        match self.write(SUBTREE_CONTROL, &enable_text(wanted)) {
            Err(Error::Write { source, .. }) if source.raw_os_error() == Some(libc::EBUSY) => {
                Err(Error::HasProcesses { path: self.path().to_owned(), controllers: wanted, source })
            }
            other => other,
        }
    }

    /// Opens the descendant at the relative path `below`, after creating what is missing of it, and sees to it that it
    /// has `controllers`: they are enabled in this cgroup and in each one on the way, from the top down.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::ensure_path`] and [`Cgroup::enable`].
    pub fn ensure_path_with(&self, below: impl AsRef<Path>, controllers: Controllers) -> Result<Self> {
        let mut cgroup = self.try_clone()?;
        for name in names(below.as_ref())? {
            cgroup.enable(controllers)?;
            cgroup = cgroup.ensure_child(name)?;
        }
        Ok(cgroup)
    }
}

fn enable_text(controllers: Controllers) -> String {
    let words: Vec<String> = controllers.iter().map(|controller| format!("+{controller}")).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::availability::Availability;
    use crate::controllers::Controller;
    use crate::stand_in::StandIn;

    #[test]
    fn only_what_is_missing_is_written() {
        let files = [("cgroup.controllers", "cpu memory pids\n"), (SUBTREE_CONTROL, "cpu\n")];
        let stand_in = StandIn::new(&files);
        stand_in.cgroup.enable(Controller::Cpu.into()).unwrap();
        assert_eq!(stand_in.content(SUBTREE_CONTROL), "cpu\n", "nothing to do, nothing written");
        let wanted = Controllers::from([Controller::Cpu, Controller::Memory, Controller::Pids]);
        stand_in.cgroup.enable(wanted).unwrap();
        assert_eq!(stand_in.content(SUBTREE_CONTROL), "+memory +pids");
    }

    #[test]
    fn a_controller_the_cgroup_lacks_is_not_even_tried() {
        let stand_in = StandIn::new(&[("cgroup.controllers", "cpu\n"), (SUBTREE_CONTROL, "")]);
        let error = stand_in.cgroup.enable([Controller::Cpu, Controller::Rdma].into()).unwrap_err();
        match error {
            Error::ControllerMissing { controller, availability, .. } => {
                assert_eq!(controller, Controller::Rdma);
                assert_ne!(availability, Availability::Available);
            }
            other => panic!("{other}"),
        }
        assert_eq!(stand_in.content(SUBTREE_CONTROL), "");
    }

    #[test]
    fn the_way_down_stops_where_a_cgroup_cannot_pass_on() {
        let stand_in = StandIn::new(&[("cgroup.controllers", "cpu\n"), (SUBTREE_CONTROL, "")]);
        // The kernel would make the files of `a`; the temporary directory does not.
        let error = stand_in.cgroup.ensure_path_with("a/b", Controller::Cpu.into()).unwrap_err();
        assert!(error.to_string().ends_with("/a/cgroup.subtree_control"), "{error}");
        assert_eq!(stand_in.content(SUBTREE_CONTROL), "+cpu");
        assert_eq!(stand_in.cgroup.children().unwrap(), ["a"]);
    }

    #[test]
    fn without_the_file_nothing_is_enabled() {
        assert!(StandIn::new(&[]).cgroup.enable(Controller::Cpu.into()).is_err());
    }
}
