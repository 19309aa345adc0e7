//! Which controllers a cgroup has, and who holds the missing ones.

use std::fmt;
use std::path::PathBuf;

use crate::cgroup::Cgroup;
use crate::controllers::{Controller, Controllers};
use crate::error::Result;
use crate::hierarchy::{Hierarchy, V1Mount, read_proc_cgroups};

/// Whether a cgroup has a controller, and if not, who has it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Availability {
    /// The cgroup has it: its files are there.
    Available,
    /// A cgroup v1 hierarchy holds it, so no cgroup of v2 can have it until that hierarchy is unmounted.
    BoundToV1 {
        /// Where that hierarchy is mounted; nothing if only other mount namespaces see it.
        mount: Option<PathBuf>,
    },
    /// The kernel offers it, but an ancestor does not pass it on in `cgroup.subtree_control`.
    NotDelegated {
        /// The cgroup that has the controller and keeps it. If no visible cgroup has it, the topmost visible one,
        /// whose own parent keeps it.
        cgroup: PathBuf,
    },
    /// The kernel was built without it, or booted with `cgroup_disable=`.
    NotInKernel,
}

impl Availability {
    /// Whether the controller can be used.
    pub fn is_available(&self) -> bool {
        *self == Self::Available
    }
}

/// Completes a sentence that begins with the name of the controller and `which`.
impl fmt::Display for Availability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Available => f.write_str("is available"),
            Self::BoundToV1 { mount: Some(mount) } => {
                write!(f, "is bound to the cgroup v1 mount {}", mount.display())
            }
            Self::BoundToV1 { mount: None } => {
                f.write_str("is bound to a cgroup v1 hierarchy that is not mounted here")
            }
            Self::NotDelegated { cgroup } => {
                write!(f, "is not enabled in {}", cgroup.join("cgroup.subtree_control").display())
            }
            Self::NotInKernel => f.write_str("is not in this kernel"),
        }
    }
}

/// What one cgroup on the way to the root says about controllers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level {
    /// Its directory.
    pub cgroup: PathBuf,
    /// Its `cgroup.controllers`: what it has.
    pub controllers: Controllers,
    /// Whether it is the root of the hierarchy itself, which has no `cgroup.type`, rather than of a cgroup namespace.
    pub is_root: bool,
}

/// Everything that [`availability`] depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The cgroup in question, its parent, and so on up to the topmost that can be seen.
    pub levels: Vec<Level>,
    /// The v1 hierarchies mounted beside it.
    pub v1: Vec<V1Mount>,
    /// The text of `/proc/cgroups`, see [cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html).
    pub proc_cgroups: String,
}

impl Facts {
    /// Collects the facts about `cgroup`.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Read`] if a file below the cgroup or in `/proc` cannot be read.
    pub fn read(cgroup: &Cgroup) -> Result<Self> {
        let v1 = Hierarchy::find().map(|hierarchy| hierarchy.v1).or_else(|error| match error {
            // A temporary directory can stand in for the hierarchy on a host that has none.
            crate::Error::NoCgroup2Mount => Ok(Vec::new()),
            other => Err(other),
        })?;
        Ok(Self { levels: cgroup.levels()?, v1, proc_cgroups: read_proc_cgroups()? })
    }
}

/// Returns whether the first of `facts.levels` has `controller`, and if not, who has it.
///
/// ```
/// use podrun_cgroups::{availability, Availability, Controller, Controllers, Facts, Level};
///
/// let level = |cgroup: &str, controllers, is_root| Level {
///     cgroup: cgroup.into(),
///     controllers: Controllers::parse(controllers),
///     is_root,
/// };
/// let facts = Facts {
///     levels: vec![level("/c/a", "pids", false), level("/c", "cpu pids", true)],
///     v1: vec![],
///     proc_cgroups: String::new(),
/// };
/// assert_eq!(availability(Controller::Pids, &facts), Availability::Available);
/// assert_eq!(
///     availability(Controller::Cpu, &facts),
///     Availability::NotDelegated { cgroup: "/c".into() }
/// );
/// ```
pub fn availability(controller: Controller, facts: &Facts) -> Availability {
    let has = |level: &Level| level.controllers.contains(controller);
    if facts.levels.first().is_some_and(has) {
        return Availability::Available;
    }
    if let Some(holder) = facts.levels.iter().find(|level| has(level)) {
        return Availability::NotDelegated { cgroup: holder.cgroup.clone() };
    }
    if let Some(v1) = facts.v1.iter().find(|mount| mount.holds(controller)) {
        return Availability::BoundToV1 { mount: Some(v1.mount.clone()) };
    }
    match KernelEntry::find(&facts.proc_cgroups, controller) {
        Some(entry) if !entry.enabled => return Availability::NotInKernel,
        Some(entry) if entry.hierarchy != 0 => return Availability::BoundToV1 { mount: None },
        // Since Linux 6.15 the file lists only what has a v1 side, so a missing line proves nothing.
        Some(_) | None => {}
    }
    match facts.levels.last() {
        Some(top) if !top.is_root => Availability::NotDelegated { cgroup: top.cgroup.clone() },
        _ => Availability::NotInKernel,
    }
}

