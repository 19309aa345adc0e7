//! The cgroups of Pods, as the host sees them.

use std::fs;
use std::path::{Path, PathBuf};

use podrun_testkit::cgroup2_mount;

/// Returns the cgroup of a Pod, if there is one.
pub(crate) fn of_pod(uid: &str) -> Option<PathBuf> {
    let mut pending = vec![cgroup2_mount()?];
    while let Some(dir) = pending.pop() {
        // A cgroup may be removed while we walk.
        for entry in fs::read_dir(&dir).into_iter().flatten().filter_map(Result::ok) {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if entry.file_name().to_string_lossy().contains(uid) {
                return Some(entry.path());
            }
            pending.push(entry.path());
        }
    }
    None
}

/// Returns the cgroup of a container that runs, or of `init`.
pub(crate) fn of_container(uid: &str, name: &str) -> PathBuf {
    let pod = of_pod(uid).unwrap_or_else(|| panic!("Pod {uid} has a cgroup"));
    let entries = fs::read_dir(&pod).expect("the Pod lives").filter_map(Result::ok);
    let mut names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    // A container's is called by its name and its attempt: `web.0`.
    let found = names.find(|entry| entry == name || entry.starts_with(&format!("{name}.")));
    pod.join(found.unwrap_or_else(|| panic!("{name} has a cgroup in {}", pod.display())))
}

/// Returns the processes of a container that runs, or of `init`.
pub(crate) fn processes_of(uid: &str, name: &str) -> Vec<i32> {
    let mut pids = Vec::new();
    let mut pending = vec![of_container(uid, name)];
    while let Some(dir) = pending.pop() {
        let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
        let children = fs::read_dir(&dir).into_iter().flatten().filter_map(Result::ok);
        pending.extend(children.filter(|e| e.file_type().is_ok_and(|k| k.is_dir())).map(|e| e.path()));
    }
    pids.sort_unstable();
    pids
}

/// Returns the content of a file of a cgroup.
pub(crate) fn value(dir: &Path, file: &str) -> String {
    let path = dir.join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.trim_end().to_owned()
}
