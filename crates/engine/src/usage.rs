//! What a Pod and its containers use.

use std::time::Instant;

use podrun_cgroups::{Cgroup, Stats};
use podrun_plan::model::{FileValue, Plan};

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::planning;
use crate::record::PodView;

/// What a Pod uses: its cgroup as a whole, with its init and what its volumes in memory have, and each container that runs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PodUsage {
    /// When this was read.
    pub at: Instant,
    /// Of the Pod's cgroup.
    pub pod: Stats,
    /// Of its containers, init containers first.
    pub containers: Vec<ContainerUsage>,
}

/// What a container uses.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ContainerUsage {
    /// Its name.
    pub name: String,
    /// Which run of it: `containerID` as in the Pod's status.
    pub id: String,
    /// Of its cgroup.
    pub stats: Stats,
}

/// The cgroup of one run of a container.
pub(crate) struct Run<'a> {
    pub(crate) name: &'a str,
    id: &'a str,
    /// Below the cgroup2 mount.
    pub(crate) path: String,
    pub(crate) values: &'a [FileValue],
}

/// Returns the cgroups of a Pod's containers, in which the last run of each was.
pub(crate) fn runs<'a>(plan: &'a Plan, view: &'a PodView) -> impl Iterator<Item = Run<'a>> {
    let status = &view.published.status;
    let statuses = status.init_container_statuses.iter().chain(&status.container_statuses);
    statuses.filter_map(|status| {
        let attempt = status.container_id.rsplit_once('_')?.1;
        let planned = plan.container(&status.name)?;
        Some(Run {
            name: &status.name,
            id: &status.container_id,
            path: format!("{}.{attempt}", planned.cgroup.path),
            values: &planned.cgroup.values,
        })
    })
}

impl Engine {
    /// Reads what a Pod uses; nothing if it has no cgroup, since it does not run.
    ///
    /// Times and counts are those since a cgroup was made: two looks make a rate.
    ///
    /// # Errors
    /// As [`Engine::plan`]; [`Error::Cgroup`] where a cgroup cannot be read.
    pub fn usage(&self, view: &PodView) -> Result<Option<PodUsage>> {
        let (plan, host) = planning::plan_leniently(self.host()?, view)?;
        let read = |path: &str| -> Result<Option<Stats>> {
            match Cgroup::open(host.cgroup.mount.join(path)).and_then(|cgroup| cgroup.stats()) {
                Ok(stats) => Ok(Some(stats)),
                // A container ends when it likes.
                Err(error) if error.is_gone() => Ok(None),
                Err(error) => Err(Error::Cgroup(error)),
            }
        };
        let Some(pod) = read(&plan.sandbox.cgroup.path)? else { return Ok(None) };
        let mut containers = Vec::new();
        for Run { name, id, path, .. } in runs(&plan, view) {
            if let Some(stats) = read(&path)? {
                containers.push(ContainerUsage { name: name.to_owned(), id: id.to_owned(), stats });
            }
        }
        Ok(Some(PodUsage { at: Instant::now(), pod, containers }))
    }
}
