//! Removing what belongs to no Pod, beyond what a Pod's own removal does.

use std::fs;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use podrun_cgroups::Cgroup;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::facts::CGROUP_PARENT;

/// A cgroup that is younger may be about to be used.
const YOUNG: Duration = Duration::from_secs(60);

impl Engine {
    /// Removes live state of sandboxes of which no record knows: their sockets. Returns their UIDs.
    ///
    /// # Errors
    /// Any errno of listing or removing them.
    pub fn collect_sandboxes(&self) -> Result<Vec<String>> {
        let dir = self.paths().run.join("pods");
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|source| Error::io("list", &dir, source))?,
        };
        let mut removed = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|source| Error::io("list", &dir, source))?;
            // A Pod has its record before it has a sandbox.
            let Ok(uid) = entry.file_name().into_string() else { continue };
            if !self.records().exists(&uid) {
                podrun_sandbox::remove_tree(&entry.path()).map_err(|error| Error::Remove(vec![error]))?;
                removed.push(uid);
            }
        }
        Ok(removed)
    }

    /// Removes cgroups of Pods that no record knows and in which nothing runs; returns their paths.
    ///
    /// Other state directories have their Pods in the same place, so one that is in use, or has just been made and will be,
    /// is left alone.
    ///
    /// # Errors
    /// Any errno of listing or removing them.
    pub fn collect_cgroups(&self) -> Result<Vec<String>> {
        let mount = &self.host()?.cgroup_mount().to_owned();
        let parent = match Cgroup::open(mount.join(CGROUP_PARENT)) {
            Err(error) if error.is_gone() => return Ok(Vec::new()),
            parent => parent.map_err(Error::Cgroup)?,
        };
        let mut removed = Vec::new();
        for name in parent.children().map_err(Error::Cgroup)? {
            let Some(uid) = name.strip_prefix("pod") else { continue };
            let path = mount.join(CGROUP_PARENT).join(&name);
            let age = fs::metadata(&path).and_then(|found| found.modified());
            let is_young = age.is_ok_and(|made| made.elapsed().is_ok_and(|age| age < YOUNG));
            if is_young || self.records().exists(uid) {
                continue;
            }
            let cgroup = parent.child(&name);
            let idle = cgroup.and_then(|cgroup| cgroup.events()).is_ok_and(|events| !events.populated);
            if idle {
                let done = parent.remove_child(&name, Instant::now());
                done.map_err(Error::Cgroup)?;
                removed.push(format!("{CGROUP_PARENT}/{name}"));
            }
        }
        Ok(removed)
    }
}
