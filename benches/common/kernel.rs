//! Where a Pod is in the kernel, found from outside.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use podrun_testkit::cgroup2_mount;

use crate::scene::Scene;

/// Returns the cgroup of a Pod.
pub(crate) fn cgroup_of(scene: &Scene, pod: &str) -> io::Result<PathBuf> {
    let uid = scene.podrun(["get", "pods", pod, "-o", "jsonpath={.metadata.uid}"])?;
    let path =
        cgroup2_mount().ok_or(io::ErrorKind::NotFound)?.join("podrun").join(format!("pod{}", uid.trim()));
    if path.is_dir() { Ok(path) } else { Err(io::Error::other(format!("{} is no cgroup", path.display()))) }
}

/// Returns the process that is the init of the Pod with that cgroup.
pub(crate) fn init_of(pod: &Path) -> io::Result<libc::pid_t> {
    let text = fs::read_to_string(pod.join("init/cgroup.procs"))?;
    let first = text.lines().next().and_then(|line| line.parse().ok());
    first.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no init in {}", pod.display())))
}
