//! The root directory of a container that runs.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use podrun_cgroups::Cgroup;
use podrun_namespaces::PidFd;
use procfs::process::Process;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::planning;
use crate::record::PodView;
use crate::usage::runs;

impl Engine {
    /// Opens the root directory of a container as its processes see it, with all that is mounted there; nothing if it does
    /// not run. The descriptor is good for the `*at` calls (`O_PATH`).
    ///
    /// What is below is the container's, and changes while it is looked at: paths have to be resolved with openat2(2) and
    /// `RESOLVE_IN_ROOT`.
    ///
    /// # Errors
    /// As [`Engine::plan`]; any errno of finding its first process.
    pub fn container_root(&self, view: &PodView, container: &str) -> Result<Option<OwnedFd>> {
        let (plan, host) = planning::plan_leniently(self.host()?, view)?;
        let Some(run) = runs(&plan, view).find(|run| run.name == container) else { return Ok(None) };
        let pids = match Cgroup::open(host.cgroup.mount.join(&run.path)).and_then(|cgroup| cgroup.procs()) {
            Err(error) if error.is_gone() => return Ok(None),
            pids => pids.map_err(Error::Cgroup)?,
        };
        // The oldest is the first one, which all others come from.
        let of = |pid: u32| {
            let pid = libc::pid_t::try_from(pid).ok().filter(|pid| *pid > 0)?;
            let process = PidFd::open(pid).ok()?;
            let stat = Process::new(pid).and_then(|process| process.stat()).ok()?;
            Some((stat.starttime, pid, process))
        };
        let Some((_, pid, process)) = pids.into_iter().filter_map(of).min_by_key(|one| (one.0, one.1)) else {
            return Ok(None);
        };
        let path = PathBuf::from(format!("/proc/{pid}/root"));
        let opened = File::options().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(&path);
        // If it has ended, the number may be another one's.
        match (opened, process.send_signal(0)) {
            (_, Err(_)) => Ok(None),
            (opened, Ok(())) => Ok(Some(opened.map_err(|source| Error::io("open", &path, source))?.into())),
        }
    }
}