/// One line of `/proc/cgroups`: name, hierarchy, number of cgroups, enabled.
struct KernelEntry {
    hierarchy: u64,
    enabled: bool,
}

impl KernelEntry {
    fn find(text: &str, controller: Controller) -> Option<Self> {
        text.lines().find_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            if fields.next()? != controller.v1_name() {
                return None;
            }
            let hierarchy = fields.next()?.parse().ok()?;
            let enabled = fields.nth(1)? != "0";
            Some(Self { hierarchy, enabled })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // `cat /proc/cgroups` on a hybrid host (Linux 6.18), shortened, with memory disabled by hand.
    const PROC_CGROUPS: &str = "\
#subsys_name\thierarchy\tnum_cgroups\tenabled
cpu\t1\t1\t1
blkio\t7\t1\t1
memory\t0\t1\t0
pids\t0\t1\t1
";

    fn facts(levels: &[(&str, &str, bool)]) -> Facts {
        let levels = levels
            .iter()
            .map(|(cgroup, controllers, is_root)| Level {
                cgroup: (*cgroup).into(),
                controllers: Controllers::parse(controllers),
                is_root: *is_root,
            })
            .collect();
        let v1 = vec![V1Mount { mount: "/v1/cpu".into(), controllers: vec!["cpu".into(), "cpuacct".into()] }];
        Facts { levels, v1, proc_cgroups: PROC_CGROUPS.into() }
    }

    #[test]
    fn who_holds_a_controller() {
        use Availability::{Available, BoundToV1, NotDelegated, NotInKernel};
        let facts = facts(&[("/c/a/b", "", false), ("/c/a", "hugetlb", false), ("/c", "hugetlb misc", true)]);
        let cases = [
            (Controller::Hugetlb, NotDelegated { cgroup: "/c/a".into() }),
            (Controller::Misc, NotDelegated { cgroup: "/c".into() }),
            (Controller::Cpu, BoundToV1 { mount: Some("/v1/cpu".into()) }),
            (Controller::Io, BoundToV1 { mount: None }),
            (Controller::Memory, NotInKernel),
            (Controller::Rdma, NotInKernel),
        ];
        for (controller, expected) in cases {
            assert_eq!(availability(controller, &facts), expected, "{controller}");
        }
        let own = Facts { levels: facts.levels[1..].to_vec(), ..facts };
        assert_eq!(availability(Controller::Hugetlb, &own), Available);
    }

    #[test]
    fn below_a_cgroup_namespace_the_unseen_parent_keeps_it() {
        let facts = facts(&[("/c/a", "", false), ("/c", "", false)]);
        let kept = Availability::NotDelegated { cgroup: "/c".into() };
        assert_eq!(availability(Controller::Pids, &facts), kept);
        assert_eq!(availability(Controller::Memory, &facts), Availability::NotInKernel);
    }

    #[test]
    fn sentences_name_the_place() {
        let bound = Availability::BoundToV1 { mount: Some("/v1/cpu".into()) };
        assert_eq!(bound.to_string(), "is bound to the cgroup v1 mount /v1/cpu");
        let kept = Availability::NotDelegated { cgroup: "/c".into() };
        assert_eq!(kept.to_string(), "is not enabled in /c/cgroup.subtree_control");
    }
}
